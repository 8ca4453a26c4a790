"""Small squares of exposures: pixel by pixel what they hold, and which of them are compared."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from hdr._cells import Cells, black_level, comparable, ev_apart, log_curve, read_off, srgb_above_black, well_exposed
from hdr.response import Response
from tests.hdr.cameras import srgb


def test_a_cell_is_what_its_sixteen_pixels_are() -> None:
    ldr = torch.rand(2, 3, 22, 29, generator=torch.Generator().manual_seed(0))
    cells = Cells.of(ldr)
    places = [(top, left) for top in range(0, 19, 4) for left in range(0, 26, 4)]
    assert cells.grid == (5, 7)
    for number, (top, left) in enumerate(places):
        square = ldr[:, :, top : top + 4, left : left + 4].flatten(2).double().numpy()
        np.testing.assert_array_equal(cells.pixels[:, :, number], square.astype(np.float32))
        np.testing.assert_allclose(cells.mean[:, :, number], square.mean(-1), rtol=1e-5)
        np.testing.assert_allclose(cells.spread[:, :, number], square.std(-1), rtol=1e-3)
        np.testing.assert_allclose(cells.darkest[:, :, number], square.min(-1), rtol=1e-6)
        np.testing.assert_allclose(cells.brightest[:, number], square.max((1, 2)), rtol=1e-6)


@pytest.mark.parametrize("factor", [1, 2])  # by which the displacement is smaller than the picture
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("sense", [-1, 1])
def test_a_cell_moves_as_its_middle_does_and_not_out_of_the_picture(factor: int, axis: int, sense: int) -> None:
    ldr = torch.rand(2, 3, 24, 24)
    displacement = torch.zeros(2, 2, 24 // factor, 24 // factor)
    # What lies at 6 and beyond moves by 4, or what lies before it by -4. The middle of the cell at 4 is 6.
    displacement[1, 1 - axis].movedim(axis, 0)[6 // factor :] = 4.0
    moved = {0: 0, 4: 8, 8: 12, 12: 16, 16: 20}
    if sense < 0:
        displacement[1, 1 - axis] -= 4.0
        moved = {4: 4, 8: 8, 12: 12, 16: 16, 20: 20}
    stay = range(0, 24, 4)
    tops, lefts = (moved.values(), stay) if axis == 0 else (stay, moved.values())
    expected = [ldr[1, :, top : top + 4, left : left + 4] for top in tops for left in lefts]
    found = torch.from_numpy(Cells.of(ldr, displacement).pixels[1])
    torch.testing.assert_close(found, torch.stack(expected, 1).flatten(2))


def test_between_levels_a_curve_is_a_straight_line() -> None:
    curve = np.random.default_rng(0).normal(size=256)
    for ldr in (0.0, 0.1234, 0.9999, 1.0):
        expected = np.interp(ldr * 255, np.arange(256), curve)
        assert float(read_off(curve, np.array(ldr))) == pytest.approx(expected)
    assert float(read_off(curve, np.array(1.2))) == curve[-1]


def test_black_has_a_quarter_of_the_light_of_the_first_level() -> None:
    curve = log_curve(Response.srgb())
    np.testing.assert_allclose(curve[1:], np.log2(srgb(np.arange(1, 256) / 255)), atol=1e-6)
    assert curve[1] - curve[0] == pytest.approx(2)


@pytest.mark.parametrize("black", [4, 16])
def test_above_a_black_that_is_not_zero_srgb_begins_there_and_ends_at_white(black: int) -> None:
    curve = srgb_above_black(black / 255)
    levels = np.arange(black + 1, 256)
    expected = np.log2(srgb((levels - black) / (255 - black)))
    # Its values lie between the levels of the curve that is read off.
    np.testing.assert_allclose(curve[levels][8:], expected[8:], atol=0.01)
    assert curve[-1] == pytest.approx(0)
    assert (np.diff(curve[: black + 1]) > 0.4).all()  # what lies below has no light


def cells_of(*levels: float) -> Cells:
    """Exposures that are one grey all over, at so many levels of 255."""
    return Cells.of(torch.stack([torch.full((3, 8, 8), level / 255) for level in levels]))


@pytest.mark.parametrize(
    ("response", "level", "usable"),
    [
        (Response.linear(), 3, False),  # log2(4 / 3), 0.4 EV, from a level to the next: rounding decides
        (Response.linear(), 20, True),
        (Response.gamma(4.0), 45, False),  # (45 / 255)^4 is 10 EV below white, where a level is 0.13 EV
        (Response.gamma(4.0), 80, True),
        (Response.gamma(2.2), 254, False),
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_what_one_of_two_exposures_shows_badly_is_not_compared(
    response: Response, level: float, usable: bool, turned: bool
) -> None:
    cells = cells_of(*((level, 150) if turned else (150, level)))
    assert well_exposed(cells, 0, 1, log_curve(response), 1.0).all() == usable
    assert well_exposed(cells, 0, 1, log_curve(response), 1.0).any() == usable


@pytest.mark.parametrize("exposure", [0, 1])
@pytest.mark.parametrize(("pixel", "well", "told"), [(1.0, [False] * 3, [False] * 3), (0.0, [True] * 3, [1, 0, 1])])
def test_one_white_pixel_spoils_a_cell_and_one_black_pixel_its_mean(
    exposure: int, pixel: float, well: list[bool], told: list[bool]
) -> None:
    ldr = torch.full((2, 3, 4, 4), 0.5)
    ldr[exposure, 1, 2, 3] = pixel
    cells, curve = Cells.of(ldr), log_curve(Response.gamma(2.2))
    assert well_exposed(cells, 0, 1, curve, 1.0)[:, 0].tolist() == well
    assert comparable(cells, 0, 1, curve, 1.0)[:, 0].tolist() == told


def test_the_white_level_is_where_a_camera_clips() -> None:
    curve = log_curve(Response.gamma(2.2))
    assert well_exposed(cells_of(100, 240), 0, 1, curve, 1.0).all()
    assert not well_exposed(cells_of(100, 240), 0, 1, curve, 240 / 255).any()


def test_exposures_are_as_far_apart_as_their_light() -> None:
    curve = log_curve(Response.gamma(2.2))
    apart = ev_apart(cells_of(60, 180), 0, 1, curve, np.ones((3, 4), bool))
    np.testing.assert_allclose(apart, 2.2 * math.log2(3), atol=1e-3)


def fogged(step: float, blacks: tuple[int, int, int], grows: bool = True) -> Cells:
    """Dark and bright halves of exposures: the dark one keeps a level of its own in every channel."""
    ldr = torch.empty(2, 3, 64, 64)
    bright = torch.linspace(60, 90, 64)
    for channel, black in enumerate(blacks):
        ldr[:, channel] = black
    ldr[0, :, :, 32:], ldr[1, :, :, 32:] = bright[32:], bright[32:] * ((1 + 0.2 * step) if grows else 1)
    return Cells.of((ldr / 255).clamp(0, 1))


def test_black_is_what_keeps_its_level_while_light_grows() -> None:
    ev = np.array([0.0, 2.0])
    assert black_level(fogged(2.0, (16, 16, 16)), ev) == pytest.approx(13 / 255)  # a little below what was seen
    assert black_level(fogged(2.0, (12, 16, 30)), ev) == pytest.approx(13 / 255)  # of the channels the middle one
    assert black_level(fogged(2.0, (16, 16, 16), grows=False), ev) == 0  # a picture that is repeated says nothing
    # What grows by a tenth in a third of an EV is no black.
    assert black_level(dark_and_bright([(20, 22)] * 128), np.array([0.0, 1 / 3])) == 0


def dark_and_bright(dark: list[tuple[int, int]]) -> Cells:
    """Two exposures: a half that grows well, and cells of the other half with a level in each."""
    ldr = torch.full((2, 3, 64, 64), 60.0)
    ldr[1] = 90.0
    for number, levels in enumerate(dark):
        top, left = 4 * (number // 16), 4 * (number % 16)
        for one, level in zip(ldr, levels, strict=True):
            one[:, top : top + 4, left : left + 4] = level
    return Cells.of(ldr / 255)


def test_black_is_told_by_many_cells_and_by_nothing_darker_that_grows() -> None:
    ev = np.array([0.0, 1.0])
    assert black_level(dark_and_bright([(16, 16)] * 40), ev) == pytest.approx(13 / 255)
    assert black_level(dark_and_bright([(16, 16)] * 20), ev) == 0  # few may keep it by chance
    # A frame that keeps its level is no black where darker things of the scene still grow.
    assert black_level(dark_and_bright([(16, 16)] * 40 + [(8, 14)] * 60), ev) == 0
