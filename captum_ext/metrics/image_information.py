"""How much an image tells: its size as lossless WebP, or its similarity to the whole image."""

from __future__ import annotations

import io
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

from captum_ext.metrics.revealed_pixels import Pixels

Information = Literal["webp", "ms-ssim"]
SMALLEST_SIDE_MS_SSIM = 176
"""Five scales, the coarsest with room for the window of 11 pixels."""


def webp_size(image: Pixels) -> int:
    """Return the bytes of an image of shape (H, W, C), 1 or 3 channels, as lossless WebP.

    Examples
    --------
    >>> import numpy as np
    >>> noise = np.random.default_rng(0).integers(256, size=(32, 32, 3), dtype=np.uint8)
    >>> webp_size(noise) > 10 * webp_size(np.zeros_like(noise))
    True
    """
    buffer = io.BytesIO()
    Image.fromarray(image.squeeze(-1) if image.shape[2] == 1 else image).save(
        buffer, format="webp", lossless=True, quality=100
    )
    return buffer.tell()


def information_in(version: Pixels, whole: Pixels, information: Information) -> float:
    """Return how much a version of an image tells.

    Parameters
    ----------
    version, whole
        Shape (H, W, C), C 1 or 3; for MS-SSIM of 176 pixels or more on each side.
    information
        ``"webp"`` for the version's bytes, ``"ms-ssim"`` for its similarity to the whole image, at most 1.
    """
    if information == "webp":
        return webp_size(version)
    stack = torch.from_numpy(np.stack([version, whole])).permute(0, 3, 1, 2).float() / 255
    return float(multiscale_structural_similarity_index_measure(stack[:1], stack[1:], data_range=1.0))
