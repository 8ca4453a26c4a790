"""Sums over the features of each example, in the precision in which they are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from captum_ext.attr._common import Tensors

Part = TypeVar("Part")


_ACCUMULATION_TYPES = frozenset({torch.float32, torch.float64})


def row_sum(tensors: Tensors, device: torch.device) -> Tensor:
    """Add up all features of each example over all tensors; shape (N,), in accumulation precision."""
    totals = [rows(in_accumulation_dtype(tensor)).sum(1) for tensor in tensors]
    if len(totals) > 1:
        return torch.stack(torch.broadcast_tensors(*(total.to(device) for total in totals))).sum(0)
    return totals[0].to(device)


def in_accumulation_dtype(tensor: Tensor) -> Tensor:
    """Return the tensor in the precision in which sums over a path are kept: float32 for half types, else its own."""
    if tensor.dtype in _ACCUMULATION_TYPES:  # nearly always, and this is asked at every turn
        return tensor
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def rows(tensor: Tensor) -> Tensor:
    """Lay out all features of each example in one row; shape (N, D)."""
    return tensor.reshape(tensor.shape[0], -1)


def like_rows(per_example: Tensor, tensor: Tensor) -> Tensor:
    """Bring one number for each example, shape (N,), to the device of a tensor, shaped to broadcast with it."""
    return per_example.to(tensor.device).reshape(-1, *[1] * (tensor.dim() - 1))


def concatenate(parts: Sequence[Part]) -> Part:
    """Put what was found for the parts of a batch together: tensors along the examples, records field by field.

    Parameters
    ----------
    parts
        Of one kind and form: tensors of shape (N, ...), or dataclasses, tuples and dictionaries of them. What is None
        in one part is None in the whole; names are the same in all.

    Examples
    --------
    >>> concatenate([{"total": torch.ones(1)}, {"total": torch.zeros(2)}])
    {'total': tensor([1., 0., 0.])}
    """
    given: Sequence[Any] = parts
    whole: Any = given[0]
    if any(part is None for part in given):
        whole = None
    elif isinstance(whole, Tensor):
        whole = torch.cat([*given])
    elif isinstance(whole, tuple):
        whole = tuple(concatenate(places) for places in zip(*given, strict=True))
    elif isinstance(whole, dict):
        whole = {key: concatenate([part[key] for part in given]) for key in whole}
    elif is_dataclass(whole) and not isinstance(whole, type):
        names = [field.name for field in fields(whole)]
        whole = replace(whole, **{name: concatenate([getattr(part, name) for part in given]) for name in names})
    return cast(Part, whole)


def products(gradients: Tensors, inputs: Tensors) -> Tensors:
    """Multiply each input with its gradient, in accumulation precision."""
    return tuple(
        in_accumulation_dtype(gradient) * in_accumulation_dtype(x.detach())
        for gradient, x in zip(gradients, inputs, strict=True)
    )
