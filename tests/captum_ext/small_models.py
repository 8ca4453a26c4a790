"""Small models with known properties, for all tests of attribution methods."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

CLASSES = 5


def smooth_cnn(dtype: torch.dtype = torch.float64) -> nn.Module:
    """A classifier of (N, 3, 8, 8) pictures without kinks; drawn with the global generator seeded by conftest."""
    return (
        nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1),
            nn.Softplus(),
            nn.Conv2d(6, 6, 3, stride=2),
            nn.Tanh(),
            nn.Flatten(),
            nn.Linear(54, CLASSES),
        )
        .to(dtype)
        .eval()
    )


def pictures(n: int = 3, dtype: torch.dtype = torch.float64, size: int = 8) -> Tensor:
    """N pictures with values in [0, 1]."""
    return torch.rand(n, 3, size, size, dtype=dtype)


class TwoInputs(nn.Module):
    """A smooth function of two tensors of different shapes, and of two additional arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 6, dtype=torch.float64)
        self.second = nn.Linear(6, 6, dtype=torch.float64)
        self.head = nn.Linear(6, CLASSES, dtype=torch.float64)

    def forward(self, a: Tensor, b: Tensor, shift: Tensor | None = None, power: int = 1) -> Tensor:
        hidden = torch.tanh(self.first(a)) * torch.sigmoid(self.second(b.flatten(1)))
        if shift is not None:
            hidden = hidden + shift
        return self.head(hidden) ** power


class InPlace(nn.Module):
    """A network that changes its input, and the outputs of its layers, in place."""

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1, dtype=dtype)
        self.norm = nn.BatchNorm2d(6, dtype=dtype)
        self.head = nn.Linear(6, CLASSES, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        x.mul_(2.0)
        hidden = self.norm(self.conv(x))
        hidden.add_(0.5)
        nn.functional.relu(hidden, inplace=True)
        return self.head(hidden.mean((2, 3)))


class TokenClassifier(nn.Module):
    """A text model: embedding, a hidden layer over all tokens, classes."""

    def __init__(self, tokens: int = 5) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 4, dtype=torch.float64)
        self.hidden = nn.Linear(4 * tokens, 8, dtype=torch.float64)
        self.head = nn.Linear(8, CLASSES, dtype=torch.float64)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(torch.tanh(self.hidden(self.embedding(tokens).flatten(1))))


class EvaluationCounter(nn.Module):
    """Count the rows that go forward and backward through a model, and the most in one pass."""

    def __init__(self, model: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.model = model
        self.forward_rows = 0
        self.backward_rows = 0
        self.most_rows = 0

    def forward(self, x: Tensor) -> Tensor:
        self.forward_rows += x.shape[0]
        self.most_rows = max(self.most_rows, x.shape[0])
        output = self.model(x)
        if output.requires_grad:
            output.register_hook(self._count)
        return output

    def _count(self, gradient: Tensor) -> None:
        self.backward_rows += gradient.shape[0]


def recognised(model: nn.Module, images: Tensor) -> list[tuple[Tensor, int]]:
    """Images with the class that a model sees in each."""
    return [(image, int(model(image[None]).argmax())) for image in images]
