"""Pixel grids, sampling and warping.

Displacements have shape (B, 2, H, W), channel 0 horizontal and channel 1 vertical, in pixels, and point from a position
of the reference to the position to be read. (0, 0) is the centre of the first pixel.
"""

from __future__ import annotations

from collections.abc import Sequence

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
    # Filled where it is used: a copy from the host would make a GPU finish all that it has been asked for.
    size = torch.stack([torch.full((), side, device=positions.device, dtype=dtype) for side in (width, height)])
    grid = (2 * positions.to(dtype).permute(0, 2, 3, 1) + 1) / size - 1
    with torch.autocast(images.device.type, enabled=False):
        read = F.grid_sample(images.to(dtype), grid, mode=mode, padding_mode=padding_mode, align_corners=False)
    return read.to(images.dtype)


def side_of_cells(size: Sequence[int], cells: Sequence[int]) -> int:
    """Pixels on a side of the cells (h, w) in which an image of size (H, W) is kept.

    A whole number: where a side of the image is none of its multiples, the last cell reaches beyond the edge. The
    longer side tells it, for of few cells that one is a large part.

    Examples
    --------
    >>> side_of_cells((3, 900), (2, 450))
    2
    """
    return round(max(size) / max(cells))


def pixels_of_cells(size: Sequence[int], cells: Sequence[int], inside_by: int, *, like: Tensor) -> Tensor:
    """Positions (1, 2, h, w) of one pixel of each cell (h, w) of an image of size (H, W), x first.

    The pixel lies ``inside_by`` rows and columns from the cell's first; where that is beyond the edge, on the edge.

    Examples
    --------
    >>> pixels_of_cells((3, 5), (2, 3), 1, like=torch.zeros(1))[0, 0]
    tensor([[1., 3., 4.],
            [1., 3., 4.]])
    """
    places = side_of_cells(size, cells) * pixel_grid(cells[0], cells[1], like=like) + inside_by
    return torch.minimum(places, torch.tensor([size[1] - 1, size[0] - 1]).to(places).view(2, 1, 1))


def upsampled_window(maps: Tensor, scale: int, rows: tuple[int, int], columns: tuple[int, int]) -> Tensor:
    """A part of maps (B, C, h, w) upsampled bilinearly: what the whole, (scale h, scale w), would hold there.

    Parameters
    ----------
    maps
        Cells of ``scale`` x ``scale`` pixels each.
    scale
        By how much.
    rows, columns
        First pixel, and the one after the last; beyond the last cell the edge continues.

    Examples
    --------
    >>> upsampled_window(torch.arange(3.0).view(1, 1, 1, 3), 2, (0, 2), (2, 6))[0, 0]
    tensor([[0.7500, 1.2500, 1.7500, 2.0000],
            [0.7500, 1.2500, 1.7500, 2.0000]])
    """
    # One more cell on each side, so that a window holds what the whole holds there, seam or none.
    first = [max(begin // scale - 1, 0) for begin, _ in (rows, columns)]
    (top, bottom), (left, right) = (
        (begin - scale * cell, end - scale * cell) for cell, (begin, end) in zip(first, (rows, columns), strict=True)
    )
    cells = maps[..., first[0] : first[0] - (-bottom // scale) + 1, first[1] : first[1] - (-right // scale) + 1]
    fine = F.interpolate(cells, scale_factor=scale, mode="bilinear", align_corners=False)
    missing = (0, max(right - fine.shape[3], 0), 0, max(bottom - fine.shape[2], 0))
    return F.pad(fine, missing, mode="replicate")[..., top:bottom, left:right]


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
