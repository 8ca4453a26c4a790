"""Activations in a layer's place: whatever a layer is called with, and nothing stays behind."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from captum_ext import LayerIDGI
from captum_ext.attr import InvalidArgumentError
from tests.captum_ext.small_models import TokenClassifier, pictures, smooth_cnn


def test_layer_with_several_outputs_gives_a_tuple():
    class Split(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x[:, :2], x[:, 2:].exp()

    split = Split()

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.split = split

        def forward(self, x: Tensor) -> Tensor:
            a, b = self.split(x)
            return a.sum(1) + (b**2).sum(1)

    x = torch.rand(3, 5, dtype=torch.float64)
    found = LayerIDGI(Model(), split).attribute(x, n_steps=4)
    assert isinstance(found, tuple)
    assert [a.shape for a in found] == [(3, 2), (3, 3)]


def test_layer_called_with_keywords_and_with_masks():
    class Gate(nn.Module):
        def forward(self, *, hidden: Tensor, mask: Tensor | None = None) -> Tensor:
            return hidden if mask is None else hidden * mask

    gate = Gate()

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate = gate

        def forward(self, x: Tensor) -> Tensor:
            return self.gate(hidden=x.exp(), mask=torch.tensor([1, 0, 1])).sum(1)

    x = torch.rand(2, 3, dtype=torch.float64)
    found = LayerIDGI(Model(), gate).attribute(x, n_steps=4, attribute_to_layer_input=True)
    change = (x.exp() - 1) * torch.tensor([1, 0, 1])
    torch.testing.assert_close(found.sum(1), change.sum(1))
    assert (found[:, 1] == 0).all()


def test_refuses_layers_without_one_activation():
    model, x = smooth_cnn(), pictures()
    shared = nn.Tanh()
    twice = nn.Sequential(shared, nn.Flatten(), shared)
    with pytest.raises(InvalidArgumentError, match="more than once"):
        LayerIDGI(twice, shared).attribute(x, target=1)
    with pytest.raises(InvalidArgumentError, match="not called"):
        LayerIDGI(model, nn.Linear(2, 2)).attribute(x, target=1)
    tokens = TokenClassifier()
    with pytest.raises(InvalidArgumentError, match="no floating point tensor"):
        LayerIDGI(tokens, tokens.embedding).attribute(
            torch.randint(0, 20, (3, 5)), target=1, attribute_to_layer_input=True
        )
    lstm = nn.LSTM(3, 4, dtype=torch.float64)
    with pytest.raises(InvalidArgumentError, match="batch first"):
        LayerIDGI(lambda x: lstm(x.transpose(0, 1))[0].sum((0, 2)), lstm).attribute(
            torch.rand(2, 5, 3, dtype=torch.float64)
        )
    with pytest.raises(InvalidArgumentError, match="blur path"):
        LayerIDGI(model, model[1], path="blur").attribute(x, target=1)


def test_no_hook_stays_behind_also_when_the_forward_raises():
    model, x = smooth_cnn(), pictures()
    calls = []

    def breaks_later(x: Tensor) -> Tensor:
        calls.append(1)
        if len(calls) > 3:
            raise ArithmeticError("broken in the middle")
        return model(x)

    with pytest.raises(ArithmeticError, match="in the middle"):
        LayerIDGI(breaks_later, model[1]).attribute(x, target=1, n_steps=9, internal_batch_size=3)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
