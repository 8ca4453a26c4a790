"""A network with one ReLU in two places, images for it, and what a method by name finds in them."""

from __future__ import annotations

import torch
from torch import nn

from captum_ext.methods import method_named, run_method


def small_cnn(inplace: bool = False) -> nn.Module:
    torch.manual_seed(1)
    relu = nn.ReLU(inplace)  # one module in two places
    layers = [nn.Conv2d(3, 6, 3, padding=1), relu, nn.MaxPool2d(2), nn.Conv2d(6, 8, 3, padding=1), relu]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)).eval()


def pictures() -> torch.Tensor:
    return torch.rand(2, 3, 12, 12)


def found_by(name: str, model: nn.Module, inputs: torch.Tensor, target: list[int]) -> torch.Tensor:
    result = run_method(method_named(name), model, inputs, torch.zeros_like(inputs), torch.tensor(target), 6, 4)
    return result.attributions
