"""Evaluation: the metrics of a merger and of what is reached without a network, scene by scene."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from hdr._errors import RefusedError
from hdr.baselines import BASELINES
from hdr.bracket import Bracket
from hdr.data.sample import calibration_of
from hdr.data.shake import ShakenBrackets, checked_shake
from hdr.data.source import open_scenes, refuse_options_of_others
from hdr.data.still import StillBrackets, StillScene, score_still
from hdr.merge import Merger
from hdr.metrics import evaluate
from hdr.settings import Cameras

OURS = "HDR-GAN"
UNTRAINED = "untrained generator"
Method = Callable[[Bracket], Tensor]


class Score(NamedTuple):
    """The metrics of one method on one scene."""

    scene: str
    method: str
    metrics: dict[str, float]
    """By name, as in :data:`hdr.metrics.METRICS`."""


class Case(NamedTuple):
    """A bracket to merge, and how the result is measured."""

    name: str
    bracket: Bracket
    measure: Callable[[Tensor], dict[str, float]]
    """From radiance (3, H, W) to metrics by name."""


class Cases(Sequence[Case]):
    """The scenes of a data set, each read when it is asked for.

    Parameters
    ----------
    scenes
        A data set of :class:`hdr.data.sample.HdrSample` or :class:`hdr.data.still.StillScene`.
    limit
        Only the first so many, 1 or more.

    Raises
    ------
    ValueError
        If the limit is less.
    """

    def __init__(self, scenes: Any, limit: int | None = None) -> None:
        if limit is not None and limit < 1:
            raise RefusedError(f"the limit is 1 scene or more, got {limit}; leave it out for all")
        self.scenes = scenes
        self._length = len(scenes) if limit is None else min(limit, len(scenes))

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Case]:
        # By their number: an index that is wrong while a scene is read must not pass for the end of all.
        for index in range(self._length):
            yield self[index]

    def __getitem__(self, index: Any) -> Any:
        if not 0 <= index < self._length:
            raise IndexError(f"case {index} of {self._length}")
        scene = self.scenes[index]
        if isinstance(scene, StillScene):
            # The response of the merged exposures alone: that of all of them is the truth's.
            bracket = Bracket.from_images(
                list(scene.ldr),
                scene.exposures.tolist(),
                names=scene.names,
                levels=scene.calibration.levels,
                chroma_halved=scene.calibration.chroma_halved,
            )
            return Case(scene.name, bracket, lambda radiance: score_still(radiance, scene))
        bracket = Bracket(scene["ldr"], scene["exposures"], calibration=calibration_of(scene))
        return Case(scene["name"], bracket, measure_against(scene["target"]))


def open_cases(
    data: str,
    *,
    skip_broken: bool = False,
    limit: int | None = None,
    cameras: Cameras | None = None,
    shake: float = 0,
) -> Cases:
    """Scenes with ground truth.

    Parameters
    ----------
    data
        ``"synthetic:DIR"`` or ``"kalantari:DIR"``, as for :func:`hdr.data.source.open_scenes`; or ``"still:DIR"``, see
        :class:`hdr.data.still.StillBrackets`.
    skip_broken, cameras
        As for :func:`hdr.data.source.open_scenes`.
    limit
        Only the first so many, 1 or more.
    shake
        The most pixels, a whole number, by which exposures of ``"still:DIR"`` are displaced in each axis, see
        :class:`hdr.data.shake.ShakenBrackets`; 0 leaves them as they are.

    Raises
    ------
    ValueError
        If the name is not one of these, the folder does not hold such data, the limit is less than 1, or what is asked
        for is of other data.
    """
    kind, _, folder = data.partition(":")
    pixels = checked_shake(shake)
    if kind == "still" and folder:
        refuse_options_of_others(kind, cameras, skip_broken)
        brackets = StillBrackets(folder)
        return Cases(ShakenBrackets(brackets, pixels) if pixels else brackets, limit)
    if kind not in ("synthetic", "kalantari") or not folder:
        raise RefusedError(f"data must be synthetic:DIR, kalantari:DIR or still:DIR, got {data!r}")
    refuse_options_of_others(kind, cameras, skip_broken, pixels)
    return Cases(open_scenes(data, "validation", skip_broken=skip_broken, cameras=cameras), limit)


def name_of(merger: Merger) -> str:
    """What tables call a merger: :data:`OURS`, or :data:`UNTRAINED` where its weights are ``"none"``."""
    return UNTRAINED if merger.untrained else OURS


def without_network(merger: Merger) -> dict[str, Method]:
    """What is reached without a network, by name; not once more what the merger itself is."""
    physical = {} if merger.untrained else {UNTRAINED: Merger("none", merger.device, merger.tile, merger.overlap)}
    return {**physical, **BASELINES}


def score(case: Case, methods: dict[str, Method]) -> list[Score]:
    """Merge one scene by several methods, functions from a bracket to radiance, and measure each result."""
    return [Score(case.name, name, case.measure(method(case.bracket))) for name, method in methods.items()]


def measure_against(truth: Tensor) -> Callable[[Tensor], dict[str, float]]:
    """Metrics against radiance (3, H, W) in [0, 1].

    Results are clipped to [0, 1], because the short exposure, which saturates at 1, says nothing about more.
    """
    return lambda radiance: evaluate(radiance.to(truth).clamp(0.0, 1.0), truth)


def score_cases(merger: Merger, cases: Iterable[Case], baselines: bool = True) -> Iterator[list[Score]]:
    """Scores of the merger and, if asked for, of what is reached without a network, scene after scene."""
    methods: dict[str, Method] = {name_of(merger): merger}
    if baselines:
        methods |= without_network(merger)
    for case in cases:
        yield score(case, methods)


def mean_scores(scores: Iterable[Score]) -> list[Score]:
    """Mean over the scenes for each method, in the order in which the methods come.

    A scene that lacks what is measured has NaN there and does not count: of lost highlights, one without any.

    Examples
    --------
    >>> scores = [Score(name, "mine", {"PSNR-mu": value}) for name, value in (("a", 40.0), ("b", math.nan))]
    >>> mean_scores(scores)
    [Score(scene='mean', method='mine', metrics={'PSNR-mu': 40.0})]
    """
    by_method: dict[str, list[dict[str, float]]] = {}
    for one in scores:
        by_method.setdefault(one.method, []).append(one.metrics)
    return [
        Score("mean", method, {name: _mean_of_known([metrics[name] for metrics in every]) for name in every[0]})
        for method, every in by_method.items()
    ]


def _mean_of_known(values: Iterable[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan
