"""``hdr train``: the fields of the settings are its options."""

from __future__ import annotations

import dataclasses
import importlib
import pickle
from pathlib import Path

import pytest

from hdr.settings import RunSettings, TrainingSettings


def test_options_are_the_fields_of_the_settings(command, tmp_path, monkeypatch):
    seen = {}

    def record(data, out, settings, run, **options):
        seen.update(options, data=data, out=out, settings=settings, run=run)
        return out / "tiny.safetensors"

    monkeypatch.setattr(importlib.import_module("hdr.training"), "train", record)
    settings = TrainingSettings(
        preset="tiny", steps=7, learning_rate=1e-3, warm_up=3, batch_size=2, crop=64, seed=5, alignment="none",
        attention=False, deep_supervision=False, square_weight=1.5, adversarial_weight=0.0, moments=1,
    )  # fmt: skip
    run = RunSettings(
        devices=2, accelerator="gpu", num_nodes=3, precision="bf16-mixed", max_time="00:01:00:00", workers=0,
        validate_every=400, validation_scenes=6, checkpoint_minutes=2.5, skip_broken=True,
    )  # fmt: skip
    options = []
    for given, default in ((settings, TrainingSettings()), (run, RunSettings())):
        for field in dataclasses.fields(given):
            value = getattr(given, field.name)
            option = field.name.replace("_", "-")
            if value != getattr(default, field.name):
                options += [f"--no-{option}"] if value is False else [f"--{option}"]
                options += [] if isinstance(value, bool) else [value]
    finished = command("train", "--data", "synthetic:photos", "--out", tmp_path, "--resume", *options)
    assert finished.exit_code == 0, finished.output
    assert seen == {
        "data": "synthetic:photos",
        "out": tmp_path,
        "settings": settings,
        "run": run,
        "resume": True,
        "weights": None,
    }
    assert f"Wrote {tmp_path / 'tiny.safetensors'}" in finished.output


def test_a_setting_that_makes_no_sense_is_one_line(command, tmp_path):
    finished = command("train", "--data", "synthetic:photos", "--out", tmp_path, "--crops-per-scene", "0")
    assert finished.exit_code == 1
    assert "crops per scene is 1 or more, got 0" in finished.output
    assert finished.stderr.count("\n") == 1


def test_what_lightning_cannot_give_is_one_line(command, tmp_path, monkeypatch):
    exceptions = importlib.import_module("lightning.fabric.utilities.exceptions")

    def refuse(*_, **__):
        raise exceptions.MisconfigurationException("no such accelerator")

    monkeypatch.setattr(importlib.import_module("hdr.training"), "train", refuse)
    finished = command("train", "--data", "synthetic:photos", "--out", tmp_path)
    assert finished.exit_code == 1
    assert finished.stderr == "Error: no such accelerator\n"


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("content", [b"", b"damaged", None])
def test_a_checkpoint_that_is_none_is_one_line_and_runs_nothing(command, tmp_path, content):
    last = tmp_path / "checkpoints" / "last.ckpt"
    last.parent.mkdir()
    last.write_bytes(pickle.dumps(Malicious(tmp_path / "trapped")) if content is None else content)
    finished = command("train", "--data", f"synthetic:{tmp_path}", "--out", tmp_path, "--resume")
    assert finished.exit_code == 1
    assert "last.ckpt: damaged, or not a checkpoint that this version of hdr train wrote" in finished.stderr
    assert finished.stderr.count("\n") == 1
    assert not (tmp_path / "trapped").exists()
