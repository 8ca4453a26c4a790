"""Figures of attributions: an image, each method's map and its overlay, on scales that are stated.

Maps are drawn by ``captum.attr.visualization``. Figures are made without pyplot, so that no global state is left behind
and no display is needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from captum.attr import visualization as captum_visualization
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from torch import Tensor

from captum_ext._errors import InvalidArgumentError
from captum_ext.plot._text import plain

COLOUR_MAP = "inferno"

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ScaledMap:
    """A map in [0, 1] and what its 1 stands for.

    Parameters
    ----------
    values
        Shape (H, W); 0 is no attribution.
    limit
        The attribution at which ``values`` is 1, and beyond which it is clipped.
    """

    values: Array
    limit: float


def scaled_map(attributions: Tensor | ArrayLike, percentile: float = 99.0) -> ScaledMap:
    """Sum absolute attributions over the channels and scale them so that a percentile of the pixels is 1.

    Parameters
    ----------
    attributions
        Shape (C, H, W).
    percentile
        In (0, 100]; brighter pixels are clipped, since a few extreme ones would leave everything else dark.

    Raises
    ------
    InvalidArgumentError
        The shape is another, the percentile is out of range, or a value is complex or not finite.

    Examples
    --------
    >>> import torch
    >>> scaled_map(torch.tensor([[[1.0, -4.0]], [[1.0, 0.0]]]), percentile=100)
    ScaledMap(values=array([[0.5, 1. ]]), limit=4.0)
    """
    values = torch.as_tensor(attributions)
    if values.dim() != 3 or values.numel() == 0:
        raise InvalidArgumentError(f"attributions has shape {tuple(values.shape)}: give (C, H, W).")
    if values.is_complex():
        raise InvalidArgumentError(f"attributions is {values.dtype}: give real numbers, for instance its abs().")
    if not 0 < percentile <= 100:
        raise InvalidArgumentError(f"percentile={percentile!r} was given: it must be above 0 and at most 100.")
    strength = values.detach().cpu().double().abs().sum(0).numpy()
    if not np.isfinite(strength).all():
        raise InvalidArgumentError("attributions holds NaN or infinite values, which have no colour.")
    limit = float(np.percentile(strength, percentile)) or float(strength.max())
    return ScaledMap(np.clip(strength / limit, 0.0, 1.0) if limit else strength, limit)


def attribution_figure(
    image: Tensor | ArrayLike,
    attributions: Mapping[str, Tensor | ArrayLike],
    title: str = "",
    captions: Mapping[str, str] | None = None,
    percentile: float = 99.0,
) -> Figure:
    """Draw an image, and beside it for each method the map and, below, the map over the image.

    Each map has a scale of its own, stated under it, so that methods are compared by where they look.

    Parameters
    ----------
    image
        Shape (C, H, W) with 1 or 3 channels, values in [0, 1].
    attributions
        From a method's name to its attributions of shape (C, H, W).
    title
        Above everything.
    captions
        From a method's name to a line below its overlay.
    percentile
        See `scaled_map`.

    Returns
    -------
    Figure
        To be saved with ``figure.savefig(FILE)``.

    Raises
    ------
    InvalidArgumentError
        No method, or attributions that `scaled_map` refuses.

    Examples
    --------
    >>> import torch
    >>> figure = attribution_figure(torch.rand(3, 8, 8), {"IDGI": torch.rand(3, 8, 8)})
    >>> [axes.get_title() for axes in figure.axes if axes.get_title()]
    ['input', 'IDGI']
    """
    if not attributions:
        raise InvalidArgumentError("no attributions were given: give at least one method's.")
    pixels = as_pixels(image)
    figure = _figure(rows=2, columns=1 + len(attributions))
    grid = figure.subplots(2, 1 + len(attributions), squeeze=False)
    draw_image(grid[0, 0], pixels, "input")
    _draw_scale(grid[1, 0], percentile)
    for column, (name, attribution) in enumerate(attributions.items(), start=1):
        scaled = scaled_map(attribution, percentile)
        draw_map(grid[0, column], scaled, name)
        grid[0, column].set_xlabel(f"1 = {scaled.limit:.2g} per pixel", fontsize=8)
        draw_overlay(grid[1, column], scaled, pixels)
        grid[1, column].set_xlabel(plain((captions or {}).get(name, "")), fontsize=8)
    if title:
        figure.suptitle(plain(title), fontsize=11)
    return figure


def attribution_grid(
    images: Tensor | npt.NDArray[Any],
    attributions: Mapping[str, Tensor | npt.NDArray[Any]],
    labels: Sequence[str] = (),
    title: str = "",
    percentile: float = 99.0,
) -> Figure:
    """Draw several images in a row, and below them a row of maps for each method, with the outlines of the image.

    Each map has a scale of its own.

    Parameters
    ----------
    images
        Shape (N, C, H, W) with 1 or 3 channels, values in [0, 1].
    attributions
        From a method's name to its attributions of shape (N, C, H, W).
    labels
        One for each image.
    title
        Above everything.
    percentile
        See `scaled_map`.

    Raises
    ------
    InvalidArgumentError
        No image or no method, not as many attributions or labels as images, or what `scaled_map` refuses.

    Examples
    --------
    >>> import torch
    >>> figure = attribution_grid(torch.rand(4, 1, 8, 8), {"IG": torch.rand(4, 1, 8, 8)})
    >>> len(figure.axes)
    8
    """
    _check_of_each_image(len(images), attributions, labels)
    figure = _figure(rows=1 + len(attributions), columns=len(images), panel_inches=1.1, caption_inches=0.0)
    grid = figure.subplots(1 + len(attributions), len(images), squeeze=False)
    for column, image in enumerate(images):
        pixels = as_pixels(image)
        draw_image(grid[0, column], pixels, labels[column] if labels else "")
        for axes, attribution in zip(grid[1:, column], attributions.values(), strict=True):
            draw_map(axes, scaled_map(attribution[column], percentile))
            # Outlines of the image, without which nobody sees where on it a map is bright.
            grey = pixels.mean(2)
            if grey.min() < 0.5 < grey.max():
                axes.contour(grey, levels=(0.5,), colors="white", linewidths=0.8, alpha=0.8)
    for axes, name in zip(grid[:, 0], ("input", *attributions), strict=True):
        axes.set_ylabel(plain(name), fontsize=9)
    if title:
        figure.suptitle(plain(title), fontsize=10)
    return figure


def attribution_rows(
    images: Tensor | npt.NDArray[Any],
    attributions: Mapping[str, Tensor | npt.NDArray[Any]],
    labels: Sequence[str] = (),
    overlay: str | None = None,
    note: str = "",
    percentile: float = 99.0,
) -> Figure:
    """Draw a row for each image: the image, each method's map, and one of the maps over the image.

    Each map has a scale of its own.

    Parameters
    ----------
    images
        Shape (N, C, H, W) with 1 or 3 channels, values in [0, 1].
    attributions
        From a method's name to its attributions of shape (N, C, H, W).
    labels
        One for each image, to the left of it.
    overlay
        The method whose map is laid over the image in the last column; None leaves the column out.
    note
        Below everything, such as who took the photographs.
    percentile
        See `scaled_map`.

    Raises
    ------
    InvalidArgumentError
        As for `attribution_grid`; or ``overlay`` is none of the methods.

    Examples
    --------
    >>> import torch
    >>> figure = attribution_rows(torch.rand(2, 3, 8, 8), {"IG": torch.rand(2, 3, 8, 8)}, overlay="IG")
    >>> len(figure.axes), figure.axes[0].get_title()
    (6, 'input')
    """
    if overlay is not None and overlay not in attributions:
        raise InvalidArgumentError(f"overlay={overlay!r} was given: it is one of {', '.join(attributions)}.")
    _check_of_each_image(len(images), attributions, labels)
    columns = 1 + len(attributions) + (overlay is not None)
    figure = _figure(rows=len(images), columns=columns, panel_inches=1.45, caption_inches=0.0)
    grid = figure.subplots(len(images), columns, squeeze=False)
    for row, image in enumerate(images):
        pixels, is_first = as_pixels(image), row == 0
        draw_image(grid[row, 0], pixels, "input" if is_first else "")
        if labels:
            grid[row, 0].set_ylabel(plain(labels[row]), fontsize=9)
        for column, (name, attribution) in enumerate(attributions.items(), start=1):
            scaled = scaled_map(attribution[row], percentile)
            draw_map(grid[row, column], scaled, name if is_first else "")
            if name == overlay:
                draw_overlay(grid[row, -1], scaled, pixels, f"overlay of\n{name}" if is_first else "")
    if note:
        figure.supxlabel(plain(note), fontsize=8)
    return figure


def _check_of_each_image(
    n_images: int, attributions: Mapping[str, Tensor | npt.NDArray[Any]], labels: Sequence[str]
) -> None:
    if not n_images or not attributions:
        raise InvalidArgumentError(
            f"{n_images} images and attributions of {len(attributions)} methods were given: give at least one of each."
        )
    counts = {f"attributions of {name!r}": len(of_method) for name, of_method in attributions.items()}
    if len(labels):
        counts["labels"] = len(labels)
    for what, count in counts.items():
        if count != n_images:
            raise InvalidArgumentError(f"{count} {what} were given for {n_images} images: give one for each.")


def draw_image(axes: Axes, pixels: Array, title: str = "") -> None:
    """Draw an image of shape (H, W, C), values in [0, 1]."""
    axes.imshow(pixels if pixels.shape[2] == 3 else pixels[..., 0], cmap="gray", vmin=0, vmax=1)
    _finish(axes, title)


def draw_map(axes: Axes, scaled: ScaledMap, title: str = "") -> None:
    """Draw a map as a heat map."""
    _draw_with_captum(axes, scaled, None, "heat_map", alpha=1.0)
    _finish(axes, title)


def draw_overlay(axes: Axes, scaled: ScaledMap, pixels: Array, title: str = "") -> None:
    """Draw a map over the grey image, opaque where it is strong."""
    _draw_with_captum(axes, scaled, 0.75 * pixels, "blended_heat_map", alpha=scaled.values**0.5)
    _finish(axes, title)


def _draw_with_captum(axes: Axes, scaled: ScaledMap, pixels: Array | None, method: str, alpha: float | Array) -> None:
    if scaled.limit == 0:
        # Captum cannot scale a map without any attribution.
        axes.imshow(scaled.values if pixels is None else pixels.mean(2), cmap="gray", vmin=0, vmax=1)
        return
    captum_visualization.visualize_image_attr(
        scaled.values[..., None],
        pixels,
        method=method,
        sign="absolute_value",
        plt_fig_axis=(axes.figure, axes),
        outlier_perc=1e-9,  # the map is clipped already, and 0 fails where the sum rounds up
        cmap=COLOUR_MAP,
        alpha_overlay=alpha,
        use_pyplot=False,
    )


def _draw_scale(axes: Axes, percentile: float) -> None:
    axes.axis("off")
    bar = axes.inset_axes((0.08, 0.56, 0.84, 0.07))
    colours = ScalarMappable(Normalize(0.0, 1.0), COLOUR_MAP)
    scale = axes.figure.colorbar(colours, cax=bar, orientation="horizontal", ticks=(0.0, 1.0))
    scale.ax.set_xticklabels(["0", "1"], fontsize=8)
    clipped = "" if percentile == 100 else f"\nbrightest {100 - percentile:g} % of the pixels clipped"
    axes.text(0.5, 0.36, f"|attribution|, summed over channels{clipped}", ha="center", va="top", fontsize=8)


def _figure(rows: int, columns: int, panel_inches: float = 2.6, caption_inches: float = 0.25) -> Figure:
    height = rows * (panel_inches + caption_inches) + 0.4
    return Figure(figsize=(columns * panel_inches, height), dpi=110, layout="constrained")


def _finish(axes: Axes, title: str) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    if title:
        axes.set_title(plain(title), fontsize=10)


def as_pixels(image: Tensor | ArrayLike) -> Array:
    """Return an image of shape (C, H, W), C 1 or 3, as (H, W, C) with values clipped to [0, 1]."""
    values = torch.as_tensor(image)
    if values.dim() != 3 or values.shape[0] not in (1, 3):
        raise InvalidArgumentError(f"the image has shape {tuple(values.shape)}: give (1, H, W) or (3, H, W).")
    if not values.is_floating_point() and values.numel() and int(values.max()) > 1:
        raise InvalidArgumentError(
            f"the image holds integers up to {int(values.max())}, and all above 1 would be white: divide them by 255."
        )
    pixels: Array = values.detach().cpu().double().clamp(0.0, 1.0).permute(1, 2, 0).numpy()
    return pixels
