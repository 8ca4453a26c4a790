"""How a camera mixes the colours of its sensor into those of its files, by what channels say beside clipped ones."""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from hdr._cells import FEWEST_CELLS, LOWEST_LIGHT, STEP, Array, Cells, log_curve, read_off
from hdr._extras import extras_named
from hdr.mixing import NO_MIXING, TYPICAL, ColourMixing, Row, as_row
from hdr.response import Response

with extras_named():
    from scipy.optimize import nnls

_MOST_FOUND = 1 << 14
_DARKEST = 0.05  # of the light that clips a channel: of less, noise is all that a channel is off by
_ROUNDS = 8
_ERROR, _RELATIVE_ERROR = 0.03, 0.06  # of light, and of a channel's own: by which cells are off anyway
_OUTLYING = 2.0  # such errors; what is off by more counts for less
_PRIOR = 0.2  # standard deviation of cameras around the typical one
_HARDLY = 0.15  # sum of what channels have of others, below which they clip one by one
# Share of the light. Drawn brackets have 0.05 on the cells that tell it, and most of them none.
_USUAL_ERROR, _LEAST_ERROR = 0.05, 0.01


class _Beside(NamedTuple):
    """Cells in which a channel is clipped: arrays (3, cells), light in units of that which clips a channel."""

    light: Array
    """That a shorter exposure tells."""
    shown: Array
    told: NDArray[np.bool_]
    """Which channels are not clipped, and of a light that both exposures tell."""


def colour_mixing(cells: Cells, ev: Array, response: Response) -> ColourMixing | None:
    """The mixing that explains best what channels say beside clipped ones; None where those are right.

    Of a sensor's colours s = M^-1 L, L the light that a shorter exposure tells, the sensor loses max(s - 1, 0), and so
    the file has L - M max(s - 1, 0). A channel that is not clipped has lost nothing of its own: two numbers of its row
    are sought, by least squares, and after that M^-1 again. What no cell tells is as in a typical camera, as far
    as what cells tell is: one that mixes some channels mixes all.
    """
    beside = _beside_clipped(cells, ev, response)
    matrix = np.array(TYPICAL.matrix)
    for _ in range(_ROUNDS):
        lost = _lost(beside, matrix)
        evidence = [_evidence(channel, beside, lost, matrix) for channel in range(3)]
        share = _typical_share(evidence)
        found = np.stack([_row(channel, one, share) for channel, one in enumerate(evidence)])
        matrix = (matrix + found) / 2  # each follows from the other, and would swing
    errors = _errors(beside, found)
    if found.trace() - 3 < _HARDLY:
        return ColourMixing(NO_MIXING, errors) if max(errors) > _LEAST_ERROR else None
    red, green, blue = (as_row(row) for row in found)
    return ColourMixing((red, green, blue), errors)


def _beside_clipped(cells: Cells, ev: Array, response: Response) -> _Beside:
    curve, clipping = log_curve(response), response.white_level - 1.5 * STEP
    highest = torch.from_numpy(cells.pixels).amax(-1).numpy()
    parts = []
    for a, b in itertools.combinations(range(len(ev)), 2):
        some = (cells.brightest[a] < clipping) & (cells.brightest[b] >= clipping)
        darker = read_off(curve, cells.mean[a][:, some])
        light = np.exp2(darker + ev[b] - ev[a])
        told = (highest[b][:, some] < clipping) & (darker > math.log2(LOWEST_LIGHT)) & (light > _DARKEST)
        parts.append((light, np.exp2(read_off(curve, cells.mean[b][:, some])), told))
    light, shown, told = (np.concatenate(one, axis=1) for one in zip(*parts, strict=True))
    every = slice(None, None, -(-max(light.shape[1], 1) // _MOST_FOUND))
    return _Beside(light[:, every], shown[:, every], told[:, every])


def _lost(beside: _Beside, matrix: Array) -> Array:
    """What clipping took from each colour of the sensor, (3, cells)."""
    lost: Array = np.maximum(np.linalg.inv(matrix) @ beside.light - 1, 0)
    return lost


class _Evidence(NamedTuple):
    """What an unclipped channel has more than it should, and what the other two have lost, over what is usual."""

    lost: Array
    """Shape (cells, 2)."""
    more: Array
    """Shape (cells,)."""


def _evidence(channel: int, beside: _Beside, lost: Array, matrix: Array) -> _Evidence:
    """Cells that tell the row of a channel; those count less that are far from what a matrix tells."""
    others = _others(channel)
    lost = lost[others]
    usable = beside.told[channel] & (lost.sum(0) > 0)
    lost, light = lost[:, usable].T, beside.light[channel, usable]
    more = beside.shown[channel, usable] - light
    scale = 1 / (_ERROR + _RELATIVE_ERROR * light)
    rest = np.abs(more + lost @ matrix[channel, others]) * scale
    scale = scale / np.sqrt(np.maximum(1, rest / _OUTLYING))
    return _Evidence(lost * scale[:, None], more * scale)


def _typical_share(evidence: list[_Evidence]) -> float:
    """How much of what a typical camera mixes this one does, from 0 to 1; where hardly a cell tells, all of it."""
    typical = np.concatenate([-one.lost @ _typical_row(channel) for channel, one in enumerate(evidence)])
    more = np.concatenate([one.more for one in evidence])
    square = typical @ typical
    for_all = square * FEWEST_CELLS / len(typical) if square > 0 else 1.0
    return float(np.clip((typical @ more + for_all) / (square + for_all), 0, 1))


def _row(channel: int, evidence: _Evidence, share: float) -> Array:
    """The row of a channel, none of it positive but its own."""
    system = np.concatenate([evidence.lost, np.eye(2) / _PRIOR])
    parts, _ = nnls(system, np.concatenate([evidence.more, -share * _typical_row(channel) / _PRIOR]))
    row: Array = np.zeros(3)
    row[_others(channel)], row[channel] = -parts, 1 + parts.sum()
    return row


def _typical_row(channel: int) -> Array:
    row: Array = np.array(TYPICAL.matrix)[channel, _others(channel)]
    return row


def _others(channel: int) -> list[int]:
    return [other for other in range(3) if other != channel]


def _errors(beside: _Beside, matrix: Array) -> Row:
    """By which share of its light each channel is off beside clipped ones that should explain it, in the median."""
    lost = _lost(beside, matrix)
    off = (beside.shown - beside.light + matrix @ lost) / beside.light
    shares = []
    for channel in range(3):
        usable = beside.told[channel] & (np.delete(lost, channel, axis=0).sum(0) > 0)
        found = int(usable.sum())
        median = abs(float(np.median(off[channel, usable]))) if found else 0.0
        shares.append(max(median - _USUAL_ERROR, 0.0) * found / (found + FEWEST_CELLS))
    return as_row(shares)
