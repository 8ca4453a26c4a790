"""The walk of one example whose steps are halved where they hold most."""

from __future__ import annotations

import bisect
import warnings
from itertools import pairwise

import torch

from captum_ext._errors import InvalidArgumentError
from captum_ext.attr.path.rules import EvaluatedPoint, Rule, held, missed, remaining, step_change
from captum_ext.attr.path.steps import AUTOMATIC_LIMIT, StepPlan


class Refinement:
    """Points of one example in the order of the path, and which ones to evaluate next.

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
            return self._plan.first_fractions()
        self._measure()
        fractions = [float(point.fraction) for point in self.points]
        _, measures, misses, changes = zip(*(self._steps[fraction] for fraction in fractions[:-1]), strict=True)
        tolerance = self._plan.tolerance
        if tolerance is not None:
            left = remaining(self._rule, torch.tensor(misses)[:, None], torch.tensor(changes)[:, None]).item()
            if left <= tolerance:
                return []
            if len(measures) == self._plan.n_steps == AUTOMATIC_LIMIT:
                warnings.warn(
                    f"{AUTOMATIC_LIMIT} steps were taken and {left:.2g} of what the output moves remains, where "
                    f"tolerance={tolerance} was asked for: the output jumps, or wavers along the path. A number for "
                    "n_steps with steps='adaptive' takes more.",
                    stacklevel=2,
                )
        return self._plan.next_fractions(fractions, measures, self._narrowest)

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
            [torch.cat([held(self._rule, *step), missed(self._rule, *step), step_change(*step)]) for step in new]
        )
        for (left, right), (measure, miss, change) in zip(new, found.tolist(), strict=True):
            self._steps[float(left.fraction)] = float(right.fraction), measure, miss, change


def _check_finite(point: EvaluatedPoint) -> None:
    if not bool(torch.isfinite(point.value).all()):
        raise InvalidArgumentError(
            f"the model's output is {point.value.item()} at {float(point.fraction):.4g} of the path: choose a baseline "
            "at which the output is finite, or explain logits."
        )
