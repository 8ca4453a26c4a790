"""Biases in closed form are what forward mode gives: v less the derivative along the operation's own arguments."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum_ext.attr import FullGrad
from captum_ext.attr.full_gradient._trace.bias_rules import RULES, Observation
from captum_ext.attr.full_gradient._trace.implicit_bias import BackwardBias, Call, ElementwiseBias, JacobianBias
from captum_ext.attr.full_gradient._trace.traits import traits_of
from tests.captum_ext.exactness import assert_exact

GENERATOR = torch.Generator().manual_seed(7)


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=GENERATOR, dtype=torch.float64)


X = 3 * normal(2, 6, 4)
POSITIVE = X.abs() + 0.1
WEIGHT, SHIFT = normal(4), normal(4)
OF_CHANNELS = normal(6), normal(6)
QUERY, KEY, VALUE = normal(2, 3, 5, 4), normal(2, 3, 7, 4), normal(2, 3, 7, 6)
SOME = torch.rand(5, 7, generator=GENERATOR) > 0.4

ELEMENTWISE = {
    "gelu": (F.gelu, (X,), {}),
    "gelu by tanh": (F.gelu, (X,), {"approximate": "tanh"}),
    "silu": (F.silu, (X,), {}),
    "silu in place": (torch._C._nn.silu_, (X,), {}),
    "mish": (F.mish, (X,), {}),
    "sigmoid": (torch.sigmoid, (X,), {}),
    "sigmoid in place": (Tensor.sigmoid_, (X,), {}),
    "tanh": (torch.tanh, (X,), {}),
    "exp": (torch.exp, (X,), {}),
    "hardswish": (F.hardswish, (X,), {}),
    "hardswish in place": (F.hardswish, (X,), {"inplace": True}),
    "hardsigmoid": (F.hardsigmoid, (X,), {}),
    "relu6": (F.relu6, (2 * X,), {}),
    "square": (torch.square, (X,), {}),
    "power": (Tensor.__pow__, (POSITIVE, 1.7), {}),
    "first power": (torch.pow, (X, 1), {}),
    "square root": (torch.sqrt, (POSITIVE,), {}),
    "inverse root": (torch.rsqrt, (POSITIVE,), {}),
    "reciprocal": (torch.reciprocal, (X,), {}),
}
NORMALISATIONS = {
    "layer": (F.layer_norm, (X, (4,)), {"weight": WEIGHT, "bias": SHIFT}),
    "layer, large eps": (F.layer_norm, (X, (4,), WEIGHT, SHIFT, 0.7), {}),
    "layer of two axes": (F.layer_norm, (X, (6, 4)), {}),
    "layer without shift": (F.layer_norm, (X, (4,), WEIGHT), {"eps": 0.1}),
    "group": (F.group_norm, (X, 3, *OF_CHANNELS), {}),
    "group, large eps": (F.group_norm, (X[..., None], 2, *OF_CHANNELS, 0.7), {}),
    "group without weights": (F.group_norm, (X, 1), {}),
    "group of rows": (F.group_norm, (X[:, :, 0], 2, *OF_CHANNELS), {}),
}
ATTENTION = {
    "attention": (F.scaled_dot_product_attention, (QUERY, KEY, VALUE), {}),
    "added mask": (F.scaled_dot_product_attention, (QUERY, KEY, VALUE, normal(5, 7)), {}),
    "mask of places": (F.scaled_dot_product_attention, (QUERY, KEY, VALUE, SOME), {}),
    "causal": (F.scaled_dot_product_attention, (QUERY, KEY, VALUE), {"is_causal": True, "scale": 0.3}),
}


def bias_and_reference(function, args, kwargs, dependents) -> tuple[list[Tensor], list[Tensor]]:
    """Return the biases by the rule of an operation, and by forward mode."""
    overwrites = traits_of(function).is_in_place or bool(kwargs.get("inplace"))

    def call() -> Call:
        return Call(function, args, kwargs, dependents, overwrites=overwrites)

    output = None if overwrites else function(*args, **kwargs)
    n_outputs = len(output) if isinstance(output, tuple) else 1
    bias = RULES[function](Observation(args, kwargs, dependents, call, output))
    assert not isinstance(bias, JacobianBias)
    reference = JacobianBias(call())
    if overwrites and isinstance(bias, ElementwiseBias):
        bias.learn_output(function(args[0].clone(), *args[1:], **kwargs))
    found = [torch.zeros(()) if bias is None else bias.value(i) for i in range(n_outputs)]
    return found, [reference.value(i) for i in range(n_outputs)]


def assert_equal(found: list[Tensor], expected: list[Tensor]) -> None:
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double().expand(other.shape), other, rtol=0, atol=1e-12)


@pytest.mark.parametrize("case", [*ELEMENTWISE, *NORMALISATIONS])
def test_closed_forms_are_what_forward_mode_gives(case):
    function, args, kwargs = {**ELEMENTWISE, **NORMALISATIONS}[case]
    assert_equal(*bias_and_reference(function, args, kwargs, [args[0]]))


@pytest.mark.parametrize("depends", [(0, 1, 2), (0,), (1, 2), (2,), (0, 1)])
@pytest.mark.parametrize("case", ATTENTION)
def test_attention_in_closed_form_is_what_forward_mode_gives(case, depends):
    function, args, kwargs = ATTENTION[case]
    assert_equal(*bias_and_reference(function, args, kwargs, [args[i] for i in depends]))


@pytest.mark.parametrize(
    ("index", "may_write_twice"),
    [
        (0, False),
        ((slice(2), None, ..., 1), False),
        (SOME[:, 0], False),
        ([0, 0], True),
        ((slice(None), torch.tensor([1, 1])), True),
    ],
    ids=["integer", "slices", "mask", "list", "tensor"],
)
def test_only_what_may_be_written_twice_is_left_to_the_backward_pass(index, may_write_twice):
    target = normal(5, 6, 4)
    args = (target, index, target[index].exp())
    seen = Observation(args, {}, args[::2], lambda: Call(Tensor.__setitem__, args, {}, args[::2], overwrites=True))
    assert isinstance(RULES[Tensor.__setitem__](seen), BackwardBias) is may_write_twice


def test_attention_to_nothing_is_zero():
    nothing = torch.zeros(2, 2, dtype=torch.bool)
    assert_exact(
        lambda x: (
            F.scaled_dot_product_attention(x, x, x, nothing.logical_or(torch.eye(2) > 2)).sum((1, 2)) + x.sum((1, 2))
        ),
        normal(3, 2, 4),
    )


CELLS = {
    "gru": nn.GRUCell(4, 6),
    "lstm": nn.LSTMCell(4, 6),
    "rnn": nn.RNNCell(4, 6),
    "rnn with relu": nn.RNNCell(4, 6, nonlinearity="relu"),
    "gru without biases": nn.GRUCell(4, 6, bias=False),
}
FUNCTIONS = {nn.GRUCell: torch.gru_cell, nn.LSTMCell: torch.lstm_cell}


@pytest.mark.parametrize("which", ["input and states", "input", "states"])
@pytest.mark.parametrize("name", CELLS)
def test_recurrent_cells_in_closed_form_are_what_forward_mode_gives(name, which):
    cell = CELLS[name].double()
    for parameter in cell.parameters():
        parameter.data = normal(*parameter.shape)
    function = FUNCTIONS.get(type(cell), torch.rnn_relu_cell if name.endswith("relu") else torch.rnn_tanh_cell)
    x, states = normal(3, 4), [normal(3, 6) for _ in range(2 if name == "lstm" else 1)]
    weights = (cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh)
    args = (x, states if name == "lstm" else states[0], *[w if w is None else w.detach() for w in weights])
    dependents = {"input and states": [x, *states], "input": [x], "states": states}[which]
    assert_equal(*bias_and_reference(function, args, {}, dependents))


def test_an_lstm_cell_of_which_only_one_state_depends():
    cell = CELLS["lstm"].double()
    h, c = normal(2, 6), normal(2, 6)
    for state in (lambda x: (x, c), lambda x: (h, x)):
        assert_exact(
            lambda x, state=state: (cell(x[:, :4], state(x))[0] * cell(x[:, 2:], state(x))[1]).sum(1), normal(2, 6)
        )


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


@pytest.mark.parametrize("size", [1, 2**30])
def test_steps_that_wait_for_each_other_are_explained_as_alone(size, monkeypatch):
    monkeypatch.setattr("captum_ext.attr.full_gradient._trace.operation_trace._LARGE", size)
    lstm, gru = nn.LSTMCell(4, 5).double(), nn.GRUCell(5, 5).double()

    def model(x: Tensor) -> Tensor:
        h = c = x.new_zeros(len(x), 5)
        g = x[:, 0].mean(1, keepdim=True).expand(-1, 5)
        for step in range(6):
            h, c = lstm(x[:, step], (h, c))
            g = gru(h, g)
        return (g * h + c).sum(1)

    assert_exact(model, normal(3, 6, 4))


@pytest.mark.parametrize("name", ["expand_as", "view_as", "reshape_as", "type_as"])
def test_an_argument_that_lends_its_shape_has_no_part_in_a_bias(name):
    factor = normal(4)

    def model(x: Tensor) -> Tensor:
        first = x[:, :1] if name == "expand_as" else x.relu()
        return (getattr(first, name)(x.flip(1)) * factor).sum(1)

    assert assert_exact(model, normal(3, 4)).contributions == ()
