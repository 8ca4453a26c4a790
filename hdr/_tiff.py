"""What OpenCV and Pillow leave out of TIFF: profile and EXIF data beside 16 bits, and floating-point numbers."""

from __future__ import annotations

import struct
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
_STRIP_OFFSETS, _SAMPLE_FORMAT, _PROFILE = 273, 339, 34675
_SUBFILE_TYPE, _PHOTOMETRIC, _PLANAR_CONFIGURATION = 254, 262, 284
_REDUCED = (1, 3, 5, 7)  # bit 0 of the subfile's type
_WHITE_IS_ZERO, _PLANES = 0, 2
_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 282, 283, 296
_PIXELS_PER_INCH, _INCH = 72, 2
_ORDERS = (b"II*\0", b"MM\0*", b"II+\0")  # the last is BigTIFF, of which Pillow does not read the other order
_HEADER_BYTES, _HEADER_BYTES_BIG = 8, 16
_SIGNED, _FLOAT = 2, 3
_DEFLATE, _PREDICTED_FLOATS = 8, 3
_COMPRESSION, _SAMPLES_PER_PIXEL = 259, 277
_COMPRESSIONS = {
    34712: "JPEG 2000",
    34887: "LERC",
    34892: "the JPEG of DNG files",
    34925: "LZMA",
    34926: "ZSTD",
    34927: "WebP",
    34933: "PNG",
    34934: "JPEG XR",
    50000: "ZSTD",
    50001: "WebP",
    50002: "JPEG XL",
    52546: "JPEG XL",
}
_MOST_ENTRIES = 1000  # of a directory or of a tag; the tags that are looked at have a few
_PHOTOMETRICS = {5: "CMYK", 8: "Lab", 9: "Lab", 10: "Lab", 32803: "a sensor's mosaic", 34892: "a sensor's own colours"}
_RGB, _MOST_CHANNELS = 2, 4
# Of classic TIFF and BigTIFF: the head behind the byte order, how entries are counted, an entry, its bytes of value.
_FORMS = {42: ("HI", "H", "HHI", 4), 43: ("HHHQ", "Q", "HHQ", 8)}
_WHOLE_NUMBERS = {1: "B", 3: "H", 4: "I", 16: "Q"}
_REMEDY = "save it as TIFF of 16 bits, uncompressed or with LZW or deflate (ZIP)"


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
    written = read_directory(BytesIO(tiff), header)
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
    compression = _COMPRESSIONS.get(tags.get(_COMPRESSION, 0))
    if by_opencv and compression:
        raise RefusedError(f"{path}: a TIFF compressed with {compression}, which is not read: {_REMEDY}")
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
    if not data.startswith(_ORDERS) or _sample_format(data) != _FLOAT:
        return None
    tags = read_directory(BytesIO(data), _head(data))
    if not _are_three_floats(tags):
        return None
    check_layout(path, tags, by_opencv=True)
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None
    if pixels is None or pixels.dtype != np.float32 or pixels.ndim != 3 or pixels.shape[2] != 3:
        return None
    return np.ascontiguousarray(pixels[..., ::-1])


def float_tiff_tags(file: IO[bytes]) -> tuple[dict[int, Any], dict[int, Any], dict[int, Any]] | None:
    """Tags of the image, the exposure and the place, of a TIFF of 32-bit float; None if a file is another."""
    head = _head(file.read(_HEADER_BYTES_BIG))
    if not head.startswith(_ORDERS):
        return None
    image = read_directory(file, head)
    if not _are_three_floats(image):
        return None
    exposure, place = (
        dict(read_directory(file, head, image[part])) if isinstance(image.get(part), int) else {}
        for part in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
    )
    return dict(image), exposure, place


def read_directory(file: IO[bytes], head: bytes, place: int | None = None) -> TiffImagePlugin.ImageFileDirectory_v2:
    """The tags of a directory at a place, or of the first, in a file that begins with ``head``."""
    found = TiffImagePlugin.ImageFileDirectory_v2(head)
    file.seek(found.next if place is None else place)
    found.load(file)
    return found


def profile_of(data: bytes) -> bytes | None:
    """The colour profile of a TIFF."""
    return read_directory(BytesIO(data), _head(data)).get(_PROFILE)


def unread_kind(file: IO[bytes]) -> str:
    """What kind of TIFF a file is that is not read, and what to do; empty if it is read, or damaged, or no TIFF."""
    file.seek(0)
    try:
        tags, is_odd_big = _whole_numbers(file)
    except (struct.error, KeyError, OverflowError):
        return ""
    compression = _COMPRESSIONS.get(tags.get(_COMPRESSION, (1,))[0])
    colours = _PHOTOMETRICS.get(tags.get(_PHOTOMETRIC, (_RGB,))[0])
    bits, numbers = max(tags.get(BITS_PER_SAMPLE, (1,))), max(tags.get(_SAMPLE_FORMAT, (1,)))
    (channels, *_) = tags.get(_SAMPLES_PER_PIXEL, (1,))
    if compression:
        said = f"compressed with {compression}"
    elif colours:
        said = f"of {colours}"
    elif is_odd_big:
        said = "of more than 4 GB by its kind (BigTIFF), in big-endian order"
    elif numbers == _FLOAT and (bits, channels) == (32, 3):
        return ""
    elif numbers == _FLOAT:
        said = f"of {bits}-bit float" if bits != 32 else f"of 32-bit float with {channels} channels"
    elif numbers == _SIGNED:
        said = "of numbers with a sign"
    elif bits > 16:
        said = f"of {bits}-bit integers"
    elif channels > _MOST_CHANNELS:
        said = f"with {channels} channels"
    else:
        return ""
    return f"a TIFF {said}, which is not read: {_REMEDY}" + (", or of 32-bit float, RGB" if numbers == _FLOAT else "")


def _whole_numbers(file: IO[bytes]) -> tuple[dict[int, tuple[int, ...]], bool]:
    """Tags of whole numbers of the first directory; and whether it is a BigTIFF of the order that nobody reads."""
    order = {b"II": "<", b"MM": ">"}[file.read(2)]

    def read(form: str) -> tuple[Any, ...]:
        return struct.unpack(order + form, file.read(struct.calcsize(order + form)))

    (version,) = read("H")
    head, count_form, entry, room = _FORMS[version]
    file.seek(2)
    file.seek(read(head)[-1])
    tags: dict[int, tuple[int, ...]] = {}
    for _ in range(min(read(count_form)[0], _MOST_ENTRIES)):
        tag, kind, count = read(entry)
        value = file.tell()
        form = _WHOLE_NUMBERS.get(kind, "")
        if form and count <= _MOST_ENTRIES:
            if struct.calcsize(f"{order}{count}{form}") > room:
                file.seek(read("I" if room == 4 else "Q")[0])
            tags[tag] = read(f"{count}{form}")
        file.seek(value + room)
    return tags, version == 43 and order == ">"


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
        return int(max(read_directory(BytesIO(data), _head(data)).get(_SAMPLE_FORMAT, (1,))))
    except Exception:  # whatever Pillow makes of damage; it is told where the picture is opened
        return 1


def _are_three_floats(tags: Mapping[int, Any]) -> bool:
    return (
        set(tags.get(_SAMPLE_FORMAT, ())) == {_FLOAT}
        and set(tags.get(BITS_PER_SAMPLE, ())) == {32}
        and tags.get(_SAMPLES_PER_PIXEL) == 3
    )


def _head(data: bytes) -> bytes:
    return data[: _HEADER_BYTES_BIG if data.startswith(b"II+\0") else _HEADER_BYTES]
