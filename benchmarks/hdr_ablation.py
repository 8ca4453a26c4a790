"""What alignment, attention, deep supervision and the adversarial loss each bring, on equal updates.

    python benchmarks/hdr_ablation.py --data synthetic:DIR --steps 2000 --seeds 3 --out runs/ablation

All variants of all seeds learn side by side: a scene is made once, and for each seed all variants are shown the same
crops in the same order. They are measured on the same validation scenes, with the moving average of their weights. The
full model is trained without the sphere loss but where it says so. A difference that is smaller than the spread over
the seeds says nothing.
"""

from __future__ import annotations

import itertools
import json
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import cyclopts
import torch
from cyclopts import Parameter
from cyclopts.types import PositiveInt
from torch import Tensor
from torch.utils.data import DataLoader

# A file beside this one has the package's name, and Python looks there first.
sys.path = [entry for entry in sys.path if Path(entry).resolve() != Path(__file__).resolve().parent]

from hdr.data.pool import ScenePool  # noqa: E402
from hdr.data.sample import HdrSample  # noqa: E402
from hdr.data.source import open_scenes  # noqa: E402
from hdr.metrics import METRICS, evaluate  # noqa: E402
from hdr.nn import Generator  # noqa: E402
from hdr.radiometry import inverse_mu_law  # noqa: E402
from hdr.settings import TrainingSettings  # noqa: E402
from hdr.training import AlikeScenes, HdrGan, merge_batch  # noqa: E402
from hdr.weights import load_generator  # noqa: E402

UNTRAINED, FULL = "untrained", "full"
_MAIN = "PSNR-mu"
SPHERE = 5e-5
VARIANTS: dict[str, dict[str, Any]] = {
    FULL: {},
    "without alignment": {"alignment": "none"},
    "without attention": {"attention": False},
    "without deep supervision": {"deep_supervision": False},
    "without denoising": {"denoising": False},
    "with the sphere loss": {"adversarial_weight": SPHERE},
    "with twenty times the sphere loss": {"adversarial_weight": 20 * SPHERE},
}


class Learner:
    """One variant with one seed, and its optimizers."""

    def __init__(self, name: str, settings: TrainingSettings, device: torch.device) -> None:
        torch.manual_seed(settings.seed)
        self.name, self.seed = name, settings.seed
        self.gan = HdrGan(settings).to(device)
        self.optimizers = self.gan.configure_optimizers()
        self.dtype = torch.bfloat16 if device.type == "cuda" else None

    def update(self, batch: HdrSample, progress: float) -> None:
        """Learn from a batch, as :meth:`HdrGan.training_step` does."""
        for optimizer in self.optimizers:
            optimizer.param_groups[0]["lr"] = self.gan.learning_rate(min(progress, 1.0))
        with torch.autocast(batch["target"].device.type, self.dtype, enabled=self.dtype is not None):
            self.gan.learn(batch, progress, self._step)

    def _step(self, which: int, loss: Tensor) -> None:
        optimizer = self.optimizers[which]
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], 1.0)
        optimizer.step()


@torch.no_grad()
def measure(generator: Generator, scenes: list[HdrSample]) -> dict[str, float]:
    """Mean of each metric over the validation scenes."""
    rows = []
    for scene in scenes:
        radiance = inverse_mu_law(merge_batch(generator, scene).radiance).clamp(0, 1)
        rows.append(evaluate(radiance[0].cpu(), scene["target"][0].cpu()))
    return {name: sum(row[name] for row in rows) / len(rows) for name in METRICS}


def on(device: torch.device, batch: HdrSample) -> HdrSample:
    """The batch on the device; corners are read on the CPU."""
    moved: Any = {
        name: value.to(device) if isinstance(value, Tensor) and name != "corner" else value
        for name, value in batch.items()
    }
    return moved


def shares(steps: int, seconds: float | None) -> Iterator[float]:
    """Share of the run that is over, before each update."""
    start = time.monotonic()
    for step in range(steps):
        share = step / steps if seconds is None else max(step / steps, (time.monotonic() - start) / seconds)
        if share >= 1:
            return
        yield share


def main(
    *,
    data: Annotated[str, Parameter(help="synthetic:DIR")],
    steps: PositiveInt = 500,
    seconds: Annotated[float | None, Parameter(help="End earlier, after so many.")] = None,
    seeds: Annotated[PositiveInt, Parameter(help="Runs of each variant.")] = 3,
    first_seed: Annotated[int, Parameter(help="Of the runs; other seeds can be run beside these.")] = 0,
    preset: str = "tiny",
    crop: PositiveInt = 128,
    batch_size: PositiveInt = 4,
    crops_per_scene: PositiveInt = 4,
    kept_scenes: PositiveInt = 64,
    variants: Annotated[str, Parameter(help="Names with commas between; all if none is given.")] = ",".join(VARIANTS),
    scenes: Annotated[PositiveInt | None, Parameter(help="Only that many validation scenes.")] = None,
    workers: int = 1,
    device: str = "cuda" if torch.cuda.is_available() else "cpu",
    out: Annotated[Path | None, Parameter(help="A JSON file with what was measured.")] = None,
) -> None:
    """Train every variant on the same crops, and measure it."""
    chosen = variants.split(",")
    if unknown := [name for name in chosen if name not in VARIANTS]:
        raise ValueError(f"no variant {', '.join(unknown)}; choose of {', '.join(VARIANTS)}")
    where = torch.device(device)
    settings = {"preset": preset, "adversarial_weight": 0.0, "warm_up": min(200, steps)}
    chosen_seeds = range(first_seed, first_seed + seeds)
    learners = [
        Learner(name, TrainingSettings(**{**settings, "seed": seed, **VARIANTS[name]}), where)
        for seed in chosen_seeds
        for name in chosen
    ]
    made_of = open_scenes(data, "train", crop, whole=True)
    order = torch.Generator().manual_seed(0)
    fresh = DataLoader(
        made_of,
        batch_sampler=AlikeScenes(made_of, max(seeds * batch_size // crops_per_scene, 1), steps, order),  # type: ignore[arg-type]
        num_workers=workers,
    )
    # Each seed crops the scenes that all share at other places.
    pools = {
        seed: ScenePool(kept_scenes, crop, batch_size, torch.Generator().manual_seed(seed)) for seed in chosen_seeds
    }
    updates = 0
    for share, batch in zip(shares(steps, seconds), fresh, strict=False):
        batch = on(where, batch)
        for seed, pool in pools.items():
            crops = pool.exchange(batch)
            for learner in learners:
                if learner.seed == seed:
                    learner.update(crops, share)
        updates += 1
        if updates % 50 == 0:
            print(f"{updates} updates of each", file=sys.stderr, flush=True)
    held_out = [on(where, scene) for scene in itertools.islice(DataLoader(open_scenes(data, "validation")), scenes)]
    untrained = load_generator("none", preset).to(where)
    found = {UNTRAINED: [measure(untrained, held_out)]}
    parameters = {UNTRAINED: sum(parameter.numel() for parameter in untrained.parameters())}
    for learner in learners:
        generator = learner.gan.averaged_generator.eval()
        found.setdefault(learner.name, []).append(measure(generator, held_out))
        parameters[learner.name] = sum(parameter.numel() for parameter in generator.parameters())
    result = {
        "preset": preset,
        "crop": crop,
        "batch_size": batch_size,
        "updates": [updates] * seeds,
        "parameters": parameters,
        "found": found,
    }
    if out is not None:
        out.write_text(json.dumps(result, indent=1))
    print_table([result])


def print_table(results: list[dict[str, Any]]) -> None:
    """Mean and spread over the seeds of results of :func:`main`, and of the difference to the full model."""
    first = results[0]
    updates = [count for result in results for count in result["updates"]]
    print(
        f"{first['preset']}, {min(updates)} to {max(updates)} updates of {first['batch_size']} crops of "
        f"{first['crop']}, mean and standard deviation over {len(updates)} seeds"
    )
    columns = ["variant", "parameters", *METRICS, f"{_MAIN} beyond full"]
    print(f"\n| {' | '.join(columns)} |\n|{' --- |' * len(columns)}")
    rows = {name: [row for result in results for row in result["found"][name]] for name in first["parameters"]}
    for name, parameters in first["parameters"].items():
        cells = [_mean_and_spread([row[metric] for row in rows[name]]) for metric in METRICS]
        beyond = "-"
        if name not in (FULL, UNTRAINED) and FULL in rows:
            # With each seed all variants saw the same crops.
            beyond = _mean_and_spread([a[_MAIN] - b[_MAIN] for a, b in zip(rows[name], rows[FULL], strict=True)])
        print(f"| {name} | {parameters:,} | {' | '.join(cells)} | {beyond} |")


def _mean_and_spread(values: list[float]) -> str:
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{spread}"


app = cyclopts.App(help=__doc__)
app.default(main)


@app.command
def join(*results: Path) -> None:
    """Print one table of runs with other seeds, from the files that they wrote with --out."""
    print_table([json.loads(result.read_text()) for result in results])


if __name__ == "__main__":
    app()
