"""Memory and restart of an evaluation of many images: a tiny model, tiny images, every metric but the model's own cost.

Each run is a process of its own, so that its peak memory and the time of its start are its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from captum_ext.evaluation import evaluate

SIDE = 8


class Images(torch.utils.data.Dataset[Tensor]):
    """Noise, made when it is asked for."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Tensor:
        return torch.rand(3, SIDE, SIDE, generator=torch.Generator().manual_seed(index))


def model() -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * (SIDE - 2) ** 2, 10))
    for parameter in network.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    return network


def run(options: argparse.Namespace) -> None:
    """Evaluate in this process, and print what it took."""
    begin, imports = time.perf_counter(), time.process_time()
    table = evaluate(
        model(),
        Images(options.images),
        options.methods.split(","),
        options.metrics.split(","),
        options.out,
        n_steps=2,
        curve_steps=4,
        min_score=0,
        device="cpu",
    )
    seconds, processor = time.perf_counter() - begin, time.process_time() - imports
    # Linux counts in kibibytes.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    found = {"rows": len(table), "seconds": seconds, "processor": processor, "imports": imports, "peak": peak}
    print(json.dumps(found))


def main() -> None:
    """Run, and run again where all is done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--methods", default="saliency,input-x-gradient")
    parser.add_argument("--metrics", default="insertion,deletion,aic,sic")
    parser.add_argument("--out", type=Path, help="folder of results; a temporary one without it")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        run(options)
        return
    with tempfile.TemporaryDirectory() as temporary:
        out = options.out or Path(temporary) / "out"
        print(f"{options.images} images of {SIDE} x {SIDE}, {options.methods}, {options.metrics}")
        for what in ("first run", "restart of the finished run"):
            words = ["--images", str(options.images), "--methods", options.methods, "--metrics", options.metrics]
            command = [sys.executable, __file__, *words, "--out", str(out), "--alone"]
            finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            found = json.loads(finished.stdout.splitlines()[-1])
            print(
                f"{what}: {found['seconds']:.1f} s; processor {found['processor']:.1f} s, before that imports "
                f"{found['imports']:.1f} s; peak {found['peak']:.2f} GiB; {found['rows']} rows"
            )
        size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
        print(f"on disk: {size / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
