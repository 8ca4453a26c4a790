"""Where the steps of a known path lie: all of one length, or short where the output changes.

Important directions are exact for any partition of a path, and a Riemann sum is better on a good one, so evaluations
are put where a step still holds much: such a step is halved, until a budget is used or what remains is small.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast, get_args

from torch import Tensor

from captum_ext._errors import InvalidArgumentError
from captum_ext.attr._common.checks import check_n_steps

Steps = Literal["equal", "adaptive"]
AUTOMATIC_TOLERANCE = 0.05
AUTOMATIC_LIMIT = 512
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


@dataclass(frozen=True)
class StepPlan:
    """How many steps a walk takes, and where.

    Parameters
    ----------
    n_steps
        Steps of each example; the most where there is a tolerance.
    adaptive
        Whether steps are halved where much happens; else all have one length.
    tolerance
        An example of which no more than this remains, see `captum_ext.attr.StepsReport`, takes no further step; None
        takes all.
    """

    n_steps: int
    adaptive: bool = False
    tolerance: float | None = None

    def first_fractions(self) -> list[float]:
        """Return where the path is looked at before anything is known of it."""
        first = min(self.n_steps, FIRST_STEPS) if self.adaptive else self.n_steps
        return [step / first for step in range(first)]

    def next_fractions(self, fractions: Sequence[float], measures: Sequence[float], narrowest: float) -> list[float]:
        """Return the middles of the steps that are halved next; none where the budget is used.

        Parameters
        ----------
        fractions
            Of the points so far, in order, the last of them 1.
        measures
            What each step between two of them holds, not negative.
        narrowest
            Steps are not halved to less than this.

        Examples
        --------
        A step that holds nearly all is halved, and its halves with it:

        >>> plan = StepPlan(n_steps=32, adaptive=True)
        >>> plan.next_fractions([j / 8 for j in range(9)], [0, 0, 0, 9, 0, 0, 1, 0], narrowest=1e-6)
        [0.4375, 0.40625]
        """
        n_steps = len(measures)
        count = min(max(1, n_steps // _GROWTH), self.n_steps - n_steps)
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


def plan_steps(
    n_steps: int | Literal["auto"], steps: Steps, tolerance: float | None, *, path_is_known: bool
) -> StepPlan:
    """Check what a user asked of the steps of a walk, and return it as a plan.

    Parameters
    ----------
    n_steps, steps, tolerance
        As `captum_ext.IDGI.attribute` takes them.
    path_is_known
        False for a path that chooses each point by the gradient at the one before.

    Raises
    ------
    InvalidArgumentError
        One of them is not allowed, or not with the others.

    Examples
    --------
    >>> plan_steps("auto", "equal", None, path_is_known=True)
    StepPlan(n_steps=512, adaptive=True, tolerance=0.05)
    """
    if steps not in get_args(Steps):
        raise InvalidArgumentError(f"steps={steps!r} was given: it is 'equal' or 'adaptive'.")
    automatic = n_steps == "auto"
    if isinstance(n_steps, str) and not automatic:
        raise InvalidArgumentError(f"n_steps={n_steps!r} was given: it is an integer of 1 or more, or 'auto'.")
    adaptive = automatic or steps == "adaptive"
    if adaptive and not path_is_known:
        raise InvalidArgumentError(
            f"{'n_steps=' + repr(n_steps) if automatic else 'steps=' + repr(steps)} was given for a path that chooses "
            "each point by the gradient at the one before, such as a guided one: give a number of equal steps, or "
            "another path."
        )
    if tolerance is not None:
        if not adaptive:
            raise InvalidArgumentError(
                f"tolerance={tolerance!r} was given for equal steps, whose number is fixed: give n_steps='auto', or "
                "steps='adaptive' with n_steps as the most that may be taken."
            )
        if not (isinstance(tolerance, float | int) and 0 < tolerance < 1):
            raise InvalidArgumentError(
                f"tolerance={tolerance!r} was given: it is a share of what the output moves, above 0 and below 1."
            )
    if automatic:
        return StepPlan(AUTOMATIC_LIMIT, True, AUTOMATIC_TOLERANCE if tolerance is None else float(tolerance))
    return StepPlan(check_n_steps(cast(int, n_steps)), adaptive, None if tolerance is None else float(tolerance))
