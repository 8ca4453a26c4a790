"""Seeded random numbers: one generator per scene, on the CPU, so that a scene is the same on every device."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def uniform(generator: torch.Generator, low: float, high: float) -> float:
    """A number drawn evenly from [low, high)."""
    return low + (high - low) * torch.rand((), generator=generator, dtype=torch.float32).item()


def log_uniform(generator: torch.Generator, low: float, high: float) -> float:
    """A number whose logarithm is drawn evenly; ``low`` must be positive."""
    return math.exp(uniform(generator, math.log(low), math.log(high)))


def integer(generator: torch.Generator, low: int, high: int) -> int:
    """An integer from low to high, both included."""
    return int(torch.randint(low, high + 1, (), generator=generator))


def normal(generator: torch.Generator, *shape: int) -> Tensor:
    """Standard normal numbers, float32."""
    return torch.randn(*shape, generator=generator, dtype=torch.float32)


def smooth_field(generator: torch.Generator, channels: int, height: int, width: int, cells: int) -> Tensor:
    """A smooth random field of shape (channels, height, width) with about ``cells`` hills to a side, of order 1."""
    coarse = normal(generator, 1, channels, cells + 1, cells + 1)
    return F.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=True)[0]
