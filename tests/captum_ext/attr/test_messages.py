"""Refusals say what was given, what is allowed and what to do, and say it of this case."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from captum_ext import IDGI, BlurIG, FullGrad, GuidedIG, LayerIDGI, PathIG
from captum_ext.attr import InvalidArgumentError, NotDeterministicError
from captum_ext.attr._common.complete_method import CompleteMethod
from captum_ext.classifiers import Logits
from captum_ext.classifiers.models import ModelError

X = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))


class FunctionalDropout(nn.Module):
    def forward(self, x):
        return F.dropout(x).sum((1, 2, 3))


IN_EVAL_MODE = {
    "functional dropout": (FunctionalDropout(), "training=self.training"),
    "no running statistics": (nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False), nn.Flatten()), "GroupNorm"),
    "fractional pooling": (
        nn.Sequential(nn.FractionalMaxPool2d(3, output_size=4), nn.Flatten(), nn.Linear(48, 1)),
        "fractional pooling",
    ),
}


@pytest.mark.parametrize("name", IN_EVAL_MODE)
def test_models_in_eval_mode_are_not_told_to_go_there(name):
    model, advice = IN_EVAL_MODE[name]
    with pytest.raises(NotDeterministicError, match=advice) as refusal:
        FullGrad(model.eval()).attribute(X, target=0 if isinstance(model, nn.Sequential) else None)
    assert "Call model.eval() first" not in str(refusal.value)


def test_models_in_training_mode_are_told_to_leave_it():
    with pytest.raises(NotDeterministicError, match=r"module '0' runs active dropout.*Call model.eval\(\) first"):
        FullGrad(nn.Sequential(nn.Dropout(), nn.Flatten())).attribute(X, target=0)


PATHS = {
    "idgi": IDGI,
    "path-ig": PathIG,
    "blur-ig": BlurIG,
    "guided-ig": GuidedIG,
    "layer-idgi": lambda f: LayerIDGI(f, f[0]),
}


@pytest.mark.parametrize("method", PATHS.values(), ids=PATHS)
@pytest.mark.parametrize("by_position", [False, True], ids=["keyword", "position"])
def test_captums_quadrature_is_told_that_there_is_none(method, by_position):
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    args, keywords = ((None, 1, None, 50, "riemann_left"), {}) if by_position else ((), {"method": "riemann_left"})
    with pytest.raises(InvalidArgumentError, match=r"'riemann_left' was given.*no quadrature to choose.*Leave it out"):
        method(model).attribute(X, *args, **keywords)


@pytest.mark.parametrize("method", [*CompleteMethod.__subclasses__(), IDGI, BlurIG, GuidedIG])
def test_multiply_by_inputs_is_told_that_there_is_no_other_form(method):
    with pytest.raises(InvalidArgumentError, match=r"multiply_by_inputs=False was given.*Leave it out"):
        method(lambda x: x, multiply_by_inputs=False)


def test_other_unknown_arguments_are_pythons():
    with pytest.raises(TypeError, match="step"):
        IDGI(lambda x: x.sum((1, 2, 3))).attribute(X, step=3)


def test_a_function_that_takes_no_single_example_says_that_it_was_asked_for_one():
    factors = torch.rand(4)

    def forward(x):
        halves = x.reshape(6, 128).tanh()  # an activation of six rows for four examples
        return halves.reshape(4, -1).sum(1) * factors

    with pytest.raises(
        InvalidArgumentError, match=r"4 examples cannot be told by its shape.*alone.*any number of rows"
    ):
        FullGrad(forward).attribute(X)

    def always_four_rows(x):
        return x.sum().tanh() + factors

    with pytest.raises(InvalidArgumentError, match=r"alone cannot be explained: .*shape \(4,\) for 1 rows of input"):
        FullGrad(always_four_rows).attribute(X)


def test_a_model_for_other_images_says_which_it_was_given():
    model = Logits(nn.Sequential(nn.Flatten(), nn.Linear(10, 2)))
    with pytest.raises(ModelError, match=r"does not take inputs of shape \(4, 3, 8, 8\): mat1.*preprocessing"):
        model(X)
