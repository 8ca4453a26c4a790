"""Gaussian blur of images, with zeros outside or with the image alone."""

from __future__ import annotations

import torch
from torch import Tensor

BLUR_SIGMA = 20.0


def gaussian_blur(images: Tensor, sigma: float) -> Tensor:
    """Blur images with a Gaussian cut at four sigma, with zeros outside, as ``scipy.ndimage`` does.

    Parameters
    ----------
    images
        Shape (N, C, H, W).
    sigma
        Standard deviation in pixels; 0 gives the images back.

    Examples
    --------
    >>> import torch
    >>> gaussian_blur(torch.ones(1, 1, 3, 3), 1.0)[0, 0, 1].round(decimals=4)
    tensor([0.6135, 0.7795, 0.6135])
    """
    from kornia.filters import gaussian_blur2d  # here: all of kornia comes with it, and most calls need no blur

    radius = int(4.0 * sigma + 0.5)
    if radius == 0:
        return images
    # Kornia before 0.9 convolves in the image's own precision.
    precise = images.to(torch.promote_types(images.dtype, torch.float32))
    blurred = gaussian_blur2d(precise, 2 * radius + 1, (sigma, sigma), border_type="constant")
    return blurred.to(images.dtype)


def blur_within_borders(images: Tensor, sigma: float) -> Tensor:
    """Blur images with a Gaussian that weighs only pixels inside the image, so that borders do not darken.

    Parameters
    ----------
    images
        Shape (N, C, H, W).
    sigma
        Standard deviation in pixels; 0 gives the images back.

    Examples
    --------
    >>> import torch
    >>> blur_within_borders(torch.ones(1, 1, 2, 3), 1.0)[0, 0]
    tensor([[1., 1., 1.],
            [1., 1., 1.]])
    """
    return gaussian_blur(images, sigma) / gaussian_blur(torch.ones_like(images[:1, :1]), sigma)
