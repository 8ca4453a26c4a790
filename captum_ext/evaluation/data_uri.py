"""Images as small files in memory, and these as data URIs, so that a page needs no other file."""

from __future__ import annotations

import base64
import io

import matplotlib
import numpy as np
import numpy.typing as npt
from PIL import Image

from captum_ext.plot.attributions import COLOUR_MAP

JPEG_QUALITY = 80
MAP_PIXELS = 150
"""The longest side of a map on the page; of an image it is twice as long."""


def jpeg(pixels: npt.NDArray[np.uint8], longest_side: int = 2 * MAP_PIXELS) -> bytes:
    """Return an image of shape (H, W, 1) or (H, W, 3) as a JPEG; a larger one is made smaller."""
    image = Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels)
    image.thumbnail((longest_side, longest_side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, format="jpeg", quality=JPEG_QUALITY, optimize=True)
    return buffer.getvalue()


def png(strength: npt.NDArray[np.uint8]) -> bytes:
    """Return a map of shape (H, W) as a grey PNG; a larger one is made smaller."""
    image = Image.fromarray(strength)
    # Made smaller before it is coloured: a mean of colours is no colour of the scale.
    image.thumbnail((MAP_PIXELS, MAP_PIXELS), Image.Resampling.BOX)
    buffer = io.BytesIO()
    image.save(buffer, format="png")
    return buffer.getvalue()


def data_uri(media_type: str, content: bytes) -> str:
    """Return a file's content as a data URI.

    Examples
    --------
    >>> data_uri("image/png", b"PNG")
    'data:image/png;base64,UE5H'
    """
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def map_uri(grey: bytes) -> str:
    """Return what `png` made, in colours, as a data URI.

    Examples
    --------
    >>> map_uri(png(np.zeros((8, 8), np.uint8)))[:23]
    'data:image/jpeg;base64,'
    """
    with Image.open(io.BytesIO(grey)) as image:
        colours = matplotlib.colormaps[COLOUR_MAP](np.asarray(image), bytes=True)[..., :3]
    return data_uri("image/jpeg", jpeg(np.ascontiguousarray(colours)))
