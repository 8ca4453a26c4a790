"""Baselines: right where nothing moves, wrong in the known way where something does."""

import dataclasses

import numpy as np
import pytest
import torch

from hdr.baselines import BASELINES, opencv_merge, reference_only, weighted_merge, wiener_merge
from hdr.bracket import Bracket
from hdr.calibration import Calibration
from hdr.merge import Merger
from hdr.radiometry import linear_to_ldr, mu_law
from hdr.response import Response

EXPOSURES = torch.tensor([1.0, 4.0, 16.0])


def scene(height: int = 60, width: int = 80) -> torch.Tensor:
    """Radiance from shadows at 0.003 to highlights at 0.9, varying smoothly and with structure for AlignMTB."""
    source = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, height // 10, width // 10, generator=source) * 5.7 - 5.8
    return torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")[0].exp().clamp(0.003, 0.9)


def photographed(radiances: list[torch.Tensor]) -> Bracket:
    ldr = torch.stack([linear_to_ldr(radiance, float(t)) for radiance, t in zip(radiances, EXPOSURES, strict=True)])
    return Bracket(ldr, EXPOSURES)


def test_weighted_merge_is_exact_where_nothing_moves():
    torch.testing.assert_close(weighted_merge(photographed([scene()] * 3)), scene(), rtol=1e-4, atol=1e-6)


def test_weighted_merge_is_the_mean_by_light_and_a_trapezoid_over_60_levels():
    white, exposures = 0.9, np.array([1.0, 4.0, 16.0])
    ldr = white * torch.rand(3, 3, 16, 18, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    camera = Calibration(Response.gamma(2.2).with_white_level(white), white_level=white)
    found = weighted_merge(Bracket(ldr, EXPOSURES.double(), calibration=camera)).numpy()
    for row, column in np.ndindex(16, 18):
        values = ldr[:, :, row, column].numpy() / white
        rise, fall = (np.clip(255 * v / 60, 0, 1).min(axis=1) for v in (values, 1 - values))
        fall[0] = rise[2] = 1.0  # nothing is brighter than what the shortest shows, nor darker
        weight = np.maximum(np.minimum(rise, fall), 1e-6) * exposures
        expected = weight @ (values**2.2 / exposures[:, None]) / weight.sum()
        np.testing.assert_allclose(found[:, row, column], expected, rtol=5e-3)


def test_opencv_merge_is_near_where_nothing_moves_and_on_the_same_scale():
    error = (mu_law(opencv_merge(photographed([scene()] * 3)).clamp(0, 1)) - mu_law(scene())).abs()
    assert float(error.median()) < 0.02


def test_opencv_merge_undoes_a_shift_of_whole_exposures():
    still = scene(160, 200)
    shifted = photographed([still.roll((6, -9), dims=(1, 2)), still, still])
    errors = [
        (mu_law(method(shifted).clamp(0, 1)) - mu_law(still))[:, 20:-20, 20:-20].abs().mean()
        for method in (opencv_merge, weighted_merge)
    ]
    assert errors[0] < 0.5 * errors[1]


@pytest.mark.parametrize("reference", [0, 1])
def test_opencv_merge_shows_what_the_reference_shows(reference):
    still, shift = scene(160, 200), (6, -9)
    moved = [still.roll(shift, dims=(1, 2))] * 3
    moved[reference] = still
    bracket = dataclasses.replace(photographed(moved), reference_index=reference)
    merged = mu_law(opencv_merge(bracket).clamp(0, 1))[:, 20:-20, 20:-20]
    errors = [
        (merged - mu_law(shown)[:, 20:-20, 20:-20]).abs().mean() for shown in (still, still.roll(shift, dims=(1, 2)))
    ]
    assert errors[0] < 0.5 * errors[1]


def test_reference_only_is_cut_at_its_saturation():
    merged = reference_only(photographed([scene()] * 3))
    torch.testing.assert_close(merged, scene().clamp_max(1 / 4), rtol=1e-4, atol=1e-6)


def test_the_wiener_filter_removes_noise_and_keeps_edges():
    flat = torch.full((3, 48, 64), 0.004)
    flat[..., 32:] = 0.02
    bracket = photographed([flat] * 3)
    noise = 0.02 * torch.randn(bracket.ldr.shape, generator=torch.Generator().manual_seed(0))
    camera = dataclasses.replace(bracket.calibration, shot=2e-4, read=1e-5)
    noisy = dataclasses.replace(bracket, ldr=(bracket.ldr + noise).clamp(0, 1), calibration=camera)
    errors = [mu_law(method(noisy)) - mu_law(flat) for method in (wiener_merge, Merger("none", "cpu"))]
    inside = (..., slice(4, 44), [*range(4, 26), *range(38, 60)])
    assert float(errors[0][inside].std()) < 0.6 * float(errors[1][inside].std())
    beside = (..., slice(4, 44), slice(31, 33))
    assert float(errors[0][beside].abs().mean()) < 1.5 * float(errors[1][beside].abs().mean())


@pytest.mark.parametrize("method", BASELINES)
def test_all_return_rec709_whatever_the_colours_of_the_files(method):
    swapped = torch.eye(3).flip(0)  # red and blue have changed places in the files
    bracket = photographed([scene()] * 3)
    as_it_is = BASELINES[method](bracket)
    in_rec709 = BASELINES[method](dataclasses.replace(bracket, to_rec709=swapped))
    torch.testing.assert_close(in_rec709, as_it_is.flip(0))


def test_what_moves_leaves_a_ghost_in_the_weighted_merge_and_none_in_the_reference():
    moving = []
    for index in range(3):
        radiance = torch.full((3, 40, 80), 0.02)
        radiance[:, 10:30, 10 + 20 * index : 25 + 20 * index] = 0.15
        moving.append(radiance)
    bracket, truth = photographed(moving), moving[1]
    elsewhere = truth == 0.02
    assert float((weighted_merge(bracket) - truth)[elsewhere].abs().max()) > 0.005
    torch.testing.assert_close(reference_only(bracket), truth, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("method", BASELINES.values(), ids=BASELINES.keys())
def test_black_and_burnt_out_brackets_are_defined(method, value):
    merged = method(Bracket(torch.full((3, 3, 32, 32), value), EXPOSURES))
    assert merged.shape == (3, 32, 32)
    assert bool(torch.isfinite(merged).all())
    assert bool((merged >= 0).all())


@pytest.mark.parametrize("value", [0.0, 0.5])
def test_flat_brackets_are_defined_where_the_smallest_numbers_are_flushed_to_zero(value):
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor keeps them")
    try:
        merged = wiener_merge(Bracket(torch.full((3, 3, 32, 32), value), EXPOSURES))
    finally:
        torch.set_flush_denormal(False)
    assert bool(torch.isfinite(merged).all())


@pytest.mark.parametrize("radiance", [0.7, 1.0])
def test_pixels_that_only_the_short_exposure_has_come_from_it(radiance):
    merged = weighted_merge(photographed([torch.full((3, 16, 16), radiance)] * 3))
    torch.testing.assert_close(merged, torch.full((3, 16, 16), radiance), rtol=1e-3, atol=0)


@pytest.mark.parametrize("reference", [0.0, 1.0])
def test_pixels_that_no_exposure_has_are_defined(reference):
    # What moved may be black in the short exposure and burnt out in the long one.
    ldr = torch.zeros(3, 3, 16, 16)
    ldr[1], ldr[2] = reference, 1.0
    assert bool(torch.isfinite(weighted_merge(Bracket(ldr, EXPOSURES))).all())
