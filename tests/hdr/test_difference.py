"""What differs between exposures without motion: clipping, and what JPEG does to colours."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from hdr.calibration import Calibration
from hdr.difference import (
    clipped_itself,
    clipping_value,
    difference_to_reference,
    expected_variance,
    squared_difference,
)
from hdr.fusion import prior
from hdr.observation import Aligned, bring_to_reference, observe
from hdr.radiometry import mu_law
from hdr.response import Response
from tests.hdr.brackets import EXPOSURES, saturated_texture

T = torch.tensor(EXPOSURES)


def test_clipping_value_is_the_lower_saturation_of_two_exposures() -> None:
    expected = torch.log1p(5000 / torch.tensor([[4.0, 4.0, 16.0]])) / math.log(5001)
    torch.testing.assert_close(clipping_value(T[None], 1), expected)


@pytest.mark.parametrize(
    ("light", "clipped"),
    [
        ([1.0, 0.98, 0.96], [True, True, False]),  # noise and JPEG leave three hundredths less of white
        ([0.5, 0.4, 0.3], [True, False, False]),  # darker than that, but something has made the pixel saturated
    ],
)
def test_of_a_saturated_pixel_the_channels_that_are_as_bright_as_white_are_clipped_themselves(
    light: list[float], clipped: list[bool]
) -> None:
    exposures = torch.tensor([1.0, 8.0])
    shown = mu_law(torch.tensor(light).view(1, 3, 1, 1) / exposures.view(2, 1, 1, 1))
    assert clipped_itself(shown, exposures).flatten(1).tolist() == [clipped, clipped]


@pytest.mark.parametrize("sigma", [1e-4, 1e-3, 4e-3, 0.013])
@pytest.mark.parametrize("light", [0.001, 0.004, 0.016, 0.06])
def test_what_is_expected_of_noise_is_what_it_makes(sigma: float, light: float) -> None:
    camera = Calibration(Response.linear(), shot=1e-12, read=sigma**2, levels=65535)
    source = torch.Generator().manual_seed(0)
    ldr = (light + sigma * torch.randn(2, 3, 96, 96, generator=source)).clamp(0, 1)
    exposures = torch.ones(2)
    aligned = bring_to_reference(observe(ldr, exposures, camera)[None], torch.zeros(1, 2, 2, 96, 96), 0)
    found = float(squared_difference(aligned, aligned.noise, exposures.view(1, 2, 1, 1, 1), 0)[:, 1].mean())
    expected = float(expected_variance(aligned, aligned.noise, 0)[:, 1].mean())
    # What noise would have made darker than black is black, and tells less of it.
    assert 0.95 * found < expected < (2 if light > 3 * sigma else 30) * found


def test_what_sharpening_has_blackened_is_as_the_long_exposure_shows_it() -> None:
    # Two by two pixels beside a lamp, in a reference with little noise that nothing moves in.
    camera = Calibration(Response.linear(), shot=1e-12, read=0.003**2, levels=65535)
    ldr = torch.full((3, 3, 40, 40), 0.006) * T.view(3, 1, 1, 1)
    ldr[1, :, 20:22, 20:22] = 0
    observed = observe(ldr, T, camera, still=(True, False, True))[None]
    aligned = bring_to_reference(observed, torch.zeros(1, 3, 2, 40, 40), 1)
    assert float(prior(aligned, T[None], 1).softmax(dim=1)[0, 2, :, 20:22, 20:22].min()) > 0.7


@pytest.mark.parametrize(("subsampled", "believed"), [(True, True), (False, False)])
def test_what_a_jpeg_adds_to_the_dark_channel_of_a_texture_is_no_motion(subsampled: bool, believed: bool) -> None:
    # A yellow texture without any blue: by half the resolution of colour its blue gets what its brightness has of
    # detail, the reference more of it than the longer exposure, which shows the same light.
    source = torch.Generator().manual_seed(1)
    light = 0.02 * (1 + 0.9 * torch.sin(7 * torch.rand(1, 3, 40, 40, generator=source)))
    light[:, 2] = 1e-6
    values = Response.srgb().to_ldr(torch.cat([light, 4 * light, 8 * light]))
    values[1, 2] += 0.25 * torch.rand(40, 40, generator=source) * values[1, 0]
    exposures = torch.tensor([1.0, 4.0, 8.0])
    observed = observe(values, exposures, saturated_texture(subsampled))[None]
    aligned = bring_to_reference(observed, torch.zeros(1, 3, 2, 40, 40), 1)
    weights = prior(aligned, exposures[None], 1).softmax(dim=1)
    assert (float(weights[0, 2, 2, 8:-8, 8:-8].mean()) > 0.5) == believed
    # What differs in all channels is motion all the same.
    moved = values.clone()
    moved[2] = values[2].flip(-1)
    aligned = bring_to_reference(
        observe(moved, exposures, saturated_texture(subsampled))[None], torch.zeros(1, 3, 2, 40, 40), 1
    )
    assert float(prior(aligned, exposures[None], 1).softmax(dim=1)[0, 2, 2, 8:-8, 8:-8].mean()) < 0.1


def test_a_channel_that_was_only_mixed_with_a_clipped_one_is_no_evidence_of_motion() -> None:
    # A red jacket: red has clipped in the sensor, at 1 of 2.5, and left green and blue of the reference too bright.
    matrix = torch.tensor([[1.4, -0.4, 0.0], [-0.2, 1.3, -0.1], [0.0, -0.3, 1.3]])
    jacket, exposures = torch.tensor([0.6, 0.05, 0.04]), torch.tensor([[1.0, 4.0]])
    sensor = torch.linalg.solve(matrix, 4 * jacket)
    spoilt = (matrix @ sensor.clamp_max(1)).clamp_max(1) / 4
    assert 1.6 * jacket[1] < spoilt[1]
    light = torch.stack([jacket, spoilt]).view(1, 2, 3, 1, 1).repeat(1, 1, 1, 20, 20)
    saturation, one = torch.zeros(1, 2, 3, 20, 20), torch.ones(1, 2, 1, 20, 20)
    saturation[:, 1, 0] = 1.0
    mixing = torch.cat([matrix, torch.zeros(3, 1)], dim=1)[None]
    noise = 1e-3 * one.expand(1, 2, 3, 20, 20)
    aligned = Aligned(mu_law(light), saturation, 0.004 * one, noise, one, 0 * one, mixing)
    # Blue has nothing of red.
    assert float(prior(aligned, exposures, 1).softmax(dim=1)[:, 0, :2].min()) > 0.9
    # But what is too dark to have clipped red is something else.
    light[:, 0] /= 4
    weights = prior(aligned._replace(tone_mapped=mu_law(light)), exposures, 1).softmax(dim=1)
    assert float(weights[:, 0].max()) < 0.1


def shown(light: Tensor, noise: float = 1e-4, lost: float = 0.0) -> Aligned:
    """Exposures (B, N, 3, H, W) of light that are clipped nowhere."""
    one = torch.ones_like(light[:, :, :1])
    known = (0 * light, 0.01 * one, noise * torch.ones_like(light), one, lost * one)
    return Aligned(mu_law(light), *known)


def test_a_difference_is_of_light_up_to_where_the_first_of_two_exposures_clips() -> None:
    light = torch.rand(2, 3, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    exposures = torch.tensor([[1.0, 4.0, 16.0], [1.0, 2.0, 8.0]])
    for reference in range(3):
        found = difference_to_reference(shown(light), exposures, reference)
        for one, index in itertools.product(range(2), range(3)):
            limit = 1 / float(torch.maximum(exposures[one, index], exposures[one, reference]))
            theirs, ours = (np.minimum(light[one, at].double().numpy(), limit) for at in (index, reference))
            expected = (np.log1p(5000 * theirs) - np.log1p(5000 * ours)) / math.log(5001)
            np.testing.assert_allclose(found[one, index].numpy(), expected, atol=1e-6)


def test_what_interpolation_leaves_below_black_is_black() -> None:
    source = torch.Generator().manual_seed(0)
    below = shown(torch.zeros(1, 2, 3, 8, 8))._replace(
        tone_mapped=0.1 * torch.rand(1, 2, 3, 8, 8, generator=source) - 0.05
    )
    black = below._replace(tone_mapped=below.tone_mapped.clamp_min(0))
    assert float((below.tone_mapped < 0).float().mean()) > 0.4
    t = torch.tensor([1.0, 4.0]).view(1, 2, 1, 1, 1)
    for found, expected in (
        (squared_difference(one, one.noise, t, 0), expected_variance(one, one.noise, 0)) for one in (below, black)
    ):
        torch.testing.assert_close(found, squared_difference(black, black.noise, t, 0))
        torch.testing.assert_close(expected, expected_variance(black, black.noise, 0))


def test_how_much_channels_tell_is_no_reason_to_learn_other_light() -> None:
    """Where one channel differs, its squared difference times how much it tells changes as the difference does."""
    light = torch.tensor([0.2, 0.1, 0.02]).view(1, 1, 3, 1, 1).repeat(1, 2, 1, 2, 2)
    light[:, 1, 2] *= 1.5
    t = torch.tensor([1.0, 2.0]).view(1, 2, 1, 1, 1)
    values, slopes = [], []
    for lost in (0.05, 0.0):
        aligned = shown(light, lost=lost)
        for part in (aligned.tone_mapped, aligned.deviation, aligned.lost_detail):
            part.requires_grad_()
        squared = squared_difference(aligned, aligned.noise, t, 0)[:, 1]
        squared.sum().backward()
        assert aligned.deviation.grad is None
        assert aligned.lost_detail.grad is None
        assert aligned.tone_mapped.grad is not None
        values.append(squared.detach()[:, 0])
        slopes.append(aligned.tone_mapped.grad[:, 1, 2])
    told = values[0] / values[1]
    assert 0.01 < float(told.mean()) < 0.9
    torch.testing.assert_close(slopes[0], told * slopes[1])
