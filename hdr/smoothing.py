"""Maps smoothed by a Gaussian, on every device in its quickest way."""

from __future__ import annotations

import functools

import torch
from kornia.filters import filter2d_separable, gaussian_blur2d, get_gaussian_kernel1d
from torch import Tensor


def blurred(maps: Tensor, sigma: float) -> Tensor:
    """Maps (B, C, H, W) smoothed by a Gaussian of a standard deviation in pixels, cut off at three of these."""
    size = 2 * round(3 * sigma) + 1
    border = "reflect" if min(maps.shape[-2:]) > size // 2 else "replicate"
    with torch.autocast(maps.device.type, enabled=False):  # half precision is for the network, not for the physics
        if maps.device.type == "cpu":
            # Contiguous: of a view it takes five times as long.
            return gaussian_blur2d(maps.contiguous(), (size, size), (sigma, sigma), border_type=border)
        # The same, with a kernel that is made once: a GPU waits for the many small operations that make one.
        kernel = _gaussian(size, sigma, maps.device, maps.dtype)
        return filter2d_separable(maps, kernel, kernel, border)


@functools.lru_cache(maxsize=32)
def _gaussian(size: int, sigma: float, device: torch.device, dtype: torch.dtype) -> Tensor:
    with torch.inference_mode(False):
        return get_gaussian_kernel1d(size, sigma, device=device, dtype=dtype)
