"""Biases in closed form are what forward mode gives: v less the derivative along the operation's own arguments."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum_ext.attr.full_gradient._trace.bias_rules import RULES, Observation
from captum_ext.attr.full_gradient._trace.implicit_bias import BackwardBias, Call
from tests.captum_ext.attr.full_gradient._trace.closed_forms import GENERATOR, assert_equal, bias_and_reference, normal
from tests.captum_ext.exactness import assert_exact

X = 3 * normal(2, 6, 4)
POSITIVE = X.abs() + 0.1
WEIGHT, SHIFT = normal(4), normal(4)
OF_CHANNELS = normal(6), normal(6)
QUERY, KEY, VALUE = normal(2, 3, 5, 4), normal(2, 3, 7, 4), normal(2, 3, 7, 6)
ROWS, TWICE = torch.arange(3)[:, None], torch.tensor([1, 1])
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
    "softmax": (F.softmax, (X, 1), {}),
    "softmax by name": (torch.softmax, (X,), {"dim": -1}),
    "group of rows": (F.group_norm, (X[:, :, 0], 2, *OF_CHANNELS), {}),
}
ATTENTION = {
    "attention": (F.scaled_dot_product_attention, (QUERY, KEY, VALUE), {}),
    "added mask": (F.scaled_dot_product_attention, (QUERY, KEY, VALUE, normal(5, 7)), {}),
    "mask of places": (F.scaled_dot_product_attention, (QUERY, KEY, VALUE, SOME), {}),
    "causal": (F.scaled_dot_product_attention, (QUERY, KEY, VALUE), {"is_causal": True, "scale": 0.3}),
}


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


@pytest.mark.filterwarnings("ignore:This overload of")
@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.masked_fill(input=x, mask=SOME[:3, :4], value=0.5),
        lambda x: torch.index_put(input=x, indices=(ROWS, TWICE), values=x.exp()[:, :2]),
        lambda x: x.index_put((ROWS, TWICE), values=x.exp()[:, :2]),
        lambda x: x.index_put((ROWS, TWICE), values=x.exp()[:, :2], accumulate=True),
        lambda x: F.pad(x, (0, 1), "constant", 2.0)[:, 1:],
        lambda x: F.pad(input=x, pad=(0, 1), value=2.0)[:, 1:],
        lambda x: torch.where(condition=x > 0.1, input=x, other=SHIFT),
        lambda x: torch.add(input=x, other=SHIFT, alpha=3),
        lambda x: torch.add(x, 3, SHIFT),
        lambda x: torch.sub(x, 3, x.exp()),
    ],
)
def test_arguments_may_be_given_by_name_and_in_the_order_of_old(function):
    assert_exact(lambda x: (function(x) * WEIGHT).sum(1), normal(3, 4))


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
