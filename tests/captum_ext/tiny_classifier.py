"""A tiny classifier in a module of its own, as people's own models are named on the command line.

``COUNT_FILE`` in the environment names a file that gets a line for each forward pass; with ``KILL_AT`` the process
kills itself, as ``kill -9`` does, before it makes so many.
"""

import os
import signal
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import functional

from captum_ext.classifiers import Classifier, Preprocessing

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
CLASSES = ["cat", "dog", "sea bird"]
SIDE = 12

QUICK: dict[str, Any] = {"n_steps": 3, "curve_steps": 4, "device": "cpu"}
"""Options of an evaluation on it."""


class Counted(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor) -> Tensor:
        if "COUNT_FILE" in os.environ:
            count(Path(os.environ["COUNT_FILE"]), inputs)
        return self.model(inputs)


def count(path: Path, inputs: Tensor) -> None:
    lines = path.read_text().splitlines() if path.exists() else []
    if len(lines) + 1 == int(os.environ.get("KILL_AT", "0")):
        os.kill(os.getpid(), signal.SIGKILL)
    # What goes in, so that two runs can be compared pass by pass.
    with path.open("a") as file:
        file.write(f"{len(inputs)} {inputs.detach().double().sum():.3f} {torch.is_grad_enabled()}\n")


def to_tensor(picture) -> Tensor:
    return functional.to_dtype(functional.pil_to_tensor(picture), torch.float32, scale=True)


def tiny() -> Classifier:
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * (SIDE - 2) ** 2, len(CLASSES)))
    for parameter in model.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    return Classifier(Counted(model).eval(), Preprocessing(to_tensor, MEAN, STD), CLASSES)


def tiny_module() -> nn.Module:
    return tiny().model.requires_grad_(True)
