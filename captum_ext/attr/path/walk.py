"""One walk along a path: each point is evaluated once, each step is credited by a rule.

The mechanism of `IDGI`, `LayerIDGI`, `PathIG`, `BlurIG` and `GuidedIG`: any path with any rule. A walk of n steps costs
n + 1 forward and n backward evaluations of each example, however many points go through the model at once.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar, Union

import torch
from captum.attr import GradientAttribution
from torch import Tensor
from tqdm import tqdm

from captum_ext._captum import (
    BaselineType,
    TargetType,
    TensorOrTupleOfTensorsGeneric,
    format_additional_forward_args,
    format_output,
    format_tensor_into_tuples,
    is_tuple,
    log_usage,
)
from captum_ext._errors import InvalidArgumentError
from captum_ext.attr._common import Tensors
from captum_ext.attr._common.checks import NO_QUADRATURE, check_inputs, check_n_steps, points_per_pass
from captum_ext.attr._common.complete_method import CompleteMethod
from captum_ext.attr._common.forward import TargetFunction
from captum_ext.attr._common.model_state import preserve_state
from captum_ext.attr._common.sums import in_accumulation_dtype, row_sum
from captum_ext.attr.path.paths import AdaptivePath, Path, resolve_path
from captum_ext.attr.path.rules import EvaluatedPoint, Rule, riemann

Returned = Union[  # noqa: UP007
    TensorOrTupleOfTensorsGeneric,
    tuple[TensorOrTupleOfTensorsGeneric, Tensor],
    tuple[TensorOrTupleOfTensorsGeneric, Tensor, Tensor],
]
"""Attributions in the form of the inputs, and after them the delta, the residual or both."""


@dataclass(frozen=True)
class PathAttributions:
    """What one walk found.

    Parameters
    ----------
    attributions
        One tensor for each input, of its shape, dtype and device.
    delta
        Sum of the attributions less the change of f from the start of the path to its end; shape (N,).
    residual
        Left Riemann sum of the gradient along the walk less the same change; shape (N,). None unless asked for.
    """

    attributions: Tensors
    delta: Tensor
    residual: Tensor | None

    def returned(self, attributions: TensorOrTupleOfTensorsGeneric, with_delta: bool) -> Returned:
        """Return the attributions as a user gets them, followed by the delta and the residual if asked for."""
        if with_delta:
            return (attributions, self.delta) if self.residual is None else (attributions, self.delta, self.residual)
        return attributions if self.residual is None else (attributions, self.residual)


@dataclass(frozen=True)
class Walk:
    """A path from ``start`` to ``inputs`` in ``n_steps`` steps, ``points_per_pass`` points at once.

    Parameters
    ----------
    path
        Where to walk.
    function
        What to evaluate.
    inputs, start
        The two ends; tensors of shape (N, ...).
    n_steps
        Number of steps.
    points_per_pass
        How many points of every example go through the model at once; an adaptive path takes them one by one.
    progress_name
        Shown with a progress bar; None shows none.
    """

    path: Path | AdaptivePath
    function: TargetFunction
    inputs: Tensors
    start: Tensors
    n_steps: int
    points_per_pass: int
    progress_name: str | None = None

    def points(self) -> Iterator[EvaluatedPoint]:
        """Yield the points 0 to n, each evaluated once."""
        walked = self._adaptive(self.path) if isinstance(self.path, AdaptivePath) else self._known(self.path)
        with tqdm(
            total=self.n_steps + 1, desc=self.progress_name, unit="point", disable=self.progress_name is None
        ) as bar:
            for point in walked:
                yield point
                bar.update()
            # The end is the input itself, evaluated without a backward pass.
            yield EvaluatedPoint(self.inputs, self.function.value(self.inputs), None)
            bar.update()

    def _known(self, path: Path) -> Iterator[EvaluatedPoint]:
        for first in range(0, self.n_steps, self.points_per_pass):
            indices = range(first, min(first + self.points_per_pass, self.n_steps))
            # The start is known already, and a path need not give it a second time.
            yield from self._evaluate(
                [path.point(self.inputs, self.start, j / self.n_steps) if j else self.start for j in indices]
            )

    def _adaptive(self, path: AdaptivePath) -> Iterator[EvaluatedPoint]:
        walk = path.walk(self.inputs, self.start, self.n_steps)
        position = next(walk)
        for step in range(self.n_steps):
            (point,) = self._evaluate([position])
            yield point
            if step + 1 < self.n_steps:
                assert point.gradient is not None
                position = walk.send(point.gradient)
        walk.close()

    def _evaluate(self, points: list[Tensors]) -> Iterator[EvaluatedPoint]:
        wanted = [tuple(tensor.shape) for tensor in self.inputs]
        for point in points:
            shapes = [tuple(tensor.shape) for tensor in point]
            if shapes != wanted:
                raise InvalidArgumentError(f"the path gave a point of shapes {shapes} for inputs of shapes {wanted}.")
        n_points = len(points)
        batch = tuple(torch.cat(tensors) if n_points > 1 else tensors[0] for tensors in zip(*points, strict=True))
        del points, point  # the batch holds them all
        values, gradients = self.function.value_and_gradient(batch, n_points)
        by_point = zip(
            values.chunk(n_points),
            zip(*(tensor.chunk(n_points) for tensor in batch), strict=True),
            zip(*(tensor.chunk(n_points) for tensor in gradients), strict=True),
            strict=True,
        )
        for value, position, gradient in by_point:
            # Copies, since the last point of a pass outlives it and a view would keep the whole pass in memory.
            yield EvaluatedPoint(tuple(x.clone() for x in position), value, tuple(g.clone() for g in gradient))


def prepare_walk(
    path: Path | AdaptivePath,
    forward_func: Callable[..., Any],
    inputs: Tensors,
    baselines: BaselineType,
    target: TargetType,
    additional_forward_args: object | None,
    n_steps: int,
    internal_batch_size: int | None,
    *,
    progress_name: str | None,
    grad_kwargs: Mapping[str, Any] | None = None,
) -> Walk:
    """Check what a user gave to ``attribute`` and lay out the walk that it asks for."""
    n_examples = check_inputs(inputs)
    n_steps = check_n_steps(n_steps)
    at_once = points_per_pass(internal_batch_size, n_examples, n_steps)
    with torch.inference_mode(False), torch.no_grad():
        ends = tuple(tensor.detach() for tensor in inputs)
        start = path.start(ends, baselines)
    points_are = "inputs" if grad_kwargs is None else "the layers' tensors"
    arguments = format_additional_forward_args(additional_forward_args)
    function = TargetFunction(forward_func, target, arguments, n_examples, grad_kwargs or {}, points_are)
    function.check_apart(ends)
    return Walk(path, function, ends, start, n_steps, at_once, progress_name)


def attribute_along(walk: Walk, rule: Rule, *, with_residual: bool = False) -> PathAttributions:
    """Walk a path once and credit each of its steps.

    Parameters
    ----------
    walk
        The path and what is evaluated on it.
    rule
        What a step is worth, `captum_ext.attr.path.rules.riemann` or `captum_ext.attr.path.rules.important_direction`.
    with_residual
        Whether to add up the left Riemann sum too; it takes no further evaluation.

    Raises
    ------
    InvalidArgumentError
        The model's value at a point of the path is NaN or infinite.
    """
    totals = tuple(torch.zeros_like(in_accumulation_dtype(tensor)) for tensor in walk.inputs)
    integral: Tensor | None = None
    values: list[Tensor] = []
    for left, right in pairwise(walk.points()):
        values.append(left.value)
        for total, contribution in zip(totals, rule(left, right), strict=True):
            total.add_(contribution)
        if with_residual:
            step = row_sum(riemann(left, right), left.value.device)
            integral = step if integral is None else integral + step
    values.append(right.value)
    _check_finite(values)
    change = in_accumulation_dtype(values[-1]) - in_accumulation_dtype(values[0])
    attributions = tuple(total.to(tensor.dtype).contiguous() for total, tensor in zip(totals, walk.inputs, strict=True))
    delta = row_sum(attributions, change.device) - change
    return PathAttributions(attributions, delta, None if integral is None else integral - change)


def _check_finite(values: list[Tensor]) -> None:
    finite = torch.isfinite(torch.stack(values))
    if not bool(finite.all()):
        point, example = torch.nonzero(~finite)[0].tolist()
        raise InvalidArgumentError(
            f"the model's output is {values[point][example].item()} at point {point} of {len(values) - 1} on the path "
            f"of example {example}: choose a baseline at which the output is finite, or explain logits."
        )


Attribute = TypeVar("Attribute", bound=Callable[..., Any])


def logged(attribute: Attribute) -> Attribute:
    """Decorate ``attribute`` as Captum's own are, and let what wraps a method not take a residual for attributions.

    ``captum.attr.NoiseTunnel`` calls the function inside of the decorator, and averages all that it returns. Captum's
    ``method`` is told from other unknown arguments.
    """

    @functools.wraps(attribute)
    def without_quadrature(*args: Any, **keywords: Any) -> Any:
        if "method" in keywords:
            raise InvalidArgumentError(f"method={keywords['method']!r} was given: {NO_QUADRATURE}")
        return attribute(*args, **keywords)

    @functools.wraps(attribute)
    def inside_of_a_wrapper(*args: Any, **keywords: Any) -> Any:
        if keywords.get("return_path_residual"):
            raise InvalidArgumentError(
                "return_path_residual=True was given to a method that wraps this one, such as NoiseTunnel, which would "
                "average the residual like an attribution: leave it out, and ask the method itself for the residual."
            )
        return without_quadrature(*args, **keywords)

    decorated: Attribute = log_usage()(without_quadrature)
    decorated.__wrapped__ = inside_of_a_wrapper  # type: ignore[attr-defined]
    return decorated


class PathMethod(CompleteMethod, GradientAttribution):
    """What the attribution methods along a path have in common.

    Parameters
    ----------
    forward_func
        The model, or any function of it that returns one row for each example.
    path
        ``"straight"``, ``"blur"``, ``"guided"``, or a path object.

    Raises
    ------
    InvalidArgumentError
        The path is not known.
    """

    def __init__(self, forward_func: Callable[..., Tensor], path: str | Path | AdaptivePath = "straight") -> None:
        super().__init__(forward_func)
        self.path = resolve_path(path)

    def _follow(
        self,
        rule: Rule,
        inputs: TensorOrTupleOfTensorsGeneric,
        *arguments: Any,
        show_progress: bool,
        with_delta: bool,
        with_residual: bool = False,
    ) -> Returned:
        """Credit the steps of the path to the inputs; ``arguments`` as `prepare_walk` takes them after the inputs."""
        tensors = format_tensor_into_tuples(inputs)
        name = type(self).__name__ if show_progress else None
        with preserve_state(self.forward_func, *tensors):
            walk = prepare_walk(self.path, self.forward_func, tensors, *arguments, progress_name=name)
            found = attribute_along(walk, rule, with_residual=with_residual)
        formatted: TensorOrTupleOfTensorsGeneric = format_output(is_tuple(inputs), found.attributions)
        return found.returned(formatted, with_delta)
