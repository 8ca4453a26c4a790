"""Promises of reading pictures: upright RGB, or a line that says what is wrong."""

from __future__ import annotations

import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from captum_ext.classifiers import ImageFileError, read_image

RED, BLUE = (255, 0, 0), (0, 0, 255)


def test_exif_orientation_is_applied(tmp_path: Path):
    # Orientation 6: the camera lay on its side, and the stored left edge is the top of the scene.
    stored = Image.new("RGB", (20, 10), BLUE)
    stored.paste(RED, (0, 0, 10, 10))
    exif = Image.Exif()
    exif[0x0112] = 6
    stored.save(tmp_path / "side.png", exif=exif)
    upright = read_image(tmp_path / "side.png")
    assert upright.size == (10, 20)
    assert upright.getpixel((5, 2)) == RED
    assert upright.getpixel((5, 17)) == BLUE


def test_sixteen_bits_are_divided_not_clipped(tmp_path: Path):
    Image.fromarray(np.array([[0, 128 * 257, 65535]], dtype=np.uint16)).save(tmp_path / "deep.png")
    assert np.asarray(read_image(tmp_path / "deep.png"))[0].tolist() == [[0] * 3, [128] * 3, [255] * 3]


def test_transparency_is_laid_on_white(tmp_path: Path):
    Image.new("RGBA", (2, 2), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert read_image(tmp_path / "clear.png").getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "RGB"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str):
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.new(mode, (3, 2)).save(path)
    assert read_image(path).mode == "RGB"


def test_missing_file_and_directory_are_named(tmp_path: Path):
    with pytest.raises(ImageFileError, match=r"none\.jpg: there is no such file"):
        read_image(tmp_path / "none.jpg")
    with pytest.raises(ImageFileError, match="is a directory; name the images"):
        read_image(tmp_path)


def test_text_and_damaged_pictures_are_refused(tmp_path: Path):
    (tmp_path / "text.jpg").write_text("not a picture")
    with pytest.raises(ImageFileError, match=r"text\.jpg: is not an image"):
        read_image(tmp_path / "text.jpg")
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:2000])
    with pytest.raises(ImageFileError, match=r"cut\.jpg: cannot be read"):
        read_image(tmp_path / "cut.jpg")


@pytest.mark.parametrize("factor", [1, 3])  # Pillow warns above its limit, and raises above twice its limit
def test_huge_picture_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factor: int):
    Image.new("RGB", (100, 30 * factor)).save(tmp_path / "huge.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2500)
    with pytest.raises(ImageFileError, match="pixels; make it smaller"):
        read_image(tmp_path / "huge.png")


def test_very_thin_picture_is_refused(tmp_path: Path):
    Image.new("RGB", (2001, 20)).save(tmp_path / "thin.png")
    with pytest.raises(ImageFileError, match="2001 x 20 pixels; sides may differ"):
        read_image(tmp_path / "thin.png")


def test_floating_point_picture_is_refused(tmp_path: Path):
    Image.fromarray(np.zeros((4, 4), dtype=np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(ImageFileError, match="unknown range"):
        read_image(tmp_path / "float.tif")


@pytest.mark.parametrize(("lowest", "highest"), [(0, 2**31 - 1), (-1, 255)])
def test_integers_of_unknown_range_are_refused(tmp_path: Path, lowest: int, highest: int):
    Image.fromarray(np.array([[lowest, highest]], dtype=np.int32)).save(tmp_path / "integers.tif")
    with pytest.raises(ImageFileError, match=f"integers.tif: holds integers from {lowest} to {highest}, of unknown"):
        read_image(tmp_path / "integers.tif")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP"])
def test_damaged_pictures_are_read_or_refused_with_their_name(tmp_path: Path, kind):
    path, chance = tmp_path / "picture", random.Random(5)
    noise = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, kind)
    content, refusals = path.read_bytes(), []
    for _ in range(200):
        start, length = chance.randrange(len(content)), chance.randrange(1, 20)
        changed = chance.choice([b"", chance.randbytes(length)])
        path.write_bytes(content[:start] + changed + content[start + length :])
        try:
            read_image(path)
        except ImageFileError as error:
            refusals.append(str(error))
    assert refusals
    assert all(message.startswith(f"{path}: ") for message in refusals)


def test_a_png_with_a_short_header_is_named(tmp_path: Path):
    path = tmp_path / "short.png"
    header = struct.pack(">I", 4) + b"IHDR" + b"\0\0\0\1"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + struct.pack(">I", zlib.crc32(header[4:])))
    with pytest.raises(ImageFileError, match=r"short\.png: "):
        read_image(path)
