"""Each refusal says what was given, what is allowed and what to do; its type is Captum's where Captum refuses too."""

from __future__ import annotations

import math

import pytest
import torch
from captum.attr import IntegratedGradients

from captum_ext import IDGI, FullGrad, GuidedIG, LayerIDGI, PathIG
from captum_ext.attr import InvalidArgumentError, TargetOutOfRangeError
from tests.captum_ext.small_models import TokenClassifier, TwoInputs, pictures, smooth_cnn


@pytest.fixture
def model():
    return smooth_cnn()


def exception_of(call) -> type[BaseException]:
    with pytest.raises(Exception) as caught:  # noqa: PT011
        call()
    return caught.type


@pytest.mark.parametrize("explainer", [IDGI, GuidedIG, PathIG], ids=lambda c: c.__name__)
@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"baselines": torch.zeros(2, 3, 8, 8).double(), "target": 1}, r"baselines\[0\] has shape \(2, 3, 8, 8\)"),
        ({"baselines": torch.zeros(3, 3, 8, 7).double(), "target": 1}, r"give \(3, 3, 8, 8\), \(1, 3, 8, 8\)"),
        ({"baselines": torch.zeros(3, 8, 8).double(), "target": 1}, "has shape"),
        ({"baselines": (0, 0), "target": 1}, "2 entries for 1 input"),
        ({"baselines": "black", "target": 1}, None),
        ({"baselines": math.nan, "target": 1}, "NaN"),
        ({}, "target=None leaves 5 of its numbers"),
        ({"target": [1, 2]}, "2 entries for 3 examples"),
        ({"target": torch.tensor([1, 2])}, "2 entries for 3 examples"),
        ({"target": torch.tensor([0.5, 1.0, 2.0])}, "give integers"),
        ({"target": "cat"}, "is a str"),
        ({"target": 1, "n_steps": 0}, "n_steps=0"),
        ({"target": 1, "n_steps": -3}, "n_steps=-3"),
        ({"target": 1, "n_steps": 2.5}, "n_steps=2.5"),
        ({"target": 1, "internal_batch_size": 0}, "internal_batch_size=0"),
        ({"target": 1, "internal_batch_size": -1}, "internal_batch_size=-1"),
    ],
    ids=str,
)
def test_refuses_arguments_that_do_not_fit(model, explainer, keywords, message):
    with pytest.raises(AssertionError, match=message):
        explainer(model).attribute(pictures(), **keywords)


@pytest.mark.parametrize(
    "target", [5, -6, (5,), [0, 1, 5], [0, -6, 1], torch.tensor([0, 5, 1]), torch.tensor(9)], ids=str
)
def test_target_out_of_range_is_of_captums_type(model, target):
    x = pictures()
    with pytest.raises(TargetOutOfRangeError, match="give -5 to 4") as caught:
        IDGI(model).attribute(x, target=target)
    assert issubclass(caught.type, exception_of(lambda: IntegratedGradients(model).attribute(x, target=target)))


def test_target_with_too_many_indices(model):
    with pytest.raises(TargetOutOfRangeError, match="2 indices for an output with 1"):
        IDGI(model).attribute(pictures(), target=(1, 2))
    with pytest.raises(TargetOutOfRangeError, match="target=None"):
        IDGI(lambda x: model(x)[:, 0]).attribute(pictures(), target=0)


@pytest.mark.parametrize("name", ["baselines", "target", "n_steps"])
def test_refusals_are_of_captums_type(model, name):
    keywords = {"target": 1, "baselines": None, "n_steps": 5}
    keywords[name] = {"baselines": torch.zeros(2, 3, 8, 8).double(), "target": None, "n_steps": -1}[name]
    captums = exception_of(lambda: IntegratedGradients(model).attribute(pictures(), **keywords))
    assert issubclass(exception_of(lambda: IDGI(model).attribute(pictures(), **keywords)), captums)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (torch.randint(0, 255, (3, 3, 8, 8)), "LayerIDGI"),
        (torch.rand(3, 3, 8, 8) > 0.5, "torch.bool"),
        (torch.rand(3, 3, 8, 8, dtype=torch.complex64), "complex64"),
        (torch.full((3, 3, 8, 8), math.nan).double(), "NaN"),
        (torch.full((3, 3, 8, 8), math.inf).double(), "NaN or infinite"),
        (torch.rand(0, 3, 8, 8).double(), r"shape \(0, 3, 8, 8\) has no elements"),
        (torch.rand(3, 0).double(), "no elements"),
        (torch.tensor(1.0), "no batch dimension"),
        ((), "empty tuple"),
        ((torch.rand(3, 3, 8, 8), torch.rand(2, 4)), r"batch lengths \[3, 2\]"),
        (((torch.rand(3, 3), 3.0)), "is a float"),
        (torch.eye(3).to_sparse(), r"is torch.sparse_coo: give a dense tensor.*to_dense\(\)"),
        (torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]), r"is nested: give a dense.*to_padded_tensor"),
        (torch.ones(2, 3, device="meta"), "on the device 'meta' and holds no numbers"),
        (torch.ones(2, 3).to(torch.float8_e4m3fn), r"float8_e4m3fn.*convert it with .float\(\)"),
    ],
    ids=range(15),
)
def test_refuses_inputs_without_a_gradient_or_a_batch(model, inputs, message):
    for explainer in (IDGI(model), GuidedIG(model), FullGrad(model)):
        with pytest.raises(ValueError, match=message):
            explainer.attribute(inputs, target=1)


def test_numbers_whose_sum_overflows_are_taken():
    x = torch.full((1, 4), 6e4, dtype=torch.float16)  # the largest is 65504
    assert bool(torch.isfinite(IDGI(lambda x: 1e-4 * x.mean(1)).attribute(x, n_steps=4)).all())


def test_nan_is_refused_for_layers_too(model):
    with pytest.raises(ValueError, match="NaN"):
        LayerIDGI(model, model[1]).attribute(torch.full((3, 3, 8, 8), math.nan).double(), target=1)
    tokens = TokenClassifier()
    with pytest.raises(ValueError, match="no elements"):
        LayerIDGI(tokens, tokens.embedding).attribute(torch.zeros(0, 5, dtype=torch.long), target=1)


def test_output_that_does_not_depend_on_the_input(model):
    x = pictures()
    without = (lambda x: model(x.detach()).detach(), lambda x: torch.ones(len(x), 5), lambda x: model(x.detach()))
    for forward in without:
        for method in (IDGI(forward), FullGrad(forward)):
            with pytest.raises(RuntimeError, match=r"does not depend on the inputs.*\.detach\(\)"):
                method.attribute(x, target=1)


def test_input_that_is_not_used_is_named():
    two = TwoInputs()
    a, b = torch.randn(3, 4).double(), torch.randn(3, 2, 3).double()
    with pytest.raises(RuntimeError, match=r"on the inputs \[1\] of 2.*additional_forward_args"):
        IDGI(lambda a, b: two(a, b.detach())).attribute((a, b), target=1)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda y: {"logits": y}, r"returned a dict: .*\.logits"),
        (lambda y: (y, y), "returned a tuple"),
        (lambda y: y.argmax(1), "torch.int64"),
        (lambda y: y.sum(), "3 rows|15 rows"),
        (lambda y: y.to(torch.complex128), "complex128"),
    ],
    ids=["dict", "tuple", "integers", "sum over the batch", "complex"],
)
def test_refuses_outputs_that_are_not_one_score_for_each_row(model, wrong, message):
    with pytest.raises(ValueError, match=message):
        IDGI(lambda x: wrong(model(x))).attribute(pictures(), target=0, n_steps=5)


def test_output_that_is_not_finite_names_the_point(model):
    with pytest.raises(ValueError, match=r"-inf at point 0 of 4 on the path of example 0.*baseline"):
        IDGI(lambda x: x.log().sum(1)).attribute(torch.ones(2, 3), n_steps=4)


def test_error_types_are_both_pythons_and_captums():
    assert issubclass(InvalidArgumentError, ValueError)
    assert issubclass(InvalidArgumentError, AssertionError)
    assert issubclass(TargetOutOfRangeError, IndexError)
    assert issubclass(TargetOutOfRangeError, RuntimeError)
