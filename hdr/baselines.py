"""What merging looks like without a network: the methods that every result is compared with.

All return radiance of shape (3, H, W), on the scale on which the short exposure saturates at 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hdr.bracket import Bracket
from hdr.radiometry import GAMMA

_DARKEST_LEVEL = 0.1 / 255  # light of level 0, whose logarithm OpenCV takes


def reference_only(bracket: Bracket) -> Tensor:
    """Radiance of the middle exposure alone: no ghosts, no highlights above its saturation, noisy shadows."""
    return bracket.radiance(1)


def weighted_merge(bracket: Bracket) -> Tensor:
    """Weighted mean of the exposures' radiances without any treatment of motion: what moves leaves ghosts.

    Each pixel counts by the triangle 1 - |2 L - 1| of Debevec and Malik (1997); the short exposure keeps its weight in
    highlights and the long one in shadows, so that no pixel is left without weight.

    Examples
    --------
    >>> scene = torch.full((3, 16, 16), 0.05)
    >>> exposures = torch.tensor([1.0, 4.0, 16.0])
    >>> ldr = (scene * exposures.view(3, 1, 1, 1)).pow(1 / 2.2)
    >>> torch.allclose(weighted_merge(Bracket(ldr, exposures)), scene)
    True
    """
    total = torch.zeros_like(bracket.reference)
    weights = torch.zeros_like(bracket.reference)
    for index in range(3):  # one at a time: three radiances of a large picture are not held at once
        weight = _triangle(bracket.ldr[index], index)
        total += weight * bracket.radiance(index)
        weights += weight
    return total / weights


def opencv_merge(bracket: Bracket) -> Tensor:
    """OpenCV's AlignMTB, which shifts whole exposures (Ward, 2003), then MergeDebevec with the known response.

    OpenCV takes 8-bit pictures here, so deeper ones are rounded.
    """
    levels = bracket.ldr.mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    aligned = _shifted_to_reference([np.ascontiguousarray(picture) for picture in levels])
    light = np.maximum(np.arange(256) / 255, _DARKEST_LEVEL) ** GAMMA
    response = light.astype(np.float32).reshape(256, 1, 1).repeat(3, axis=2)
    times = bracket.exposures.cpu().numpy().astype(np.float32)
    merged = cv2.createMergeDebevec().process(aligned, times, response)
    return torch.from_numpy(merged).permute(2, 0, 1).to(bracket.ldr).contiguous()


BASELINES: dict[str, Callable[[Bracket], Tensor]] = {
    "reference only": reference_only,
    "weighted merge": weighted_merge,
    "OpenCV": opencv_merge,
}


def _shifted_to_reference(pictures: list[NDArray[Any]]) -> list[NDArray[Any]]:
    # AlignMTB.process would crop the pictures to what all of them show, or fail on those that it shifts.
    # It fails on pyramids whose smallest level is a single row, too.
    levels = min(6, int(math.log2(min(pictures[0].shape[:2]))) - 1)
    align = cv2.createAlignMTB(max_bits=levels)
    grey = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in pictures]
    return [
        align.shiftMat(picture, align.calculateShift(grey[1], own)) for picture, own in zip(pictures, grey, strict=True)
    ]


def _triangle(ldr: Tensor, index: int) -> Tensor:
    triangle = 1.0 - (2.0 * ldr - 1.0).abs()
    if index == 0:
        triangle = torch.where(ldr > 0.5, torch.ones_like(ldr), triangle)
    elif index == 2:
        triangle = torch.where(ldr < 0.5, torch.ones_like(ldr), triangle)
    # Where the short exposure is black and the long one saturated no other is: a trace keeps the quotient defined.
    return triangle.clamp_min(1e-6)
