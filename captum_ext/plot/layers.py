"""A figure of what each layer contributed: a signed bar for every layer, and the maps of the strongest ones."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from captum_ext._errors import InvalidArgumentError
from captum_ext.attr.full_gradient.layer_totals import LayerContribution
from captum_ext.plot.attributions import draw_image

POSITIVE, NEGATIVE = "#b2182b", "#2166ac"
SIGNED_COLOUR_MAP = "RdBu_r"
_BAR_INCHES = 0.16
_BARS_INCHES = 5.5
_PANEL_INCHES = 2.2
_TITLE_CHARACTERS = 32
_TITLE_LINE_INCHES = 0.15


def layer_figure(
    layers: Mapping[str, LayerContribution],
    example: int = 0,
    image: Tensor | None = None,
    n_maps: int = 6,
    title: str = "",
) -> Figure:
    """Draw what each layer contributed to one example's output.

    Parameters
    ----------
    layers
        What `captum_ext.attr.full_gradient.full_grad.FullGrad.layer_attributions` returned.
    example
        Which example of the batch.
    image
        The picture of shape (C, H, W), values in [0, 1], to be shown before the maps; None for none.
    n_maps
        How many maps, of the layers with the largest contributions; red adds to the output, blue takes from it, each
        on a scale of its own that is stated below it.
    title
        Above everything.

    Returns
    -------
    Figure
        To be saved with ``figure.savefig(FILE)``.

    Raises
    ------
    InvalidArgumentError
        No layer, or an example that is not in the batch.

    Examples
    --------
    >>> import torch
    >>> layers = {"(input)": LayerContribution(torch.tensor([2.0]), None), "0": LayerContribution(torch.ones(1), None)}
    >>> [float(bar.get_width()) for bar in layer_figure(layers).axes[0].patches]
    [2.0, 1.0]
    """
    if not layers:
        raise InvalidArgumentError("no layer was given: give what FullGrad.layer_attributions returned.")
    n_examples = len(next(iter(layers.values())).total)
    if not -n_examples <= example < n_examples:
        raise InvalidArgumentError(f"example={example} was given: give one of 0 to {n_examples - 1}.")
    totals = {name: float(layer.total[example]) for name, layer in layers.items()}
    maps = {name: layer.map[example, 0] for name, layer in layers.items() if layer.map is not None}
    strongest = sorted(maps, key=lambda name: -abs(totals[name]))[: max(0, n_maps)]
    panels = len(strongest) + (image is not None)
    columns = max(1, -(-panels // 2))
    titles = {name: _in_lines(name) for name in strongest}
    title_lines = max((text.count("\n") + 2 for text in titles.values()), default=0)
    panel_height = _PANEL_INCHES + 0.3 + _TITLE_LINE_INCHES * title_lines
    height = max(2 * panel_height, _BAR_INCHES * len(layers) + 1.0)
    figure = Figure(figsize=(_BARS_INCHES + columns * _PANEL_INCHES, height), dpi=110, layout="constrained")
    widths = [_BARS_INCHES, columns * _PANEL_INCHES]
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=widths)[0]
    _draw_bars(left.add_subplot(), totals)
    panels_left = iter(right.add_subplot(2, columns, 1 + number) for number in range(panels))
    if image is not None:
        picture = image.detach().cpu().double().clamp(0, 1).permute(1, 2, 0).numpy()
        draw_image(next(panels_left), picture, "picture")
    for name, axes in zip(strongest, panels_left, strict=True):
        _draw_signed_map(axes, maps[name], f"{titles[name]}\n{totals[name]:+.3g}")
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def _draw_bars(axes: Axes, totals: Mapping[str, float]) -> None:
    """Draw the first layer on top; the layers and the input term add up to the output."""
    colours = [POSITIVE if total >= 0 else NEGATIVE for total in totals.values()]
    places = range(len(totals))
    bars = axes.barh(places, list(totals.values()), color=colours)
    # With the numbers, since one layer can dwarf all others.
    axes.bar_label(bars, fmt="%+.2g", fontsize=6 if len(totals) > 25 else 8, padding=2)
    axes.margins(x=0.18)
    axes.set_yticks(places, list(totals), fontsize=7 if len(totals) > 25 else 9)
    axes.set_ylim(len(totals) - 0.4, -0.6)
    axes.axvline(0.0, color="black", linewidth=0.8)
    axes.set_xlabel(f"contribution to the output, in all {sum(totals.values()):.4g}", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)


def _in_lines(name: str) -> str:
    """Break the name of a module before a dot, where it is wider than a map."""
    lines = textwrap.wrap(name.replace(".", " ."), _TITLE_CHARACTERS)
    return "\n".join(line.replace(" .", ".") for line in lines)


def _draw_signed_map(axes: Axes, map: Tensor, title: str) -> None:
    values = map.detach().cpu().double().numpy()
    limit = float(np.percentile(np.abs(values), 99)) or float(np.abs(values).max()) or 1.0
    axes.imshow(values, cmap=SIGNED_COLOUR_MAP, vmin=-limit, vmax=limit)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(title, fontsize=8)
    axes.set_xlabel(f"full colour = {limit:.2g} per pixel", fontsize=7)
