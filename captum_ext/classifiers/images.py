"""Reading images from files: upright, in eight-bit RGB, or a clear refusal."""

from __future__ import annotations

import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from captum_ext._errors import RefusedError

MAX_ASPECT_RATIO = 100
"""Thinner images are refused: resizing their short side to a model's size would take gigabytes."""


class ImageFileError(RefusedError):
    """A file cannot be read as an image; the message says which and why."""


def read_image(path: Path) -> Image.Image:
    """Read an image, turned as its EXIF orientation says, in mode RGB.

    Transparency is laid on white, and of an animation the first frame is taken.

    Parameters
    ----------
    path
        A file of any format that Pillow reads.

    Raises
    ------
    ImageFileError
        The file is missing, a directory, unreadable, damaged, empty, too large or too thin, or holds floating point
        pixels, whose range is unknown.

    Examples
    --------
    >>> read_image(Path("no-such-image.jpg"))
    Traceback (most recent call last):
    captum_ext.classifiers.images.ImageFileError: no-such-image.jpg: there is no such file.
    """
    if path.is_dir():
        raise ImageFileError(f"{path}: is a directory; name the images in it, for instance {path}/*.jpg.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                width, height = image.size
                if max(image.size) > MAX_ASPECT_RATIO * min(
                    image.size
                ):  # of a line no resized picture has anything left
                    raise ImageFileError(
                        f"{path}: is {width} x {height} pixels; sides may differ by a factor of {MAX_ASPECT_RATIO} at "
                        "most, crop it first."
                    )
                return _to_rgb(path, ImageOps.exif_transpose(image))
    except FileNotFoundError:
        raise ImageFileError(f"{path}: there is no such file.") from None
    except UnidentifiedImageError:
        raise ImageFileError(f"{path}: is not an image in a format that Pillow reads (JPEG, PNG, WebP ...).") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        # Pillow's own limit against files that unpack to gigabytes.
        raise ImageFileError(
            f"{path}: has more than {Image.MAX_IMAGE_PIXELS:,} pixels; make it smaller first."
        ) from None
    except ImageFileError:
        raise
    except (OSError, SyntaxError, EOFError, ValueError, struct.error, zlib.error) as error:  # all of Pillow's own
        raise ImageFileError(f"{path}: cannot be read: {error}.") from error


def _to_rgb(path: Path, image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ImageFileError(f"{path}: holds floating point pixels of unknown range; convert it to 8 or 16 bits.")
    if image.mode.startswith("I"):
        # Pillow clips 16 bits to 8 where it should divide.
        sixteen_bits = np.asarray(image).astype(np.float64)
        return Image.fromarray((sixteen_bits / 257).round().clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        opaque = Image.new("RGBA", image.size, "white")
        opaque.alpha_composite(image.convert("RGBA"))
        return opaque.convert("RGB")
    return image.convert("RGB")
