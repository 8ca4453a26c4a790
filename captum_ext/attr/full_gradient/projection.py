"""From the maps that biases contribute to the input that they are about, without losing anything of their sum."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool1d
from torch.nn.functional import interpolate as resample

from captum_ext.attr._common.sums import row_sum

Tensors = tuple[Tensor, ...]


def interpolate(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize maps and keep their sums: bilinear where they grow, area averaging where they shrink.

    Every source cell is shared out over the target cells with weights that sum to one. Plain bilinear interpolation
    does not keep sums: cells at the border weigh more than those inside.

    Parameters
    ----------
    maps
        Shape (N, C, h, w).
    size
        Rows H and columns W of the target.

    Returns
    -------
    Tensor
        Shape (N, C, H, W); for each example and channel of the same sum as ``maps``.

    Examples
    --------
    >>> import torch
    >>> interpolate(torch.ones(1, 1, 2, 2), (4, 4)).sum()
    tensor(4.)
    """
    rows = _shares(maps.shape[2], size[0], maps)
    columns = _shares(maps.shape[3], size[1], maps)
    return rows @ maps @ columns.mT


def _shares(source: int, target: int, like: Tensor) -> Tensor:
    """Return the interpolation along one axis as a matrix of shape (target, source) whose columns sum to one."""
    cells = torch.eye(source, dtype=like.dtype, device=like.device).unsqueeze(0)
    if target < source:
        weights = adaptive_avg_pool1d(cells, target)[0].mT
    else:
        weights = resample(cells, size=target, mode="linear", align_corners=False)[0].mT
    return weights / weights.sum(0)


def spread_evenly(totals: Tensor, inputs: Tensors) -> Tensors:
    """Share a number for each example out over all elements of its inputs alike.

    Parameters
    ----------
    totals
        Shape (N,).
    inputs
        Tensors of shape (N, ...), whose shapes count.

    Returns
    -------
    tuple of Tensor
        One for each input, of its shape (expanded, not contiguous); they sum to ``totals``.

    Examples
    --------
    >>> import torch
    >>> spread_evenly(torch.tensor([6.0]), (torch.zeros(1, 2), torch.zeros(1, 1)))[0]
    tensor([[2., 2.]])
    """
    share = totals / sum(tensor[0].numel() for tensor in inputs)
    return tuple(share.reshape(-1, *[1] * (tensor.dim() - 1)).expand(tensor.shape) for tensor in inputs)


def restore_sums(pulled_back: Tensors, totals: Tensor) -> Tensors:
    """Add to J^T c what it lost of the sum of c, evenly: J^T c + (sum c - sum J^T c) / d, d the number of elements.

    Linear in c, so that the maps of all operations may be pulled back together.

    Parameters
    ----------
    pulled_back
        J^T c; one tensor of shape (N, ...) for each input.
    totals
        Sum of c for each example; shape (N,).

    Returns
    -------
    tuple of Tensor
        Of the shapes of ``pulled_back``; they sum to ``totals``.
    """
    missing = totals - row_sum(pulled_back, totals.device)
    shares = spread_evenly(missing, pulled_back)
    return tuple(tensor + share for tensor, share in zip(pulled_back, shares, strict=True))
