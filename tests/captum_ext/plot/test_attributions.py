"""Promises of the figures: stated scales, no global state, maps that show what they are given."""

from __future__ import annotations

import io

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from captum_ext.plot import attribution_figure, attribution_grid, attribution_rows, scaled_map


@pytest.fixture
def image() -> torch.Tensor:
    return torch.rand(3, 12, 10, generator=torch.Generator().manual_seed(0))


def panel(figure: Figure, title: str) -> np.ndarray:
    (axes,) = [axes for axes in figure.axes if axes.get_title() == title]
    return np.asarray(axes.images[-1].get_array())


def test_scale_is_the_percentile_of_absolute_sums_over_channels():
    # Pixels 1 to 100, the sums over two channels of opposite sign; numpy's 99th percentile of 1 ... 100 is 99.01.
    strength = torch.arange(1.0, 101.0).reshape(1, 10, 10)
    scaled = scaled_map(torch.cat([0.25 * strength, -0.75 * strength]), percentile=99)
    assert scaled.limit == pytest.approx(99.01)
    assert scaled.values.max() == 1.0
    assert scaled.values[0, 0] == pytest.approx(1 / 99.01)


def test_map_whose_percentile_is_zero_keeps_its_few_pixels():
    attributions = torch.zeros(1, 20, 20)
    attributions[0, 3, 4] = -2.0
    scaled = scaled_map(attributions, percentile=99)
    assert scaled.limit == 2.0
    assert scaled.values[3, 4] == 1.0


@pytest.mark.parametrize("factor", [1e-30, 1.0, 1e30])
def test_figure_shows_the_scaled_map_and_states_its_scale_whatever_the_size(image, factor, recwarn):
    attributions = factor * torch.arange(1.0, 121.0).reshape(1, 12, 10)
    figure = attribution_figure(image, {"IDGI": attributions}, percentile=100)
    np.testing.assert_allclose(panel(figure, "IDGI"), attributions[0].double().numpy() / (120 * factor), atol=1e-6)
    captions = [axes.get_xlabel() for axes in figure.axes]
    assert f"1 = {120 * factor:.2g} per pixel" in captions
    assert not recwarn.list


def test_figure_has_input_map_and_overlay_of_each_method_in_order(image):
    maps = {"IG": image - 0.5, "IDGI": image, "Blur IG": image**2}
    figure = attribution_figure(image, maps, title="eft", captions={"IG": "delta 0.1"})
    assert [axes.get_title() for axes in figure.axes if axes.get_title()] == ["input", "IG", "IDGI", "Blur IG"]
    np.testing.assert_allclose(panel(figure, "input"), image.permute(1, 2, 0).numpy(), atol=1e-6)
    overlays = [axes for axes in figure.axes if len(axes.images) == 2]
    assert len(overlays) == 3
    assert [axes.get_xlabel() for axes in overlays] == ["delta 0.1", "", ""]


def test_map_of_zeros_is_drawn(image):
    figure = attribution_figure(image, {"IDGI": torch.zeros(3, 12, 10)})
    assert panel(figure, "IDGI").max() == 0
    figure.savefig(io.BytesIO(), format="png")


def test_grid_has_a_row_for_each_method_and_a_column_for_each_picture():
    pictures = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    figure = attribution_grid(pictures, {"IG": pictures, "IDGI": pictures}, labels=list("abcd"))
    assert len(figure.axes) == 3 * 4
    assert [axes.get_ylabel() for axes in figure.axes if axes.get_ylabel()] == ["input", "IG", "IDGI"]
    assert [axes.get_title() for axes in figure.axes if axes.get_title()] == list("abcd")


def test_pyplot_is_left_alone_and_no_display_is_needed(image, monkeypatch):
    from matplotlib import pyplot

    monkeypatch.setattr(pyplot, "show", lambda: pytest.fail("a window was opened"))
    open_before, parameters = pyplot.get_fignums(), dict(matplotlib.rcParams)
    attribution_figure(image, {"IDGI": image}).savefig(io.BytesIO(), format="png")
    assert pyplot.get_fignums() == open_before
    assert dict(matplotlib.rcParams) == parameters


def test_inputs_are_not_changed(image):
    attributions = torch.randn(3, 12, 10, generator=torch.Generator().manual_seed(2))
    copies = image.clone(), attributions.clone()
    attribution_figure(image, {"IDGI": attributions})
    assert torch.equal(image, copies[0])
    assert torch.equal(attributions, copies[1])


@pytest.mark.parametrize(
    ("attributions", "percentile", "message"),
    [
        ({}, 99, "at least one method"),
        ({"a": torch.zeros(2, 3, 4, 4)}, 99, r"give \(C, H, W\)"),
        ({"a": torch.full((3, 12, 10), torch.inf)}, 99, "no colour"),
        ({"a": torch.ones(3, 12, 10)}, 0, "percentile=0"),
        ({"a": torch.ones(3, 0, 10)}, 99, r"give \(C, H, W\)"),
        ({"a": torch.ones(3, 12, 10, dtype=torch.complex64)}, 99, "give real numbers"),
    ],
)
def test_bad_input_is_refused(image, attributions, percentile, message):
    with pytest.raises(ValueError, match=message):
        attribution_figure(image, attributions, percentile=percentile)


def test_picture_with_two_channels_is_refused():
    with pytest.raises(ValueError, match=r"give \(1, H, W\) or \(3, H, W\)"):
        attribution_figure(torch.rand(2, 4, 4), {"a": torch.ones(2, 4, 4)})


def test_picture_of_eight_bits_is_refused_where_it_would_be_white(image):
    with pytest.raises(ValueError, match="divide them by 255"):
        attribution_figure((255 * image).byte(), {"a": image})
    attribution_figure(image.round().byte(), {"a": image})


@pytest.mark.parametrize("draw", [attribution_grid, attribution_rows])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attributions": {}}, "attributions of 0 methods"),
        ({"images": torch.rand(0, 3, 4, 4)}, "0 images"),
        ({"labels": ["one"]}, "1 labels were given for 2 images"),
        ({"attributions": {"a": torch.rand(1, 3, 4, 4)}}, "1 attributions of 'a' were given for 2 images"),
        ({"attributions": {"a": torch.rand(3, 3, 4, 4)}}, "3 attributions of 'a' were given for 2 images"),
    ],
)
def test_each_picture_has_its_maps_and_its_label(draw, changes, message):
    arguments = {"images": torch.rand(2, 3, 4, 4), "attributions": {"a": torch.rand(2, 3, 4, 4)}, **changes}
    with pytest.raises(ValueError, match=message):
        draw(**arguments)


@pytest.mark.parametrize("name", ["a $\\frac$ b", "$x", "_$_"])
def test_any_name_is_drawn_as_it_is(image, name):
    escaped = name.replace("$", r"\$")
    figures = [
        attribution_figure(image, {name: image}, title=name, captions={name: name}),
        attribution_grid(image[None], {name: image[None]}, labels=[name], title=name),
        attribution_rows(image[None], {name: image[None]}, labels=[name], overlay=name, note=name),
    ]
    for figure in figures:
        figure.savefig(io.BytesIO(), format="png")
        assert escaped in {text for axes in figure.axes for text in (axes.get_title(), axes.get_ylabel())}
