"""Every operation of a forward pass is seen once, with its own adjoint, also where it writes into a tensor."""

from __future__ import annotations

import types

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import wrap_torch_function

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
        ctx.save_for_backward(x.clone())
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


@wrap_torch_function(lambda x: (x,))
def one_from_the_other(x):
    c = torch.sigmoid(x) + 1
    return torch.tanh(c) * x, c


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
    "one made from the other": (
        lambda x: sum(per_example(k * p.exp()) for k, p in enumerate(one_from_the_other(x))),
        ROWS,
    ),
    "one made from the other, both": (lambda x: sum(per_example(p.exp()) for p in one_from_the_other(x)), ROWS),
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
    """Overwrites its argument."""

    @staticmethod
    def forward(context, x):
        x.mul_(2)
        context.mark_dirty(x)
        return x

    @staticmethod
    def backward(context, gradient):
        return 2 * gradient


def test_an_activation_may_be_overwritten_in_a_custom_autograd_function():
    def forward(x):
        y = x * 1.5
        inverse = y.reciprocal()  # keeps its output, and its bias needs the argument
        return (inverse + DoublesInPlace.apply(y)).sum(1)

    assert_exact(forward, torch.rand(2, 3, dtype=torch.float64) + 1)


def doubled(y: Tensor) -> Tensor:
    return y.mul_(2)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated")
@pytest.mark.parametrize("is_needed", [True, False], ids=["needed", "not needed"])
@pytest.mark.parametrize("hide", [torch.jit.script, wrap_torch_function(lambda y: (y,))], ids=["script", "wrapped"])
def test_an_activation_that_is_overwritten_without_being_seen_is_told(hide, is_needed):
    hidden = hide(doubled)

    def forward(x):
        y = x * 1.5
        before = y.reciprocal() if is_needed else 0
        return (before + hidden(y)).exp().sum(1)

    with pytest.raises(RuntimeError, match=r"overwritten by an operation that cannot be seen.*Make it out of place"):
        FullGrad(forward).attribute(torch.rand(2, 3, dtype=torch.float64) + 1)


def test_what_a_hidden_operation_was_made_from_may_not_be_overwritten_without_being_seen_either():
    overwrite = wrap_torch_function(lambda y: (y,))(doubled)

    def forward(x):
        y = x * 1.5
        first, second = Cumulative.apply(y)
        found = first.exp() + second
        overwrite(y)
        return found.sum(1)

    with pytest.raises(RuntimeError, match="overwritten by an operation that cannot be seen"):
        FullGrad(forward).attribute(torch.rand(2, 3, dtype=torch.float64) + 1)


def written_by_number(buffer, step):
    buffer.add_(step)


def written_elsewhere(buffer, step):
    torch.add(torch.ones(3, dtype=torch.float64), step, out=buffer)


def written_by_attribute(buffer, step):
    buffer.data[:2] = step


def written_in_a_list(buffer, step):
    torch._foreach_add_([buffer], step)


@pytest.mark.parametrize("write", [written_by_number, written_elsewhere, written_by_attribute, written_in_a_list])
@pytest.mark.parametrize(
    "use",
    [
        lambda x, buffer: torch.nn.functional.linear(x, torch.eye(3, dtype=x.dtype), buffer),
        lambda x, buffer: torch.nn.functional.group_norm(x, 1, bias=buffer, eps=0.1),
        lambda x, buffer: torch.cat([x, buffer.expand(len(x), 3)], 1)[:, 1:4],
        lambda x, buffer: torch.nn.functional.hardtanh(x + buffer.sin() * 0.1),
    ],
    ids=["linear", "group_norm", "cat", "add"],
)
def test_constants_may_be_overwritten_after_they_were_used(use, write):
    def forward(x):
        buffer = torch.ones(3, dtype=x.dtype)
        for step in range(1, 4):
            x = use(x, buffer).sin()
            write(buffer, step)
        return x.sum(1)

    assert_exact(forward, torch.rand(2, 3, dtype=torch.float64))


def test_activations_may_be_overwritten_where_no_gradient_is_asked_for():
    def forward(x):
        y = x * 1.5
        inverse = y.reciprocal()  # keeps its output, and its bias needs the argument
        with torch.no_grad():
            y.mul_(2)
        return inverse.sum(1)

    assert_exact(forward, torch.rand(2, 3, dtype=torch.float64) + 1)


def test_lists_of_activations_may_be_overwritten():
    def forward(x):
        parts = [x.sin(), x * 2]
        before = parts[0].exp()
        torch._foreach_add_(parts, 1.5)
        torch._foreach_mul_(parts, [x.cos(), x])
        return (before * parts[0] + parts[1]).sum(1)

    assert_exact(forward, torch.rand(2, 3, dtype=torch.float64))


class HidesOperations(torch.Tensor):
    """A tensor subclass that keeps what is done with it to itself, as those do that hold several tensors in one."""

    def doubled(self):
        with torch._C.DisableTorchFunction():
            return self.mul_(2)


def test_of_an_activation_that_is_overwritten_as_a_tensor_subclass_these_are_named():
    def forward(x):
        y = x * 1.5
        activated = torch.nn.functional.gelu(y)
        y.detach().as_subclass(HidesOperations).doubled()
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


GENERATOR = torch.Generator().manual_seed(6)
# Small and positive, within the domain of every function.
X = torch.rand(1, 4, 4, generator=GENERATOR, dtype=torch.float64) * 0.6 + 0.2
CONSTANT = torch.rand(1, 4, 4, generator=GENERATOR, dtype=torch.float64) * 0.5 + 0.2
MASK = torch.rand(1, 4, 4, generator=GENERATOR) > 0.5
ORDER = torch.tensor([0, 2, 1, 3])
PLACES = torch.rand(1, 4, 4, generator=GENERATOR).argsort(1)
TWO = (torch.tensor([0, 0]), ORDER[:2])
LINEAR = nn.Linear(4, 4).double()
nn.init.uniform_(LINEAR.weight, 0.05, 0.2)
nn.init.constant_(LINEAR.bias, 0.1)
STARTS = {
    "tensor": lambda x: x * 0.9 + 0.02,
    "whole slice": lambda x: (x * 0.9 + 0.02)[:, :, :],
    "part": lambda x: torch.cat([x, x], 1)[:, 1:5],
    "transposed": lambda x: (x * 0.9 + 0.02).transpose(1, 2),
    "layer": LINEAR,
    "rearranged": lambda x: (x * 0.9).unflatten(1, (2, 2)).flatten(1, 2),
}


def listed(names: str) -> list[str]:
    return names.split()


UNARY = listed(
    """
    abs_ absolute_ acos_ arccos_ arcsin_ arcsinh_ arctan_ arctanh_ asin_ asinh_ atan_ atanh_ ceil_
    conj_physical_ cos_ cosh_ deg2rad_ digamma_ erf_ erfc_ erfinv_ exp_ exp2_ expm1_ fix_ floor_ frac_ i0_
    lgamma_ log_ log10_ log1p_ log2_ logit_ nan_to_num_ neg_ negative_ rad2deg_ reciprocal_ relu_ round_ rsqrt_
    sgn_ sigmoid_ sign_ sin_ sinc_ sinh_ sqrt_ square_ tan_ tanh_ tril_ triu_ trunc_ zero_
    """
)
BINARY = listed(
    """
    add_ arctan2_ atan2_ clamp_max_ clamp_min_ copy_ copysign_ div_ divide_ float_power_ floor_divide_ fmod_
    hypot_ mul_ multiply_ pow_ remainder_ sub_ subtract_ true_divide_ xlogy_ __iadd__ __isub__ __imul__
    __itruediv__ __ipow__
    """
)
WITH_NUMBER = listed("add_ sub_ mul_ div_ pow_ fmod_ remainder_ clamp_min_ clamp_max_ fill_ __imod__ __ifloordiv__")
FUNCTIONS = [F.celu_, F.elu_, F.hardtanh_, F.leaky_relu_, F.relu_, F.selu_]
WITH_INPLACE = [F.silu, F.mish, F.hardswish, F.hardsigmoid, F.relu6, F.elu, F.hardtanh, F.leaky_relu]


def on_part(method: str, *arguments):
    """Write into the first matrix of a batch alone."""

    def write(y: Tensor, x: Tensor) -> Tensor:
        getattr(y[0], method)(*(argument(x) for argument in arguments))
        return y

    return write


def assigned(place, value):
    def write(y: Tensor, x: Tensor) -> Tensor:
        y[place] = value(x) if callable(value) else value
        return y

    return write


WRITES = {
    **{name: lambda y, x, name=name: getattr(y, name)() for name in UNARY},
    **{f"{name} constant": lambda y, x, name=name: getattr(y, name)(CONSTANT) for name in BINARY},
    **{f"{name} dependent": lambda y, x, name=name: getattr(y, name)(x * 0.5 + 0.1) for name in BINARY},
    **{f"{name} number": lambda y, x, name=name: getattr(y, name)(0.37) for name in WITH_NUMBER},
    **{f"F.{function.__name__}": lambda y, x, function=function: function(y) for function in FUNCTIONS},
    **{f"F.{f.__name__}(inplace)": lambda y, x, f=f: f(y, inplace=True) for f in WITH_INPLACE},
    **{f"F.{f.__name__}(by position)": lambda y, x, f=f: f(y, True) for f in (F.silu, F.mish, F.relu6)},
    "F.dropout(inplace)": lambda y, x: F.dropout(y, 0.5, False, inplace=True),
    "F.threshold_": lambda y, x: torch.threshold_(y, 0.5, 0.1),
    "acosh_": lambda y, x: y.add_(1).acosh_(),
    "arccosh_": lambda y, x: y.add_(1).arccosh_(),
    "add_ alpha": lambda y, x: y.add_(x, alpha=3),
    "add_ broadcast": lambda y, x: y.add_(x[:, :1]),
    "add_ self": lambda y, x: y.add_(y),
    "addbmm_": on_part("addbmm_", lambda x: x, lambda x: x),
    "addcdiv_": lambda y, x: y.addcdiv_(x, x + 1, value=2),
    "addcmul_": lambda y, x: y.addcmul_(x, CONSTANT, value=2),
    "addcmul_ dependent": lambda y, x: y.addcmul_(x, x.sin(), value=2),
    "addmm_": on_part("addmm_", lambda x: x[0], lambda x: x[0].cos()),
    "addmv_": lambda y, x: (y[0, 0].addmv_(x[0], x[0, 0]), y)[1],
    "addr_": on_part("addr_", lambda x: x[0, 0], lambda x: x[0, 1]),
    "as_strided_": lambda y, x: y.as_strided_((1, 4, 4), (16, 4, 1)),
    "baddbmm_": lambda y, x: y.baddbmm_(x, x.sin(), beta=2, alpha=3),
    "baddbmm_ constant": lambda y, x: y.baddbmm_(x, CONSTANT),
    "clamp_": lambda y, x: y.clamp_(0.3, 0.6),
    "clamp_ tensors": lambda y, x: y.clamp_(x * 0.5, CONSTANT + 0.3),
    "clip_": lambda y, x: y.clip_(0.3, 0.6),
    "cumprod_": lambda y, x: y.cumprod_(1),
    "cumsum_": lambda y, x: y.cumsum_(1),
    "detach_": lambda y, x: (y * 2).detach_() + x,
    "div_ self": lambda y, x: y.div_(y + 1),
    "fill_ dependent": lambda y, x: y.fill_(x[0, 0, 0]),
    "fill_diagonal_": on_part("fill_diagonal_", lambda x: 0.5),
    "index_add_": lambda y, x: y.index_add_(1, ORDER, x),
    "index_copy_": lambda y, x: y.index_copy_(1, ORDER[:2], x[:, :2]),
    "index_fill_": lambda y, x: y.index_fill_(1, ORDER[:2], 0.5),
    "index_fill_ dependent": lambda y, x: y.index_fill_(1, ORDER[:2], x[0, 0, 0]),
    "index_put_": lambda y, x: y.index_put_(TWO, x[0, :2]),
    "index_put_ added": lambda y, x: y.index_put_(TWO, x[0, :2], accumulate=True),
    "index_put_ by name": lambda y, x: y.index_put_(indices=TWO, values=x[0, :2]),
    "index_put_ twice by name": lambda y, x: y.index_put_((torch.zeros_like(TWO[0]), *TWO[1:]), values=x[0, :2]),
    "index_put_ constant": lambda y, x: y.index_put_(TWO, CONSTANT[0, :2]),
    "index_reduce_": lambda y, x: y.index_reduce_(1, ORDER, x, "amax"),
    "index_reduce_ product": lambda y, x: y.index_reduce_(1, ORDER, x, "prod"),
    "ldexp_": lambda y, x: y.ldexp_(torch.tensor(2)),
    "lerp_": lambda y, x: y.lerp_(x, 0.3),
    "lerp_ weight": lambda y, x: y.lerp_(CONSTANT, x),
    "masked_fill_": lambda y, x: y.masked_fill_(MASK, 0.5),
    "masked_fill_ by name": lambda y, x: y.masked_fill_(mask=MASK, value=0.5),
    "masked_fill_ zero": lambda y, x: y.masked_fill_(MASK, 0),
    "masked_fill_ dependent": lambda y, x: y.masked_fill_(MASK, x[0, 0, 0]),
    "masked_scatter_": lambda y, x: y.masked_scatter_(MASK, x),
    "masked_scatter_ constant": lambda y, x: y.masked_scatter_(MASK, CONSTANT),
    "mul_ self": lambda y, x: y.mul_(y),
    "mvlgamma_": lambda y, x: y.add_(2).mvlgamma_(2),
    "polygamma_": lambda y, x: y.polygamma_(1),
    "put_": lambda y, x: y.put_(torch.tensor([0, 5]), x[0, 0, :2]),
    "put_ added": lambda y, x: y.put_(torch.tensor([0, 5]), x[0, 0, :2], accumulate=True),
    "renorm_": lambda y, x: y.renorm_(2, 1, 0.5),
    "requires_grad_": lambda y, x: y.requires_grad_(),
    "scatter_": lambda y, x: y.scatter_(1, PLACES, x),
    "scatter_ number": lambda y, x: y.scatter_(1, PLACES, 0.5),
    "scatter_add_": lambda y, x: y.scatter_add_(1, PLACES, x),
    "scatter_reduce_": lambda y, x: y.scatter_reduce_(1, PLACES, x, "mean"),
    "squeeze_ and unsqueeze_": lambda y, x: y.unsqueeze_(1).squeeze_(1),
    "sub_ alpha": lambda y, x: y.sub_(x, alpha=3),
    "swapaxes_": lambda y, x: y.swapaxes_(1, 2),
    "swapdims_": lambda y, x: y.swapdims_(1, 2),
    "t_": lambda y, x: y[0].t_()[None] * x,
    "transpose_": lambda y, x: y.transpose_(1, 2),
    "y[...] = dependent": assigned((slice(None), 0), lambda x: x[:, 1]),
    "y[...] = number": assigned((slice(None), 0), 1.5),
    "y[...] = 0": assigned((slice(None), 0), 0),
    "y[mask] = dependent": assigned(MASK, lambda x: x[MASK]),
}
# Without a gradient, or with nothing to decompose: comparisons, integers, random numbers, sizes, what runs Python code.
NOT_DECOMPOSED = listed(
    """
    apply_ bernoulli_ bitwise_and_ bitwise_left_shift_ bitwise_not_ bitwise_or_ bitwise_right_shift_
    bitwise_xor_ cauchy_ eq_ exponential_ gcd_ ge_ geometric_ greater_ greater_equal_ gt_ heaviside_ igamma_
    igammac_ lcm_ le_ less_ less_equal_ log_normal_ logical_and_ logical_not_ logical_or_ logical_xor_ lt_ map_
    map2_ ne_ nextafter_ normal_ not_equal_ random_ resize_ resize_as_ resize_as_sparse_ set_ share_memory_
    sparse_resize_ sparse_resize_and_clear_ uniform_ rename_
    """
)


@pytest.mark.filterwarnings("ignore:index_reduce")
@pytest.mark.parametrize("name", WRITES)
def test_writes_are_exact_on_tensors_views_and_outputs_of_layers(name):
    for start in STARTS.values():

        def forward(x, start=start):
            y = start(x)
            used_before = y.exp()
            y = WRITES[name](y, x)
            weighted = (y * torch.arange(1.0, 5.0, dtype=x.dtype)).sin()
            return weighted.flatten(1).sum(1) + used_before.flatten(1).sum(1) + start(x).flatten(1).sum(1)

        probe = X.clone().requires_grad_()
        try:
            torch.autograd.grad(forward(probe).sum(), probe)
        except RuntimeError:
            continue  # PyTorch itself cannot differentiate this one here
        assert_exact(forward, X)


def test_every_method_of_tensor_that_writes_is_among_these():
    methods = {name for name in dir(Tensor) if name.endswith("_") and not name.startswith("_")}
    tried = {word for name in WRITES for word in name.split() if word.endswith("_")}
    assert methods <= tried | set(NOT_DECOMPOSED)
