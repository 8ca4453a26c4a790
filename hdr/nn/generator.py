"""The generator: exposures of a moving scene in, radiance without ghosts out."""

from __future__ import annotations

import math
from typing import Any, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hdr._errors import RefusedError
from hdr.difference import difference_to_reference
from hdr.fusion import BlendNoise, ReferenceLight, merged, prior, without_tolerance
from hdr.nn.alignment import CORRECTION_BOUND, DeformableAlignment, upsample_displacement
from hdr.nn.attention import SpatialAttentionGate
from hdr.nn.blocks import (
    ConvBlock,
    ResidualBlock,
    SharedConvBlock,
    extended,
    in_format_of,
    unshuffled,
    upsample,
    zero_initialise,
)
from hdr.nn.denoising import Denoiser
from hdr.observation import OBSERVATION_CHANNELS, Aligned, bring_to_reference, continuity
from hdr.radiometry import inverse_mu_law, middle, mu_law
from hdr.settings import AlignmentKind

SMALLEST_SIDE = 16
_LARGEST_LEARNED_NOISE = (0.048, 0.072)  # mu-law domain, standard deviation: what is rare in training, and never there
INPUT_CHANNELS = 11
"""Radiance (3), its difference to the reference (3), saturation, deviation, seen, the prior's weight, exposure; of
saturation the largest of the channels, of the weights the smallest."""

PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {"base_channels": 12, "blocks": 1},
    "small": {"base_channels": 24, "blocks": 1},
    "base": {"base_channels": 48, "blocks": 2},
}


class Merged(NamedTuple):
    """What the generator makes of a bracket."""

    radiance: Tensor
    """Shape (B, 3, H, W), mu-law domain, nominally in [0, 1] but not clamped."""
    weights: Tensor
    """Shape (B, N, 3, H, W): how much of each exposure is in a channel of a pixel; they sum to 1."""
    aligned: Aligned
    """The exposures where the generator found them, for the loss of the alignment."""
    coarser: tuple[Tensor, ...]
    """Radiance at the decoder's coarser scales, (B, 3, H / 4, W / 4) first; in training mode with deep supervision."""
    physical: Tensor | None = None
    """What physics alone makes of it, without a gradient, as ``radiance``; in training mode."""


class Generator(nn.Module):
    """HDR generator with deformable alignment and spatial attention (after Niu et al., HDR-GAN, IEEE TIP 2021).

    An explicit merge: the weights of the exposures are those of physics (:func:`hdr.fusion.prior`) plus logits of the
    network, and each pixel of their mean moves towards its neighbours by a kernel of its own
    (:class:`hdr.nn.denoising.Denoiser`). Both are zero before training: an untrained generator is the physical merge.

    The network is a U-Net. Exposures are a set around the reference: all pass one encoder, each is aligned to the
    reference scale by scale and gated by attention, and at each scale the decoder fuses the reference, the mean of the
    shorter ones and the mean of the longer ones. A judge looks at the fused features and at each exposure's.

    The network is local: a region of an image is merged by itself where enough of its surroundings is given.

    Parameters
    ----------
    base_channels
        Channels at half resolution; each further scale has as many more.
    scales
        How often the resolution is halved.
    blocks
        Residual blocks per scale of the decoder.
    alignment
        ``"deformable"``, or ``"none"`` to take the exposures where the displacement of the whole image puts them.
    attention
        Whether aligned features are gated by spatial attention.
    deep_supervision
        Whether the coarser decoder scales have heads of their own, used in training only.
    denoising
        Whether the merge is denoised.

    Attributes
    ----------
    stride : int
        2 ** ``scales``; inputs are padded to a multiple of it inside.
    largest_correction : float
        Most pixels by which the network moves an exposure from where the displacement puts it.

    Examples
    --------
    >>> generator = Generator.from_preset("tiny").eval()
    >>> observations = torch.rand(1, 2, 11, 33, 47)
    >>> with torch.no_grad():
    ...     merged = generator(observations, torch.tensor([[1.0, 4.0]]), torch.zeros(1, 2, 2, 33, 47), reference=0)
    >>> merged.radiance.shape, merged.weights.shape
    (torch.Size([1, 3, 33, 47]), torch.Size([1, 2, 3, 33, 47]))
    """

    def __init__(
        self,
        base_channels: int = 24,
        scales: int = 3,
        *,
        blocks: int = 1,
        alignment: AlignmentKind = "deformable",
        attention: bool = True,
        deep_supervision: bool = True,
        denoising: bool = True,
    ) -> None:
        super().__init__()
        _check_architecture(base_channels, scales, blocks, alignment)
        self.config = {
            "base_channels": base_channels,
            "scales": scales,
            "blocks": blocks,
            "alignment": alignment,
            "attention": attention,
            "deep_supervision": deep_supervision,
            "denoising": denoising,
        }
        self.scales = scales
        self.stride = 2**scales
        widths = [base_channels * (level + 1) for level in range(scales)]
        self.encoder = nn.ModuleList(
            nn.Sequential(ConvBlock(fine, coarse, stride=stride), ResidualBlock(coarse))
            # Full resolution reaches the encoder as four channels for one: no convolution is that large.
            for fine, coarse, stride in zip(
                [4 * INPUT_CHANNELS, *widths], widths, [1, *[2] * (scales - 1)], strict=False
            )
        )
        # A deformable kernel where pixels are few; at the finer scales a warp.
        self.alignment = nn.ModuleList(
            DeformableAlignment(width, kernel_size)
            for width, kernel_size in zip(widths, [*[1] * (scales - 1), 3], strict=True)
            if alignment == "deformable"
        )
        self.gates = nn.ModuleList(SpatialAttentionGate(width) for width in (widths if attention else []))
        self.fusion = nn.ModuleList(
            nn.Sequential(
                ConvBlock(3 * width + coarser, width, kernel_size=1), *(ResidualBlock(width) for _ in range(blocks))
            )
            for width, coarser in zip(widths, [*widths[1:], 0], strict=True)
        )
        self.judges = nn.ModuleList(
            _Judge(width, 4 if level == 0 else 1)
            for level, width in enumerate(widths if deep_supervision else widths[:1])
        )
        self.coarse_residuals = nn.ModuleList(
            zero_initialise(nn.Conv2d(width, 3, 1)) for width in (widths[1:] if deep_supervision else [])
        )
        self.denoiser = Denoiser() if denoising else None
        self.largest_correction = (
            sum(CORRECTION_BOUND * 2 ** (level + 1) for level in range(scales)) if alignment == "deformable" else 0.0
        )

    @classmethod
    def from_preset(cls, name: str, **overrides: Any) -> Generator:
        """A generator of a named size.

        Parameters
        ----------
        name
            ``"tiny"``, ``"small"`` or ``"base"``.
        **overrides
            Constructor arguments that replace the preset's.

        Raises
        ------
        ValueError
            If there is no such preset.
        """
        if name not in PRESETS:
            raise RefusedError(f"no preset {name!r}; choose one of {', '.join(PRESETS)}")
        return cls(**{**PRESETS[name], **overrides})

    def forward(
        self,
        observations: Tensor,
        exposures: Tensor,
        displacement: Tensor,
        reference: int | None = None,
        corner: Tensor | None = None,
        still: Tensor | None = None,
        mixing: Tensor | None = None,
    ) -> Merged:
        """Merge exposures, or a region of them.

        Parameters
        ----------
        observations
            Shape (B, N, 11, Hs, Ws), N >= 2: as :func:`hdr.observation.observe` gives them, the shortest first.
        exposures
            Shape (B, N), relative to the shortest.
        displacement
            Shape (B, N, 2, H, W), H and W at least 16: from the reference's places to each exposure's
            (:mod:`hdr.alignment`), 0 for the reference.
        reference
            Index of the reference; by default the middle exposure, of two the shorter.
        corner
            Shape (B, 2): row and column of the observations where the region's first pixel lies; by default (0, 0).
        still
            Shape (B, N), boolean: exposures in which nothing moves. The network has nothing to judge there: it neither
            moves them, nor weighs them against the reference where that is saturated. By default it is not known.
        mixing
            Shape (B, 3, 4): what the cameras do to colours, as :meth:`hdr.calibration.Calibration.as_tensors` gives it.
            By default a channel that clips spoils no other.

        Raises
        ------
        ValueError
            If a shape or a dtype is another.
        """
        reference = _checked_reference(observations, exposures, displacement, reference, still)
        continuous = continuity(displacement)
        aligned = bring_to_reference(observations, displacement, reference, corner, continuous, mixing)
        light = ReferenceLight.of(aligned, reference)  # does not move
        belief = prior(aligned, exposures, reference, light)
        height, width = displacement.shape[-2:]
        # Without names for what is not needed any more: of a tile each takes a hundred megabytes.
        decoded, every, correction = self._decode(
            self._encode(_network_input(aligned, belief, exposures, reference)), exposures.shape[1], reference
        )
        if correction is not None:
            fine = _by_example(upsample_displacement(correction), exposures.shape[1] - 1)[..., :height, :width]
            fine = _with_reference(fine.to(displacement), reference)
            corrected = displacement + (fine if still is None else fine * ~still[..., None, None, None])
            moved = bring_to_reference(observations, corrected, reference, corner, continuous, mixing)
            belief_moved = prior(moved, exposures, reference, light)
        else:
            moved, belief_moved = aligned, belief
        logits = F.pixel_shuffle(self.judges[0](decoded[0], every[0]), 2)
        logits = _by_example(logits, exposures.shape[1])[..., :height, :width].to(belief_moved)
        logits = logits * _trust(aligned, light, reference)
        sure = None
        if still is not None:
            lost = moved.saturation[:, reference : reference + 1].amax(dim=2, keepdim=True) > 0
            sure = still[..., None, None, None] & lost
            logits = torch.where(sure, logits[:, reference : reference + 1], logits)
        weights = torch.softmax(belief_moved + _none_above_a_shorter(logits, moved, sure), dim=1)
        coarser: tuple[Tensor, ...] = ()
        physical = None
        if self.training:
            coarser = self._coarser(decoded, every, aligned, belief)
            with torch.no_grad():
                physical = merged(aligned, torch.softmax(belief, dim=1), exposures, reference)
        del decoded, every, aligned, belief, belief_moved, logits
        return Merged(self._blended(moved, weights, exposures, reference), weights, moved, coarser, physical)

    def merge_unjudged(
        self,
        observations: Tensor,
        exposures: Tensor,
        displacement: Tensor,
        reference: int | None = None,
        corner: Tensor | None = None,
        *,
        still: bool = False,
        mixing: Tensor | None = None,
    ) -> Merged:
        """Merge exposures as :meth:`forward` does but by the weights of physics: only the denoiser is asked.

        Where there is no motion there is nothing for the network to judge; elsewhere this is quicker, and
        worse mostly where the reference is dark and noisy.

        Parameters
        ----------
        observations, exposures, displacement, reference, corner
            As for :meth:`forward`.
        still
            Whether nothing moves in any of the exposures, and they were observed as such.
        mixing
            As for :meth:`forward`.
        """
        reference = _checked_reference(observations, exposures, displacement, reference)
        aligned = bring_to_reference(observations, displacement, reference, corner, mixing=mixing)
        weights = torch.softmax(prior(aligned, exposures, reference), dim=1)
        # What stands still was granted a tolerance, which is no noise to remove.
        as_noisy = without_tolerance(aligned, reference) if still else aligned
        return Merged(self._blended(as_noisy, weights, exposures, reference), weights, aligned, ())

    def _blended(self, aligned: Aligned, weights: Tensor, exposures: Tensor, reference: int) -> Tensor:
        denoiser = self.denoiser
        if denoiser is None:
            return merged(aligned, weights, exposures, reference)

        def denoise(radiance: Tensor, noise: BlendNoise) -> Tensor:
            denoised: Tensor = denoiser(radiance, *noise, weights[:, reference], aligned.saturation[:, reference])
            return denoised

        return merged(aligned, weights, exposures, reference, denoise)

    # Inside the network the exposures lie one after the other, (N B, C, H, W): those of all examples first that are the
    # shortest, and so on. Taking some of them out and putting them together copies blocks, in any memory format.

    def _encode(self, inputs: Tensor) -> list[Tensor]:
        """Features (N B, C_l, H / 2^l, W / 2^l) of all exposures for l = 1, 2, ..."""
        missing = (0, -inputs.shape[-1] % self.stride, 0, -inputs.shape[-2] % self.stride)
        current = inputs.transpose(0, 1).flatten(0, 1)
        del inputs
        current, features = unshuffled(extended(current, missing)), []
        for level in self.encoder:
            current = level(current)
            features.append(current)
        return features

    def _decode(
        self, features: list[Tensor], count: int, reference: int
    ) -> tuple[list[Tensor], list[Tensor], Tensor | None]:
        """Decode from the coarsest scale to the finest.

        Returns the fused features (B, C_l, ...), all exposures' aligned features (N B, C_l, ...), and the displacement
        of all exposures but the reference that was found at half resolution, ((N - 1) B, 2, H / 2, W / 2).
        """
        decoded: list[Tensor] = []
        aligned: list[Tensor] = []
        correction: Tensor | None = None
        for level in reversed(range(self.scales)):
            exposures = features[level].chunk(count)
            ours, others = exposures[reference], torch.cat([*exposures[:reference], *exposures[reference + 1 :]])
            if len(self.alignment) > 0:
                if correction is None:
                    correction = torch.zeros_like(others[:, :2])
                else:
                    correction = upsample_displacement(correction)
                others, correction = self.alignment[level](ours, others, correction)
            if len(self.gates) > 0:
                others = self.gates[level](ours, others)
            shorter, longer = others.split([reference * len(ours), (count - 1 - reference) * len(ours)])
            parts = [ours, _mean(shorter, ours), _mean(longer, ours)]
            if decoded:
                parts.append(upsample(decoded[0]))
            decoded.insert(0, self.fusion[level](torch.cat(parts, dim=1)))
            aligned.insert(0, torch.cat([shorter, ours, longer]))
        return decoded, aligned, correction

    def _coarser(
        self, decoded: list[Tensor], every: list[Tensor], aligned: Aligned, belief: Tensor
    ) -> tuple[Tensor, ...]:
        """Radiance from the coarser scales, so that each learns to judge by itself."""
        outputs = []
        for level, residual in enumerate(self.coarse_residuals, start=1):
            size = decoded[level].shape[-2:]
            pooled, log_weights = (_pooled(maps, size) for maps in (aligned.tone_mapped, belief))
            logits = _by_example(self.judges[level](decoded[level], every[level]), belief.shape[1])
            weights = torch.softmax(log_weights + logits.to(log_weights), dim=1)
            outputs.append(mu_law((weights * inverse_mu_law(pooled)).sum(dim=1)) + residual(decoded[level]).to(pooled))
        return tuple(outputs)


class _Judge(nn.Module):
    """Looks at the fused features and at each exposure's, and says by how much physics is wrong about each.

    Fused features (B, C, H, W) and those of N exposures (N B, C, H, W) to logits (N B, ``outputs``, H, W).
    """

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.comparison = SharedConvBlock(channels, channels, channels)
        self.logits = zero_initialise(nn.Conv2d(channels, outputs, 1))

    def forward(self, fused: Tensor, every: Tensor) -> Tensor:
        logits: Tensor = self.logits(self.comparison(fused, every))
        return logits


def _network_input(aligned: Aligned, belief: Tensor, exposures: Tensor, reference: int) -> Tensor:
    """All that is known of each exposure at each place, of order 1: (B, N, 11, H, W)."""
    difference = difference_to_reference(aligned, exposures, reference)
    stops = torch.log2(exposures / exposures[:, reference : reference + 1]).to(difference)
    return torch.cat(
        [
            aligned.tone_mapped,
            (4 * difference).clamp(-2, 2),
            aligned.saturation.amax(dim=2, keepdim=True),
            (30 * aligned.deviation).clamp_max(2),
            aligned.seen,
            belief.amin(dim=2, keepdim=True) / 8,
            (stops / 4).view(*exposures.shape, 1, 1, 1).expand_as(aligned.seen),
        ],
        dim=2,
    )


def _trust(aligned: Aligned, light: ReferenceLight, reference: int) -> Tensor:
    """How far the network is asked, (B, 1, 1, H, W): not where the reference is noisier than what it learned from."""
    some, much = _LARGEST_LEARNED_NOISE
    noise = (aligned.noise[:, reference : reference + 1] * light.slope).mean(dim=2, keepdim=True)
    return ((much - noise) / (much - some)).clamp(0, 1)


def _none_above_a_shorter(logits: Tensor, aligned: Aligned, sure: Tensor | None = None) -> Tensor:
    """Logits (B, N, 1, H, W) by which no clipped exposure is preferred to a shorter one that tells as much or more.

    Light that clips both is at least as bright as what clips the shorter: no motion makes the longer one right. Nor is
    it where the shorter is ``sure``, (B, N, 1, H, W), to show what is there: of that one the network was not asked.
    """
    # Outside of a frame its edge goes on, which clips nothing.
    seen = aligned.seen > 0
    clipped = (aligned.saturation.amin(dim=2, keepdim=True) >= 1) & seen
    bounds = clipped if sure is None else clipped | (sure & seen)
    lowest, bounded = torch.where(bounds[:, 0], logits[:, 0], math.inf), [logits[:, 0]]
    for index in range(1, logits.shape[1]):
        bounded.append(torch.where(clipped[:, index], torch.minimum(logits[:, index], lowest), logits[:, index]))
        lowest = torch.where(bounds[:, index], torch.minimum(bounded[-1], lowest), lowest)
    return torch.stack(bounded, dim=1)


def _with_reference(of_others: Tensor, reference: int) -> Tensor:
    """Insert zeros for the reference: (B, N - 1, ...) to (B, N, ...)."""
    zero = torch.zeros_like(of_others[:, :1])
    return torch.cat([of_others[:, :reference], zero, of_others[:, reference:]], dim=1)


def _by_example(of_exposures: Tensor, count: int) -> Tensor:
    """(N B, ...), one exposure after the other, to (B, N, ...)."""
    by_exposure: Tensor = of_exposures.unflatten(0, (count, -1))
    return by_exposure.transpose(0, 1)


def _mean(exposures: Tensor, like: Tensor) -> Tensor:
    """Mean (B, C, H, W) over K exposures (K B, C, H, W); 0 where there is none."""
    count = len(exposures) // len(like)
    if count == 0:
        return torch.zeros_like(like)
    return exposures if count == 1 else in_format_of(exposures, exposures.unflatten(0, (count, -1)).mean(dim=0))


def _pooled(maps: Tensor, size: torch.Size) -> Tensor:
    pooled: Tensor = F.adaptive_avg_pool2d(maps.flatten(0, 1), (size[0], size[1])).unflatten(0, maps.shape[:2])
    return pooled


def _check_architecture(base_channels: int, scales: int, blocks: int, alignment: str) -> None:
    if base_channels < 4 or base_channels % 4:
        raise RefusedError(f"base_channels must be a positive multiple of 4, got {base_channels}")
    if not 1 <= scales <= 4:
        raise RefusedError(
            f"scales must be from 1 to 4, got {scales}: inputs may be as small as {SMALLEST_SIDE} pixels"
        )
    if blocks < 1:
        raise RefusedError(f"blocks must be at least 1, got {blocks}")
    if alignment not in get_args(AlignmentKind):
        raise RefusedError(f"alignment must be 'deformable' or 'none', got {alignment!r}")


def _checked_reference(
    observations: Tensor, exposures: Tensor, displacement: Tensor, reference: int | None, still: Tensor | None = None
) -> int:
    """Index of the reference, after refusing what is no bracket."""
    expected = f"(B, N, {OBSERVATION_CHANNELS}, H, W), N >= 2, as hdr.observation.observe gives them"
    if observations.ndim != 5 or observations.shape[1] < 2 or observations.shape[2] != OBSERVATION_CHANNELS:
        raise RefusedError(f"expected observations of shape {expected}, got {tuple(observations.shape)}")
    if not observations.is_floating_point():
        raise RefusedError(f"expected floating-point observations, got {observations.dtype}")
    if exposures.shape != observations.shape[:2]:
        raise RefusedError(f"expected exposures of shape {tuple(observations.shape[:2])}, got {tuple(exposures.shape)}")
    if displacement.ndim != 5 or displacement.shape[:3] != (*observations.shape[:2], 2):
        raise RefusedError(
            f"expected a displacement of shape {(*observations.shape[:2], 2)} + (H, W), got {tuple(displacement.shape)}"
        )
    if min(displacement.shape[-2:]) < SMALLEST_SIDE:
        raise RefusedError(f"expected H and W >= {SMALLEST_SIDE}, got {tuple(displacement.shape[-2:])}")
    reference = middle(observations.shape[1]) if reference is None else reference
    if not 0 <= reference < observations.shape[1]:
        raise RefusedError(f"the reference must be one of {observations.shape[1]} exposures, got index {reference}")
    if still is not None and (still.shape != exposures.shape or still.dtype != torch.bool):
        given = f"{still.dtype} of shape {tuple(still.shape)}"
        raise RefusedError(f"expected still as booleans of shape {tuple(exposures.shape)}, got {given}")
    return reference
