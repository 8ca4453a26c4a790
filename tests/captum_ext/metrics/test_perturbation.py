"""The pixel perturbation test, against a naive version, one image and one step at a time."""

from __future__ import annotations

import math

import pytest
import torch

from captum_ext.metrics import perturbation
from tests.captum_ext.small_models import pictures, smooth_cnn


def naive_perturbation(model, x, attributions, absent, target, n_steps, most):
    curve = []
    strength = attributions.abs().sum(0).flatten()
    least_first = sorted(range(len(strength)), key=lambda pixel: float(strength[pixel]))
    with torch.no_grad():
        own = float(model(x[None])[0, target])
        for step in range(n_steps + 1):
            gone = least_first[: round(most * step * len(strength) / n_steps)]
            perturbed = x.clone()
            for pixel in gone:
                perturbed[:, pixel // 8, pixel % 8] = absent[:, pixel // 8, pixel % 8]
            curve.append(abs(float(model(perturbed[None])[0, target]) - own) / abs(own))
    return curve


@pytest.mark.parametrize("most", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("internal_batch_size", [None, 3])
def test_equals_a_naive_version(most, internal_batch_size):
    model, x = smooth_cnn(), pictures(3)
    attributions, absent = torch.randn_like(x), torch.full_like(x, 0.5)
    found = perturbation(
        model, x, attributions, 0.5, [0, 1, 2], n_steps=6, most=most, internal_batch_size=internal_batch_size
    )
    for i in range(3):
        expected = naive_perturbation(model, x[i], attributions[i], absent[i], i, 6, most)
        assert found.curves[i].tolist() == pytest.approx(expected, abs=1e-9)
        mean = (sum(expected) - (expected[0] + expected[-1]) / 2) / 6
        assert float(found.areas[i]) == pytest.approx(mean, abs=1e-9)
    assert torch.equal(found.areas, found.normalized_areas)


def test_a_map_that_knows_what_matters_is_better_than_its_opposite():
    # Only the left half counts.
    def left_half(x):
        return x[:, :, :, :4].sum((1, 2, 3))

    x, knows = torch.rand(2, 1, 8, 8), torch.zeros(2, 1, 8, 8)
    knows[:, :, :, :4] = 1
    assert perturbation(left_half, x, knows, 0).areas.tolist() == pytest.approx([0.0, 0.0], abs=1e-6)
    # Without the left half nothing is left after the last step, and half of it in the mean.
    assert perturbation(left_half, x, 1 - knows, 0).curves[:, -1].tolist() == pytest.approx([1.0, 1.0])


def test_area_in_half_precision_is_that_of_its_curve():
    # 1 for the whole image and 1001 without a pixel: the changes add up to more than float16 holds.
    picture = torch.ones(1, 1, 16, 16, dtype=torch.float16)
    found = perturbation(
        lambda x: torch.where(x.amin((1, 2, 3)) == 1, x[:, 0, 0, 0], 1001), picture, picture, 0, n_steps=100
    )
    assert found.curves[0, 1:].unique().item() == 1000
    assert found.areas.item() == pytest.approx(1000 * (1 - 0.5 / 100), rel=1e-3)


def test_nothing_to_measure_against_is_nan():
    assert perturbation(lambda x: 0 * x.sum((1, 2, 3)), torch.rand(1, 1, 4, 4), torch.rand(1, 1, 4, 4), 0).areas.isnan()


@pytest.mark.parametrize("whole", [0.0, 1e-9, -1e-9])
def test_what_rounding_leaves_of_nothing_is_no_measure_either(whole):
    # In float32 a sum of numbers near 1 that cancel is 0 to 1e-7.
    picture = torch.ones(1, 1, 4, 4)
    found = perturbation(lambda x: torch.where(x.amin((1, 2, 3)) == 1, whole, 1.0), picture, picture, 0)
    assert found.areas.isnan().tolist() == [True]
    assert found.curves.isnan().all()


def test_how_small_scores_are_does_not_matter():
    # Of 1e-30 in all, half is left without half of the pixels.
    picture = torch.ones(1, 1, 4, 4)
    found = perturbation(lambda x: 1e-30 * x.mean((1, 2, 3)), picture, picture, 0, n_steps=1, most=0.5)
    assert found.curves[0].tolist() == pytest.approx([0.0, 0.5])


@pytest.mark.parametrize("most", [0, -0.1, 1.5, math.nan])
def test_share_is_above_0_and_at_most_1(most):
    with pytest.raises(ValueError, match="most="):
        perturbation(lambda x: x.sum((1, 2, 3)), torch.rand(1, 1, 4, 4), torch.rand(1, 1, 4, 4), 0, most=most)
