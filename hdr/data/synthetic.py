"""Brackets of moving scenes with ground truth, made from HDR panoramas on the fly."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from kornia.geometry.conversions import axis_angle_to_rotation_matrix
from torch import Tensor
from torch.utils.data import Dataset

from hdr.data.camera import photograph, saturating_scale
from hdr.data.motion import INSTANTS, compose, moving_layer
from hdr.data.panorama import Panorama
from hdr.data.random import integer, log_uniform, normal, uniform
from hdr.data.sample import HdrSample
from hdr.io import RADIANCE_SUFFIXES

Split = Literal["all", "train", "validation"]


@dataclass(frozen=True)
class SceneSettings:
    """How scenes vary.

    Attributes
    ----------
    largest_motion
        Most pixels that a thing moves from one picture to the next.
    hand_shake
        Most pixels that the camera's turning moves the background from one picture to the next.
    objects
        Fewest and most things that move.
    ratios
        Smallest and largest ratio between neighbouring exposures.
    saturation
        Smallest and largest share of the reference's pixels with a saturated channel.
    """

    largest_motion: float = 60.0
    hand_shake: float = 6.0
    objects: tuple[int, int] = (0, 4)
    ratios: tuple[float, float] = (2.0, 8.0)
    saturation: tuple[float, float] = (0.02, 0.25)


class SyntheticBrackets(Dataset[HdrSample]):
    """Dynamic scenes: a perspective view of a panorama, shaken, with things that move in front of it.

    Scene i is a function of (seed, i) alone, whatever the worker and the device. The ground truth is the scene at the
    instant of the reference, clipped where the short exposure saturates: what lies above no picture has seen.

    Parameters
    ----------
    hdri_dir
        Folder of equirectangular .hdr or .exr panoramas.
    size
        Height and width of a scene in pixels.
    length
        How many scenes there are.
    seed
        Another seed gives other scenes.
    split
        ``"validation"`` takes ``held_out`` panoramas, evenly spread over the sorted file names; ``"train"`` takes the
        others; ``"all"`` takes all.
    held_out
        Panoramas kept for validation.
    settings
        How scenes vary.
    device
        Where scenes are made.

    Raises
    ------
    ValueError
        If there are too few panoramas in the folder, or one cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> from hdr.io import write_radiance
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_radiance(f"{folder}/sky.hdr", torch.rand(3, 32, 64))
    ...     scene = SyntheticBrackets(folder, size=(48, 64))[0]
    >>> scene["ldr"].shape, scene["target"].shape
    (torch.Size([3, 3, 48, 64]), torch.Size([3, 48, 64]))
    """

    def __init__(
        self,
        hdri_dir: str | os.PathLike[str],
        size: tuple[int, int] = (256, 256),
        length: int = 1000,
        *,
        seed: int = 0,
        split: Split = "all",
        held_out: int = 4,
        settings: SceneSettings | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        paths = _select(_panorama_files(Path(hdri_dir)), split, held_out, Path(hdri_dir))
        self.names = [path.stem for path in paths]
        self.panoramas = [Panorama.from_file(path, device) for path in paths]
        self.size, self.length, self.seed = size, length, seed
        self.settings = settings or SceneSettings()
        self.device = torch.device(device)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> HdrSample:
        if not 0 <= index < self.length:
            raise IndexError(f"scene {index} of {self.length}")
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + index)
        which = integer(generator, 0, len(self.panoramas) - 1)
        instants = self._scene(generator, self.panoramas[which])
        ratios = [log_uniform(generator, *self.settings.ratios) for _ in range(INSTANTS - 1)]
        exposures = torch.tensor([1.0, ratios[0], ratios[0] * ratios[1]])
        share = uniform(generator, *self.settings.saturation)
        instants = instants * (saturating_scale(instants[1], share) / ratios[0])
        return {
            "name": f"{self.names[which]}-{index:04d}",
            "ldr": photograph(generator, instants, exposures),
            "exposures": exposures,
            "target": instants[1].clamp(0, 1),
        }

    def _scene(self, generator: torch.Generator, panorama: Panorama) -> Tensor:
        """Radiance of the scene at the three instants, (3, 3, H, W), at the panorama's scale."""
        height, width = self.size
        focal_length = panorama.pixels_per_radian * log_uniform(generator, 0.8, 1.8)
        pitch, yaw = 0.25 * float(normal(generator, 1)), uniform(generator, -math.pi, math.pi)
        level = axis_angle_to_rotation_matrix(torch.tensor([[0.0, yaw, 0.0], [pitch, 0.0, 0.0]]))
        shake = uniform(generator, 0, self.settings.hand_shake) * (uniform(generator, 0, 1) < 0.7) / focal_length
        tremble = shake * torch.tanh(normal(generator, INSTANTS, 3))
        tremble[1] = 0.0
        rotations = level[0] @ level[1] @ axis_angle_to_rotation_matrix(tremble)
        background = panorama.view(rotations.to(self.device), height, width, focal_length)
        layers = []
        typical = background[1].median().item()
        for _ in range(integer(generator, *self.settings.objects)):
            texture = self.panoramas[integer(generator, 0, len(self.panoramas) - 1)]
            brightness = typical * log_uniform(generator, 0.15, 4.0)
            layers.append(moving_layer(generator, texture, brightness, height, width, self.settings.largest_motion))
        return compose(background, layers)


def _panorama_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; give one with HDR panoramas ({', '.join(RADIANCE_SUFFIXES)})")
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in RADIANCE_SUFFIXES)


def _select(paths: list[Path], split: Split, held_out: int, folder: Path) -> list[Path]:
    if split not in ("all", "train", "validation"):
        raise ValueError(f"split must be 'all', 'train' or 'validation', got {split!r}")
    needed = 1 if split == "all" else held_out + 1
    if len(paths) < needed:
        raise ValueError(
            f"{folder}: {len(paths)} panoramas ({', '.join(RADIANCE_SUFFIXES)}), "
            f"at least {needed} are needed for split {split!r} with {held_out} held out"
        )
    if split == "all":
        return paths
    validation = {int((k + 0.5) * len(paths) / held_out) for k in range(held_out)}
    return [path for i, path in enumerate(paths) if (i in validation) == (split == "validation")]
