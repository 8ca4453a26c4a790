"""The user's model and the global generators come back as they were."""

from __future__ import annotations

import functools
import threading
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from captum_ext import IDGI, BlurIG, FullGrad, GuidedIG, LayerIDGI
from captum_ext.attr._common import model_state
from captum_ext.attr._common.model_state import is_training, preserve_state
from tests.captum_ext.small_models import CLASSES, pictures


class Training(nn.Module):
    """A model in training mode that draws random numbers and updates three kinds of buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.utils.parametrizations.spectral_norm(nn.Conv2d(3, 6, 3))
        self.norm = nn.BatchNorm2d(6)
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(6, CLASSES)
        self.calls: Tensor
        self.register_buffer("calls", torch.zeros(()))
        self.fails_after = 10**9

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.calls > self.fails_after:
            raise ArithmeticError("broken in the middle")
        return self.head(self.dropout(torch.tanh(self.norm(self.conv(x)))).mean((2, 3)))


def snapshot(model: nn.Module) -> dict[str, Any]:
    state: dict[str, Any] = {name: value.clone() for name, value in model.state_dict().items()}
    for name, module in model.named_modules():
        hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
        state[f"{name}: flags"] = (module.training, tuple(len(h) for h in hooks))
    for name, parameter in model.named_parameters():
        state[f"{name}: gradient"] = (parameter.requires_grad, parameter.grad, parameter.dtype, parameter.device)
    state["generator"] = torch.get_rng_state()
    return state


def assert_same(before: dict[str, Any], after: dict[str, Any]) -> None:
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


class Averaging(nn.Module):
    """A model in training mode that puts a new tensor in the place of its buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.average: Tensor
        self.first: Tensor | None
        self.register_buffer("average", torch.zeros(3))
        self.register_buffer("first", None)
        self.head = nn.Linear(3, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        means = x.mean((0, 2, 3)).detach()
        self.first = means if self.first is None else self.first
        self.average = 0.9 * self.average + 0.1 * means
        return self.head(x.mean((2, 3)) - self.average.to(x))


class Holder:
    """Something other than a module that holds one."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.through_self = lambda x: self.model(x)

    def __call__(self, x: Tensor) -> Tensor:
        return self.model(x)

    def logits(self, x: Tensor) -> Tensor:
        return self.model(x)


GLOBAL: dict[str, nn.Module] = {}


def through_another_function(model: nn.Module):
    def logits(x: Tensor) -> Tensor:
        return model(x)

    return lambda x: logits(x).softmax(1)


def in_a_comprehension(model: nn.Module):
    GLOBAL["model"] = model
    return lambda x: torch.stack([GLOBAL["model"](x) for _ in range(2)]).mean(0)


WAYS = {
    "another function": through_another_function,
    "attribute of self": lambda model: Holder(model).through_self,
    "callable object": Holder,
    "bound method of another object": lambda model: Holder(model).logits,
    "dictionary": lambda model: lambda x, models={"m": model}: models["m"](x),
    "nested functions": lambda model: lambda x: (lambda y: (lambda z: model(z))(y))(x),
    "comprehension": in_a_comprehension,
    "data parallel": lambda model: through_another_function(nn.DataParallel(model)),
}


@pytest.mark.parametrize("make", [Training, Averaging], ids=lambda make: make.__name__)
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_model_is_untouched_wherever_the_function_has_it_from(way, make):
    model, x = make().train(), pictures(2, torch.float32)
    buffers, before = dict(model.named_buffers()), snapshot(model)
    IDGI(way(model)).attribute(x, target=1, n_steps=4)
    assert_same(before, snapshot(model))
    assert all(buffer is buffers[name] for name, buffer in model.named_buffers())


class Counting(nn.Module):
    """A model that writes to its buffers in evaluation mode, too, in every way there is."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Tensor
        self.cache: Tensor
        self.sums: Tensor
        self.latest: Tensor
        self.listed: Tensor
        self.scattered: Tensor
        self.named: Tensor
        for name in ("calls", "cache", "sums", "latest", "listed", "scattered", "named"):
            self.register_buffer(name, torch.zeros(2, 3))
        self.head = nn.Linear(3, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        means = x.mean((2, 3))
        fixed = means.detach()[:1]
        self.calls += 1
        self.cache[1] = fixed[0]
        torch.add(self.sums, 1.0, out=self.sums)
        self.latest = fixed.expand(2, 3).clone()
        torch._foreach_add_([self.listed], 1.0)
        self.scattered.view(-1)[2:4].uniform_()
        torch.exp_(input=self.named)
        doubled = torch.func.vmap(lambda row: row.clone().mul_(2))(means)  # what has no storage is left alone
        return self.head(doubled.tanh())


@pytest.mark.parametrize("way", [lambda model: model, *WAYS.values()], ids=["module", *WAYS])
@pytest.mark.parametrize("method", [IDGI, GuidedIG, FullGrad], ids=lambda method: method.__name__)
def test_buffers_that_are_written_in_evaluation_mode_come_back(way, method):
    model, x = Counting().eval(), pictures(2, torch.float32)
    buffers, before = dict(model.named_buffers()), snapshot(model)
    method(way(model)).attribute(x, target=1)
    assert_same(before, snapshot(model))
    assert all(buffer is buffers[name] for name, buffer in model.named_buffers())


def test_buffers_that_nobody_writes_are_not_copied(monkeypatch):
    copied: list[Tensor] = []
    monkeypatch.setattr(model_state._SavedBuffers, "_save", lambda _, buffer: copied.append(buffer))
    norm, head = nn.BatchNorm2d(3).eval(), nn.Linear(3, CLASSES)
    for method in (IDGI, FullGrad):
        method(lambda x: head(norm(x).relu_().mul(2).mean((2, 3)))).attribute(pictures(2, torch.float32), target=1)
        assert not copied


def test_buffers_in_one_storage_come_back_both():
    class Halves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            both = torch.zeros(2, 3)
            self.first: Tensor
            self.second: Tensor
            self.register_buffer("first", both[0])
            self.register_buffer("second", both[1])

        def forward(self, x: Tensor) -> Tensor:
            self.first += 1
            self.second += 2
            return x.tanh().sum(1)

    model = Halves().eval()
    for method in (IDGI, FullGrad):
        method(model).attribute(torch.rand(2, 3))
        assert not model.first.any()
        assert not model.second.any()


def test_buffers_that_two_modules_share_come_back():
    first, second = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
    second._buffers = first._buffers
    before = {name: value.clone() for name, value in first._buffers.items()}
    head = nn.Linear(3, CLASSES)
    IDGI(lambda x: head(second(first(x)).tanh().mean((2, 3)))).attribute(pictures(2, torch.float32), target=1)
    assert all(torch.equal(value, before[name]) for name, value in first._buffers.items())


def test_contexts_within_one_another_put_back_each_what_it_met():
    model, x = Averaging().train(), pictures(2, torch.float32)
    before = snapshot(model)
    with preserve_state(lambda x: model(x)):
        model(x)
        between = snapshot(model)
        with preserve_state(lambda x: model(x)):
            model(x)
        assert_same(between, snapshot(model))
    assert_same(before, snapshot(model))


def test_models_that_other_threads_train_are_left_alone():
    explained, trained = nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(x: Tensor) -> Tensor:
        thread = threading.Thread(target=trained, args=(x.detach(),))
        thread.start()
        thread.join()
        return explained(x).mean((2, 3))

    with preserve_state(Holder(forward)):
        forward(pictures(2, torch.float32))
    assert (explained.num_batches_tracked, trained.num_batches_tracked) == (0, 1)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("in_place", [False, True], ids=["compiled", "compiled in place"])
@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
def test_compiled_models_come_back_and_keep_their_graph(in_place, training):
    torch._dynamo.reset()
    graphs = []

    def backend(graph, _):
        graphs.append(graph)
        return graph

    model = nn.Sequential(nn.BatchNorm2d(3), nn.Tanh(), nn.Flatten()).train(training)
    compiled = torch.compile(model, backend=backend, fullgraph=True)
    if in_place:
        model.compile(backend=backend, fullgraph=True)
        compiled = model
    before = snapshot(model)
    for _ in range(3):
        # Compiled in place, a module runs no hooks, and is found by its name alone.
        with preserve_state((lambda x: compiled(x)) if in_place else Holder(compiled)):
            compiled(pictures(2, torch.float32))
        assert_same(before, snapshot(model))
    # None where this PyTorch compiles no modules in place; 2.6 compiles what watches them too, function by function.
    if not (in_place and torch.__version__.startswith("2.6.")):
        assert len(graphs) <= 1


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_a_frozen_script_is_in_no_training_mode():
    script = torch.jit.script(nn.Sequential(nn.Linear(2, 2), nn.Dropout()))
    assert is_training(script)
    assert not is_training(torch.jit.freeze(script.eval()))


@pytest.mark.filterwarnings("ignore:`torch.jit")
@pytest.mark.parametrize("wrap", [lambda model: model, Holder], ids=["module", "object"])
@pytest.mark.parametrize("compile_to", [torch.jit.script, lambda model: torch.jit.trace(model, pictures(2))])
def test_scripted_models_come_back(compile_to, wrap):
    x = pictures(2)
    head = nn.Linear(x[0].numel(), CLASSES).double()
    model = compile_to(nn.Sequential(nn.BatchNorm2d(3).double(), nn.Tanh(), nn.Flatten(), head))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    IDGI(wrap(model)).attribute(x, target=1, n_steps=4)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("method", [IDGI, GuidedIG], ids=lambda method: method.__name__)
@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
def test_lazy_layers_are_made_by_their_first_pass_and_then_left_as_they_are(method, training):
    """As Captum's methods do, which run such a model too."""
    model = nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.ReLU(), nn.Flatten(), nn.LazyLinear(5))
    model = model.double().train(training)
    x = pictures(2)
    method(model).attribute(x, target=1, n_steps=2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    # At most the pass that made it has changed the statistics.
    assert before["1.num_batches_tracked"] <= int(training)
    method(model).attribute(x, target=1, n_steps=2)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    if not training:
        _, delta = FullGrad(model).attribute(x, target=1, return_convergence_delta=True)
        assert delta.abs().max() < 1e-9
