import csv
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch.plugins import TorchCheckpointIO

from hdr.radiometry import exposure_stack, mu_law
from hdr.training import HdrGan, TrainingSettings, WholeCheckpoints, train
from hdr.weights import load_generator
from tests.hdr.panoramas import write_panoramas

pytestmark = pytest.mark.filterwarnings("ignore")

SMALL_RUN = {
    "crop": 32,
    "batch_size": 1,
    "workers": 0,
    "validate_every": 2,
    "devices": 1,
    "accelerator": "cpu",
    "base_channels": 8,
    "max_offset": 16,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"synthetic:{write_panoramas(tmp_path_factory.mktemp('hdri'), 6, height=32)}"


@pytest.fixture(autouse=True)
def few_validation_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hdr.data.source.VALIDATION_SCENES", 2)
    monkeypatch.setattr("hdr.data.source.VALIDATION_SIDE", 32)


def updates_in(checkpoint: Path) -> int:
    return int(torch.load(checkpoint, weights_only=False)["state_dict"]["updates"])


def test_training_can_be_silent(data: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    train(data, "tiny", tmp_path / "run", steps=2, progress=False, **SMALL_RUN)
    assert "generator" not in capfd.readouterr().out


def test_validation_can_be_kept_to_a_few_scenes(data: str, tmp_path: Path) -> None:
    train(data, "tiny", tmp_path / "run", steps=2, validation_scenes=1, **SMALL_RUN)
    assert len(list((tmp_path / "run" / "samples").glob("0000002-*.png"))) == 1


def test_a_run_leaves_weights_checkpoints_logs_and_samples(data: str, tmp_path: Path) -> None:
    weights = train(data, "tiny", tmp_path / "run", steps=4, **SMALL_RUN)
    assert weights == tmp_path / "run" / "tiny.safetensors"
    assert load_generator(weights).config["base_channels"] == 8
    checkpoints = tmp_path / "run" / "checkpoints"
    assert sorted(path.name for path in checkpoints.iterdir()) == ["best.ckpt", "last.ckpt"]
    assert updates_in(checkpoints / "last.ckpt") == 4
    with next((tmp_path / "run" / "logs" / "csv").glob("*/metrics.csv")).open() as file:
        assert sum(bool(row["val/psnr_mu"]) for row in csv.DictReader(file)) == 2
    assert list((tmp_path / "run" / "logs" / "tensorboard").glob("*/events.out.tfevents.*"))
    assert len(list((tmp_path / "run" / "samples").glob("0000004-*.png"))) == 2


def test_a_finished_run_can_be_prolonged_but_not_overwritten(data: str, tmp_path: Path) -> None:
    train(data, "tiny", tmp_path, steps=2, **SMALL_RUN)
    with pytest.raises(FileExistsError, match="already holds a run; resume it"):
        train(data, "tiny", tmp_path, steps=2, **SMALL_RUN)
    last = tmp_path / "checkpoints" / "last.ckpt"
    before = torch.load(last, weights_only=False)["state_dict"]["generator.context.weight"]
    train(data, "tiny", tmp_path, steps=6, resume=True, **SMALL_RUN)
    assert updates_in(last) == 6
    after = torch.load(last, weights_only=False)["state_dict"]["generator.context.weight"]
    assert not torch.equal(before, after)  # the rate has room to fall again


def test_a_run_starts_from_given_weights(data: str, tmp_path: Path) -> None:
    start = train(data, "tiny", tmp_path / "first", steps=1, **SMALL_RUN)
    trained = train(data, "tiny", tmp_path / "second", steps=2, weights=start, learning_rate=0.0, seed=5, **SMALL_RUN)
    for name, tensor in load_generator(start).state_dict().items():
        torch.testing.assert_close(load_generator(trained).state_dict()[name], tensor, rtol=0, atol=0, msg=name)


def test_given_weights_must_fit_the_run(data: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"of another architecture .* than preset 'tiny'"):
        train(data, "tiny", tmp_path / "run", weights="small", steps=1, **SMALL_RUN)
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match="leave out either resume or weights"):
        train(data, "tiny", tmp_path / "run", weights="small", resume=True, steps=1, **SMALL_RUN)


def test_nothing_to_resume_is_said(data: str, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing to resume"):
        train(data, "tiny", tmp_path, resume=True, **SMALL_RUN)


def test_a_file_in_the_place_of_the_run_is_refused(data: str, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("precious")
    with pytest.raises(NotADirectoryError, match="run is a file; give the name of a folder"):
        train(data, "tiny", tmp_path / "run", **SMALL_RUN)


@pytest.mark.parametrize("crop", [16, 100])
def test_crops_that_do_not_fit_the_scales_are_refused(data: str, tmp_path: Path, crop: int) -> None:
    with pytest.raises(ValueError, match=f"multiple of 16 and at least 32, got {crop}"):
        train(data, "tiny", tmp_path, **{**SMALL_RUN, "crop": crop})


_KILLED_RUN = """
import sys
from hdr.data import source
source.VALIDATION_SCENES, source.VALIDATION_SIDE = 2, 32
from hdr.training import train
train(sys.argv[1], "tiny", sys.argv[2], steps=100_000, checkpoint_minutes=0.0, **{run!r})
"""


def test_a_killed_run_goes_on_from_its_last_checkpoint(data: str, tmp_path: Path) -> None:
    run = {**SMALL_RUN, "validate_every": 1000}
    last = tmp_path / "checkpoints" / "last.ckpt"
    command = [sys.executable, "-c", _KILLED_RUN.format(run=run), data, str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while not (last.is_file() and updates_in(last) >= 3) and time.monotonic() < deadline:
            assert process.poll() is None
            time.sleep(0.05)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    before = torch.load(last, weights_only=False)
    updates = int(before["state_dict"]["updates"])
    assert updates >= 3
    more = updates + 4
    train(data, "tiny", tmp_path, steps=more, resume=True, **{**run, "validate_every": more})
    after = torch.load(last, weights_only=False)
    assert int(after["state_dict"]["updates"]) > updates
    steps = [int(next(iter(c["optimizer_states"][0]["state"].values()))["step"]) for c in (before, after)]
    assert steps[1] - steps[0] == int(after["state_dict"]["updates"]) - updates  # the optimizer was not started anew


def test_an_interrupted_save_keeps_the_checkpoint_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    checkpoints = WholeCheckpoints()
    checkpoints.save_checkpoint({"updates": 1}, path)

    def run_out_of_space(self: Any, checkpoint: Any, path: Any, storage_options: Any = None) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(TorchCheckpointIO, "save_checkpoint", run_out_of_space)
    with pytest.raises(OSError, match="No space"):
        checkpoints.save_checkpoint({"updates": 2}, path)
    assert torch.load(path, weights_only=False) == {"updates": 1}


def module_with_trainer(**settings: Any) -> HdrGan:
    """A module outside of a Trainer, as far as one update needs it."""
    torch.manual_seed(0)
    module = HdrGan(TrainingSettings(preset="tiny", warm_up=0, **settings), base_channels=8, max_offset=16)
    optimizers = module.configure_optimizers()
    module.optimizers = lambda *_: optimizers  # type: ignore[method-assign,assignment]
    module._trainer = SimpleNamespace(callbacks=[])  # type: ignore[assignment]
    module.manual_backward = lambda loss: loss.backward()  # type: ignore[method-assign,assignment]
    module.clip_gradients = lambda *_, **__: None  # type: ignore[method-assign]
    module.log = module.log_dict = lambda *_, **__: None  # type: ignore[method-assign,assignment]
    return module.train()


def batch_of_two() -> Any:
    generator = torch.Generator().manual_seed(1)
    return {
        "ldr": torch.rand(2, 3, 3, 32, 32, generator=generator),
        "exposures": torch.tensor([[1.0, 4.0, 16.0]] * 2),
        "target": torch.rand(2, 3, 32, 32, generator=generator),
    }


@pytest.mark.parametrize(("updates", "share"), [(0, 1.0), (25, 0.5 * (1 + math.sqrt(0.5))), (50, 0.5), (100, 0.0)])
def test_learning_rate_falls_as_a_cosine(updates: int, share: float) -> None:
    module = module_with_trainer(steps=100, learning_rate=2e-3)
    module.updates += updates
    module._set_learning_rates(module.progress())
    for optimizer in module._both_optimizers():
        assert optimizer.param_groups[0]["lr"] == pytest.approx(2e-3 * share, abs=1e-12)


def test_weights_are_averaged_exponentially() -> None:
    module = module_with_trainer(steps=100, average_decay=0.75, adversarial_weight=0.0)
    name = "encoder.0.0.0.weight"
    expected = None
    for _ in range(3):
        module.training_step(batch_of_two(), 0)
        weight = module.generator.state_dict()[name].clone()
        expected = weight if expected is None else 0.75 * expected + 0.25 * weight
    torch.testing.assert_close(module.averaged_generator.state_dict()[name], expected)
    assert int(module.updates) == 3


def test_the_discriminator_learns_only_after_the_warm_up() -> None:
    module = module_with_trainer(steps=10, adversarial_start=0.5, adversarial_ramp=0.2)
    assert [module._adversarial_weight(p) for p in (0.2, 0.5)] == [0.0, 0.0]
    assert module._adversarial_weight(0.6) == pytest.approx(0.5 * module.settings.adversarial_weight)
    assert module._adversarial_weight(0.9) == module.settings.adversarial_weight
    weight = module.discriminator.body[0].parametrizations.weight.original  # type: ignore[union-attr]
    before = weight.detach().clone()
    module.training_step(batch_of_two(), 0)
    assert torch.equal(weight, before)
    module.updates += 7
    module.training_step(batch_of_two(), 0)
    assert not torch.equal(weight, before)
    assert all(p.requires_grad for p in module.discriminator.parameters())


def test_training_lowers_the_loss_on_one_batch() -> None:
    module = module_with_trainer(steps=60, learning_rate=3e-3)
    batch = batch_of_two()
    stack, target = exposure_stack(batch["ldr"], batch["exposures"]), mu_law(batch["target"])

    def loss() -> float:
        return module.reconstruction_losses(stack, module.generator(stack), target)["tone_mapped_l1"].item()

    before = loss()
    for _ in range(30):
        module.training_step(batch, 0)
    assert loss() < 0.8 * before
