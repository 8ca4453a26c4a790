"""Whether LibraGrad makes maps of a vision transformer better, on transformers that are trained on the spot.

    python benchmarks/vit_maps.py --seeds 3        a few minutes for each seed

The task: which of scikit-learn's scanned digits is somewhere in a scene of 32 x 32 pixels, among six pieces of other
digits. So it is known where the map should be. torchvision's `VisionTransformer`, 4 blocks, patches of 4 x 4 pixels.
Maps are of the logit, insertion and deletion of the probability, from and to black, over the digits that the network
recognises with more than a half.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Annotated, Any

import cyclopts
import torch
from captum.attr import InputXGradient, IntegratedGradients, Saliency
from cyclopts import Parameter
from cyclopts.types import PositiveInt
from torch import Tensor, nn
from torchvision.models import VisionTransformer

from captum_ext import IDGI, FullGrad, LibraGrad
from captum_ext.classifiers import scanned_digits
from captum_ext.metrics import bootstrap_interval, deletion, insertion, perturbation

SIZE, DIGIT, PIECE, N_PIECES, BATCH = 32, 16, 6, 6, 64
PAIRS = ("saliency", "input x gradient", "FullGrad", "FullGrad (paper)")
MEASURES = ("insertion", "deletion", "perturbation", "share on the digit")
Values = dict[str, dict[str, list[Tensor]]]
"""From map and measure to the values of each seed's pictures."""


class GreyVisionTransformer(VisionTransformer):
    """torchvision's transformer for pictures with one channel."""

    def forward(self, images: Tensor) -> Tensor:
        """Return logits; shape (N, 10)."""
        logits: Tensor = super().forward(images.expand(-1, 3, -1, -1))
        return logits


def scenes(digits: Tensor) -> tuple[Tensor, Tensor]:
    """Put each digit somewhere among pieces of others; return the scenes, and where the digits are."""
    large = nn.functional.interpolate(digits, size=(DIGIT, DIGIT), mode="bicubic").clamp(0, 1)
    found, place = torch.zeros(2, len(digits), 1, SIZE, SIZE)
    for scene, where, digit in zip(found, place, large, strict=True):
        for other in torch.randint(len(digits), (N_PIECES,)):
            y, x = torch.randint(SIZE - PIECE + 1, (2,)).tolist()
            v, u = torch.randint(DIGIT - PIECE + 1, (2,)).tolist()
            spot = scene[:, y : y + PIECE, x : x + PIECE]
            spot.copy_(spot.maximum(large[other, :, v : v + PIECE, u : u + PIECE]))
        y, x = torch.randint(SIZE - DIGIT + 1, (2,)).tolist()
        scene[:, y : y + DIGIT, x : x + DIGIT] = digit
        where[:, y : y + DIGIT, x : x + DIGIT] = 1
    return found, place


def trained(seed: int, n_updates: int) -> nn.Module:
    """Train a transformer on scenes that are drawn anew for every pass over the digits."""
    torch.manual_seed(seed)
    digits, _ = scanned_digits()
    model = GreyVisionTransformer(
        image_size=SIZE, patch_size=4, num_layers=4, num_heads=4, hidden_dim=64, mlp_dim=128, num_classes=10
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=n_updates)
    done = 0
    while done < n_updates:
        images, _ = scenes(digits.images)
        for batch in torch.randperm(len(images)).split(BATCH)[: n_updates - done]:
            loss = nn.functional.cross_entropy(model(images[batch]), digits.labels[batch])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            done += 1
    model.eval().requires_grad_(False)
    return model


def maps(model: nn.Module, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Return every map, those with LibraGrad under the name of the plain one and ``+ LibraGrad``."""
    path: dict[str, Any] = {"target": labels, "n_steps": 32, "internal_batch_size": 240}
    found = {
        "random": torch.rand_like(images),
        "IG": IntegratedGradients(model).attribute(images, **path),
        "IDGI": IDGI(model).attribute(images, **path),
    }
    for suffix, explained in (("", model), (" + LibraGrad", LibraGrad(model))):
        full = FullGrad(explained)
        found[f"saliency{suffix}"] = Saliency(explained).attribute(images, target=labels)
        found[f"input x gradient{suffix}"] = InputXGradient(explained).attribute(images, target=labels)
        found[f"FullGrad{suffix}"] = full.attribute(images, target=labels)
        found[f"FullGrad (paper){suffix}"] = full.attribute(images, target=labels, postprocess="paper")
    return {name: one.detach() for name, one in found.items()}


def measured(
    probability: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor, place: Tensor, attributions: Tensor
) -> dict[str, Tensor]:
    options: dict[str, Any] = {"baselines": 0.0, "target": labels, "n_steps": 32}
    strength = attributions.abs().sum(1, keepdim=True)
    values = (
        insertion(probability, images, attributions, **options).normalized_areas,
        deletion(probability, images, attributions, **options).normalized_areas,
        perturbation(probability, images, attributions, **options).normalized_areas,
        (strength * place).sum((1, 2, 3)) / strength.sum((1, 2, 3)),
    )
    return dict(zip(MEASURES, values, strict=True))


def measure_seed(seed: int, n_updates: int, n_pictures: int, values: Values) -> str:
    model = trained(seed, n_updates)

    def probability(images: Tensor) -> Tensor:
        probabilities: Tensor = model(images).softmax(1)
        return probabilities

    _, digits = scanned_digits()
    images, place = scenes(digits.images)
    seen = probability(images)
    right = seen.argmax(1) == digits.labels
    chosen = (right & (seen.amax(1) > 0.5)).nonzero()[:n_pictures, 0]
    of_chosen = images[chosen], digits.labels[chosen]
    for name, attributions in maps(model, *of_chosen).items():
        for measure, found in measured(probability, *of_chosen, place[chosen], attributions).items():
            values[name][measure].append(found)
    return f"seed {seed}: recognises {right.float().mean():.0%}, {len(chosen)} pictures"


def shown_difference(values: Values, name: str, measure: str) -> str:
    """Return the paired difference that LibraGrad makes, and on how many seeds it is an improvement."""
    by_seed = [b - a for a, b in zip(values[name][measure], values[f"{name} + LibraGrad"][measure], strict=True)]
    low, high = bootstrap_interval(torch.cat(by_seed))
    sign = -1 if measure in ("deletion", "perturbation") else 1
    better = sum(int(sign * one.mean() > 0) for one in by_seed)
    return f"{torch.cat(by_seed).mean():+.3f} ({low:+.3f} to {high:+.3f}), {better} of {len(by_seed)}"


def main(
    *,
    seeds: Annotated[PositiveInt, Parameter(help="How many transformers.")] = 3,
    updates: Annotated[PositiveInt, Parameter(help="Of each, in batches of 64.")] = 1320,
    pictures: Annotated[PositiveInt, Parameter(help="Of each.")] = 80,
) -> None:
    """Train transformers and compare maps of them with and without LibraGrad."""
    values: Values = defaultdict(lambda: defaultdict(list))
    for seed in range(seeds):
        print(measure_seed(seed, updates, pictures, values), flush=True)
    print(f"\n| map | {' | '.join(MEASURES)} |\n| --- |{' --- |' * len(MEASURES)}")
    for name, found in values.items():
        print(f"| {name} | {' | '.join(f'{torch.cat(found[measure]).mean():.3f}' for measure in MEASURES)} |")
    print(f"\n| with LibraGrad | {' | '.join(MEASURES)} |\n| --- |{' --- |' * len(MEASURES)}")
    for name in PAIRS:
        print(f"| {name} | {' | '.join(shown_difference(values, name, measure) for measure in MEASURES)} |")


if __name__ == "__main__":
    cyclopts.run(main)
