"""Whichever method runs, the user's model and the global generators come back as they were."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from captum_ext.methods import METHODS
from tests.captum_ext.methods.small_cnn import found_by, pictures, small_cnn


@pytest.mark.parametrize("name", METHODS)
def test_model_and_global_generators_come_back_untouched(name):
    inputs, model = pictures(), small_cnn(inplace=True)
    next(model.parameters()).requires_grad_(False)  # one is frozen, and the others are not
    frozen = [p.requires_grad for p in model.parameters()]
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
    assert frozen == [p.requires_grad for p in model.parameters()]
    assert len(set(frozen)) == 2
    assert all(p.grad is None for p in model.parameters())
    assert not any(m.training for m in model.modules())
    assert all(m.inplace for m in model.modules() if isinstance(m, nn.ReLU))
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002
