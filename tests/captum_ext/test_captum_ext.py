"""The package as a whole: a quick start that brings no more than it says, and images as they come from files."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from captum_ext import IDGI, BlurIG, FullGrad, GuidedIG, LayerIDGI, PathIG, SimpleFullGrad, SmoothFullGrad
from captum_ext.metrics import completeness, deletion, information_curves, insertion, perturbation

# What may come with the first use: this package, Kornia, and what PyTorch loads of its own when it is used.
WITH_USE = {"captum_ext", "kornia", "kornia_rs", "mpmath", "nvidia", "sympy", "torch", "triton"}


def packages(names: set[str]) -> set[str]:
    own = {name.split(".")[0] for name in names}
    return {name for name in own if not name.startswith("_")} - set(sys.stdlib_module_names)


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


def test_methods_and_measures_bring_nothing_that_captum_does_not_and_their_use_takes_the_base_install_alone():
    steps = ("import captum.attr, tqdm", "from captum_ext import *", "import captum_ext.metrics", WALK)
    code = "import json, sys\n" + "\n".join(f"{step}\nprint(json.dumps([*sys.modules]))" for step in steps)
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    captum, methods, measures, used = (set(json.loads(line)) for line in finished.stdout.splitlines())
    assert packages(methods) - packages(captum) == {"captum_ext"}
    rooms = {name.split(".")[1] for name in methods if name.startswith("captum_ext.")}
    assert rooms == {"_captum", "_errors", "_lazy", "attr"}
    assert packages(measures) - packages(captum) == {"captum_ext"}
    assert packages(used) - packages(captum) <= WITH_USE


@pytest.mark.parametrize("package", ["captum_ext", "captum_ext.evaluation", "captum_ext.classifiers"])
def test_every_name_of_a_lazy_package_is_found_and_listed(package):
    module = importlib.import_module(package)
    assert {name for name in module.__all__ if not callable(getattr(module, name, None))} <= {"METRICS"}
    assert dir(module) == sorted(module.__all__)


class ViewAfterConvolution(nn.Module):
    """A classifier like that of PyTorch's first tutorial: ``view`` takes what a contiguous image gives."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 6, 5), nn.ReLU(), nn.MaxPool2d(2, 2), nn.Conv2d(6, 8, 3), nn.ReLU())
        self.head = nn.Linear(8 * 8 * 8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(x).view(-1, 8 * 8 * 8))


MODEL = ViewAfterConvolution().eval()
PIXELS = np.random.default_rng(0).random((24, 24, 3), dtype=np.float32)
ONE = torch.from_numpy(PIXELS).permute(2, 0, 1).unsqueeze(0)
TWO = torch.stack([ONE[0], ONE[0].flip(1)]).contiguous(memory_format=torch.channels_last)
METHODS = {
    "IDGI": IDGI(MODEL),
    "IDGI, blur": IDGI(MODEL, path="blur"),
    "IDGI, guided": IDGI(MODEL, path="guided"),
    "PathIG": PathIG(MODEL),
    "BlurIG": BlurIG(MODEL, max_sigma=3.0),
    "GuidedIG": GuidedIG(MODEL),
    "FullGrad": FullGrad(MODEL),
    "SimpleFullGrad": SimpleFullGrad(MODEL),
    "SmoothFullGrad": SmoothFullGrad(MODEL),
    "LayerIDGI": LayerIDGI(MODEL, MODEL.features[0]),
    "LayerIDGI, last": LayerIDGI(MODEL, MODEL.features),
}


@pytest.mark.parametrize("images", [ONE, TWO], ids=["one from a file", "channels last"])
@pytest.mark.parametrize("name", METHODS)
def test_attributions_are_those_of_the_contiguous_image(name, images):
    options = {"n_samples": 2} if name == "SmoothFullGrad" else {}
    found = METHODS[name].attribute(images, target=1, **options)
    assert found.is_contiguous()
    expected = METHODS[name].attribute(images.contiguous(), target=1, **options)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("images", [ONE, TWO], ids=["one from a file", "channels last"])
def test_measures_are_those_of_the_contiguous_image(images):
    maps = torch.rand(images.shape, generator=torch.Generator().manual_seed(1))
    for measure in (insertion, deletion, perturbation):
        found, expected = (measure(MODEL, x, maps, target=1, n_steps=4).curves for x in (images, images.contiguous()))
        torch.testing.assert_close(found, expected)
    found, expected = (completeness(MODEL, x, maps, target=1).delta for x in (images, images.contiguous()))
    torch.testing.assert_close(found, expected)
    curves = information_curves(MODEL, images, maps, target=1, min_score=0.0)
    assert curves.softmax.shape == (len(images), 1001)
