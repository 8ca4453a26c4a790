"""What is written when an evaluation has run: tables, curves, figures and the report."""

from __future__ import annotations

import io
import time
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure

from captum_ext._files import atomic_write
from captum_ext.evaluation.dataset import FIGURES
from captum_ext.evaluation.measures import INFORMATION_CURVES
from captum_ext.evaluation.report import REPORT, Findings, write_report
from captum_ext.evaluation.settings import EvaluationSettings
from captum_ext.evaluation.store import ResultStore
from captum_ext.evaluation.table import Curves, curves_of, table_of, write_csv
from captum_ext.methods.names import distinct_titles
from captum_ext.plot import information_curves_figure, score_curves_figure
from captum_ext.plot.curves import means_figure

RESULTS = "results.csv"
SUMMARY = "summary.csv"
CURVES = "curves"
MEANS = "means"
MOST_NUMBERS_DRAWN = 2_000_000
"""Of more numbers, the curves of some images, spread over all, are drawn: their bands would take hours."""


def files_of(settings: EvaluationSettings) -> list[str]:
    """Return the names of the files that are written for an evaluation."""
    names = [MEANS, *settings.metrics]
    figures = [f"{FIGURES}/{name}.{suffix}" for name in names for suffix in ("png", "pdf")]
    return [RESULTS, SUMMARY, REPORT, *(f"{CURVES}/{name}.npz" for name in settings.metrics), *figures]


class GrowingTable:
    """A table that is written while an evaluation runs, but not at every result.

    Parameters
    ----------
    store
        Results, also those of other processes.
    images
        Names of all images.
    settings
        Of the evaluation.
    pause
        Seconds between two versions at least; more where writing takes long.
    """

    def __init__(
        self, store: ResultStore, images: Sequence[str], settings: EvaluationSettings, pause: float = 10.0
    ) -> None:
        self._store, self._images, self._settings, self._pause = store, images, settings, pause
        self._next = time.monotonic()

    def update(self) -> None:
        """Write the table anew if it is time to."""
        begin = time.monotonic()
        if begin >= self._next:
            self._store.refresh()
            found = table_of(self._store, self._images, self._settings.methods, self._settings.metrics)
            write_csv(self._store.directory / RESULTS, found)
            end = time.monotonic()
            # At most a twentieth of the time goes into tables, however many rows there are.
            self._next = end + max(self._pause, 20 * (end - begin))


def write_outcome(store: ResultStore, images: Sequence[str], findings: Findings) -> None:
    """Write everything that people look at: tables, curves, figures, and the report that shows them.

    Parameters
    ----------
    store
        The results.
    images
        Names of all images.
    findings
        What there is to tell so far; curves and figures are made here.
    """
    settings, metrics, summary = findings.settings, findings.metrics, findings.summary
    write_csv(store.directory / RESULTS, findings.table)
    write_csv(store.directory / SUMMARY, summary)
    figures = {}
    if summary["mean"].notna().any():
        figures[MEANS] = write_figure(store.directory, MEANS, means_figure(*_means(findings)))
    joint_areas, n_drawn = {}, {}
    for name, metric in metrics.items():
        drawn, areas = _write_curves(store, images, settings.methods, name)
        if metric.has_joint_area:
            joint_areas[name] = areas
        if drawn:
            titled = {findings.methods[method].title: curves for method, curves in drawn.items()}
            figure = curves_figure(name, metric.title, titled, settings.seed)
            figures[name] = write_figure(store.directory, name, figure)
            n_drawn[name] = max(map(len, drawn.values()))
    write_report(store, images, replace(findings, joint_areas=joint_areas, figures=figures, n_drawn=n_drawn))


def _write_curves(
    store: ResultStore, images: Sequence[str], methods: Sequence[str], metric: str
) -> tuple[dict[str, Curves], dict[str, float]]:
    """Write ``curves/METRIC.npz``, method by method; return curves to draw and the area under each median curve."""
    drawn: dict[str, Curves] = {}
    areas: dict[str, float] = {}
    path = store.directory / CURVES / f"{metric}.npz"
    with atomic_write(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:

        def add(name: str, array: npt.NDArray[Any]) -> None:
            # numpy.savez wants all arrays in memory at once.
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array)  # type: ignore[no-untyped-call]

        add("images", np.array(images))
        for method in methods:
            curves = curves_of(store, images, method, metric)
            if curves is not None:
                add(method, curves)
                present = curves[~np.isnan(curves[:, 0])]
                n_drawn = min(len(present), max(1, MOST_NUMBERS_DRAWN // present.shape[1]))
                drawn[method] = present[np.linspace(0, len(present) - 1, n_drawn).astype(int)]
                areas[method] = _area_under_median(present)
    if not drawn:
        path.unlink()
    return drawn, areas


def _area_under_median(curves: Curves) -> float:
    # Some points at a time, since a median copies what it is of.
    columns = np.array_split(curves, -(-curves.size // (1 << 22)), axis=1)
    median = np.concatenate([np.median(part.astype(np.float64), axis=0) for part in columns])
    return float(torch.trapezoid(torch.from_numpy(median), dx=1 / (len(median) - 1)))


def _means(findings: Findings) -> tuple[list[str], dict[str, npt.NDArray[Any]], dict[str, bool]]:
    """Return what the figure of means is drawn from."""
    panels, directions, summary = {}, {}, findings.summary
    titles = distinct_titles({name: metric.title for name, metric in findings.metrics.items()})
    for name, metric in findings.metrics.items():
        rows = summary[summary["metric"] == name].set_index("method").reindex(list(findings.methods))
        panels[titles[name]] = rows[["mean", "low", "high"]].to_numpy(dtype=np.float64)
        directions[titles[name]] = metric.higher_is_better
    return [method.title for method in findings.methods.values()], panels, directions


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
