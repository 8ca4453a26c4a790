"""Tone mapping: the published formulas, pixel by pixel, in float64."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hdr.tonemap import tonemap, tonemap_local, tonemap_mu_law, tonemap_reinhard


def scene(dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.rand(3, 5, 7, generator=torch.Generator().manual_seed(0), dtype=dtype).pow(4) * 50 + 1e-3


def naive_reinhard(radiance: torch.Tensor, key: float, white: float | None) -> torch.Tensor:
    height, width = radiance.shape[1:]
    positions = [(row, column) for row in range(height) for column in range(width)]
    luminance = {p: 0.2126 * radiance[0][p] + 0.7152 * radiance[1][p] + 0.0722 * radiance[2][p] for p in positions}
    log_average = math.exp(sum(math.log(value) for value in luminance.values()) / len(luminance))  # equation 1
    scaled = {p: key / log_average * float(value) for p, value in luminance.items()}  # equation 2
    white = max(scaled.values()) if white is None else white
    display = torch.empty_like(radiance)
    for p in positions:
        mapped = scaled[p] * (1 + scaled[p] / white**2) / (1 + scaled[p])  # equation 4
        for channel in range(3):
            display[channel][p] = min(mapped * float(radiance[channel][p]) / float(luminance[p]), 1.0) ** (1 / 2.2)
    return display


@pytest.mark.parametrize(("key", "white"), [(0.18, None), (0.36, None), (0.18, 2.0)])
def test_reinhard_is_the_published_operator(key, white):
    torch.testing.assert_close(tonemap_reinhard(scene(), key, white), naive_reinhard(scene(), key, white))


@pytest.mark.parametrize("scale", [1e3, 1e-5, 1e-7, 1e-20])
@pytest.mark.parametrize("operator", [tonemap_reinhard, tonemap_local])
def test_the_scale_of_radiance_does_not_matter(operator, scale):
    dark = scene(torch.float32)
    dark[:, :2, :3] = 0
    torch.testing.assert_close(operator(dark * scale), operator(dark), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("operator", [tonemap_reinhard, tonemap_local])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_a_black_picture_is_black(operator, dtype):
    assert torch.equal(operator(torch.zeros(3, 16, 16, dtype=dtype)).float(), torch.zeros(3, 16, 16))


def naive_local(radiance: np.ndarray, base_range: float, contrast: float, radius: int) -> np.ndarray:
    """Durand and Dorsey with the guided filter of He, Sun and Tang, window by window."""

    def mean(values: np.ndarray) -> np.ndarray:
        padded = np.pad(values, radius, mode="edge")
        size = 2 * radius + 1
        return np.array([[padded[y : y + size, x : x + size].mean() for x in range(w)] for y in range(h)])

    h, w = radiance.shape[1:]
    luminance = 0.2126 * radiance[0] + 0.7152 * radiance[1] + 0.0722 * radiance[2]
    light = np.log2(luminance)
    variance = mean(light**2) - mean(light) ** 2
    slope = variance / (variance + contrast**2)
    base = mean(slope) * light + mean((1 - slope) * mean(light))
    darkest, white = np.quantile(base, [0.005, 0.995])
    scale = min(1.0, base_range / (white - darkest))
    display = 2 ** (scale * (base - white) + (light - base))
    return np.minimum(radiance / luminance * display, 1.0) ** (1 / 2.2)


@pytest.mark.parametrize(("base_range", "contrast"), [(5.0, 1.0), (1.5, 0.4), (30.0, 1.0)])
def test_local_is_the_operator_worked_pixel_by_pixel(base_range, contrast):
    radiance = torch.rand(3, 24, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.05
    radiance[..., 14:] *= 300
    expected = naive_local(radiance.numpy(), base_range, contrast, radius=8)
    np.testing.assert_allclose(tonemap_local(radiance, base_range, contrast).numpy(), expected, atol=1e-9)


@pytest.mark.parametrize("side", [200, 900])  # 900: the base comes from a reduced picture
def test_local_keeps_small_contrast_where_reinhard_loses_it(side):
    # A checkerboard of +-0.1 EV, in shadow and in light 9 EV above.
    pattern = (torch.arange(side)[:, None] + torch.arange(side)).remainder(2) * 0.2 - 0.1
    level = torch.where(torch.arange(side) < side // 2, -9.0, 0.0)
    radiance = (pattern + level).exp2().expand(3, side, side).double()

    def contrast(display: torch.Tensor, columns: slice) -> float:
        shown = display[0, 40:-40, columns].log2() * 2.2
        return float((shown[:, 1:] - shown[:, :-1]).abs().median()) / 0.2

    def range_of(display: torch.Tensor) -> float:
        shown = display[0].log2() * 2.2
        return float(shown[:, -side // 4 : -40].mean() - shown[:, 40 : side // 4].mean())

    shadow, light = slice(40, side // 4), slice(-side // 4, -40)
    local = tonemap_local(radiance * 0.9)
    assert range_of(local) == pytest.approx(5.0, abs=0.15)
    assert contrast(local, shadow) == pytest.approx(1.0, abs=0.05)
    assert contrast(tonemap_reinhard(radiance), light) < 0.6


def test_local_does_not_depend_on_the_scale_of_radiance_and_maps_image_by_image():
    torch.testing.assert_close(tonemap_local(scene() * 1e3), tonemap_local(scene()))
    batch = torch.stack([scene(), scene() * 7 + 1])[None]
    torch.testing.assert_close(tonemap_local(batch)[0, 1], tonemap_local(batch[0, 1]))


@pytest.mark.parametrize("size", [(1, 1), (2, 1300), (1300, 3), (801, 403)])
def test_local_takes_pictures_of_any_size(size):
    display = tonemap_local(torch.rand(3, *size))
    assert display.shape == (3, *size)
    assert bool(torch.isfinite(display).all())


@given(st.floats(0.0, 1.0))
def test_mu_law_is_its_formula(value):
    mapped = float(tonemap_mu_law(torch.tensor(value, dtype=torch.float64)))
    assert mapped == pytest.approx(math.log(1 + 5000 * value) / math.log(5001), abs=1e-9)


@pytest.mark.parametrize("operator", ["reinhard", "mu-law", "local"])
@pytest.mark.parametrize("value", [0.0, 1e-30, 1e6])
def test_display_values_lie_in_the_unit_interval_for_flat_scenes(operator, value):
    display = tonemap(torch.full((3, 4, 4), value), operator)
    assert bool(torch.isfinite(display).all())
    assert 0.0 <= float(display.min()) <= float(display.max()) <= 1.0


def test_batches_are_mapped_image_by_image():
    batch = torch.stack([scene(), scene() * 7 + 1])
    torch.testing.assert_close(tonemap_reinhard(batch)[1], tonemap_reinhard(batch[1]))


def test_unknown_operators_and_parameters_are_refused():
    with pytest.raises(ValueError, match="one of reinhard, mu-law, local, got 'filmic'"):
        tonemap(scene(), "filmic")
    with pytest.raises(ValueError, match="must be positive"):
        tonemap_reinhard(scene(), key=0.0)
    with pytest.raises(ValueError, match="must be positive"):
        tonemap_local(scene(), contrast=float("nan"))
    for operator in (tonemap_reinhard, tonemap_local):
        with pytest.raises(ValueError, match="shape"):
            operator(torch.zeros(4, 4))
