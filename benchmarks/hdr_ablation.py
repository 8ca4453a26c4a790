"""What alignment, attention and the adversarial loss each bring to HDR-GAN, on equal steps.

    python benchmarks/hdr_ablation.py --data synthetic:DIR --steps 500 --out runs/ablation

Every variant starts from the same seed, sees the same scenes in the same order and is measured on the same validation
scenes, with the moving average of its weights. The full model is trained without the sphere loss but where it says so.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table

# A file beside this one has the package's name, and Python looks there first.
sys.path = [entry for entry in sys.path if Path(entry).resolve() != Path(__file__).resolve().parent]

from hdr.data.source import open_scenes  # noqa: E402
from hdr.metrics import METRICS, evaluate  # noqa: E402
from hdr.nn import Generator  # noqa: E402
from hdr.radiometry import exposure_stack, inverse_mu_law  # noqa: E402
from hdr.training import train  # noqa: E402
from hdr.weights import load_generator  # noqa: E402

VARIANTS: dict[str, dict[str, Any]] = {
    "full": {},
    "without alignment": {"alignment": "none"},
    "without attention": {"attention": False},
    "with the sphere loss": {"adversarial_weight": 5e-5},
    "with twenty times the sphere loss": {"adversarial_weight": 1e-3},
}


@torch.no_grad()
def measure(generator: Generator, data: str) -> dict[str, float]:
    """Mean of each metric over the validation scenes."""
    scenes = open_scenes(data, "validation")
    rows = []
    for index in range(len(scenes)):  # type: ignore[arg-type]
        scene = scenes[index]
        tone_mapped = generator(exposure_stack(scene["ldr"], scene["exposures"]).unsqueeze(0))
        rows.append(evaluate(inverse_mu_law(tone_mapped[0].clamp_min(0)), scene["target"]))
    return {name: sum(row[name] for row in rows) / len(rows) for name in METRICS}


def main(
    data: Annotated[str, typer.Option(help="synthetic:DIR or kalantari:DIR")],
    steps: int = 500,
    preset: str = "tiny",
    crop: int = 96,
    out: Path = Path("runs/ablation"),
) -> None:
    """Train and measure every variant; one whose weights are in ``out`` already is measured only."""
    table = Table("variant", "parameters", *METRICS, title=f"{preset}, {steps} steps")
    for name, changes in VARIANTS.items():
        settings = {"adversarial_weight": 0.0, **changes}
        run = out / name.replace(" ", "-")
        weights = run / f"{preset}.safetensors"
        if not weights.exists():
            train(data, preset, run, steps=steps, crop=crop, validate_every=steps, **settings)
        generator = load_generator(weights)
        metrics = measure(generator, data)
        parameters = sum(parameter.numel() for parameter in generator.parameters())
        table.add_row(name, f"{parameters:,}", *(f"{metrics[metric]:.3f}" for metric in METRICS))
    Console(width=100).print(table)


if __name__ == "__main__":
    typer.run(main)
