"""A demonstration on photographs: what an ImageNet network sees in them, by IG, IDGI on three paths, and FullGrad.

Network and photographs come with Python packages, so nothing is downloaded when it runs.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from captum_ext._files import atomic_write
from captum_ext.classifiers import (
    Classifier,
    ImageBaseline,
    Probabilities,
    SeenImage,
    load_classifier,
    photographs,
    seen_image,
)
from captum_ext.evaluation.table import write_csv
from captum_ext.methods import METHODS, Method, run_method
from captum_ext.metrics import insertion
from captum_ext.plot import attribution_rows

NETWORK = "efficientnet-lite0"
N_PHOTOGRAPHS = 4
N_STEPS = 32
CURVE_STEPS = 25
_ROWS_AT_ONCE = 8
_OVERLAID = "IDGI"


_EVALUATIONS = {"ig": N_STEPS, "idgi": N_STEPS, "idgi:blur": N_STEPS, "idgi:guided": N_STEPS}
_ADAPTIVE = frozenset({"idgi", "idgi:blur"})
DEMO_METHODS: dict[str, Method] = {
    name: METHODS[name] for name in ("ig", "idgi", "idgi:blur", "idgi:guided", "fullgrad:paper")
}


def output_files(directory: Path) -> tuple[Path, Path]:
    """Return where the figure and the table of the demonstration go."""
    return directory / "photographs.png", directory / "photographs.csv"


def run_photograph_demo(
    directory: Path, on_step: Callable[[str], None] = lambda step: None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Explain and measure, and write the files of `output_files`; the same names are replaced.

    Parameters
    ----------
    directory
        Where to; made where it is missing.
    on_step
        Called before each step with what it is.

    Returns
    -------
    pandas.DataFrame
        A row for each photograph: ``name``, ``author``, ``licence``, and the class that is explained, the most probable
        one, with its ``class_name`` and ``probability``.
    pandas.DataFrame
        A row of means over the photographs for each method, as it is written: its ``title``; ``evaluations``, the
        gradients for one photograph; the magnitude of ``path_residual``, or of the delta where that is the same, as a
        share of the output's change, missing where there is no path; the score of ``insertion``, the area under the
        probability as pixels enter a blurred image, by that of the whole one; and ``seconds`` for one photograph.

    Raises
    ------
    ImportError
        The network's or the photographs' packages are not installed.
    """
    on_step(f"loading {NETWORK}")
    classifier = load_classifier(NETWORK)
    seen, rows, images = [], [], []
    maps: dict[str, list[Tensor]] = {method.title: [] for method in DEMO_METHODS.values()}
    for photograph in photographs()[:N_PHOTOGRAPHS]:
        image = seen_image(classifier, photograph.image, ImageBaseline.BLACK, "cpu")
        with torch.no_grad():
            probability, target = Probabilities(classifier.model)(image.inputs)[0].max(0)
        name = classifier.class_name(int(target))
        seen.append((photograph.name, photograph.author, photograph.licence, name, probability.item()))
        images.append(image.image)
        for key, method in DEMO_METHODS.items():
            on_step(f"{photograph.name}: why {name}? {method.title}")
            row, attributions = _measured(key, classifier, image, int(target))
            rows.append(row)
            maps[method.title].append(attributions)
    on_step("drawing")
    figure, table = output_files(directory)
    sources = ", ".join(f"{author} ({licence})" for _, author, licence, *_ in seen)
    with atomic_write(figure) as file:
        attribution_rows(
            torch.stack(images),
            {title: torch.cat(attributions) for title, attributions in maps.items()},
            [f"{name}\n{probability:.0%}" for *_, name, probability in seen],
            _OVERLAID,
            f"Photographs, from the top: {sources}",
        ).savefig(file, format="png")
    measured = pd.DataFrame(rows).groupby("title", sort=False, as_index=False).mean().astype({"evaluations": int})
    write_csv(table, measured)
    return pd.DataFrame(seen, columns=["name", "author", "licence", "class_name", "probability"]), measured


def _measured(key: str, classifier: Classifier, image: SeenImage, target: int) -> tuple[dict[str, Any], Tensor]:
    """Return a method's numbers on one photograph, and its attributions."""
    method, adaptive = DEMO_METHODS[key], key in _ADAPTIVE
    result = run_method(
        method,
        classifier.model,
        image.inputs,
        image.baselines,
        target,
        N_STEPS,
        _ROWS_AT_ONCE,
        steps="adaptive" if adaptive else "equal",
    )
    score = insertion(
        Probabilities(classifier.model),
        image.inputs,
        result.attributions,
        target=target,
        n_steps=CURVE_STEPS,
        internal_batch_size=_ROWS_AT_ONCE,
    )
    missing = result.delta if result.path_residual is None else result.path_residual
    share = None if missing is None or result.change is None else abs(missing / result.change).item()
    row = {
        "title": f"{method.title}, adaptive" if adaptive else method.title,
        "evaluations": _EVALUATIONS.get(key, 1),
        "path_residual": share,
        "insertion": score.normalized_areas.item(),
        "seconds": result.seconds,
    }
    return row, result.attributions
