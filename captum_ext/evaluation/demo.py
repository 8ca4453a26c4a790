"""A demonstration on real data without a network: IG against IDGI on scanned digits.

The digits come with the package, 1,797 scans of 8 x 8 pixels; the classifier is trained on the spot, in seconds.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from captum_ext._files import atomic_write
from captum_ext.attr import IDGI, BlurPath
from captum_ext.classifiers import Digits, Probabilities, scanned_digits, train_classifier
from captum_ext.methods import METHODS, Method, MethodResult, run_method
from captum_ext.metrics import insertion
from captum_ext.plot import attribution_grid

N_STEPS = 50
EPOCHS = 12
_ROWS_AT_ONCE = 5000

# The strongest blur of the default path is six digits wide; half a digit is enough to wash one out.
_BLUR_PATH = BlurPath(max_sigma=4.0)
DEMO_METHODS: dict[str, Method] = {
    "ig": METHODS["ig"],
    "idgi": METHODS["idgi"],
    "idgi:blur": Method("IDGI (blur)", lambda model: IDGI(model, path=_BLUR_PATH), takes_baselines=False),
    "idgi:guided": METHODS["idgi:guided"],
    "fullgrad": METHODS["fullgrad"],
}


@dataclass(frozen=True)
class MethodSummary:
    """One row of the table: means over the test digits.

    Parameters
    ----------
    title
        Name of the method.
    delta
        Mean absolute convergence delta; None where the attributions sum to nothing.
    path_residual
        Mean absolute path residual; None where the method has none.
    insertion
        Mean insertion score: area under the probability as pixels enter, by the probability of the whole digit.
    milliseconds
        Time for one digit.
    """

    title: str
    delta: float | None
    path_residual: float | None
    insertion: float
    milliseconds: float


@dataclass(frozen=True)
class DemoReport:
    """What the demonstration found.

    Parameters
    ----------
    accuracy
        Share of the test digits that the classifier recognises.
    rows
        One for each method.
    figure, table
        Where they were written.
    """

    accuracy: float
    rows: list[MethodSummary]
    figure: Path
    table: Path


def compare_methods(
    model: nn.Module, digits: Digits, on_method: Callable[[str], None] = lambda title: None
) -> dict[str, tuple[MethodResult, MethodSummary]]:
    """Explain each digit's own class with every method of the demonstration, and measure the explanations.

    Parameters
    ----------
    model
        Gives logits of shape (N, 10).
    digits
        What to explain.
    on_method
        Called with each method's title before it runs.
    """
    run_method(DEMO_METHODS["ig"], model, digits.images, torch.zeros_like(digits.images), digits.labels, 1)  # warm-up
    found = {}
    for name, method in DEMO_METHODS.items():
        on_method(method.title)
        blank = torch.zeros_like(digits.images)
        result = run_method(method, model, digits.images, blank, digits.labels, N_STEPS, _ROWS_AT_ONCE)
        found[name] = (result, _summary(method.title, model, digits, result))
    return found


def _summary(title: str, model: nn.Module, digits: Digits, result: MethodResult) -> MethodSummary:
    # From the digit's mean grey, which is what a blur leaves. On blank paper a pixel without ink is worth nothing when
    # it enters, so the score would reward IG for giving it nothing.
    score = insertion(
        Probabilities(model),
        digits.images,
        result.attributions,
        target=digits.labels,
        n_steps=digits.images[0].numel(),
    )
    return MethodSummary(
        title,
        _mean_magnitude(result.delta),
        _mean_magnitude(result.path_residual),
        score.normalized_areas.mean().item(),
        1000 * result.seconds / len(digits.images),
    )


def _mean_magnitude(values: Tensor | None) -> float | None:
    return None if values is None else values.abs().mean().item()


def output_files(directory: Path) -> tuple[Path, Path]:
    """Return where the figure and the table of the demonstration go."""
    return directory / "digits.png", directory / "digits.csv"


def run_demo(directory: Path, on_method: Callable[[str], None] = lambda title: None) -> DemoReport:
    """Train, explain, measure, and write the files of `output_files`; the same names are replaced.

    Parameters
    ----------
    directory
        Where to; made where it is missing.
    on_method
        Called with each method's title before it runs.
    """
    train, test = scanned_digits()
    model = train_classifier(train, EPOCHS)
    correct = model(test.images).argmax(1) == test.labels
    recognised = Digits(test.images[correct], test.labels[correct])
    found = compare_methods(model, recognised, on_method)
    rows = [summary for _, summary in found.values()]
    figure, table = output_files(directory)
    _write_figure(figure, recognised, {DEMO_METHODS[name].title: result for name, (result, _) in found.items()})
    write_rows(table, rows)
    return DemoReport(correct.float().mean().item(), rows, figure, table)


def _write_figure(path: Path, digits: Digits, results: Mapping[str, MethodResult]) -> None:
    shown = [int(torch.nonzero(digits.labels == digit)[0]) for digit in range(10)]
    attributions = {title: result.attributions[shown] for title, result in results.items()}
    figure = attribution_grid(digits.images[shown], attributions, percentile=100)
    with atomic_write(path) as file:
        figure.savefig(file, format="png")


def write_rows(path: Path, rows: Sequence[Any]) -> None:
    """Write instances of one dataclass, at least one, as a table with its fields as columns."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(rows[0])], lineterminator="\n")
    writer.writeheader()
    writer.writerows(vars(row) for row in rows)
    with atomic_write(path) as file:
        file.write(text.getvalue().encode())
