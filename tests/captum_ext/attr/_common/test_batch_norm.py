"""The guard against PyTorch's wrong gradient of eval-mode batch normalisation on CPU."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import captum_ext.attr._common.forward as target_function
from captum_ext import IDGI, PathIG
from captum_ext.attr._common.batch_norm import batch_norm_guard


class LeVitStem(nn.Module):
    """A convolution and a batch normalisation whose picture becomes a row of tokens, as in LeViT."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.norm(self.conv(x)).flatten(2).transpose(1, 2)
        attention = torch.softmax(tokens @ tokens.transpose(1, 2), 2)
        return self.head((attention @ tokens).mean(1))


@pytest.fixture
def stem() -> nn.Module:
    model = LeVitStem().double().eval()
    model.get_buffer("norm.running_mean").normal_()
    model.get_buffer("norm.running_var").uniform_(0.5, 2.0)
    nn.init.normal_(model.norm.weight)
    return model


def gradient(model: nn.Module, x: Tensor) -> Tensor:
    leaf = x.clone().requires_grad_()
    return torch.autograd.grad(model(leaf)[:, 0].sum(), leaf)[0]


def central_differences(model: nn.Module, x: Tensor, step: float = 1e-6) -> Tensor:
    slopes = torch.zeros_like(x)
    with torch.no_grad():
        for i in range(x.numel()):
            offset = torch.zeros(x.numel(), dtype=x.dtype)
            offset[i] = step
            change = model(x + offset.reshape(x.shape)) - model(x - offset.reshape(x.shape))
            slopes.view(-1)[i] = change[0, 0] / (2 * step)
    return slopes


def test_pytorch_gives_a_wrong_gradient_without_the_guard(stem):
    """When this fails, PyTorch is mended, and the guard can go once the mended release is the lowest supported."""
    x = torch.rand(1, 3, 2, 3, dtype=torch.float64)
    true = central_differences(stem, x)
    assert (gradient(stem, x) - true).abs().max() > true.abs().max()


def test_gradient_is_right_inside_the_guard(stem):
    x = torch.rand(1, 3, 2, 3, dtype=torch.float64)
    with batch_norm_guard(x):
        found = gradient(stem, x)
    torch.testing.assert_close(found, central_differences(stem, x), rtol=1e-6, atol=1e-8)


def test_path_methods_use_the_guard(stem, monkeypatch):
    x = torch.rand(1, 3, 2, 3, dtype=torch.float64)
    alone = PathIG(stem).attribute(x, target=0, n_steps=400, return_convergence_delta=True)
    assert alone[1].abs().max() < 1e-2 * alone[0].abs().max()
    # In a batch of two PyTorch's gradient is right; so the guarded one is, too.
    both = IDGI(stem).attribute(x.expand(2, -1, -1, -1).clone(), target=0, n_steps=1)
    torch.testing.assert_close(IDGI(stem).attribute(x, target=0, n_steps=1)[0], both[0], rtol=0, atol=1e-12)


def test_guard_leaves_no_mode_and_no_hook_behind(stem):
    x = torch.rand(1, 3, 2, 3, dtype=torch.float64)
    with pytest.raises(ArithmeticError), batch_norm_guard(x):
        raise ArithmeticError
    assert torch.overrides._get_current_function_mode() is None


def test_guard_is_used_in_one_place():
    assert target_function.batch_norm_guard is batch_norm_guard


@pytest.mark.parametrize(
    "normalise",
    [
        lambda x, w, b, mean, var: torch.native_batch_norm(x, w, b, mean, var, False, 0.1, 1e-5)[0],
        lambda x, *args: torch.ops.aten._native_batch_norm_legit_no_training(x, *args, 0.1, 1e-5)[0],
        lambda x, w, b, mean, var: torch.batch_norm(x, w, b, mean, var, False, 0.1, 1e-5, False),
    ],
    ids=["native", "no training", "batch_norm"],
)
def test_every_name_of_batch_normalisation_is_guarded(normalise):
    weight, shift, mean, variance = torch.rand(4, 4, dtype=torch.float64) + 0.5
    x = torch.randn(1, 4, 2, 3, dtype=torch.float64, requires_grad=True)
    gradient = torch.randn(1, 6, 4, dtype=torch.float64)
    with batch_norm_guard(x):
        tokens = normalise(x, weight, shift, mean, variance).flatten(2).transpose(1, 2)
        (found,) = torch.autograd.grad(tokens, x, gradient)
    slope = (weight / (variance + 1e-5).sqrt()).reshape(1, 4, 1, 1)
    torch.testing.assert_close(found, slope * gradient.transpose(1, 2).reshape(1, 4, 2, 3))
