"""Figure of means: each method's mean with its interval, a panel for each metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from captum_ext.plot.curves import COLOURS

Intervals = npt.NDArray[np.float64]


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
        axes.set_title(title, fontsize=10)
        axes.set_xlabel(f"{'higher' if higher_is_better[title] else 'lower'} is better", fontsize=8, color="0.4")
    all_axes[0].set_yticks(range(len(methods)), methods, fontsize=9)
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
