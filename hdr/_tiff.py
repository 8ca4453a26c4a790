"""What OpenCV and Pillow leave out of TIFF: profile and EXIF data beside 16 bits, and floating-point numbers."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from hdr._errors import RefusedError
from hdr._exif_text import as_stored
from hdr._extras import extras_named
from hdr._files import as_text

with extras_named():
    import cv2
    from PIL import ExifTags, Image, TiffImagePlugin, TiffTags

BITS_PER_SAMPLE, DOCUMENT_NAME, IMAGE_DESCRIPTION, SOFTWARE, NITS_OF_ONE = 258, 269, 270, 305, 37439
_PREDICTOR, _STRIP_OFFSETS, _SAMPLE_FORMAT, _PROFILE = 317, 273, 339, 34675
_SUBFILE_TYPE, _PHOTOMETRIC, _PLANAR_CONFIGURATION = 254, 262, 284
_REDUCED = (1, 3, 5, 7)  # bit 0 of the subfile's type
_WHITE_IS_ZERO, _PLANES = 0, 2
_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 282, 283, 296
_PIXELS_PER_INCH, _INCH = 72, 2
_HEADER_BYTES = 8
_SIGNED, _FLOAT = 2, 3
_DEFLATE, _PREDICTED_FLOATS = 8, 3


def encode_tiff(
    pixels: NDArray[Any], profile: bytes, exif: bytes | None = None, tags: Mapping[int, str | float] | None = None
) -> bytes:
    """A TIFF of 16 bits or of floating-point numbers, (H, W, 3), that OpenCV writes, with a directory of our own.

    ``tags`` are words, and numbers of double precision; what ``exif`` says of the same is preferred.
    """
    floats = pixels.dtype == np.float32
    how = [cv2.IMWRITE_TIFF_COMPRESSION, _DEFLATE, cv2.IMWRITE_TIFF_PREDICTOR, _PREDICTED_FLOATS] if floats else []
    encoded, data = cv2.imencode(".tif", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), how)
    if not encoded:
        raise RefusedError(f"OpenCV cannot encode a picture of shape {pixels.shape} as .tif")
    tiff = data.data
    header = bytes(tiff[:_HEADER_BYTES])
    written = _directory(BytesIO(tiff), header)
    directory = TiffImagePlugin.ImageFileDirectory_v2(header)
    for tag, value in written.items():
        directory.tagtype[tag] = written.tagtype[tag]
        directory[tag] = value
    directory[_PROFILE] = profile
    for tag in (_X_RESOLUTION, _Y_RESOLUTION):  # TIFF 6.0 asks RGB images for them, whatever they say
        directory[tag] = _PIXELS_PER_INCH
    directory[_RESOLUTION_UNIT] = _INCH
    for tag, told in (tags or {}).items():
        if isinstance(told, str):
            directory[tag] = as_stored(as_text(told).encode().decode("latin-1"))
        else:
            directory.tagtype[tag], directory[tag] = TiffTags.DOUBLE, told
    if exif is not None:
        _add_exif(directory, exif)
    # The new directory stands in front, and the strips behind it, the old one among them, where nobody looks for it.
    # Pillow counts the places of strips from the end of the directory.
    directory[_STRIP_OFFSETS] = tuple(offset - _HEADER_BYTES for offset in written[_STRIP_OFFSETS])
    front = BytesIO()
    directory.save(front)
    return b"".join([front.getbuffer(), tiff[_HEADER_BYTES:]])


def check_layout(path: Path, tags: Mapping[int, Any], *, by_opencv: bool) -> None:
    """Raise ValueError where a TIFF's first picture is not the one, or its decoder would misread it without a word."""
    said = ""
    if tags.get(_SUBFILE_TYPE) in _REDUCED:
        said = "its first picture is a small preview of another"
    elif by_opencv and tags.get(_PLANAR_CONFIGURATION) == _PLANES:
        said = "its colours lie in separate planes"
    elif by_opencv and tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        said = "white is zero in it"
    if said:
        raise RefusedError(f"{path}: {said}, which is not read: convert it first")


def decode_float_tiff(path: Path, data: bytes) -> NDArray[Any] | None:
    """RGB (H, W, 3) of a TIFF of 32-bit float, which Pillow does not read; None if it is another file.

    One that OpenCV would misread is a ValueError that names it.
    """
    if not data.startswith((b"II*\0", b"MM\0*")) or _sample_format(data) != _FLOAT:
        return None
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None
    if pixels is None or pixels.dtype != np.float32 or pixels.ndim != 3 or pixels.shape[2] != 3:
        return None
    check_layout(path, _directory(BytesIO(data), data[:_HEADER_BYTES]), by_opencv=True)
    return np.ascontiguousarray(pixels[..., ::-1])


def profile_of(data: bytes) -> bytes | None:
    """The colour profile of a TIFF."""
    return _directory(BytesIO(data), data[:_HEADER_BYTES]).get(_PROFILE)


def words_of(file: IO[bytes], tag: int) -> str:
    """What a TIFF says in a tag of words, of which no more than the directory is read; empty without it."""
    words = _directory(file, file.read(_HEADER_BYTES)).get(tag)
    return words if isinstance(words, str) else ""


def holds_signed(data: bytes) -> bool:
    """Whether a TIFF holds numbers with a sign."""
    return _sample_format(data) == _SIGNED


def _add_exif(directory: TiffImagePlugin.ImageFileDirectory_v2, exif: bytes) -> None:
    carried = Image.Exif()
    carried.load(exif)
    for tag, value in carried.items():
        directory[tag] = as_stored(value)
    for part in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
        if carried.get_ifd(part):
            directory[part] = {tag: as_stored(value) for tag, value in carried.get_ifd(part).items()}


def _sample_format(data: bytes) -> int:
    try:
        return int(max(_directory(BytesIO(data), data[:_HEADER_BYTES]).get(_SAMPLE_FORMAT, (1,))))
    except Exception:  # whatever Pillow makes of damage; it is told where the picture is opened
        return 1


def _directory(file: IO[bytes], header: bytes) -> TiffImagePlugin.ImageFileDirectory_v2:
    directory = TiffImagePlugin.ImageFileDirectory_v2(header)
    file.seek(directory.next)
    directory.load(file)
    return directory
