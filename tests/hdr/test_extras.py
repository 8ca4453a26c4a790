"""What is not installed is named with the extra that brings it, wherever it is missed first."""

from __future__ import annotations

import ast
import importlib
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
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
    expected = f'ModuleNotFoundError: {package} is missing; install the extra: pip install "captum-ext[{extra}]"'
    assert finished.stderr.splitlines()[-1] == expected


INSTALLED_ANYWAY = {*sys.stdlib_module_names, "hdr", "kornia", "numpy", "torch", "torchvision", "tqdm"}


def _imports_of_extras(tree: ast.AST) -> Iterator[str]:
    """Packages of an extra that a module imports outside of ``extras_named``; not what only types or functions need."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if isinstance(node, ast.With) and "extras_named" in ast.unparse(node.items[-1]):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            yield from {name.partition(".")[0] for name in names} - INSTALLED_ANYWAY
        yield from _imports_of_extras(node)


# Of the commands the program itself names the extra.
@pytest.mark.parametrize(
    "module",
    sorted(set(ROOT.glob("hdr/**/*.py")) - set(ROOT.glob("hdr/cli/*.py"))),
    ids=lambda module: module.relative_to(ROOT).as_posix(),
)
def test_every_module_names_the_extra_that_it_needs(module: Path) -> None:
    assert list(_imports_of_extras(ast.parse(module.read_text()))) == []


def test_what_is_imported_for_an_extra_is_found() -> None:
    source = """
        import cv2, numpy
        with extras_named():
            import OpenEXR
        if TYPE_CHECKING:
            from PIL import Image
        def late():
            import rawpy
        class Late:
            from scipy.optimize import nnls
    """
    assert list(_imports_of_extras(ast.parse(textwrap.dedent(source)))) == ["cv2", "scipy"]


@pytest.mark.parametrize(
    ("package", "extra", "use"),
    [
        ("rawpy", "raw", lambda folder: read_raw(folder / "a.dng")),
        ("pi_heif", "raw", lambda folder: read_ldr(folder / "a.heic")),
        ("imagecodecs", "delivery", lambda folder: check_encoder(folder / "a.avif")),
        ("imagecodecs", "delivery", lambda folder: check_encoder(folder / "a.jxl")),
        ("imagecodecs", "delivery", lambda folder: check_encoder(folder / "a.jpg", gain_map=True)),
    ],
)
def test_what_needs_another_extra_names_it(tmp_path, monkeypatch, package, extra, use):
    for name in ("a.dng", "a.heic"):
        (tmp_path / name).write_bytes(b"")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModuleNotFoundError, match=rf'^{package} is missing; .*"captum-ext\[{extra}\]"$') as raised:
        use(tmp_path)
    assert raised.value.name == package


def test_a_mistake_of_ours_is_no_missing_extra() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'hdr\.no_such_module'") as raised, extras_named():
        importlib.import_module("hdr.no_such_module")
    assert is_ours(raised.value)
