"""Generators with random weights in every layer, also in those that start at zero."""

from __future__ import annotations

import torch

from hdr.nn.generator import Generator


def random_generator(preset: str = "tiny", seed: int = 0, **overrides: object) -> Generator:
    generator = Generator.from_preset(preset, **overrides)
    source = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in generator.parameters():
            noise = torch.randn(parameter.shape, generator=source)
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 100
            parameter.copy_(noise / fan_in**0.5)
    return generator.eval()
