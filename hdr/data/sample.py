"""What every data set of brackets gives for one scene."""

from __future__ import annotations

from typing import TypedDict

from torch import Tensor


class HdrSample(TypedDict):
    """One scene; a DataLoader's default collation adds a batch dimension in front."""

    name: str
    """Which scene, for tables."""
    ldr: Tensor
    """Shape (3, 3, H, W): exposure (short to long), channel, height, width; values in [0, 1]."""
    exposures: Tensor
    """Shape (3,): relative to the shortest, which is 1."""
    target: Tensor
    """Shape (3, H, W): radiance at the reference's instant in [0, 1]; the short exposure saturates at 1."""
