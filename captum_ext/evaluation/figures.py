"""Figures of an evaluation: the curves of each metric, and the means of all methods with their intervals."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from captum_ext._files import atomic_write
from captum_ext.evaluation.dataset import FIGURES
from captum_ext.evaluation.measures import INFORMATION_CURVES, METRICS
from captum_ext.evaluation.results import Curves, PictureResult, curves_of
from captum_ext.evaluation.settings import EvaluationSettings
from captum_ext.evaluation.statistics import Summary
from captum_ext.methods import method_named
from captum_ext.plot import information_curves_figure, score_curves_figure
from captum_ext.plot.curves import COLOURS

MEANS = "means"


def write_figures(
    directory: Path, results: Sequence[PictureResult], summaries: Sequence[Summary], settings: EvaluationSettings
) -> dict[str, bytes]:
    """Draw the means of all methods and the curves of each metric, and write ``figures/NAME.png`` and ``.pdf``.

    Parameters
    ----------
    directory
        Where to.
    results
        Of all pictures.
    summaries
        For each method and metric.
    settings
        For the order of methods and metrics.

    Returns
    -------
    dict of str to bytes
        The PNG of ``"means"`` and of each metric; without those for which there is nothing to draw.
    """
    figures = {}
    if any(summary.value is not None for summary in summaries):
        figures[MEANS] = means_figure(summaries, settings)
    for metric in settings.metrics:
        curves = curves_of(results, settings, metric)
        if curves:
            figures[metric] = curves_figure(metric, curves, settings.seed)
    for name, figure in figures.items():
        with atomic_write(directory / FIGURES / f"{name}.pdf") as file:
            figure.savefig(file, format="pdf")
    pngs = {name: _png(figure) for name, figure in figures.items()}
    for name, content in pngs.items():
        with atomic_write(directory / FIGURES / f"{name}.png") as file:
            file.write(content)
    return pngs


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def curves_figure(metric: str, curves: Curves, seed: int = 0) -> Figure:
    """Draw every method's curves of one metric; pictures without a curve are left out.

    Parameters
    ----------
    metric
        Its name.
    curves
        From a method's name to shape (N, points), NaN for pictures without a curve.
    seed
        Of the bands.
    """
    title = METRICS[metric].title
    titled = {method_named(method).title: of_method for method, of_method in curves.items()}
    if metric in INFORMATION_CURVES:
        return information_curves_figure(titled, which=INFORMATION_CURVES[metric], title=title, seed=seed)
    return score_curves_figure(titled, title=title, seed=seed)


def means_figure(summaries: Sequence[Summary], settings: EvaluationSettings) -> Figure:
    """Draw each method's mean with its interval, a panel for each metric; a line marks the first method.

    Parameters
    ----------
    summaries
        What `captum_ext.evaluation.statistics.summarize` returned.
    settings
        For the order of methods and metrics.
    """
    methods, metrics = settings.methods, settings.metrics
    size = (1.4 + 2.7 * len(metrics), 0.9 + 0.3 * len(methods))
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    for axes, metric in zip(panels, metrics, strict=True):
        _draw_intervals(axes, [summary for summary in summaries if summary.metric == metric])
        arrow = "higher is better" if METRICS[metric].higher_is_better else "lower is better"
        axes.set_title(METRICS[metric].title, fontsize=10)
        axes.set_xlabel(arrow, fontsize=8, color="0.4")
    panels[0].set_yticks(range(len(methods)), [method_named(method).title for method in methods], fontsize=9)
    panels[0].invert_yaxis()
    return figure


def _draw_intervals(axes: Axes, summaries: Sequence[Summary]) -> None:
    for position, summary in enumerate(summaries):
        value = summary.value
        if value is not None:
            bars = [[value.mean - value.low], [value.high - value.mean]]
            axes.errorbar(
                value.mean,
                position,
                xerr=bars,
                fmt="o",
                markersize=4.5,
                color=COLOURS[position % len(COLOURS)],
                capsize=2,
            )
    if summaries[0].value is not None:
        axes.axvline(summaries[0].value.mean, color="0.6", linewidth=0.8, linestyle=":", zorder=0)
    axes.grid(axis="x", color="0.92", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8, length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
