"""The metrics of an evaluation, by name or of one's own, and what measures an attribution with all of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from captum_ext._errors import InvalidArgumentError, described
from captum_ext.classifiers import Classifier, ImageBaseline, Probabilities, SeenImage, image_baseline
from captum_ext.evaluation.settings import EvaluationSettings, HiddenPixels, Importance
from captum_ext.methods.names import chosen, own_name
from captum_ext.metrics import ScoreCurves, deletion, insertion, perturbation
from captum_ext.metrics.image_information import SMALLEST_SIDE_MS_SSIM, Information
from captum_ext.metrics.information_curves import (
    EVEN_THRESHOLDS,
    THRESHOLDS,
    CurveName,
    information_curves_by_measure,
)

Curve = npt.NDArray[np.float32]


class MetricFunction(Protocol):
    """A metric of one's own: any function that takes these four arguments, by position."""

    def __call__(self, model: nn.Module, inputs: Tensor, attributions: Tensor, target: int, /) -> float | Tensor:
        """Return one number.

        Parameters
        ----------
        model
            Gives logits of shape (1, classes).
        inputs
            One image as the model takes it; shape (1, C, H, W).
        attributions
            Shape (1, C, H, W) or (1, 1, H, W).
        target
            The class that was explained.
        """


@dataclass(frozen=True)
class Metric:
    """A metric as a person reads of it.

    Parameters
    ----------
    title
        Name for people.
    about
        What a value is.
    higher_is_better
        False where a good map has a small value.
    function
        What measures; None for `METRICS`, which are measured with the settings of an evaluation.
    has_joint_area
        Whether papers give the area under the median curve of all images, too.

    Examples
    --------
    >>> zeros = Metric("Zeros", "share without attribution", function=lambda m, x, a, t: (a == 0).float().mean())
    >>> zeros.higher_is_better
    True
    """

    title: str
    about: str = ""
    higher_is_better: bool = True
    function: MetricFunction | None = None
    has_joint_area: bool = False


METRICS: dict[str, Metric] = {
    "insertion": Metric("Insertion", "area under the probability as pixels enter, by that of the whole image"),
    "insertion-raw": Metric("Insertion, raw", "area under the probability as pixels enter"),
    "deletion": Metric("Deletion", "area under the probability as pixels leave, by that of the whole image", False),
    "perturbation": Metric(
        "Perturbation",
        "change of the probability as the least important half of the pixels leaves, by that of the whole image",
        False,
    ),
    "aic": Metric("AIC", "area under the accuracy against the information in what is revealed", has_joint_area=True),
    "sic": Metric(
        "SIC", "area under the normalised probability against the information in what is revealed", has_joint_area=True
    ),
    "aic-ms-ssim": Metric(
        "AIC, MS-SSIM", "area under the accuracy against the similarity of what is revealed", has_joint_area=True
    ),
    "sic-ms-ssim": Metric(
        "SIC, MS-SSIM",
        "area under the normalised probability against the similarity of what is revealed",
        has_joint_area=True,
    ),
}
INFORMATION_CURVES: dict[str, CurveName] = {
    "aic": "accuracy",
    "sic": "softmax",
    "aic-ms-ssim": "accuracy",
    "sic-ms-ssim": "softmax",
}

GivenMetrics = Sequence[str | Metric | MetricFunction] | Mapping[str, Metric | MetricFunction]


def chosen_metrics(given: GivenMetrics) -> dict[str, Metric]:
    """Return metrics by name.

    Parameters
    ----------
    given
        Names from `METRICS`, metrics, and functions, which are called by their own names; or from names of one's
        choice to metrics and functions.

    Raises
    ------
    InvalidArgumentError
        There is none, a name is not known, has two meanings or cannot be that of a file, or something is no metric.

    Examples
    --------
    >>> chosen_metrics(["insertion", "sic"])["sic"].title
    'SIC'
    """
    found = chosen(given, _named, "metric", METRICS)
    for name in found:
        if not name or name.startswith(".") or any(character in name for character in "/\\\0"):
            raise InvalidArgumentError(
                f"a metric is called {name!r}, and files are called like metrics: give a name without slashes, not "
                "beginning with a dot."
            )
    return found


def _named(name: str | None, metric: str | Metric | MetricFunction) -> tuple[str, Metric]:
    if isinstance(metric, str):
        if metric not in METRICS:
            raise InvalidArgumentError(f"metric {metric!r} is unknown: known are {', '.join(METRICS)}.")
        return name or metric, METRICS[metric]
    if isinstance(metric, Metric):
        return name or metric.title, metric
    own = own_name(name, metric, "metric", "a Metric")
    return own, Metric(own, function=metric)


Measured = tuple[dict[str, Any], Curve | None]
"""What a metric says of one attribution, as it is stored, and the curve that the value is the area of, if there is one.

``{"value": 0.7}``; ``{"refused": why}`` where the image does not qualify; ``{"failed": why}`` where the metric raises.
"""


def _measured(value: float, curve: Curve | None = None) -> Measured:
    """Return a value; one that is not finite is refused, as means and figures cannot have it."""
    if math.isfinite(value) and (curve is None or np.isfinite(curve).all()):
        return {"value": value}, curve
    reason = "the value or its curve is not finite, as where the probability that it is measured against is nearly 0"
    return {"refused": reason}, None


def measure(
    metrics: Mapping[str, Metric],
    classifier: Classifier,
    seen: SeenImage,
    attributions: Tensor,
    target: int,
    settings: EvaluationSettings,
) -> dict[str, Measured]:
    """Return what each metric says of one image's attributions; one that fails leaves the others alone.

    Parameters
    ----------
    metrics
        By name.
    classifier
        The model.
    seen
        The image.
    attributions
        Shape (1, C, H, W) or (1, 1, H, W).
    target
        The class that was explained.
    settings
        How to measure.
    """
    case = (classifier, seen, attributions, target, settings)
    found: dict[str, Measured] = {}
    for name, metric in metrics.items():
        try:
            if metric.function is not None:
                # Copies, and the mode again: what a person's own metric does must not reach the metrics that follow.
                try:
                    value = metric.function(classifier.model, seen.inputs.clone(), attributions.clone(), target)
                finally:
                    classifier.model.eval()
                found[name] = _measured(float(value))
            elif name in found:
                continue
            elif metric in (METRICS["insertion"], METRICS["insertion-raw"]):
                # One curve, whose area is taken in two ways.
                curves = _score_curves(insertion, settings.insertion_baseline, *case)
                for own, one in metrics.items():
                    if one in (METRICS["insertion"], METRICS["insertion-raw"]):
                        found[own] = _score(curves, raw=one is METRICS["insertion-raw"])
            elif metric is METRICS["deletion"]:
                found[name] = _score(_score_curves(deletion, settings.deletion_baseline, *case))
            elif metric is METRICS["perturbation"]:
                found[name] = _score(_score_curves(perturbation, settings.deletion_baseline, *case))
            else:
                # AIC and SIC are one piece of work, by whichever measure of information.
                of_curves = {own: of for own, one in metrics.items() for of in INFORMATION_CURVES if one == METRICS[of]}
                areas = _information(set(of_curves.values()), *case)
                found |= {own: areas[of] for own, of in of_curves.items()}
        # Models raise anything, and one metric is no reason to lose the others.
        except Exception as error:
            found[name] = {"failed": described(error)}, None
    return {name: found[name] for name in metrics}


def _score_curves(
    follow: Callable[..., ScoreCurves],
    kind: ImageBaseline,
    classifier: Classifier,
    seen: SeenImage,
    attributions: Tensor,
    target: int,
    settings: EvaluationSettings,
) -> ScoreCurves:
    """Follow the probability as pixels enter or leave."""
    preprocessing = classifier.preprocessing
    return follow(
        Probabilities(classifier.model),
        seen.inputs,
        attributions,
        baselines=preprocessing.normalize(image_baseline(kind, seen.image[None], preprocessing.mean)),
        target=target,
        n_steps=settings.curve_steps,
        internal_batch_size=settings.internal_batch_size,
        # What is least salient has no sign.
        channel_reduction="abs_sum" if follow is perturbation else _channel_reduction(settings),
    )


def _score(curves: ScoreCurves, *, raw: bool = False) -> Measured:
    value = (curves.areas if raw else curves.normalized_areas).item()
    if math.isnan(value):
        reason = "the whole image has the probability 0, or nearly, which nothing can be measured against"
        return {"refused": reason}, None
    # Normalised, so that curves of images that the model is more or less sure of can be averaged.
    return _measured(value, (curves.curves if raw else curves.normalized_curves())[0].float().cpu().numpy())


def _information(
    asked: Set[str],
    classifier: Classifier,
    seen: SeenImage,
    attributions: Tensor,
    target: int,
    settings: EvaluationSettings,
) -> dict[str, Measured]:
    """Measure those of `INFORMATION_CURVES` that are asked for."""
    too_small = min(seen.image.shape[1:]) < SMALLEST_SIDE_MS_SSIM
    why = f"MS-SSIM needs images of {SMALLEST_SIDE_MS_SSIM} pixels or more on each side"
    found: dict[str, Measured] = {
        name: ({"refused": why}, None) for name in asked if too_small and name.endswith("ms-ssim")
    }
    by: dict[str, Information] = {
        name: "ms-ssim" if name.endswith("ms-ssim") else settings.information.value for name in asked - found.keys()
    }
    if not by:
        return found
    blurred = settings.hidden is HiddenPixels.BLURRED
    curves = information_curves_by_measure(
        tuple(dict.fromkeys(by.values())),
        lambda images: classifier.model(classifier.preprocessing.normalize(images)),
        seen.image[None],
        attributions,
        target,
        thresholds=EVEN_THRESHOLDS if blurred else THRESHOLDS,
        min_score=settings.min_score,
        internal_batch_size=settings.internal_batch_size,
        seed=settings.seed,
        hidden=settings.hidden.value,
        channel_reduction=_channel_reduction(settings),
    )
    for name, of in by.items():
        curve = curves[of].curve(INFORMATION_CURVES[name])
        found[name] = (
            ({"refused": curve.refused[0]}, None)
            if curve.refused
            else _measured(curve.areas().item(), curve.curve[0].float().cpu().numpy())
        )
    return found


def _channel_reduction(settings: EvaluationSettings) -> Literal["sum", "abs_sum"]:
    return "sum" if settings.importance is Importance.SUM else "abs_sum"
