"""Figures of an evaluation as files: PNG to look at, PDF for papers."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from captum_ext._files import atomic_write
from captum_ext.evaluation.dataset import FIGURES
from captum_ext.evaluation.measures import INFORMATION_CURVES
from captum_ext.evaluation.table import Curves
from captum_ext.plot import information_curves_figure, score_curves_figure

MEANS = "means"


def write_figure(directory: Path, name: str, figure: Figure) -> bytes:
    """Write ``figures/NAME.png`` and ``.pdf``, and return the PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    with atomic_write(directory / FIGURES / f"{name}.png") as file:
        file.write(buffer.getvalue())
    with atomic_write(directory / FIGURES / f"{name}.pdf") as file:
        figure.savefig(file, format="pdf")
    return buffer.getvalue()


def curves_figure(metric: str, title: str, curves: Mapping[str, Curves], seed: int = 0) -> Figure:
    """Draw every method's curves of one metric.

    Parameters
    ----------
    metric
        Its name.
    title
        Above everything.
    curves
        From a method's title to shape (N, points), N at least 1.
    seed
        Of the bands.
    """
    if metric in INFORMATION_CURVES:
        return information_curves_figure(curves, which=INFORMATION_CURVES[metric], title=title, seed=seed)
    return score_curves_figure(curves, title=title, seed=seed)
