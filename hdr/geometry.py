"""Pixel grids, sampling and warping.

Displacements have shape (B, 2, H, W), channel 0 horizontal and channel 1 vertical, in pixels, and point from a position
of the reference to the position to be read. (0, 0) is the centre of the first pixel.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def pixel_grid(height: int, width: int, like: Tensor) -> Tensor:
    """Pixel coordinates (x, y) of shape (1, 2, H, W), in the dtype and on the device of ``like``."""
    y, x = torch.meshgrid(
        torch.arange(height, device=like.device, dtype=like.dtype),
        torch.arange(width, device=like.device, dtype=like.dtype),
        indexing="ij",
    )
    return torch.stack([x, y]).unsqueeze(0)


def transformed(matrices: Tensor, vectors: Tensor) -> Tensor:
    """Matrices (..., 3, 3) times the vector at every pixel (..., 3, H, W): colours, or rays.

    Product by product: a product of matrices rounds otherwise with another number of threads.

    Examples
    --------
    >>> transformed(torch.eye(3).flip(0), torch.arange(3.0).view(3, 1, 1)).flatten()
    tensor([2., 1., 0.])
    """
    first, second, third = (matrices[..., axis, None, None] * vectors[..., axis, None, :, :] for axis in range(3))
    return first + second + third


def inside(positions: Tensor, height: int, width: int) -> Tensor:
    """Whether positions (..., 2, H', W') lie in a frame, half a pixel beyond its outermost centres; (..., H', W').

    Examples
    --------
    >>> inside(torch.tensor([-0.6, -0.4, 2.4]).expand(1, 1, 3).expand(2, 1, 3), height=3, width=3)
    tensor([[False,  True,  True]])
    """
    x, y = positions.unbind(dim=-3)
    return (x > -0.5) & (x < width - 0.5) & (y > -0.5) & (y < height - 0.5)


def sample(images: Tensor, positions: Tensor, padding_mode: str = "border", mode: str = "bilinear") -> Tensor:
    """Read images at fractional pixel positions.

    Parameters
    ----------
    images
        Shape (B, C, H, W).
    positions
        Shape (B, 2, H', W'), channel 0 is x and channel 1 is y, in pixels.
    padding_mode, mode
        What lies outside, and the interpolation, as in :func:`torch.nn.functional.grid_sample`.

    Returns
    -------
    Tensor
        Shape (B, C, H', W'), in the dtype of ``images``. Computed in float32 at least: coordinates need more than the
        eight bits of bfloat16.
    """
    height, width = images.shape[-2:]
    dtype = torch.promote_types(images.dtype, torch.float32)
    if mode == "bilinear" and padding_mode in ("border", "zeros") and _lie_pixel_by_pixel(images):
        return _gathered(images.to(dtype), positions.to(dtype), padding_mode).to(images.dtype)
    # Filled where it is used: a copy from the host would make a GPU finish all that it has been asked for.
    size = torch.stack([torch.full((), side, device=positions.device, dtype=dtype) for side in (width, height)])
    grid = (2 * positions.to(dtype).permute(0, 2, 3, 1) + 1) / size - 1
    with torch.autocast(images.device.type, enabled=False):
        read = F.grid_sample(images.to(dtype), grid, mode=mode, padding_mode=padding_mode, align_corners=False)
    return read.to(images.dtype)


def _lie_pixel_by_pixel(images: Tensor) -> bool:
    """Whether images have their channels last in a CPU's memory, and nothing is learned from reading them."""
    if images.device.type != "cpu" or torch.is_grad_enabled() or torch.compiler.is_compiling():
        return False
    channels_last = images.is_contiguous(memory_format=torch.channels_last) and not images.is_contiguous()
    return channels_last and min(images.shape[-2:]) > 1


def _gathered(images: Tensor, positions: Tensor, padding_mode: str) -> Tensor:
    """What :func:`sample` reads, bilinear: of images whose channels lie last, and so is the result.

    ``grid_sample`` reads channel by channel, and takes three times as long. Here each place is a sum of four rows of a
    table.
    """
    batch, channels, height, width = images.shape
    pixels, shares = [], []
    for where, size in zip(positions.contiguous().unbind(dim=1), (width, height), strict=True):
        bounded = where.clamp(0, size - 1) if padding_mode == "border" else where
        # The first of the two pixels beside; outside the image, of the last two.
        first = bounded.floor().int().clamp_(0, size - 2)
        pixels.append(first)
        shares.append([(1 - (bounded - first - step).abs()).clamp_min(0) for step in range(2)])
    image = torch.arange(0, batch * height * width, height * width, dtype=torch.int32).view(batch, 1, 1)
    top_left = image + pixels[1] * width + pixels[0]
    square = torch.tensor([0, 1, width, width + 1], dtype=torch.int32)
    read = F.embedding_bag(
        (top_left.unsqueeze(-1) + square).view(-1, 4),
        images.permute(0, 2, 3, 1).reshape(-1, channels),
        per_sample_weights=torch.stack([y * x for y in shares[1] for x in shares[0]], dim=-1).view(-1, 4),
        mode="sum",
    )
    return read.view(batch, *positions.shape[-2:], channels).permute(0, 3, 1, 2)


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
