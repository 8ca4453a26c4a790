"""Photographs for the tests: pixels, EXIF data and files written without the package's own code."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

EXPOSURE_TIME, F_NUMBER, ISO, ORIENTATION = 0x829A, 0x829D, 0x8827, 0x0112


def random_pixels(height: int = 24, width: int = 32, depth: type = np.uint8, seed: int = 0) -> NDArray:
    return np.random.default_rng(seed).integers(0, np.iinfo(depth).max + 1, (height, width, 3)).astype(depth)


def write_photograph(
    path: Path,
    pixels: NDArray | None = None,
    *,
    time: float | None = None,
    iso: int | None = None,
    f_number: float | None = None,
    orientation: int | None = None,
) -> Path:
    """Write an 8-bit picture with EXIF data by Pillow."""
    exif = Image.Exif()
    settings = {EXPOSURE_TIME: time, F_NUMBER: f_number, ISO: iso}
    exif.get_ifd(0x8769).update({tag: value for tag, value in settings.items() if value is not None})
    exif[ORIENTATION] = orientation or 1  # without any tag of its own Pillow drops the whole directory
    Image.fromarray(random_pixels() if pixels is None else pixels).save(path, exif=exif.tobytes())
    return path


def write_16_bit(path: Path, pixels: NDArray) -> Path:
    """Write 16-bit RGB by OpenCV."""
    assert cv2.imwrite(str(path), pixels[..., ::-1])
    return path


def write_16_bit_tiff(path: Path, pixels: NDArray, orientation: int) -> Path:
    """Write an uncompressed 16-bit RGB TIFF with an orientation, byte by byte, because no library here can."""
    height, width, _ = pixels.shape
    data = pixels.astype("<u2").tobytes()
    bits = len(data) + 8
    entries = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 3, bits),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (273, 4, 1, 8),
        (274, 3, 1, orientation),
        (277, 3, 1, 3),
        (278, 4, 1, height),
        (279, 4, 1, len(data)),
        (284, 3, 1, 1),
    ]
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    header = struct.pack("<2sHI", b"II", 42, bits + 6)
    path.write_bytes(header + data + struct.pack("<HHH", 16, 16, 16) + directory + struct.pack("<I", 0))
    return path
