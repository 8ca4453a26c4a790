"""The drawn scene: what moves moves, what stands stands, and the truth is what the pictures were made of."""

import pytest
import torch

from hdr.baselines import BASELINES
from hdr.metrics import psnr_mu
from hdr.radiometry import linear_to_ldr
from hdr.scene import dynamic_scene


def test_scene_is_repeatable_and_depends_on_the_seed():
    first, again, other = dynamic_scene(96, 144), dynamic_scene(96, 144), dynamic_scene(96, 144, seed=1)
    assert torch.equal(first.bracket.ldr, again.bracket.ldr)
    assert torch.equal(first.radiance, again.radiance)
    assert not torch.equal(first.radiance, other.radiance)


def test_global_random_state_is_left_alone():
    before = torch.get_rng_state()
    dynamic_scene(64, 96)
    assert torch.equal(torch.get_rng_state(), before)


def test_reference_shows_the_true_radiance_but_for_noise():
    scene = dynamic_scene()
    expected = linear_to_ldr(scene.radiance, float(scene.bracket.exposures[1]))
    assert float((scene.bracket.reference - expected).abs().mean()) < 0.01


def test_reference_loses_highlights_that_the_short_exposure_has():
    scene = dynamic_scene()
    saturated = [(picture.amax(dim=0) == 1).float().mean() for picture in scene.bracket.ldr]
    assert saturated[0] < 0.02 < 0.05 < saturated[1] < 0.25 < saturated[2] + 0.05


def test_motion_leaves_ghosts_in_a_merge_without_alignment():
    scene = dynamic_scene()
    assert float(psnr_mu(BASELINES["weighted merge"](scene.bracket), scene.radiance)) < 28


def test_pictures_are_8_bit():
    levels = dynamic_scene(64, 96).bracket.ldr * 255
    torch.testing.assert_close(levels, levels.round(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("size", [(64, 64), (65, 201), (200, 70)])
def test_any_size_of_64_pixels_or_more(size):
    scene = dynamic_scene(*size)
    assert scene.radiance.shape == (3, *size)
    assert scene.bracket.size == size
    assert 0 <= float(scene.radiance.min()) < float(scene.radiance.max()) <= 1


def test_smaller_sizes_are_refused():
    with pytest.raises(ValueError, match="at least 64 x 64 pixels, got 63 x 100"):
        dynamic_scene(63, 100)
