"""Figures of measurements: the curves of several methods together, each with the band in which its aggregate lies.

Figures are made without pyplot, so that no global state is left behind and no display is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from captum_ext._errors import InvalidArgumentError
from captum_ext.metrics.bootstrap import bootstrap_band, bootstrap_interval
from captum_ext.metrics.completeness import Completeness
from captum_ext.metrics.information_curves import Aggregate, CurveName, InformationCurves
from captum_ext.metrics.insertion_deletion import ScoreCurves

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Of Okabe and Ito, told apart with every kind of colour vision; yellow is left out, which paper swallows."""
LineStyle = str | tuple[float, tuple[float, ...]]
LINE_STYLES: tuple[LineStyle, ...] = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1.5, 1, 1.5)))

MOST_IN_ONE_PANEL = 6
"""Bands of more methods cannot be told apart."""

Result = TypeVar("Result")

_PANEL_INCHES = (4.6, 3.4)
_LEGEND_LINE_INCHES = 0.19
_BAND_SHADES = {True: 0.15, False: 0.07}
"""With few lines and with many, where bands lie on each other."""
_BAND_POINTS = 201
_SMALL_PANEL_INCHES = (2.0, 1.75)
_COLUMNS = 4


@dataclass(frozen=True)
class _Line:
    """One method's curve with its band, over shares of 0 to 1."""

    label: str
    middle: Tensor
    lower: Tensor
    upper: Tensor


def score_curves_figure(
    scores: Mapping[str, ScoreCurves],
    how: Aggregate = "mean",
    title: str = "",
    level: float = 0.95,
    n_resamples: int = 1000,
    seed: int = 0,
) -> Figure:
    """Draw the insertion or deletion curves of several methods, each example's divided by its whole input's score.

    Parameters
    ----------
    scores
        From a method's name to what `captum_ext.metrics.insertion` or `captum_ext.metrics.deletion` returned. Examples
        whose whole input scores 0 are left out.
    how
        Whether curves are the ``"mean"`` or the ``"median"`` over the examples.
    title
        Above everything, for instance the name of the measure.
    level, n_resamples, seed
        Of the bands, bootstrap intervals of the mean or median; as in `captum_ext.metrics.bootstrap_interval`.

    Returns
    -------
    Figure
        To be saved with ``figure.savefig(FILE)``. The legend gives the area under each curve. More than six methods
        get a panel each, with the curves of the others in grey.

    Raises
    ------
    InvalidArgumentError
        No method, a method without an example, or numbers out of range.

    Examples
    --------
    >>> import torch
    >>> curves = torch.linspace(0, 1, 11).repeat(4, 1)
    >>> figure = score_curves_figure({"IDGI": ScoreCurves(curves, torch.full((4,), 0.5), torch.full((4,), 0.5))})
    >>> figure.legends[0].get_texts()[0].get_text()
    'IDGI: 0.500'
    """
    lines = []
    for name, score in _given(scores).items():
        curves = score.normalized_curves()
        lines.append(_line(name, curves[~curves[:, 0].isnan()], how, level, n_resamples, seed))
    return _curves_figure(lines, ("share of the features, most important first", f"score / whole score, {how}"), title)


def information_curves_figure(
    curves: Mapping[str, InformationCurves],
    which: CurveName = "softmax",
    how: Aggregate = "median",
    title: str = "",
    level: float = 0.95,
    n_resamples: int = 1000,
    seed: int = 0,
) -> Figure:
    """Draw the softmax or accuracy information curves of several methods.

    Parameters
    ----------
    curves
        From a method's name to what `captum_ext.metrics.information_curves` returned. Pictures that do not qualify are
        left out.
    which
        Which of the two curves.
    how
        Whether curves are the ``"median"`` or the ``"mean"`` over the pictures.
    title
        Above everything.
    level, n_resamples, seed
        Of the bands, bootstrap intervals of the median or mean; as in `captum_ext.metrics.bootstrap_interval`.

    Returns
    -------
    Figure
        To be saved with ``figure.savefig(FILE)``. The legend gives the area under each curve. More than six methods
        get a panel each, with the curves of the others in grey.

    Raises
    ------
    InvalidArgumentError
        No method, a method for which no picture qualifies, or numbers out of range.

    Examples
    --------
    >>> import torch
    >>> diagonal = torch.linspace(0, 1, 1001).repeat(4, 1)
    >>> figure = information_curves_figure({"IDGI": InformationCurves(diagonal, diagonal)})
    >>> figure.legends[0].get_texts()[0].get_text()
    'IDGI: 0.500'
    """
    chosen = {name: both.curve(which) for name, both in _given(curves).items()}
    lines = [_line(name, one.qualified(), how, level, n_resamples, seed) for name, one in chosen.items()]
    score = "probability of the target" if which == "softmax" else "recognised as the target"
    return _curves_figure(lines, ("information, normalised", f"{score}, {how}"), title)


def completeness_figure(
    results: Mapping[str, Completeness],
    title: str = "",
    level: float = 0.95,
    n_resamples: int = 10_000,
    seed: int = 0,
) -> Figure:
    """Draw each method's relative completeness delta: every example, the median, and the median's interval.

    Parameters
    ----------
    results
        From a method's name to what `captum_ext.metrics.completeness` returned.
    title
        Above everything.
    level, n_resamples, seed
        Of the bootstrap interval of the median; as in `captum_ext.metrics.bootstrap_interval`.

    Returns
    -------
    Figure
        To be saved with ``figure.savefig(FILE)``. The scale is logarithmic; deltas below 1e-12 are drawn there.

    Raises
    ------
    InvalidArgumentError
        No method, a method without an example, or a delta that is not finite.

    Examples
    --------
    >>> import torch
    >>> result = Completeness(torch.tensor([0.1, 0.2]), torch.tensor([0.01, 0.02]))
    >>> [label.get_text() for label in completeness_figure({"IG": result}).axes[0].get_yticklabels()]
    ['IG: 0.015']
    """
    width, _ = _PANEL_INCHES
    figure = Figure(figsize=(width, 0.8 + 0.36 * len(_given(results))), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    labels = []
    for place, (name, result) in enumerate(results.items()):
        relative = result.relative.detach().cpu().double().clamp(min=1e-12)
        lower, upper = bootstrap_interval(relative, level, n_resamples, seed, how="median")
        colour, _ = _look(place)
        # Spread evenly over a third of the row, in the order of the examples, so that equal ones are seen.
        heights = place + np.linspace(-1 / 6, 1 / 6, len(relative)) if len(relative) > 1 else [place]
        axes.plot(relative, heights, ".", color=colour, markersize=4, alpha=0.35, markeredgewidth=0)
        middle = float(relative.quantile(0.5))
        axes.plot([lower, upper], [place, place], color=colour, linewidth=2.5, solid_capstyle="butt")
        axes.plot(middle, place, "|", color=colour, markersize=14, markeredgewidth=2)
        labels.append(f"{_plain(name)}: {middle:.2g}")
    axes.set_xscale("log")
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    _finish(axes, ("|completeness delta| / |change of the output|", "method: median"), title)
    return figure


def _line(name: str, curves: Tensor, how: Aggregate, level: float, n_resamples: int, seed: int) -> _Line:
    if not len(curves):
        raise InvalidArgumentError(f"no example of {name!r} has a curve: leave the method out.")
    values = curves.detach().cpu().double()
    middle = values.mean(0) if how == "mean" else values.quantile(0.5, dim=0)
    # A band of a thousand points looks the same with fewer, and resampling them takes seconds.
    shown = torch.linspace(0, values.shape[1] - 1, min(values.shape[1], _BAND_POINTS)).round().long()
    lower, upper = bootstrap_band(values[:, shown], level, n_resamples, seed, how)
    area = float(torch.trapezoid(middle, dx=1 / (values.shape[1] - 1)))
    return _Line(f"{_plain(name)}: {area:.3f}", middle[shown], torch.from_numpy(lower), torch.from_numpy(upper))


def _curves_figure(lines: list[_Line], axis_labels: tuple[str, str], title: str) -> Figure:
    draw = _one_panel if len(lines) <= MOST_IN_ONE_PANEL else _panel_for_each
    return draw(lines, axis_labels, title)


def _one_panel(lines: list[_Line], axis_labels: tuple[str, str], title: str) -> Figure:
    width, height = _PANEL_INCHES
    columns = 2 if len(lines) > 1 else 1
    legend_height = _LEGEND_LINE_INCHES * (1 + -(-len(lines) // columns)) + 0.15
    figure = Figure(figsize=(width, height + legend_height), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    shade = _BAND_SHADES[len(lines) <= 4]
    for place, line in enumerate(lines):
        _draw(axes, line, *_look(place), shade)
    _set_limits(axes, lines)
    _finish(axes, axis_labels, title)
    # Handed over, since Matplotlib leaves out by itself what has a label that begins with "_".
    figure.legend(
        axes.lines,
        [line.label for line in lines],
        title="area under the curve",
        title_fontsize=8,
        fontsize=8,
        loc="outside lower center",
        ncols=columns,
        handlelength=3.2,
        frameon=False,
    )
    return figure


def _panel_for_each(lines: list[_Line], axis_labels: tuple[str, str], title: str) -> Figure:
    """Draw each line with its band in a panel of its own, before all others in grey."""
    width, height = _SMALL_PANEL_INCHES
    rows = -(-len(lines) // _COLUMNS)
    figure = Figure(figsize=(_COLUMNS * width, rows * height + 0.6), dpi=150, layout="constrained")
    panels = [*figure.subplots(rows, _COLUMNS, sharex=True, sharey=True, squeeze=False).flat]
    for place, (axes, line) in enumerate(zip(panels, lines, strict=False)):
        for other in lines:
            axes.plot(np.linspace(0, 1, len(other.middle)), other.middle, color="0.82", linewidth=0.6)
        _draw(axes, line, _look(place)[0], "-", _BAND_SHADES[True])
        _set_limits(axes, lines)
        _finish(axes, ("", ""), line.label)
        # Where the row below has no panel, the axis is labelled here.
        axes.tick_params(labelbottom=place + _COLUMNS >= len(lines))
    for axes in panels[len(lines) :]:
        axes.remove()
    figure.supxlabel(axis_labels[0], fontsize=9)
    figure.supylabel(axis_labels[1], fontsize=9)
    figure.suptitle(f"{title}, area under each curve" if title else "area under each curve", fontsize=10)
    return figure


def _draw(axes: Axes, line: _Line, colour: str, style: LineStyle, shade: float) -> None:
    shares = np.linspace(0, 1, len(line.middle))
    axes.fill_between(shares, line.lower, line.upper, color=colour, alpha=shade, linewidth=0)
    axes.plot(shares, line.middle, color=colour, linestyle=style, linewidth=1.6)


def _set_limits(axes: Axes, lines: list[_Line]) -> None:
    axes.set_xlim(0, 1)
    axes.set_ylim(bottom=min(0.0, *(float(line.lower.min()) for line in lines)))


def _look(place: int) -> tuple[str, LineStyle]:
    """Return the colour and the line style of a method: styles change with colours, so that grey prints work too."""
    return COLOURS[place % len(COLOURS)], LINE_STYLES[place % len(LINE_STYLES)]


def _finish(axes: Axes, axis_labels: tuple[str, str], title: str) -> None:
    axes.set_xlabel(axis_labels[0], fontsize=9)
    axes.set_ylabel(axis_labels[1], fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if title:
        axes.set_title(title, fontsize=10)


def _plain(text: str) -> str:
    """Escape the dollar signs, between which Matplotlib expects mathematics."""
    return text.replace("$", r"\$")


def _given(results: Mapping[str, Result]) -> Mapping[str, Result]:
    if not results:
        raise InvalidArgumentError("no result was given: give at least one method's.")
    return results
