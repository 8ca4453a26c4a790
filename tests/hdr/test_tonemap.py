"""Tone mapping: the published formulas, pixel by pixel, in float64."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hdr.tonemap import tonemap, tonemap_mu_law, tonemap_reinhard


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


def test_reinhard_does_not_depend_on_the_scale_of_radiance():
    torch.testing.assert_close(tonemap_reinhard(scene() * 1e3), tonemap_reinhard(scene()))


@given(st.floats(0.0, 1.0))
def test_mu_law_is_its_formula(value):
    mapped = float(tonemap_mu_law(torch.tensor(value, dtype=torch.float64)))
    assert mapped == pytest.approx(math.log(1 + 5000 * value) / math.log(5001), abs=1e-9)


@pytest.mark.parametrize("operator", ["reinhard", "mu-law"])
@pytest.mark.parametrize("value", [0.0, 1e-30, 1e6])
def test_display_values_lie_in_the_unit_interval_for_flat_scenes(operator, value):
    display = tonemap(torch.full((3, 4, 4), value), operator)
    assert bool(torch.isfinite(display).all())
    assert 0.0 <= float(display.min()) <= float(display.max()) <= 1.0


def test_batches_are_mapped_image_by_image():
    batch = torch.stack([scene(), scene() * 7 + 1])
    torch.testing.assert_close(tonemap_reinhard(batch)[1], tonemap_reinhard(batch[1]))


def test_unknown_operators_and_parameters_are_refused():
    with pytest.raises(ValueError, match="one of reinhard, mu-law, got 'filmic'"):
        tonemap(scene(), "filmic")
    with pytest.raises(ValueError, match="must be positive"):
        tonemap_reinhard(scene(), key=0.0)
    with pytest.raises(ValueError, match="shape"):
        tonemap_reinhard(torch.zeros(4, 4))
