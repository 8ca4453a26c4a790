"""``hdr merge FOLDER``: a card of brackets, interrupted, resumed, with files that are damaged."""

from __future__ import annotations

import errno
import gc
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path

import cv2
import pytest
import torch
from PIL import ExifTags, Image

from hdr.cli import _folder
from hdr.cli._bracket import merge_bracket, read_bracket
from hdr.io import read_radiance
from tests.hdr.brackets import ldr_of, textured

TIMES = (1 / 400, 1 / 100, 1 / 25)
OPTIONS = ("--weights", "none", "--align", "off", "--response", "gamma:2.2")


def scene(number: int) -> torch.Tensor:
    smooth = textured(48, 64, number, darkest=0.004, brightest=0.5)
    return torch.from_numpy(cv2.GaussianBlur(smooth.permute(1, 2, 0).numpy(), (0, 0), 2)).permute(2, 0, 1)


def write_card(
    folder: Path,
    brackets: int,
    raw: tuple[int, ...] = (),
    *,
    apart: float = 0.0,
    untold: tuple[int, ...] = (),
    day: int | None = 6,
    brightness: float = 1.0,
) -> None:
    """Brackets a minute apart, those of ``raw`` as raw files; pictures so many seconds, ``untold`` without a time."""
    folder.mkdir(exist_ok=True)
    for number in range(brackets):
        moment = datetime(2024, 5, day or 1, 7, 8, 9) + timedelta(minutes=number)
        for index, (seconds, exposure) in enumerate(zip(TIMES, (1.0, 4.0, 16.0), strict=True)):
            path = folder / f"IMG_{3 * number + index:04d}.jpg"
            if number in raw:
                from tests.hdr.raw_files import write_dng

                light = (scene(number) * exposure).clamp(0, 1).permute(1, 2, 0).double().numpy()
                write_dng(path.with_suffix(".dng"), light, time=seconds, noise=1e-4, seed=index)
                continue
            exif = Image.Exif()
            exif[ExifTags.Base.Make] = "Maker"
            details = exif.get_ifd(ExifTags.IFD.Exif)
            if 3 * number + index not in untold:
                details[ExifTags.Base.ExposureTime] = seconds
            begun = moment + timedelta(seconds=index * apart)
            if day is not None:
                details[ExifTags.Base.DateTimeOriginal] = begun.strftime("%Y:%m:%d %H:%M:%S")
            pixels = (ldr_of(brightness * scene(number), exposure) * 255).round().byte().permute(1, 2, 0).numpy()
            Image.fromarray(pixels).save(path, quality=98, subsampling=0, exif=exif)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_dry_run_shows_the_brackets_and_writes_nothing(command, tmp_path):
    (tmp_path / "card").mkdir()
    write_card(tmp_path / "card", 2)
    finished = command("merge", tmp_path / "card", "--out", tmp_path / "out", "--dry-run")
    assert finished.exit_code == 0, finished.output
    assert "IMG_0000-IMG_0002" in finished.output
    assert "IMG_0003-IMG_0005" in finished.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("gap", "said"), [("7", "1 : 4 : 16"), ("6", "3 single pictures")])
def test_the_gap_between_brackets_is_the_one_stated(command, tmp_path, gap, said):
    write_card(tmp_path, 1, apart=8)  # of which a second may be rounding
    finished = command("merge", tmp_path, "--out", tmp_path / "out", "--dry-run", "--gap", gap)
    assert finished.exit_code == 0
    assert said in finished.output


def test_a_card_whose_raw_files_nobody_knows_is_merged_from_the_pictures_beside_and_said_once(command, tmp_path):
    pytest.importorskip("rawpy")
    card, out = tmp_path / "card", tmp_path / "out"
    card.mkdir()
    write_card(card, 2)
    for number in range(6):
        (card / f"IMG_{number:04d}.cr3").write_bytes(b"of a camera of next year " * 1000)
    for told in ("Merged 2 brackets", "2 of 2 are in"):
        finished = command("merge", card, "--out", out, *OPTIONS)
        assert finished.exit_code == 0, finished.output
        assert told in finished.stdout
        (said,) = [line for line in finished.stderr.splitlines() if ".cr3" in line]
        assert said.startswith("Note: 6 raw files cannot be read, IMG_0000.cr3, IMG_0001.cr3, ")
        assert "update rawpy" in said
        assert "a camera that LibRaw" in said
    assert names(out) == ["IMG_0000-IMG_0002.exr", "IMG_0003-IMG_0005.exr"]


@pytest.mark.parametrize("stated", [("--ev", "-2,0,2"), ("--times", "1/400,1/100,1/25"), ()])
def test_brackets_without_times_are_merged_where_exposures_are_stated(command, tmp_path, stated):
    card, out = tmp_path / "card", tmp_path / "out"
    card.mkdir()
    write_card(card, 2, untold=(4,))
    shown = command("merge", card, "--out", out, "--dry-run", *stated)
    finished = command("merge", card, "--out", out, *stated, *OPTIONS)
    assert finished.exit_code == 0, finished.output
    whole, untold = "IMG_0000-IMG_0002.exr", "IMG_0003-IMG_0005.exr"
    assert names(out) == ([whole, untold] if stated else [whole])
    assert "1 : ? : 16" in shown.output
    assert ("no exposure time" in shown.output) != bool(stated)


def test_a_card_without_brackets_says_so(command, tmp_path):
    write_card(tmp_path, 1, apart=8)
    finished = command("merge", tmp_path, "--out", tmp_path / "out", *OPTIONS)
    assert finished.exit_code == 1
    assert "Left out: 3 single pictures, IMG_0000.jpg, IMG_0001.jpg, IMG_0002.jpg" in finished.output
    assert "no brackets; state --group" in finished.output
    assert not (tmp_path / "out").exists()


def test_a_card_of_which_nothing_can_be_read_is_told_as_that(command, tmp_path):
    for number in range(3):
        (tmp_path / f"IMG_{number}.JPG").write_bytes(b"")
    finished = command("merge", tmp_path, "--out", tmp_path / "out", *OPTIONS)
    assert finished.exit_code == 1
    assert finished.stderr.splitlines() == [
        *(f"Not read: IMG_{number}.JPG: empty, 0 bytes; copy it again" for number in range(3)),
        f"Error: {tmp_path}: none of its pictures can be read; why is told above of each",
    ]


def test_several_folders_and_names_of_nothing_are_told_as_that(command, tmp_path):
    for card in ("one", "two"):
        write_card(tmp_path / card, 1)
    one, two = tmp_path / "one", tmp_path / "two"
    several = command("merge", one, two, "--out", tmp_path / "out")
    assert several.output.strip() == f"Error: {one} is a folder, one of 2 names; give one folder alone, or files"
    nothing = command("merge", tmp_path / "three", "--out", tmp_path / "out")
    assert nothing.output.strip() == f"Error: {tmp_path / 'three'}: No such file or directory"
    assert several.exit_code == nothing.exit_code == 1


def test_of_many_pictures_that_are_left_out_five_are_named(command, tmp_path):
    write_card(tmp_path, 2, apart=8)
    (tmp_path / "IMG_0005.jpg").unlink()
    for expected in ("Left out: 5 single pictures, ", "Left out: 6 single pictures, "):
        shown = command("merge", tmp_path, "--out", tmp_path / "out", "--dry-run")
        assert expected in shown.output
        assert shown.output.count(".jpg") == 5
        assert shown.output.strip().endswith(", ...") == ("6" in expected)
        write_card(tmp_path, 2, apart=8)


def test_what_a_run_that_was_cut_short_left_behind_is_replaced(command, tmp_path):
    card, out = tmp_path / "card", tmp_path / "out"
    card.mkdir()
    out.mkdir()
    write_card(card, 1)
    (out / "IMG_0000-IMG_0002.jpg").write_bytes(b"of a run without its radiance, which is written last")
    finished = command("merge", card, "--out", out, "--preview", "jpg", *OPTIONS)
    assert finished.exit_code == 0, finished.output
    assert Image.open(out / "IMG_0000-IMG_0002.jpg").size == (64, 48)


def test_names_with_dots_are_whole(command, tmp_path):
    card, out = tmp_path / "card", tmp_path / "out"
    card.mkdir()
    write_card(card, 1)
    for number in range(3):
        (card / f"IMG_{number:04d}.jpg").rename(card / f"5.6.{number}.jpg")
    finished = command("merge", card, "--out", out, "--preview", "jpg", *OPTIONS)
    assert finished.exit_code == 0, finished.output
    assert names(out) == ["5.6.0-5.6.2.exr", "5.6.0-5.6.2.jpg"]


def test_names_are_whole_on_a_narrow_terminal(command, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "70")
    write_card(tmp_path, 1)
    shown = command("merge", tmp_path, "--out", tmp_path / "out", "--dry-run")
    assert shown.exit_code == 0
    assert "…" not in shown.output


def test_every_bracket_is_merged_and_delivered(command, tmp_path):
    card, out = tmp_path / "card", tmp_path / "out"
    card.mkdir()
    write_card(card, 2)
    finished = command("merge", card, "--out", out, "--preview", "png", *OPTIONS)
    assert finished.exit_code == 0, finished.output
    stems = ("IMG_0000-IMG_0002", "IMG_0003-IMG_0005")
    assert names(out) == sorted(f"{stem}{suffix}" for stem in stems for suffix in (".exr", ".png"))
    for number, stem in enumerate(stems):
        error = (read_radiance(out / f"{stem}.exr") - scene(number)).abs() / (scene(number) + 0.01)
        assert float(error.mean()) < 0.05
    again = command("merge", card, "--out", out, "--preview", "png", *OPTIONS)
    assert again.exit_code == 0, again.output
    assert "2 of 2 are in" in again.output
    (out / "IMG_0000-IMG_0002.exr").unlink()
    assert "1 of 2 are in" in command("merge", card, "--out", out, "--dry-run").output


@pytest.mark.parametrize("radiance", ["exr", "tif", "hdr"])
@pytest.mark.parametrize("days", [(6, 7), (None, None)])
def test_another_card_whose_files_have_the_same_names_is_merged_beside_the_first(command, tmp_path, radiance, days):
    out, options = tmp_path / "out", ("--radiance", radiance, "--preview", "jpg", *OPTIONS)
    for card, day, light in zip(("one", "two"), days, (1.0, 0.5), strict=True):
        write_card(tmp_path / card, 2, day=day, brightness=light)
        finished = command("merge", tmp_path / card, "--out", out, *options)
        assert finished.exit_code == 0, finished.output
        assert "Merged 2 brackets" in finished.output
        assert ("Named otherwise" in finished.output) == (card == "two")
    first, second = "IMG_0000-IMG_0002", "IMG_0003-IMG_0005"
    stems = (first, second, f"{first}-2", f"{second}-2")
    assert names(out) == sorted(f"{stem}.{suffix}" for stem in stems for suffix in (radiance, "jpg"))
    for stem, light in ((first, 1.0), (f"{first}-2", 0.5)):
        error = (read_radiance(out / f"{stem}.{radiance}") - light * scene(0)).abs() / (scene(0) + 0.01)
        assert float(error.mean()) < 0.05
    for card in ("two", "one"):
        again = command("merge", tmp_path / card, "--out", out, *options)
        assert "2 of 2 are in" in again.output
        assert "Named otherwise" not in again.output
    # With --force each replaces its own.
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    assert command("merge", tmp_path / "two", "--out", out, *options, "--force").exit_code == 0
    after = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    assert {name for name in before if before[name] != after[name]} == {name for name in before if "-2." in name}


def test_a_disk_that_lists_names_in_another_way_than_it_takes_them_loses_no_result(command, tmp_path, monkeypatch):
    out = tmp_path / "out"
    for card, day in (("one", 6), ("two", 7)):
        write_card(tmp_path / card, 1, day=day)
        assert command("merge", tmp_path / card, "--out", out, *OPTIONS).exit_code == 0
        # As HFS+ lists letters with marks; here it lists what nobody asked for.
        monkeypatch.setattr(os, "listdir", lambda folder: ["something else.exr"])
    monkeypatch.undo()
    assert names(out) == ["IMG_0000-IMG_0002-2.exr", "IMG_0000-IMG_0002.exr"]


def test_a_bracket_that_joins_those_of_its_name_takes_no_result_of_theirs(command, tmp_path):
    out = tmp_path / "out"
    write_card(tmp_path / "card", 0)
    write_card(tmp_path / "card" / "100", 1, day=7)
    assert command("merge", tmp_path / "card", "--out", out, *OPTIONS).exit_code == 0
    write_card(tmp_path / "card" / "099", 1, day=6, brightness=0.5)  # which stands before it now
    finished = command("merge", tmp_path / "card", "--out", out, *OPTIONS)
    assert finished.exit_code == 0, finished.output
    assert "1 of 2 are in" in finished.output
    assert names(out) == ["IMG_0000-IMG_0002-2.exr", "IMG_0000-IMG_0002.exr"]
    assert (
        float((read_radiance(out / "IMG_0000-IMG_0002-2.exr") / read_radiance(out / "IMG_0000-IMG_0002.exr")).median())
        < 0.6
    )


def test_what_is_no_result_of_these_photographs_is_replaced_by_force_alone(command, tmp_path):
    card, out = tmp_path / "card", tmp_path / "out"
    write_card(card, 1)
    out.mkdir()
    (out / "IMG_0000-IMG_0002.exr").write_bytes(b"of somebody else")
    finished = command("merge", card, "--out", out, *OPTIONS)
    assert finished.exit_code == 0, finished.output
    assert (out / "IMG_0000-IMG_0002.exr").read_bytes() == b"of somebody else"
    assert names(out) == ["IMG_0000-IMG_0002-2.exr", "IMG_0000-IMG_0002.exr"]
    (out / "IMG_0000-IMG_0002-2.exr").unlink()
    assert command("merge", card, "--out", out, "--force", *OPTIONS).exit_code == 0
    assert names(out) == ["IMG_0000-IMG_0002.exr"]
    assert read_radiance(out / "IMG_0000-IMG_0002.exr").shape == (3, 48, 64)


@pytest.mark.parametrize("radiance", ["exr", "tif", "hdr"])
def test_results_of_earlier_versions_count_by_their_names_and_it_is_told(command, tmp_path, monkeypatch, radiance):
    card, out = tmp_path / "card", tmp_path / "out"
    options = ("--radiance", radiance, "--preview", "jpg", *OPTIONS)
    for place, day in (("100", 6), ("101", 7)):
        (card / place).mkdir(parents=True)
        write_card(card / place, 1, day=day)
    # They wrote what this one writes, but for the photographs.
    monkeypatch.setattr(_folder, "merge_bracket", lambda *a, **b: merge_bracket(*a, **{**b, "photographs": ""}))
    assert command("merge", card, "--out", out, *options).exit_code == 0
    monkeypatch.undo()
    before = {path: path.read_bytes() for path in out.iterdir()}
    assert len(before) == 4
    for more in ((), ("--dry-run",)):
        again = command("merge", card, "--out", out, *options, *more)
        assert again.exit_code == 0, again.output
        assert "2 of 2 are in" in again.stdout
        assert (
            "Note: 2 brackets of these are known by their names alone, IMG_0000-IMG_0002, IMG_0000-IMG_0002-2: "
            in again.stderr
        )
        assert {path: path.read_bytes() for path in out.iterdir()} == before
    forced = command("merge", card, "--out", out, *options, "--force")
    assert forced.exit_code == 0, forced.output
    assert "Merged 2 brackets" in forced.stdout
    assert {path.name for path in before} == set(names(out))
    last = command("merge", card, "--out", out, *options)
    assert "2 of 2 are in" in last.stdout
    assert "by their names" not in forced.stderr + last.stderr


def test_a_bracket_that_was_merged_by_itself_counts_as_merged(command, tmp_path):
    card, out = tmp_path / "card", tmp_path / "out"
    write_card(card, 1)
    out.mkdir()
    files = [card / f"IMG_000{number}.jpg" for number in (2, 0, 1)]
    single = command("merge", *files, "--out", out / "IMG_0000-IMG_0002.exr", *OPTIONS)
    assert single.exit_code == 0, single.output
    assert "1 of 1 are in" in command("merge", card, "--out", out, *OPTIONS).output


def test_another_kind_of_radiance_is_made_beside_under_one_name(command, tmp_path):
    card, out = tmp_path / "card", tmp_path / "out"
    write_card(card, 1)
    for options in (("--preview", "tif"), ("--radiance", "hdr"), ("--radiance", "tif")):
        finished = command("merge", card, "--out", out, *options, *OPTIONS)
        assert "Merged 1 bracket" in finished.output, options
    # The picture, a .tif, is no radiance, and stays.
    assert names(out) == [f"IMG_0000-IMG_0002{end}" for end in ("-2.tif", ".exr", ".hdr", ".tif")]


def test_previews_that_an_earlier_run_did_not_make_are_told(command, tmp_path):
    card, out = tmp_path / "card", tmp_path / "out"
    write_card(card, 2)
    assert command("merge", card, "--out", out, *OPTIONS).exit_code == 0
    finished = command("merge", card, "--out", out, "--preview", "jpg", *OPTIONS)
    assert (
        "Note: 2 brackets of these have no .jpg, IMG_0000-IMG_0002, IMG_0003-IMG_0005: hdr tonemap" in finished.stderr
    )


def test_what_failed_is_named_and_the_others_are_merged(command, tmp_path):
    card, out = tmp_path / "card", tmp_path / "out"
    card.mkdir()
    write_card(card, 3)
    (card / "IMG_0001.jpg").write_bytes(b"\xff\xd8\xff\xe1nothing")  # seen at once; the other two of it are a bracket
    whole = (card / "IMG_0004.jpg").read_bytes()
    (card / "IMG_0004.jpg").write_bytes(whole[: len(whole) // 2])  # seen when it is decoded
    finished = command("merge", card, "--out", out, *OPTIONS)
    assert finished.exit_code == 1
    assert "Failed: IMG_0001.jpg: " in finished.output
    assert "Failed: IMG_0003-IMG_0005: " in finished.output
    assert "Merged 2 brackets" in finished.output
    assert names(out) == ["IMG_0000-IMG_0002.exr", "IMG_0006-IMG_0008.exr"]
    (card / "IMG_0004.jpg").write_bytes(whole)
    (card / "IMG_0001.jpg").unlink()
    assert command("merge", card, "--out", out, *OPTIONS).exit_code == 0
    assert len(names(out)) == 3


def test_a_raw_file_that_was_cut_short_is_named_when_it_is_merged(command, tmp_path):
    pytest.importorskip("rawpy")
    card, out = tmp_path / "card", tmp_path / "out"
    write_card(card, 3, raw=(0, 1, 2))
    from tests.hdr.raw_files import cut_short

    cut_short(card / "IMG_0004.dng")
    finished = command("merge", card, "--out", out, "--weights", "none", "--align", "off")
    assert finished.exit_code == 1
    (failed,) = [line for line in finished.stderr.splitlines() if line.startswith("Failed: ")]
    assert failed.startswith("Failed: IMG_0003-IMG_0005: ")
    assert "IMG_0004.dng: damaged" in failed
    assert names(out) == ["IMG_0000-IMG_0002.exr", "IMG_0006-IMG_0008.exr"]


def test_a_result_that_cannot_be_written_is_named_and_the_others_are_merged(command, tmp_path, monkeypatch):
    card, out = tmp_path / "card", tmp_path / "out"
    card.mkdir()
    write_card(card, 3)
    for number in range(3):  # together more than the 255 bytes that a name may have
        (card / f"IMG_{number:04d}.jpg").rename(card / f"{'a' * 150}{number}.jpg")
    (out / "IMG_0003-IMG_0005.exr").mkdir(parents=True)
    merged = []

    def merge(bracket, target, *arguments, **options):
        merged.append(target.name)
        return merge_bracket(bracket, target, *arguments, **options)

    monkeypatch.setattr(_folder, "merge_bracket", merge)
    finished = command("merge", card, "--out", out, *OPTIONS)
    assert merged == ["IMG_0006-IMG_0008.exr"]  # what cannot be written is known before the work
    assert finished.exit_code == 1
    assert f"Failed: {'a' * 150}0-{'a' * 150}2: " in finished.stderr
    assert "IMG_0003-IMG_0005.exr is a folder" in finished.stderr
    assert names(out) == ["IMG_0003-IMG_0005.exr", "IMG_0006-IMG_0008.exr"]


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_full_disk_ends_the_run_and_is_told(command, tmp_path, monkeypatch, jobs):
    card, out = tmp_path / "card", tmp_path / "out"
    write_card(card, 4)
    begun = []

    def merge(bracket, target, *arguments, **options):
        begun.append(target.name)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))

    monkeypatch.setattr(_folder, "merge_bracket", merge)
    if jobs == "2":  # processes of their own know no monkeypatch
        monkeypatch.setattr(_folder, "ProcessPoolExecutor", lambda *arguments: ThreadPoolExecutor(1))
        monkeypatch.setattr(_folder, "_merger", object())
    finished = command("merge", card, "--out", out, "--jobs", jobs, *OPTIONS)
    assert finished.exit_code == 1
    assert "Merged 0 brackets into" in finished.stdout
    told = [line for line in finished.stderr.splitlines() if line.startswith("Failed: ")]
    first = out / "IMG_0000-IMG_0002.exr"
    assert told[0] == f"Failed: IMG_0000-IMG_0002: {first}: No space left on device"
    more = 4 - len(told[:-1])
    assert told[-1].startswith(f"Failed: {more} brackets more, left undone, for there is no room in {out}: make some")
    assert begun[0] == first.name
    assert len(begun) < 4


def test_a_folder_for_results_that_takes_none_is_told_once_before_the_work(command, tmp_path, monkeypatch):
    card, out = tmp_path / "card", tmp_path / "out"
    write_card(card, 2)
    out.mkdir()
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != out and access(path, mode))
    finished = command("merge", card, "--out", out, *OPTIONS)
    assert finished.exit_code == 1
    assert finished.output.strip() == f"Error: no permission to write in the folder {out}; choose another"
    assert command("merge", card, "--out", out, "--dry-run").exit_code == 0


def test_a_mistake_of_ours_is_a_traceback_and_the_others_are_merged(command, tmp_path, monkeypatch):
    card, out = tmp_path / "card", tmp_path / "out"
    card.mkdir()
    write_card(card, 3)

    def merge(bracket, target, *arguments, **options):
        if target.stem == "IMG_0003-IMG_0005":
            raise ValueError("axes differ")
        return merge_bracket(bracket, target, *arguments, **options)

    monkeypatch.setattr(_folder, "merge_bracket", merge)
    finished = command("merge", card, "--out", out, *OPTIONS)
    assert finished.exit_code == 1
    assert "IMG_0003-IMG_0005: Traceback (most recent call last)" in finished.stderr
    assert 'raise ValueError("axes differ")' in finished.stderr
    assert "Failed: IMG_0003-IMG_0005: ValueError, a mistake of this program" in finished.stderr
    assert names(out) == ["IMG_0000-IMG_0002.exr", "IMG_0006-IMG_0008.exr"]


def test_damaged_files_of_one_name_are_each_named(command, tmp_path):
    card = tmp_path / "card"
    for folder in ("100", "101"):
        (card / folder).mkdir(parents=True)
        write_card(card / folder, 1)
        (card / folder / "IMG_0002.jpg").write_bytes(b"\xff\xd8\xff\xe1nothing")
    finished = command("merge", card, "--out", tmp_path / "out", *OPTIONS)
    assert finished.exit_code == 1
    for folder in ("100", "101"):
        assert f"Failed: {Path(folder, 'IMG_0002.jpg')}: " in finished.output


def test_several_at_once_give_what_one_after_the_other_gives(command, tmp_path):
    card = tmp_path / "card"
    card.mkdir()
    write_card(card, 3)
    for out, jobs in (("one", "1"), ("two", "2")):
        finished = command("merge", card, "--out", tmp_path / out, "--jobs", jobs, *OPTIONS)
        assert finished.exit_code == 0, finished.output
    assert names(tmp_path / "one") == names(tmp_path / "two")
    for name in names(tmp_path / "one"):
        torch.testing.assert_close(
            read_radiance(tmp_path / "two" / name), read_radiance(tmp_path / "one" / name), rtol=1e-4, atol=1e-6
        )


def test_the_next_bracket_is_read_while_one_is_merged_and_no_other(command, tmp_path, monkeypatch):
    card = tmp_path / "card"
    card.mkdir()
    write_card(card, 4)
    begun, alive, brackets = [threading.Event() for _ in range(5)], [], weakref.WeakSet()
    begun[4].set()  # there is none after the last

    def read(*arguments):
        number = next(index for index, event in enumerate(begun) if not event.is_set())
        gc.collect()
        alive.append(len(brackets))
        begun[number].set()
        bracket = read_bracket(*arguments)
        brackets.add(bracket)
        return bracket

    def merge(bracket, *arguments, **options):
        number = merged.index(None)
        merged[number] = begun[number + 1].wait(30)
        # What is read now waits for this merge: the one after it has not begun.
        assert number > 1 or not begun[number + 2].is_set()
        return merge_bracket(bracket, *arguments, **options)

    merged: list[bool | None] = [None] * 4
    monkeypatch.setattr(_folder, "read_bracket", read)
    monkeypatch.setattr(_folder, "merge_bracket", merge)
    finished = command("merge", card, "--out", tmp_path / "out", *OPTIONS)
    assert finished.exit_code == 0, finished.output
    assert merged == [True] * 4
    assert len(alive) == 4
    assert max(alive) == 1  # the one that is merged; with the one that is read that makes two


def test_an_interrupt_ends_the_reading_and_the_next_run_goes_on(command, tmp_path, monkeypatch):
    card, out = tmp_path / "card", tmp_path / "out"
    card.mkdir()
    write_card(card, 3)
    calls = []

    def merge(bracket, target, *arguments, **options):
        calls.append(target)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return merge_bracket(bracket, target, *arguments, **options)

    monkeypatch.setattr(_folder, "merge_bracket", merge)
    before = threading.active_count()
    with pytest.raises(SystemExit) as ended:
        command("merge", card, "--out", out, *OPTIONS)
    assert ended.value.code == 130
    assert threading.active_count() == before
    assert names(out) == ["IMG_0000-IMG_0002.exr"]
    finished = command("merge", card, "--out", out, *OPTIONS)
    assert finished.exit_code == 0, finished.output
    assert "1 of 3 are in" in finished.output
    assert len(names(out)) == 3


def test_notes_say_which_bracket_they_are_about(command, tmp_path):
    card = tmp_path / "card"
    card.mkdir()
    write_card(card, 3)
    for number in range(3, 6):
        with Image.open(card / f"IMG_{number:04d}.jpg") as image:
            exif, transparent = image.getexif(), image.convert("RGBA")
        transparent.save(card / f"IMG_{number:04d}.png", exif=exif)
        (card / f"IMG_{number:04d}.jpg").unlink()
    finished = command("merge", card, "--out", tmp_path / "out", *OPTIONS)
    assert finished.exit_code == 0, finished.output
    about = [line for line in finished.stderr.splitlines() if "alpha channel" in line]
    assert len(about) == 3
    assert all(line.startswith("Note: IMG_0003-IMG_0005: ") for line in about)


def state_of(process: int) -> tuple[str, int]:
    """State of a process by one letter, and its parent's number; what has ended is a zombie at most."""
    try:
        words = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return "Z", 0
    return words[0], int(words[1])


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked up in /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_the_processes_of_a_command_end_with_it_and_begin_no_further_bracket(tmp_path, how):
    card, out = tmp_path / "card", tmp_path / "out"
    card.mkdir()
    write_card(card, 40)
    running = subprocess.Popen(
        [sys.executable, "-m", "hdr.cli", "merge", str(card), "--out", str(out), "--jobs", "2", *OPTIONS],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (out.is_dir() and any(out.glob("*.exr"))):
        time.sleep(0.02)
    numbers = [int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdigit()]
    children = [number for number in numbers if state_of(number)[1] == running.pid]
    running.send_signal(how)
    assert running.wait(60) != 0
    assert len(children) >= 2
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not all(state_of(child)[0] == "Z" for child in children):
        time.sleep(0.1)
    assert [state_of(child)[0] for child in children] == ["Z"] * len(children)
    assert 1 <= len(list(out.glob("*.exr"))) < 40


@pytest.mark.skipif(sys.platform == "win32", reason="groups of processes")
def test_an_interrupt_while_processes_begin_is_no_traceback(tmp_path):
    card, out = tmp_path / "card", tmp_path / "out"
    write_card(card, 4)
    running = subprocess.Popen(
        [sys.executable, "-m", "hdr.cli", "merge", str(card), "--out", str(out), "--jobs", "2", *OPTIONS],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not out.is_dir():
        time.sleep(0.02)
    time.sleep(1)  # in which they import
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does it
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "Traceback" not in said
    assert names(out) == []


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_a_card_of_raw_and_jpeg_brackets_goes_on_after_it_was_killed(command, tmp_path):
    pytest.importorskip("rawpy")
    card, out = tmp_path / "card", tmp_path / "out"
    card.mkdir()
    write_card(card, 30, raw=tuple(range(0, 30, 3)))
    arguments = ["merge", str(card), "--out", str(out), "--preview", "jpg", "--weights", "none", "--align", "off"]
    running = subprocess.Popen(
        [sys.executable, "-m", "hdr.cli", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (out.is_dir() and len(list(out.glob("*.exr"))) >= 3):
        time.sleep(0.02)
    running.send_signal(signal.SIGKILL)
    running.wait()
    done = {path: path.stat().st_mtime_ns for path in out.glob("*.exr")}
    assert 3 <= len(done) < 30
    for path in done:
        assert read_radiance(path).shape == (3, 48, 64)
    finished = command(*arguments)
    assert finished.exit_code == 0, finished.output
    assert f"{len(done)} of 30 are in" in finished.output
    assert len(list(out.glob("*.exr"))) == len(list(out.glob("*.jpg"))) == 30
    assert all(path.stat().st_mtime_ns == moment for path, moment in done.items())
    for number in (0, 1):
        stem = f"IMG_{3 * number:04d}-IMG_{3 * number + 2:04d}"
        error = (read_radiance(out / f"{stem}.exr") - scene(number)).abs() / (scene(number) + 0.02)
        assert float(error[:, 4:-4, 4:-4].mean()) < 0.1


def test_results_inside_of_the_card_are_no_photographs(command, tmp_path):
    write_card(tmp_path, 1)
    for _ in range(2):
        finished = command("merge", tmp_path, "--out", tmp_path / "merged", "--preview", "jpg", *OPTIONS)
        assert finished.exit_code == 0, finished.output
    assert names(tmp_path / "merged") == ["IMG_0000-IMG_0002.exr", "IMG_0000-IMG_0002.jpg"]


@pytest.mark.parametrize("kind", ["jpg", "png", "tif"])
def test_results_of_another_run_inside_of_the_card_are_no_photographs(command, tmp_path, kind):
    write_card(tmp_path, 2)
    for out in ("one", "two"):
        finished = command("merge", tmp_path, "--out", tmp_path / out, "--preview", kind, *OPTIONS)
        assert finished.exit_code == 0, finished.output
        assert "Merged 2 brackets" in finished.output
    assert names(tmp_path / "one") == names(tmp_path / "two")
    assert "Left out for being results themselves: 2 pictures, " in finished.output


@pytest.mark.parametrize("kind", ["tif", "hdr"])
def test_radiance_is_written_as_what_is_asked_for(command, tmp_path, kind):
    card, out = tmp_path / "card", tmp_path / "out"
    card.mkdir()
    write_card(card, 1)
    for told in ("Merged 1 bracket into", "1 of 1 are in"):
        finished = command("merge", card, "--out", out, "--radiance", kind, "--preview", "jpg", *OPTIONS)
        assert finished.exit_code == 0, finished.output
        assert told in finished.output
    assert names(out) == [f"IMG_0000-IMG_0002.{name}" for name in sorted((kind, "jpg"))]
    assert read_radiance(out / f"IMG_0000-IMG_0002.{kind}").amax() > 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--jobs", "0"), "--jobs is at least 1"),
        (("--exposure-map", "a.png"), "are for one bracket"),
        (("--report", "a.html"), "are for one bracket"),
        (("--save-response", "a.json"), "are for one bracket"),
        (("--exposures", "a.txt"), "are for one bracket"),
        (("--preview", "bmp"), "--preview is one of jpg, png, tif, avif, jxl"),
        (("--group", "1"), "two or more pictures"),
        (("--preview", "png", "--gain-map"), "Error: preview.png: only a .jpg file can have a gain map"),
        (("--wb", "blue"), "Error: white balance must be"),
        (("--times", "1,x"), "Error: "),
        (("--response", "film"), "Error: "),
        (("--gain-map",), "Error: --gain-map is of the preview"),
        (("--radiance", "tif", "--preview", "tif"), "Error: radiance and preview would have one name, as .tif"),
        (("--radiance", "hdr", "--half"), "Error: only .exr files hold 16-bit float"),
        (("--radiance", "tif", "--half"), "Error: only .exr files hold 16-bit float"),
        (("--operator", "local"), "Error: without a preview there is no use for --operator"),
        (("--preview", "jpg", "--brightness", "1"), "Error: preview.jpg has no use for --brightness"),
    ],
)
def test_options_that_do_not_fit_a_folder_are_refused(command, tmp_path, options, said):
    write_card(tmp_path, 1)
    finished = command("merge", tmp_path, "--out", tmp_path / "out", *options)
    assert finished.exit_code == 1
    assert finished.output.startswith("Error: ")  # before the folder is read
    assert said in finished.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "codec", "constants"), [("avif", "AVIF", "COLOR_PRIMARIES"), ("jxl", "JPEGXL", "PRIMARIES")]
)
def test_an_encoder_that_is_too_old_is_told_once_and_not_for_every_bracket(
    command, tmp_path, monkeypatch, name, codec, constants
):
    imagecodecs = pytest.importorskip("imagecodecs")
    monkeypatch.delattr(getattr(imagecodecs, codec), constants, raising=False)
    write_card(tmp_path, 2)
    finished = command("merge", tmp_path, "--out", tmp_path / "out", "--preview", name, *OPTIONS)
    assert finished.exit_code == 1
    assert finished.output.count("cannot write what the colours of") == 1
    assert not (tmp_path / "out").exists()


def test_a_file_is_no_folder_for_results(command, tmp_path):
    write_card(tmp_path, 1)
    (tmp_path / "out").write_bytes(b"")
    finished = command("merge", tmp_path, "--out", tmp_path / "out", "--dry-run")
    assert finished.exit_code == 1
    assert finished.output.startswith("Error: ")  # before the folder is read
    assert "out is a file; give the name of a folder" in finished.output


def test_how_pictures_are_displayed_is_said_of_every_bracket(command, tmp_path, monkeypatch):
    asked = []

    def merge(bracket, target, merger, output, display=None, **options):
        asked.append((target.name, output.preview.name, output.gain_map, display and display.brightness))

    monkeypatch.setattr(_folder, "merge_bracket", merge)
    pytest.importorskip("imagecodecs")
    write_card(tmp_path, 2)
    options = ("--preview", "jpg", "--gain-map", "--brightness", "1", *OPTIONS)
    finished = command("merge", tmp_path, "--out", tmp_path / "out", *options)
    assert finished.exit_code == 0, finished.output
    assert asked == [(f"{name}.exr", f"{name}.jpg", True, 1.0) for name in ("IMG_0000-IMG_0002", "IMG_0003-IMG_0005")]


def test_a_folder_is_not_overwritten_by_its_results(command, tmp_path):
    write_card(tmp_path, 1)
    before = names(tmp_path)
    link = tmp_path.with_name(f"{tmp_path.name} too")
    link.symlink_to(tmp_path)
    assert "choose another folder" in command("merge", tmp_path, "--out", link).output
    assert "choose another folder" in command("merge", tmp_path, "--out", tmp_path).output
    assert (
        "for a folder" in command("merge", tmp_path / "IMG_0000.jpg", "--out", tmp_path / "a.exr", "--jobs", "2").output
    )
    assert names(tmp_path) == before
    assert len(before) == 3
