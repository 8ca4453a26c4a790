"""What merging looks like without a network: the methods that every result is compared with.

All return radiance of shape (3, H, W), linear Rec. 709, on the scale on which the short exposure saturates at 1.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hdr._extras import extras_named
from hdr.bracket import Bracket
from hdr.calibration import Calibration
from hdr.data.sample import observed
from hdr.fusion import merged, noise_of_blend, prior
from hdr.observation import bring_to_reference
from hdr.radiometry import GAMMA, inverse_mu_law
from hdr.response import Response
from hdr.smoothing import blurred

with extras_named():
    import cv2

_FADE = 0.235  # sixty levels of 255, as LDR value
_NOISE_FACTOR, _WINDOW = 2.0, 1.0  # of the Wiener filter: the best of those tried
_DARKEST_LEVEL = 0.1 / 255  # light of level 0, whose logarithm OpenCV takes


def reference_only(bracket: Bracket) -> Tensor:
    """Radiance of the reference alone: no ghosts, no highlights above its saturation, noisy shadows."""
    return bracket.in_rec709(bracket.radiance(bracket.reference_index))


def weighted_merge(bracket: Bracket) -> Tensor:
    """Weighted mean of the exposures' radiances without any treatment of motion: what moves leaves ghosts.

    Each exposure counts by the light that it got, faded out towards black and white by a trapezoid; the shortest keeps
    its weight in highlights and the longest in shadows, so that no pixel is left without weight. The radiances are
    those of the bracket's calibration.

    Examples
    --------
    >>> scene = torch.full((3, 16, 16), 0.05)
    >>> exposures = torch.tensor([1.0, 4.0, 16.0])
    >>> ldr = (scene * exposures.view(3, 1, 1, 1)).pow(1 / 2.2)
    >>> torch.allclose(weighted_merge(Bracket(ldr, exposures)), scene, rtol=1e-3)
    True
    """
    total = torch.zeros_like(bracket.reference)
    weights = torch.zeros_like(bracket.reference)
    for index in range(bracket.count):  # one at a time: the radiances of a large image are not held at once
        weight = _trapezoid(bracket, index) * bracket.exposures[index]
        total += weight * bracket.radiance(index)
        weights += weight
    return bracket.in_rec709(total / weights)


def opencv_merge(bracket: Bracket) -> Tensor:
    """OpenCV's AlignMTB, which shifts whole exposures (Ward, 2003), then MergeDebevec with a gamma of 2.2.

    OpenCV takes 8-bit pictures here, so deeper ones are rounded.
    """
    levels = bracket.ldr.mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    aligned = _shifted_to_reference([np.ascontiguousarray(picture) for picture in levels], bracket.reference_index)
    light = np.maximum(np.arange(256) / 255, _DARKEST_LEVEL) ** GAMMA
    response = light.astype(np.float32).reshape(256, 1, 1).repeat(3, axis=2)
    times = bracket.exposures.cpu().numpy().astype(np.float32)
    merged = cv2.createMergeDebevec().process(aligned, times, response)
    return bracket.in_rec709(torch.from_numpy(merged).permute(2, 0, 1).to(bracket.ldr).contiguous())


def wiener_merge(bracket: Bracket) -> Tensor:
    """The physical merge of :mod:`hdr.fusion`, then a Wiener filter of 7 x 7 pixels that knows the noise left in it.

    In the mu-law domain, as Lee's (IEEE TPAMI 1980): a pixel keeps of its difference to the mean around it as much as
    the variance there exceeds that of the noise. What a network that denoises has to surpass.
    """
    reference, exposures = bracket.reference_index, bracket.exposures.float()[None]
    observations, displacement = observed(dataclasses.replace(bracket, ldr=bracket.ldr.float()))
    mixing = bracket.calibration.batched_mixing(exposures)
    aligned = bring_to_reference(observations[None], displacement[None], reference, mixing=mixing)
    weights = torch.softmax(prior(aligned, exposures, reference), dim=1)
    merge = merged(aligned, weights, exposures, reference)
    noise = (_NOISE_FACTOR * torch.minimum(*noise_of_blend(aligned, weights, merge)[:2])).square()
    mean = blurred(merge, _WINDOW)
    variance = (blurred(merge.square(), _WINDOW) - mean.square()).clamp_min(0)
    variance = blurred(variance, _WINDOW).clamp_min(torch.finfo(merge.dtype).tiny)
    filtered = mean + (variance - noise).clamp_min(0) / variance * (merge - mean)
    return bracket.in_rec709(inverse_mu_law(filtered[0]).clamp_min(0))


def uncalibrated_merge(bracket: Bracket) -> Tensor:
    """:func:`weighted_merge` as if the camera's response were gamma 2.2."""
    return weighted_merge(dataclasses.replace(bracket, calibration=Calibration(Response.gamma(GAMMA))))


BASELINES: dict[str, Callable[[Bracket], Tensor]] = {
    "reference only": reference_only,
    "weighted merge": weighted_merge,
    "weighted merge, gamma 2.2": uncalibrated_merge,
    "physics, Wiener filter": wiener_merge,
    "OpenCV": opencv_merge,
}


def _shifted_to_reference(pictures: list[NDArray[Any]], reference: int) -> list[NDArray[Any]]:
    # AlignMTB.process would crop the pictures to what all of them show, or fail on those that it shifts.
    # It fails on pyramids whose smallest level is a single row, too.
    levels = min(6, int(math.log2(min(pictures[0].shape[:2]))) - 1)
    align = cv2.createAlignMTB(max_bits=levels)
    grey = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in pictures]
    return [
        align.shiftMat(picture, align.calculateShift(grey[reference], own))
        for picture, own in zip(pictures, grey, strict=True)
    ]


def _trapezoid(bracket: Bracket, index: int) -> Tensor:
    """Weight (1, H, W) of an exposure's well exposed pixels: one for the three channels, or clipping would tint."""
    ldr = bracket.ldr[index] / bracket.calibration.white_level
    rise, fall = (ldr / _FADE).clamp(0, 1), ((1 - ldr) / _FADE).clamp(0, 1)
    if index == 0:
        fall = torch.ones_like(fall)
    if index == bracket.count - 1:
        rise = torch.ones_like(rise)
    # Where the short exposure is black and the long one clipped no other is: a trace keeps the quotient defined.
    return torch.minimum(rise, fall).amin(dim=0, keepdim=True).clamp_min(1e-6)
