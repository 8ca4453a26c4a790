"""Photographed brackets with ground truth, in the layouts in which the data of Kalantari and Ramamoorthi are spread."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from kornia.augmentation import (
    AugmentationSequential,
    RandomCrop,
    RandomHorizontalFlip,
    RandomRotation90,
    RandomVerticalFlip,
)
from torch import Tensor
from torch.utils.data import Dataset

from hdr._errors import RefusedError
from hdr.calibration import Calibration
from hdr.data.sample import HdrSample, make_sample
from hdr.exposure import read_exposure_file
from hdr.io import read_ldr, read_radiance
from hdr.radiometry import GAMMA, ldr_to_linear, middle, relative_exposures
from hdr.response import Response

Broken = Literal["refuse", "skip"]

_EXPOSURES_AND_TRUTH = {"input_exp.txt": "ref_hdr.hdr", "exposure.txt": "HDRImg.hdr"}
_LAYOUTS = " or ".join(f"{exposures} and {truth}" for exposures, truth in _EXPOSURES_AND_TRUTH.items())
_HELD_OUT_SHARE = 10


class SceneFiles(NamedTuple):
    """The files of one scene."""

    name: str
    inputs: tuple[Path, ...]
    exposures: Path
    truth: Path


class KalantariDataset(Dataset[HdrSample]):
    """Scenes of three photographs and the HDR picture at the instant of the middle one.

    A scene is a folder, at any depth, with ``input_1.tif`` to ``input_3.tif``, ``input_exp.txt`` (EV) and
    ``ref_hdr.hdr``; or with three ``*.tif``, ``exposure.txt`` and ``HDRImg.hdr``. All files are read once in the
    beginning, so that a broken scene is known before the training and not hours into it.

    Parameters
    ----------
    folder
        Where the scenes are.
    crop
        Side of random crops in pixels, with random flips and quarter turns; None gives whole scenes as they are.
    broken
        Whether scenes that cannot be used are refused, or named in a warning and skipped.
    paths
        Only these scene folders; by default all that are found.

    Raises
    ------
    ValueError
        If there is no scene, or a broken one and ``broken`` is ``"refuse"``.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        crop: int | None = None,
        *,
        broken: Broken = "refuse",
        paths: list[Path] | None = None,
    ) -> None:
        if broken not in ("refuse", "skip"):
            raise RefusedError(f"broken must be 'refuse' or 'skip', got {broken!r}")
        found = find_scenes(Path(folder)) if paths is None else paths
        self.scenes = _usable(found, Path(folder), crop or 0, broken)
        self.crop = crop

    @classmethod
    def from_split(
        cls, folder: Path, split: Literal["train", "validation"], crop: int | None = None, broken: Broken = "refuse"
    ) -> KalantariDataset:
        """Scenes for training or validation.

        Folders below ``folder`` whose names begin with "train", "test" or "val" decide, in upper or lower case;
        without them every tenth scene is for validation.
        """
        scenes = find_scenes(folder)
        parts = {scene: scene.relative_to(folder).parts for scene in scenes}
        starts = ("train",) if split == "train" else ("test", "val")
        chosen = [scene for scene in scenes if any(part.lower().startswith(starts) for part in parts[scene][:-1])]
        if not chosen:
            held_out = {scene for i, scene in enumerate(scenes) if i % _HELD_OUT_SHARE == 0}
            chosen = [scene for scene in scenes if (scene in held_out) == (split == "validation")]
        if not chosen:
            raise RefusedError(f"{folder}: {len(scenes)} scenes, none of them left for the split {split!r}")
        return cls(folder, crop, broken=broken, paths=chosen)

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> HdrSample:
        name, ldr, exposures, target = read_scene(self.scenes[index])
        crop = None
        if self.crop is not None:
            # A larger square is cut, flipped and turned, and the crop is taken from it: displacements need room.
            room = min(2 * self.crop, *target.shape[1:])
            # As one image of twelve channels: all are cropped, flipped and turned alike.
            stacked = torch.cat([ldr.flatten(0, 1), target]).unsqueeze(0)
            changed: Tensor = _augmentation(room)(stacked)[0]
            ldr, target = changed[:-3].unflatten(0, (-1, 3)), changed[-3:]
            top, left = torch.randint(room - self.crop + 1, (2,)).tolist()
            crop = (top, left, self.crop)
        return make_sample(name, ldr, exposures, target, Calibration(Response.gamma(GAMMA)), middle(len(ldr)), crop)


class KalantariScene(NamedTuple):
    """A scene as it is read."""

    name: str
    ldr: Tensor
    """Shape (3, 3, H, W)."""
    exposures: Tensor
    """Shape (3,), relative to the shortest."""
    target: Tensor
    """Shape (3, H, W), radiance in [0, 1]."""


def find_scenes(folder: Path) -> list[Path]:
    """Folders at or below ``folder`` with an exposure file or an HDR picture of either layout, sorted.

    Raises
    ------
    ValueError
        If there is no such folder, or no scene in it.
    """
    if not folder.is_dir():
        raise RefusedError(f"{folder}: no such folder; give one with scenes")
    known = [*_EXPOSURES_AND_TRUTH.keys(), *_EXPOSURES_AND_TRUTH.values()]
    scenes = sorted({path.parent for name in known for path in folder.rglob(name)})
    if not scenes:
        raise RefusedError(f"{folder}: no scenes; expected folders with three .tif files and {_LAYOUTS}")
    return scenes


def read_scene(files: SceneFiles) -> KalantariScene:
    """Read a scene; pictures are sorted by exposure, and the truth is brought to the scale of the short exposure.

    Raises
    ------
    ValueError
        If a file is damaged, or sizes or exposures do not fit together.
    """
    exposures = relative_exposures(torch.tensor(read_exposure_file(files.exposures)))
    if exposures.numel() != 3 or exposures.unique().numel() != 3:
        raise RefusedError(f"{files.exposures}: expected three different exposures, got {exposures.tolist()}")
    images = [read_ldr(path) for path in files.inputs]
    truth = read_radiance(files.truth)
    sizes = {tuple(image.shape[1:]) for image in [*images, truth]}
    if len(sizes) > 1:
        raise RefusedError(f"{files.truth.parent}: pictures of different sizes (height, width): {sorted(sizes)}")
    order = exposures.argsort()
    ldr, exposures = torch.stack([images[i] for i in order.tolist()]), exposures[order]
    target = (truth * _scale_to_reference(ldr[1], truth, float(exposures[1]))).clamp(0, 1)
    return KalantariScene(files.name, ldr, exposures, target)


def _scale_to_reference(reference: Tensor, truth: Tensor, exposure: float) -> float:
    """Factor that brings the truth to the reference's scale: HDR files are spread with more than one origin of EV.

    From the well-exposed pixels, which show the scene at the same instant; to a third of an EV, the camera's own step,
    so that noise has no part in it.
    """
    well_exposed = (reference > 0.2) & (reference < 0.8) & (truth > 0)
    if not bool(well_exposed.any()):
        return 1.0
    ratio = ldr_to_linear(reference, exposure)[well_exposed] / truth[well_exposed]
    return float(2 ** ((3 * ratio.median().log2()).round() / 3))


def _usable(folders: list[Path], root: Path, smallest_side: int, broken: Broken) -> list[SceneFiles]:
    scenes, faults = [], []
    for folder in folders:
        try:
            files = _scene_files(folder, root)
            height, width = read_scene(files).target.shape[1:]
            if min(height, width) < smallest_side:
                raise RefusedError(f"{folder}: {height} x {width} pixels, smaller than the crop of {smallest_side}")
            scenes.append(files)
        except (OSError, RefusedError) as error:  # noqa: PERF203 - every broken scene is named, not only the first
            faults.append(str(error))
    if faults:
        message = f"{len(faults)} broken scenes in {root}:\n" + "\n".join(faults)
        if broken == "refuse":
            raise RefusedError(
                f"{message}\nrepair or remove them, or skip them with --skip-broken (broken='skip' in Python)"
            )
        if not scenes:
            raise RefusedError(f"{message}\nno scene is left; repair them")
        warnings.warn(f"skipped {message}", stacklevel=3)
    return scenes


def _scene_files(folder: Path, root: Path) -> SceneFiles:
    for exposures, truth in _EXPOSURES_AND_TRUTH.items():
        if (folder / exposures).is_file() or (folder / truth).is_file():
            inputs = tuple(sorted(path for path in folder.iterdir() if path.suffix.lower() in (".tif", ".tiff")))
            missing = [name for name in (exposures, truth) if not (folder / name).is_file()]
            if missing or len(inputs) != 3:
                missing_text = f"{' and '.join(missing)} missing" if missing else f"{len(inputs)} .tif files, not 3"
                raise RefusedError(f"{folder}: {missing_text}")
            return SceneFiles(folder.relative_to(root).as_posix(), inputs, folder / exposures, folder / truth)
    raise RefusedError(f"{folder}: neither {' nor '.join(_EXPOSURES_AND_TRUTH)} is there")


def _augmentation(crop: int) -> AugmentationSequential:
    return AugmentationSequential(
        RandomCrop((crop, crop)),
        RandomHorizontalFlip(p=0.5),
        RandomVerticalFlip(p=0.5),
        RandomRotation90(times=(0, 3), p=1.0, resample="nearest"),
        data_keys=["input"],
    )
