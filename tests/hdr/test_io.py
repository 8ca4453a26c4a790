"""Files: what is read is what was written by others, what cannot be read is named, what is written is whole."""

import dataclasses
import errno
import os
import struct
import sys
import zlib
from contextlib import contextmanager, nullcontext
from pathlib import Path

import cv2
import numpy as np
import OpenEXR
import pytest
import tifffile
import torch
from PIL import ExifTags, Image, ImageCms, JpegImagePlugin

from hdr._files import check_writable, written_whole
from hdr._photographs import _colours
from hdr._radiance import told_photographs
from hdr._transfer import hdr_transfer
from hdr.bracket import Bracket
from hdr.exposure import read_camera_settings
from hdr.io import check_radiance, read_ldr, read_photograph, read_radiance, write_image, write_preview, write_radiance
from hdr.merge import Merger
from hdr.response import Response
from hdr.tonemap import tonemap
from tests.hdr.brackets import textured
from tests.hdr.encoders import need_encoder
from tests.hdr.photographs import random_pixels, write_16_bit, write_16_bit_tiff, write_photograph

# The eight orientations of EXIF 2.3 by what has to be done to the stored pixels, written out by hand.
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[:, ::-1],
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a.swapaxes(0, 1)[::-1],
}


def as_tensor(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)).astype(np.float64)).float()


def radiance(height: int = 20, width: int = 30) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(3, height, width, generator=generator).pow(6).mul(1e4)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_8_bit_values_are_read_exactly(tmp_path, suffix):
    pixels = random_pixels()
    Image.fromarray(pixels).save(tmp_path / f"a{suffix}")
    torch.testing.assert_close(read_ldr(tmp_path / f"a{suffix}"), as_tensor(pixels) / 255, rtol=1e-6, atol=0)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_values_are_read_in_full_depth(tmp_path, suffix):
    pixels = random_pixels(depth=np.uint16)
    path = write_16_bit(tmp_path / f"a{suffix}", pixels)
    torch.testing.assert_close(read_ldr(path), as_tensor(pixels) / 65535, rtol=1e-6, atol=0)


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_orientation_of_8_bit_pictures_is_honoured(tmp_path, suffix, orientation):
    pixels = np.kron(random_pixels(4, 6), np.ones((8, 8, 1), np.uint8))  # large blocks survive JPEG
    path = write_photograph(tmp_path / f"a{suffix}", pixels, orientation=orientation)
    expected = as_tensor(UPRIGHT[orientation](pixels)) / 255
    assert read_ldr(path).shape == expected.shape
    assert float((read_ldr(path) - expected).abs().mean()) < 0.08


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_orientation_of_16_bit_tiff_is_honoured(tmp_path, orientation):
    pixels = random_pixels(20, 28, np.uint16)
    path = write_16_bit_tiff(tmp_path / "a.tif", pixels, orientation)
    torch.testing.assert_close(read_ldr(path), as_tensor(UPRIGHT[orientation](pixels)) / 65535, rtol=1e-6, atol=0)


def png_chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def told_in_exif(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return exif.tobytes()


def told_in_xmp(orientation: int) -> bytes:
    tiff = f'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="{orientation}"'
    rdf = f'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description {tiff}/></rdf:RDF>'
    return f'<x:xmpmeta xmlns:x="adobe:ns:meta/">{rdf}</x:xmpmeta>'.encode()


def orientation_chunk(kind: str, orientation: int) -> bytes:
    """As programs tell an orientation in PNG: eXIf (third edition), ImageMagick before it, and editors in XMP."""
    exif = told_in_exif(orientation)
    if kind == "eXIf":
        return png_chunk(b"eXIf", exif.removeprefix(b"Exif\0\0"))
    if kind == "raw profile":
        return png_chunk(b"tEXt", b"Raw profile type exif\0" + f"\nexif\n{len(exif):8}\n{exif.hex()}\n".encode())
    return png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + told_in_xmp(orientation))


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("kind", ["eXIf", "raw profile", "XMP"])
@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_orientation_of_png_is_honoured_wherever_it_is_told(tmp_path, depth, kind, orientation):
    pixels, path = random_pixels(20, 28, depth), tmp_path / "a.png"
    assert cv2.imwrite(str(path), pixels[..., ::-1])
    data = path.read_bytes()
    place = data.index(b"IDAT") - 4
    path.write_bytes(data[:place] + orientation_chunk(kind, orientation) + data[place:])
    expected = as_tensor(UPRIGHT[orientation](pixels)) / np.iinfo(depth).max
    torch.testing.assert_close(read_ldr(path), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_orientation_of_tiff_is_honoured_once_where_xmp_tells_it(tmp_path, depth, both, orientation):
    pixels, xmp = random_pixels(20, 28, depth), told_in_xmp(orientation)
    tags = [(700, "B", len(xmp), xmp, True), (274, "H", 1, orientation, True)]
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", extratags=tags[: 1 + both])
    expected = as_tensor(UPRIGHT[orientation](pixels)) / np.iinfo(depth).max
    torch.testing.assert_close(read_ldr(tmp_path / "a.tif"), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_orientation_of_linear_light_is_honoured(tmp_path, orientation):
    light = np.random.default_rng(0).random((20, 28, 3), np.float32)
    tifffile.imwrite(tmp_path / "a.tif", light, photometric="rgb", extratags=[(274, "H", 1, orientation, True)])
    assert torch.equal(read_ldr(tmp_path / "a.tif"), as_tensor(UPRIGHT[orientation](light)))


@pytest.mark.parametrize(
    ("mode", "suffix", "named"),
    [
        ("1", ".png", "black and white"),
        ("RGBA", ".png", "alpha channel, transparent in parts"),
        ("RGBA", ".tif", "alpha channel, transparent in parts"),
        ("LA", ".png", "alpha"),
        ("CMYK", ".jpg", "CMYK"),
        ("CMYK", ".tif", "CMYK"),
        ("P", ".png", "palette"),
    ],
)
def test_pictures_that_are_neither_rgb_nor_grey_are_refused_by_kind(tmp_path, mode, suffix, named):
    path = tmp_path / f"a{suffix}"
    Image.new(mode, (32, 24)).save(path)
    with pytest.raises(ValueError, match=f"a{suffix}: an? .*{named}"):
        read_ldr(path)


def test_transparent_colours_are_refused(tmp_path):
    Image.new("RGB", (32, 24)).save(tmp_path / "a.png", transparency=(0, 0, 0))
    with pytest.raises(ValueError, match="transparent colour"):
        read_ldr(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_alpha_is_refused(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    cv2.imwrite(str(path), np.full((24, 32, 4), 700, np.uint16))
    with pytest.raises(ValueError, match="alpha"):
        read_ldr(path)


@pytest.mark.parametrize(
    ("suffix", "depth", "tolerance"),
    [
        (".png", np.uint8, 0),
        (".tif", np.uint8, 0),
        (".jpg", np.uint8, 6),
        (".png", np.uint16, 0),
        (".tif", np.uint16, 0),
    ],
)
def test_grey_pictures_have_three_equal_channels(tmp_path, suffix, depth, tolerance):
    pixels = np.sort(random_pixels(24, 32, depth)[..., 0])
    path = tmp_path / f"a{suffix}"
    assert cv2.imwrite(str(path), pixels, [cv2.IMWRITE_JPEG_QUALITY, 98])
    largest = np.iinfo(depth).max
    found = read_ldr(path)
    assert found.shape == (3, 24, 32)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    np.testing.assert_allclose(found[0].numpy(), pixels / largest, rtol=1e-6, atol=tolerance / largest)


def grey_tiff(width: int, height: int, bits: int, data: bytes, sample_format: int = 1) -> bytes:
    """A little-endian TIFF of one uncompressed strip (TIFF 6.0, section 4)."""
    shorts = {258: bits, 259: 1, 262: 1, 277: 1, 339: sample_format}
    longs = {256: width, 257: height, 273: 8, 278: height, 279: len(data)}
    entries = sorted([(tag, 3, value) for tag, value in shorts.items()] + [(tag, 4, v) for tag, v in longs.items()])
    directory = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    data += b"\0" * (len(data) % 2)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(entries)) + directory + b"\0" * 4


@pytest.mark.parametrize(
    ("bits", "sample_format", "said"),
    [(12, 1, "12 bits per channel"), (32, 1, "32 bits per"), (32, 2, "32 bits per"), (16, 2, "numbers with a sign")],
)
def test_levels_of_other_kinds_are_refused(tmp_path, bits, sample_format, said):
    path = tmp_path / "a.tif"
    path.write_bytes(grey_tiff(32, 24, bits, np.arange(32 * 24 * bits // 8).astype(np.uint8).tobytes(), sample_format))
    with pytest.raises(ValueError, match=rf"a\.tif: {said}.*: convert it first"):
        read_ldr(path)


def test_grey_levels_that_pillow_calls_integers_are_read(tmp_path):
    pixels = random_pixels(24, 32, np.uint16)[..., 0]
    path = tmp_path / "a.tif"
    path.write_bytes(grey_tiff(32, 24, 16, pixels.tobytes()))
    np.testing.assert_allclose(read_ldr(path)[0].numpy(), pixels / 65535, rtol=1e-6)


@pytest.mark.parametrize("byteorder", "<>")
@pytest.mark.parametrize("depth", [np.uint16, np.float32])
def test_planes_that_opencv_would_take_for_pixels_are_refused(tmp_path, depth, byteorder):
    planes = np.linspace(0.1, 0.9, 3 * 24 * 32, dtype=np.float32).reshape(3, 24, 32)
    planes = planes if depth is np.float32 else (planes * 65535).astype(depth)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, planes, photometric="rgb", planarconfig="separate", byteorder=byteorder)
    with pytest.raises(ValueError, match=r"a\.tif: its colours lie in separate planes.*: convert it first"):
        read_ldr(path)


def test_planes_that_pillow_reads_are_read(tmp_path):
    pixels = random_pixels()
    tifffile.imwrite(tmp_path / "a.tif", pixels.transpose(2, 0, 1), photometric="rgb", planarconfig="separate")
    torch.testing.assert_close(read_ldr(tmp_path / "a.tif"), as_tensor(pixels) / 255)


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_a_grey_picture_in_which_white_is_zero_is_no_negative(tmp_path, depth):
    pixels, path = random_pixels(depth=depth)[..., 0], tmp_path / "a.tif"
    tifffile.imwrite(path, np.iinfo(depth).max - pixels, photometric="miniswhite")
    if depth is np.uint16:
        with pytest.raises(ValueError, match=r"a\.tif: white is zero in it.*: convert it first"):
            read_ldr(path)
    else:
        np.testing.assert_allclose(read_ldr(path)[0].numpy(), pixels / 255, rtol=1e-6)


@pytest.mark.parametrize("depth", [np.uint8, np.uint16, np.float32])
def test_a_preview_is_not_taken_for_the_picture_behind_it(tmp_path, depth):
    pixels, path = np.full((24, 32, 3), 1, depth), tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as file:
        file.write(pixels[::4, ::4], photometric="rgb", subfiletype=1)
        file.write(pixels, photometric="rgb")
    with pytest.raises(ValueError, match=r"a\.tif: its first picture is a small preview.*: convert it first"):
        read_ldr(path)


def test_of_several_pictures_of_one_size_the_first_is_read(tmp_path):
    pixels = random_pixels(depth=np.uint16)
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(pixels, photometric="rgb", subfiletype=2)  # a page of several
        file.write(pixels[::-1], photometric="rgb")
    torch.testing.assert_close(read_ldr(tmp_path / "a.tif"), as_tensor(pixels) / 65535)


def test_other_picture_formats_are_refused_by_name(tmp_path):
    Image.fromarray(random_pixels()).save(tmp_path / "a.bmp")
    with pytest.raises(ValueError, match="BMP file; photographs are read from TIFF, PNG, JPEG, AVIF and HEIC"):
        read_ldr(tmp_path / "a.bmp")


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
@pytest.mark.parametrize("kept", [0.0, 0.02, 0.3, 0.6, 0.9])
def test_truncated_8_bit_files_are_refused(tmp_path, suffix, kept):
    whole = write_photograph(tmp_path / f"whole{suffix}", random_pixels(60, 80))
    cut = tmp_path / f"cut{suffix}"
    cut.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * kept)])
    with pytest.raises(ValueError, match=f"cut{suffix}: damaged"):
        read_ldr(cut)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("kept", [0.0, 0.02, 0.3, 0.6, 0.9])
@pytest.mark.filterwarnings("ignore:.*EXIF data:UserWarning")
def test_truncated_16_bit_files_are_refused(tmp_path, suffix, kept):
    whole = write_16_bit(tmp_path / f"whole{suffix}", random_pixels(60, 80, np.uint16))
    cut = tmp_path / f"cut{suffix}"
    cut.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * kept)])
    with pytest.raises(ValueError, match=f"cut{suffix}: damaged"):
        read_ldr(cut)


def test_more_pixels_than_pillow_opens_are_no_damage(tmp_path, monkeypatch):
    write_photograph(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 300)  # of which Pillow opens twice as many, with a warning
    with pytest.raises(ValueError, match=r"a\.png: damaged, or of more pixels than are read: make it smaller first"):
        read_ldr(tmp_path / "a.png")


def test_impossible_dimensions_are_refused(tmp_path):
    path = write_16_bit_tiff(tmp_path / "a.tif", random_pixels(depth=np.uint16), orientation=1)
    width_entry = struct.pack("<HHII", 256, 4, 1, 32)
    path.write_bytes(path.read_bytes().replace(width_entry, struct.pack("<HHII", 256, 4, 1, 2**30)))
    with pytest.raises(ValueError, match=r"a.tif: damaged, or of more pixels than are read"):
        read_ldr(path)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_random_damage_is_refused_or_read_and_never_anything_else(tmp_path, suffix):
    source, path, told = np.random.default_rng(0), tmp_path / f"cut{suffix}", []
    whole = write_photograph(tmp_path / f"whole{suffix}", random_pixels(40, 50)).read_bytes()
    for _ in range(60):
        damaged = np.frombuffer(whole, np.uint8).copy()
        damaged[source.integers(0, 300, 3)] = source.integers(0, 256, 3)
        path.write_bytes(damaged.tobytes())
        try:
            assert read_ldr(path).shape[0] == 3
        except ValueError as error:
            told.append(str(error))
    assert told
    assert all(message.startswith(f"{path}: ") for message in told)


@pytest.mark.parametrize("text", ["", "no picture"])
def test_text_is_not_a_picture(tmp_path, text):
    (tmp_path / "a.jpg").write_text(text)
    with pytest.raises(
        ValueError, match=r"a.jpg: damaged, or not a picture of 8 or 16 bits as TIFF, PNG, JPEG, HEIC or AVIF$"
    ):
        read_ldr(tmp_path / "a.jpg")


def test_missing_photograph_is_named():
    with pytest.raises(FileNotFoundError, match=r"nowhere.jpg"):
        read_ldr("nowhere.jpg")


@pytest.mark.parametrize("suffix", [".CR2", ".nef", ".dng"])
def test_camera_raw_is_not_taken_for_a_photograph(tmp_path, suffix):
    (tmp_path / f"a{suffix}").write_bytes(b"II*\0")
    with pytest.raises(ValueError, match=r"camera raw, which hdr\.raw\.read_raw reads"):
        read_ldr(tmp_path / f"a{suffix}")


def test_exr_keeps_every_bit(tmp_path):
    write_radiance(tmp_path / "a.exr", radiance())
    assert torch.equal(read_radiance(tmp_path / "a.exr"), radiance())


def test_hdr_keeps_radiance_within_a_step_of_its_shared_exponent(tmp_path):
    write_radiance(tmp_path / "a.hdr", radiance())
    step = radiance().amax(dim=0) / 128  # 8 bits of mantissa for the largest of the three, which is at least half full
    assert bool(((read_radiance(tmp_path / "a.hdr") - radiance()).abs() <= step).all())


def test_light_that_a_shared_exponent_cannot_hold_is_refused_and_not_made_black(tmp_path):
    # A mantissa of 255 / 256 and the largest exponent, 255 - 128: Ward, "Real pixels", Graphics Gems II.
    brightest = 255 / 256 * 2.0**127
    write_radiance(tmp_path / "a.hdr", torch.full((3, 2, 9), brightest))
    assert float(read_radiance(tmp_path / "a.hdr").min()) == pytest.approx(brightest)
    with pytest.raises(ValueError, match=r"radiance of 1\.75e\+38 is too large"):
        write_radiance(tmp_path / "b.hdr", torch.full((3, 2, 9), 1.75e38))


def test_exr_of_others_is_read_by_channel_name(tmp_path):
    pixels = np.random.default_rng(0).random((20, 30, 4)).astype(np.float16)
    channels = {name: np.ascontiguousarray(pixels[..., index]) for index, name in enumerate("BGRZ")}
    OpenEXR.File({}, channels).write(str(tmp_path / "a.exr"))
    expected = torch.from_numpy(pixels[..., [2, 1, 0]].astype(np.float32)).permute(2, 0, 1)
    assert torch.equal(read_radiance(tmp_path / "a.exr"), expected)


@pytest.mark.parametrize(("value", "said"), [(float("nan"), "NaN"), (float("inf"), "infinite"), (-0.5, "negative")])
def test_exr_with_impossible_radiance_is_refused(tmp_path, value, said):
    pixels = np.ones((20, 30, 3), np.float32)
    pixels[3, 4, 1] = value
    OpenEXR.File({}, {"RGB": pixels}).write(str(tmp_path / "a.exr"))
    with pytest.raises(ValueError, match=f"a.exr: 1 of 1800 values .*{said}"):
        read_radiance(tmp_path / "a.exr")


def test_grey_exr_is_refused_with_the_channels_it_has(tmp_path):
    OpenEXR.File({}, {"Y": np.ones((20, 30), np.float32)}).write(str(tmp_path / "a.exr"))
    with pytest.raises(ValueError, match="R, G and B are needed; R, G, B missing, there are: Y"):
        read_radiance(tmp_path / "a.exr")


@pytest.mark.parametrize("suffix", [".hdr", ".exr", ".tif"])
def test_a_radiance_file_says_of_which_photographs_it_is(tmp_path, suffix):
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = "OLYMPUS DIGITAL CAMERA"
    told = {"photographs": "0123456789abcdef", "comments": "photographs 7"}
    write_radiance(tmp_path / f"a{suffix}", radiance(), attributes=told, exif=exif.tobytes())
    assert told_photographs(tmp_path / f"a{suffix}") == "0123456789abcdef"
    assert read_radiance(tmp_path / f"a{suffix}").shape == radiance().shape
    write_radiance(tmp_path / f"b{suffix}", radiance(), attributes={"software": "captum-ext"})
    assert told_photographs(tmp_path / f"b{suffix}") == ""
    (tmp_path / f"c{suffix}").write_bytes((tmp_path / f"a{suffix}").read_bytes()[:20])
    (tmp_path / f"d{suffix}").write_bytes(b"")
    assert [told_photographs(tmp_path / f"{name}{suffix}") for name in "cd"] == [None, None]
    with pytest.raises(FileNotFoundError):
        told_photographs(tmp_path / f"none{suffix}")


def test_a_radiance_file_says_how_bright_its_values_are(tmp_path):
    write_radiance(tmp_path / "a.hdr", radiance(), attributes={"whiteLuminance": 358.0})
    header = (tmp_path / "a.hdr").read_bytes().partition(b"\n\n")[0]
    # A value over EXPOSURE is in W/(sr m^2), of which each has 179 lm: 1 / 0.5 * 179 is 358 cd/m^2.
    assert b"\nEXPOSURE=0.5\n" in header


@pytest.mark.parametrize("suffix", [".hdr", ".exr"])
@pytest.mark.parametrize("kept", [0.0, 0.02, 0.3, 0.6, 0.9])
def test_truncated_radiance_is_refused(tmp_path, suffix, kept):
    whole, cut = tmp_path / f"whole{suffix}", tmp_path / f"cut{suffix}"
    write_radiance(whole, radiance(60, 80))
    cut.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * kept)])
    with pytest.raises(ValueError, match=f"cut{suffix}"):
        read_radiance(cut)


@pytest.mark.parametrize("name", ["a.hdr", "a.exr"])
def test_picture_under_the_name_of_a_radiance_file_is_refused(tmp_path, name):
    # OpenCV decodes by content: a PNG called .hdr would come back as radiance from 0 to 255.
    Image.fromarray(random_pixels()).save(tmp_path / name, format="png")
    with pytest.raises(ValueError, match=f"{name}: damaged, or not an? .*file"):
        read_radiance(tmp_path / name)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1e-3])
@pytest.mark.parametrize("name", ["a.exr", "a.hdr", "a.png"])
def test_impossible_radiance_is_not_written(tmp_path, name, value):
    broken = radiance()
    broken[0, 0, 0] = value
    write = write_preview if name.endswith("png") else write_radiance
    with pytest.raises(ValueError, match="radiance: 1 of 1800 values"):
        write(tmp_path / name, broken)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shape", [(1, 20, 30), (20, 30, 3), (1, 3, 20, 30)])
def test_radiance_of_another_shape_is_refused(shape):
    with pytest.raises(ValueError, match=r"expected radiance of shape \(3, H, W\)"):
        check_radiance(torch.ones(shape), "scene")


@pytest.mark.parametrize(("write", "name"), [(write_radiance, "a.jpg"), (write_preview, "a.exr"), (write_preview, "a")])
def test_unknown_suffixes_are_refused(tmp_path, write, name):
    with pytest.raises(ValueError, match=r"(is|are) written to"):
        write(tmp_path / name, radiance())


@pytest.mark.parametrize("operator", ["reinhard", "mu-law", "local"])
@pytest.mark.parametrize(("name", "levels"), [("a.png", 255), ("a.tif", 65535), ("a.tiff", 65535)])
def test_previews_hold_the_tone_mapped_picture(tmp_path, name, levels, operator):
    write_preview(tmp_path / name, radiance() / 1e4, operator)
    read = cv2.imread(str(tmp_path / name), cv2.IMREAD_UNCHANGED)[..., ::-1].astype(np.float64) / levels
    expected = tonemap(radiance() / 1e4, operator).permute(1, 2, 0).numpy()
    np.testing.assert_allclose(read, expected, atol=0.51 / levels)


@pytest.mark.parametrize("value", [1.5, -0.1, float("nan"), float("inf"), 1 + 1e-5])
@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_values_that_no_display_has_are_not_written(tmp_path, name, value):
    image = torch.full((3, 4, 5), 0.5)
    image[1, 2, 3] = value
    with pytest.raises(ValueError, match=r"1 of 60 values of the picture are NaN or outside of \[0, 1\]"):
        write_image(tmp_path / name, image)
    assert not list(tmp_path.iterdir())


def test_a_jpeg_keeps_all_of_its_colours_and_hardly_loses_levels(tmp_path):
    write_image(tmp_path / "a.jpg", textured(48, 64).clamp(0, 1))
    with Image.open(tmp_path / "a.jpg") as image:
        assert JpegImagePlugin.get_sampling(image) == 0  # 4:4:4
        # Of ITU-T T.81, K.1, as libjpeg scales it by quality: the first step of luminance is 16.
        assert image.quantization[0][0] == round(16 * (200 - 2 * 95) / 100)


def test_a_tiff_has_72_pixels_per_inch(tmp_path):
    write_image(tmp_path / "a.tif", textured(24, 32).clamp(0, 1))
    with Image.open(tmp_path / "a.tif") as image:
        assert [image.tag_v2[tag] for tag in (282, 283, 296)] == [72, 72, 2]  # TIFF 6.0: a unit of 2 is the inch


def test_values_that_rounding_put_outside_are_those_at_the_end(tmp_path):
    image = torch.tensor([-5e-7, 1 + 5e-7]).expand(3, 1, 2)
    write_image(tmp_path / "a.png", image)
    assert read_ldr(tmp_path / "a.png")[0].tolist() == [[0.0, 1.0]]


def test_radiance_with_a_gradient_is_written(tmp_path):
    light = radiance().requires_grad_()
    write_preview(tmp_path / "a.png", light)
    write_radiance(tmp_path / "a.exr", light)
    assert torch.equal(read_radiance(tmp_path / "a.exr"), light.detach())


@pytest.mark.parametrize(("size", "kept"), [(65_533, True), (65_534, False)])
def test_exif_data_that_a_jpeg_cannot_count_are_left_out_with_a_word(tmp_path, size, kept):
    exif = told_in_exif(1).ljust(size, b"\0")  # a segment counts itself, and two bytes for that, in 16 bits
    with nullcontext() if kept else pytest.warns(UserWarning, match="without EXIF data, which is too long"):
        write_image(tmp_path / "a.jpg", textured(24, 32).clamp(0, 1), exif=exif)
    with Image.open(tmp_path / "a.jpg") as image:
        assert (ExifTags.Base.Orientation in image.getexif()) == kept


@pytest.mark.parametrize("shape", [(1, 4, 5), (4, 5), (1, 3, 4, 5)])
def test_pictures_of_another_shape_are_not_written(tmp_path, shape):
    with pytest.raises(ValueError, match=r"expected a picture of shape \(3, H, W\), got"):
        write_image(tmp_path / "a.png", torch.zeros(shape))


def test_jpeg_preview_resembles_the_tone_mapped_picture(tmp_path):
    smooth = torch.linspace(0, 1, 64).expand(3, 48, 64)
    write_preview(tmp_path / "a.jpg", smooth, "mu-law")
    assert float((read_ldr(tmp_path / "a.jpg") - tonemap(smooth, "mu-law")).abs().max()) < 0.05


@pytest.mark.parametrize(
    ("write", "name"), [(write_radiance, "a.exr"), (write_radiance, "a.hdr"), (write_preview, "a.png")]
)
def test_an_existing_file_is_replaced_only_when_asked(tmp_path, write, name):
    (tmp_path / name).write_text("precious")
    with pytest.raises(FileExistsError, match="exists; choose another name, or replace it with --force"):
        write(tmp_path / name, radiance())
    assert (tmp_path / name).read_text() == "precious"
    write(tmp_path / name, radiance(), overwrite=True)
    assert (tmp_path / name).stat().st_size > 100


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*absent"):
        write_radiance(tmp_path / "absent" / "a.exr", radiance())


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EIO])
@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("name", ["a.exr", "a.hdr", "a.png"])
def test_errors_of_the_operating_system_leave_the_old_file_and_nothing_else(tmp_path, monkeypatch, name, call, code):
    (tmp_path / name).write_text("precious")

    def fail(*_args, **_kwargs):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, call, fail)
    write = write_preview if name.endswith("png") else write_radiance
    with pytest.raises(OSError, match=os.strerror(code)):
        write(tmp_path / name, radiance(), overwrite=True)
    assert [file.name for file in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "precious"


@contextmanager
def largest_file(size):
    """Let every write beyond a size fail, as on a full disk."""
    resource = pytest.importorskip("resource", reason="limits of the file size are POSIX")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("lacking", [100, 30_000])
@pytest.mark.parametrize("name", ["a.exr", "a.hdr", "a.png"])
def test_a_full_disk_leaves_nothing_behind(tmp_path, name, lacking):
    # The real write fails in the middle or at its last buffer, inside of libraries as well.
    write = write_preview if name.endswith("png") else write_radiance
    noise = torch.rand(3, 100, 200, generator=torch.Generator().manual_seed(0))
    write(tmp_path / name, noise)
    size = (tmp_path / name).stat().st_size
    (tmp_path / name).unlink()
    with largest_file(size - lacking), pytest.raises(OSError, match=r"disk full|File too large"):
        write(tmp_path / name, noise)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_permission_is_reported_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: not (Path(path) == tmp_path and mode == os.W_OK))
    with pytest.raises(PermissionError, match=r"a.exr: no permission to write in the folder .*; choose another"):
        check_writable(tmp_path / "a.exr")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_a_folder_that_takes_no_file_is_reported_with_the_name_that_was_asked_for(tmp_path, monkeypatch, code):
    def fail(folder):
        raise OSError(code, os.strerror(code), str(folder))

    monkeypatch.setattr(Path, "mkdir", fail)
    with pytest.raises(OSError, match=os.strerror(code)) as told:
        write_radiance(tmp_path / "a.exr", radiance())
    assert told.value.errno == code
    assert told.value.filename == str(tmp_path / "a.exr")


@pytest.mark.parametrize("suffix", [".hdr", ".exr", ".tif", ".png", ".jpg"])
def test_names_in_any_alphabet_are_no_matter_of_opencv(tmp_path, monkeypatch, suffix):
    """On Windows it opens no file of such a name: it takes what is UTF-8 for the system's code page."""
    for name in ("imread", "imwrite"):
        monkeypatch.delattr(cv2, name)
    path = tmp_path / "写真" / f"é{suffix}"
    path.parent.mkdir()
    if suffix in (".hdr", ".exr"):
        write_radiance(path, radiance())
        assert read_radiance(path).shape == radiance().shape
    else:
        write_image(path, textured(16, 24))
        assert read_ldr(path).shape == (3, 16, 24)


def test_a_link_decides_where_a_picture_lies_and_not_what_it_is(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "a.exr").symlink_to("store/17")
    write_radiance(tmp_path / "a.exr", radiance())
    with pytest.raises(FileExistsError, match=r"a\.exr exists"):
        write_radiance(tmp_path / "a.exr", radiance())
    write_radiance(tmp_path / "a.exr", 2 * radiance(), overwrite=True)
    torch.testing.assert_close(read_radiance(tmp_path / "a.exr"), 2 * radiance(), rtol=1e-3, atol=1e-4)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["17", "a.exr", "store"]
    (tmp_path / "b.exr").symlink_to("nowhere/17")
    with pytest.raises(FileNotFoundError, match=r"b\.exr: there is no folder .*nowhere"):
        check_writable(tmp_path / "b.exr")


NO_TEXT = os.fsdecode(b"caf\xe9")  # Latin-1, as disks of another decade have it
needs_names_of_bytes = pytest.mark.skipif(
    sys.platform != "linux", reason="names of files are text on macOS and Windows"
)


@needs_names_of_bytes
@pytest.mark.parametrize("suffix", [".tif", ".hdr", ".png", ".jpg"])
def test_names_that_are_no_text_are_names(tmp_path, suffix):
    (tmp_path / NO_TEXT).mkdir()
    path = tmp_path / NO_TEXT / f"{NO_TEXT}{suffix}"
    if suffix in (".tif", ".hdr"):
        write_radiance(path, radiance())
        assert read_radiance(path).shape == (3, 20, 30)
    else:
        write_preview(path, radiance())
        assert read_ldr(path).shape == (3, 20, 30)


@needs_names_of_bytes
def test_what_openexr_cannot_open_is_refused_before_the_work(tmp_path):
    path = tmp_path / f"{NO_TEXT}.exr"
    write_radiance(tmp_path / "a.exr", radiance())
    (tmp_path / "a.exr").rename(path)
    with pytest.raises(ValueError, match="a name that is no UTF-8, which OpenEXR does not open"):
        read_radiance(path)
    path.unlink()
    with pytest.raises(ValueError, match="a name that is no UTF-8, which OpenEXR does not open"):
        check_writable(path)


@pytest.mark.parametrize("suffix", [".exr", ".tif"])
def test_names_that_are_no_text_are_told_in_a_file_by_their_bytes(tmp_path, suffix):
    write_radiance(tmp_path / f"a{suffix}", radiance(), attributes={"comments": f"merged from {NO_TEXT}.jpg"})
    if suffix == ".exr":
        with OpenEXR.File(str(tmp_path / "a.exr")) as file:
            assert file.header()["comments"] == r"merged from caf\xe9.jpg"
    else:
        with tifffile.TiffFile(tmp_path / "a.tif") as file:
            assert file.pages[0].description == r"merged from caf\xe9.jpg"


def test_a_pipe_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe.exr")
    with pytest.raises(FileExistsError, match=r"pipe\.exr is a device or a pipe"):
        write_radiance(tmp_path / "pipe.exr", radiance(), overwrite=True)


def test_an_interrupted_write_leaves_nothing(tmp_path):
    def interrupted():
        with written_whole(tmp_path / "a.txt") as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def smooth_pixels(height: int = 24, width: int = 32) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([60 + 4 * x, 40 + 5 * y, 200 - 3 * x], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_an_opaque_alpha_channel_is_dropped_with_a_word(tmp_path, suffix):
    alpha = np.full((24, 32, 1), 255, np.uint8)
    Image.fromarray(np.concatenate([smooth_pixels(), alpha], axis=-1)).save(tmp_path / f"a{suffix}")
    with pytest.warns(UserWarning, match="alpha channel, opaque all over, is dropped"):
        found = read_ldr(tmp_path / f"a{suffix}")
    torch.testing.assert_close(found, torch.from_numpy(smooth_pixels()).permute(2, 0, 1) / 255)


def test_a_pixel_that_is_hardly_transparent_is_no_photograph(tmp_path):
    pixels = np.full((24, 32, 4), 255, np.uint8)
    pixels[3, 4, 3] = 254
    Image.fromarray(pixels).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="transparent in parts"):
        read_ldr(tmp_path / "a.png")


def test_avif_is_read(tmp_path):
    Image.fromarray(smooth_pixels()).save(tmp_path / "a.avif", quality=95)
    expected = torch.from_numpy(smooth_pixels()).permute(2, 0, 1) / 255
    torch.testing.assert_close(read_ldr(tmp_path / "a.avif"), expected, atol=0.03, rtol=0)


def test_heic_is_read_with_its_orientation_and_settings(tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif")
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x829A] = 1 / 50
    exif[0x010F] = "Maker"
    heic = pillow_heif.from_pillow(Image.fromarray(smooth_pixels()))
    heic.save(tmp_path / "a.heic", quality=95, exif=exif.tobytes())
    expected = torch.from_numpy(smooth_pixels()).permute(2, 0, 1) / 255
    torch.testing.assert_close(read_ldr(tmp_path / "a.heic"), expected, atol=0.03, rtol=0)
    assert read_camera_settings(tmp_path / "a.heic").time == pytest.approx(1 / 50, rel=1e-4)


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("told", ["box and EXIF", "box", "EXIF"])
def test_heic_is_turned_once_as_its_boxes_say(tmp_path, orientation, told):
    pillow_heif = pytest.importorskip("pillow_heif")
    exif = Image.Exif()
    boxes, marked = (1 if told == "EXIF" else orientation), (1 if told == "box" else orientation)
    exif[ExifTags.Base.Orientation] = boxes  # of which the encoder makes irot and imir
    heic = pillow_heif.from_pillow(Image.fromarray(smooth_pixels()))
    heic.save(tmp_path / "a.heic", quality=95, exif=exif.tobytes())
    data = (tmp_path / "a.heic").read_bytes()
    assert (b"irot" in data, b"imir" in data) == (boxes in (3, 5, 6, 7, 8), boxes in (2, 4, 5, 7))
    order = "<" if b"II*" in exif.tobytes() else ">"
    tag, other = (struct.pack(f"{order}HHIH", ExifTags.Base.Orientation, 3, 1, one) for one in (boxes, marked))
    assert data.count(tag) == 1
    (tmp_path / "a.heic").write_bytes(data.replace(tag, other))
    # What EXIF data say beside boxes is for those who cut a JPEG out of it (ISO/IEC 23008-12, A.2.1).
    expected = torch.from_numpy(np.ascontiguousarray(UPRIGHT[boxes](smooth_pixels()))).permute(2, 0, 1) / 255
    torch.testing.assert_close(read_ldr(tmp_path / "a.heic"), expected, atol=0.03, rtol=0)


@pytest.mark.parametrize("transfer", ["pq", "hlg"])
def test_avif_for_hdr_displays_is_refused(tmp_path, transfer):
    need_encoder("a.avif")
    from hdr.delivery import DisplaySettings, write_avif

    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Maker"
    for name, carried in (("a.avif", None), ("b.avif", exif.tobytes())):
        write_avif(tmp_path / name, radiance(), DisplaySettings(transfer=transfer), exif=carried)
        with pytest.raises(ValueError, match=rf"{name}: its values are {transfer.upper()}, for a display that shows"):
            read_ldr(tmp_path / name)


@pytest.mark.parametrize(("transfer", "said"), [(16, "PQ"), (18, "HLG"), (13, "")])
def test_heic_and_png_for_hdr_displays_are_refused(tmp_path, transfer, said):
    png = tmp_path / "a.png"
    Image.fromarray(smooth_pixels()).save(png)
    chunk = b"cICP" + bytes([9, transfer, 0, 1])  # stands between the header and the pixels
    data = png.read_bytes()
    png.write_bytes(data[:33] + struct.pack(">I", 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[33:])
    assert hdr_transfer(png.read_bytes()) == said
    pillow_heif = pytest.importorskip("pillow_heif")
    heic = pillow_heif.from_pillow(Image.fromarray(smooth_pixels()))
    heic.save(tmp_path / "a.heic", color_primaries=9, transfer_characteristics=transfer, matrix_coefficients=9)
    for path in (png, tmp_path / "a.heic"):
        if said:
            with pytest.raises(ValueError, match=f"its values are {said}, for a display that shows HDR"):
                read_ldr(path)
        else:
            assert read_ldr(path).shape == (3, 24, 32)


def box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), name) + content


@pytest.mark.parametrize(("primary", "said"), [(1, ""), (2, "PQ"), (3, "PQ")])
@pytest.mark.parametrize("wide", [False, True])
def test_only_the_colours_of_the_primary_image_count(primary, said, wide):
    # Item 1 is sRGB and item 2 PQ, as a picture for all displays and its other version are; 3 says nothing of its own.
    first, second = (box(b"colr", b"nclx" + struct.pack(">HHHB", 9, transfer, 9, 128)) for transfer in (16, 13))
    number, index = (">I", ">H") if wide else (">H", ">B")
    entries = b"".join(
        struct.pack(number, item) + b"\x01" + struct.pack(index, place) for item, place in ((1, 2), (2, 1))
    )
    head = bytes([wide, 0, 0, wide])
    properties = box(b"ipco", first + second) + box(b"ipma", head + struct.pack(">I", 2) + entries)
    meta = b"\0\0\0\0" + box(b"pitm", head + struct.pack(number, primary)) + box(b"iprp", properties)
    data = box(b"ftyp", b"avif") + box(b"meta", meta) + box(b"mdat", b"")
    assert hdr_transfer(data) == said
    for end in range(len(data)):  # whatever is cut off, nothing is raised
        assert hdr_transfer(data[:end]) in ("", "PQ")


def nclx(transfer: int) -> bytes:
    return box(b"colr", b"nclx" + struct.pack(">HHHB", 9, transfer, 9, 128))


def heif(properties: bytes, *, meta_last: bool = False, wide_size: bool = False, to_the_end: bool = False) -> bytes:
    """A file whose one image has the last of the properties given, marked as essential."""
    associations = b"\0\0\0\0" + struct.pack(">IHBB", 1, 1, 1, 0x80 | properties.count(b"colr"))
    content = box(b"pitm", b"\0\0\0\0" + struct.pack(">H", 1))
    content += box(b"iprp", box(b"ipco", properties) + box(b"ipma", associations))
    content = b"\0\0\0\0" + content
    if wide_size:  # a size of 1 says that it follows in 64 bits (ISO/IEC 14496-12, 4.2)
        meta = struct.pack(">I4sQ", 1, b"meta", 16 + len(content)) + content
    else:  # and one of 0 that the box is the last and ends with the file
        meta = struct.pack(">I4s", 0 if to_the_end else 8 + len(content), b"meta") + content
    rest = box(b"mdat", b"\0" * 20)
    return box(b"ftyp", b"heic") + (rest + meta if meta_last else meta + rest)


@pytest.mark.parametrize(
    "written", [{}, {"wide_size": True}, {"meta_last": True}, {"meta_last": True, "to_the_end": True}]
)
def test_boxes_of_every_kind_of_size_are_read(written):
    # The first property, a PQ that belongs to no image, is not the second's.
    assert hdr_transfer(heif(nclx(16) + nclx(18), **written)) == "HLG"
    assert hdr_transfer(heif(nclx(16) + nclx(13), **written)) == ""


def test_a_profile_is_not_taken_for_the_number_of_a_transfer():
    # What follows the type is the profile itself, in which anything may stand, 0 and 16 among it.
    profile = box(b"colr", b"prof" + struct.pack(">HHHB", 0, 16, 0, 0))
    assert hdr_transfer(heif(profile)) == ""


@pytest.mark.parametrize("end", range(33, 46))
def test_a_png_that_is_cut_off_says_nothing(tmp_path, end):
    Image.fromarray(smooth_pixels()).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    chunk = b"cICP" + bytes([9, 16, 0, 1])
    data = data[:33] + struct.pack(">I", 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[33:]
    assert hdr_transfer(data[:end]) == ("PQ" if end >= 33 + 10 else "")


PLAIN_TIFF = (cv2.IMWRITE_TIFF_COMPRESSION, 1)  # not told so, OpenCV 4.10 writes logarithms of luminance


@pytest.mark.parametrize("suffix", [".tif", ".exr", ".hdr"])
def test_linear_light_is_read_as_it_is_and_known_as_linear(tmp_path, suffix):
    light = torch.rand(3, 20, 30, generator=torch.Generator().manual_seed(0))
    if suffix == ".tif":
        pixels = np.ascontiguousarray(light.permute(1, 2, 0).numpy()[..., ::-1])
        assert cv2.imwrite(str(tmp_path / "a.tif"), pixels, PLAIN_TIFF)
    else:
        write_radiance(tmp_path / f"a{suffix}", light)
    found = read_photograph(tmp_path / f"a{suffix}")
    assert found.linear
    torch.testing.assert_close(found.image, light, atol=0.005 if suffix == ".hdr" else 0, rtol=0)


def test_linear_light_may_be_white(tmp_path):
    light = torch.rand(3, 20, 30, generator=torch.Generator().manual_seed(0))
    light[:, 3, 4] = 1
    write_radiance(tmp_path / "a.exr", light)
    assert torch.equal(read_ldr(tmp_path / "a.exr"), light)


def test_a_bracket_of_linear_files_has_a_linear_response(tmp_path):
    scene = textured(32, 48, darkest=0.002, brightest=0.06)
    for t in (1.0, 4.0, 16.0):
        write_radiance(tmp_path / f"{t:g}.exr", (t * scene).clamp(0, 1))
    bracket = Bracket.from_files([tmp_path / f"{t:g}.exr" for t in (1.0, 4.0, 16.0)], [1.0, 4.0, 16.0])
    assert bracket.calibration.response.name == "linear"
    torch.testing.assert_close(bracket.radiance(1), scene, atol=1e-6, rtol=1e-5)


# x and y of red, green, blue and white, and the matrix to Rec. 709 that others have published: of Display P3
# (https://www.w3.org/TR/css-color-4/, by way of XYZ), and of ACES AP0 with Bradford's adaptation from its own white
# (https://docs.acescentral.com, the sRGB output transform without its curve).
OTHER_PRIMARIES = {
    "p3": (
        (0.68, 0.32, 0.265, 0.69, 0.15, 0.06, 0.3127, 0.329),
        [[1.2249, -0.2249, 0.0], [-0.0421, 1.0421, 0.0], [-0.0196, -0.0786, 1.0983]],
    ),
    "aces": (
        (0.7347, 0.2653, 0.0, 1.0, 0.0001, -0.077, 0.32168, 0.33767),
        [[2.5217, -1.1341, -0.3876], [-0.2765, 1.3727, -0.0962], [-0.0154, -0.1530, 1.1684]],
    ),
}


def write_with_primaries(path: Path, light: torch.Tensor, primaries: tuple[float, ...]) -> Path:
    """An .exr or .hdr file whose numbers are of these primaries, as it says."""
    if path.suffix == ".exr":
        header = {"type": OpenEXR.scanlineimage, "compression": OpenEXR.ZIP_COMPRESSION, "chromaticities": primaries}
        with OpenEXR.File(header, {"RGB": np.ascontiguousarray(light.permute(1, 2, 0).numpy())}) as file:
            file.write(str(path))
        return path
    write_radiance(path, light)
    lines = path.read_bytes().split(b"\n")
    place = next(index for index, line in enumerate(lines) if line.startswith(b"PRIMARIES="))
    lines[place] = f"PRIMARIES= {' '.join(map(str, primaries))}".encode()
    path.write_bytes(b"\n".join(lines))
    return path


@pytest.mark.parametrize("suffix", [".exr", ".hdr"])
@pytest.mark.parametrize("name", OTHER_PRIMARIES)
def test_radiance_of_other_primaries_becomes_rec_709(tmp_path, name, suffix):
    primaries, matrix = OTHER_PRIMARIES[name]
    light = radiance(20, 30)
    path = write_with_primaries(tmp_path / f"a{suffix}", light, primaries)
    expected = torch.einsum("ij,jhw->ihw", torch.tensor(matrix), light).clamp_min(0)
    tolerance = 0.02 if suffix == ".hdr" else 1e-3
    torch.testing.assert_close(read_radiance(path), expected, atol=tolerance * float(light.max()), rtol=0)


@pytest.mark.parametrize("suffix", [".exr", ".hdr"])
def test_light_of_other_primaries_is_merged_before_it_becomes_rec_709(tmp_path, suffix):
    primaries, matrix = OTHER_PRIMARIES["p3"]
    light = torch.rand(3, 20, 30, generator=torch.Generator().manual_seed(0))
    found = read_photograph(write_with_primaries(tmp_path / f"a{suffix}", light, primaries))
    torch.testing.assert_close(found.image, light, atol=0.005, rtol=0)
    torch.testing.assert_close(found.to_rec709, torch.tensor(matrix), atol=1e-3, rtol=0)
    assert found.profile


@pytest.mark.parametrize("suffix", [".exr", ".hdr"])
def test_primaries_of_rec_709_change_nothing(tmp_path, suffix):
    light = torch.rand(3, 20, 30, generator=torch.Generator().manual_seed(0))
    write_radiance(tmp_path / f"a{suffix}", light)
    found = read_photograph(tmp_path / f"a{suffix}")
    assert (found.profile, found.to_rec709) == ("", None)


@pytest.mark.parametrize("suffix", [".exr", ".hdr"])
def test_primaries_of_nothing_but_zeros_as_photoshop_writes_them_say_nothing(tmp_path, suffix, recwarn):
    light = torch.rand(3, 20, 30, generator=torch.Generator().manual_seed(0))
    found = read_photograph(write_with_primaries(tmp_path / f"a{suffix}", light, (0.0,) * 8))
    torch.testing.assert_close(found.image, light, atol=0.005, rtol=0)
    assert (found.profile, found.to_rec709) == ("", None)
    assert not recwarn.list


def png_with_numbers(path: Path, primaries: int, **options) -> Path:
    Image.fromarray(random_pixels()).save(path, **options)
    data = path.read_bytes()
    path.write_bytes(data[:33] + png_chunk(b"cICP", bytes([primaries, 13, 0, 1])) + data[33:])
    return path


# Of Rec. 2020: ITU-R BT.2087, annex 2, the inverse of equation (4).
PRIMARIES_BY_NUMBER = {
    1: None,
    2: None,  # not specified
    9: [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]],
    12: OTHER_PRIMARIES["p3"][1],
}


@pytest.mark.parametrize("suffix", [".png", ".avif", ".heic"])
@pytest.mark.parametrize("number", PRIMARIES_BY_NUMBER)
def test_primaries_that_are_told_by_number_have_a_matrix_to_rec_709(tmp_path, number, suffix):
    path = tmp_path / f"a{suffix}"
    if suffix == ".png":
        png_with_numbers(path, number)
    elif suffix == ".avif":
        need_encoder("a.avif")
        import imagecodecs

        path.write_bytes(imagecodecs.avif_encode(smooth_pixels(), primaries=number, transfer=13, matrix=6))
    else:
        pillow_heif = pytest.importorskip("pillow_heif")
        heic = pillow_heif.from_pillow(Image.fromarray(smooth_pixels()))
        heic.save(path, color_primaries=number, transfer_characteristics=13, matrix_coefficients=6)
    found, expected = read_photograph(path).to_rec709, PRIMARIES_BY_NUMBER[number]
    if expected is None:
        assert found is None
    else:
        torch.testing.assert_close(found, torch.tensor(expected), atol=1e-3, rtol=0)


# As chunks have them, in 1/100,000 and the white first: of sRGB as the PNG specification gives them (11.3.3.5), and P3.
CHRM_OF_SRGB = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
CHRM_OF_P3 = (31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)


def png_with_chunks(path: Path, *, pixels=None, profile: bytes | None = None, **chunks: bytes) -> Path:
    write_16_bit(path, random_pixels(depth=np.uint16) if pixels is None else pixels)
    data = path.read_bytes()
    told = b"".join(png_chunk(name.encode(), content) for name, content in chunks.items())
    if profile is not None:
        told += png_chunk(b"iCCP", b"a profile\0\0" + zlib.compress(profile))
    path.write_bytes(data[:33] + told + data[33:])
    return path


def chrm(numbers: tuple[int, ...]) -> bytes:
    return struct.pack(">8I", *numbers)


@pytest.mark.parametrize(
    ("chunks", "expected"),  # PNG, third edition, 4.3: cICP, iCCP, sRGB, cHRM and gAMA
    [
        ({"cHRM": chrm(CHRM_OF_P3)}, "p3"),
        ({"cHRM": chrm(CHRM_OF_P3), "gAMA": struct.pack(">I", 45455)}, "p3"),
        ({"cHRM": chrm(CHRM_OF_P3), "sRGB": b"\0"}, None),
        ({"cHRM": chrm(CHRM_OF_P3), "cICP": bytes([1, 13, 0, 1])}, None),
        ({"cHRM": chrm(CHRM_OF_P3), "cICP": bytes([2, 2, 0, 1])}, "p3"),
        ({"sRGB": b"\0", "cICP": bytes([12, 13, 0, 1])}, "p3"),
        ({"cHRM": chrm(CHRM_OF_SRGB)}, None),
        ({"cHRM": chrm(CHRM_OF_SRGB), "gAMA": struct.pack(">I", 45455), "sRGB": b"\0"}, None),
        ({"cHRM": bytes(32)}, None),
    ],
)
def test_primaries_of_a_png_are_read_where_nothing_better_says_otherwise(tmp_path, chunks, expected, recwarn):
    found = read_photograph(png_with_chunks(tmp_path / "a.png", **chunks))
    if expected is None:
        assert (found.profile, found.to_rec709) == ("", None)
    else:
        torch.testing.assert_close(found.to_rec709, torch.tensor(OTHER_PRIMARIES["p3"][1]), atol=1e-3, rtol=0)
    assert not found.linear
    assert not recwarn.list


def test_of_a_png_the_profile_is_believed_before_primaries_and_the_number_before_the_profile(tmp_path):
    profile = profile_that_calls("b", "g", "r")
    told = {"cHRM": chrm(CHRM_OF_P3), "gAMA": struct.pack(">I", 100000)}
    found = read_photograph(png_with_chunks(tmp_path / "a.png", profile=profile, **told))
    assert found.profile.startswith("Swap")
    assert not found.linear
    assert (
        read_photograph(png_with_chunks(tmp_path / "a.png", profile=profile, cICP=bytes([1, 13, 0, 1]))).profile == ""
    )


@pytest.mark.parametrize(
    ("chunks", "linear"),
    [
        ({"gAMA": 100000}, True),
        ({"gAMA": 45455}, False),
        ({"gAMA": 0}, False),
        ({"gAMA": 100000, "sRGB": b"\0"}, False),
        ({"gAMA": 100000, "cICP": bytes([1, 13, 0, 1])}, False),
        ({}, False),
    ],
)
def test_a_gamma_of_one_says_that_a_png_is_linear_where_nothing_better_says_otherwise(tmp_path, chunks, linear):
    told = {name: struct.pack(">I", one) if isinstance(one, int) else one for name, one in chunks.items()}
    assert read_photograph(png_with_chunks(tmp_path / "a.png", **told)).linear == linear


def interop(index: str) -> Image.Exif:
    """EXIF data of a camera that says by an index which of DCF's colour spaces it took."""
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.IFD.Interop] = {1: index, 2: b"0100"}
    exif.get_ifd(ExifTags.IFD.Exif)[0xA001] = 1 if index == "R98" else 0xFFFF
    exif[ExifTags.Base.Make] = "Maker"
    return exif


# Adobe RGB (1998) Color Image Encoding, 4.3.5.3 to XYZ, and IEC 61966-2-1 back: red and blue are those of sRGB.
FROM_ADOBE_RGB = [[1.3983, -0.3983, 0.0], [0.0, 1.0, 0.0], [0.0, -0.0429, 1.0429]]


@pytest.mark.parametrize(("index", "expected"), [("R98", None), ("R03", FROM_ADOBE_RGB)])
def test_adobe_rgb_that_a_camera_tells_without_a_profile_has_a_matrix(tmp_path, index, expected):
    path = tmp_path / "a.jpg"
    Image.fromarray(smooth_pixels()).save(path, exif=interop(index))
    with Image.open(path) as image:  # the encoder keeps it
        assert image.getexif().get_ifd(ExifTags.IFD.Interop)[1] == index
    found = read_photograph(path).to_rec709
    if expected is None:
        assert found is None
    else:
        torch.testing.assert_close(found, torch.tensor(expected), atol=1e-3, rtol=0)


def test_a_profile_is_believed_before_the_index_of_a_camera(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(smooth_pixels()).save(tmp_path / "a.jpg", exif=interop("R03"), icc_profile=profile)
    assert read_photograph(tmp_path / "a.jpg").to_rec709 is None


def test_of_numbers_and_a_profile_png_believes_the_numbers_and_heic_the_profile(tmp_path):
    profile = profile_that_calls("b", "g", "r")
    found = read_photograph(png_with_numbers(tmp_path / "a.png", 12, icc_profile=profile))
    torch.testing.assert_close(found.to_rec709, torch.tensor(PRIMARIES_BY_NUMBER[12]), atol=1e-3, rtol=0)
    image = Image.new("RGB", (1, 1))  # no encoder here writes both
    image.format = "HEIF"
    assert _colours(Path("a.heic"), image, heif(nclx(13)))[0].startswith("primaries 0.708")
    image.info["icc_profile"] = profile
    assert _colours(Path("a.heic"), image, heif(nclx(13)))[0].startswith("Swap")


@pytest.mark.parametrize("primaries", [(0.1, 0.0) * 4, (0.3, 0.3) * 4, (float("nan"),) * 8])
def test_primaries_that_are_none_are_passed_over_with_a_word(tmp_path, primaries):
    light = radiance(20, 30)
    path = write_with_primaries(tmp_path / "a.exr", light, primaries)
    with pytest.warns(UserWarning, match=r"a\.exr: its primaries .* are none"):
        assert torch.equal(read_radiance(path), light)


def test_chromaticities_of_another_type_are_passed_over(tmp_path):
    light = radiance(20, 30)
    write_with_primaries(tmp_path / "a.exr", light, OTHER_PRIMARIES["p3"][0])
    data, attribute = (tmp_path / "a.exr").read_bytes(), b"chromaticities\0chromaticities\0"  # its name and its type
    assert data.count(attribute) == 1
    (tmp_path / "a.exr").write_bytes(data.replace(attribute, b"chromaticities\0chromaticitiez\0"))
    assert torch.equal(read_radiance(tmp_path / "a.exr"), light)


@pytest.mark.parametrize("said", [b"", b"0.64 0.33", b"red green blue"])
def test_what_a_header_cannot_mean_is_passed_over(tmp_path, said):
    light = radiance(20, 30)
    write_radiance(tmp_path / "a.hdr", light)
    expected = read_radiance(tmp_path / "a.hdr")
    data = (tmp_path / "a.hdr").read_bytes()
    begin = data.index(b"PRIMARIES=") + len(b"PRIMARIES=")
    (tmp_path / "a.hdr").write_bytes(data[:begin] + said + data[data.index(b"\n", begin) :])
    assert torch.equal(read_radiance(tmp_path / "a.hdr"), expected)


@pytest.mark.parametrize(
    ("value", "said"), [(1.5, "linear light up to 1.5"), (float("nan"), "NaN"), (-0.1, "negative")]
)
def test_linear_light_that_is_no_exposure_is_refused(tmp_path, value, said):
    pixels = np.full((20, 30, 3), 0.5, np.float32)
    pixels[3, 4, 1] = value
    assert cv2.imwrite(str(tmp_path / "a.tif"), pixels, PLAIN_TIFF)
    with pytest.raises(ValueError, match=said):
        read_ldr(tmp_path / "a.tif")


TAGS_OF_COLOURS = (b"rXYZ", b"gXYZ", b"bXYZ")


def profile_that_calls(red: str, green: str, blue: str) -> bytes:
    """sRGB's profile with its colours exchanged: what it calls red is the first of these, and so on."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = int.from_bytes(data[128:132], "big")
    entries = [132 + 12 * index for index in range(count)]
    places = {bytes(data[entry : entry + 4]): entry for entry in entries}
    where = {name: slice(places[tag] + 4, places[tag] + 12) for name, tag in zip("rgb", TAGS_OF_COLOURS, strict=True)}
    found = {name: bytes(data[part]) for name, part in where.items()}
    for name, colour in zip("rgb", (red, green, blue), strict=True):
        data[where[name]] = found[colour[0]]
    return bytes(
        data.replace("sRGB".encode("utf-16-be"), "Swap".encode("utf-16-be")).replace(b"sRGB built", b"Swap built")
    )


@pytest.mark.parametrize("names", ["bgr", "gbr", "brg"])
def test_colours_of_another_profile_have_a_matrix_to_rec_709(tmp_path, names):
    Image.fromarray(smooth_pixels()).save(tmp_path / "a.png", icc_profile=profile_that_calls(*names))
    found = read_photograph(tmp_path / "a.png")
    assert found.profile.startswith("Swap")
    in_rec709 = torch.stack([torch.eye(3)["rgb".index(name)] for name in names], dim=1)
    torch.testing.assert_close(found.to_rec709, in_rec709, atol=1e-3, rtol=0)
    torch.testing.assert_close(found.image, torch.from_numpy(smooth_pixels()).permute(2, 0, 1) / 255)


def test_the_matrix_is_applied_to_the_merged_radiance(tmp_path):
    scene = textured(32, 48, darkest=0.002, brightest=0.06)
    for t in (1.0, 4.0, 16.0):
        pixels = ((t * scene).clamp(0, 1) ** (1 / 2.2) * 255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(tmp_path / f"{t:g}.png", icc_profile=profile_that_calls("b", "g", "r"))
    paths = [tmp_path / f"{t:g}.png" for t in (1.0, 4.0, 16.0)]
    bracket = Bracket.from_files(paths, [1.0, 4.0, 16.0], response=Response.gamma(2.2))
    radiance = bracket.radiance(2)
    torch.testing.assert_close(bracket.in_rec709(radiance), radiance.flip(0), atol=1e-4, rtol=2e-3)
    merged = Merger("none", "cpu")
    untold = dataclasses.replace(bracket, to_rec709=None)
    torch.testing.assert_close(merged(bracket), bracket.in_rec709(merged(untold)))
    Image.open(paths[1]).save(paths[1], icc_profile=None)  # without the profile
    with pytest.raises(ValueError, match=r"one colour profile, got 1\.png Swap.*, 4\.png sRGB"):
        Bracket.from_files(paths, [1.0, 4.0, 16.0])


def test_srgb_by_name_needs_no_matrix(tmp_path, recwarn):
    # As the profile of tables that the ICC itself publishes: sRGB v4, of which a matrix is no part.
    tables = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    for encoding in ("ascii", "utf-16-be"):
        tables = tables.replace("Lab identity".encode(encoding), "sRGB v4 with".encode(encoding))
    Image.fromarray(smooth_pixels()).save(tmp_path / "a.png", icc_profile=tables)
    found = read_photograph(tmp_path / "a.png")
    assert (found.profile, found.to_rec709, len(recwarn)) == ("", None, 0)


def test_a_profile_whose_primaries_are_one_is_not_applied(tmp_path):
    profile = profile_that_calls("red", "red", "red")
    Image.fromarray(random_pixels()).save(tmp_path / "a.png", icc_profile=profile)
    with pytest.warns(UserWarning, match="not applied"):
        assert read_photograph(tmp_path / "a.png").to_rec709 is None


def test_the_profile_of_srgb_changes_nothing(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(smooth_pixels()).save(tmp_path / "a.png", icc_profile=profile)
    found = read_photograph(tmp_path / "a.png")
    assert (found.profile, found.to_rec709) == ("", None)


@pytest.mark.parametrize(
    ("sampling", "orientation", "expected"),
    [
        ("4:4:4", 1, None),  # it may have been halved by the camera, before an editor wrote this
        ("4:2:2", 1, (False, True)),
        ("4:2:2", 3, (False, True)),
        ("4:2:2", 6, (True, False)),  # half as many columns of the file, which are rows of the upright picture
        ("4:2:0", 8, (True, True)),
    ],
)
def test_a_jpeg_says_at_what_resolution_its_colours_are(tmp_path, sampling, orientation, expected):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(smooth_pixels()).save(tmp_path / "a.jpg", subsampling=sampling, exif=exif)
    assert read_photograph(tmp_path / "a.jpg").chroma_halved == expected


def test_other_files_do_not_say_at_what_resolution_their_colours_are(tmp_path):
    Image.fromarray(smooth_pixels()).save(tmp_path / "a.png")
    Image.fromarray(smooth_pixels()[..., 0]).save(tmp_path / "grey.jpg")
    assert read_photograph(tmp_path / "a.png").chroma_halved is None
    assert read_photograph(tmp_path / "grey.jpg").chroma_halved is None


@pytest.mark.parametrize("others", ["4:2:2", "4:2:0"])
def test_a_bracket_believes_what_its_files_say_of_their_colours_if_they_agree(tmp_path, others):
    scene = textured(64, 96, darkest=0.002, brightest=0.06)
    for t, sampling in ((1.0, "4:2:2"), (4.0, "4:2:2"), (16.0, others)):
        pixels = ((t * scene).clamp(0, 1) ** (1 / 2.2) * 255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(tmp_path / f"{t:g}.jpg", quality=95, subsampling=sampling)
    paths = [tmp_path / f"{t:g}.jpg" for t in (1.0, 4.0, 16.0)]
    found = Bracket.from_files(paths, [1.0, 4.0, 16.0]).calibration.chroma_halved
    # Where they do not agree the pixels tell, of both together.
    assert (found == (False, True)) == (others == "4:2:2")
    assert others == "4:2:2" or found[0] == found[1]


def test_an_ordinary_tiff_is_decoded_once(tmp_path, monkeypatch):
    Image.fromarray(smooth_pixels()).save(tmp_path / "a.tif")
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded by OpenCV, too"))
    assert read_ldr(tmp_path / "a.tif").shape == (3, 24, 32)


@pytest.mark.parametrize(("suffix", "most"), [(".png", 255), (".tif", 65535)])
def test_every_row_of_a_tall_picture_is_written_at_its_place(tmp_path, suffix, most):
    image = torch.rand(3, 600, 5)
    write_image(tmp_path / f"tall{suffix}", image)
    torch.testing.assert_close(read_ldr(tmp_path / f"tall{suffix}"), (image * most).round() / most)
