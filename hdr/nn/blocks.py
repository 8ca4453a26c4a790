"""Convolutional building blocks that the networks share.

Nothing here looks at the whole picture: no normalisation and no pooling over space. An output pixel depends on a
bounded neighbourhood only, which is what lets a large picture be merged tile by tile.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

NEGATIVE_SLOPE = 0.1


class ConvBlock(nn.Sequential):
    """Convolution (padded to keep the size, divided by ``stride``) followed by a leaky ReLU.

    Parameters
    ----------
    in_channels, out_channels
        Channel counts.
    kernel_size
        Odd.
    stride, dilation
        As in :class:`torch.nn.Conv2d`.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1, dilation: int = 1
    ) -> None:
        padding = dilation * (kernel_size // 2)
        super().__init__(
            nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, dilation),
            nn.LeakyReLU(NEGATIVE_SLOPE),
        )


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions around which the input is carried over; reaches 2 pixels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(ConvBlock(channels, channels), nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, features: Tensor) -> Tensor:
        """Features of shape (B, C, H, W), same shape out."""
        return F.leaky_relu(features + self.body(features), NEGATIVE_SLOPE)


def upsample(features: Tensor) -> Tensor:
    """Twice the height and width, bilinear; (B, C, H, W) to (B, C, 2 H, 2 W)."""
    return F.interpolate(features, scale_factor=2, mode="bilinear", align_corners=False)


def zero_initialise(convolution: nn.Conv2d) -> nn.Conv2d:
    """Set weights and bias to zero, so that an untrained correction corrects nothing; returns the convolution."""
    nn.init.zeros_(convolution.weight)
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias)
    return convolution
