"""What one picture's information curves cost beside a naive version of the published definition.

    python benchmarks/information_curves.py                 a synthetic picture and a small network without training
    python benchmarks/information_curves.py --data DIR      DIR/imagenet/*.jpg with the SqueezeNet weights
                                                            DIR/squeezenet1_0.safetensors

The naive version does one thing after the other: a triangulation for each mask and channel, a compression and a model
evaluation for each mask. Runs alternate, and medians are given, since machines are never quiet. Areas of both must
agree to 1e-3.
"""

from __future__ import annotations

import io
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import cyclopts
import numpy as np
import numpy.typing as npt
import torch
import torchvision
from cyclopts import Parameter
from cyclopts.types import PositiveInt
from PIL import Image
from scipy.interpolate import griddata, interp1d
from torch import Tensor, nn

from captum_ext.classifiers import load_classifier, read_image
from captum_ext.metrics import information_curves
from captum_ext.metrics.information_curves import THRESHOLDS
from captum_ext.metrics.revealed_pixels import random_mask

Picture = npt.NDArray[np.uint8]
AGREEMENT = 1e-3
SIZE = 224


@dataclass(frozen=True)
class Case:
    """One picture (1, 3, 224, 224), the model of pictures in [0, 1], the class, and an attribution map."""

    name: str
    model: nn.Module
    image: Tensor
    target: int
    attributions: Tensor


class CountedRows(nn.Module):
    """A model that counts the pictures that go through it."""

    def __init__(self, model: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.model = model
        self.rows = 0

    def forward(self, x: Tensor) -> Tensor:
        """Count and pass on."""
        self.rows += len(x)
        return self.model(x)


def input_x_gradient(model: Callable[[Tensor], Tensor], image: Tensor) -> tuple[Tensor, int]:
    """Return an attribution map that costs one pass, and the predicted class."""
    leaf = image.clone().requires_grad_()
    logits = model(leaf)
    target = int(logits.argmax())
    (gradient,) = torch.autograd.grad(logits[0, target], leaf)
    return gradient * image, target


def synthetic_case() -> Case:
    """A network without training, whose prediction is made sure, on smooth hills with noise.

    The last layer's output is stretched so that the whole picture scores 0.95; what the score does on the way there
    does not change the costs.
    """
    torch.manual_seed(0)
    network = torchvision.models.squeezenet1_0(weights=None, num_classes=10).eval()
    hills = nn.functional.interpolate(torch.rand(1, 3, 9, 9), (SIZE, SIZE), mode="bicubic", align_corners=True)
    image = (0.8 * hills + 0.2 * torch.rand(1, 3, SIZE, SIZE)).clamp(0, 1)
    with torch.no_grad():
        logits, blank = network(image)[0], network(torch.full_like(image, 0.5))[0]
    towards = logits - blank
    scale = 12 / float(towards.max() - towards.median())

    class Surely(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return scale * (network(x) - blank)

    attributions, target = input_x_gradient(Surely(), image)
    return Case("synthetic", Surely(), image, target, attributions)


def picture_cases(data: Path, n_pictures: int) -> list[Case]:
    """Return pictures spread over the folder, with the predicted class."""
    classifier = load_classifier("squeezenet1_0", data / "squeezenet1_0.safetensors", "cpu")
    model = nn.Sequential(Normalize(classifier.preprocessing.normalize), classifier.model)
    paths = sorted((data / "imagenet").glob("*.jpg"))
    cases = []
    for path in paths[:: max(1, len(paths) // n_pictures)][:n_pictures]:
        image = classifier.preprocessing.to_tensor(read_image(path))[None]
        attributions, target = input_x_gradient(model, image)
        cases.append(Case(path.stem, model, image, target, attributions))
    return cases


class Normalize(nn.Module):
    """Normalisation as a layer."""

    def __init__(self, normalize: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.normalize = normalize

    def forward(self, x: Tensor) -> Tensor:
        """Normalise."""
        return self.normalize(x)


def naive_areas(model: Callable[[Tensor], Tensor], case: Case) -> tuple[float, float]:
    """Return the areas of SIC and AIC, step by step as published."""
    picture = (case.image[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    importance = case.attributions[0].double().abs().sum(0).numpy()
    always = random_mask(SIZE, SIZE, 0.01, seed=0)
    masks = [always, *(always | (importance >= np.quantile(importance, 1 - share)) for share in THRESHOLDS)]
    versions = [*(naive_fill(picture, mask) for mask in masks), picture]
    told = np.array([webp_bytes(version) for version in versions], dtype=np.float64)
    scores = np.array([naive_scores(model, version, case.target) for version in versions])
    shares = np.clip((told - told[0]) / (told[-1] - told[0]), 0, 1)[1:-1]
    sic, aic = (naive_area(shares, column) for column in scores.T)
    return sic, aic


def naive_area(shares: npt.NDArray[np.float64], scores: npt.NDArray[np.float64]) -> float:
    if scores[0] >= scores[-1]:
        return float("nan")
    normalised = np.clip((scores - scores[0]) / (scores[-1] - scores[0]), 0, 1)[1:-1]
    curve = interp1d([*shares, 0, 1], [*np.maximum.accumulate(normalised), 0, 1])
    return float(torch.trapezoid(torch.from_numpy(curve(np.linspace(0, 1, 1001))), dx=1e-3))


def naive_fill(picture: Picture, mask: npt.NDArray[np.bool_]) -> Picture:
    filled = picture.astype(float)
    for channel in range(3):
        filled[..., channel][~mask] = griddata(np.argwhere(mask), picture[..., channel][mask], np.argwhere(~mask))
    return np.round(filled).astype(np.uint8)


def webp_bytes(picture: Picture) -> int:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "webp", lossless=True, quality=100)
    return len(buffer.getvalue())


def naive_scores(model: Callable[[Tensor], Tensor], picture: Picture, target: int) -> tuple[float, float]:
    with torch.no_grad():
        logits = model(torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 255)[0]
    return float(logits.double().softmax(0)[target]), float(logits.argmax() == target)


def our_areas(model: Callable[[Tensor], Tensor], case: Case) -> tuple[float, float]:
    curves = information_curves(model, case.image, case.attributions, case.target, min_score=0.6)
    return curves.areas("softmax").item(), curves.areas("accuracy").item()


VERSIONS: dict[str, Callable[[Callable[[Tensor], Tensor], Case], tuple[float, float]]] = {
    "naive": naive_areas,
    "captum_ext": our_areas,
}


def measure(case: Case, runs: int) -> float:
    """Time both versions in turn, print a row for each, check that areas agree, and return the ratio of the medians."""
    seconds: dict[str, list[float]] = {name: [] for name in VERSIONS}
    processor: dict[str, list[float]] = {name: [] for name in VERSIONS}
    areas, rows = {}, {}
    for run in range(runs):
        for name in list(VERSIONS) if run % 2 == 0 else reversed(VERSIONS):
            counted = CountedRows(case.model)
            begin = time.perf_counter(), time.process_time()
            areas[name] = VERSIONS[name](counted, case)
            seconds[name].append(time.perf_counter() - begin[0])
            processor[name].append(time.process_time() - begin[1])
            rows[name] = counted.rows
    for name in VERSIONS:
        times = f"{statistics.median(seconds[name]):.2f} | {statistics.median(processor[name]):.2f}"
        print(f"| {case.name} | {name} | {rows[name]} | {times} | {areas[name][0]:.4f} | {areas[name][1]:.4f} |")
    if not np.allclose(areas["naive"], areas["captum_ext"], rtol=0, atol=AGREEMENT, equal_nan=True):
        raise SystemExit(f"areas of {case.name} differ by more than {AGREEMENT}: {areas}")
    ratio = statistics.median(seconds["captum_ext"]) / statistics.median(seconds["naive"])
    print(f"| {case.name} | ratio | | {ratio:.3f} | | | |", flush=True)
    return ratio


def main(
    *,
    data: Annotated[Path | None, Parameter(help="Holds imagenet/*.jpg and squeezenet1_0.safetensors.")] = None,
    pictures: Annotated[PositiveInt, Parameter(help="How many of them.")] = 3,
    runs: Annotated[PositiveInt, Parameter(help="Timed runs of each version on each picture.")] = 3,
) -> None:
    """Measure one picture's information curves beside the naive version."""
    print(f"{SIZE} x {SIZE}, 3 channels; CPU, {os.cpu_count()} cores, {torch.get_num_threads()} PyTorch threads\n")
    print("| picture | version | model evaluations | seconds | processor seconds | SIC area | AIC area |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    ratios = [measure(case, runs) for case in (picture_cases(data, pictures) if data else [synthetic_case()])]
    print(f"\nours / naive, wall-clock, median over pictures: {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    cyclopts.run(main)
