"""A camera: radiance in, LDR pictures out, with noise, a response curve and a number of bits."""

from __future__ import annotations

import torch
from torch import Tensor

from hdr.data.random import integer, log_uniform, normal, uniform
from hdr.radiometry import GAMMA


def saturating_scale(radiance: Tensor, share: float) -> float:
    """Exposure at which a share of the pixels of (3, H, W) has a saturated channel."""
    brightest = radiance.amax(dim=0).flatten()
    return 1.0 / max(torch.quantile(brightest, 1.0 - share).item(), 1e-8)


def photograph(generator: torch.Generator, radiance: Tensor, exposures: Tensor) -> Tensor:
    """Take one picture for each exposure.

    Shot noise grows with the square root of the light and read noise does not depend on it. The gamma is not exactly
    2.2, the same for the three pictures, as no camera's is; results have 8 or 16 bits.

    Parameters
    ----------
    generator
        Everything random comes from here.
    radiance
        Shape (3, 3, H, W): the scene at each instant; the short exposure saturates at 1.
    exposures
        Shape (3,), relative to the shortest.

    Returns
    -------
    Tensor
        Shape (3, 3, H, W), LDR values in [0, 1].
    """
    light = (radiance * exposures.to(radiance).view(-1, 1, 1, 1)).clamp(0, 4)
    full_well = log_uniform(generator, 3e3, 3e4)
    read_noise = log_uniform(generator, 1e-4, 1e-3)
    deviation = (light / full_well + read_noise**2).sqrt()
    noise = normal(generator, *light.shape).to(light)
    response = 1.0 / (GAMMA * uniform(generator, 0.98, 1.02))
    encoded = (light + deviation * noise).clamp(0, 1).pow(response)
    steps = 255 if integer(generator, 0, 3) > 0 else 65535
    return (encoded * steps).round() / steps
