"""Workflows and hooks are what their services read: valid by the published schemas, which check-jsonschema brings."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflow_is_valid(path: Path):
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", str(path)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr


def test_hooks_are_the_tools_of_make_lint():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    recipe = re.search(r"^lint:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    lines = [line.strip().replace("$(BIN)", ".venv/bin").replace(" --check", "") for line in recipe[1].splitlines()]
    assert [hook["entry"] for hook in hooks] == [line.removesuffix(" .") for line in lines]


def test_every_python_that_is_supported_is_tested():
    jobs = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text())["jobs"]
    matrix = jobs["tests"]["strategy"]["matrix"]
    tested = {*matrix["python"], *(one["python"] for one in matrix["include"])}
    lowest = re.search(r'requires-python = ">=(3\.\d+)"', (ROOT / "pyproject.toml").read_text())[1]
    assert lowest in tested
    assert {int(version.split(".")[1]) for version in tested} == set(range(int(lowest.split(".")[1]), 15))


@pytest.mark.parametrize("name", ["torch", "torchvision", "captum"])
def test_lowest_versions_are_those_that_the_package_allows(name: str):
    allowed = re.search(rf'"{name}>=([\d.]+)', (ROOT / "pyproject.toml").read_text())
    assert allowed
    assert f"'{name}=={allowed[1]}.*'" in (ROOT / ".github/workflows/test.yml").read_text()
