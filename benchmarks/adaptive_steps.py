"""How many gradient evaluations a map needs: steps of one length, and steps put where the output changes.

    python benchmarks/adaptive_steps.py --data DIR       DIR/imagenet/*.jpg, whose names begin with the class, and the
                                                         SqueezeNet weights DIR/squeezenet1_0.safetensors
    python benchmarks/adaptive_steps.py --networks efficientnet-lite0

The second explains the photographs of scikit-image and scikit-learn for their predicted classes. Counts do not depend
on the machine. The truth is the map of 2,048 equal steps; maps are compared by the cosine of their absolute values,
summed over the channels. For IDGI there is a third way: as many forward passes first, at even distances, then steps
that hold equal shares of the change between these, in the manner of the adaptive sampling of Walker, Jha, Chen and
Ewetz, Integrated Decision Gradients, AAAI 2024.

A picture takes some 5,000 evaluations of a network. What is kept by ``--results`` is not measured again.
"""

from __future__ import annotations

import json
import statistics
import time
from collections import defaultdict
from collections.abc import Container, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import cyclopts
import numpy as np
import numpy.typing as npt
import torch
from cyclopts import Parameter
from cyclopts.types import PositiveInt
from torch import Tensor
from tqdm import tqdm

from captum_ext import IDGI, PathIG
from captum_ext.attr.path.paths import BlurPath, StraightPath
from captum_ext.attr.path.rules import EvaluatedPoint, important_direction, riemann
from captum_ext.attr.path.walk import prepare_walk
from captum_ext.classifiers import (
    Classifier,
    ImageBaseline,
    Probabilities,
    SeenImage,
    load_classifier,
    photographs,
    read_image,
    seen_image,
)

FINEST = 2048
COUNTS = (4, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 128, 192, 256, 384, 512, 768, 1024)
COARSE = tuple(n for n in COUNTS if n in {2**k for k in range(2, 11)} | {3 * 2**k for k in range(1, 9)})
"""Two for each doubling."""
ENOUGH = 0.99
PATHS = {"straight": StraightPath(), "blur": BlurPath()}
METHODS = {"IDGI": (IDGI, important_direction), "IG": (PathIG, riemann)}
WAYS = ("equal", "adaptive", "pilot")
Cosines = dict[int, float]


def cosine(attributions: Tensor, truth: Tensor) -> float:
    maps = [x.abs().sum(1).flatten().double() for x in (attributions, truth)]
    return torch.nn.functional.cosine_similarity(*maps, dim=0).item()


@dataclass(frozen=True)
class FinestWalk:
    """The maps of each rule for each number of equal steps, and what the output and its gradient were on the way."""

    maps: dict[str, dict[int, Tensor]]
    values: npt.NDArray[np.float64]
    gradients: list[Tensor]

    def after_a_pilot(self, n_steps: int) -> Tensor:
        """Return IDGI's map of steps with equal shares of the change that as many forward passes see."""
        finest = len(self.gradients)
        looked_at = np.linspace(0, finest, n_steps + 1).round().astype(int)
        seen = np.concatenate([[0.0], np.abs(np.diff(self.values[looked_at])).cumsum()])
        ends = np.interp(np.linspace(0, seen[-1], n_steps + 1), seen, looked_at).round().astype(int)
        total = torch.zeros_like(self.gradients[0], dtype=torch.float32)
        for left, right in pairwise(np.unique([0, *ends, finest])):
            values = (torch.tensor([self.values[place]], device=total.device) for place in (left, right))
            gradient = (self.gradients[left].float(),)
            total += important_direction(
                EvaluatedPoint((), next(values), gradient), EvaluatedPoint((), next(values), None)
            )[0]
        return total


def finest_walk(
    path: StraightPath | BlurPath, model: Probabilities, seen: SeenImage, target: int, batch_size: int
) -> FinestWalk:
    """Take the most equal steps, and make the maps of fewer from them.

    A number of steps that does not divide the most has its points at the nearest ones of the walk.
    """
    baselines = seen.baselines if isinstance(path, StraightPath) else None
    walk = prepare_walk(path, model, (seen.inputs,), baselines, target, None, FINEST, batch_size, progress_name=None)
    ends = {n: {round(step * FINEST / n) for step in range(1, n + 1)} for n in (*COUNTS, FINEST)}
    maps = {name: {n: torch.zeros_like(seen.inputs) for n in ends} for name in METHODS}
    left: dict[int, EvaluatedPoint] = {}
    values: list[float] = []
    gradients: list[Tensor] = []
    for place, point in enumerate(walk.points()):
        values.append(point.value.item())
        if point.gradient is not None:
            # Half of the memory, at the range of float32.
            gradients.append(point.gradient[0].bfloat16())
        for n, places in ends.items():
            if place and place not in places:
                continue
            if place:
                for name, (_, rule) in METHODS.items():
                    maps[name][n] += rule(left[n], point)[0]
            left[n] = point
    return FinestWalk(maps, np.array(values), gradients)


def compare(
    model: Probabilities, seen: SeenImage, target: int, batch_size: int = 8
) -> Iterator[tuple[str, str, dict[str, Cosines]]]:
    """Yield path, method, and for each way to put steps the cosines with the truth by their number."""
    for path_name, path in PATHS.items():
        baselines = seen.baselines if isinstance(path, StraightPath) else None
        finest = finest_walk(path, model, seen, target, batch_size)
        for name, (method, _) in METHODS.items():
            truth = finest.maps[name][FINEST]
            ways = {"equal": {n: cosine(finest.maps[name][n], truth) for n in COUNTS}}
            if name == "IDGI":
                ways["pilot"] = {n: cosine(finest.after_a_pilot(n), truth) for n in COUNTS}
            adaptive: Cosines = {}
            for n in COUNTS:
                explainer = method(model, path)
                adapted = explainer.attribute(
                    seen.inputs, baselines, target, n_steps=n, steps="adaptive", internal_batch_size=batch_size
                )
                adaptive[n] = cosine(adapted, truth)
                if n >= 32 and n in COARSE and adaptive[n] >= ENOUGH:
                    break
            yield path_name, name, {**ways, "adaptive": adaptive}


def needed(cosines: Cosines, counts: Container[int]) -> float:
    """Return the least number of steps, of these, from which on the map is near enough to the truth."""
    too_few = [n for n, value in cosines.items() if n in counts and value < ENOUGH]
    return min((n for n in cosines if n in counts and n > max(too_few, default=0)), default=float("inf"))


def images_for(
    name: str, data: Path | None, every: int, most: int | None, device: str
) -> Iterator[tuple[str, Classifier, SeenImage, int]]:
    """Yield each image's name, the network, the image as it sees it, and the class to explain."""
    weights = None if data is None else data / f"{name}.safetensors"
    classifier = load_classifier(name, weights if weights is not None and weights.exists() else None, device)
    files = [] if data is None else sorted((data / "imagenet").glob("*.jpg"))
    images = [(file.stem, read_image(file), int(file.name.split("_")[0])) for file in files]
    images = images or [(photograph.name, photograph.image, None) for photograph in photographs()]
    for image_name, image, label in images[::every][:most]:
        seen = seen_image(classifier, image, ImageBaseline.BLACK, device)
        predicted = int(classifier.model(seen.inputs).argmax())
        if label is None or predicted == label:
            yield image_name, classifier, seen, predicted


def measured(
    file: Path | None, classifier: Classifier, seen: SeenImage, target: int, batch_size: int
) -> list[dict[str, Any]]:
    """Return what `compare` finds, from a file if it is there, and keep it in one."""
    if file is not None and file.exists():
        found: list[dict[str, Any]] = json.loads(file.read_text())
        return found
    compared = compare(Probabilities(classifier.model), seen, target, batch_size)
    found = [{"path": path, "method": method, **ways} for path, method, ways in compared]
    text = json.dumps(found)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        half = file.with_suffix(".half")
        half.write_text(text)
        half.replace(file)
    read: list[dict[str, Any]] = json.loads(text)
    return read


def print_table(results: dict[tuple[str, str, str], list[dict[str, Cosines]]], numbers: Container[int]) -> None:
    titles = ("network", "path", "method", "images", "equal", "adaptive", "fewer by", "after a pilot")
    print(f"| {' | '.join(titles)} | cosine of 16: equal | adaptive |")
    print(f"|{' --- |' * (len(titles) + 2)}")
    for (network, path, method), found in results.items():
        counts = {way: [needed(one[way], numbers) for one in found] for way in ("equal", "adaptive")}
        factors = [a / b for a, b in zip(*counts.values(), strict=True)]
        pilots = [needed(one["pilot"], numbers) for one in found if "pilot" in one]
        sixteen = [statistics.median(one[way][16] for one in found) for way in counts]
        cells = [network, path, method, str(len(found)), *map(_median, counts.values()), _median(factors, ".1f")]
        cells += [f"{_median(pilots)}, {len(pilots)} images" if pilots else "-"]
        print(f"| {' | '.join([*cells, *(f'{value:.3f}' for value in sixteen)])} |")


def _median(numbers: list[float], shown: str = ".0f") -> str:
    return f"{statistics.median(numbers):{shown}} ({min(numbers):{shown}} to {max(numbers):{shown}})"


def print_times(classifier: Classifier, seen: SeenImage, target: int, runs: int = 5) -> None:
    """Print the processor time of 32 adaptive steps by that of 32 equal ones, which alternate."""
    model = Probabilities(classifier.model)
    for path_name, path in PATHS.items():
        for name, (method, _) in METHODS.items():
            seconds: dict[str, list[float]] = defaultdict(list)
            for steps in ("equal", "adaptive") * runs:
                begin = time.process_time()
                method(model, path).attribute(
                    seen.inputs, target=target, n_steps=32, steps=steps, internal_batch_size=4
                )
                seconds[steps].append(time.process_time() - begin)
            ratios = [a / b for a, b in zip(seconds["adaptive"], seconds["equal"], strict=True)]
            print(f"{path_name} {name}: processor time, adaptive by equal, {statistics.median(ratios):.3f}")


def main(
    *,
    data: Annotated[Path | None, Parameter(help="Holds imagenet/*.jpg and NETWORK.safetensors.")] = None,
    networks: Annotated[tuple[str, ...], Parameter(help="Of torchvision, or efficientnet-lite0 to 4.")] = (
        "squeezenet1_0",
        "efficientnet-lite0",
    ),
    every: Annotated[PositiveInt, Parameter(help="Only every so-many-th picture.")] = 1,
    pictures: Annotated[PositiveInt | None, Parameter(help="The first so many of these; all if not given.")] = None,
    results: Annotated[Path | None, Parameter(help="Folder that keeps what each picture gave.")] = None,
    coarse: Annotated[bool, Parameter(help="Count by two numbers of steps for each doubling, 16, 24, 32 ...")] = False,
    times: Annotated[bool, Parameter(help="Measure processor time too.")] = False,
    device: Annotated[str, Parameter(help="Where the networks run.")] = "cpu",
    batch_size: Annotated[PositiveInt, Parameter(help="Points that go through a network at once.")] = 8,
) -> None:
    """Count the evaluations that a map needs with equal and with adaptive steps."""
    numbers = COARSE if coarse else COUNTS
    found: dict[tuple[str, str, str], list[dict[str, Cosines]]] = defaultdict(list)
    for network in networks:
        images = list(images_for(network, data, every, pictures, device))
        for name, classifier, seen, target in tqdm(images, desc=network):
            file = None if results is None else results / network / f"{name}.json"
            for one in measured(file, classifier, seen, target, batch_size):
                ways = {way: {int(n): x for n, x in one[way].items()} for way in WAYS if way in one}
                found[network, one["path"], one["method"]].append(ways)
                counts = {way: needed(cosines, numbers) for way, cosines in ways.items()}
                print(network, name, one["path"], one["method"], counts, flush=True)
        if times:
            print_times(classifier, seen, target)
    print_table(found, numbers)


if __name__ == "__main__":
    cyclopts.run(main)
