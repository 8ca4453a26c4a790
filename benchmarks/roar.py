"""ROAR on a small network: remove what a map calls most important everywhere, train anew, and see what is still known.

    python benchmarks/roar.py        a few minutes

Source: Hooker, Erhan, Kindermans and Kim, A Benchmark for Interpretability Methods in Deep Neural Networks, NeurIPS
2019. Scikit-learn's scanned digits; of each, of the training and of the test set, a share of the 64 pixels becomes the
mean of that pixel over the training set, the most important first, by absolute value for the digit's own class. A new
network learns what is left. The lower its accuracy on the test set, the more of what tells digits apart the map found.
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

from captum_ext import IDGI, FullGrad
from captum_ext.classifiers import scanned_digits, train_classifier
from captum_ext.classifiers.digits import Digits

SHARES = (0.1, 0.3, 0.5, 0.7)
Maps = Callable[[nn.Module, Tensor, Tensor, Tensor], Any]
"""From a model, images, labels and the mean image to attributions."""

METHODS: dict[str, Maps] = {
    "random": lambda model, x, y, mean: torch.rand_like(x),
    "bright": lambda model, x, y, mean: x,
    "saliency": lambda model, x, y, mean: Saliency(model).attribute(x, y),
    "input x gradient": lambda model, x, y, mean: InputXGradient(model).attribute(x, y),
    "IG": lambda model, x, y, mean: IntegratedGradients(model).attribute(x, mean, y, n_steps=16),
    "IDGI": lambda model, x, y, mean: IDGI(model).attribute(x, mean, y, n_steps=16),
    "FullGrad": lambda model, x, y, mean: FullGrad(model).attribute(x, target=y),
    "FullGrad, from mean": lambda model, x, y, mean: FullGrad(model).attribute(x, mean, y),
    "FullGrad (paper)": lambda model, x, y, mean: FullGrad(model).attribute(x, target=y, postprocess="paper"),
}


def without(images: Tensor, maps: Tensor, share: float, mean: Tensor) -> Tensor:
    """Replace the share of each image's pixels that its map calls most important by their mean."""
    strength = maps.detach().abs().flatten(1)
    gone = torch.zeros_like(strength, dtype=torch.bool)
    gone.scatter_(1, strength.argsort(dim=1, descending=True)[:, : round(share * strength.shape[1])], value=True)
    return torch.where(gone.reshape(images.shape), mean.expand_as(images), images)


def accuracy(model: nn.Module, digits: Digits) -> float:
    return float((model(digits.images).argmax(1) == digits.labels).float().mean())


def main(
    *,
    seeds: Annotated[PositiveInt, Parameter(help="How many orders of the training set.")] = 3,
    epochs: Annotated[PositiveInt, Parameter(help="Of each training.")] = 6,
) -> None:
    """Compare methods by what a network can still learn without what they found."""
    all_training, test = scanned_digits()
    mean = all_training.images.mean(0, keepdim=True)
    found: dict[str, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    whole = []
    for seed in range(seeds):
        torch.manual_seed(seed)
        order = torch.randperm(len(all_training.labels))
        train = Digits(all_training.images[order], all_training.labels[order])
        model = train_classifier(train, epochs=epochs)
        whole.append(accuracy(model, test))
        for name, explain in METHODS.items():
            maps = [explain(model, part.images, part.labels, mean) for part in (train, test)]
            for share in SHARES:
                left = [
                    Digits(without(part.images, of_part, share, mean), part.labels)
                    for part, of_part in zip((train, test), maps, strict=True)
                ]
                found[name][share].append(accuracy(train_classifier(left[0], epochs=epochs), left[1]))
            print(f"seed {seed}, {name}", flush=True)
    print(f"\naccuracy with all pixels {min(whole):.3f} to {max(whole):.3f}\n")
    print(f"| map | {' | '.join(f'{share:.0%} removed' for share in SHARES)} |\n| --- |{' --- |' * len(SHARES)}")
    for name, by_share in found.items():
        cells = [f"{min(values):.3f} to {max(values):.3f}" for values in by_share.values()]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    cyclopts.run(main)
