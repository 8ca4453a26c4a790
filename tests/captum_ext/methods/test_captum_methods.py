"""Captum's methods by name: what they find is what Captum, or the formula, finds."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from captum.attr import GradientShap, GuidedGradCam, InputXGradient, Saliency
from torch import nn

from captum_ext import FullGrad, LibraGrad, SimpleFullGrad, SmoothFullGrad
from captum_ext.attr import InvalidArgumentError
from captum_ext.methods import METHODS, run_method
from tests.captum_ext.methods.small_cnn import found_by, pictures, small_cnn


@pytest.mark.parametrize("inplace", [False, True])
def test_guided_grad_cam_is_captums_on_a_model_without_operations_in_place(inplace):
    inputs, target = pictures(), [3, 1]
    model = small_cnn()
    separate = copy.deepcopy(model)
    separate[4] = nn.ReLU()  # Captum's own words: one module for each ReLU
    expected = GuidedGradCam(separate, separate[4]).attribute(inputs, target, interpolate_mode="bilinear")
    torch.testing.assert_close(found_by("guided-gradcam:3", small_cnn(True), inputs, target), expected)
    torch.testing.assert_close(found_by("guided-gradcam", small_cnn(inplace), inputs, target), expected)
    assert expected.abs().sum() > 0


def test_guided_grad_cam_refuses_relu_that_it_cannot_reach():
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.relu, self.head = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Linear(4, 2)

        def forward(self, x):
            return self.head(nn.functional.relu(self.relu(self.conv(x))).mean((2, 3)))

    with pytest.raises(InvalidArgumentError, match="1 of 2 as functions"):
        found_by("guided-gradcam", Functional(), pictures(), [0, 1])
    gelu = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(InvalidArgumentError, match="the model calls none"):
        found_by("guided-gradcam", gelu, pictures(), [0, 1])


@pytest.mark.parametrize(
    ("name", "by_hand"),
    [
        ("saliency", lambda model, x, t: Saliency(model).attribute(x, t)),
        ("input-x-gradient", lambda model, x, t: InputXGradient(model).attribute(x, t)),
        ("fullgrad:paper", lambda model, x, t: FullGrad(model).attribute(x, target=t, postprocess="paper")),
        ("simple-fullgrad", lambda model, x, t: SimpleFullGrad(model).attribute(x, target=t)),
        ("smooth-fullgrad", lambda model, x, t: SmoothFullGrad(model).attribute(x, target=t)),
    ],
)
def test_other_methods_are_called_with_their_own_arguments(name, by_hand):
    inputs, model = pictures(), small_cnn()
    result = run_method(METHODS[name], model, inputs, torch.zeros_like(inputs), torch.tensor([3, 1]))
    torch.testing.assert_close(result.attributions, by_hand(model, inputs, [3, 1]))
    assert result.delta is None
    assert result.change is None


def test_libra_grad_is_full_grad_of_the_balanced_model():
    inputs = pictures()
    model = nn.Sequential(nn.Flatten(), nn.Linear(432, 16), nn.GELU(), nn.LayerNorm(16), nn.Linear(16, 5)).eval()
    result = run_method(METHODS["fullgrad:libra"], model, inputs, torch.zeros_like(inputs), torch.tensor([3, 1]))
    expected = FullGrad(LibraGrad(model)).attribute(inputs, torch.zeros_like(inputs), target=[3, 1])
    torch.testing.assert_close(result.attributions, expected)
    assert not torch.allclose(result.attributions, FullGrad(model).attribute(inputs, 0.0, target=[3, 1]))


def test_gradient_shap_is_captums_under_its_seed_and_its_delta_is_measured():
    inputs, model, black = pictures(), small_cnn(), torch.zeros(2, 3, 12, 12)
    shap = METHODS["gradientshap"]
    result = run_method(shap, model, inputs, black, torch.tensor([3, 1]), n_steps=6, seed=5)
    np.random.seed(5)  # noqa: NPY002
    torch.manual_seed(5)
    expected = GradientShap(model).attribute(inputs, black, n_samples=6, target=[3, 1])
    torch.testing.assert_close(result.attributions, expected)
    with torch.no_grad():
        change = (model(inputs) - model(black))[[0, 1], [3, 1]]
    torch.testing.assert_close(result.delta.float(), expected.sum((1, 2, 3)) - change)
    other = run_method(shap, model, inputs, black, torch.tensor([3, 1]), n_steps=6, seed=6)
    assert not torch.equal(other.attributions, result.attributions)
