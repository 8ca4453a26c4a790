"""The examples of a batch are told apart by the shapes of activations."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from captum_ext import FullGrad
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
