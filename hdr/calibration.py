"""What a bracket's own pixels say about its camera: response, white level, noise, and whether the exposures fit."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import nnls
from torch import Tensor

from hdr._images import check_images, hold_eight_bits
from hdr._response_fit import (
    CELL,
    STEP,
    Array,
    Cells,
    equations_of_cells,
    equations_of_ranks,
    log_curve,
    read_off,
    response_of,
    solve,
    srgb_above_black,
)
from hdr.radiometry import LUMA
from hdr.response import Response

Located = Callable[[Response], Tensor]
"""From a first response to where the exposures show what one of them does: displacement (N, 2, h, w) in pixels."""

SHOT, READ = 2.5e-5, 1e-6

RESPONSE_ENTRIES = 1021
"""Of a response's table as a tensor: four for each level of an 8-bit file."""

_FEWEST_CELLS = 30
_FEWEST_EQUATIONS = 200
_FAR_FROM_ALIGNED = 0.3  # EV, the typical residual where cells of two exposures show different things
_LOWEST_LIGHT = 0.002  # 9 EV below white an 8-bit file has a handful of levels left
_STEEPEST = 0.15  # EV from one level to the next, where rounding decides what two exposures differ by

_SAME_SHARE = 0.25  # of the EV stated: less than this is the same light
_OFF_SHARE = 0.5  # of the EV stated: what is off by more was not exposed as stated
_CONTRAST = 1.75  # times as many EV as sRGB would show: what cameras' own curves may make of them
_LEAST_SIMILARITY = 0.42  # of 1500 pairs of different pictures 3 came above it, of brackets none below
_JUDGED_EV, _FARTHEST_EV = 5.0, 8.0  # farther apart, what both show well is a choice of what moved; or nothing
_MIDDLE = (0.15, 0.85)
_COMPARED_SIDE = 40
_AGREEING_EV, _AGREEING_SHARE = 0.4, 0.5  # of cells, of which most would differ by more if the exposures were others
# The same, of cells where they lie: behind what is large and moves, much stays. Of 600 pairs of different pictures none
# had more than a fifth.
_CLOSELY_AGREEING_EV, _CLOSELY_AGREEING_SHARE = 0.15, 0.25
_LEAST_SHARED = 0.02  # of all cells; what is less may all have moved
_BRIGHTNESSES = 8  # parts of what two exposures share
_LARGEST_MISFIT, _MUCH_BETTER = 0.1, 0.3  # EV, of a response that is no other's; times that of any other
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
    chroma_subsampled
        Whether the files keep colour at half the resolution of brightness, as JPEG usually does: in saturated colours
        the dark channel is wrong where brightness has fine detail.
    corrections
        For each exposure, by how many EV it got more light than stated, beside the shortest: the small errors of
        shutters and of clouds that no response explains.
    disagreement
        For each exposure but the shortest, the median of |EV| by which it and the one before disagree, corrected; NaN
        where nothing is well exposed in both.
    notes
        What could not be known, in words for the user.
    """

    response: Response
    white_level: float = 1.0
    shot: float = SHOT
    read: float = READ
    levels: int = 255
    channels_mix: bool = True
    chroma_subsampled: bool = False
    corrections: tuple[float, ...] = ()
    disagreement: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()

    def as_tensors(self) -> tuple[Tensor, Tensor]:
        """What can be put into a batch or a graph.

        Returns
        -------
        tuple of Tensor
            Light of :data:`RESPONSE_ENTRIES` equally spaced values from 0 to 1; and shot, read, levels, white level,
            the typical disagreement, 1 where channels mix, and 1 where chroma is subsampled. Both float64.
        """
        values = torch.linspace(0, 1, RESPONSE_ENTRIES, dtype=torch.float64)
        camera = (self.shot, self.read, self.levels, self.white_level)
        noise = (*camera, self.typical_disagreement, self.channels_mix, self.chroma_subsampled)
        return self.response.to_linear(values), torch.tensor(noise, dtype=torch.float64)

    @property
    def typical_disagreement(self) -> float:
        """Mean of those disagreements that are known, in EV; 0 where none is.

        Each counts for 0.2 at most: no response is that wrong, and more is other light, or something that moved.
        """
        known = [min(ev, _LARGEST_RESPONSE_ERROR) for ev in self.disagreement if math.isfinite(ev)]
        return sum(known) / len(known) if known else 0.0


def calibrate(
    ldr: Tensor, exposures: Tensor, *, response: Response | None = None, located: Located | None = None
) -> Calibration:
    """Estimate response, white level and noise of the camera that took a bracket.

    Parameters
    ----------
    ldr
        Shape (N, 3, H, W), N >= 2, values in [0, 1] of 8-bit files, shortest exposure first.
    exposures
        Shape (N,): positive multiples of the light that each exposure got, ascending. They are taken as true but for
        small errors: response and exposure ratios cannot both be free. :func:`check_exposures` tells gross errors.
    response
        Of the camera, where it is known; then only the rest is estimated, and errors of the exposures of up to a
        quarter of an EV each, and up to half of what was stated.
    located
        Called with a first response, tells where the exposures show the same: displacement of shape (N, 2, h, w), in
        pixels of ``ldr`` and at its resolution or a lower one. Without it, pictures that do not lie on each other are
        compared by their ranks, which is less exact, and what moved passes for noise and disagreement.

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
    ev = _checked(ldr, exposures)
    cells = Cells.of(ldr)
    notes: list[str] = []
    if (brightest := float(cells.brightest.max())) < _ALL_BLACK:
        notes.append(f"the pictures are black: nothing in them is brighter than {brightest / STEP:.0f} of 255")
    errors: Array = np.zeros(len(ev))
    too_far = False
    if response is None:
        guessed = _black_level(cells, ev)
        base, rough = _first_curve(cells, ev, guessed)
        cells = _where_shown(cells, ldr, located, response_of(rough))
        # Black is what keeps its value in one place, and only now it is known where places are.
        black = _black_level(cells, ev)
        if black != guessed:
            base, rough = _first_curve(cells, ev, black)
        if black:
            notes.append(
                f"dark parts keep their value whatever the exposure: light begins above {black / STEP:.0f} of 255"
            )
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
            notes.append(
                "the exposures do not lie on each other: their response is less exact than that of aligned ones"
            )
        if len(equations.ev) < _FEWEST_EQUATIONS:
            notes.append("the exposures share too little to tell the camera's response: it is taken as sRGB")
            response = Response.srgb()
        else:
            response = response_of(found.curve)
            if too_far:
                notes.append(_far_apart(ev))
            elif equations.high.max() < _WELL_KNOWN * white:
                notes.append(
                    f"no two exposures share values above {equations.high.max() / STEP:.0f} of 255: there the response "
                    "goes on as it does below"
                )
            errors = found.errors
    else:
        cells = _where_shown(cells, ldr, located, response)
        white = _white_level(cells, ev, log_curve(response), notes)
        errors = _exposure_errors(cells, ev, log_curve(response), white)
    response = response.with_white_level(min(white, response.white_level))
    # A quarter of the pixels tells as much as all.
    levels = 255 if hold_eight_bits(torch.from_numpy(cells.pixels[..., ::4])) else 65535
    shot, read = _noise(cells, ev, response, levels, notes)
    disagreement = _disagreement(cells, ev + errors, response)
    notes += [
        f"exposures {number} and {number + 1}, shortest first, disagree by {ev_apart:.2f} EV: was the light the same?"
        for number, ev_apart in enumerate(disagreement, start=1)
        # By a response that is a guess nobody tells whether the light was another.
        if ev_apart > _LARGE_DISAGREEMENT and not (too_far and ev[number] - ev[number - 1] > _LARGEST_TELLING_STEP)
    ]
    corrections = tuple((errors - errors[0]).tolist())
    return Calibration(
        response,
        response.white_level,
        shot,
        read,
        levels,
        channels_mix=_channels_mix(cells, ev + errors, response),
        chroma_subsampled=levels == 255 and _chroma_subsampled(cells, response.white_level),
        corrections=corrections,
        disagreement=disagreement,
        notes=tuple(notes),
    )


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
        The first if nothing tells; None if exposures are off by more than 0.1 EV by each, and by none much less.

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
    ev = _checked(ldr, exposures)
    cells = _where_shown(Cells.of(ldr), ldr, located, candidates[0])
    misfits = np.nan_to_num([_misfit(cells, ev, candidate) for candidate in candidates], nan=math.inf)
    if not np.isfinite(misfits).any():
        return candidates[0]
    first, *others = np.argsort(misfits, kind="stable").tolist()
    # What moved adds to all.
    beyond_doubt = all(misfits[first] < _MUCH_BETTER * misfits[other] for other in others)
    return candidates[first] if misfits[first] < _LARGEST_MISFIT or beyond_doubt else None


def _misfit(cells: Cells, ev: Array, response: Response) -> float:
    """By how many EV neighbours are off by a response, in the mean over all brightnesses; NaN if nothing tells.

    Medians: noise and what moved lie on both sides, and a wrong response on one.
    """
    curve = log_curve(response)
    off: list[float] = []
    for a, b in itertools.pairwise(range(len(ev))):
        usable = _well_exposed(cells, a, b, curve, response.white_level)
        by_brightness = np.argsort(cells.mean[b][usable], kind="stable")
        if len(by_brightness) < _FEWEST_CELLS:
            continue
        apart = _ev_apart(cells, a, b, curve, usable)[by_brightness] - (ev[b] - ev[a])
        parts = np.array_split(apart, min(_BRIGHTNESSES, len(apart) // _FEWEST_CELLS))
        off += [abs(float(np.median(part))) for part in parts]
    return sum(off) / len(off) if off else math.nan


def _far_apart(ev: Array) -> str:
    """What to say of a response that only neighbours tell that are far apart."""
    steps = np.diff(ev)
    number = int(steps.argmax()) + 1
    return (
        f"exposures {number} and {number + 1}, shortest first, are {steps.max():.1f} EV apart: what both show is "
        "nearly black in one and nearly white in the other, so that the camera's response between is a guess, usually "
        "off by 0.2 EV or more. Take steps of 2 or 3 EV, or give the response of another bracket of this camera "
        "(--response FILE, as --save-response writes it)"
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
    return moved if moved.pixels.shape[2] >= _FEWEST_CELLS else cells


class ExposureMismatchError(ValueError):
    """The exposures that were stated contradict the pixels."""


@dataclass(frozen=True)
class ExposureFinding:
    """What two neighbouring exposures of a bracket say about the light that they got.

    Attributes
    ----------
    pictures
        Indices of the shorter and the longer exposure.
    stated, measured
        By how many EV the second has more light than the first; measured is NaN where nothing is well exposed in both.
    problem
        How they contradict each other, in words; empty if they do not.
    """

    pictures: tuple[int, int]
    stated: float
    measured: float
    problem: str = ""


def exposure_findings(
    ldr: Tensor,
    exposures: Tensor,
    response: Response | None = None,
    names: Sequence[str] | None = None,
    *,
    located: Located | None = None,
) -> tuple[ExposureFinding, ...]:
    """Compare the exposures that were stated with the pixels, neighbour by neighbour.

    Parameters
    ----------
    ldr, exposures
        As for :func:`calibrate`.
    response
        By which light is measured; sRGB if None. A camera's own contrast is forgiven: up to 1.75 times as many EV as
        stated, if all neighbours have about the same factor.
    names
        What to call the pictures.
    located
        As for :func:`calibrate`; asked only about what seems to contradict the exposures. Pictures that agree with them
        where they show the same do not.

    Returns
    -------
    tuple of ExposureFinding
        N - 1 of them.

    Raises
    ------
    ValueError
        If shapes, values or exposures are not as above.
    """
    ev = _checked(ldr, exposures)
    cells = Cells.of(ldr)
    curve = srgb_above_black(_black_level(cells, ev)) if response is None else log_curve(response)
    white = 1.0 if response is None else response.white_level
    neighbours = [(a, a + 1) for a in range(len(ev) - 1)]
    stated = [float(ev[b] - ev[a]) for a, b in neighbours]
    measured = [
        _measured_ev(cells, a, b, curve, white) if s <= _JUDGED_EV else math.nan
        for (a, b), s in zip(neighbours, stated, strict=True)
    ]
    known = [m / s for m, s in zip(measured, stated, strict=True) if m > _SAME_SHARE * s]
    contrast = float(np.clip(np.median(known), 1 / _CONTRAST, _CONTRAST)) if known else 1.0
    called = list(names) if names is not None else [f"picture {number}" for number in range(1, len(ev) + 1)]
    findings = []
    for (a, b), s, m in zip(neighbours, stated, measured, strict=True):
        words = _problem(s, m, contrast, _similarity(cells, a, b, white), bool(torch.equal(ldr[a], ldr[b])))
        findings.append(ExposureFinding((a, b), s, m, f"{called[a]} and {called[b]} {words}" if words else ""))
    closely, on_the_whole = (_CLOSELY_AGREEING_EV, _CLOSELY_AGREEING_SHARE), (_AGREEING_EV, _AGREEING_SHARE)
    findings = [_unless_agreeing(finding, cells, curve, white, *closely) for finding in findings]
    if located is not None and any(finding.problem for finding in findings):
        moved = Cells.of(ldr, located(response or Response.srgb()))
        findings = [_unless_agreeing(finding, moved, curve, white, *on_the_whole) for finding in findings]
    return tuple(findings)


def check_exposures(
    ldr: Tensor,
    exposures: Tensor,
    response: Response | None = None,
    names: Sequence[str] | None = None,
    *,
    located: Located | None = None,
) -> None:
    """Refuse exposures that contradict the pixels; arguments as for :func:`exposure_findings`.

    Raises
    ------
    ExposureMismatchError
        If they were stated with the wrong sign, a picture is there twice, the list belongs to other pictures, the
        pictures show different scenes, or so far apart that they share no light; the message says so in EV.
    ValueError
        If shapes, values or exposures are not as for :func:`calibrate`.

    Examples
    --------
    >>> ramp = torch.linspace(0.05, 0.9, 64).expand(3, 64, 64)
    >>> ldr = torch.stack([ramp / 4, ramp / 2, ramp])
    >>> check_exposures(ldr, torch.tensor([1.0, 2.0, 4.0]), Response.linear())
    >>> check_exposures(ldr.flip(0), torch.tensor([1.0, 2.0, 4.0]), Response.linear())
    Traceback (most recent call last):
    hdr.calibration.ExposureMismatchError: the exposures contradict the pixels: picture 1 and picture 2 are stated ...
    """
    findings = exposure_findings(ldr, exposures, response, names, located=located)
    problems = [finding.problem for finding in findings if finding.problem]
    if problems:
        raise ExposureMismatchError(
            f"the exposures contradict the pixels: {'; '.join(problems)}. Correct --times or --ev, leave out "
            "pictures, or let --ev auto estimate the exposures; --align off --response srgb merges as stated"
        )


def estimate_exposures(ldr: Tensor, response: Response | None = None) -> Tensor:
    """Relative exposures of pictures of one scene, from their pixels.

    Response and exposure ratios cannot both be free, so the ratios are as good as the response that is given: a camera
    with more contrast than it says makes all ratios too large, by the same power.

    Parameters
    ----------
    ldr
        Shape (N, 3, H, W), N >= 2, values in [0, 1], in any order.
    response
        Of the camera. If None, sRGB is assumed, and a warning says so.

    Returns
    -------
    Tensor
        Shape (N,), in the order of ``ldr``; the smallest is 1.

    Raises
    ------
    ExposureMismatchError
        If two pictures that follow each other in brightness have no well exposed part in common.
    ValueError
        If shapes or values are not as above.

    Examples
    --------
    >>> ramp = torch.linspace(0.05, 0.9, 64).expand(3, 64, 64)
    >>> estimate_exposures(torch.stack([ramp, ramp / 4, ramp / 2]), Response.linear()).round(decimals=2)
    tensor([4., 1., 2.])
    """
    _checked(ldr, torch.arange(1.0, len(ldr) + 1))
    if response is None:
        warnings.warn("the exposures are estimated as if the camera's response were sRGB", stacklevel=2)
        response = Response.srgb()
    cells = Cells.of(ldr)
    order = np.argsort(cells.mean.mean((1, 2)), kind="stable")
    curve = log_curve(response)
    rows, steps = [], []
    for distance in (1, 2):
        for a, b in zip(order, order[distance:], strict=False):
            measured = _measured_ev(cells, a, b, curve, response.white_level)
            if math.isnan(measured) and distance == 1:
                raise ExposureMismatchError(
                    f"pictures {a + 1} and {b + 1} have no well exposed part in common, so that their exposures cannot "
                    "be estimated; state them (--times, --ev)"
                )
            if not math.isnan(measured):
                row = np.zeros(len(ldr))
                row[a], row[b] = -1.0, 1.0
                rows.append(row)
                steps.append(measured)
    ev = np.linalg.lstsq(np.stack(rows), np.array(steps), rcond=None)[0]
    return torch.from_numpy(np.exp2(ev - ev.min())).to(ldr)


def _checked(ldr: Tensor, exposures: Tensor) -> Array:
    """EV of the exposures, after refusing what is no bracket."""
    check_images(ldr, smallest_side=CELL)
    values = exposures.detach().double().cpu().numpy()
    if values.shape != (len(ldr),) or not np.isfinite(values).all() or not (values > 0).all():
        raise ValueError(f"expected {len(ldr)} positive exposures, got {values.tolist()}")
    if not (np.diff(values) > 0).all():
        raise ValueError(f"exposures must ascend, got {values.tolist()}; sort pictures and exposures, shortest first")
    ev: Array = np.log2(values)
    return ev


def _black_level(cells: Cells, ev: Array) -> float:
    """Level that dark cells keep although the exposure grows, as scans of film do; 0 for most cameras."""
    candidates = np.arange(4, 33)
    found = []
    for channel in range(3):
        levels, growths = [], []
        for a in range(len(ev) - 1):
            low, high = cells.mean[a, channel] / STEP, cells.mean[a + 1, channel] / STEP
            growth = (high / np.maximum(low, 1) - 1) / (ev[a + 1] - ev[a])
            bright = (low > 48) & (high < 220)
            # Where not even the bright cells grow, the picture is repeated, and says nothing about black.
            if bright.sum() >= _FEWEST_CELLS and np.median(growth[bright]) > 0.1:
                dark = (low >= 1) & (low < 32.5)
                levels.append(low[dark])
                growths.append(growth[dark])
        level, growth = np.concatenate([*levels, []]), np.concatenate([*growths, []])
        order = level.argsort()
        # How many of the first so many do not grow; so most of any range of levels are counted by a difference.
        constant = np.concatenate([[0], np.cumsum(growth[order] <= 0.15)])
        first = np.searchsorted(level[order], candidates - 0.5)
        last = np.searchsorted(level[order], candidates + 0.5, side="right")
        kept = (last - first >= _FEWEST_CELLS) & (2 * (constant[last] - constant[first]) > last - first)
        kept &= 2 * constant[last] > last
        found.append(int(candidates[kept].max(initial=0)))
    # A little below what was seen, for that has noise, and the channels differ.
    return max(sorted(found)[1] - 3, 0) * STEP


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
        if sum(map(len, ends)) >= _FEWEST_CELLS and high - low <= 3 * STEP:  # the shoulder of a curve spreads them
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
        channel, cell = np.nonzero(_well_exposed(cells, a, a + 1, curve, response.white_level))
        bins = np.floor(2 * read_off(curve, cells.mean[a + 1, channel, cell])).astype(np.intp)
        # The flattest cells of every brightness, for texture that moved looks like noise. Flat in the shorter exposure:
        # to choose by the difference itself would choose small noise.
        order = np.lexsort((cells.spread[a, channel, cell], bins))
        by_brightness = np.split(order, np.nonzero(np.diff(bins[order]))[0] + 1)
        chosen = [here[: min(_MOST_FLAT_CELLS, max(_FEWEST_CELLS, len(here) // 4))] for here in by_brightness]
        chosen = [one for one in chosen if len(one) >= _FEWEST_CELLS]
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
        usable &= expected > math.log2(_LOWEST_LIGHT)
        usable &= read_off(steps, cells.mean[a]) < _STEEPEST
        for found, here in ((beside_clipped, clipped), (elsewhere, ~clipped)):
            found.append(_ev_apart(cells, a, b, curve, usable & here) - (ev[b] - ev[a]))
    wrong, right = (np.concatenate(parts) for parts in (beside_clipped, elsewhere))
    if min(len(wrong), len(right)) < _FEWEST_CELLS:
        return True
    # Grey is spoilt most and strong colours hardly: the larger differences tell, too.
    spoilt, usual = (np.quantile(np.abs(one), [0.5, 0.8, 0.9]) for one in (wrong, right))
    return bool((spoilt > _SPOILT * usual + _SPOILT_MARGIN).any() or abs(np.median(wrong)) > _SPOILT_EV)


def _chroma_subsampled(cells: Cells, white: float) -> bool:
    """Whether the finest detail of colour is missing that the finest detail of brightness should bring with it.

    Where a colour has a texture, its channels have it in proportion to themselves, and their differences to the
    brightness, too. Of pixels 2 x 2, what changes along both diagonals is all that half the resolution cannot hold.
    """
    darkest = torch.from_numpy(cells.pixels).amin(1).amin(-1).numpy()
    shown = (cells.brightest < _UNCLIPPED[1] * white) & (darkest > _UNCLIPPED[0])
    exposure, cell = np.nonzero(shown)
    if len(cell) < _FEWEST_CELLS:
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
        apart = _ev_apart(cells, a, b, curve, _well_exposed(cells, a, b, curve, white)) - (ev[b] - ev[a])
        error = float(np.median(apart)) if apart.size >= _FEWEST_EQUATIONS else 0.0
        # Less is rounding; more is no shutter, but another response than was said, or another exposure.
        largest = min(_LARGEST_ERROR, _OFF_SHARE * (ev[b] - ev[a]))
        errors[b] = errors[a] + (error if _LEAST_ERROR < abs(error) < largest else 0.0)
    return errors


def _measured_ev(cells: Cells, a: int, b: int, curve: Array, white: float) -> float:
    """By how many EV b has more light than a: the median over what both show well; NaN if nothing is."""
    usable = _well_exposed(cells, a, b, curve, white)
    # In the middle of the file's range, where cameras differ least from the response that is assumed.
    brighter = np.maximum(cells.mean[a], cells.mean[b])
    usable &= (brighter > _MIDDLE[0]) & (brighter < _MIDDLE[1] * white)
    if usable.sum() < max(_FEWEST_CELLS, _LEAST_SHARED * usable.size):
        return math.nan
    return float(np.median(_ev_apart(cells, a, b, curve, usable)))


def _unless_agreeing(
    finding: ExposureFinding, cells: Cells, curve: Array, white: float, within: float, share: float
) -> ExposureFinding:
    """A finding without its problem if of what two exposures show well so large a share is as far apart as stated."""
    a, b = finding.pictures
    if not finding.problem or not cells.pixels.shape[2] or np.array_equal(cells.pixels[a], cells.pixels[b]):
        return finding
    usable = _well_exposed(cells, a, b, curve, white)
    near = np.abs(_ev_apart(cells, a, b, curve, usable) - finding.stated) < min(within, _OFF_SHARE * finding.stated)
    agree = near.size >= max(_FEWEST_CELLS, _LEAST_SHARED * usable.size) and float(near.mean()) > share
    return replace(finding, problem="") if agree else finding


def _problem(stated: float, measured: float, contrast: float, similarity: float, identical: bool) -> str:
    if identical:
        return f"are the same picture, stated {stated:.2f} EV apart"
    if stated > _FARTHEST_EV:
        return f"are stated {stated:.2f} EV apart, too far for files that hold 8: take one between"
    if similarity < _LEAST_SIMILARITY:
        return "do not show the same scene"
    if math.isnan(measured):
        return ""
    if measured < -_SAME_SHARE * stated:
        return f"are stated {stated:.2f} EV apart, but differ by {measured:.2f} EV (are the signs reversed?)"
    if measured < _SAME_SHARE * stated:
        return f"are stated {stated:.2f} EV apart, but differ by {measured:.2f} EV (the same exposure twice?)"
    tolerance = 0.25 * stated + 0.2
    if abs(measured - contrast * stated) > tolerance or not stated / _CONTRAST < measured < stated * _CONTRAST:
        return f"are stated {stated:.2f} EV apart, but differ by {measured:.2f} EV"
    return ""


def _similarity(cells: Cells, a: int, b: int, white: float) -> float:
    """Correlation of the structure of two exposures, shifted by up to a sixth of the picture; 1 if one has none."""
    structures = []
    for index in (a, b):
        picture = cells.mean[index].mean(0)
        darkest, brightest = np.percentile(picture, [20, 90])
        if brightest < 0.1 or darkest > 0.9 * white or brightest - darkest < 0.05:
            return 1.0  # nearly black, white or even: noise is not structure
        scale = _COMPARED_SIDE / max(cells.grid)
        size = [max(6, round(side * scale)) for side in cells.grid]
        small = cv2.resize(picture.reshape(cells.grid).astype(np.float32), size[::-1], interpolation=cv2.INTER_AREA)
        # Ranks do not depend on the response, nor on which part of the scene's range is exposed well.
        _, place, counts = np.unique((small * 255).round(), return_inverse=True, return_counts=True)
        ranks = ((np.cumsum(counts) - counts / 2)[place] / small.size).reshape(small.shape).astype(np.float32)
        structures.append(ranks - cv2.GaussianBlur(ranks, (0, 0), 4.0))
    first, second = structures
    top, left = (side // 6 for side in first.shape)
    middle = np.ascontiguousarray(first[top : first.shape[0] - top, left : first.shape[1] - left])
    if middle.std() < 1e-3:
        return 1.0
    return float(cv2.matchTemplate(second, middle, cv2.TM_CCOEFF_NORMED).max())


def _well_exposed(cells: Cells, a: int, b: int, curve: Array, white: float) -> NDArray[np.bool_]:
    """Shape (3, cells): which channels of which cells both exposures show well."""
    usable = np.broadcast_to((cells.brightest[[a, b]] < white - 1.5 * STEP).all(0), cells.mean.shape[1:])
    steps = np.gradient(curve)
    for index in (a, b):
        mean = cells.mean[index]
        usable = usable & (read_off(curve, mean) > math.log2(_LOWEST_LIGHT)) & (read_off(steps, mean) < _STEEPEST)
    return usable


def _ev_apart(cells: Cells, a: int, b: int, curve: Array, usable: NDArray[np.bool_]) -> Array:
    """By how many EV b has more light than a, in those channels and cells (3, cells) that are usable."""
    apart: Array = read_off(curve, cells.mean[b][usable]) - read_off(curve, cells.mean[a][usable])
    return apart


def _disagreement(cells: Cells, ev: Array, response: Response) -> tuple[float, ...]:
    curve = log_curve(response)
    result = []
    for a, b in zip(range(len(ev) - 1), range(1, len(ev)), strict=True):
        usable = _well_exposed(cells, a, b, curve, response.white_level)
        error = _ev_apart(cells, a, b, curve, usable) - (ev[b] - ev[a])
        result.append(float(np.median(np.abs(error))) if error.size >= _FEWEST_CELLS else math.nan)
    return tuple(result)
