"""Training of HDR-GAN: what is learned by which loss at what rate. Loops, devices and resuming are Lightning's."""

from __future__ import annotations

import copy
import math
import os
import pickle
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Sampler

from hdr._errors import RefusedError
from hdr._extras import extras_named

with extras_named():
    import lightning as L
    from lightning.pytorch.callbacks import Callback, ModelCheckpoint, Timer
    from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
    from lightning.pytorch.plugins import TorchCheckpointIO
    from torchvision.utils import make_grid, save_image  # which needs Pillow

    from hdr._files import check_folder
    from hdr.data.pool import ScenePool
    from hdr.data.sample import HdrSample
    from hdr.data.source import open_scenes
    from hdr.metrics import psnr_l, psnr_mu
    from hdr.nn import (
        Generator,
        Merged,
        PatchDiscriminator,
        SphereAdversarialLoss,
        alignment_loss,
        regression_loss,
        relative_square,
    )
    from hdr.radiometry import inverse_mu_law, middle, mu_law
    from hdr.settings import RunSettings, TrainingSettings
    from hdr.weights import load_generator, save_generator

LAST_CHECKPOINT = "last.ckpt"
BEST_CHECKPOINT = "best.ckpt"
_SAMPLES = 4
_GENERATOR, _DISCRIMINATOR = 0, 1  # in the order of the optimizers


class HdrGan(L.LightningModule):
    """Generator, its moving average and discriminator with their losses and optimizers.

    Parameters
    ----------
    settings
        What the run learns by; kept in every checkpoint.

    Attributes
    ----------
    pool
        Keeps whole scenes and gives the crops that are learned from; None where batches are crops already.
    """

    def __init__(self, settings: TrainingSettings) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.settings = settings
        self.pool: ScenePool | None = None
        self.updates = 0
        self.save_hyperparameters(asdict(settings))
        self.generator = Generator.from_preset(
            settings.preset,
            alignment=settings.alignment,
            attention=settings.attention,
            deep_supervision=settings.deep_supervision,
            denoising=settings.denoising,
        )
        if settings.parts == "denoiser":
            assert self.generator.denoiser is not None
            self.generator.requires_grad_(False)
            self.generator.denoiser.requires_grad_(True)
        self.generator.to(memory_format=torch.channels_last)
        self.averaged_generator = copy.deepcopy(self.generator).requires_grad_(False)
        """The generator with the moving average of the weights: what is validated and exported."""
        self._moving_average = get_ema_multi_avg_fn(settings.average_decay)
        self.discriminator = PatchDiscriminator(settings.discriminator_channels)
        self.sphere = SphereAdversarialLoss(settings.moments)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the number of updates; not as a tensor on the device, which would be waited for in every update."""
        checkpoint["updates"] = self.updates

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on counting."""
        self.updates = checkpoint["updates"]

    def progress(self) -> float:
        """Share of the run that is over, in [0, 1]: of the steps or of the time limit, whichever is further."""
        share = self.updates / max(self.settings.steps, 1)
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
        if self.updates >= self.settings.steps:  # resumed, with nothing left to do
            self.trainer.should_stop = True
            return
        progress = self.progress()
        self._set_learning_rates(progress)
        optimizers = self._both_optimizers()
        if self.pool is not None:
            batch = self.pool.exchange(batch)
        losses = self.learn(batch, progress, lambda which, loss: self._step(optimizers[which], loss))
        if self.updates >= self.settings.steps:
            self.trainer.should_stop = True
        self.log("train/total", losses.pop("total").detach(), prog_bar=True)
        self.log_dict({f"train/{name}": loss.detach() for name, loss in losses.items()})
        # Filled on the device: a number would be copied to it, and waited for.
        counts = {"updates": self.updates, "progress": progress}
        self.log_dict({name: torch.full((), float(count), device=self.device) for name, count in counts.items()})

    def learn(self, batch: HdrSample, progress: float, step: Callable[[int, Tensor], None]) -> dict[str, Tensor]:
        """Make one update, whoever runs it.

        Parameters
        ----------
        batch
            Crops of scenes.
        progress
            Share of the run that is over.
        step
            Lets one network, 0 the generator and 1 the discriminator, learn from its loss.

        Returns
        -------
        dict of str to Tensor
            The losses by name, weighted, and ``total``, what the generator learned from.
        """
        adversarial_weight = self.adversarial_weight(progress)
        target = mu_law(batch["target"])
        output = merge_batch(self.generator, batch)
        losses = self.reconstruction_losses(output, target, middle(batch["exposures"].shape[1]))
        total = torch.stack(list(losses.values())).sum()
        if adversarial_weight > 0:
            real, fake = self.discriminator(target), self.discriminator(output.radiance.detach())
            losses["discriminator"] = self.sphere.discriminator_loss(real, fake)
            step(_DISCRIMINATOR, losses["discriminator"])
            self.discriminator.requires_grad_(False)
            losses["sphere"] = self.sphere.generator_loss(self.discriminator(output.radiance))
            total = total + adversarial_weight * losses["sphere"]
            self.discriminator.requires_grad_(True)
        step(_GENERATOR, total)
        self.updates += 1
        self.update_average()
        return {**losses, "total": total}

    @torch.no_grad()
    def update_average(self) -> None:
        """Move the averaged weights towards the present ones; after the first update they are these."""
        averaged, present = (list(model.parameters()) for model in (self.averaged_generator, self.generator))
        if self.updates <= 1:
            for old, new in zip(averaged, present, strict=True):
                old.copy_(new)
        else:
            # Not AveragedModel: it counts on the device, and waits for every parameter.
            self._moving_average(averaged, present, self.updates)  # type: ignore[no-untyped-call]

    def reconstruction_losses(self, output: Merged, target: Tensor, reference: int) -> dict[str, Tensor]:
        """Weighted losses against the true radiance.

        Parameters
        ----------
        output
            What the generator made. It is in the mu-law domain, so plain L1 there is the tone-mapped L1.
        target
            True radiance in the mu-law domain, (B, 3, H, W).
        reference
            Index of the reference.
        """
        weights = self.settings
        radiance = output.radiance.float()
        linear, linear_target = inverse_mu_law(radiance.clamp(-0.1, 1.1)), inverse_mu_law(target)
        losses = {
            "tone_mapped_l1": F.l1_loss(radiance, target),
            "square": weights.square_weight * F.mse_loss(radiance, target),
            "linear_l1": weights.linear_weight * F.l1_loss(linear, linear_target),
            "alignment": weights.alignment_weight * alignment_loss(output.aligned, target, reference),
        }
        if output.physical is not None:
            physical = output.physical.float()
            both = ((radiance, physical, target), (linear, inverse_mu_law(physical), linear_target))
            for name, weight, loss in (
                ("regression", weights.regression_weight, regression_loss),
                ("relative_square", weights.relative_weight, relative_square),
            ):
                if weight > 0:
                    in_mu_law, in_light = (loss(*images) for images in both)
                    losses[name] = weight * (in_mu_law + weights.linear_weight * in_light)
        if output.coarser:
            scales = [F.l1_loss(c.float(), F.avg_pool2d(target, 2**k)) for k, c in enumerate(output.coarser, start=2)]
            losses["coarse_l1"] = weights.coarse_weight * torch.stack(scales).mean()
        return losses

    def validation_step(self, batch: HdrSample, batch_index: int) -> None:
        """PSNR of the averaged generator, and of the physical merge that it began as; images of the first scenes."""
        generator = self.averaged_generator.eval()
        tone_mapped = merge_batch(generator, batch).radiance.float()
        reference = middle(batch["exposures"].shape[1])
        untrained = load_generator("none", self.settings.preset).to(self.device)
        results = {
            "": inverse_mu_law(tone_mapped).clamp(0, 1),
            "_untrained": inverse_mu_law(merge_batch(untrained, batch).radiance).clamp(0, 1),
            "_reference": inverse_mu_law(batch["observations"][:, reference, :3]),
        }
        scenes: dict[str, Any] = {"batch_size": len(tone_mapped), "sync_dist": True}
        for name, radiance in results.items():
            self.log(f"val/psnr_mu{name}", psnr_mu(radiance, batch["target"]).mean(), prog_bar=not name, **scenes)
            self.log(f"val/psnr_l{name}", psnr_l(radiance, batch["target"]).mean(), **scenes)
        if batch_index < _SAMPLES and self.trainer.is_global_zero:
            self._write_sample(batch_index, batch, tone_mapped[0])

    def _both_optimizers(self) -> list[Any]:
        optimizers = self.optimizers()
        assert isinstance(optimizers, list)
        return optimizers

    def adversarial_weight(self, progress: float) -> float:
        """Weight of the sphere loss at a share of the run."""
        over = progress - self.settings.adversarial_start
        return self.settings.adversarial_weight * min(max(over / max(self.settings.adversarial_ramp, 1e-9), 0.0), 1.0)

    def learning_rate(self, progress: float) -> float:
        """Learning rate of the next update, at a share of the run."""
        rise = min((self.updates + 1) / max(self.settings.warm_up, 1), 1.0)
        return self.settings.learning_rate * rise * 0.5 * (1 + math.cos(math.pi * progress))

    def _set_learning_rates(self, progress: float) -> None:
        for optimizer in self._both_optimizers():
            for group in optimizer.param_groups:
                group["lr"] = self.learning_rate(progress)

    def _step(self, optimizer: Any, loss: Tensor) -> None:
        optimizer.zero_grad()
        self.manual_backward(loss)
        self.clip_gradients(optimizer, gradient_clip_val=1.0, gradient_clip_algorithm="norm")
        optimizer.step()

    def _write_sample(self, index: int, batch: HdrSample, merged: Tensor) -> None:
        images = [*batch["ldr"][0], merged.clamp(0, 1), mu_law(batch["target"][0])]
        row = make_grid(images, nrow=len(images))
        folder = Path(self.trainer.default_root_dir, "samples")
        folder.mkdir(parents=True, exist_ok=True)
        save_image(row, folder / f"{self.updates:07d}-{index}.png")
        for logger in self.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image(f"scene-{index}", row, self.updates)


def merge_batch(generator: Generator, batch: HdrSample) -> Merged:
    """Merge the crops of a batch of scenes, with their middle exposures as references."""
    reference = middle(batch["exposures"].shape[1])
    inputs = (batch["observations"], batch["exposures"], batch["displacement"], reference, batch["corner"])
    merged: Merged = generator(*inputs, mixing=batch["mixing"])
    return merged


class AlikeScenes(Sampler[list[int]]):
    """Random batches of scenes with equally many exposures.

    Parameters
    ----------
    scenes
        The data set; its ``alike`` is how many neighbouring scenes have equally many exposures, all if it has none.
    batch_size, batches
        Scenes in a batch, and batches in a round.
    order
        Where the random numbers come from; it goes on from round to round.
    """

    def __init__(self, scenes: Any, batch_size: int, batches: int, order: torch.Generator) -> None:
        self.scenes, self.batch_size, self.batches, self.order = scenes, batch_size, batches, order

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[list[int]]:
        alike = min(getattr(self.scenes, "alike", len(self.scenes)), len(self.scenes))
        for _ in range(self.batches):
            block = int(torch.randint(len(self.scenes) // alike, (), generator=self.order))
            yield (block * alike + torch.randint(alike, (self.batch_size,), generator=self.order)).tolist()


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
    out: str | os.PathLike[str] = "runs/hdr",
    settings: TrainingSettings | None = None,
    run: RunSettings | None = None,
    *,
    resume: bool = False,
    weights: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> Path:
    """Train a generator, or go on training one.

    Writes to ``out``: ``checkpoints/last.ckpt`` and ``best.ckpt``, ``logs`` (CSV and TensorBoard), ``samples``
    (inputs, merged, truth), and at the end ``<preset>.safetensors``, the averaged weights for the Merger.

    Parameters
    ----------
    data
        ``"synthetic:DIR"`` or ``"kalantari:DIR"``, see :func:`hdr.data.source.open_scenes`.
    out
        Folder of the run.
    settings
        What the run learns by.
    run
        How it is carried out.
    resume
        Go on from ``last.ckpt`` in ``out``, with the settings that the run began with but for the ``steps`` of this
        call; without it, a folder that already holds a run is refused.
    weights
        What a new run starts from instead of random weights: the name of bundled ones or a file, of the same
        architecture. For fine-tuning on scenes of your own.
    progress
        Whether to show a summary of the network and a progress bar.

    Returns
    -------
    Path
        The exported weights.

    Raises
    ------
    FileExistsError
        If ``out`` holds a run, or weights of the name that this one would write, and ``resume`` is False.
    FileNotFoundError
        If ``resume`` is True and there is nothing to resume.
    NotADirectoryError
        If ``out`` is a file.
    ValueError
        If the data, a setting or a checkpoint cannot be used.
    """
    out, settings, run = Path(out), settings or TrainingSettings(), run or RunSettings()
    if resume and weights is not None:
        raise RefusedError("a run that is resumed has its own weights; leave out either resume or weights")
    checkpoint = _checkpoint_to_resume(out, resume)
    made = 0
    if checkpoint is not None:
        settings, made = _settings_of(checkpoint, settings.steps)
    trained = out / f"{settings.preset}.safetensors"
    if not resume and trained.exists():
        raise FileExistsError(f"{trained} exists, and this run would replace it; give another folder, or move the file")
    pooled = settings.crops_per_scene > 1
    training_scenes = open_scenes(data, "train", settings.crop, whole=pooled, skip_broken=run.skip_broken)
    held_out = open_scenes(data, "validation", skip_broken=run.skip_broken)
    L.seed_everything(settings.seed, verbose=False)
    module = HdrGan(settings)
    if weights is not None:
        _start_from(weights, module)
    per_round = min(run.validate_every, settings.steps)
    trainer = _trainer(
        default_root_dir=out,
        accelerator=run.accelerator,
        devices=run.devices,
        num_nodes=run.num_nodes,
        strategy=_strategy(run.devices, run.accelerator, run.num_nodes),
        precision=run.precision,  # type: ignore[arg-type]
        max_time=run.max_time,
        max_epochs=-1,  # as many rounds as the updates take: a run may be resumed in the middle of one
        num_sanity_val_steps=0,
        limit_val_batches=run.validation_scenes,
        use_distributed_sampler=False,
        log_every_n_steps=50,
        enable_progress_bar=progress,
        enable_model_summary=progress,
        **_records(out, timedelta(minutes=run.checkpoint_minutes)),
    )
    # Other scenes in every process, and other ones again after resuming.
    order = torch.Generator().manual_seed(settings.seed + 1_000_003 * trainer.global_rank + made)
    fresh = max(round(settings.batch_size / settings.crops_per_scene), 1)
    batches = AlikeScenes(training_scenes, fresh, per_round, order)
    if pooled:
        module.pool = ScenePool(run.kept_scenes, settings.crop, settings.batch_size, order)
    loaders = {"num_workers": run.workers, "persistent_workers": run.workers > 0}
    trainer.fit(
        module,
        DataLoader(training_scenes, batch_sampler=batches, **loaders),  # type: ignore[arg-type]
        DataLoader(held_out, **loaders),  # type: ignore[arg-type]
        ckpt_path=checkpoint,
        weights_only=True,
    )
    if trainer.is_global_zero:
        save_generator(module.averaged_generator, trained, overwrite=True)
    return trained


def _trainer(**how: Any) -> L.Trainer:
    try:
        return L.Trainer(**how)
    except (TypeError, ValueError) as error:  # a device or a precision that Lightning does not have
        raise RefusedError(str(error)) from error


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
        raise FileNotFoundError(f"{checkpoint}: nothing to resume; start the run anew (without --resume)")
    if not resume and checkpoint.is_file():
        raise FileExistsError(f"{out} already holds a run; resume it (--resume), or give another folder")
    return checkpoint if resume else None


def _settings_of(checkpoint: Path, steps: int) -> tuple[TrainingSettings, int]:
    """Settings of a checkpoint but for the number of steps, and the updates that it has made.

    Nothing in the file is executed: what is not tensors and plain values is refused.
    """
    try:
        content = torch.load(checkpoint, map_location="cpu", weights_only=True)
        settings = TrainingSettings(**{**content["hyper_parameters"], "steps": steps})
        # Settings that were added since have defaults, but networks that were changed since do not fit.
        if others := set(content["state_dict"]) ^ set(HdrGan(settings).state_dict()):
            raise RefusedError(f"{len(others)} tensors are others, first {min(others)!r}")
        return settings, int(content["updates"])
    except (
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        KeyError,
        TypeError,
        ValueError,
        UnicodeDecodeError,
    ) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RefusedError(
            f"{checkpoint}: damaged, or not a checkpoint that this version of hdr train wrote ({reason}); begin a new "
            "run in another folder"
        ) from error


def _strategy(devices: int | str, accelerator: str, num_nodes: int) -> str:
    """How Lightning spreads the run: with several processes, the discriminator has no gradient in the warm-up."""
    count = int(devices) if str(devices).isdecimal() else 1 if accelerator == "cpu" else torch.cuda.device_count()
    return "ddp_find_unused_parameters_true" if count > 1 or num_nodes > 1 else "auto"


def _start_from(weights: str | os.PathLike[str], module: HdrGan) -> None:
    given = load_generator(weights)
    differing = [
        f"{name} {value}, not {module.generator.config[name]}"
        for name, value in given.config.items()
        if value != module.generator.config[name]
    ]
    if differing:
        raise RefusedError(
            f"{os.fspath(weights)!r}: the weights are of another architecture than the run's: {', '.join(differing)}; "
            "choose the preset and the parts of the network that they were trained with"
        )
    module.generator.load_state_dict(given.state_dict())
    module.averaged_generator.load_state_dict(given.state_dict())
