"""Images as they come from files, channels last in memory, are explained like any others."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from captum_ext import IDGI, BlurIG, FullGrad, GuidedIG, LayerIDGI, PathIG, SimpleFullGrad, SmoothFullGrad
from captum_ext.metrics import completeness, deletion, information_curves, insertion, perturbation


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
