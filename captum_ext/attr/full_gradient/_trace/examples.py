"""The examples that are to be explained, which can be taken in parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from captum_ext._captum import TargetType
from captum_ext._errors import InvalidArgumentError
from captum_ext.attr.full_gradient._trace.backpropagation import AnyConsumer, Backpropagated, backpropagate
from captum_ext.attr.full_gradient._trace.batch_axis import UnknownBatchAxisError

Tensors = tuple[Tensor, ...]
Part = TypeVar("Part")

# The largest |F - sum of the decomposition| / max(1, |F|) that rounding explains.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 0.25, torch.float16: 0.05}


@dataclass(frozen=True)
class Examples:
    """A model and the examples at which it is explained.

    Parameters
    ----------
    forward_func, inputs, target, additional_forward_args
        As in `captum_ext.attr.full_gradient.full_grad.FullGrad.attribute`; inputs and arguments as tuples.
    """

    forward_func: Callable[..., Any]
    inputs: Tensors
    target: TargetType
    additional_forward_args: tuple[Any, ...] | None

    def __len__(self) -> int:
        return self.inputs[0].shape[0]

    def rows(self, start: int, stop: int) -> Tensors:
        """Return the inputs of the examples from ``start`` to ``stop``."""
        return tuple(tensor[start:stop].detach() for tensor in self.inputs)

    def backpropagate(
        self, start: int, stop: int, rows: Tensors, make_consumer: Callable[[], AnyConsumer]
    ) -> tuple[Backpropagated, AnyConsumer]:
        """Run `backpropagate` at ``rows`` with the targets and arguments of the examples from ``start`` to ``stop``."""
        return backpropagate(
            self.forward_func,
            rows,
            _select_target(self.target, start, stop, len(self)),
            _select_arguments(self.additional_forward_args, start, stop, len(self)),
            make_consumer,
        )


def _select_target(target: TargetType, start: int, stop: int, n_examples: int) -> TargetType:
    """Return the targets of the examples from ``start`` to ``stop``; one target for all stays as it is."""
    if isinstance(target, list) and len(target) == n_examples:
        return target[start:stop]
    if isinstance(target, Tensor) and target.dim() == 1 and target.shape[0] == n_examples:
        return target[start:stop]
    return target


def _select_arguments(arguments: tuple[Any, ...] | None, start: int, stop: int, n_examples: int) -> Any:
    """Return the additional arguments with the rows ``start`` to ``stop`` of tensors that have a row per example."""
    if arguments is None:
        return None
    return tuple(
        argument[start:stop]
        if isinstance(argument, Tensor) and argument.dim() > 0 and argument.shape[0] == n_examples
        else argument
        for argument in arguments
    )


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

    Raises
    ------
    InvalidArgumentError
        The model mixes the examples of a batch.
    """
    size = rows_at_once or n_examples
    parts: list[Part] = []
    for start in range(0, n_examples, size):
        stop = min(start + size, n_examples)
        together: Tensor | None = None
        try:
            part = explain_rows(start, stop)
            output, delta = output_and_delta(part)
            if stop - start == 1 or not _is_mixed(output, delta):
                parts.append(part)
                continue
            together = output
        except UnknownBatchAxisError:
            pass
        alone = [explain_rows(row, row + 1) for row in range(start, stop)]
        _check_independence(together, torch.cat([output_and_delta(part)[0] for part in alone]))
        parts += alone
    return parts


def _is_mixed(output: Tensor, delta: Tensor) -> bool:
    """Whether contributions went to the wrong example: complete in sum, but not one by one."""
    allowed = TOLERANCE[output.dtype] * output.abs().clamp(min=1)
    return bool((delta.abs() > allowed).any()) and bool(delta.sum().abs() <= allowed.sum())


def _check_independence(together: Tensor | None, alone: Tensor) -> None:
    if together is None:
        return
    allowed = TOLERANCE[alone.dtype] * together.abs().clamp(min=1)
    if bool(((together - alone).abs() > allowed).any()):
        raise InvalidArgumentError(
            f"forward_func gives {together.tolist()} for the examples together and {alone.tolist()} for each alone: it "
            "must keep the examples apart. Give one example at a time, or look for a mean over the batch."
        )
