"""Networks and losses of HDR-GAN, as plain PyTorch modules."""

from hdr.nn.denoising import Denoiser
from hdr.nn.discriminator import PatchDiscriminator
from hdr.nn.generator import Generator, Merged
from hdr.nn.losses import (
    SphereAdversarialLoss,
    ToneMappedL1Loss,
    alignment_loss,
    inverse_stereographic,
    regression_loss,
    relative_square,
    sphere_distance,
    tone_mapped_l1,
)

__all__ = [
    "Denoiser",
    "Generator",
    "Merged",
    "PatchDiscriminator",
    "SphereAdversarialLoss",
    "ToneMappedL1Loss",
    "alignment_loss",
    "inverse_stereographic",
    "regression_loss",
    "relative_square",
    "sphere_distance",
    "tone_mapped_l1",
]
