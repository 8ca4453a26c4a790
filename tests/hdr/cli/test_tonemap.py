"""``hdr tonemap`` writes a picture."""

from __future__ import annotations

import io
import os
import sys

import cv2
import numpy as np
import pytest

from hdr.cli import main
from hdr.io import write_radiance
from hdr.scene import dynamic_scene


@pytest.mark.parametrize("operator", ["reinhard", "mu-law", "local"])
def test_tonemap_writes_a_picture(command, tmp_path, operator):
    write_radiance(tmp_path / "a.hdr", dynamic_scene(64, 96).radiance)
    finished = command("tonemap", tmp_path / "a.hdr", "--out", tmp_path / "a.tif", "--operator", operator)
    assert finished.exit_code == 0, finished.output
    assert cv2.imread(str(tmp_path / "a.tif"), cv2.IMREAD_UNCHANGED).dtype == np.uint16
    assert command("tonemap", tmp_path / "a.hdr", "--out", tmp_path / "a.tif").exit_code == 1


def test_radiance_in_tiff_is_tone_mapped_and_not_replaced(command, tmp_path):
    for name in ("a.tif", "a.exr"):
        write_radiance(tmp_path / name, dynamic_scene(64, 96).radiance)
        finished = command("tonemap", tmp_path / name, "--out", tmp_path / f"{name}.png")
        assert finished.exit_code == 0, finished.output
    assert (tmp_path / "a.tif.png").read_bytes() == (tmp_path / "a.exr.png").read_bytes()
    before = (tmp_path / "a.tif").read_bytes()
    finished = command("tonemap", tmp_path / "a.tif", "--out", tmp_path / "a.tif", "--force")
    assert finished.exit_code == 1
    assert "a.tif is the radiance; choose another name" in finished.output
    assert (tmp_path / "a.tif").read_bytes() == before


def test_another_name_of_the_radiance_is_known_for_it(command, tmp_path):
    """As A.tif is to a.tif on macOS."""
    write_radiance(tmp_path / "a.tif", dynamic_scene(64, 96).radiance)
    os.link(tmp_path / "a.tif", tmp_path / "b.tif")
    finished = command("tonemap", tmp_path / "a.tif", "--out", tmp_path / "b.tif", "--force")
    assert finished.exit_code == 1
    assert "b.tif is the radiance; choose another name" in finished.output


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_a_name_that_the_output_cannot_show_is_told_by_numbers(tmp_path, monkeypatch, encoding):
    """As of files of another alphabet, where Windows writes into a pipe."""
    write_radiance(tmp_path / "a.hdr", dynamic_scene(64, 96).radiance)
    output = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", output)
    assert main(["tonemap", str(tmp_path / "a.hdr"), "--out", str(tmp_path / "写真.png")]) == 0
    assert (tmp_path / "写真.png").exists()
    output.flush()
    assert rb"\u5199\u771f.png" in output.buffer.getvalue().replace(b"\n", b"")
    assert output.errors == "strict"


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("a.jxl", ("--operator", "local"), "a.jxl has no use for --operator; leave it out, for nothing is tone-mapped"),
        ("a.png", ("--peak", "600"), "a.png has no use for --peak; make it .avif, .jxl, or .jpg with --gain-map"),
        ("a.jpg", ("--gain-map", "--bits", "12"), "a.jpg has no use for --bits; leave it out"),
    ],
)
def test_options_that_the_picture_has_no_use_for_are_refused(command, tmp_path, name, options, said):
    write_radiance(tmp_path / "scene.hdr", dynamic_scene(64, 96).radiance)
    finished = command("tonemap", tmp_path / "scene.hdr", "--out", tmp_path / name, *options)
    assert finished.exit_code == 1
    assert said in finished.output
    assert not (tmp_path / name).exists()
