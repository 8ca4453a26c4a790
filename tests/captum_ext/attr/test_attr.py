"""What holds for every method: its signature, other threads, and float32 that stays float32, as some devices need."""

from __future__ import annotations

import inspect
import threading
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import kornia.filters  # noqa: F401  (here: its import makes tensors of its own)
import pytest
import torch
from captum.attr import IntegratedGradients, LayerIntegratedGradients
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.overrides import wrap_torch_function
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from captum_ext import IDGI, BlurIG, FullGrad, GuidedIG, LayerIDGI, PathIG, SimpleFullGrad, SmoothFullGrad
from captum_ext.attr import NotDeterministicError, decompose
from captum_ext.metrics import completeness, deletion, insertion

X = torch.rand(2, 6, generator=torch.Generator().manual_seed(3))


def model(p: float = 0.0) -> nn.Sequential:
    torch.manual_seed(5)
    layers = (nn.Linear(6, 8), nn.GELU(), nn.Dropout(p), nn.Linear(8, 3))
    return nn.Sequential(*layers).train(p > 0)


def in_another_thread(function: Callable[[], Any]) -> Any:
    """Run a function in a thread of its own, to the end."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join()
    return found[0]


class Beside(nn.Module):
    """A model, in each of whose forward passes another thread does something too, after the first layer."""

    def __init__(self, inner: nn.Sequential, other: Callable[[], Any]) -> None:
        super().__init__()
        self.inner = inner
        self.other = other
        self.found: list[Any] = []

    def forward(self, x: Tensor) -> Tensor:
        x = self.inner[0](x)
        self.found.append(in_another_thread(self.other))
        return self.inner[1:](x)


METHODS = {
    "idgi": lambda f: IDGI(f).attribute(X, target=1, n_steps=5, internal_batch_size=2),
    "guided-ig": lambda f: GuidedIG(f).attribute(X, target=1, n_steps=5),
    "layer-idgi": lambda f: LayerIDGI(f, f.inner[0]).attribute(X, target=1, n_steps=5, internal_batch_size=2),
    "full-grad": lambda f: FullGrad(f).attribute(X, target=1),
}


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_another_thread_draws_what_it_would_draw_alone(method, idle_thread):
    beside = Beside(model(), lambda: torch.rand(4))
    torch.manual_seed(11)
    method(beside)
    drawn = torch.cat([*beside.found, torch.rand(4)])
    torch.manual_seed(11)
    assert torch.equal(drawn, torch.rand(len(drawn)))


@pytest.mark.parametrize("method", [METHODS["idgi"], METHODS["layer-idgi"]], ids=["idgi", "layer-idgi"])
def test_another_thread_draws_no_number_twice_while_a_model_draws_too(method, idle_thread):
    beside = Beside(model(p=0.5), lambda: torch.rand(4))
    for _ in range(3):
        method(beside)
    drawn = torch.cat([*beside.found, torch.rand(4)]).tolist()
    assert len(set(drawn)) == len(drawn)


@pytest.mark.parametrize("other_threads", [True, False], ids=["with others", "alone"])
def test_what_only_the_model_drew_is_put_back(other_threads, request):
    if other_threads:
        request.getfixturevalue("idle_thread")
    drawing, before = model(p=0.5), torch.get_rng_state()
    IDGI(drawing).attribute(X, target=1, n_steps=5)
    assert torch.equal(torch.get_rng_state(), before)


def test_full_grad_takes_a_model_in_eval_mode_while_another_thread_draws():
    beside = Beside(model(), lambda: torch.rand(4))
    torch.testing.assert_close(METHODS["full-grad"](beside), FullGrad(beside.inner).attribute(X, target=1))


def test_full_grad_takes_a_model_that_does_not_use_what_it_draws():
    inner = model()
    found = FullGrad(lambda x: (torch.rand(1), inner(x))[1]).attribute(X, target=1)
    torch.testing.assert_close(found, FullGrad(inner).attribute(X, target=1))


def test_full_grad_takes_such_a_model_that_overwrites_its_input_too():
    inner = model()
    found = FullGrad(lambda x: (torch.rand(1), inner(x.mul_(2)))[1]).attribute(X, target=1)
    torch.testing.assert_close(found, FullGrad(lambda x: inner(x * 2)).attribute(X, target=1))


@pytest.mark.parametrize(("dtype", "noise"), [(torch.float64, 1e-7), (torch.float32, 1e-2), (torch.bfloat16, 2.0)])
def test_full_grad_refuses_a_little_noise_too(dtype, noise):
    inner = model().to(dtype)
    with pytest.raises(NotDeterministicError, match="random numbers"):
        FullGrad(lambda x: inner(x) + noise * torch.rand(1, dtype=dtype)).attribute(X.to(dtype), target=1)


def test_full_grad_takes_a_model_while_another_thread_trains_one():
    trained = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout()).train()
    beside = Beside(model(), lambda: trained(torch.ones(4, 3)).sum())
    torch.testing.assert_close(METHODS["full-grad"](beside), FullGrad(beside.inner).attribute(X, target=1))
    assert trained[0].num_batches_tracked == len(beside.found) > 0


def test_full_grad_refuses_hidden_draws_where_other_threads_could_have_drawn(idle_thread):
    script = torch.jit.trace(lambda x: x * torch.rand(8), torch.ones(2, 8), check_trace=False)
    inner = model()
    with pytest.raises(NotDeterministicError, match="random numbers"):
        FullGrad(lambda x: inner[3](script(inner[0](x)))).attribute(X, target=1)


@pytest.mark.parametrize("at_input", [False, True], ids=["output", "input"])
def test_layer_method_does_not_change_plain_calls_in_another_thread(at_input):
    inner = model()
    expected = inner(X)
    beside = Beside(inner, lambda: inner(X))
    with torch.no_grad():
        alone = LayerIDGI(inner, inner[3]).attribute(X, target=1, n_steps=5, attribute_to_layer_input=at_input)
        found = LayerIDGI(beside, inner[3]).attribute(X, target=1, n_steps=5, attribute_to_layer_input=at_input)
    assert torch.equal(found, alone)
    assert beside.found
    assert all(torch.equal(output, expected) for output in beside.found)


def test_layer_methods_of_two_threads_do_not_meet():
    inner, y = model(), X.flip(0) * 2
    layer = LayerIDGI(inner, inner[0])
    explain = {name: partial(layer.attribute, x, target=1, n_steps=20) for name, x in (("x", X), ("y", y))}
    alone = {name: function() for name, function in explain.items()}
    found: dict[str, list[Tensor]] = {"x": [], "y": []}
    threads = [
        threading.Thread(target=lambda name=name: found[name].extend(explain[name]() for _ in range(10)))
        for name in explain
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name, results in found.items():
        assert len(results) == 10
        assert all(torch.equal(result, alone[name]) for result in results)


def test_full_gradients_of_two_threads_do_not_meet():
    # PyTorch has one level of forward mode for all threads, by which this operation's bias is computed.
    weight = torch.arange(12.0).reshape(2, 6).cos()
    others: list[threading.Thread] = []
    found: list[Tensor] = []

    @wrap_torch_function(lambda x: (x,))
    def softplus(x: Tensor) -> Tensor:
        if not others and forward_ad.unpack_dual(x).tangent is not None:
            others.append(threading.Thread(target=explain))
            others[0].start()
            others[0].join(0.5)
        return nn.functional.softplus(x @ weight.T)

    def explain() -> None:
        found.append(FullGrad(lambda x: softplus(x.sin()).sum(1)).attribute(X))

    explain()
    others[0].join()
    assert len(found) == 2
    assert torch.equal(*found)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_padded_places_of_an_encoder_stay_zeros_in_another_thread():
    layer = nn.TransformerEncoderLayer(6, 2, 8, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 1).eval()
    tokens, padding = torch.rand(1, 3, 6), torch.tensor([[False, False, True]])

    def evaluate() -> Tensor:
        with torch.no_grad():
            return encoder(tokens, src_key_padding_mask=padding)

    assert not evaluate()[0, -1].any()
    beside = Beside(model(), evaluate)
    for method in METHODS.values():
        method(beside)
    assert not torch.cat(beside.found)[:, 2:].any()


class SeesBackward(torch.autograd.Function):
    """The identity, in whose backward pass something is looked at."""

    @staticmethod
    def forward(context, x, look):
        context.look = look
        return x.view_as(x)

    @staticmethod
    def backward(context, gradient):
        context.look()
        return gradient, None


def switches() -> tuple[bool, ...]:
    return (
        torch.backends.mha.get_fastpath_enabled(),
        torch.backends.cuda.flash_sdp_enabled(),
        torch.backends.cuda.mem_efficient_sdp_enabled(),
        torch.backends.cuda.math_sdp_enabled(),
    )


def test_switches_of_the_whole_process_are_not_touched():
    attention = nn.MultiheadAttention(6, 2, batch_first=True).eval()
    seen, before, filters = [], switches(), list(warnings.filters)

    def forward(x: Tensor) -> Tensor:
        seen.append(switches())
        x = attention(x, x, x, need_weights=False)[0]
        # Looked at while the biases after it have been computed, and those before it have not.
        x = SeesBackward.apply(x, lambda: seen.append(switches()))
        return nn.functional.scaled_dot_product_attention(x, x, x).sum((1, 2))

    FullGrad(forward).attribute(X[:, None].repeat(1, 3, 1))
    IDGI(forward).attribute(X[:, None].repeat(1, 3, 1), n_steps=2)
    assert len(seen) > 4
    assert set(seen) == {before}
    assert warnings.filters == filters


def test_two_threads_see_through_compiled_functions_and_leave_the_compiler_as_it_was():
    compiled_graphs: list[Any] = []

    def backend(graph: Any, _: Any) -> Any:
        compiled_graphs.append(graph)
        return graph.forward

    compiled = torch.compile(lambda x: nn.functional.gelu(x).sum(1), backend=backend)
    second_is_inside, first_has_left = threading.Event(), threading.Event()
    found: list[Any] = []

    def of_second(x: Tensor) -> Tensor:
        second_is_inside.set()
        assert first_has_left.wait(60)
        return compiled(x)

    second = threading.Thread(target=lambda: found.append(decompose(of_second, X)))

    def of_first(x: Tensor) -> Tensor:
        second.start()
        assert second_is_inside.wait(60)
        return compiled(x)

    first = decompose(of_first, X)
    first_has_left.set()
    second.join()
    assert [[term.name for term in terms.contributions] for terms in (first, *found)] == [["gelu"], ["gelu"]]
    assert not compiled_graphs
    compiled(X)
    assert len(compiled_graphs) == 1


class RefusesDouble(TorchDispatchMode):
    """A device without float64: no operation may take or give a tensor of it."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        output = func(*args, **(kwargs or {}))
        for leaf in tree_leaves((args, kwargs, output)):
            if (
                isinstance(leaf, Tensor) and leaf.dim()
            ):  # without axes it is a number of Python's, which is of no device
                assert leaf.dtype not in (torch.float64, torch.complex128), f"{func} in float64"
        return output


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.GroupNorm(2, 4),
        nn.GELU(),
        nn.Conv2d(4, 6, 2, stride=2),
        nn.Flatten(2),
        nn.TransformerEncoderLayer(16, 2, 8, batch_first=True),
        nn.LayerNorm(16),
        nn.Flatten(),
        nn.Linear(96, 5),
        nn.Softmax(1),
    ).eval()


IMAGES = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(2))
CALLS = {
    "idgi": lambda f: IDGI(f).attribute(IMAGES, target=1, n_steps=3, return_path_residual=True),
    "layer-idgi": lambda f: LayerIDGI(f, f[3]).attribute(IMAGES, target=1, n_steps=3, return_convergence_delta=True),
    "path-ig": lambda f: PathIG(f).attribute(IMAGES, target=1, n_steps=3, return_convergence_delta=True),
    "blur-ig": lambda f: BlurIG(f, 2.0).attribute(IMAGES, target=1, n_steps=3),
    "full-grad": lambda f: FullGrad(f).attribute(IMAGES, target=1, baselines=0.5, return_convergence_delta=True),
    "full-grad, interpolated": lambda f: FullGrad(f).attribute(IMAGES, target=1, projection="interpolate"),
    "full-grad, sent back": lambda f: FullGrad(f).attribute(IMAGES, target=1, projection="backflow"),
    "full-grad, published map": lambda f: FullGrad(f).attribute(IMAGES, target=1, postprocess="paper"),
    "simple full-grad": lambda f: SimpleFullGrad(f).attribute(IMAGES, target=1),
    "smooth full-grad": lambda f: SmoothFullGrad(f).attribute(IMAGES, target=1, n_samples=2),
    "layers": lambda f: FullGrad(f).layer_attributions(IMAGES, target=1),
    "decomposition": lambda f: decompose(f, IMAGES, 1).delta(),
    "completeness": lambda f: completeness(f, IMAGES, IMAGES, target=1),
    "insertion": lambda f: insertion(f, IMAGES, IMAGES, target=1, n_steps=3),
    "deletion": lambda f: deletion(f, IMAGES, IMAGES, target=1, n_steps=3),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_float64_is_not_touched_for_inputs_in_float32(call):
    with RefusesDouble():
        call(network())


def test_the_guided_path_keeps_account_in_float64_where_there_is_one():
    """It is the one place that does, to make no step for nothing, and it asks the device (see `GuidedPath`)."""
    with RefusesDouble(), pytest.raises(AssertionError, match="float64"):
        GuidedIG(network()).attribute(IMAGES, target=1, n_steps=3)


@pytest.mark.parametrize(
    ("method", "captums"),
    [(IDGI, IntegratedGradients), (PathIG, IntegratedGradients), (LayerIDGI, LayerIntegratedGradients)],
)
def test_what_can_be_given_by_position_is_what_captum_takes_there(method, captums):
    """Captum's quadrature, which none of these has, is left out; what Captum does not know is given by name."""
    ours, theirs = ([*inspect.signature(kind.attribute).parameters.values()] for kind in (method, captums))
    newer = {"grad_kwargs"} - set(inspect.signature(LayerIntegratedGradients.attribute).parameters)  # than Captum 0.7
    positional = [one.name for one in ours if one.kind is not one.KEYWORD_ONLY and one.name not in newer]
    assert positional == [one.name for one in theirs if one.name != "method"]


def test_types_are_those_of_what_is_asked_for() -> None:
    """That these lines have the types that they state is seen by mypy, which reads the tests."""
    f = model()
    alone: Tensor = IDGI(f).attribute(X, target=1)
    along: Tensor = BlurIG(lambda x: x.square().sum((1, 2, 3)), max_sigma=2.0).attribute(X.view(2, 1, 2, 3))
    both: tuple[Tensor, ...] = FullGrad(lambda x, y: f(x + y)).attribute((X, X), target=1)
    full, delta = FullGrad(f).attribute(X, target=1, return_convergence_delta=True)
    found, report = IDGI(f).attribute(X, target=1, return_steps_report=True)
    assert (alone.shape, along.ndim, len(both)) == (X.shape, 4, 2)
    assert (full.shape, delta.shape, found.shape, report.evaluations.shape) == (X.shape, (2,), X.shape, (2,))
