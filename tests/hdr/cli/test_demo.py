"""``hdr demo``: what it writes, and what it leaves alone."""

from __future__ import annotations

import cv2
import pytest
from matplotlib.figure import Figure

from hdr.demo import DISPLAYED, draw_comparison, run_demo
from hdr.evaluation import OURS, UNTRAINED, Score
from hdr.io import read_radiance
from hdr.metrics import METRICS
from hdr.photograph_scene import photograph_scene
from tests.hdr.encoders import can_encode


def test_demo_writes_figure_radiance_and_preview(command, tmp_path):
    folder = tmp_path / "demo"
    finished = command("demo", "--out", folder, "--weights", "none")
    assert finished.exit_code == 0, finished.output
    displayed = filter(can_encode, DISPLAYED)
    expected = sorted(["hdr-demo.exr", "hdr-demo.html", "hdr-demo.jpg", "hdr-demo.png", *displayed])
    assert sorted(path.name for path in folder.iterdir()) == expected
    for text in (UNTRAINED, "weighted merge", "PSNR-mu"):
        assert text in finished.output
    assert OURS not in finished.output  # which has merged nothing
    height, width = cv2.imread(str(folder / "hdr-demo.png")).shape[:2]
    assert height > 1500
    assert width > 2000
    assert read_radiance(folder / "hdr-demo.exr").shape == photograph_scene().radiance.shape
    again = command("demo", "--out", folder, "--weights", "none")
    assert again.exit_code == 1
    assert "exists; choose another name" in again.output
    with pytest.raises(FileExistsError):  # before the work
        run_demo(lambda _: pytest.fail("merged in vain"), folder)


def test_the_figure_names_what_merged():
    scene = photograph_scene()
    figure = draw_comparison(scene, scene.radiance, [Score("demo", "physics", dict.fromkeys(METRICS, 1.0))], "physics")
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[:3] == ["Short exposure, 1 t", "Reference, 4 t", "Long exposure, 16 t"]
    assert titles[3:6] == ["Weighted merge, with ghosts", "Merged by physics", "Ground truth"]
    assert titles[7] == "Error of physics, mu-law domain"


def test_demo_leaves_out_what_an_older_encoder_cannot_write(command, tmp_path, monkeypatch):
    imagecodecs = pytest.importorskip("imagecodecs")
    monkeypatch.delattr(imagecodecs.AVIF, "COLOR_PRIMARIES", raising=False)  # as on Python 3.10
    # What takes longest, and is tested above.
    drawn: list[str] = []
    monkeypatch.setattr("hdr.demo.draw_comparison", lambda *given: drawn.append(given[-1]) or Figure())
    monkeypatch.setattr("hdr.demo.score", lambda *_: [])
    finished = command("demo", "--out", tmp_path, "--weights", "none")
    assert finished.exit_code == 0, finished.output
    assert drawn == [UNTRAINED]
    assert (tmp_path / "hdr-demo-gain-map.jpg").exists()
    assert not (tmp_path / "hdr-demo.avif").exists()


def test_demo_needs_a_folder(command, tmp_path):
    (tmp_path / "file").write_text("precious")
    finished = command("demo", "--out", tmp_path / "file", "--weights", "none")
    assert "file is a file; give the name of a folder" in finished.output
    assert (tmp_path / "file").read_text() == "precious"
