"""LayerIDGI: layers' outputs and inputs, lists of layers, token models, operations in place."""

from __future__ import annotations

import pytest
import torch
from captum.attr import LayerIntegratedGradients
from torch import Tensor, nn

from captum_ext import IDGI, LayerIDGI
from captum_ext.attr import InvalidArgumentError
from tests.captum_ext.small_models import EvaluationCounter, InPlace, TokenClassifier, TwoInputs, pictures, smooth_cnn


def test_equals_idgi_on_the_rest_of_the_model():
    model, x, baseline = smooth_cnn(), pictures(), pictures()
    found, delta, residual = LayerIDGI(model, model[1]).attribute(
        x, baseline, target=[0, 1, -1], n_steps=7, return_convergence_delta=True, return_path_residual=True
    )
    first, rest = model[:2], model[2:]
    expected, expected_delta, expected_residual = IDGI(rest).attribute(
        first(x).detach(),
        first(baseline).detach(),
        target=[0, 1, -1],
        n_steps=7,
        return_convergence_delta=True,
        return_path_residual=True,
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(delta, expected_delta, rtol=0, atol=1e-12)
    torch.testing.assert_close(residual, expected_residual, rtol=0, atol=1e-12)


def test_sums_to_the_change_of_the_output_when_all_information_passes_through():
    model, x = smooth_cnn(), pictures()
    found = LayerIDGI(model, model[2]).attribute(x, target=1, n_steps=5)
    change = (model(x) - model(torch.zeros_like(x)))[:, 1].detach()
    torch.testing.assert_close(found.sum((1, 2, 3)), change, rtol=0, atol=1e-10)


def test_layer_input_is_the_output_of_the_layer_before():
    model, x = smooth_cnn(), pictures()
    options = {"target": 1, "n_steps": 5}
    at_input = LayerIDGI(model, model[2]).attribute(x, attribute_to_layer_input=True, **options)
    at_output = LayerIDGI(model, model[1]).attribute(x, **options)
    torch.testing.assert_close(at_input, at_output, rtol=0, atol=1e-12)


def test_internal_batch_size_bounds_the_rows_and_does_not_change_the_result():
    model, x = smooth_cnn(), pictures()
    counter = EvaluationCounter(model)
    whole = LayerIDGI(model, model[1]).attribute(x, target=1, n_steps=7)
    chunked = LayerIDGI(counter, model[1]).attribute(x, target=1, n_steps=7, internal_batch_size=6)
    torch.testing.assert_close(chunked, whole, rtol=0, atol=1e-12)
    assert counter.most_rows == 6
    # Two passes of the walk's n + 1 points read the activations.
    assert counter.forward_rows == (7 + 1 + 2) * 3
    assert counter.backward_rows == 7 * 3


def test_tokens_through_the_embedding_layer():
    model = TokenClassifier()
    tokens, padding = torch.randint(0, 20, (3, 5)), torch.zeros(3, 5, dtype=torch.long)
    for baselines in (None, 0, padding, padding[:1]):
        found = LayerIDGI(model, model.embedding).attribute(tokens, baselines, target=2, n_steps=6)
        assert found.shape == (3, 5, 4)
        change = (model(tokens) - model(padding))[:, 2].detach()
        torch.testing.assert_close(found.sum((1, 2)), change, rtol=0, atol=1e-10)


@pytest.mark.parametrize("layer", ["conv", "norm"])
def test_layers_followed_by_operations_in_place(layer):
    model, x = InPlace().eval(), pictures()
    model.norm.running_mean.uniform_()
    before = x.clone()
    found = LayerIDGI(model, getattr(model, layer)).attribute(x, target=1, n_steps=20)
    assert torch.equal(x, before)
    with torch.no_grad():
        change = (model(before.clone()) - model(torch.zeros_like(x)))[:, 1]
    torch.testing.assert_close(found.sum((1, 2, 3)), change, rtol=0, atol=1e-10)

    class OutOfPlace(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return model.head(torch.relu(model.norm(model.conv(x * 2.0)) + 0.5).mean((2, 3)))

    expected = LayerIDGI(OutOfPlace(), getattr(model, layer)).attribute(x, target=1, n_steps=20)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_list_of_layers_is_credited_together():
    model = TwoInputs()
    inputs = (torch.randn(3, 4).double(), torch.randn(3, 2, 3).double())
    layers = [model.first, model.second]
    found, delta = LayerIDGI(model, layers).attribute(inputs, target=1, n_steps=8, return_convergence_delta=True)
    assert isinstance(found, list)
    assert [a.shape for a in found] == [(3, 6), (3, 6)]

    def rest(first: Tensor, second: Tensor) -> Tensor:
        return model.head(torch.tanh(first) * torch.sigmoid(second))

    ends = (model.first(inputs[0]).detach(), model.second(inputs[1].flatten(1)).detach())
    zeros = (model.first.bias.detach().expand(3, 6), model.second.bias.detach().expand(3, 6))
    for a, b in zip(found, IDGI(rest).attribute(ends, zeros, target=1, n_steps=8), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
    assert delta.abs().max() < 1e-12


def test_walks_between_captums_activations():
    # For a linear rest of the model IDGI's sum and Captum's agree for any number of steps.
    model, x = TokenClassifier(), torch.randint(0, 20, (3, 5))
    linear = nn.Sequential(model.embedding, nn.Flatten(), model.hidden)
    found = LayerIDGI(linear, model.embedding).attribute(x, target=1, n_steps=3)
    captums = LayerIntegratedGradients(linear, model.embedding).attribute(x, target=1, n_steps=3)
    torch.testing.assert_close(found.sum((1, 2)), captums.sum((1, 2)), rtol=0, atol=1e-6)


def test_path_and_grad_kwargs_are_taken():
    model, x = smooth_cnn(), pictures()
    unused = nn.Linear(2, 2, dtype=torch.float64)

    class WithUnused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model, self.unused = model, unused

        def forward(self, x: Tensor) -> Tensor:
            self.unused(x[:, 0, 0, :2])
            return self.model(x)

    layers = [model[1], unused]
    method = LayerIDGI(WithUnused(), layers, path="guided")
    with pytest.raises(RuntimeError, match=r"does not depend on the layers' tensors \[1\] of 2"):
        method.attribute(x, target=1, n_steps=2)
    found = method.attribute(x, target=1, n_steps=2, grad_kwargs={"allow_unused": True})
    assert (found[1] == 0).all()
    assert (found[0] != 0).any()


@pytest.mark.parametrize("layer", [[], "0", [nn.ReLU(), None]])
def test_layers_are_modules(layer):
    with pytest.raises(InvalidArgumentError, match=r"layer=.*give a module of the model"):
        LayerIDGI(smooth_cnn(), layer)


def test_layers_that_feed_one_another_or_are_given_twice_are_told_so():
    model, x = smooth_cnn(), pictures()
    for layers in ([model[0], model[1]], [model[1], model[1]]):
        with pytest.raises(RuntimeError, match=r"tensors \[0\] of 2: give layers none of which feeds another"):
            LayerIDGI(model, layers).attribute(x, target=1, n_steps=2)


class PaddedEncoder(nn.Module):
    """A text classifier whose padding is masked, as PyTorch's own layers take it."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 8)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2)
        self.head = nn.Linear(8, 3)

    def forward(self, tokens: Tensor, padding: Tensor) -> Tensor:
        states = self.encoder(self.embedding(tokens), src_key_padding_mask=padding)
        return self.head(states.masked_fill(padding[..., None], 0).sum(1))


@pytest.mark.parametrize("frozen", [False, True], ids=["", "frozen"])
@pytest.mark.parametrize(
    "name", ["embedding", "encoder.layers.0", "encoder.layers.1.self_attn", "encoder.layers.1.linear1"]
)
def test_layers_of_an_encoder_with_padding_are_explained_as_without_the_fast_path(name, frozen):
    model = PaddedEncoder().double().eval().requires_grad_(not frozen)
    tokens, padding = torch.randint(0, 20, (3, 6)), torch.arange(6) >= torch.tensor([[6], [4], [2]])
    explain = LayerIDGI(model, model.get_submodule(name)).attribute
    arguments = {"baselines": 0, "target": 1, "additional_forward_args": padding, "return_convergence_delta": True}
    found, delta = explain(tokens, **arguments)
    assert torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        expected, _ = explain(tokens, **arguments)
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
    torch.testing.assert_close(found, expected)
    assert delta.abs().max() < 1e-9


def test_automatic_steps_of_a_layer_end_at_the_tolerance():
    layer, x = torch.nn.Identity(), torch.tensor([[1.0]], dtype=torch.float64)
    method, taken = LayerIDGI(lambda x: torch.sigmoid(20 * layer(x) - 10).sum(1), layer), []
    for tolerance in (0.3, 0.02):
        _, report = method.attribute(x, n_steps="auto", tolerance=tolerance, return_steps_report=True)
        assert report.remaining.item() <= tolerance
        taken.append(report.evaluations.item())
    assert taken[0] < 10 < 40 < taken[1]
