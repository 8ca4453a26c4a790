"""Whether pictures of one generator look more like the truth than those of another, beyond what PSNR says.

    python benchmarks/hdr_texture.py small with.safetensors without.safetensors --data synthetic:DIR
    python benchmarks/hdr_texture.py ... --perceptual squeezenet1_0.safetensors

An adversarial loss is there for texture: PSNR prefers the mean of all that may be there, which has too little of it. So
fine detail (what a Gaussian of one pixel takes away, in the mu-law domain) is compared with that of the truth where the
reference is dark, where it is clipped, and elsewhere: how much there is of it, and how much of it is right. And the
perceptual distance of Zhang et al. (CVPR 2018) between both pictures, the mean of all features of a SqueezeNet 1.0
trained on ImageNet, whose weights are in a file of the user's.
"""

from __future__ import annotations

import itertools
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import cyclopts
import torch
import torch.nn.functional as F
from cyclopts import Parameter
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.models import squeezenet1_0

# A file beside this one has the package's name, and Python looks there first.
sys.path = [entry for entry in sys.path if Path(entry).resolve() != Path(__file__).resolve().parent]

from hdr.data.sample import HdrSample  # noqa: E402
from hdr.data.source import open_scenes  # noqa: E402
from hdr.metrics import psnr_mu, ssim_mu  # noqa: E402
from hdr.radiometry import inverse_mu_law, middle, mu_law  # noqa: E402
from hdr.smoothing import blurred  # noqa: E402
from hdr.training import merge_batch  # noqa: E402
from hdr.weights import load_generator  # noqa: E402

Distance = Callable[[Tensor, Tensor], float]
"""Of two pictures (3, H, W) in the mu-law domain."""

REGIONS = ("dark", "clipped", "elsewhere")
_DARK = 0.02  # of the reference's white
_CLIPPED = 0.98
_FINE = 1.0  # pixels, standard deviation
_FEWEST_PIXELS = 100  # of a region, or it says nothing about a scene
_IMAGENET_MEAN, _IMAGENET_SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_FIRE_MODULES = (3, 4, 5, 7, 8, 9, 10, 12)  # of SqueezeNet's layers


def perceptual_distance(weights: Path) -> Distance:
    """Mean square between the features of two pictures, each place's of length 1, summed over the layers."""
    network = squeezenet1_0()
    network.load_state_dict(load_file(weights))
    layers = network.features.eval()
    mean, spread = (torch.tensor(values).view(1, 3, 1, 1) for values in (_IMAGENET_MEAN, _IMAGENET_SPREAD))

    def distance(ours: Tensor, truth: Tensor) -> float:
        features, total = (torch.stack([ours, truth]) - mean) / spread, 0.0
        for index, layer in enumerate(layers):
            features = layer(features)
            if index in _FIRE_MODULES:
                of_ours, of_truth = F.normalize(features, dim=1)
                total += float((of_ours - of_truth).square().sum(dim=0).mean())
        return total

    return distance


def texture(ours: Tensor, truth: Tensor, reference_exposure: float) -> dict[str, float]:
    """By region: the fine detail's root mean square beside the truth's, and its correlation with that.

    ``ours`` and ``truth`` are radiance (3, H, W) in the mu-law domain. Regions of few pixels are left out.
    """
    of_ours, of_truth = (picture - blurred(picture[None], _FINE)[0] for picture in (ours, truth))
    brightest = inverse_mu_law(truth).amax(dim=0) * reference_exposure
    dark, clipped = brightest < _DARK, brightest >= _CLIPPED
    found = {}
    for name, mask in zip(REGIONS, (dark, clipped, ~(dark | clipped)), strict=True):
        if int(mask.sum()) >= _FEWEST_PIXELS:
            a, b = of_ours[:, mask], of_truth[:, mask]
            found[f"texture, {name}"] = float(a.square().mean().sqrt() / b.square().mean().sqrt())
            found[f"right, {name}"] = float((a * b).mean() / (a.square().mean() * b.square().mean()).sqrt())
    return found


def measure(radiance: Tensor, scene: HdrSample, distance: Distance | None) -> dict[str, float]:
    """All measures of a merge (3, H, W) in the mu-law domain of one scene."""
    truth, ours = mu_law(scene["target"][0]), radiance.clamp(0, 1)
    linear = inverse_mu_law(ours), scene["target"][0]
    found = {"PSNR-mu": float(psnr_mu(*linear)), "SSIM-mu": float(ssim_mu(*linear))}
    if distance is not None:
        found["distance"] = distance(ours, truth)
    exposures = scene["exposures"][0]
    return found | texture(ours, truth, float(exposures[middle(len(exposures))]))


def mean_of(rows: list[dict[str, float]]) -> dict[str, float]:
    """Mean of each measure over the scenes that have it, in the order of the first scene that has all."""
    names = list(max(rows, key=len))
    return {name: statistics.mean(row[name] for row in rows if name in row) for name in names}


@torch.no_grad()
def main(
    *weights: Annotated[str, Parameter(help="Bundled names or files.")],
    data: Annotated[str, Parameter(help="synthetic:DIR")],
    perceptual: Annotated[Path | None, Parameter(help="Weights of SqueezeNet 1.0, safetensors.")] = None,
    scenes: Annotated[int | None, Parameter(help="Only that many validation scenes.")] = None,
    out: Annotated[Path | None, Parameter(help="A JSON file with what was measured.")] = None,
) -> None:
    """Compare the pictures of several weights."""
    generators = {name: load_generator(name) for name in weights}
    distance = None if perceptual is None else perceptual_distance(perceptual)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in generators}
    for scene in itertools.islice(DataLoader(open_scenes(data, "validation")), scenes):
        for name, generator in generators.items():
            found[name].append(measure(merge_batch(generator, scene).radiance[0], scene, distance))
    means = {name: mean_of(rows) for name, rows in found.items()}
    columns = list(next(iter(means.values())))
    print(f"| weights | {' | '.join(columns)} |\n| --- |{' --- |' * len(columns)}")
    for name, row in means.items():
        print(f"| {Path(name).stem} | {' | '.join(f'{row[column]:.3f}' for column in columns)} |")
    if out is not None:
        out.write_text(json.dumps(means, indent=1))


if __name__ == "__main__":
    cyclopts.run(main)
