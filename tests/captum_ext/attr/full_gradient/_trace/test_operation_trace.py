"""Every operation of a forward pass is seen once, with the adjoint that is its own."""

from __future__ import annotations

import types

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from captum_ext import FullGrad
from tests.captum_ext.exactness import assert_exact, per_example
from tests.captum_ext.randomised_models import randomise

ROWS = torch.randn(2, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
SQUARES = torch.randn(2, 4, 4, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
SEQUENCES = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


# ---- operations with several outputs, of which one may feed another ----


class Cumulative(torch.autograd.Function):
    """Two outputs of one node, each of its own."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin(), x**3

    @staticmethod
    def backward(ctx, first, second):
        (x,) = ctx.saved_tensors
        return first * x.cos() + second * 3 * x**2


def script_of_two(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    c = torch.sigmoid(x) + 1
    return torch.tanh(c) * x, c


def script_of_three(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    a = torch.exp(x)
    b = torch.sin(a)
    return torch.cos(b) + a, b * 2, a


def cell(kind, used):
    module = randomise(kind(5, 4))
    return lambda x: sum(per_example((k + 1) * module(x)[k].exp()) for k in used)


def layer(kind, used, **options):
    module = randomise(kind(5, 4, batch_first=True, **options))

    def forward(x):
        sequence, state = module(x)
        states = state if isinstance(state, tuple) else (state,)
        found = [sequence, *(part.transpose(0, 1) for part in states)]
        return sum(per_example((k + 1) * found[k].exp()) for k in used)

    return forward


def symmetric(x):
    return x @ x.mT + torch.diag(torch.arange(4.0, dtype=x.dtype))


SEVERAL_OUTPUTS = {
    "lstm cell, hidden": (cell(nn.LSTMCell, [0]), ROWS),
    "lstm cell, memory": (cell(nn.LSTMCell, [1]), ROWS),
    "lstm cell, both": (cell(nn.LSTMCell, [1, 0]), ROWS),
    "gru": (layer(nn.GRU, [0, 1]), SEQUENCES),
    "lstm, all": (layer(nn.LSTM, [0, 1, 2], num_layers=2, bidirectional=True), SEQUENCES),
    "lstm, states": (layer(nn.LSTM, [2, 1]), SEQUENCES),
    "max": (lambda x: per_example(x.max(2).values.exp()), SQUARES),
    "topk": (lambda x: per_example(x.topk(2, dim=2).values.exp()), SQUARES),
    "sort": (lambda x: per_example(x.sort(2).values.exp() * x), SQUARES),
    "split": (lambda x: sum(per_example(k * part.exp()) for k, part in enumerate(x.split([1, 3], 2), 1)), SQUARES),
    "aminmax": (lambda x: sum(per_example(k * part.exp()) for k, part in enumerate(x.aminmax(dim=2), 1)), SQUARES),
    "frexp": (lambda x: per_example(torch.frexp(x).mantissa.exp()), SQUARES),
    "var_mean": (lambda x: sum(per_example(k * part.exp()) for k, part in enumerate(torch.var_mean(x, 2), 1)), SQUARES),
    "eigh": (lambda x: sum(per_example(k * p**2) for k, p in enumerate(torch.linalg.eigh(symmetric(x)), 1)), SQUARES),
    "svd": (lambda x: sum(per_example(k * p**2) for k, p in enumerate(torch.linalg.svd(x), 1)), SQUARES),
    "slogdet": (lambda x: torch.linalg.slogdet(symmetric(x))[1], SQUARES),
    "qr": (lambda x: sum(per_example(k * p**2) for k, p in enumerate(torch.linalg.qr(x), 1)), SQUARES),
    "custom function": (lambda x: sum(per_example(k * p.exp()) for k, p in enumerate(Cumulative.apply(x), 1)), ROWS),
    "vmap": (lambda x: sum(per_example(k * p) for k, p in enumerate(torch.vmap(script_of_two)(x), 1)), ROWS),
    "vmap, last first": (lambda x: sum(per_example(p.exp()) for p in reversed(torch.vmap(script_of_three)(x))), ROWS),
}


@pytest.mark.filterwarnings("error:the full gradients")
@pytest.mark.parametrize("name", SEVERAL_OUTPUTS)
def test_operations_with_several_outputs_are_exact_whichever_of_them_is_used(name):
    function, inputs = SEVERAL_OUTPUTS[name]
    leaf = inputs.clone().requires_grad_()
    try:
        torch.autograd.grad(function(leaf).sum(), leaf)
    except RuntimeError as error:
        pytest.skip(f"this PyTorch cannot differentiate the model itself: {error}")
    assert_exact(function, inputs)


@pytest.mark.filterwarnings("ignore:.*torch.jit")
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)], ids=str)
@pytest.mark.parametrize("function", [script_of_two, script_of_three])
def test_scripted_functions_that_return_what_they_go_on_with(function, order):
    # A copy: each function is scripted once, and its first calls differ from those after them.
    scripted = torch.jit.script(types.FunctionType(function.__code__, function.__globals__, function.__name__))

    def forward(x):
        found = scripted(x)
        return sum(per_example((k + 1) * found[k].exp()) for k in order if k < len(found))

    for _ in range(3):  # a script becomes one node of the graph after the first calls
        assert_exact(forward, ROWS)


# ---- models that differentiate themselves ----

POTENTIAL = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1)).double()


def energy_and_forces(x):
    energy = POTENTIAL(x)
    (forces,) = torch.autograd.grad(energy.sum(), x, create_graph=True)
    return (forces**2).sum(1) + energy[:, 0]


def forces_alone(x):
    x = x * 1.5
    with torch.enable_grad():
        return torch.autograd.grad(POTENTIAL(x).sum(), x, create_graph=True)[0].sin().sum(1)


def residual_of_an_equation(x):
    u = POTENTIAL(x)
    (slope,) = torch.autograd.grad(u.sum(), x, create_graph=True)
    (curvature,) = torch.autograd.grad(slope[:, 0].sum(), x, create_graph=True)
    return curvature[:, 0] + slope[:, 1] * u[:, 0]


def gradient_as_a_constant(x):
    copy = x.detach().requires_grad_()
    POTENTIAL(copy).sum().backward()
    return (copy.grad * x).sum(1)


def jacobian_row_by_row(x):
    def potential(row):
        return POTENTIAL(row[None])[0, 0]

    jacobian = torch.autograd.functional.jacobian
    return torch.stack([jacobian(potential, row, create_graph=True).square().sum() for row in x])


@pytest.mark.parametrize(
    "forward",
    [energy_and_forces, forces_alone, residual_of_an_equation, gradient_as_a_constant, jacobian_row_by_row],
    ids=lambda function: function.__name__,
)
def test_gradients_inside_of_the_model_are_operations_like_others(forward):
    assert_exact(forward, ROWS)
    for projection in ("auto", "backflow"):
        attributions, delta = FullGrad(forward).attribute(ROWS, projection=projection, return_convergence_delta=True)
        assert attributions.shape == ROWS.shape
        assert delta.abs().max() < 1e-12


# Of a tensor that depends on the input, these take its shape or its type, and its values for a constant at most.
SHAPE_ONLY = {
    "expand_as": lambda w, x: w[:1].expand_as(x),
    "view_as": lambda w, x: w.reshape(-1).view_as(x),
    "reshape_as": lambda w, x: w.T.reshape_as(x),
    "type_as": lambda w, x: w.float().type_as(x),
    "to": lambda w, x: w.float().to(x),
    "broadcast_tensors": lambda w, x: torch.broadcast_tensors(w[:1], x)[0],
    "where": lambda w, x: torch.where(x > 0, w, -w),
    "masked_fill": lambda w, x: w.masked_fill(x > 0, 1.0),
    "masked_fill_": lambda w, x: w.clone().masked_fill_(x > 0, 1.0),
    "gather": lambda w, x: w.gather(1, x.argsort(1)),
    "interpolate": lambda w, x: F.interpolate(w[None, :, :3], size=x.shape[1:])[0],
    "expand": lambda w, x: w[:1].expand(x.size(0), -1),
    "new_zeros": lambda w, x: x.new_zeros(x.shape) + w,
    "sign": lambda w, x: x.sign() * w,
}


@pytest.mark.parametrize("function", SHAPE_ONLY.values(), ids=SHAPE_ONLY)
def test_constants_that_take_the_shape_of_an_activation_are_constants(function):
    layer = torch.nn.Linear(5, 5, dtype=torch.float64)
    weight = torch.nn.Parameter(torch.randn(2, 5, dtype=torch.float64))
    x = torch.randn(2, 5, dtype=torch.float64)
    assert_exact(lambda x: ((y := layer(x)).tanh() * 2 + function(weight, y)).square().sum(1), x)


class DoublesInPlace(torch.autograd.Function):
    """Overwrites its argument, which no function mode sees."""

    @staticmethod
    def forward(context, x):
        x.mul_(2)
        context.mark_dirty(x)
        return x

    @staticmethod
    def backward(context, gradient):
        return 2 * gradient


def test_an_activation_that_is_overwritten_without_being_seen_is_told():
    def forward(x):
        y = x * 1.5
        squares = y.reciprocal()  # keeps its output, and its bias needs the argument
        return (squares + DoublesInPlace.apply(y)).sum(1)

    with pytest.raises(RuntimeError, match=r"overwritten by an operation that cannot be seen.*Make it out of place"):
        FullGrad(forward).attribute(torch.rand(2, 3, dtype=torch.float64) + 1)


class HidesOperations(torch.Tensor):
    """A tensor subclass that keeps what is done with it to itself, as those do that hold several tensors in one."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        with torch._C.DisableTorchFunction():
            return function(*args, **(kwargs or {}))


def test_of_an_activation_that_is_overwritten_as_a_tensor_subclass_these_are_named():
    def forward(x):
        y = x * 1.5
        activated = torch.nn.functional.gelu(y)
        y.detach().as_subclass(HidesOperations).mul_(2)
        return activated.sum(1)

    with pytest.raises(RuntimeError, match=r"overwritten.*a tensor subclass\) before.*Make it out of place"):
        FullGrad(forward).attribute(torch.rand(2, 3, dtype=torch.float64) + 1)


def test_tensors_inside_of_function_transforms_are_not_looked_at():
    weight = torch.nn.Parameter(torch.randn(3, dtype=torch.float64))
    layer = torch.nn.Linear(3, 3, dtype=torch.float64)

    def forward(x):
        slopes = torch.func.vmap(torch.func.grad(lambda row: (layer(row).tanh() * weight).square().sum()))(layer(x))
        hessians = torch.func.vmap(torch.func.hessian(lambda row: row.sin().prod()))(layer(x))
        return (slopes * 2).sum(1) + hessians.sum((1, 2))

    assert_exact(forward, torch.randn(2, 3, dtype=torch.float64))


@pytest.mark.parametrize(
    "transform",
    [
        # Wrapped tensors and plain activations meet inside: what comes out is wrapped too, and depends on the input.
        lambda h: torch.func.grad(lambda a: (a * h).tanh().sum())(h),
        lambda h: torch.func.vmap(lambda row: (row * h).tanh().sum(0))(h.detach().clone()),
        lambda h: torch.func.jvp(lambda a: (a * h).tanh(), (h,), (h,))[1],
        lambda h: torch.func.vjp(lambda a: (a.sin() * h).cumsum(1), h)[1](h)[0],
    ],
    ids=["grad", "vmap", "jvp", "vjp"],
)
def test_function_transforms_that_close_over_an_activation_are_explained(transform):
    layer = torch.nn.Linear(3, 3, dtype=torch.float64)
    assert_exact(lambda x: (transform(layer(x)) * 2).sum(1), torch.randn(1, 3, dtype=torch.float64))
