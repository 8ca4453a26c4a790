"""How much an image tells: its size as a lossless file, or its similarity to the whole image."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

from captum_ext.metrics.revealed_pixels import Pixels

Information = Literal["webp", "png", "ms-ssim"]
SMALLEST_SIDE_MS_SSIM = 176
"""Five scales, the coarsest with room for the window of 11 pixels."""
_PIXELS_AT_ONCE = 1 << 21  # 41 versions of 224 x 224
_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def file_size(image: Pixels, kind: Literal["webp", "png"]) -> int:
    """Return the bytes of an image of shape (H, W, C), 1 or 3 channels, as lossless WebP or as PNG.

    Examples
    --------
    >>> import numpy as np
    >>> noise = np.random.default_rng(0).integers(256, size=(32, 32, 3), dtype=np.uint8)
    >>> file_size(noise, "webp") > 10 * file_size(np.zeros_like(noise), "webp")
    True
    """
    from PIL import Image

    options = {"lossless": True, "quality": 100} if kind == "webp" else {}
    buffer = io.BytesIO()
    Image.fromarray(image.squeeze(-1) if image.shape[2] == 1 else image).save(buffer, format=kind, **options)
    return buffer.tell()


def multiscale_similarity(images: Tensor, other: Tensor) -> Tensor:
    """Return the multi-scale structural similarity (MS-SSIM) of images to another one, at most 1; shape (N,).

    Source: Wang, Simoncelli and Bovik, Multiscale structural similarity for image quality assessment, Asilomar 2003,
    equation 7; Gaussian windows of 11 pixels, sigma = 1.5, K = (0.01, 0.03). Where the structure of a scale is opposite
    on the whole, the similarity is 0. The numbers are those of torchmetrics.

    Parameters
    ----------
    images
        Shape (N, C, H, W), values in [0, 1]; 176 pixels or more on each side.
    other
        Shape (C, H, W), likewise.

    Examples
    --------
    >>> stripes = torch.linspace(0, 60, 176).sin().mul(0.5).add(0.5).expand(1, 176, 176)
    >>> multiscale_similarity(torch.stack([stripes, 1 - stripes]), stripes)
    tensor([1., 0.])
    """
    from kornia.filters import filter2d_separable, get_gaussian_kernel1d

    window = get_gaussian_kernel1d(11, 1.5, device=images.device, dtype=images.dtype)
    everything = torch.cat([images, other[None]])
    similarity = images.new_ones(len(images))
    for scale, weight in enumerate(_SCALE_WEIGHTS, start=1):
        is_coarsest = scale == len(_SCALE_WEIGHTS)
        # Windows lie inside the image, but at the coarsest scale, where few would be left, it is mirrored.
        shown = pad(everything, (5, 5, 5, 5), mode="reflect") if is_coarsest else everything
        moments = torch.cat([shown, shown.square(), shown[:-1] * shown[-1:]])
        averages = filter2d_separable(moments, window, window, padding="valid")
        # The other image comes last of the means and of the squares, and its moments serve all.
        means, squares, xy = averages.split([len(shown), len(shown), len(images)])
        mean_x, mean_y = means[:-1], means[-1:]
        # Rounding can leave a variance below zero where the image is flat.
        variance = (squares - means.square()).clamp(min=0)
        alike = (2 * (xy - mean_x * mean_y) + 0.03**2) / (variance[:-1] + variance[-1:] + 0.03**2)
        if is_coarsest:  # brightness counts here alone
            alike = alike * (2 * mean_x * mean_y + 0.01**2) / (mean_x**2 + mean_y**2 + 0.01**2)
        similarity = similarity * alike.mean((1, 2, 3)).clamp(min=0) ** weight
        everything = avg_pool2d(everything, 2)
    return similarity


def information_in(
    versions: Sequence[Pixels], whole: Pixels, information: Information, device: torch.device | None = None
) -> list[float]:
    """Return how much each version of an image tells.

    Parameters
    ----------
    versions, whole
        Each of shape (H, W, C), C 1 or 3; for MS-SSIM of 176 pixels or more on each side.
    information
        ``"webp"`` or ``"png"`` for a version's bytes as such a file, ``"ms-ssim"`` for its similarity to the whole
        image, at most 1.
    device
        Where similarities are computed; None takes the CPU.
    """
    if information != "ms-ssim":
        return [file_size(version, information) for version in versions]
    # By default cuDNN convolves float32 with ten bits, of which variances, differences of squares, would keep few.
    dtype = torch.float64 if device is not None and device.type == "cuda" else torch.float32
    stack = torch.from_numpy(np.stack([*versions, whole])).to(device).permute(0, 3, 1, 2)
    at_once = max(1, _PIXELS_AT_ONCE // whole[..., 0].size)
    similarities = [
        multiscale_similarity(some.to(dtype) / 255, stack[-1].to(dtype) / 255) for some in stack[:-1].split(at_once)
    ]
    values: list[float] = torch.cat(similarities).tolist()
    return values
