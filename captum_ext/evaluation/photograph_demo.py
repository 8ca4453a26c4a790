"""A demonstration on photographs: what an ImageNet network sees in them, by IG, IDGI on three paths, and FullGrad.

Network and photographs come with Python packages, so nothing is downloaded when it runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from captum_ext._files import atomic_write
from captum_ext.classifiers import (
    Classifier,
    ImageBaseline,
    Photograph,
    Probabilities,
    load_classifier,
    photographs,
    seen_image,
)
from captum_ext.evaluation.demo import write_rows
from captum_ext.methods import METHODS, Method, MethodResult, run_method
from captum_ext.metrics import insertion
from captum_ext.plot import attribution_rows

NETWORK = "efficientnet-lite0"
N_PHOTOGRAPHS = 4
N_STEPS = 32
CURVE_STEPS = 25
_ROWS_AT_ONCE = 8
_OVERLAID = "IDGI"


@dataclass(frozen=True)
class SeenPhotograph:
    """A photograph and what the network says of it.

    Parameters
    ----------
    photograph
        With its author and licence.
    class_name, probability
        The class that is explained, the most probable one.
    """

    photograph: Photograph
    class_name: str
    probability: float


@dataclass(frozen=True)
class PhotographMethod:
    """One row of the table: means over the photographs.

    Parameters
    ----------
    title
        Name of the method.
    evaluations
        Gradients for each photograph.
    path_residual
        Mean of the absolute path residual, or of the delta where that is the same, as a share of the output's change;
        None where there is no path.
    insertion
        Mean insertion score: area under the probability as pixels enter a blurred image, by that of the whole one.
    seconds
        For one photograph.
    """

    title: str
    evaluations: int
    path_residual: float | None
    insertion: float
    seconds: float


@dataclass(frozen=True)
class PhotographReport:
    """What the demonstration found.

    Parameters
    ----------
    seen
        One for each photograph.
    rows
        One for each method.
    figure, table
        Where they were written.
    """

    seen: list[SeenPhotograph]
    rows: list[PhotographMethod]
    figure: Path
    table: Path


_EVALUATIONS = {"ig": N_STEPS, "idgi": N_STEPS, "idgi:blur": N_STEPS, "idgi:guided": N_STEPS}
_ADAPTIVE = frozenset({"idgi", "idgi:blur"})
DEMO_METHODS: dict[str, Method] = {
    name: METHODS[name] for name in ("ig", "idgi", "idgi:blur", "idgi:guided", "fullgrad:paper")
}


def output_files(directory: Path) -> tuple[Path, Path]:
    """Return where the figure and the table of the demonstration go."""
    return directory / "photographs.png", directory / "photographs.csv"


def run_photograph_demo(directory: Path, on_step: Callable[[str], None] = lambda step: None) -> PhotographReport:
    """Explain and measure, and write the files of `output_files`; the same names are replaced.

    Parameters
    ----------
    directory
        Where to; made where it is missing.
    on_step
        Called before each step with what it is.

    Raises
    ------
    ImportError
        The network's or the photographs' packages are not installed.
    """
    on_step(f"loading {NETWORK}")
    classifier = load_classifier(NETWORK)
    seen: list[SeenPhotograph] = []
    images: list[Tensor] = []
    found: dict[str, list[tuple[MethodResult, float]]] = {method.title: [] for method in DEMO_METHODS.values()}
    for photograph in photographs()[:N_PHOTOGRAPHS]:
        image = seen_image(classifier, photograph.image, ImageBaseline.BLACK, "cpu")
        with torch.no_grad():
            probability, target = Probabilities(classifier.model)(image.inputs)[0].max(0)
        name = classifier.class_name(int(target))
        seen.append(SeenPhotograph(photograph, name, probability.item()))
        images.append(image.image)
        for key, method in DEMO_METHODS.items():
            on_step(f"{photograph.name}: why {name}? {method.title}")
            result = _explained(key, classifier, image.inputs, image.baselines, int(target))
            score = _insertion(classifier, image.inputs, result.attributions, int(target))
            found[method.title].append((result, score))
    rows = [
        _row(key, [result for result, _ in found[method.title]], [score for _, score in found[method.title]])
        for key, method in DEMO_METHODS.items()
    ]
    on_step("drawing")
    figure, table = output_files(directory)
    maps = {title: torch.cat([result.attributions for result, _ in results]) for title, results in found.items()}
    _write_figure(figure, seen, torch.stack(images), maps)
    write_rows(table, rows)
    return PhotographReport(seen, rows, figure, table)


def _explained(key: str, classifier: Classifier, inputs: Tensor, baselines: Tensor, target: int) -> MethodResult:
    return run_method(
        DEMO_METHODS[key],
        classifier.model,
        inputs,
        baselines,
        target,
        N_STEPS,
        _ROWS_AT_ONCE,
        steps="adaptive" if key in _ADAPTIVE else "equal",
    )


def _insertion(classifier: Classifier, inputs: Tensor, attributions: Tensor, target: int) -> float:
    score = insertion(
        Probabilities(classifier.model),
        inputs,
        attributions,
        target=target,
        n_steps=CURVE_STEPS,
        internal_batch_size=_ROWS_AT_ONCE,
    )
    return score.normalized_areas.item()


def _row(key: str, results: list[MethodResult], scores: list[float]) -> PhotographMethod:
    method = DEMO_METHODS[key]
    residuals = [
        abs((result.delta if result.path_residual is None else result.path_residual) / result.change).item()
        for result in results
        if result.delta is not None and result.change is not None
    ]
    return PhotographMethod(
        f"{method.title}, adaptive" if key in _ADAPTIVE else method.title,
        _EVALUATIONS.get(key, 1),
        sum(residuals) / len(residuals) if residuals else None,
        sum(scores) / len(scores),
        sum(result.seconds for result in results) / len(results),
    )


def _write_figure(path: Path, seen: list[SeenPhotograph], images: Tensor, maps: dict[str, Tensor]) -> None:
    labels = [f"{one.class_name}\n{one.probability:.0%}" for one in seen]
    sources = ", ".join(f"{one.photograph.author} ({one.photograph.licence})" for one in seen)
    figure = attribution_rows(images, maps, labels, _OVERLAID, f"Photographs, from the top: {sources}")
    with atomic_write(path) as file:
        figure.savefig(file, format="png")
