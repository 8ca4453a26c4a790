"""``hdr evaluate``: every scene and the mean, beside what is reached without a network."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import cv2
import numpy as np
import pytest

from hdr.baselines import BASELINES
from hdr.evaluation import OURS, UNTRAINED
from hdr.io import write_radiance
from hdr.scene import dynamic_scene
from tests.hdr.data.test_still import write_bracket


def write_kalantari_scene(folder: Path) -> None:
    folder.mkdir(parents=True)
    scene = dynamic_scene(64, 96)
    for index, picture in enumerate(scene.bracket.ldr, start=1):
        pixels = picture.permute(1, 2, 0).flip(-1).mul(65535).round().numpy().astype(np.uint16)
        cv2.imwrite(str(folder / f"input_{index}.tif"), pixels)
    (folder / "input_exp.txt").write_text("-2\n0\n2\n")
    write_radiance(folder / "ref_hdr.hdr", scene.radiance)


def test_evaluate_prints_every_scene_and_the_mean_beside_the_baselines(command, tmp_path):
    for name in ("Test/first", "Test/second"):
        write_kalantari_scene(tmp_path / "data" / name)
    table = tmp_path / "table.csv"
    options = ("--data", f"kalantari:{tmp_path / 'data'}", "--out", table)
    finished = command("evaluate", *options)
    assert finished.exit_code == 0, finished.output
    methods = (OURS, UNTRAINED, *BASELINES)
    for text in ("first", "second", "Mean of 2 scenes", *methods):
        assert text in finished.output
    rows = list(csv.DictReader(table.open()))
    assert len(rows) == 3 * len(methods)
    assert {row["method"] for row in rows} == set(methods)
    # Two equal scenes: their mean is each of them.
    assert float(rows[0]["PSNR-mu"]) == pytest.approx(float(rows[2 * len(methods)]["PSNR-mu"]))
    again = command("evaluate", *options)
    assert again.exit_code == 1
    assert "table.csv exists" in again.output


def test_names_in_any_alphabet_are_in_the_table_whatever_the_system_s_own_encoding_is(command, tmp_path, monkeypatch):
    write_kalantari_scene(tmp_path / "data" / "Test" / "写真")
    monkeypatch.setattr(io, "text_encoding", lambda encoding, _=2: encoding or "cp1252")  # what Windows takes by itself
    finished = command("evaluate", "--data", f"kalantari:{tmp_path / 'data'}", "--out", tmp_path / "table.csv")
    assert finished.exit_code == 0, finished.output
    rows = list(csv.DictReader((tmp_path / "table.csv").read_text(encoding="utf-8").splitlines()))
    assert rows[0]["scene"] == "Test/写真"


def test_only_some_scenes_are_measured_when_asked(command, tmp_path):
    for name in ("Test/first", "Test/second"):
        write_kalantari_scene(tmp_path / name)
    options = ("--data", f"kalantari:{tmp_path}", "--weights", "none", "--scenes", "1", "--no-baselines")
    finished = command("evaluate", *options)
    assert finished.exit_code == 0, finished.output
    assert "Mean of 1 scenes" in finished.output
    assert "OpenCV" not in finished.output


@pytest.mark.parametrize("scenes", ["0", "-1"])
def test_no_scenes_are_not_measured(command, tmp_path, scenes):
    write_kalantari_scene(tmp_path / "Test/first")
    finished = command("evaluate", "--data", f"kalantari:{tmp_path}", "--weights", "none", f"--scenes={scenes}")
    assert finished.exit_code == 1
    assert "Must be" in finished.output
    assert "--scenes" in finished.output
    assert finished.stderr.count("\n") == 1


def test_evaluate_shakes_still_brackets_when_asked(command, tmp_path):
    for name in ("first", "second"):
        write_bracket(tmp_path / name, evs=(-4.0, -2.0, 0.0, 2.0))
    options = ("--data", f"still:{tmp_path}", "--weights", "none")
    tables = {}
    for shake, scenes in (("8", "2"), ("8", "1"), ("0", "1")):
        table = tmp_path / f"{shake}-{scenes}.csv"
        finished = command("evaluate", *options, "--shake", shake, "--scenes", scenes, "--out", table)
        assert finished.exit_code == 0, finished.output
        assert ("exposures displaced by up to 8 pixels" in " ".join(finished.output.split())) == (shake == "8")
        tables[shake, scenes] = list(csv.DictReader(table.open()))
    both, one, still = tables.values()
    assert {row["scene"] for row in both} == {"first", "second", "mean"}
    assert [row["method"] for row in one] == [UNTRAINED, *BASELINES] * 2
    assert {row["shake"] for row in both} == {"8"}
    # The first scene alone, and the first of two: shaken alike.
    assert both[: len(one) // 2] == one[: len(one) // 2]
    assert "shake" not in still[0]
    blind = [row["method"] for row in still].index("weighted merge")
    assert float(one[blind]["PSNR-mu"]) < float(still[blind]["PSNR-mu"]) - 5
    assert float(one[0]["PSNR-mu"]) > float(one[blind]["PSNR-mu"]) + 5


@pytest.mark.parametrize(
    ("shake", "said"),
    [
        ("-3", "a shake is a whole number of pixels, 0 or more, got -3"),
        ("25", "wall: a shake of 25 pixels is too large for pictures of 128 x 96; 24 is the most"),
        ("nan", "a shake is a whole number of pixels, 0 or more, got nan"),
        ("2.5", "a shake is a whole number of pixels, 0 or more, got 2.5"),
    ],
)
def test_evaluate_refuses_a_shake_that_makes_no_sense(command, tmp_path, shake, said):
    write_bracket(tmp_path / "wall", evs=(0.0, 2.0))
    finished = command("evaluate", "--data", f"still:{tmp_path}", "--weights", "none", "--shake", shake)
    assert finished.exit_code == 1
    assert said in finished.output
    assert finished.stderr.count("\n") == 1


def test_evaluate_skips_broken_scenes_when_asked(command, tmp_path):
    for name in ("good", "bad"):
        write_kalantari_scene(tmp_path / "Test" / name)
    (tmp_path / "Test" / "bad" / "input_2.tif").write_bytes(b"")
    options = ("--data", f"kalantari:{tmp_path}", "--weights", "none", "--no-baselines")
    refused = command("evaluate", *options)
    assert refused.exit_code == 1
    assert "skip them with --skip-broken" in refused.output
    finished = command("evaluate", *options, "--skip-broken")
    assert finished.exit_code == 0, finished.output
    assert "Note: skipped 1 broken scenes" in finished.output
    assert "Mean of 1 scenes" in finished.output


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("photos", "data must be synthetic:DIR, kalantari:DIR or still:DIR, got 'photos'"),
        ("kalantari:absent", "absent: no such folder; give one with scenes"),
        ("synthetic:absent", "absent: no such folder; give one with HDR images"),
        ("still:absent", "absent: no such folder; give one with still brackets"),
        ("kalantari:.", "no scenes; expected folders with three .tif files"),
        ("synthetic:.", "0 HDR images"),
        ("still:.", "no exposures.csv in it or below"),
    ],
)
def test_evaluate_names_data_that_is_not_there(command, tmp_path, monkeypatch, data, said):
    monkeypatch.chdir(tmp_path)
    finished = command("evaluate", "--data", data, "--weights", "none")
    assert finished.exit_code == 1
    assert said in finished.output
    assert finished.stderr.count("\n") == 1
