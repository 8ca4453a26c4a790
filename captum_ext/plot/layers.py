"""A figure of what each layer contributed: a signed bar for every layer, and the maps of the strongest ones."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from torch import Tensor

from captum_ext._errors import InvalidArgumentError
from captum_ext.plot._text import plain
from captum_ext.plot.attributions import Array, as_pixels, draw_image

POSITIVE, NEGATIVE = "#b2182b", "#2166ac"
SIGNED_COLOUR_MAP = "RdBu_r"
_BAR_INCHES = 0.16
_BARS_INCHES = 5.5
_PANEL_INCHES = 2.2
_TITLE_CHARACTERS = 32
_TITLE_LINE_INCHES = 0.15


def layer_figure(
    totals: Mapping[str, float | Tensor],
    maps: Mapping[str, Tensor | ArrayLike] | None = None,
    image: Tensor | ArrayLike | None = None,
    n_maps: int = 6,
    title: str = "",
) -> Figure:
    """Draw what each layer contributed to one example's output, as `captum_ext.FullGrad.layer_attributions` tells it.

    Parameters
    ----------
    totals
        From a layer's name to its contribution, a number.
    maps
        From a layer's name to where on the image that contribution lies, shape (H, W) or (1, H, W); for as many layers
        as have a map.
    image
        Shape (C, H, W), values in [0, 1], to be shown before the maps; None for none.
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
        No layer, a map of a layer without a total, a total that is no finite number, a map with values that are not
        finite, or an image or a map of another shape.

    Examples
    --------
    >>> import torch
    >>> from captum_ext import FullGrad
    >>> model = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.Flatten(), torch.nn.Linear(72, 3)).eval()
    >>> layers = FullGrad(model).layer_attributions(torch.rand(2, 1, 8, 8), target=0)
    >>> totals = {name: layer.total[1] for name, layer in layers.items()}
    >>> maps = {name: layer.map[1] for name, layer in layers.items() if layer.map is not None}
    >>> [label.get_text() for label in layer_figure(totals, maps).axes[0].get_yticklabels()]
    ['(input)', '0', '2']
    """
    if not totals:
        raise InvalidArgumentError("no layer was given: give a number for each.")
    numbers = {name: _as_number(name, total) for name, total in totals.items()}
    without_total = [name for name in maps or {} if name not in numbers]
    if without_total:
        raise InvalidArgumentError(f"layer {without_total[0]!r} has a map and no total: give a number for each.")
    signed = {name: _as_signed_map(name, of_layer) for name, of_layer in (maps or {}).items()}
    strongest = sorted(signed, key=lambda name: -abs(numbers[name]))[: max(0, n_maps)]
    titles = {name: _in_lines(name) for name in strongest}
    n_panels = len(strongest) + (image is not None)
    columns = max(1, -(-n_panels // 2))
    # Titles of two maps under each other must not meet: a panel is as high as the longest of them needs.
    title_lines = max((text.count("\n") + 2 for text in titles.values()), default=0)
    panel_height = _PANEL_INCHES + 0.3 + _TITLE_LINE_INCHES * title_lines
    height = max(2 * panel_height, _BAR_INCHES * len(numbers) + 1.0)
    figure = Figure(figsize=(_BARS_INCHES + columns * _PANEL_INCHES, height), dpi=110, layout="constrained")
    widths = [_BARS_INCHES, columns * _PANEL_INCHES]
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=widths)[0]
    _draw_bars(left.add_subplot(), numbers)
    panels = iter(right.add_subplot(2, columns, 1 + number) for number in range(n_panels))
    if image is not None:
        draw_image(next(panels), as_pixels(image), "image")
    for name, axes in zip(strongest, panels, strict=True):
        _draw_signed_map(axes, signed[name], f"{plain(titles[name])}\n{numbers[name]:+.3g}")
    if title:
        figure.suptitle(plain(title), fontsize=11)
    return figure


def _draw_bars(axes: Axes, totals: Mapping[str, float]) -> None:
    """Draw the first layer on top; the layers and the input term add up to the output."""
    colours = [POSITIVE if total >= 0 else NEGATIVE for total in totals.values()]
    places = range(len(totals))
    bars = axes.barh(places, list(totals.values()), color=colours)
    # With the numbers, since one layer can dwarf all others.
    axes.bar_label(bars, fmt="%+.2g", fontsize=6 if len(totals) > 25 else 8, padding=2)
    axes.margins(x=0.18)
    axes.set_yticks(places, [*map(plain, totals)], fontsize=7 if len(totals) > 25 else 9)
    axes.set_ylim(len(totals) - 0.4, -0.6)
    axes.axvline(0.0, color="black", linewidth=0.8)
    axes.set_xlabel(f"contribution to the output, in all {sum(totals.values()):.4g}", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)


def _in_lines(name: str) -> str:
    """Break the name of a module before a dot, where it is wider than a map."""
    lines = textwrap.wrap(name.replace(".", " ."), _TITLE_CHARACTERS)
    return "\n".join(line.replace(" .", ".") for line in lines)


def _as_number(name: str, total: float | Tensor) -> float:
    if isinstance(total, Tensor) and total.numel() != 1:
        raise InvalidArgumentError(
            f"the total of {name!r} has shape {tuple(total.shape)}: give the number of one example, such as total[0]."
        )
    number = float(total)
    if not math.isfinite(number):
        raise InvalidArgumentError(f"the total of {name!r} is {number}, which has no bar: give finite numbers.")
    return number


def _as_signed_map(name: str, given: Tensor | ArrayLike) -> Array:
    values: Array = torch.as_tensor(given).detach().cpu().double().numpy()
    if values.ndim == 3 and len(values) == 1:
        values = values[0]
    if values.ndim != 2:
        raise InvalidArgumentError(f"the map of {name!r} has shape {values.shape}: give (H, W) or (1, H, W).")
    if not np.isfinite(values).all():
        raise InvalidArgumentError(f"the map of {name!r} holds NaN or infinite values, which have no colour.")
    return values


def _draw_signed_map(axes: Axes, values: Array, title: str) -> None:
    limit = float(np.percentile(np.abs(values), 99)) or float(np.abs(values).max()) or 1.0
    axes.imshow(values, cmap=SIGNED_COLOUR_MAP, vmin=-limit, vmax=limit)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(title, fontsize=8)
    axes.set_xlabel(f"full colour = {limit:.2g} per pixel", fontsize=7)
