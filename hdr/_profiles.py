"""Colour profiles of picture files: what theirs says, and which ours have."""

from __future__ import annotations

import functools
import struct
import warnings
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hdr._extras import extras_named
from hdr._icc import colorants
from hdr._picture_files import damage_reported
from hdr._tiff import profile_of
from hdr.radiometry import REC709

with extras_named():
    from PIL import ImageCms

_SAME_COLOURS = 1e-3  # of XYZ, and of x and y: profiles are rounded
_SMALLEST_VOLUME = 1e-6  # of what three primaries make in XYZ; those of Rec. 709 make 0.2


def profile_matrix(path: Path, data: bytes | None) -> tuple[str, Tensor | None]:
    """Name of a colour profile of other primaries than Rec. 709, and the matrix from its linear light to that."""
    if not data:
        return "", None
    try:
        profile = ImageCms.ImageCmsProfile(BytesIO(data))
        name = ImageCms.getProfileDescription(profile).strip() or "without a name"
    except (ImageCms.PyCMSError, OSError):
        profile, name = None, "damaged"
    if "srgb" in name.lower():
        return "", None
    ours = _colorants(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")))
    theirs = None if profile is None else _colorants(profile)
    if theirs is None or ours is None or _on_one_line(theirs):
        warnings.warn(f"{path}: its colour profile ({name}) is not applied, for it has no matrix", stacklevel=4)
        return name, None
    if np.abs(theirs - ours).max() < _SAME_COLOURS:
        return "", None
    return name, torch.from_numpy(np.linalg.inv(ours) @ theirs).float()


def primaries_matrix(path: Path, chromaticities: Sequence[float] | None) -> tuple[str, Tensor | None]:
    """Name of primaries other than Rec. 709, and the matrix from their linear light to that.

    ``chromaticities`` are x and y of red, green, blue and their white; None stands for Rec. 709, and so do zeros alone,
    which Photoshop writes.
    """
    if chromaticities is None or not any(chromaticities):
        return "", None
    if np.abs(np.subtract(chromaticities, REC709)).max() < _SAME_COLOURS:
        return "", None
    numbers = " ".join(f"{number:.4g}" for number in chromaticities)
    name = f"primaries {numbers}"
    try:
        with np.errstate(divide="ignore", invalid="ignore"):
            theirs, _ = colorants(chromaticities)
    except np.linalg.LinAlgError:
        theirs = np.zeros((3, 3))
    if _on_one_line(theirs):
        warnings.warn(f"{path}: its primaries {numbers} are none, and are not applied", stacklevel=4)
        return name, None
    return name, torch.from_numpy(np.linalg.inv(colorants(REC709)[0]) @ theirs).float()


def profile_of_tiff(path: Path, data: bytes) -> bytes | None:
    """The profile of a TIFF; what is damaged is a ValueError that names the file."""
    with damage_reported(path):
        return profile_of(data)


@functools.cache
def srgb_profile() -> bytes:
    """The profile of sRGB, dated as that standard is: with the time of writing no picture would be the same twice."""
    made = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return made[:24] + struct.pack(">6H", 1999, 10, 18, 0, 0, 0) + made[36:]


def _on_one_line(columns: NDArray[Any]) -> bool:
    """Whether primaries make no colours, so that no picture is of them: a damaged header or profile may say so."""
    return not np.isfinite(columns).all() or abs(np.linalg.det(columns)) < _SMALLEST_VOLUME


def _colorants(profile: ImageCms.ImageCmsProfile) -> NDArray[Any] | None:
    """XYZ of red, green and blue as columns, in the profiles' own white (D50); None if it is built otherwise."""
    columns = [getattr(profile.profile, f"{colour}_colorant") for colour in ("red", "green", "blue")]
    return None if None in columns else np.array([column[0] for column in columns]).T
