"""Training: what is learned by which loss at what rate, resumed, and nothing run that a checkpoint brings."""

import csv
import math
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.plugins import TorchCheckpointIO
from torch.utils.data import default_collate

import hdr.training
from hdr._errors import RefusedError
from hdr.data.pool import ScenePool
from hdr.data.sample import make_sample
from hdr.metrics import psnr_mu
from hdr.radiometry import inverse_mu_law, mu_law
from hdr.settings import RunSettings, TrainingSettings
from hdr.training import AlikeScenes, HdrGan, WholeCheckpoints, merge_batch, train
from hdr.weights import load_generator, save_generator
from tests.hdr.brackets import photographed, textured
from tests.hdr.generators import random_generator
from tests.hdr.panoramas import write_panoramas

pytestmark = pytest.mark.filterwarnings("ignore")


def small(**settings: Any) -> TrainingSettings:
    tiny = {"preset": "tiny", "crop": 32, "batch_size": 1, "discriminator_channels": 4, "adversarial_weight": 5e-5}
    return TrainingSettings(**{**tiny, **settings})


def on_cpu(**run: Any) -> RunSettings:
    return RunSettings(**{"devices": 1, "accelerator": "cpu", "workers": 0, "validate_every": 2, **run})


def trained(data: str, out: Path, *, run: RunSettings | None = None, resume: bool = False, **settings: Any) -> Path:
    weights = settings.pop("weights", None)
    return train(data, out, small(**settings), run or on_cpu(), resume=resume, weights=weights, progress=False)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"synthetic:{write_panoramas(tmp_path_factory.mktemp('hdri'), 5, height=64)}"


@pytest.fixture(autouse=True)
def small_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hdr.data.source.VALIDATION_SCENES", 2)
    monkeypatch.setattr("hdr.data.source.VALIDATION_SIDE", 32)
    monkeypatch.setattr("hdr.data.source.TRAINING_SIDE", 32)


def updates_in(checkpoint: Path) -> int:
    return int(torch.load(checkpoint, weights_only=True)["updates"])


def test_training_is_silent_without_progress(data: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    trained(data, tmp_path / "run", steps=2)
    assert "generator" not in capfd.readouterr().out


def test_validation_can_be_kept_to_a_few_scenes(data: str, tmp_path: Path) -> None:
    trained(data, tmp_path / "run", steps=2, run=on_cpu(validation_scenes=1))
    assert len(list((tmp_path / "run" / "samples").glob("0000002-*.png"))) == 1


def test_a_run_leaves_weights_checkpoints_logs_and_samples(data: str, tmp_path: Path) -> None:
    weights = trained(data, tmp_path / "run", steps=4)
    assert weights == tmp_path / "run" / "tiny.safetensors"
    assert load_generator(weights, preset="tiny").config["base_channels"] == 12
    checkpoints = tmp_path / "run" / "checkpoints"
    assert sorted(path.name for path in checkpoints.iterdir()) == ["best.ckpt", "last.ckpt"]
    assert updates_in(checkpoints / "last.ckpt") == 4
    with next((tmp_path / "run" / "logs" / "csv").glob("*/metrics.csv")).open() as file:
        validated = [row for row in csv.DictReader(file) if row["val/psnr_mu"]]
    assert len(validated) == 2
    assert all(float(row["val/psnr_mu_untrained"]) > 0 and float(row["val/psnr_mu_reference"]) > 0 for row in validated)
    assert list((tmp_path / "run" / "logs" / "tensorboard").glob("*/events.out.tfevents.*"))
    assert len(list((tmp_path / "run" / "samples").glob("0000004-*.png"))) == 2


def test_the_exported_weights_are_the_averaged_ones(data: str, tmp_path: Path) -> None:
    weights = load_generator(trained(data, tmp_path, steps=3, average_decay=0.5, warm_up=0, learning_rate=1e-2))
    state = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    name = "judges.0.logits.weight"
    torch.testing.assert_close(weights.state_dict()[name], state[f"averaged_generator.{name}"].half().float())
    assert not torch.equal(state[f"averaged_generator.{name}"], state[f"generator.{name}"])


@pytest.mark.parametrize(("steps", "validate_every"), [(14, 5), (3, 10), (4, 1)])
def test_a_run_makes_as_many_updates_as_it_was_asked_for(
    data: str, tmp_path: Path, steps: int, validate_every: int
) -> None:
    trained(data, tmp_path, steps=steps, run=on_cpu(validate_every=validate_every, validation_scenes=1))
    assert updates_in(tmp_path / "checkpoints" / "last.ckpt") == steps


def test_a_finished_run_can_be_prolonged_but_not_overwritten(data: str, tmp_path: Path) -> None:
    trained(data, tmp_path, steps=2)
    with pytest.raises(FileExistsError, match="already holds a run; resume it"):
        trained(data, tmp_path, steps=2)
    last = tmp_path / "checkpoints" / "last.ckpt"
    before = torch.load(last, weights_only=True)["state_dict"]["generator.judges.0.logits.weight"]
    trained(data, tmp_path, steps=6, resume=True)
    assert updates_in(last) == 6
    after = torch.load(last, weights_only=True)["state_dict"]["generator.judges.0.logits.weight"]
    assert not torch.equal(before, after)  # the rate has room to fall again


def test_a_new_run_replaces_no_weights(data: str, tmp_path: Path) -> None:
    (tmp_path / "tiny.safetensors").write_bytes(b"precious")
    with pytest.raises(FileExistsError, match=r"tiny\.safetensors exists, and this run would replace it"):
        trained(data, tmp_path, steps=1)
    assert (tmp_path / "tiny.safetensors").read_bytes() == b"precious"
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.safetensors"]


def test_a_run_starts_from_given_weights(data: str, tmp_path: Path) -> None:
    start = trained(data, tmp_path / "first", steps=1)
    again = trained(data, tmp_path / "second", steps=2, weights=start, learning_rate=0.0, seed=5)
    for name, tensor in load_generator(start).state_dict().items():
        torch.testing.assert_close(load_generator(again).state_dict()[name], tensor, rtol=0, atol=0, msg=name)


def test_given_weights_must_fit_the_run(data: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="of another architecture than the run's: base_channels 24, not 12; choose"):
        trained(data, tmp_path / "run", weights="small", steps=1)
    with pytest.raises(ValueError, match="than the run's: denoising True, not False; choose"):
        trained(data, tmp_path / "run", preset="small", weights="small", denoising=False, steps=1)
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match="leave out either resume or weights"):
        trained(data, tmp_path / "run", weights="small", resume=True, steps=1)


def test_nothing_to_resume_is_said(data: str, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing to resume"):
        trained(data, tmp_path, resume=True)


def test_a_file_in_the_place_of_the_run_is_refused(data: str, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("precious")
    with pytest.raises(NotADirectoryError, match="run is a file; give the name of a folder"):
        trained(data, tmp_path / "run")


@pytest.mark.parametrize("run", [{"accelerator": "abacus"}, {"precision": "7-bit"}, {"devices": "many"}])
def test_what_lightning_does_not_have_is_refused(data: str, tmp_path: Path, run: dict[str, Any]) -> None:
    with pytest.raises(RefusedError, match=next(iter(run))):
        trained(data, tmp_path / "run", run=on_cpu(**run))


@pytest.mark.parametrize("crop", [16, 100])
def test_crops_that_do_not_fit_the_scales_are_refused(data: str, tmp_path: Path, crop: int) -> None:
    with pytest.raises(ValueError, match=f"multiple of 16 and at least 32, got {crop}"):
        trained(data, tmp_path, crop=crop)


class Malicious:
    """Pickled, it writes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


def last_of(folder: Path) -> Path:
    path = folder / "checkpoints" / "last.ckpt"
    path.parent.mkdir(parents=True)
    return path


@pytest.mark.parametrize("form", ["torch", "pickle", "inside"])
def test_nothing_that_a_checkpoint_brings_is_run(data: str, tmp_path: Path, form: str) -> None:
    trap, last = Malicious(tmp_path / "trapped"), last_of(tmp_path / "run")
    if form == "pickle":
        last.write_bytes(pickle.dumps(trap))
    else:
        updates = {"updates": torch.tensor(1)}
        content = {"hyper_parameters": {"preset": "tiny"}, "state_dict": updates, "loops": trap}
        torch.save(content if form == "inside" else trap, last)
    with pytest.raises(ValueError, match=r"last.ckpt: damaged, or not a checkpoint .* begin a new run") as refusal:
        trained(data, tmp_path / "run", resume=True, steps=2)
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "trapped").exists()


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 and then nothing", b"\x80\x02}q\x00."])
def test_damaged_checkpoints_are_told_in_one_line(data: str, tmp_path: Path, content: bytes) -> None:
    last_of(tmp_path).write_bytes(content)
    with pytest.raises(ValueError, match=r"last.ckpt: damaged, or not a checkpoint") as refusal:
        trained(data, tmp_path, resume=True, steps=2)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "content",
    [
        {"weight": torch.ones(3)},
        {"hyper_parameters": {"colour": "blue"}, "state_dict": {"updates": torch.tensor(3)}},
        {"hyper_parameters": {"preset": "tiny"}, "state_dict": {}},
        [1, 2, 3],
    ],
    ids=["weights", "other settings", "no updates", "a list"],
)
def test_checkpoints_of_another_kind_are_told_in_one_line(data: str, tmp_path: Path, content: Any) -> None:
    torch.save(content, last_of(tmp_path))
    with pytest.raises(ValueError, match=r"last.ckpt: damaged, or not a checkpoint") as refusal:
        trained(data, tmp_path, resume=True, steps=2)
    assert "\n" not in str(refusal.value)


def test_checkpoints_of_other_networks_are_told_in_one_line(data: str, tmp_path: Path) -> None:
    # As a run of the version before left it: settings that are all known, and a network that is not.
    state = HdrGan(small(denoising=False)).state_dict()
    torch.save({"hyper_parameters": {"preset": "tiny"}, "state_dict": state, "updates": 3}, last_of(tmp_path))
    reason = r"32 tensors are others, first 'averaged_generator\.denoiser\.colour_kernels\.bias'"
    with pytest.raises(ValueError, match=rf"last.ckpt: damaged, or not a checkpoint .* \({reason}\)") as refusal:
        trained(data, tmp_path, resume=True, steps=4)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("kept", [0.1, 0.6, 0.999])
def test_truncated_checkpoints_are_told_in_one_line(data: str, tmp_path: Path, kept: float) -> None:
    module = HdrGan(small())
    content = {"hyper_parameters": {"preset": "tiny"}, "state_dict": module.state_dict()}
    last = last_of(tmp_path)
    torch.save(content, last)
    last.write_bytes(last.read_bytes()[: int(kept * last.stat().st_size)])
    with pytest.raises(ValueError, match=r"last.ckpt: damaged, or not a checkpoint") as refusal:
        trained(data, tmp_path, resume=True, steps=2)
    assert "\n" not in str(refusal.value)


_KILLED_RUN = """
import sys
from hdr.data import source
source.VALIDATION_SCENES, source.VALIDATION_SIDE, source.TRAINING_SIDE = 2, 32, 32
from hdr.settings import RunSettings, TrainingSettings
from hdr.training import train
settings = TrainingSettings(preset="tiny", crop=32, batch_size=1, discriminator_channels=4, steps=100_000)
run = RunSettings(devices=1, accelerator="cpu", workers=0, validate_every=1000, checkpoint_minutes=0.0)
train(sys.argv[1], sys.argv[2], settings, run)
"""


def test_a_killed_run_goes_on_from_its_last_checkpoint(data: str, tmp_path: Path) -> None:
    last = tmp_path / "checkpoints" / "last.ckpt"
    command = [sys.executable, "-c", _KILLED_RUN, data, str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while not (last.is_file() and updates_in(last) >= 3) and time.monotonic() < deadline:
            assert process.poll() is None
            time.sleep(0.05)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    before = torch.load(last, weights_only=True)
    updates = int(before["updates"])
    assert updates >= 3
    more = updates + 4
    trained(data, tmp_path, steps=more, resume=True, run=on_cpu(validate_every=more))
    after = torch.load(last, weights_only=True)
    assert int(after["updates"]) > updates
    steps = [int(next(iter(c["optimizer_states"][0]["state"].values()))["step"]) for c in (before, after)]
    assert steps[1] - steps[0] == int(after["updates"]) - updates  # the optimizer was not started anew


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


def order_of(monkeypatch: pytest.MonkeyPatch, data: str, out: Path, rank: int = 0, **arguments: Any) -> list[list[int]]:
    """The scenes that a run would learn from, batch by batch."""
    drawn: list[list[int]] = []
    out.mkdir(exist_ok=True)

    def fit(trainer: Any, module: Any, loader: Any, *_: Any, **__: Any) -> None:
        drawn.extend(loader.batch_sampler)

    with monkeypatch.context() as patched:
        patched.setattr(L.Trainer, "fit", fit)
        patched.setattr(L.Trainer, "global_rank", property(lambda _: rank))
        trained(data, out, run=on_cpu(validate_every=8), **arguments)
    return drawn


def test_every_process_learns_from_other_scenes_and_again_from_others_after_resuming(
    monkeypatch: pytest.MonkeyPatch, data: str, tmp_path: Path
) -> None:
    first = order_of(monkeypatch, data, tmp_path / "a", steps=8)
    assert first == order_of(monkeypatch, data, tmp_path / "b", steps=8)
    assert first != order_of(monkeypatch, data, tmp_path / "c", steps=8, seed=1)
    assert first != order_of(monkeypatch, data, tmp_path / "d", steps=8, rank=1)
    trained(data, tmp_path / "e", steps=1)
    assert first != order_of(monkeypatch, data, tmp_path / "e", steps=8, resume=True)


@pytest.mark.parametrize(
    ("devices", "num_nodes", "several"), [(1, 1, False), ("1", 1, False), (2, 1, True), ("2", 1, True), (1, 2, True)]
)
def test_several_processes_on_one_machine_or_on_more_are_spread_alike(
    devices: int | str, num_nodes: int, several: bool
) -> None:
    # In the warm-up the discriminator has no gradient, which is said of several processes only.
    assert (hdr.training._strategy(devices, "cpu", num_nodes) == "ddp_find_unused_parameters_true") == several


def test_batches_hold_scenes_with_equally_many_exposures() -> None:
    scenes = type("Scenes", (), {"alike": 10, "__len__": lambda _: 100})()
    batches = AlikeScenes(scenes, 4, 50, torch.Generator().manual_seed(0))
    drawn = list(batches)
    assert len(drawn) == len(batches) == 50
    assert all(len(batch) == 4 and len({index // 10 for index in batch}) == 1 for batch in drawn)
    assert len({batch[0] // 10 for batch in drawn}) == 10
    assert list(batches) != drawn  # the next round goes on where this one ended


def module_with_trainer(**settings: Any) -> HdrGan:
    """A module outside of a Trainer, as far as one update needs it."""
    torch.manual_seed(0)
    module = HdrGan(small(**{"warm_up": 0, **settings}))
    optimizers = module.configure_optimizers()
    module.optimizers = lambda *_: optimizers  # type: ignore[method-assign,assignment]
    module._trainer = SimpleNamespace(callbacks=[], is_global_zero=False)  # type: ignore[assignment]
    module.manual_backward = lambda loss: loss.backward()  # type: ignore[method-assign,assignment,misc]
    module.clip_gradients = lambda *_, **__: None  # type: ignore[method-assign]
    module.log = lambda *_, **__: None  # type: ignore[method-assign]
    module.log_dict = lambda *_, **__: None  # type: ignore[method-assign]
    return module.train()


def batch_of_two() -> Any:
    samples = []
    for seed in range(2):
        scene = textured(32, 32, seed)
        bracket = photographed([scene.roll(2, dims=-1), scene, scene.roll(-2, dims=-1)], noise=1e-2)
        samples.append(make_sample("a", bracket.ldr, bracket.exposures, scene, bracket.calibration, 1))
    return default_collate(samples)


@pytest.mark.parametrize(("updates", "share"), [(0, 1.0), (25, 0.5 * (1 + math.sqrt(0.5))), (50, 0.5), (100, 0.0)])
def test_learning_rate_falls_as_a_cosine(updates: int, share: float) -> None:
    module = module_with_trainer(steps=100, learning_rate=2e-3)
    module.updates += updates
    module._set_learning_rates(module.progress())
    for optimizer in module._both_optimizers():
        assert optimizer.param_groups[0]["lr"] == pytest.approx(2e-3 * share, abs=1e-12)


@pytest.mark.parametrize(("updates", "share"), [(0, 0.1), (4, 0.5), (9, 1.0), (20, 1.0)])
def test_learning_rate_rises_over_the_warm_up(updates: int, share: float) -> None:
    module = module_with_trainer(steps=10_000, learning_rate=2e-3, warm_up=10)
    module.updates += updates
    module._set_learning_rates(module.progress())
    for optimizer in module._both_optimizers():
        assert optimizer.param_groups[0]["lr"] == pytest.approx(2e-3 * share, rel=1e-4)


def test_optimizers_are_adamw_with_the_stated_betas() -> None:
    generator, discriminator = HdrGan(small(learning_rate=3e-4)).configure_optimizers()
    assert isinstance(generator, torch.optim.AdamW)
    assert isinstance(discriminator, torch.optim.AdamW)
    assert generator.defaults["betas"] == (0.9, 0.99)
    assert discriminator.defaults["betas"] == (0.5, 0.99)
    assert generator.defaults["lr"] == discriminator.defaults["lr"] == 3e-4


def test_gradients_are_clipped_to_norm_one_for_both_networks() -> None:
    module, clipped = module_with_trainer(steps=10, adversarial_start=0.0, adversarial_ramp=0.0), []
    module.clip_gradients = lambda optimizer, **how: clipped.append((optimizer, how))  # type: ignore[method-assign]
    module.updates += 1
    module.training_step(batch_of_two(), 0)
    how = {"gradient_clip_val": 1.0, "gradient_clip_algorithm": "norm"}
    generator, discriminator = module._both_optimizers()
    assert clipped == [(discriminator, how), (generator, how)]


def test_weights_are_averaged_exponentially_from_the_first_update_on() -> None:
    module = module_with_trainer(steps=100, average_decay=0.75, adversarial_weight=0.0)
    # Begins as 0 and learns from the first update on; before it has, the encoder does not.
    name = "judges.0.logits.weight"
    expected = None
    for _ in range(3):
        module.training_step(batch_of_two(), 0)
        weight = module.generator.state_dict()[name].clone()
        assert float(weight.abs().max()) > 5e-5
        expected = weight if expected is None else 0.75 * expected + 0.25 * weight
    torch.testing.assert_close(module.averaged_generator.state_dict()[name], expected, atol=1e-8, rtol=1e-5)
    assert int(module.updates) == 3


def test_given_weights_are_the_averages_too(tmp_path: Path) -> None:
    module, given = HdrGan(small()), random_generator()
    save_generator(given, tmp_path / "a.safetensors", dtype=torch.float32)
    hdr.training._start_from(tmp_path / "a.safetensors", module)
    for generator in (module.generator, module.averaged_generator):
        assert all(torch.equal(tensor, given.state_dict()[name]) for name, tensor in generator.state_dict().items())


def test_the_averaged_generator_is_validated() -> None:
    module, batch, logged = module_with_trainer(), batch_of_two(), {}
    module.averaged_generator.load_state_dict(random_generator().state_dict())
    module.log = lambda name, value, **_: logged.update({name: float(value)})  # type: ignore[method-assign,assignment]
    with torch.no_grad():
        module.validation_step(batch, 0)
        averaged, learning = (
            inverse_mu_law(merge_batch(generator.eval(), batch).radiance).clamp(0, 1)
            for generator in (random_generator(), module.generator)
        )
    assert logged["val/psnr_mu"] == pytest.approx(float(psnr_mu(averaged, batch["target"]).mean()), abs=1e-3)
    # Nothing has been learned yet: the generator itself is the physical merge.
    assert logged["val/psnr_mu_untrained"] == pytest.approx(float(psnr_mu(learning, batch["target"]).mean()), abs=1e-3)
    assert abs(logged["val/psnr_mu"] - logged["val/psnr_mu_untrained"]) > 0.1


def test_the_discriminator_learns_only_after_the_warm_up() -> None:
    module = module_with_trainer(steps=10, adversarial_start=0.5, adversarial_ramp=0.2)
    assert [module.adversarial_weight(p) for p in (0.2, 0.5)] == [0.0, 0.0]
    assert module.adversarial_weight(0.6) == pytest.approx(0.5 * module.settings.adversarial_weight)
    assert module.adversarial_weight(0.9) == module.settings.adversarial_weight
    weight = module.discriminator.get_parameter("body.0.parametrizations.weight.original")
    before = weight.detach().clone()
    module.training_step(batch_of_two(), 0)
    assert torch.equal(weight, before)
    module.updates += 7
    module.training_step(batch_of_two(), 0)
    assert not torch.equal(weight, before)
    assert all(p.requires_grad for p in module.discriminator.parameters())


def test_the_denoiser_can_learn_alone() -> None:
    module = module_with_trainer(steps=10, parts="denoiser")
    before = {name: tensor.clone() for name, tensor in module.generator.state_dict().items()}
    for _ in range(2):  # the first moves the last layer, which begins at zero; the second all
        module.training_step(batch_of_two(), 0)
    for name, tensor in module.generator.state_dict().items():
        assert torch.equal(tensor, before[name]) != name.startswith("denoiser."), name


def test_parts_that_do_not_exist_cannot_learn() -> None:
    with pytest.raises(ValueError, match="denoising is off"):
        TrainingSettings(parts="denoiser", denoising=False)
    with pytest.raises(ValueError, match="parts must be all or denoiser, got 'denoisers'"):
        TrainingSettings(parts="denoisers")  # type: ignore[arg-type]


def test_there_is_no_discriminator_unless_it_has_weight() -> None:
    module = HdrGan(TrainingSettings(preset="tiny"))
    asked: list[int] = []
    losses = module.learn(batch_of_two(), 1.0, lambda which, loss: asked.append(which))
    assert asked == [0]
    assert "sphere" not in losses


def test_losses_are_those_of_the_settings() -> None:
    settings = {
        "square_weight": 2.0,
        "linear_weight": 3.0,
        "coarse_weight": 0.5,
        "regression_weight": 0.5,
        "relative_weight": 0.25,
    }
    module, batch = module_with_trainer(**settings), batch_of_two()
    target = mu_law(batch["target"])
    output = merge_batch(module.generator, batch)
    physics = target.clone()  # better than ours below, worse above
    physics[..., : target.shape[2] // 2, :] += 0.5
    output = output._replace(physical=physics)
    losses = module.reconstruction_losses(output, target, 1)
    difference = (output.radiance - target).double()
    linear = (5001 ** output.radiance.double() - 1) / 5000 - batch["target"].double()
    halves = [
        (coarse - torch.nn.functional.avg_pool2d(target, side)).abs().mean()
        for coarse, side in zip(output.coarser, (4, 8), strict=True)
    ]
    assert float(losses["tone_mapped_l1"]) == pytest.approx(float(difference.abs().mean()), rel=1e-4)
    assert float(losses["square"]) == pytest.approx(2 * float(difference.square().mean()), rel=1e-4)
    assert float(losses["linear_l1"]) == pytest.approx(3 * float(linear.abs().mean()), rel=1e-3)
    worse = relative = 0.0
    physical = physics.double()
    for ours, theirs, weight in (
        (difference, physical - target, 1),
        (linear, (5001**physical - 1) / 5000 - batch["target"], 3),
    ):
        patches = [
            ours[b, :, y : y + 8, x : x + 8].abs().mean() - theirs[b, :, y : y + 8, x : x + 8].abs().mean()
            for b in range(ours.shape[0])
            for y in range(0, ours.shape[2], 8)
            for x in range(0, ours.shape[3], 8)
        ]
        squares = [[float(one[b].square().mean()) for b in range(ours.shape[0])] for one in (ours, theirs)]
        relative += weight * sum(a / (b + 1e-6) for a, b in zip(*squares, strict=True)) / ours.shape[0]
        worse += weight * sum(max(float(patch), 0.0) for patch in patches) / len(patches)
    assert worse > 0
    assert float(losses["regression"]) == pytest.approx(0.5 * worse, rel=1e-3)
    assert float(losses["relative_square"]) == pytest.approx(0.25 * relative, rel=1e-3)
    assert float(losses["coarse_l1"]) == pytest.approx(0.5 * float(sum(halves)) / 2, rel=1e-4)


def test_training_lowers_the_loss_on_one_batch() -> None:
    module = module_with_trainer(steps=40, learning_rate=3e-3, adversarial_weight=0.0)
    batch = batch_of_two()
    batch["target"] = 0.7 * batch["target"]  # a fault of the cameras that physics cannot know of

    def loss() -> float:
        return float((merge_batch(module.generator, batch).radiance - mu_law(batch["target"])).abs().mean())

    before = loss()
    for _ in range(8):
        module.training_step(batch, 0)
    assert loss() < 0.8 * before


def test_scenes_can_be_learned_from_more_than_once(data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, learned = [], []
    exchange = ScenePool.exchange

    def counted(pool: Any, fresh: Any) -> Any:
        made.append(len(fresh["target"]))
        learned.append(len((batch := exchange(pool, fresh))["target"]))
        return batch

    monkeypatch.setattr(ScenePool, "exchange", counted)
    trained(data, tmp_path, steps=3, batch_size=4, crops_per_scene=2)
    assert made == [2, 2, 2]
    assert learned == [4, 4, 4]
    trained(data, tmp_path, steps=4, resume=True)
    assert updates_in(tmp_path / "checkpoints" / "last.ckpt") == 4
    assert made == [2, 2, 2, 2]


def test_scenes_of_many_sizes_cannot_be_kept(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="crops_per_scene must be 1 for kalantari:DIR"):
        trained(f"kalantari:{tmp_path}", tmp_path / "run", crops_per_scene=2)
