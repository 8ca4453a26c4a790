"""The physical merge: what each exposure knows about the radiance at a place, and how far it is believed.

An *observation* of an exposure is what physics says about its pixels: radiance in the mu-law domain, how near to
clipping they are, and the noise that is expected in them. Observations are brought to the reference by a displacement,
and each gets a weight: unsaturated * noise-optimal * consistent with the reference. Nothing here is learned; the
generator (:class:`hdr.nn.Generator`) starts from these weights.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from hdr.chroma import Halved, brightness, lost_detail, with_fine_colours
from hdr.geometry import inside, pixel_grid, sample
from hdr.radiometry import GAMMA, MU, mu_law, mu_law_slope
from hdr.smoothing import blurred

if TYPE_CHECKING:
    from hdr.calibration import Calibration  # needs OpenCV, which the networks do not

_PARTS = (3, 3, 1, 3, 1)
OBSERVATION_CHANNELS = sum(_PARTS)
"""Radiance (3), saturation (3), deviation, noise (3), lost detail."""

SATURATION_BEGINS, SATURATION_ENDS = 0.9, 0.98
"""Share of the white level from which a pixel counts as saturated in part, and in full."""

CLIPPED = 10.0
"""Saturation of a clipped pixel in an observation: what is interpolated from it by a tenth counts as saturated, too,
for it is darker than the light that it stands for. After that it is 1 at most."""

DEVIATION_FLOOR = 0.003
"""Least deviation in the mu-law domain: what interpolation leaves even without noise."""
LOST_DEVIATION_FLOOR = 0.006
"""The same where the reference is saturated and shorter exposures decide: how far one may lie below saturation."""

STILL_TOLERANCE = 2.5
"""By which the deviation of an exposure in which nothing moves is multiplied: what differs there is hardly motion."""

MISPLACEMENT = 0.0015
"""Deviation in the mu-law domain that alignment leaves in every exposure but the reference, besides its noise."""

_RESPONSE_ERROR = 1.0  # levels of the file, standard deviation: its toe, black level and compression

BINS = 14
"""Steps of brightness in the mu-law domain for which :func:`unexplained_variance` is found."""

_PIXELS_AT_ONCE = 1 << 15
_FEWEST_IN_BIN = 50
_SAMPLED_PIXELS = 20_000
_QUANTILE = 0.1  # of the squared differences: what moved, up to nine tenths of a brightness, has no say
_OF_NOISE = 0.1948  # the same quantile of the mean of three squared standard normal numbers, chi2(3) / 3
_LARGEST_UNEXPLAINED = 0.1**2
_SHARED_NOISE = 0.3  # of the variance, by all channels where the camera mixes them: what its colours have of others
_LOST_TRUST = 1e-2  # of shorter exposures where the reference is lost; above what is seen by no exposure at all
_CLIPPED_TRUST = 1e-3  # of a shorter exposure that is clipped, too
_UNSEEN_TRUST = 0.03  # of the edge of a frame that goes on outside, against what was seen; only where all is lost
_REFERENCE_TRUST = 1e-5  # of a clipped reference; it wins where nothing shorter is bright enough to be believed
_ALL_BUT_CLIPPED = 1e-3  # of saturation: what lies above is clipped
_SURELY_CLIPPED = (1.1, 1.3)  # times the light at which an exposure clips: from there on, and beyond doubt
_OWN_CLIPPED = 0.97  # of the light that clips a channel
_REFERENCE_CLIPPED = 0.99  # of the reference's saturation: what noise and rounding leave of a clipped channel
_BRIGHT_ENOUGH, _TOO_DARK = 0.2, 0.02  # mu-law domain, above and below what clips the reference: beyond doubt
_PATCH = 13  # pixels; what moves is larger than a leaf and smaller than the image
_PATCHES = 1000
_LEAST_VARIANCE, _LEAST_VARIANCE_OF_LIGHT = 1e-10, 1e-14  # in the mu-law domain, and in linear light
_BLACK = 1e-10  # linear light: of less, no root has a gradient that is a number
_JUMP = 3.0  # pixels, within ten
_LOST_DETAIL = 2.0  # times its amplitude, of a channel that has none of the brightness
_RIPPLES = 1.5  # pixels, standard deviation: around a pixel that JPEG's ripples may have darkened
_SURROUNDINGS = 1.0  # pixels, standard deviation: in which a pixel is like its neighbours
_MOSTLY_LOST = (0.3, 0.5)  # share of surroundings that are lost: of a few, and enough to be told by themselves
_AMID_CLIPPED = (0.5, 0.7)  # share of what is around it that is clipped: perhaps, and surely, it is, too
_DARKEST_VALUE = 1e-3  # of a file; of less, no root has a slope that tells anything
_NOISE_SMOOTHNESS = 1.0  # pixels, standard deviation: of what is told of noise
_FEWEST_PATCHES = 8
_MOVED = 4.0  # excess over the tolerance, squared: two standard deviations
_WIDEST = 8.0  # nats between the largest weight and the smallest: a softmax passes no gradient beyond


class Aligned(NamedTuple):
    """Observations in the reference's frame."""

    tone_mapped: Tensor
    """(B, N, 3, H, W), mu-law domain."""
    saturation: Tensor
    """(B, N, 3, H, W), 0 unsaturated to 1 clipped; where the camera mixes channels, the brightest one's for all."""
    deviation: Tensor
    """(B, N, 1, H, W): by how much equal radiance is expected to differ, standard deviation in the mu-law domain."""
    noise: Tensor
    """(B, N, 3, H, W): standard deviation of the radiance itself, by the calibration and a level of the file."""
    seen: Tensor
    """(B, N, 1, H, W): 1 inside an exposure's frame, 0 outside; and towards 0 where the displacement jumps."""
    lost_detail: Tensor
    """(B, N, 1, H, W): amplitude of the detail of brightness, in values of the file, that is too fine for the colours
    of a JPEG; 0 in other files."""


def observe(
    ldr: Tensor,
    exposures: Tensor,
    calibration: Calibration,
    unexplained: Tensor | None = None,
    still: Sequence[bool] = (),
) -> Tensor:
    """Observations of a bracket; no gradient passes, because a response is a table.

    Parameters
    ----------
    ldr
        Shape (N, 3, H, W), in [0, 1].
    exposures
        Shape (N,), relative to the shortest.
    calibration
        Response, white level and noise.
    unexplained
        Shape (N, 14): variance besides that of the calibration, by brightness, from :func:`unexplained_variance`.
    still
        For each exposure whether hardly anything moves in it, see :class:`hdr.alignment.Alignment`: more may differ
        there, for it is hardly motion. By default it is not known.

    Returns
    -------
    Tensor
        Shape (N, 11, H, W): radiance in the mu-law domain, saturation, deviation, noise and lost detail as in
        :class:`Aligned`, but that the saturation of clipped pixels is :data:`CLIPPED`.

    Examples
    --------
    >>> from hdr.calibration import Calibration
    >>> from hdr.response import Response
    >>> observe(torch.rand(2, 3, 8, 8), torch.tensor([1.0, 4.0]), Calibration(Response.srgb())).shape
    torch.Size([2, 11, 8, 8])
    """
    camera = exposures, calibration, unexplained, still
    ldr, lost = _colours(ldr.detach(), calibration)
    saturation = slice(_PARTS[0], sum(_PARTS[:2]))
    if ldr.device.type != "cpu" or torch.compiler.is_compiling():
        observed = _observed(ldr, *camera)
        before, saturated, after = observed.tensor_split([saturation.start, saturation.stop], dim=1)
        return torch.cat([before, _without_ripples(saturated, calibration), after, lost], dim=1)
    # Row by row, what lies between is still in the processor's cache, and takes no memory that counts.
    observed = ldr.new_empty(len(ldr), OBSERVATION_CHANNELS, *ldr.shape[-2:])
    rows = max(_PIXELS_AT_ONCE // (len(ldr) * ldr.shape[-1]), 1)
    for part, out in zip(ldr.split(rows, dim=2), observed.split(rows, dim=2), strict=True):
        out[:, : -_PARTS[-1]] = _observed(part.contiguous(), *camera)
    observed[:, -_PARTS[-1] :] = lost
    if _subsampled(calibration.chroma_halved) is not False:
        observed[:, saturation] = _without_ripples(observed[:, saturation], calibration)
    return observed


def _colours(ldr: Tensor, calibration: Calibration) -> tuple[Tensor, Tensor]:
    """Files (N, 3, H, W) with fine colours, and the amplitude (N, 1, H, W) of the detail that theirs had lost."""
    subsampled = _subsampled(calibration.chroma_halved)
    if subsampled is False:
        return ldr, torch.zeros_like(ldr[:, :1])
    restored = with_fine_colours(ldr, SATURATION_ENDS * calibration.white_level, calibration.chroma_halved)
    lost = lost_detail(ldr)
    return restored, lost if subsampled is True else torch.where(subsampled, lost, 0.0)


def _subsampled(halved: Halved) -> bool | Tensor:
    """Whether files keep fewer colours than pixels at all; a tensor where it is an input of a graph."""
    rows, columns = halved
    return (rows > 0) | (columns > 0) if isinstance(rows, Tensor) else rows or columns


def _without_ripples(saturation: Tensor, calibration: Calibration) -> Tensor:
    """Saturation (N, 3, H, W) that is full, too, where what is nearly clipped lies amid clipped pixels of a JPEG.

    Its compression ripples beside edges, and of white some pixels are left that are no darker than the light was.
    """
    subsampled = _subsampled(calibration.chroma_halved)
    if subsampled is False:
        return saturation
    told = saturation[:, :1] if calibration.channels_mix is True else saturation  # one that is that of all
    perhaps, surely = _AMID_CLIPPED
    share = blurred((told >= 1).to(told), _RIPPLES)
    lost = ((share - perhaps) / (surely - perhaps)).clamp(0, 1)
    lost = torch.where((told > 0) & torch.as_tensor(subsampled, device=lost.device), lost, 0.0)
    return torch.maximum(saturation, lost)


def _observed(
    ldr: Tensor, exposures: Tensor, calibration: Calibration, unexplained: Tensor | None, still: Sequence[bool]
) -> Tensor:
    t = exposures.to(ldr).view(-1, 1, 1, 1)
    light = calibration.response.to_linear(ldr)
    rounding = calibration.response.slope(ldr) / calibration.levels
    # Shot noise, read noise, and what rounding to levels adds: uniform over one step of the file.
    squared = rounding.square()
    variance = (calibration.shot * light + calibration.read + squared / 12) / t.square()
    radiance = light / t
    # A response that neighbouring exposures disagree about by so many EV is wrong by a factor, wherever it is used.
    misjudged = radiance * (2.0**calibration.typical_disagreement - 1)
    growth = MU * radiance + 1
    slope = MU / math.log1p(MU) / growth
    deviation = ((variance + misjudged.square()).sqrt() * slope).mean(1, keepdim=True)
    tone_mapped = _tone_mapped(growth)
    if unexplained is not None:
        deviation = (deviation.square() + _at_brightness(unexplained, tone_mapped)).sqrt()
    mixing = calibration.channels_mix
    value = _if_mixing(mixing, ldr.amax(dim=1, keepdim=True), ldr) / calibration.white_level
    saturation = ((value - SATURATION_BEGINS) / (SATURATION_ENDS - SATURATION_BEGINS)).clamp_min(0)
    saturation = torch.where(value < SATURATION_ENDS, saturation, CLIPPED)
    if any(still):
        tolerance = torch.tensor([STILL_TOLERANCE if one else 1.0 for one in still]).to(deviation)
        deviation = deviation * tolerance.view(-1, 1, 1, 1)
    # No response is known better than to a level: of two exposures the one whose values are large is believed more.
    noise = variance + squared * (_RESPONSE_ERROR / t).square()
    # Of each channel its own: in saturated colours the dark one has little of the noise of the bright ones.
    noise = _if_mixing(mixing, torch.lerp(noise, noise.mean(dim=1, keepdim=True), _SHARED_NOISE), noise).sqrt()
    return torch.cat([tone_mapped, saturation.expand_as(noise), deviation, noise], dim=1)


def _if_mixing(mixing: bool | Tensor, mixed: Tensor, separate: Tensor) -> Tensor:
    """One of two by whether the camera mixes channels, which is a tensor where it is an input of a graph."""
    if isinstance(mixing, Tensor):
        return torch.where(mixing > 0, mixed, separate)
    return mixed if mixing else separate


def bring_to_reference(
    observations: Tensor,
    displacement: Tensor,
    reference: int,
    corner: Tensor | None = None,
    continuous: Tensor | None = None,
) -> Aligned:
    """Read every exposure where a place of the reference is found in it.

    Parameters
    ----------
    observations
        Shape (B, N, 11, Hs, Ws): the whole image, or a part that holds all that the displacement points to.
    displacement
        Shape (B, N, 2, H, W), see :mod:`hdr.geometry`; 0 for the reference, which is copied and not interpolated.
    reference
        Its index.
    corner
        Shape (B, 2): row and column of the observations where the displacement's first pixel lies; by default (0, 0).
    continuous
        Of the displacement, if it is known (:func:`continuity`).
    """
    batch = len(observations)
    height, width = displacement.shape[-2:]
    rows, columns = observations.shape[-2:]
    positions = displacement + pixel_grid(height, width, like=displacement)
    corners = [(0, 0)] * batch if corner is None else [(int(top), int(left)) for top, left in corner.tolist()]
    if corner is not None:
        offset = corner.flip(1).to(positions.device, positions.dtype, non_blocking=True)
        positions = positions + offset.view(batch, 1, 2, 1, 1)
    seen = inside(positions, rows, columns) * (continuity(displacement) if continuous is None else continuous)
    # The reference is not interpolated: its pixels stay as sharp as they are.
    still = torch.stack(
        [
            image[:, top : top + height, left : left + width]
            for image, (top, left) in zip(observations[:, reference], corners, strict=True)
        ]
    )

    def read(channels: slice, at: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        every = enumerate(zip(observations[:, :, channels].unbind(1), positions.unbind(1), strict=True))
        return torch.stack([still[:, channels] if index == reference else at(*one) for index, one in every], dim=1)

    # Apart, so that nothing of a tile's size is put together once more.
    radiance, others = read(slice(_PARTS[0]), _interpolated), read(slice(_PARTS[0], None), sample)
    return _parted(radiance, others, seen.to(observations).unsqueeze(2))


def _interpolated(tone_mapped: Tensor, positions: Tensor) -> Tensor:
    """Radiance (B, 3, H, W), mu-law domain, at positions (B, 2, H', W'), interpolated as a fourth root of light.

    Of a lamp as small as a pixel the mu-law would lose most of the light, and light itself would spread over the dark.
    """
    root = _light(tone_mapped).clamp_min(_BLACK).sqrt().sqrt()
    light = sample(root, positions).square().square()
    return _tone_mapped(MU * light + 1)


def _growth(tone_mapped: Tensor) -> Tensor:
    """1 + mu light of radiance in the mu-law domain; to 1e-7, in which what is lost of light is seen by nobody."""
    return torch.exp2(tone_mapped * math.log2(1 + MU))


def _tone_mapped(growth: Tensor) -> Tensor:
    """The mu-law of 1 + mu light to 1e-8, which is all that its own log1p, of four times the time, would tell more."""
    return torch.log(growth) / math.log1p(MU)


def _light(tone_mapped: Tensor) -> Tensor:
    """Light to 1e-11 of radiance in the mu-law domain, as exposures have it, in a fifth of the exact inverse's time."""
    return (_growth(tone_mapped) - 1) / MU


def continuity(displacement: Tensor) -> Tensor:
    """1 where a displacement (B, N, 2, H, W) goes on smoothly, 0 where it jumps; (B, N, H, W).

    At the edge of what moved, one of two exposures shows what the other hides, and flow is a guess on both sides.

    Examples
    --------
    >>> displacement = torch.zeros(1, 2, 2, 32, 64)
    >>> displacement[:, 1, 0, :, 32:] = 8.0
    >>> continuity(displacement)[0, 1, 16, 22:42:2].round(decimals=1)
    tensor([1.0000, 1.0000, 0.8000, 0.4000, 0.1000, 0.1000, 0.2000, 0.6000, 0.9000,
            1.0000])
    """
    some = displacement.detach()[..., ::2, ::2].flatten(0, 1)  # every second pixel tells as much as all
    span = _largest_around(some) + _largest_around(-some)
    jumps = (span.square().sum(dim=1, keepdim=True).sqrt() / _JUMP - 1).clamp(0, 1)
    size = displacement.shape[-2:]
    fine = F.interpolate(blurred(jumps, 1.0), size=size, mode="bilinear", align_corners=False)
    return 1 - fine.view(*displacement.shape[:2], *size)


def _largest_around(maps: Tensor) -> Tensor:
    """The largest of 5 x 5 values (..., H, W), by pairs: a pooling takes fifty times as long on a CPU."""
    padded = F.pad(maps, (2, 2, 2, 2), mode="replicate")
    for axis in (-1, -2):
        side = maps.shape[axis]
        pairs = torch.maximum(padded.narrow(axis, 0, side + 3), padded.narrow(axis, 1, side + 3))
        fours = torch.maximum(pairs.narrow(axis, 0, side + 1), pairs.narrow(axis, 2, side + 1))
        padded = torch.maximum(fours.narrow(axis, 0, side), fours.narrow(axis, 1, side))
    return padded


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
        surroundings = _light(blurred(tone_mapped, 2.0).clamp_min(0))
        return cls(_light(tone_mapped).unsqueeze(1), mu_law_slope(surroundings).unsqueeze(1))


def prior(aligned: Aligned, exposures: Tensor, reference: int, light: ReferenceLight | None = None) -> Tensor:
    """Weights of the physical merge, as logarithms.

    w_i = unsaturated_i / noise_i^2 * exp(-max(d_i^2 - sigma^2, 0) / 2 (sigma^2 + floor^2)): d_i^2 the smoothed squared
    difference to the reference in the mu-law domain, both clipped at the lower saturation of the two, sigma^2 the
    variance expected in it. The inverse variance of the radiance is the noise-optimal weight (Granados et al., CVPR
    2010); under shot noise alone it is the exposure. Where the reference is saturated the shorter exposures decide, as
    far as they are bright enough to have saturated it; if none is, the reference's clipping value is the best guess
    until :mod:`hdr.inpainting` sees the light around.

    Each channel has weights of its own, because it is saturated by itself; motion, wherever it shows, is that of all. A
    camera that mixes channels after they clip has spoilt all three, and then their saturation is that of the brightest.

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
    variance = aligned.deviation.square()
    variance = blurred((variance + variance[:, reference : reference + 1]).flatten(0, 1), 2.0).view_as(variance)
    noise = blurred(aligned.noise.flatten(0, 1), _NOISE_SMOOTHNESS).view_as(aligned.noise)
    squared = _squared_difference(aligned, noise.detach(), t, reference)
    smoothed = _smoothed(squared)
    excess = (smoothed - variance).clamp_min(0)  # 0 for the reference itself
    consistent = torch.exp(-0.5 * excess / (variance + DEVIATION_FLOOR**2))
    unsaturated = _unsaturated_share(aligned, light.light, t, reference)
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
    added = lost * usable * (_LOST_TRUST * bright_enough * trust * t[:, shorter])
    weights = torch.cat([weights[:, shorter] + added, weights[:, reference:]], dim=1)
    log = torch.log(weights + _for_each(weights, reference, _REFERENCE_TRUST, 1e-12))
    return (log - log.amax(dim=1, keepdim=True)).clamp_min(-_WIDEST)


def physical_merge(
    observations: Tensor, exposures: Tensor, displacement: Tensor, reference: int, corner: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Radiance (B, 3, H, W) in the mu-law domain and weights (B, N, 3, H, W), by physics alone.

    Arguments are those of :meth:`hdr.nn.Generator.forward`; an untrained generator gives the same.
    """
    aligned = bring_to_reference(observations, displacement, reference, corner)
    weights = torch.softmax(prior(aligned, exposures, reference), dim=1)
    return merged(aligned, weights, exposures, reference), weights


def merged(aligned: Aligned, weights: Tensor, exposures: Tensor, reference: int) -> Tensor:
    """Radiance (B, 3, H, W) in the mu-law domain: the weighted mean, where the reference is clipped not below that."""
    return not_below_saturation(blended(aligned, weights), aligned, exposures, reference)


def blended(aligned: Aligned, weights: Tensor) -> Tensor:
    """Weighted mean (B, 3, H, W) in linear light, where noise averages out without a bias; in the mu-law domain."""
    return mu_law((weights * _light(aligned.tone_mapped)).sum(dim=1))


def without_tolerance(aligned: Aligned, reference: int) -> Aligned:
    """Exposures in all of which nothing moves, with the deviation that noise alone gives them (:func:`observe`)."""
    return aligned._replace(deviation=aligned.deviation / _for_each(aligned.deviation, reference, 1.0, STILL_TOLERANCE))


def noise_of_blend(aligned: Aligned, weights: Tensor, radiance: Tensor) -> tuple[Tensor, Tensor]:
    """What is left in a weighted mean of the noise of the exposures, and of their deviation.

    Parameters
    ----------
    aligned, weights
        Of the exposures.
    radiance
        Shape (B, 3, H, W), mu-law domain: their mean.

    Returns
    -------
    noise, deviation : Tensor
        Shape (B, 3, H, W), standard deviations in the mu-law domain. The noise is smoothed over 1 pixel (a Gaussian's
        standard deviation), the deviation is not.
    """
    noise, deviation = ((weights * sigma).square().sum(dim=1) for sigma in (aligned.noise, aligned.deviation))
    # The least keeps the slopes of the roots finite.
    sigma = blurred((noise + _LEAST_VARIANCE_OF_LIGHT).sqrt(), _NOISE_SMOOTHNESS)
    # Half of what light within a standard deviation spans: in black the slope would tell several times as much. Of
    # neighbours, because a pixel that noise has darkened would tell more than others.
    light = _light(blurred(radiance, _NOISE_SMOOTHNESS).clamp(0, 1))
    return (mu_law(light + sigma) - mu_law(light - sigma)) / 2, (deviation + _LEAST_VARIANCE).sqrt()


def not_below_saturation(radiance: Tensor, aligned: Aligned, exposures: Tensor, reference: int) -> Tensor:
    """Where the reference is clipped there was light enough for that, whatever the others say.

    Where channels clip one by one, in each channel that is clipped. Where the camera mixes them, a channel of the file
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
    >>> from hdr.radiometry import inverse_mu_law
    >>> light = torch.tensor([0.03, 0.05, 0.4]).view(1, 1, 3, 1, 1).repeat(1, 2, 1, 1, 1)
    >>> light[:, 1] = 1 / 16  # white: a longer exposure is clipped
    >>> one, saturation = torch.ones_like(light[:, :, :1]), torch.zeros_like(light)
    >>> saturation[:, 1] = 1.0
    >>> aligned = Aligned(mu_law(light), saturation, one, light, one, 0 * one)
    >>> raised = not_below_saturation(mu_law(light[:, 0]), aligned, torch.tensor([[1.0, 16.0]]), reference=1)
    >>> inverse_mu_law(raised).flatten().round(decimals=2)
    tensor([0.0300, 0.0500, 0.4000])
    """
    ours = aligned.tone_mapped[:, reference]
    limit = mu_law(_REFERENCE_CLIPPED / exposures[:, reference]).to(ours).view(-1, 1, 1, 1)
    # Nearly clipped, it is a bound, too: pixels that noise has left below it would be dark dots in white.
    lost = aligned.saturation[:, reference] >= 1 - _ALL_BUT_CLIPPED
    clipped = (ours >= limit) | (lost & clipped_itself(ours, exposures[:, reference]))
    raised = torch.maximum(radiance, ours)
    above = radiance.amax(dim=1, keepdim=True) - limit
    # The unclipped channels are spoilt: only what is too dark is worse.
    share = torch.where(clipped, 1 - above / _BRIGHT_ENOUGH, -above / _TOO_DARK).clamp(0, 1)
    share = share * clipped.any(dim=1, keepdim=True)
    return torch.lerp(radiance, raised, torch.where(_channels_mix(aligned), share, clipped.to(share)))


def _channels_mix(aligned: Aligned) -> Tensor:
    """Which examples are of a camera that mixes channels, (B, 1, 1, 1): nowhere in them is one saturated by itself."""
    alone = aligned.saturation.amax(dim=2) - aligned.saturation.amin(dim=2)
    return alone.amax(dim=(1, 2, 3)).view(-1, 1, 1, 1) <= _ALL_BUT_CLIPPED


def unexplained_variance(
    ldr: Tensor, exposures: Tensor, calibration: Calibration, displacement: Tensor, reference: int
) -> Tensor:
    """Squared differences between exposures that the noise of the calibration does not explain, by brightness.

    Film grain, a response that is wrong in its toe, compression: no model knows them all, but the bracket's own pixels
    do. Without it they pass for motion, and long exposures are not believed in shadows.

    Parameters
    ----------
    ldr, exposures, calibration
        As for :func:`observe`, of the whole image.
    displacement
        Shape (N, 2, h, w): of the whole image, at its resolution or a lower one.
    reference
        Its index.

    Returns
    -------
    Tensor
        Shape (N, 14): variance in the mu-law domain in steps of brightness from 0 to 1; 0 for the reference, and where
        too few pixels are well exposed in both. Steps darker than all of which there are enough have that of the
        darkest of these.
    """
    aligned = _sampled(ldr, exposures, calibration, displacement)
    return _unexplained(aligned, exposures.to(aligned.tone_mapped).view(1, -1, 1, 1, 1), reference)


def _unexplained(aligned: Aligned, t: Tensor, reference: int) -> Tensor:
    difference = difference_to_reference(aligned, t.flatten(1), reference)
    squared = _told(difference, aligned, t, reference).square().mean(dim=2)[0]
    expected = (aligned.deviation.square() + aligned.deviation[:, reference : reference + 1].square())[0, :, 0]
    known = _unsaturated(aligned)[0]
    of_brightness = (aligned.tone_mapped[0, reference].mean(dim=0) * BINS).long().clamp(0, BINS - 1)
    count = t.numel()
    found = torch.zeros(count, BINS, dtype=squared.dtype, device=squared.device)
    for index in (index for index in range(count) if index != reference):
        usable = known[index] & known[reference]
        # Sorted by brightness once, instead of searched for each step of it.
        steps, order = of_brightness[usable].sort(stable=True)
        ends = torch.bincount(steps, minlength=BINS).cumsum(0).tolist()
        measured, noise = squared[index][usable][order], expected[index][usable][order]
        parts = [(step, part) for step, part in enumerate(pairwise([0, *ends])) if part[1] - part[0] >= _FEWEST_IN_BIN]
        for step, (begin, end) in parts:
            quantile = torch.quantile(measured[begin:end], _QUANTILE) / _OF_NOISE
            found[index, step] = quantile - noise[begin:end].median()
        # A long exposure shows darker places than the reference does, and there it is no less uncertain. Not so in
        # brighter ones, of which the reference clips: no more is known of them than that they differ, and what moved
        # would pass.
        if parts:
            darkest = parts[0][0]
            found[index, :darkest] = found[index, darkest]
    return found.clamp(0, _LARGEST_UNEXPLAINED)


def moving_share(
    ldr: Tensor,
    exposures: Tensor,
    calibration: Calibration,
    displacement: Tensor,
    index: int,
    reference: int,
    enough: float = 1.0,
) -> float:
    """Share of the image in which an exposure shows something else than the reference, where both show anything.

    Looked at in patches of 13 x 13 pixels, each of which counts if most of its pixels differ by more than is expected:
    single pixels differ at every edge that is half a pixel off, things that move do so in one piece.

    Parameters
    ----------
    ldr, exposures, calibration
        As for :func:`observe`, of the whole image.
    displacement
        Shape (2, h, w): of the exposure, of the whole image, at its resolution or a lower one.
    index, reference
        Which exposure, and which is the reference.
    enough
        What is asked: where a quarter of the patches leave no doubt that more moves, they alone are looked at.

    Returns
    -------
    float
        In [0, 1]; 1 where too little is well exposed in both.
    """
    pair, t = (ldr[reference], ldr[index]), exposures[[reference, index]]
    few = _PATCHES // 4
    if enough < 1 and ldr.shape[-2] * ldr.shape[-1] > few * _PATCH**2:  # of a smaller image they are all there are
        moving, shown = _moving_patches(pair, t, calibration, displacement, few)
        expected = enough * shown
        if shown >= _FEWEST_PATCHES and moving > expected + 3 * math.sqrt(expected):  # three standard deviations
            return moving / shown
    moving, shown = _moving_patches(pair, t, calibration, displacement, _PATCHES)
    return moving / shown if shown >= _FEWEST_PATCHES else 1.0


def _moving_patches(
    pair: tuple[Tensor, Tensor], t: Tensor, calibration: Calibration, displacement: Tensor, most: int
) -> tuple[int, int]:
    """Of so many patches at most, how many show something else than the first of a pair, and how many anything."""
    size = pair[0].shape[-2:]
    along = _rows_of_patches(size, most)
    x, y = torch.meshgrid(*reversed(along), indexing="xy")
    places = torch.stack([x, y]).to(pair[0].device, _precise(pair[0]))
    scale = size[0] / displacement.shape[-2]
    there = _pixels_at(displacement, *(((where + 0.5) / scale).long() for where in along))
    moved = places + there.to(places)
    # The reference is read at whole pixels.
    ours = _pixels_at(pair[0], *along).to(places)
    theirs = sample(pair[1][None].to(places), moved[None])[0]
    t = t.to(places)
    observed = _observed_alone(torch.stack([ours, theirs]), t, calibration)
    aligned = _aligned(observed, torch.stack([places, moved]), size)
    # As observe adds it, without observing all again; some of the pixels tell as much as all.
    step = math.ceil(math.sqrt(places[0].numel() / _SAMPLED_PIXELS))
    some = Aligned(*(maps[..., ::step, ::step] for maps in aligned))
    t = t.view(1, -1, 1, 1, 1)
    unexplained = _at_brightness(_unexplained(some, t, 0), observed[:, :3])
    aligned = aligned._replace(deviation=(aligned.deviation.square() + unexplained).sqrt())
    variance = aligned.deviation.square().sum(dim=1)[0, 0]
    difference = difference_to_reference(aligned, t.flatten(1), 0)
    squared = _told(difference, aligned, t, 0)[0, 1].square().mean(dim=0)
    variance, squared = _blurred_in_patches(variance, 2.0), _blurred_in_patches(squared, 1.0)
    differs = squared - variance > _MOVED * (variance + DEVIATION_FLOOR**2)
    known = _unsaturated(aligned)[0].all(dim=0).view_as(differs)
    well_exposed = known.sum(dim=(1, 3))
    shown = well_exposed > _PATCH**2 / 2
    moving = shown & ((differs & known).sum(dim=(1, 3)) > well_exposed / 2)
    return int(moving.sum()), int(shown.sum())


def _pixels_at(image: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Pixels of (C, H, W) where some rows and columns meet; the edge continues outside."""
    rows, columns = (
        along.clamp_max(side - 1).to(image.device) for along, side in zip((rows, columns), image.shape[1:], strict=True)
    )
    return image.index_select(1, rows).index_select(2, columns)


def _rows_of_patches(size: Sequence[int], most: int) -> tuple[Tensor, Tensor]:
    """Rows and columns of the pixels of so many patches all over an image, 13 in a row for each patch."""
    step = max(_PATCH, math.ceil(math.sqrt(size[0] * size[1] / most)))
    starts = (torch.arange(0, max(side - _PATCH, 0) + 1, step) for side in size)
    rows, columns = ((start[:, None] + torch.arange(_PATCH)).flatten() for start in starts)
    return rows, columns


def _blurred_in_patches(maps: Tensor, sigma: float) -> Tensor:
    """A map (13 m, 13 n) of patches side by side, each smoothed by itself as :func:`blurred` does, (m, 13, n, 13)."""
    smoothing = _smoothing(sigma).to(maps)
    across = (maps.view(-1, _PATCH) @ smoothing).view(-1, _PATCH, maps.shape[1])
    patches: Tensor = (smoothing.T @ across).unflatten(2, (-1, _PATCH))
    return patches


@functools.lru_cache(maxsize=8)
def _smoothing(sigma: float) -> Tensor:
    """The matrix that 13 numbers in a row are smoothed by: convolutions of a thousand images take ten times as long."""
    with torch.inference_mode(False):
        one = torch.eye(_PATCH, dtype=torch.float64).view(_PATCH, 1, 1, _PATCH).expand(-1, -1, _PATCH, -1)
        return blurred(one, sigma)[:, 0, 0]


def _sampled(ldr: Tensor, exposures: Tensor, calibration: Calibration, displacement: Tensor) -> Aligned:
    """Observations in the reference's frame at some thousands of pixels of the whole image."""
    height, width = ldr.shape[-2:]
    rows, columns = displacement.shape[-2:]
    scale, step = height / rows, math.ceil(math.sqrt(rows * columns / _SAMPLED_PIXELS))
    some = (..., slice(None, None, step), slice(None, None, step))
    # Whole pixels of the reference, as merges read it: between pixels noise and grain average out.
    places = ((pixel_grid(rows, columns, like=displacement)[some] + 0.5) * scale).floor()
    positions = (places + displacement[some]).to(ldr.device, _precise(ldr))
    read = torch.cat([sample(image[None].to(where), where[None]) for image, where in zip(ldr, positions, strict=True)])
    return _aligned(_observed_alone(read, exposures.to(read), calibration), positions, (height, width))


def _observed_alone(pixels: Tensor, exposures: Tensor, calibration: Calibration) -> Tensor:
    """Observations of pixels that have no neighbours, and so no detail."""
    return observe(pixels, exposures, dataclasses.replace(calibration, chroma_halved=(False, False)))


def _precise(ldr: Tensor) -> torch.dtype:
    """What is computed in: half precision tells neither the places of a large image apart nor, at 16 EV, exposures."""
    return torch.promote_types(ldr.dtype, torch.float32)


def _aligned(observed: Tensor, positions: Tensor, size: Sequence[int]) -> Aligned:
    """Observations (N, 11, H, W) that were read at positions (N, 2, H, W) of an image of some size."""
    seen = inside(positions, size[0], size[1]).to(observed)[None, :, None]
    tone_mapped, others = observed.unsqueeze(0).tensor_split([_PARTS[0]], dim=2)
    return _parted(tone_mapped, others, seen)


def _parted(tone_mapped: Tensor, others: Tensor, seen: Tensor) -> Aligned:
    saturation, deviation, noise, lost = others.split(_PARTS[1:], dim=2)
    return Aligned(tone_mapped, saturation.clamp_max(1), deviation, noise, seen, lost)


def _unsaturated(aligned: Aligned) -> Tensor:
    """Where exposures show all three channels, (B, N, H, W)."""
    return (aligned.saturation.amax(dim=2) <= 0) & (aligned.seen[:, :, 0] > 0)


def _unsaturated_share(aligned: Aligned, light: Tensor, t: Tensor, reference: int) -> Tensor:
    """How far each channel of each exposure is from clipping, from 1 to 0: (B, N, 3, H, W)."""
    # Interpolation leaves 1 - 6e-8 of what is clipped: where little else is known, that rounding would decide.
    unsaturated = (1 - _ALL_BUT_CLIPPED - aligned.saturation).clamp_min(0)
    # What the reference saw of the light clips a longer exposure by so much, whatever JPEG has made of its white.
    longer = slice(reference + 1, None)
    perhaps, surely = _SURELY_CLIPPED
    unclipped = ((surely - light * t[:, longer]) / (surely - perhaps)).clamp(0, 1)
    saturation = aligned.saturation[:, longer]
    # All channels alike: the camera mixes them, or none is known to clip, and the brightest may have spoilt the others.
    alike = saturation.amax(2, keepdim=True) - saturation.amin(2, keepdim=True) <= _ALL_BUT_CLIPPED
    unclipped = torch.where(alike, unclipped.amin(2, keepdim=True), unclipped)
    return torch.cat([unsaturated[:, : reference + 1], torch.minimum(unsaturated[:, longer], unclipped)], dim=1)


def clipping_value(exposures: Tensor, reference: int) -> Tensor:
    """Radiance in the mu-law domain at which two exposures clip alike: the reference and each other one, (B, N)."""
    return mu_law(1.0 / torch.maximum(exposures, exposures[:, reference : reference + 1]))


def _precision(noise: Tensor, slope: Tensor, reference: int) -> Tensor:
    """Inverse variance of the radiance (B, N, 3, H, W), relative to that of the reference."""
    # By the slope in the reference's brightness for all: noise is no reason for another one of the mu-law.
    variance = (noise * slope).square()
    variance = variance + _for_each(variance, reference, 0.0, MISPLACEMENT**2) + _LEAST_VARIANCE
    return variance[:, reference : reference + 1] / variance


def _for_each(maps: Tensor, reference: int, of_reference: float, of_others: float) -> Tensor:
    """One number for the reference and another for each other exposure of maps (B, N, ...), (1, N, 1, 1, 1)."""
    index = torch.arange(maps.shape[1], device=maps.device).view(1, -1, 1, 1, 1)
    return torch.where(index == reference, of_reference, of_others)


def clipped_itself(tone_mapped: Tensor, exposure: Tensor) -> Tensor:
    """Which channels of a saturated pixel (B, 3, H, W), of exposures (B,), are clipped and not only mixed.

    The brightest always is, for something has made the pixel saturated.
    """
    clipped = mu_law(_OWN_CLIPPED / exposure).to(tone_mapped).view(-1, 1, 1, 1)
    return tone_mapped >= torch.minimum(clipped, tone_mapped.amax(dim=1, keepdim=True))


def spoilt(aligned: Aligned, exposures: Tensor, reference: int) -> Tensor:
    """Where a channel of the reference is wrong, for one that it is mixed with is clipped: (B, 1, 3, H, W).

    What clips has less light than there was, and the others, from which it is subtracted, have more.
    """
    own = clipped_itself(aligned.tone_mapped[:, reference], exposures[:, reference])
    return ((aligned.saturation[:, reference] >= 1 - _ALL_BUT_CLIPPED) & ~own).unsqueeze(1)


def difference_to_reference(aligned: Aligned, exposures: Tensor, reference: int) -> Tensor:
    """Difference (B, N, 3, H, W) in the mu-law domain, both clipped where one of the two clips first."""
    limit = clipping_value(exposures, reference).to(aligned.tone_mapped).view(*exposures.shape, 1, 1, 1)
    ours = aligned.tone_mapped[:, reference : reference + 1]
    return torch.minimum(aligned.tone_mapped, limit) - torch.minimum(ours, limit)


def _difference_beyond_noise(aligned: Aligned, noise: Tensor, t: Tensor, reference: int) -> Tensor:
    """:func:`difference_to_reference` if both had as much more light as the noise of the two is.

    In the mu-law domain a dark pixel that noise has blackened is far from what it was. Here the logarithm begins where
    light leaves the noise.
    """
    exposures = t.flatten(1)
    limit = _growth(clipping_value(exposures, reference).to(aligned.tone_mapped)).view_as(t)
    growth, only_reference = _growth(aligned.tone_mapped).clamp_min(1), slice(reference, reference + 1)
    more = MU * (noise.square() + noise[:, only_reference].square()).sqrt()
    theirs, ours = (torch.minimum(shown, limit) + more for shown in (growth, growth[:, only_reference]))
    return _tone_mapped(theirs) - _tone_mapped(ours)


def _told(difference: Tensor, aligned: Aligned, t: Tensor, reference: int) -> Tensor:
    """A difference to the reference, (B, N, 3, H, W), as far as the reference tells it."""
    wrong = spoilt(aligned, t.flatten(1), reference)
    # A spoilt channel tells no more than that there was not more light; whether there was less, the others tell alone.
    told = 3 / (~wrong).sum(dim=2, keepdim=True).clamp_min(1)
    factor = torch.where(wrong, 0.0, told.sqrt())
    # Not a choice by sign, which noise makes at random: that takes a processor ten times as long.
    return torch.addcmul(difference.clamp_min(0), difference.clamp_max(0), factor)


def _squared_difference(aligned: Aligned, noise: Tensor, t: Tensor, reference: int) -> Tensor:
    squared = _told(_difference_beyond_noise(aligned, noise, t, reference), aligned, t, reference).square()
    if _loses_detail(aligned):
        squared = squared * _told_by_channels(aligned, t, reference)
    return squared.mean(dim=2, keepdim=True)


def _smoothed(maps: Tensor) -> Tensor:
    """Maps (B, N, 1, H, W) as their surroundings have them."""
    return blurred(maps.flatten(0, 1), _SURROUNDINGS).view_as(maps)


def _smoothed_among_lost(squared: Tensor, smoothed: Tensor, lost: Tensor) -> Tensor:
    """Squared differences (B, K, 1, H, W) as those surroundings have them that the reference has lost, (B, 1, 3, H, W).

    What is small and dark in front of a white sky differs much where a shorter exposure has the sky in its place: that
    is no reason to doubt the sky beside it. Single pixels that grain has clipped are told by what is around.
    """
    few, enough = _MOSTLY_LOST
    share = (lost.detach().amin(dim=2, keepdim=True) >= 1 - _ALL_BUT_CLIPPED).to(lost)  # in all channels
    among, whole = _smoothed(torch.cat([squared * share, share], dim=1)).tensor_split([squared.shape[1]], dim=1)
    alone = share * ((whole - few) / (enough - few)).clamp(0, 1)
    return torch.lerp(smoothed, among / whole.clamp_min(few), alone)


def _loses_detail(aligned: Aligned) -> bool:
    lost = aligned.lost_detail
    # A question to a GPU would make it finish all that it has been asked for.
    return lost.device.type != "cpu" or torch.compiler.is_compiling() or bool((lost > 0).any())


def _told_by_channels(aligned: Aligned, t: Tensor, reference: int) -> Tensor:
    """How much of a squared difference to the reference the channels tell, from 1 to 0: (B, N, 3, H, W).

    JPEG keeps colour at half the resolution. What is finer in the brightness all channels get alike, also one that is
    dark there, and in saturated colours its light is off by a factor, in each exposure by another one.
    """
    growth = _growth(aligned.tone_mapped.detach()).clamp_min(1)
    # Of the tone curve the usual one: what is known of the error is its size. By logarithms, in half a power's time.
    shown = ((growth - 1) * (t / MU)).clamp(_DARKEST_VALUE, 1.0)
    value = torch.exp2(torch.log2(shown) / GAMMA)
    share = (1 - value / brightness(value, dim=2)).clamp_min(0)
    # Times the slope of the mu-law over values, mu / (growth log(1 + mu)) gamma value^(gamma - 1) / t.
    amplitude = aligned.lost_detail.detach() * (_LOST_DETAIL * GAMMA * MU / math.log1p(MU) / t)
    error = (amplitude * share * (shown / (value * growth))).square()
    expected = aligned.deviation.detach().square()
    expected, error = (of_each + of_each[:, reference : reference + 1] for of_each in (expected, error))
    expected = expected + DEVIATION_FLOOR**2
    return expected / (expected + error)


def _at_brightness(unexplained: Tensor, tone_mapped: Tensor) -> Tensor:
    """Variance (N, 1, H, W) for radiance (N, 3, H, W): linear between the middles of the steps."""
    place = (tone_mapped.mean(dim=1, keepdim=True) * BINS - 0.5).clamp(0, BINS - 1)
    below = place.long().clamp_max(BINS - 2)
    table = unexplained.to(tone_mapped)
    first = BINS * torch.arange(len(table), device=table.device).view(-1, 1, 1, 1)
    entry = (first + below).flatten()
    low, high = (table.flatten().index_select(0, entry + step).view_as(place) for step in (0, 1))
    return torch.lerp(low, high, place - below)
