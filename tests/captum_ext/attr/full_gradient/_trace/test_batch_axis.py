"""The examples of a batch are told apart by the shapes of activations."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from captum_ext import FullGrad
from captum_ext.attr import decompose
from captum_ext.attr.full_gradient._trace.batch_axis import BatchAxis, UnknownBatchAxisError
from tests.captum_ext.exactness import assert_exact


class Windows(nn.Module):
    """Attention within windows of a sequence, by as many heads as there are examples."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(4, 12, dtype=torch.float64)
        self.out = nn.Linear(4, 1, dtype=torch.float64)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        windows = x.reshape(-1, 3, 4)  # (N * windows, tokens, channels)
        q, k, v = self.qkv(windows).reshape(-1, 3, 3, 2, 2).permute(2, 0, 3, 1, 4)  # (N * windows, heads, tokens, 2)
        attended = (q @ k.mT).softmax(-1) @ v
        return self.out(attended.transpose(1, 2).reshape(x.shape[0], -1, 4)).sum((1, 2))


def test_as_many_heads_as_examples_do_not_pass_for_the_batch():
    model, x = Windows(), torch.randn(2, 12, 4, dtype=torch.float64)
    assert_exact(model, x)
    model.calls = 0
    FullGrad(model).attribute(x)
    assert model.calls == 1


@pytest.mark.parametrize(
    ("n_examples", "shape", "first"),
    [
        (2, (2,), (2,)),
        (2, (4,), (2, 2)),
        (2, (6, 2), (2, 6)),
        (2, (6, 2, 5), (2, 6, 5)),
        (2, (6, 3, 5), (2, 3, 3, 5)),
        (1, (), (1,)),
        (1, (6, 1, 5), (1, 6, 5)),
    ],
)
def test_the_batch_comes_first_wherever_it_was(n_examples, shape, first):
    assert BatchAxis(n_examples).first(torch.zeros(shape)).shape == first


@pytest.mark.parametrize("shape", [(), (5,), (5, 3)])
def test_where_no_axis_can_be_the_batch_it_is_said(shape):
    with pytest.raises(UnknownBatchAxisError):
        BatchAxis(2).first(torch.zeros(shape))


@pytest.mark.parametrize("n_examples", [1, 2, 5])
def test_maps_have_one_shape_whatever_the_batch_is(n_examples):
    layer = nn.Linear(4, 3, dtype=torch.float64)
    x = torch.randn(n_examples, 6, 4, dtype=torch.float64)
    found = decompose(lambda x: layer(x.transpose(0, 1)).sum((0, 2)), x, maps="full")  # sequences before batches
    assert [contribution.values.shape for contribution in found.contributions] == [(n_examples, 6, 3)]
    shapes = [contribution.values.shape for contribution in decompose(Windows(), x, maps="full").contributions]
    assert {shape[:2] for shape in shapes} == {(n_examples, 2), (n_examples, 6)}  # two windows, and all tokens


class Experts(nn.Module):
    """Each token goes to one of two experts, which take the tokens of all examples together; it rounds to float32."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList(nn.Linear(4, 4, dtype=torch.float64) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(0, 1)
        chosen = (tokens[:, 0] > 0).long()
        output = torch.zeros_like(tokens)
        for number, expert in enumerate(self.experts):
            rows = torch.nonzero(chosen == number)[:, 0]
            output = output.index_add(0, rows, expert(tokens[rows]).tanh().float().double())
        return output.view_as(x).sum((1, 2))


def test_tokens_of_all_examples_together_are_given_back_to_their_examples():
    torch.manual_seed(0)
    model = Experts()
    # Three and one tokens to the first expert, so that four rows look like two for each example.
    x = torch.randn(2, 4, 4, dtype=torch.float64)
    x[:, :, 0] = torch.tensor([[1.0, 2.0, 3.0, -1.0], [1.0, -2.0, -3.0, -1.0]])
    attributions, delta = FullGrad(model).attribute(x, return_convergence_delta=True)
    assert delta.abs().max() < 1e-6
    torch.testing.assert_close(attributions[1:], FullGrad(model).attribute(x[1:]))
