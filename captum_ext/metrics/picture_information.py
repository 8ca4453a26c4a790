"""How much a picture tells: its size as lossless WebP, or its similarity to the whole picture."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

from captum_ext.metrics.revealed_pixels import Picture

Information = Literal["webp", "ms-ssim"]
SMALLEST_SIDE_MS_SSIM = 176
"""Five scales, the coarsest with room for the window of 11 pixels."""


def webp_size(picture: Picture) -> int:
    """Return the bytes of a picture of shape (H, W, C), 1 or 3 channels, as lossless WebP.

    Examples
    --------
    >>> import numpy as np
    >>> noise = np.random.default_rng(0).integers(256, size=(32, 32, 3), dtype=np.uint8)
    >>> webp_size(noise) > 10 * webp_size(np.zeros_like(noise))
    True
    """
    buffer = io.BytesIO()
    Image.fromarray(picture.squeeze(-1) if picture.shape[2] == 1 else picture).save(
        buffer, format="webp", lossless=True, quality=100
    )
    return buffer.tell()


def information_of(pictures: Sequence[Picture], information: Information, pool: ThreadPoolExecutor) -> Iterable[float]:
    """Begin to measure each of several versions of a picture, the last of which is whole.

    Threads compress on while the caller does something else, and the numbers come when they are asked for.

    Parameters
    ----------
    pictures
        Versions of shape (H, W, C), C 1 or 3; for MS-SSIM of 176 pixels or more on each side.
    information
        ``"webp"`` for bytes, ``"ms-ssim"`` for the similarity to the last version, at most 1.
    pool
        Threads that compress.
    """
    if information == "webp":
        return pool.map(webp_size, pictures)
    stack = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255
    whole = stack[-1:].expand_as(stack)
    similarity = multiscale_structural_similarity_index_measure(stack, whole, data_range=1.0, reduction="none")
    return [float(one) for one in similarity]
