"""Observations: what physics says about the pixels of an exposure, and where the reference's places are found in it.

An *observation* is radiance in the mu-law domain, how near to clipping it is, and the noise that is expected in it; of
what compression took from a file, too. Nothing here compares exposures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from hdr.chroma import Halved, lost_detail, with_fine_colours
from hdr.geometry import inside, pixel_grid, sample
from hdr.radiometry import MU, light_of, tone_mapped_of
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
REACH = 16
"""Pixels around a place that tell its observation, of files with half the colours; of others it is its own pixel."""
STILL_TOLERANCE = 2.5
"""By which the deviation of an exposure in which nothing moves is multiplied: what differs there is hardly motion."""
BINS = 14
"""Steps of brightness in the mu-law domain for which :func:`hdr.agreement.unexplained_variance` is found."""
_RESPONSE_ERROR = 1.0  # levels of the file, standard deviation: its toe, black level and compression
_MOST_OF_BLACK = 1.5  # times what light of one standard deviation is in the mu-law domain
_PIXELS_AT_ONCE = 1 << 15
_RIPPLES = 1.5  # pixels, standard deviation: around a pixel that JPEG's ripples may have darkened
_AMID_CLIPPED = (0.5, 0.7)  # share of what is around it that is clipped: perhaps, and surely, it is, too
_JUMP = 3.0  # pixels, within ten
_LEAKED = 0.05  # of the shot noise of the brightest channel: what a camera's colours leave in a black one
_NO_NOISE = 0.5  # levels of the file, standard deviation: of so little, rounding leaves nothing to be cut off
_BLACK = 1e-10  # linear light: of less, no root has a gradient that is a number


class Aligned(NamedTuple):
    """Observations in the reference's frame."""

    tone_mapped: Tensor
    """(B, N, 3, H, W), mu-law domain."""
    saturation: Tensor
    """(B, N, 3, H, W), 0 unsaturated to 1 clipped."""
    deviation: Tensor
    """(B, N, 1, H, W): by how much equal radiance is expected to differ, standard deviation in the mu-law domain."""
    noise: Tensor
    """(B, N, 3, H, W): standard deviation of the radiance itself, by the calibration and a level of the file."""
    seen: Tensor
    """(B, N, 1, H, W): 1 inside an exposure's frame, 0 outside; and towards 0 where the displacement jumps."""
    lost_detail: Tensor
    """(B, N, 1, H, W): amplitude of the detail of brightness, in values of the file, that is too fine for the colours
    of a JPEG; 0 in other files."""
    mixing: Tensor | None = None
    """(B, 3, 4): what the cameras do to colours, as :meth:`hdr.calibration.Calibration.as_tensors` gives it; None where
    a clipped channel spoils no other."""
    cut_off: Tensor | None = None
    """(B, N, 3, H, W): below 0, down to -1, where a pixel is black because noise was cut off at 0; None where that is
    not known."""


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
        Shape (N, 14): variance besides that of the calibration, by brightness, from
        :func:`hdr.agreement.unexplained_variance`.
    still
        For each exposure whether hardly anything moves in it, see :class:`hdr.alignment.Alignment`: more may differ
        there, for it is hardly motion. By default it is not known.

    Returns
    -------
    Tensor
        Shape (N, 11, H, W): radiance in the mu-law domain, saturation, deviation, noise and lost detail as in
        :class:`Aligned`, but that the saturation of clipped pixels is :data:`CLIPPED`, and that of black ones in which
        noise was cut off is below 0.

    Examples
    --------
    >>> from hdr.calibration import Calibration
    >>> from hdr.response import Response
    >>> observe(torch.rand(2, 3, 8, 8), torch.tensor([1.0, 4.0]), Calibration(Response.srgb())).shape
    torch.Size([2, 11, 8, 8])
    """
    camera = exposures.detach(), calibration, unexplained, still
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


def part_around(top: int, bottom: int, left: int, right: int, calibration: Calibration) -> tuple[int, int, int, int]:
    """The part of files that tells the observations of a region, both as (top, bottom, left, right); it may lie beyond.

    Half the colours are those of pairs of pixels: a part begins where a pair does.
    """
    if _subsampled(calibration.chroma_halved) is False:
        return top, bottom, left, right
    return (top - REACH) // 2 * 2, bottom + REACH, (left - REACH) // 2 * 2, right + REACH


def _without_ripples(saturation: Tensor, calibration: Calibration) -> Tensor:
    """Saturation (N, 3, H, W) that is full, too, where what is nearly clipped lies amid clipped pixels of a JPEG.

    Its compression ripples beside edges, and of white some pixels are left that are no darker than the light was.
    """
    subsampled = _subsampled(calibration.chroma_halved)
    if subsampled is False:
        return saturation
    perhaps, surely = _AMID_CLIPPED
    share = blurred((saturation >= 1).to(saturation), _RIPPLES)
    lost = ((share - perhaps) / (surely - perhaps)).clamp(0, 1)
    lost = torch.where((saturation > 0) & torch.as_tensor(subsampled, device=lost.device), lost, -1.0)
    return torch.maximum(saturation, lost)


def _observed(
    ldr: Tensor, exposures: Tensor, calibration: Calibration, unexplained: Tensor | None, still: Sequence[bool]
) -> Tensor:
    t = exposures.to(ldr).view(-1, 1, 1, 1)
    light = calibration.response.to_linear(ldr)
    rounding = calibration.response.steepness(ldr) / calibration.levels
    # Shot noise, read noise, and what rounding to levels adds: uniform over one step of the file.
    squared = rounding.square()
    sensor = calibration.shot * light + calibration.read
    variance = (sensor + squared / 12) / t.square()
    radiance = light / t
    # A response that neighbouring exposures disagree about by so many EV is wrong by a factor, wherever it is used.
    misjudged = radiance * (2.0**calibration.typical_disagreement - 1)
    growth = MU * radiance + 1
    slope = MU / math.log1p(MU) / growth
    # Pixels differ by less than they are off where the finest noise is gone.
    of_pixels = (calibration.noise_left * sensor + squared / 12) / t.square()
    sigma = (of_pixels + misjudged.square()).sqrt()
    # In black the slope would tell many times what noise can make of it.
    deviation = torch.minimum(sigma * slope, _MOST_OF_BLACK * tone_mapped_of(MU * sigma + 1)).mean(1, keepdim=True)
    tone_mapped = tone_mapped_of(growth)
    if unexplained is not None:
        deviation = (deviation.square() + at_brightness(unexplained, tone_mapped)).sqrt()
    value = ldr / calibration.white_level
    saturation = ((value - SATURATION_BEGINS) / (SATURATION_ENDS - SATURATION_BEGINS)).clamp_min(0)
    saturation = torch.where(value < SATURATION_ENDS, saturation, CLIPPED)
    if any(still):
        tolerance = torch.tensor([STILL_TOLERANCE if one else 1.0 for one in still]).to(deviation)
        deviation = deviation * tolerance.view(-1, 1, 1, 1)
    # No response is known better than to a level: of two exposures the one whose values are large is believed more.
    # Of each channel its own: in saturated colours the dark one has little of the noise of the bright ones.
    noise = (variance + squared * (_RESPONSE_ERROR / t).square()).sqrt()
    in_black = (calibration.shot * _LEAKED * light.amax(dim=1, keepdim=True) + calibration.read).sqrt()
    level = calibration.response.steepness(ldr.new_zeros(1)) / calibration.levels + _BLACK
    cut_off = (in_black / level - _NO_NOISE).clamp(0, 1) * (ldr < 0.5 / calibration.levels)
    return torch.cat([tone_mapped, saturation - cut_off, deviation, noise], dim=1)


def at_brightness(unexplained: Tensor, tone_mapped: Tensor) -> Tensor:
    """Variance (N, 1, H, W) for radiance (N, 3, H, W): linear between the middles of the steps."""
    place = (tone_mapped.mean(dim=1, keepdim=True) * BINS - 0.5).clamp(0, BINS - 1)
    below = place.long().clamp_max(BINS - 2)
    table = unexplained.to(tone_mapped)
    first = BINS * torch.arange(len(table), device=table.device).view(-1, 1, 1, 1)
    entry = (first + below).flatten()
    low, high = (table.flatten().index_select(0, entry + step).view_as(place) for step in (0, 1))
    return torch.lerp(low, high, place - below)


def bring_to_reference(
    observations: Tensor,
    displacement: Tensor,
    reference: int,
    corner: Tensor | None = None,
    continuous: Tensor | None = None,
    mixing: Tensor | None = None,
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
    mixing
        Shape (B, 3, 4): what the cameras do to colours, as in :class:`Aligned`.
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
    return _parted(radiance, others, seen.to(observations).unsqueeze(2))._replace(mixing=mixing)


def _interpolated(tone_mapped: Tensor, positions: Tensor) -> Tensor:
    """Radiance (B, 3, H, W), mu-law domain, at positions (B, 2, H', W'), interpolated as a fourth root of light.

    Of a lamp as small as a pixel the mu-law would lose most of the light, and light itself would spread over the dark.
    """
    root = light_of(tone_mapped).clamp_min(_BLACK).sqrt().sqrt()
    light = sample(root, positions).square().square()
    return tone_mapped_of(MU * light + 1)


def aligned_at(observed: Tensor, positions: Tensor, size: Sequence[int]) -> Aligned:
    """Observations (N, 11, H, W) that were read at positions (N, 2, H, W) of an image of some size."""
    seen = inside(positions, size[0], size[1]).to(observed)[None, :, None]
    tone_mapped, others = observed.unsqueeze(0).tensor_split([_PARTS[0]], dim=2)
    return _parted(tone_mapped, others, seen)


def _parted(tone_mapped: Tensor, others: Tensor, seen: Tensor) -> Aligned:
    saturation, deviation, noise, lost = others.split(_PARTS[1:], dim=2)
    return Aligned(tone_mapped, saturation.clamp(0, 1), deviation, noise, seen, lost, cut_off=saturation)


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
    height, width = displacement.shape[-2:]
    # By two and no more, also where a side is odd: of a region all is found where it is found in the whole.
    fine = F.interpolate(blurred(jumps, 1.0), scale_factor=2.0, mode="bilinear", align_corners=False)
    return 1 - fine[..., :height, :width].reshape(*displacement.shape[:2], height, width)


def _largest_around(maps: Tensor) -> Tensor:
    """The largest of 5 x 5 values (..., H, W), by pairs: a pooling takes fifty times as long on a CPU."""
    padded = F.pad(maps, (2, 2, 2, 2), mode="replicate")
    for axis in (-1, -2):
        side = maps.shape[axis]
        pairs = torch.maximum(padded.narrow(axis, 0, side + 3), padded.narrow(axis, 1, side + 3))
        fours = torch.maximum(pairs.narrow(axis, 0, side + 1), pairs.narrow(axis, 2, side + 1))
        padded = torch.maximum(fours.narrow(axis, 0, side), fours.narrow(axis, 1, side))
    return padded


def unsaturated(aligned: Aligned) -> Tensor:
    """Where exposures show all three channels, (B, N, H, W)."""
    return (aligned.saturation.amax(dim=2) <= 0) & (aligned.seen[:, :, 0] > 0)
