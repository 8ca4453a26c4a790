"""What cells tell about a camera, from cells that are made pixel by pixel."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from hdr._cells import Cells, log_curve
from hdr._traits import (
    Noise,
    channels_clipped_below,
    disagreement_of,
    exposure_errors,
    lacks_fine_colours,
    noise_of,
    white_level_of,
)
from hdr.calibration import Calibration
from hdr.response import Response

LINEAR = log_curve(Response.linear())
LUMA = np.array([0.2126, 0.7152, 0.0722])  # of Rec. 709


def cells_of(pixels: NDArray) -> Cells:
    """Cells whose pixels are given, (N, 3, cells, 16), or one value for all sixteen of a cell, (N, 3, cells)."""
    if pixels.ndim == 3:
        pixels = np.repeat(pixels[..., None], 16, axis=-1)
    count = pixels.shape[2]
    side_by_side = pixels.reshape(*pixels.shape[:3], 4, 4).transpose(0, 1, 3, 2, 4).reshape(-1, 3, 4, 4 * count)
    cells = Cells.of(torch.from_numpy(side_by_side).float())
    assert cells.pixels.shape[2] == count
    return cells


def bright_cells(whites: tuple[int, int, int] = (240, 240, 240), count: int = 1000) -> NDArray:
    """Grey cells of linear light, shorter and 2 EV longer, whose channels clip at levels of 255: (2, 3, cells)."""
    light = np.geomspace(0.02, 0.85, count) * np.ones((3, 1))
    return np.stack([light, np.minimum(4 * light, np.array(whites)[:, None] / 255)])


def white_of(values: NDArray) -> tuple[float, list[str]]:
    notes: list[str] = []
    return 255 * white_level_of(cells_of(values), np.array([0.0, 2.0]), LINEAR, notes), notes


@pytest.mark.parametrize(
    ("whites", "expected"),
    [
        ((240, 240, 240), 240),
        ((242, 240, 241), 240),  # all channels are clipped there and above
        ((225, 250, 250), 255),  # red alone stays far below the others, which is no white level
        ((254, 254, 254), 255),  # rounding
    ],
)
def test_white_is_where_the_first_of_channels_clips_that_clip_together(
    whites: tuple[int, int, int], expected: int
) -> None:
    assert white_of(bright_cells(whites))[0] == pytest.approx(expected)


def test_white_is_what_four_fifths_of_clipped_cells_reach() -> None:
    values = bright_cells()
    values[1, :, ::3] -= (values[1, :, ::3] > 239.5 / 255) / 255  # a third of them, one level less
    assert white_of(values)[0] == pytest.approx(239)


def test_white_is_found_beside_edges_where_a_part_of_a_cell_is_clipped() -> None:
    pixels = np.repeat(bright_cells()[..., None], 16, axis=-1)
    for first in (400, 402):  # two of five bright cells: 0.9 is their mean
        pixels[1, :, first::5, :1] = 0.3
    notes: list[str] = []
    assert 255 * white_level_of(cells_of(pixels), np.array([0.0, 2.0]), LINEAR, notes) == pytest.approx(240)


def test_where_something_is_brighter_than_a_pile_it_is_not_white() -> None:
    brighter = np.stack([np.full((3, 200), 250 / 255 / 4), np.full((3, 200), 250 / 255)])
    assert white_of(np.concatenate([bright_cells(), brighter], axis=2)) == (255, [])


def test_few_clipped_cells_do_not_tell_white_and_a_note_names_the_value_that_they_have() -> None:
    dark = bright_cells()[:, :, :500]  # none above 0.53
    lamp = np.stack([np.full((3, 20), 0.7), np.full((3, 20), 240 / 255)])
    white, (note,) = white_of(np.concatenate([dark, lamp], axis=2))
    assert white == 255
    assert note.startswith("much of the pictures has the value 240 of 255")
    assert white_of(np.concatenate([dark, lamp[:, :, :3]], axis=2)) == (255, [])  # less than a hundredth of all


def clipped_red(level: float, count: int = 1000) -> NDArray:
    values = bright_cells((255, 255, 255), count)
    values[:, 0] = values[:, 0].clip(max=level)
    return values


def below_white(values: NDArray, ev: float = 2.0) -> list[float]:
    return list(channels_clipped_below(cells_of(values), np.array([0.0, ev]), LINEAR, 1.0))


@pytest.mark.parametrize(
    ("level", "noted"), [(0.6, True), (0.8, True), (0.87, False), (1.0, False)]
)  # log2(0.84) is -0.25
def test_a_channel_that_stays_a_quarter_of_an_ev_below_white_is_clipped_there(level: float, noted: bool) -> None:
    expected = [level if noted else math.nan, math.nan, math.nan]
    np.testing.assert_allclose(below_white(clipped_red(level)), expected, rtol=1e-6)


def test_what_clips_below_white_may_be_off_by_two_levels_and_hidden_in_a_tenth_of_its_cells() -> None:
    values = clipped_red(0.8)
    clipped = np.flatnonzero(values[1, 0] == np.float64(0.8))
    values[1, 0, clipped[::3]] += 2 / 255
    values[1, 0, clipped[1::12]] = 0.4
    np.testing.assert_allclose(below_white(values), [0.8, math.nan, math.nan], rtol=1e-6)


def test_a_channel_is_not_clipped_below_white_by_what_is_brighter_spread_few_black_or_hardly_beyond_white() -> None:
    values = clipped_red(0.8)
    brighter = np.stack([np.full((3, 100), 0.95 / 4), np.full((3, 100), 0.95)])
    assert np.isnan(below_white(np.concatenate([values, brighter], axis=2))).all()
    beyond = np.flatnonzero(values[0, 0] > 0.25)
    spread, hidden = values.copy(), values.copy()
    spread[1, 0, beyond] = np.linspace(0.7, 0.8, len(beyond))
    hidden[1, 0, beyond[::3]] = 0.4  # in a third of its cells something dark came before it
    assert np.isnan(below_white(spread)).all()
    assert np.isnan(below_white(hidden)).all()
    assert np.isnan(below_white(values[:, :, -29:])).all()
    assert below_white(values[:, :, -30:])[0] == pytest.approx(0.8)
    # Of what is black in the shorter exposure nobody knows how bright it is.
    assert np.isnan(below_white(np.stack([np.zeros((3, 500)), np.full((3, 500), 0.5)]), ev=12.0)).all()
    # Light for 0.3 EV more than white, of which a curve that is not exact has made less.
    near = np.stack([np.full((3, 1000), 0.25 * 2**0.3), np.full((3, 1000), 0.7)])
    np.testing.assert_allclose(below_white(np.concatenate([values, near], axis=2))[0], 0.8, rtol=1e-6)


# Degrees of freedom of a cell: its mean, slopes (2), what bends it (3), and what is finer (10).
_X, _Y = np.tile(np.arange(4.0), 4), np.repeat(np.arange(4.0), 4)
BASIS = np.linalg.qr(np.stack([np.ones(16), _X, _Y, _X * _X, _X * _Y, _Y * _Y, *np.eye(16)[:10]], 1))[0]
assert BASIS.shape == (16, 16)


def noisy_cells(ev: float, shot: float, read: float, bending: float = 1.0, finest: float = 1.0) -> NDArray:
    """Two exposures of linear light, with noise whose finer parts have less variance.

    Of four cells one is flat, and the others have a texture: the flattest are chosen by what they show, and among cells
    that are all flat those would be chosen in which there happens to be little noise.
    """
    source, count = np.random.default_rng(0), 1300
    light = np.tile(np.geomspace(0.03, 0.7, count)[None, :, None], (3, 1, 16))
    light *= np.where(np.arange(count) % 4 == 0, 1.0, 1.25 ** source.choice([-1, 1], (3, 16, count))).swapaxes(1, 2)
    both = np.stack([light * 2.0**-ev, light])
    kept = np.sqrt([1.0] * 3 + [bending] * 3 + [finest] * 10)
    noise = (kept * source.normal(size=both.shape)) @ BASIS.T
    return both + np.sqrt(shot * both + read) * noise


@pytest.mark.parametrize(("shot", "read"), [(1e-4, 1e-6), (2e-5, 1e-5), (1e-3, 1e-6)])
@pytest.mark.parametrize("ev", [0.5, 2.0, 3.0])
def test_white_noise_is_measured_by_what_exposures_differ_by(shot: float, read: float, ev: float) -> None:
    found = noise_of(cells_of(noisy_cells(ev, shot, read)), np.array([0.0, ev]), Response.linear(), 65535, [])
    assert found.left == 1.0
    for light in (0.35, 0.7):  # of the longer; beside less the shorter one is too dark to be compared
        of_both, expected = (
            4.0**ev * (one.shot * light / 2.0**ev + one.read) + one.shot * light + one.read
            for one in (found, Noise(shot, read))
        )
        assert of_both == pytest.approx(expected, rel=0.16)
    if ev < 1:  # by as little as 0.04
        assert found.shot * 0.04 + found.read == pytest.approx(shot * 0.04 + read, rel=0.12)


def test_what_rounding_adds_to_noise_is_taken_off() -> None:
    # Noise whose variance is half of what rounding makes, in both exposures, of which one counts 2^2 times.
    read = 0.5 / 255**2 / 12
    levels = np.rint(255 * noisy_cells(1.0, 1e-5, 1e-4)) / 255
    rough = noise_of(cells_of(levels), np.array([0.0, 1.0]), Response.linear(), 255, [])
    assert rough.shot * 0.1 + rough.read == pytest.approx(1e-4 + 1e-6, rel=0.12)
    levels = np.rint(255 * noisy_cells(1.0, 0.0, 3 * read)) / 255
    fine = noise_of(cells_of(levels), np.array([0.0, 1.0]), Response.linear(), 255, [])
    assert fine.shot * 0.1 + fine.read == pytest.approx(3 * read, rel=0.3)


@pytest.mark.parametrize(("bending", "finest"), [(0.8, 0.25), (0.3, 0.02), (0.1, 0.0)])
def test_of_smoothed_noise_slopes_tell_all_and_pixels_have_the_mean_of_its_parts(bending: float, finest: float) -> None:
    pixels = noisy_cells(1.0, 4e-4, 1e-6, bending, finest)
    found = noise_of(cells_of(pixels), np.array([0.0, 1.0]), Response.linear(), 65535, [])
    for light in (0.1, 0.8):
        assert found.shot * light + found.read == pytest.approx(4e-4 * light + 1e-6, rel=0.2)
    # Of sixteen degrees the mean counts as slopes do.
    assert found.left == pytest.approx((3 + 3 * bending + 10 * finest) / 16, rel=0.12)


def test_what_moved_in_most_cells_is_no_noise() -> None:
    pixels = noisy_cells(1.0, 4e-4, 1e-6)
    textured = np.arange(pixels.shape[2]) % 4 > 0
    pixels[0][:, textured] = pixels[0][:, textured, ::-1]
    pixels[0, :, ::24] *= np.linspace(0.9, 1.1, 16)  # a sixth of what is flat in the longer exposure
    found = noise_of(cells_of(pixels), np.array([0.0, 1.0]), Response.linear(), 65535, [])
    assert found.shot * 0.2 + found.read == pytest.approx(4e-4 * 0.2 + 1e-6, rel=0.35)


def test_there_is_some_noise_however_clean_and_a_limit_however_noisy_the_pictures() -> None:
    ev = np.array([0.0, 1.0])
    clean = noise_of(cells_of(noisy_cells(1.0, 0.0, 0.0)), ev, Response.linear(), 65535, [])
    assert (clean.shot, clean.read) == (1e-6, 1e-9)
    loud = noise_of(cells_of(noisy_cells(1.0, 3e-2, 3e-3)), ev, Response.linear(), 65535, [])
    assert loud.shot <= 1e-2
    assert loud.read <= 1e-4


def test_noise_of_two_brightnesses_is_not_told_apart() -> None:
    # Brightnesses are half an EV wide: here 0.5 to 0.71 and less than 0.5 of white.
    pixels = noisy_cells(1.0, 1e-5, 1e-6)
    kept = (pixels[1].mean(-1) > 0.4).all(0) & (pixels[1].mean(-1) < 0.69).all(0)
    notes: list[str] = []
    found = noise_of(cells_of(pixels[:, :, kept]), np.array([0.0, 1.0]), Response.linear(), 65535, notes)
    assert found == Noise(Calibration.shot, Calibration.read)
    assert len(notes) == 1


def textured_colours(kind: str, amplitude: float = 0.1, level: float = 1.0, count: int = 300) -> NDArray:
    """Cells (1, 3, cells, 16) of saturated colours with fine texture: what their channels have of it goes by kind."""
    source = np.random.default_rng(0)
    own = level * source.uniform(0.15, 0.7, size=(3, count, 1))
    mean = np.einsum("c,cnp->np", LUMA, own)
    texture = amplitude * mean * source.uniform(-1, 1, size=(count, 16))
    share = {"full": own / mean, "halved": np.ones_like(own), "opposite": 2 - own / mean}[kind]
    return (own + share * texture)[None]


@pytest.mark.parametrize(("kind", "lacking"), [("full", False), ("halved", True), ("opposite", False)])
def test_fine_colours_are_lacking_where_all_channels_have_the_texture_of_the_brightness(
    kind: str, lacking: bool
) -> None:
    assert lacks_fine_colours(cells_of(textured_colours(kind)), 1.0) == lacking
    assert not lacks_fine_colours(cells_of(textured_colours(kind)[:, :, :29]), 1.0)  # too few to tell
    grey = np.repeat(textured_colours(kind)[:, 1:2], 3, axis=1)
    assert not lacks_fine_colours(cells_of(grey), 1.0)


def test_noise_of_single_channels_is_a_fine_colour() -> None:
    pixels = textured_colours("halved", amplitude=0.02)
    noisy = pixels + 0.05 * np.random.default_rng(1).normal(size=pixels.shape)
    assert not lacks_fine_colours(cells_of(noisy), 1.0)


@pytest.mark.parametrize("end", ["black", "white"])
def test_cells_at_black_or_white_do_not_tell_whether_fine_colours_are_lacking(end: str) -> None:
    others = textured_colours("halved", amplitude=0.4)
    if end == "white":
        others += 0.97 * 0.9 + 0.001 - others.max((1, 3), keepdims=True)  # of a white level of 0.9
    else:
        others += 0.01 - others.min((1, 3), keepdims=True)
    pixels = np.concatenate([textured_colours("full"), others], axis=2)
    assert lacks_fine_colours(cells_of(others.clip(0.03, 0.8)), 1.0)
    assert not lacks_fine_colours(cells_of(pixels), 0.9)


def exposed(got: tuple[float, ...], count: int = 200) -> NDArray:
    """Flat cells of linear light by what EV it got, below white in all exposures."""
    light = np.geomspace(0.02, 0.9, count) * np.ones((3, 1)) / 2.0 ** max(got)
    return np.stack([light * 2.0**ev for ev in got])


@pytest.mark.parametrize(
    ("stated", "got", "errors"),
    [
        ((0.0, 1.0, 2.0), (0.0, 1.1, 2.05), (0.0, 0.1, 0.05)),  # each against the one before it
        ((0.0, 1.0, 2.0), (0.0, 0.9, 1.9), (0.0, -0.1, -0.1)),
        ((0.0, 1.0), (0.0, 1.01), (0.0, 0.0)),  # rounding
        ((0.0, 2.0), (0.0, 2.3), (0.0, 0.0)),  # no shutter
        ((0.0, 2.0), (0.0, 1.7), (0.0, 0.0)),
        ((0.0, 0.3), (0.0, 0.5), (0.0, 0.0)),  # more than half of what was stated
    ],
)
def test_errors_of_shutters_add_up_from_the_shortest(
    stated: tuple[float, ...], got: tuple[float, ...], errors: tuple[float, ...]
) -> None:
    ev = np.array(stated)
    found = exposure_errors(cells_of(exposed(got)), ev, LINEAR, 1.0)
    np.testing.assert_allclose(found, errors, atol=0.01)
    few = exposure_errors(cells_of(exposed(got, count=60)), ev, LINEAR, 1.0)  # 180 values of channels
    np.testing.assert_array_equal(few, np.zeros(len(ev)))


def test_exposures_disagree_by_the_typical_size_of_what_they_are_off_by() -> None:
    values = exposed((0.0, 1.0))
    values[1, :, ::2] *= 2**0.1
    values[1, :, 1::2] *= 2**-0.1
    values[1, :, ::10] *= 0.4  # a tenth of it moved
    ev = np.array([0.0, 1.0])
    assert disagreement_of(cells_of(values), ev, Response.linear()) == pytest.approx((0.1,), abs=0.01)
    assert math.isnan(disagreement_of(cells_of(values[:, :, 100:109]), ev, Response.linear())[0])  # of 27 values
