"""Whatever is delivered, read by programs that have nothing to do with this package: the same values and words."""

from __future__ import annotations

import re
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms
from torch import Tensor

from hdr.cli import main
from hdr.delivery import DisplaySettings, display_light, encoded_signal, write_picture
from hdr.io import write_radiance
from hdr.tonemap import tonemap
from tests.hdr.brackets import ldr_of, textured
from tests.hdr.encoders import need_encoder
from tests.programs import exiftool, imagemagick, light_in_browser, openimageio, program, said

SIZE = (64, 96)


def scene(brightest: float = 20.0) -> Tensor:
    """Radiance (3, 64, 96) over four orders of magnitude; no side and no corner is like another."""
    fine = textured(4 * SIZE[0], 4 * SIZE[1], darkest=1e-4 * brightest, brightest=brightest)
    return torch.nn.functional.avg_pool2d(fine, 4)


def channels_last(image: Tensor) -> NDArray[np.float32]:
    return image.permute(1, 2, 0).numpy()


@pytest.fixture(scope="module")
def portrait(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three exposures that a camera took on its side, 1 : 4 : 16, and wrote lying, with all that it knows."""
    folder = tmp_path_factory.mktemp("portrait")
    upright = torch.from_numpy(cv2.GaussianBlur(channels_last(textured(96, 64, brightest=0.5)), (0, 0), 2))
    paths = []
    for number, exposure in enumerate((1.0, 4.0, 16.0)):
        exif = Image.Exif()
        exif[ExifTags.Base.Make], exif[ExifTags.Base.Model] = "Maker", "One"
        exif[ExifTags.Base.Artist], exif[ExifTags.Base.Copyright] = "Zo##", "(c) Someone"
        exif[ExifTags.Base.Orientation] = 6  # to be turned to the right
        exif.get_ifd(ExifTags.IFD.Exif).update(
            {
                ExifTags.Base.ExposureTime: exposure / 640,
                ExifTags.Base.FNumber: 8.0,
                ExifTags.Base.ISOSpeedRatings: 200,
                ExifTags.Base.DateTimeOriginal: "2024:05:06 07:08:09",
                ExifTags.Base.OffsetTimeOriginal: "+02:00",
                ExifTags.Base.LensModel: "35mm F2",
                ExifTags.Base.CameraOwnerName: "Zo##",
            }
        )
        exif.get_ifd(ExifTags.IFD.GPSInfo).update({1: "N", 2: (25.0, 2.0, 1.5), 3: "W", 4: (121.0, 30.0, 0.0), 5: 0})
        lying = Image.fromarray((ldr_of(upright, exposure) * 255).round().byte().numpy()).transpose(
            Image.Transpose.ROTATE_90
        )
        paths.append(folder / f"{number}.jpg")
        lying.save(paths[-1], quality=98, subsampling=0, exif=exif)
        # Pillow writes ASCII, cameras and people do not.
        paths[-1].write_bytes(paths[-1].read_bytes().replace(b"Zo##", "Zoë".encode()))
    return paths


@pytest.fixture(scope="module", params=["a.jpg", "gain-map.jpg", "a.png", "a.tif", "a.avif", "a.jxl"])
def merged(request: pytest.FixtureRequest, portrait: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A preview of the three, with the radiance beside it."""
    if request.param in ("gain-map.jpg", "a.avif", "a.jxl"):
        need_encoder(request.param)
    folder = tmp_path_factory.mktemp("merged")
    preview = folder / request.param
    gain_map = ["--gain-map"] if preview.name == "gain-map.jpg" else []
    words = [*map(str, portrait), "--out", str(folder / "a.exr"), "--preview", str(preview), *gain_map]
    assert main(["merge", *words, "--weights", "none", "--align", "off", "--response", "gamma:2.2"]) == 0
    return preview


def test_exiftool_finds_camera_time_place_and_owner(merged: Path) -> None:
    found = exiftool(merged)
    assert {name: found.get(name) for name in ("IFD0:Make", "IFD0:Model", "IFD0:Artist", "IFD0:Copyright")} == {
        "IFD0:Make": "Maker",
        "IFD0:Model": "One",
        "IFD0:Artist": "Zoë",
        "IFD0:Copyright": "(c) Someone",
    }
    assert found["ExifIFD:ExifVersion"] == "0232"
    assert found["ExifIFD:DateTimeOriginal"] == "2024:05:06 07:08:09"
    assert found["ExifIFD:OffsetTimeOriginal"] == "+02:00"
    assert found["ExifIFD:LensModel"] == "35mm F2"
    assert found["ExifIFD:OwnerName"] == "Zoë"
    assert found["ExifIFD:ExposureTime"] == pytest.approx(1 / 160)  # of the reference
    assert (found["ExifIFD:FNumber"], found["ExifIFD:ISO"]) == (8, 200)
    assert found["Composite:GPSLatitude"] == pytest.approx(25 + 2 / 60 + 1.5 / 3600)
    assert found["Composite:GPSLongitude"] == pytest.approx(-121.5)


def test_exiftool_finds_an_upright_picture(merged: Path) -> None:
    found = exiftool(merged)
    assert found["IFD0:Orientation"] == 1
    assert found["Composite:ImageSize"].replace("x", " ") == "64 96"


def test_exiftool_finds_the_whole_of_a_gain_map(tmp_path: Path) -> None:
    pytest.importorskip("imagecodecs")
    write_picture(tmp_path / "a.jpg", scene(), gain_map=True, exif=None)
    found = exiftool(tmp_path / "a.jpg")
    assert found["MPF0:NumberOfImages"] == 2
    start, length = found["MPImage2:MPImageStart"], found["MPImage2:MPImageLength"]
    data = (tmp_path / "a.jpg").read_bytes()
    assert start + length == len(data)
    with Image.open(BytesIO(data[start:])) as gains:
        assert gains.size == (96, 64)


def test_exiftool_misses_nothing_in_a_tiff(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.tif", scene())
    assert said(program("exiftool"), "-validate", "-warning", "-a", tmp_path / "a.tif").split() == [
        "Validate",
        ":",
        "OK",
    ]


def test_exrheader_finds_colours_brightness_and_camera(portrait: list[Path], tmp_path: Path) -> None:
    shown = program("exrheader")
    for name, half in (("a.exr", []), ("half.exr", ["--half"])):
        words = [*map(str, portrait), "--out", str(tmp_path / name), *half]
        assert main(["merge", *words, "--weights", "none", "--align", "off", "--response", "gamma:2.2"]) == 0
        header = said(shown, tmp_path / name)
        assert header.count("16-bit floating-point" if half else "32-bit floating-point") == 3
        assert re.search(
            r"red +\(0.64 0.33\)\s+green \(0.3 0.6\)\s+blue +\(0.15 0.06\)\s+white \(0.3127 0.329\)", header
        )
        assert "dataWindow (type box2i): (0 0) - (63 95)" in header
        assert "expTime (type float): 0.00625" in header
        assert "isoSpeed (type float): 200" in header
        assert "aperture (type float): 8" in header
        # ISO 12232: saturated by 78 / S lx s, of which a scene gives 0.65 L t / N^2; the shortest has 1/640 s.
        brightness = re.search(r"whiteLuminance \(type float\): (\S+)", header)
        assert brightness is not None
        assert float(brightness[1]) == pytest.approx(78 / 200 * 640 * 8**2 / 0.65, rel=1e-3)


def test_radiance_programs_find_brightness_and_primaries(portrait: list[Path], tmp_path: Path) -> None:
    words = [*map(str, portrait), "--out", str(tmp_path / "a.hdr"), "--weights", "none"]
    assert main(["merge", *words, "--align", "off", "--response", "gamma:2.2"]) == 0
    found = exiftool(tmp_path / "a.hdr")
    assert found["Radiance:ColorPrimaries"] == "0.64 0.33 0.3 0.6 0.15 0.06 0.3127 0.329"
    # Divided by it, and times 179 lm/W, values are candela per square metre.
    assert 179 / found["Radiance:Exposure"] == pytest.approx(78 / 200 * 640 * 8**2 / 0.65, rel=1e-3)
    assert (found["File:ImageWidth"], found["File:ImageHeight"], found["Radiance:Orientation"]) == (64, 96, "-Y +X")


@pytest.mark.parametrize(("name", "step"), [("a.exr", 0.0), ("half.exr", 2.0**-11), ("a.hdr", 2.0**-7)])
def test_openimageio_reads_the_radiance(tmp_path: Path, name: str, step: float) -> None:
    write_radiance(tmp_path / name, scene(), half=name.startswith("half"))
    found, truth = openimageio(tmp_path / name), channels_last(scene())
    # One exponent for three channels in .hdr, one each in .exr.
    largest = truth.max(axis=-1, keepdims=True) if name.endswith(".hdr") else truth
    assert (np.abs(found - truth) <= step * largest).all()


@pytest.mark.parametrize(("name", "error"), [("a.tif", 0.51 / 65535), ("a.png", 0.51 / 255), ("a.jpg", 0.02)])
def test_imagemagick_reads_previews(tmp_path: Path, name: str, error: float) -> None:
    write_picture(tmp_path / name, scene())
    found = imagemagick(tmp_path / name, *SIZE) / 65535
    difference = np.abs(found - channels_last(tonemap(scene())))
    assert (difference.mean() if name.endswith(".jpg") else difference.max()) <= error


@pytest.mark.parametrize("transfer", ["pq", "hlg"])
@pytest.mark.parametrize(("primaries", "code"), [("rec2020", 9), ("p3", 12)])
@pytest.mark.parametrize("bits", [10, 12])
def test_avifdec_reads_the_signal(tmp_path: Path, transfer: str, primaries: str, code: int, bits: int) -> None:
    need_encoder("a.avif")
    decode = program("avifdec")
    settings = DisplaySettings(transfer=transfer, primaries=primaries, bits=bits, quality=98)  # type: ignore[arg-type]
    write_picture(tmp_path / "a.avif", scene(), settings=settings)
    told = dict(re.findall(r"\* (.+?) *: (.+)", said(decode, "--info", tmp_path / "a.avif")))
    transfers = {"pq": "16", "hlg": "18"}
    assert [told[name] for name in ("Bit Depth", "Color Primaries", "Transfer Char.", "Matrix Coeffs.", "Range")] == [
        *(str(bits), str(code), transfers[transfer], "9", "Full")
    ]
    said(decode, tmp_path / "a.avif", tmp_path / "a.png")
    pixels = cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED)
    assert pixels is not None
    found = pixels[..., ::-1] / 65535
    difference = np.abs(found - channels_last(encoded_signal(scene(), settings)))
    assert difference.mean() < 0.005
    assert difference.max() < 0.05


@pytest.mark.parametrize("transfer", ["pq", "hlg"])
@pytest.mark.parametrize(("primaries", "name"), [("rec2020", "Rec.2100"), ("p3", "P3"), ("rec709", "sRGB")])
@pytest.mark.parametrize("bits", [10, 12])
def test_djxl_reads_the_signal(tmp_path: Path, transfer: str, primaries: str, name: str, bits: int) -> None:
    need_encoder("a.jxl")
    settings = DisplaySettings(transfer=transfer, primaries=primaries, bits=bits, quality=100)  # type: ignore[arg-type]
    write_picture(tmp_path / "a.jxl", scene(), settings=settings)
    told = said(program("jxlinfo"), tmp_path / "a.jxl")
    assert f"96x64, lossy, {bits}-bit RGB" in told.replace("(possibly) ", "")
    assert f"RGB, D65, {name} primaries, {transfer.upper()} transfer function" in told
    said(program("djxl"), tmp_path / "a.jxl", tmp_path / "a.ppm")
    pixels = cv2.imread(str(tmp_path / "a.ppm"), cv2.IMREAD_UNCHANGED)
    assert pixels is not None
    assert pixels.dtype == np.uint16
    difference = pixels[..., ::-1] / 65535 - channels_last(encoded_signal(scene(), settings))
    assert np.abs(difference).mean(axis=(0, 1)) == pytest.approx([0, 0, 0], abs=0.02)
    assert difference.mean(axis=(0, 1)) == pytest.approx([0, 0, 0], abs=0.005)


# What JPEG and AV1 lose is noise, and neither a tint nor a shift.
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("a.jpg", DisplaySettings(quality=100)),
        ("a.avif", DisplaySettings(quality=100)),
        ("a.avif", DisplaySettings(quality=100, primaries="p3", bits=12)),
        ("a.avif", DisplaySettings(quality=100, transfer="hlg")),
        ("a.jxl", DisplaySettings(quality=100)),
        ("a.jxl", DisplaySettings(quality=100, primaries="p3", bits=12)),
        ("a.jxl", DisplaySettings(quality=100, transfer="hlg")),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{value.transfer} {value.primaries}",
)
def test_chromium_shows_the_light(tmp_path: Path, name: str, settings: DisplaySettings) -> None:
    need_encoder(name)
    write_picture(tmp_path / name, scene(), gain_map=name.endswith(".jpg"), settings=settings)
    found, truth = light_in_browser(tmp_path / name, headroom=6), channels_last(display_light(scene()))
    assert truth.max() > 3  # brighter than paper
    assert (np.abs(found - truth) / (truth + 0.05)).mean() < 0.07
    brightness = truth.max(axis=-1)
    for least, most in ((0.05, 0.2), (0.2, 1), (1, 2), (2, 5)):
        of_level = (brightness > least) & (brightness <= most)
        assert of_level.sum() > 200
        np.testing.assert_allclose(np.median(found[of_level] / truth[of_level], axis=0), 1, atol=0.03)


@pytest.mark.parametrize("name", ["a.jpg", "gain-map.jpg"])
def test_chromium_shows_a_jpeg_as_it_is_where_nothing_is_brighter_than_white(tmp_path: Path, name: str) -> None:
    pytest.importorskip("imagecodecs")
    write_picture(tmp_path / name, scene(), gain_map=name.startswith("gain"))
    found = light_in_browser(tmp_path / name, headroom=0)
    with Image.open(tmp_path / name) as image:
        theirs = ImageCms.ImageCmsProfile(BytesIO(image.info["icc_profile"]))
        shown = ImageCms.profileToProfile(image, theirs, ImageCms.createProfile("sRGB"))
    assert shown is not None
    signal = np.asarray(shown) / 255
    linear = np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)
    inside = ((signal > 0) & (signal < 1)).all(axis=-1)  # of sRGB; Chromium clips nothing
    assert inside.mean() > 0.8
    assert np.abs(found - linear)[inside].mean() < 0.005
    assert found[inside].max() <= 1.01
