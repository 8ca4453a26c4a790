"""What an import brings with it: a quick start, and an install that needs no more than it says."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys

import pytest

# What may come with the first use: this package, Kornia, and what PyTorch loads of its own when it is used.
WITH_USE = {"captum_ext", "kornia", "kornia_rs", "mpmath", "nvidia", "sympy", "torch", "triton"}


def modules_after(statement: str) -> set[str]:
    """Names of the modules that a fresh interpreter has loaded after a statement."""
    code = f"import json, sys\n{statement}\nprint(json.dumps([*sys.modules]))"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(finished.stdout.splitlines()[-1]))


def packages(names: set[str]) -> set[str]:
    own = {name.split(".")[0] for name in names}
    return {name for name in own if not name.startswith("_")} - set(sys.stdlib_module_names)


@pytest.fixture(scope="module")
def with_captum() -> set[str]:
    return modules_after("import captum.attr, tqdm")


def test_the_methods_bring_nothing_that_captum_does_not(with_captum):
    loaded = modules_after("import captum.attr, tqdm\nfrom captum_ext import *")
    assert packages(loaded - with_captum) <= {"captum_ext"}
    rooms = {name.split(".")[1] for name in loaded if name.startswith("captum_ext.")}
    assert rooms == {"_captum", "_errors", "_lazy", "attr"}


def test_the_measures_bring_nothing_that_captum_does_not(with_captum):
    loaded = modules_after("import captum.attr, tqdm\nimport captum_ext.metrics")
    assert packages(loaded - with_captum) <= {"captum_ext"}


WALK = """
import torch
from captum_ext import IDGI, FullGrad
from captum_ext.metrics import completeness, insertion
from torch import nn
model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU(), nn.Flatten(), nn.Linear(144, 2)).eval()
images = torch.rand(1, 3, 8, 8)
for method in (IDGI(model, path="blur"), FullGrad(model)):
    found = method.attribute(images, target=0)
    completeness(model, images, found, target=0), insertion(model, images, found, target=0, n_steps=2)
"""


def test_using_methods_and_measures_takes_the_base_install_alone(with_captum):
    assert packages(modules_after(WALK) - with_captum) <= WITH_USE


@pytest.mark.parametrize("package", ["captum_ext", "captum_ext.evaluation", "captum_ext.classifiers"])
def test_every_name_of_a_lazy_package_is_found_and_listed(package):
    module = importlib.import_module(package)
    assert {name for name in module.__all__ if not callable(getattr(module, name, None))} <= {"METRICS"}
    assert dir(module) == sorted(module.__all__)
