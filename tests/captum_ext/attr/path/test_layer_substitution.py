"""Activations in a layer's place: whatever a layer is called with, and nothing stays behind."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor, nn

from captum_ext import IDGI, LayerIDGI
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


@dataclass
class Halves:
    left: Tensor
    right: list[Tensor]
    count: int = field(default=2, init=False)
    kind: type | None = None


@pytest.mark.parametrize("at_input", [False, True])
def test_activations_in_a_dataclass(at_input):
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.halve, self.join = Halve(), Join()

        def forward(self, x: Tensor) -> Tensor:
            return self.join(self.halve(x))

    class Halve(nn.Module):
        def forward(self, x: Tensor) -> Halves:
            self.returned = Halves(x[:, :2], [x[:, 2:].exp()], Halves)
            return self.returned

    class Join(nn.Module):
        def forward(self, halves: Halves) -> Tensor:
            return halves.left.sum(1) + (halves.right[0] ** halves.count).sum(1)

    model, x = Model(), torch.rand(3, 5, dtype=torch.float64)
    layer = model.join if at_input else model.halve
    options = {"attribute_to_layer_input": at_input, "return_convergence_delta": True}
    found, delta = LayerIDGI(model, layer).attribute(x, n_steps=4, **options)
    assert [a.shape for a in found] == [(3, 2), (3, 3)]
    assert delta.abs().max() < 1e-12
    assert torch.equal(model.halve.returned.left[:3], x[:, :2])  # a model's own object stays as it was
    expected = IDGI(lambda a, b: a.sum(1) + (b**2).sum(1)).attribute(
        (x[:, :2], x[:, 2:].exp()), (torch.zeros(3, 2), torch.ones(3, 3)), n_steps=4
    )
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_the_compiler_does_not_warn_of_what_reads_a_layer(recwarn):
    torch._dynamo.reset()
    model, x = smooth_cnn(), pictures()
    found = LayerIDGI(torch.compile(model, backend="eager"), model[1]).attribute(x, target=1, n_steps=2)
    torch.testing.assert_close(found, LayerIDGI(model, model[1]).attribute(x, target=1, n_steps=2), rtol=0, atol=1e-12)
    assert not [str(warning.message) for warning in recwarn if "Dynamo" in str(warning.message)]


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
