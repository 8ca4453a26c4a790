"""The physical merge: how far each exposure is believed, and the mean that follows.

Exposures that were brought to the reference (:mod:`hdr.observation`) get a weight: unsaturated * noise-optimal *
consistent with the reference (:mod:`hdr.difference`). Nothing here is learned; the generator
(:class:`hdr.nn.Generator`) starts from these weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from hdr.difference import ALL_BUT_CLIPPED, DEVIATION_FLOOR, clipped_itself, expected_variance, squared_difference
from hdr.mixing import known_light, spoiling, spoils
from hdr.observation import STILL_TOLERANCE, Aligned, bring_to_reference
from hdr.radiometry import light_of, mu_law, mu_law_slope, of_same_light
from hdr.smoothing import blurred

LOST_DEVIATION_FLOOR = 0.006
"""Least deviation where the reference is saturated and shorter exposures decide: how far one may lie below that."""
MISPLACEMENT = 0.0015
"""Deviation in the mu-law domain that alignment leaves in every exposure but the reference, besides its noise."""
_LOST_TRUST = 1e-2  # of shorter exposures where the reference is lost; above what is seen by no exposure at all
_CLIPPED_TRUST = 1e-3  # of a shorter exposure that is clipped, too
_UNSEEN_TRUST = 0.03  # of the edge of a frame that goes on outside, against what was seen; only where all is lost
_REFERENCE_TRUST = 1e-5  # of a clipped reference; it wins where nothing shorter is bright enough to be believed
_SURELY_CLIPPED = (1.1, 1.3)  # times the light at which an exposure clips: from there on, and beyond doubt
_REFERENCE_CLIPPED = 0.99  # of the reference's saturation: what noise and rounding leave of a clipped channel
_BRIGHT_ENOUGH, _TOO_DARK = 0.2, 0.02  # mu-law domain, above and below what clips the reference: beyond doubt
_LEAST_VARIANCE, _LEAST_VARIANCE_OF_LIGHT = 1e-10, 1e-14  # in the mu-law domain, and in linear light
_SURROUNDINGS = 1.0  # pixels, standard deviation: in which a pixel is like its neighbours
_MOSTLY_LOST = (0.3, 0.5)  # share of surroundings that are lost: of a few, and enough to be told by themselves
_NOISE_SMOOTHNESS = 1.0  # pixels, standard deviation: of what is told of noise
_BLACK_SURROUNDINGS = 2.0  # pixels, standard deviation: in which pixels of 0 are counted
_NO_LIGHT = 0.45  # share of them where there is no light: half, but for what so few pixels tell
_MOST_OF_LIGHT = 0.85  # nothing is known to be wholly black, and faint light is not to be lost
_MOST_ADDED = 2.0  # times the noise
_WIDEST = 8.0  # nats between the largest weight and the smallest: a softmax passes no gradient beyond


class ReferenceLight(NamedTuple):
    """What the reference tells of the light at each place, wherever the other exposures are found."""

    light: Tensor
    """(B, 1, 3, H, W): its radiance, linear."""
    slope: Tensor
    """(B, 1, 3, H, W): of the mu-law, in the mean radiance of its surroundings."""

    @classmethod
    def of(cls, aligned: Aligned, reference: int) -> ReferenceLight:
        """Light of the reference of aligned exposures; no motion changes it."""
        tone_mapped = aligned.tone_mapped[:, reference]
        surroundings = light_of(blurred(tone_mapped, 2.0).clamp_min(0))
        return cls(light_of(tone_mapped).unsqueeze(1), mu_law_slope(surroundings).unsqueeze(1))


def prior(aligned: Aligned, exposures: Tensor, reference: int, light: ReferenceLight | None = None) -> Tensor:
    """Weights of the physical merge, as logarithms.

    w_i = unsaturated_i / noise_i^2 * exp(-max(d_i^2 - sigma^2, 0) / 2 (sigma^2 + floor^2)): d_i^2 the smoothed squared
    difference to the reference in the mu-law domain, both clipped at the lower saturation of the two, sigma^2 the
    variance expected in it. The inverse variance of the radiance is the noise-optimal weight (Granados et al., CVPR
    2010); under shot noise alone it is the exposure. Where the reference is saturated the shorter exposures decide, as
    far as they are bright enough to have saturated it; if none is, the reference's clipping value is the best guess
    until :mod:`hdr.inpainting` sees the light around.

    Each channel has weights of its own, because it is saturated by itself; motion, wherever it shows, is that of all. A
    camera that mixes channels after they clip has spoilt the others, each by so much (:func:`hdr.mixing.spoiling`), and
    that counts as noise.

    Parameters
    ----------
    aligned
        Observations in the reference's frame.
    exposures
        Shape (B, N), relative to the shortest, ascending.
    reference
        Its index.
    light
        Of the reference, where it was computed before.

    Returns
    -------
    Tensor
        Shape (B, N, 3, H, W), at most 0 and at least -8.
    """
    light = ReferenceLight.of(aligned, reference) if light is None else light
    t = exposures.to(aligned.tone_mapped).view(*exposures.shape, 1, 1, 1)
    noise = blurred(aligned.noise.flatten(0, 1), _NOISE_SMOOTHNESS).view_as(aligned.noise)
    variance = expected_variance(aligned, noise.detach(), reference)
    variance = blurred(variance.flatten(0, 1), 2.0).view_as(variance)
    known = known_light(aligned, reference)
    off = spoiling(aligned, t, known)
    squared = squared_difference(aligned, noise.detach(), t, reference, off)
    smoothed = _smoothed(squared)
    excess = (smoothed - variance).clamp_min(0)  # 0 for the reference itself
    consistent = torch.exp(-0.5 * excess / (variance + DEVIATION_FLOOR**2))
    unsaturated = _unsaturated_share(aligned, light.light, t, reference, known)
    if off is not None:
        variance_of_light = aligned.noise.square()
        unsaturated = unsaturated * variance_of_light / (variance_of_light + off.square())
        del variance_of_light
    del known, off  # of a tile each takes tens of megabytes
    # In units in which shot noise alone makes it t.
    precision = _precision(noise, light.slope, reference) * t[:, reference : reference + 1]
    weights = unsaturated * (precision * consistent * aligned.seen)
    # The shorter exposures by what they add where the reference is lost.
    shorter, lost = slice(reference), aligned.saturation[:, reference : reference + 1]
    of_lost = _smoothed_among_lost(squared[:, shorter], smoothed[:, shorter], lost)
    excess = (of_lost - variance[:, shorter]).clamp_min(0)
    bright_enough = torch.exp(-0.5 * excess / (variance[:, shorter] + LOST_DEVIATION_FLOOR**2))
    # The shortest is believed where it is clipped itself: its white is the brightest that is known. Others are so more
    # than the reference, which clips at less.
    usable = unsaturated.clamp_min(_CLIPPED_TRUST)
    usable = torch.cat([torch.ones_like(usable[:, :1]), usable[:, 1:]], dim=1)[:, shorter]
    trust = _UNSEEN_TRUST + (1 - _UNSEEN_TRUST) * aligned.seen[:, shorter]
    # Not one of the reference's own light, which clips where the reference does.
    less = (~of_same_light(exposures, reference)).to(t).view_as(t)[:, shorter]
    added = lost * usable * (_LOST_TRUST * bright_enough * trust * t[:, shorter] * less)
    weights = torch.cat([weights[:, shorter] + added, weights[:, reference:]], dim=1)
    log = torch.log(weights + _for_each(weights, reference, _REFERENCE_TRUST, 1e-12))
    return (log - log.amax(dim=1, keepdim=True)).clamp_min(-_WIDEST)


def _unsaturated_share(aligned: Aligned, light: Tensor, t: Tensor, reference: int, known: Sequence[Tensor]) -> Tensor:
    """How far each channel of each exposure is from clipping, from 1 to 0: (B, N, 3, H, W)."""
    # Interpolation leaves 1 - 6e-8 of what is clipped: where little else is known, that rounding would decide.
    unsaturated = (1 - ALL_BUT_CLIPPED - aligned.saturation).clamp_min(0)
    # What the reference saw of the light clips a longer exposure by so much, whatever JPEG has made of its white.
    longer = slice(reference + 1, None)
    unclipped = _unclipped_by(light * t[:, longer])
    saturation = aligned.saturation[:, longer]
    # All channels alike: none is known to clip, and the brightest may have spoilt the others.
    alike = saturation.amax(2, keepdim=True) - saturation.amin(2, keepdim=True) <= ALL_BUT_CLIPPED
    unclipped = torch.where(alike, unclipped.amin(2, keepdim=True), unclipped)
    shares = [unsaturated[:, 0]]
    # So do shorter ones with what is nearly white up to the reference, where another channel is white all over.
    for index, there in enumerate(known[:reference], start=1):
        saturation = aligned.saturation[:, index]
        nearly = (2 * saturation).clamp_max(1) * (saturation.amax(dim=1, keepdim=True) >= 1 - ALL_BUT_CLIPPED)
        told = 1 - nearly * (1 - _unclipped_by(there * t[:, index]))
        shares.append(torch.minimum(unsaturated[:, index], told))
    return torch.cat([torch.stack(shares, dim=1), torch.minimum(unsaturated[:, longer], unclipped)], dim=1)


def _unclipped_by(light: Tensor) -> Tensor:
    """How surely light, in units of that which clips a channel, does not clip it: from 1 to 0."""
    perhaps, surely = _SURELY_CLIPPED
    return ((surely - light) / (surely - perhaps)).clamp(0, 1)


def _precision(noise: Tensor, slope: Tensor, reference: int) -> Tensor:
    """Inverse variance of the radiance (B, N, 3, H, W), relative to that of the reference."""
    # By the slope in the reference's brightness for all: noise is no reason for another one of the mu-law.
    variance = (noise * slope).square()
    variance = variance + _for_each(variance, reference, 0.0, MISPLACEMENT**2) + _LEAST_VARIANCE
    return variance[:, reference : reference + 1] / variance


def _smoothed(maps: Tensor) -> Tensor:
    """Maps (B, N, 1, H, W) as their surroundings have them."""
    return blurred(maps.flatten(0, 1), _SURROUNDINGS).view_as(maps)


def _smoothed_among_lost(squared: Tensor, smoothed: Tensor, lost: Tensor) -> Tensor:
    """Squared differences (B, K, 1, H, W) as those surroundings have them that the reference has lost, (B, 1, 3, H, W).

    What is small and dark in front of a white sky differs much where a shorter exposure has the sky in its place: that
    is no reason to doubt the sky beside it. Single pixels that grain has clipped are told by what is around.
    """
    few, enough = _MOSTLY_LOST
    share = (lost.detach().amin(dim=2, keepdim=True) >= 1 - ALL_BUT_CLIPPED).to(lost)  # in all channels
    among, whole = _smoothed(torch.cat([squared * share, share], dim=1)).tensor_split([squared.shape[1]], dim=1)
    alone = share * ((whole - few) / (enough - few)).clamp(0, 1)
    return torch.lerp(smoothed, among / whole.clamp_min(few), alone)


def physical_merge(
    observations: Tensor,
    exposures: Tensor,
    displacement: Tensor,
    reference: int,
    corner: Tensor | None = None,
    mixing: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Radiance (B, 3, H, W) in the mu-law domain and weights (B, N, 3, H, W), by physics alone.

    Arguments are those of :meth:`hdr.nn.Generator.forward`; an untrained generator gives the same.
    """
    aligned = bring_to_reference(observations, displacement, reference, corner, mixing=mixing)
    weights = torch.softmax(prior(aligned, exposures, reference), dim=1)
    return merged(aligned, weights, exposures, reference), weights


def merged(
    aligned: Aligned,
    weights: Tensor,
    exposures: Tensor,
    reference: int,
    denoise: Callable[[Tensor, BlendNoise], Tensor] | None = None,
) -> Tensor:
    """Radiance (B, 3, H, W), mu-law domain: the weighted mean, without cut noise and not below a clipped reference.

    ``denoise``, if given, makes an estimate of that mean and of the noise that is left in it.
    """
    radiance = blended(aligned, weights)
    noise = noise_of_blend(aligned, weights, radiance)
    if denoise is not None:
        radiance = denoise(radiance, noise)
    radiance = without_cut_noise(radiance, aligned, weights, noise.light)
    return not_below_saturation(radiance, aligned, exposures, reference)


def blended(aligned: Aligned, weights: Tensor) -> Tensor:
    """Weighted mean (B, 3, H, W) in linear light, where noise averages out without a bias; in the mu-law domain."""
    return mu_law((weights * light_of(aligned.tone_mapped)).sum(dim=1))


def without_tolerance(aligned: Aligned, reference: int) -> Aligned:
    """Exposures in all of which nothing moves, with the deviation that noise alone gives them."""
    return aligned._replace(deviation=aligned.deviation / _for_each(aligned.deviation, reference, 1.0, STILL_TOLERANCE))


class BlendNoise(NamedTuple):
    """What is left in a weighted mean of the noise of the exposures; standard deviations of shape (B, 3, H, W)."""

    tone_mapped: Tensor
    """In the mu-law domain, smoothed over 1 pixel (a Gaussian's standard deviation)."""
    deviation: Tensor
    """In the mu-law domain, of all that makes equal radiance differ."""
    light: Tensor
    """In linear light, smoothed as the first."""


def noise_of_blend(aligned: Aligned, weights: Tensor, radiance: Tensor) -> BlendNoise:
    """What is left in a weighted mean of the noise of the exposures, and of their deviation.

    Parameters
    ----------
    aligned, weights
        Of the exposures.
    radiance
        Shape (B, 3, H, W), mu-law domain: their mean.
    """
    noise, deviation = ((weights * sigma).square().sum(dim=1) for sigma in (aligned.noise, aligned.deviation))
    # The least keeps the slopes of the roots finite.
    sigma = blurred((noise + _LEAST_VARIANCE_OF_LIGHT).sqrt(), _NOISE_SMOOTHNESS)
    # Half of what light within a standard deviation spans: in black the slope would tell several times as much. Of
    # neighbours, because a pixel that noise has darkened would tell more than others.
    light = light_of(blurred(radiance, _NOISE_SMOOTHNESS).clamp(0, 1))
    tone_mapped = (mu_law(light + sigma) - mu_law(light - sigma)) / 2
    return BlendNoise(tone_mapped, (deviation + _LEAST_VARIANCE).sqrt(), sigma)


def without_cut_noise(radiance: Tensor, aligned: Aligned, weights: Tensor, noise: Tensor) -> Tensor:
    """An estimate without the light that noise has left in black because files cut it off at 0.

    Around light x noise of standard deviation s becomes max(x + s z, 0), which is brighter in the mean: by 0.4 s where
    there is no light at all, as in the dark channel of saturated colours. How much of it is light, x / (x Phi(x / s) +
    s phi(x / s)), follows from the share of pixels that are 0, Phi(-x / s).

    Parameters
    ----------
    radiance
        Shape (B, 3, H, W), mu-law domain: the estimate.
    aligned, weights
        Of the exposures.
    noise
        The same shape: standard deviation in linear light; no pixel changes by more than twice as much.

    Returns
    -------
    Tensor
        Shape (B, 3, H, W): nowhere brighter.
    """
    if aligned.cut_off is None:
        return radiance
    share = (weights * aligned.cut_off.detach().clamp(-1, 0)).sum(dim=1).neg()
    share = (blurred(share, _BLACK_SURROUNDINGS) / _NO_LIGHT).clamp(0, 1).square()
    added = (share * (0.7 + 0.3 * share.square())).clamp_max(_MOST_OF_LIGHT)  # 1 - x / (x Phi(x) + phi(x)), to 0.01
    light = light_of(radiance.clamp_min(0))
    less = mu_law(light - torch.minimum(light * added, _MOST_ADDED * noise))
    return torch.where((added > 0) & (radiance > 0), less, radiance)


def not_below_saturation(radiance: Tensor, aligned: Aligned, exposures: Tensor, reference: int) -> Tensor:
    """Where the reference is clipped there was light enough for that, whatever the others say.

    Where channels clip one by one, in each channel that is clipped. Where they spoil each other, a channel of the file
    may be clipped for another one of the sensor, and no more is sure than that the brightest was: the brighter an
    estimate is, the more it keeps of its colours, and one that is too dark is of something else, and gets the
    reference's.

    Parameters
    ----------
    radiance
        Shape (B, 3, H, W), mu-law domain: the estimate.
    aligned, exposures, reference
        As for :func:`prior`.

    Returns
    -------
    Tensor
        Shape (B, 3, H, W): nowhere darker.

    Examples
    --------
    >>> from hdr.calibration import Calibration
    >>> from hdr.radiometry import inverse_mu_law
    >>> from hdr.response import Response
    >>> light = torch.tensor([0.03, 0.05, 0.4]).view(1, 1, 3, 1, 1).repeat(1, 2, 1, 1, 1)
    >>> light[:, 1] = 1 / 16  # white: a longer exposure is clipped
    >>> one, saturation = torch.ones_like(light[:, :, :1]), torch.zeros_like(light)
    >>> saturation[:, 1] = 1.0
    >>> mixing = Calibration(Response.srgb()).batched_mixing(light)  # a blue sky, by a typical camera
    >>> aligned = Aligned(mu_law(light), saturation, one, light, one, 0 * one, mixing)
    >>> raised = not_below_saturation(mu_law(light[:, 0]), aligned, torch.tensor([[1.0, 16.0]]), reference=1)
    >>> inverse_mu_law(raised).flatten().round(decimals=2)
    tensor([0.0300, 0.0500, 0.4000])
    """
    ours = aligned.tone_mapped[:, reference]
    limit = mu_law(_REFERENCE_CLIPPED / exposures[:, reference]).to(ours).view(-1, 1, 1, 1)
    # Nearly clipped, it is a bound, too: pixels that noise has left below it would be dark dots in white.
    lost = aligned.saturation[:, reference] >= 1 - ALL_BUT_CLIPPED
    clipped = (ours >= limit) | (lost & clipped_itself(ours, exposures[:, reference]))
    raised = torch.maximum(radiance, ours)
    above = radiance.amax(dim=1, keepdim=True) - limit
    # The unclipped channels are spoilt: only what is too dark is worse.
    share = torch.where(clipped, 1 - above / _BRIGHT_ENOUGH, -above / _TOO_DARK).clamp(0, 1)
    share = share * clipped.any(dim=1, keepdim=True)
    spoilt = spoils(aligned)
    lost = clipped.to(share) if spoilt is None else torch.where(spoilt, share, clipped.to(share))
    return torch.lerp(radiance, raised, lost)


def _for_each(maps: Tensor, reference: int, of_reference: float, of_others: float) -> Tensor:
    """One number for the reference and another for each other exposure of maps (B, N, ...), (1, N, 1, 1, 1)."""
    index = torch.arange(maps.shape[1], device=maps.device).view(1, -1, 1, 1, 1)
    return torch.where(index == reference, of_reference, of_others).to(maps.dtype)
