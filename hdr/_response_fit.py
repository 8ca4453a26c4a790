"""A response from light that two exposures share: the equations, and their robust solution.

Where exposures a and b, log2 t_b / t_a = ev apart, show the same light, the logarithm g = log2 f of the response f
obeys g(high) - g(low) = ev for the values low in a and high in b: Debevec and Malik (1997) with the radiances
eliminated, the comparagram of Mann and Picard (1995). One ratio leaves g free up to a period of ev, so g is kept
smooth beside sRGB; where no equation speaks it goes on as it does beside.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from hdr._cells import ENTRIES, STEP, Array, Cells, read_off
from hdr.response import Response, interpolated

_FARTHEST_EV = 3.2  # between exposures that are compared although others lie between
_BINS, _CELLS_IN_BIN = 32, 64
_QUANTILES = 100

# The curve is a broken line over a coordinate that is fine where a response is steep in EV: at black and at white.
_KNOTS = 48
_DARK_SHARE, _BRIGHT_SHARE = 0.4, 0.2  # the rest is even
# The prior: by how many EV the slope may differ from sRGB's over a knot's length, how fast that may change, and a share
# of a shoulder, beyond which white is 1 + 6 times as bright as sRGB would have it. What is smooth is so over the values
# themselves: over the knots, which crowd at white, a curve would turn as far in the last levels as before them, and it
# is there that no two exposures tell.
_SLOPE, _BEND = 0.25, 0.015
_SHOULDER, _SHOULDER_HEIGHT = 0.3, 6.0
_EXPOSURE_ERROR = 0.015  # EV: shutters, apertures and clouds
# Neighbouring cells are not independent, so that each equation counts as an eighth of one.
_INDEPENDENT_SHARE = 0.125
_ITERATIONS = 8
_OUTLYING = 2.0  # standard deviations, where an equation starts to lose its weight
_LEVEL_NOISE = 0.3 * STEP  # of a cell's mean, after rounding and JPEG
_MODEL_ERROR = 0.03  # EV


class Equations(NamedTuple):
    """g(high) - g(low) = ev, one for each entry; the spreads are those of the cells that the values are means of."""

    shorter: NDArray[np.intp]
    """Index of the exposure that ``low`` is from, and below of that of ``high``."""
    longer: NDArray[np.intp]
    low: Array
    high: Array
    low_spread: Array
    high_spread: Array
    ev: Array

    @classmethod
    def concatenated(cls, parts: list[Equations]) -> Equations:
        """The equations of several pairs of exposures as one."""
        return cls(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


class Solution(NamedTuple):
    """What solves the equations best."""

    curve: Array
    """log2 of the light at the levels of an 8-bit file, increasing, on a scale of its own."""
    errors: Array
    """For each exposure, by how many EV it got more light than stated."""
    residual: float
    """Typical |residual| of the equations in EV; NaN without any."""


def equations_of_cells(cells: Cells, ev: Array, curve: Array, black: float, white: float) -> Equations:
    """Equations from the flattest cells of every brightness that both exposures show well.

    A cell with one clipped channel is left out as a whole: cameras mix channels after clipping. Cells are ranked within
    bins of the mean of both exposures, since a choice by one of them favours errors that point one way.
    """
    values = _values_of_mean_light(cells.pixels, curve)
    parts = []
    for a, b in _pairs(ev):
        distance = ev[b] - ev[a]
        usable = (cells.brightest[b] < white - 1.5 * STEP) & (cells.mean[a].min(0) > black + 1.5 * STEP)
        low, high = values[a][:, usable].ravel(), values[b][:, usable].ravel()
        low_spread, high_spread = cells.spread[a][:, usable].ravel(), cells.spread[b][:, usable].ravel()
        shared = (read_off(curve, low) + distance + read_off(curve, high)) / 2
        bins = (np.interp(shared, curve, np.arange(ENTRIES)) * (_BINS / ENTRIES)).astype(np.intp)
        order = np.lexsort((_variance(curve, low, low_spread) + _variance(curve, high, high_spread), bins))
        rank = np.arange(len(order)) - np.searchsorted(bins[order], np.arange(_BINS))[bins[order]]
        kept = order[(rank < _CELLS_IN_BIN) & (shared[order] < read_off(curve, np.array(white - 1.5 * STEP)))]
        columns = (low[kept], high[kept], low_spread[kept], high_spread[kept])
        parts.append(Equations(np.full(len(kept), a), np.full(len(kept), b), *columns, np.full(len(kept), distance)))
    return Equations.concatenated(parts)


def _values_of_mean_light(pixels: Array, curve: Array) -> Array:
    """The value that stands for the mean light of the pixels of a cell.

    Texture and noise move the mean of the values themselves, the more the more a response bends; light is
    proportional to the exposure whatever is in a cell.
    """
    light = interpolated(torch.from_numpy(pixels).double(), torch.from_numpy(curve)).exp2_().mean(-1).numpy()
    values: Array = np.interp(np.log2(light), curve, np.arange(ENTRIES) * STEP)
    return values


def equations_of_ranks(cells: Cells, ev: Array, black: float, white: float) -> Equations:
    """Equations between equal quantiles of two exposures: what moved, also the camera, hardly changes those.

    Source: Grossberg and Nayar, "Determining the camera response from images: what is knowable?", 2003.
    """
    pixels = cells.pixels[..., ::5].reshape(*cells.mean.shape[:2], -1)
    levels = np.sort(pixels, axis=-1)
    ranks = (np.linspace(0.005, 0.995, _QUANTILES) * (levels.shape[-1] - 1)).astype(np.intp)
    parts = []
    for a, b in _pairs(ev):
        low, high = levels[a][:, ranks].ravel(), levels[b][:, ranks].ravel()
        usable = (high < white - 1.5 * STEP) & (low > black + 1.5 * STEP)
        count = int(usable.sum())
        spread = np.full(count, 2 * STEP)
        columns = (low[usable], high[usable], spread, spread)
        parts.append(Equations(np.full(count, a), np.full(count, b), *columns, np.full(count, ev[b] - ev[a])))
    return Equations.concatenated(parts)


def solve(equations: Equations, ev: Array, base: Array, start: Array) -> Solution:
    """Fit curve and errors of the exposures to the equations.

    Iteratively reweighted least squares with the weights of Geman and McClure, from ``start``; the prior draws the
    curve to the shape of ``base`` and the errors to 0. What the errors have of a constant or of a multiple of ``ev`` is
    not theirs: the one is the scale of light, the other a gamma of the response.
    """
    low_at, low_share = _knots(equations.low)
    high_at, high_share = _knots(equations.high)
    at = np.stack([low_at, low_at + 1, high_at, high_at + 1, _KNOTS + equations.shorter, _KNOTS + equations.longer])
    one = np.ones_like(low_share)
    share = np.stack([low_share - 1, -low_share, 1 - high_share, high_share, one, -one])
    target = equations.ev - (read_off(base, equations.high) - read_off(base, equations.low))
    unknowns = _KNOTS + len(ev)
    products = share[:, None] * share[None]
    entries = (at[:, None] * unknowns + at[None]).ravel()
    prior = _prior(ev)
    levels_at, levels_share = _knots(np.arange(ENTRIES) * STEP)
    curve, errors = start, np.zeros(len(ev))
    for _ in range(_ITERATIONS):
        residual = _residual(curve, errors, equations)
        variance = (
            _variance(curve, equations.low, equations.low_spread)
            + _variance(curve, equations.high, equations.high_spread)
            + _MODEL_ERROR**2
        )
        excess = np.square(residual) / variance
        scale = max(1.0, 2.2 * float(np.median(excess))) if len(excess) else 1.0  # 1.48^2: median to deviation
        weight = _INDEPENDENT_SHARE / (variance * scale) / np.square(1 + excess / (scale * _OUTLYING**2))
        normal = np.bincount(entries, (products * weight).ravel(), unknowns**2).reshape(unknowns, unknowns)
        right = np.bincount(at.ravel(), (share * (weight * target)).ravel(), unknowns)
        offset, errors = np.split(np.linalg.solve(normal + prior, right), [_KNOTS])
        curve = base + (1 - levels_share) * offset[levels_at] + levels_share * offset[levels_at + 1]
        rise = 1e-4 * np.arange(ENTRIES)
        curve = np.maximum.accumulate(curve - rise) + rise
    residual = _residual(curve, errors, equations)
    return Solution(curve, errors, float(np.median(np.abs(residual))) if len(residual) else math.nan)


def _prior(ev: Array) -> Array:
    """Matrix of the quadratic form that curve and errors pay before any equation is heard."""
    matrix = np.zeros((_KNOTS + len(ev), _KNOTS + len(ev)))
    matrix[:_KNOTS, :_KNOTS] = _curve_prior()
    # Of many exposures, errors that change slowly from one to the next are too much like the curve's own shape.
    forbidden = np.linalg.qr(np.vander(ev / max(np.abs(ev).max(), 1.0), 2 if len(ev) < 5 else 5))[0]
    matrix[_KNOTS:, _KNOTS:] = np.eye(len(ev)) / _EXPOSURE_ERROR**2 + 1e8 * forbidden @ forbidden.T
    return matrix


@functools.lru_cache(maxsize=1)
def _curve_prior() -> Array:
    """The part of the curve, shape (48, 48): the inverse of the covariance of smooth curves plus some of a shoulder."""
    fine = np.linspace(0, 1, 16 * ENTRIES)
    below, share = _knots(fine)
    values = np.interp(np.arange(_KNOTS), below + share, fine)
    lengths = np.diff((_KNOTS - 1) * _from_black(values))
    slope = np.diff(np.eye(_KNOTS), axis=0) / lengths[:, None]
    between = (lengths[1:] + lengths[:-1]) / 2
    bend = np.diff(slope, axis=0) / between[:, None]
    smooth = slope.T @ (slope * lengths[:, None]) / _SLOPE**2 + bend.T @ (bend * between[:, None]) / _BEND**2
    smooth += 1e-6 * np.eye(_KNOTS)  # light has no scale
    # sRGB after the curve of Reinhard et al. (2002) that compresses the light above white into it.
    light = Response.srgb().to_linear(torch.from_numpy(values)).numpy()
    shoulder = _SHOULDER * np.log2(1 + _SHOULDER_HEIGHT * (1 - light))
    pays = smooth @ shoulder
    prior: Array = smooth - np.outer(pays, pays) / (1 + shoulder @ pays)  # Sherman and Morrison
    return prior


def response_of(curve: Array) -> Response:
    """The response with a log2 of its light at the levels of an 8-bit file; value 0 has no light."""
    light = np.exp2(curve - curve[-1])
    light[0] = 0.0
    return Response.table(light.tolist(), "estimated")


def _pairs(ev: Array) -> Iterator[tuple[int, int]]:
    """Neighbouring exposures, and those with one between if they still share much."""
    for a in range(len(ev) - 1):
        yield a, a + 1
        if a + 2 < len(ev) and ev[a + 2] - ev[a] <= _FARTHEST_EV:
            yield a, a + 2


def _residual(curve: Array, errors: Array, equations: Equations) -> Array:
    ev = equations.ev + errors[equations.longer] - errors[equations.shorter]
    return ev - (read_off(curve, equations.high) - read_off(curve, equations.low))


def _variance(curve: Array, ldr: Array, spread: Array) -> Array:
    """Of g at a cell's mean: texture that moved by part of a cell, noise and rounding."""
    return np.square(read_off(np.gradient(curve) / STEP, ldr)) * (np.square(spread) / 4 + _LEVEL_NOISE**2)


def _knots(ldr: Array) -> tuple[NDArray[np.intp], Array]:
    """The knot below each value, and the share of the one above."""
    bright = -np.log1p(-63 / 64 * ldr) / math.log(64)
    position = (_from_black(ldr) + _BRIGHT_SHARE * (bright - ldr)) * (_KNOTS - 1)
    below = np.minimum(position.astype(np.intp), _KNOTS - 2)
    return below, position - below


def _from_black(ldr: Array) -> Array:
    """A coordinate from 0 to 1 over which responses are smooth: even but for black, where they are steep."""
    dark: Array = np.log1p(64 * ldr) / math.log(65)
    return _DARK_SHARE * dark + (1 - _DARK_SHARE) * ldr
