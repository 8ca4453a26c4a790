"""IDGI on inputs: the published formula, completeness, the number of evaluations, independence of batching."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from captum_ext import IDGI, PathIG
from captum_ext.attr import BlurPath, GuidedPath
from tests.captum_ext.small_models import CLASSES, TwoInputs, pictures, smooth_cnn

ALL_PATHS = ["straight", BlurPath(max_sigma=3.0), "guided"]


def naive_idgi(model, inputs, baselines, target, n_steps):
    """Algorithm 1 of the paper, one example and one step at a time, for a tuple of inputs."""
    results = [torch.zeros_like(x) for x in inputs]
    for i in range(inputs[0].shape[0]):
        for j in range(n_steps):
            points = []
            for alpha in (j / n_steps, (j + 1) / n_steps):
                point = [
                    b[i : i + 1] + alpha * (x[i : i + 1] - b[i : i + 1]) for x, b in zip(inputs, baselines, strict=True)
                ]
                points.append([p.clone().requires_grad_() for p in point])
            f_left = model(*points[0])[0, target[i]]
            f_right = model(*points[1])[0, target[i]]
            gradient = torch.autograd.grad(f_left, points[0])
            squared_norm = sum((g**2).sum() for g in gradient)
            for result, g in zip(results, gradient, strict=True):
                result[i] += (g[0] ** 2 / squared_norm * (f_right - f_left)).detach()
    return results


@pytest.mark.parametrize("n_steps", [1, 2, 7, 50])
def test_equals_the_published_formula_in_float64(n_steps):
    model, x, baseline = smooth_cnn(), pictures(2), pictures(2)
    found = IDGI(model).attribute(x, baseline, target=[1, 4], n_steps=n_steps)
    (expected,) = naive_idgi(model, (x,), (baseline,), [1, 4], n_steps)
    assert (found - expected).abs().max() <= 1e-10 * max(1.0, float(expected.abs().max()))


def test_norm_is_over_all_inputs_of_one_example():
    model = TwoInputs()
    inputs = (torch.randn(3, 4).double(), torch.randn(3, 2, 3).double())
    baselines = tuple(torch.randn_like(x) for x in inputs)
    found = IDGI(model).attribute(inputs, baselines, target=2, n_steps=9)
    expected = naive_idgi(model, inputs, baselines, [2] * 3, 9)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


def test_float32_is_within_1e_4_of_the_largest_attribution():
    model, x = smooth_cnn(), pictures(2)
    (expected,) = naive_idgi(model, (x,), (torch.zeros_like(x),), [0, 0], 50)
    found = IDGI(model.float()).attribute(x.float(), target=0, n_steps=50)
    assert found.dtype == torch.float32
    assert (found.double() - expected).abs().max() <= 1e-4 * expected.abs().max()


@pytest.mark.parametrize("path", ALL_PATHS, ids=str)
@pytest.mark.parametrize("n_steps", [1, 2, 7, 50])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-4)], ids=str)
def test_attributions_sum_to_output_difference_on_any_path(path, n_steps, dtype, tolerance):
    model, x = smooth_cnn(dtype), pictures(3, dtype)
    attributions, delta = IDGI(model, path).attribute(x, target=3, n_steps=n_steps, return_convergence_delta=True)
    start = path.start((x,), None)[0] if isinstance(path, BlurPath) else torch.zeros_like(x)
    with torch.no_grad():
        f_end, f_start = model(x)[:, 3], model(start)[:, 3]
    error = attributions.sum((1, 2, 3)) - (f_end - f_start)
    assert (error.abs() <= tolerance * f_end.abs().clamp(min=1.0)).all()
    torch.testing.assert_close(delta, error, rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    ("baseline", "as_tensor"),
    [
        (None, lambda x: torch.zeros_like(x)),
        (0.5, lambda x: torch.full_like(x, 0.5)),
        (1, lambda x: torch.ones_like(x)),
        (np.float32(0.5), lambda x: torch.full_like(x, 0.5)),
        ((np.int64(1),), lambda x: torch.ones_like(x)),
        (torch.full((1, 3, 8, 8), 0.25, dtype=torch.float64), lambda x: torch.full_like(x, 0.25)),
        (torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64).reshape(1, 3, 1, 1), None),
    ],
    ids=["none", "float", "int", "number of NumPy", "tuple", "batch of one", "channel means"],
)
def test_takes_every_form_of_baseline(baseline, as_tensor):
    model, x = smooth_cnn(), pictures()
    expanded = baseline.expand_as(x) if as_tensor is None else as_tensor(x)
    found = IDGI(model).attribute(x, baseline, target=1, n_steps=5)
    (expected,) = naive_idgi(model, (x,), (expanded,), [1] * 3, 5)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


def test_baseline_tuple_mixes_numbers_and_tensors():
    model = TwoInputs()
    inputs = (torch.randn(3, 4).double(), torch.randn(3, 2, 3).double())
    second = torch.randn(1, 2, 3).double()
    found = IDGI(model).attribute(inputs, (0.5, second), target=2, n_steps=5)
    expected = naive_idgi(model, inputs, (torch.full_like(inputs[0], 0.5), second.expand(3, 2, 3)), [2] * 3, 5)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    "target",
    [4, -1, torch.tensor(4), torch.tensor([4]), torch.tensor([4, 4, 4]), torch.tensor([-1, 4, -1]), [4, -1, 4], (4,)],
    ids=str,
)
def test_takes_every_form_of_target(target):
    model, x = smooth_cnn(), pictures()
    expected = IDGI(lambda x: model(x)[:, 4]).attribute(x, n_steps=5)
    for internal_batch_size in (None, 6):
        found = IDGI(model).attribute(x, target=target, n_steps=5, internal_batch_size=internal_batch_size)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_takes_a_list_of_tuples_and_a_tuple_for_outputs_of_more_dimensions():
    model, x = smooth_cnn(), pictures()

    def grid(x: Tensor) -> Tensor:
        return torch.stack([model(x), model(x) ** 2], dim=1)

    found = IDGI(grid).attribute(x, target=[(0, 1), (1, 2), (-1, -1)], n_steps=5)
    alone = [
        IDGI(grid).attribute(x[i : i + 1], target=t, n_steps=5)
        for i, t in enumerate([(0, 1), (1, 2), (1, CLASSES - 1)])
    ]
    torch.testing.assert_close(found, torch.cat(alone), rtol=0, atol=1e-12)


def test_a_list_with_one_target_is_taken_for_one_example():
    model, x = smooth_cnn(), pictures(1)
    expected = IDGI(model).attribute(x, target=2, n_steps=5)
    torch.testing.assert_close(IDGI(model).attribute(x, target=[2], n_steps=5), expected)


def test_additional_tensors_are_repeated_for_each_point_and_others_passed_as_they_are():
    model = TwoInputs()
    inputs = (torch.randn(3, 4).double(), torch.randn(3, 2, 3).double())
    shift = torch.randn(3, 6).double()
    method = IDGI(model)
    together = method.attribute(inputs, target=1, additional_forward_args=(shift, 2), n_steps=5, internal_batch_size=6)
    for i in range(3):
        one = tuple(x[i : i + 1] for x in inputs)
        alone = method.attribute(one, target=1, additional_forward_args=(shift[i : i + 1], 2), n_steps=5)
        for a, b in zip(together, alone, strict=True):
            torch.testing.assert_close(a[i : i + 1], b, rtol=0, atol=1e-12)


def test_one_tuple_comes_back_as_one_tuple_and_tensor_as_tensor():
    model, x = smooth_cnn(), pictures()
    in_tuple = IDGI(model).attribute((x,), target=1, n_steps=3)
    assert isinstance(in_tuple, tuple)
    torch.testing.assert_close(in_tuple[0], IDGI(model).attribute(x, target=1, n_steps=3))


@pytest.mark.parametrize("shape", [(3,), (3, 1), (3, 2, 2, 2, 2)], ids=str)
def test_odd_shapes(shape):
    x = torch.rand(shape, dtype=torch.float64)
    found, delta = IDGI(lambda x: x.reshape(len(x), -1).exp().sum(1)).attribute(
        x, n_steps=3, return_convergence_delta=True
    )
    assert found.shape == x.shape
    assert delta.abs().max() < 1e-12


def test_a_path_of_ones_own_works_with_every_class():
    class QuadraticPath:
        def start(self, inputs, baselines):
            assert baselines is None
            return tuple(torch.zeros_like(x) for x in inputs)

        def point(self, inputs, start, fraction):
            return tuple(s + (x - s) * fraction**2 for x, s in zip(inputs, start, strict=True))

    model, x = smooth_cnn(), pictures()
    n = 6
    expected_idgi, expected_ig = torch.zeros_like(x), torch.zeros_like(x)
    for j in range(n):
        left, right = (x * (j / n) ** 2).requires_grad_(), x * ((j + 1) / n) ** 2
        f_left, f_right = model(left)[:, 1], model(right)[:, 1]
        (g,) = torch.autograd.grad(f_left.sum(), left)
        weight = (f_right - f_left) / g.square().sum((1, 2, 3))
        expected_idgi += (g.square() * weight[:, None, None, None]).detach()
        expected_ig += (g * (right - left)).detach()
    found_idgi = IDGI(model, QuadraticPath()).attribute(x, target=1, n_steps=n, internal_batch_size=6)
    found_ig = PathIG(model, QuadraticPath()).attribute(x, target=1, n_steps=n)
    torch.testing.assert_close(found_idgi, expected_idgi, rtol=0, atol=1e-12)
    torch.testing.assert_close(found_ig, expected_ig, rtol=0, atol=1e-12)


def test_an_adaptive_path_of_ones_own_sees_the_gradients():
    seen = []

    class Zigzag:
        def start(self, inputs, baselines):
            return tuple(torch.zeros_like(x) for x in inputs)

        def walk(self, inputs, start, n_steps):
            point = start
            for j in range(n_steps):
                gradient = yield point
                seen.append(gradient[0])
                point = tuple(x * ((j + 1) / n_steps) for x in inputs)

    model, x = smooth_cnn(), pictures()
    found = IDGI(model, Zigzag()).attribute(x, target=1, n_steps=4)
    torch.testing.assert_close(found, IDGI(model).attribute(x, target=1, n_steps=4), rtol=0, atol=1e-12)
    left = torch.zeros_like(x).requires_grad_()
    torch.testing.assert_close(seen[0], torch.autograd.grad(model(left)[:, 1].sum(), left)[0])


def test_properties_that_captum_asks_for():
    method = IDGI(nn.Identity(), GuidedPath(fraction=0.5, max_dist=0.1))
    assert method.has_convergence_delta()
    assert method.multiplies_by_inputs
    assert hasattr(method.attribute, "__wrapped__")
