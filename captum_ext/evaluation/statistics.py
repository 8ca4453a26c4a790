"""What an evaluation says of the methods: means with intervals, and how each compares with the first."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from captum_ext.evaluation.measures import METRICS
from captum_ext.evaluation.results import PictureResult, Row, curves_of
from captum_ext.evaluation.settings import EvaluationSettings
from captum_ext.metrics import InformationCurve, bootstrap_interval

LEVEL = 0.95
N_RESAMPLES = 2000
"""The ends of an interval vary by a fiftieth of its length from seed to seed, which no one reads off a table."""


@dataclass(frozen=True)
class Estimate:
    """A mean over pictures with its bootstrap interval of 95 %."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """A method beside the first one, on the pictures that both have a value of.

    Parameters
    ----------
    wins
        Pictures on which it is better; a tie is none.
    n_pictures
        How many were compared.
    difference
        Its value less the first one's.
    """

    wins: int
    n_pictures: int
    difference: Estimate


@dataclass(frozen=True)
class Summary:
    """What a metric says of a method.

    Parameters
    ----------
    method, metric
        Names.
    n_pictures
        Pictures with a value.
    value
        None where there is no such picture.
    comparison
        None for the first method, and where no picture has both values.
    """

    method: str
    metric: str
    n_pictures: int
    value: Estimate | None
    comparison: Comparison | None


def summarize(rows: Sequence[Row], methods: Sequence[str], metrics: Sequence[str], seed: int = 0) -> list[Summary]:
    """Return a summary for each method and metric.

    Parameters
    ----------
    rows
        Of all pictures.
    methods
        Names; the others are compared with the first.
    metrics
        Names.
    seed
        Of the bootstrap.

    Examples
    --------
    >>> rows = [
    ...     Row(picture, 0, "cat", 0.9, method, "insertion", value, 1.0, "ok", None)
    ...     for picture, method, value in (("a", "ig", 0.5), ("b", "ig", 0.7), ("a", "idgi", 0.6), ("b", "idgi", 0.6))
    ... ]
    >>> ig, idgi = summarize(rows, ["ig", "idgi"], ["insertion"])
    >>> round(ig.value.mean, 3), idgi.comparison.wins, idgi.comparison.n_pictures
    (0.6, 1, 2)
    """
    summaries = []
    for metric in metrics:
        values = {method: _values(rows, method, metric) for method in methods}
        first = values[methods[0]]
        for method in methods:
            comparison = None if method == methods[0] else _compare(values[method], first, metric, seed)
            own = list(values[method].values())
            summaries.append(Summary(method, metric, len(own), _estimate(own, seed) if own else None, comparison))
    return summaries


def _values(rows: Sequence[Row], method: str, metric: str) -> dict[str, float]:
    """Return the value of each picture that has one."""
    return {
        row.picture: row.value
        for row in rows
        if row.method == method and row.metric == metric and row.value is not None
    }


def _compare(ours: Mapping[str, float], first: Mapping[str, float], metric: str, seed: int) -> Comparison | None:
    pictures = [picture for picture in ours if picture in first]
    if not pictures:
        return None
    differences = [ours[picture] - first[picture] for picture in pictures]
    sign = 1 if METRICS[metric].higher_is_better else -1
    wins = sum(sign * difference > 0 for difference in differences)
    return Comparison(wins, len(pictures), _estimate(differences, seed))


def _estimate(values: Sequence[float], seed: int) -> Estimate:
    low, high = bootstrap_interval(
        torch.tensor(values, dtype=torch.float64), level=LEVEL, n_resamples=N_RESAMPLES, seed=seed
    )
    return Estimate(math.fsum(values) / len(values), low, high)


def joint_area(
    results: Sequence[PictureResult], settings: EvaluationSettings, method: str, metric: str
) -> float | None:
    """Return the area under the median of a method's curves, as papers give it; None where it has no curve."""
    curves = curves_of(results, settings, metric).get(method)
    if curves is None:
        return None
    return InformationCurve(torch.from_numpy(curves)).area("median")
