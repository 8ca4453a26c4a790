"""Convolutional building blocks that the networks share.

Nothing here looks at the whole picture: no normalisation and no pooling over space. An output pixel depends on a
bounded neighbourhood only, which is what lets a large picture be merged tile by tile.
"""

from __future__ import annotations

import itertools

import torch
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


class SharedConvBlock(nn.Module):
    """A 3 x 3 :class:`ConvBlock` of what all exposures share and of what each has of its own, side by side.

    A convolution of joined channels is the sum of one over each part, and the shared part is convolved once.

    Parameters
    ----------
    shared_channels, own_channels
        Channels of the two parts.
    out_channels
        Channels of the result.
    """

    def __init__(self, shared_channels: int, own_channels: int, out_channels: int) -> None:
        super().__init__()
        joined = nn.Conv2d(shared_channels + own_channels, out_channels, 3, padding=1)
        self.shared = nn.Conv2d(shared_channels, out_channels, 3, padding=1)
        self.own = nn.Conv2d(own_channels, out_channels, 3, padding=1, bias=False)
        # Random weights as large as those of the one convolution that the two stand for.
        with torch.no_grad():
            self.shared.weight.copy_(joined.weight[:, :shared_channels])
            self.own.weight.copy_(joined.weight[:, shared_channels:])

    def forward(self, shared: Tensor, own: Tensor) -> Tensor:
        """Shared features (B, C, H, W) and own ones (K B, C', H, W), exposure by exposure, to (K B, out, H, W)."""
        return leaky_sums(self.own(own), self.shared(shared))


def leaky_sums(own: Tensor, shared: Tensor) -> Tensor:
    """Leaky ReLU of features of some exposures, (K B, C, H, W), plus what they share, (B, C, H, W)."""
    if len(shared) in (1, len(own)):
        sums = own + shared
    else:
        sums = (own.unflatten(0, (-1, len(shared))) + shared).flatten(0, 1)
    return F.leaky_relu_(sums, NEGATIVE_SLOPE)


def in_format_of(like: Tensor, features: Tensor) -> Tensor:
    """Features (B, C, H, W) in the memory format of others: joined to what has another, they are copied bit by bit."""
    return features.contiguous(memory_format=torch.channels_last) if _channels_lie_last(like) else features


def mixed_in_format_of(like: Tensor, planes: Tensor, mix: nn.Conv2d) -> Tensor:
    """A 1 x 1 convolution of planes (B, C, H, W), which are contiguous, in the memory format of other features."""
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or not _channels_lie_last(like):
        return in_format_of(like, mix(planes))
    # Products of matrices whose results lie as they are wanted take half the time of a convolution and a copy.
    weight, bias = mix.weight.flatten(1), mix.bias
    mixed = torch.stack([F.linear(image.T, weight, bias) for image in planes.flatten(2)])
    rows: Tensor = mixed.unflatten(1, planes.shape[2:])
    return rows.permute(0, 3, 1, 2)


def side_by_side(features: Tensor, *convolutions: nn.Conv2d) -> Tensor:
    """The channels of several 3 x 3 convolutions of the same features in one: a few take as long as sixteen."""
    weight, bias = (torch.cat([getattr(one, name) for one in convolutions]) for name in ("weight", "bias"))
    return F.conv2d(features, weight, bias, padding=1)


def _channels_lie_last(features: Tensor) -> bool:
    return features.is_contiguous(memory_format=torch.channels_last) and not features.is_contiguous()


def extended(maps: Tensor, missing: tuple[int, ...]) -> Tensor:
    """Maps with more columns and rows, counted as by :func:`torch.nn.functional.pad`, which repeat the edge."""
    # Even a pad by nothing copies, and an export of sizes that need none cannot see that it is one.
    return F.pad(maps, missing, mode="replicate") if any(missing) else maps


def unshuffled(maps: Tensor) -> Tensor:
    """Four channels for one at half the resolution, as :func:`torch.nn.functional.pixel_unshuffle` has them.

    On a CPU the channels lie last: a tenth of a network's time is saved by this layout.

    Parameters
    ----------
    maps
        Shape (B, C, H, W), H and W even.

    Returns
    -------
    Tensor
        Shape (B, 4 C, H / 2, W / 2).
    """
    if maps.device.type != "cpu":
        return F.pixel_unshuffle(maps, 2)
    if maps.requires_grad or torch.compiler.is_compiling():
        return F.pixel_unshuffle(maps.contiguous(memory_format=torch.channels_last), 2)
    # The same in a third to a half of the time; but not with its gradient.
    channels_last = maps.permute(0, 2, 3, 1)
    corners = [channels_last[:, top::2, left::2] for top, left in itertools.product(range(2), repeat=2)]
    return torch.stack(corners, dim=-1).flatten(3).permute(0, 3, 1, 2)


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions around which the input is carried over; reaches 2 pixels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(ConvBlock(channels, channels), nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, features: Tensor) -> Tensor:
        """Features of shape (B, C, H, W), same shape out."""
        return F.leaky_relu_(features + self.body(features), NEGATIVE_SLOPE)


def upsample(features: Tensor) -> Tensor:
    """Twice the height and width, bilinear; (B, C, H, W) to (B, C, 2 H, 2 W)."""
    return F.interpolate(features, scale_factor=2, mode="bilinear", align_corners=False)


def zero_initialise(convolution: nn.Conv2d) -> nn.Conv2d:
    """Set weights and bias to zero, so that an untrained correction corrects nothing; returns the convolution."""
    nn.init.zeros_(convolution.weight)
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias)
    return convolution
