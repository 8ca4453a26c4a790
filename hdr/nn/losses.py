"""Losses of HDR-GAN: distances on the hypersphere (SphereGAN), tone-mapped L1, and agreement of aligned exposures."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hdr._errors import RefusedError
from hdr.observation import Aligned
from hdr.radiometry import MU, mu_law

_USABLE = 0.5  # saturation below which an exposure says something about the scene
_FAR = 0.1  # mu-law domain
_SEEN_BY_NOBODY = 1e-6  # mean square, 60 dB
_PATCH = 8  # pixels, over which noise averages out


def _safe_norm(vectors: Tensor) -> Tensor:
    """Euclidean norm over the last dimension, kept; squares cannot overflow, and the gradient at 0 is 0."""
    scale = vectors.detach().abs().amax(dim=-1, keepdim=True)
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    norm: Tensor = scale * torch.linalg.vector_norm(vectors / scale, dim=-1, keepdim=True)
    return norm


def inverse_stereographic(q: Tensor) -> Tensor:
    """Points on the unit sphere whose stereographic projection from the north pole is q.

    p = (2 q, ||q||^2 - 1) / (||q||^2 + 1), which sends 0 to the south pole and infinity to the north pole
    (Park and Kwon, Sphere Generative Adversarial Network, CVPR 2019, equation 4). Divided through by ||q||^2 where
    ||q|| > 1, so that large q do not overflow.

    Parameters
    ----------
    q
        Shape (..., n).

    Returns
    -------
    Tensor
        Shape (..., n + 1), of unit length.

    Examples
    --------
    >>> inverse_stereographic(torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    tensor([[ 1.,  0.,  0.],
            [ 0.,  0., -1.]])
    """
    large = _safe_norm(q) > 1
    inside = torch.where(large, torch.zeros_like(q), q)
    outside = torch.where(large, q, torch.ones_like(q))
    square = inside.square().sum(dim=-1, keepdim=True)
    near = torch.cat([2 * inside, square - 1], dim=-1) / (square + 1)
    inverse = 1 / _safe_norm(outside)
    direction = outside * inverse
    far = torch.cat([2 * direction * inverse, 1 - inverse.square()], dim=-1) / (1 + inverse.square())
    return torch.where(large, far, near)


def sphere_distance(q: Tensor, other: Tensor | None = None) -> Tensor:
    """Great-circle distance between inverse stereographic projections.

    arccos of the inner product in exact arithmetic (Park and Kwon, CVPR 2019, equations 5 and 6), but computed as
    2 atan2(||p - p'||, ||p + p'||), whose gradient is finite everywhere; where p = p' and at antipodes it is 0.

    Parameters
    ----------
    q
        Shape (..., n), before projection.
    other
        The same shape, or None for the distance to the north pole N, which is 2 atan2(1, ||q||).

    Returns
    -------
    Tensor
        Shape (...), in [0, pi].

    Examples
    --------
    >>> sphere_distance(torch.zeros(1, 4)), sphere_distance(torch.eye(2), -torch.eye(2))
    (tensor([3.1416]), tensor([3.1416, 3.1416]))
    """
    if other is None:
        norm = _safe_norm(q).squeeze(-1)
        return 2 * torch.atan2(torch.ones_like(norm), norm)
    p, p_other = inverse_stereographic(q), inverse_stereographic(other)
    apart = torch.linalg.vector_norm(p - p_other, dim=-1)
    together = torch.linalg.vector_norm(p + p_other, dim=-1)
    return 2 * torch.atan2(apart, together)


class SphereAdversarialLoss(nn.Module):
    """Integral probability metric on the hypersphere, min_G max_D sum_r E[d^r(p_real, N)] - E[d^r(p_fake, N)].

    Parameters
    ----------
    moments
        R, the number of moments r = 1, ..., R; 1 is the plain form, 3 is that of the published code.

    Raises
    ------
    ValueError
        If ``moments`` is below 1.

    Examples
    --------
    >>> loss = SphereAdversarialLoss(moments=1)
    >>> real, fake = torch.zeros(2, 9), torch.full((2, 9), 1e4)
    >>> loss.discriminator_loss(real, fake)
    tensor(-3.1415)
    """

    def __init__(self, moments: int = 3) -> None:
        super().__init__()
        if moments < 1:
            raise RefusedError(f"moments must be at least 1, got {moments}")
        self.moments = moments

    def moment_sum(self, q: Tensor) -> Tensor:
        """sum_r E[d^r(p, N)] for discriminator outputs q of shape (B, n)."""
        # Half precision would round the distances that the discriminator has to tell apart.
        distance = sphere_distance(q.to(torch.promote_types(q.dtype, torch.float32)))
        return torch.stack([distance.pow(r).mean() for r in range(1, self.moments + 1)]).sum()

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """What the discriminator minimises, for outputs (B, n) on real and on (detached) generated pictures."""
        return self.moment_sum(fake) - self.moment_sum(real)

    def generator_loss(self, fake: Tensor) -> Tensor:
        """What the generator minimises, for outputs (B, n) on generated pictures."""
        return -self.moment_sum(fake)


def tone_mapped_l1(prediction: Tensor, target: Tensor, mu: float = MU) -> Tensor:
    """Mean absolute difference in the mu-law domain, mean |T(prediction) - T(target)|.

    Parameters
    ----------
    prediction, target
        Radiance of equal shape.
    mu
        As in :func:`hdr.radiometry.mu_law`.

    Returns
    -------
    Tensor
        A scalar.

    Raises
    ------
    ValueError
        If the shapes differ; they are not broadcast.

    Examples
    --------
    >>> tone_mapped_l1(torch.zeros(1, 3, 2, 2), torch.ones(1, 3, 2, 2))
    tensor(1.)
    """
    if prediction.shape != target.shape:
        raise RefusedError(f"expected equal shapes, got {tuple(prediction.shape)} and {tuple(target.shape)}")
    return F.l1_loss(mu_law(prediction, mu), mu_law(target, mu))


class ToneMappedL1Loss(nn.Module):
    """:func:`tone_mapped_l1` with ``mu`` held."""

    def __init__(self, mu: float = MU) -> None:
        super().__init__()
        self.mu = mu

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Scalar loss of two radiances of equal shape."""
        return tone_mapped_l1(prediction, target, self.mu)


def alignment_loss(aligned: Aligned, target: Tensor, reference: int) -> Tensor:
    """How far the exposures, brought to the reference, are from the scene where they are not saturated and saw it.

    Tells the alignment what to find before the fusion has learned to want it: the true radiance at the reference's
    instant is known in training. What was hidden at an exposure's own instant is found nowhere in it, so large
    differences count for little: |x| / (1 + |x| / 0.1).

    Parameters
    ----------
    aligned
        The exposures where the generator found them.
    target
        Shape (B, 3, H, W), mu-law domain.
    reference
        Index of the exposure that is not moved.

    Returns
    -------
    Tensor
        A scalar.
    """
    usable = (aligned.saturation < _USABLE).to(target) * aligned.seen
    usable = torch.cat([usable[:, :reference], usable[:, reference + 1 :]], dim=1)
    found = torch.cat([aligned.tone_mapped[:, :reference], aligned.tone_mapped[:, reference + 1 :]], dim=1)
    distance = (found.float() - target.unsqueeze(1)).abs()
    return (usable * distance / (1 + distance / _FAR)).mean()


def relative_square(output: Tensor, physical: Tensor, target: Tensor) -> Tensor:
    """Mean square of a merge's error over that of the physical one, example by example; what PSNR is the logarithm of.

    Dark noisy scenes and bright clean ones count alike, as they do in a mean of PSNR.

    Parameters
    ----------
    output, physical, target
        Shape (B, 3, H, W), in the same domain.

    Returns
    -------
    Tensor
        A scalar; 1 for the physical merge itself, unless it is right to a thousandth already.

    Raises
    ------
    ValueError
        If the shapes differ.

    Examples
    --------
    >>> target = torch.zeros(1, 3, 16, 16)
    >>> physical = torch.full_like(target, 0.25)
    >>> round(float(relative_square(2 * physical, physical, target)), 3)
    4.0
    """
    if not output.shape == physical.shape == target.shape:
        shapes = ", ".join(str(tuple(images.shape)) for images in (output, physical, target))
        raise RefusedError(f"expected equal shapes (B, 3, H, W), got {shapes}")
    ours, theirs = ((merge - target).square().mean(dim=(1, 2, 3)) for merge in (output, physical))
    return (ours / (theirs + _SEEN_BY_NOBODY)).mean()


def regression_loss(output: Tensor, physical: Tensor, target: Tensor) -> Tensor:
    """By how much a merge is farther from the truth than the physical one, where it is: mean of max(e - e_physical, 0).

    e is the mean absolute error over a patch of 8 x 8 pixels. A mean over the image lets a network pay for what it
    gains in one place with what physics had right in another.

    Parameters
    ----------
    output, physical, target
        Shape (B, 3, H, W), in the same domain; H and W at least 8.

    Returns
    -------
    Tensor
        A scalar; 0 for the physical merge itself.

    Raises
    ------
    ValueError
        If the shapes differ, for they are not broadcast, or are smaller than a patch.

    Examples
    --------
    >>> target = torch.zeros(1, 3, 16, 16)
    >>> physical = torch.full_like(target, 0.25)
    >>> float(regression_loss(target, physical, target)), float(regression_loss(3 * physical, physical, target))
    (0.0, 0.5)
    """
    if not output.shape == physical.shape == target.shape or min(output.shape[-2:]) < _PATCH:
        shapes = ", ".join(str(tuple(images.shape)) for images in (output, physical, target))
        raise RefusedError(f"expected equal shapes (B, 3, H, W), H and W at least {_PATCH}, got {shapes}")
    ours, theirs = (F.avg_pool2d((merge - target).abs().mean(1, keepdim=True), _PATCH) for merge in (output, physical))
    return (ours - theirs).clamp_min(0).mean()
