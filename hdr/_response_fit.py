"""A response from light that two exposures share: the equations, and their robust solution.

Where exposures a and b, log2 t_b / t_a = ev apart, show the same light, the logarithm g = log2 f of the response f
obeys g(high) - g(low) = ev for the values low in a and high in b: Debevec and Malik (1997) with the radiances
eliminated, the comparagram of Mann and Picard (1995). One ratio leaves g free up to a period of ev, so g is kept to
what cameras have (:mod:`hdr._response_prior`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from hdr._cells import ENTRIES, STEP, Array, Cells, read_off
from hdr._response_prior import KNOTS, curve_prior, knots
from hdr.response import Response, interpolated

_FARTHEST_EV = 3.2  # between exposures that are compared although others lie between
_BINS, _CELLS_IN_BIN = 32, 64
_QUANTILES = 100
_HARDLY_WHITE = 0.6 * STEP  # below white: what rounds to less than that
_OF_MEDIAN = 1.25  # standard deviation of a median, over that of a mean
_BELOW_BY_DEVIATION = 0.16  # quantile, a standard deviation below the median

_EXPOSURE_ERROR = 0.015  # EV: shutters, apertures and clouds
# Neighbouring cells are not independent, so that each equation counts as an eighth of one.
_INDEPENDENT_SHARE = 0.125
# Standard deviations, where an equation starts to lose its weight, step by step: what is far from the curve at first
# may be right about it.
_OUTLYING = (2.0, 2.0, 2.0, 1.5, 1.0, 1.0, 1.0, 1.0)
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
    def of_pair(
        cls, pair: tuple[int, int], low: Array, high: Array, low_spread: Array, high_spread: Array, ev: float
    ) -> Equations:
        """Those of two exposures that are so many EV apart."""
        shorter, longer = (np.full(len(low), index) for index in pair)
        return cls(shorter, longer, low, high, low_spread, high_spread, np.full(len(low), ev))

    def taken(self, which: NDArray[np.generic]) -> Equations:
        """Some of the equations, by their numbers or a mask."""
        return Equations(*(column[which] for column in self))

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

    A cell with one clipped channel is left out as a whole: cameras mix channels after clipping.
    """
    values = _values_of_mean_light(cells.pixels, curve)
    parts = []
    for a, b in _pairs(ev):
        distance = ev[b] - ev[a]
        usable = (cells.brightest[b] < white - 1.5 * STEP) & (cells.mean[a].min(0) > black + 1.5 * STEP)
        low, high = values[a][:, usable].ravel(), values[b][:, usable].ravel()
        low_spread, high_spread = cells.spread[a][:, usable].ravel(), cells.spread[b][:, usable].ravel()
        of_pair = Equations.of_pair((a, b), low, high, low_spread, high_spread, distance)
        parts.append(_flattest(of_pair, curve, white))
    return Equations.concatenated(parts)


def equations_of_partly_clipped(cells: Cells, ev: Array, curve: Array, black: float, white: float) -> Equations:
    """Equations from cells of which some pixels are clipped in the longer exposure, by the medians of their pixels.

    Few cells that are nearly white have no clipped pixel, and without any the response between them and white would be
    a guess. A median is right whatever the brighter pixels are. Of the channels that is taken which the shorter
    exposure shows brightest: where it is not clipped no other one is, and none has spoilt it.
    """
    parts = []
    for a, b in _pairs(ev):
        partly = (cells.brightest[b] >= white - 1.5 * STEP) & (cells.brightest[a] < white - 1.5 * STEP)
        brightest = cells.mean[a][:, partly].argmax(0)
        ours, theirs = (cells.pixels[index][:, partly][brightest, np.arange(len(brightest))] for index in (a, b))
        low, high = np.median(ours, axis=-1), np.median(theirs, axis=-1)
        # Of the brighter half nothing is known.
        spreads = _OF_MEDIAN * ours.std(-1), _OF_MEDIAN * (high - np.quantile(theirs, _BELOW_BY_DEVIATION, axis=-1))
        of_pair = Equations.of_pair((a, b), low, high, *spreads, ev[b] - ev[a])
        told = (high < white - _HARDLY_WHITE) & (low > black + 1.5 * STEP)
        parts.append(_flattest(of_pair.taken(told), curve, white, _HARDLY_WHITE))
    return Equations.concatenated(parts)


def _flattest(equations: Equations, curve: Array, white: float, below_white: float = 1.5 * STEP) -> Equations:
    """Those of the flattest cells of every brightness, up to white.

    Cells are ranked within bins of the mean of both exposures, since a choice by one of them favours errors that point
    one way.
    """
    low, high = equations.low, equations.high
    shared = (read_off(curve, low) + equations.ev + read_off(curve, high)) / 2
    bins = (np.interp(shared, curve, np.arange(ENTRIES)) * (_BINS / ENTRIES)).astype(np.intp)
    variance = _variance(curve, low, equations.low_spread) + _variance(curve, high, equations.high_spread)
    order = np.lexsort((variance, bins))
    rank = np.arange(len(order)) - np.searchsorted(bins[order], np.arange(_BINS))[bins[order]]
    below = shared[order] < read_off(curve, np.array(white - below_white))
    return equations.taken(order[(rank < _CELLS_IN_BIN) & below])


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
        spread = np.full(int(usable.sum()), 2 * STEP)
        parts.append(Equations.of_pair((a, b), low[usable], high[usable], spread, spread, ev[b] - ev[a]))
    return Equations.concatenated(parts)


def solve(equations: Equations, ev: Array, base: Array, start: Array) -> Solution:
    """Fit curve and errors of the exposures to the equations.

    Iteratively reweighted least squares with the weights of Geman and McClure, from ``start``; the prior draws the
    curve to the shape of ``base`` and the errors to 0. What the errors have of a constant or of a multiple of ``ev`` is
    not theirs: the one is the scale of light, the other a gamma of the response.
    """
    low_at, low_share = knots(equations.low)
    high_at, high_share = knots(equations.high)
    at = np.stack([low_at, low_at + 1, high_at, high_at + 1, KNOTS + equations.shorter, KNOTS + equations.longer])
    one = np.ones_like(low_share)
    share = np.stack([low_share - 1, -low_share, 1 - high_share, high_share, one, -one])
    target = equations.ev - (read_off(base, equations.high) - read_off(base, equations.low))
    unknowns = KNOTS + len(ev)
    products = share[:, None] * share[None]
    entries = (at[:, None] * unknowns + at[None]).ravel()
    prior = _prior(ev)
    levels_at, levels_share = knots(np.arange(ENTRIES) * STEP)
    curve, errors = start, np.zeros(len(ev))
    for outlying in _OUTLYING:
        residual = _residual(curve, errors, equations)
        variance = (
            _variance(curve, equations.low, equations.low_spread)
            + _variance(curve, equations.high, equations.high_spread)
            + _MODEL_ERROR**2
        )
        excess = np.square(residual) / variance
        scale = max(1.0, 2.2 * float(np.median(excess))) if len(excess) else 1.0  # 1.48^2: median to deviation
        weight = _INDEPENDENT_SHARE / (variance * scale) / np.square(1 + excess / (scale * outlying**2))
        normal = np.bincount(entries, (products * weight).ravel(), unknowns**2).reshape(unknowns, unknowns)
        right = np.bincount(at.ravel(), (share * (weight * target)).ravel(), unknowns)
        offset, errors = np.split(np.linalg.solve(normal + prior, right), [KNOTS])
        curve = base + (1 - levels_share) * offset[levels_at] + levels_share * offset[levels_at + 1]
        rise = 1e-4 * np.arange(ENTRIES)
        curve = np.maximum.accumulate(curve - rise) + rise
    residual = _residual(curve, errors, equations)
    return Solution(curve, errors, float(np.median(np.abs(residual))) if len(residual) else math.nan)


def _prior(ev: Array) -> Array:
    """Matrix of the quadratic form that curve and errors pay before any equation is heard."""
    matrix = np.zeros((KNOTS + len(ev), KNOTS + len(ev)))
    matrix[:KNOTS, :KNOTS] = curve_prior()
    # Of many exposures, errors that change slowly from one to the next are too much like the curve's own shape.
    forbidden = np.linalg.qr(np.vander(ev / max(np.abs(ev).max(), 1.0), 2 if len(ev) < 5 else 5))[0]
    matrix[KNOTS:, KNOTS:] = np.eye(len(ev)) / _EXPOSURE_ERROR**2 + 1e8 * forbidden @ forbidden.T
    return matrix


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
