"""Where adaptive steps of a known path lie: short where the output changes.

Important directions are exact for any partition of a path, and a Riemann sum is better on a good one, so evaluations
are put where a step still holds much: such a step is halved, until a budget is used or what remains is small.
"""

from __future__ import annotations

import bisect
import heapq
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from captum_ext._errors import InvalidArgumentError
from captum_ext.attr._common.checks import AUTOMATIC_LIMIT, StepPlan
from captum_ext.attr.path.rules import EvaluatedPoint, Rule, step_change

FIRST_STEPS = 4
_GROWTH = 4
"""A round halves one step for every so many that there are: several go through the model at once, and a GPU is busy."""


@dataclass(frozen=True)
class StepsReport:
    """Where the steps of a walk were put, and what more of them could still change.

    Parameters
    ----------
    evaluations
        How many gradients were evaluated for each example, one for each of its steps; integers of shape (N,).
    remaining
        Shape (N,), in shares of all that the output moves along the walk, up and down. Important directions: what the
        largest step holds. Integrated gradients: by how much the steps' linear estimates miss, added up without signs,
        so that the convergence delta is no more than that.
    fractions
        How far along the path each point is, from 0 to 1, in order; shape (N, n + 1). Filled up with 1 where an example
        took fewer steps than others.

    Examples
    --------
    >>> import torch
    >>> from captum_ext import IDGI
    >>> def rises_at_two_thirds(x):
    ...     return torch.sigmoid(50 * (x[:, 0] - 2))
    >>> options = {"n_steps": 9, "steps": "adaptive", "return_steps_report": True}
    >>> _, report = IDGI(rises_at_two_thirds).attribute(torch.tensor([[3.0]]), **options)
    >>> print([round(fraction, 3) for fraction in report.fractions[0].tolist()])
    [0.0, 0.25, 0.5, 0.625, 0.656, 0.664, 0.672, 0.688, 0.75, 1.0]
    """

    evaluations: Tensor
    remaining: Tensor
    fractions: Tensor


def next_fractions(
    fractions: Sequence[float], measures: Sequence[float], most_steps: int, narrowest: float
) -> list[float]:
    """Return the middles of the steps that are halved next; none where the budget is used.

    Parameters
    ----------
    fractions
        Of the points so far, in order, the last of them 1.
    measures
        What each step between two of them holds, not negative.
    most_steps
        The budget.
    narrowest
        Steps are not halved to less than this.

    Examples
    --------
    A step that holds nearly all is halved, and its halves with it:

    >>> next_fractions([j / 8 for j in range(9)], [0, 0, 0, 9, 0, 0, 1, 0], most_steps=32, narrowest=1e-6)
    [0.4375, 0.40625]
    """
    n_steps = len(measures)
    count = min(max(1, n_steps // _GROWTH), most_steps - n_steps)
    # Largest first; of equals the longest, then the one nearer to the start.
    heap = [
        (-measure, left - right, left, right)
        for measure, left, right in zip(measures, fractions[:-1], fractions[1:], strict=True)
    ]
    heapq.heapify(heap)
    middles: list[float] = []
    while heap and len(middles) < count:
        measure, _, left, right = heapq.heappop(heap)
        if (right - left) / 2 < narrowest:
            continue
        middle = (left + right) / 2
        middles.append(middle)
        # Until the middle is evaluated, half of what the step holds is expected on either side.
        heapq.heappush(heap, (measure / 2, left - middle, left, middle))
        heapq.heappush(heap, (measure / 2, middle - right, middle, right))
    return middles


class Refinement:
    """The walk of one example whose steps are halved: its points in order, and which ones to evaluate next.

    Parameters
    ----------
    rule
        By which the steps will be credited; it says what a step still holds.
    plan
        How many steps, and how little may remain.
    end
        The end of the path, of this example alone.
    """

    def __init__(self, rule: Rule, plan: StepPlan, end: EvaluatedPoint) -> None:
        self.points = [end]
        self._rule, self._plan = rule, plan
        # Of the step that begins at a fraction: where it ends, what it holds, what counts as remaining, and how much
        # the output changes in it.
        self._steps: dict[float, tuple[float, float, float, float]] = {}
        # Halving goes on where the output jumps; below what the numbers of the input resolve it finds nothing.
        resolution = max(torch.finfo(tensor.dtype).eps for tensor in end.position if tensor.is_floating_point())
        self._narrowest = max(resolution, 2.0**-20)
        _check_finite(end)

    def add(self, point: EvaluatedPoint) -> None:
        """Take in an evaluated point.

        Raises
        ------
        InvalidArgumentError
            The output is not finite there.
        """
        _check_finite(point)
        bisect.insort(self.points, point, key=lambda known: float(known.fraction))

    def wanted(self) -> list[float]:
        """Return the fractions at which to evaluate next; none where the budget is used or little enough remains."""
        if len(self.points) == 1:
            first = min(self._plan.n_steps, FIRST_STEPS)
            return [step / first for step in range(first)]
        self._measure()
        fractions = [float(point.fraction) for point in self.points]
        _, measures, misses, changes = zip(*(self._steps[fraction] for fraction in fractions[:-1]), strict=True)
        tolerance = self._plan.tolerance
        if tolerance is not None:
            left = self._rule.remaining(torch.tensor(misses)[:, None], torch.tensor(changes)[:, None]).item()
            if left <= tolerance:
                return []
            if len(measures) == self._plan.n_steps == AUTOMATIC_LIMIT:
                warnings.warn(
                    f"{AUTOMATIC_LIMIT} steps were taken and {left:.2g} of what the output moves remains, where "
                    f"tolerance={tolerance} was asked for: the output jumps, or wavers along the path. A number for "
                    "n_steps with steps='adaptive' takes more.",
                    stacklevel=2,
                )
        return next_fractions(fractions, measures, self._plan.n_steps, self._narrowest)

    def _measure(self) -> None:
        """Measure the steps that are new, with one transfer from the device for all of them."""
        new = []
        for left, right in pairwise(self.points):
            known = self._steps.get(float(left.fraction))
            if known is None or known[0] != float(right.fraction):
                new.append((left, right))
        if not new:
            return
        found = torch.stack(
            [torch.cat([self._rule.held(*step), self._rule.missed(*step), step_change(*step)]) for step in new]
        )
        for (left, right), (measure, miss, change) in zip(new, found.tolist(), strict=True):
            self._steps[float(left.fraction)] = float(right.fraction), measure, miss, change


def _check_finite(point: EvaluatedPoint) -> None:
    if not bool(torch.isfinite(point.value).all()):
        raise InvalidArgumentError(
            f"the model's output is {point.value.item()} at {float(point.fraction):.4g} of the path: choose a baseline "
            "at which the output is finite, or explain logits."
        )
