"""The denoiser: every pixel of a merge as a mean of its neighbours, where noise is larger than what they show."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hdr.nn.blocks import NEGATIVE_SLOPE, ConvBlock, extended, unshuffled, zero_initialise
from hdr.radiometry import light_of, mu_law, odd_sign
from hdr.smoothing import blurred

KERNEL_SIZE = 5
"""Pixels: how far neighbours may be."""
COLOUR_STEP = 2
"""Pixels from one neighbour of a colour to the next: noise, demosaicing and JPEG leave colours coarser blotches."""
INPUT_CHANNELS = 15
"""Detail in units of the noise (3) and of the deviation (3), radiance (3), noise (3), deviation, share and saturation
of the reference."""
_LEAST_NOISE = 5e-4  # mu-law domain; what lies below is seen by nobody
_SURROUNDINGS = 2.0  # pixels, standard deviation: what detail is the difference to
_LARGEST_MOVE = 2.0  # times the noise: what is farther from its neighbours is none
_TINY = 1e-6  # mu-law domain, so that nothing is divided by zero
_LARGEST_STRENGTH = 6.0  # of an exponential, either way
_TYPICAL = 8.0  # minus the binary logarithm of the noise of a good camera, so that inputs are of order 1


class Denoiser(nn.Module):
    """Kernels predicted for every pixel (Bako et al., SIGGRAPH 2017; Mildenhall et al., CVPR 2018).

    y + d tanh(m / d) with m = sum_k w_k (y_k - y) over the neighbours y_k of y within 5 x 5 pixels, w = z / (exp(-s) +
    sum_k abs(z_k)) of the network's outputs: z for all three channels, and a strength s for each, because in saturated
    colours one channel may be all noise and another have none. Colours, what a channel is more than the mean of the
    three, are moved once more by kernels of their own, whose neighbours are farther apart. d is twice the noise or the
    deviation that physics expects there, the smaller of the two; upwards, where that is more, as far as light that is
    brighter by twice the noise lies above y, if no more than twice the pixel's own deviation: what noise has darkened
    it has moved much farther in the mu-law domain. So no pixel moves farther than noise may have moved it, and where
    all are alike it stays.

    What the network sees is in units of the noise, too, for what matters is whether detail exceeds it. Outputs begin as
    0, which changes nothing. Looks at half resolution, and with three layers 16 pixels far.

    Parameters
    ----------
    channels
        Of the hidden features.
    layers
        Convolutions between the first and the last.

    Examples
    --------
    >>> denoiser = Denoiser()
    >>> radiance, noise = torch.rand(1, 3, 33, 20), torch.full((1, 3, 33, 20), 0.01)
    >>> denoised = denoiser(radiance, noise, noise, noise / 10, torch.ones_like(noise), torch.zeros_like(noise))
    >>> torch.equal(denoised, radiance)
    True
    """

    def __init__(self, channels: int = 32, layers: int = 3) -> None:
        super().__init__()
        blocks = [ConvBlock(4 * INPUT_CHANNELS, channels), *(ConvBlock(channels, channels) for _ in range(layers))]
        for convolution in (layer for block in blocks for layer in block if isinstance(layer, nn.Conv2d)):
            # As large as it came in: by default features halve at each layer, and detail of a hundredth of the radiance
            # would be lost among the biases.
            nn.init.kaiming_normal_(convolution.weight, a=NEGATIVE_SLOPE)
            assert convolution.bias is not None
            nn.init.zeros_(convolution.bias)
        taps = KERNEL_SIZE**2 - 1
        self.features = nn.Sequential(*blocks)
        self.kernels = zero_initialise(nn.Conv2d(channels, 4 * taps, 1))
        self.strengths = zero_initialise(nn.Conv2d(channels, 4 * 3, 1))
        self.colour_kernels = zero_initialise(nn.Conv2d(channels, 4 * taps, 1))
        self.colour_strengths = zero_initialise(nn.Conv2d(channels, 4 * 3, 1))

    def forward(
        self,
        radiance: Tensor,
        noise: Tensor,
        deviation: Tensor,
        light_noise: Tensor,
        reference_share: Tensor,
        saturation: Tensor,
    ) -> Tensor:
        """Denoise a merge.

        Parameters
        ----------
        radiance
            Shape (B, 3, H, W), mu-law domain.
        noise, deviation
            The same shape: what is expected to be left in it of noise, and of all that makes equal radiance differ;
            standard deviations in the mu-law domain.
        light_noise
            The same shape: the noise as a standard deviation of linear light.
        reference_share
            The same shape: the weight of the reference in it.
        saturation
            The same shape: of the reference.

        Returns
        -------
        Tensor
            The same shape.
        """
        height, width = radiance.shape[-2:]
        even = (0, width % 2, 0, height % 2)
        of_pixel, deviation = deviation, blurred(deviation, _SURROUNDINGS)
        inputs = _network_input(radiance, noise + _LEAST_NOISE, deviation + _LEAST_NOISE, reference_share, saturation)
        inputs = unshuffled(extended(inputs, even))
        # In planes, because each tap of the kernels is read as an image of its own.
        features = self.features(inputs).contiguous()
        moved = self._moved(features, extended(radiance, even))[..., :height, :width]
        largest = _LARGEST_MOVE * torch.minimum(noise, deviation) + _TINY
        of_noise = (deviation / (noise + _TINY)).clamp_max(1)  # where less than the noise is expected, so in light
        darkened = mu_law(light_of(radiance) + _LARGEST_MOVE * of_noise * light_noise) - radiance
        darkened = torch.minimum(darkened, _LARGEST_MOVE * of_pixel)
        largest = torch.where(moved > 0, torch.maximum(largest, darkened), largest)
        return radiance + largest * torch.tanh(moved / largest)

    def _moved(self, features: Tensor, radiance: Tensor) -> Tensor:
        """By how much the kernels move radiance (B, 3, 2 h, 2 w), for features (B, C, h, w)."""
        outputs = self.kernels(features).to(radiance), self.strengths(features).to(radiance)
        moved = _towards_neighbours(radiance, *outputs)
        outputs = self.colour_kernels(features).to(radiance), self.colour_strengths(features).to(radiance)
        colours = _towards_neighbours(radiance + moved, *outputs, COLOUR_STEP)
        return moved + colours - colours.mean(dim=1, keepdim=True)


def _network_input(radiance: Tensor, expected: Tensor, differing: Tensor, share: Tensor, saturation: Tensor) -> Tensor:
    """What is known at each place, of order 1: (B, 15, H, W)."""
    detail = radiance - blurred(radiance, _SURROUNDINGS)
    return torch.cat(
        [
            _asinh(detail / expected),
            _asinh(detail / differing),
            radiance - 0.5,
            torch.log2(expected) + _TYPICAL,
            torch.log2(differing.mean(dim=1, keepdim=True)) + _TYPICAL,
            share.mean(dim=1, keepdim=True),
            saturation.amax(dim=1, keepdim=True),
        ],
        dim=1,
    )


def _asinh(values: Tensor) -> Tensor:
    """What :func:`torch.asinh` gives, to 1e-6, in a quarter of its time."""
    sign = odd_sign(values)  # a root and what is negative would leave few digits
    return sign * torch.log(sign * values + torch.sqrt(values.square() + 1))


def _towards_neighbours(radiance: Tensor, kernels: Tensor, strengths: Tensor, step: int = 1) -> Tensor:
    """By how much signed weights move each pixel towards its neighbours, as :class:`Denoiser` says.

    Parameters
    ----------
    radiance
        Shape (B, 3, 2 h, 2 w).
    kernels
        Shape (B, 24 * 4, h, w): z of the neighbours, row by row, and of each for the four pixels of a square of two by
        two, as :func:`torch.nn.functional.pixel_unshuffle` has them.
    strengths
        Shape (B, 3 * 4, h, w): s of the channels, likewise.
    step
        Pixels from one neighbour to the next.
    """
    height, width = kernels.shape[-2:]
    reach = KERNEL_SIZE // 2 * step
    padded = F.pad(radiance, (reach,) * 4, mode="replicate")
    # Every second pixel, from the first, the second, ... on: the neighbours of such are such again, in one piece.
    # Shape (B, 3, 2, 2, h + reach, w + reach). With sizes that are stated: pixel_unshuffle works them out from those of
    # the image, and an export carries such formulas through all that follows.
    split = padded.reshape(*radiance.shape[:2], height + reach, 2, width + reach, 2)
    every_second = split.permute(0, 1, 3, 5, 2, 4).contiguous()
    of_neighbours = kernels.unflatten(1, (-1, 2, 2))
    of_itself = torch.exp(-strengths.clamp(-_LARGEST_STRENGTH, _LARGEST_STRENGTH)).unflatten(1, (-1, 2, 2))
    # Stops counted from the end are constants for an image of any size.
    windows = [slice(first, first - reach or None) for first in range(reach + 1)]
    planes = []
    for row in range(2 * reach + 2):
        rows = every_second[:, :, row % 2, :, windows[row // 2]]
        halves = rows[:, :, 0], rows[:, :, 1]
        planes.append([halves[column % 2][..., windows[column // 2]] for column in range(2 * reach + 2)])
    places = list(itertools.product(range(0, 2 * reach + 1, step), repeat=2))
    places.remove((reach, reach))
    moved = []
    for top, left in itertools.product(range(2), repeat=2):
        weights = of_neighbours[:, :, top, left]
        total = -planes[top + reach][left + reach] * weights.sum(dim=1, keepdim=True)
        for weight, (row, column) in zip(weights.split(1, dim=1), places, strict=True):
            total.addcmul_(weight, planes[top + row][left + column])
        moved.append(total / (of_itself[:, :, top, left] + weights.abs().sum(dim=1, keepdim=True)))
    return F.pixel_shuffle(torch.stack(moved, dim=2).flatten(1, 2), 2)
