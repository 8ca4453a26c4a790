"""What cells tell about a camera besides its response: white level, noise, clipping, colours, errors of the shutter."""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np
import torch

from hdr._cells import (
    FEWEST_CELLS,
    FEWEST_EQUATIONS,
    LOWEST_LIGHT,
    OFF_SHARE,
    STEP,
    Array,
    Cells,
    comparable,
    ev_apart,
    log_curve,
    read_off,
    well_exposed,
)
from hdr._extras import extras_named
from hdr.radiometry import LUMA
from hdr.response import Response

with extras_named():
    from scipy.optimize import nnls

SHOT, READ = 2.5e-5, 1e-6
"""Of a camera at ISO 100: the variance of linear light L in [0, 1] is SHOT * L + READ."""

_LEAST_ERROR, _LARGEST_ERROR = 0.02, 0.25  # EV, of a shutter
_LOWEST_WHITE, _SURELY_WHITE = 0.85, 253  # a value, and a level of 255
_FAR_ABOVE_WHITE = 1.2  # EV
_ABOVE_WHITE = 0.5  # EV, of light that clips a channel whatever else is not exact
_LEAST_BELOW_WHITE = 0.25  # EV; where a channel clips by less, hardly anything is lost
_MOST_FLAT_CELLS = 100
# An orthonormal basis of what a cell can show, shape (16, 16): its mean, slopes (2), curvatures (3), and what is finer.
_Y, _X = (axis.flatten() for axis in np.meshgrid(np.arange(4.0), np.arange(4.0), indexing="ij"))
_ORDERS = np.linalg.qr(np.stack([np.ones(16), _X, _Y, _X**2, _X * _Y, _Y**2], 1), mode="complete")[0]
# Medians of chi^2 of as many degrees.
_MEDIAN_OF_FINEST, _MEDIAN_OF_CURVED, _MEDIAN_OF_SLOPES = 9.342, 2.366, 1.386
# Variance by curvatures over that by what is finer: white noise has 1, 36 drawn lossless brackets 1.4 or less, but for
# one with 1.7; 34 of JPEG 1.6 to 8.6, but for three.
_SMOOTHED = 1.5
_UNCLIPPED = (0.02, 0.97)  # values, of the white level above
_COLOUR_KEPT, _COLOUR_NOISE = 0.25, 1.5  # ten JPEG brackets had less of both, and 3 of 38 lossless ones
_TINY = 1e-12
_SHOT_RANGE, _READ_RANGE = (1e-6, 1e-2), (1e-9, 1e-4)
_LEAST_LEFT = 0.05  # of all noise; a cell's mean and slopes alone are a fifth


def white_level_of(cells: Cells, ev: Array, curve: Array, notes: list[str]) -> float:
    """LDR value at which the channels clip: where cells pile up that a shorter exposure shows to be far too bright."""
    top = cells.mean.max(1)
    piles = []
    for channel in range(3):
        ends = []
        for a, b in itertools.combinations(range(len(ev)), 2):
            if b - a > 3 and ev[b] - ev[a] > 3:
                continue
            expected = read_off(curve, cells.mean[a, channel]) + ev[b] - ev[a] - curve[-1]
            end = cells.mean[b, channel]
            over = (expected > _FAR_ABOVE_WHITE) & (top[a] < 0.9) & (cells.spread[b, channel] < 3 * STEP)
            ends.append(end[over & (end > _LOWEST_WHITE)])
        low, high = np.percentile(np.concatenate([*ends, [0.0, 1.0]]), [20, 80])
        if sum(map(len, ends)) >= FEWEST_CELLS and high - low <= 3 * STEP:  # the shoulder of a curve spreads them
            piles.append(float(low))
    bright = top[top > _LOWEST_WHITE]
    if not len(bright):
        return 1.0
    levels = np.rint(bright / STEP).astype(np.intp)
    commonest = int(np.bincount(levels).argmax())
    nothing_above = int((levels > commonest + 2).sum()) < 0.1 * int((levels >= commonest - 2).sum())
    if commonest >= _SURELY_WHITE or not nothing_above:
        return 1.0
    white = round(min(piles, default=1.0) / STEP)
    if abs(white - commonest) <= 3:
        return white * STEP
    if int((np.abs(levels - commonest) <= 1).sum()) > 0.01 * top.size:
        notes.append(
            f"much of the pictures has the value {commonest} of 255 and hardly anything a larger one, but no shorter "
            "exposure tells whether it is clipped there; it is taken as not clipped"
        )
    return 1.0


def channels_clipped_below(cells: Cells, ev: Array, curve: Array, white: float) -> tuple[float, ...]:
    """LDR value at which each channel stays below white where there is light for far more; NaN of one that does not.

    So of raw files that were developed with highlights as they are, and of pictures that were tinted afterwards.
    """
    return tuple(_clipped_below(cells, channel, ev, curve, white) for channel in range(3))


def _clipped_below(cells: Cells, channel: int, ev: Array, curve: Array, white: float) -> float:
    light_of_white = read_off(curve, np.asarray(white))
    ends = []
    for a, b in itertools.combinations(range(len(ev)), 2):
        own, end = cells.mean[[a, b], channel]
        light = read_off(curve, own)
        ends.append(end[(light > math.log2(LOWEST_LIGHT)) & (light + ev[b] - ev[a] > light_of_white + _ABOVE_WHITE)])
    found = np.concatenate(ends)
    if len(found) < FEWEST_CELLS:
        return math.nan
    level = float(np.median(found))
    # What hides a lamp in one exposure may be of one value, too, but something else is brighter.
    above = int((cells.mean[:, channel] > level + 3 * STEP).sum())
    piled_up = np.abs(found - level) <= 3 * STEP
    if piled_up.mean() < 0.8 or above > 0.1 * piled_up.sum():
        return math.nan
    return level if light_of_white - read_off(curve, np.asarray(level)) > _LEAST_BELOW_WHITE else math.nan


class Noise(NamedTuple):
    """The variance of linear light L is shot * L + read."""

    shot: float
    read: float
    left: float = 1.0
    """Share of it that single pixels still have, besides rounding; less where the finest noise was smoothed away."""


def noise_of(cells: Cells, ev: Array, response: Response, levels: int, notes: list[str]) -> Noise:
    """Noise, from what neighbouring exposures differ by within cells.

    By the finest that they differ by: light that has changed softly is no noise. But compression, and whatever else
    smooths a picture in a camera, take the finest noise away and leave the coarse, which then tells all.
    """
    told = _told_of_noise(cells, ev, response, levels)
    if len(told) < 3:
        notes.append("too little is flat and well exposed to measure the noise: that of a camera at ISO 100 is assumed")
        return Noise(SHOT, READ)
    *factors, rounding, finest, curved, slopes = told.T
    smoothed = np.median(curved / (finest + _TINY)) > _SMOOTHED
    variance = slopes if smoothed else finest
    uncertainty = variance + rounding + _TINY  # about as large as itself
    solution, _ = nnls(np.stack(factors, 1) / uncertainty[:, None], (variance - rounding) / uncertainty)
    shot, read = float(np.clip(solution[0], *_SHOT_RANGE)), float(np.clip(solution[1], *_READ_RANGE))
    if not smoothed:
        return Noise(shot, read)
    of_pixels = (10 * finest + 3 * curved + 3 * slopes) / 16  # of a cell's mean as of its slopes
    left = np.median((of_pixels - rounding).clip(0) / (variance - rounding).clip(_TINY))
    return Noise(shot, read, float(np.clip(left, _LEAST_LEFT, 1.0)))


def _told_of_noise(cells: Cells, ev: Array, response: Response, levels: int) -> Array:
    """What cells of one brightness tell, shape (brightnesses, 6).

    The factors of shot and of read noise; the variance by rounding; and all variance three times, of white noise alike:
    by what is finer than a surface of the second order, by what bends that, and by its slopes.
    """
    curve = log_curve(response)
    told = []
    for a in range(len(ev) - 1):
        channel, cell = np.nonzero(well_exposed(cells, a, a + 1, curve, response.white_level))
        bins = np.floor(2 * read_off(curve, cells.mean[a + 1, channel, cell])).astype(np.intp)
        # The flattest cells of every brightness, for texture that moved looks like noise. Flat in the longer exposure:
        # the noise is nearly all of the shorter one, and to choose by that would choose where it is small.
        order = np.lexsort((cells.spread[a + 1, channel, cell], bins))
        by_brightness = np.split(order, np.nonzero(np.diff(bins[order]))[0] + 1)
        chosen = [here[: min(_MOST_FLAT_CELLS, max(FEWEST_CELLS, len(here) // 4))] for here in by_brightness]
        chosen = [one for one in chosen if len(one) >= FEWEST_CELLS]
        if not chosen:
            continue
        flat = np.concatenate(chosen)
        pixels = torch.from_numpy(cells.pixels[a : a + 2, channel[flat], cell[flat]]).double()
        low, high = response.to_linear(pixels).numpy()
        factor = high.mean(-1) / low.mean(-1)
        squares = np.square((high - factor[:, None] * low) @ _ORDERS)
        low_rounding, high_rounding = np.square(response.slope(pixels.mean(-1)).numpy() / levels) / 12
        of_cells = [
            high.mean(-1) * (1 + factor),
            1 + np.square(factor),
            high_rounding + np.square(factor) * low_rounding,
            squares[:, 6:].sum(-1) / _MEDIAN_OF_FINEST,
            squares[:, 3:6].sum(-1) / _MEDIAN_OF_CURVED,
            squares[:, 1:3].sum(-1) / _MEDIAN_OF_SLOPES,
        ]
        parts = np.split(np.stack(of_cells), np.cumsum([len(one) for one in chosen])[:-1], axis=1)
        told += [np.median(of_brightness, axis=1) for of_brightness in parts]
    return np.array(told)


def lacks_fine_colours(cells: Cells, white: float) -> bool:
    """Whether the finest detail of colour is missing that the finest detail of brightness should bring with it.

    Where a colour has a texture, its channels have it in proportion to themselves, and their differences to the
    brightness, too. Of pixels 2 x 2, what changes along both diagonals is all that half the resolution cannot hold.
    """
    darkest = torch.from_numpy(cells.pixels).amin(1).amin(-1).numpy()
    shown = (cells.brightest < _UNCLIPPED[1] * white) & (darkest > _UNCLIPPED[0])
    exposure, cell = np.nonzero(shown)
    if len(cell) < FEWEST_CELLS:
        return False
    pixels = cells.pixels[exposure, :, cell].reshape(-1, 3, 2, 2, 2, 2)  # cell, channel, row, in it, column, in it
    falling, rising = (pixels[..., 0, :, left] + pixels[..., 1, :, 1 - left] for left in (0, 1))  # the two diagonals
    of_channels, own = (falling - rising) / 2, (falling + rising) / 4
    of_brightness, mean = (np.einsum("c,ncts->nts", LUMA, values)[:, None] for values in (of_channels, own))
    expected, found = of_brightness * (own / mean - 1), of_channels - of_brightness
    if np.square(expected).sum() < _TINY * np.square(of_brightness).sum():
        return False  # a grey picture has no colours to lose
    kept = (expected * found).sum() / np.square(expected).sum()
    # Noise is of each channel alone, and shows in the differences; but not in files without colour of that detail.
    noise = np.square(found[:, ::2]).sum() / max(np.square(of_brightness).sum(), _TINY)
    return bool(abs(kept) < _COLOUR_KEPT and noise < _COLOUR_NOISE)


def exposure_errors(cells: Cells, ev: Array, curve: Array, white: float) -> Array:
    """By how many EV each exposure got more light than stated, by a response that is known; 0 where nothing tells."""
    errors = np.zeros(len(ev))
    for a, b in itertools.pairwise(range(len(ev))):
        apart = ev_apart(cells, a, b, curve, comparable(cells, a, b, curve, white)) - (ev[b] - ev[a])
        error = float(np.median(apart)) if apart.size >= FEWEST_EQUATIONS else 0.0
        # Less is rounding; more is no shutter, but another response than was said, or another exposure.
        largest = min(_LARGEST_ERROR, OFF_SHARE * (ev[b] - ev[a]))
        errors[b] = errors[a] + (error if _LEAST_ERROR < abs(error) < largest else 0.0)
    return errors


def disagreement_of(cells: Cells, ev: Array, response: Response) -> tuple[float, ...]:
    curve = log_curve(response)
    result = []
    for a, b in zip(range(len(ev) - 1), range(1, len(ev)), strict=True):
        usable = comparable(cells, a, b, curve, response.white_level)
        error = ev_apart(cells, a, b, curve, usable) - (ev[b] - ev[a])
        result.append(float(np.median(np.abs(error))) if error.size >= FEWEST_CELLS else math.nan)
    return tuple(result)
