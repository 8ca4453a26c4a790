"""Camera response, exposure and tone mapping: pure, differentiable functions on tensors.

Three scales meet here. *LDR* values are what a picture file holds, in [0, 1]. *Radiance* is linear light on the scale
on which the shortest exposure of a bracket saturates at 1. The *mu-law domain* is the tone-mapped radiance in which the
network works and in which errors are measured.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from hdr._errors import RefusedError

MU = 5000.0
GAMMA = 2.2
MIDDLE_GREY = 0.18
"""Of diffuse white: what an ordinary scene has on the average."""
REC709 = (0.64, 0.33, 0.3, 0.6, 0.15, 0.06, 0.3127, 0.329)
"""Chromaticities of red, green, blue and white, which are those of all radiance here."""
ADOBE_RGB = (0.64, 0.33, 0.21, 0.71, 0.15, 0.06, *REC709[6:])
"""Chromaticities of Adobe RGB (1998)."""
P3 = (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, *REC709[6:])
"""Chromaticities of Display P3."""
REC2020 = (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, *REC709[6:])
"""Chromaticities of ITU-R BT.2020."""

_LUMINANCE = (0.2126, 0.7152, 0.0722)  # of linear light, ITU-R BT.709

_BLACK = 1e-6  # of the brightest light: 20 EV, more than a sensor tells apart
_NO_LIGHT = 1e-36  # of a picture that is black all over

LUMA = (0.299, 0.587, 0.114)
"""Share of red, green and blue values in the brightness that JPEG keeps in full, ITU-R BT.601."""

SAME_LIGHT = 1.1
"""Ratio below which two exposures got the same light: shutters, apertures and what cameras write down are no better."""

Exposure = float | Tensor


def relative_exposures(exposure_times: Tensor) -> Tensor:
    """Exposures relative to the shortest one of a bracket.

    Parameters
    ----------
    exposure_times
        Shape (..., n): exposure times in seconds, or any positive multiple of the light that reached the sensor, such
        as time * ISO / N^2. The bracket lies along the last dimension.

    Returns
    -------
    Tensor
        Same shape; the smallest value along the last dimension is exactly 1.

    Raises
    ------
    ValueError
        If an exposure is not positive and finite, or there is none.

    Examples
    --------
    >>> relative_exposures(torch.tensor([0.5, 0.125, 2.0]))
    tensor([ 4.,  1., 16.])
    """
    if exposure_times.ndim == 0 or exposure_times.shape[-1] == 0:
        raise RefusedError(f"expected the exposures of a bracket along the last dimension, got {exposure_times!r}")
    if not bool(torch.isfinite(exposure_times).all()) or bool((exposure_times <= 0).any()):
        raise RefusedError(f"exposures must be positive and finite, got {exposure_times.tolist()}; give seconds")
    return exposure_times / exposure_times.amin(dim=-1, keepdim=True)


def middle(count: int) -> int:
    """Index of the reference among ``count`` ascending exposures: the middle one, of two the shorter, which clips less.

    Examples
    --------
    >>> [middle(count) for count in (2, 3, 4, 5)]
    [0, 1, 1, 2]
    """
    return (count - 1) // 2


def groups_of_light(exposures: Sequence[float]) -> list[list[int]]:
    """Indices of ascending exposures, those together that got the same light, to :data:`SAME_LIGHT`.

    Examples
    --------
    >>> groups_of_light([1.0, 4.0, 4.2, 16.0])
    [[0], [1, 2], [3]]
    """
    groups: list[list[int]] = []
    for index, exposure in enumerate(exposures):
        if groups and exposure < SAME_LIGHT * exposures[groups[-1][0]]:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups


def of_same_light(exposures: Tensor, reference: int) -> Tensor:
    """Which exposures (B, N) got the light of the reference, to :data:`SAME_LIGHT`; (B, N), True for itself.

    Examples
    --------
    >>> of_same_light(torch.tensor([[1.0, 4.0, 4.2, 16.0]]), reference=1)
    tensor([[False,  True,  True, False]])
    """
    ratio = exposures / exposures[:, reference : reference + 1]
    return (ratio < SAME_LIGHT) & (ratio > 1 / SAME_LIGHT)


def middle_exposure(exposures: Sequence[float]) -> int:
    """Index of the reference among ascending exposures, :func:`middle`; those that got the same light count as one.

    Examples
    --------
    >>> middle_exposure([1.0, 4.0, 16.0]), middle_exposure([1.0, 4.0, 16.0, 16.0, 16.0])
    (1, 1)
    """
    groups = groups_of_light(exposures)
    alike = groups[middle(len(groups))]
    return alike[middle(len(alike))]


def luminance(radiance: Tensor) -> Tensor:
    """Luminance (..., 1, H, W) of linear Rec. 709, (..., 3, H, W).

    Examples
    --------
    >>> luminance(torch.ones(3, 1, 1))
    tensor([[[1.]]])
    """
    return (radiance * radiance.new_tensor(_LUMINANCE).view(3, 1, 1)).sum(dim=-3, keepdim=True)


def log2_luminance(radiance: Tensor) -> Tensor:
    """Logarithm of luminance to base 2, EV; of black that of a millionth of the brightest, so that it is finite.

    Parameters
    ----------
    radiance
        Shape (..., 3, H, W), linear, >= 0, of any scale: another one adds one number to all.

    Returns
    -------
    Tensor
        Shape (..., 1, H, W), float32 or float64.

    Examples
    --------
    >>> log2_luminance(torch.tensor([0.0, 0.25, 4.0]).expand(3, 1, 3)).flatten()
    tensor([-17.9316,  -2.0000,   2.0000])
    """
    light = luminance(radiance.to(torch.promote_types(radiance.dtype, torch.float32)))
    brightest = light.amax(dim=(-2, -1), keepdim=True)
    return light.clamp_min((_BLACK * brightest).clamp_min(_NO_LIGHT)).log2()


def log_average(radiance: Tensor) -> Tensor:
    """Logarithmic average of luminance, which tone mapping makes middle grey (Reinhard et al., 2002, equation 1).

    Parameters
    ----------
    radiance
        As for :func:`log2_luminance`.

    Returns
    -------
    Tensor
        Shape (..., 1, 1, 1), positive; of twice the radiance it is twice as much.

    Examples
    --------
    >>> log_average(torch.tensor([1.0, 2.0, 4.0]).expand(3, 1, 3))
    tensor([[[2.]]])
    """
    return log2_luminance(radiance).mean(dim=(-2, -1), keepdim=True).exp2()


def ldr_to_linear(ldr: Tensor, exposure: Exposure, gamma: float = GAMMA) -> Tensor:
    """Radiance of an LDR picture, H = L^gamma / t (Kalantari and Ramamoorthi, 2017, equation 1).

    Parameters
    ----------
    ldr
        Any shape, values in [0, 1]. Values below 0 are taken as 0, since a power of them has no meaning.
    exposure
        Exposure t relative to the shortest of the bracket, so t >= 1; a tensor must broadcast against ``ldr``.
    gamma
        The camera response is L = (H t)^(1 / gamma). 1 stands for input that is linear already.

    Returns
    -------
    Tensor
        Radiance in [0, 1 / t], of the same shape.

    Raises
    ------
    ValueError
        If ``gamma`` or ``exposure`` is not positive.

    Examples
    --------
    >>> ldr_to_linear(torch.tensor([0.0, 0.5, 1.0]), exposure=4.0, gamma=2.0)
    tensor([0.0000, 0.0625, 0.2500])
    """
    _check_response(exposure, gamma)
    return ldr.clamp_min(0.0).pow(gamma) / exposure


def linear_to_ldr(radiance: Tensor, exposure: Exposure, gamma: float = GAMMA) -> Tensor:
    """LDR picture that an exposure makes of radiance, L = min(H t, 1)^(1 / gamma).

    The inverse of :func:`ldr_to_linear` on unsaturated values. At exactly H = 0 the response has an infinite slope;
    the gradient there is defined as 0.

    Parameters
    ----------
    radiance
        Any shape, linear, on the scale on which the shortest exposure saturates at 1. Negative radiance counts as 0.
    exposure
        Exposure t relative to the shortest of the bracket; a tensor must broadcast against ``radiance``.
    gamma
        As in :func:`ldr_to_linear`.

    Returns
    -------
    Tensor
        LDR values in [0, 1], of the broadcast shape.

    Raises
    ------
    ValueError
        If ``gamma`` or ``exposure`` is not positive.

    Examples
    --------
    >>> linear_to_ldr(torch.tensor([0.0, 0.0625, 3.0]), exposure=4.0, gamma=2.0)
    tensor([0.0000, 0.5000, 1.0000])
    """
    _check_response(exposure, gamma)
    light = (radiance * exposure).clamp(0.0, 1.0)
    positive = light > 0
    # The inner where keeps the infinite slope out of the backward pass: 0 * inf would be NaN. Detached, because which
    # slope clamp has at its bounds depends on the release of PyTorch.
    curve = torch.where(positive, light, torch.ones_like(light)).pow(1.0 / gamma)
    return torch.where(positive, curve, light.detach())


def mu_law(radiance: Tensor, mu: float = MU) -> Tensor:
    """Tone-mapped radiance, T(x) = log(1 + mu x) / log(1 + mu).

    Parameters
    ----------
    radiance
        Any shape, linear. [0, 1] is mapped to [0, 1]; larger values continue the same curve. Negative values, which
        only a network can make, are mapped by the odd extension -T(-x), so that the function is smooth and monotone
        everywhere.
    mu
        Compression, positive.

    Returns
    -------
    Tensor
        Same shape, in the mu-law domain.

    Raises
    ------
    ValueError
        If ``mu`` is not positive.

    Examples
    --------
    >>> mu_law(torch.tensor([0.0, 0.01, 1.0]))
    tensor([0.0000, 0.4616, 1.0000])
    """
    _check_positive("mu", mu)
    sign = odd_sign(radiance)
    return sign * torch.log1p(mu * sign * radiance) / math.log1p(mu)


def inverse_mu_law(tone_mapped: Tensor, mu: float = MU) -> Tensor:
    """Radiance of a tone-mapped picture, the inverse of :func:`mu_law`.

    Parameters
    ----------
    tone_mapped
        Any shape, in the mu-law domain.
    mu
        Compression, positive; the one the picture was mapped with.

    Returns
    -------
    Tensor
        Radiance, of the same shape.

    Raises
    ------
    ValueError
        If ``mu`` is not positive.

    Examples
    --------
    >>> inverse_mu_law(mu_law(torch.tensor([0.0, 0.01, 1.0])))
    tensor([0.0000, 0.0100, 1.0000])
    """
    _check_positive("mu", mu)
    # tanh(y / 2) (exp(|y|) + 1) is the odd extension of expm1(y), as exact at 0, and may take a third of its time.
    exponent = tone_mapped * math.log1p(mu)
    return torch.tanh(exponent / 2) * (torch.exp(exponent.abs()) + 1) / mu


def growth_of(tone_mapped: Tensor) -> Tensor:
    """1 + mu light of radiance in the mu-law domain; to 1e-7, in which what is lost of light is seen by nobody."""
    return torch.exp2(tone_mapped * math.log2(1 + MU))


def tone_mapped_of(growth: Tensor) -> Tensor:
    """The mu-law of 1 + mu light to 1e-7, which is all that its own log1p, of four times the time, would tell more."""
    return torch.log(growth) / math.log1p(MU)


def light_of(tone_mapped: Tensor) -> Tensor:
    """Light to 1e-11 of radiance in the mu-law domain, as exposures have it, in a fifth of the exact inverse's time."""
    return (growth_of(tone_mapped) - 1) / MU


def mu_law_slope(radiance: Tensor, mu: float = MU) -> Tensor:
    """Derivative of the mu-law, T'(x) = mu / (1 + mu |x|) / log(1 + mu): what noise in radiance becomes in its domain.

    Examples
    --------
    >>> mu_law_slope(torch.tensor([0.0, 1.0]))
    tensor([5.8703e+02, 1.1738e-01])
    """
    _check_positive("mu", mu)
    return mu / (1 + mu * radiance.abs()) / math.log1p(mu)


def odd_sign(value: Tensor) -> Tensor:
    """1 and -1, by which functions of the absolute value become odd, with the slope that they have at 0."""
    # Not the sign itself, nor abs: both have derivative 0 at 0, where the curve is steepest and black pixels lie.
    # And not a comparison, which takes five times as long.
    return (value.detach().sign() + 0.5).sign()


def _check_response(exposure: Exposure, gamma: float) -> None:
    _check_positive("gamma", gamma)
    if isinstance(exposure, Tensor):
        if bool((exposure <= 0).any()):
            raise RefusedError(f"exposure must be positive, got {exposure.tolist()}; give it relative to the shortest")
    else:
        _check_positive("exposure", exposure)


def _check_positive(name: str, value: float) -> None:
    if not (value > 0 and math.isfinite(value)):
        raise RefusedError(f"{name} must be positive and finite, got {value}")
