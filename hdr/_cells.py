"""Small squares of a bracket's pictures: what exposures show alike is compared by them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hdr._errors import RefusedError
from hdr._images import check_images
from hdr.radiometry import SAME_LIGHT
from hdr.response import Response

Array = NDArray[np.floating]

Located = Callable[[Response], Tensor]
"""From a first response to where the exposures show what one of them does: displacement (N, 2, h, w) in pixels."""

STEP = 1.0 / 255.0  # one level of an 8-bit file
ENTRIES = 256

CELL = 4  # pixels on a side
_MOST_CELLS = 1 << 13
FEWEST_CELLS = 30
FEWEST_EQUATIONS = 200  # values of cells that two exposures share: what fewer tell may all be wrong
LOWEST_LIGHT = 0.002  # 9 EV below white an 8-bit file has a handful of levels left
OFF_SHARE = 0.5  # of the EV stated: what is off by more was not exposed as stated
SAME_EV = math.log2(SAME_LIGHT)
STEEPEST = 0.15  # EV from one level to the next, where rounding decides what two exposures differ by


class Cells(NamedTuple):
    """Small squares of a bracket's pictures, the same in every exposure, spread over the whole picture."""

    pixels: Array
    """Shape (N, 3, cells, 16), LDR values."""
    mean: Array
    """Shape (N, 3, cells)."""
    spread: Array
    """Shape (N, 3, cells): standard deviation of the pixels, from texture and noise."""
    brightest: Array
    """Shape (N, cells): the largest value of the three channels."""
    darkest: Array
    """Shape (N, 3, cells): the smallest value of the pixels."""
    grid: tuple[int, int]
    """Rows and columns in which the cells lie; one row where they were moved, for some may be left out."""

    @classmethod
    def of(cls, ldr: Tensor, displacement: Tensor | None = None) -> Cells:
        """Cells of exposures of shape (N, 3, H, W), each cell where an exposure shows it.

        Parameters
        ----------
        ldr
            Values of the exposures.
        displacement
            Shape (N, 2, h, w), in pixels of ``ldr`` and at its resolution or a lower one: where the exposures show what
            one of them does. Cells are moved by whole pixels, for interpolation would take noise away. Those that an
            exposure did not see are left out. By default all exposures lie on each other.
        """
        height, width = ldr.shape[-2:]
        stride = max(CELL, math.ceil(math.sqrt(height * width / _MOST_CELLS)))
        if displacement is None:
            grid = ldr.detach().unfold(2, CELL, stride).unfold(3, CELL, stride)
            pixels, rows, columns = grid.flatten(4).flatten(2, 3), *grid.shape[2:4]
        else:
            pixels = _moved_cells(ldr.detach(), displacement, stride)
            rows, columns = 1, pixels.shape[2]
        values = pixels.to("cpu", torch.float32).numpy()
        mean = values.mean(-1)
        spread = np.sqrt(np.maximum(np.square(values).mean(-1) - np.square(mean), 0.0))
        # In two steps, and by PyTorch: in a fifth of the time of one, or of NumPy.
        brightest = torch.from_numpy(values).amax(1).amax(-1).numpy()
        darkest = torch.from_numpy(values).amin(-1).numpy()
        return cls(values, mean, spread, brightest, darkest, (rows, columns))


def _moved_cells(ldr: Tensor, displacement: Tensor, stride: int) -> Tensor:
    """Pixels (N, 3, cells, 16) of the cells that all exposures show, read where each shows them."""
    if displacement.ndim != 4 or displacement.shape[:2] != (len(ldr), 2) or 0 in displacement.shape:
        raise RefusedError(f"a displacement must have the shape ({len(ldr)}, 2, h, w), got {tuple(displacement.shape)}")
    height, width = ldr.shape[-2:]
    top, left = torch.meshgrid(*(torch.arange(0, side - CELL + 1, stride) for side in (height, width)), indexing="ij")
    rows, columns = displacement.shape[-2:]
    row = ((top + CELL // 2) * rows // height).clamp_max(rows - 1)
    column = ((left + CELL // 2) * columns // width).clamp_max(columns - 1)
    shift = displacement[:, :, row, column].round().long().cpu()
    tops, lefts = top + shift[:, 1], left + shift[:, 0]
    seen = ((tops >= 0) & (tops <= height - CELL) & (lefts >= 0) & (lefts <= width - CELL)).all(dim=0)
    # Where pixels lie in a flattened image: read so, they take a sixth of the time that rows and columns take.
    within = (width * torch.arange(CELL)[:, None] + torch.arange(CELL)).flatten()
    # Not [:, seen, None]: PyTorch 2.6 puts the new axis in the middle of the two of the mask.
    places = ((width * tops + lefts)[:, seen].unsqueeze(-1) + within).flatten(1).to(ldr.device)
    moved = [exposure.flatten(1).index_select(1, where) for exposure, where in zip(ldr, places, strict=True)]
    return torch.stack(moved).view(*ldr.shape[:2], -1, CELL**2)


def checked_ev(ldr: Tensor, exposures: Tensor) -> Array:
    """EV of the exposures, after refusing what is no bracket."""
    check_images(ldr, smallest_side=CELL)
    values = exposures.detach().double().cpu().numpy()
    if values.shape != (len(ldr),) or not np.isfinite(values).all() or not (values > 0).all():
        raise RefusedError(f"expected {len(ldr)} positive exposures, got {values.tolist()}")
    if not (np.diff(values) >= 0).all():
        raise RefusedError(f"exposures must ascend, got {values.tolist()}; sort pictures and exposures, shortest first")
    ev: Array = np.log2(values)
    return ev


def log_curve(response: Response) -> Array:
    """log2 of the light at the levels of an 8-bit file, shape (256,); black counts as a quarter of the first level."""
    light = response.to_linear(torch.linspace(0, 1, ENTRIES, dtype=torch.float64)).numpy()
    light[0] = max(light[0], 0.25 * light[1])
    curve: Array = np.log2(light)
    return curve


def read_off(curve: Array, ldr: Array) -> Array:
    """Values of a curve over the levels of an 8-bit file."""
    position = np.clip(ldr * (len(curve) - 1), 0.0, len(curve) - 1.0)
    below = np.minimum(position.astype(np.intp), len(curve) - 2)
    values: Array = curve[below] + (position - below) * (curve[below + 1] - curve[below])
    return values


def srgb_above_black(black: float) -> Array:
    """log2 of sRGB's light for files whose black is not 0 but a level above it."""
    curve = read_off(log_curve(Response.srgb()), (np.arange(ENTRIES) * STEP - black) / (1.0 - black))
    below = int(black / STEP)
    curve[:below] -= 0.5 * np.arange(below, 0, -1)  # steep: what lies below black is noise
    return curve


def well_exposed(cells: Cells, a: int, b: int, curve: Array, white: float) -> NDArray[np.bool_]:
    """Shape (3, cells): which channels of which cells both exposures show well."""
    usable = np.broadcast_to((cells.brightest[[a, b]] < white - 1.5 * STEP).all(0), cells.mean.shape[1:])
    steps = np.gradient(curve)
    for index in (a, b):
        mean = cells.mean[index]
        usable = usable & (read_off(curve, mean) > math.log2(LOWEST_LIGHT)) & (read_off(steps, mean) < STEEPEST)
    return usable


def comparable(cells: Cells, a: int, b: int, curve: Array, white: float) -> NDArray[np.bool_]:
    """Shape (3, cells): which well exposed channels have means that tell how much light there was.

    Not those with black pixels: noise that is cut off at black leaves a mean that is too bright.
    """
    return well_exposed(cells, a, b, curve, white) & (cells.darkest[[a, b]] > 0.5 * STEP).all(0)


def ev_apart(cells: Cells, a: int, b: int, curve: Array, usable: NDArray[np.bool_]) -> Array:
    """By how many EV b has more light than a, in those channels and cells (3, cells) that are usable."""
    apart: Array = read_off(curve, cells.mean[b][usable]) - read_off(curve, cells.mean[a][usable])
    return apart


def black_level(cells: Cells, ev: Array) -> float:
    """Level that dark cells keep although the exposure grows, as scans of film do; 0 for most cameras."""
    candidates = np.arange(4, 33)
    found = []
    for channel in range(3):
        levels, growths = [], []
        for a in range(len(ev) - 1):
            if ev[a + 1] - ev[a] < SAME_EV:
                continue
            low, high = cells.mean[a, channel] / STEP, cells.mean[a + 1, channel] / STEP
            growth = (high / np.maximum(low, 1) - 1) / (ev[a + 1] - ev[a])
            bright = (low > 48) & (high < 220)
            # Where not even the bright cells grow, the picture is repeated, and says nothing about black.
            if bright.sum() >= FEWEST_CELLS and np.median(growth[bright]) > 0.1:
                dark = (low >= 1) & (low < 32.5)
                levels.append(low[dark])
                growths.append(growth[dark])
        level, growth = np.concatenate([*levels, []]), np.concatenate([*growths, []])
        order = level.argsort()
        # How many of the first so many do not grow; so most of any range of levels are counted by a difference.
        constant = np.concatenate([[0], np.cumsum(growth[order] <= 0.15)])
        first = np.searchsorted(level[order], candidates - 0.5)
        last = np.searchsorted(level[order], candidates + 0.5, side="right")
        kept = (last - first >= FEWEST_CELLS) & (2 * (constant[last] - constant[first]) > last - first)
        kept &= 2 * constant[last] > last
        found.append(int(candidates[kept].max(initial=0)))
    # A little below what was seen, for that has noise, and the channels differ.
    return max(sorted(found)[1] - 3, 0) * STEP
