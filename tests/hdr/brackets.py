"""Brackets whose radiance is known, made without the package's own camera."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from hdr.bracket import Bracket
from hdr.calibration import Calibration
from hdr.radiometry import GAMMA
from hdr.response import Response

EXPOSURES = (1.0, 4.0, 16.0)


def textured(height: int, width: int, seed: int = 0, darkest: float = 0.004, brightest: float = 0.9) -> Tensor:
    """Radiance (3, H, W) with structure of 4 to 32 pixels, evenly spread over the logarithm of a range."""
    source = torch.Generator().manual_seed(seed)
    field = torch.zeros(1, 3, height, width)
    for cell in (4, 8, 16, 32):
        grey = torch.randn(1, 1, height // cell + 3, width // cell + 3, generator=source)
        colour = 0.3 * torch.randn(1, 3, height // cell + 3, width // cell + 3, generator=source)
        size = (cell * (height // cell + 2), cell * (width // cell + 2))
        fine = F.interpolate(grey + colour, size=size, mode="bicubic", align_corners=False)
        field += fine[..., :height, :width]
    share = field[0].flatten().argsort().argsort().view(3, height, width) / (field.numel() - 1)
    return darkest * (brightest / darkest) ** share


def ldr_of(radiance: Tensor, exposure: float, noise: float = 0.0, levels: int | None = 255, seed: int = 0) -> Tensor:
    """An image of gamma 2.2: linear noise, clipping, rounding to levels (None leaves it as it is)."""
    light = radiance * exposure
    if noise:
        light = light + noise * torch.randn(radiance.shape, generator=torch.Generator().manual_seed(seed))
    ldr = light.clamp(0, 1) ** (1 / GAMMA)
    return ldr if levels is None else (ldr * levels).round() / levels


def photographed(
    scenes: Tensor | list[Tensor],
    exposures: tuple[float, ...] = EXPOSURES,
    noise: float = 0.0,
    levels: int | None = 255,
    reference: int = -1,
) -> Bracket:
    """A bracket of one scene that stands still, or of the scene at each instant."""
    instants = [scenes] * len(exposures) if isinstance(scenes, Tensor) else scenes
    ldr = [
        ldr_of(scene, t, noise, levels, seed) for seed, (scene, t) in enumerate(zip(instants, exposures, strict=True))
    ]
    calibration = Calibration(Response.gamma(GAMMA), shot=0.0, read=max(noise, 1e-4) ** 2, levels=levels or 65535)
    return Bracket(torch.stack(ldr), torch.tensor(exposures), calibration=calibration, reference_index=reference)


def saturated_texture(subsampled: bool) -> Calibration:
    """A camera whose files are 8-bit sRGB, and keep colour at half the resolution or do not."""
    return Calibration(Response.srgb(), shot=1e-5, read=1e-8, mixing=None, chroma_halved=(subsampled, subsampled))
