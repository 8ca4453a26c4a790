"""Captum's methods by name: what they find is what Captum, or the formula, finds; nothing of the user's is changed."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torchvision
from captum.attr import GradientShap, GuidedGradCam, InputXGradient, Saliency
from torch import nn

from captum_ext import FullGrad, LibraGrad, SimpleFullGrad, SmoothFullGrad
from captum_ext.attr import InvalidArgumentError
from captum_ext.classifiers import Logits, Probabilities
from captum_ext.methods import METHODS, chosen_methods, method_named, run_method


def small_cnn(inplace: bool = False) -> nn.Module:
    torch.manual_seed(1)
    relu = nn.ReLU(inplace)  # one module in two places
    layers = [nn.Conv2d(3, 6, 3, padding=1), relu, nn.MaxPool2d(2), nn.Conv2d(6, 8, 3, padding=1), relu]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)).eval()


def pictures() -> torch.Tensor:
    return torch.rand(2, 3, 12, 12)


def found_by(name: str, model: nn.Module, inputs: torch.Tensor, target: list[int]) -> torch.Tensor:
    result = run_method(method_named(name), model, inputs, torch.zeros_like(inputs), torch.tensor(target), 6, 4)
    return result.attributions


def grad_cam_by_hand(features: nn.Module, head: nn.Module, inputs: torch.Tensor, target: list[int]) -> torch.Tensor:
    """Selvaraju et al., equations 1 and 2: channels weighed by the mean of their gradient."""
    maps = features(inputs).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(head(maps)[[0, 1], target].sum(), maps)
    weighed = (gradient.mean((2, 3), keepdim=True) * maps).sum(1, keepdim=True).clamp(min=0)
    return nn.functional.interpolate(weighed.detach(), inputs.shape[2:], mode="bilinear")


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize(("name", "depth"), [("gradcam", 5), ("gradcam:3", 4), ("gradcam:2", 3)])
def test_grad_cam_is_the_published_formula_on_the_last_maps_or_the_named_ones(name, depth, inplace):
    inputs, target = pictures(), [3, 1]
    plain = small_cnn()
    expected = grad_cam_by_hand(plain[:depth], plain[depth:], inputs, target)
    found = found_by(name, small_cnn(inplace), inputs, target)
    assert found.shape == (2, 1, 12, 12)
    torch.testing.assert_close(found, expected)
    assert expected.max() > 0


def test_layer_names_may_leave_out_the_wrappers_of_the_command_line():
    inputs, model = pictures(), small_cnn()
    wrapped = Probabilities(Logits(model))
    expected = found_by("gradcam:logits.model.2", wrapped, inputs, [0, 1])
    torch.testing.assert_close(found_by("gradcam:2", wrapped, inputs, [0, 1]), expected)


def test_resnet_is_explained_at_its_last_stage():
    model, inputs = torchvision.models.resnet18(weights=None).eval(), torch.rand(1, 3, 64, 64)
    expected = found_by("gradcam:layer4", model, inputs, [7])
    torch.testing.assert_close(found_by("gradcam", model, inputs, [7]), expected)
    assert expected.max() > 0


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


def test_models_without_maps_and_layers_without_the_name_are_refused():
    linear = nn.Sequential(nn.Flatten(), nn.Linear(432, 5))
    with pytest.raises(InvalidArgumentError, match="no layer of the model returns maps"):
        found_by("gradcam", linear, pictures(), [0, 1])
    with pytest.raises(InvalidArgumentError, match="no layer 'stem'"):
        found_by("gradcam:stem", small_cnn(), pictures(), [0, 1])
    with pytest.raises(InvalidArgumentError, match="returns no maps"):
        found_by("gradcam:7", small_cnn(), pictures(), [0, 1])
    with pytest.raises(InvalidArgumentError, match=r"give a torch\.nn\.Module"):
        run_method(METHODS["gradcam"], lambda x: x, pictures(), pictures(), 0)
    with pytest.raises(InvalidArgumentError, match="'ig:conv' is unknown"):
        chosen_methods(["ig:conv"])


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


@pytest.mark.parametrize("name", METHODS)
def test_model_and_global_generators_come_back_untouched(name):
    inputs, model = pictures(), small_cnn(inplace=True).requires_grad_(False)
    given, before = inputs.clone(), copy.deepcopy(model.state_dict())
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)) for m in model.modules()]
    states = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    found_by(name, model, inputs, [3, 1])
    assert torch.equal(inputs, given)
    assert not inputs.requires_grad
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert hooks == [
        (len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)) for m in model.modules()
    ]
    assert not any(p.requires_grad for p in model.parameters())
    assert all(m.inplace for m in model.modules() if isinstance(m, nn.ReLU))
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002
