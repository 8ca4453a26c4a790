"""``hdr tonemap`` writes a picture."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

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
