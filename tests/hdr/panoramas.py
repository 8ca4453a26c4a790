"""Small procedural panoramas on disk."""

from __future__ import annotations

from pathlib import Path

import torch

from hdr.data.draws import smooth_field
from hdr.io import write_radiance


def write_panoramas(folder: Path, count: int, height: int = 64) -> Path:
    for index in range(count):
        generator = torch.Generator().manual_seed(index)
        field = smooth_field(generator, 3, height, 2 * height, 12) + smooth_field(generator, 1, height, 2 * height, 30)
        write_radiance(folder / f"sky-{index:02d}.hdr", torch.exp(1.2 * field))
    return folder
