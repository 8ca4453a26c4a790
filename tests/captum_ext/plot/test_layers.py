"""The figure of what each layer contributed: bars that are the totals, and maps of the strongest layers."""

from __future__ import annotations

import io
import itertools

import numpy as np
import pytest
import torch

from captum_ext import FullGrad
from captum_ext.plot import layer_figure
from tests.captum_ext.small_models import pictures, smooth_cnn


def test_figure_shows_a_signed_bar_for_each_layer_and_the_maps_of_the_top_ones():
    model, x = smooth_cnn(), pictures(2)
    layers = FullGrad(model).layer_attributions(x, target=1)
    totals = {layer: found.total[1].item() for layer, found in layers.items()}
    maps = {layer: found.map[1] for layer, found in layers.items() if found.map is not None}
    bars, *panels = layer_figure(totals, maps, n_maps=2).axes
    heights = dict(
        zip((label.get_text() for label in bars.get_yticklabels()), (p.get_width() for p in bars.patches), strict=True)
    )
    assert heights == pytest.approx(totals)
    titled = [ax for ax in panels if ax.get_title()]
    strongest = sorted(maps, key=lambda name: -abs(totals[name]))
    assert [ax.get_title().splitlines()[0] for ax in titled] == strongest[:2]


def test_figure_has_room_for_long_names():
    names = [f"encoder.layers.encoder_layer_{k}.self_attention" for k in range(4)]
    maps = dict.fromkeys(names, np.ones((8, 8)))
    figure = layer_figure(dict.fromkeys(names, 1.0), maps, image=np.random.default_rng(0).random((3, 8, 8)), n_maps=4)
    figure.savefig(io.BytesIO())  # lays it out
    _, _, *panels = figure.axes
    assert panels[0].get_title() == "encoder.layers.encoder_layer_0\n.self_attention\n+1"
    titles = [axes.title.get_window_extent() for axes in panels]
    images_and_titles = [*titles, *(axes.get_window_extent() for axes in panels)]
    assert not any(box.overlaps(other) for box, other in itertools.combinations(images_and_titles, 2))


@pytest.mark.parametrize("name", ["a $\\frac$ b", "$x", "_$_"])
def test_any_name_is_drawn_as_it_is(name):
    figure = layer_figure({name: 1.0}, {name: torch.ones(4, 4)}, title=name)
    figure.savefig(io.BytesIO(), format="png")
    escaped = name.replace("$", r"\$")
    assert figure.axes[0].get_yticklabels()[0].get_text() == escaped
    assert figure.axes[1].get_title().startswith(escaped)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (({},), "no layer was given"),
        (({"a": float("nan")},), "total of 'a' is nan"),
        (({"a": torch.ones(2)},), r"total of 'a' has shape \(2,\)"),
        (({"a": 1.0}, {"b": torch.zeros(3, 4)}), "layer 'b' has a map and no total"),
        (({"a": 1.0}, {"a": torch.full((3, 4), torch.nan)}), "map of 'a' holds NaN"),
        (({"a": 1.0}, {"a": torch.zeros(2, 3, 4)}), r"map of 'a' has shape \(2, 3, 4\): give \(H, W\)"),
        (({"a": 1.0}, {}, torch.zeros(4, 4)), r"image has shape \(4, 4\): give \(1, H, W\) or"),
    ],
)
def test_refusals(arguments, message):
    with pytest.raises(ValueError, match=message):
        layer_figure(*arguments)
