"""The layer whose maps are explained: the last one with maps, or the one that is named."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

from captum_ext.attr import InvalidArgumentError
from captum_ext.classifiers import Logits, Probabilities
from captum_ext.methods import METHODS, chosen_methods, run_method
from tests.captum_ext.methods.small_cnn import found_by, pictures, small_cnn


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
