"""What the base install must be enough for, on a machine where everything is installed: the rest is hidden."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # which pytest brings there

ROOT = Path(__file__).resolve().parent.parent


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_base_is_what_it_is_said_to_be():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {Requirement(text).name for text in project["dependencies"]}
    assert names == {"captum", "torch", "torchvision", "kornia", "numpy", "tqdm"}


# In one process, since each takes seconds for PyTorch; what is missing is named by what is raised.
USES = """
import tests.base_install, torch
from captum_ext import IDGI; IDGI(lambda x: x.exp().sum(1)).attribute(torch.ones(1, 2))
from captum_ext import FullGrad; FullGrad(torch.nn.Linear(2, 3)).attribute(torch.ones(1, 2), target=1)
from captum_ext.metrics import completeness, deletion, insertion
import captum_ext.methods, captum_ext.plot, captum_ext.classifiers
import hdr, hdr.nn, hdr.radiometry, hdr.response
with torch.no_grad():
    observations, exposures = torch.rand(1, 2, 11, 16, 16), torch.tensor([[1.0, 4.0]])
    hdr.nn.Generator.from_preset('tiny')(observations, exposures, torch.zeros(1, 2, 2, 16, 16), reference=0)
"""


def test_base_is_enough():
    finished = python("-c", USES)
    assert finished.returncode == 0, finished.stderr


def test_what_is_hidden_is_missed():
    finished = python("-c", "import tests.base_install; from captum_ext.evaluation import evaluate")
    assert 'is missing: pip install "captum-ext[cli]" brings it.' in finished.stderr


@pytest.mark.slow
def test_attr_and_metrics_pass_their_tests_with_the_base_alone():
    tests = ("tests/captum_ext/attr", "tests/captum_ext/metrics")
    finished = python("-m", "pytest", "-q", "-p", "tests.base_install", *tests)
    assert finished.returncode == 0, finished.stdout[-5000:]
