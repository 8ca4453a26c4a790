"""What alignment, attention, deep supervision and the adversarial loss each bring, on equal updates.

    python benchmarks/hdr_ablation.py --data synthetic:DIR --steps 2000 --seeds 3 --out runs/ablation

For each seed every variant starts from the same seed, sees the same scenes in the same order and is measured on the
same validation scenes, with the moving average of its weights. The full model is trained without the sphere loss but
where it says so. A difference that is smaller than the spread over the seeds says nothing.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from typing import Annotated, Any

import cyclopts
import torch
from cyclopts import Parameter
from cyclopts.types import PositiveInt
from torch.utils.data import DataLoader

# A file beside this one has the package's name, and Python looks there first.
sys.path = [entry for entry in sys.path if Path(entry).resolve() != Path(__file__).resolve().parent]

from hdr.data.source import open_scenes  # noqa: E402
from hdr.metrics import METRICS, evaluate  # noqa: E402
from hdr.nn import Generator  # noqa: E402
from hdr.radiometry import inverse_mu_law  # noqa: E402
from hdr.settings import RunSettings, TrainingSettings  # noqa: E402
from hdr.training import merge_batch, train  # noqa: E402
from hdr.weights import load_generator  # noqa: E402

UNTRAINED = "untrained"
SPHERE = TrainingSettings().adversarial_weight
VARIANTS: dict[str, dict[str, Any]] = {
    "full": {},
    "without alignment": {"alignment": "none"},
    "without attention": {"attention": False},
    "without deep supervision": {"deep_supervision": False},
    "with the sphere loss": {"adversarial_weight": SPHERE},
    "with twenty times the sphere loss": {"adversarial_weight": 20 * SPHERE},
}


@torch.no_grad()
def measure(generator: Generator, data: str, scenes: int | None) -> dict[str, float]:
    """Mean of each metric over the validation scenes."""
    rows = []
    for index, scene in enumerate(DataLoader(open_scenes(data, "validation"))):
        if scenes is not None and index == scenes:
            break
        radiance = inverse_mu_law(merge_batch(generator, scene).radiance).clamp(0, 1)
        rows.append(evaluate(radiance[0], scene["target"][0]))
    return {name: sum(row[name] for row in rows) / len(rows) for name in METRICS}


def main(
    *,
    data: Annotated[str, Parameter(help="synthetic:DIR or kalantari:DIR")],
    steps: PositiveInt = 500,
    seeds: Annotated[PositiveInt, Parameter(help="Runs of each variant.")] = 3,
    preset: str = "tiny",
    crop: PositiveInt = 128,
    batch_size: PositiveInt = 4,
    variants: Annotated[str, Parameter(help="Names with commas between; all if none is given.")] = ",".join(VARIANTS),
    scenes: Annotated[PositiveInt | None, Parameter(help="Only that many validation scenes.")] = None,
    workers: int = 1,
    out: Path = Path("runs/ablation"),
) -> None:
    """Train and measure every variant; one whose weights are in ``out`` already is measured only."""
    chosen = variants.split(",")
    if unknown := [name for name in chosen if name not in VARIANTS]:
        raise ValueError(f"no variant {', '.join(unknown)}; choose of {', '.join(VARIANTS)}")
    untrained = load_generator("none", preset)
    found: dict[str, list[dict[str, float]]] = {UNTRAINED: [measure(untrained, data, scenes)]}
    parameters = {UNTRAINED: _parameters(untrained)}
    for name in chosen:
        for seed in range(seeds):
            run = out / f"{name.replace(' ', '-')}-{seed}"
            weights = run / f"{preset}.safetensors"
            if not weights.exists():
                settings = {"adversarial_weight": 0.0, **VARIANTS[name]}
                train(
                    data,
                    run,
                    TrainingSettings(
                        preset=preset, steps=steps, crop=crop, batch_size=batch_size, seed=seed, **settings
                    ),
                    RunSettings(validate_every=steps, validation_scenes=1, workers=workers),
                    progress=False,
                )
            generator = load_generator(weights)
            found.setdefault(name, []).append(measure(generator, data, scenes))
            parameters[name] = _parameters(generator)
            print(f"{name}, seed {seed}: {found[name][-1]['PSNR-mu']:.2f} dB", file=sys.stderr)
    print(
        f"{preset}, {steps} updates of {batch_size} crops of {crop}, mean and standard deviation over {seeds} seeds\n"
    )
    print(f"| variant | parameters | {' | '.join(METRICS)} |\n| --- | --- |{' --- |' * len(METRICS)}")
    for name, rows in found.items():
        cells = [_mean_and_spread([row[metric] for row in rows]) for metric in METRICS]
        print(f"| {name} | {parameters[name]:,} | {' | '.join(cells)} |")


def _parameters(generator: Generator) -> int:
    return sum(parameter.numel() for parameter in generator.parameters())


def _mean_and_spread(values: list[float]) -> str:
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{spread}"


if __name__ == "__main__":
    cyclopts.run(main)
