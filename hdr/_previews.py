"""Pictures to look at: tone-mapped, or display values as they are, in sRGB."""

from __future__ import annotations

import os
import warnings
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hdr._errors import RefusedError
from hdr._extras import extras_named
from hdr._files import known_suffix, written_whole
from hdr._images import check_tensor
from hdr._picture_files import PREVIEW_SUFFIXES, TIFF_SUFFIXES
from hdr._profiles import srgb_profile
from hdr._radiance import channels_last, check_radiance
from hdr._tiff import encode_tiff
from hdr.settings import Operator
from hdr.tonemap import tonemap

with extras_named():
    from PIL import Image

MOST_EXIF_BYTES = 65_533
"""What fits into a JPEG, whose segments count their bytes, and the two of that count, in 16 bits."""
_ROUNDING = 1e-6  # of float32: less than a tenth of a level of 16 bits
_JPEG_QUALITY = 95
_ROWS_AT_ONCE = 256


def write_preview(
    path: str | os.PathLike[str],
    radiance: Tensor,
    operator: Operator = "reinhard",
    *,
    exif: bytes | None = None,
    overwrite: bool = False,
) -> None:
    """Tone-map radiance and write it as a picture, whole or not at all.

    Arguments and errors are those of :func:`write_image`, but for these.

    Parameters
    ----------
    radiance
        Shape (3, H, W), finite, >= 0; anything else is a ValueError.
    operator
        ``"reinhard"``, ``"mu-law"`` or ``"local"``, see :func:`hdr.tonemap.tonemap`.
    """
    check_radiance(radiance, "radiance")
    write_image(path, tonemap(radiance.detach().cpu(), operator), exif=exif, overwrite=overwrite)


def write_image(
    path: str | os.PathLike[str], image: Tensor, *, exif: bytes | None = None, overwrite: bool = False
) -> None:
    """Write display values as an sRGB picture, whole or not at all.

    Parameters
    ----------
    path
        .tif or .tiff for 16 bits per channel, .png or .jpg for 8.
    image
        Shape (3, H, W), finite, in [0, 1].
    exif
        EXIF data to carry, see :func:`hdr.exif.carried_exif`.
    overwrite
        Whether an existing file may be replaced.

    Raises
    ------
    FileExistsError
        If the file exists and ``overwrite`` is False.
    OSError
        If the operating system does not let it be written.
    ValueError
        If the suffix is another, or the image is not as above.
    """
    path = Path(path)
    suffix = known_suffix(path, PREVIEW_SUFFIXES, "previews are written to")
    _check_display_values(image)
    depth = np.uint16 if suffix in TIFF_SUFFIXES else np.uint8
    pixels = _as_levels(image.detach(), depth)
    data = (
        encode_tiff(pixels, srgb_profile(), exif) if depth is np.uint16 else _encode_with_pillow(suffix, pixels, exif)
    )
    with written_whole(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(data)


def _check_display_values(image: Tensor) -> None:
    check_tensor(image, "a picture")
    if image.ndim != 3 or image.shape[0] != 3 or image.numel() == 0:
        raise RefusedError(f"expected a picture of shape (3, H, W), got {tuple(image.shape)}")
    outside = int((~((image >= -_ROUNDING) & (image <= 1 + _ROUNDING))).sum())  # NaN is not inside
    if outside:
        raise RefusedError(
            f"{outside} of {image.numel()} values of the picture are NaN or outside of [0, 1]; tone-map radiance "
            "first, or clip"
        )


def _encode_with_pillow(suffix: str, pixels: NDArray[Any], exif: bytes | None) -> bytes:
    # A profile, so that no program has to guess; and full chroma, for lamps and signs at night.
    settings: dict[str, Any] = {"icc_profile": srgb_profile()}
    if exif is not None and suffix != ".png" and len(exif) > MOST_EXIF_BYTES:
        exif = None  # the picture is worth more than what it says of itself
        warnings.warn(f"a {suffix} file is written without EXIF data, which is too long for it", stacklevel=4)
    if exif is not None:
        settings["exif"] = exif
    if suffix != ".png":
        settings |= {"quality": _JPEG_QUALITY, "subsampling": 0}
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG" if suffix == ".png" else "JPEG", **settings)
    return file.getvalue()


def _as_levels(image: Tensor, depth: type[np.uint8] | type[np.uint16]) -> NDArray[Any]:
    """Display values (3, H, W) as whole levels (H, W, 3), row by row, so that no second image of floats is held."""
    pixels = np.empty((*image.shape[1:], 3), depth)
    for begin in range(0, len(pixels), _ROWS_AT_ONCE):
        # In float32: half precision holds neither 65535 nor what lies between.
        levels = image[:, begin : begin + _ROWS_AT_ONCE].cpu().float() * np.iinfo(depth).max
        pixels[begin : begin + _ROWS_AT_ONCE] = channels_last(levels.round_())
    return pixels
