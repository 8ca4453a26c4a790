"""Small DNG files whose light is known: a Bayer mosaic with black level, written as the TIFF that a DNG is."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

_PRIVATE_TAG, _EXIF_DIRECTORY = 65000, 34665

BLACK, WHITE = 512, 16383  # levels of 14 bits
XYZ_TO_REC709 = np.array(
    [[3.2404542, -1.5371385, -0.4985314], [-0.9692660, 1.8760108, 0.0415560], [0.0556434, -0.2040259, 1.0572252]]
)


def write_dng(
    path: Path,
    light: NDArray[np.float64],
    time: float | None = 0.01,
    iso: int | None = 100,
    f_number: float | None = 4.0,
    neutral: tuple[float, float, float] = (1.0, 1.0, 1.0),
    orientation: int = 1,
    noise: float = 0.0,
    seed: int = 0,
    colours: NDArray[np.float64] | None = None,
    with_matrix: bool = True,
    moment: str | None = None,
) -> None:
    """Photograph light (H, W, 3), linear Rec. 709 in which a channel clips at 1, by a sensor of RGGB pixels.

    ``neutral`` is what the sensor sees of white: the camera's white balance is its inverse. ``colours`` turn the
    sensor's, white-balanced, into Rec. 709 (rows of sum 1); without them the two are the same.
    """
    to_sensor = np.eye(3) if colours is None else np.linalg.inv(colours)
    seen = light @ to_sensor.T * np.array(neutral)
    mosaic = np.empty(light.shape[:2])
    for row, column, channel in ((0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 2)):
        mosaic[row::2, column::2] = seen[row::2, column::2, channel]
    if noise:
        mosaic = mosaic + noise * np.random.default_rng(seed).standard_normal(mosaic.shape)
    levels = np.clip(np.rint(BLACK + mosaic * (WHITE - BLACK)), 0, WHITE).astype(np.uint16)

    def rationals(values: NDArray[np.float64] | tuple[float, ...]) -> tuple[int, ...]:
        return tuple(part for value in np.ravel(values) for part in (round(value * 1_000_000), 1_000_000))

    tags: list[tuple[int, int, int, object, bool]] = [
        (33421, 3, 2, (2, 2), False),  # CFARepeatPatternDim
        (33422, 1, 4, bytes([0, 1, 1, 2]), False),  # CFAPattern
        (50706, 1, 4, bytes([1, 4, 0, 0]), False),  # DNGVersion
        (50708, 2, 0, "Test Camera", False),  # UniqueCameraModel
        (50714, 3, 1, BLACK, False),
        (50717, 4, 1, WHITE, False),
        (50721, 10, 9, rationals(to_sensor @ XYZ_TO_REC709), False),  # ColorMatrix1
        (50728, 5, 3, rationals(neutral), False),  # AsShotNeutral
        (50778, 3, 1, 21, False),  # of D65
        (271, 2, 0, "Test", False),
        (272, 2, 0, "Test Camera", False),
        (274, 3, 1, orientation, False),
    ]
    if not with_matrix:
        tags = [tag for tag in tags if tag[0] not in (50721, 50778)]
    if moment is not None:
        tags.append((306, 2, 0, moment, False))
    if time is not None:
        tags.append((33434, 5, 1, rationals((time,)), False))
    if f_number is not None:
        tags.append((33437, 5, 1, rationals((f_number,)), False))
    tags.append((_PRIVATE_TAG, 4, 1, 0, False))
    tifffile.imwrite(path, levels, photometric=32803, metadata=None, byteorder="<", extratags=sorted(tags))
    # ISO stands in a directory of its own, which tifffile does not write: one entry, or none, at the end of the file,
    # to which a private tag becomes the pointer.
    data = path.read_bytes()
    place = struct.pack("<HHII", _PRIVATE_TAG, 4, 1, 0)
    assert data.count(place) == 1
    entries = b"" if iso is None else struct.pack("<HHIHH", 34855, 3, 1, iso, 0)
    directory = struct.pack("<H", len(entries) // 12) + entries + struct.pack("<I", 0)
    data += b"\0" * (len(data) % 2)
    path.write_bytes(data.replace(place, struct.pack("<HHII", _EXIF_DIRECTORY, 4, 1, len(data))) + directory)


def store_as_jpeg_xl(path: Path) -> None:
    """Say in a DNG file that its pixels are JPEG XL, which LibRaw does not develop by itself."""
    data, compression = path.read_bytes(), struct.pack("<HHIHH", 259, 3, 1, 1, 0)
    assert data.count(compression) == 1
    path.write_bytes(data.replace(compression, struct.pack("<HHIHH", 259, 3, 1, 52546, 0)))


def cut_short(path: Path) -> None:
    """Take the end of the pixels away from a DNG file: here what the camera wrote down stands behind them."""
    with tifffile.TiffFile(path) as file:
        (offset,) = file.pages[0].tags["StripOffsets"].value
    data, place = path.read_bytes(), struct.pack("<HHI", 273, 4, 1)
    assert data.count(place + struct.pack("<I", offset)) == 1
    path.write_bytes(data.replace(place + struct.pack("<I", offset), place + struct.pack("<I", len(data) - 1000)))
