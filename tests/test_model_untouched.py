"""The user's model and the global generators come back as they were."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import Tensor, nn

from captum_ext import IDGI, BlurIG, GuidedIG, LayerIDGI
from tests.small_models import CLASSES, pictures


class Training(nn.Module):
    """A model in training mode that draws random numbers and updates three kinds of buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.utils.parametrizations.spectral_norm(nn.Conv2d(3, 6, 3))
        self.norm = nn.BatchNorm2d(6)
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(6, CLASSES)
        self.register_buffer("calls", torch.zeros(()))
        self.fails_after = 10**9

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.calls > self.fails_after:
            raise ArithmeticError("broken in the middle")
        return self.head(self.dropout(torch.tanh(self.norm(self.conv(x)))).mean((2, 3)))


def snapshot(model: nn.Module) -> dict[str, object]:
    state: dict[str, object] = {name: value.clone() for name, value in model.state_dict().items()}
    for name, module in model.named_modules():
        hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
        state[f"{name}: flags"] = (module.training, tuple(len(h) for h in hooks))
    for name, parameter in model.named_parameters():
        state[f"{name}: gradient"] = (parameter.requires_grad, parameter.grad, parameter.dtype, parameter.device)
    state["generator"] = torch.get_rng_state()
    return state


def assert_same(before: dict[str, object], after: dict[str, object]) -> None:
    assert before.keys() == after.keys()
    for name, value in before.items():
        same = torch.equal(value, after[name]) if isinstance(value, Tensor) else value == after[name]
        assert same, name


METHODS = {
    "idgi": IDGI,
    "idgi:guided": lambda f: IDGI(f, "guided"),
    "blur-ig": BlurIG,
    "guided-ig": GuidedIG,
}


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("wrap", ["module", "method", "closure", "partial"])
@pytest.mark.parametrize("fails", [False, True], ids=["returns", "raises"])
def test_model_and_generator_are_untouched(method, wrap, fails):
    model, x = Training().train(), pictures(2, torch.float32)
    model.head.weight.requires_grad_(False)
    model.fails_after = 2 if fails else 10**9
    forward = {
        "module": model,
        "method": model.forward,
        "closure": lambda x: model(x),
        "partial": functools.partial(model),
    }[wrap]
    before = snapshot(model)
    if fails:
        with pytest.raises(ArithmeticError, match="in the middle"):
            method(forward).attribute(x, target=1, n_steps=4, internal_batch_size=2)
    else:
        method(forward).attribute(x, target=1, n_steps=4, internal_batch_size=2)
    assert_same(before, snapshot(model))


@pytest.mark.parametrize("fails", [False, True], ids=["returns", "raises"])
def test_layer_method_leaves_the_model_untouched(fails):
    model, x = Training().train(), pictures(2, torch.float32)
    model.fails_after = 4 if fails else 10**9
    before = snapshot(model)
    explainer = LayerIDGI(model, model.conv)
    if fails:
        with pytest.raises(ArithmeticError, match="in the middle"):
            explainer.attribute(x, target=1, n_steps=4, internal_batch_size=2)
    else:
        explainer.attribute(x, target=1, n_steps=4, internal_batch_size=2)
    assert_same(before, snapshot(model))


def test_second_call_gives_the_same_as_the_first():
    model, x = Training().eval(), pictures(2, torch.float32)
    method = IDGI(model, "guided")
    first = method.attribute(x, target=1, n_steps=4)
    method.attribute(x[:1] * 0.5, target=0, n_steps=2)
    assert torch.equal(method.attribute(x, target=1, n_steps=4), first)
