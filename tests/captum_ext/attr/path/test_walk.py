"""The walk along a path: how many evaluations it takes, in which batches, and what it says of its steps."""

from __future__ import annotations

import pytest
import torch
from captum.attr import IntegratedGradients
from torch import Tensor

from captum_ext import IDGI, PathIG
from captum_ext.attr import BlurPath
from tests.captum_ext.opened_files import opened_files
from tests.captum_ext.small_models import EvaluationCounter, pictures, smooth_cnn

ALL_PATHS = ["straight", BlurPath(max_sigma=3.0), "guided"]


@pytest.mark.parametrize("path", ["straight", "guided"])
def test_path_residual_is_the_left_riemann_delta_of_the_same_walk(path):
    model, x = smooth_cnn(), pictures()
    options = {"target": 1, "n_steps": 8}
    _, residual = IDGI(model, path).attribute(x, return_path_residual=True, **options)
    _, riemann_delta = PathIG(model, path).attribute(x, return_convergence_delta=True, **options)
    torch.testing.assert_close(residual, riemann_delta, rtol=0, atol=1e-12)
    if path == "straight":
        _, captum_delta = IntegratedGradients(model).attribute(
            x, method="riemann_left", return_convergence_delta=True, **options
        )
        torch.testing.assert_close(residual, captum_delta, rtol=0, atol=1e-6)


def test_path_residual_shrinks_with_steps_while_the_delta_is_zero_throughout():
    model, x = smooth_cnn(), pictures()
    found = {
        n: IDGI(model).attribute(x, target=1, n_steps=n, return_convergence_delta=True, return_path_residual=True)
        for n in (20, 200)
    }
    for _, delta, _ in found.values():
        assert delta.abs().max() < 1e-12
    assert found[200][2].abs().max() < 0.15 * found[20][2].abs().max()


@pytest.mark.parametrize("path", ALL_PATHS, ids=str)
@pytest.mark.parametrize("internal_batch_size", [None, 3, 4, 6, 7, 1000])
def test_n_plus_1_forward_and_n_backward_evaluations_per_example(path, internal_batch_size):
    n_steps, examples = 7, 3
    model = EvaluationCounter(smooth_cnn())
    IDGI(model, path).attribute(
        pictures(examples),
        target=1,
        n_steps=n_steps,
        internal_batch_size=internal_batch_size,
        return_convergence_delta=True,
        return_path_residual=True,
    )
    assert model.forward_rows == (n_steps + 1) * examples
    assert model.backward_rows == n_steps * examples
    if internal_batch_size is not None:
        assert model.most_rows <= internal_batch_size


def test_internal_batch_below_the_number_of_examples_warns_and_takes_one_point_at_once():
    model = EvaluationCounter(smooth_cnn())
    with pytest.warns(UserWarning, match="internal_batch_size=2 is less than the 3 examples"):
        IDGI(model).attribute(pictures(3), target=1, n_steps=4, internal_batch_size=2)
    assert model.most_rows == 3


@pytest.mark.parametrize("path", ALL_PATHS, ids=str)
@pytest.mark.parametrize("internal_batch_size", [3, 7, 10])
def test_result_does_not_depend_on_internal_batch_size(path, internal_batch_size):
    model, x = smooth_cnn(), pictures(3)
    method = IDGI(model, path)
    options = {"target": [0, 1, 2], "n_steps": 7, "return_path_residual": True}
    whole = method.attribute(x, **options)
    chunked = method.attribute(x, internal_batch_size=internal_batch_size, **options)
    for a, b in zip(chunked, whole, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("path", ALL_PATHS, ids=str)
def test_result_does_not_depend_on_the_other_examples(path):
    model, x = smooth_cnn(), pictures(3)
    method = IDGI(model, path)
    together = method.attribute(x, target=[0, 1, 2], n_steps=7)
    for i in range(3):
        alone = method.attribute(x[i : i + 1], target=i, n_steps=7)
        torch.testing.assert_close(together[i : i + 1], alone, rtol=0, atol=1e-12)


def test_the_end_is_evaluated_like_every_other_point():
    # Modules may take another kernel where no gradient is asked for, as nn.TransformerEncoder does.
    def model(x: Tensor) -> Tensor:
        return x.exp().sum(1) + (0.0 if torch.is_grad_enabled() and x.requires_grad else 1.0)

    x = torch.rand(2, 3, dtype=torch.float64)
    found = IDGI(model).attribute(x, n_steps=4)
    torch.testing.assert_close(found.sum(1), x.exp().sum(1) - 3)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("size", [3, 4])
def test_internal_batch_of_all_examples_or_more_does_not_warn(size):
    IDGI(smooth_cnn()).attribute(pictures(3), target=1, n_steps=2, internal_batch_size=size)


def test_an_attribution_can_be_read_in_seven_files():
    method = IDGI(smooth_cnn())
    with opened_files() as opened:
        method.attribute(pictures(1), target=1, n_steps=3)
    assert {"attr/path/idgi.py", "attr/path/walk.py", "attr/path/rules.py"} <= opened
    aside = {"attr/_common/random_draws.py", "attr/_common/operations.py"}
    assert len(opened - aside) <= 7, sorted(opened)
