"""Training of HDR-GAN: what is learned by which loss at what rate. Loops, devices and resuming are Lightning's."""

from __future__ import annotations

import math
import os
import time
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, Timer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.plugins import TorchCheckpointIO
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, RandomSampler
from torchvision.utils import make_grid, save_image

from hdr.data.sample import HdrSample
from hdr.data.source import open_scenes
from hdr.io import check_folder
from hdr.metrics import psnr_l, psnr_mu
from hdr.nn import Generator, PatchDiscriminator, SphereAdversarialLoss, TrainingOutput, alignment_loss
from hdr.radiometry import exposure_stack, inverse_mu_law, mu_law
from hdr.weights import load_generator, save_generator

LAST_CHECKPOINT = "last.ckpt"
BEST_CHECKPOINT = "best.ckpt"
CROP_MULTIPLE = 16
"""The coarsest scale of every preset and then some, so that losses at coarser scales need no padding."""
SMALLEST_CROP = 32
_SAMPLES = 4


@dataclass(frozen=True)
class TrainingSettings:
    """What a run learns by.

    Attributes
    ----------
    preset
        Size of the generator, see :meth:`hdr.nn.Generator.from_preset`.
    steps
        Updates of the generator. The learning rate falls to zero over them, or over the time limit where that ends
        first.
    learning_rate, warm_up
        Peak of the rate, reached after ``warm_up`` updates.
    coarse_weight
        Weight of the tone-mapped L1 at the coarser decoder scales, together.
    linear_weight
        Weight of the L1 of linear radiance, which tells highlights apart where the mu-law is flat.
    alignment_weight
        Weight of :func:`hdr.nn.alignment_loss`.
    adversarial_weight
        Weight of the sphere loss for the generator; 0 trains without a discriminator. Small, because the loss is one
        number a picture: its gradient does not shrink with the number of pixels as that of a mean does.
    adversarial_start, adversarial_ramp
        Share of the run after which the sphere loss begins, and over which its weight rises.
    moments
        Of :class:`hdr.nn.SphereAdversarialLoss`.
    discriminator_channels
        Of :class:`hdr.nn.PatchDiscriminator`.
    average_decay
        Decay of the exponential moving average of the generator's weights.
    """

    preset: str = "small"
    steps: int = 20_000
    learning_rate: float = 1e-3
    warm_up: int = 200
    coarse_weight: float = 0.5
    linear_weight: float = 0.5
    alignment_weight: float = 0.5
    adversarial_weight: float = 5e-5
    adversarial_start: float = 0.7
    adversarial_ramp: float = 0.1
    moments: int = 3
    discriminator_channels: int = 16
    average_decay: float = 0.998


class HdrGan(L.LightningModule):
    """Generator, its moving average and discriminator with their losses and optimizers.

    Parameters
    ----------
    settings
        What the run learns by; kept in every checkpoint.
    **architecture
        Constructor arguments of the generator that replace the preset's.
    """

    def __init__(self, settings: TrainingSettings, **architecture: Any) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.settings = settings
        self.save_hyperparameters({**asdict(settings), **architecture})
        self.generator = Generator.from_preset(settings.preset, **architecture)
        self.generator.to(memory_format=torch.channels_last)
        self.average = AveragedModel(self.generator, multi_avg_fn=get_ema_multi_avg_fn(settings.average_decay))
        self.average.requires_grad_(False)
        self.discriminator = PatchDiscriminator(settings.discriminator_channels)
        self.sphere = SphereAdversarialLoss(settings.moments)
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))
        self.updates: Tensor

    @property
    def averaged_generator(self) -> Generator:
        """The generator with the moving average of the weights: what is validated and exported."""
        generator = self.average.module
        assert isinstance(generator, Generator)
        return generator

    def progress(self) -> float:
        """Share of the run that is over, in [0, 1]: of the steps or of the time limit, whichever is further."""
        share = int(self.updates) / max(self.settings.steps, 1)
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, Timer) and (left := callback.time_remaining()) is not None:
                spent = callback.time_elapsed()
                share = max(share, spent / (spent + left) if spent + left > 0 else 1.0)
        return min(share, 1.0)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """AdamW for the generator; the same at the same rate for the discriminator."""
        rate = self.settings.learning_rate
        return [
            torch.optim.AdamW(self.generator.parameters(), rate, betas=(0.9, 0.99), weight_decay=1e-4),
            torch.optim.AdamW(self.discriminator.parameters(), rate, betas=(0.5, 0.99), weight_decay=1e-4),
        ]

    def training_step(self, batch: HdrSample, batch_index: int) -> None:
        """One update of the generator and, once the sphere loss has weight, one of the discriminator."""
        generator_optimizer, discriminator_optimizer = self._both_optimizers()
        progress = self.progress()
        self._set_learning_rates(progress)
        adversarial_weight = self._adversarial_weight(progress)
        stack = exposure_stack(batch["ldr"], batch["exposures"])
        target = mu_law(batch["target"])
        output = self.generator(stack)
        losses = self.reconstruction_losses(stack, output, target)
        total = torch.stack(list(losses.values())).sum()
        if adversarial_weight > 0:
            self._update_discriminator(discriminator_optimizer, target, output.radiance.detach())
            self.discriminator.requires_grad_(False)
            losses["sphere"] = self.sphere.generator_loss(self.discriminator(output.radiance))
            total = total + adversarial_weight * losses["sphere"]
            self.discriminator.requires_grad_(True)
        self._step(generator_optimizer, total)
        self.updates += 1
        self.average.update_parameters(self.generator)
        self.log_dict({f"train/{name}": loss.detach() for name, loss in losses.items()})
        self.log("train/total", total.detach(), prog_bar=True)
        self.log_dict({"updates": self.updates.float(), "progress": progress})

    def reconstruction_losses(self, stack: Tensor, output: TrainingOutput, target: Tensor) -> dict[str, Tensor]:
        """Weighted losses against the true radiance.

        Parameters
        ----------
        stack
            Network input, (B, 3, 6, H, W).
        output
            What the generator made of it. It is in the mu-law domain, so plain L1 there is the tone-mapped L1.
        target
            True radiance in the mu-law domain, (B, 3, H, W).
        """
        weights = self.settings
        radiance = output.radiance.float()
        losses = {"tone_mapped_l1": F.l1_loss(radiance, target)}
        linear = F.l1_loss(inverse_mu_law(radiance.clamp(-0.1, 1.1)), inverse_mu_law(target))
        losses["linear_l1"] = weights.linear_weight * linear
        if output.coarser:
            scales = [F.l1_loss(c.float(), F.avg_pool2d(target, 2**k)) for k, c in enumerate(output.coarser, start=1)]
            losses["coarse_l1"] = weights.coarse_weight * torch.stack(scales).mean()
        if output.displacements:
            losses["alignment"] = weights.alignment_weight * alignment_loss(stack, output.displacements, target)
        return losses

    def validation_step(self, batch: HdrSample, batch_index: int) -> None:
        """PSNR of the averaged generator; pictures of the first scenes."""
        stack = exposure_stack(batch["ldr"], batch["exposures"])
        tone_mapped = self.averaged_generator.eval()(stack).float()
        radiance = inverse_mu_law(tone_mapped.clamp_min(0))
        scenes: dict[str, Any] = {"batch_size": len(radiance), "sync_dist": True}
        self.log("val/psnr_mu", psnr_mu(radiance, batch["target"]).mean(), prog_bar=True, **scenes)
        self.log("val/psnr_l", psnr_l(radiance, batch["target"]).mean(), **scenes)
        self.log("val/psnr_mu_reference", psnr_mu(stack[:, 1, 3:], batch["target"]).mean(), **scenes)
        if batch_index < _SAMPLES and self.trainer.is_global_zero:
            self._write_sample(batch_index, batch, tone_mapped[0])

    def _both_optimizers(self) -> list[Any]:
        optimizers = self.optimizers()
        assert isinstance(optimizers, list)
        return optimizers

    def _adversarial_weight(self, progress: float) -> float:
        over = progress - self.settings.adversarial_start
        return self.settings.adversarial_weight * min(max(over / max(self.settings.adversarial_ramp, 1e-9), 0.0), 1.0)

    def _set_learning_rates(self, progress: float) -> None:
        rise = min((int(self.updates) + 1) / max(self.settings.warm_up, 1), 1.0)
        rate = self.settings.learning_rate * rise * 0.5 * (1 + math.cos(math.pi * progress))
        for optimizer in self._both_optimizers():
            for group in optimizer.param_groups:
                group["lr"] = rate

    def _update_discriminator(self, optimizer: Any, real: Tensor, fake: Tensor) -> None:
        loss = self.sphere.discriminator_loss(self.discriminator(real), self.discriminator(fake))
        self._step(optimizer, loss)
        self.log("train/discriminator", loss.detach())

    def _step(self, optimizer: Any, loss: Tensor) -> None:
        optimizer.zero_grad()
        self.manual_backward(loss)
        self.clip_gradients(optimizer, gradient_clip_val=1.0, gradient_clip_algorithm="norm")
        optimizer.step()

    def _write_sample(self, index: int, batch: HdrSample, merged: Tensor) -> None:
        row = make_grid([*batch["ldr"][0], merged.clamp(0, 1), mu_law(batch["target"][0])], nrow=5)
        folder = Path(self.trainer.default_root_dir, "samples")
        folder.mkdir(parents=True, exist_ok=True)
        save_image(row, folder / f"{int(self.updates):07d}-{index}.png")
        for logger in self.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image(f"scene-{index}", row, int(self.updates))


class WholeCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint beside its place and renames it: a run killed while writing still has the one before."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Save to ``path``, whole or not at all."""
        partial = f"{path}.partial"
        super().save_checkpoint(checkpoint, partial, storage_options)
        os.replace(partial, path)


class TimedCheckpoint(Callback):
    """Saves ``last.ckpt`` every so often by the clock, whatever the length of an epoch, and at the end.

    Lightning's own ModelCheckpoint ignores its time interval under manual optimisation.
    """

    def __init__(self, folder: Path, interval: timedelta) -> None:
        self.path = folder / LAST_CHECKPOINT
        self.interval = interval.total_seconds()
        self._saved_at = time.monotonic()

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Save if the interval is over; the first process decides for all."""
        due = time.monotonic() - self._saved_at >= self.interval
        if trainer.strategy.broadcast(due):
            self._save(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save what the run ended with."""
        self._save(trainer)

    def _save(self, trainer: L.Trainer) -> None:
        trainer.save_checkpoint(self.path)
        self._saved_at = time.monotonic()


def train(
    data: str,
    preset: str = "small",
    out: str | os.PathLike[str] = "runs/hdr",
    *,
    resume: bool = False,
    weights: str | os.PathLike[str] | None = None,
    devices: int | str = "auto",
    precision: str = "32-true",
    max_time: str | None = None,
    steps: int = 20_000,
    batch_size: int = 4,
    crop: int = 128,
    learning_rate: float = 1e-3,
    adversarial_weight: float = 5e-5,
    workers: int = 1,
    seed: int = 0,
    validate_every: int = 500,
    validation_scenes: int | None = None,
    checkpoint_minutes: float = 5.0,
    accelerator: str = "auto",
    num_nodes: int = 1,
    skip_broken: bool = False,
    progress: bool = True,
    **architecture: Any,
) -> Path:
    """Train a generator, or go on training one.

    Writes to ``out``: ``checkpoints/last.ckpt`` and ``best.ckpt``, ``logs`` (CSV and TensorBoard), ``samples``
    (inputs, merged, truth), and at the end ``<preset>.safetensors``, the averaged weights for the Merger.

    Parameters
    ----------
    data
        ``"synthetic:DIR"`` or ``"kalantari:DIR"``, see :func:`hdr.data.source.open_scenes`.
    preset
        ``"tiny"``, ``"small"`` or ``"base"``.
    out
        Folder of the run.
    resume
        Go on from ``last.ckpt`` in ``out``, with the network, losses and rates that the run began with and the
        ``steps`` and ``max_time`` of this call; without it, a folder that already holds a run is refused.
    weights
        What a new run starts from instead of random weights: the name of bundled ones or a file, of the same
        architecture. For fine-tuning on scenes of your own.
    devices, accelerator, num_nodes, precision
        As Lightning's Trainer takes them, for example 4, ``"gpu"``, 2 and ``"bf16-mixed"``.
    max_time
        ``"DD:HH:MM:SS"``: training time after which the run ends, over all resumptions. The learning rate falls to
        zero by then.
    steps
        Updates after which the run ends, over all resumptions.
    batch_size, crop
        Scenes of crop x crop pixels in one update, for each device.
    learning_rate, adversarial_weight
        See :class:`TrainingSettings`.
    workers
        Processes that make scenes.
    seed
        Of the initial weights and of the order of scenes.
    validate_every
        Updates from one validation to the next.
    validation_scenes
        How many of the validation's scenes are merged each time; None for all.
    checkpoint_minutes
        Minutes from one ``last.ckpt`` to the next.
    skip_broken
        As in :func:`hdr.data.source.open_scenes`.
    progress
        Whether to show a summary of the network and a progress bar.
    **architecture
        Constructor arguments of the generator that replace the preset's, for ablations.

    Returns
    -------
    Path
        The exported weights.

    Raises
    ------
    FileExistsError
        If ``out`` holds a run and ``resume`` is False.
    FileNotFoundError
        If ``resume`` is True and there is nothing to resume.
    NotADirectoryError
        If ``out`` is a file.
    ValueError
        If the data or a setting cannot be used.
    """
    out = Path(out)
    if resume and weights is not None:
        raise ValueError("a run that is resumed has its own weights; leave out either resume or weights")
    checkpoint = _checkpoint_to_resume(out, resume)
    _check_crop(crop)
    training_scenes = open_scenes(data, "train", crop, skip_broken=skip_broken)
    held_out = open_scenes(data, "validation", skip_broken=skip_broken)
    if checkpoint is None:
        L.seed_everything(seed)
        settings = TrainingSettings(
            preset=preset, steps=steps, learning_rate=learning_rate, adversarial_weight=adversarial_weight
        )
        module = HdrGan(settings, **architecture)
        if weights is not None:
            _start_from(weights, module)
    else:
        module = _module_of(checkpoint, steps)
    per_round = min(validate_every, steps)
    trainer = L.Trainer(
        default_root_dir=out,
        accelerator=accelerator,
        devices=devices,
        num_nodes=num_nodes,
        strategy=_strategy(devices, accelerator, num_nodes),
        precision=precision,  # type: ignore[arg-type]
        max_time=max_time,
        max_epochs=math.ceil(steps / per_round),
        num_sanity_val_steps=0,
        limit_val_batches=validation_scenes,
        use_distributed_sampler=False,
        log_every_n_steps=50,
        enable_progress_bar=progress,
        enable_model_summary=progress,
        **_records(out, timedelta(minutes=checkpoint_minutes)),
    )
    # Other scenes in every process, and other ones again after resuming.
    order = torch.Generator().manual_seed(seed + 1_000_003 * trainer.global_rank + _updates_in(checkpoint))
    scenes_per_round = batch_size * per_round
    sampler = RandomSampler(training_scenes, replacement=True, num_samples=scenes_per_round, generator=order)  # type: ignore[arg-type]
    loaders = {"num_workers": workers, "persistent_workers": workers > 0}
    trainer.fit(
        module,
        DataLoader(training_scenes, batch_size, sampler=sampler, **loaders),  # type: ignore[arg-type]
        DataLoader(held_out),
        ckpt_path=checkpoint,
        weights_only=False,
    )
    trained = out / f"{module.settings.preset}.safetensors"
    if trainer.is_global_zero:
        save_generator(module.averaged_generator, trained, overwrite=True)
    return trained


def _check_crop(crop: int) -> None:
    if crop < SMALLEST_CROP or crop % CROP_MULTIPLE:
        raise ValueError(f"crop must be a multiple of {CROP_MULTIPLE} and at least {SMALLEST_CROP}, got {crop}")


def _records(out: Path, checkpoint_interval: timedelta) -> dict[str, Any]:
    """What a Trainer writes down, and where."""
    checkpoints = out / "checkpoints"
    best = ModelCheckpoint(
        checkpoints,
        filename=BEST_CHECKPOINT.removesuffix(".ckpt"),
        monitor="val/psnr_mu",
        mode="max",
        enable_version_counter=False,
    )
    return {
        "logger": [CSVLogger(out / "logs", name="csv"), TensorBoardLogger(out / "logs", name="tensorboard")],
        "callbacks": [TimedCheckpoint(checkpoints, checkpoint_interval), best],
        "plugins": [WholeCheckpoints()],
    }


def _checkpoint_to_resume(out: Path, resume: bool) -> Path | None:
    check_folder(out)
    checkpoint = out / "checkpoints" / LAST_CHECKPOINT
    if resume and not checkpoint.is_file():
        raise FileNotFoundError(f"{checkpoint}: nothing to resume; start the run without --resume")
    if not resume and checkpoint.is_file():
        raise FileExistsError(f"{out} already holds a run; resume it (--resume), or give another folder")
    return checkpoint if resume else None


def _updates_in(checkpoint: Path | None) -> int:
    if checkpoint is None:
        return 0
    return int(torch.load(checkpoint, map_location="cpu", weights_only=False)["state_dict"]["updates"])


def _strategy(devices: int | str, accelerator: str, num_nodes: int) -> str:
    """How Lightning spreads the run: with several processes, the discriminator has no gradient in the warm-up."""
    count = int(devices) if str(devices).isdecimal() else 1 if accelerator == "cpu" else torch.cuda.device_count()
    return "ddp_find_unused_parameters_true" if count > 1 or num_nodes > 1 else "auto"


def _start_from(weights: str | os.PathLike[str], module: HdrGan) -> None:
    given = load_generator(weights)
    if given.config != module.generator.config:
        raise ValueError(
            f"{os.fspath(weights)!r}: the weights are of another architecture ({given.config}) than preset "
            f"{module.settings.preset!r} ({module.generator.config}); choose the preset that they were trained with"
        )
    module.generator.load_state_dict(given.state_dict())
    module.averaged_generator.load_state_dict(given.state_dict())


def _module_of(checkpoint: Path, steps: int) -> HdrGan:
    """A module with the settings of a checkpoint but for the number of steps; Lightning restores the rest."""
    parameters = dict(torch.load(checkpoint, map_location="cpu", weights_only=False)["hyper_parameters"])
    settings = {name: parameters.pop(name) for name in asdict(TrainingSettings())}
    return HdrGan(TrainingSettings(**{**settings, "steps": steps}), **parameters)
