"""What a camera wrote down, carried from the reference to the pictures that are made of it."""

from __future__ import annotations

import math
import os
from fractions import Fraction
from pathlib import Path
from typing import Any

from hdr import _raw_exif
from hdr._camera_tags import read_camera_tags
from hdr._errors import RefusedError
from hdr._exif_text import PROGRAM, as_stored
from hdr._extras import extras_named
from hdr._raw_exif import Tags
from hdr.exposure import read_camera_settings
from hdr.io import MOST_EXIF_BYTES, damage_reported, is_raw

with extras_named():
    from PIL import ExifTags, Image, TiffImagePlugin

_BASE = ExifTags.Base
# Who, when and with what; not how the pixels were stored, which is no longer true, nor a maker's own notes.
_OF_THE_IMAGE = (
    *(_BASE.Make, _BASE.Model, _BASE.DateTime, _BASE.Artist, _BASE.Copyright, _BASE.ImageDescription),
    *(_BASE.HostComputer,),
)
_OF_THE_EXPOSURE = (
    *(_BASE.DateTimeOriginal, _BASE.DateTimeDigitized, _BASE.SubsecTimeOriginal),
    *(_BASE.OffsetTime, _BASE.OffsetTimeOriginal, _BASE.OffsetTimeDigitized),
    *(_BASE.ExposureTime, _BASE.FNumber, _BASE.ISOSpeedRatings, _BASE.ExposureProgram),
    *(_BASE.FocalLength, _BASE.FocalLengthIn35mmFilm, _BASE.MeteringMode),
    *(_BASE.BodySerialNumber, _BASE.LensMake, _BASE.LensModel, _BASE.LensSpecification, _BASE.CameraOwnerName),
)
_UPRIGHT = 1
_PREFIX = b"Exif\0\0"


def carried_exif(path: str | os.PathLike[str]) -> bytes | None:
    """EXIF data of a photograph for a picture that is made of it: camera, lens, exposure, time, place, copyright.

    Parameters
    ----------
    path
        A JPEG, PNG or TIFF file, or camera raw.

    Returns
    -------
    bytes or None
        Beginning with ``Exif``, for :func:`hdr.io.write_preview`; the picture is upright. At most the 65,533 bytes that
        fit into a JPEG: a description that is too long for that is left out. None if the file says nothing of this, or
        too much, or cannot be read for it.
    """
    try:
        found, taken, where = read_exif(path)
    except Exception:  # metadata is a courtesy: damaged EXIF, or a raw format of its own, must not stop a merge
        if not is_raw(path):
            return None
        found, taken, where = {}, _of_raw(path), {}
    exif = Image.Exif()
    for tag in _OF_THE_IMAGE:
        if not _is_blank(found.get(tag)):
            exif[tag] = as_stored(found[tag])
    exposure = {int(tag): _writable(taken[tag]) for tag in _OF_THE_EXPOSURE if not _is_blank(taken.get(tag))}
    place = {tag: _writable(value) for tag, value in where.items()}
    if exposure:
        # The version of the standard that knows all of these tags; readers ask for it.
        exif.get_ifd(ExifTags.IFD.Exif).update({_BASE.ExifVersion: b"0232", **exposure})
    if place:
        exif.get_ifd(ExifTags.IFD.GPSInfo).update(place)
    if not len(exif) and not exposure and not place:
        return None
    exif[_BASE.Orientation] = _UPRIGHT
    exif[_BASE.Software] = PROGRAM
    written = _written(exif)
    if written is not None and len(written) > MOST_EXIF_BYTES and _BASE.ImageDescription in exif:
        del exif[_BASE.ImageDescription]  # programs keep whole records in it
        written = _written(exif)
    return None if written is None or len(written) > MOST_EXIF_BYTES else written


def _written(exif: Image.Exif) -> bytes | None:
    try:
        written = exif.tobytes()
    except Exception:  # a value that Pillow read and cannot write
        return None
    return written if written.startswith(_PREFIX) else _PREFIX + written


def read_exif(path: str | os.PathLike[str]) -> tuple[Tags, Tags, Tags]:
    """Tags of the image, of the exposure and of the place.

    Parameters
    ----------
    path
        A JPEG, PNG, TIFF, AVIF or HEIC file, or camera raw.

    Raises
    ------
    OSError
        If the file cannot be opened.
    ValueError
        If it is damaged, or a raw file of a kind whose EXIF data are not known.
    """
    with damage_reported(path):
        of_raw = _raw_exif.read_exif(Path(path)) if is_raw(path) else None
    if of_raw is not None:
        image, exposure, place = of_raw
        return image, image | exposure, place  # as TIFF/EP has them, by the same numbers
    image, exposure, place, _ = read_camera_tags(Path(path))
    return image, exposure, place


def _is_blank(value: Any) -> bool:
    """Cameras leave room for an owner who has not said who he is."""
    return value is None or (isinstance(value, str) and not value.strip("\0 "))


def _writable(value: Any) -> Any:
    """A value as EXIF stores it: text as it was, and ratios of whole numbers (Pillow writes a float as 64 bits)."""
    if isinstance(value, tuple):
        return tuple(_writable(one) for one in value)
    if not isinstance(value, float) or not math.isfinite(value):
        return as_stored(value)
    ratio = Fraction(value).limit_denominator(1_000_000)
    return TiffImagePlugin.IFDRational(ratio.numerator, ratio.denominator)


def _of_raw(path: str | os.PathLike[str]) -> dict[int, Any]:
    """What LibRaw tells of a raw file that Pillow cannot open."""
    try:
        settings = read_camera_settings(path)
    except (ModuleNotFoundError, OSError, RefusedError):
        return {}
    values = {_BASE.ExposureTime: settings.time, _BASE.FNumber: settings.f_number}
    exif: dict[int, Any] = {tag: value for tag, value in values.items() if value is not None}
    if settings.iso is not None:
        exif[_BASE.ISOSpeedRatings] = round(settings.iso)
    return exif
