"""Photographs: 8- and 16-bit TIFF, PNG, JPEG, AVIF and HEIC, and linear light in floating-point files."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hdr._errors import RefusedError
from hdr._extras import extras_named
from hdr._picture_files import RADIANCE_SUFFIXES, damage_reported, decode_with_opencv, is_raw, opened_image
from hdr._profiles import primaries_matrix, profile_matrix, profile_of_tiff
from hdr._radiance import as_radiance, read_linear
from hdr._tiff import BITS_PER_SAMPLE, check_layout, decode_float_tiff, holds_signed
from hdr._transfer import coded_primaries, hdr_transfer
from hdr.radiometry import ADOBE_RGB, REC709

with extras_named():
    from PIL import ExifTags, Image, ImageOps, JpegImagePlugin

_FLOAT_LEVELS = 2**24
_DCF_OPTIONAL = "R03"  # by which EXIF data say Adobe RGB
_JPEG_SAMPLINGS = {1: (False, True), 2: (True, True)}  # by Pillow's numbers: 4:2:2, 4:2:0
# EXIF's orientations in which rows become columns, and in which rows and columns are then in reverse.
_ON_ITS_SIDE, _UPSIDE_DOWN, _MIRRORED = (5, 6, 7, 8), (3, 4, 7, 8), (2, 3, 6, 7)
_SAME_GAMMA = 0.02  # programs write 1 with an error of rounding, and no curve is as near to it
_PNG_BIT_DEPTH_OFFSET = 24  # the signature, the length and name of IHDR, width and height come first
_GREY_MODES = ("L", "I", "I;16", "I;16B", "I;16L")  # "I" is what some releases of Pillow call 16 bits
_REFUSED_MODES = {
    "1": "a black and white image",
    "F": "a grey image of floating-point numbers",
    "RGBX": "an image with a fourth channel",
    "LA": "a grey image with an alpha channel",
    "PA": "a palette image with an alpha channel",
    "P": "a palette image",
    "CMYK": "a CMYK image",
}


def read_ldr(path: str | os.PathLike[str]) -> Tensor:
    """Read a photograph upright, in the full depth of TIFF, PNG and JPEG.

    Parameters
    ----------
    path
        An RGB or grey picture of 8 or 16 bits per channel: TIFF, PNG, JPEG; or AVIF or HEIC (``captum-ext[raw]``), of
        which 8 bits are read, whatever they hold; or linear light in [0, 1]: TIFF of 32-bit float, .exr and .hdr. The
        orientation that the camera wrote down is honoured; colours stay those of the file's profile, for which
        :func:`read_photograph` has a matrix; an opaque alpha channel is dropped with a warning.

    Returns
    -------
    Tensor
        Shape (3, H, W), float32 in [0, 1], channels red, green, blue; three equal ones of a grey picture.

    Raises
    ------
    OSError
        If the file cannot be opened.
    ValueError
        If it is truncated, camera raw, no picture of these kinds, transparent, has channels other than RGB or grey,
        values that it says are PQ or HLG, or linear light outside of [0, 1].

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from hdr.io import write_preview
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = pathlib.Path(folder.name, "grey.png")
    >>> write_preview(path, torch.full((3, 20, 30), 0.5), "mu-law")
    >>> read_ldr(path).shape
    torch.Size([3, 20, 30])
    >>> folder.cleanup()
    """
    return read_photograph(path).image


class Photograph(NamedTuple):
    """A photograph, and what its file says about the values."""

    image: Tensor
    """Shape (3, H, W), float32 in [0, 1]."""
    levels: int
    """Largest level of the file, 255 or 65535; of floating-point files that of float32's precision."""
    linear: bool
    """Whether the values are linear light by the kind of the file, or by the gamma that a PNG says."""
    profile: str = ""
    """Name of a colour profile that is not sRGB's; empty if there is none."""
    to_rec709: Tensor | None = None
    """Shape (3, 3): from linear light of that profile to linear Rec. 709; None if it is that, or has no such matrix."""
    chroma_halved: tuple[bool, bool] | None = None
    """Whether the file says that it keeps half as many rows, and half as many columns, of colour, upright; else None.

    So of a JPEG of 4:4:4, whose colours may have been halved before an editor wrote it.
    """


def read_photograph(path: str | os.PathLike[str]) -> Photograph:
    """Read a photograph upright; files and errors are those of :func:`read_ldr`."""
    path = Path(path)
    if is_raw(path):
        raise RefusedError(f"{path}: camera raw, which hdr.raw.read_raw reads")
    if path.suffix.lower() in RADIANCE_SUFFIXES:
        return _linear(path, *read_linear(path))
    data = path.read_bytes()
    light = decode_float_tiff(path, data)
    if light is not None:
        colours = profile_matrix(path, profile_of_tiff(path, data))
        return _linear(path, as_radiance(path, light), *colours)
    with opened_image(path, data) as image:
        _check_photograph(path, image)
        _check_transfer(path, data)
        with damage_reported(path):
            bits, orientation = _bits_per_channel(image, data), _orientation_left(image)
            # Loading it all finds truncation, which OpenCV passes over, also in 16-bit files that OpenCV decodes.
            upright = ImageOps.exif_transpose(image)
        if bits > 8 and bits != 16:
            raise RefusedError(f"{path}: {bits} bits per channel; photographs must have 8 or 16: convert it first")
        if image.format == "TIFF" and holds_signed(data):
            raise RefusedError(f"{path}: numbers with a sign; photographs must have none: convert it first")
        if image.format == "TIFF":
            check_layout(path, image.tag_v2, by_opencv=bits == 16)  # type: ignore[attr-defined]
        pixels = np.array(_without_alpha(path, upright))
        (profile, to_rec709), chroma_halved = _colours(path, image, data), _chroma_halved(image)
        linear = _is_linear_png(image, data)
    if bits == 16:
        pixels = _upright(decode_with_opencv(path, data), orientation)
    levels = int(np.iinfo(pixels.dtype).max)
    scaled = torch.from_numpy(pixels).permute(2, 0, 1).to(torch.float32).div_(levels).contiguous()
    return Photograph(scaled, levels, linear, profile, to_rec709, chroma_halved)


def shared_chroma(photographs: Sequence[Photograph]) -> tuple[bool, bool] | None:
    """What all photographs of a bracket say of the resolution of their colours; None if one says nothing or another."""
    said = {photograph.chroma_halved for photograph in photographs}
    return said.pop() if len(said) == 1 else None


def _linear(path: Path, light: Tensor, profile: str, to_rec709: Tensor | None) -> Photograph:
    brightest = float(light.max())
    if brightest > 1:
        raise RefusedError(
            f"{path}: linear light up to {brightest:g}; as an exposure of a bracket it has to lie in [0, 1], where 1 "
            "is the camera's white: divide all exposures by that"
        )
    return Photograph(light, _FLOAT_LEVELS, linear=True, profile=profile, to_rec709=to_rec709)


def _check_photograph(path: Path, image: Image.Image) -> None:
    if image.format not in ("TIFF", "PNG", "JPEG", "MPO", "AVIF", "HEIF"):
        raise RefusedError(f"{path}: a {image.format} file; photographs are read from TIFF, PNG, JPEG, AVIF and HEIC")
    if image.mode not in ("RGB", "RGBA", *_GREY_MODES):
        kind = _REFUSED_MODES.get(image.mode, f"an image of mode {image.mode}")
        raise RefusedError(f"{path}: {kind}; photographs must be RGB or grey, and opaque: convert it first")
    if "transparency" in image.info:
        raise RefusedError(f"{path}: an image with a transparent colour; photographs must be opaque")


def _check_transfer(path: Path, data: bytes) -> None:
    transfer = hdr_transfer(data)
    if transfer:
        raise RefusedError(
            f"{path}: its values are {transfer}, for a display that shows HDR; photographs must have the camera's own "
            "curve: give its raw files, or convert it first"
        )


def _colours(path: Path, image: Image.Image, data: bytes) -> tuple[str, Tensor | None]:
    """Name of colours other than Rec. 709, and the matrix to that.

    They are told by a profile, by number, or by EXIF data. In PNG the number comes first, and behind the profile stand
    the word that it is sRGB and primaries (third edition, 4.3).
    """
    coded, profile = coded_primaries(data), image.info.get("icc_profile")
    if profile and (coded is None or image.format != "PNG"):
        return profile_matrix(path, profile)
    if image.format == "PNG" and coded is None:
        white_first = image.info.get("chromaticity", ())
        told = (*white_first[2:], *white_first[:2])
        coded = REC709 if "srgb" in image.info else told if len(told) == len(REC709) else None
    return primaries_matrix(path, ADOBE_RGB if coded is None and _is_of_adobe_rgb(image) else coded)


def _is_linear_png(image: Image.Image, data: bytes) -> bool:
    """Whether a PNG says by its gamma alone that its values are linear light."""
    said_otherwise = coded_primaries(data) is not None or image.info.get("icc_profile") or "srgb" in image.info
    return image.format == "PNG" and not said_otherwise and abs(image.info.get("gamma", 0) - 1) < _SAME_GAMMA


def _is_of_adobe_rgb(image: Image.Image) -> bool:
    """Whether EXIF data say that colours are of DCF's other space (JEITA CP-3461), as cameras do without a profile."""
    try:
        index = image.getexif().get_ifd(ExifTags.IFD.Interop).get(ExifTags.Interop.InteropIndex)
    except Exception:  # whatever Pillow makes of damage, which no more than this depends on
        return False
    return isinstance(index, str) and index.strip("\0 ") == _DCF_OPTIONAL


def _without_alpha(path: Path, image: Image.Image) -> Image.Image:
    if image.mode != "RGBA":
        return image.convert("RGB") if image.mode in _GREY_MODES else image
    least, _ = image.getchannel("A").getextrema()
    if least != 255:
        raise RefusedError(f"{path}: an image with an alpha channel, transparent in parts; photographs must be opaque")
    warnings.warn(f"{path}: its alpha channel, opaque all over, is dropped", stacklevel=4)
    return image.convert("RGB")


def _chroma_halved(image: Image.Image) -> tuple[bool, bool] | None:
    """Whether a JPEG says that it keeps half as many rows or columns of colour as of brightness, once upright."""
    if not isinstance(image, JpegImagePlugin.JpegImageFile):
        return None
    halved = _JPEG_SAMPLINGS.get(JpegImagePlugin.get_sampling(image))
    turned = image.getexif().get(ExifTags.Base.Orientation) in _ON_ITS_SIDE
    return halved[::-1] if halved and turned else halved


def _orientation_left(image: Image.Image) -> object:
    """The orientation that Pillow knows, from EXIF data of all kinds and XMP, unless OpenCV honours it already."""
    if image.format == "TIFF" and ExifTags.Base.Orientation in image.tag_v2:  # type: ignore[attr-defined]
        return None
    return image.getexif().get(ExifTags.Base.Orientation)


def _upright(pixels: NDArray[Any], orientation: object) -> NDArray[Any]:
    """Pixels (H, W, 3) turned and mirrored as an orientation of EXIF says."""
    if orientation in _ON_ITS_SIDE:
        pixels = pixels.swapaxes(0, 1)
    if orientation in _UPSIDE_DOWN:
        pixels = pixels[::-1]
    if orientation in _MIRRORED:
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _bits_per_channel(image: Image.Image, data: bytes) -> int:
    # Pillow shows 16-bit RGB as 8-bit RGB, so its mode does not tell.
    if image.format == "PNG":
        return data[_PNG_BIT_DEPTH_OFFSET]
    if image.format == "TIFF":
        return int(max(image.tag_v2[BITS_PER_SAMPLE]))  # type: ignore[attr-defined]
    return 8
