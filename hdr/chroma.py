"""Colour that is kept at half the resolution of brightness, as in most JPEG files: what is lost, and what can be told.

Colours here are what a channel is more than the brightness, in the values of a file.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from hdr.radiometry import LUMA
from hdr.smoothing import blurred

_FINEST_COLOUR = 1.5  # pixels, standard deviation: of half as many values for colour each way
_SURROUNDINGS = 1.0  # pixels of half the resolution, standard deviation: where colours go with brightness alike
_ROUNDING = (2.0 / 255) ** 2  # of values, what compression and noise leave at least; colours are not told from less
_WHITE = (0.5, 0.75)  # of the clipping value, the darkest channel: colours of their own, and white that was coloured
_TOGETHER = (0.4, 0.8)  # correlation of a colour with brightness that may be chance, and that is none


def brightness(values: Tensor, dim: int = 1) -> Tensor:
    """What JPEG keeps in full, of values with three channels; the dimension stays.

    Examples
    --------
    >>> brightness(torch.tensor([[1.0, 0.5, 0.0]]))
    tensor([[0.5925]])
    """
    red, green, blue = (share * channel for share, channel in zip(LUMA, values.split(1, dim), strict=True))
    total: Tensor = red + green + blue
    return total


def lost_detail(ldr: Tensor) -> Tensor:
    """Amplitude (N, 1, H, W) of what is finer in the brightness of files (N, 3, H, W) than their colours can be."""
    bright = brightness(ldr)
    detail = bright - blurred(bright, _FINEST_COLOUR)
    return blurred(detail.square(), 1.0).sqrt()


Halved = tuple[bool, bool] | tuple[Tensor, Tensor]
"""Whether files keep half as many rows, and half as many columns, of colour as of brightness; of a graph an input."""


def with_fine_colours(ldr: Tensor, clipped: float = 1.0, halved: Halved = (True, True)) -> Tensor:
    """Give colours the fine detail that brightness tells they have lost.

    Between the leaves of a tree and the sky, colour changes together with brightness, but half the resolution spreads
    it over both: leaves get a blue rim. What brightness itself would lose that way is known. Colours get as much of it
    as they change by with brightness around there: c' = c + w a (y - S y), S to half the resolution and back, a the
    slope of the regression of c on y, and w from 0 to 1 as their correlation goes from 0.4 to 0.8, so that where
    colours do not go with brightness nothing is changed. The brightness of every pixel stays, but of white that what is
    darker beside it has coloured: its channels are only raised.

    Parameters
    ----------
    ldr
        Values of files, shape (N, 3, H, W), in [0, 1].
    clipped
        No channel of a pixel becomes darker if one is as large as that.
    halved
        Which resolution of colour is half: of rows, of columns. Both of 4:2:0, of 4:2:2 that of columns.

    Returns
    -------
    Tensor
        The same shape, in [0, 1].

    Notes
    -----
    The regression is that of the guided filter (He et al., "Guided image filtering", TPAMI 2013) at half resolution.

    Examples
    --------
    >>> leaf, sky = torch.tensor([0.3, 0.3, 0.1]), torch.tensor([0.5, 0.6, 0.8])
    >>> values = torch.where(torch.arange(24) % 12 < 7, leaf[:, None], sky[:, None])
    >>> values = values.expand(1, 16, 3, 24).transpose(1, 2)
    >>> half = torch.nn.functional.avg_pool2d(values - brightness(values), 2)
    >>> as_jpeg = brightness(values) + torch.nn.functional.interpolate(half, scale_factor=2.0, mode="bilinear")
    >>> errors = [(one - values).abs().mean() for one in (as_jpeg, with_fine_colours(as_jpeg))]
    >>> bool(errors[1] < 0.5 * errors[0])
    True
    """
    bright = brightness(ldr)
    colours = torch.cat([ldr[:, :1], ldr[:, 2:]], dim=1) - bright  # red and blue; green is what they leave of it
    lost = bright - _to_half_and_back(bright, halved)
    red, blue = (_slopes(bright, colours) * lost).split(1, dim=1)
    green = -(LUMA[0] * red + LUMA[2] * blue) / LUMA[1]
    change = torch.cat([red, green, blue], dim=1)
    change = torch.where(ldr.amax(dim=1, keepdim=True) < clipped, change, _of_white(ldr / clipped, change, lost))
    return (ldr + change).clamp(0, 1)


def _of_white(values: Tensor, change: Tensor, lost: Tensor) -> Tensor:
    """What pixels (N, 3, H, W) with a clipped channel get of a change: more light only, and only what is nearly white.

    Dark things beside white colour it, and the channels that this made darker would pass for well exposed ones.
    """
    perhaps, surely = _WHITE
    white = ((values.amin(dim=1, keepdim=True) - perhaps) / (surely - perhaps)).clamp(0, 1)
    return torch.where(lost > 0, change.clamp_min(0) * white, 0.0)


def _slopes(bright: Tensor, colours: Tensor) -> Tensor:
    """By how much colours (N, 2, H, W) surely grow with brightness (N, 1, H, W) around each place."""
    height, width = bright.shape[-2:]
    even = (0, width % 2, 0, height % 2)
    half = F.avg_pool2d(F.pad(torch.cat([bright, colours], dim=1), even, mode="replicate"), 2)
    y, c = half[:, :1], half[:, 1:]
    means = blurred(torch.cat([half, half.square(), y * c], dim=1), _SURROUNDINGS)
    mean_y, mean_c, square_y, square_c, product = means.split([1, 2, 1, 2, 2], dim=1)
    covariance = product - mean_y * mean_c
    variance_y = (square_y - mean_y.square()).clamp_min(0) + _ROUNDING
    variance_c = (square_c - mean_c.square()).clamp_min(0) + _ROUNDING
    perhaps, surely = _TOGETHER
    correlation = covariance.abs() / (variance_y * variance_c).sqrt()
    slope = covariance / variance_y * ((correlation - perhaps) / (surely - perhaps)).clamp(0, 1)
    return F.interpolate(slope, scale_factor=2.0, mode="bilinear", align_corners=False)[..., :height, :width]


def _to_half_and_back(bright: Tensor, halved: Halved) -> Tensor:
    """What a decoder makes of brightness (N, 1, H, W) that is kept at half the resolution of rows or columns.

    The mean of two by two pixels and then linear interpolation are, in the mean over where the pairs begin, binomial
    weights 1, 4, 6, 4, 1: four times the mean of neighbours, by which a CPU has them in a fifth of a filter's time.
    """
    for axis, half in zip((-2, -1), halved, strict=True):
        if half is False:
            continue
        smoothed = F.pad(bright, (0, 0, 2, 2) if axis == -2 else (2, 2, 0, 0), mode="replicate")
        for _ in range(4):
            side = smoothed.shape[axis] - 1
            smoothed = smoothed.narrow(axis, 0, side) + smoothed.narrow(axis, 1, side)
        smoothed = smoothed / 2**4
        bright = torch.where(half > 0, smoothed, bright) if isinstance(half, Tensor) else smoothed
    return bright
