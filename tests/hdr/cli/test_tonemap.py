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
