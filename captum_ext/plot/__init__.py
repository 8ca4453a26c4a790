"""Figures; all take arrays."""

from captum_ext.plot.attributions import ScaledMap, attribution_figure, attribution_grid, attribution_rows, scaled_map
from captum_ext.plot.curves import completeness_figure, information_curves_figure, score_curves_figure
from captum_ext.plot.layers import layer_figure

__all__ = [
    "ScaledMap",
    "attribution_figure",
    "attribution_grid",
    "attribution_rows",
    "completeness_figure",
    "information_curves_figure",
    "layer_figure",
    "scaled_map",
    "score_curves_figure",
]
