"""The metrics of an evaluation by name, and what measures an attribution with all that are asked for."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
from torch import Tensor

from captum_ext._errors import InvalidArgumentError, described
from captum_ext.classifiers import Classifier, Probabilities, SeenImage, image_baseline
from captum_ext.evaluation.settings import EvaluationSettings
from captum_ext.methods import split_names
from captum_ext.metrics import InformationCurve, ScoreCurves, deletion, information_curves, insertion
from captum_ext.metrics.information_curves import CurveName

Curve = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Metric:
    """A metric as it is offered by name.

    Parameters
    ----------
    title
        Name for people.
    about
        What a value is.
    higher_is_better
        False where a good map has a small value.
    has_joint_area
        Whether papers give the area under the median curve of all pictures, too.
    """

    title: str
    about: str
    higher_is_better: bool = True
    has_joint_area: bool = False


METRICS: dict[str, Metric] = {
    "insertion": Metric("Insertion", "area under the probability as pixels enter, by that of the whole picture"),
    "deletion": Metric("Deletion", "area under the probability as pixels leave, by that of the whole picture", False),
    "aic": Metric("AIC", "area under the accuracy against the information in what is revealed", has_joint_area=True),
    "sic": Metric(
        "SIC", "area under the normalised probability against the information in what is revealed", has_joint_area=True
    ),
}
INFORMATION_CURVES: dict[str, CurveName] = {"aic": "accuracy", "sic": "softmax"}
_SCORE_CURVES: dict[str, Callable[..., ScoreCurves]] = {"insertion": insertion, "deletion": deletion}


@dataclass(frozen=True)
class Measurement:
    """What a metric says about one attribution.

    Parameters
    ----------
    value
        NaN where the picture does not qualify, and where the metric failed.
    curve
        The curve that the value is the area of; None where there is no value.
    refusal
        Why the picture does not qualify.
    error
        Why the metric failed.
    """

    value: float
    curve: Curve | None
    refusal: str | None = None
    error: str | None = None


def measurement(value: float, curve: Curve) -> Measurement:
    """Return a measurement; one that is refused where a number is not finite, as means and figures cannot have it.

    Examples
    --------
    >>> measurement(math.inf, np.ones(3, np.float32)).refusal
    'the value or its curve is not finite, as where the probability that it is measured against is nearly 0'
    """
    if math.isfinite(value) and np.isfinite(curve).all():
        return Measurement(value, curve)
    return Measurement(
        math.nan,
        None,
        "the value or its curve is not finite, as where the probability that it is measured against is nearly 0",
    )


def parse_metric_names(names: str) -> list[str]:
    """Split a list of names at its commas; a name that comes twice counts once.

    Raises
    ------
    InvalidArgumentError
        A name is not known, or there is none.

    Examples
    --------
    >>> parse_metric_names("insertion, sic")
    ['insertion', 'sic']
    """
    given = split_names(names, "metric", METRICS)
    unknown = [name for name in given if name not in METRICS]
    if unknown:
        raise InvalidArgumentError(
            f"metric {', '.join(map(repr, unknown))} is unknown: known are {', '.join(METRICS)}."
        )
    return given


@dataclass(frozen=True)
class Meter:
    """Measures the attributions of pictures with every metric of an evaluation.

    Parameters
    ----------
    classifier
        The model.
    settings
        Which metrics, and how.
    internal_batch_size
        The most rows that go through the model at once.
    """

    classifier: Classifier
    settings: EvaluationSettings
    internal_batch_size: int | None = None

    def measure(self, seen: SeenImage, attributions: Tensor, target: int) -> dict[str, Measurement]:
        """Return what each metric says of one picture's attributions; one that fails leaves the others alone.

        Parameters
        ----------
        seen
            The picture.
        attributions
            Shape (1, C, H, W) or (1, 1, H, W).
        target
            The class that was explained.
        """
        metrics = self.settings.metrics
        found: dict[str, Measurement] = {}
        for name in metrics:
            if name not in found:
                measure = self._information if name in INFORMATION_CURVES else partial(self._score, name)
                try:
                    found |= measure(seen, attributions, target)
                except Exception as error:  # models raise anything, and one metric is no reason to lose the others
                    found[name] = Measurement(math.nan, None, error=described(error))
        return {name: found[name] for name in metrics}

    def _score(self, name: str, seen: SeenImage, attributions: Tensor, target: int) -> dict[str, Measurement]:
        """Measure insertion or deletion."""
        settings, preprocessing = self.settings, self.classifier.preprocessing
        kind = settings.insertion_baseline if name == "insertion" else settings.deletion_baseline
        curves = _SCORE_CURVES[name](
            Probabilities(self.classifier.model),
            seen.inputs,
            attributions,
            baselines=preprocessing.normalize(image_baseline(kind, seen.image[None], preprocessing.mean)),
            target=target,
            n_steps=settings.curve_steps,
            internal_batch_size=self.internal_batch_size,
        )
        value = curves.normalized_areas.item()
        if math.isnan(value):
            refusal = "the whole picture has the probability 0, or nearly, which nothing can be measured against"
            return {name: Measurement(value, None, refusal)}
        # Normalised, so that curves of pictures that the model is more or less sure of can be averaged.
        return {name: measurement(value, curves.normalized_curves()[0].float().cpu().numpy())}

    def _information(self, seen: SeenImage, attributions: Tensor, target: int) -> dict[str, Measurement]:
        """Measure AIC and SIC, which are one piece of work."""
        settings, classifier = self.settings, self.classifier
        curves = information_curves(
            lambda images: classifier.model(classifier.preprocessing.normalize(images)),
            seen.image[None],
            attributions,
            target,
            information=settings.information.value,
            min_score=settings.min_score,
            internal_batch_size=self.internal_batch_size,
            seed=settings.seed,
        )
        return {name: _single(curves.curve(which)) for name, which in INFORMATION_CURVES.items()}


def _single(curve: InformationCurve) -> Measurement:
    """Return the measurement of the only picture of a curve."""
    if curve.refused:
        return Measurement(math.nan, None, curve.refused[0])
    return measurement(curve.areas().item(), curve.curve[0].float().cpu().numpy())
