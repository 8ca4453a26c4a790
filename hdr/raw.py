"""Camera raw: linear light from the sensor, with one white balance for a whole bracket.

Decoding is LibRaw's, through rawpy (``pip install 'captum-ext[raw]'``). Nothing in it depends on the picture: no
automatic brightness, no white level from the brightest pixel; otherwise the exposures would not fit together.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from hdr.exposure import CameraSettings

if TYPE_CHECKING:
    import rawpy

WhiteBalanceSource = Literal["camera", "daylight", "auto"]
WhiteBalance = WhiteBalanceSource | tuple[float, float, float]

LEVELS = 65535
"""Largest level of what LibRaw returns."""


@dataclass(frozen=True)
class RawSettings:
    """How raw files are developed.

    Attributes
    ----------
    white_balance
        ``"camera"``, as the camera set it for the reference; ``"daylight"``; ``"auto"``, from the reference's pixels;
        or three positive factors for red, green and blue.
    half_size
        Whether each square of four sensor pixels becomes one pixel, without interpolation: a quarter of the size.

    Raises
    ------
    ValueError
        If the white balance is another.
    """

    white_balance: WhiteBalance = "camera"
    half_size: bool = False

    def __post_init__(self) -> None:
        balance = self.white_balance
        known = isinstance(balance, str) and balance in get_args(WhiteBalanceSource)
        if not known and (isinstance(balance, str) or len(balance) != 3 or not all(0 < f < 1e3 for f in balance)):
            raise ValueError(
                f"white balance must be {', '.join(get_args(WhiteBalanceSource))} or three positive factors for red, "
                f"green and blue, got {balance!r}"
            )

    @classmethod
    def parse(cls, white_balance: str, half_size: bool = False) -> RawSettings:
        """Settings from words, as on the command line.

        Examples
        --------
        >>> RawSettings.parse("2.1,1,1.4").white_balance
        (2.1, 1.0, 1.4)
        """
        if white_balance in get_args(WhiteBalanceSource):
            return cls(white_balance, half_size)  # type: ignore[arg-type]
        try:
            factors = tuple(float(word) for word in white_balance.split(","))
        except ValueError:
            factors = ()
        return cls(factors or white_balance, half_size)  # type: ignore[arg-type]


def white_balance_factors(
    path: str | os.PathLike[str], white_balance: WhiteBalance = "camera"
) -> tuple[float, float, float]:
    """Factors for red, green and blue of one file, green 1, that a whole bracket can be developed with.

    Parameters
    ----------
    path
        Camera raw.
    white_balance
        As in :class:`RawSettings`.

    Raises
    ------
    OSError
        If the file cannot be opened.
    ValueError
        If it is no raw file that LibRaw knows.
    """
    if not isinstance(white_balance, str):
        return white_balance
    with _opened(path) as raw:
        if white_balance == "auto":
            raw.postprocess(use_auto_wb=True, half_size=True, **_AS_IT_IS)
            found = raw.auto_whitebalance or raw.daylight_whitebalance
        else:
            found = raw.camera_whitebalance if white_balance == "camera" else raw.daylight_whitebalance
            # A camera that wrote nothing down leaves zeros.
            if not all(factor > 0 for factor in found[:3]):
                found = raw.daylight_whitebalance
    red, green, blue = (float(factor) for factor in found[:3])
    return red / green, 1.0, blue / green


def read_raw(path: str | os.PathLike[str], white_balance: WhiteBalance = "camera", half_size: bool = False) -> Tensor:
    """Read a raw file as linear light, upright.

    Parameters
    ----------
    path
        DNG, CR2, CR3, NEF, ARW, RAF, ORF, ... as LibRaw reads them.
    white_balance
        As in :class:`RawSettings`; for a bracket, what :func:`white_balance_factors` gives for its reference.
    half_size
        As in :class:`RawSettings`.

    Returns
    -------
    Tensor
        Shape (3, H, W), float32 in [0, 1]: linear Rec. 709; the sensor's black level is 0, and a channel that the
        sensor has clipped is 1.

    Raises
    ------
    OSError
        If the file cannot be opened.
    ValueError
        If it is damaged, of a camera that LibRaw does not know, or the white balance is another.
    """
    red, green, blue = white_balance_factors(path, RawSettings(white_balance).white_balance)
    with _opened(path) as raw:
        _check_filled(path, raw)
        pixels = raw.postprocess(user_wb=[red, green, blue, green], half_size=half_size, **_AS_IT_IS)
    return torch.from_numpy(pixels.astype(np.float32) / LEVELS).permute(2, 0, 1).contiguous()


def read_raw_settings(path: str | os.PathLike[str]) -> CameraSettings:
    """Exposure time, ISO and f-number of a raw file; raises what :func:`read_raw` raises."""
    with _opened(path) as raw:
        other = raw.other
    stated = [
        value if value and value > 0 else None for value in (other.shutter_speed, other.iso_speed, other.aperture)
    ]
    return CameraSettings(*stated)


def read_moment(path: str | os.PathLike[str]) -> datetime | None:
    """When a raw file was taken, by the camera's clock; raises what :func:`read_raw` raises."""
    with _opened(path) as raw:
        taken = raw.other.timestamp
    # 1970 is what LibRaw makes of no time at all.
    return None if taken is None or taken.year <= 1970 else taken.replace(tzinfo=None)


_AS_IT_IS: dict[str, Any] = {
    "gamma": (1, 1),
    "output_bps": 16,
    "no_auto_bright": True,
    # Otherwise the white level would follow the brightest pixel of each file.
    "adjust_maximum_thr": 0.0,
}


def _check_filled(path: str | os.PathLike[str], raw: rawpy.RawPy) -> None:
    """Raise ValueError where rows of the sensor hold nothing, of which LibRaw makes black.

    A copy that was cut short may have its full size and end in zeros. No sensor gives a zero where black is more.
    """
    levels = raw.raw_image_visible
    if levels is None or min(raw.black_level_per_channel) <= 0:
        return
    empty = int((~levels.reshape(len(levels), -1).any(axis=1)).sum())
    if empty:
        raise ValueError(f"{path}: damaged, {empty} of {len(levels)} rows are empty; copy it again")


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[rawpy.RawPy]:
    try:
        import rawpy
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "camera raw is read with rawpy; install the extra: pip install 'captum-ext[raw]'", name="rawpy"
        ) from error
    with Path(path).open("rb"):  # the operating system's own words where it cannot be opened
        pass
    try:
        with rawpy.imread(os.fspath(path)) as raw:
            yield raw
    except rawpy.LibRawFileUnsupportedError as error:
        raise ValueError(f"{path}: not a raw file of a camera that LibRaw {_version(rawpy)} knows") from error
    except rawpy.NotSupportedError as error:
        raise ValueError(f"{path}: LibRaw {_version(rawpy)} cannot develop this kind of raw file ({error})") from error
    except rawpy.LibRawError as error:
        reason = error.args[0].decode(errors="replace") if error.args and isinstance(error.args[0], bytes) else error
        raise ValueError(f"{path}: damaged, or not a camera's raw file ({reason})") from error


def _version(rawpy: Any) -> str:
    return ".".join(map(str, rawpy.libraw_version))
