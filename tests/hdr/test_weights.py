"""Weights files: what is saved is loaded, and nothing else is."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from hdr.nn.generator import PRESETS, Generator
from hdr.weights import bundled_presets, load_generator, save_generator
from tests.hdr.generators import random_generator


def resaved(path, tensors=None, **metadata):
    """Rewrite a weights file with other tensors or metadata."""
    known = {"format": "hdr-generator-3", "preset": "tiny", "config": json.dumps(Generator.from_preset("tiny").config)}
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
    assert not bool(generator.denoiser.body[-1].weight.any())


def test_generators_of_the_version_before_are_told_apart(weights):
    resaved(weights, format="hdr-generator-2")
    with pytest.raises(ValueError, match="not of an HDR generator"):
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
