"""What is wrong with a command is told before pictures are read, which takes minutes of large ones."""

from __future__ import annotations

import numpy as np
import pytest

from tests.hdr.raw_files import write_dng


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("--weights", "absent.safetensors", "absent.safetensors: no such weights file"),
        ("--device", "gpu", "device must be"),
        ("--tile", "0", "tile must be at least 1"),
    ],
)
def test_what_cannot_merge_is_told_before_a_picture_is_read(command, tmp_path, option, value, told):
    damaged = [tmp_path / "1.jpg", tmp_path / "2.jpg"]
    for path in damaged:
        path.write_bytes(b"")  # whoever read it would speak of it
    finished = command("merge", *damaged, "--out", tmp_path / "a.exr", "--times", "1,4", option, value)
    assert finished.exit_code == 1
    assert finished.stderr.startswith(f"Error: {told}")


@pytest.mark.parametrize("option", [("--half-size",), ("--wb", "daylight"), ("--wb", "2,1,1.5")])
def test_options_of_camera_raw_are_refused_for_developed_pictures(command, tmp_path, photographs, option):
    finished = command("merge", *photographs, "--out", tmp_path / "a.exr", "--weights", "none", *option)
    assert finished.exit_code == 1
    assert finished.stderr == f"Error: {option[0]} is for camera raw, and none of the images is; leave it out\n"
    assert not (tmp_path / "a.exr").exists()


def test_options_of_camera_raw_are_taken_for_it(command, tmp_path):
    light = np.random.default_rng(0).uniform(0.02, 0.2, (64, 96, 3))
    files = [tmp_path / "1.dng", tmp_path / "2.dng"]
    for path, exposure in zip(files, (1, 4), strict=True):
        write_dng(path, light * exposure, time=0.01 * exposure)
    options = ("--half-size", "--wb", "2,1,1.5", "--align", "off", "--weights", "none")
    finished = command("merge", *files, "--out", tmp_path / "a.exr", *options)
    assert finished.exit_code == 0, finished.output
    assert "48 x 32" in finished.output
