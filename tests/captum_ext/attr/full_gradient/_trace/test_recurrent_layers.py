"""Recurrent networks of whole sequences: their biases in closed form are what forward mode gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from captum_ext.attr import FullGrad
from tests.captum_ext.attr.full_gradient._trace.closed_forms import assert_equal, bias_and_reference, normal
from tests.captum_ext.exactness import assert_exact


def network(kind: type[nn.LSTM] | type[nn.GRU] | type[nn.RNN], **options) -> nn.RNNBase:
    built = kind(4, 5, **options).double()
    for parameter in built.parameters():
        parameter.data = normal(*parameter.shape) / 2
    return built


NETWORKS = {
    "lstm": lambda: network(nn.LSTM),
    "lstm, batch first": lambda: network(nn.LSTM, batch_first=True),
    "lstm of two layers in both directions": lambda: network(nn.LSTM, num_layers=2, bidirectional=True),
    "lstm without biases": lambda: network(nn.LSTM, bias=False),
    "gru": lambda: network(nn.GRU),
    "gru of two layers in both directions": lambda: network(nn.GRU, num_layers=2, bidirectional=True, batch_first=True),
    "gru without biases": lambda: network(nn.GRU, bias=False),
    "rnn in both directions": lambda: network(nn.RNN, bidirectional=True),
    "rnn with relu of three layers": lambda: network(nn.RNN, nonlinearity="relu", num_layers=3),
}


@pytest.mark.parametrize("which", ["input and states", "input", "states"])
@pytest.mark.parametrize("name", NETWORKS)
def test_recurrent_networks_in_closed_form_are_what_forward_mode_gives(name, which):
    built = NETWORKS[name]()
    function = {"LSTM": torch.lstm, "GRU": torch.gru, "RNN_TANH": torch.rnn_tanh, "RNN_RELU": torch.rnn_relu}[
        built.mode
    ]
    n_rows = built.num_layers * (1 + built.bidirectional)
    x = normal(2, 6, 4) if built.batch_first else normal(6, 2, 4)
    states = tuple(normal(n_rows, 2, 5) for _ in range(2 if built.mode == "LSTM" else 1))
    state = states if built.mode == "LSTM" else states[0]
    weights = [weight.detach() for weight in built._flat_weights]
    options = (built.bias, built.num_layers, 0.0, False, built.bidirectional, built.batch_first)
    dependents = {"input and states": [x, *states], "input": [x], "states": [*states]}[which]
    assert_equal(*bias_and_reference(function, (x, state, weights, *options), {}, dependents))


@pytest.mark.parametrize(("name", "value"), [("_SMALL", 0), ("_NUMPY_TYPES", ())])
@pytest.mark.parametrize("network_name", ["lstm", "gru", "rnn with relu of three layers"])
def test_steps_by_pytorch_give_what_steps_by_numpy_give(network_name, name, value, monkeypatch):
    monkeypatch.setattr(f"captum_ext.attr.full_gradient._trace.recurrent_layers.{name}", value)
    test_recurrent_networks_in_closed_form_are_what_forward_mode_gives(network_name, "input and states")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_steps_are_numpys_where_it_knows_the_precision(dtype, monkeypatch):
    calls = []

    def addcmul(term, first, second, out):
        calls.append(out.dtype)
        return np.add(term, first * second, out)

    monkeypatch.setattr("captum_ext.attr.full_gradient._trace.recurrent_layers._addcmul", addcmul)
    built, x = network(nn.LSTM, batch_first=True).to(dtype), normal(2, 6, 4).to(dtype)
    attributions, delta = FullGrad(lambda x: built(x)[0].sum((1, 2))).attribute(x, return_convergence_delta=True)
    assert attributions.dtype is dtype
    assert bool(calls) == (dtype is not torch.bfloat16)
    assert float(delta.abs().max()) < 100 * torch.finfo(dtype).eps


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_numbers_that_underflow_are_zero_as_in_pytorch_whatever_numpy_was_told_to_raise(kind):
    built = network(kind, batch_first=True).float()
    for parameter in built.parameters():
        parameter.data *= 1e-20
    x = normal(2, 6, 4).float()
    with np.errstate(all="raise"):
        attributions, delta = FullGrad(lambda x: built(x)[0].sum((1, 2))).attribute(x, return_convergence_delta=True)
    assert bool(attributions.isfinite().all())
    assert float(delta.abs().max()) < 1e-25  # of outputs near 1e-20


def test_the_gates_of_an_lstm_may_be_shut_completely():
    built = network(nn.LSTM)
    for parameter in built.parameters():
        parameter.data *= 2000
    x, states = normal(6, 2, 4), (normal(1, 2, 5), normal(1, 2, 5))
    weights = [weight.detach() for weight in built._flat_weights]
    sequence = torch.lstm(x, states, weights, True, 1, 0.0, False, False, False)[0]
    assert bool((sequence == 0).any())
    assert bool((sequence.abs() > 0.5).any())
    args = (x, states, weights, True, 1, 0.0, False, False, False)
    found, expected = bias_and_reference(torch.lstm, args, {}, [x, *states])
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)  # arguments of thousands round by as much more


@pytest.mark.parametrize("outputs", [[0], [1], [0, 1]])
@pytest.mark.parametrize("name", NETWORKS)
def test_whatever_is_used_of_a_recurrent_network_is_explained(name, outputs):
    built = NETWORKS[name]()

    def model(x: Tensor) -> Tensor:
        sequence, after = built(x if built.batch_first else x.transpose(0, 1))
        after = torch.stack([*after]).sum(0) if isinstance(after, tuple) else after
        whole = [sequence if built.batch_first else sequence.transpose(0, 1), after.transpose(0, 1)]
        return torch.stack([whole[i].square().flatten(1).sum(1) for i in outputs]).sum(0)

    assert_exact(model, normal(3, 6, 4))


@pytest.mark.parametrize("options", [{"proj_size": 3}, {}])
def test_recurrent_networks_without_a_closed_form_are_explained_too(options):
    built = network(nn.LSTM, batch_first=True, **options)

    def model(x: Tensor) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(x, [6] * len(x), batch_first=True)
        return built(x)[0].sum((1, 2)) + built(packed)[0].data.reshape(6, len(x), -1).sum((0, 2))

    assert_exact(model, normal(3, 6, 4))
