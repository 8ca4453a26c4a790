"""Time, memory, parameters and operations of the HDR merger, for each preset, picture size and device.

Every measurement runs in a process of its own, so that its peak memory is its own. Weights are random: neither time nor
memory depends on them. For example::

    python benchmarks/hdr.py --presets tiny,small --sizes 384x384,1500x1000
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

# This file has the package's name, and Python looks beside it first.
sys.path = [entry for entry in sys.path if Path(entry).resolve() != Path(__file__).resolve().parent]

from hdr.bracket import Bracket  # noqa: E402
from hdr.merge import Merger  # noqa: E402
from hdr.nn.generator import PRESETS, Generator  # noqa: E402

SIZES = "384x384,1500x1000,6000x4000"
_FLOP_SIDE = 384
_LARGEST_REPEATED = 2_000_000  # pixels; smaller pictures are merged twice, and the second time counts

app = typer.Typer(add_completion=False)
console = Console()


def measure(
    preset: str, width: int, height: int, device: str, tile: int, overlap: int | None, precision: str
) -> dict[str, float]:
    """Merge one bracket of noise; seconds, seconds of CPU time, and peak memory in GiB of the process or of the GPU."""
    noise = torch.randint(0, 256, (3, 3, height, width), dtype=torch.uint8)
    bracket = Bracket(noise.float().div_(255), torch.tensor([1.0, 4.0, 16.0]))
    merger = Merger(Generator.from_preset(preset), device, tile, overlap, precision)  # type: ignore[arg-type]
    seconds = cpu_seconds = 0.0
    for _ in range(2 if width * height <= _LARGEST_REPEATED else 1):
        begun, cpu_begun = time.perf_counter(), time.process_time()
        merger(bracket)  # returns a tensor on the CPU, so the GPU has finished
        seconds, cpu_seconds = time.perf_counter() - begun, time.process_time() - cpu_begun
    if merger.device.type == "cuda":
        peak = torch.cuda.max_memory_allocated() / 2**30
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)
    return {"seconds": seconds, "CPU seconds": cpu_seconds, "GiB": peak}


def giga_operations(preset: str) -> float:
    """Floating-point operations of one pass over 384 x 384 pixels, in 1e9; a multiply-add counts as two."""
    generator = Generator.from_preset(preset).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        generator(torch.rand(1, 3, 6, _FLOP_SIDE, _FLOP_SIDE))
    return float(counter.get_total_flops()) / 1e9


@app.command()
def main(
    presets: Annotated[str, typer.Option(help="Names with commas between.")] = ",".join(PRESETS),
    sizes: Annotated[str, typer.Option(help="WIDTHxHEIGHT with commas between.")] = SIZES,
    devices: Annotated[
        str, typer.Option(help="cpu, cuda, or both; cuda is left out where there is none.")
    ] = "cpu,cuda",
    tile: Annotated[int, typer.Option(help="As hdr merge takes it.")] = 512,
    overlap: Annotated[int | None, typer.Option(help="As hdr merge takes it.")] = None,
    precision: Annotated[str, typer.Option(help="As hdr merge takes it.")] = "float32",
    out: Annotated[Path | None, typer.Option(help="Write the measurements as .json.")] = None,
    one: Annotated[bool, typer.Option("--one", hidden=True)] = False,
) -> None:
    """Measure all combinations and print them as a table."""
    if one:
        width, height = map(int, sizes.split("x"))
        print(json.dumps(measure(presets, width, height, devices, tile, overlap, precision)))
        return
    found = [name for name in devices.split(",") if name != "cuda" or torch.cuda.is_available()]
    rows: list[dict[str, Any]] = []
    for preset in presets.split(","):
        millions = sum(parameter.numel() for parameter in Generator.from_preset(preset).parameters()) / 1e6
        operations = giga_operations(preset)
        for size in sizes.split(","):
            for device in found:
                measured = _measure_alone(preset, size, device, tile, overlap, precision)
                rows.append(
                    {"preset": preset, "10^6 weights": millions, "GFLOP": operations, "size": size, "device": device}
                    | measured
                )
                console.print(f"{preset} {size} {device}: {measured['seconds']:.2f} s, {measured['GiB']:.2f} GiB")
    console.print(_table(rows))
    console.print(
        f"GFLOP for {_FLOP_SIDE}x{_FLOP_SIDE}; {torch.get_num_threads()} CPU threads; tile {tile}, {precision}; memory "
        "of the process, on a GPU what PyTorch allocated there"
    )
    if out is not None:
        out.write_text(json.dumps(rows, indent=1))


def _measure_alone(
    preset: str, size: str, device: str, tile: int, overlap: int | None, precision: str
) -> dict[str, float]:
    arguments = {"presets": preset, "sizes": size, "devices": device, "tile": str(tile), "precision": precision}
    if overlap is not None:
        arguments["overlap"] = str(overlap)
    options = [word for name, value in arguments.items() for word in (f"--{name}", value)]
    command = [sys.executable, __file__, "--one", *options]
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    measured: dict[str, float] = json.loads(told)
    return measured


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*(f"{value:.2f}" if isinstance(value, float) else str(value) for value in row.values()))
    return table


if __name__ == "__main__":
    app()
