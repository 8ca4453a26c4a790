"""The distribution: what the wheel holds, what the tree promises, and the lint."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

import captum_ext

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted([*(ROOT / "captum_ext").rglob("*.py"), *(ROOT / "hdr").rglob("*.py")])


def run(*command: str | Path, **keywords) -> subprocess.CompletedProcess[str]:
    finished = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False, **keywords)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--no-deps", "--no-build-isolation", "--quiet", "--wheel-dir", folder]
    run(sys.executable, "-m", "pip", "wheel", *options, ROOT)
    (built,) = folder.glob("*.whl")
    return built


def test_wheel_holds_both_packages_and_their_data(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    tracked = {str(path.relative_to(ROOT)) for path in SOURCES}
    assert tracked <= names
    assert {"captum_ext/py.typed", "hdr/py.typed"} <= names
    data = {str(path.relative_to(ROOT)) for folder in ("_weights", "_data") for path in ROOT.glob(f"hdr/{folder}/*")}
    assert {"hdr/_weights/MODEL_CARD.md", "hdr/_data/LICENSE.md"} <= data
    assert data <= names
    licences = {name.split("/licenses/")[1] for name in names if "/licenses/" in name}
    assert licences == {"LICENSE", "captum_ext/classifiers/DIGITS_LICENSE.md", "hdr/_data/LICENSE.md"}
    assert not any(name.startswith(("tests", "benchmarks", "tutorials")) for name in names)


def test_installed_wheel_is_imported_from_elsewhere(wheel, tmp_path):
    site = tmp_path / "site"
    run(sys.executable, "-m", "pip", "install", "--no-deps", "--quiet", "--target", site, wheel)
    code = (
        "import captum_ext, hdr, torch; from captum_ext import IDGI;"
        "print(captum_ext.__file__, hdr.__file__, IDGI(lambda x: x.exp().sum(1)).attribute(torch.ones(1, 2)).sum())"
    )
    found = run(sys.executable, "-c", code, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(site)})
    assert found.stdout.count(str(site)) == 2
    assert "3.4366" in found.stdout  # 2 (e - 1)


def test_version_is_written_in_one_place(wheel):
    assert wheel.name.startswith(f"captum_ext-{captum_ext.__version__}-")
    assert f"## {captum_ext.__version__}" in (ROOT / "CHANGELOG.md").read_text()
    assert "\nversion" not in (ROOT / "CITATION.cff").read_text() + (ROOT / "pyproject.toml").read_text()


def test_public_names_have_docstrings_with_examples():
    for name in captum_ext.__all__:
        assert ">>>" in (getattr(captum_ext, name).__doc__ or ""), name


@pytest.mark.parametrize("command", ["ruff format --check .", "ruff check .", "mypy"])
def test_lint(command):
    if command == "mypy" and version("torch").startswith("2.6."):
        pytest.skip("the oldest PyTorch has fewer types, so that less is known of what it returns")
    run(sys.executable, "-m", *command.split(), cwd=ROOT)


def test_arrows_between_packages_point_down():
    run(Path(sys.executable).with_name("lint-imports"), cwd=ROOT)


def test_linter_knows_the_only_door_to_captums_private_helpers(tmp_path):
    (tmp_path / "other.py").write_text("from captum._utils.common import _format_output\n")
    options = ["--config", ROOT / "pyproject.toml", "--select", "TID251", "--quiet"]
    command = [sys.executable, "-m", "ruff", "check", *options, tmp_path / "other.py"]
    finished = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert finished.returncode == 1
    assert "the only door to Captum's private helpers" in finished.stdout
