"""Deformable alignment: the last pixels between an exposure that was brought to the reference and the reference.

The displacement of the whole image comes before the network (:mod:`hdr.alignment`). Here, from coarse to fine, each
scale corrects it by up to a pixel of its own and samples the exposure's features by deformable convolution around the
corrected position. Bounds everywhere: how far an output pixel can look is known before the network is trained.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hdr.geometry import pixel_grid, sample, warp
from hdr.nn.blocks import (
    ConvBlock,
    SharedConvBlock,
    in_format_of,
    mixed_in_format_of,
    side_by_side,
    upsample,
    zero_initialise,
)

CORRECTION_BOUND = 1.0
"""Pixels by which one scale may correct the displacement that came from the coarser one."""

TAP_BOUND = 2.0
"""Pixels by which a single tap of a deformable kernel may leave its regular place."""


class DeformableConv(nn.Module):
    """Deformable convolution (Dai et al., ICCV 2017) with one offset group, the identity before it is trained.

    The same operation as :func:`torchvision.ops.deform_conv2d`, gathered by ``grid_sample`` instead: torchvision's CPU
    kernel is scalar, and its backward pass took 14 times as long on the sizes of this network.

    Parameters
    ----------
    channels
        Channels in and out.
    kernel_size
        Odd; 1 is a warp followed by a 1 x 1 convolution.
    """

    def __init__(self, channels: int, kernel_size: int) -> None:
        super().__init__()
        self.taps = kernel_size**2
        self.mix = nn.Conv2d(channels * self.taps, channels, 1)
        self._start_as_identity(channels)
        reach = kernel_size // 2
        steps = torch.arange(-reach, reach + 1, dtype=torch.float32)
        y, x = torch.meshgrid(steps, steps, indexing="ij")
        self.register_buffer("kernel_positions", torch.stack([x, y]).reshape(2, self.taps), persistent=False)
        self.kernel_positions: Tensor

    @torch.no_grad()
    def _start_as_identity(self, channels: int) -> None:
        """Pass the central tap on, so that aligned features can be compared with the reference's from the beginning."""
        zero_initialise(self.mix)
        nn.init.eye_(self.mix.weight.view(channels, channels, self.taps)[:, :, self.taps // 2])

    def forward(self, features: Tensor, offsets: Tensor) -> Tensor:
        """Convolve features where the offsets say.

        Parameters
        ----------
        features
            Shape (B, C, H, W).
        offsets
            Shape (B, 2, taps, H, W): x and y for each kernel tap, row by row, in pixels, on top of its regular place.

        Returns
        -------
        Tensor
            Shape (B, C, H, W).
        """
        batch, channels, height, width = features.shape
        offsets = offsets.to(torch.promote_types(offsets.dtype, torch.float32))
        centres = pixel_grid(height, width, like=offsets).unsqueeze(2)
        positions = centres + self.kernel_positions[:, :, None, None].to(offsets.dtype) + offsets
        read = sample(features, positions.reshape(batch, 2, self.taps * height, width), padding_mode="zeros")
        read = read.reshape(batch, channels, self.taps, height, width).flatten(1, 2)
        return mixed_in_format_of(features, read, self.mix)


class DeformableAlignment(nn.Module):
    """One scale of the alignment: corrects the displacement, then samples by deformable convolution around it.

    Parameters
    ----------
    channels
        Channels of the features.
    kernel_size
        Side of the deformable kernel.
    """

    def __init__(self, channels: int, kernel_size: int) -> None:
        super().__init__()
        self.convolution = DeformableConv(channels, kernel_size)
        hidden = max(channels // 2, 8)
        self.comparison = SharedConvBlock(channels, channels + 2, hidden)
        self.trunk = ConvBlock(hidden, hidden)
        self.correction = zero_initialise(nn.Conv2d(hidden, 2, 3, padding=1))
        self.tap_offsets = zero_initialise(nn.Conv2d(hidden, 2 * self.convolution.taps, 3, padding=1))

    def forward(self, reference: Tensor, others: Tensor, displacement: Tensor) -> tuple[Tensor, Tensor]:
        """Align exposures at one scale.

        Parameters
        ----------
        reference
            Features of shape (B, C, H, W).
        others
            Features of K exposures, one exposure after the other: (K B, C, H, W).
        displacement
            Shape (K B, 2, H, W), in pixels of this scale.

        Returns
        -------
        tuple of Tensor
            The aligned features (K B, C, H, W) and the corrected displacement (K B, 2, H, W).
        """
        warped = in_format_of(others, warp(others, displacement))
        hidden = self.trunk(self.comparison(reference, torch.cat([warped, displacement.to(warped.dtype)], dim=1)))
        correction, taps = torch.tanh(side_by_side(hidden, self.correction, self.tap_offsets)).tensor_split([2], dim=1)
        displacement = displacement + CORRECTION_BOUND * correction
        taps = TAP_BOUND * taps.unflatten(1, (2, self.convolution.taps))
        return self.convolution(others, displacement.unsqueeze(2) + taps), displacement


def upsample_displacement(displacement: Tensor) -> Tensor:
    """The displacement at twice the resolution, in the pixels of that resolution."""
    # In planes, because a CPU takes four times as long for two channels that lie last.
    return in_format_of(displacement, 2 * upsample(displacement.contiguous()))
