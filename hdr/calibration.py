"""What a bracket's own pixels say about its camera: response, white level, noise, and whether the exposures fit."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from hdr._response_fit import (
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
from hdr.response import Response

Aligned = Callable[[Tensor, Response], Tensor]

SHOT, READ = 2.5e-5, 1e-6

_FEWEST_CELLS = 30
_FEWEST_EQUATIONS = 200
_NOTHING_AGREES = 0.5  # EV, the typical residual of equations that are none
_LOWEST_LIGHT = 0.002  # 9 EV below white an 8-bit file has a handful of levels left
_STEEPEST = 0.15  # EV from one level to the next, where rounding decides what two exposures differ by


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
    disagreement
        For each exposure but the shortest, the median of |EV| by which it and the one before disagree; NaN where
        nothing is well exposed in both.
    notes
        What could not be known, in words for the user.
    """

    response: Response
    white_level: float = 1.0
    shot: float = SHOT
    read: float = READ
    levels: int = 255
    disagreement: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()


def calibrate(
    ldr: Tensor, exposures: Tensor, *, response: Response | None = None, aligned: Aligned | None = None
) -> Calibration:
    """Estimate response, white level and noise of the camera that took a bracket.

    Parameters
    ----------
    ldr
        Shape (N, 3, H, W), N >= 2, values in [0, 1] of 8-bit files, shortest exposure first.
    exposures
        Shape (N,): positive multiples of the light that each exposure got, ascending. They are taken as true: response
        and exposure ratios cannot both be free. :func:`check_exposures` tells gross errors.
    response
        Of the camera, where it is known; then only the rest is estimated.
    aligned
        Called with ``ldr`` and a first response, returns the exposures in one frame, NaN where one did not see. Without
        it, pictures that do not lie on each other are compared by their ranks, which is less exact.

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
    if response is None:
        black = _black_level(cells, ev)
        base = srgb_above_black(black)
        rough, _ = solve(equations_of_ranks(cells, ev, black, 0.92), base, base)
        if aligned is not None:
            cells = Cells.of(aligned(ldr, response_of(rough)))
        white = _white_level(cells, ev, rough, notes)
        equations = equations_of_cells(cells, ev, rough, black, white)
        curve, residual = solve(equations, base, rough)
        if len(equations.ev) < _FEWEST_EQUATIONS or residual > _NOTHING_AGREES:
            notes.append("the exposures share too little to tell the camera's response: it is taken as sRGB")
            response = Response.srgb()
        else:
            response = response_of(curve)
    else:
        white = _white_level(cells, ev, log_curve(response), notes)
    response = response.with_white_level(min(white, response.white_level))
    shot, read = SHOT, READ
    return Calibration(
        response,
        response.white_level,
        shot,
        read,
        _levels(cells),
        _disagreement(cells, ev, response),
        tuple(notes),
    )


def _checked(ldr: Tensor, exposures: Tensor) -> Array:
    """EV of the exposures, after refusing what is no bracket."""
    if ldr.ndim != 4 or ldr.shape[0] < 2 or ldr.shape[1] != 3 or not ldr.is_floating_point():
        raise ValueError(
            f"expected two or more RGB exposures of shape (N, 3, H, W), floating point, got {tuple(ldr.shape)} of "
            f"{ldr.dtype}"
        )
    if min(ldr.shape[-2:]) < 4:
        raise ValueError(f"pictures must be at least 4 pixels wide and high, got {tuple(ldr.shape[-2:])} (H, W)")
    low, high = float(ldr.min()), float(ldr.max())
    if not (low >= 0.0 and high <= 1.0):  # also refuses NaN
        raise ValueError(f"picture values must lie in [0, 1], got values from {low:g} to {high:g}")
    values = exposures.detach().double().cpu().numpy()
    if values.shape != (len(ldr),) or not np.isfinite(values).all() or not (values > 0).all():
        raise ValueError(f"expected {len(ldr)} positive exposures, got {values.tolist()}")
    if not (np.diff(values) > 0).all():
        raise ValueError(f"exposures must ascend, got {values.tolist()}; sort pictures and exposures, shortest first")
    ev: Array = np.log2(values)
    return ev


def _black_level(cells: Cells, ev: Array) -> float:
    """Level that dark cells keep although the exposure grows, as scans of film do; 0 for most cameras."""
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
        kept = [
            candidate
            for candidate in range(4, 33)
            if (np.abs(level - candidate) <= 0.5).sum() >= _FEWEST_CELLS
            and np.median(growth[np.abs(level - candidate) <= 0.5]) <= 0.15
            and np.median(growth[level <= candidate + 0.5]) <= 0.15
        ]
        found.append(max(kept, default=0))
    # A little below what was seen, for that has noise, and the channels differ.
    return max(sorted(found)[1] - 3, 0) * STEP


def _white_level(cells: Cells, ev: Array, curve: Array, notes: list[str]) -> float:
    """LDR value at which the channels clip: where cells end up that a shorter exposure shows to be far too bright."""
    found, top = [], cells.mean.max(1)
    for channel in range(3):
        ends = []
        for a in range(len(ev) - 1):
            expected = read_off(curve, cells.mean[a, channel]) + ev[a + 1] - ev[a] - curve[-1]
            end = cells.mean[a + 1, channel]
            over = (expected > 1.2) & (top[a] < 0.9) & (end > 0.85) & (cells.spread[a + 1, channel] < 2 * STEP)
            ends.append(end[over])
        ends_of_all = np.concatenate(ends)
        if len(ends_of_all) >= _FEWEST_CELLS:
            low, high = np.percentile(ends_of_all, [10, 90])
            if high - low <= 3 * STEP:  # a pile, where the shoulder of a curve would spread them
                found.append(float(low))
    counts = np.bincount(np.rint(cells.pixels[cells.pixels > 0.8] / STEP).astype(np.intp), minlength=256)
    commonest = int(counts.argmax()) * STEP
    white = round(min(found, default=1.0) / STEP) * STEP
    pile, above = int((top > white - 2 * STEP).sum()), int((top > white + 2.5 * STEP).sum())
    if white >= 252.5 * STEP or above > 0.05 * pile or abs(commonest - white) > 2.5 * STEP:
        return 1.0
    return white


def _levels(cells: Cells) -> int:
    values = cells.pixels[..., :: max(1, cells.pixels.shape[-1] // 4)] * np.float32(255)
    return 255 if float(np.abs(values - np.rint(values)).max()) < 1e-3 else 65535


def _well_exposed(cells: Cells, a: int, b: int, curve: Array, white: float) -> Array:
    """Shape (3, cells), boolean: which channels of which cells both exposures show well."""
    low = cells.mean[a]
    bright_enough = (read_off(curve, low) > math.log2(_LOWEST_LIGHT)) & (read_off(np.gradient(curve), low) < _STEEPEST)
    usable: Array = (cells.brightest[b] < white - 1.5 * STEP) & bright_enough
    return usable


def _disagreement(cells: Cells, ev: Array, response: Response) -> tuple[float, ...]:
    curve = log_curve(response)
    result = []
    for a, b in zip(range(len(ev) - 1), range(1, len(ev)), strict=True):
        usable = _well_exposed(cells, a, b, curve, response.white_level)
        error = read_off(curve, cells.mean[b][usable]) - read_off(curve, cells.mean[a][usable]) - (ev[b] - ev[a])
        result.append(float(np.median(np.abs(error))) if error.size >= _FEWEST_CELLS else math.nan)
    return tuple(result)
