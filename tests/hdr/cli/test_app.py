"""The program as a whole: quick help, one way to refuse, a traceback for what is a mistake of ours."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import tifffile
import torch

from hdr._errors import RefusedError
from hdr.cli._refusals import TAKES_LESS_MEMORY, refusal
from hdr.cli.app import app
from hdr.merge import Merger
from tests.command_line import Command

ROOT = Path(__file__).resolve().parents[3]
COMMANDS = ("merge", "tonemap", "evaluate", "train", "export", "demo")
# The last one by Cyclopts on Python 3.10.
MAY_BE_IMPORTED = {"attr", "attrs", "cyclopts", "docstring_parser", "hdr", "rich", "rich_rst", "typing_extensions"}
"""Beside the standard library, by any ``--help``: what makes the words, and nothing that computes."""


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_imports_nothing_that_computes(command: str):
    code = (
        "import sys; before = set(sys.modules)\n"
        f"from hdr.cli import main; main([*'{command}'.split(), '--help'])\n"
        "print({name.split('.')[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names))"
    )
    finished = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    *shown, imported = finished.stdout.splitlines()
    assert all(any(name in line for line in shown) for name in ([command] if command else COMMANDS))
    others = {name for name in eval(imported) if not name.startswith(("_", "markdown_it", "mdurl", "pygments"))}
    assert others <= MAY_BE_IMPORTED


def test_the_module_is_the_program():
    command = [sys.executable, "-m", "hdr.cli", "dream"]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert finished.returncode == 1
    assert finished.stdout == ""
    assert finished.stderr.startswith("Error: ")
    assert "dream" in finished.stderr


def test_help_breaks_lines_where_the_terminal_ends(command: Command):
    # The screen is 200 wide here, and the docstrings, whose lines are shorter, break off before "factors".
    shown = command("merge", "--help").stdout
    assert any("daylight, auto, or three factors R,G,B." in line for line in shown.splitlines())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_of_its_own(command: Command, name: str):
    finished = command(name, "--help")
    assert finished.exit_code == 0
    assert finished.stdout.startswith(f"Usage: hdr {name}")


@pytest.mark.parametrize("name", COMMANDS)
def test_help_speaks_of_options_and_not_of_names_in_python(command: Command, name: str):
    assert not re.findall(r"\w*[a-z]_[a-z]\w*", command(name, "--help").stdout)


def test_version_is_told(command: Command):
    assert command("--version").stdout.strip() == version("captum-ext")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands_and_options(shell: Literal["bash", "zsh", "fish"]):
    script = app.generate_completion(shell=shell)
    assert "merge" in script
    assert "exposure-map" in script


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["dream"], '"dream"'),
        (["merge", "a.png", "b.png"], "--out"),
        (["merge", "a.png", "b.png", "--out", "a.exr", "--align", "maybe"], '"maybe"'),
        (["merge", "a.png", "b.png", "--out", "a.exr", "--colour", "pink"], "--colour"),
        (["merge", "a.png", "b.png", "--out", "a.exr", "--tile", "large"], '"large"'),
        (["tonemap", "absent.exr", "--out", "a.png"], "absent.exr: No such file"),
        (["train", "--data", "synthetic:photos"], "--out"),
        (["evaluate"], "--data"),
    ],
)
def test_what_cannot_be_done_is_one_line_on_the_standard_error(command, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    finished = command(*arguments)
    assert finished.exit_code == 1
    assert finished.stdout == ""
    assert finished.stderr.startswith("Error: ")
    assert message in finished.stderr
    assert finished.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "error", [RuntimeError("shapes differ"), ValueError("axes differ"), KeyError("x"), TypeError("none")]
)
def test_mistake_of_ours_is_a_traceback(command, monkeypatch, tmp_path, photographs, error):
    def broken(*_, **__):
        raise error

    monkeypatch.setattr(Merger, "_merge_square", broken)
    with pytest.raises(type(error)):
        command("merge", *photographs, "--out", tmp_path / "a.exr", "--weights", "none", "--align", "off")


def test_what_the_library_refuses_is_one_line(command, monkeypatch, tmp_path, photographs):
    def refused(*_, **__):
        raise RefusedError("a bracket of the moon; give one of the earth")

    monkeypatch.setattr(Merger, "_merge_square", refused)
    finished = command("merge", *photographs, "--out", tmp_path / "a.exr", "--weights", "none", "--align", "off")
    assert finished.exit_code == 1
    assert finished.stderr.splitlines()[-1] == "Error: a bracket of the moon; give one of the earth"
    assert "Traceback" not in finished.stderr


def lack_memory_on_the_gpu():
    raise torch.OutOfMemoryError("full")


@pytest.mark.parametrize(
    "demand", [lambda: np.empty(2**55, np.uint8), lambda: torch.empty(2**55, dtype=torch.uint8), lack_memory_on_the_gpu]
)
def test_lack_of_memory_is_reported_with_what_to_do(command, tmp_path, monkeypatch, photographs, demand):
    monkeypatch.setattr(Merger, "_merge_square", lambda *_: demand())
    finished = command("merge", *photographs, "--out", tmp_path / "a.exr", "--weights", "none", "--align", "off")
    assert finished.exit_code == 1
    assert "Error: not enough memory; give a smaller --tile (" in finished.output
    assert not (tmp_path / "a.exr").exists()


@pytest.mark.parametrize("name", COMMANDS)
def test_what_to_do_about_memory_is_what_the_command_has(command: Command, name: str):
    told = refusal(MemoryError(), name)
    assert told is not None
    assert (" --" in told) == (name in TAKES_LESS_MEMORY)
    shown = command(name, "--help").stdout.split()
    assert all(option in shown for option in re.findall(r"--[a-z-]+", told))


def test_lack_of_memory_names_no_option_that_the_command_has_not(command, tmp_path, monkeypatch):
    monkeypatch.setattr("hdr.io.read_radiance", lambda _: np.empty(2**55, np.uint8))
    finished = command("tonemap", tmp_path / "a.exr", "--out", tmp_path / "a.png")
    assert finished.exit_code == 1
    assert finished.stderr.startswith("Error: not enough memory; close other programs")
    assert "--" not in finished.stderr


@pytest.mark.parametrize(
    ("module", "extra", "arguments"),
    [
        ("cyclopts", "hdr", ["--help"]),
        ("cv2", "hdr", ["merge", "a.png", "b.png", "--out", "a.exr"]),
        ("OpenEXR", "hdr", ["tonemap", "a.exr", "--out", "a.png"]),
        ("lightning", "train", ["train", "--data", "synthetic:photos", "--out", "run"]),
    ],
)
def test_command_without_its_extra_names_it(tmp_path, module, extra, arguments):
    code = f"import sys; sys.modules[{module!r}] = None\nfrom hdr.cli import main; sys.exit(main({arguments!r}))"
    environment = {"PYTHONPATH": str(ROOT), "PATH": ""}
    command = [sys.executable, "-c", code]
    finished = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert finished.returncode == 1
    assert finished.stderr == f'Error: {module} is missing; install the extra: pip install "captum-ext[{extra}]"\n'
    assert list(tmp_path.iterdir()) == []


def test_what_opencv_has_to_say_of_a_file_is_not_told(tmp_path):
    for number in range(2):
        pixels = np.random.default_rng(0).integers(0, 30000, (24, 32, 3), np.uint16) * (number + 1)
        tag = (33434, 5, 1, (1 + number, 60), False)  # as TIFF/EP has it, which libtiff does not know there
        tifffile.imwrite(tmp_path / f"{number}.tif", pixels, photometric="rgb", extratags=[tag])
    command = [sys.executable, "-m", "hdr.cli", "merge", "0.tif", "1.tif", "--out", "a.exr", "--weights", "none"]
    options = ["--align", "off", "--response", "linear"]
    environment = {name: value for name, value in os.environ.items() if name != "OPENCV_LOG_LEVEL"}
    environment["PYTHONPATH"] = str(ROOT)
    finished = subprocess.run(
        command + options, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    assert "TIFF" not in finished.stderr
