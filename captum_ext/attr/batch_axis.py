"""Which example of the batch each element of an activation belongs to, and one example's share of the arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from captum_ext._captum import TargetType


# The largest |F - sum of the decomposition| / max(1, |F|) that rounding explains.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 0.25, torch.float16: 0.05}


class UnknownBatchAxisError(Exception):
    """An activation has no axis that could be the batch; its examples have to be taken one at a time."""


def by_example(activation: Tensor, n_examples: int) -> Tensor:
    """Return the activation with the examples along the first axis, as far as its shape tells.

    Models put the batch first, second (sequences before batches) or fold another axis into it behind the examples
    (windows, heads). What looks right by shape alone can still be wrong; the completeness of each example is the check.

    Raises
    ------
    UnknownBatchAxisError
        No axis fits.

    Examples
    --------
    >>> import torch
    >>> by_example(torch.zeros(2, 5), 2).shape, by_example(torch.zeros(6, 5), 2).shape
    (torch.Size([2, 5]), torch.Size([2, 3, 5]))
    """
    shape = activation.shape
    if shape and shape[0] == n_examples:
        return activation
    if n_examples == 1:
        return activation.unsqueeze(0)
    if len(shape) > 1 and shape[1] == n_examples:
        return activation.transpose(0, 1)
    if shape and shape[0] % n_examples == 0:
        return activation.unflatten(0, (n_examples, -1))
    raise UnknownBatchAxisError


def select_target(target: TargetType, start: int, stop: int, n_examples: int) -> TargetType:
    """Return the targets of the examples from ``start`` to ``stop``; one target for all stays as it is."""
    if isinstance(target, list) and len(target) == n_examples:
        return target[start:stop]
    if isinstance(target, Tensor) and target.dim() == 1 and target.shape[0] == n_examples:
        return target[start:stop]
    return target


def select_arguments(arguments: tuple[Any, ...] | None, start: int, stop: int, n_examples: int) -> Any:
    """Return the additional arguments with the rows ``start`` to ``stop`` of tensors that have a row per example."""
    if arguments is None:
        return None
    return tuple(
        argument[start:stop]
        if isinstance(argument, Tensor) and argument.dim() > 0 and argument.shape[0] == n_examples
        else argument
        for argument in arguments
    )


Part = TypeVar("Part")


def by_rows(
    explain_rows: Callable[[int, int], Part],
    output_and_delta: Callable[[Part], tuple[Tensor, Tensor]],
    n_examples: int,
    rows_at_once: int | None = None,
) -> list[Part]:
    """Explain the examples in parts; one at a time where the batch axis was not told apart.

    Parameters
    ----------
    explain_rows
        Explains the examples from ``start`` to ``stop``.
    output_and_delta
        Gives the output of a part's examples and what the explanation leaves of it; each of shape (stop - start,).
    n_examples
        How many there are.
    rows_at_once
        At most so many at once; None for all.

    Returns
    -------
    list
        The parts, in order.
    """
    size = rows_at_once or n_examples
    parts: list[Part] = []
    for start in range(0, n_examples, size):
        stop = min(start + size, n_examples)
        try:
            part = explain_rows(start, stop)
            is_mixed = stop - start > 1 and _is_mixed(*output_and_delta(part))
        except UnknownBatchAxisError:
            is_mixed = True
        parts += [explain_rows(i, i + 1) for i in range(start, stop)] if is_mixed else [part]
    return parts


def _is_mixed(output: Tensor, delta: Tensor) -> bool:
    """Whether contributions went to the wrong example: complete in sum, but not one by one."""
    allowed = TOLERANCE[output.dtype] * output.abs().clamp(min=1)
    return bool((delta.abs() > allowed).any()) and bool(delta.sum().abs() <= allowed.sum())
