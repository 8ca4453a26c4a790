"""The tutorials: saved whole, listed, and running from a clean kernel without a network."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager

import captum_ext

FOLDER = Path(__file__).parent.parent / "tutorials"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
LARGEST_FILE = 1_500_000
SECONDS_FOR_A_CELL = 300
NOWHERE = "http://127.0.0.1:9"
"""A proxy that refuses at once, so that every download fails as it does without a network."""

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


class ThisInterpreter(AsyncKernelManager):
    """Starts kernels with the interpreter that runs the tests, whatever kernels are registered on the machine."""

    @property
    def kernel_spec(self) -> KernelSpec:
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=command, display_name="Python 3", language="python")


def clean_environment(folder: Path) -> dict[str, str]:
    """Return an environment with one thread, without a network, and with nothing downloaded before."""
    proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), NOWHERE)
    package_root = str(Path(captum_ext.__file__).parent.parent)
    paths = os.pathsep.join(filter(None, (package_root, os.environ.get("PYTHONPATH"))))
    return {
        **os.environ,
        **proxies,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": paths,
        "TORCH_HOME": str(folder / "torch"),
        "IPYTHONDIR": str(folder / "ipython"),
    }


def code_cells(path: Path) -> list[Any]:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def outputs(path: Path) -> list[Any]:
    return [output for cell in code_cells(path) for output in cell.outputs]


@each_notebook
def test_notebook_runs_from_a_clean_kernel(path: Path, tmp_path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook,
        kernel_manager_class=ThisInterpreter,
        timeout=SECONDS_FOR_A_CELL,
        resources={"metadata": {"path": str(tmp_path)}},
    )
    client.execute(env=clean_environment(tmp_path))  # raises what a cell raises


@each_notebook
def test_saved_notebook_was_executed_from_top_to_bottom(path: Path) -> None:
    assert [cell.execution_count for cell in code_cells(path)] == list(range(1, len(code_cells(path)) + 1))
    assert sum("image/png" in output.get("data", {}) for output in outputs(path)) >= 2


@each_notebook
def test_saved_outputs_hold_no_error_no_warning_and_no_path_of_the_machine(path: Path) -> None:
    assert not [output for output in outputs(path) if output.output_type == "error" or output.get("name") == "stderr"]
    home = str(Path.home())
    assert not [place for place in ("/tmp/", "site-packages", f"{home}/") if place in path.read_text(encoding="utf-8")]


@each_notebook
def test_saved_notebook_is_valid_and_small(path: Path) -> None:
    nbformat.validate(nbformat.read(path, as_version=4))
    # From the file itself, since nbformat mends what it reads.
    ids = [cell["id"] for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]]
    assert len(set(ids)) == len(ids)
    assert path.stat().st_size < LARGEST_FILE


def test_readme_lists_every_notebook() -> None:
    listed = re.findall(r"\]\((\S+\.ipynb)\)", (FOLDER / "README.md").read_text(encoding="utf-8"))
    assert listed == [path.name for path in NOTEBOOKS]


def test_notebooks_refer_to_notebooks_that_exist() -> None:
    for path in NOTEBOOKS:
        named = re.findall(r"`(\d\d_\w+\.ipynb)`", path.read_text(encoding="utf-8"))
        assert set(named) <= {other.name for other in NOTEBOOKS}
