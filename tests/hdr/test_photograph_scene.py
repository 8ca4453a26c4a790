"""The photographed scene: a place, things that move, and a camera whose curve is not gamma 2.2."""

import pytest
import torch

from hdr.baselines import weighted_merge
from hdr.metrics import psnr_mu
from hdr.photograph_scene import EXPOSURES, photograph_scene
from hdr.scene import DynamicScene


@pytest.fixture(scope="module")
def scene() -> DynamicScene:
    return photograph_scene()


def test_scene_is_a_bracket_with_its_truth(scene: DynamicScene) -> None:
    bracket, truth = scene
    assert truth.shape == (3, *bracket.size)
    assert 0 <= float(truth.min()) < float(truth.max()) <= 1
    torch.testing.assert_close(bracket.exposures, torch.tensor(EXPOSURES), rtol=0.1, atol=0)
    torch.testing.assert_close(bracket.ldr * 255, (bracket.ldr * 255).round(), rtol=0, atol=1e-3)


def test_the_reference_shows_the_truth_as_far_as_it_is_not_clipped(scene: DynamicScene) -> None:
    bracket, truth = scene
    shown = (bracket.reference.amax(dim=0) < 0.9) & (truth.amin(dim=0) > 0.01)
    ratio = (bracket.radiance(1) / truth)[:, shown]
    assert ratio.median().item() == pytest.approx(1.0, abs=0.1)


def test_the_reference_loses_what_the_short_exposure_has(scene: DynamicScene) -> None:
    lost = [float((image.amax(dim=0) > 0.99).float().mean()) for image in scene.bracket.ldr]
    assert lost[0] < 0.05
    assert 0.05 < lost[1] < 0.2 < lost[2]


def test_motion_leaves_ghosts_in_a_merge_without_alignment(scene: DynamicScene) -> None:
    bracket, truth = scene
    ghosts = float(psnr_mu(weighted_merge(bracket).clamp(0, 1), truth))
    reference = float(psnr_mu(bracket.radiance(1), truth.clamp_max(0.25)))
    assert ghosts < reference


def test_scene_is_repeatable_and_the_seed_is_that_of_the_noise(scene: DynamicScene) -> None:
    before = torch.get_rng_state()
    again, other = photograph_scene(), photograph_scene(seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(scene.bracket.ldr, again.bracket.ldr)
    assert torch.equal(scene.radiance, other.radiance)
    assert not torch.equal(scene.bracket.ldr, other.bracket.ldr)
