"""Picture files: what they are by their names, and how they are opened."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hdr._errors import RefusedError
from hdr._extras import extras_named
from hdr._tiff import unread_kind

with extras_named():
    import cv2
    from PIL import Image, UnidentifiedImageError

RADIANCE_SUFFIXES = (".hdr", ".exr")
"""Files that hold radiance by their name."""
TIFF_SUFFIXES = (".tif", ".tiff")
"""Files that may hold radiance, or a photograph, or a picture for a display."""
PREVIEW_SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg")
RAW_SUFFIXES = (
    *(".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dng", ".erf", ".iiq", ".kdc", ".mef", ".mos", ".mrw"),
    *(".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".srw", ".x3f"),
)
HEIF_SUFFIXES = (".heic", ".heif", ".hif")


def is_raw(path: str | os.PathLike[str]) -> bool:
    """Whether a name ends as the raw files of a camera do."""
    return Path(path).suffix.lower() in RAW_SUFFIXES


class DamagedError(RefusedError):
    """What Pillow raised about a file."""


@contextmanager
def damage_reported(path: str | os.PathLike[str]) -> Iterator[None]:
    """Context in which what Pillow raises about a file becomes a ValueError that names the file."""
    try:
        yield
    except MemoryError:
        raise
    except Image.DecompressionBombError as error:
        raise RefusedError(
            f"{path}: damaged, or of more pixels than are read: make it smaller first ({error})"
        ) from error
    except Exception as error:  # OSError, SyntaxError, ValueError, TypeError, struct.error and more, by the damage
        reason = "" if isinstance(error, UnidentifiedImageError) else f" ({error})"
        raise DamagedError(
            f"{path}: damaged, or not a picture of 8 or 16 bits as TIFF, PNG, JPEG, HEIC or AVIF{reason}"
        ) from error


@contextmanager
def opened_image(path: Path, data: bytes | None = None) -> Iterator[Image.Image]:
    """Context of a picture opened by Pillow; what is damaged or unknown is a ValueError that names the file.

    Without ``data``, which are all of its bytes, the file is read only as far as is looked at it.
    """
    if path.suffix.lower() in HEIF_SUFFIXES:
        with extras_named():
            import pi_heif  # which only reads: pillow_heif brings an encoder under the GPL
        pi_heif.register_heif_opener()
    with path.open("rb") if data is None else BytesIO(data) as file:
        try:
            with damage_reported(path):
                image = Image.open(file)
            with image:
                yield image
        except DamagedError as error:
            with path.open("rb") if data is None else BytesIO(data) as anew:
                kind = unread_kind(anew)
            if kind:  # whole as it may be, Pillow does not know it
                raise RefusedError(f"{path}: {kind}") from error
            raise


def decode_with_opencv(path: Path, data: bytes) -> NDArray[Any]:
    """RGB as stored, but for a TIFF, of which OpenCV honours the tag of its orientation whatever it is told."""
    # From memory: OpenCV 5.0 cannot read an oriented 16-bit TIFF from a file, and it prints instead of raising.
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    except cv2.error as error:
        raise RefusedError(f"{path}: damaged ({error.err})") from error
    if pixels is None:
        raise RefusedError(f"{path}: damaged, or not a {path.suffix} file")
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
