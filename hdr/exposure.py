"""How much light each photograph got: from EXIF, from an exposure file, from exposure values."""

from __future__ import annotations

import math
import os
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from hdr._camera_tags import read_camera_tags
from hdr._errors import RefusedError
from hdr.io import RADIANCE_SUFFIXES, is_raw

_EXPOSURE_TIME = 0x829A
_F_NUMBER = 0x829D
# Logarithms of the two above (APEX), which some cameras write alone.
_SHUTTER_SPEED_VALUE = 0x9201
_APERTURE_VALUE = 0x9202
# The second and third stand in where the first is saturated at 65535 or missing (EXIF 2.3, sensitivity type).
_ISO_TAGS = (0x8827, 0x8832, 0x8833)
_ISO_SATURATED = 65535
_REMEDY = "give the exposure times in seconds (--times), or the exposure values in EV (--ev)"
_SEPARATOR = re.compile(r"\s*[,;]\s*|\s+")


@dataclass(frozen=True)
class CameraSettings:
    """What a camera wrote down about one photograph; None is what it did not write down.

    Attributes
    ----------
    time
        Exposure time in seconds.
    iso
        Sensitivity.
    f_number
        Focal length over the diameter of the aperture.
    """

    time: float | None
    iso: float | None
    f_number: float | None


def white_luminance(settings: CameraSettings) -> float | None:
    """Luminance in candela per square metre that a camera's settings saturate; None if one of them is not known.

    The speed S of a camera that saturates at H lx s is 78 / H, and a scene of luminance L gives 0.65 L t / N^2 (ISO
    12232, saturation based). Makers have some freedom in what they call S: it is a good guess, not a measurement.

    Examples
    --------
    >>> white_luminance(CameraSettings(time=1 / 100, iso=100, f_number=10.0))  # sunlight, by the sunny 16 rule
    12000.0
    """
    time, iso, f_number = settings.time, settings.iso, settings.f_number
    if time is None or iso is None or f_number is None:
        return None
    return 78.0 * f_number**2 / (0.65 * iso * time)


def read_camera_settings(path: str | os.PathLike[str]) -> CameraSettings:
    """Read exposure time, ISO and f-number from the EXIF data of a picture.

    Parameters
    ----------
    path
        A TIFF, PNG or JPEG file, or camera raw.

    Raises
    ------
    OSError
        If the file cannot be opened.
    ValueError
        If it is no picture.
    """
    if is_raw(path):
        from hdr.raw import read_raw_settings  # which needs this module

        return read_raw_settings(path)
    if Path(path).suffix.lower() in RADIANCE_SUFFIXES:
        Path(path).stat()  # the operating system's own words where there is no such file
        return CameraSettings(None, None, None)
    return settings_of(read_camera_tags(Path(path)).exposure)


def settings_of(tags: Mapping[int, Any]) -> CameraSettings:
    """Settings by the numbers of EXIF's tags."""
    sensitivities = (_positive(tags.get(tag)) for tag in _ISO_TAGS)
    return CameraSettings(
        time=_positive(tags.get(_EXPOSURE_TIME)) or _of_apex(tags.get(_SHUTTER_SPEED_VALUE), lambda v: 2.0**-v),
        iso=next((value for value in sensitivities if value is not None and value != _ISO_SATURATED), None),
        f_number=_positive(tags.get(_F_NUMBER)) or _of_apex(tags.get(_APERTURE_VALUE), lambda v: 2.0 ** (v / 2)),
    )


def exposures_from_exif(paths: Sequence[str | os.PathLike[str]]) -> list[float]:
    """Exposures t * ISO / N^2 of a bracket, from EXIF data.

    A setting that no picture of the bracket states is taken as constant, with a warning; one that only some state is
    an error, because a bracket with automatic ISO would be merged wrongly.

    Parameters
    ----------
    paths
        The pictures of one bracket.

    Returns
    -------
    list of float
        One positive exposure for each picture, proportional to the light that the sensor turned into its values.

    Raises
    ------
    ValueError
        If an exposure time is missing, or ISO or f-number is stated by some of the pictures only.
    """
    settings = [read_camera_settings(path) for path in paths]
    without_time = [os.fspath(path) for path, one in zip(paths, settings, strict=True) if one.time is None]
    if without_time:
        raise RefusedError(f"no exposure time in the EXIF data of {', '.join(map(str, without_time))}; {_REMEDY}")
    isos = _constant_if_unstated("ISO", paths, [one.iso for one in settings])
    f_numbers = _constant_if_unstated("f-number", paths, [one.f_number for one in settings])
    times = [one.time for one in settings if one.time is not None]
    return [time * iso / f_number**2 for time, iso, f_number in zip(times, isos, f_numbers, strict=True)]


def parse_numbers(text: str) -> list[float]:
    """Numbers and fractions separated by commas, semicolons or blanks, as exposure times and EV are written.

    Examples
    --------
    >>> parse_numbers("1/4, 2,-0.5"), parse_numbers("1/60 1/15")
    ([0.25, 2.0, -0.5], [0.016666666666666666, 0.06666666666666667])
    """
    try:
        return [float(Fraction(word.strip())) for word in _SEPARATOR.split(text.strip())]
    except (ValueError, ZeroDivisionError, OverflowError) as error:
        raise RefusedError(
            f"expected numbers or fractions with commas or blanks between, such as 1/60,1/15, got {text!r}"
        ) from error


def exposures_from_ev(exposure_values: Sequence[float]) -> list[float]:
    """Exposures 2^EV of exposure values such as -2, 0, 2; one more EV is twice the light.

    Examples
    --------
    >>> exposures_from_ev([-2.0, 0.0, 2.0])
    [0.25, 1.0, 4.0]
    """
    for value in exposure_values:
        if not abs(value) <= 64:  # also refuses NaN
            raise RefusedError(f"exposure values are in EV, within -64 and 64; got {value}")
    return [2.0**value for value in exposure_values]


def read_exposure_file(path: str | os.PathLike[str]) -> list[float]:
    """Read a file of exposure values in the layout of Kalantari and Ramamoorthi: one EV a line, in the files' order.

    Commas between them will do, too.

    Parameters
    ----------
    path
        A text file such as ``input_exp.txt`` or ``exposure.txt``.

    Returns
    -------
    list of float
        Exposures 2^EV.

    Raises
    ------
    OSError
        If the file cannot be opened.
    ValueError
        If it holds anything but numbers.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig").strip().strip(",;")
        values = [float(word) for word in _SEPARATOR.split(text)] if text else []
    except ValueError as error:  # a UnicodeDecodeError is one too
        raise RefusedError(
            f"{path}: expected one exposure value in EV a line, such as -2, 0 and 2 ({error})"
        ) from error
    if not values:
        raise RefusedError(f"{path}: the file is empty; expected one exposure value in EV a line")
    return exposures_from_ev(values)


def warn_if_camera_disagrees(paths: Sequence[str | os.PathLike[str]], exposures: Sequence[float]) -> None:
    """Warn where stated exposures differ by more than half an EV from what the camera wrote down, if it did.

    The usual reason is automatic ISO: the times are right, and the exposures are not their ratios.
    """
    settings = [read_camera_settings(path) for path in paths]
    if any(None in (one.time, one.iso, one.f_number) for one in settings):
        return
    recorded = exposures_from_exif(paths)
    differences = [math.log2(given / camera) for given, camera in zip(exposures, recorded, strict=True)]
    if max(differences) - min(differences) > 0.5:
        warnings.warn(
            f"the exposures given are {_ratios(exposures)}, but the camera recorded {_ratios(recorded)} "
            "(time * ISO / N^2); merging with those given. Leave them out to use the camera's",
            stacklevel=3,
        )


def _ratios(exposures: Sequence[float]) -> str:
    return " : ".join(f"{exposure / min(exposures):.3g}" for exposure in exposures)


def _constant_if_unstated(
    name: str, paths: Sequence[str | os.PathLike[str]], values: Sequence[float | None]
) -> list[float]:
    stated = [value for value in values if value is not None]
    if len(stated) == len(values):
        return stated
    if not stated:
        warnings.warn(f"the pictures do not state their {name}; it is taken as the same for all", stacklevel=4)
        return [1.0] * len(values)
    missing = ", ".join(str(path) for path, value in zip(paths, values, strict=True) if value is None)
    raise RefusedError(f"no {name} in the EXIF data of {missing}, but in that of the others; {_REMEDY}")


def _of_apex(value: Any, formula: Callable[[float], float]) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return _positive(formula(number)) if abs(number) <= 64 else None  # also refuses NaN


def _positive(value: Any) -> float | None:
    # ISO may be a tuple, rationals may be 0/0, and 0 is what cameras write for "unknown".
    if isinstance(value, tuple):
        value = value[0] if value else None
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return number if number > 0 and math.isfinite(number) else None
