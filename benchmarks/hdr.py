"""What merging costs, and how good it is, beside what is reached without a network.

    python benchmarks/hdr.py                             time and memory, one thread, 384 x 384 pixels
    python benchmarks/hdr.py --large                     24 megapixels, too
    python benchmarks/hdr.py --data DIR                  and quality: DIR/photographs and DIR/hdri hold HDR images, of
                                                         which two in nine are held out; DIR/brackets still brackets

Every cost is measured in a process of its own, so that its peak memory is its own. The bracket is the demo's scene,
enlarged: alignment depends on what is to be seen.
"""

from __future__ import annotations

import json
import math
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import cyclopts
import torch
import torch.nn.functional as F
from cyclopts import Parameter
from cyclopts.types import PositiveInt
from torch import Tensor

# This file has the package's name, and Python looks beside it first.
sys.path = [entry for entry in sys.path if Path(entry).resolve() != Path(__file__).resolve().parent]

from hdr.alignment import align  # noqa: E402
from hdr.baselines import BASELINES  # noqa: E402
from hdr.bracket import Bracket  # noqa: E402
from hdr.cli._memory import keep_memory  # noqa: E402
from hdr.data.sample import calibration_of  # noqa: E402
from hdr.data.source import open_scenes  # noqa: E402
from hdr.evaluation import OURS, UNTRAINED, Method, Score, mean_scores, open_cases, score  # noqa: E402
from hdr.merge import Merger  # noqa: E402
from hdr.metrics import evaluate, format_metric  # noqa: E402
from hdr.nn.generator import PRESETS, Generator  # noqa: E402
from hdr.photograph_scene import EXPOSURES, photograph_scene  # noqa: E402
from hdr.radiometry import middle, mu_law  # noqa: E402

LARGE = "6000x4000"
REGIONS = ("lost by the reference", "lost by the long one", "lost by neither")

_LARGEST_REPEATED = 2_000_000  # pixels; smaller pictures are merged twice, and the second time counts
_CLIPPED = 0.98
_FEWEST_PIXELS = 100  # of a region, or it says nothing about a scene


def measure_cost(
    preset: str, width: int, height: int, device: str, tile: int, overlap: int | None, precision: str, judge: bool
) -> dict[str, float]:
    """Calibrate, align and merge one bracket: seconds of each, processor time of all, and peak memory in GiB."""
    keep_memory()  # as the command does
    generator = Generator.from_preset(preset)
    merger = Merger(generator, device, tile, overlap, precision, judge=judge)  # type: ignore[arg-type]
    for _ in range(2 if width * height <= _LARGEST_REPEATED else 1):
        ldr = F.interpolate(photograph_scene().bracket.ldr, (height, width), mode="bilinear", align_corners=False)
        images = list(ldr.mul_(255).round_().div_(255))
        before, moments = resource.getrusage(resource.RUSAGE_SELF), [time.perf_counter()]
        bracket = Bracket.from_images(images, EXPOSURES)
        moments.append(time.perf_counter())
        del ldr, images  # the bracket holds them, and Bracket.from_files keeps none besides, either
        alignment = align(bracket)
        moments.append(time.perf_counter())
        merger(bracket, alignment)  # returns a tensor on the CPU, so the GPU has finished
        moments.append(time.perf_counter())
        after = resource.getrusage(resource.RUSAGE_SELF)
    if merger.device.type == "cuda":
        peak = torch.cuda.max_memory_allocated() / 2**30
    else:
        peak = after.ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)
    response, displacement, merging = (end - begin for begin, end in pairwise(moments))
    return {
        "response, s": response,
        "alignment, s": displacement,
        "merge, s": merging,
        "all, s": moments[-1] - moments[0],
        "user, s": after.ru_utime - before.ru_utime,
        "system, s": after.ru_stime - before.ru_stime,
        "peak, GiB": peak,
    }


def psnr_mu_by_region(radiance: Tensor, truth: Tensor, exposures: Tensor) -> dict[str, float]:
    """PSNR-mu by what the true radiance (3, H, W) would clip: the reference, only the longest, or neither.

    NaN where a region has fewer than a hundred pixels.
    """
    brightest = truth.amax(dim=0)
    by_reference = brightest * exposures[middle(len(exposures))] >= _CLIPPED
    by_long = (brightest * exposures[-1] >= _CLIPPED) & ~by_reference
    squared = (mu_law(radiance.clamp(0, 1)) - mu_law(truth)).square().mean(dim=0)
    found = {}
    for name, mask in zip(REGIONS, (by_reference, by_long, ~(by_reference | by_long)), strict=True):
        enough = int(mask.sum()) >= _FEWEST_PIXELS
        found[name] = -10 * math.log10(max(float(squared[mask].mean()), 1e-12)) if enough else math.nan
    return found


def measure_scenes(data: str, methods: dict[str, Method], count: int | None) -> list[Score]:
    """Metrics of every method on every held-out scene, the three regions among them."""
    scenes = open_scenes(data, "validation")
    length = len(scenes)  # type: ignore[arg-type]
    scores = []
    for index in range(length if count is None else min(count, length)):
        scene = scenes[index]
        bracket = Bracket(scene["ldr"], scene["exposures"], calibration=calibration_of(scene))
        for name, method in methods.items():
            radiance = method(bracket)
            found = evaluate(radiance.clamp(0, 1), scene["target"])
            found |= psnr_mu_by_region(radiance, scene["target"], scene["exposures"])
            scores.append(Score(scene["name"], name, found))
        print(f"{index + 1}: {scene['name']}", file=sys.stderr)
    return scores


def main(
    *,
    presets: Annotated[str, Parameter(help="Names with commas between.")] = "small",
    sizes: Annotated[str, Parameter(help="WIDTHxHEIGHT with commas between.")] = "384x384",
    large: Annotated[bool, Parameter(help=f"Measure {LARGE}, too.", negative=())] = False,
    devices: Annotated[str, Parameter(help="cpu, cuda, or both; cuda is left out where there is none.")] = "cpu,cuda",
    tile: Annotated[PositiveInt, Parameter(help="As hdr merge takes it.")] = 776,
    overlap: Annotated[int | None, Parameter(help="As hdr merge takes it.")] = None,
    precision: Annotated[str, Parameter(help="As hdr merge takes it.")] = "auto",
    judge: Annotated[bool, Parameter(help="As hdr merge takes it.")] = True,
    threads: PositiveInt = 1,
    data: Annotated[Path | None, Parameter(help="Holds photographs, hdri and brackets, or some of them.")] = None,
    weights: Annotated[str, Parameter(help="What is measured on data, as hdr merge takes it.")] = "small",
    scenes: Annotated[PositiveInt | None, Parameter(help="Only that many scenes of each kind.")] = None,
    out: Annotated[Path | None, Parameter(help="Write all measurements as .json.")] = None,
    one: Annotated[bool, Parameter(show=False, negative=())] = False,
) -> None:
    """Print tables of costs and, with data, of quality."""
    torch.set_num_threads(threads)
    if one:
        width, height = map(int, sizes.split("x"))
        print(json.dumps(measure_cost(presets, width, height, devices, tile, overlap, precision, judge)))
        return
    written: dict[str, Any] = {"costs": []}
    for preset in presets.split(","):
        if preset not in PRESETS:
            raise ValueError(f"no preset {preset!r}; choose of {', '.join(PRESETS)}")
        for size in [*sizes.split(","), *([LARGE] if large else [])]:
            for device in [name for name in devices.split(",") if name != "cuda" or torch.cuda.is_available()]:
                options = {"presets": preset, "sizes": size, "devices": device, "tile": tile, "precision": precision}
                options |= {"threads": threads, "judge": judge} | ({} if overlap is None else {"overlap": overlap})
                written["costs"].append({"preset": preset, "size": size, "device": device} | _measured_alone(options))
    print(f"Costs: {threads} threads, tile {tile}, {precision}{'' if judge else ', without the judge'}\n")
    print(_table(list(written["costs"][0]), [[_shown(v) for v in row.values()] for row in written["costs"]]))
    for preset in presets.split(","):
        print(f"\n{preset}: {sum(p.numel() for p in Generator.from_preset(preset).parameters()):,} parameters")
    if data is not None:
        methods: dict[str, Method] = {
            OURS: Merger(weights, "auto", judge=judge),
            UNTRAINED: Merger("none", "auto"),
            **BASELINES,
        }
        for kind in ("photographs", "hdri", "brackets"):
            if (data / kind).is_dir():
                written[kind] = _quality(data / kind, methods, scenes)
    if out is not None:
        out.write_text(json.dumps(written, indent=1))


def _quality(folder: Path, methods: dict[str, Method], scenes: int | None) -> list[dict[str, Any]]:
    if folder.name == "brackets":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what cannot be known of a bracket
            scores = [one for case in open_cases(f"still:{folder}", limit=scenes) for one in score(case, methods)]
        rows = scores
    else:
        scores = measure_scenes(f"synthetic:{folder}", methods, scenes)
        count = len({one.scene for one in scores})
        rows = [one._replace(scene=f"mean of {count}") for one in mean_scores(scores)]
    names = list(scores[0].metrics)
    print(f"\n{folder.name}\n")
    print(_table(["scene", "method", *names], [[r.scene, r.method, *(_decibels(n, r) for n in names)] for r in rows]))
    return [one._asdict() for one in scores]


def _measured_alone(options: dict[str, Any]) -> dict[str, float]:
    words = [f"--{name}={value}" for name, value in options.items()]
    command = [sys.executable, __file__, "--one", *words]
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    measured: dict[str, float] = json.loads(told)
    return measured


def _decibels(name: str, row: Score) -> str:
    value = row.metrics[name]
    return "-" if math.isnan(value) else format_metric("PSNR" if name in REGIONS else name, value)


def _shown(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def _table(headings: list[str], rows: Iterable[list[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


if __name__ == "__main__":
    cyclopts.run(main)
