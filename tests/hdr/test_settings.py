"""Settings: what cannot be meant is refused where it is said, with what is allowed."""

import re
from typing import Any, get_args

import pytest

from hdr.nn.generator import PRESETS
from hdr.settings import Preset, RunSettings, TrainingSettings


def test_presets_are_those_of_the_generator() -> None:
    assert get_args(Preset) == tuple(PRESETS)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"preset": "huge"}, "preset must be tiny, small or base, got 'huge'"),
        ({"alignment": "x"}, "alignment must be deformable or none, got 'x'"),
        ({"parts": "x"}, "parts must be all or denoiser, got 'x'"),
        ({"steps": -5}, "steps is 1 or more, got -5"),
        ({"steps": 0}, "steps is 1 or more, got 0"),
        ({"batch_size": 0}, "batch size is 1 or more, got 0"),
        ({"crops_per_scene": 0}, "crops per scene is 1 or more, got 0"),
        ({"discriminator_channels": 0}, "discriminator channels is 1 or more, got 0"),
        ({"learning_rate": float("nan")}, "learning rate is 0 or more, got nan"),
        ({"learning_rate": float("inf")}, "learning rate is 0 or more, got inf"),
        ({"learning_rate": -1e-4}, "learning rate is 0 or more, got -0.0001"),
        ({"warm_up": -1}, "warm up is 0 or more, got -1"),
        ({"average_decay": 3.0}, "average decay is from 0 to 1, got 3.0"),
        ({"seed": -1}, "seed is from 0 to 4294967295, got -1"),
        ({"crop": 100}, "crop must be a multiple of 16 and at least 32, got 100"),
        ({"linear_weight": -1.0}, "linear weight is 0 or more, got -1.0"),
        ({"alignment_weight": float("nan")}, "alignment weight is 0 or more, got nan"),
        ({"adversarial_start": 1.5}, "adversarial start is from 0 to 1, got 1.5"),
        ({"moments": 0}, "moments is 1 or more, got 0"),
    ],
)
def test_training_settings_that_make_no_sense_are_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        TrainingSettings(**change)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"devices": 0}, "devices is 1 or more, -1 for all, or auto; got 0"),
        ({"num_nodes": 0}, "num nodes is 1 or more, got 0"),
        ({"kept_scenes": 0}, "kept scenes is 1 or more, got 0"),
        ({"validate_every": 0}, "validate every is 1 or more, got 0"),
        ({"validation_scenes": 0}, "validation scenes is 1 or more, got 0"),
        ({"workers": -1}, "workers is 0 or more, got -1"),
        ({"checkpoint_minutes": float("nan")}, "checkpoint minutes is 0 or more, got nan"),
        ({"checkpoint_minutes": float("inf")}, "checkpoint minutes is 0 or more, got inf"),
    ],
)
def test_run_settings_that_make_no_sense_are_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        RunSettings(**change)


@pytest.mark.parametrize("devices", [1, 4, -1, "auto", "0,1"])
def test_devices_are_as_lightning_takes_them(devices: int | str) -> None:
    assert RunSettings(devices=devices).devices == devices
