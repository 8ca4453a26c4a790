"""Completeness: how far the sum of any method's attributions is from the change of the output."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from captum_ext._captum import (
    BaselineType,
    TargetType,
    TensorOrTupleOfTensorsGeneric,
    format_additional_forward_args,
    format_tensor_into_tuples,
)
from captum_ext._errors import InvalidArgumentError
from captum_ext.attr._common.checks import check_inputs, check_is_tensor, expand_baselines
from captum_ext.attr._common.forward import TargetFunction, in_accumulation_dtype, row_sum
from captum_ext.attr._common.model_state import preserve_state


@dataclass(frozen=True)
class Completeness:
    """How complete the attributions of N examples are.

    Parameters
    ----------
    delta
        Sum of the attributions less F(inputs) - F(baselines), as in Captum; shape (N,).
    relative
        Absolute delta divided by the absolute change F(inputs) - F(baselines), at least 1e-12; shape (N,).
    """

    delta: Tensor
    relative: Tensor


def completeness(
    forward_func: Callable[..., Any],
    inputs: TensorOrTupleOfTensorsGeneric,
    attributions: TensorOrTupleOfTensorsGeneric,
    baselines: BaselineType = None,
    target: TargetType = None,
    additional_forward_args: object | None = None,
) -> Completeness:
    """Measure the convergence delta of any attribution, of Captum's methods or these.

    Source: the completeness axiom of Sundararajan, Taly and Yan, ICML 2017, proposition 1.

    Parameters
    ----------
    forward_func
        What was explained.
    inputs
        Tensor or tuple of tensors of shape (N, ...); integers too.
    attributions
        Tensor or tuple of tensors with a row for each example, of the shapes of ``inputs`` or, for methods that explain
        a layer, of that layer. All must be finite.
    baselines
        Where the explanation starts; None takes zeros. For a blur path give the blurred image.
    target, additional_forward_args
        As they were given to the method.

    Raises
    ------
    InvalidArgumentError
        Shapes do not fit, attributions are not finite or come with their delta, or what `captum_ext.IDGI.attribute`
        refuses.

    Examples
    --------
    >>> import torch
    >>> from captum.attr import InputXGradient
    >>> model, x = lambda x: (x**2).sum(1), torch.tensor([[1.0, 2.0]])
    >>> completeness(model, x, InputXGradient(model).attribute(x))  # twice the output
    Completeness(delta=tensor([5.]), relative=tensor([1.]))
    """
    tensors = format_tensor_into_tuples(inputs)
    parts = attributions if isinstance(attributions, tuple) else (attributions,)
    n_examples = check_inputs(tensors, integers_allowed=True)
    _check_attributions(parts, tensors, n_examples)
    function = TargetFunction(forward_func, target, format_additional_forward_args(additional_forward_args), n_examples)
    with preserve_state(forward_func, *tensors):
        end, start = function.value(tensors), function.value(expand_baselines(baselines, tensors))
    change = in_accumulation_dtype(end) - in_accumulation_dtype(start)
    delta = row_sum(tuple(part.detach() for part in parts), change.device) - change
    return Completeness(delta, delta.abs() / change.abs().clamp(min=1e-12))


def _check_attributions(parts: tuple[Tensor, ...], inputs: tuple[Tensor, ...], n_examples: int) -> None:
    for index, part in enumerate(parts):
        check_is_tensor(f"attributions[{index}]", part, "(N, ...)")
    given = f"attributions has shapes {_shapes(parts)} for inputs of shapes {_shapes(inputs)}"
    if not parts or any(part.dim() == 0 or part.shape[0] != n_examples for part in parts):
        raise InvalidArgumentError(f"{given}: give one row for each of the {n_examples} examples.")
    # Its sum with the attributions is no delta of anything.
    if len(parts) > 1 and parts[-1].dim() == 1 and (len(parts) > len(inputs) or inputs[-1].dim() > 1):
        raise InvalidArgumentError(
            f"{given}: the last looks like the convergence delta that methods return after their attributions; give "
            "the attributions alone."
        )
    if not all(bool(torch.isfinite(part).all()) for part in parts):
        raise InvalidArgumentError(
            "attributions holds NaN or infinite values, which have no sum: leave these examples out."
        )


def _shapes(tensors: tuple[Tensor, ...]) -> list[tuple[int, ...]]:
    return [tuple(tensor.shape) for tensor in tensors]
