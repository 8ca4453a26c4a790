"""Numbers on the command line are read as they were written, or refused."""

from __future__ import annotations

import pytest

SAID = "is a whole number, got"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["merge", "1.jpg", "2.jpg", "--out", "a.exr", "--reference", "1.5"], f"--reference {SAID} 1.5"),
        (["merge", "1.jpg", "2.jpg", "--out", "a.exr", "--tile=100.25"], f"--tile {SAID} 100.25"),
        (["merge", "card", "--out", "merged", "--jobs", "2.5"], f"--jobs {SAID} 2.5"),
        (["merge", "1.jpg", "2.jpg", "--out", "a.exr", "--preview", "a.avif", "--quality", "89.5"], "--quality"),
        (["evaluate", "--data", "still:scenes", "--scenes", "1.5"], f"--scenes {SAID} 1.5"),
        (["export", "--out", "a.onnx", "--exposures", "2.5"], f"--exposures {SAID} 2.5"),
        (["train", "--data", "synthetic:photos", "--out", "run", "--steps", "2.5"], f"--steps {SAID} 2.5"),
        (["train", "--data", "synthetic:photos", "--out", "run", "--devices", "1.5"], f"--devices {SAID} 1.5"),
        (["demo", "--seed", "-0.5"], f"--seed {SAID} -0.5"),
    ],
)
def test_a_fraction_where_a_whole_number_belongs_is_refused(command, tmp_path, monkeypatch, arguments, told):
    monkeypatch.chdir(tmp_path)
    finished = command(*arguments)
    assert finished.exit_code == 1
    assert finished.stderr.startswith(f"Error: {told}")
    assert finished.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_fraction_where_one_belongs_and_a_whole_number_with_a_point_are_taken(command, tmp_path):
    finished = command(
        "merge", tmp_path, "--out", tmp_path / "merged", "--gap", "0.5", "--group", "3.0", "--tile", "64"
    )
    # All numbers are read, and what is missing is told.
    assert finished.exit_code == 1
    assert "no photographs" in finished.stderr
