"""Alignment of an exposure's features to the reference's, coarse to fine, with bounded displacements.

At the coarsest scale a displacement is found by matching features in a window; on the way up each scale adds a bounded
correction and samples the exposure by deformable convolution around the displaced position. Bounds everywhere: how far
an output pixel can look is known before the network is trained.

Displacements have shape (B, 2, H, W), channel 0 horizontal and channel 1 vertical, in pixels of their own scale, and
point from a position of the reference to the position to be read.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hdr.nn.blocks import ConvBlock, upsample, zero_initialise

CORRECTION_BOUND = 2.0
"""Pixels by which one scale may correct the displacement that came from the coarser one."""

TAP_BOUND = 2.0
"""Pixels by which a single tap of a deformable kernel may leave its regular place."""


def pixel_grid(height: int, width: int, like: Tensor) -> Tensor:
    """Pixel coordinates (x, y) of shape (1, 2, H, W), in the dtype and on the device of ``like``."""
    y, x = torch.meshgrid(
        torch.arange(height, device=like.device, dtype=like.dtype),
        torch.arange(width, device=like.device, dtype=like.dtype),
        indexing="ij",
    )
    return torch.stack([x, y]).unsqueeze(0)


def sample(images: Tensor, positions: Tensor, padding_mode: str = "border") -> Tensor:
    """Read images at fractional pixel positions, bilinearly.

    Parameters
    ----------
    images
        Shape (B, C, H, W).
    positions
        Shape (B, 2, H', W'), channel 0 is x and channel 1 is y, in pixels; (0, 0) is the centre of the first pixel.
    padding_mode
        What lies outside, as in :func:`torch.nn.functional.grid_sample`.

    Returns
    -------
    Tensor
        Shape (B, C, H', W'), in the dtype of ``images``. Computed in float32 at least: coordinates need more than the
        eight bits of bfloat16.
    """
    height, width = images.shape[-2:]
    dtype = torch.promote_types(images.dtype, torch.float32)
    size = torch.tensor([width, height], device=positions.device, dtype=dtype)
    grid = (2 * positions.to(dtype).permute(0, 2, 3, 1) + 1) / size - 1
    with torch.autocast(images.device.type, enabled=False):
        read = F.grid_sample(images.to(dtype), grid, mode="bilinear", padding_mode=padding_mode, align_corners=False)
    return read.to(images.dtype)


def warp(images: Tensor, displacement: Tensor) -> Tensor:
    """Images (B, C, H, W) read at every pixel plus its displacement (B, 2, H, W); the edge continues outside.

    Examples
    --------
    >>> image = torch.arange(4.0).reshape(1, 1, 1, 4)
    >>> right = torch.tensor([1.0, 0.0]).reshape(1, 2, 1, 1).expand(1, 2, 1, 4)
    >>> warp(image, right)
    tensor([[[[1., 2., 3., 3.]]]])
    """
    displacement = displacement.to(torch.promote_types(displacement.dtype, torch.float32))
    return sample(images, displacement + pixel_grid(images.shape[-2], images.shape[-1], like=displacement))


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
        mixed: Tensor = self.mix(read.reshape(batch, channels, self.taps, height, width).flatten(1, 2))
        return mixed


class LocalMatching(nn.Module):
    """Displacement of every place by comparing its features with a window of the other exposure's.

    The correlation window of PWC-Net (Sun et al., CVPR 2018), read out by its softmax expectation, on features whose
    local mean is removed: brightness says little across exposures, contrast says much. A small convolutional network
    corrects the expectation where the window was of no help, as in saturated places. No result exceeds ``radius``.

    Parameters
    ----------
    channels
        Channels of the features.
    radius
        Half the window's side in pixels of this scale, which is also the bound of the displacement.
    """

    matching_channels = 16
    mean_window = 5

    def __init__(self, channels: int, radius: int) -> None:
        super().__init__()
        self.radius = radius
        window = (2 * radius + 1) ** 2
        self.project = nn.Conv2d(channels, self.matching_channels, 1, bias=False)
        self.log_sharpness = nn.Parameter(torch.tensor(2.0))
        # What looks alike everywhere, and everything to an untrained network, is taken to stand still.
        self.log_stillness = nn.Parameter(torch.tensor(0.0))
        self.summarise = ConvBlock(window, channels // 2, kernel_size=1)
        self.correct = nn.Sequential(
            ConvBlock(channels // 2 + 3 + 2 * channels, channels),
            ConvBlock(channels, channels // 2, dilation=2),
            ConvBlock(channels // 2, channels // 2, dilation=2),
            zero_initialise(nn.Conv2d(channels // 2, 2, 3, padding=1)),
        )

    @property
    def reach(self) -> int:
        """Pixels of this scale that the result at a place depends on, to either side."""
        convolutions = 1 + 2 + 2 + 1
        return convolutions + self.radius + self.mean_window // 2

    def match(self, reference: Tensor, other: Tensor) -> Tensor:
        """Probability of every displacement in the window, (B, (2 radius + 1)^2, H, W), for features (B, C, H, W)."""
        r, side = self.radius, 2 * self.radius + 1
        query, key = self._contrast(reference), self._contrast(other)
        windows = F.pad(key, (r, r, r, r)).unfold(2, side, 1).unfold(3, side, 1)
        correlation = torch.einsum("bchw,bchwij->bijhw", query, windows).flatten(1, 2)
        evidence = correlation * self.log_sharpness.exp() - self._distances(correlation) * self.log_stillness.exp()
        return torch.softmax(evidence, dim=1)

    def forward(self, reference: Tensor, other: Tensor) -> Tensor:
        """Displacement (B, 2, H, W) from the reference's features to the other's, both (B, C, H, W)."""
        r = self.radius
        probability = self.match(reference, other)
        steps = torch.arange(-r, r + 1, device=probability.device, dtype=probability.dtype)
        window = probability.unflatten(1, (2 * r + 1, 2 * r + 1))
        expected = torch.stack(
            [torch.einsum("bijhw,j->bhw", window, steps), torch.einsum("bijhw,i->bhw", window, steps)], dim=1
        )
        confidence = probability.amax(dim=1, keepdim=True)
        evidence = [self.summarise(probability), expected / r, confidence, reference, warp(other, expected)]
        correction = r * torch.tanh(self.correct(torch.cat(evidence, dim=1)))
        return (expected + correction).clamp(-r, r)

    def _distances(self, like: Tensor) -> Tensor:
        """Length in pixels of every displacement in the window, (1, (2 radius + 1)^2, 1, 1)."""
        side = 2 * self.radius + 1
        x, y = (pixel_grid(side, side, like=like) - self.radius).unbind(dim=1)
        return torch.hypot(x, y).reshape(1, -1, 1, 1)

    def _contrast(self, features: Tensor) -> Tensor:
        projected = self.project(features)
        mean = F.avg_pool2d(
            projected, self.mean_window, stride=1, padding=self.mean_window // 2, count_include_pad=False
        )
        return F.normalize(projected - mean, dim=1, eps=1e-3)


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
        self.trunk = nn.Sequential(ConvBlock(2 * channels + 2, hidden), ConvBlock(hidden, hidden))
        self.correction = zero_initialise(nn.Conv2d(hidden, 2, 3, padding=1))
        self.tap_offsets = zero_initialise(nn.Conv2d(hidden, 2 * self.convolution.taps, 3, padding=1))

    correction_reach = 3
    """Pixels of this scale that a corrected displacement depends on, besides the displacement itself."""

    def forward(self, reference: Tensor, other: Tensor, displacement: Tensor) -> tuple[Tensor, Tensor]:
        """Align one exposure at one scale.

        Parameters
        ----------
        reference, other
            Features of shape (B, C, H, W).
        displacement
            Shape (B, 2, H, W), in pixels of this scale.

        Returns
        -------
        tuple of Tensor
            The aligned features (B, C, H, W) and the corrected displacement (B, 2, H, W).
        """
        warped = warp(other, displacement)
        hidden = self.trunk(torch.cat([reference, warped, displacement.to(reference.dtype) / 8], dim=1))
        displacement = displacement + CORRECTION_BOUND * torch.tanh(self.correction(hidden))
        taps = TAP_BOUND * torch.tanh(self.tap_offsets(hidden)).unflatten(1, (2, self.convolution.taps))
        return self.convolution(other, displacement.unsqueeze(2) + taps), displacement


def upsample_displacement(displacement: Tensor) -> Tensor:
    """The displacement at twice the resolution, in the pixels of that resolution."""
    return 2 * upsample(displacement)
