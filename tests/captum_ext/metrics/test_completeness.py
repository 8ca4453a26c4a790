"""The completeness of any method's attributions."""

from __future__ import annotations

import inspect

import pytest
import torch
from captum.attr import (
    DeepLift,
    FeatureAblation,
    InputXGradient,
    IntegratedGradients,
    LayerIntegratedGradients,
    Saliency,
    ShapleyValueSampling,
)

from captum_ext import IDGI, FullGrad, LayerIDGI
from captum_ext.metrics import completeness
from tests.captum_ext.small_models import TokenClassifier, TwoInputs, pictures, smooth_cnn


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


@pytest.mark.parametrize(
    ("method", "complete"),
    [
        (IntegratedGradients, True),
        (ShapleyValueSampling, True),
        (IDGI, True),
        (FullGrad, True),
        (InputXGradient, False),
        (Saliency, False),
        (FeatureAblation, False),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_tells_complete_methods_from_others_for_tuples_of_inputs(method, complete):
    model, baselines = TwoInputs(), (0.1, 0.1)
    inputs = (torch.randn(3, 4).double(), torch.randn(3, 2, 3).double())
    accepted = inspect.signature(method.attribute).parameters
    keywords = {"baselines": baselines} if "baselines" in accepted else {}
    attributions = method(model).attribute(inputs, target=1, **keywords)
    found = completeness(model, inputs, attributions, baselines, target=1)
    assert found.relative.shape == (3,)
    # Captum's sampled Shapley values come in float32.
    assert (found.relative.max() < 1e-5) == complete


def test_layer_attributions_of_a_text():
    model, tokens = TokenClassifier(), torch.tensor([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])
    for method in (LayerIntegratedGradients, LayerIDGI):
        attributions = method(model, model.embedding).attribute(tokens, 7 * torch.ones_like(tokens), target=2)
        assert completeness(model, tokens, attributions, 7, target=2).relative.max() < 1e-5


@pytest.mark.parametrize("several", [False, True], ids=["one input", "two inputs"])
def test_refuses_attributions_with_their_delta(several):
    model = TwoInputs() if several else smooth_cnn()
    inputs = (torch.randn(2, 4).double(), torch.randn(2, 2, 3).double()) if several else pictures(2)
    attributions = IntegratedGradients(model).attribute(inputs, target=1, return_convergence_delta=True)
    with pytest.raises(ValueError, match="delta"):
        completeness(model, inputs, attributions, target=1)


def test_takes_an_input_of_one_number_for_each_example():
    inputs = (torch.rand(3, 2), torch.rand(3))
    found = completeness(lambda x, y: x.sum(1) + y, inputs, inputs)
    torch.testing.assert_close(found.delta, torch.zeros(3))


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
def test_refuses_attributions_that_are_not_finite(wrong):
    attributions = pictures(3)
    attributions[1, 0, 2, 2] = wrong
    with pytest.raises(ValueError, match="which have no sum"):
        completeness(smooth_cnn(), pictures(3), attributions, target=1)


def test_refuses_attributions_that_are_no_tensor():
    with pytest.raises(ValueError, match="is a ndarray: give"):
        completeness(smooth_cnn(), pictures(3), pictures(3).numpy(), target=1)


def test_refuses_attributions_of_another_shape():
    with pytest.raises(ValueError, match="one row for each of the 3 examples"):
        completeness(smooth_cnn(), pictures(3), pictures(2), target=1)


def test_a_second_input_of_one_number_for_each_example_is_no_delta():
    x, y = torch.rand(3, 2), torch.rand(3)
    attributions = (2 * x, 3 * y)
    found = completeness(lambda x, y: 2 * x.sum(1) + 3 * y, (x, y), attributions)
    torch.testing.assert_close(found.delta, torch.zeros(3))


def test_a_delta_in_the_place_of_the_last_input_is_told():
    x, z = torch.rand(3, 2), torch.rand(3, 2)
    with pytest.raises(ValueError, match="the last looks like the convergence delta"):
        completeness(lambda x, z: (x + z).sum(1), (x, z), (x, torch.zeros(3)))
    x = torch.rand(3)
    with pytest.raises(ValueError, match="the last looks like the convergence delta"):
        completeness(lambda x: 2 * x, x, (2 * x, torch.zeros(3)))


def test_change_of_an_output_in_half_precision_is_that_of_its_two_values():
    # From -1 to 2050: 2051 lies between the numbers that half precision has there.
    x = torch.ones(1, 2).half()
    found = completeness(lambda x: torch.where(x.sum(1) > 0, 2050.0, -1.0).half(), x, torch.tensor([[2048.0, 3.0]]))
    assert found.delta.tolist() == [0.0]
