"""How insertion depends on the picture that it starts from, and on what a map multiplies a gradient by.

    python benchmarks/insertion_start.py --data DIR      DIR/imagenet/*.jpg, whose names begin with the class, and the
                                                         SqueezeNet weights DIR/squeezenet1_0.safetensors

A step of a path is credited in four ways: IDGI and integrated gradients differ in how much a step is worth (the change
of the output, or the gradient times the step) and in how that is laid out over the pixels (by the squared gradient, or
by gradient times step), and the other two mix them. All four come from the same walk.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import cyclopts
import torch
from cyclopts import Parameter
from cyclopts.types import PositiveInt
from torch import Tensor
from tqdm import tqdm

from captum_ext.attr._common.forward import in_accumulation_dtype
from captum_ext.attr.path.paths import BlurPath, StraightPath
from captum_ext.attr.path.rules import Credit, EvaluatedPoint, important_direction, riemann
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
from captum_ext.metrics import bootstrap_interval, information_curves, insertion

PATHS = {
    "straight, from black": StraightPath(),
    "blur, 50 equal steps": BlurPath(),
    "blur, 50 steps, power 2": BlurPath(power=2.0),
}
STARTS = (ImageBaseline.BLUR, ImageBaseline.MEAN, ImageBaseline.BLACK)
N_STEPS, CURVE_STEPS = 50, 25
Maps = dict[str, Tensor]
Values = dict[tuple[str, str, str], list[float]]
"""From path, rule and measure to one value for each picture."""


def output_change_by_step(left: EvaluatedPoint, right: EvaluatedPoint) -> tuple[Tensor, ...]:
    """Lay the change of the output out by the absolute gradient times the step."""
    (contribution,) = riemann(left, right)
    size = contribution.abs()
    whole = size.sum().clamp(min=torch.finfo(size.dtype).tiny)
    return (size / whole * (in_accumulation_dtype(right.value) - in_accumulation_dtype(left.value)),)


def riemann_sum_by_squares(left: EvaluatedPoint, right: EvaluatedPoint) -> tuple[Tensor, ...]:
    """Lay the gradient times the step, summed up, out by the squared gradient."""
    worth = left.value + riemann(left, right)[0].sum()
    return important_direction(left, EvaluatedPoint(right.position, worth, None))


RULES: dict[str, Credit] = {
    "integrated gradients: g dx": riemann,
    "IDGI: df, by g^2": important_direction,
    "df, by the size of g dx": output_change_by_step,
    "sum of g dx, by g^2": riemann_sum_by_squares,
}
PUBLISHED = list(RULES)[:2]


def maps_along(path: StraightPath | BlurPath, model: Probabilities, seen: SeenImage, target: int) -> Maps:
    """Return the map of each rule, from one walk."""
    baselines = seen.baselines if isinstance(path, StraightPath) else None
    walk = prepare_walk(path, model, (seen.inputs,), baselines, target, None, N_STEPS, 10, progress_name=None)
    maps = {rule: torch.zeros_like(seen.inputs) for rule in RULES}
    for left, right in pairwise(walk.points()):
        for rule, credit in RULES.items():
            maps[rule] += credit(left, right)[0]
    return maps


def measure(classifier: Classifier, seen: SeenImage, attributions: Tensor, target: int) -> dict[str, float]:
    """Return the insertion score from each start."""
    preprocessing = classifier.preprocessing
    scores = {}
    for start in STARTS:
        absent = preprocessing.normalize(image_baseline(start, seen.image[None], preprocessing.mean))
        found = insertion(
            Probabilities(classifier.model),
            seen.inputs,
            attributions,
            absent,
            target,
            n_steps=CURVE_STEPS,
            internal_batch_size=13,
        )
        scores[f"insertion from {start.value}"] = found.normalized_areas.item()
    return scores


def measure_information(classifier: Classifier, seen: SeenImage, attributions: Tensor, target: int) -> dict[str, float]:
    """Return the areas of both information curves."""
    curves = information_curves(
        lambda images: classifier.model(classifier.preprocessing.normalize(images)),
        seen.image[None],
        attributions,
        target,
        min_score=0.6,
    )
    return {"AIC": curves.areas("accuracy").item(), "SIC": curves.areas("softmax").item()}


def measure_picture(classifier: Classifier, path: Path, values: Values) -> None:
    seen = seen_image(classifier, read_image(path), ImageBaseline.BLACK, "cpu")
    target = int(path.name.split("_")[0])
    for path_name, walked in PATHS.items():
        for rule, attributions in maps_along(walked, Probabilities(classifier.model), seen, target).items():
            scores = measure(classifier, seen, attributions, target)
            if rule in PUBLISHED:
                scores |= measure_information(classifier, seen, attributions, target)
            for name, score in scores.items():
                values[path_name, rule, name].append(score)


def print_means(values: Values) -> None:
    measures = list(dict.fromkeys(name for *_, name in values))
    print(f"| path | a step's worth and layout | {' | '.join(measures)} |")
    print(f"| --- | --- |{' --- |' * len(measures)}")
    for path in PATHS:
        for rule in RULES:
            found = [torch.tensor(values[path, rule, name]) for name in measures if (path, rule, name) in values]
            means = [f"{one[~one.isnan()].mean():.3f}" for one in found]
            print(f"| {path} | {rule} | {' | '.join([*means, *[''] * (len(measures) - len(means))])} |")


def print_differences(values: Values) -> None:
    """Print how far IDGI is ahead of integrated gradients on the same pictures, with intervals of 95 %."""
    print("| path | measure | IDGI less integrated gradients | better on |")
    print("| --- | --- | --- | --- |")
    base, ours = PUBLISHED
    for path, rule, name in values:
        if rule == base:
            difference = torch.tensor(values[path, ours, name]) - torch.tensor(values[path, base, name])
            difference = difference[~difference.isnan()]
            low, high = bootstrap_interval(difference)
            shown = f"{difference.mean():+.3f} ({low:+.3f} to {high:+.3f})"
            print(f"| {path} | {name} | {shown} | {int((difference > 0).sum())} of {len(difference)} |")


def main(
    *,
    data: Annotated[Path, Parameter(help="Holds imagenet/*.jpg and squeezenet1_0.safetensors.")],
    pictures: Annotated[PositiveInt | None, Parameter(help="Only the first so many.")] = None,
) -> None:
    """Measure four ways to credit a step of a path by insertion from three starts, and by AIC and SIC."""
    classifier = load_classifier("squeezenet1_0", data / "squeezenet1_0.safetensors", "cpu")
    values: Values = defaultdict(list)
    paths = sorted((data / "imagenet").glob("*.jpg"))[:pictures]
    for path in tqdm(paths, unit="picture"):
        measure_picture(classifier, path, values)
    print(f"{len(paths)} pictures\n")
    print_means(values)
    print()
    print_differences(values)


if __name__ == "__main__":
    cyclopts.run(main)
