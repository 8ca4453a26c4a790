"""The denoiser against its formula, pixel by pixel in float64, and what holds of it whatever it has learned."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from hdr.nn.denoising import Denoiser, _asinh, _network_input, _towards_neighbours
from tests.hdr.naive import naive_blur

REACH = 20
"""Pixels: the sixteen that the network sees, and four to the farthest neighbour of a colour."""


def random_denoiser(colours: float = 1.0) -> Denoiser:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        denoiser = Denoiser(channels=8)
        torch.nn.init.normal_(denoiser.kernels.weight)
        torch.nn.init.normal_(denoiser.strengths.weight)
        torch.nn.init.normal_(denoiser.colour_kernels.weight, std=colours)
        torch.nn.init.normal_(denoiser.colour_strengths.weight)
    return denoiser.requires_grad_(False)


def inputs_of(height: int = 24, width: int = 30, seed: int = 0) -> list[Tensor]:
    """Radiance, noise, deviation, noise of linear light, share and saturation."""
    source = torch.Generator().manual_seed(seed)
    drawn = [torch.rand(2, 3, height, width, generator=source) for _ in range(5)]
    return [drawn[0], 0.02 * drawn[1], 0.05 * drawn[2], 1e-4 * drawn[1], drawn[3], drawn[4]]


def test_untrained_it_changes_nothing() -> None:
    inputs = inputs_of()
    assert torch.equal(Denoiser()(*inputs), inputs[0])


def test_features_begin_as_large_as_what_comes_in_and_without_a_bias() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        hidden = Denoiser().features
    seen = torch.randn(1, 60, 40, 40, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert 0.5 < float(hidden(seen).square().mean().sqrt()) < 2
        assert not bool(hidden(torch.zeros_like(seen)).any())


@pytest.mark.parametrize("step", [1, 2, 3])
def test_every_pixel_moves_towards_its_neighbours_by_its_own_kernel(step: int) -> None:
    source = torch.Generator().manual_seed(1)
    radiance, kernels, strengths = (torch.randn(1, n, 6, 8, generator=source).double() for n in (3, 24, 3))
    of_kernels, of_strengths = (torch.nn.functional.pixel_unshuffle(maps, 2) for maps in (kernels, 4 * strengths))
    found = _towards_neighbours(radiance, of_kernels, of_strengths, step)[0].numpy()
    reach = 2 * step
    padded = np.pad(radiance[0].numpy(), ((0, 0), (reach, reach), (reach, reach)), mode="edge")
    offsets = [(step * dy, step * dx) for dy in range(-2, 3) for dx in range(-2, 3) if (dy, dx) != (0, 0)]
    for channel in range(3):
        for row in range(6):
            for column in range(8):
                z = kernels[0, :, row, column].numpy()
                strength = np.clip(4 * float(strengths[0, channel, row, column]), -6, 6)
                weights = z / (math.exp(-strength) + np.abs(z).sum())
                centre = padded[channel, row + reach, column + reach]
                neighbours = [padded[channel, row + reach + dy, column + reach + dx] for dy, dx in offsets]
                expected = sum(w * (y - centre) for w, y in zip(weights, neighbours, strict=True))
                assert found[channel, row, column] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("height", "width"), [(24, 30), (21, 19)])
def test_what_is_done_is_what_was_computed_but_for_a_bound(height: int, width: int) -> None:
    denoiser, inputs = random_denoiser().double(), [part.double() for part in inputs_of(height, width)]
    noise, deviation = inputs[1], _blurred(inputs[2])
    bound = 2 * np.minimum(noise.numpy(), deviation.numpy()) + 1e-6
    seen = _network_input(inputs[0], noise + 5e-4, deviation + 5e-4, *inputs[4:])
    even = np.pad(seen.numpy(), ((0, 0), (0, 0), (0, height % 2), (0, width % 2)), mode="edge")
    features = denoiser.features(torch.nn.functional.pixel_unshuffle(torch.from_numpy(even), 2))
    whole = torch.from_numpy(np.pad(inputs[0].numpy(), ((0, 0), (0, 0), (0, height % 2), (0, width % 2)), mode="edge"))
    once = _towards_neighbours(whole, denoiser.kernels(features), denoiser.strengths(features))
    outputs = denoiser.colour_kernels(features), denoiser.colour_strengths(features)
    again = _towards_neighbours(whole + once, *outputs, step=2).numpy()
    # The colours alone: what is added is 0 in the mean of the channels.
    moved = (once.numpy() + again - again.mean(axis=1, keepdims=True))[..., :height, :width]
    light = (5001 ** inputs[0].numpy() - 1) / 5000
    brighter = light + 2 * inputs[3].numpy() * np.minimum(deviation.numpy() / noise.numpy(), 1)
    darkened = np.minimum(np.log1p(5000 * brighter) / math.log(5001) - inputs[0].numpy(), 2 * inputs[2].numpy())
    upwards = np.maximum(bound, darkened)
    bound = np.where(moved > 0, upwards, bound)
    expected = bound * np.tanh(moved / bound)
    np.testing.assert_allclose((denoiser(*inputs) - inputs[0]).numpy(), expected, atol=1e-6)
    assert np.abs(expected).max() > 0.02


def _blurred(maps: Tensor) -> Tensor:
    return torch.from_numpy(np.stack([[naive_blur(one, 2.0) for one in image] for image in maps.numpy()]))


def test_the_network_sees_detail_in_units_of_the_noise() -> None:
    inputs = [part.double() for part in inputs_of()]
    del inputs[3]  # the noise of light bounds what is done, and is not looked at
    radiance, noise, deviation, share, saturation = (part[1].numpy() for part in inputs)
    seen = _network_input(*inputs)[1].numpy()
    detail = radiance - np.stack([naive_blur(channel, 2.0) for channel in radiance])
    np.testing.assert_allclose(seen[:3], np.arcsinh(detail / noise), atol=1e-6)
    np.testing.assert_allclose(seen[3:6], np.arcsinh(detail / deviation), atol=1e-6)
    np.testing.assert_allclose(seen[6:9], radiance - 0.5)
    np.testing.assert_allclose(seen[9:12], np.log2(noise) + 8, atol=1e-6)
    np.testing.assert_allclose(seen[12], np.log2(deviation.mean(axis=0)) + 8, atol=1e-6)
    np.testing.assert_allclose(seen[13], share.mean(axis=0))
    np.testing.assert_allclose(seen[14], saturation.max(axis=0))


def test_detail_is_compressed_by_an_inverse_hyperbolic_sine_that_has_its_slope_everywhere() -> None:
    values = torch.cat(
        [torch.linspace(-2000, 2000, 1001), torch.linspace(-1, 1, 1001), torch.zeros(1)]
    ).requires_grad_()
    compressed = _asinh(values)
    (slope,) = torch.autograd.grad(compressed.sum(), values)
    exact = values.detach().double()
    torch.testing.assert_close(compressed.double(), exact.asinh(), rtol=0, atol=1e-6)
    torch.testing.assert_close(slope.double(), (exact.square() + 1).rsqrt(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("colours", [0.0, 1.0])
def test_what_is_flat_stays_and_no_pixel_moves_farther_than_its_neighbours_or_twice_the_noise(colours: float) -> None:
    denoiser, inputs = random_denoiser(colours), inputs_of()
    flat = denoiser(torch.full_like(inputs[0], 0.4), *inputs[1:])
    torch.testing.assert_close(flat, torch.full_like(flat, 0.4), atol=1e-6, rtol=0)
    padded = torch.nn.functional.pad(inputs[0], (2, 2, 2, 2), mode="replicate")
    highest, lowest = (torch.nn.functional.max_pool2d(sign * padded, 5, 1) for sign in (1, -1))
    farthest = torch.maximum(highest - inputs[0], lowest + inputs[0])
    for times in (1.0, 100.0):
        noise, deviation, light_noise = (times * part for part in inputs[1:4])
        moved = denoiser(inputs[0], noise, deviation, light_noise, *inputs[4:]) - inputs[0]
        assert float(moved.abs().max()) > 0.02
        # Colours are moved by what lies farther away, too.
        assert colours or bool((moved.abs() <= farthest + 1e-6).all())
        light = (5001 ** inputs[0].double() - 1) / 5000
        for sigma, share in ((noise, 1.0), (_blurred(deviation), (_blurred(deviation) / noise).clamp_max(1))):
            # What noise has darkened was brighter by that in light, which is more where it is dark.
            darkened = torch.log1p(5000 * (light + 2 * share * light_noise)) / math.log(5001) - inputs[0]
            assert bool((moved >= -2 * sigma - 2e-6).all())
            assert bool((moved <= torch.maximum(2 * sigma, darkened) + 3e-6).all())


def test_what_noise_has_blackened_comes_back_as_far_as_the_noise_reaches() -> None:
    denoiser = Denoiser(channels=8)
    with torch.no_grad():  # every pixel is to be as its eight neighbours are
        for layer, value in ((denoiser.kernels, 1.0), (denoiser.strengths, 6.0)):
            torch.nn.init.zeros_(layer.weight)
            assert layer.bias is not None
            torch.nn.init.constant_(layer.bias, value)
    around, sigma = 0.01, 0.006
    radiance = torch.full((1, 3, 24, 24), math.log1p(5000 * around) / math.log(5001))
    noise = torch.full_like(radiance, sigma * 5000 / (1 + 5000 * around) / math.log(5001))
    radiance[..., 12, 12] = 0.0
    deviation = noise.clone()
    deviation[..., 12, 12] = 1.0  # in black the mu-law is steep
    known = noise, deviation, torch.full_like(radiance, sigma), torch.ones_like(radiance), torch.zeros_like(radiance)
    with torch.no_grad():
        found = denoiser(radiance, *known)[..., 12, 12]
    # By twice the noise black is brightened to 0.012, which is more than what is around it; tanh(1) and a little.
    bound = math.log1p(5000 * 2 * sigma) / math.log(5001)
    lies = math.log1p(5000 * around) / math.log(5001)
    torch.testing.assert_close(found, torch.full_like(found, bound * math.tanh(lies / bound)), rtol=1e-2, atol=0)
    assert float(found.min()) > 4 * float(noise.max())


@pytest.mark.parametrize(("height", "width"), [(33, 20), (20, 35), (35, 35)])
def test_odd_sizes_are_merged_as_the_even_ones_they_are_part_of(height: int, width: int) -> None:
    # Beyond what the border reaches, a row more or less at the end makes no difference.
    inputs = inputs_of(52, 54)
    whole = random_denoiser()(*inputs)
    part = random_denoiser()(*(x[..., :height, :width] for x in inputs))
    assert part.shape[-2:] == (height, width)
    inner = (..., slice(0, height - REACH), slice(0, width - REACH))
    torch.testing.assert_close(part[inner], whole[inner], atol=1e-5, rtol=0)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 7), (16, 17)])
def test_images_smaller_than_what_it_reaches_keep_their_size(height: int, width: int) -> None:
    inputs = inputs_of(height, width)
    denoised = random_denoiser()(*inputs)
    assert denoised.shape == inputs[0].shape
    assert bool(torch.isfinite(denoised).all())


def test_it_reaches_twenty_pixels() -> None:
    denoiser, inputs = random_denoiser(), inputs_of(80, 80)
    before = denoiser(*inputs)
    for part in inputs:
        changed = [other.clone() if other is part else other for other in inputs]
        which = next(i for i, other in enumerate(inputs) if other is part)
        changed[which][..., 40, 40] += 0.3
        rows, columns = (denoiser(*changed) - before).abs().amax(dim=(0, 1)).gt(1e-6).nonzero().unbind(1)
        assert rows.numel() > 0
        assert max(int((axis - 40).abs().max()) for axis in (rows, columns)) <= REACH


def test_gradients_are_those_of_differences() -> None:
    denoiser = random_denoiser().double()
    inputs = [part[:1, :, :16, :16].double() for part in inputs_of()]
    radiance = inputs[0].requires_grad_()
    output = (denoiser(*inputs) ** 2).sum()
    (gradient,) = torch.autograd.grad(output, radiance)
    step = torch.randn(radiance.shape, generator=torch.Generator().manual_seed(3)).double() * 1e-6
    with torch.no_grad():
        ends = [(denoiser(radiance + sign * step, *inputs[1:]) ** 2).sum() for sign in (1, -1)]
    assert float((ends[0] - ends[1]) / 2) == pytest.approx(float((gradient * step).sum()), rel=1e-4)


def test_it_learns_to_remove_noise_of_which_it_is_told() -> None:
    source = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        denoiser = Denoiser(channels=8, layers=1)
    clean = torch.nn.functional.interpolate(torch.rand(4, 3, 6, 6, generator=source), size=(40, 40), mode="bilinear")
    sigma = torch.full_like(clean, 0.02)
    known = (sigma, sigma, torch.zeros_like(clean), torch.ones_like(clean), torch.zeros_like(clean))
    optimizer = torch.optim.Adam(denoiser.parameters(), 5e-3)
    for _ in range(60):
        noisy = clean + sigma * torch.randn(clean.shape, generator=source)
        optimizer.zero_grad()
        ((denoiser(noisy, *known) - clean) / sigma).square().mean().backward()
        optimizer.step()
    unseen = clean.flip(-1) + sigma * torch.randn(clean.shape, generator=source)
    with torch.no_grad():
        left = (denoiser(unseen, *known) - clean.flip(-1)).std()
    assert float(left) < 0.6 * 0.02


def test_half_precision_is_close() -> None:
    denoiser, inputs = random_denoiser(), inputs_of()
    denoiser.kernels.weight.mul_(0.1)
    denoiser.strengths.weight.mul_(0.1)
    denoiser.colour_kernels.weight.mul_(0.1)
    denoiser.colour_strengths.weight.mul_(0.1)
    precise = denoiser(*inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = denoiser(*inputs)
    assert half.dtype == torch.float32
    assert 0 < float((half - precise).abs().mean()) < 0.01
    assert math.isfinite(float(half.sum()))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_what_is_flat_stays_in_half_precision_too(dtype: torch.dtype) -> None:
    denoiser, (radiance, *known) = random_denoiser(), inputs_of()
    radiance = torch.full_like(radiance, 0.4)
    with torch.autocast("cpu", dtype=dtype):
        torch.testing.assert_close(denoiser(radiance, *known), radiance, atol=1e-6, rtol=0)


def test_where_no_noise_is_expected_nothing_is_changed() -> None:
    denoiser = Denoiser()
    torch.nn.init.normal_(denoiser.kernels.weight, std=0.1)
    radiance = torch.full((1, 3, 16, 16), 0.5)
    radiance[..., 8:] = 0.7
    none = torch.zeros_like(radiance)
    denoised = denoiser(radiance, none, none, none, torch.ones_like(radiance), none)
    torch.testing.assert_close(denoised, radiance, atol=2e-6, rtol=0)
