"""The equations that exposures give for a response, and what solves them."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from hdr._cells import Cells, log_curve, read_off
from hdr._response_fit import (
    Equations,
    _prior,
    _variance,
    equations_of_cells,
    equations_of_partly_clipped,
    equations_of_ranks,
    response_of,
    solve,
)
from hdr._response_prior import curve_prior
from hdr.response import Response
from tests.hdr.cameras import drawn_light

GAMMA = log_curve(Response.gamma(2.2))
SRGB = log_curve(Response.srgb())


def exact(evs: tuple[float, ...], white: float = 1.0, black: float = 0.0, stops: float = 9.0) -> Tensor:
    """What a camera of gamma 2.2 without noise and without levels makes of smooth light, clipped at both ends."""
    light = torch.from_numpy(drawn_light(96, 128, stops=stops)).permute(2, 0, 1)
    ldr = torch.stack([(0.15 * light * 2.0**ev).clamp(0, 1) ** (1 / 2.2) for ev in evs])
    return (ldr * white).clamp_min(black).float()


@pytest.mark.parametrize("equations_of", ["cells", "ranks"])
@pytest.mark.parametrize(
    ("evs", "pairs"),
    [
        ((0.0, 1.0, 2.0), {(0, 1), (1, 2), (0, 2)}),
        ((-2.0, 0.0, 2.0), {(0, 1), (1, 2)}),  # four EV apart, what both show is little
    ],
)
def test_exposures_are_compared_with_neighbours_and_their_neighbours_if_these_are_near(
    equations_of: str, evs: tuple[float, ...], pairs: set[tuple[int, int]]
) -> None:
    cells, ev = Cells.of(exact(evs)), np.array(evs)
    found = (
        equations_of_cells(cells, ev, GAMMA, 0.0, 1.0)
        if equations_of == "cells"
        else equations_of_ranks(cells, ev, 0.0, 1.0)
    )
    assert set(zip(found.shorter.tolist(), found.longer.tolist(), strict=True)) == pairs
    np.testing.assert_allclose(found.ev, ev[found.longer] - ev[found.shorter])


@pytest.mark.parametrize(("white", "black"), [(1.0, 0.0), (0.9, 0.08)])
@pytest.mark.parametrize("equations_of", ["cells", "ranks"])
def test_equations_hold_for_the_cameras_own_curve(equations_of: str, white: float, black: float) -> None:
    """Whatever is clipped at either end, in one channel or all, tells nothing, and is left out."""
    evs = np.array([-1.5, 0.0, 1.5])
    ldr = exact((-1.5, 0.0, 1.5), white, black)
    assert float((ldr[2] >= white).float().mean()) > 0.05
    assert float((ldr[0] <= black + 0.01).float().mean()) > 0.02 or not black
    cells = Cells.of(ldr)
    if equations_of == "cells":
        found, tolerance = equations_of_cells(cells, evs, GAMMA, black, white), 0.01
    else:
        found, tolerance = equations_of_ranks(cells, evs, black, white), 0.05
    assert len(found.ev) > 200
    assert max(found.high) < white
    assert min(found.low) > black
    residual = read_off(GAMMA, found.high) - read_off(GAMMA, found.low) - found.ev
    assert np.quantile(np.abs(residual), 0.95) < tolerance  # but for edges, where pixels of a cell are clipped


def test_a_cell_with_one_clipped_channel_tells_nothing_of_the_others() -> None:
    # As where a camera turns the colours of its sensor into those of the file after clipping.
    ldr = torch.full((2, 3, 64, 64), 0.4)
    ldr[1] *= 2 ** (1 / 2.2)
    ldr[:, 1:, :, 32:] = 0.2  # the other half: red is clipped, green and blue are as dark as before
    ldr[1, 0, :, 32:] = 1.0
    found = equations_of_cells(Cells.of(ldr), np.array([0.0, 1.0]), GAMMA, 0.0, 1.0)
    np.testing.assert_allclose(found.low, 0.4, rtol=1e-3)


def test_a_cell_with_texture_has_the_value_of_its_mean_light() -> None:
    ldr = torch.full((2, 3, 64, 64), 0.2)
    ldr[:, :, ::2] = 0.4
    ldr[1] *= 2 ** (1 / 2.2)  # one EV
    found = equations_of_cells(Cells.of(ldr), np.array([0.0, 1.0]), GAMMA, 0.0, 1.0)
    of_mean_light = ((0.2**2.2 + 0.4**2.2) / 2) ** (1 / 2.2)
    np.testing.assert_allclose(found.low, of_mean_light, rtol=1e-3)
    np.testing.assert_allclose(found.high, of_mean_light * 2 ** (1 / 2.2), rtol=1e-3)


def test_of_cells_of_one_brightness_the_flattest_speak() -> None:
    ldr = torch.full((2, 3, 256, 256), 0.4)
    rough = torch.arange(256).remainder(2).mul(0.1).sub(0.05)
    ldr[:, :, :, 16:] += rough[16:]  # most cells have texture, and a sixteenth has none
    ldr[1] *= 2 ** (1 / 2.2)
    found = equations_of_cells(Cells.of(ldr), np.array([0.0, 1.0]), GAMMA, 0.0, 1.0)
    assert 0 < len(found.ev) < 3 * 64 * 4
    assert np.median(found.low_spread) < 1e-3


def exact_equations(evs: np.ndarray, got: np.ndarray, curve: np.ndarray) -> Equations:
    """Flat grey cells of every level, as a camera with that curve shows them; without noise."""
    parts = []
    for a in range(len(evs) - 1):
        low = np.linspace(0.12, 0.9, 3000)
        light = read_off(curve, low) + got[a + 1] - got[a]
        high = np.interp(light, curve, np.arange(256) / 255)
        seen = light < curve[-1] - 0.05
        low, high = low[seen], high[seen]
        none, count = np.zeros(len(low)), len(low)
        step = np.full(count, evs[a + 1] - evs[a])
        parts.append(Equations(np.full(count, a), np.full(count, a + 1), low, high, none, none, step))
    return Equations.concatenated(parts)


@pytest.mark.parametrize(
    ("evs", "error"),
    [
        ((-2.0, 0.0, 2.0), (0.02, -0.04, 0.02)),
        # Of five exposures and more, what changes slowly is the curve's as well: this has nothing of the fourth degree.
        ((-3.0, -2.0, -1.0, 0.0, 1.0, 2.0), (0.003, -0.015, 0.03, -0.03, 0.015, -0.003)),
    ],
)
@pytest.mark.parametrize("of_gamma", [0.0, 0.05])
def test_errors_of_exposures_have_nothing_of_the_scale_of_light_nor_of_a_gamma(
    evs: tuple[float, ...], error: tuple[float, ...], of_gamma: float
) -> None:
    stated = np.array(evs)
    got = stated * (1 + of_gamma) + np.array(error) + 0.3
    solution = solve(exact_equations(stated, got, GAMMA), stated, SRGB, SRGB)
    np.testing.assert_allclose(solution.errors, error, atol=0.003)
    for degree in range(2 if len(evs) < 5 else 5):
        assert abs(float(solution.errors @ (stated / 3) ** degree)) < 1e-5


def test_errors_that_change_slowly_over_many_exposures_are_the_curves() -> None:
    stated = np.arange(-3.0, 3.0)
    solution = solve(exact_equations(stated, stated + 0.01 * stated**2, GAMMA), stated, SRGB, SRGB)
    np.testing.assert_allclose(solution.errors, 0, atol=1e-3)


@pytest.mark.parametrize("share", [0.2, 0.4])
def test_equations_of_what_moved_do_not_bend_the_curve(share: float) -> None:
    stated = np.array([-2.0, 0.0, 2.0])
    right = exact_equations(stated, stated, GAMMA)
    source = np.random.default_rng(0)
    moved = source.random(len(right.ev)) < share
    wrong = right._replace(high=np.where(moved, source.uniform(0.3, 0.5, len(moved)), right.high))
    levels = np.linspace(0.2, 0.9, 15)
    found, told = (read_off(solve(one, stated, SRGB, SRGB).curve, levels) for one in (wrong, right))
    assert np.abs(np.diff(found - told)).max() < 0.03


def test_a_curve_increases_even_by_equations_that_say_it_falls() -> None:
    count = 100_000
    low, step = np.linspace(0.3, 0.9, count), np.full(count, 1.0)
    none, first = np.zeros(count), np.zeros(count, int)
    contrary = Equations(first, first + 1, low, low - 0.2, none, none, step)
    solution = solve(contrary, np.array([0.0, 1.0]), SRGB, SRGB)
    assert (np.diff(solution.curve) > 0).all()
    assert response_of(solution.curve).light[-1] == 1.0


def test_where_no_equation_speaks_the_curve_is_the_one_that_it_began_beside() -> None:
    nothing = Equations(*(np.empty(0, int) for _ in range(2)), *(np.empty(0) for _ in range(5)))
    solution = solve(nothing, np.array([0.0, 1.0]), SRGB, SRGB)
    np.testing.assert_allclose(solution.curve, SRGB, atol=1e-3)
    np.testing.assert_allclose(solution.errors, 0, atol=1e-6)
    assert np.isnan(solution.residual)


def test_a_cell_with_one_black_channel_tells_nothing_of_the_others() -> None:
    ldr = torch.full((2, 3, 64, 64), 0.4)
    ldr[:, 1:, :, 32:] = 0.2
    ldr[1] *= 2 ** (1 / 2.2)
    ldr[0, 0, :, 32:] = 0.0
    found = equations_of_cells(Cells.of(ldr), np.array([0.0, 1.0]), GAMMA, 0.0, 1.0)
    np.testing.assert_allclose(found.low, 0.4, rtol=1e-3)


@pytest.mark.parametrize("rough_in", [0, 1])
def test_a_cell_is_as_flat_as_the_exposure_in_which_it_is_rougher(rough_in: int) -> None:
    ldr = torch.full((2, 3, 256, 256), 0.4)
    ldr[1] *= 2 ** (1 / 2.2)
    ldr[rough_in, :, :, 16:] += torch.arange(256).remainder(2).mul(0.1).sub(0.05)[16:]
    found = equations_of_cells(Cells.of(ldr), np.array([0.0, 1.0]), GAMMA, 0.0, 1.0)
    assert max(np.median(found.low_spread), np.median(found.high_spread)) < 1e-3


def partly_clipped(seed: int = 0) -> Tensor:
    """Two exposures one EV apart of rough light around the white of the second, by a camera of gamma 2.2."""
    rng = np.random.default_rng(seed)
    light = np.exp2(np.linspace(-2.0, -0.8, 256) + rng.uniform(-0.25, 0.25, (128, 256)))
    tints = np.array([0.7, 1.0, 0.5])[:, None, None]  # red and blue are darker, and do not clip before green
    return torch.from_numpy(np.stack([(tints * light * 2.0**ev).clip(0, 1) ** (1 / 2.2) for ev in (0.0, 1.0)])).float()


def test_cells_that_are_partly_clipped_tell_by_their_medians() -> None:
    ldr = partly_clipped()
    cells, ev = Cells.of(ldr), np.array([0.0, 1.0])
    found = equations_of_partly_clipped(cells, ev, GAMMA, 0.0, 1.0)
    assert len(found.ev) > 100
    np.testing.assert_allclose(read_off(GAMMA, found.high) - read_off(GAMMA, found.low), 1.0, atol=0.01)
    # By a loop over the cells: of green, the brightest, wherever some pixel is (nearly) white and the median is not.
    expected = []
    for row, column in itertools.product(range(0, 128, 4), range(0, 256, 4)):
        cell = ldr[:, :, row : row + 4, column : column + 4].flatten(2).double().numpy()
        if cell[0].max() < 1 - 1.5 / 255 <= cell[1].max() and np.median(cell[1, 1]) < 1 - 0.6 / 255:
            expected.append((np.median(cell[0, 1]), np.median(cell[1, 1])))
    pairs = np.stack([found.low, found.high], axis=1)
    assert max(np.abs(np.array(expected) - pair).max(axis=1).min() for pair in pairs) < 1e-6
    assert found.high.max() > 253 / 255
    # 64 of each 32nd of the values, but for the last, in which the mean of both exposures is white.
    assert len(found.ev) > 0.7 * min(len(expected), 64 * 4)


def test_what_a_cell_that_is_partly_clipped_is_known_by_is_the_darker_half_of_its_pixels() -> None:
    ldr = partly_clipped()
    cells, ev = Cells.of(ldr), np.array([0.0, 1.0])
    found = equations_of_partly_clipped(cells, ev, GAMMA, 0.0, 1.0)
    pixels = cells.pixels[:, 1]
    for low, high, low_spread, high_spread in zip(
        found.low, found.high, found.low_spread, found.high_spread, strict=True
    ):
        own = int(np.abs(np.median(pixels[1], axis=-1) - high).argmin())
        assert low == pytest.approx(np.median(pixels[0, own]))
        assert low_spread == pytest.approx(1.25 * pixels[0, own].std(), rel=1e-4)  # a median is less sure than a mean
        darker = np.sort(pixels[1, own])
        assert high_spread == pytest.approx(1.25 * (high - np.interp(0.16 * 15, np.arange(16), darker)), rel=1e-4)


def test_cells_without_a_clipped_pixel_or_mostly_clipped_ones_have_no_medians_to_tell() -> None:
    ldr = torch.full((2, 3, 64, 64), 0.5)
    ldr[1] *= 2 ** (1 / 2.2)
    ldr[1, :, :, 32:] = 1.0  # wholly clipped
    assert len(equations_of_partly_clipped(Cells.of(ldr), np.array([0.0, 1.0]), GAMMA, 0.0, 1.0).ev) == 0
    ldr[1, :, ::4, :32] = 1.0  # a quarter of the pixels
    found = equations_of_partly_clipped(Cells.of(ldr), np.array([0.0, 1.0]), GAMMA, 0.0, 1.0)
    np.testing.assert_allclose(found.high, 0.5 * 2 ** (1 / 2.2), rtol=1e-5)
    ldr[0, :, ::4, :32] = 1.0  # in the shorter exposure as well
    assert len(equations_of_partly_clipped(Cells.of(ldr), np.array([0.0, 1.0]), GAMMA, 0.0, 1.0).ev) == 0


def test_how_well_a_value_is_known_is_its_noise_times_the_slope_of_the_curve() -> None:
    # Of gamma 2.2, d log2 v^2.2 / dv; half the texture of a cell, and 0.3 levels of rounding.
    for value, spread in itertools.product((0.2, 0.5, 0.9), (0.0, 0.004, 0.1)):
        expected = (2.2 / (value * math.log(2))) ** 2 * (spread**2 / 4 + (0.3 / 255) ** 2)
        assert _variance(GAMMA, np.array(value), np.array(spread)) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("evs", [(-2.0, 0.0, 2.0), (0.0, 1.0, 2.0, 4.0), (0.0, 1.0, 2.0, 3.0, 4.0)])
def test_the_prior_pays_for_errors_of_exposures_beside_those_of_the_curve(evs: tuple[float, ...]) -> None:
    prior = _prior(np.array(evs))
    np.testing.assert_array_equal(prior[:48, :48], curve_prior())
    assert not prior[:48, 48:].any()
    errors = np.random.default_rng(1).normal(size=len(evs))
    slow = np.vander(np.array(evs), 2 if len(evs) < 5 else 5)
    own = errors - slow @ np.linalg.lstsq(slow, errors, rcond=None)[0]
    assert own @ prior[48:, 48:] @ own == pytest.approx(own @ own / 0.015**2, rel=1e-3, abs=1e-6)
    # What changes slowly is forbidden, and of five exposures that is everything.
    assert int((np.linalg.eigvalsh(prior[48:, 48:]) > 1e7).sum()) == slow.shape[1]


@pytest.mark.parametrize("gamma", [1.0, 2.2, 3.0])
def test_exact_equations_give_the_curve_of_the_camera(gamma: float) -> None:
    stated, own = np.array([-2.0, 0.0, 2.0]), log_curve(Response.gamma(gamma))
    solution = solve(exact_equations(stated, stated, own), stated, SRGB, SRGB)
    levels = np.linspace(0.15, 0.9, 200)
    assert np.ptp(read_off(solution.curve, levels) - gamma * np.log2(levels)) < 0.06  # but for the scale of light
    assert solution.residual < 5e-4


def test_equations_that_the_curve_fulfils_leave_it_and_what_they_are_off_by_is_the_residual() -> None:
    stated = np.array([-2.0, 0.0, 2.0])
    right = exact_equations(stated, stated, SRGB)
    solution = solve(right, stated, SRGB, SRGB)
    assert np.ptp(solution.curve - SRGB) < 0.01
    assert solution.residual < 1e-3
    off = np.where(np.arange(len(right.ev)) % 2, 0.1, -0.1)
    assert solve(right._replace(ev=right.ev + off), stated, SRGB, SRGB).residual == pytest.approx(0.1, abs=0.01)


def test_equations_noisier_than_expected_are_no_outliers() -> None:
    stated = np.array([-2.0, 0.0, 2.0])
    right = exact_equations(stated, stated, GAMMA)
    noise = 0.5 * np.random.default_rng(0).normal(size=len(right.ev))
    noisy, told = (solve(one, stated, SRGB, SRGB).curve for one in (right._replace(ev=right.ev + noise), right))
    levels = np.linspace(0.2, 0.9, 50)
    assert np.ptp(read_off(noisy, levels) - read_off(told, levels)) < 0.1


def test_a_response_has_no_light_at_black_and_1_at_white() -> None:
    found = response_of(SRGB + 3.0)
    levels = torch.tensor([0.0, 51 / 255, 204 / 255, 1.0], dtype=torch.float64)
    expected = torch.tensor([0.0, (0.255 / 1.055) ** 2.4, (0.855 / 1.055) ** 2.4, 1.0], dtype=torch.float64)
    torch.testing.assert_close(found.to_linear(levels), expected, rtol=1e-5, atol=0)
