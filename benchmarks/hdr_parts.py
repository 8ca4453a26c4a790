"""What each part of trained weights does: the same weights, with one part taken out.

    python benchmarks/hdr_parts.py --data synthetic:DIR

Unlike benchmarks/hdr_ablation.py it trains nothing: it tells what the trained network relies on, not what another one
would have learned in its place. Scenes that stand still go through the network too.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import cyclopts
import torch
from cyclopts import Parameter
from torch import nn
from torch.utils.data import DataLoader

# A file beside this one has the package's name, and Python looks there first.
sys.path = [entry for entry in sys.path if Path(entry).resolve() != Path(__file__).resolve().parent]

from hdr.data.source import open_scenes  # noqa: E402
from hdr.metrics import METRICS, evaluate  # noqa: E402
from hdr.nn import Generator  # noqa: E402
from hdr.radiometry import inverse_mu_law  # noqa: E402
from hdr.training import merge_batch  # noqa: E402
from hdr.weights import load_generator  # noqa: E402

_OPEN = 20.0  # of a sigmoid


def _constant(layer: nn.Conv2d, value: float = 0.0) -> None:
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.constant_(layer.bias, value)


def _without_denoiser(generator: Generator) -> None:
    generator.denoiser = None


def _without_logits(generator: Generator) -> None:
    _constant(generator.judges[0].logits)  # type: ignore[arg-type]


def _without_correction(generator: Generator) -> None:
    for stage in generator.alignment:
        _constant(stage.correction)  # type: ignore[arg-type]


def _without_judge(generator: Generator) -> None:
    _without_logits(generator)
    _without_correction(generator)


def _without_taps(generator: Generator) -> None:
    for stage in generator.alignment:
        _constant(stage.tap_offsets)  # type: ignore[arg-type]


def _with_open_gates(generator: Generator) -> None:
    for gate in generator.gates:
        _constant(gate.score, _OPEN)  # type: ignore[arg-type]


PARTS: dict[str, Callable[[Generator], None]] = {
    "all of it": lambda _: None,
    "without the denoiser": _without_denoiser,
    "without the logits of the weights": _without_logits,
    "without the correction of the displacement": _without_correction,
    "without both: hdr merge --no-judge": _without_judge,
    "without the offsets of deformable kernels": _without_taps,
    "with attention gates open": _with_open_gates,
}


@torch.no_grad()
def main(
    *,
    data: Annotated[str, Parameter(help="synthetic:DIR")],
    weights: str = "small",
    scenes: Annotated[int | None, Parameter(help="Only that many validation scenes.")] = None,
) -> None:
    """Measure the weights with one part after the other taken out."""
    generators = {name: load_generator(weights) for name in PARTS}
    for name, take_out in PARTS.items():
        take_out(generators[name])
    generators["physics alone"] = load_generator("none")
    found: dict[str, list[dict[str, float]]] = {name: [] for name in generators}
    for scene in itertools.islice(DataLoader(open_scenes(data, "validation")), scenes):
        for name, generator in generators.items():
            radiance = inverse_mu_law(merge_batch(generator, scene).radiance).clamp(0, 1)
            found[name].append(evaluate(radiance[0], scene["target"][0]))
    print(f"| part | {' | '.join(METRICS)} |\n| --- |{' --- |' * len(METRICS)}")
    for name, rows in found.items():
        means = (sum(row[metric] for row in rows) / len(rows) for metric in METRICS)
        print(f"| {name} | {' | '.join(f'{mean:.2f}' if mean > 1 else f'{mean:.4f}' for mean in means)} |")


if __name__ == "__main__":
    cyclopts.run(main)
