"""Tone mapping of radiance for display: the mu-law of the HDR papers and Reinhard's global operator."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from hdr.radiometry import GAMMA, MU, mu_law

Operator = Literal["reinhard", "mu-law"]

_LUMINANCE = (0.2126, 0.7152, 0.0722)  # of linear light, ITU-R BT.709
_BLACK = 1e-6  # keeps the logarithm of black finite


def tonemap(radiance: Tensor, operator: Operator = "reinhard") -> Tensor:
    """Tone-map by name, each operator with its defaults.

    Parameters
    ----------
    radiance
        Shape (..., 3, H, W), linear, >= 0.
    operator
        ``"reinhard"`` for :func:`tonemap_reinhard`, ``"mu-law"`` for :func:`tonemap_mu_law`.

    Returns
    -------
    Tensor
        Display values in [0, 1], of the same shape.

    Raises
    ------
    ValueError
        If there is no such operator.
    """
    if operator == "reinhard":
        return tonemap_reinhard(radiance)
    if operator == "mu-law":
        return tonemap_mu_law(radiance)
    raise ValueError(f"operator must be one of {', '.join(get_args(Operator))}, got {operator!r}")


def tonemap_mu_law(radiance: Tensor, mu: float = MU) -> Tensor:
    """Mu-law as a picture: log(1 + mu H) / log(1 + mu), clipped to [0, 1].

    It shows what PSNR-mu measures. The values are display values as they are; there is no gamma after it, as in the
    figures of the HDR papers.

    Parameters
    ----------
    radiance
        Any shape, linear, on the scale on which the short exposure saturates at 1.
    mu
        Compression, positive.

    Returns
    -------
    Tensor
        Display values in [0, 1], of the same shape.

    Examples
    --------
    >>> tonemap_mu_law(torch.tensor([0.0, 0.01, 1.0, 7.0]))
    tensor([0.0000, 0.4616, 1.0000, 1.0000])
    """
    return mu_law(radiance, mu).clamp(0.0, 1.0)


def tonemap_reinhard(radiance: Tensor, key: float = 0.18, white: float | None = None) -> Tensor:
    """Reinhard's global operator on luminance, with a display gamma of 2.2.

    Luminance is scaled so that its log-average becomes ``key``, then compressed by
    L (1 + L / white^2) / (1 + L); colours keep their ratios. Reinhard, Stark, Shirley and Ferwerda, Photographic tone
    reproduction for digital images, SIGGRAPH 2002, equations 1, 2 and 4.

    Parameters
    ----------
    radiance
        Shape (..., 3, H, W), linear, >= 0, of any scale.
    key
        Middle grey, positive: 0.18 for an ordinary scene, more for a bright one.
    white
        The scaled luminance that becomes white. By default the largest of the picture, so that nothing is burnt out.

    Returns
    -------
    Tensor
        Display values in [0, 1], of the same shape.

    Raises
    ------
    ValueError
        If ``radiance`` has another shape, or ``key`` or ``white`` is not positive.

    Examples
    --------
    >>> scene = torch.tensor([0.02, 0.18, 40.0]).expand(3, 1, 3)
    >>> tonemap_reinhard(scene, white=100.0)[0, 0]
    tensor([0.1036, 0.2746, 0.9692])
    """
    if radiance.ndim < 3 or radiance.shape[-3] != 3:
        raise ValueError(f"expected radiance of shape (..., 3, H, W), got {tuple(radiance.shape)}")
    if key <= 0 or (white is not None and white <= 0):
        raise ValueError(f"key and white must be positive, got key={key}, white={white}")
    weights = radiance.new_tensor(_LUMINANCE).view(3, 1, 1)
    luminance = (radiance * weights).sum(dim=-3, keepdim=True)
    log_average = luminance.clamp_min(_BLACK).log().mean(dim=(-2, -1), keepdim=True).exp()
    scaled = luminance * (key / log_average)
    brightest = scaled.amax(dim=(-2, -1), keepdim=True).clamp_min(_BLACK)
    burnt_out = brightest if white is None else torch.full_like(brightest, white)
    # Display luminance over world luminance, with the common factor L divided out so that black needs no guard.
    ratio = (key / log_average) * (1.0 + scaled / burnt_out.square()) / (1.0 + scaled)
    return (radiance * ratio).clamp(0.0, 1.0).pow(1.0 / GAMMA)
