"""The generator: three exposures of a moving scene in, radiance without ghosts out."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hdr.nn.alignment import (
    CORRECTION_BOUND,
    TAP_BOUND,
    DeformableAlignment,
    LocalMatching,
    upsample_displacement,
    warp,
)
from hdr.nn.attention import SpatialAttentionGate
from hdr.nn.blocks import ConvBlock, ResidualBlock, upsample, zero_initialise
from hdr.radiometry import mu_law

EXPOSURES = 3
REFERENCE = 1
CHANNELS_PER_EXPOSURE = 6
SMALLEST_SIDE = 16
REFERENCE_LOGIT = 4.0
"""Head start of the reference in the blend: untrained, it has 96 % of the weight."""

SATURATED_LOGIT = -8.0
"""Added in the blend where the reference or the long exposure is saturated; the short one is the best there is."""

SATURATION_BEGINS = 0.9
"""LDR value from which a pixel counts as saturated in part; at 1 it does in full."""

Alignment = Literal["deformable", "none"]

PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {"base_channels": 20, "blocks": 1},
    "small": {"base_channels": 36, "blocks": 2},
    "base": {"base_channels": 64, "blocks": 3},
}


class TrainingOutput(NamedTuple):
    """What the generator returns in training mode, for losses at every scale."""

    radiance: Tensor
    """Shape (B, 3, H, W), mu-law domain: what eval mode returns."""
    coarser: tuple[Tensor, ...]
    """The same at the decoder's coarser scales, (B, 3, H / 2, W / 2) first; empty without deep supervision."""
    displacements: tuple[Tensor, ...]
    """(B, 2, 2, H / 2^l, W / 2^l) for l = 1, 2, ...: for the short and the long exposure, x and y in pixels of that
    scale; empty without alignment. Sizes are those of the padded picture."""


class Generator(nn.Module):
    """HDR generator with deformable alignment and spatial attention (after Niu et al., HDR-GAN, IEEE TIP 2021).

    A U-Net on the reference, which is the middle exposure. All exposures pass one encoder; the short and the long one
    are aligned to the reference scale by scale, gated by attention, and fused in the decoder. The head blends the
    tone-mapped radiances of the reference and of the two warped exposures with predicted weights and adds a residual.
    The head starts at zero, so an untrained network returns the reference's radiance but for a few per cent, and the
    short exposure's where the reference is saturated.

    The network is local: an output pixel depends on input pixels at most ``halo`` away, and a picture cut at multiples
    of ``stride`` gives the same output there.

    Parameters
    ----------
    base_channels
        Channels at half resolution; each further scale has half as many more again.
    scales
        How often the resolution is halved.
    blocks
        Residual blocks per scale of the decoder.
    alignment
        ``"deformable"``, or ``"none"`` to compare places without moving them.
    attention
        Whether aligned features are gated by spatial attention.
    deep_supervision
        Whether the coarser decoder scales have heads of their own, used in training only.
    max_offset
        Motion in pixels that matching at the coarsest scale can follow; later scales correct by a few pixels more.

    Attributes
    ----------
    stride : int
        2 ** ``scales``; inputs are padded to a multiple of it inside.
    halo : int
        Pixels around an output pixel that it may depend on, a multiple of ``stride``.
    receptive_field : int
        2 * ``halo`` + 1.

    Examples
    --------
    >>> generator = Generator.from_preset("tiny").eval()
    >>> with torch.no_grad():
    ...     generator(torch.rand(1, 3, 6, 33, 47)).shape
    torch.Size([1, 3, 33, 47])
    """

    def __init__(
        self,
        base_channels: int = 32,
        scales: int = 3,
        *,
        blocks: int = 1,
        alignment: Alignment = "deformable",
        attention: bool = True,
        deep_supervision: bool = True,
        max_offset: int = 48,
    ) -> None:
        super().__init__()
        _check_architecture(base_channels, scales, blocks, alignment, max_offset)
        self.config = {
            "base_channels": base_channels,
            "scales": scales,
            "blocks": blocks,
            "alignment": alignment,
            "attention": attention,
            "deep_supervision": deep_supervision,
            "max_offset": max_offset,
        }
        self.scales, self.blocks = scales, blocks
        self.stride = 2**scales
        widths = [base_channels + level * (base_channels // 2) for level in range(scales)]
        self.encoder = nn.ModuleList(
            nn.Sequential(ConvBlock(fine, coarse, stride=2), ResidualBlock(coarse))
            for fine, coarse in zip([CHANNELS_PER_EXPOSURE + 3, *widths], widths, strict=False)
        )
        self.matching = LocalMatching(widths[-1], max_offset // self.stride) if alignment == "deformable" else None
        # Deformable kernels where pixels are few; at half resolution a warp.
        self.kernel_sizes = [1] + (scales - 1) * [3]
        self.alignment = nn.ModuleList(
            DeformableAlignment(width, kernel_size)
            for width, kernel_size in zip(widths, self.kernel_sizes, strict=True)
            if alignment == "deformable"
        )
        self.gates = nn.ModuleList(SpatialAttentionGate(width) for width in (widths if attention else []))
        self.fusion = nn.ModuleList(
            nn.Sequential(
                ConvBlock(EXPOSURES * width + coarser, width, kernel_size=1),
                *(ResidualBlock(width) for _ in range(blocks)),
            )
            for width, coarser in zip(widths, [*widths[1:], 0], strict=True)
        )
        self.coarse_heads = nn.ModuleList(_head(width) for width in (widths[:-1] if deep_supervision else []))
        finest = base_channels // 2
        self.context = nn.Conv2d(widths[0], finest, 1)
        self.refinement = nn.Sequential(
            ConvBlock(EXPOSURES * CHANNELS_PER_EXPOSURE + finest, finest), ConvBlock(finest, finest), _head(finest)
        )
        self.halo = round_up(self._reach(), self.stride)
        self.receptive_field = 2 * self.halo + 1

    @classmethod
    def from_preset(cls, name: str, **overrides: Any) -> Generator:
        """A generator of a named size.

        Parameters
        ----------
        name
            ``"tiny"`` (0.26 M parameters), ``"small"`` (0.98 M) or ``"base"`` (3.6 M).
        **overrides
            Constructor arguments that replace the preset's.

        Raises
        ------
        ValueError
            If there is no such preset.
        """
        if name not in PRESETS:
            raise ValueError(f"no preset {name!r}; choose one of {', '.join(PRESETS)}")
        return cls(**{**PRESETS[name], **overrides})

    def forward(self, exposures: Tensor) -> Tensor | TrainingOutput:
        """Merge exposures.

        Parameters
        ----------
        exposures
            Shape (B, 3, 6, H, W), H and W at least 16: from the shortest to the longest exposure, channels (L, H) as
            :func:`hdr.radiometry.exposure_stack` gives them, L in [0, 1] and H in [0, 1 / t].

        Returns
        -------
        Tensor or TrainingOutput
            In eval mode the radiance in the mu-law domain, (B, 3, H, W), nominally in [0, 1] but not clamped. In
            training mode a :class:`TrainingOutput`.

        Raises
        ------
        ValueError
            If the shape is another.
        """
        _check_exposures(exposures)
        height, width = exposures.shape[-2:]
        stack = self._pad(exposures)
        tone_mapped = mu_law(stack[:, :, 3:])
        features = self._encode(torch.cat([stack, tone_mapped], dim=2))
        decoded, displacements = self._decode(features)
        images = torch.cat([stack[:, :, :3], tone_mapped], dim=2)
        finest = upsample_displacement(displacements[0].flatten(0, 1)) if displacements else None
        aligned = _align_images(images, finest)
        context = upsample(self.context(decoded[0]))
        head = self.refinement(torch.cat([aligned.flatten(1, 2), context], dim=1))
        radiance: Tensor = _blend(head, aligned)[..., :height, :width]
        if not self.training:
            return radiance
        return TrainingOutput(radiance, self._coarser(decoded, images, displacements), tuple(displacements))

    def _pad(self, exposures: Tensor) -> Tensor:
        height, width = exposures.shape[-2:]
        missing = (0, round_up(width, self.stride) - width, 0, round_up(height, self.stride) - height)
        if not any(missing):
            return exposures
        return torch.unflatten(F.pad(exposures.flatten(1, 2), missing, mode="replicate"), 1, exposures.shape[1:3])

    def _encode(self, stack: Tensor) -> list[Tensor]:
        """Features (B, 3, C_l, H / 2^l, W / 2^l) of all exposures for l = 1, 2, ..."""
        features, current = [], stack.flatten(0, 1)
        for level in self.encoder:
            current = level(current)
            features.append(torch.unflatten(current, 0, (-1, EXPOSURES)))
        return features

    def _decode(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Fused features (B, C_l, H / 2^l, W / 2^l) and displacements (B, 2, 2, ...) for l = 1, 2, ..."""
        decoded: list[Tensor] = []
        displacements: list[Tensor] = []
        for level in reversed(range(self.scales)):
            reference = features[level][:, REFERENCE]
            # The short and the long exposure share one alignment, as 2 B examples.
            others = _others(features[level])
            both_references = reference.repeat_interleave(EXPOSURES - 1, dim=0)
            if self.matching is not None:
                if displacements:
                    displacement = upsample_displacement(displacements[0].flatten(0, 1))
                else:
                    displacement = self.matching(both_references, others)
                others, displacement = self.alignment[level](both_references, others, displacement)
                displacements.insert(0, displacement.unflatten(0, (-1, EXPOSURES - 1)))
            if len(self.gates) > 0:
                others = self.gates[level](both_references, others)
            parts = [reference, others.unflatten(0, (-1, EXPOSURES - 1)).flatten(1, 2)]
            if decoded:
                parts.append(upsample(decoded[0]))
            decoded.insert(0, self.fusion[level](torch.cat(parts, dim=1)))
        return decoded, displacements

    def _coarser(self, decoded: list[Tensor], images: Tensor, displacements: list[Tensor]) -> tuple[Tensor, ...]:
        outputs = []
        for level, head in enumerate(self.coarse_heads):
            small = F.avg_pool2d(images.flatten(0, 1), 2 ** (level + 1)).unflatten(0, (-1, EXPOSURES))
            displacement = displacements[level].flatten(0, 1) if displacements else None
            outputs.append(_blend(head(decoded[level]), _align_images(small, displacement)))
        return tuple(outputs)

    def _reach(self) -> int:
        """Pixels that an output pixel can depend on to either side, from the layers' own reaches."""
        encoder = [0]
        for level in range(self.scales):
            encoder.append(encoder[-1] + 2**level + 2 * 2 ** (level + 1))
        moved, bound, decoder = 0, 0.0, 0
        for level in range(self.scales, 0, -1):
            pixel, features = 2**level, encoder[level]
            if self.matching is not None:
                if level == self.scales:
                    moved, bound = features + pixel * self.matching.reach, float(self.matching.radius)
                else:
                    moved, bound = moved + 2 * pixel, 2 * bound
                moved = max(moved, features + pixel * int(bound + 1)) + pixel * DeformableAlignment.correction_reach
                bound += CORRECTION_BOUND
                features = max(moved, features + pixel * int(bound + TAP_BOUND + self.kernel_sizes[level - 1] // 2 + 1))
            gate = pixel if len(self.gates) > 0 else 0
            below = decoder + 2 * pixel if level < self.scales else 0
            decoder = max(features + gate, below) + 2 * self.blocks * pixel
        images = max(moved + 2, int(2 * bound + 1)) if self.matching is not None else 0
        return max(images, decoder + 2) + 3


def _head(channels: int) -> nn.Conv2d:
    """Two blend logits (short, long) and a residual of three channels, zero at the start."""
    return zero_initialise(nn.Conv2d(channels, EXPOSURES - 1 + 3, 3, padding=1))


def _others(per_exposure: Tensor) -> Tensor:
    """The short and the long exposure of (B, 3, ...) as (2 B, ...)."""
    return torch.stack([per_exposure[:, 0], per_exposure[:, 2]], dim=1).flatten(0, 1)


def _align_images(images: Tensor, displacement: Tensor | None) -> Tensor:
    """Images (B, 3, C, H, W) with the short and the long one warped by (2 B, 2, H, W)."""
    if displacement is None:
        return images
    warped = warp(_others(images), displacement).unflatten(0, (-1, EXPOSURES - 1))
    return torch.stack([warped[:, 0], images[:, REFERENCE], warped[:, 1]], dim=1)


def _blend(head: Tensor, images: Tensor) -> Tensor:
    """Weighted sum of tone-mapped exposures plus residual, from a head (B, 5, H, W) and images (B, 3, (L, T), H, W)."""
    brightest = images[:, :, :3].amax(dim=2)
    saturation = ((brightest - SATURATION_BEGINS) / (1 - SATURATION_BEGINS)).clamp(0, 1)
    reference = REFERENCE_LOGIT + SATURATED_LOGIT * saturation[:, REFERENCE]
    logits = torch.stack([head[:, 0].to(reference), reference, head[:, 1] + SATURATED_LOGIT * saturation[:, -1]], dim=1)
    weights = torch.softmax(logits, dim=1).unsqueeze(2)
    return (weights * images[:, :, 3:]).sum(dim=1) + head[:, EXPOSURES - 1 :]


def round_up(value: int, multiple: int) -> int:
    """Return the least multiple that is not below a value."""
    return -(-value // multiple) * multiple


def _check_architecture(base_channels: int, scales: int, blocks: int, alignment: str, max_offset: int) -> None:
    if base_channels < 4 or base_channels % 4:
        raise ValueError(f"base_channels must be a positive multiple of 4, got {base_channels}")
    if not 1 <= scales <= 4:
        raise ValueError(f"scales must be from 1 to 4, got {scales}: inputs may be as small as {SMALLEST_SIDE} pixels")
    if blocks < 1:
        raise ValueError(f"blocks must be at least 1, got {blocks}")
    if alignment not in ("deformable", "none"):
        raise ValueError(f"alignment must be 'deformable' or 'none', got {alignment!r}")
    if alignment == "deformable" and max_offset < 2**scales:
        raise ValueError(f"max_offset must be at least the stride {2**scales}, got {max_offset}")


def _check_exposures(exposures: Tensor) -> None:
    expected = f"(B, {EXPOSURES}, {CHANNELS_PER_EXPOSURE}, H, W)"
    if exposures.ndim != 5 or tuple(exposures.shape[1:3]) != (EXPOSURES, CHANNELS_PER_EXPOSURE):
        raise ValueError(
            f"expected {expected}: three exposures of (L, H) as exposure_stack gives them, got {tuple(exposures.shape)}"
        )
    if min(exposures.shape[-2:]) < SMALLEST_SIDE:
        raise ValueError(f"expected {expected} with H and W >= {SMALLEST_SIDE}, got {tuple(exposures.shape)}")
    if not exposures.is_floating_point():
        raise ValueError(f"expected floating-point exposures, got {exposures.dtype}")
