"""What a camera wrote down about a developed photograph, by the numbers of EXIF's tags."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from hdr._errors import RefusedError
from hdr._picture_files import damage_reported, opened_image
from hdr._raw_exif import Tags, parts_of
from hdr._tiff import float_tiff_tags

_WIDTH, _HEIGHT = 256, 257


class CameraTags(NamedTuple):
    """Tags by number, and the size of the picture."""

    image: Tags
    exposure: Tags
    place: Tags
    size: tuple[int, int]


def read_camera_tags(path: Path) -> CameraTags:
    """Read tags without decoding the picture.

    Those of the exposure may stand beside those of the image, as TIFF/EP (ISO 12234-2) has them, by the same numbers.

    Raises
    ------
    OSError
        If the file cannot be opened.
    ValueError
        If it is no photograph, or damaged.
    """
    try:
        with opened_image(path) as picture, damage_reported(path):
            image, exposure, place = parts_of(picture.getexif())
            size = picture.size
    except RefusedError:
        with path.open("rb") as file, damage_reported(path):
            of_floats = float_tiff_tags(file)
            size = (0, 0) if of_floats is None else (of_floats[0][_WIDTH], of_floats[0][_HEIGHT])
        if of_floats is None:
            raise
        image, exposure, place = of_floats
    return CameraTags(image, image | exposure, place, size)
