"""What an evaluation computes, kept beside its results so that they are never mixed with others."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from captum_ext.classifiers import ImageBaseline, Output
from captum_ext.evaluation.dataset import ClassFrom

MAY_CHANGE = frozenset({"methods", "limit"})
"""Settings that may change when an evaluation goes on; what is stored is valid with any of them."""


class InformationMeasure(str, Enum):
    """How the information in a picture is measured, see `captum_ext.metrics.information_curves`."""

    WEBP = "webp"
    MS_SSIM = "ms-ssim"


@dataclass(frozen=True)
class EvaluationSettings:
    """Everything that the results depend on; sizes of batches and devices are not among it.

    Parameters
    ----------
    data
        Folder of pictures.
    model, weights
        As for `captum_ext.classifiers.models.load_classifier`.
    methods
        Names, see `captum_ext.methods.names.method_named`; the others are compared with the first.
    metrics
        Names from `captum_ext.evaluation.measures.METRICS`.
    class_from, labels
        As for `captum_ext.evaluation.dataset.labelled_pictures`.
    output
        What is explained. Insertion and deletion follow the probability in any case.
    baseline
        Where paths start, for methods that take a baseline.
    n_steps
        Steps from baseline to picture.
    insertion_baseline, deletion_baseline
        What pixels are before they enter, and after they left.
    curve_steps
        Steps of insertion and deletion.
    information, min_score
        As for `captum_ext.metrics.information_curves`.
    seed
        Of methods and metrics that draw random numbers, and of the bootstrap.
    limit
        The first so many pictures; None for all.
    """

    data: Path
    model: str
    weights: Path | None
    methods: tuple[str, ...]
    metrics: tuple[str, ...]
    class_from: ClassFrom = ClassFrom.AUTO
    labels: Path | None = None
    output: Output = Output.LOGIT
    baseline: ImageBaseline = ImageBaseline.BLACK
    n_steps: int = 50
    insertion_baseline: ImageBaseline = ImageBaseline.BLUR
    deletion_baseline: ImageBaseline = ImageBaseline.MEAN
    curve_steps: int = 50
    information: InformationMeasure = InformationMeasure.WEBP
    min_score: float = 0.8
    seed: int = 0
    limit: int | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the settings as JSON holds them, files with a digest of their content."""
        plain = json.loads(json.dumps(asdict(self), default=lambda path: str(path.resolve())))
        for name, path in (("weights", self.weights), ("labels", self.labels)):
            plain[f"{name}_sha256"] = None if path is None else sha256(path)
        return dict(plain)


def sha256(path: Path) -> str:
    """Return the SHA-256 digest of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def differences(stored: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """Say which settings differ; methods and the limit may, as results are kept for each picture and method.

    Examples
    --------
    >>> differences({"n_steps": 50, "seed": 0, "limit": 2}, {"n_steps": 20, "seed": 0, "limit": None})
    ['n_steps was 50 and is 20']
    """
    names = [name for name in dict.fromkeys([*stored, *asked]) if name not in MAY_CHANGE]
    return [
        f"{name} was {_shown(stored.get(name))} and is {_shown(asked.get(name))}"
        for name in names
        if stored.get(name) != asked.get(name)
    ]


def _shown(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
