"""Evaluation: the metrics of a merger and of the baselines, scene by scene."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from torch import Tensor

from hdr.baselines import BASELINES
from hdr.bracket import Bracket
from hdr.data.sample import HdrSample
from hdr.metrics import METRICS, evaluate

OURS = "HDR-GAN"
Method = Callable[[Bracket], Tensor]


class Score(NamedTuple):
    """The metrics of one method on one scene."""

    scene: str
    method: str
    metrics: dict[str, float]
    """By name, as in :data:`hdr.metrics.METRICS`."""


def score(scene: str, bracket: Bracket, truth: Tensor, methods: dict[str, Method]) -> list[Score]:
    """Merge one scene by several methods and measure each result.

    Parameters
    ----------
    scene
        Its name.
    bracket
        The exposures.
    truth
        Radiance of shape (3, H, W) in [0, 1].
    methods
        Functions from a bracket to radiance, by name. What they return is clipped to [0, 1], because the short
        exposure, which saturates at 1, says nothing about more.
    """
    return [
        Score(scene, name, evaluate(method(bracket).to(truth).clamp(0.0, 1.0), truth))
        for name, method in methods.items()
    ]


def score_scenes(merger: Method, scenes: Iterable[HdrSample], baselines: bool = True) -> Iterable[list[Score]]:
    """Scores of :data:`OURS` and, if asked for, of the baselines, for one scene after the other."""
    methods = {OURS: merger, **(BASELINES if baselines else {})}
    for scene in scenes:
        yield score(scene["name"], Bracket(scene["ldr"], scene["exposures"]), scene["target"], methods)


def mean_scores(scores: Iterable[Score]) -> list[Score]:
    """Mean over the scenes for each method, in the order in which the methods come."""
    by_method: dict[str, list[dict[str, float]]] = {}
    for one in scores:
        by_method.setdefault(one.method, []).append(one.metrics)
    return [
        Score(
            "mean", method, {name: sum(metrics[name] for metrics in all_metrics) / len(all_metrics) for name in METRICS}
        )
        for method, all_metrics in by_method.items()
    ]
