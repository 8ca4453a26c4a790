"""EXIF data in camera raw files: where the blocks lie that are a TIFF, if not all of the file is."""

from __future__ import annotations

import struct
from io import BytesIO
from pathlib import Path
from typing import Any

from hdr._extras import extras_named
from hdr._tiff import read_directory

with extras_named():
    from PIL import ExifTags, Image

Tags = dict[int, Any]

_HEAD = 2**20  # what cameras write down stands in front of the picture
# Olympus and Panasonic write a TIFF, and 42 otherwise, so that nobody takes it for a picture.
_TIFF_OF_MAKERS = {b"IIRO": b"II*\0", b"IIRS": b"II*\0", b"MMOR": b"MM\0*", b"IIU\0": b"II*\0"}
_FUJI, _FUJI_JPEG = b"FUJIFILMCCD-RAW", 84  # where the preview lies, a JPEG with all EXIF data
_CANON = b"ftypcrx "
_TIFF, _TIFF_HEAD = (b"II*\0", b"MM\0*"), 8
_COMPRESSION, _DIRECTORIES_BELOW = 259, 330


def read_exif(path: Path) -> tuple[Tags, Tags, Tags] | None:
    """Tags of the image, of the exposure and of the place.

    None if it is neither a TIFF by another name (DNG, NEF, ...) nor a file of Canon (CR3), Fujifilm, Olympus or
    Panasonic.
    """
    with path.open("rb") as file:
        if file.read(_TIFF_HEAD).startswith(_TIFF):
            file.seek(0)
            exif = Image.Exif()
            exif.load_from_fp(file)
            return parts_of(exif)
        file.seek(0)
        head = file.read(_HEAD)
        if head.startswith(_FUJI):
            file.seek(*struct.unpack_from(">I", head, _FUJI_JPEG))
            with Image.open(BytesIO(file.read(_HEAD))) as preview:
                return parts_of(preview.getexif())
    if head[:4] in _TIFF_OF_MAKERS:
        return parts_of(_loaded(_TIFF_OF_MAKERS[head[:4]] + head[4:]))
    if head[4:12] == _CANON:
        # Three blocks, each a TIFF of one directory.
        image, exposure, place = (dict(_loaded(_canon_box(head, name))) for name in (b"CMT1", b"CMT2", b"CMT4"))
        return image, exposure, place
    return None


def compressions(path: Path) -> tuple[object, ...]:
    """How the pictures in a raw file are stored, by the numbers of TIFF; empty if it does not say it so."""
    with path.open("rb") as file:
        head = file.read(_TIFF_HEAD)
        if not head.startswith(_TIFF):
            return ()
        try:
            first = read_directory(file, head)
            below = first.get(_DIRECTORIES_BELOW, ())
            others = [read_directory(file, head, place) for place in (below if isinstance(below, tuple) else (below,))]
        except Exception:  # whatever Pillow makes of damage; LibRaw tells it
            return ()
    return tuple(one.get(_COMPRESSION) for one in (first, *others))


def parts_of(exif: Image.Exif) -> tuple[Tags, Tags, Tags]:
    """Tags of the image, of the exposure and of the place."""
    return dict(exif), dict(exif.get_ifd(ExifTags.IFD.Exif)), dict(exif.get_ifd(ExifTags.IFD.GPSInfo))


def _loaded(tiff: bytes) -> Image.Exif:
    exif = Image.Exif()
    if tiff:
        exif.load(tiff)
    return exif


def _canon_box(head: bytes, name: bytes) -> bytes:
    start = head.find(name)
    return b"" if start < 4 else head[start + 4 : start - 4 + struct.unpack_from(">I", head, start - 4)[0]]
