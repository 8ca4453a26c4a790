"""Camera raw: linear light from the sensor, with one white balance for a whole bracket.

Decoding is LibRaw's, through rawpy (``pip install "captum-ext[raw]"``). Nothing in it depends on the picture: no
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
from numpy.typing import NDArray
from torch import Tensor

from hdr._errors import RefusedError
from hdr._extras import extras_named
from hdr.exposure import CameraSettings

if TYPE_CHECKING:
    import rawpy

Colours = Literal["rec709", "sensor"]
WhiteBalanceSource = Literal["camera", "daylight", "auto"]
WhiteBalance = WhiteBalanceSource | tuple[float, float, float]


class UnknownRawError(RefusedError):
    """A raw file of a camera, or of a kind, that LibRaw does not know; it may be whole nevertheless.

    Attributes
    ----------
    known_camera
        Whether it is of a camera that LibRaw knows, and only its pixels are stored in a way that it does not.
    """

    def __init__(self, told: str, *, known_camera: bool) -> None:
        super().__init__(told)
        self.known_camera = known_camera


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
            raise RefusedError(
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


def read_raw(
    path: str | os.PathLike[str],
    white_balance: WhiteBalance = "camera",
    half_size: bool = False,
    colours: Colours = "rec709",
) -> Tensor:
    """Read a raw file as linear light, upright.

    Parameters
    ----------
    path
        DNG, CR2, CR3, NEF, ARW, RAF, ORF, ... as LibRaw reads them.
    white_balance
        As in :class:`RawSettings`; for a bracket, what :func:`white_balance_factors` gives for its reference.
    half_size
        As in :class:`RawSettings`.
    colours
        ``"rec709"``; or ``"sensor"`` for the sensor's own, white-balanced, in which what clips in one channel is still
        seen in the others: for a merge, which :func:`sensor_to_rec709` turns into Rec. 709.

    Returns
    -------
    Tensor
        Shape (3, H, W), float32 in [0, 1]: the sensor's black level is 0, and what the sensor has clipped is 1, in its
        own colours channel by channel, in Rec. 709 where all three are.

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
        pixels = _developed(raw, (red, green, blue), half_size, colours)
    return torch.from_numpy(pixels.astype(np.float32) / LEVELS).permute(2, 0, 1).contiguous()


def sensor_to_rec709(path: str | os.PathLike[str], white_balance: WhiteBalance = "camera") -> Tensor | None:
    """The matrix by which LibRaw turns a sensor's colours, white-balanced, into linear Rec. 709.

    Parameters
    ----------
    path
        As for :func:`read_raw`.
    white_balance
        As in :class:`RawSettings`.

    Returns
    -------
    Tensor or None
        Shape (3, 3), float32, rows of sum 1. None where LibRaw knows none, or uses another than the file or its own
        table has: of sensors with one or four colours, for example.

    Raises
    ------
    OSError, ValueError
        As :func:`read_raw`.
    """
    balance = white_balance_factors(path, RawSettings(white_balance).white_balance)
    with _opened(path) as raw:
        _check_filled(path, raw)
        if raw.num_colors != 3:
            return None
        in_file, by_table = raw.color_matrix[:, :3], _inverse_of(raw.rgb_xyz_matrix[:3])
        both: tuple[Colours, Colours] = ("sensor", "rec709")
        sensor, rec709 = (
            _developed(raw, balance, True, colours)[::_STEP_COMPARED, ::_STEP_COMPARED].reshape(-1, 3) / LEVELS
            for colours in both
        )
    unclipped = ((sensor < 1) & (rec709 > 0) & (rec709 < 1)).all(axis=1)
    for matrix in (in_file, by_table):
        made = sensor[unclipped] @ matrix.T
        if matrix.any() and len(made) and np.abs(made - rec709[unclipped]).max() < _MOST_ROUNDED:
            return torch.from_numpy(matrix / matrix.sum(axis=1, keepdims=True)).float()
    return None


def read_raw_settings(path: str | os.PathLike[str]) -> CameraSettings:
    """Exposure time, ISO and f-number of a raw file; raises what :func:`read_raw` raises."""
    settings, _ = read_settings_and_moment(path)
    return settings


def read_settings_and_moment(path: str | os.PathLike[str]) -> tuple[CameraSettings, datetime | None]:
    """Exposure time, ISO and f-number of a raw file, and when it was taken, by the camera's clock.

    LibRaw decodes the picture for it. Raises what :func:`read_raw` raises.
    """
    with _opened(path) as raw:
        other = _other(path, raw)
    stated = [
        value if value and value > 0 else None for value in (other.shutter_speed, other.iso_speed, other.aperture)
    ]
    taken = other.timestamp
    # 1970 is what LibRaw makes of no time at all.
    return CameraSettings(*stated), None if taken is None or taken.year <= 1970 else taken.replace(tzinfo=None)


def check_develops(path: str | os.PathLike[str]) -> None:
    """Raise what :func:`read_raw` raises where LibRaw cannot decode a raw file, which this does and nothing else."""
    with _opened(path) as raw:
        raw.unpack()


_STEP_COMPARED = 4  # of half-size pixels, the fourth in both directions takes part where a matrix is recognised
_MOST_ROUNDED = 1e-3
# Of the primaries and the white of Rec. 709 (D65), as LibRaw has it.
_REC709_TO_XYZ = np.array(
    [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]]
)
_AS_IT_IS: dict[str, Any] = {
    "gamma": (1, 1),
    "output_bps": 16,
    "no_auto_bright": True,
    # Otherwise the white level would follow the brightest pixel of each file.
    "adjust_maximum_thr": 0.0,
}


def _developed(
    raw: rawpy.RawPy, balance: tuple[float, float, float], half_size: bool, colours: Colours
) -> NDArray[Any]:
    """16 bits a channel, (H, W, 3)."""
    import rawpy

    red, green, blue = balance
    space = rawpy.ColorSpace.raw if colours == "sensor" else rawpy.ColorSpace.sRGB
    developed: NDArray[Any] = raw.postprocess(
        user_wb=[red, green, blue, green], half_size=half_size, output_color=space, **_AS_IT_IS
    )
    return developed


def _inverse_of(xyz_to_sensor: NDArray[np.floating]) -> NDArray[np.float64]:
    """Rows from the sensor's colours to Rec. 709, such that white stays white; zeros where nothing is known."""
    if not xyz_to_sensor.any():
        return np.zeros((3, 3))
    from_rec709 = xyz_to_sensor @ _REC709_TO_XYZ
    with np.errstate(divide="ignore", invalid="ignore"):
        to_white = from_rec709 / from_rec709.sum(axis=1, keepdims=True)
    if not np.isfinite(to_white).all():
        return np.zeros((3, 3))
    inverse: NDArray[np.float64] = np.linalg.pinv(to_white)
    return inverse


def _other(path: str | os.PathLike[str], raw: rawpy.RawPy) -> Any:
    try:
        return raw.other
    except (ValueError, OverflowError, OSError) as error:  # a moment that the calendar does not have
        raise RefusedError(f"{path}: damaged, or without the moment at which it was taken ({error})") from error


def _check_filled(path: str | os.PathLike[str], raw: rawpy.RawPy) -> None:
    """Raise ValueError where rows of the sensor hold nothing, of which LibRaw makes black.

    A copy that was cut short may have its full size and end in zeros. No sensor gives a zero where black is more.
    """
    levels = raw.raw_image_visible
    if levels is None or min(raw.black_level_per_channel) <= 0:
        return
    empty = int((~levels.reshape(len(levels), -1).any(axis=1)).sum())
    if empty:
        raise RefusedError(f"{path}: damaged, {empty} of {len(levels)} rows are empty; copy it again")


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[rawpy.RawPy]:
    with extras_named():
        import rawpy
    with Path(path).open("rb"):  # the operating system's own words where it cannot be opened
        pass
    opened = False
    try:
        with rawpy.imread(os.fspath(path)) as raw:
            opened = True
            yield raw
    except (rawpy.LibRawFileUnsupportedError, rawpy.NotSupportedError) as error:
        version = _version(rawpy)
        if not opened:
            told = f"{path}: not a raw file of a camera that LibRaw {version} knows"
        else:  # as of Apple's DNG files with JPEG XL inside: all is known but how the pixels are stored
            told = f"{path}: LibRaw {version} cannot develop this kind of raw file ({_reason(error)})"
        raise UnknownRawError(told, known_camera=opened) from error
    except rawpy.LibRawError as error:
        raise RefusedError(f"{path}: damaged, or not a camera's raw file ({_reason(error)})") from error


def _reason(error: Exception) -> object:
    return error.args[0].decode(errors="replace") if error.args and isinstance(error.args[0], bytes) else error


def _version(rawpy: Any) -> str:
    return ".".join(map(str, rawpy.libraw_version))
