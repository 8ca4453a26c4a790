"""What a bracket's own pixels say about its camera: response, white level, noise, errors of the shutter."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from hdr._cells import (
    FEWEST_CELLS,
    LOWEST_LIGHT,
    OFF_SHARE,
    STEEPEST,
    STEP,
    Array,
    Cells,
    Located,
    black_level,
    checked_ev,
    comparable,
    ev_apart,
    log_curve,
    read_off,
    srgb_above_black,
    well_exposed,
)
from hdr._extras import extras_named
from hdr._images import hold_eight_bits
from hdr._response_fit import equations_of_cells, equations_of_ranks, response_of, solve
from hdr.radiometry import LUMA, groups_of_light
from hdr.response import Response

with extras_named():
    from scipy.optimize import nnls

SHOT, READ = 2.5e-5, 1e-6

RESPONSE_ENTRIES = 1021
"""Of a response's table as a tensor: four for each level of an 8-bit file."""

_FEWEST_EQUATIONS = 200
_FAR_FROM_ALIGNED = 0.3  # EV, the typical residual where cells of two exposures show different things
# Of the EV stated, what the right response is off by. Exposures stated at half their distance make of gamma 2.2 nearly
# linear: 0.09.
_AGREEING = 0.05
# Shares of what two exposures show well: of 96 brackets with the right one 0.45 at least, of 64 others 0.33 at most.
_LEAST_AGREEING, _CLEARLY_AGREEING = 0.4, 0.6
_WELL_KNOWN = 0.8  # of the range of values
# EV, between neighbours that tell the response. On real and drawn brackets it was off by 0.1 EV with steps of 4, by
# 0.15 with 5, and by 0.2 and more with 6 to 8, however many cells both show well.
_LARGEST_TELLING_STEP = 5.5
_LARGE_DISAGREEMENT = 0.35  # EV
_LARGEST_RESPONSE_ERROR = 0.2  # EV, in the median of what two exposures share; real brackets had 0.16 at most
_LEAST_ERROR, _LARGEST_ERROR = 0.02, 0.25  # EV, of a shutter
_LOWEST_WHITE, _SURELY_WHITE = 0.85, 253  # a value, and a level of 255
_ALL_BLACK = 8.5 * STEP
_FAR_ABOVE_WHITE = 1.2  # EV
_MOST_FLAT_CELLS = 100
_FAR_BELOW_WHITE = -1.0  # EV
# A clipped channel spoils others if they differ by so many times what they do elsewhere, or by so many EV in one sense.
_SPOILT, _SPOILT_MARGIN, _SPOILT_EV = 2.0, 0.01, 0.04
# An orthonormal basis of the planes over a cell, shape (16, 3).
_PLANE = np.linalg.qr(np.stack([np.ones(16), np.repeat(np.arange(4.0), 4), np.tile(np.arange(4.0), 4)], 1))[0]
_UNCLIPPED = (0.02, 0.97)  # values, of the white level above
_COLOUR_KEPT, _COLOUR_NOISE = 0.25, 1.5  # ten JPEG brackets had less of both, and 3 of 38 lossless ones
_TINY = 1e-12
_SHOT_RANGE, _READ_RANGE = (1e-6, 1e-2), (1e-9, 1e-4)


@dataclass(frozen=True)
class Calibration:
    """How a camera turned light into the values of a bracket.

    Attributes
    ----------
    response
        Light of every value, for all three channels.
    white_level
        LDR value at and above which a channel is clipped; the response's.
    shot, read
        The variance of linear light L in [0, 1] is ``shot * L + read``, without what rounding to levels adds.
    levels
        Quantisation levels of the files: 255, or 65535 for 16 bits.
    channels_mix
        Whether a channel that clips spoils the other two, as where a camera turns the colours of its sensor into those
        of the file; otherwise they are still worth what they say.
    chroma_halved
        Whether the files keep half as many rows, and half as many columns, of colour as of brightness: JPEG of 4:2:0
        does both, as phones write it, and of 4:2:2 the second, as many cameras do. There colours lack fine detail, and
        the dark channel of saturated ones is wrong where brightness has it.
    corrections
        For each exposure, by how many EV it got more light than stated, beside the shortest: the small errors of
        shutters and of clouds that no response explains.
    disagreement
        For each exposure but the shortest, the median of |EV| by which it and the one before disagree, corrected; NaN
        where nothing is well exposed in both, and where both got the same light.
    notes
        What could not be known, in words for the user.
    """

    response: Response
    white_level: float = 1.0
    shot: float = SHOT
    read: float = READ
    levels: int = 255
    channels_mix: bool = True
    chroma_halved: tuple[bool, bool] = (False, False)
    corrections: tuple[float, ...] = ()
    disagreement: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()

    def as_tensors(self) -> tuple[Tensor, Tensor]:
        """What can be put into a batch or a graph.

        Returns
        -------
        tuple of Tensor
            Light of :data:`RESPONSE_ENTRIES` equally spaced values from 0 to 1; and shot, read, levels, white level,
            the typical disagreement, 1 where channels mix, 1 where there are half as many rows of colour, and 1 where
            there are half as many columns. Both float64.
        """
        values = torch.linspace(0, 1, RESPONSE_ENTRIES, dtype=torch.float64)
        camera = (self.shot, self.read, self.levels, self.white_level)
        noise = (*camera, self.typical_disagreement, self.channels_mix, *self.chroma_halved)
        return self.response.to_linear(values), torch.tensor(noise, dtype=torch.float64)

    @classmethod
    def from_tensors(cls, light: Tensor, noise: Tensor) -> Calibration:
        """The calibration that :meth:`as_tensors` put into a batch or a graph; of corrections and notes it has none.

        Examples
        --------
        >>> calibration = Calibration(Response.srgb(), shot=1e-3, chroma_halved=(False, True))
        >>> found = Calibration.from_tensors(*calibration.as_tensors())
        >>> found.shot, found.levels, found.chroma_halved
        (0.001, 255, (False, True))
        """
        shot, read, levels, white_level, disagreement, mixing, rows, columns = noise.tolist()
        return cls(
            Response.table(light),
            white_level,
            shot,
            read,
            round(levels),
            channels_mix=bool(mixing),
            chroma_halved=(bool(rows), bool(columns)),
            disagreement=(disagreement,),
        )

    @property
    def typical_disagreement(self) -> float:
        """Mean of those disagreements that are known, in EV; 0 where none is.

        Each counts for 0.2 at most: no response is that wrong, and more is other light, or something that moved.
        """
        known = [min(ev, _LARGEST_RESPONSE_ERROR) for ev in self.disagreement if math.isfinite(ev)]
        return sum(known) / len(known) if known else 0.0


def calibrate(
    ldr: Tensor,
    exposures: Tensor,
    *,
    response: Response | None = None,
    located: Located | None = None,
    chroma_halved: tuple[bool, bool] | None = None,
) -> Calibration:
    """Estimate response, white level and noise of the camera that took a bracket.

    Parameters
    ----------
    ldr
        Shape (N, 3, H, W), N >= 2, values in [0, 1] of 8-bit files, shortest exposure first.
    exposures
        Shape (N,): positive multiples of the light that each exposure got, ascending. They are taken as true but for
        small errors: response and exposure ratios cannot both be free. Gross errors are told by
        :func:`hdr.exposure_check.check_exposures`. Of those that got the same light the first tells for all; where all
        did, nothing tells a response, and sRGB is taken if none is given.
    response
        Of the camera, where it is known; then only the rest is estimated, and errors of the exposures of up to a
        quarter of an EV each, and up to half of what was stated.
    located
        Called with a first response, tells where the exposures show the same: displacement of shape (N, 2, h, w), in
        pixels of ``ldr`` and at its resolution or a lower one. Without it, pictures that do not lie on each other are
        compared by their ranks, which is less exact, and what moved passes for noise and disagreement.
    chroma_halved
        As in :class:`Calibration`, where the files tell; by default the pixels of 8-bit files do, of both together.

    Returns
    -------
    Calibration
        On what little evidence there is, with notes that say so: nothing is raised because of the pictures' content.

    Raises
    ------
    ValueError
        If shapes, values or exposures are not as above.

    Examples
    --------
    >>> light = torch.rand(3, 96, 128).clamp_min(0.01)
    >>> exposures = torch.tensor([1.0, 4.0, 16.0])
    >>> ldr = (0.1 * light * exposures.view(3, 1, 1, 1)).clamp_max(1).pow(1 / 1.8).mul(255).round() / 255
    >>> calibration = calibrate(ldr, exposures)
    >>> calibration.white_level, calibration.levels, len(calibration.disagreement)
    (1.0, 255, 2)
    """
    ev = checked_ev(ldr, exposures)
    groups = groups_of_light(np.exp2(ev).tolist())
    if len(groups) == 1:
        return _calibrated(ldr, ev, response or Response.srgb(), located, chroma_halved, [_same_light(response)])
    if len(groups) == len(ev):
        return _calibrated(ldr, ev, response, located, chroma_halved, [])
    firsts = [group[0] for group in groups]

    def first_located(camera: Response) -> Tensor:
        assert located is not None
        return located(camera)[firsts]

    one_each = _calibrated(
        ldr[firsts], ev[firsts], response, None if located is None else first_located, chroma_halved, [], firsts
    )
    return _for_all(one_each, groups)


def _same_light(response: Response | None) -> str:
    """What to say of exposures that all got the same light."""
    guessed = "" if response is not None else ", and nothing tells the camera's response: it is taken as sRGB"
    return f"all pictures got the same light: their merge has less noise than one of them, but no more range{guessed}"


def _for_all(of_groups: Calibration, groups: Sequence[Sequence[int]]) -> Calibration:
    """The calibration of all exposures from that of one for each light."""
    corrections = [correction for correction, group in zip(of_groups.corrections, groups, strict=True) for _ in group]
    disagreement = []
    for number, group in enumerate(groups):
        disagreement += [] if number == 0 else [of_groups.disagreement[number - 1]]
        disagreement += [math.nan] * (len(group) - 1)
    return replace(of_groups, corrections=tuple(corrections), disagreement=tuple(disagreement))


def _calibrated(
    ldr: Tensor,
    ev: Array,
    response: Response | None,
    located: Located | None,
    chroma_halved: tuple[bool, bool] | None,
    notes: list[str],
    places: Sequence[int] | None = None,
) -> Calibration:
    """:func:`calibrate` by exposures that are at certain places of the bracket."""
    numbers = [place + 1 for place in (places or range(len(ev)))]
    cells = Cells.of(ldr)
    if (brightest := float(cells.brightest.max())) < _ALL_BLACK:
        notes.append(f"the pictures are black: nothing in them is brighter than {brightest / STEP:.0f} of 255")
    if response is None:
        found = _estimated(cells, ev, ldr, located, notes, numbers)
    else:
        cells = _where_shown(cells, ldr, located, response)
        curve = log_curve(response)
        white = _white_level(cells, ev, curve, notes)
        found = _Found(cells, response, white, _exposure_errors(cells, ev, curve, white))
    cells, errors = found.cells, found.errors
    response = found.response.with_white_level(min(found.white, found.response.white_level))
    # A quarter of the pixels tells as much as all.
    levels = 255 if hold_eight_bits(torch.from_numpy(cells.pixels[..., ::4])) else 65535
    shot, read = _noise(cells, ev, response, levels, notes)
    if chroma_halved is None:
        lacking = levels == 255 and _lacks_fine_colours(cells, response.white_level)
        chroma_halved = lacking, lacking
    disagreement = _disagreement(cells, ev + errors, response)
    notes += [
        f"exposures {numbers[index]} and {numbers[index + 1]}, shortest first, disagree by {ev_apart:.2f} EV: was the "
        "light the same?"
        for index, ev_apart in enumerate(disagreement)
        # By a response that is a guess nobody tells whether the light was another.
        if ev_apart > _LARGE_DISAGREEMENT
        and found.told
        and not (found.too_far and ev[index + 1] - ev[index] > _LARGEST_TELLING_STEP)
    ]
    corrections = tuple((errors - errors[0]).tolist())
    return Calibration(
        response,
        response.white_level,
        shot,
        read,
        levels,
        channels_mix=_channels_mix(cells, ev + errors, response),
        chroma_halved=chroma_halved,
        corrections=corrections,
        disagreement=disagreement,
        notes=tuple(notes),
    )


class _Found(NamedTuple):
    """What is known of a camera once its response is."""

    cells: Cells
    """Where the exposures show the same."""
    response: Response
    white: float
    """The white level that the pixels tell."""
    errors: Array
    """By how many EV each exposure got more light than stated."""
    too_far: bool = False
    """Whether steps are too large to tell a response."""
    told: bool = True
    """Whether the pixels tell the response; otherwise it is a guess, unless it was given."""


def _estimated(
    cells: Cells, ev: Array, ldr: Tensor, located: Located | None, notes: list[str], numbers: Sequence[int]
) -> _Found:
    """The response that the pixels tell, or sRGB where they tell none; and what could not be known."""
    guessed = black_level(cells, ev)
    base, rough = _first_curve(cells, ev, guessed)
    cells = _where_shown(cells, ldr, located, response_of(rough))
    # Black is what keeps its value in one place, and only now it is known where places are.
    black = black_level(cells, ev)
    if black != guessed:
        base, rough = _first_curve(cells, ev, black)
    if black:
        notes.append(f"dark parts keep their value whatever the exposure: light begins above {black / STEP:.0f} of 255")
    white = _white_level(cells, ev, rough, notes)
    equations = equations_of_cells(cells, ev, rough, black, white)
    found = solve(equations, ev, base, rough)
    unaligned = found.residual > _FAR_FROM_ALIGNED
    if unaligned:
        equations = equations_of_ranks(cells, ev, black, white)
        found = solve(equations, ev, base, base)
    telling = int((equations.ev <= _LARGEST_TELLING_STEP).sum())
    too_far = telling < _FEWEST_EQUATIONS <= len(equations.ev)
    if unaligned and not too_far:
        notes.append("the exposures do not lie on each other: their response is less exact than that of aligned ones")
    if len(equations.ev) < _FEWEST_EQUATIONS:
        notes.append("the exposures share too little to tell the camera's response: it is taken as sRGB")
        return _Found(cells, Response.srgb(), white, np.zeros(len(ev)), too_far, told=False)
    if too_far:
        notes.append(_far_apart(ev, numbers))
    elif equations.high.max() < _WELL_KNOWN * white:
        notes.append(
            f"no two exposures share values above {equations.high.max() / STEP:.0f} of 255: there the response goes on "
            "as it does below"
        )
    return _Found(cells, response_of(found.curve), white, found.errors, too_far)


def agreeing_response(
    ldr: Tensor, exposures: Tensor, candidates: Sequence[Response], *, located: Located | None = None
) -> Response | None:
    """The one of several responses by which exposures agree best.

    Parameters
    ----------
    ldr, exposures, located
        As for :func:`calibrate`.
    candidates
        Responses that the files may have, such as gamma 2.2, sRGB and linear; the likeliest first.

    Returns
    -------
    Response or None
        The first if nothing tells; None if by none two fifths of what exposures show well is as far apart as stated, to
        a twentieth.

    Raises
    ------
    ValueError
        If shapes, values or exposures are not as for :func:`calibrate`.

    Examples
    --------
    >>> light = torch.rand(3, 96, 128).clamp_min(0.01)
    >>> exposures = torch.tensor([1.0, 2.0, 4.0])
    >>> ldr = 0.25 * light * exposures.view(3, 1, 1, 1)  # linear
    >>> agreeing_response(ldr, exposures, [Response.gamma(2.2), Response.srgb(), Response.linear()]).name
    'linear'
    """
    ev = checked_ev(ldr, exposures)
    cells = Cells.of(ldr)
    shares = _agreeing_shares([cells] * len(candidates), ev, candidates)
    if np.isnan(shares).all():
        return candidates[0]
    # Stated at half their distance, a mistake that is easily made, exposures of sRGB files are nearly linear.
    at_twice = _agreeing_shares([cells] * len(candidates), 2 * ev, candidates)
    if located is not None and np.nanmax(shares) <= _CLEARLY_AGREEING:
        moved = [_where_shown(cells, ldr, located, candidate) for candidate in candidates]
        shares = np.fmax(shares, _agreeing_shares(moved, ev, candidates))
        at_twice = np.fmax(at_twice, _agreeing_shares(moved, 2 * ev, candidates))
    sure = np.nanmax(shares) > max(_LEAST_AGREEING, *np.nan_to_num(at_twice))
    return candidates[int(np.nanargmax(shares))] if sure else None


def _agreeing_shares(cells: Sequence[Cells], ev: Array, responses: Sequence[Response]) -> Array:
    """Of what neighbours show well, how much is as far apart as stated by each response; NaN if nothing tells."""
    return np.array([_agreeing_share(one, ev, response) for one, response in zip(cells, responses, strict=True)])


def _agreeing_share(cells: Cells, ev: Array, response: Response) -> float:
    """The same by one response: not by how much they differ, for what has moved differs by any."""
    curve = log_curve(response)
    shares = []
    for a, b in itertools.pairwise(group[0] for group in groups_of_light(np.exp2(ev).tolist())):
        usable = comparable(cells, a, b, curve, response.white_level)
        off = np.abs(ev_apart(cells, a, b, curve, usable) - (ev[b] - ev[a]))
        if off.size >= FEWEST_CELLS:
            shares.append(float((off < _AGREEING * (ev[b] - ev[a])).mean()))
    return sum(shares) / len(shares) if shares else math.nan


def _far_apart(ev: Array, numbers: Sequence[int]) -> str:
    """What to say of a response that only neighbours tell that are far apart."""
    steps = np.diff(ev)
    index = int(steps.argmax())
    return (
        f"exposures {numbers[index]} and {numbers[index + 1]}, shortest first, are {steps.max():.1f} EV apart: what "
        "both show is nearly black in one and nearly white in the other, so that the camera's response between is a "
        "guess, usually off by 0.2 EV or more. Take steps of 2 or 3 EV, or give the response of another bracket of "
        "this camera (--response FILE, as --save-response writes it)"
    )


def _first_curve(cells: Cells, ev: Array, black: float) -> tuple[Array, Array]:
    """The sRGB curve above black, and the one that ranks make of it, whatever moved."""
    base = srgb_above_black(black)
    return base, solve(equations_of_ranks(cells, ev, black, 0.92), ev, base, base).curve


def _where_shown(cells: Cells, ldr: Tensor, located: Located | None, response: Response) -> Cells:
    """The cells read where each exposure shows them, if that is known and enough of them were seen by all."""
    if located is None:
        return cells
    moved = Cells.of(ldr, located(response))
    return moved if moved.pixels.shape[2] >= FEWEST_CELLS else cells


def _white_level(cells: Cells, ev: Array, curve: Array, notes: list[str]) -> float:
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


def _noise(cells: Cells, ev: Array, response: Response, levels: int, notes: list[str]) -> tuple[float, float]:
    """Shot and read noise, from what neighbouring exposures differ by within cells beyond a plane."""
    curve = log_curve(response)
    rows, variances, totals = [], [], []
    for a in range(len(ev) - 1):
        channel, cell = np.nonzero(well_exposed(cells, a, a + 1, curve, response.white_level))
        bins = np.floor(2 * read_off(curve, cells.mean[a + 1, channel, cell])).astype(np.intp)
        # The flattest cells of every brightness, for texture that moved looks like noise. Flat in the shorter exposure:
        # to choose by the difference itself would choose small noise.
        order = np.lexsort((cells.spread[a, channel, cell], bins))
        by_brightness = np.split(order, np.nonzero(np.diff(bins[order]))[0] + 1)
        chosen = [here[: min(_MOST_FLAT_CELLS, max(FEWEST_CELLS, len(here) // 4))] for here in by_brightness]
        chosen = [one for one in chosen if len(one) >= FEWEST_CELLS]
        if not chosen:
            continue
        flat = np.concatenate(chosen)
        pixels = torch.from_numpy(cells.pixels[a : a + 2, channel[flat], cell[flat]]).double()
        low, high = response.to_linear(pixels).numpy()
        factor = high.mean(-1) / low.mean(-1)
        difference = high - factor[:, None] * low
        difference = difference - difference @ _PLANE @ _PLANE.T
        squares = np.square(difference).sum(-1) / 12.34  # the median of chi^2, 16 - 3 degrees
        low_rounding, high_rounding = np.square(response.slope(pixels.mean(-1)).numpy() / levels) / 12
        roundings = high_rounding + np.square(factor) * low_rounding
        told = np.stack([high.mean(-1) * (1 + factor), 1 + np.square(factor), squares, roundings])
        for of_brightness in np.split(told, np.cumsum([len(one) for one in chosen])[:-1], axis=1):
            *row, variance, rounding = np.median(of_brightness, axis=1)
            rows.append(row)
            variances.append(variance - rounding)
            totals.append(variance + rounding + 1e-12)  # about as uncertain as it is large
    if len(rows) < 3:
        notes.append("too little is flat and well exposed to measure the noise: that of a camera at ISO 100 is assumed")
        return SHOT, READ
    solution, _ = nnls(np.array(rows) / np.array(totals)[:, None], np.array(variances) / totals)
    return float(np.clip(solution[0], *_SHOT_RANGE)), float(np.clip(solution[1], *_READ_RANGE))


def _channels_mix(cells: Cells, ev: Array, response: Response) -> bool:
    """Whether a channel is wrong where another one is clipped; unless it is known not to be, it is.

    Where a longer exposure clips a channel, a shorter one tells what the others should be.
    """
    curve, clipping = log_curve(response), response.white_level - 1.5 * STEP
    steps = np.gradient(curve)
    highest = torch.from_numpy(cells.pixels).amax(-1).numpy()
    beside_clipped: list[Array] = []
    elsewhere: list[Array] = []
    for a, b in itertools.combinations(range(len(ev)), 2):
        fine = cells.brightest[a] < clipping
        clipped = cells.brightest[b] >= clipping
        expected = read_off(curve, cells.mean[a]) + ev[b] - ev[a]
        # Itself far from white, all over the cell, and told by both exposures to a part of what is looked for.
        usable = fine & (highest[b] < clipping) & (expected < _FAR_BELOW_WHITE)
        usable &= expected > math.log2(LOWEST_LIGHT)
        usable &= read_off(steps, cells.mean[a]) < STEEPEST
        for found, here in ((beside_clipped, clipped), (elsewhere, ~clipped)):
            found.append(ev_apart(cells, a, b, curve, usable & here) - (ev[b] - ev[a]))
    wrong, right = (np.concatenate(parts) for parts in (beside_clipped, elsewhere))
    if min(len(wrong), len(right)) < FEWEST_CELLS:
        return True
    # Grey is spoilt most and strong colours hardly: the larger differences tell, too.
    spoilt, usual = (np.quantile(np.abs(one), [0.5, 0.8, 0.9]) for one in (wrong, right))
    return bool((spoilt > _SPOILT * usual + _SPOILT_MARGIN).any() or abs(np.median(wrong)) > _SPOILT_EV)


def _lacks_fine_colours(cells: Cells, white: float) -> bool:
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


def _exposure_errors(cells: Cells, ev: Array, curve: Array, white: float) -> Array:
    """By how many EV each exposure got more light than stated, by a response that is known; 0 where nothing tells."""
    errors = np.zeros(len(ev))
    for a, b in itertools.pairwise(range(len(ev))):
        apart = ev_apart(cells, a, b, curve, comparable(cells, a, b, curve, white)) - (ev[b] - ev[a])
        error = float(np.median(apart)) if apart.size >= _FEWEST_EQUATIONS else 0.0
        # Less is rounding; more is no shutter, but another response than was said, or another exposure.
        largest = min(_LARGEST_ERROR, OFF_SHARE * (ev[b] - ev[a]))
        errors[b] = errors[a] + (error if _LEAST_ERROR < abs(error) < largest else 0.0)
    return errors


def _disagreement(cells: Cells, ev: Array, response: Response) -> tuple[float, ...]:
    curve = log_curve(response)
    result = []
    for a, b in zip(range(len(ev) - 1), range(1, len(ev)), strict=True):
        usable = comparable(cells, a, b, curve, response.white_level)
        error = ev_apart(cells, a, b, curve, usable) - (ev[b] - ev[a])
        result.append(float(np.median(np.abs(error))) if error.size >= FEWEST_CELLS else math.nan)
    return tuple(result)
