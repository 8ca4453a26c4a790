"""A photograph, and what its camera wrote down about it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from hdr._camera_tags import read_camera_tags
from hdr._errors import RefusedError
from hdr._exif_text import PROGRAM
from hdr._extras import extras_named
from hdr.exif import read_exif
from hdr.exposure import CameraSettings, read_camera_settings, settings_of
from hdr.io import is_raw
from hdr.radiometry import SAME_LIGHT

with extras_named():
    from PIL import ExifTags

_BASE = ExifTags.Base


@dataclass(frozen=True)
class Shot:
    """A photograph and what its camera wrote down.

    Attributes
    ----------
    path
        The file.
    camera
        Maker, model and serial number, as far as they are known.
    taken
        When it was begun; None if the camera did not say.
    settings
        Time, ISO and f-number.
    size
        Width and height as stored; None where the file does not tell before it is decoded.
    is_result
        Whether the file says that it is no photograph, but was merged of some by this program.
    """

    path: Path
    camera: str
    taken: datetime | None
    settings: CameraSettings
    size: tuple[int, int] | None
    is_result: bool = False

    @property
    def exposure(self) -> float | None:
        """Light in the picture's values, time * ISO / N^2, with what is not known left out; None without a time."""
        time, iso, f_number = self.settings.time, self.settings.iso, self.settings.f_number
        return None if time is None else time * (iso or 100.0) / 100.0 / (f_number or 1.0) ** 2


def read_shot(path: str | os.PathLike[str]) -> Shot:
    """Read what a camera wrote down about a photograph.

    It is not decoded, but for a raw file whose EXIF data, of a kind that is known here, do not tell time and ISO.

    Raises
    ------
    OSError
        If the file cannot be opened.
    ValueError
        If it is damaged, or no photograph.
    """
    path = Path(path)
    size = None
    if is_raw(path):
        try:
            tags, details, _ = read_exif(path)
        except RefusedError:
            from hdr.raw import read_settings_and_moment  # needs rawpy

            # Raw formats of which nobody here knows anything tell LibRaw when they were taken, and no camera.
            settings, taken = read_settings_and_moment(path)
            return Shot(path, path.suffix.lower(), taken, settings, None)
        settings = settings_of(details)
        if settings.time is None or settings.iso is None:  # LibRaw knows makers' own words, but decodes for them
            settings = read_camera_settings(path)
    else:
        tags, details, _, size = read_camera_tags(path)
        settings = settings_of(details)
    words = [tags.get(_BASE.Make), tags.get(_BASE.Model), details.get(_BASE.BodySerialNumber)]
    camera = " ".join(str(word).strip("\0 ") for word in words if word)
    taken = _moment(details.get(_BASE.DateTimeOriginal), details.get(_BASE.SubsecTimeOriginal))
    is_result = tags.get(_BASE.Software) == PROGRAM
    return Shot(path, camera, taken or _moment(tags.get(_BASE.DateTime), None), settings, size, is_result)


def _moment(text: object, fraction: object) -> datetime | None:
    try:
        moment = datetime.strptime(str(text).strip("\0 "), "%Y:%m:%d %H:%M:%S")
    except ValueError:  # cameras without a clock write spaces or zeros
        return None
    digits = str(fraction).strip("\0 ") if fraction else ""
    return moment + timedelta(seconds=float(f"0.{digits}")) if digits.isdecimal() else moment


def may_be_one_camera(one: Shot, other: Shot) -> bool:
    """Whether two cameras have one name; raw files may tell more of it than developed ones, or nothing."""
    if any(shot.camera == shot.path.suffix.lower() for shot in (one, other)):
        return True
    return one.camera.startswith(other.camera) or other.camera.startswith(one.camera)


def have_same_light(one: float, other: float) -> bool:
    """Whether two exposures, or settings, are the same, as what differs by less than those of a bracket do is."""
    return max(one, other) < SAME_LIGHT * min(one, other)


def by_name(path: Path) -> tuple[str, str]:
    return path.stem.casefold(), os.fspath(path)
