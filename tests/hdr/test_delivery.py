"""HDR files against the numbers of BT.2100 and BT.2408, read back by other programs where there is one."""

import io
import itertools
import struct
from fractions import Fraction
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageCms

from hdr._exif_boxes import with_exif_box, with_exif_item
from hdr.cli import main
from hdr.delivery import (
    DisplaySettings,
    _levels,
    check_picture,
    display_light,
    encoded_signal,
    from_rec709,
    hlg,
    pq,
    with_exif,
    write_avif,
    write_gain_map,
    write_jxl,
    write_picture,
)
from hdr.exif import carried_exif
from hdr.io import read_ldr, write_image, write_preview, write_radiance
from hdr.settings import Operator
from tests.hdr.brackets import textured
from tests.hdr.encoders import need_encoder

imagecodecs = pytest.importorskip("imagecodecs")


def scene(height: int = 64, width: int = 96) -> torch.Tensor:
    return 50 * torch.nn.functional.avg_pool2d(textured(4 * height, 4 * width, darkest=0.001, brightest=1.0), 4)


@pytest.mark.parametrize(
    ("luminance", "signal"),
    [(0, 0), (0.1, 0.0623), (1, 0.1499), (100, 0.5081), (203, 0.5807), (1000, 0.7518), (10000, 1), (20000, 1)],
)
def test_pq_has_the_published_values(luminance: float, signal: float) -> None:
    assert float(pq(torch.tensor(float(luminance)))) == pytest.approx(signal, abs=1e-4)


@pytest.mark.parametrize(("candela", "signal"), [(0, 0), (0.1, 0.0373), (203, 0.75), (1000, 1.0), (26.0, 0.38)])
def test_hlg_has_the_published_values_for_a_display_of_1000_candela(candela: float, signal: float) -> None:
    grey = torch.full((3, 1, 1), candela / 1000)
    _, weights = from_rec709("rec2020")
    torch.testing.assert_close(hlg(grey, weights), torch.full((3, 1, 1), float(signal)), atol=3e-3, rtol=0)


def test_conversion_to_rec_2020_is_the_published_matrix() -> None:
    matrix, weights = from_rec709("rec2020")  # ITU-R BT.2087
    published = [[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]]
    torch.testing.assert_close(matrix, torch.tensor(published), atol=1e-4, rtol=0)
    torch.testing.assert_close(weights, torch.tensor([0.2627, 0.6780, 0.0593]), atol=1e-4, rtol=0)


def test_conversion_to_p3_is_the_published_matrix() -> None:
    matrix, weights = from_rec709("p3")  # CSS Color Module Level 4
    published = [[0.8225, 0.1775, 0.0], [0.0332, 0.9668, 0.0], [0.0171, 0.0724, 0.9105]]
    torch.testing.assert_close(matrix, torch.tensor(published), atol=1e-4, rtol=0)
    torch.testing.assert_close(weights, torch.tensor([0.2290, 0.6917, 0.0793]), atol=1e-4, rtol=0)


@pytest.mark.parametrize("primaries", ["rec709", "p3", "rec2020"])
def test_white_stays_white(primaries: str) -> None:
    matrix, weights = from_rec709(primaries)  # type: ignore[arg-type]
    torch.testing.assert_close(matrix.sum(dim=1), torch.ones(3), atol=1e-5, rtol=0)
    assert float(weights.sum()) == pytest.approx(1, abs=1e-5)


def test_light_does_not_depend_on_the_scale_of_radiance() -> None:
    radiance = scene()
    for factor in (1e-6, 3.0, 1e5):
        torch.testing.assert_close(display_light(factor * radiance), display_light(radiance), rtol=1e-3, atol=1e-5)


def test_the_average_is_middle_grey_and_brightness_is_in_stops() -> None:
    light = display_light(scene(), peak=10_000)
    luminance = 0.2126 * light[0] + 0.7152 * light[1] + 0.0722 * light[2]
    assert float(luminance.log().mean().exp()) == pytest.approx(0.18, rel=1e-3)
    torch.testing.assert_close(display_light(scene(), brightness=-2, peak=10_000), light / 4)


def test_nothing_exceeds_the_peak_and_what_is_cut_off_keeps_its_colour() -> None:
    radiance = scene()
    radiance[:, 10:20, 10:20] = torch.tensor([1e4, 5e3, 1e3]).view(3, 1, 1)
    light = display_light(radiance, peak=406)
    assert float(light.max()) == pytest.approx(2.0, rel=1e-5)
    torch.testing.assert_close(light[:, 15, 15], torch.tensor([2.0, 1.0, 0.2]), rtol=1e-4, atol=0)


def test_black_is_black() -> None:
    assert float(display_light(torch.zeros(3, 8, 8)).max()) == 0
    assert float(encoded_signal(torch.zeros(3, 8, 8), DisplaySettings()).max()) == 0


@pytest.mark.parametrize("size", [(64, 96), (33, 51)])
def test_gain_map_gives_the_light_back_on_an_hdr_display(tmp_path: Path, size: tuple[int, int]) -> None:
    radiance = scene(*size)
    write_gain_map(tmp_path / "a.jpg", radiance, DisplaySettings(quality=100))
    back = imagecodecs.ultrahdr_decode(
        (tmp_path / "a.jpg").read_bytes(), dtype="float16", transfer=imagecodecs.ULTRAHDR.CT.LINEAR, boost=50.0
    )
    found = torch.from_numpy(back[: size[0], : size[1], :3].astype(np.float32)).permute(2, 0, 1)
    expected = display_light(radiance)
    # Eight bits of a tone-mapped picture times eight bits of gain.
    relative = (found - expected).abs() / (expected + 0.05)
    assert float(relative.mean()) < 0.05
    assert float(expected.max()) > 2  # brighter than diffuse white, as only an HDR display shows it


@pytest.mark.parametrize("name", ["a.JPG", "a.avif", "a.AVIF", "a.jxl", "a.JXL"])
def test_a_picture_of_any_kind_is_written_as_its_settings_say(tmp_path: Path, name: str) -> None:
    need_encoder(name.lower())
    write = {"jpg": write_gain_map, "avif": write_avif, "jxl": write_jxl}[name.lower()[2:]]
    for number, settings in enumerate((DisplaySettings(), DisplaySettings(brightness=-1, peak=500, quality=40))):
        write_picture(tmp_path / f"{number}{name}", scene(), gain_map=write is write_gain_map, settings=settings)
        write(tmp_path / name, scene(), settings, overwrite=True)
        assert (tmp_path / f"{number}{name}").read_bytes() == (tmp_path / name).read_bytes()
    assert (tmp_path / f"0{name}").stat().st_size > 1.3 * (tmp_path / f"1{name}").stat().st_size


def test_what_is_tone_mapped_is_so_by_the_operator_that_was_asked_for(tmp_path: Path) -> None:
    shown = []
    for operator in get_args(Operator):
        write_picture(tmp_path / "ours.png", scene(), operator, overwrite=True)
        write_preview(tmp_path / "theirs.png", scene(), operator, overwrite=True)
        ours, theirs = (read_ldr(tmp_path / name) for name in ("ours.png", "theirs.png"))
        assert torch.equal(ours, theirs)
        shown.append(ours)
    assert all(not torch.equal(one, other) for one, other in itertools.combinations(shown, 2))


def test_gain_map_is_an_ordinary_jpeg_for_old_programs(tmp_path: Path) -> None:
    write_gain_map(tmp_path / "a.jpg", scene())
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.size == (96, 64)
        assert image.mode == "RGB"
        shown = np.asarray(image)
        assert image.n_frames == 2  # type: ignore[attr-defined]
        image.seek(1)
        assert image.size == (96, 64)
    assert 60 < shown.mean() < 170
    assert (shown == 255).mean() < 0.05
    assert b"urn:iso:std:iso:ts:21496:-1" in (tmp_path / "a.jpg").read_bytes()


def test_gain_map_survives_exif_in_front_of_it(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Maker"
    write_gain_map(tmp_path / "plain.jpg", scene())
    write_gain_map(tmp_path / "carried.jpg", scene(), exif=b"Exif\0\0" + exif.tobytes().removeprefix(b"Exif\0\0"))
    decoded = [imagecodecs.ultrahdr_decode((tmp_path / name).read_bytes()) for name in ("plain.jpg", "carried.jpg")]
    np.testing.assert_array_equal(*decoded)
    with Image.open(tmp_path / "carried.jpg") as image:
        assert image.getexif()[ExifTags.Base.Make] == "Maker"
        entries = image.mpinfo[0xB002]  # type: ignore[attr-defined]
        image.seek(1)
        image.load()
    whole = (tmp_path / "carried.jpg").stat().st_size
    assert sum(entry["Size"] for entry in entries) == whole


@pytest.mark.parametrize("transfer", ["pq", "hlg"])
@pytest.mark.parametrize(("primaries", "code"), [("rec709", 1), ("rec2020", 9), ("p3", 12)])
@pytest.mark.parametrize("bits", [10, 12])
def test_avif_holds_the_signal_and_says_what_it_is(
    tmp_path: Path, transfer: str, primaries: str, code: int, bits: int
) -> None:
    need_encoder("a.avif")
    settings = DisplaySettings(transfer=transfer, primaries=primaries, bits=bits, quality=98)  # type: ignore[arg-type]
    write_avif(tmp_path / "a.avif", scene(), settings)
    data = (tmp_path / "a.avif").read_bytes()
    nclx = data.index(b"colrnclx") + 8
    assert struct.unpack(">HHH", data[nclx : nclx + 6]) == (code, {"pq": 16, "hlg": 18}[transfer], 9)
    found = imagecodecs.avif_decode(data)
    assert found.shape == (64, 96, 3)
    signal = encoded_signal(scene(), settings).permute(1, 2, 0).numpy()
    assert np.abs(found / (2**bits - 1) - signal).mean() < 0.01
    with Image.open(io.BytesIO(data)) as image:  # another decoder's reading of the same file, in 8 bits
        other = np.asarray(image.convert("RGB")) / 255
    assert np.abs(other - signal).mean() < 0.015


def test_previews_say_that_they_are_srgb(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png", "a.tif"):
        write_picture(tmp_path / name, scene())
        with Image.open(tmp_path / name) as image:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
            assert "sRGB" in ImageCms.getProfileDescription(profile)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif"])
def test_the_profile_of_a_preview_does_not_tell_when_it_was_written(tmp_path: Path, name: str) -> None:
    # Its header has a date, bytes 24 to 35 (ICC.1:2022), and the same light must give the same file on another day.
    write_picture(tmp_path / name, scene())
    with Image.open(tmp_path / name) as image:
        profile = image.info["icc_profile"]
    assert struct.unpack(">6H", profile[24:36]) == (1999, 10, 18, 0, 0, 0)  # of IEC 61966-2-1, which is sRGB
    assert profile[36:40] == b"acsp"


def photograph(path: Path, orientation: int = 6) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Make], exif[ExifTags.Base.Model], exif[ExifTags.Base.Copyright] = "Maker", "One", "(c) Someone"
    exif[ExifTags.Base.Orientation] = orientation
    exif.get_ifd(ExifTags.IFD.Exif).update(
        {0x829A: 1 / 60, 0x8827: 200, 0x9003: "2024:05:06 07:08:09", 0x927C: b"own notes"}
    )
    exif.get_ifd(ExifTags.IFD.GPSInfo).update({1: "N", 2: (25.0, 2.0, 1.0)})
    Image.new("RGB", (32, 24)).save(path, exif=exif)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.avif"])
def test_camera_time_place_and_copyright_are_carried_and_the_picture_is_upright(tmp_path: Path, name: str) -> None:
    need_encoder(name)
    photograph(tmp_path / "taken.jpg")
    exif = carried_exif(tmp_path / "taken.jpg")
    assert exif is not None
    write_picture(tmp_path / name, scene(), exif=exif)
    with Image.open(tmp_path / name) as image:
        found = image.getexif()
        details, place = found.get_ifd(ExifTags.IFD.Exif), found.get_ifd(ExifTags.IFD.GPSInfo)
    assert found[ExifTags.Base.Make] == "Maker"
    assert found[ExifTags.Base.Copyright] == "(c) Someone"
    assert found[ExifTags.Base.Orientation] == 1
    assert float(details[0x829A]) == pytest.approx(1 / 60, rel=1e-4)
    assert details[0x9003] == "2024:05:06 07:08:09"
    assert 0x927C not in details
    assert place[1] == "N"
    assert [float(part) for part in place[2]] == [25, 2, 1]


def described(path: Path, description: str, artist: str = "Someone") -> Path:
    exif = Image.Exif()
    exif[ExifTags.Base.Make], exif[ExifTags.Base.Artist] = "Maker", artist
    exif[ExifTags.Base.ImageDescription] = description
    Image.new("RGB", (32, 24)).save(path, exif=exif)
    return path


def test_what_a_jpeg_cannot_hold_is_not_carried(tmp_path: Path) -> None:
    # A segment of a JPEG counts its length, and the two bytes of that, in 16 bits: 65,533 are left.
    short = carried_exif(described(tmp_path / "short.tif", "about 60 kB " * 5000))
    assert short is not None
    assert 60_000 < len(short) <= 65_533
    assert b"about 60 kB" in short
    long = carried_exif(described(tmp_path / "long.tif", "about 70 kB " * 5834))
    assert long is not None
    assert b"about 70 kB" not in long
    assert b"Maker" in long
    assert b"Someone" in long
    for name, gain_map in (("plain.jpg", False), ("mapped.jpg", True)):
        write_picture(tmp_path / name, scene(), gain_map=gain_map, exif=long)
        assert Image.open(tmp_path / name).getexif()[ExifTags.Base.Make] == "Maker"
    assert carried_exif(described(tmp_path / "artist.tif", "short", "about 70 kB " * 5834)) is None


@pytest.mark.parametrize("gain_map", [False, True])
def test_a_picture_is_written_without_the_exif_that_does_not_fit(tmp_path: Path, gain_map: bool) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Artist] = "about 70 kB " * 5834
    with pytest.warns(UserWarning, match="written without EXIF data"):
        write_picture(tmp_path / "a.jpg", scene(), gain_map=gain_map, exif=exif.tobytes())
    with Image.open(tmp_path / "a.jpg") as image:
        assert not image.getexif()
    write_picture(tmp_path / "a.png", scene(), exif=exif.tobytes())
    with Image.open(tmp_path / "a.png") as image:
        assert image.getexif()[ExifTags.Base.Artist] == exif[ExifTags.Base.Artist]


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.avif"])
def test_another_reader_finds_what_is_carried(tmp_path: Path, name: str) -> None:
    need_encoder(name)
    exifread = pytest.importorskip("exifread")
    photograph(tmp_path / "taken.jpg")
    write_picture(tmp_path / name, scene(), exif=carried_exif(tmp_path / "taken.jpg"))
    with (tmp_path / name).open("rb") as file:
        tags = exifread.process_file(file, details=False)
    found = {tag: str(tags[tag]) for tag in ("Image Model", "EXIF DateTimeOriginal", "EXIF ISOSpeedRatings")}
    assert found == {
        "Image Model": "One",
        "EXIF DateTimeOriginal": "2024:05:06 07:08:09",
        "EXIF ISOSpeedRatings": "200",
    }
    assert Fraction(str(tags["EXIF ExposureTime"])) == Fraction(1, 60)  # a ratio, as the standard has it
    assert str(tags["GPS GPSLatitude"]) == "[25, 2, 1]"


@pytest.mark.parametrize("size", [(8, 51), (33, 51)])  # one strip, and several
def test_exif_leaves_the_pixels_of_a_tiff_as_they_are(tmp_path: Path, size: tuple[int, int]) -> None:
    tifffile = pytest.importorskip("tifffile")
    photograph(tmp_path / "taken.jpg")
    image = torch.rand(3, *size)
    write_image(tmp_path / "a.tif", image, exif=carried_exif(tmp_path / "taken.jpg"))
    expected = (image * 65535).round().permute(1, 2, 0).numpy().astype(np.uint16)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert len(file.pages) == 1
        page = file.pages[0]
        assert (len(page.dataoffsets) > 1) is (size[0] > 8)
        np.testing.assert_array_equal(page.asarray(), expected)
        assert page.tags["ExifTag"].value["DateTimeOriginal"] == "2024:05:06 07:08:09"
        assert page.tags["GPSTag"].value["GPSLatitudeRef"] == "N"
    torch.testing.assert_close(read_ldr(tmp_path / "a.tif"), image, atol=1e-5, rtol=0)


def test_exif_leaves_the_pixels_and_colours_of_an_avif_as_they_are(tmp_path: Path) -> None:
    need_encoder("a.avif")
    photograph(tmp_path / "taken.jpg")
    for name, exif in (("bare.avif", None), ("carried.avif", carried_exif(tmp_path / "taken.jpg"))):
        write_avif(tmp_path / name, scene(), exif=exif)
    bare, carried = ((tmp_path / name).read_bytes() for name in ("bare.avif", "carried.avif"))
    np.testing.assert_array_equal(imagecodecs.avif_decode(carried), imagecodecs.avif_decode(bare))
    assert carried[carried.index(b"colrnclx") :][:14] == bare[bare.index(b"colrnclx") :][:14]
    with Image.open(io.BytesIO(bare)) as one, Image.open(io.BytesIO(carried)) as other:
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


def test_an_avif_of_another_layout_is_written_without_exif_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_encoder("a.avif")
    photograph(tmp_path / "taken.jpg")
    encode = imagecodecs.avif_encode
    # A box of the version in which items have numbers of 32 bits.
    later = lambda *words, **options: encode(*words, **options).replace(b"iinf\0", b"iinf\1")  # noqa: E731
    monkeypatch.setattr(imagecodecs, "avif_encode", later)
    with pytest.warns(UserWarning, match=r"a\.avif: written without EXIF"):
        write_avif(tmp_path / "a.avif", scene(), exif=carried_exif(tmp_path / "taken.jpg"))
    assert b"infe" in (tmp_path / "a.avif").read_bytes()


def test_exif_is_put_into_an_avif_of_another_encoder(tmp_path: Path) -> None:
    photograph(tmp_path / "taken.jpg")
    exif = carried_exif(tmp_path / "taken.jpg")
    assert exif is not None
    plain = io.BytesIO()
    Image.fromarray(np.arange(64 * 96 * 3, dtype=np.uint8).reshape(64, 96, 3)).save(plain, "AVIF")
    with Image.open(plain) as one, Image.open(io.BytesIO(with_exif_item(plain.getvalue(), exif))) as other:
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
        assert other.getexif()[ExifTags.Base.Make] == "Maker"


def test_without_exif_nothing_is_carried(tmp_path: Path) -> None:
    Image.new("RGB", (32, 24)).save(tmp_path / "bare.jpg")
    (tmp_path / "damaged.jpg").write_bytes(b"\xff\xd8\xff\xe1")
    assert carried_exif(tmp_path / "bare.jpg") is None
    assert carried_exif(tmp_path / "damaged.jpg") is None


@pytest.mark.parametrize(
    ("name", "codec", "constants", "release"),
    [("a.avif", "AVIF", "COLOR_PRIMARIES", "2025.11.11"), ("a.jxl", "JPEGXL", "PRIMARIES", "2026.5.10")],
)
def test_an_encoder_that_cannot_state_colours_is_named_with_the_release_that_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, codec: str, constants: str, release: str
) -> None:
    monkeypatch.delattr(getattr(imagecodecs, codec), constants, raising=False)
    with pytest.raises(ValueError, match=rf"imagecodecs .* cannot write .*{release} can, on Python 3\.\d+ and newer"):
        check_picture(tmp_path / name)
    with pytest.raises(ValueError, match="cannot write"):
        write_picture(tmp_path / name, scene())
    assert not list(tmp_path.iterdir())


def test_exif_is_put_into_containers_alone() -> None:
    with pytest.raises(ValueError, match="without a container"):
        with_exif_box(b"\xff\x0a", b"Exif")


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.avif", "a.jxl"])
def test_only_a_jpeg_can_have_a_gain_map(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"only a \.jpg file can have a gain map"):
        check_picture(tmp_path / name, gain_map=True)


@pytest.mark.parametrize(
    "change",
    [{"peak": 100}, {"peak": 2e4}, {"bits": 8}, {"transfer": "srgb"}, {"brightness": float("nan")}, {"quality": 0}],
)
def test_settings_out_of_range_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        DisplaySettings(**change)  # type: ignore[arg-type]


def test_tonemap_writes_hdr_files_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_radiance(tmp_path / "a.exr", scene())
    need_encoder("a.avif")
    assert main(["tonemap", str(tmp_path / "a.exr"), "--out", str(tmp_path / "a.jpg"), "--gain-map"]) == 0
    assert main(["tonemap", str(tmp_path / "a.exr"), "--out", str(tmp_path / "a.avif"), "--transfer", "hlg"]) == 0
    assert main(["tonemap", str(tmp_path / "a.exr"), "--out", str(tmp_path / "a.png"), "--gain-map"]) == 1
    assert "only a .jpg file can have a gain map" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.avif", "a.exr", "a.jpg"]


def bt2020(radiance: np.ndarray) -> np.ndarray:
    """Linear Rec. 709, (3, H, W), in the primaries of Rec. 2020, by the published matrix (ITU-R BT.2087)."""
    published = [[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]]
    converted: np.ndarray = np.einsum("ij,jhw->ihw", np.array(published), radiance)
    return converted


def test_saturated_light_has_the_signal_of_the_standard() -> None:
    # Red of a tenth of the display beside grey, by PQ in Rec. 2020; nothing is cut off.
    light = torch.full((3, 8, 16), 1.0)
    light[:, :, :8] = torch.tensor([1.0, 0.02, 0.1]).view(3, 1, 1)
    shown = display_light(light, peak=10_000).numpy() * 203
    y = (bt2020(shown) / 10_000) ** 0.1593017578125
    expected = ((0.8359375 + 18.8515625 * y) / (1 + 18.6875 * y)) ** 78.84375
    found = encoded_signal(light, DisplaySettings(transfer="pq", primaries="rec2020", peak=10_000))
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-3)


def test_hlg_is_for_a_display_of_1000_candela_whatever_peak_is_set() -> None:
    # BT.2100: the display raises the luminance of the scene by 1.2, which here is told by the inverse of its formulas.
    light = torch.full((3, 8, 16), 1.0)
    light[:, :, :8] = torch.tensor([1.0, 0.02, 0.1]).view(3, 1, 1)
    light[:, 0, 0] = 1e3  # cut off at the display's peak
    signal = encoded_signal(light, DisplaySettings(transfer="hlg", primaries="rec2020", peak=400)).double().numpy()
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene_light = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    luminance = np.einsum("c,chw->hw", [0.2627, 0.6780, 0.0593], scene_light)
    displayed = 1000 * luminance**0.2 * scene_light
    expected = bt2020(display_light(light, peak=1000).numpy() * 203)
    np.testing.assert_allclose(displayed, expected, rtol=0.01, atol=0.5)
    assert displayed.max() == pytest.approx(1000, rel=0.01)


def test_a_gain_map_gives_light_back_up_to_the_peak_that_was_set(tmp_path: Path) -> None:
    radiance = scene()
    radiance[:, :16, :16] = 1e4
    for peak in (406.0, 1624.0):
        write_gain_map(tmp_path / f"{peak:g}.jpg", radiance, DisplaySettings(peak=peak, quality=100))
        back = imagecodecs.ultrahdr_decode(
            (tmp_path / f"{peak:g}.jpg").read_bytes(),
            dtype="float16",
            transfer=imagecodecs.ULTRAHDR.CT.LINEAR,
            boost=50.0,
        )
        assert float(back[4:12, 4:12, :3].astype(np.float32).mean()) == pytest.approx(peak / 203, rel=0.1)


def test_a_gain_map_needs_eight_pixels_each_way(tmp_path: Path) -> None:
    for size in ((7, 40), (40, 7)):
        with pytest.raises(ValueError, match=r"at least 8 x 8 pixels, got \(\d+, \d+\)"):
            write_gain_map(tmp_path / "a.jpg", torch.rand(3, *size))
    write_gain_map(tmp_path / "a.jpg", torch.rand(3, 8, 8))
    with Image.open(tmp_path / "a.jpg") as picture:
        assert picture.size == (8, 8)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "mapped.jpg", "a.avif"])
def test_radiance_that_a_network_has_just_made_is_written_as_any(tmp_path: Path, name: str) -> None:
    need_encoder(name)
    written = []
    for radiance in (scene(), scene().requires_grad_()):
        write_picture(tmp_path / name, radiance, gain_map=name.startswith("mapped"), overwrite=True)
        written.append((tmp_path / name).read_bytes())
    assert written[0] == written[1]


@pytest.mark.parametrize(("bits", "expected"), [(10, [0, 512, 1023]), (12, [0, 2048, 4095])])
def test_the_largest_signal_is_the_largest_level(bits: int, expected: list[int]) -> None:
    signal = torch.tensor([0.0, 0.5001, 1.0]).expand(
        3, 1, 3
    )  # full range, BT.2100, table 9: (2^n - 1) times the signal
    assert _levels(signal, bits)[0, :, 0].tolist() == expected


def test_a_segment_of_a_jpeg_counts_itself_in_16_bits() -> None:
    jpeg = b"\xff\xd8\xff\xd9"
    longest = with_exif(jpeg, bytes(65_533))
    assert longest[:6] == b"\xff\xd8\xff\xe1\xff\xff"
    assert longest[2 + 2 + 0xFFFF :] == jpeg[2:]
    with pytest.raises(ValueError, match="at most 65533 fit"):
        with_exif(jpeg, bytes(65_534))
