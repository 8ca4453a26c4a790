"""Every operation that writes into a tensor is decomposed as if it made a new one, on tensors, views and layers."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.captum_ext.exactness import assert_exact

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
    "index_put_ constant": lambda y, x: y.index_put_(TWO, CONSTANT[0, :2]),
    "index_reduce_": lambda y, x: y.index_reduce_(1, ORDER, x, "amax"),
    "index_reduce_ product": lambda y, x: y.index_reduce_(1, ORDER, x, "prod"),
    "ldexp_": lambda y, x: y.ldexp_(torch.tensor(2)),
    "lerp_": lambda y, x: y.lerp_(x, 0.3),
    "lerp_ weight": lambda y, x: y.lerp_(CONSTANT, x),
    "masked_fill_": lambda y, x: y.masked_fill_(MASK, 0.5),
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
