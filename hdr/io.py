"""Reading photographs, reading and writing radiance, writing previews.

Photographs are 8- and 16-bit TIFF, PNG, JPEG, AVIF and HEIC, and linear light in floating-point TIFF; radiance is .hdr
(Radiance RGBE), .exr (OpenEXR) and floating-point TIFF. Whatever is written is written whole or not at all.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hdr._errors import RefusedError
from hdr._extras import extras_named
from hdr._files import known_suffix, written_whole
from hdr._icc import linear_rec709_profile
from hdr._images import check_tensor
from hdr._tiff import (
    BITS_PER_SAMPLE,
    IMAGE_DESCRIPTION,
    NITS_OF_ONE,
    SOFTWARE,
    decode_float_tiff,
    encode_tiff,
    holds_signed,
    profile_of,
)
from hdr._transfer import hdr_transfer
from hdr.geometry import transformed
from hdr.radiometry import REC709
from hdr.settings import Operator
from hdr.tonemap import tonemap

with extras_named():
    import cv2
    import OpenEXR
    from PIL import ExifTags, Image, ImageCms, ImageOps, JpegImagePlugin, UnidentifiedImageError

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
MOST_EXIF_BYTES = 65_533
"""What fits into a JPEG, whose segments count their bytes, and the two of that count, in 16 bits."""

_FLOAT_LEVELS = 2**24
_SAME_COLOURS = 1e-3  # of XYZ: profiles are rounded
_ROUNDING = 1e-6  # of float32: less than a tenth of a level of 16 bits
_JPEG_SAMPLINGS = {1: (False, True), 2: (True, True)}  # by Pillow's numbers: 4:2:2, 4:2:0
_ON_ITS_SIDE = (5, 6, 7, 8)  # EXIF's orientations in which rows become columns
_JPEG_QUALITY = 95
_ROWS_AT_ONCE = 256
_PNG_BIT_DEPTH_OFFSET = 24  # the signature, the length and name of IHDR, width and height come first
_RADIANCE_EFFICACY = 179.0  # lm/W of equal-energy white, by which Radiance converts; values over EXPOSURE are W/sr/m^2
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
    """Whether the values are linear light by the kind of the file."""
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
        return _linear(path, read_radiance(path))
    data = path.read_bytes()
    light = decode_float_tiff(data)
    if light is not None:
        linear = _linear(path, torch.from_numpy(light).permute(2, 0, 1).contiguous())
        profile, to_rec709 = _profile(path, _profile_of_tiff(path, data))
        return linear._replace(profile=profile, to_rec709=to_rec709)
    with opened_image(path, data) as image:
        _check_photograph(path, image)
        _check_transfer(path, data)
        with damage_reported(path):
            bits = _bits_per_channel(image, data)
            # Loading it all finds truncation, which OpenCV passes over, also in 16-bit files that OpenCV decodes.
            upright = ImageOps.exif_transpose(image)
        if bits > 8 and bits != 16:
            raise RefusedError(f"{path}: {bits} bits per channel; photographs must have 8 or 16: convert it first")
        if image.format == "TIFF" and holds_signed(data):
            raise RefusedError(f"{path}: numbers with a sign; photographs must have none: convert it first")
        pixels = np.array(_without_alpha(path, upright))
        (profile, to_rec709), chroma_halved = _profile(path, image.info.get("icc_profile")), _chroma_halved(image)
    if bits == 16:
        pixels = _decode_with_opencv(path, data)
    levels = int(np.iinfo(pixels.dtype).max)
    scaled = torch.from_numpy(pixels).permute(2, 0, 1).to(torch.float32).div_(levels).contiguous()
    return Photograph(scaled, levels, False, profile, to_rec709, chroma_halved)


def shared_chroma(photographs: Sequence[Photograph]) -> tuple[bool, bool] | None:
    """What all photographs of a bracket say of the resolution of their colours; None if one says nothing or another."""
    said = {photograph.chroma_halved for photograph in photographs}
    return said.pop() if len(said) == 1 else None


def read_radiance(path: str | os.PathLike[str]) -> Tensor:
    """Read linear radiance.

    Parameters
    ----------
    path
        A .hdr or .exr file, or TIFF of 32-bit float. Of an .exr file the channels R, G and B are read, whatever else
        there is; of a TIFF the colours of a profile become Rec. 709, and what lies outside is clipped at 0.

    Returns
    -------
    Tensor
        Shape (3, H, W), float32, finite, >= 0.

    Raises
    ------
    OSError
        If the file cannot be opened.
    ValueError
        If it is damaged, has no R, G and B, or has NaN, infinite or negative values.
    """
    path = Path(path)
    suffix = known_suffix(path, (*RADIANCE_SUFFIXES, *TIFF_SUFFIXES), "radiance is read from")
    data = path.read_bytes()
    if suffix in TIFF_SUFFIXES:
        return _radiance_of_tiff(path, data)
    # OpenCV goes by the content: of a PNG with another name it would make radiance from 0 to 255.
    if suffix == ".hdr" and not data.startswith(b"#?"):
        raise RefusedError(f"{path}: damaged, or not a Radiance .hdr file")
    pixels = _decode_with_opencv(path, data) if suffix == ".hdr" else _read_exr(path)
    radiance = torch.from_numpy(pixels).permute(2, 0, 1).to(torch.float32).contiguous()
    check_radiance(radiance, str(path))
    return radiance


def write_radiance(
    path: str | os.PathLike[str],
    radiance: Tensor,
    *,
    half: bool = False,
    attributes: Mapping[str, str | float] | None = None,
    exif: bytes | None = None,
    overwrite: bool = False,
) -> None:
    """Write linear radiance, whole or not at all.

    Parameters
    ----------
    path
        Ends in .hdr (8 bits of mantissa with a common exponent, 0.4 % steps), or in .exr or .tif (32-bit float, exact).
    radiance
        Shape (3, H, W), linear Rec. 709, which all formats are told; finite, >= 0.
    half
        16-bit float in an .exr file: half the size, 11 bits of precision, at most 65504.
    attributes
        Words and numbers for the header of an .exr file, by name, such as ``expTime`` and ``comments``. Of these a .hdr
        file is told ``whiteLuminance``, the candela per square metre of 1, as ``EXPOSURE``; and a .tif file that as
        ``StoNits``, ``comments`` and ``software``.
    exif
        EXIF data for a .tif file, see :func:`hdr.exif.carried_exif`; the others have no place for them.
    overwrite
        Whether an existing file may be replaced.

    Raises
    ------
    FileExistsError
        If the file exists and ``overwrite`` is False.
    OSError
        If the operating system does not let it be written.
    ValueError
        If the suffix is another, the radiance is not as above, or too large for the file's floats.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = pathlib.Path(folder.name, "scene.exr")
    >>> radiance = torch.rand(3, 20, 30)
    >>> write_radiance(path, radiance)
    >>> torch.equal(read_radiance(path), radiance)
    True
    >>> folder.cleanup()
    """
    path = Path(path)
    suffix = known_suffix(path, (*RADIANCE_SUFFIXES, *TIFF_SUFFIXES), "radiance is written to")
    check_radiance(radiance, "radiance")
    if half and suffix != ".exr":
        raise RefusedError(f"{path}: only .exr files hold 16-bit float; leave half out")
    precision = np.finfo(np.float16 if half else np.float32)
    brightest, largest = float(radiance.max()), float(precision.max)
    if brightest > largest:
        raise RefusedError(
            f"{path}: radiance of {brightest:g} is too large for {precision.bits}-bit float ({largest:.6g})"
        )
    pixels, told = _channels_last(radiance).astype(precision.dtype, copy=False), attributes or {}
    with written_whole(path, overwrite=overwrite) as temporary:
        if suffix == ".hdr":
            _write_hdr(temporary, pixels, told.get("whiteLuminance"))
        elif suffix == ".exr":
            _write_exr(temporary, pixels, told)
        else:
            temporary.write_bytes(encode_tiff(pixels, linear_rec709_profile(), exif, _tags(told)))


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
        encode_tiff(pixels, _srgb_profile(), exif) if depth is np.uint16 else _encode_with_pillow(suffix, pixels, exif)
    )
    with written_whole(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(data)


def check_radiance(radiance: Tensor, name: str) -> None:
    """Raise an error that begins with ``name`` unless ``radiance`` is a tensor (3, H, W), finite and not negative."""
    check_tensor(radiance, name)
    if radiance.ndim != 3 or radiance.shape[0] != 3 or radiance.numel() == 0:
        raise RefusedError(f"{name}: expected radiance of shape (3, H, W), got {tuple(radiance.shape)}")
    undefined = int((~torch.isfinite(radiance)).sum())
    if undefined:
        raise RefusedError(
            f"{name}: {undefined} of {radiance.numel()} values are NaN or infinite; radiance must be finite, repair "
            "them first"
        )
    negative = int((radiance < 0).sum())
    if negative:
        raise RefusedError(
            f"{name}: {negative} of {radiance.numel()} values are negative; radiance must be >= 0, clip or repair "
            "them first"
        )


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


@contextmanager
def damage_reported(path: str | os.PathLike[str]) -> Iterator[None]:
    """Context in which what Pillow raises about a file becomes a ValueError that names the file."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # OSError, SyntaxError, ValueError, TypeError, struct.error and more, by the damage
        reason = "" if isinstance(error, UnidentifiedImageError) else f" ({error})"
        raise RefusedError(
            f"{path}: damaged, or not a picture of 8 or 16 bits as TIFF, PNG, JPEG, HEIC or AVIF{reason}"
        ) from error


def is_raw(path: str | os.PathLike[str]) -> bool:
    """Whether a name ends as the raw files of a camera do."""
    return Path(path).suffix.lower() in RAW_SUFFIXES


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
        with damage_reported(path):
            image = Image.open(file)
        with image:
            yield image


def _linear(path: Path, light: Tensor) -> Photograph:
    check_radiance(light, str(path))
    brightest = float(light.max())
    if brightest > 1:
        raise RefusedError(
            f"{path}: linear light up to {brightest:g}; as an exposure of a bracket it has to lie in [0, 1], where 1 "
            "is the camera's white: divide all exposures by that"
        )
    return Photograph(light, _FLOAT_LEVELS, linear=True)


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


def _profile(path: Path, data: bytes | None) -> tuple[str, Tensor | None]:
    """Name of a colour profile of other primaries than Rec. 709, and the matrix from its linear light to that."""
    if not data:
        return "", None
    try:
        profile = ImageCms.ImageCmsProfile(BytesIO(data))
        name = ImageCms.getProfileDescription(profile).strip() or "without a name"
    except (ImageCms.PyCMSError, OSError):
        profile, name = None, "damaged"
    if "srgb" in name.lower():
        return "", None
    ours = _colorants(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")))
    theirs = None if profile is None else _colorants(profile)
    if theirs is None or ours is None:
        warnings.warn(f"{path}: its colour profile ({name}) is not applied, for it has no matrix", stacklevel=4)
        return name, None
    if np.abs(theirs - ours).max() < _SAME_COLOURS:
        return "", None
    return name, torch.from_numpy(np.linalg.inv(ours) @ theirs).float()


def _radiance_of_tiff(path: Path, data: bytes) -> Tensor:
    pixels = decode_float_tiff(data)
    if pixels is None:
        raise RefusedError(
            f"{path}: damaged, or not a TIFF of three channels of 32-bit float, which radiance is read from"
        )
    radiance = torch.from_numpy(pixels).permute(2, 0, 1).contiguous()
    check_radiance(radiance, str(path))
    _, to_rec709 = _profile(path, _profile_of_tiff(path, data))
    return radiance if to_rec709 is None else transformed(to_rec709, radiance).clamp_min_(0)


def _profile_of_tiff(path: Path, data: bytes) -> bytes | None:
    with damage_reported(path):
        return profile_of(data)


def _tags(attributes: Mapping[str, str | float]) -> dict[int, str | float]:
    """What of OpenEXR's attributes TIFF has tags for."""
    names = {"comments": IMAGE_DESCRIPTION, "software": SOFTWARE, "whiteLuminance": NITS_OF_ONE}
    return {tag: attributes[name] for name, tag in names.items() if name in attributes}


def _colorants(profile: ImageCms.ImageCmsProfile) -> NDArray[Any] | None:
    """XYZ of red, green and blue as columns, in the profiles' own white (D50); None if it is built otherwise."""
    columns = [getattr(profile.profile, f"{colour}_colorant") for colour in ("red", "green", "blue")]
    return None if None in columns else np.array([column[0] for column in columns]).T


def _bits_per_channel(image: Image.Image, data: bytes) -> int:
    # Pillow shows 16-bit RGB as 8-bit RGB, so its mode does not tell.
    if image.format == "PNG":
        return data[_PNG_BIT_DEPTH_OFFSET]
    if image.format == "TIFF":
        return int(max(image.tag_v2[BITS_PER_SAMPLE]))  # type: ignore[attr-defined]
    return 8


def _decode_with_opencv(path: Path, data: bytes) -> NDArray[Any]:
    # From memory: OpenCV 5.0 cannot read an oriented 16-bit TIFF from a file, and it prints instead of raising.
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    except cv2.error as error:
        raise RefusedError(f"{path}: damaged ({error.err})") from error
    if pixels is None:
        raise RefusedError(f"{path}: damaged, or not a {path.suffix} file")
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def _encode_with_pillow(suffix: str, pixels: NDArray[Any], exif: bytes | None) -> bytes:
    # A profile, so that no program has to guess; and full chroma, for lamps and signs at night.
    settings: dict[str, Any] = {"icc_profile": _srgb_profile()}
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


def _srgb_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def _read_exr(path: Path) -> NDArray[Any]:
    try:
        with OpenEXR.File(os.fspath(path), separate_channels=True) as file:
            channels = {name: channel.pixels for name, channel in file.channels().items()}
    except (RuntimeError, ValueError) as error:  # ValueError: a file whose only part could not be read
        raise RefusedError(f"{path}: damaged, or not an OpenEXR file ({error})") from error
    missing = [name for name in "RGB" if channels.get(name) is None]
    if missing:
        found = ", ".join(channels) or "none"
        raise RefusedError(f"{path}: channels R, G and B are needed; {', '.join(missing)} missing, there are: {found}")
    return np.stack([channels[name] for name in "RGB"], axis=-1)


def _write_hdr(path: Path, pixels: NDArray[Any], white: str | float | None) -> None:
    # OpenCV keeps the operating system's reason for itself, and does not look when the last buffer is flushed.
    if not cv2.imwrite(os.fspath(path), cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)):
        raise OSError("the .hdr file could not be written; is the disk full?")
    data = path.read_bytes()
    told = f"\nPRIMARIES={' '.join(map(str, REC709))}\n"
    if white is not None:
        told += f"EXPOSURE={_RADIANCE_EFFICACY / float(white):.6g}\n"
    path.write_bytes(data.replace(b"\n", told.encode(), 1))
    try:
        _decode_with_opencv(path, path.read_bytes())
    except RefusedError as error:
        raise OSError("the .hdr file could not be written to its end; is the disk full?") from error


def _write_exr(path: Path, pixels: NDArray[Any], attributes: Mapping[str, str | float]) -> None:
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage, "chromaticities": REC709}
    header |= attributes
    try:
        with OpenEXR.File(header, {"RGB": pixels}) as file:
            file.write(os.fspath(path))
    except RuntimeError as error:  # what OpenEXR makes of the operating system's errors
        raise OSError(f"the .exr file could not be written: {error}") from error


def _as_levels(image: Tensor, depth: type[np.uint8] | type[np.uint16]) -> NDArray[Any]:
    """Display values (3, H, W) as whole levels (H, W, 3), row by row, so that no second image of floats is held."""
    pixels = np.empty((*image.shape[1:], 3), depth)
    for begin in range(0, len(pixels), _ROWS_AT_ONCE):
        # In float32: half precision holds neither 65535 nor what lies between.
        levels = image[:, begin : begin + _ROWS_AT_ONCE].cpu().float() * np.iinfo(depth).max
        pixels[begin : begin + _ROWS_AT_ONCE] = _channels_last(levels.round_())
    return pixels


def _channels_last(image: Tensor) -> NDArray[Any]:
    return np.ascontiguousarray(image.detach().cpu().to(torch.float32).permute(1, 2, 0).numpy())
