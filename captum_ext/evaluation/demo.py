"""A demonstration on real data without a network: IG against IDGI on scanned digits.

The digits come with the package, 1,797 scans of 8 x 8 pixels; the classifier is trained on the spot, in seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from captum_ext._files import atomic_write
from captum_ext.attr import IDGI, BlurPath
from captum_ext.classifiers import Probabilities, scanned_digits, train_classifier
from captum_ext.evaluation.table import write_csv
from captum_ext.methods import METHODS, Method, run_method
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


def output_files(directory: Path) -> tuple[Path, Path]:
    """Return where the figure and the table of the demonstration go."""
    return directory / "digits.png", directory / "digits.csv"


def run_demo(directory: Path, on_method: Callable[[str], None] = lambda title: None) -> tuple[float, pd.DataFrame]:
    """Train, explain, measure, and write the files of `output_files`; the same names are replaced.

    Each digit's own class is explained, of the digits that the classifier recognises.

    Parameters
    ----------
    directory
        Where to; made where it is missing.
    on_method
        Called with each method's title before it runs.

    Returns
    -------
    float
        Share of the test digits that the classifier recognises.
    pandas.DataFrame
        A row of means over these digits for each method: its ``title``; the magnitudes of ``delta`` and of
        ``path_residual``, missing where there is none; the score of ``insertion``, the area under the probability as
        pixels enter, by that of the whole digit; and ``milliseconds`` for one digit.
    """
    train, test = scanned_digits()
    model = train_classifier(train, EPOCHS)
    correct = model(test.images).argmax(1) == test.labels
    images, labels = test.images[correct], test.labels[correct]
    blank = torch.zeros_like(images)
    shown = [int(torch.nonzero(labels == digit)[0]) for digit in range(10)]
    rows, maps = [], {}
    run_method(DEMO_METHODS["ig"], model, images, blank, labels, 1)  # warm-up
    for method in DEMO_METHODS.values():
        on_method(method.title)
        result = run_method(method, model, images, blank, labels, N_STEPS, _ROWS_AT_ONCE)
        # From the digit's mean grey, which is what a blur leaves. On blank paper a pixel without ink is worth nothing
        # when it enters, so the score would reward IG for giving it nothing.
        score = insertion(
            Probabilities(model), images, result.attributions, target=labels, n_steps=images[0].numel()
        ).normalized_areas.mean()
        rows.append(
            {
                "title": method.title,
                "delta": _mean_magnitude(result.delta),
                "path_residual": _mean_magnitude(result.path_residual),
                "insertion": score.item(),
                "milliseconds": 1000 * result.seconds / len(images),
            }
        )
        maps[method.title] = result.attributions[shown]
    figure, table = output_files(directory)
    with atomic_write(figure) as file:
        attribution_grid(images[shown], maps, percentile=100).savefig(file, format="png")
    measured = pd.DataFrame(rows)
    write_csv(table, measured)
    return correct.float().mean().item(), measured


def _mean_magnitude(values: Tensor | None) -> float | None:
    return None if values is None else values.abs().mean().item()
