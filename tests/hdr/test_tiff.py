"""Radiance as TIFF of floating-point numbers."""

from __future__ import annotations

from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms
from PIL.TiffImagePlugin import IFDRational
from torch import Tensor

from hdr._exif_text import as_stored
from hdr._icc import NAME
from hdr._tiff import encode_tiff
from hdr.exif import carried_exif, read_exif
from hdr.exposure import CameraSettings, read_camera_settings
from hdr.folder import read_shot
from hdr.io import read_photograph, read_radiance, write_image, write_radiance


def radiance(height: int = 23, width: int = 31) -> Tensor:
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(0)).pow(6).mul(1e4)


def written(path: Path, values: Tensor, profile: bytes = b"") -> Path:
    pixels = np.ascontiguousarray(values.permute(1, 2, 0).numpy())
    path.write_bytes(encode_tiff(pixels, profile))
    return path


def with_blue_called_red() -> bytes:
    """sRGB's profile with two of its primaries exchanged."""
    data = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exchanged = data.replace(b"rXYZ", b"????").replace(b"bXYZ", b"rXYZ").replace(b"????", b"bXYZ")
    return exchanged.replace("sRGB".encode("utf-16-be"), "Swap".encode("utf-16-be"))


def test_planes_that_opencv_would_take_for_pixels_are_no_radiance(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", radiance().numpy(), photometric="rgb", planarconfig="separate")
    with pytest.raises(ValueError, match=r"a\.tif: its colours lie in separate planes"):
        read_radiance(tmp_path / "a.tif")


@settings(max_examples=20)
@given(height=st.integers(1, 40), width=st.integers(1, 40), suffix=st.sampled_from([".tif", ".TIFF"]))
def test_radiance_comes_back_bit_by_bit(tmp_path_factory, height: int, width: int, suffix: str) -> None:
    path = tmp_path_factory.mktemp("tiff") / f"a{suffix}"
    for values in (radiance(height, width), torch.zeros(3, height, width), torch.full((3, height, width), 3e38)):
        write_radiance(path, values, overwrite=True)
        assert torch.equal(read_radiance(path), values)


def test_other_programs_read_numbers_colours_and_words(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[271], exif[315] = "Maker", as_stored("Zo\xc3\xab")  # as Pillow reads UTF-8
    exif.get_ifd(0x8769)[33434] = IFDRational(1, 4)
    words: dict[str, str | float] = {
        "comments": "merged from Čapek.jpg",
        "software": "captum-ext",
        "whiteLuminance": 4321.123456789,
        "expTime": 0.25,
    }
    write_radiance(tmp_path / "a.tif", radiance(), attributes=words, exif=exif.tobytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        page = file.pages[0]
        assert isinstance(page, tifffile.TiffPage)
        # Before 4.13 OpenCV does not compress numbers.
        compression = 8 if tuple(map(int, cv2.__version__.split(".")[:2])) >= (4, 13) else 1
        assert (str(page.dtype), int(page.photometric), int(page.compression)) == ("float32", 2, compression)
        np.testing.assert_array_equal(page.asarray(), radiance().permute(1, 2, 0).numpy())
        told = {tag.name: tag.value for tag in page.tags.values()}
    assert {name: told[name] for name in ("ImageDescription", "Software", "StoNits", "Make", "Artist")} == {
        "ImageDescription": "merged from Čapek.jpg",
        "Software": "captum-ext",
        "StoNits": 4321.123456789,
        "Make": "Maker",
        "Artist": "Zoë",
    }
    assert told["ExifTag"]["ExposureTime"] == (1, 4)
    profile = ImageCms.ImageCmsProfile(BytesIO(told["InterColorProfile"]))
    assert ImageCms.getProfileDescription(profile).strip() == NAME
    seen = cv2.imread(str(tmp_path / "a.tif"), cv2.IMREAD_UNCHANGED)
    assert seen is not None
    np.testing.assert_array_equal(seen[..., ::-1], radiance().permute(1, 2, 0).numpy())


def test_a_photographers_caption_is_kept(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[270] = "The church"
    write_radiance(tmp_path / "a.tif", radiance(), attributes={"comments": "merged"}, exif=exif.tobytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.pages[0].tags["ImageDescription"].value == "The church"  # type: ignore[union-attr]


def test_colours_of_another_profile_become_rec_709(tmp_path: Path) -> None:
    path = written(tmp_path / "a.tif", radiance(), with_blue_called_red())
    torch.testing.assert_close(read_radiance(path), radiance().flip(0), rtol=1e-3, atol=1.0)


def test_colours_outside_of_rec_709_are_clipped_at_black(tmp_path: Path) -> None:
    # A profile whose red has no light at all of Rec. 709's green and blue taken from it: XYZ of red, doubled in X.
    data = (
        ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
        .tobytes()
        .replace("sRGB".encode("utf-16-be"), "Wide".encode("utf-16-be"))
    )
    place = int.from_bytes(data[data.index(b"rXYZ") + 4 :][:4], "big") + 8
    wide = data[:place] + (2 * int.from_bytes(data[place : place + 4], "big")).to_bytes(4, "big") + data[place + 4 :]
    found = read_radiance(
        written(tmp_path / "a.tif", torch.tensor([1.0, 0.0, 0.0]).view(3, 1, 1).repeat(1, 8, 8), wide)
    )
    assert float(found[0].min()) > 1.5
    assert float(found.min()) == 0.0


def test_a_photograph_in_floating_point_has_the_colours_of_its_profile(tmp_path: Path) -> None:
    light = radiance() / 1e4
    found = read_photograph(written(tmp_path / "a.tif", light, with_blue_called_red()))
    assert found.linear
    assert found.profile.startswith("Swap")
    assert found.to_rec709 is not None
    torch.testing.assert_close(found.to_rec709, torch.eye(3).flip(0), rtol=0, atol=1e-3)
    assert torch.equal(found.image, light)
    write_radiance(tmp_path / "own.tif", light)
    own = read_photograph(tmp_path / "own.tif")
    assert (own.profile, own.to_rec709, own.linear) == ("", None, True)


@pytest.mark.parametrize("profile", [b"", b"no profile at all" * 20])
def test_colours_without_a_profile_that_can_be_read_stay_as_they_are(tmp_path: Path, profile: bytes) -> None:
    path = written(tmp_path / "a.tif", radiance(), profile)
    if profile:
        with pytest.warns(UserWarning, match=r"its colour profile \(damaged\) is not applied"):
            found = read_radiance(path)
    else:
        found = read_radiance(path)
    assert torch.equal(found, radiance())


def test_what_is_no_radiance_is_refused(tmp_path: Path) -> None:
    write_image(tmp_path / "display.tif", torch.rand(3, 16, 16))
    cv2.imwrite(str(tmp_path / "grey.tif"), np.ones((16, 16), np.float32))
    (tmp_path / "cut.tif").write_bytes(written(tmp_path / "a.tif", radiance()).read_bytes()[:900])
    (tmp_path / "empty.tif").write_bytes(b"")
    cv2.imwrite(str(tmp_path / "alpha.tif"), np.ones((16, 16, 4), np.float32))
    for name in ("display", "grey", "cut", "empty", "alpha"):
        with pytest.raises(ValueError, match=rf"{name}\.tif: damaged, or not a TIFF of three channels of 32-bit float"):
            read_radiance(tmp_path / f"{name}.tif")
    negative = radiance()
    negative[0, 0, 0] = -1.0
    with pytest.raises(ValueError, match=r"a\.tif: 1 of 2139 values are negative"):
        read_radiance(written(tmp_path / "a.tif", negative))
    with pytest.raises(ValueError, match=r"only \.exr files hold 16-bit float"):
        write_radiance(tmp_path / "b.tif", radiance(), half=True)
    assert not (tmp_path / "b.tif").exists()


KINDS: dict[str, dict[str, Any]] = {
    "ZSTD": {"compression": "zstd"},
    "LZMA": {"compression": "lzma"},
    "JPEG XL": {"compression": "jpegxl"},
    "JPEG 2000": {"compression": "jpeg2000"},
    "LERC": {"compression": "lerc"},
    "PNG": {"compression": "png"},
    "16-bit float": {"dtype": np.float16},
    "64-bit float": {"dtype": np.float64},
    "32-bit integers": {"dtype": np.uint32},
    "numbers with a sign": {"dtype": np.int16},
    "Lab": {"photometric": "cielab"},
    "5 channels": {"channels": 5},
    "32-bit float with 4 channels": {"dtype": np.float32, "channels": 4},
    "BigTIFF": {"bigtiff": True, "byteorder": ">"},
}


@pytest.mark.parametrize("said", KINDS)
def test_a_tiff_of_a_kind_that_is_not_read_is_named_and_not_called_damaged(tmp_path: Path, capfd, said: str) -> None:
    how: dict[str, Any] = {"dtype": np.uint16, "channels": 3, "photometric": "rgb", **KINDS[said]}
    pixels = np.zeros((24, 32, how.pop("channels")), how.pop("dtype"))
    if "compression" in how:
        pytest.importorskip("imagecodecs")
    tifffile.imwrite(tmp_path / "a.tif", pixels, **how)
    for read in (read_photograph, read_shot):
        if read is read_shot and said in ("ZSTD", "LZMA"):
            continue  # which Pillow opens
        with pytest.raises(
            ValueError, match=rf"a\.tif: a TIFF .*{said}.*, which is not read: save it as TIFF of 16 bits,"
        ):
            read(tmp_path / "a.tif")
    assert capfd.readouterr() == ("", "")  # of OpenCV


@pytest.mark.parametrize(
    "head", [b"II*\0", b"II*\0\x08\0\0\0", b"MM\0+\0\x08\0\0", b"II*\0\x08\0\0\0\xff\xff" + bytes(50)]
)
def test_a_damaged_tiff_is_called_damaged(tmp_path: Path, head: bytes) -> None:
    (tmp_path / "a.tif").write_bytes(head)
    for read in (read_photograph, read_shot, read_camera_settings):
        with pytest.raises(ValueError, match=r"a\.tif: damaged"):
            read(tmp_path / "a.tif")


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_big_tiffs_are_read_in_the_order_that_is_usual(
    tmp_path: Path, dtype: Any, byteorder: Literal["<", ">"]
) -> None:
    pixels = (np.random.default_rng(0).random((24, 32, 3)) * (1 if dtype is np.float32 else 255)).astype(dtype)
    big = byteorder == "<"
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", bigtiff=big, byteorder=byteorder)
    image, levels, *_ = read_photograph(tmp_path / "a.tif")
    scale = 1 if dtype is np.float32 else levels
    np.testing.assert_allclose(image.permute(1, 2, 0).numpy() * scale, pixels, rtol=1e-6)
    assert read_shot(tmp_path / "a.tif").size == (32, 24)


def test_exposures_in_floating_point_tell_what_the_camera_wrote_down(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[271], exif[272] = "Maker", "One"
    exif.get_ifd(0x8769).update({33434: IFDRational(1, 50), 34855: 200, 36867: "2024:05:06 07:08:09"})
    exif.get_ifd(0x8825)[1] = "N"
    write_radiance(tmp_path / "a.tif", radiance() / 1e4, exif=exif.tobytes())
    assert read_camera_settings(tmp_path / "a.tif") == CameraSettings(1 / 50, 200, None)
    shot = read_shot(tmp_path / "a.tif")
    assert (shot.camera, shot.taken, shot.size) == ("Maker One", datetime(2024, 5, 6, 7, 8, 9), (31, 23))
    image, exposure, place = read_exif(tmp_path / "a.tif")
    assert (image[271], exposure[34855], place[1]) == ("Maker", 200, "N")
    write_radiance(tmp_path / "b.tif", radiance() / 1e4)
    assert read_camera_settings(tmp_path / "b.tif") == CameraSettings(None, None, None)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_an_exposure_is_read_where_tiff_ep_has_it(tmp_path: Path, dtype: Any) -> None:
    # ISO 12234-2 puts the tags of the exposure into the directory of the image.
    tags = [
        (271, 2, 0, "Maker", False),
        (33434, 5, 1, (1, 50), False),
        (33437, 5, 1, (8, 1), False),
        (34855, 3, 1, 200, False),
        (36867, 2, 0, "2024:05:06 07:08:09", False),
    ]
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((24, 32, 3), dtype), photometric="rgb", extratags=tags)
    assert read_camera_settings(tmp_path / "a.tif") == CameraSettings(1 / 50, 200, 8)
    assert read_shot(tmp_path / "a.tif").taken == datetime(2024, 5, 6, 7, 8, 9)
    carried = Image.Exif()
    carried.load(carried_exif(tmp_path / "a.tif") or b"")
    details = carried.get_ifd(0x8769)
    assert (details[33434], details[34855], details[36867]) == (1 / 50, 200, "2024:05:06 07:08:09")
