"""Files that displays show as HDR: JPEG with a gain map (Ultra HDR), AVIF and JPEG XL with PQ or HLG.

Radiance knows no display: one number of it may be any number of candelas. :func:`display_light` decides, as a camera's
automatic exposure would; the formulas after it are those of ITU-R BT.2100 and BT.2408. Encoding is that of imagecodecs
(``pip install "captum-ext[delivery]"``), which carries libultrahdr, libavif and libjxl.
"""

from __future__ import annotations

import os
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hdr._errors import RefusedError
from hdr._exif_boxes import with_exif_box, with_exif_item
from hdr._extras import extras_named
from hdr._files import check_writable, known_suffix, written_whole
from hdr.io import MOST_EXIF_BYTES, PREVIEW_SUFFIXES, check_radiance, write_preview
from hdr.radiometry import MIDDLE_GREY, P3, REC709, REC2020, log_average
from hdr.settings import PQ_PEAK, SDR_WHITE, Operator, Primaries
from hdr.settings import DisplaySettings as DisplaySettings

PICTURE_SUFFIXES = (*PREVIEW_SUFFIXES, ".avif", ".jxl")

HLG_PEAK = 1000.0
"""Luminance of the display that HLG's system gamma of 1.2 is meant for (BT.2100)."""

_BLACK = 1e-6
_SMALLEST_SIDE = 8  # of what libultrahdr encodes
_CHROMATICITIES: dict[Primaries, tuple[float, ...]] = {"rec709": REC709, "p3": P3, "rec2020": REC2020}


def check_picture(path: str | os.PathLike[str], gain_map: bool = False, *, overwrite: bool = False) -> None:
    """Raise now, before the work, what :func:`write_picture` would: another suffix, an existing file, no encoder."""
    check_writable(path, overwrite=overwrite, suffixes=PICTURE_SUFFIXES)
    check_encoder(path, gain_map)


def check_encoder(path: str | os.PathLike[str], gain_map: bool = False) -> None:
    """Raise now, before the work, what encoding a file of this name would: no encoder, one that is too old, no JPEG.

    Raises
    ------
    ModuleNotFoundError
        If imagecodecs is needed and not installed.
    ValueError
        If it cannot state the file's colours, or the file cannot have a gain map.
    """
    path = Path(path)
    if gain_map and path.suffix.lower() not in (".jpg", ".jpeg"):
        raise RefusedError(f"{path}: only a .jpg file can have a gain map; .avif and .jxl files are HDR by themselves")
    if gain_map:
        _imagecodecs()
    if path.suffix.lower() == ".avif":
        _avif_codecs()
    if path.suffix.lower() == ".jxl":
        _jxl_codecs()


def write_picture(
    path: str | os.PathLike[str],
    radiance: Tensor,
    operator: Operator = "reinhard",
    *,
    gain_map: bool = False,
    settings: DisplaySettings | None = None,
    exif: bytes | None = None,
    overwrite: bool = False,
) -> None:
    """Write radiance as a picture of whatever kind its name says, whole or not at all.

    Parameters
    ----------
    path
        .avif and .jxl for HDR (:func:`write_avif`, :func:`write_jxl`); .jpg, with a gain map (:func:`write_gain_map`)
        or tone-mapped; .png and .tif, tone-mapped (:func:`hdr.io.write_preview`).
    radiance
        Shape (3, H, W), linear Rec. 709, finite, >= 0.
    operator
        Of what is tone-mapped.
    gain_map
        Whether a .jpg gets one; it is tone-mapped by libultrahdr then.
    settings
        Of what is HDR.
    exif
        EXIF data to carry, see :func:`hdr.exif.carried_exif`.
    overwrite
        Whether an existing file may be replaced.

    Raises
    ------
    FileExistsError
        If the file exists and ``overwrite`` is False.
    ModuleNotFoundError
        If imagecodecs is needed and not installed.
    OSError
        If the operating system does not let it be written.
    ValueError
        If the suffix is another, or does not fit the gain map, or the radiance is not as above.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> folder = tempfile.TemporaryDirectory()
    >>> write_picture(pathlib.Path(folder.name, "a.png"), torch.rand(3, 20, 30))
    >>> folder.cleanup()
    """
    check_picture(path, gain_map, overwrite=overwrite)
    if gain_map:
        write_gain_map(path, radiance, settings, exif=exif, overwrite=overwrite)
    elif Path(path).suffix.lower() == ".avif":
        write_avif(path, radiance, settings, exif=exif, overwrite=overwrite)
    elif Path(path).suffix.lower() == ".jxl":
        write_jxl(path, radiance, settings, exif=exif, overwrite=overwrite)
    else:
        write_preview(path, radiance, operator, exif=exif, overwrite=overwrite)


def display_light(radiance: Tensor, brightness: float = 0.0, peak: float = 1000.0) -> Tensor:
    """Light of a display: radiance times one factor, cut off at the display's peak.

    Parameters
    ----------
    radiance
        Shape (3, H, W), linear Rec. 709, >= 0, of any scale.
    brightness
        EV above the exposure with which the logarithmic average of the luminance is middle grey, 0.18 of diffuse white.
    peak
        Luminance in candela per square metre that nothing exceeds.

    Returns
    -------
    Tensor
        Same shape; 1 is diffuse white, 203 candela per square metre.

    Examples
    --------
    >>> grey = torch.full((3, 8, 8), 5.0)
    >>> round(float(display_light(grey).mean()), 3), round(float(display_light(grey, brightness=1).mean()), 3)
    (0.18, 0.36)
    """
    radiance = radiance.detach().cpu().float()
    light: Tensor = radiance * (MIDDLE_GREY / log_average(radiance) * 2.0**brightness)
    # One factor for the three channels of a pixel, so that what is cut off keeps its colour.
    brightest = light.amax(dim=0, keepdim=True).clamp_min(_BLACK)
    return light * (peak / SDR_WHITE / brightest).clamp_max(1.0)


def pq(luminance: Tensor) -> Tensor:
    """Perceptual quantiser: luminance in candela per square metre to signal in [0, 1] (BT.2100, table 4).

    Examples
    --------
    >>> pq(torch.tensor([0.0, 203.0, 10_000.0]))
    tensor([0.0000, 0.5807, 1.0000])
    """
    y = (luminance / PQ_PEAK).clamp(0, 1) ** (2610 / 16384)
    signal: Tensor = ((3424 / 4096 + 2413 / 128 * y) / (1 + 2392 / 128 * y)) ** (2523 / 32)
    return torch.where(luminance > 0, signal, torch.zeros_like(signal))


def hlg(light: Tensor, luminance_weights: Tensor) -> Tensor:
    """Hybrid log-gamma: light (3, H, W) of a display whose peak is 1, to signal in [0, 1] (BT.2100, table 5).

    ``luminance_weights`` are those of the primaries, (3,).
    """
    # The display will apply its system gamma of 1.2 to the luminance; it is taken away first.
    displayed = (light * luminance_weights.view(3, 1, 1)).sum(dim=0, keepdim=True).clamp_min(1e-12)
    scene = (light * displayed ** (1 / 1.2 - 1)).clamp(0, 1)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return torch.where(scene <= 1 / 12, (3 * scene).sqrt(), a * (12 * scene - b).clamp_min(1e-12).log() + c).clamp(0, 1)


def from_rec709(primaries: Primaries) -> tuple[Tensor, Tensor]:
    """Matrix (3, 3) from linear Rec. 709 to other primaries of the same white, and their luminance weights (3,)."""
    ours, theirs = (_to_xyz(_CHROMATICITIES[name]) for name in ("rec709", primaries))
    return torch.from_numpy(np.linalg.inv(theirs) @ ours).float(), torch.from_numpy(theirs[1]).float()


def write_gain_map(
    path: str | os.PathLike[str],
    radiance: Tensor,
    settings: DisplaySettings | None = None,
    *,
    exif: bytes | None = None,
    overwrite: bool = False,
) -> None:
    """Write a JPEG that old displays show as it is and new ones as HDR (Ultra HDR, ISO 21496-1), whole or not at all.

    Arguments and errors are those of :func:`write_picture`, for a name that ends in .jpg or .jpeg and radiance at least
    8 pixels wide and high. Of the settings ``brightness``, ``peak`` and ``quality`` are used.
    """
    settings = settings or DisplaySettings()
    path = Path(path)
    known_suffix(path, (".jpg", ".jpeg"), "a gain map is written into")
    check_radiance(radiance, "radiance")
    if min(radiance.shape[-2:]) < _SMALLEST_SIDE:
        raise RefusedError(f"a gain map needs at least 8 x 8 pixels, got {tuple(radiance.shape[-2:])} (H, W)")
    codecs = _imagecodecs()
    light = display_light(radiance, settings.brightness, settings.peak)
    # libultrahdr takes even sizes; one row or column is repeated, which no one will miss at the edge.
    missing = (light.shape[2] % 2, light.shape[1] % 2)
    light = torch.nn.functional.pad(light[None], (0, missing[0], 0, missing[1]), mode="replicate")[0]
    pixels = np.ones((*light.shape[1:], 4), np.float16)
    pixels[..., :3] = light.permute(1, 2, 0).numpy()
    data = bytes(
        codecs.ultrahdr_encode(
            pixels,
            level=settings.quality,
            gamut=codecs.ULTRAHDR.CG.BT_709,
            transfer=codecs.ULTRAHDR.CT.LINEAR,
            nits=settings.peak,
            scale=1,
        )
    )
    _write(path, data, exif, with_exif, overwrite)


def write_avif(
    path: str | os.PathLike[str],
    radiance: Tensor,
    settings: DisplaySettings | None = None,
    *,
    exif: bytes | None = None,
    overwrite: bool = False,
) -> None:
    """Write an AVIF of 10 or 12 bits with PQ or HLG, whole or not at all.

    Arguments and errors are those of :func:`write_picture`, for a name that ends in .avif. An imagecodecs older than
    2025.11.11 is a ValueError, too: it cannot state the colours.
    """
    settings = settings or DisplaySettings()
    path = Path(path)
    known_suffix(path, (".avif",), "AVIF is written to")
    check_radiance(radiance, "radiance")
    codecs = _avif_codecs()
    constants = codecs.AVIF
    primaries = {"rec709": "BT709", "p3": "SMPTE432", "rec2020": "BT2020"}[settings.primaries]
    data = codecs.avif_encode(
        _levels(encoded_signal(radiance, settings), settings.bits),
        level=settings.quality,
        speed=8,
        bitspersample=settings.bits,
        pixelformat=constants.PIXEL_FORMAT.YUV444,
        primaries=getattr(constants.COLOR_PRIMARIES, primaries),
        transfer=getattr(constants.TRANSFER_CHARACTERISTICS, settings.transfer.upper()),
        matrix=constants.MATRIX_COEFFICIENTS.BT2020_NCL,
    )
    _write(path, bytes(data), exif, with_exif_item, overwrite)


def write_jxl(
    path: str | os.PathLike[str],
    radiance: Tensor,
    settings: DisplaySettings | None = None,
    *,
    exif: bytes | None = None,
    overwrite: bool = False,
) -> None:
    """Write a JPEG XL of 10 or 12 bits with PQ or HLG, whole or not at all.

    Arguments and errors are those of :func:`write_picture`, for a name that ends in .jxl. An imagecodecs older than
    2026.5.10 is a ValueError, too: it cannot state the colours.
    """
    settings = settings or DisplaySettings()
    path = Path(path)
    known_suffix(path, (".jxl",), "JPEG XL is written to")
    check_radiance(radiance, "radiance")
    codecs = _jxl_codecs()
    constants = codecs.JPEGXL
    primaries = {"rec709": "SRGB", "p3": "P3", "rec2020": "BT2100"}[settings.primaries]
    data = bytes(
        codecs.jpegxl_encode(
            _levels(encoded_signal(radiance, settings), settings.bits),
            # What libjxl makes of a quality, down to 30; 1 is what people hardly see.
            distance=0.1 + 0.09 * (100 - settings.quality),
            bitspersample=settings.bits,
            primaries=getattr(constants.PRIMARIES, primaries),
            transfer=getattr(constants.TRANSFER_FUNCTION, settings.transfer.upper()),
            usecontainer=True,
        )
    )
    _write(path, data, exif, with_exif_box, overwrite)


def _write(
    path: Path, data: bytes, exif: bytes | None, carried: Callable[[bytes, bytes], bytes], overwrite: bool
) -> None:
    """Write an encoded picture whole or not at all, with EXIF data if the file has room for it."""
    if exif is not None:
        try:
            data = carried(data, exif)
        except RefusedError as error:  # too long for a JPEG, or of an encoder to come: the picture is worth more
            warnings.warn(f"{path}: written without EXIF data ({error})", stacklevel=3)
    with written_whole(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(data)


def encoded_signal(radiance: Tensor, settings: DisplaySettings) -> Tensor:
    """Signal (3, H, W) in [0, 1] of radiance: on a display's scale, in its primaries, by its transfer function."""
    peak = HLG_PEAK if settings.transfer == "hlg" else settings.peak
    light = display_light(radiance, settings.brightness, peak) * SDR_WHITE
    matrix, weights = from_rec709(settings.primaries)
    light = torch.einsum("ij,jhw->ihw", matrix, light).clamp_min(0)
    return pq(light) if settings.transfer == "pq" else hlg(light / HLG_PEAK, weights)


def _levels(signal: Tensor, bits: int) -> NDArray[np.uint16]:
    """Signal (3, H, W) in [0, 1] as whole numbers (H, W, 3) of so many bits."""
    return np.ascontiguousarray((signal.permute(1, 2, 0) * (2**bits - 1)).round().numpy().astype(np.uint16))


def with_exif(jpeg: bytes, exif: bytes) -> bytes:
    """A JPEG with EXIF data put in front; the index of a multi-picture file is put right."""
    if len(exif) > MOST_EXIF_BYTES:
        raise RefusedError(f"EXIF data has {len(exif)} bytes, at most {MOST_EXIF_BYTES} fit into a JPEG")
    segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    data = bytearray(jpeg)
    place = data.find(b"MPF\0", 0, 65536 * 4)
    if place > 0:
        _lengthen_first_image(data, place + 4, len(segment))
    return bytes(data[:2]) + segment + bytes(data[2:])


def _lengthen_first_image(data: bytearray, start: int, by: int) -> None:
    """The first entry of the index counts the bytes of the image in front; offsets count from the index itself."""
    order = ">" if data[start : start + 2] == b"MM" else "<"
    directory = start + struct.unpack_from(order + "I", data, start + 4)[0]
    for entry in range(struct.unpack_from(order + "H", data, directory)[0]):
        tag, _, _, value = struct.unpack_from(order + "HHII", data, directory + 2 + 12 * entry)
        if tag == 0xB002:  # MP entries: attributes, size, offset, two dependencies
            size = start + value + 4
            struct.pack_into(order + "I", data, size, struct.unpack_from(order + "I", data, size)[0] + by)


def _to_xyz(chromaticities: tuple[float, ...]) -> NDArray[Any]:
    """Matrix (3, 3) from linear light of primaries, given with their white, to XYZ."""
    points = zip(chromaticities[::2], chromaticities[1::2], strict=True)
    *columns, white = (np.array([x / y, 1.0, (1 - x - y) / y]) for x, y in points)
    primaries: NDArray[Any] = np.stack(columns, axis=1)
    return primaries * np.linalg.solve(primaries, white)


def _avif_codecs() -> Any:
    codecs = _imagecodecs()
    if not hasattr(codecs.AVIF, "COLOR_PRIMARIES"):
        raise RefusedError(
            f"imagecodecs {codecs.__version__} cannot write what the colours of an .avif file are; 2025.11.11 can, on "
            "Python 3.11 and newer. Write a .jpg with a gain map instead"
        )
    return codecs


def _jxl_codecs() -> Any:
    codecs = _imagecodecs()
    if not hasattr(codecs.JPEGXL, "PRIMARIES"):
        raise RefusedError(
            f"imagecodecs {codecs.__version__} cannot write what the colours of a .jxl file are; 2026.5.10 can, on "
            "Python 3.12 and newer. Write an .avif or a .jpg with a gain map instead"
        )
    return codecs


def _imagecodecs() -> Any:
    with extras_named():
        import imagecodecs
    return imagecodecs
