"""How many gradient evaluations a map needs: steps of one length, and steps put where the output changes.

    python benchmarks/adaptive_steps.py --data DIR       DIR/imagenet/*.jpg, whose names begin with the class, and the
                                                         SqueezeNet weights DIR/squeezenet1_0.safetensors
    python benchmarks/adaptive_steps.py --networks efficientnet-lite0

The second explains the photographs of scikit-image and scikit-learn for their predicted classes. Counts do not depend
on the machine. The truth is the map of 2,048 equal steps; maps are compared by the cosine of their absolute values,
summed over the channels. A picture takes some 5,000 evaluations of a network: what is kept by ``--results`` is not
measured again, and pictures measured elsewhere, with fewer numbers of steps, are compared by those that all have.
"""

from __future__ import annotations

import json
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import cyclopts
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
ENOUGH = 0.99
PATHS = {"straight": StraightPath(), "blur": BlurPath()}
METHODS = {"IDGI": (IDGI, important_direction), "IG": (PathIG, riemann)}
Cosines = dict[int, float]


def cosine(attributions: Tensor, truth: Tensor) -> float:
    maps = [x.abs().sum(1).flatten().double() for x in (attributions, truth)]
    return torch.nn.functional.cosine_similarity(*maps, dim=0).item()


def equal_maps(
    path: StraightPath | BlurPath, model: Probabilities, seen: SeenImage, target: int, batch_size: int
) -> dict[str, dict[int, Tensor]]:
    """Return the map of each rule for each number of equal steps, from one walk of the most.

    A number of steps that does not divide the most has its points at the nearest ones of the walk.
    """
    baselines = seen.baselines if isinstance(path, StraightPath) else None
    walk = prepare_walk(path, model, (seen.inputs,), baselines, target, None, FINEST, batch_size, progress_name=None)
    ends = {n: {round(step * FINEST / n) for step in range(1, n + 1)} for n in (*COUNTS, FINEST)}
    maps = {name: {n: torch.zeros_like(seen.inputs) for n in ends} for name in METHODS}
    left: dict[int, EvaluatedPoint] = {}
    for place, point in enumerate(walk.points()):
        for n, places in ends.items():
            if place and place not in places:
                continue
            if place:
                for name, (_, rule) in METHODS.items():
                    maps[name][n] += rule(left[n], point)[0]
            left[n] = point
    return maps


def compare(
    model: Probabilities, seen: SeenImage, target: int, batch_size: int = 8
) -> Iterator[tuple[str, str, Cosines, Cosines]]:
    """Yield path, method, and the cosines with the truth by number of steps: equal ones, adaptive ones."""
    for path_name, path in PATHS.items():
        baselines = seen.baselines if isinstance(path, StraightPath) else None
        found = equal_maps(path, model, seen, target, batch_size)
        for name, (method, _) in METHODS.items():
            truth = found[name][FINEST]
            equal = {n: cosine(found[name][n], truth) for n in COUNTS}
            adaptive: Cosines = {}
            for n in COUNTS:
                explainer = method(model, path)
                adapted = explainer.attribute(
                    seen.inputs, baselines, target, n_steps=n, steps="adaptive", internal_batch_size=batch_size
                )
                adaptive[n] = cosine(adapted, truth)
                if n >= 32 and adaptive[n] >= ENOUGH:
                    break
            yield path_name, name, equal, adaptive


def needed(cosines: Cosines) -> float:
    """Return the least number of steps from which on the map is near enough to the truth."""
    too_few = [n for n, value in cosines.items() if value < ENOUGH]
    return min((n for n in cosines if not too_few or n > max(too_few)), default=float("inf"))


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
    found = [dict(zip(("path", "method", "equal", "adaptive"), one, strict=True)) for one in compared]
    text = json.dumps(found)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        half = file.with_suffix(".half")
        half.write_text(text)
        half.replace(file)
    read: list[dict[str, Any]] = json.loads(text)
    return read


def with_common_counts(results: list[tuple[Cosines, Cosines]]) -> list[tuple[Cosines, Cosines]]:
    """Leave the numbers of steps that all pictures were measured with."""
    common = set.intersection(*(set(equal) for equal, _ in results))
    return [
        ({n: equal[n] for n in sorted(common)}, {n: adaptive[n] for n in sorted(common & set(adaptive))})
        for equal, adaptive in results
    ]


def print_table(results: dict[tuple[str, str, str], list[tuple[Cosines, Cosines]]]) -> None:
    print("| network | path | method | images | equal | adaptive | fewer by | cosine of 16: equal | adaptive |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for (network, path, method), of_all in results.items():
        found = with_common_counts(of_all)
        equal, adaptive = ([needed(one[side]) for one in found] for side in (0, 1))
        factors = [a / b for a, b in zip(equal, adaptive, strict=True)]
        sixteen = [statistics.median(one[side][16] for one in found) for side in (0, 1)]
        cells = [network, path, method, str(len(found)), *(_median(counts) for counts in (equal, adaptive))]
        cells += [_median(factors, ".1f"), *(f"{value:.3f}" for value in sixteen)]
        print(f"| {' | '.join(cells)} |")


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
    times: Annotated[bool, Parameter(help="Measure processor time too.")] = False,
    device: Annotated[str, Parameter(help="Where the networks run.")] = "cpu",
    batch_size: Annotated[PositiveInt, Parameter(help="Points that go through a network at once.")] = 8,
) -> None:
    """Count the evaluations that a map needs with equal and with adaptive steps."""
    found: dict[tuple[str, str, str], list[tuple[Cosines, Cosines]]] = defaultdict(list)
    for network in networks:
        images = list(images_for(network, data, every, pictures, device))
        for name, classifier, seen, target in tqdm(images, desc=network):
            file = None if results is None else results / network / f"{name}.json"
            for one in measured(file, classifier, seen, target, batch_size):
                equal, adaptive = ({int(n): x for n, x in one[steps].items()} for steps in ("equal", "adaptive"))
                found[network, one["path"], one["method"]].append((equal, adaptive))
                print(network, name, one["path"], one["method"], needed(equal), needed(adaptive), flush=True)
        if times:
            print_times(classifier, seen, target)
    print_table(found)


if __name__ == "__main__":
    cyclopts.run(main)
