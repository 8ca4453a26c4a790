"""The examples that are to be explained, which can be taken in parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, NoReturn, TypeVar, cast

import torch
from torch import Tensor

from captum_ext._captum import (
    TargetType,
    TensorOrTupleOfTensorsGeneric,
    format_additional_forward_args,
    format_tensor_into_tuples,
)
from captum_ext._errors import InvalidArgumentError, TargetOutOfRangeError
from captum_ext.attr._common import Tensors
from captum_ext.attr._common.checks import all_finite, check_inputs, positive_integer
from captum_ext.attr._common.forward import check_target_length, take_rows
from captum_ext.attr.full_gradient._trace.backpropagation import (
    AnyConsumer,
    Backpropagated,
    backpropagate,
    first_not_finite,
)
from captum_ext.attr.full_gradient._trace.batch_axis import UnknownBatchAxisError
from captum_ext.attr.full_gradient._trace.determinism import NotDeterministicError

Part = TypeVar("Part")

_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 0.25, torch.float16: 0.05}


def tolerance(dtype: torch.dtype, device: torch.device) -> float:
    """Return the largest |F - sum of the decomposition| / max(1, |F|) that rounding explains."""
    if dtype is torch.float32 and device.type == "cuda":
        try:
            # CUDA may round float32 to ten bits: in convolutions it does unless it is told not to.
            takes_tf32 = torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32
        except RuntimeError:  # the newer names of these switches were used, and torch refuses to read the older ones
            takes_tf32 = True
        if takes_tf32:
            return _TOLERANCE[torch.float16]  # which has as many bits
    return _TOLERANCE[dtype]


def is_complete(output: Tensor, delta: Tensor, dtype: torch.dtype) -> bool:
    """Whether what is left of each example's output is a number, and no more than rounding in this dtype explains."""
    allowed = tolerance(dtype, output.device)
    # Nearly always the strictest bound holds for all examples, which is one operation on few numbers.
    if torch.linalg.vector_norm(delta, torch.inf).item() <= allowed:
        return True
    return bool((delta.abs() <= allowed * output.abs().clamp(min=1)).all())


@dataclass(frozen=True)
class Examples:
    """A model and the examples at which it is explained.

    Parameters
    ----------
    forward_func, inputs, target, additional_forward_args
        As in `captum_ext.FullGrad.attribute`; inputs and arguments as tuples.
    """

    forward_func: Callable[..., Any]
    inputs: Tensors
    target: TargetType
    additional_forward_args: tuple[Any, ...] | None

    @classmethod
    def given(
        cls,
        forward_func: Callable[..., Any],
        inputs: TensorOrTupleOfTensorsGeneric,
        target: TargetType,
        additional_forward_args: object | None,
    ) -> Examples:
        """Check what a user gave to explain, in any form that Captum takes.

        Raises
        ------
        InvalidArgumentError
            An input is refused, see `check_inputs`, or there is not one target for each example.
        """
        tensors = format_tensor_into_tuples(inputs)
        check_target_length(target, check_inputs(tensors))
        # What is found must not hang on the graph that the inputs come from.
        detached = tuple(tensor.detach() for tensor in tensors)
        return cls(forward_func, detached, target, format_additional_forward_args(additional_forward_args))

    def __len__(self) -> int:
        return self.inputs[0].shape[0]

    def rows(self, start: int, stop: int) -> Examples:
        """Return the examples from ``start`` to ``stop``, with their targets and their rows of the arguments."""
        arguments = self.additional_forward_args
        target, rows = take_rows(self.target, arguments or (), slice(start, stop), len(self))
        inputs = tuple(x[start:stop] for x in self.inputs)
        return Examples(self.forward_func, inputs, target, None if arguments is None else rows)

    def parts(self, internal_batch_size: int | None = None) -> list[Examples]:
        """Return the examples in parts of at most so many, or all together.

        Raises
        ------
        InvalidArgumentError
            The number is not 1 or more.
        """
        size = len(self)
        if internal_batch_size is not None:
            meaning = "the most examples in one forward pass, or None"
            size = positive_integer("internal_batch_size", internal_batch_size, meaning)
        if size >= len(self):
            return [self]
        return [self.rows(start, min(start + size, len(self))) for start in range(0, len(self), size)]

    def backpropagate(self, make_consumer: Callable[[], AnyConsumer]) -> tuple[Backpropagated, AnyConsumer]:
        """Run `backpropagate` at these examples."""
        return backpropagate(self.forward_func, self.inputs, self.target, self.additional_forward_args, make_consumer)


def explain_in_parts(
    examples: Examples,
    explain: Callable[[Examples], Part],
    output_and_delta: Callable[[Part], tuple[Tensor, Tensor]],
    internal_batch_size: int | None = None,
) -> list[Part]:
    """Explain the examples in parts; one at a time where the batch axis was not told apart.

    Parameters
    ----------
    examples
        What to explain.
    explain
        Explains a part of them.
    output_and_delta
        Gives the output of a part's examples and what the explanation leaves of it; each of shape (N,).
    internal_batch_size
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
    explained: list[Part] = []
    for part in examples.parts(internal_batch_size):
        together: Tensor | None = None
        try:
            found = explain(part)
            output, delta = output_and_delta(found)
            if not is_complete(output, delta, output.dtype):
                if not all_finite(delta):
                    refuse_not_finite(part)
                together = output if len(part) > 1 and _is_mixed(output, delta) else None
            if together is None:
                explained.append(found)
                continue
        except UnknownBatchAxisError:
            pass
        alone = _explain_alone(part, explain)
        if together is not None:
            _check_independence(together, torch.cat([output_and_delta(found)[0] for found in alone]))
        for example, found in zip(part.parts(1), alone, strict=True):
            if not all_finite(output_and_delta(found)[1]):
                refuse_not_finite(example)
        explained += alone
    return explained


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


def _explain_alone(examples: Examples, explain: Callable[[Examples], Part]) -> list[Part]:
    try:
        return [explain(example) for example in examples.parts(1)]
    except (NotDeterministicError, TargetOutOfRangeError):
        raise
    except (RuntimeError, IndexError, ValueError) as error:
        raise InvalidArgumentError(
            f"which part of an activation belongs to which of the {len(examples)} examples cannot be told by its "
            f"shape, and the first example alone cannot be explained: {type(error).__name__}: {error}. Let "
            "forward_func take any number of rows, and give what it needs for each as additional_forward_args; or "
            "give one example at a time."
        ) from error


def refuse_not_finite(examples: Examples) -> NoReturn:
    """Raise `InvalidArgumentError` that names the operation at which no finite gradient exists."""
    where = first_not_finite(examples.forward_func, examples.inputs, examples.target, examples.additional_forward_args)
    raise InvalidArgumentError(
        f"no finite gradient exists at these inputs: {where} gives NaN or infinity in the backward pass, as a square "
        "root does at zero, also where torch.where leaves its value out. Keep its argument away from there, for "
        "instance with clamp(min=...), or explain another input."
    )


def _is_mixed(output: Tensor, delta: Tensor) -> bool:
    """Whether contributions went to the wrong example: complete in sum, but not one by one."""
    allowed = tolerance(output.dtype, output.device) * output.abs().clamp(min=1)
    # Also where the model rounds to a lower precision inside, so that the sum is not zero, but far below its parts.
    return bool(delta.sum().abs() <= torch.maximum(allowed.sum(), 0.01 * delta.abs().max()))


def _check_independence(together: Tensor, alone: Tensor) -> None:
    # No less than float32's, to which some models in float64 round inside.
    allowed = max(tolerance(dtype, alone.device) for dtype in (alone.dtype, torch.float32)) * together.abs().clamp(
        min=1
    )
    if bool(((together - alone).abs() > allowed).any()):
        raise InvalidArgumentError(
            f"forward_func gives {together.tolist()} for the examples together and {alone.tolist()} for each alone: it "
            "must keep the examples apart. Give one example at a time, or look for a mean over the batch."
        )
