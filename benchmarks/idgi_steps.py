"""How many steps IDGI and its bases want, and whether adaptive steps close the gap between IDGI and Blur IG.

    python benchmarks/idgi_steps.py --data DIR --network squeezenet1_0       DIR/imagenet/*.jpg, whose names begin with
                                                                             the class; DIR/squeezenet1_0.safetensors

Insertion scores of integrated gradients (the left Riemann sum) and IDGI, on the straight path from black and on the
blur path, with 8, 16, 32, 64 and 128 equal steps and with 32 adaptive ones. Equal steps lie in each other, so one walk
of 128 gives all five maps of both methods. The first score is the paper's: from black, by signed sums; where it says
so there are two more, from the blurred picture and from the mean colour, by absolute sums. All in 20 steps, by the
probability of the whole picture.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

import cyclopts
import torch
from cyclopts import Parameter
from cyclopts.types import PositiveInt
from torch import Tensor
from tqdm import tqdm

from captum_ext import IDGI, PathIG
from captum_ext.attr.path.paths import BlurPath, StraightPath
from captum_ext.attr.path.rules import important_direction, riemann
from captum_ext.attr.path.walk import prepare_walk
from captum_ext.classifiers import (
    Classifier,
    ImageBaseline,
    Probabilities,
    SeenImage,
    image_baseline,
    load_classifier,
    read_image,
    seen_image,
)
from captum_ext.metrics import bootstrap_interval, insertion

FINEST = 128
COUNTS = (8, 16, 32, 64, 128)
BUDGET = 32
PATHS: dict[str, StraightPath | BlurPath] = {"straight": StraightPath(), "blur": BlurPath()}
METHODS = {"IG": (PathIG, riemann), "IDGI": (IDGI, important_direction)}
STARTS: dict[str, tuple[ImageBaseline, Literal["sum", "abs_sum"]]] = {
    "black, signed": (ImageBaseline.BLACK, "sum"),
    "blur, absolute": (ImageBaseline.BLUR, "abs_sum"),
    "mean colour, absolute": (ImageBaseline.MEAN, "abs_sum"),
}
EVERY_START = ("32 equal", "128 equal", "32 adaptive")
Values = dict[tuple[str, str, str, str], list[float]]
"""From path, steps, start and method to one value for each picture."""


def maps(path_name: str, model: Probabilities, seen: SeenImage, target: int) -> Iterator[tuple[str, str, Tensor]]:
    """Yield steps, method and map."""
    path = PATHS[path_name]
    baselines = seen.baselines if path_name == "straight" else None
    walk = prepare_walk(path, model, (seen.inputs,), baselines, target, None, FINEST, 8, progress_name=None)
    points = list(walk.points())
    for n in COUNTS:
        for name, (_, rule) in METHODS.items():
            steps = pairwise(points[:: FINEST // n])
            yield (
                f"{n} equal",
                name,
                sum((rule(left, right)[0] for left, right in steps), torch.zeros_like(seen.inputs)),
            )
    for name, (method, _) in METHODS.items():
        adaptive = method(model, path).attribute(
            seen.inputs, baselines, target, n_steps=BUDGET, steps="adaptive", internal_batch_size=8
        )
        yield f"{BUDGET} adaptive", name, adaptive


def score(classifier: Classifier, seen: SeenImage, attributions: Tensor, target: int, start: str) -> float:
    kind, reduction = STARTS[start]
    preprocessing = classifier.preprocessing
    found = insertion(
        Probabilities(classifier.model),
        seen.inputs,
        attributions,
        preprocessing.normalize(image_baseline(kind, seen.image[None], preprocessing.mean)),
        target,
        n_steps=20,
        internal_batch_size=21,
        channel_reduction=reduction,
    )
    return found.normalized_areas.item()


def measure(classifier: Classifier, seen: SeenImage, target: int, values: Values) -> None:
    for path_name in PATHS:
        for steps, method, attributions in maps(path_name, Probabilities(classifier.model), seen, target):
            for start in STARTS if steps in EVERY_START else list(STARTS)[:1]:
                values[path_name, steps, start, method].append(score(classifier, seen, attributions, target, start))


def with_interval(differences: Tensor) -> str:
    low, high = bootstrap_interval(differences)
    return f"{differences.mean():+.3f} ({low:+.3f} to {high:+.3f})"


def print_table(values: Values) -> None:
    print("| path | insertion from | steps | IG | IDGI | IDGI less IG (95 %) | ahead on |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for start in STARTS:
        for path, steps, of, method in values:
            if of != start or method != "IG":
                continue
            base, ours = (torch.tensor(values[path, steps, start, name]) for name in METHODS)
            difference = with_interval(ours - base)
            ahead = f"{int((ours > base).sum())} of {len(base)}"
            print(f"| {path} | {start} | {steps} | {base.mean():.3f} | {ours.mean():.3f} | {difference} | {ahead} |")


def print_gain(values: Values) -> None:
    """Print by how much adaptive steps change each method's score, on the same pictures."""
    print("| path | insertion from | method | 32 adaptive less 32 equal (95 %) | less 128 equal (95 %) |")
    print("| --- | --- | --- | --- | --- |")
    for path in PATHS:
        for start in STARTS:
            for method in METHODS:
                adaptive, *equal = (torch.tensor(values[path, steps, start, method]) for steps in EVERY_START[::-1])
                cells = [with_interval(adaptive - one) for one in reversed(equal)]
                print(f"| {path} | {start} | {method} | {' | '.join(cells)} |")


def main(
    *,
    data: Annotated[Path, Parameter(help="Holds imagenet/*.jpg and, for SqueezeNet, squeezenet1_0.safetensors.")],
    network: Annotated[str, Parameter(help="A name that captum-ext knows.")] = "squeezenet1_0",
    every: Annotated[PositiveInt, Parameter(help="Only every so-many-th picture.")] = 1,
) -> None:
    """Measure insertion over numbers and kinds of steps, of the pictures that the network recognises."""
    weights = data / f"{network}.safetensors"
    classifier = load_classifier(network, weights if weights.exists() else None, "cpu")
    values: Values = defaultdict(list)
    n_pictures = 0
    for path in tqdm(sorted((data / "imagenet").glob("*.jpg"))[::every], unit="picture"):
        seen = seen_image(classifier, read_image(path), ImageBaseline.BLACK, "cpu")
        target = int(path.name.split("_")[0])
        if int(classifier.model(seen.inputs).argmax()) == target:
            measure(classifier, seen, target, values)
            n_pictures += 1
            if n_pictures % 4 == 0:
                print_table(values)
    print(f"\n{network}, {n_pictures} pictures\n")
    print_table(values)
    print()
    print_gain(values)


if __name__ == "__main__":
    cyclopts.run(main)
