"""Pictures as data URIs, so that a page needs no other file."""

from __future__ import annotations

import base64
import io

import matplotlib
import numpy as np
import numpy.typing as npt
from PIL import Image

from captum_ext.plot.attributions import COLOUR_MAP

JPEG_QUALITY = 80


def jpeg_uri(pixels: npt.NDArray[np.uint8], longest_side: int) -> str:
    """Return a picture as a JPEG in a data URI.

    Parameters
    ----------
    pixels
        Shape (H, W, 1) or (H, W, 3).
    longest_side
        Larger pictures are made smaller.

    Examples
    --------
    >>> jpeg_uri(np.zeros((8, 8, 3), np.uint8), 4)[:23]
    'data:image/jpeg;base64,'
    """
    image = Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels)
    image.thumbnail((longest_side, longest_side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, format="jpeg", quality=JPEG_QUALITY, optimize=True)
    return _uri("image/jpeg", buffer.getvalue())


def map_uri(strength: npt.NDArray[np.uint8], longest_side: int) -> str:
    """Return a map of shape (H, W) in colours, as a JPEG in a data URI."""
    # Made smaller before it is coloured: a mean of colours is no colour of the scale.
    image = Image.fromarray(strength)
    image.thumbnail((longest_side, longest_side), Image.Resampling.BOX)
    colours = matplotlib.colormaps[COLOUR_MAP](np.asarray(image), bytes=True)[..., :3]
    return jpeg_uri(np.ascontiguousarray(colours), longest_side)


def png_uri(content: bytes) -> str:
    """Return a PNG file's content as a data URI."""
    return _uri("image/png", content)


def _uri(media_type: str, content: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"
