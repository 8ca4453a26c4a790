"""What differs between exposures without motion: clipping, and what JPEG does to colours."""

import math

import pytest
import torch

from hdr.calibration import Calibration
from hdr.difference import clipped_itself, clipping_value, expected_variance, squared_difference
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
