"""Weights files: what is saved is loaded, and nothing else is; and the weights that come with the package."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import hdr.weights
from hdr.merge import Merger
from hdr.metrics import psnr_l, psnr_mu
from hdr.nn.generator import PRESETS, Generator
from hdr.photograph_scene import photograph_scene
from hdr.radiometry import mu_law
from hdr.scene import dynamic_scene
from hdr.weights import bundled_presets, load_generator, save_generator
from tests.hdr.brackets import photographed, textured
from tests.hdr.generators import random_generator


def resaved(path, tensors=None, **metadata):
    """Rewrite a weights file with other tensors or metadata."""
    known = {"format": "hdr-generator-5", "preset": "tiny", "config": json.dumps(Generator.from_preset("tiny").config)}
    save_file(tensors or load_file(path), path, metadata={**known, **metadata})
    return path


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "mine.safetensors"
    save_generator(random_generator(), path)
    return path


def test_saved_generators_are_loaded_in_half_precision(tmp_path):
    original = random_generator("tiny", attention=False, alignment="none")
    save_generator(original, tmp_path / "mine.safetensors")
    loaded = load_generator(tmp_path / "mine.safetensors")
    assert loaded.config == original.config
    assert not loaded.training
    for name, tensor in original.state_dict().items():
        assert loaded.state_dict()[name].dtype == torch.float32
        torch.testing.assert_close(loaded.state_dict()[name], tensor.half().float(), rtol=0, atol=0)


def test_float32_files_are_exact(tmp_path):
    original = random_generator()
    save_generator(original, tmp_path / "mine.safetensors", dtype=torch.float32)
    loaded = load_generator(tmp_path / "mine.safetensors").state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in original.state_dict().items())


@pytest.mark.parametrize("preset", bundled_presets())
def test_bundled_weights_load_and_are_small(preset):
    assert load_generator(preset, preset=preset).config == Generator.from_preset(preset).config


def test_preset_is_checked_when_asked_for(weights):
    assert load_generator(weights, preset="tiny").config == Generator.from_preset("tiny").config
    with pytest.raises(ValueError, match="weights of preset 'tiny', but 'small' was asked for"):
        load_generator(weights, preset="small")


def test_file_with_the_tensors_of_another_preset_is_refused(weights):
    resaved(weights, config=json.dumps(Generator.from_preset("small").config))
    with pytest.raises(ValueError, match="not those of the architecture that the file states"):
        load_generator(weights)


def test_file_with_unknown_architecture_is_refused(weights):
    resaved(weights, config=json.dumps({"colour": "blue"}))
    with pytest.raises(ValueError, match="architecture is not one that this version knows"):
        load_generator(weights)


def test_safetensors_of_something_else_is_refused(weights):
    save_file({"weight": torch.ones(3)}, weights)
    with pytest.raises(ValueError, match="not of an HDR generator"):
        load_generator(weights)


@pytest.mark.parametrize("data", [b"", b"no weights", b"\x80\x02}q\x00.", b"\xff" * 64])
def test_file_that_is_not_safetensors_is_refused(tmp_path, data):
    (tmp_path / "model.ckpt").write_bytes(data)
    with pytest.raises(ValueError, match=r"model.ckpt: damaged, or not a safetensors file"):
        load_generator(tmp_path / "model.ckpt")


@pytest.mark.parametrize("kept", [0.01, 0.5, 0.99])
def test_truncated_weights_are_refused(weights, kept):
    data = weights.read_bytes()
    weights.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(ValueError, match="damaged"):
        load_generator(weights)


def test_weights_with_nan_are_refused(weights):
    tensors = load_file(weights)
    first = sorted(tensors)[0]
    tensors[first] = torch.full_like(tensors[first], float("nan"))
    with pytest.raises(ValueError, match="1 tensors hold NaN"):
        load_generator(resaved(weights, tensors))


@pytest.mark.parametrize(
    ("name", "said"), [("huge", "come with the package"), ("absent.safetensors", "no such weights")]
)
def test_missing_weights_are_named(name, said):
    with pytest.raises(FileNotFoundError, match=said):
        load_generator(name)


@pytest.mark.parametrize("preset", [None, "tiny", "small"])
def test_none_is_an_untrained_generator_of_the_preset(preset):
    generator = load_generator("none", preset)
    assert generator.config == Generator.from_preset(preset or "tiny").config
    assert not generator.training
    assert not any(parameter.requires_grad for parameter in generator.parameters())
    assert all(not bool(judge.logits.weight.any()) for judge in generator.judges)
    assert generator.denoiser is not None
    assert not bool(generator.denoiser.kernels.weight.any())


def test_generators_of_the_version_before_are_told_apart(weights):
    resaved(weights, format="hdr-generator-4")
    with pytest.raises(ValueError, match=r"of another version .*hdr-generator-4, and this one reads hdr-generator-5"):
        load_generator(weights)


def test_folder_is_refused(tmp_path):
    with pytest.raises(
        ValueError, match=f"a folder; give a .safetensors file or one of {', '.join(bundled_presets())}$"
    ):
        load_generator(tmp_path)


@pytest.mark.parametrize("as_folder", [True, False])
def test_what_lies_in_the_working_directory_does_not_stand_for_bundled_weights(tmp_path, monkeypatch, as_folder):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small").mkdir() if as_folder else (tmp_path / "small").write_text("something else")
    assert load_generator("small").config == Generator.from_preset("small").config
    with pytest.raises(ValueError, match="a folder" if as_folder else "not a safetensors file"):
        load_generator("./small")


def test_loading_and_saving_leave_the_global_random_state_alone(tmp_path):
    generator = random_generator()
    before = torch.get_rng_state()
    save_generator(generator, tmp_path / "mine.safetensors")
    load_generator(tmp_path / "mine.safetensors", preset="tiny")
    load_generator("none")
    assert torch.equal(torch.get_rng_state(), before)


def test_existing_weights_are_replaced_only_when_asked(weights):
    with pytest.raises(FileExistsError):
        save_generator(random_generator(), weights)
    save_generator(random_generator(seed=1), weights, overwrite=True)


def test_other_suffixes_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"written to .safetensors files"):
        save_generator(random_generator(), tmp_path / "mine.pt")


def test_presets_are_known_by_name():
    assert set(bundled_presets()) <= set(PRESETS)


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
    # place physics alone gives (0.8986, 0.9193, 0.9438).
    bracket = dynamic_scene(96, 128, seed=3).bracket
    merged = mu_law(Merger("small", device="cpu")(bracket, "off"))
    expected = [
        (merged, (0.6409, 0.6236, 0.5988)),
        (merged[:, 20:24, 60:64], (0.9176, 0.9453, 0.9717)),
        (merged[:, 70:74, 30:34], (0.5960, 0.5820, 0.5707)),
        (merged[:, 20:24, 24:28], (0.9068, 0.9333, 0.9596)),
    ]
    for part, means in expected:
        torch.testing.assert_close(part.mean(dim=(1, 2)), torch.tensor(means), rtol=0, atol=2e-3)
    # Denoising is in the differences of neighbours: without it they are (0.01712, 0.01871, 0.01875).
    detail = merged.diff(dim=2).abs().mean(dim=(1, 2))
    torch.testing.assert_close(detail, torch.tensor((0.01689, 0.01839, 0.01839)), rtol=0, atol=4e-5)


def test_bundled_weights_are_no_worse_than_physics_on_a_photographed_place() -> None:
    scene = photograph_scene()
    trained, physics = (Merger(weights, device="cpu")(scene.bracket).clamp(0, 1) for weights in ("small", "none"))
    assert float(psnr_mu(trained, scene.radiance)) > float(psnr_mu(physics, scene.radiance)) - 0.1
    assert float(psnr_l(trained, scene.radiance)) > float(psnr_l(physics, scene.radiance))
