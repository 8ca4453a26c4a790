"""Brackets found on a card: by camera, time and exposure, with all that a card holds besides."""

from __future__ import annotations

import builtins
import io
import math
import os
import shutil
import sys
import zlib
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image

from hdr import _card
from hdr._card import _beside, _files, _stood_for
from hdr._shots import _moment, may_be_one_camera
from hdr.exposure import CameraSettings
from hdr.folder import Contents, Shot, _runs, find_brackets, read_shot

BEGIN = datetime(2024, 5, 6, 7, 8, 9)
TIMES = (1 / 100, 1 / 400, 1 / 25)  # as cameras take them: middle, short, long


def shoot(
    path: Path,
    seconds: float | None = 0.0,
    time: float | None = 1 / 100,
    camera: str = "One",
    size: tuple[int, int] = (32, 24),
    serial: str | None = None,
    iso: int = 100,
    f_number: float | None = None,
    part: str | None = None,
    make: str = "Maker",
) -> Path:
    """A photograph taken so many seconds after the first."""
    exif = Image.Exif()
    exif[ExifTags.Base.Make], exif[ExifTags.Base.Model] = make, camera
    details = exif.get_ifd(ExifTags.IFD.Exif)
    details[ExifTags.Base.ISOSpeedRatings] = iso
    if f_number is not None:
        details[ExifTags.Base.FNumber] = f_number
    if part is not None:
        details[ExifTags.Base.SubsecTimeOriginal] = part
    if time is not None:
        details[ExifTags.Base.ExposureTime] = time
    if seconds is not None:
        moment = BEGIN + timedelta(seconds=seconds)
        details[ExifTags.Base.DateTimeOriginal] = moment.strftime("%Y:%m:%d %H:%M:%S")
    if serial is not None:
        details[ExifTags.Base.BodySerialNumber] = serial
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(zlib.crc32(os.fsencode(path))).integers(0, 255, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(path, exif=exif)
    return path


def found(contents: Contents) -> list[list[str]]:
    return [[shot.path.name for shot in group.shots] for group in contents.groups]


def test_brackets_are_split_where_time_passes(tmp_path: Path) -> None:
    for number, seconds in enumerate([0, 0, 1, 20, 21, 21]):
        shoot(tmp_path / f"IMG_{number}.JPG", seconds, TIMES[number % 3] * (1 if number < 3 else 2))
    contents = find_brackets(tmp_path)
    assert found(contents) == [["IMG_0.JPG", "IMG_1.JPG", "IMG_2.JPG"], ["IMG_3.JPG", "IMG_4.JPG", "IMG_5.JPG"]]
    assert [group.name for group in contents.groups] == ["IMG_0-IMG_2", "IMG_3-IMG_5"]
    assert [group.problem for group in contents.groups] == ["", ""]


def test_brackets_without_a_gap_are_split_where_an_exposure_comes_again(tmp_path: Path) -> None:
    for number in range(9):
        shoot(tmp_path / f"IMG_{number}.jpg", number // 3, TIMES[number % 3])
    assert [len(group) for group in found(find_brackets(tmp_path))] == [3, 3, 3]


def test_a_long_exposure_is_no_gap(tmp_path: Path) -> None:
    for number, (seconds, time) in enumerate([(0, 30.0), (31, 120.0), (152, 8.0)]):
        shoot(tmp_path / f"IMG_{number}.jpg", seconds, time)
    assert [len(group) for group in found(find_brackets(tmp_path))] == [3]


@pytest.mark.parametrize("time", [2.0**32 - 1, 1e300])
def test_an_exposure_beyond_the_calendar_is_no_gap(time: float) -> None:
    settings = [CameraSettings(seconds, 100.0, 8.0) for seconds in (time, 1 / 100)]
    shots = [Shot(Path(f"{one.time}.jpg"), "", datetime.max.replace(microsecond=0), one, None) for one in settings]
    assert _runs(shots, None, timedelta(seconds=5)) == [shots]


@pytest.mark.parametrize("change", ["camera", "size", "serial"])
def test_cameras_and_sizes_are_not_mixed(tmp_path: Path, change: str) -> None:
    for number, time in enumerate(TIMES):
        shoot(tmp_path / f"A{number}.jpg", number, time, serial="7")
        other: dict[str, Any] = (
            {"camera": "Two"} if change == "camera" else {"size": (48, 24)} if change == "size" else {"serial": "8"}
        )
        shoot(tmp_path / f"B{number}.jpg", number + (10 if change == "size" else 0), time, **{"serial": "7", **other})
    groups = found(find_brackets(tmp_path))
    assert sorted(groups) == [["A0.jpg", "A1.jpg", "A2.jpg"], ["B0.jpg", "B1.jpg", "B2.jpg"]]


def test_a_portrait_beside_landscapes_has_the_size_of_the_sensor(tmp_path: Path) -> None:
    for number, time in enumerate(TIMES):
        shoot(tmp_path / f"A{number}.jpg", 0, time, size=(32, 24) if number else (24, 32))
    assert [len(group) for group in found(find_brackets(tmp_path))] == [3]


def test_single_pictures_and_repeated_exposures_are_no_brackets(tmp_path: Path) -> None:
    for number, seconds in enumerate([0, 0, 50]):
        shoot(tmp_path / f"IMG_{number}.jpg", seconds, 1 / 100)
    contents = find_brackets(tmp_path)
    assert [group.problem for group in contents.groups] == ["a single picture"] * 3


def test_pictures_are_counted_off_where_that_is_asked_for(tmp_path: Path) -> None:
    for number in range(7):
        shoot(tmp_path / f"IMG_{number}.jpg", 100 * number, TIMES[number % 3])
    contents = find_brackets(tmp_path, group=3)
    assert [len(group) for group in found(contents)] == [3, 3, 1]
    assert [group.problem for group in contents.groups] == ["", "", "a single picture"]
    shoot(tmp_path / "IMG_7.jpg", 701, 1 / 9)
    assert find_brackets(tmp_path, group=3).groups[2].problem == "2 of 3 pictures"


def test_the_gap_can_be_chosen(tmp_path: Path) -> None:
    for number, time in enumerate(TIMES):
        shoot(tmp_path / f"IMG_{number}.jpg", 10 * number, time)
    assert [len(group) for group in found(find_brackets(tmp_path))] == [1, 1, 1]
    assert [len(group) for group in found(find_brackets(tmp_path, gap=10))] == [3]


def test_without_a_clock_names_and_exposures_tell(tmp_path: Path) -> None:
    for number in range(6):
        shoot(tmp_path / f"IMG_{number}.jpg", None, TIMES[number % 3])
    assert [len(group) for group in found(find_brackets(tmp_path))] == [3, 3]


def test_a_bracket_without_times_says_so(tmp_path: Path) -> None:
    for number in range(2):
        shoot(tmp_path / f"IMG_{number}.jpg", 0, None)
    assert "no exposure time in IMG_0.jpg, IMG_1.jpg" in find_brackets(tmp_path).groups[0].problem


def test_folders_in_the_folder_are_searched_and_hidden_and_excluded_ones_are_not(tmp_path: Path) -> None:
    for place in ("DCIM/100", ".Trashes", "out", "$RECYCLE.BIN/S-1-5", "DCIM/@eaDir/IMG_0.jpg", "#recycle"):
        for number, time in enumerate(TIMES):
            shoot(tmp_path / place / f"IMG_{number}.jpg", 0, time)
    shoot(tmp_path / "DCIM" / "100" / "._IMG_0.jpg")
    (tmp_path / "notes.txt").write_text("nothing")
    contents = find_brackets(tmp_path, exclude=tmp_path / "out")
    assert [group.paths[0].parent.name for group in contents.groups] == ["100"]
    assert [len(group) for group in found(contents)] == [3]


@pytest.mark.parametrize("results", ["card", "card/DCIM", "elsewhere", "card/out"])
def test_only_what_lies_in_the_folder_can_be_passed_over(tmp_path: Path, results: str) -> None:
    for number, time in enumerate(TIMES):
        shoot(tmp_path / "card" / "DCIM" / f"IMG_{number}.jpg", 0, time)
    assert [len(group) for group in found(find_brackets(tmp_path / "card/DCIM", exclude=tmp_path / results))] == [3]


def test_names_that_come_again_or_differ_in_case_only_are_told_apart(tmp_path: Path) -> None:
    for folder, name, begin in (("100", "IMG", 0), ("101", "IMG", 100), ("102", "img", 200)):
        for number, time in enumerate(TIMES):
            shoot(tmp_path / folder / f"{name}_{number}.jpg", begin, time)
    assert [group.name for group in find_brackets(tmp_path).groups] == ["IMG_0-IMG_2", "IMG_0-IMG_2-2", "img_0-img_2-3"]


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are text on macOS and Windows")
def test_names_that_are_no_text_make_names_that_are(tmp_path: Path) -> None:
    for index, time in enumerate(TIMES):
        shoot(tmp_path / f"{index}.jpg", time=time).rename(tmp_path / os.fsdecode(b"caf\xe9%d.jpg" % index))
    (group,) = find_brackets(tmp_path).groups
    assert group.name == "caf\N{REPLACEMENT CHARACTER}0-caf\N{REPLACEMENT CHARACTER}2"


def test_damaged_files_are_named_and_the_others_are_grouped(tmp_path: Path) -> None:
    for number in range(4):
        shoot(tmp_path / f"IMG_{number}.jpg", 0, 1 / 100 * 2**number)
    (tmp_path / "IMG_2.jpg").write_bytes(b"\xff\xd8\xff\xe1nothing")
    (tmp_path / "IMG_9.jpg").write_bytes(b"")
    contents = find_brackets(tmp_path)
    assert found(contents) == [["IMG_0.jpg", "IMG_1.jpg", "IMG_3.jpg"]]
    assert sorted(path.name for path in contents.unreadable) == ["IMG_2.jpg", "IMG_9.jpg"]
    assert contents.unreadable[tmp_path / "IMG_2.jpg"].startswith("damaged, ")
    assert contents.unreadable[tmp_path / "IMG_9.jpg"] == "empty, 0 bytes; copy it again"


def test_folders_and_files_that_cannot_be_looked_at_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("a", "b"):
        for number, time in enumerate(TIMES):
            shoot(tmp_path / place / f"IMG_{number}.jpg", 60 * (place == "b"), time)
    shoot(tmp_path / "a" / "IMG_9.jpg", 300)
    (tmp_path / "link").symlink_to(tmp_path / "a")
    scandir, stat = os.scandir, Path.stat

    def refuse(path: Any) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    # As a network drive does it; the superuser, who may run this, is denied nothing.
    monkeypatch.setattr(os, "scandir", lambda path: refuse(path) if Path(path).name == "b" else scandir(path))
    monkeypatch.setattr(Path, "stat", lambda path, **how: refuse(path) if path.stem == "IMG_9" else stat(path, **how))
    contents = find_brackets(tmp_path)
    assert [len(group) for group in found(contents)] == [3]
    denied = {tmp_path / "b": "Permission denied", tmp_path / "a" / "IMG_9.jpg": "Permission denied"}
    assert contents.unreadable == denied
    assert contents.links == (tmp_path / "link",)
    with pytest.raises(PermissionError):
        find_brackets(tmp_path / "b")


def test_the_raw_file_stands_for_the_jpeg_beside_it(tmp_path: Path) -> None:
    pytest.importorskip("rawpy")
    from tests.hdr.raw_files import write_dng

    for number, time in enumerate(TIMES):
        shoot(tmp_path / f"IMG_{number}.JPG", 0, time)
        write_dng(tmp_path / f"IMG_{number}.DNG", np.full((32, 48, 3), 0.2), time=time)
    contents = find_brackets(tmp_path)
    assert found(contents) == [["IMG_0.DNG", "IMG_1.DNG", "IMG_2.DNG"]]
    assert [path.name for path in contents.left_out] == ["IMG_0.JPG", "IMG_1.JPG", "IMG_2.JPG"]


def test_where_libraw_knows_no_raw_file_of_a_camera_the_developed_pictures_are_taken(tmp_path: Path) -> None:
    pytest.importorskip("rawpy")
    for number, time in enumerate(TIMES):
        shoot(tmp_path / f"IMG_{number}.JPG", 0, time)
        (tmp_path / f"IMG_{number}.CR3").write_bytes(b"of a camera of next year " * 1000)
    shoot(tmp_path / "IMG_1.TIF", 0, TIMES[1])  # one alone is developed in another way, and no bracket is of two ways
    (tmp_path / "IMG_7.CR3").write_bytes(b"of a camera of next year " * 1000)
    contents = find_brackets(tmp_path)
    assert found(contents) == [["IMG_0.JPG", "IMG_1.JPG", "IMG_2.JPG"]]
    assert [path.name for path in contents.stand_ins] == ["IMG_0.CR3", "IMG_1.CR3", "IMG_2.CR3"]
    assert all("not a raw file of a camera that LibRaw" in reason for reason in contents.stand_ins.values())
    assert [path.name for path in contents.copies] == ["IMG_1.TIF"]
    assert contents.left_out == ()
    assert [path.name for path in contents.unreadable] == ["IMG_7.CR3"]


def test_of_raw_files_of_one_kind_one_is_decoded_to_know_whether_they_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rawpy = pytest.importorskip("rawpy")
    from tests.hdr.raw_files import store_as_jpeg_xl, write_dng

    light = np.full((32, 48, 3), 0.2)
    for number in range(9):
        moment = f"2024:05:06 07:{number // 3:02d}:09"
        write_dng(tmp_path / f"IMG_{number}.DNG", light, time=TIMES[number % 3], moment=moment)
        write_dng(tmp_path / f"JXL_{number}.DNG", light, time=TIMES[number % 3], moment=moment)
        store_as_jpeg_xl(tmp_path / f"JXL_{number}.DNG")
    opened, imread = [], rawpy.imread

    def counted(path: str) -> Any:
        opened.append(Path(path).name)
        return imread(path)

    monkeypatch.setattr(rawpy, "imread", counted)
    contents = find_brackets(tmp_path)
    assert found(contents) == [[f"IMG_{n}.DNG" for n in numbers] for numbers in ((0, 1, 2), (3, 4, 5), (6, 7, 8))]
    assert [shot.exposure for shot in contents.groups[0].shots] == pytest.approx([t / 16 for t in TIMES], rel=1e-4)
    # What cannot be decoded is asked of each file: another may be damaged, and this one not.
    assert sorted(opened) == ["IMG_0.DNG", *(f"JXL_{number}.DNG" for number in range(9))]


def test_a_raw_file_whose_pixels_libraw_does_not_know_is_one_by_itself(tmp_path: Path) -> None:
    pytest.importorskip("rawpy")
    from tests.hdr.raw_files import store_as_jpeg_xl, write_dng

    for number in range(6):  # of one camera, whose first bracket is stored in another way, as phones offer it
        shoot(tmp_path / f"IMG_{number}.JPG", 60 * (number // 3), TIMES[number % 3], camera="Camera", make="Test")
        write_dng(tmp_path / f"IMG_{number}.DNG", np.full((32, 48, 3), 0.2), time=TIMES[number % 3])
        if number < 3:
            store_as_jpeg_xl(tmp_path / f"IMG_{number}.DNG")
    contents = find_brackets(tmp_path)
    assert sorted(found(contents)) == [[f"IMG_{n}.JPG" for n in (0, 1, 2)], [f"IMG_{n}.DNG" for n in (3, 4, 5)]]
    assert all("cannot develop this kind of raw file" in reason for reason in contents.stand_ins.values())
    assert len(contents.stand_ins) == len(contents.left_out) == 3


@pytest.mark.parametrize("content", [b"", bytes(5000), b"II*\0"])
def test_a_damaged_raw_file_among_others_is_told(tmp_path: Path, content: bytes) -> None:
    pytest.importorskip("rawpy")
    from tests.hdr.raw_files import write_dng

    for number, time in enumerate(TIMES):
        shoot(tmp_path / f"IMG_{number}.JPG", 0, time, camera="Test Camera", make="Test")
        write_dng(tmp_path / f"IMG_{number}.DNG", np.full((32, 48, 3), 0.2), time=time)
    (tmp_path / "IMG_1.DNG").write_bytes(content)
    contents = find_brackets(tmp_path)
    assert found(contents) == [["IMG_0.DNG", "IMG_2.DNG"]]
    assert [path.name for path in contents.unreadable] == ["IMG_1.DNG"]
    assert contents.stand_ins == {}


@pytest.mark.parametrize("suffix", [".ARW", ".NEF"])
def test_a_raw_file_that_was_converted_beside_is_no_failure(tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("rawpy")
    from tests.hdr.raw_files import write_dng

    for number, time in enumerate(TIMES):
        shoot(tmp_path / f"IMG_{number}.JPG", 0, time, camera="Test Camera", make="Test")
        (tmp_path / f"IMG_{number}{suffix}").write_bytes(b"of a camera of next year " * 1000)
        write_dng(tmp_path / f"IMG_{number}.DNG", np.full((32, 48, 3), 0.2), time=time)
    contents = find_brackets(tmp_path)
    assert found(contents) == [["IMG_0.DNG", "IMG_1.DNG", "IMG_2.DNG"]]
    assert contents.unreadable == contents.stand_ins == {}
    assert [path.name for path in contents.copies] == [f"IMG_{number}{suffix}" for number in range(3)]
    assert [path.name for path in contents.left_out] == [f"IMG_{number}.JPG" for number in range(3)]


@pytest.mark.parametrize("content", [b"", b"half"])
def test_where_all_raw_files_are_damaged_the_developed_pictures_are_taken_and_it_is_told(
    tmp_path: Path, content: bytes
) -> None:
    pytest.importorskip("rawpy")
    from tests.hdr.raw_files import write_dng

    for number, time in enumerate(TIMES):
        shoot(tmp_path / f"IMG_{number}.JPG", 0, time, camera="Test Camera", make="Test")
        write_dng(tmp_path / f"IMG_{number}.DNG", np.full((32, 48, 3), 0.2), time=time)
        data = (tmp_path / f"IMG_{number}.DNG").read_bytes()
        (tmp_path / f"IMG_{number}.DNG").write_bytes(data[: len(data) // 2] if content else b"")
    contents = find_brackets(tmp_path)
    assert found(contents) == [["IMG_0.JPG", "IMG_1.JPG", "IMG_2.JPG"]]
    assert sorted(path.name for path in contents.unreadable) == ["IMG_0.DNG", "IMG_1.DNG", "IMG_2.DNG"]
    assert contents.stand_ins == {}
    assert contents.left_out == ()


def test_raw_and_developed_pictures_in_folders_of_their_own_are_of_the_same_shots(tmp_path: Path) -> None:
    pytest.importorskip("rawpy")
    from tests.hdr.raw_files import write_dng

    for number, time in enumerate(TIMES):
        shoot(tmp_path / "jpeg" / f"IMG_{number}.JPG", 0, time, camera="Test Camera", make="Test")
        (tmp_path / "raw").mkdir(exist_ok=True)
        write_dng(
            tmp_path / "raw" / f"IMG_{number}.DNG", np.full((32, 48, 3), 0.2), time=time, moment="2024:05:06 07:08:09"
        )
    contents = find_brackets(tmp_path)
    assert found(contents) == [["IMG_0.DNG", "IMG_1.DNG", "IMG_2.DNG"]]
    assert len(contents.left_out) == 3


@pytest.mark.parametrize("place", ["copy", "."])
@pytest.mark.parametrize("suffix", [".jpg", ".heic"])
def test_of_one_shot_in_several_files_one_is_taken(tmp_path: Path, place: str, suffix: str) -> None:
    if place == "." and suffix == ".jpg":
        pytest.skip("these are one file")
    if suffix == ".heic":
        pytest.importorskip("pi_heif")
        pytest.importorskip("pillow_heif").register_heif_opener()
    for number in range(6):
        shoot(tmp_path / f"IMG_{number}.jpg", 60 * (number // 3), TIMES[number % 3])
        if number != 5:
            shoot(tmp_path / place / f"IMG_{number}{suffix}", 60 * (number // 3), TIMES[number % 3])
    contents = find_brackets(tmp_path)
    assert found(contents) == [[f"IMG_{n}.jpg" for n in numbers] for numbers in ((0, 1, 2), (3, 4, 5))]
    assert {path.parent for path in (shot.path for group in contents.groups for shot in group.shots)} == {tmp_path}
    assert [path.name for path in contents.copies] == [f"IMG_{n}{suffix}" for n in range(5)]


@pytest.mark.parametrize("name", ["IMG_{} (1).jpg", "Copy of IMG_{}.jpg", "x/{}.jpg"])
@pytest.mark.parametrize("seconds", [0, None])
def test_copies_under_other_names_are_no_further_exposures(tmp_path: Path, name: str, seconds: float | None) -> None:
    for number, time in enumerate(TIMES):
        original = shoot(tmp_path / f"IMG_{number}.jpg", seconds, time)
        copy = tmp_path / name.format(number)
        copy.parent.mkdir(exist_ok=True)
        shutil.copy(original, copy)
    contents = find_brackets(tmp_path)
    assert len(contents.copies) == 3
    (group,) = contents.groups
    if "x" not in name:
        assert [shot.path.name for shot in group.shots] == ["IMG_0.jpg", "IMG_1.jpg", "IMG_2.jpg"]
    assert [shot.exposure for shot in group.shots] == pytest.approx(TIMES, rel=1e-3)


def test_pictures_of_one_size_and_moment_are_not_each_compared_with_all_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 40
    for number in range(count):  # as scanned ones that somebody gave one date
        shoot(tmp_path / f"IMG_{number}.tif", 0, 1 / 100)
    opened, original = [], open

    def counted(file: Any, *how: Any, **more: Any) -> Any:
        opened.append(file)
        return original(file, *how, **more)

    for module in (builtins, io):
        monkeypatch.setattr(module, "open", counted)
    assert sum(len(group.shots) for group in find_brackets(tmp_path).groups) == count
    assert len(opened) < 4 * count  # what the camera wrote down, and whether two of them are alike


def test_raw_files_that_cannot_be_read_are_not_each_compared_with_all_that_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("rawpy")
    count = 20
    shots = [
        Shot(Path(f"DSC_{n}.DNG"), "Maker One", BEGIN, CameraSettings(None, None, None), None) for n in range(count)
    ]
    beside = {tmp_path / f"{n}.DNG": [shoot(tmp_path / f"{n}.JPG", camera="Another")] for n in range(count)}
    compared: list[object] = []

    def counted(*two: Shot) -> bool:
        compared.append(two)
        return may_be_one_camera(*two)

    monkeypatch.setattr(_card, "may_be_one_camera", counted)
    instead, developed, damaged = _stood_for(dict.fromkeys(beside, ValueError("damaged")), beside, shots, None)
    assert (instead, len(developed), damaged) == (list(beside), count, {})
    assert len(compared) == count


def test_of_copies_of_two_sizes_the_larger_is_taken(tmp_path: Path) -> None:
    for number, time in enumerate(TIMES):
        shoot(tmp_path / "a" / f"IMG_{number}.jpg", 0, time, size=(16, 12))
        shoot(tmp_path / "b" / f"IMG_{number}.jpg", 0, time)
    (group,) = find_brackets(tmp_path).groups
    assert [path.parent.name for path in group.paths] == ["b", "b", "b"]


def test_a_name_that_comes_again_at_another_moment_is_another_shot(tmp_path: Path) -> None:
    for place, seconds in (("100", 0), ("101", 1)):
        for number, time in enumerate(TIMES):
            shoot(tmp_path / place / f"IMG_{number}.jpg", seconds, time)
    contents = find_brackets(tmp_path)
    assert [len(group) for group in found(contents)] == [3, 3]
    assert contents.copies == ()


def test_pictures_of_two_sizes_that_were_taken_in_turn_are_two_brackets(tmp_path: Path) -> None:
    for number, time in enumerate(TIMES):
        shoot(tmp_path / f"IMG_{2 * number}.jpg", number, time)
        shoot(tmp_path / f"IMG_{2 * number + 1}.jpg", number, time, size=(48, 36))
    names = [[f"IMG_{number}.jpg" for number in numbers] for numbers in ((0, 2, 4), (1, 3, 5))]
    assert found(find_brackets(tmp_path)) == names


def test_a_raw_file_elsewhere_stands_for_no_other_picture_of_its_name(tmp_path: Path) -> None:
    for number, time in enumerate(TIMES):
        shoot(tmp_path / "jpeg" / f"IMG_{number}.jpg", 0, time)
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "IMG_0.dng").write_bytes(b"")  # cameras count from 1 again
    assert find_brackets(tmp_path / "jpeg").left_out == ()
    assert _beside(_files(tmp_path, None)[0])[1] == {}


def test_what_is_named_as_a_picture_and_is_no_file_is_passed_over(tmp_path: Path) -> None:
    for number, time in enumerate(TIMES):
        shoot(tmp_path / "100.jpg" / f"IMG_{number}.jpg", 0, time)
    (tmp_path / "IMG_9.jpg").symlink_to(tmp_path / "nowhere.jpg")
    contents = find_brackets(tmp_path)
    assert [len(group) for group in found(contents)] == [3]
    assert contents.unreadable == {}


@pytest.mark.parametrize(("card", "results"), [(".", "card/out"), (".", "link/out"), ("../link", "card/out")])
def test_results_are_passed_over_by_whatever_path_they_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, card: str, results: str
) -> None:
    for place in ("DCIM", "out"):
        for number, time in enumerate(TIMES):
            shoot(tmp_path / "card" / place / f"IMG_{number}.jpg", 0, time)
    (tmp_path / "link").symlink_to(tmp_path / "card")
    monkeypatch.chdir(tmp_path / "card")
    contents = find_brackets(card, exclude=tmp_path / results)
    assert [group.paths[0].parent.name for group in contents.groups] == ["DCIM"]


def test_pictures_without_a_moment_stand_behind_those_that_have_one(tmp_path: Path) -> None:
    for number, time in enumerate(TIMES):
        shoot(tmp_path / f"A{number}.jpg", None, time)
        shoot(tmp_path / f"b{number}.jpg", 0, time)
        shoot(tmp_path / f"C{number}.jpg", None, time, camera="Another")
    assert found(find_brackets(tmp_path)) == [[f"{name}{number}.jpg" for number in range(3)] for name in "bAC"]


def test_names_are_in_order_whatever_their_case_and_folder(tmp_path: Path) -> None:
    names = ["2/a1.jpg", "1/B2.jpg", "3/c3.jpg"]
    for name, time in zip(names, TIMES, strict=True):
        shoot(tmp_path / name, 0, time)
    assert found(find_brackets(tmp_path)) == [["a1.jpg", "B2.jpg", "c3.jpg"]]


@pytest.mark.parametrize(("gap", "expected"), [(0, [1, 1]), (86_400, [2])])
def test_the_gap_may_be_nothing_and_a_day(tmp_path: Path, gap: float, expected: list[int]) -> None:
    for number, time in enumerate(TIMES[:2]):
        shoot(tmp_path / f"IMG_{number}.jpg", 3 * number, time)
    assert [len(group) for group in found(find_brackets(tmp_path, gap=gap))] == expected


@pytest.mark.parametrize(
    ("settings", "expected"),  # time * ISO / 100 / N^2
    [((0.5, 200.0, 2.0), 0.25), ((0.5, None, 2.0), 0.125), ((0.5, 200.0, None), 1.0), ((None, 200.0, 2.0), None)],
)
def test_settings_that_are_not_known_are_left_out_of_the_exposure(
    settings: tuple[float | None, float | None, float | None], expected: float | None
) -> None:
    assert Shot(Path("a.jpg"), "", None, CameraSettings(*settings), None).exposure == expected


def test_room_that_a_camera_leaves_in_its_name_is_none_of_it(tmp_path: Path) -> None:
    assert read_shot(shoot(tmp_path / "a.jpg", camera="One  \0\0")).camera == "Maker One"


def test_what_the_camera_wrote_down_is_read(tmp_path: Path) -> None:
    shot = read_shot(shoot(tmp_path / "a.jpg", 5, 1 / 50, serial="7"))
    assert shot.camera == "Maker One 7"
    assert shot.taken == BEGIN + timedelta(seconds=5)
    assert shot.exposure == pytest.approx(1 / 50, rel=1e-4)
    assert shot.size == (32, 24)


def test_what_is_no_folder_of_photographs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotADirectoryError, match="no such folder"):
        find_brackets(tmp_path / "none")
    with pytest.raises(ValueError, match="no photographs"):
        find_brackets(tmp_path)
    with pytest.raises(ValueError, match="two or more pictures, got a group of 1 "):
        find_brackets(tmp_path, group=1)
    for gap in (-1, float("nan"), float("inf"), 1e15):
        with pytest.raises(ValueError, match=r"in seconds, 0 or more, and at most a day \(86400\); got"):
            find_brackets(tmp_path, gap=gap)


def test_of_a_card_only_what_cameras_wrote_down_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, time in enumerate(TIMES):
        shoot(tmp_path / f"IMG_{number}.jpg", 0, time)
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail(f"{path} was read whole"))
    assert [len(group) for group in found(find_brackets(tmp_path))] == [3]


def test_exposures_are_told_apart_by_sensitivity_and_aperture(tmp_path: Path) -> None:
    # One time for all: once ISO makes the bracket, and once the aperture.
    for number, (iso, f_number) in enumerate(
        [(100, 8.0), (400, 8.0), (1600, 8.0), (400, 4.0), (400, 8.0), (400, 16.0)]
    ):
        shoot(tmp_path / f"IMG_{number}.jpg", 30 * (number // 3), 1 / 60, iso=iso, f_number=f_number)
    contents = find_brackets(tmp_path)
    assert [len(group) for group in found(contents)] == [3, 3]
    exposures = [[shot.exposure or math.nan for shot in group.shots] for group in contents.groups]
    ratios = [[one / of_group[0] for one in of_group] for of_group in exposures]
    assert ratios == [pytest.approx([1, 4, 16]), pytest.approx([1, 1 / 4, 1 / 16])]


def test_exposures_that_are_nearly_the_same_come_again(tmp_path: Path) -> None:
    for number, time in enumerate([1 / 60, 1 / 15, 1 / 61, 1 / 16]):  # as aperture priority may have it
        shoot(tmp_path / f"IMG_{number}.jpg", 0, time)
    assert [len(group) for group in found(find_brackets(tmp_path))] == [2, 2]


def test_whole_seconds_of_a_clock_are_not_a_gap(tmp_path: Path) -> None:
    # What begins at 0.9 s and at 4.0 s is 3.1 s apart, and written down as 0 and 4.
    for number, seconds in enumerate([0, 4, 9]):
        shoot(tmp_path / f"IMG_{number}.jpg", seconds, TIMES[number])
    assert [len(group) for group in found(find_brackets(tmp_path, gap=3.5))] == [2, 1]


def test_a_picture_without_a_time_belongs_to_those_beside_it(tmp_path: Path) -> None:
    for number, time in enumerate([1 / 100, None, 1 / 100]):
        shoot(tmp_path / f"IMG_{number}.jpg", 0, time)
    (group,) = find_brackets(tmp_path).groups
    assert group.problem.startswith("no exposure time in IMG_1.jpg;")


def test_parts_of_a_second_put_pictures_in_order(tmp_path: Path) -> None:
    for number, part in enumerate(["75", "5", "075", "none", " 9\0"]):
        shoot(tmp_path / f"IMG_{number}.jpg", 0, 1 / 100 * 2**number, part=part)
    (group,) = find_brackets(tmp_path).groups
    assert [shot.path.stem[-1] for shot in group.shots] == ["3", "2", "1", "0", "4"]
    after = [shot.taken - BEGIN for shot in group.shots if shot.taken]
    assert after == [timedelta(seconds=part) for part in (0, 0.075, 0.5, 0.75, 0.9)]


@pytest.mark.parametrize(
    ("text", "taken"),
    [("2024:05:06 07:08:09 \0", BEGIN), (" 2024:05:06 07:08:09", BEGIN), ("    :  :     :  :  ", None), ("", None)],
)
def test_moments_may_have_room_about_them(text: str, taken: datetime | None) -> None:
    assert _moment(text, None) == taken


def test_every_file_is_counted_as_it_is_read(tmp_path: Path) -> None:
    for number in range(3):
        shoot(tmp_path / f"IMG_{number}.jpg")
    (tmp_path / "IMG_1.jpg").write_bytes(b"")  # damaged ones, too
    read: list[int] = []
    find_brackets(tmp_path, progress=lambda: read.append(1))
    assert len(read) == 3


def test_where_the_moment_is_missing_that_of_the_file_is_taken(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.DateTime] = "2024:05:06 07:08:09"
    Image.new("RGB", (32, 24)).save(tmp_path / "a.jpg", exif=exif)
    assert read_shot(tmp_path / "a.jpg").taken == BEGIN
    assert read_shot(tmp_path / "a.jpg").camera == ""


def test_brackets_of_several_cameras_are_in_the_order_in_which_they_were_taken(tmp_path: Path) -> None:
    for begin, camera in ((100, "One"), (0, "Two"), (200, "Two"), (None, "A camera without a clock")):
        for number, time in enumerate(TIMES):
            shoot(tmp_path / f"{begin}_{number}.jpg", begin, time, camera=camera)
    assert [group.paths[0].stem for group in find_brackets(tmp_path).groups] == ["0_0", "100_0", "200_0", "None_0"]


def test_raw_and_developed_pictures_of_one_camera_are_not_mixed() -> None:
    raw, developed = (
        Shot(Path(name), "Maker One", BEGIN, CameraSettings(time, 100, 8.0), None)
        for name, time in (("a.cr3", 1 / 100), ("b.jpg", 1 / 25))
    )
    assert _runs([raw, developed], None, timedelta(seconds=3)) == [[raw], [developed]]
    assert _runs([raw, developed], 2, timedelta(seconds=3)) == [[raw], [developed]]
