"""What cameras write down in raw files of their own kinds, laid out as Canon, Fujifilm, Olympus and Panasonic do."""

from __future__ import annotations

import struct
from datetime import datetime
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from hdr import _shots
from hdr._errors import RefusedError
from hdr.exif import carried_exif, read_exif
from hdr.exposure import CameraSettings
from tests.hdr.raw_files import write_dng

MOMENT = "2024:05:06 07:08:09"
KINDS = ("a.cr3", "a.raf", "a.orf", "a.rw2")


def tiff(tags: dict[int, object], exposure: dict[int, object] | None = None, place: dict[int, object] | None = None):
    exif = Image.Exif()
    exif.update(tags)
    exif.get_ifd(ExifTags.IFD.Exif).update(exposure or {})
    exif.get_ifd(ExifTags.IFD.GPSInfo).update(place or {})
    exif.endian = "<"
    return exif.tobytes().removeprefix(b"Exif\0\0")


def write_raw(path: Path, model: str = "One", owner: str = "(c) Someone") -> Path:
    """The part of a raw file that tells of the picture, without one."""
    image: dict[int, object] = {ExifTags.Base.Make: "Maker", ExifTags.Base.Model: model, ExifTags.Base.Copyright: owner}
    exposure: dict[int, object] = {
        ExifTags.Base.DateTimeOriginal: "2024:05:06 07:08:09",
        ExifTags.Base.ISOSpeedRatings: 200,
        ExifTags.Base.BodySerialNumber: "12",
        ExifTags.Base.LensModel: "35mm F2",
    }
    place: dict[int, object] = {1: "N", 2: (25.0, 2.0, 1.0)}
    if path.suffix == ".cr3":
        blocks = [(b"CMT1", tiff(image)), (b"CMT2", tiff(exposure)), (b"CMT4", tiff(place))]
        boxes = b"".join(struct.pack(">I4s", 8 + len(block), name) + block for name, block in blocks)
        moov = struct.pack(">I4s", 8 + len(boxes), b"moov") + boxes
        data = struct.pack(">I8s4s", 16, b"ftypcrx ", b"\0\0\0\1") + moov
    elif path.suffix == ".raf":
        jpeg = BytesIO()
        Image.new("RGB", (16, 16)).save(jpeg, "JPEG", exif=b"Exif\0\0" + tiff(image, exposure, place))
        data = b"FUJIFILMCCD-RAW 0201".ljust(84, b"\0") + struct.pack(">II", 148, len(jpeg.getvalue()))
        data = data.ljust(148, b"\0") + jpeg.getvalue()
    else:
        data = {".orf": b"IIRO", ".rw2": b"IIU\0"}[path.suffix] + tiff(image, exposure, place)[4:]
    path.write_bytes(data + b"the picture")
    return path


@pytest.mark.parametrize("name", KINDS)
def test_camera_time_place_and_owner_are_found_and_carried(tmp_path: Path, name: str) -> None:
    image, exposure, place = read_exif(write_raw(tmp_path / name))
    assert (image[ExifTags.Base.Make], image[ExifTags.Base.Model]) == ("Maker", "One")
    assert exposure[ExifTags.Base.DateTimeOriginal] == "2024:05:06 07:08:09"
    assert place[1] == "N"
    carried, data = Image.Exif(), carried_exif(tmp_path / name)
    assert data is not None
    carried.load(data)
    assert carried[ExifTags.Base.Copyright] == "(c) Someone"
    assert carried.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.LensModel] == "35mm F2"
    assert [float(part) for part in carried.get_ifd(ExifTags.IFD.GPSInfo)[2]] == [25, 2, 1]


@pytest.mark.parametrize("name", KINDS)
def test_two_cameras_on_a_card_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    # LibRaw reads exposures, of pictures that these files do not have.
    monkeypatch.setattr(_shots, "read_camera_settings", lambda path: CameraSettings(0.01, 200, 4.0))
    cameras = [_shots.read_shot(write_raw(tmp_path / name, model)).camera for model in ("One", "Two")]
    assert cameras == ["Maker One 12", "Maker Two 12"]


def test_what_a_raw_file_tells_of_its_exposure_is_read_without_libraw(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of all that it tells it would decode the picture, which takes a quarter of a second for 24 million pixels.
    write_dng(tmp_path / "a.dng", np.full((32, 48, 3), 0.2), time=1 / 60, iso=400, f_number=5.6, moment=MOMENT)
    write_dng(tmp_path / "b.dng", np.full((32, 48, 3), 0.2), time=1 / 60, iso=None, moment=MOMENT)
    asked: list[object] = []

    def read(path: Path) -> CameraSettings:
        asked.append(path.name)
        return CameraSettings(0.01, 200, 4.0)

    monkeypatch.setattr(_shots, "read_camera_settings", read)
    shot = _shots.read_shot(tmp_path / "a.dng")
    assert shot.camera == "Test Test Camera"
    assert shot.taken == datetime(2024, 5, 6, 7, 8, 9)
    assert shot.settings.time == pytest.approx(1 / 60, rel=1e-4)
    assert shot.settings.iso == 400
    assert shot.settings.f_number == pytest.approx(5.6)
    assert _shots.read_shot(tmp_path / "b.dng").settings.iso == 200  # makers' own words, which LibRaw reads
    assert asked == ["b.dng"]


def test_a_raw_file_of_which_only_libraw_tells_is_decoded_once_for_all_that_it_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rawpy = pytest.importorskip("rawpy")
    write_dng(tmp_path / "a.dng", np.full((32, 48, 3), 0.2), time=1 / 60, iso=400, moment=MOMENT)
    opened, imread = [], rawpy.imread

    def counted(path: str) -> object:
        opened.append(path)
        return imread(path)

    def refuse(path: Path) -> None:
        raise RefusedError(f"{path}: of a kind of its own, as those of Sigma")

    monkeypatch.setattr(rawpy, "imread", counted)
    monkeypatch.setattr(_shots, "read_exif", refuse)
    shot = _shots.read_shot(tmp_path / "a.dng")
    assert shot.settings.time == pytest.approx(1 / 60, rel=1e-4)
    assert shot.taken == datetime(2024, 5, 6, 7, 8, 9)
    assert len(opened) == 1


@pytest.mark.parametrize("owner", [" " * 64, "   \0   "])
def test_room_for_an_owner_is_no_owner(tmp_path: Path, owner: str) -> None:
    carried, data = Image.Exif(), carried_exif(write_raw(tmp_path / "a.raf", owner=owner))
    assert data is not None
    carried.load(data)
    assert ExifTags.Base.Copyright not in carried


@pytest.mark.filterwarnings("ignore:.*:UserWarning:PIL")
@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("length", [16, 90, 150, 180])
def test_what_is_cut_off_stops_no_merge(tmp_path: Path, name: str, length: int) -> None:
    path = write_raw(tmp_path / name)
    path.write_bytes(path.read_bytes()[:length])
    data = carried_exif(path)
    assert data is None or data.startswith(b"Exif")


def test_a_fujifilm_file_without_its_preview_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.raf").write_bytes(b"FUJIFILMCCD-RAW 0201".ljust(92, b"\0"))
    with pytest.raises(ValueError, match=r"a\.raf: damaged"):
        read_exif(tmp_path / "a.raf")
