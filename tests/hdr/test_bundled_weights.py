"""The weights that come with the package."""

from pathlib import Path

import pytest
import torch

import hdr.weights
from hdr.merge import Merger
from hdr.metrics import psnr_l, psnr_mu
from hdr.nn.generator import Generator
from hdr.photograph_scene import photograph_scene
from hdr.radiometry import mu_law
from hdr.scene import dynamic_scene
from hdr.weights import bundled_presets, load_generator
from tests.hdr.brackets import photographed, textured

FOLDER = Path(hdr.weights.__file__).parent / "_weights"
LARGEST_FILE = 4 * 1024**2


def test_bundled_weights_are_small_and_have_a_card() -> None:
    files = sorted(FOLDER.glob("*.safetensors"))
    assert [file.stem for file in files] == sorted(bundled_presets())
    assert "small" in bundled_presets()
    assert all(file.stat().st_size <= LARGEST_FILE for file in files)
    card = (FOLDER / "MODEL_CARD.md").read_text()
    assert all(file.name in card for file in files)


@pytest.mark.parametrize("preset", bundled_presets())
def test_bundled_weights_are_those_of_their_preset(preset: str) -> None:
    assert load_generator(preset, preset=preset).config == Generator.from_preset(preset).config


@pytest.mark.parametrize("preset", bundled_presets())
def test_tiles_of_bundled_weights_do_not_show(preset: str) -> None:
    scene = textured(32, 330, brightest=1.2)
    instants = [scene, scene, scene.clone()]
    instants[2][..., 165:] = scene[..., 165:].roll(4, dims=-1)
    bracket = photographed(instants, noise=2e-3)
    whole, tiled = (mu_law(Merger(preset, "cpu", tile=tile)(bracket, "off")) for tile in (768, 64))
    assert float((whole - tiled).abs().max()) < 1e-3


def test_bundled_weights_merge_a_fixed_bracket_as_when_they_were_bundled() -> None:
    # Means of the mu-law domain, read off once: other weights, another prior or another network moves them. At the last
    # place physics alone gives (0.8679, 0.8805, 0.8929).
    bracket = dynamic_scene(96, 128, seed=3).bracket
    merged = mu_law(Merger("small", device="cpu")(bracket, "off"))
    expected = [
        (merged, (0.6404, 0.6228, 0.5975)),
        (merged[:, 20:24, 60:64], (0.9174, 0.9452, 0.9719)),
        (merged[:, 70:74, 30:34], (0.5944, 0.5812, 0.5701)),
        (merged[:, 20:24, 24:28], (0.9081, 0.9346, 0.9616)),
    ]
    for part, means in expected:
        torch.testing.assert_close(part.mean(dim=(1, 2)), torch.tensor(means), rtol=0, atol=2e-3)


def test_bundled_weights_are_no_worse_than_physics_on_a_photographed_place() -> None:
    scene = photograph_scene()
    trained, physics = (Merger(weights, device="cpu")(scene.bracket).clamp(0, 1) for weights in ("small", "none"))
    assert float(psnr_mu(trained, scene.radiance)) > float(psnr_mu(physics, scene.radiance)) - 0.1
    assert float(psnr_l(trained, scene.radiance)) > float(psnr_l(physics, scene.radiance))
