"""Sums over the features of each example, in the precision in which they are kept."""

from __future__ import annotations

import torch
from torch import Tensor


def row_sum(tensors: tuple[Tensor, ...], device: torch.device) -> Tensor:
    """Add up all features of each example over all tensors; shape (N,), in accumulation precision."""
    totals = [rows(in_accumulation_dtype(tensor)).sum(1).to(device) for tensor in tensors]
    return torch.stack(torch.broadcast_tensors(*totals)).sum(0) if len(totals) > 1 else totals[0]


def in_accumulation_dtype(tensor: Tensor) -> Tensor:
    """Return the tensor in the precision in which sums over a path are kept: float32 for half types, else its own."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def rows(tensor: Tensor) -> Tensor:
    """Lay out all features of each example in one row; shape (N, D)."""
    return tensor.reshape(tensor.shape[0], -1)


def like_rows(per_example: Tensor, tensor: Tensor) -> Tensor:
    """Bring one number for each example, shape (N,), to the device of a tensor, shaped to broadcast with it."""
    return per_example.to(tensor.device).reshape(-1, *[1] * (tensor.dim() - 1))
