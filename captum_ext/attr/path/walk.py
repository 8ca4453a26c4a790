"""One walk along a path: each point is evaluated once, each step is credited by a rule.

The mechanism of `IDGI`, `LayerIDGI`, `PathIG`, `BlurIG` and `GuidedIG`: any path with any rule. A walk of n steps costs
n + 1 forward and n backward evaluations of each example, however many points go through the model at once, and wherever
the steps are put.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, TypeVar

import torch
from captum.attr import GradientAttribution
from torch import Tensor
from tqdm import tqdm

from captum_ext._captum import (
    BaselineType,
    TargetType,
    format_additional_forward_args,
    format_output,
    format_tensor_into_tuples,
    is_tuple,
    log_usage,
)
from captum_ext._errors import InvalidArgumentError
from captum_ext.attr._common import Tensors
from captum_ext.attr._common.checks import NO_QUADRATURE, StepPlan, Steps, check_inputs, plan_steps, points_per_pass
from captum_ext.attr._common.complete_method import CompleteMethod
from captum_ext.attr._common.forward import TargetFunction, in_accumulation_dtype, row_sum
from captum_ext.attr._common.model_state import preserve_state
from captum_ext.attr.path.paths import GradientDrivenPath, Path, resolve_path
from captum_ext.attr.path.rules import IMPORTANT_DIRECTION, EvaluatedPoint, Rule, riemann
from captum_ext.attr.path.steps import Refinement, StepsReport


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
    report
        Where the steps were. None unless asked for.
    """

    attributions: Tensors
    delta: Tensor
    residual: Tensor | None
    report: StepsReport | None

    def returned(self, attributions: object, with_delta: bool) -> Any:
        """Return the attributions as a user gets them, followed by what was asked for of delta, residual and report."""
        further = [x for x in (self.delta if with_delta else None, self.residual, self.report) if x is not None]
        return (attributions, *further) if further else attributions


@dataclass(frozen=True)
class Walk:
    """A path from ``start`` to ``inputs`` in the steps of a plan, ``points_per_pass`` points at once.

    Parameters
    ----------
    path
        Where to walk.
    function
        What to evaluate.
    inputs, start
        The two ends; tensors of shape (N, ...).
    rule
        What a step is worth.
    plan
        How many steps, and where.
    points_per_pass
        How many points of every example go through the model at once; an adaptive path takes them one by one.
    progress_name
        Shown with a progress bar; None shows none.
    """

    path: Path | GradientDrivenPath
    function: TargetFunction
    inputs: Tensors
    start: Tensors
    rule: Rule
    plan: StepPlan
    points_per_pass: int
    progress_name: str | None = None

    def points(self) -> Iterator[EvaluatedPoint]:
        """Yield the points 0 to n, each evaluated once."""
        with tqdm(
            total=self.plan.n_steps + 1, desc=self.progress_name, unit="point", disable=self.progress_name is None
        ) as bar:
            if isinstance(self.path, GradientDrivenPath):
                walked = self._guided(self.path, bar)
            elif self.plan.adaptive:
                walked = self._refined(self.path, bar)
            else:
                walked = self._equal(self.path, bar)
            yield from walked

    def _equal(self, path: Path, bar: tqdm[Any]) -> Iterator[EvaluatedPoint]:
        n_steps = self.plan.n_steps
        for first in range(0, n_steps, self.points_per_pass):
            fractions = [j / n_steps for j in range(first, min(first + self.points_per_pass, n_steps))]
            # The start is known already, and a path need not give it a second time.
            points = [path.point(self.inputs, self.start, at) if at else self.start for at in fractions]
            for point in self._evaluate(self.function, points, fractions):
                yield point
                bar.update()
        yield self._end()
        bar.update()

    def _guided(self, path: GradientDrivenPath, bar: tqdm[Any]) -> Iterator[EvaluatedPoint]:
        n_steps = self.plan.n_steps
        walk = path.walk(self.inputs, self.start, n_steps)
        position = next(walk)
        for step in range(n_steps):
            (point,) = self._evaluate(self.function, [position], [step / n_steps])
            yield point
            bar.update()
            if step + 1 < n_steps:
                assert point.gradient is not None
                position = walk.send(point.gradient)
        walk.close()
        yield self._end()
        bar.update()

    def _refined(self, path: Path, bar: tqdm[Any]) -> Iterator[EvaluatedPoint]:
        """Halve steps, each example its own; when all points are known, yield the j-th of every example at once.

        Where an example has fewer points than another, its end stands for those that it lacks: a step from there is
        worth nothing.
        """
        end = self._end()
        bar.update()
        examples = []
        for i in range(len(end.value)):
            # The end of each example by itself, with a gradient of zero: a step from there would be worth nothing.
            position = tuple(tensor[i : i + 1] for tensor in end.position)
            nothing = tuple(torch.zeros_like(tensor) for tensor in position)
            point = EvaluatedPoint(position, end.value[i : i + 1], nothing, end.fraction)
            examples.append(Refinement(self.rule, self.plan, point))
        while wanted := [(i, fraction) for i, example in enumerate(examples) for fraction in example.wanted()]:
            rows_at_once = self.points_per_pass * len(examples)
            for first in range(0, len(wanted), rows_at_once):
                rows = wanted[first : first + rows_at_once]
                for (i, _), point in zip(rows, self._evaluate_rows(path, rows), strict=True):
                    examples[i].add(point)
            # An example may need fewer than the most.
            bar.update(round(max(len(example.points) for example in examples) - bar.n))
        for place in range(max(len(example.points) for example in examples)):
            yield _together([example.points[min(place, len(example.points) - 1)] for example in examples])

    def _evaluate_rows(self, path: Path, rows: list[tuple[int, float]]) -> Iterator[EvaluatedPoint]:
        """Evaluate points of single examples; ``rows`` are pairs of an example and a fraction."""
        at: dict[float, list[int]] = {}
        for example, fraction in rows:
            at.setdefault(fraction, []).append(example)
        points: dict[tuple[int, float], Tensors] = {}
        # Examples that want the same point get it in one call.
        for fraction, examples in at.items():
            inputs, start = (tuple(x[examples] for x in tensors) for tensors in (self.inputs, self.start))
            point = path.point(inputs, start, fraction) if fraction else start
            _check_shapes(point, inputs)
            for row, example in enumerate(examples):
                points[example, fraction] = tuple(tensor[row : row + 1] for tensor in point)
        function = self.function.of_rows([example for example, _ in rows])
        yield from self._evaluate(
            function, [points[row] for row in rows], [fraction for _, fraction in rows], rows=True
        )

    def _end(self) -> EvaluatedPoint:
        """Return the end, which is the input itself, evaluated without a backward pass."""
        return EvaluatedPoint(self.inputs, self.function.value(self.inputs), None, 1.0)

    def _evaluate(
        self, function: TargetFunction, points: list[Tensors], fractions: list[float], *, rows: bool = False
    ) -> Iterator[EvaluatedPoint]:
        """Evaluate points of every example in one pass, or with ``rows`` points of one example each."""
        n_points = len(points)
        if not rows:
            for point in points:
                _check_shapes(point, self.inputs)
        batch = tuple(torch.cat(tensors) if n_points > 1 else tensors[0] for tensors in zip(*points, strict=True))
        del points  # the batch holds them all
        values, gradients = function.value_and_gradient(batch, 1 if rows else n_points)
        by_point = zip(
            values.chunk(n_points),
            zip(*(tensor.chunk(n_points) for tensor in batch), strict=True),
            zip(*(tensor.chunk(n_points) for tensor in gradients), strict=True),
            fractions,
            strict=True,
        )
        for value, position, gradient, fraction in by_point:
            # Copies, since the last point of a pass outlives it and a view would keep the whole pass in memory.
            copied = (tuple(tensor.clone() for tensor in tensors) for tensors in (position, gradient))
            yield EvaluatedPoint(next(copied), value, next(copied), fraction)


def _check_shapes(point: Tensors, inputs: Tensors) -> None:
    shapes, wanted = ([tuple(tensor.shape) for tensor in tensors] for tensors in (point, inputs))
    if shapes != wanted:
        raise InvalidArgumentError(f"the path gave a point of shapes {shapes} for inputs of shapes {wanted}.")


def _together(points: list[EvaluatedPoint]) -> EvaluatedPoint:
    """Put one point of each example together."""
    gradients = [point.gradient or () for point in points]
    return EvaluatedPoint(
        tuple(torch.cat(tensors) for tensors in zip(*(point.position for point in points), strict=True)),
        torch.cat([point.value for point in points]),
        tuple(torch.cat(tensors) for tensors in zip(*gradients, strict=True)),
        torch.tensor([float(point.fraction) for point in points], dtype=torch.float64),
    )


_WORDS_FOR_LAYERS = (
    "layers' tensors",
    "give layers none of which feeds another, each once, or grad_kwargs={'allow_unused': True}",
)


def prepare_walk(
    path: Path | GradientDrivenPath,
    forward_func: Callable[..., Any],
    inputs: Tensors,
    baselines: BaselineType,
    target: TargetType,
    additional_forward_args: object | None,
    n_steps: int | Literal["auto"],
    internal_batch_size: int | None,
    *,
    rule: Rule = IMPORTANT_DIRECTION,
    progress_name: str | None,
    steps: Steps = "equal",
    tolerance: float | None = None,
    grad_kwargs: Mapping[str, Any] | None = None,
) -> Walk:
    """Check what a user gave to ``attribute`` and lay out the walk that it asks for."""
    n_examples = check_inputs(inputs)
    plan = plan_steps(n_steps, steps, tolerance, path_is_known=not isinstance(path, GradientDrivenPath))
    at_once = points_per_pass(internal_batch_size, n_examples, plan.n_steps)
    with torch.inference_mode(False), torch.no_grad():
        ends = tuple(tensor.detach() for tensor in inputs)
        start = path.start(ends, baselines)
    words = () if grad_kwargs is None else _WORDS_FOR_LAYERS
    arguments = format_additional_forward_args(additional_forward_args)
    function = TargetFunction(forward_func, target, arguments, n_examples, grad_kwargs or {}, *words)
    function.check_apart(ends)
    return Walk(path, function, ends, start, rule, plan, at_once, progress_name)


def attribute_along(walk: Walk, *, with_residual: bool = False, with_report: bool = False) -> PathAttributions:
    """Walk a path once and credit each of its steps.

    Parameters
    ----------
    walk
        The path, what is evaluated on it, and the rule.
    with_residual
        Whether to add up the left Riemann sum too; it takes no further evaluation.
    with_report
        Whether to say where the steps were and what remains; it takes none either.

    Raises
    ------
    InvalidArgumentError
        The model's value at a point of the path is NaN or infinite.
    """
    totals = tuple(torch.zeros_like(in_accumulation_dtype(tensor)) for tensor in walk.inputs)
    integral: Tensor | None = None
    values: list[Tensor] = []
    fractions: list[float | Tensor] = []
    missed_by_step: list[Tensor] = []
    for left, right in pairwise(walk.points()):
        values.append(left.value)
        fractions.append(left.fraction)
        for total, contribution in zip(totals, walk.rule.credit(left, right), strict=True):
            total.add_(contribution)
        if with_report:
            missed_by_step.append(walk.rule.missed(left, right))
        if with_residual:
            step = row_sum(riemann(left, right), left.value.device)
            integral = step if integral is None else integral + step
    values.append(right.value)
    _check_finite(values)
    report = _report(walk.rule, values, [*fractions, right.fraction], missed_by_step) if with_report else None
    change = in_accumulation_dtype(values[-1]) - in_accumulation_dtype(values[0])
    attributions = tuple(total.to(tensor.dtype).contiguous() for total, tensor in zip(totals, walk.inputs, strict=True))
    delta = row_sum(attributions, change.device) - change
    return PathAttributions(attributions, delta, None if integral is None else integral - change, report)


def _report(
    rule: Rule, values: list[Tensor], fractions: list[float | Tensor], missed_by_step: list[Tensor]
) -> StepsReport:
    changes = in_accumulation_dtype(torch.stack(values)).diff(dim=0).abs()
    places = torch.stack([torch.as_tensor(at, dtype=torch.float64).expand(len(values[0])) for at in fractions], dim=1)
    return StepsReport((places < 1).sum(1), rule.remaining(torch.stack(missed_by_step), changes), places)


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
        for name in ("return_path_residual", "return_steps_report"):
            if keywords.get(name):
                raise InvalidArgumentError(
                    f"{name}=True was given to a method that wraps this one, such as NoiseTunnel, which would average "
                    "it like an attribution: leave it out, and ask the method itself for it."
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

    def __init__(self, forward_func: Callable[..., Tensor], path: str | Path | GradientDrivenPath = "straight") -> None:
        super().__init__(forward_func)
        self.path = resolve_path(path)

    def _follow(
        self,
        rule: Rule,
        inputs: Tensor | Tensors,
        *arguments: Any,
        show_progress: bool,
        steps: Steps,
        tolerance: float | None,
        with_delta: bool,
        with_residual: bool = False,
        with_report: bool = False,
    ) -> Any:
        """Credit the steps of the path to the inputs; ``arguments`` as `prepare_walk` takes them after the inputs."""
        tensors = format_tensor_into_tuples(inputs)
        name = type(self).__name__ if show_progress else None
        with preserve_state(self.forward_func, *tensors):
            walk = prepare_walk(
                self.path,
                self.forward_func,
                tensors,
                *arguments,
                rule=rule,
                progress_name=name,
                steps=steps,
                tolerance=tolerance,
            )
            found = attribute_along(walk, with_residual=with_residual, with_report=with_report)
        return found.returned(format_output(is_tuple(inputs), found.attributions), with_delta)
