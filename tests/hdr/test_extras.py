"""What is not installed is named with the extra that brings it, wherever it is missed first."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hdr._extras import extras_named, is_ours
from hdr.delivery import check_encoder
from hdr.io import read_ldr
from hdr.raw import read_raw

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("package", "extra", "statement"),
    [
        ("cv2", "hdr", "from hdr import Merger"),
        ("safetensors", "hdr", "from hdr import load_generator"),
        ("OpenEXR", "hdr", "from hdr.io import read_ldr"),
        ("lightning", "train", "from hdr.training import train"),
        ("cv2", "hdr", "from hdr.training import train"),
    ],
)
def test_an_import_names_the_extra_that_it_needs(package: str, extra: str, statement: str) -> None:
    code = f"import sys; sys.modules[{package!r}] = None; {statement}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    finished = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    expected = f"ModuleNotFoundError: {package} is missing; install the extra: pip install 'captum-ext[{extra}]'"
    assert finished.stderr.splitlines()[-1] == expected


_IMPORT_EVERY_MODULE = """
import importlib, pkgutil, sys
sys.modules[sys.argv[1]] = None
import hdr
for module in pkgutil.walk_packages(hdr.__path__, "hdr."):
    if not module.name.startswith("hdr.cli"):  # of the commands the program itself tells
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            print(error)
"""


@pytest.mark.parametrize("package", ["cv2", "matplotlib", "OpenEXR", "PIL", "safetensors", "scipy"])
def test_every_module_names_the_extra_that_it_needs(package: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", _IMPORT_EVERY_MODULE, package]
    finished = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert set(finished.stdout.splitlines()) == {
        f"{package} is missing; install the extra: pip install 'captum-ext[hdr]'"
    }


@pytest.mark.parametrize(
    ("package", "extra", "use"),
    [
        ("rawpy", "raw", lambda folder: read_raw(folder / "a.dng")),
        ("pillow_heif", "raw", lambda folder: read_ldr(folder / "a.heic")),
        ("imagecodecs", "delivery", lambda folder: check_encoder(folder / "a.avif")),
        ("imagecodecs", "delivery", lambda folder: check_encoder(folder / "a.jxl")),
        ("imagecodecs", "delivery", lambda folder: check_encoder(folder / "a.jpg", gain_map=True)),
    ],
)
def test_what_needs_another_extra_names_it(tmp_path, monkeypatch, package, extra, use):
    for name in ("a.dng", "a.heic"):
        (tmp_path / name).write_bytes(b"")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModuleNotFoundError, match=rf"^{package} is missing; .*'captum-ext\[{extra}\]'$") as raised:
        use(tmp_path)
    assert raised.value.name == package


def test_a_mistake_of_ours_is_no_missing_extra() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'hdr\.no_such_module'") as raised, extras_named():
        importlib.import_module("hdr.no_such_module")
    assert is_ours(raised.value)
