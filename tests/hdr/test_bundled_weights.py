"""The weights that come with the package."""

from pathlib import Path

import pytest

import hdr.weights
from hdr.merge import Merger
from hdr.nn.generator import Generator
from hdr.radiometry import mu_law
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
