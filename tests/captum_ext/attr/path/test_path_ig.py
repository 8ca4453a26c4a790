"""BlurIG and GuidedIG against naive versions of the published algorithms, one image at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients
from hypothesis import given, settings
from hypothesis import strategies as st

from captum_ext import BlurIG, GuidedIG, PathIG
from tests.captum_ext.small_models import pictures, smooth_cnn


def gradient_of(model, target):
    """The gradient of one output with respect to one image, in NumPy."""

    def gradient(x: np.ndarray) -> np.ndarray:
        leaf = torch.from_numpy(x)[None].requires_grad_()
        return torch.autograd.grad(model(leaf)[0, target], leaf)[0][0].numpy()

    return gradient


def scipy_blur(x: np.ndarray, sigma: float) -> np.ndarray:
    ndimage = pytest.importorskip("scipy.ndimage")
    return np.stack([ndimage.gaussian_filter(channel, sigma, mode="constant") for channel in x])


def naive_blur_ig(x: np.ndarray, gradient, max_sigma: float, power: float, n_steps: int) -> np.ndarray:
    total = np.zeros_like(x)
    for j in range(n_steps):
        here = scipy_blur(x, max_sigma * (1 - j / n_steps) ** power)
        there = scipy_blur(x, max_sigma * (1 - (j + 1) / n_steps) ** power)
        total += gradient(here) * (there - here)
    return total


def naive_guided_ig(x_input, x_baseline, gradient, n_steps, fraction, max_dist):
    """The published algorithm, in the space of features, with its own tolerance."""
    total = np.zeros_like(x_input)
    way = x_input - x_baseline
    x = x_baseline.copy()
    l1_total = np.abs(way).sum()
    if l1_total == 0:
        return total
    for step in range(n_steps):
        g = gradient(x)
        steepness = np.abs(g)
        x_start = x.copy()
        alpha = (step + 1) / n_steps
        alpha_min, alpha_max = max(alpha - max_dist, 0.0), min(alpha + max_dist, 1.0)
        x_min, x_max = x_baseline + way * alpha_min, x_baseline + way * alpha_max
        l1_target = l1_total * (1 - alpha)
        with np.errstate(invalid="ignore", divide="ignore"):
            progress = np.where(way != 0, (x - x_baseline) / way, alpha_max)
        x = np.where(progress < alpha_min, x_min, x)
        done = np.isclose(progress, alpha_max, rtol=1e-12, atol=1e-12)
        while True:
            l1_now = np.abs(x - x_input).sum()
            if math.isclose(l1_target, l1_now, rel_tol=1e-9, abs_tol=1e-9):
                break
            steepness = np.where(done, np.inf, steepness)
            threshold = np.quantile(steepness, fraction, method="lower")
            chosen = (steepness <= threshold) & ~done
            reach = (np.abs(x - x_max) * chosen).sum()
            gamma = (l1_now - l1_target) / reach if reach > 0 else np.inf
            if gamma > 1:
                x = np.where(chosen, x_max, x)
                done |= chosen
            else:
                x = np.where(chosen, x + (x_max - x) * gamma, x)
                break
        total += g * (x - x_start)
    return total


@pytest.mark.parametrize("power", [1.0, 2.0, 0.5])
def test_blur_ig_equals_the_naive_version_on_a_batch(power):
    model, x = smooth_cnn(), pictures(3)
    found = BlurIG(model, max_sigma=4.0, power=power).attribute(x, target=[0, 1, 2], n_steps=20, internal_batch_size=9)
    for i in range(3):
        expected = naive_blur_ig(x[i].numpy(), gradient_of(model, i), 4.0, power, 20)
        np.testing.assert_allclose(found[i].numpy(), expected, rtol=0, atol=1e-6 * np.abs(expected).max())


@pytest.fixture(scope="module")
def blur_integral():
    """A model, a picture, and its Blur IG in so many steps that it is nearly the integral."""
    torch.manual_seed(0)
    model, x = smooth_cnn(), pictures(1)
    return model, x, BlurIG(model, max_sigma=4.0).attribute(x, target=1, n_steps=2000)


def test_blur_ig_approaches_the_integral_as_one_over_n(blur_integral):
    model, x, reference = blur_integral
    method = BlurIG(model, max_sigma=4.0)
    errors = {n: float((method.attribute(x, target=1, n_steps=n) - reference).abs().max()) for n in (50, 100, 200)}
    # Halved with each doubling; the reference's own error, 1/2000, adds up to a tenth.
    assert 1.7 < errors[50] / errors[100] < 2.4
    assert 1.7 < errors[100] / errors[200] < 2.6


def test_power_changes_the_steps_and_not_the_integral(blur_integral):
    model, x, reference = blur_integral
    quadratic = BlurIG(model, max_sigma=4.0, power=2.0)
    fine = quadratic.attribute(x, target=1, n_steps=1000)
    coarse = quadratic.attribute(x, target=1, n_steps=50)
    assert (fine - reference).abs().max() < 0.1 * (coarse - reference).abs().max()


def test_blur_ig_delta_is_measured_from_the_blurred_picture():
    model, x = smooth_cnn(), pictures(2)
    attributions, delta = BlurIG(model, max_sigma=4.0).attribute(x, target=1, n_steps=10, return_convergence_delta=True)
    blurred = torch.from_numpy(np.stack([scipy_blur(image, 4.0) for image in x.numpy()]))
    change = (model(x) - model(blurred))[:, 1].detach()
    torch.testing.assert_close(delta, attributions.sum((1, 2, 3)) - change, rtol=0, atol=1e-12)


@pytest.mark.parametrize("fraction", [0.05, 0.25, 0.7, 1.0])
@pytest.mark.parametrize("max_dist", [0.0, 0.02, 0.3, 1.0])
def test_guided_ig_equals_the_naive_version_on_a_batch(fraction, max_dist):
    model, x, baseline = smooth_cnn(), pictures(3), pictures(3)
    baseline[0, 0] = x[0, 0]  # features that have no way to go
    found = GuidedIG(model, fraction, max_dist).attribute(x, baseline, target=[0, 1, 2], n_steps=12)
    for i in range(3):
        expected = naive_guided_ig(x[i].numpy(), baseline[i].numpy(), gradient_of(model, i), 12, fraction, max_dist)
        np.testing.assert_allclose(found[i].numpy(), expected, rtol=0, atol=1e-6 * np.abs(expected).max())


@settings(max_examples=40)
@given(
    values=st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.5, 1.0]), min_size=2, max_size=12),
    slopes=st.lists(st.sampled_from([-1.0, 0.0, 1.0, 2.0]), min_size=12, max_size=12),
    fraction=st.floats(0.01, 1.0),
    max_dist=st.floats(0.0, 1.0),
    n_steps=st.integers(1, 9),
)
def test_guided_ig_equals_the_naive_version_where_gradients_tie(values, slopes, fraction, max_dist, n_steps):
    x = torch.tensor(values, dtype=torch.float64)
    slope = torch.tensor(slopes[: len(values)], dtype=torch.float64)

    def model(x):
        return (x * slope + 0.1 * slope * x**2).sum(1, keepdim=True)

    found = GuidedIG(model, fraction, max_dist).attribute(x[None], target=0, n_steps=n_steps)
    expected = naive_guided_ig(x.numpy(), np.zeros_like(x.numpy()), gradient_of(model, 0), n_steps, fraction, max_dist)
    np.testing.assert_allclose(found[0].numpy(), expected, rtol=0, atol=1e-6)


def test_guided_ig_without_room_is_left_riemann_integrated_gradients():
    model, x = smooth_cnn(), pictures()
    found = GuidedIG(model, max_dist=0.0).attribute(x, target=1, n_steps=30)
    expected = IntegratedGradients(model).attribute(x, target=1, n_steps=30, method="riemann_left")
    # Captum holds its fractions in float32.
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6 * float(expected.abs().max()))
    torch.testing.assert_close(found, PathIG(model).attribute(x, target=1, n_steps=30), rtol=0, atol=1e-12)


def test_input_equal_to_baseline_gets_zero():
    model, x = smooth_cnn(), pictures(2)
    baseline = torch.stack([x[0], torch.zeros_like(x[1])])
    for method in (GuidedIG(model), PathIG(model)):
        found = method.attribute(x, baseline, target=1, n_steps=4)
        assert (found[0] == 0).all()
        assert (found[1] != 0).any()
