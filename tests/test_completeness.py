"""The completeness of any method's attributions."""

from __future__ import annotations

import pytest
import torch
from captum.attr import DeepLift, InputXGradient, IntegratedGradients

from captum_ext import IDGI
from captum_ext.metrics import completeness
from tests.small_models import TwoInputs, pictures, smooth_cnn


@pytest.mark.parametrize("method", [IntegratedGradients, DeepLift, IDGI], ids=lambda m: m.__name__)
def test_equals_the_convergence_delta_of_captums_methods(method):
    model, x, baselines = smooth_cnn(), pictures(), pictures(1)
    attributions, delta = method(model).attribute(x, baselines, target=[0, 1, 2], return_convergence_delta=True)
    found = completeness(model, x, attributions, baselines, target=[0, 1, 2])
    torch.testing.assert_close(found.delta, delta, rtol=0, atol=1e-12)


def test_relative_delta_by_hand():
    x = torch.tensor([[1.0, 2.0], [0.0, 0.0]])
    found = completeness(lambda x: (x**2).sum(1), x, torch.tensor([[1.0, 3.0], [0.0, 0.0]]))
    torch.testing.assert_close(found.delta, torch.tensor([-1.0, 0.0]))
    torch.testing.assert_close(found.relative, torch.tensor([0.2, 0.0]))


def test_tuples_of_inputs():
    model = TwoInputs()
    inputs = (torch.randn(3, 4).double(), torch.randn(3, 2, 3).double())
    attributions = IDGI(model).attribute(inputs, target=1, n_steps=3)
    assert completeness(model, inputs, attributions, target=1).relative.max() < 1e-10
    assert (
        completeness(model, inputs, InputXGradient(model).attribute(inputs, target=1), target=1).relative.max() > 0.01
    )


def test_refuses_attributions_of_another_shape():
    with pytest.raises(ValueError, match="give the same"):
        completeness(smooth_cnn(), pictures(3), pictures(2), target=1)
