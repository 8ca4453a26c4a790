"""Modules are named by their path below the model that holds them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from captum_ext import FullGrad, LibraGrad
from captum_ext.attr import NotDeterministicError


class Wrapper(nn.Module):
    """Knows no more of its model than a function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x) + 1


def model(p: float = 0.0) -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Sequential(nn.Dropout(p), nn.Linear(4, 2)))


def test_a_model_inside_of_a_wrapper_keeps_its_names():
    inner, x = model().eval(), torch.rand(2, 3)
    layers = FullGrad(inner).layer_attributions(x, target=1)
    assert list(layers) == ["(input)", "0", "2.1"]
    balanced = FullGrad(LibraGrad(lambda x: inner(x))).layer_attributions(x, target=1)
    assert list(balanced) == list(layers)
    wrapped = FullGrad(Wrapper(lambda x: inner(x))).layer_attributions(x, target=1)
    assert list(wrapped) == [*layers, "(model)"]
    for name, layer in layers.items():
        torch.testing.assert_close(wrapped[name].total, layer.total)
    assert (wrapped["(model)"].total == 1).all()


def test_a_module_in_training_mode_inside_of_a_wrapper_is_named():
    inner = model(p=0.5)
    with pytest.raises(NotDeterministicError, match=r"module '2\.0' runs active dropout"):
        FullGrad(Wrapper(lambda x: inner(x))).attribute(torch.rand(2, 3), target=1)
