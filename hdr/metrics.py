"""Errors of HDR reconstructions as the HDR papers define them: PSNR and SSIM, tone-mapped (mu) and linear (L)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from kornia.metrics import psnr, ssim
from torch import Tensor

from hdr._errors import RefusedError
from hdr._images import check_tensor
from hdr.radiometry import MU, mu_law

_SSIM_WINDOW = 11  # with Kornia's sigma of 1.5 this is the window of Wang et al., 2004
_SMALLEST_SIDE = _SSIM_WINDOW // 2 + 1  # at edges half of the window is mirrored


def psnr_mu(prediction: Tensor, target: Tensor, mu: float = MU) -> Tensor:
    """Peak signal-to-noise ratio in the mu-law domain, -10 log10 mean (T(prediction) - T(target))^2.

    The main figure of the HDR papers (Kalantari and Ramamoorthi, 2017): errors in shadows count as much as errors in
    highlights.

    Parameters
    ----------
    prediction, target
        Shape (B, 3, H, W) or (3, H, W), radiance on the scale on which the short exposure saturates at 1: the peak is
        1 in both domains. Nothing is clipped.
    mu
        Compression of the mu-law.

    Returns
    -------
    Tensor
        Shape (B,), or a scalar for one image: decibels for each image, infinite where they are equal.

    Raises
    ------
    ValueError
        If the shapes differ or are others, or the numbers are whole ones.

    Examples
    --------
    >>> target = torch.rand(2, 3, 32, 32)
    >>> psnr_mu(target, target)
    tensor([inf, inf])
    """
    _check_pair(prediction, target)
    return _each_image(_peak_ratio, mu_law(prediction, mu), mu_law(target, mu))


def psnr_l(prediction: Tensor, target: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of linear radiance, -10 log10 mean (prediction - target)^2.

    It asks for the highlights. Arguments, result and errors as for :func:`psnr_mu`.

    Examples
    --------
    >>> target = torch.full((3, 16, 16), 0.5)
    >>> psnr_l(target + 0.1, target)
    tensor(20.0000)
    """
    _check_pair(prediction, target)
    return _each_image(_peak_ratio, prediction, target)


def ssim_mu(prediction: Tensor, target: Tensor, mu: float = MU) -> Tensor:
    """Structural similarity in the mu-law domain (Wang et al., 2004: window of 11 x 11, sigma 1.5, peak 1).

    Arguments and errors as for :func:`psnr_mu`, of images at least 6 pixels wide and high; the result is at most 1, at
    equality.
    """
    _check_pair(prediction, target, _SMALLEST_SIDE)
    return _each_image(_similarity, mu_law(prediction, mu), mu_law(target, mu))


def ssim_l(prediction: Tensor, target: Tensor) -> Tensor:
    """Structural similarity of linear radiance; arguments, result and errors as for :func:`ssim_mu`."""
    _check_pair(prediction, target, _SMALLEST_SIDE)
    return _each_image(_similarity, prediction, target)


METRICS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "PSNR-mu": psnr_mu,
    "PSNR-L": psnr_l,
    "SSIM-mu": ssim_mu,
    "SSIM-L": ssim_l,
}


def evaluate(prediction: Tensor, target: Tensor) -> dict[str, float]:
    """All four metrics of one image of shape (3, H, W), by name."""
    return {name: float(metric(prediction, target)) for name, metric in METRICS.items()}


def format_metric(name: str, value: float) -> str:
    """A metric's value as tables show it: decibels with two digits, similarities with four.

    Examples
    --------
    >>> format_metric("PSNR-mu", 41.2345), format_metric("SSIM-L", 0.98765)
    ('41.23', '0.9877')
    """
    return f"{value:.2f}" if name.startswith("PSNR") else f"{value:.4f}"


def _peak_ratio(prediction: Tensor, target: Tensor) -> Tensor:
    return psnr(prediction, target, max_val=1.0)


def _similarity(prediction: Tensor, target: Tensor) -> Tensor:
    return ssim(prediction, target, window_size=_SSIM_WINDOW, max_val=1.0).mean()


def _each_image(metric: Callable[[Tensor, Tensor], Tensor], prediction: Tensor, target: Tensor) -> Tensor:
    # Image by image: Kornia's PSNR takes one mean over the batch, the papers average decibels.
    if prediction.ndim == 3:
        return metric(prediction[None], target[None])
    return torch.stack([metric(p[None], t[None]) for p, t in zip(prediction, target, strict=True)])


def _check_pair(prediction: Tensor, target: Tensor, smallest_side: int = 1) -> None:
    check_tensor(prediction, "prediction")
    check_tensor(target, "target")
    if not (prediction.is_floating_point() and target.is_floating_point()):
        raise RefusedError(f"expected floating point, got {prediction.dtype} and {target.dtype}")
    if prediction.shape != target.shape:
        raise RefusedError(
            f"prediction and target must have one shape, got {tuple(prediction.shape)} and {tuple(target.shape)}"
        )
    if prediction.ndim not in (3, 4) or prediction.shape[-3] != 3 or prediction.numel() == 0:
        raise RefusedError(f"expected shape (B, 3, H, W) or (3, H, W), got {tuple(prediction.shape)}")
    height, width = prediction.shape[-2:]
    if min(height, width) < smallest_side:
        raise RefusedError(
            f"images must be at least {smallest_side} pixels wide and high, got {height} x {width} (H x W)"
        )
