"""Figures of measurements: methods' curves, each with the band in which its aggregate lies, and means with intervals.

Figures are made without pyplot, so that no global state is left behind and no display is needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from torch import Tensor

from captum_ext._errors import InvalidArgumentError
from captum_ext.metrics.bootstrap import bootstrap_band, bootstrap_interval
from captum_ext.metrics.information_curves import Aggregate, CurveName
from captum_ext.plot._text import plain

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Of Okabe and Ito, told apart with every kind of colour vision; yellow is left out, which paper swallows."""
LineStyle = str | tuple[float, tuple[float, ...]]
LINE_STYLES: tuple[LineStyle, ...] = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1.5, 1, 1.5)))

MOST_IN_ONE_PANEL = 6
"""Bands of more methods cannot be told apart."""

Values = TypeVar("Values")
Intervals = npt.NDArray[np.float64]

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
    curves: Mapping[str, Tensor | ArrayLike],
    how: Aggregate = "mean",
    title: str = "",
    level: float = 0.95,
    n_resamples: int = 1000,
    seed: int = 0,
) -> Figure:
    """Draw the insertion or deletion curves of several methods, each example's divided by its whole input's score.

    Parameters
    ----------
    curves
        From a method's name to its curves of shape (N, P), at P equal steps, as
        `captum_ext.metrics.ScoreCurves.normalized_curves` returns them. Rows with NaN are left out.
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
        No method, a method without an example, curves of another shape, or numbers out of range.

    Examples
    --------
    >>> import torch
    >>> figure = score_curves_figure({"IDGI": torch.linspace(0, 1, 11).repeat(4, 1)})
    >>> figure.legends[0].get_texts()[0].get_text()
    'IDGI: 0.500'
    """
    axis_labels = ("share of the features, most important first", f"score / whole score, {how}")
    lines = [_line(name, given, how, level, n_resamples, seed) for name, given in _given(curves).items()]
    return _curves_figure(lines, axis_labels, plain(title))


def information_curves_figure(
    curves: Mapping[str, Tensor | ArrayLike],
    which: CurveName = "softmax",
    how: Aggregate = "median",
    title: str = "",
    level: float = 0.95,
    n_resamples: int = 1000,
    seed: int = 0,
) -> Figure:
    """Draw the softmax or accuracy information curves of several methods; otherwise as `score_curves_figure`.

    Parameters
    ----------
    curves
        From a method's name to its curves of shape (N, P), such as the ``softmax`` of
        `captum_ext.metrics.InformationCurves`. Images that do not qualify, rows with NaN, are left out.
    which
        Which of the two curves they are, for the label of the axis.
    how, title, level, n_resamples, seed
        As in `score_curves_figure`, with the ``"median"`` as the default.

    Examples
    --------
    >>> import torch
    >>> figure = information_curves_figure({"IDGI": torch.linspace(0, 1, 1001).repeat(4, 1)})
    >>> figure.legends[0].get_texts()[0].get_text()
    'IDGI: 0.500'
    """
    score = "probability of the target" if which == "softmax" else "recognised as the target"
    lines = [_line(name, given, how, level, n_resamples, seed) for name, given in _given(curves).items()]
    return _curves_figure(lines, ("information, normalised", f"{score}, {how}"), plain(title))


def completeness_figure(
    relative: Mapping[str, Tensor | ArrayLike],
    title: str = "",
    level: float = 0.95,
    n_resamples: int = 10_000,
    seed: int = 0,
) -> Figure:
    """Draw each method's relative completeness delta: every example, the median, and the median's interval.

    Parameters
    ----------
    relative
        From a method's name to one number for each example, shape (N,), such as the ``relative`` of
        `captum_ext.metrics.Completeness`.
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
        No method, a method without an example, or a delta that is negative or not finite.

    Examples
    --------
    >>> import torch
    >>> figure = completeness_figure({"IG": torch.tensor([0.01, 0.02])})
    >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
    ['IG: 0.015']
    """
    width, _ = _PANEL_INCHES
    figure = Figure(figsize=(width, 0.8 + 0.36 * len(_given(relative))), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    labels = []
    for place, (name, given) in enumerate(relative.items()):
        deltas = torch.as_tensor(given).detach().cpu().double()
        if bool((deltas < 0).any()):
            raise InvalidArgumentError(
                f"a delta of {name!r} is negative: give its size, divided by that of the change."
            )
        deltas = deltas.clamp(min=1e-12)
        lower, upper = bootstrap_interval(deltas, level, n_resamples, seed, how="median")
        colour, _ = _look(place)
        # Spread evenly over a third of the row, in the order of the examples, so that equal ones are seen.
        heights = place + np.linspace(-1 / 6, 1 / 6, len(deltas)) if len(deltas) > 1 else [place]
        axes.plot(deltas, heights, ".", color=colour, markersize=4, alpha=0.35, markeredgewidth=0)
        middle = float(deltas.quantile(0.5))
        axes.plot([lower, upper], [place, place], color=colour, linewidth=2.5, solid_capstyle="butt")
        axes.plot(middle, place, "|", color=colour, markersize=14, markeredgewidth=2)
        labels.append(f"{plain(name)}: {middle:.2g}")
    axes.set_xscale("log")
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    _finish(axes, ("|completeness delta| / |change of the output|", "method: median"), plain(title))
    return figure


def means_figure(
    methods: Sequence[str], panels: Mapping[str, Intervals], higher_is_better: Mapping[str, bool]
) -> Figure:
    """Draw means with their intervals; a dotted line marks the first method.

    Parameters
    ----------
    methods
        Names of M methods.
    panels
        From a metric's name to mean, lower and upper end of each method; shape (M, 3), NaN where there is none.
    higher_is_better
        From a metric's name to its direction.

    Examples
    --------
    >>> figure = means_figure(["IG", "IDGI"], {"Insertion": np.array([[0.5, 0.4, 0.6]] * 2)}, {"Insertion": True})
    >>> [axes.get_title() for axes in figure.axes]
    ['Insertion']
    """
    size = (1.4 + 2.7 * len(panels), 0.9 + 0.3 * len(methods))
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    all_axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (title, intervals) in zip(all_axes, panels.items(), strict=True):
        _draw_intervals(axes, intervals)
        axes.set_title(plain(title), fontsize=10)
        axes.set_xlabel(f"{'higher' if higher_is_better[title] else 'lower'} is better", fontsize=8, color="0.4")
    all_axes[0].set_yticks(range(len(methods)), [*map(plain, methods)], fontsize=9)
    all_axes[0].invert_yaxis()
    return figure


def _draw_intervals(axes: Axes, intervals: Intervals) -> None:
    for place, (mean, low, high) in enumerate(intervals):
        if np.isfinite(mean):
            colour = COLOURS[place % len(COLOURS)]
            bars = [[mean - low], [high - mean]]
            axes.errorbar(mean, place, xerr=bars, fmt="o", markersize=4.5, color=colour, capsize=2)
    if np.isfinite(intervals[0, 0]):
        axes.axvline(intervals[0, 0], color="0.6", linewidth=0.8, linestyle=":", zorder=0)
    axes.grid(axis="x", color="0.92", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8, length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _line(name: str, given: Tensor | ArrayLike, how: Aggregate, level: float, n_resamples: int, seed: int) -> _Line:
    curves = torch.as_tensor(given).detach().cpu().double()
    if curves.dim() != 2 or curves.shape[1] < 2:
        raise InvalidArgumentError(
            f"the curves of {name!r} have shape {tuple(curves.shape)}: give (N, P), of 2 points or more."
        )
    values = curves[~curves.isnan().any(1)]
    if not len(values):
        raise InvalidArgumentError(f"no example of {name!r} has a curve: leave the method out.")
    middle = values.mean(0) if how == "mean" else values.quantile(0.5, dim=0)
    # A band of a thousand points looks the same with fewer, and resampling them takes seconds.
    shown = torch.linspace(0, values.shape[1] - 1, min(values.shape[1], _BAND_POINTS)).round().long()
    lower, upper = bootstrap_band(values[:, shown], level, n_resamples, seed, how)
    area = float(torch.trapezoid(middle, dx=1 / (values.shape[1] - 1)))
    return _Line(f"{plain(name)}: {area:.3f}", middle[shown], torch.from_numpy(lower), torch.from_numpy(upper))


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


def _given(by_method: Mapping[str, Values]) -> Mapping[str, Values]:
    if not by_method:
        raise InvalidArgumentError("nothing was given: give the numbers of at least one method.")
    return by_method
