"""Tone mapping of radiance for display: the mu-law of HDR papers, Reinhard's global operator, and a local one."""

from __future__ import annotations

from typing import get_args

import torch
import torch.nn.functional as F
from kornia.filters import guided_blur
from torch import Tensor

from hdr._errors import RefusedError
from hdr.radiometry import GAMMA, MIDDLE_GREY, MU, log2_luminance, log_average, luminance, mu_law
from hdr.settings import Operator

_DARKEST_WHITE = 1e-6  # of a picture that is black all over
_RADIUS = 8  # of the window for the base, in pixels of a picture that is reduced to 400 to 800
_REDUCED_SIDE = 400
_DARKEST, _BRIGHTEST = 0.005, 0.995  # quantiles: a lamp must not decide what all else looks like


def tonemap(radiance: Tensor, operator: Operator = "reinhard") -> Tensor:
    """Tone-map by name, each operator with its defaults.

    Parameters
    ----------
    radiance
        Shape (..., 3, H, W), linear, >= 0.
    operator
        ``"reinhard"`` for :func:`tonemap_reinhard`, ``"mu-law"`` for :func:`tonemap_mu_law`, ``"local"`` for
        :func:`tonemap_local`.

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
    if operator == "local":
        return tonemap_local(radiance)
    raise RefusedError(f"operator must be one of {', '.join(get_args(Operator))}, got {operator!r}")


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


def tonemap_reinhard(radiance: Tensor, key: float = MIDDLE_GREY, white: float | None = None) -> Tensor:
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
        raise RefusedError(f"expected radiance of shape (..., 3, H, W), got {tuple(radiance.shape)}")
    if key <= 0 or (white is not None and white <= 0):
        raise RefusedError(f"key and white must be positive, got key={key}, white={white}")
    light = luminance(radiance)
    to_key = key / log_average(radiance)
    scaled = light * to_key
    brightest = scaled.amax(dim=(-2, -1), keepdim=True).clamp_min(_DARKEST_WHITE)
    burnt_out = brightest if white is None else torch.full_like(brightest, white)
    # Display luminance over world luminance, with the common factor L divided out so that black needs no guard.
    ratio = to_key * (1.0 + scaled / burnt_out.square()) / (1.0 + scaled)
    return (radiance * ratio).clamp_(0.0, 1.0).pow_(1.0 / GAMMA)  # in place: images are large


def tonemap_local(radiance: Tensor, base_range: float = 5.0, contrast: float = 1.0) -> Tensor:
    """Compress the large differences of light, and keep the small ones as they are; with a display gamma of 2.2.

    The logarithm of luminance is parted into a base, smooth but for the large edges, and detail; the base is scaled to
    ``base_range``, where it has more, and the detail is put back whole; colours keep their ratios. Durand and Dorsey,
    Fast bilateral filtering for the display of high-dynamic-range images, SIGGRAPH 2002; the base is that of a guided
    filter, which has no gradient reversals and a cost that does not depend on the window. He, Sun and Tang, Guided
    image filtering, ECCV 2010.

    Parameters
    ----------
    radiance
        Shape (..., 3, H, W), linear, >= 0, of any scale.
    base_range
        EV between the darkest and the brightest half percent of the base that are left, positive.
    contrast
        EV, positive: what varies less within a fiftieth of the picture is detail.

    Returns
    -------
    Tensor
        Display values in [0, 1], of the same shape; the brightest half percent of the base are white.

    Raises
    ------
    ValueError
        If ``radiance`` has another shape, or ``base_range`` or ``contrast`` is not positive.

    Examples
    --------
    >>> scene = torch.ones(3, 64, 64)
    >>> scene[..., 32:] = 2.0**10
    >>> tonemap_local(scene)[0, 0, [0, 63]]  # five EV apart, of ten, before the gamma
    tensor([0.2..., 1.0000])
    """
    if radiance.ndim < 3 or radiance.shape[-3] != 3:
        raise RefusedError(f"expected radiance of shape (..., 3, H, W), got {tuple(radiance.shape)}")
    if not (base_range > 0 and contrast > 0):
        raise RefusedError(f"base_range and contrast must be positive, got {base_range} and {contrast}")
    height, width = radiance.shape[-2:]
    light = log2_luminance(radiance).reshape(-1, 1, height, width)
    step = min(max(1, max(height, width) // _REDUCED_SIDE), height, width)
    window = 2 * _RADIUS * step + 1
    # Whole steps: before kornia 0.9 the filter takes no other sizes.
    light = F.pad(light, (0, -width % step, 0, -height % step), mode="replicate")
    base: Tensor = guided_blur(light, light, window, contrast**2, border_type="replicate", subsample=step)
    base = base[..., :height, :width]
    # Of every step-th pixel, because quantile() does not take as many as a photograph has.
    levels = base[..., ::step, ::step].flatten(1)
    darkest, white = torch.quantile(levels, levels.new_tensor([_DARKEST, _BRIGHTEST]), dim=1).view(2, -1, 1, 1, 1)
    scale = (base_range / (white - darkest)).clamp_max(1.0)
    # 2^(scale (base - white) + detail) over luminance; luminance is 2^(base + detail), so that the detail cancels.
    ratio: Tensor = ((scale - 1.0) * base - scale * white).exp2().reshape(*radiance.shape[:-3], 1, height, width)
    return (radiance * ratio).clamp_(0.0, 1.0).pow_(1.0 / GAMMA)  # in place: images are large
