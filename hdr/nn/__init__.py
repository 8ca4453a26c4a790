"""Networks and losses of HDR-GAN, as plain PyTorch modules."""

from hdr.nn.discriminator import PatchDiscriminator
from hdr.nn.generator import Generator, Merged
from hdr.nn.losses import (
    SphereAdversarialLoss,
    ToneMappedL1Loss,
    alignment_loss,
    inverse_stereographic,
    regression_loss,
    sphere_distance,
    tone_mapped_l1,
)

__all__ = [
    "Generator",
    "Merged",
    "PatchDiscriminator",
    "SphereAdversarialLoss",
    "ToneMappedL1Loss",
    "alignment_loss",
    "inverse_stereographic",
    "regression_loss",
    "sphere_distance",
    "tone_mapped_l1",
]
