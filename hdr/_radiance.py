"""Radiance: .hdr (Radiance RGBE), .exr (OpenEXR) and floating-point TIFF."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hdr._errors import RefusedError
from hdr._exif_text import PROGRAM
from hdr._extras import extras_named
from hdr._files import as_text, check_name_is_text, known_suffix, written_whole
from hdr._icc import linear_rec709_profile
from hdr._images import check_tensor
from hdr._picture_files import RADIANCE_SUFFIXES, TIFF_SUFFIXES, decode_with_opencv
from hdr._profiles import primaries_matrix, profile_matrix, profile_of_tiff
from hdr._tiff import (
    DOCUMENT_NAME,
    IMAGE_DESCRIPTION,
    NITS_OF_ONE,
    SOFTWARE,
    decode_float_tiff,
    encode_tiff,
    float_tiff_tags,
)
from hdr.geometry import transformed
from hdr.radiometry import REC709

with extras_named():
    import cv2
    import OpenEXR

_PHOTOGRAPHS = "photographs"
_BEFORE_PHOTOGRAPHS = f"{_PHOTOGRAPHS} "  # in TIFF's name of a document, which may be anything
_HEAD_OF_HDR = 4096
_PRIMARIES_OF_HDR = f"PRIMARIES={' '.join(map(str, REC709))}\n"
_LARGEST_RGBE = 255 / 256 * 2.0**127  # mantissa and exponent have 8 bits each; what is more becomes black
_RADIANCE_EFFICACY = 179.0  # lm/W of equal-energy white, by which Radiance converts; values over EXPOSURE are W/sr/m^2


def read_radiance(path: str | os.PathLike[str]) -> Tensor:
    """Read linear radiance.

    Parameters
    ----------
    path
        A .hdr or .exr file, or TIFF of 32-bit float. Of an .exr file the channels R, G and B are read, whatever else
        there is. Colours of other primaries, which a TIFF's profile, ``chromaticities`` of an .exr and ``PRIMARIES`` of
        a .hdr file tell, become Rec. 709, and what lies outside is clipped at 0.

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
    radiance, _, to_rec709 = read_linear(Path(path))
    return radiance if to_rec709 is None else transformed(to_rec709, radiance).clamp_min_(0)


def read_linear(path: Path) -> tuple[Tensor, str, Tensor | None]:
    """Linear light as a file holds it, the name of colours other than Rec. 709, and the matrix from them to that."""
    suffix = known_suffix(path, (*RADIANCE_SUFFIXES, *TIFF_SUFFIXES), "radiance is read from")
    data = path.read_bytes()
    # OpenCV goes by the content: of a PNG with another name it would make radiance from 0 to 255.
    if suffix == ".hdr" and not data.startswith(b"#?"):
        raise RefusedError(f"{path}: damaged, or not a Radiance .hdr file")
    if suffix == ".hdr":
        pixels, primaries = decode_with_opencv(path, data), _primaries_of_hdr(data)
    elif suffix == ".exr":
        pixels, primaries = _read_exr(path)
    else:
        pixels, primaries = _read_tiff(path, data), None
    radiance = as_radiance(path, pixels)
    if suffix in TIFF_SUFFIXES:
        return radiance, *profile_matrix(path, profile_of_tiff(path, data))
    return radiance, *primaries_matrix(path, primaries)


def as_radiance(path: Path, pixels: NDArray[Any]) -> Tensor:
    """Pixels (H, W, 3) of a file as radiance (3, H, W), float32; a ValueError that names the file if they are none."""
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
        ``StoNits``, ``comments`` and ``software``. All are told ``photographs``, which
        stands for those it is of.
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
    brightest, largest = float(radiance.detach().max()), _LARGEST_RGBE if suffix == ".hdr" else float(precision.max)
    if brightest > largest:
        kind = "the shared exponent of .hdr files" if suffix == ".hdr" else f"{precision.bits}-bit float"
        raise RefusedError(f"{path}: radiance of {brightest:g} is too large for {kind} ({largest:.6g})")
    pixels, told = channels_last(radiance).astype(precision.dtype, copy=False), attributes or {}
    with written_whole(path, overwrite=overwrite) as temporary:
        if suffix == ".hdr":
            _write_hdr(temporary, pixels, told)
        elif suffix == ".exr":
            _write_exr(temporary, pixels, told)
        else:
            temporary.write_bytes(encode_tiff(pixels, linear_rec709_profile(), exif, _tags(told)))


def told_photographs(path: Path) -> str | None:
    """Of which photographs a file says that it is the radiance; empty if it is of this program and does not say.

    None if it is another file, or damaged. Only its head is read.

    Raises
    ------
    OSError
        If the file cannot be opened.
    """
    with path.open("rb") as file:
        try:
            if path.suffix.lower() == ".exr":
                with OpenEXR.File(os.fspath(path), header_only=True) as exr:
                    header = exr.header()
                    photographs, is_ours = header.get(_PHOTOGRAPHS, ""), header.get("software") == PROGRAM
            elif path.suffix.lower() == ".hdr":
                _, *lines = file.read(_HEAD_OF_HDR).decode("latin-1").partition("\n\n")[0].splitlines(keepends=True)
                told = [line.partition("=")[2].strip() for line in lines if line.startswith(f"{_PHOTOGRAPHS.upper()}=")]
                # Versions that did not say it named no program either, and began with the primaries, as this one does.
                photographs, is_ours = "".join(told[:1]), lines[:1] == [_PRIMARIES_OF_HDR]
            else:
                tags, _, _ = float_tiff_tags(file) or ({}, {}, {})
                name = tags.get(DOCUMENT_NAME, "")
                photographs = name.removeprefix(_BEFORE_PHOTOGRAPHS) if name.startswith(_BEFORE_PHOTOGRAPHS) else ""
                is_ours = tags.get(SOFTWARE) == PROGRAM
        except Exception:  # whatever is made of damage, it says nothing of photographs
            return None
    return str(photographs) if photographs or is_ours else None


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


def channels_last(image: Tensor) -> NDArray[Any]:
    return np.ascontiguousarray(image.detach().cpu().to(torch.float32).permute(1, 2, 0).numpy())


def _read_tiff(path: Path, data: bytes) -> NDArray[Any]:
    pixels = decode_float_tiff(path, data)
    if pixels is None:
        raise RefusedError(
            f"{path}: damaged, or not a TIFF of three channels of 32-bit float, which radiance is read from"
        )
    return pixels


def _primaries_of_hdr(data: bytes) -> Sequence[float] | None:
    """What the header says of x and y of red, green, blue and white."""
    head, _, _ = data.partition(b"\n\n")
    said = [line.partition(b"=")[2] for line in head.split(b"\n") if line.startswith(b"PRIMARIES=")]
    try:
        numbers = [float(word) for word in said[-1].split()] if said else []
    except ValueError:
        return None
    return numbers if len(numbers) == 8 else None


def _tags(attributes: Mapping[str, str | float]) -> dict[int, str | float]:
    """What of OpenEXR's attributes TIFF has tags for."""
    names = {"comments": IMAGE_DESCRIPTION, "software": SOFTWARE, "whiteLuminance": NITS_OF_ONE}
    tags = {tag: attributes[name] for name, tag in names.items() if name in attributes}
    if _PHOTOGRAPHS in attributes:  # which nothing else in the file may push aside
        tags[DOCUMENT_NAME] = f"{_BEFORE_PHOTOGRAPHS}{attributes[_PHOTOGRAPHS]}"
    return tags


def _read_exr(path: Path) -> tuple[NDArray[Any], Sequence[float] | None]:
    """Pixels, and x and y of red, green, blue and white, if it says them."""
    check_name_is_text(path, "OpenEXR")
    try:
        with OpenEXR.File(os.fspath(path), separate_channels=True) as file:
            channels = {name: channel.pixels for name, channel in file.channels().items()}
            said = file.header().get("chromaticities")
            # Damage, or another program, may have given the attribute another type.
            primaries = said if isinstance(said, tuple) and len(said) == 8 else None
    except (RuntimeError, ValueError) as error:  # ValueError: a file whose only part could not be read
        raise RefusedError(f"{path}: damaged, or not an OpenEXR file ({error})") from error
    missing = [name for name in "RGB" if channels.get(name) is None]
    if missing:
        found = ", ".join(channels) or "none"
        raise RefusedError(f"{path}: channels R, G and B are needed; {', '.join(missing)} missing, there are: {found}")
    return np.stack([channels[name] for name in "RGB"], axis=-1), primaries


def _write_hdr(path: Path, pixels: NDArray[Any], attributes: Mapping[str, str | float]) -> None:
    # Into memory: on Windows OpenCV opens no path with letters that the system's code page lacks. It goes by a
    # temporary file, keeps the reason of what fails for itself, and does not look when the last buffer is flushed.
    reason = None
    try:
        encoded, data = cv2.imencode(".hdr", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    except cv2.error as error:
        encoded, reason = False, error
    if not encoded:
        raise OSError("the .hdr file could not be written; is the disk full?") from reason
    told = f"\n{_PRIMARIES_OF_HDR}"
    white = attributes.get("whiteLuminance")
    if white is not None:
        told += f"EXPOSURE={_RADIANCE_EFFICACY / float(white):.6g}\n"
    if _PHOTOGRAPHS in attributes:
        told += f"{_PHOTOGRAPHS.upper()}={attributes[_PHOTOGRAPHS]}\n"
    content = data.tobytes().replace(b"\n", told.encode(), 1)
    try:
        decode_with_opencv(path, content)
    except RefusedError as error:
        raise OSError("the .hdr file could not be written to its end; is the disk full?") from error
    path.write_bytes(content)


def _write_exr(path: Path, pixels: NDArray[Any], attributes: Mapping[str, str | float]) -> None:
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage, "chromaticities": REC709}
    header |= {name: as_text(told) if isinstance(told, str) else told for name, told in attributes.items()}
    try:
        with OpenEXR.File(header, {"RGB": pixels}) as file:
            file.write(os.fspath(path))
    except RuntimeError as error:  # what OpenEXR makes of the operating system's errors, with a name of its own
        for number in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            if os.strerror(number) in str(error):
                raise OSError(number, os.strerror(number)) from error
        raise OSError(f"the .exr file could not be written: {error}") from error
