"""How an exposure differs from the reference, as far as both can tell: noise and what clips differ without motion."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from hdr.chroma import brightness
from hdr.observation import Aligned
from hdr.radiometry import GAMMA, MU, growth_of, mu_law, tone_mapped_of

DEVIATION_FLOOR = 0.003
"""Least deviation in the mu-law domain: what interpolation leaves even without noise."""
ALL_BUT_CLIPPED = 1e-3
"""Of saturation: what lies so little below 1 is clipped."""
_OWN_CLIPPED = 0.97  # of the light that clips a channel
_LOST_DETAIL = 2.0  # times its amplitude, of a channel that has none of the brightness
_LITTLE_NOISE = 10.0  # light, times MU: beside less, it is a camera's sharpening that blackens pixels
_DARKEST_VALUE = 1e-3  # of a file; of less, no root has a slope that tells anything


def difference_to_reference(aligned: Aligned, exposures: Tensor, reference: int) -> Tensor:
    """Difference (B, N, 3, H, W) in the mu-law domain, both clipped where one of the two clips first."""
    limit = clipping_value(exposures, reference).to(aligned.tone_mapped).view(*exposures.shape, 1, 1, 1)
    ours = aligned.tone_mapped[:, reference : reference + 1]
    return torch.minimum(aligned.tone_mapped, limit) - torch.minimum(ours, limit)


def clipping_value(exposures: Tensor, reference: int) -> Tensor:
    """Radiance in the mu-law domain at which two exposures clip alike: the reference and each other one, (B, N)."""
    return mu_law(1.0 / torch.maximum(exposures, exposures[:, reference : reference + 1]))


class _Shown(NamedTuple):
    """What one exposure shows, and how well that is known."""

    growth: Tensor
    """(B, 3, H, W): of the mu-law, 1 and more."""
    noise: Tensor
    """(B, 3, H, W): of its light."""
    deviation: Tensor
    """(B, 1, H, W)."""
    lost_detail: Tensor
    """(B, 1, H, W)."""
    t: Tensor
    """(B, 1, 1, 1): relative to the shortest."""
    off: Tensor | None
    """(B, 3, H, W): by how much clipped channels may have spoilt others."""


def squared_difference(aligned: Aligned, noise: Tensor, t: Tensor, reference: int, off: Tensor | None = None) -> Tensor:
    """Squared difference (B, N, 1, H, W) beyond the noise of the light, (B, N, 3, H, W), as far as it is told.

    ``off``, of the same shape, is by how much clipped channels may have spoilt others: the difference that they have
    made is none.
    """

    def shown(index: int) -> _Shown:
        growth = growth_of(aligned.tone_mapped[:, index]).clamp_min(1)
        known = noise[:, index], aligned.deviation[:, index], aligned.lost_detail[:, index], t[:, index]
        return _Shown(growth, *known, None if off is None else off[:, index])

    ours = shown(reference)
    our_error = _colour_error(ours) if _loses_detail(aligned) else None
    # One by one: what lies between is as large as the exposure. The reference differs from itself by nothing.
    squared = [torch.zeros_like(ours.deviation)] * t.shape[1]
    for index in (each for each in range(t.shape[1]) if each != reference):
        theirs = shown(index)
        difference = _difference_beyond_noise(theirs, ours).square()
        if our_error is not None:
            difference = difference * _told_by_channels(theirs, ours, _colour_error(theirs) + our_error)
        squared[index] = difference.mean(dim=1, keepdim=True)
    return torch.stack(squared, dim=1)


def expected_variance(aligned: Aligned, noise: Tensor, reference: int) -> Tensor:
    """What is expected of :func:`squared_difference` where nothing moves, (B, N, 1, H, W), pixel by pixel."""
    growth = growth_of(aligned.tone_mapped).clamp_min(1).mean(dim=2, keepdim=True)
    of_channels = noise.mean(dim=2, keepdim=True)
    more = (_light_of_noise(of_channels, of_channels[:, reference : reference + 1]) - _LITTLE_NOISE).clamp_min(0)
    ours = growth[:, reference : reference + 1]
    # The slopes of the logarithm that begins above the noise, over those of the mu-law. Where one channel is black, and
    # most of the deviation is its, they tell too much, by what is also not known of it.
    theirs, ours = growth / (growth + more), ours / (ours + more)
    deviation = aligned.deviation
    return (deviation * theirs).square() + (deviation[:, reference : reference + 1] * ours).square()


def _light_of_noise(theirs: Tensor, ours: Tensor) -> Tensor:
    """Noise of the light of two exposures, by that of each, in units of the mu-law's growth."""
    return MU * (theirs.square() + ours.square()).sqrt()


def _difference_beyond_noise(theirs: _Shown, ours: _Shown) -> Tensor:
    """:func:`difference_to_reference` of one exposure if both had as much more light as the noise of the two is.

    In the mu-law domain a dark pixel that noise has blackened is far from what it was. Here the logarithm begins where
    light leaves the noise.
    """
    limit = MU / torch.maximum(theirs.t, ours.t) + 1  # where the first of the two clips
    more = _light_of_noise(theirs.noise, ours.noise)
    their_light, our_light = (torch.minimum(shown.growth, limit) + more for shown in (theirs, ours))
    if theirs.off is not None and ours.off is not None:
        spoilt = MU * (theirs.off + ours.off)
        our_light = our_light + torch.clamp(their_light - our_light, -spoilt, spoilt)
    return tone_mapped_of(their_light) - tone_mapped_of(our_light)


def _loses_detail(aligned: Aligned) -> bool:
    lost = aligned.lost_detail
    # A question to a GPU would make it finish all that it has been asked for.
    return lost.device.type != "cpu" or torch.compiler.is_compiling() or bool((lost > 0).any())


def _colour_error(shown: _Shown) -> Tensor:
    """Squared error (B, 3, H, W) of an exposure, mu-law domain, by detail that is too fine for the colours of a JPEG.

    JPEG keeps colour at half the resolution. What is finer in the brightness all channels get alike, also one that is
    dark there, and in saturated colours its light is off by a factor, in each exposure by another one.
    """
    growth = shown.growth.detach()
    # Of the tone curve the usual one: what is known of the error is its size. By logarithms, in half a power's time.
    light = ((growth - 1) * (shown.t / MU)).clamp(_DARKEST_VALUE, 1.0)
    value = torch.exp2(torch.log2(light) / GAMMA)
    share = (1 - value / brightness(value)).clamp_min(0)
    # Times the slope of the mu-law over values, mu / (growth log(1 + mu)) gamma value^(gamma - 1) / t.
    amplitude = shown.lost_detail.detach() * (_LOST_DETAIL * GAMMA * MU / math.log1p(MU) / shown.t)
    return (amplitude * share * (light / (value * growth))).square()


def _told_by_channels(theirs: _Shown, ours: _Shown, error: Tensor) -> Tensor:
    """How much of their squared difference the channels tell, from 1 to 0, for its error in colours: (B, 3, H, W)."""
    expected = theirs.deviation.detach().square() + ours.deviation.detach().square() + DEVIATION_FLOOR**2
    return expected / (expected + error)


def clipped_itself(tone_mapped: Tensor, exposure: Tensor) -> Tensor:
    """Which channels of a saturated pixel (B, 3, H, W), of exposures (B,), are clipped and not only mixed.

    The brightest always is, for something has made the pixel saturated.
    """
    clipped = mu_law(_OWN_CLIPPED / exposure).to(tone_mapped).view(-1, 1, 1, 1)
    return tone_mapped >= torch.minimum(clipped, tone_mapped.amax(dim=1, keepdim=True))
