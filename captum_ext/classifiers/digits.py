"""Scanned digits that come with the package, and a small classifier that is trained on them in seconds.

The 1,797 digits of 8 x 8 pixels in ``digits.npz`` are the test part of Optical Recognition of Handwritten Digits by
E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, 1998, https://doi.org/10.24432/C50P49, CC BY 4.0.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

SEED = 0
N_TEST = 450
_FILE = Path(__file__).with_name("digits.npz")


@dataclass(frozen=True)
class Digits:
    """Images of digits with their classes 0 to 9; shapes (N, 1, 8, 8), values in [0, 1], and (N,)."""

    images: Tensor
    labels: Tensor


def scanned_digits() -> tuple[Digits, Digits]:
    """Return the training and the test digits, always the same.

    Examples
    --------
    >>> train, test = scanned_digits()
    >>> train.images.shape, len(test.labels)
    (torch.Size([1347, 1, 8, 8]), 450)
    """
    with np.load(_FILE) as data:
        images = torch.from_numpy(data["images"]).float().unsqueeze(1) / 16.0
        labels = torch.from_numpy(data["labels"]).long()
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(SEED))
    train, test = order[:-N_TEST], order[-N_TEST:]
    return Digits(images[train], labels[train]), Digits(images[test], labels[test])


def train_classifier(digits: Digits, epochs: int, batch_size: int = 32) -> nn.Module:
    """Train a small convolutional network, in evaluation mode when it comes back; the global generator is untouched."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        model = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 32, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * 4 * 4, 10),
        )
        optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
        for _ in range(epochs):
            for batch in torch.randperm(len(digits.images)).split(batch_size):
                loss = nn.functional.cross_entropy(model(digits.images[batch]), digits.labels[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    return model.eval().requires_grad_(False)
