"""What can be set, each option once: fields are options of the commands, docstrings their help, types what is allowed.

Nothing that computes is imported here, so that help is quick.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from hdr._errors import RefusedError

Mode = Literal["auto", "on", "off"]
"""Of the alignment."""

Precision = Literal["auto", "float32", "bfloat16", "float16"]
"""Of what convolutions compute in."""

Operator = Literal["reinhard", "mu-law", "local"]
"""Of tone mapping."""

Cameras = Literal["estimated", "misjudged"]
"""What is known of the cameras of synthetic scenes."""

Preset = Literal["tiny", "small", "base"]
"""Of the generator, by its size."""

AlignmentKind = Literal["deformable", "none"]
"""Of the generator's features."""

Parts = Literal["all", "denoiser"]
"""Of the generator, that learn."""

Transfer = Literal["pq", "hlg"]
Primaries = Literal["rec2020", "p3", "rec709"]

LARGEST_GAP = 3.0
"""Seconds from the end of one exposure to the next within a bracket, by default."""

SDR_WHITE = 203.0
"""Luminance of diffuse white, in candela per square metre (BT.2408)."""

PQ_PEAK = 10_000.0
"""The largest luminance that PQ encodes (BT.2100)."""

CROP_MULTIPLE = 16
"""The coarsest scale of every preset and then some, so that losses at coarser scales need no padding."""

SMALLEST_CROP = 32
"""Side in pixels."""


@dataclass(frozen=True, kw_only=True)
class DisplaySettings:
    """How radiance becomes the light of a display, and how that is encoded.

    Parameters
    ----------
    brightness
        EV by which the image is brighter than one whose average is middle grey.
    peak
        Luminance of the brightest light that the file holds, in candela per square metre, 203 to 10000; with HLG 1000.
    transfer
        Of AVIF and JPEG XL: pq, absolute, or hlg, relative to the display.
    primaries
        Of AVIF and JPEG XL: rec2020, p3 or rec709.
    bits
        Of AVIF and JPEG XL: 10 or 12 for a channel.
    quality
        Of JPEG with a gain map, AVIF and JPEG XL, 1 to 100.
    """

    brightness: float = 0.0
    peak: float = 1000.0
    transfer: Transfer = "pq"
    primaries: Primaries = "rec2020"
    bits: Literal[10, 12] = 10
    quality: int = 95

    def __post_init__(self) -> None:
        if not abs(self.brightness) <= 20:  # also refuses NaN
            raise RefusedError(f"brightness is in EV, within -20 and 20; got {self.brightness}")
        if not SDR_WHITE <= self.peak <= PQ_PEAK:
            raise RefusedError(
                f"peak is a luminance from {SDR_WHITE:g} (diffuse white) to {PQ_PEAK:g} cd/m^2, got {self.peak}"
            )
        if (
            self.transfer not in get_args(Transfer)
            or self.primaries not in get_args(Primaries)
            or self.bits not in (10, 12)
        ):
            raise RefusedError(
                "transfer must be pq or hlg, primaries rec2020, p3 or rec709, bits 10 or 12; got "
                f"{self.transfer!r}, {self.primaries!r}, {self.bits!r}"
            )
        if not 1 <= self.quality <= 100:
            raise RefusedError(f"quality is from 1 to 100, got {self.quality}")


@dataclass(frozen=True, kw_only=True)
class LossSettings:
    """What the generator is asked for.

    Parameters
    ----------
    square_weight
        Weight of the mean square in the mu-law domain: large errors count more than in the tone-mapped L1.
    coarse_weight
        Weight of the tone-mapped L1 at the coarser decoder scales, together.
    linear_weight
        Weight of the L1 of linear radiance, which tells highlights apart where the mu-law is flat.
    relative_weight
        Weight of the mean square over that of the physical merge, which is what the mean of PSNR over scenes asks for:
        in the mu-law domain, and times the weight of linear radiance in that.
    regression_weight
        Weight of being farther from the truth than the physical merge, where that is so: in the mu-law domain, and
        times the weight of linear radiance in that.
    alignment_weight
        Weight of the loss that tells the alignment what to find.
    adversarial_weight
        Weight of the sphere loss for the generator; 0 trains without a discriminator, which measured no worse. At 1 its
        gradient over the pixels is a twentieth to six tenths of that of all other losses together.
    adversarial_start
        Share of the run after which the sphere loss begins.
    adversarial_ramp
        Share of the run over which its weight rises.
    moments
        Moments of the sphere loss.
    """

    square_weight: float = 4.0
    coarse_weight: float = 0.25
    linear_weight: float = 0.5
    relative_weight: float = 0.01
    regression_weight: float = 1.0
    alignment_weight: float = 0.5
    adversarial_weight: float = 0.0
    adversarial_start: float = 0.7
    adversarial_ramp: float = 0.1
    moments: int = 3

    def __post_init__(self) -> None:
        weights = ("square_weight", "coarse_weight", "linear_weight", "relative_weight", "regression_weight")
        _check_range(self, *weights, "alignment_weight", "adversarial_weight")
        _check_range(self, "adversarial_start", "adversarial_ramp", most=1)
        _check_range(self, "moments", least=1)


@dataclass(frozen=True, kw_only=True)
class TrainingSettings(LossSettings):
    """What a run learns by, and how long.

    Parameters
    ----------
    preset
        Size of the generator: tiny, small or base.
    steps
        Updates after which the run ends, over all resumptions. The learning rate falls to zero over them, or over the
        time limit where that ends first.
    learning_rate
        Peak of the rate.
    warm_up
        Updates over which the rate rises to its peak.
    batch_size
        Scenes in one update, for each device.
    crop
        Side of the training crops in pixels: a multiple of 16, at least 32.
    crops_per_scene
        Crops that are learned from in each scene of synthetic:DIR, on average. With more than one the newest scenes
        stay on the device and are cropped, mirrored and turned anew: a core makes three scenes a second, and a GPU
        learns from hundreds of crops.
    average_decay
        Decay of the moving average of the generator's weights, which is what is validated and exported.
    discriminator_channels
        Channels of the discriminator's first layer.
    seed
        Of the initial weights and of the order of scenes.
    alignment
        deformable, or none to leave the exposures where the displacement of the whole image puts them.
    attention
        Whether aligned features are gated by attention.
    deep_supervision
        Whether the coarser scales of the decoder are asked for radiance, too.
    denoising
        Whether the merge is denoised.
    parts
        What learns: all; or the denoiser alone, which is more than twice as quick, after the rest or on another camera.
    """

    preset: Preset = "small"
    steps: int = 20_000
    learning_rate: float = 5e-4
    warm_up: int = 200
    batch_size: int = 4
    crop: int = 128
    crops_per_scene: int = 1
    average_decay: float = 0.998
    discriminator_channels: int = 16
    seed: int = 0
    alignment: AlignmentKind = "deformable"
    attention: bool = True
    deep_supervision: bool = True
    denoising: bool = True
    parts: Parts = "all"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, allowed in {"preset": Preset, "alignment": AlignmentKind, "parts": Parts}.items():
            if getattr(self, name) not in get_args(allowed):
                words = " or ".join(", ".join(get_args(allowed)).rsplit(", ", 1))
                raise RefusedError(f"{name} must be {words}, got {getattr(self, name)!r}")
        _check_range(self, "steps", "batch_size", "crops_per_scene", "discriminator_channels", least=1)
        _check_range(self, "learning_rate", "warm_up")
        _check_range(self, "average_decay", most=1)
        _check_range(self, "seed", most=2**32 - 1)
        if self.crop < SMALLEST_CROP or self.crop % CROP_MULTIPLE:
            raise RefusedError(
                f"crop must be a multiple of {CROP_MULTIPLE} and at least {SMALLEST_CROP}, got {self.crop}"
            )
        if self.parts == "denoiser" and not self.denoising:
            raise RefusedError("parts is denoiser, and denoising is off: nothing would learn")


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """How a run is carried out; it may differ from one resumption to the next.

    Parameters
    ----------
    devices
        Number of devices, or auto.
    accelerator
        auto, cpu, gpu, ... as Lightning takes it.
    num_nodes
        Machines, started as Lightning asks for.
    precision
        As Lightning takes it, for example bf16-mixed.
    max_time
        DD:HH:MM:SS of training, over all resumptions, after which the run ends. The learning rate falls to zero by
        then.
    workers
        Processes that make scenes.
    kept_scenes
        Scenes of each number of exposures that stay on the device where more than one crop is learned from in each; a
        scene of three exposures takes 7 MB.
    validate_every
        Updates from one validation to the next.
    validation_scenes
        The most scenes in one validation; without it, all.
    checkpoint_minutes
        Minutes from one checkpoint to the next.
    skip_broken
        Leave broken scenes of kalantari:DIR out instead of refusing the folder.
    """

    devices: int | str = "auto"
    accelerator: str = "auto"
    num_nodes: int = 1
    precision: str = "32-true"
    max_time: str | None = None
    workers: int = 1
    kept_scenes: int = 64
    validate_every: int = 500
    validation_scenes: int | None = None
    checkpoint_minutes: float = 5.0
    skip_broken: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.devices, int) and self.devices < 1 and self.devices != -1:
            raise RefusedError(f"devices is 1 or more, -1 for all, or auto; got {self.devices}")
        _check_range(self, "num_nodes", "kept_scenes", "validate_every", least=1)
        _check_range(self, "workers", "checkpoint_minutes")
        if self.validation_scenes is not None:
            _check_range(self, "validation_scenes", least=1)


def _check_range(settings: object, *names: str, least: float = 0, most: float = math.inf) -> None:
    """Raise a ValueError unless the fields are finite and in the range; in the words of Python and the commands."""
    for name in names:
        value = getattr(settings, name)
        if not (least <= value <= most and math.isfinite(value)):
            allowed = f"{least} or more" if most == math.inf else f"from {least} to {most}"
            raise RefusedError(f"{name.replace('_', ' ')} is {allowed}, got {value}")
