"""Which operations have which implicit bias in closed form; every other differentiable operation gets a Jacobian.

The rules are told by the operation's own function object, as a ``TorchFunctionMode`` receives it, and look at which of
the arguments depend on the model's input: a product with a constant is linear, a product of two activations is not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from captum_ext.attr._common.operations import Function, argument, functions_called, tensors_in
from captum_ext.attr.full_gradient._trace.implicit_bias import (
    AffineBias,
    AttentionBias,
    BackwardBias,
    Call,
    ConstantBias,
    ElementwiseBias,
    ImplicitBias,
    JacobianBias,
    NormalisationBias,
    OutputBias,
    ProductBias,
    ScaledOutput,
    Slope,
    finite,
)
from captum_ext.attr.full_gradient._trace.recurrent_bias import CELLS, Cell, CellBias
from captum_ext.attr.full_gradient._trace.recurrent_layers import KINDS, LayersBias


@dataclass(slots=True)  # not frozen, which takes several times as long to make, and one is made for every operation
class Observation:
    """One operation of a forward pass, as a rule sees it.

    Attributes
    ----------
    args, kwargs
        Its arguments.
    dependents
        The tensors among them that depend on the model's input.
    call
        Keeps the arguments for a repetition; called only by rules that need one.
    output
        What it returned; None where it overwrites its argument and has not run yet.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    dependents: Sequence[Tensor]
    call: Callable[[], Call]
    output: Any = None

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        """Return an argument that may be given by position or by name."""
        return argument(self.args, self.kwargs, position, name, default)

    def depend(self, arguments: Sequence[Any]) -> list[bool]:
        """Return which of the arguments depend on the model's input."""
        return [any(given is dependent for dependent in self.dependents) for given in arguments]

    @property
    def only_first_depends(self) -> bool:
        """Whether the first argument is the only one that depends on the model's input."""
        return len(self.dependents) == 1 and self.dependents[0] is self.argument(0, "input")


# A rule gives the bias of an operation, or None where it is zero.
BiasRule = Callable[[Observation], ImplicitBias | None]


def by_jacobian(seen: Observation) -> ImplicitBias | None:
    """BiasRule of every operation that has no closed form."""
    return JacobianBias(seen.call())


def _by_backward(seen: Observation) -> ImplicitBias | None:
    return BackwardBias(seen.call())


def homogeneous(seen: Observation) -> ImplicitBias | None:
    """Degree one in the first argument, as long as the others are constants: no bias."""
    return None if seen.only_first_depends else JacobianBias(seen.call())


def _as_another(seen: Observation) -> ImplicitBias | None:
    """A view or cast of the first argument, to which the second lends a shape or a type, and no value."""
    return None if any(seen.depend([seen.argument(0, "input")])) else JacobianBias(seen.call())


def _reduction(seen: Observation) -> ImplicitBias | None:
    """Max and min: over axes homogeneous, against a second tensor not."""
    if len(tensors_in((seen.args, seen.kwargs))) == 1:
        return None
    return JacobianBias(seen.call())


def _constant_padding(seen: Observation) -> ImplicitBias | None:
    is_zero = not seen.argument(3, "value") or seen.argument(2, "mode", "constant") != "constant"
    return None if is_zero else AffineBias(seen.call())


def _concatenation(seen: Observation) -> ImplicitBias | None:
    """Linear in all tensors together: the constant ones are the bias."""
    is_complete = len(tensors_in((seen.args, seen.kwargs))) == len(seen.dependents)
    return None if is_complete else AffineBias(seen.call())


def _choice(seen: Observation) -> ImplicitBias | None:
    """Values of one or of another, in new places: linear in all together, if those are all dependent."""
    return _unless_all_depend(seen, (*seen.args[1:], *seen.kwargs.values()))


def _replacement(seen: Observation) -> ImplicitBias | None:
    """Values put into places of others: linear in old and new together, if those are all dependent."""
    given = {**dict(zip(("input", "places", "value"), seen.args, strict=False)), **seen.kwargs}
    places = [given.pop(name) for name in ("places", "mask", "indices") if name in given]
    if any(seen.depend((given.get("value"), given.get("values")))) and _may_write_twice(places[0]):
        return BackwardBias(seen.call())
    return _unless_all_depend(seen, [*given.values()])


def _unless_all_depend(seen: Observation, values: Sequence[Any]) -> ImplicitBias | None:
    """The bias of an operation that is linear in some values together: constants other than zero, in their places."""
    depends = seen.depend(values)
    constants = [value for value, is_dependent in zip(values, depends, strict=True) if not is_dependent]
    if all(constant is None or (not isinstance(constant, Tensor) and constant == 0) for constant in constants):
        return None
    return AffineBias(seen.call())


def _may_write_twice(index: Any) -> bool:
    """Whether an index can name a place more than once, as integers in a tensor or a list can."""
    parts = index if isinstance(index, tuple) else (index,)
    return any(
        part.dtype is not torch.bool if isinstance(part, Tensor) else not isinstance(part, _ONCE) for part in parts
    )


_ONCE = (int, slice, type(None), type(...))


def _sum(sign_of_first: int, sign_of_second: int) -> BiasRule:
    """Sum or difference: the term that does not depend on the input is the bias."""

    def rule(seen: Observation) -> ImplicitBias | None:
        if len(seen.args) > 2:  # the factor before the second term, as PyTorch took them long ago
            return JacobianBias(seen.call())
        if len(seen.dependents) == 2:
            return None
        first, second = seen.argument(0, "input"), seen.argument(1, "other")
        first_is_constant = second is seen.dependents[0]
        constant, sign = (first, sign_of_first) if first_is_constant else (second, sign_of_second)
        alpha = seen.kwargs.get("alpha", 1)
        if not isinstance(constant, Tensor):
            constant = seen.dependents[0].new_full((), constant)
        elif not (constant.is_floating_point() or constant.is_complex()):
            # As the sum itself takes it; integers would overflow with a sign or a factor.
            constant = constant.to(seen.dependents[0].dtype)
        # ``alpha`` multiplies the second operand of add and sub, and the first of rsub.
        alpha_is_on_first = sign_of_first < 0
        scale = sign * (alpha if alpha_is_on_first == first_is_constant else 1)
        return ConstantBias(finite(constant.detach() if scale == 1 else constant.detach() * scale))

    return rule


def _product(seen: Observation) -> ImplicitBias | None:
    """Multilinear: of the degree that counts the dependent factors."""
    if len(seen.dependents) == 1:
        return None
    return ScaledOutput(seen.call(), -1.0) if seen.output is None else ProductBias(seen.dependents)


def _contraction(seen: Observation) -> ImplicitBias | None:
    """Multilinear, and of an output that is often smaller than its arguments: the output is kept, not they."""
    degree = len(seen.dependents)
    return None if degree == 1 else OutputBias(seen.output, lambda value: value * (1.0 - degree))


def _softmax(seen: Observation) -> ImplicitBias | None:
    """From the shares y alone: y - J x = y - y (log y - <y, log y>), since a constant added to x changes nothing.

    With log y in place of x, entries that a mask has set to minus infinity need no care: y log y is 0 there.
    """
    dim = seen.argument(1, "dim")
    if dim is None or not seen.only_first_depends:
        return JacobianBias(seen.call())

    def bias(shares: Tensor) -> Tensor:
        weighted = torch.xlogy(shares, shares)
        return shares - weighted + shares * weighted.sum(dim, keepdim=True)

    return OutputBias(seen.output, bias)


def _quotient(seen: Observation) -> ImplicitBias | None:
    if seen.kwargs.get("rounding_mode") is not None:
        return JacobianBias(seen.call())
    if len(seen.dependents) == 2:
        return ScaledOutput(seen.call(), 1.0)
    return None if seen.only_first_depends else ScaledOutput(seen.call(), 2.0)


def _elementwise(slope: Callable[[Observation], Slope]) -> BiasRule:
    """Operations on each element, by the kernel of their own backward pass."""

    def rule(seen: Observation) -> ImplicitBias | None:
        # Of complex numbers the backward pass takes the conjugate of the slope.
        if seen.dependents[0].is_complex():
            return JacobianBias(seen.call())
        return ElementwiseBias(seen.dependents[0], seen.output, slope(seen))

    return rule


_aten = torch.ops.aten


def _gelu_slope(seen: Observation) -> Slope:
    approximate = seen.argument(1, "approximate", "none")
    return lambda t, x, _: _aten.gelu_backward(t, x, approximate=approximate)


_SLOPES: dict[BiasRule, str] = {
    _elementwise(_gelu_slope): "gelu",
    _elementwise(lambda _: lambda t, x, y: _aten.silu_backward(t, x)): "silu silu_",
    _elementwise(lambda _: lambda t, x, y: _aten.mish_backward(t, x)): "mish mish_",
    _elementwise(lambda _: lambda t, x, y: _aten.sigmoid_backward(t, y)): "sigmoid sigmoid_",
    _elementwise(lambda _: lambda t, x, y: _aten.tanh_backward(t, y)): "tanh tanh_",
    _elementwise(lambda _: lambda t, x, y: _aten.hardswish_backward(t, x)): "hardswish hardswish_",
    _elementwise(lambda _: lambda t, x, y: _aten.hardsigmoid_backward(t, x)): "hardsigmoid hardsigmoid_",
    _elementwise(lambda _: lambda t, x, y: _aten.hardtanh_backward(t, x, 0.0, 6.0)): "relu6",
    _elementwise(lambda _: lambda t, x, y: t * y): "exp exp_",
}


def _power(degree: float | None = None) -> BiasRule:
    """Powers, of this degree or of the one that the second argument is: homogeneous."""

    def rule(seen: Observation) -> ImplicitBias | None:
        exponent = seen.argument(1, "exponent") if degree is None else degree
        if not seen.only_first_depends or not isinstance(exponent, int | float):
            return JacobianBias(seen.call())
        return ScaledOutput(seen.call(), 1.0 - exponent) if exponent != 1 else None

    return rule


def _layer_norm(seen: Observation) -> ImplicitBias | None:
    x, shape, weight, shift = seen.dependents[0], *(seen.argument(i, name) for i, name in _LAYER_NORM)
    if not seen.only_first_depends or not _are_alike(x, seen.output, weight):
        return JacobianBias(seen.call())
    eps = seen.argument(4, "eps", 1e-5)

    def normalise(x: Tensor) -> tuple[Tensor, Tensor]:
        scaled, _, inverse_root = torch.native_layer_norm(x, shape, weight, None, eps)
        return scaled, inverse_root

    return NormalisationBias(x, shift, eps, normalise)


_LAYER_NORM = ((1, "normalized_shape"), (2, "weight"), (3, "bias"))


def _group_norm(seen: Observation) -> ImplicitBias | None:
    x, weight, shift = seen.dependents[0], seen.argument(2, "weight"), seen.argument(3, "bias")
    if not seen.only_first_depends or not _are_alike(x, seen.output, weight):
        return JacobianBias(seen.call())
    groups, eps = seen.argument(1, "num_groups"), seen.argument(4, "eps", 1e-5)
    by_channel = (-1, *[1] * (x.dim() - 2))

    def normalise(x: Tensor) -> tuple[Tensor, Tensor]:
        n, channels = x.shape[:2]
        cells = x.numel() // (n * channels)
        scaled, _, inverse_root = torch.native_group_norm(x.contiguous(), weight, None, n, channels, cells, groups, eps)
        return scaled, inverse_root.repeat_interleave(channels // groups, 1).reshape(n, *by_channel)

    return NormalisationBias(x, None if shift is None else shift.reshape(by_channel), eps, normalise)


def _are_alike(*tensors: Tensor | None) -> bool:
    """Whether tensors have one precision, which autocast may change on the way."""
    return len({tensor.dtype for tensor in tensors if tensor is not None}) == 1


def _attention(seen: Observation) -> ImplicitBias | None:
    """Fused attention, with a mask that is a constant."""
    names = ("query", "key", "value", "attn_mask")
    *arguments, mask = (seen.argument(i, name) for i, name in enumerate(names))
    depends = seen.depend(arguments)
    if seen.argument(5, "is_causal", False):
        sizes = (arguments[0].shape[-2], arguments[1].shape[-2])
        mask = torch.ones(sizes, dtype=torch.bool, device=arguments[0].device).tril()
    if (
        seen.kwargs.get("enable_gqa")
        or seen.argument(4, "dropout_p")
        or len(seen.dependents) > sum(depends)
        or not _are_alike(*arguments, seen.output)
    ):
        return JacobianBias(seen.call())
    scale = seen.kwargs.get("scale")
    return AttentionBias(arguments, depends, mask, arguments[0].shape[-1] ** -0.5 if scale is None else scale)


def _recurrent(cell: Cell) -> BiasRule:
    """A step of a recurrent network, whose weights and biases are constants."""

    def rule(seen: Observation) -> ImplicitBias | None:
        x, state = seen.argument(0, "input"), seen.argument(1, "hx")
        states = [state] if isinstance(state, Tensor) else list(state)
        depends = seen.depend((x, *states))
        weights = [seen.argument(2 + i, name) for i, name in enumerate(("w_ih", "w_hh", "b_ih", "b_hh"))]
        outputs = tensors_in(seen.output)
        if len(seen.dependents) > sum(depends) or not _are_alike(x, *states, weights[0], *outputs):
            return JacobianBias(seen.call())
        feeds_first = len(outputs) == 2 and outputs[0].grad_fn is not outputs[1].grad_fn
        return CellBias(cell, x, states, depends, weights, feeds_first=feeds_first)

    return rule


def _recurrent_layers(function: Function) -> BiasRule:
    """A whole recurrent network, whose weights and biases are constants; not of packed sequences or projections."""

    def rule(seen: Observation) -> ImplicitBias | None:
        if len(seen.args) != 9 or not isinstance(seen.args[2], list | tuple):
            return JacobianBias(seen.call())
        x, state, weights, has_biases, n_layers, _, _, bidirectional, batch_first = seen.args
        states = [state] if isinstance(state, Tensor) else list(state)
        depends = seen.depend((x, *states))
        n_directions, n_weights = 1 + bidirectional, 4 if has_biases else 2
        if (
            len(weights) != n_layers * n_directions * n_weights
            or len(seen.dependents) > sum(depends)
            or x.dim() != 3
            or not _are_alike(x, *states, *weights, *tensors_in(seen.output))
        ):
            return JacobianBias(seen.call())
        rows = [list(weights[start : start + n_weights]) for start in range(0, len(weights), n_weights)]
        layers = [rows[start : start + n_directions] for start in range(0, len(rows), n_directions)]
        return LayersBias(function, x, states, depends, layers, seen.output[0], batch_first=batch_first)

    return rule


def _channel_bias(spatial_dims: int) -> BiasRule:
    """Convolution or linear layer whose weight and bias are constants: its bias parameter, shaped for its output."""

    def rule(seen: Observation) -> ImplicitBias | None:
        if not seen.only_first_depends:
            return JacobianBias(seen.call())
        bias = seen.argument(2, "bias")
        return None if bias is None else ConstantBias(bias.detach().reshape(-1, *[1] * spatial_dims))

    return rule


def _batch_norm(seen: Observation) -> ImplicitBias | None:
    """Eval-mode batch normalisation: beta - gamma mu / sqrt(var + eps), which is what it gives for zeros."""
    features, mean, variance = (
        seen.argument(i, name) for i, name in enumerate(("input", "running_mean", "running_var"))
    )
    weight, shift = seen.argument(3, "weight"), seen.argument(4, "bias")
    if not seen.only_first_depends or mean is None or not _are_alike(mean, variance, weight, shift):
        return JacobianBias(seen.call())
    eps = seen.argument(7, "eps", 1e-5)
    with torch.no_grad():
        zeros = mean.new_zeros(1, len(mean))
        bias = torch.batch_norm(zeros, weight, shift, mean, variance, False, 0.0, eps, False)
    return ConstantBias(bias.view(-1, *[1] * (features.dim() - 2)))


_HOMOGENEOUS = """
    relu relu_ leaky_relu leaky_relu_ prelu abs neg negative positive __neg__ __pos__
    max_pool1d max_pool2d max_pool3d max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices
    avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d
    adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d _adaptive_avg_pool2d
    dropout dropout1d dropout2d dropout3d dropout_ alpha_dropout feature_alpha_dropout feature_dropout
    view reshape flatten unflatten ravel transpose t permute swapaxes swapdims movedim moveaxis
    adjoint squeeze unsqueeze expand broadcast_to repeat repeat_interleave tile contiguous clone
    to type float double half bfloat16 cpu cuda
    chunk split split_with_sizes tensor_split unsafe_chunk unsafe_split unbind select narrow __getitem__ index_select
    gather take take_along_dim masked_select sum mean nansum cumsum amax amin sort topk kthvalue median
    diagonal diag diag_embed trace tril triu roll flip fliplr flipud rot90 unfold fold
    pixel_shuffle pixel_unshuffle channel_shuffle native_channel_shuffle interpolate upsample grid_sample affine_grid
    fft ifft rfft irfft fft2 ifft2 rfft2 irfft2 fftn ifftn rfftn irfftn fftshift ifftshift real imag
    view_as_real view_as_complex conj
"""
_NOT_TRANSPOSED = """
    max_unpool1d max_unpool2d max_unpool3d scatter scatter_ index_copy index_copy_ put put_ as_strided_scatter embedding
    cholesky cholesky_ex cholesky_inverse eigh triangular_solve
"""
_PRODUCT = "mul mul_ multiply __mul__ __rmul__ __imul__"
_CONTRACTION = "matmul __matmul__ __rmatmul__ bmm mm mv dot einsum inner"
_PLUS = "add add_ __add__ __radd__ __iadd__"
_MINUS = "sub sub_ subtract __sub__ __isub__"


_LAYER_RULES: dict[BiasRule, str] = {
    _channel_bias(0): "linear",
    _channel_bias(1): "conv1d conv_transpose1d",
    _channel_bias(2): "conv2d conv_transpose2d",
    _channel_bias(3): "conv3d conv_transpose3d",
}


_NAMED: list[tuple[BiasRule, str]] = [
    (homogeneous, _HOMOGENEOUS),
    (_power(), "pow __pow__ float_power"),
    (_power(2), "square"),
    (_power(0.5), "sqrt"),
    (_power(-0.5), "rsqrt"),
    (_power(-1), "reciprocal"),
    (_as_another, "view_as reshape_as expand_as type_as"),
    (_reduction, "max min"),
    (_constant_padding, "pad"),
    (_concatenation, "cat concat concatenate stack hstack vstack dstack"),
    (_choice, "where copy_"),
    (_replacement, "masked_fill masked_fill_ __setitem__ index_put index_put_"),
    (_by_backward, _NOT_TRANSPOSED),
    (_product, _PRODUCT),
    (_contraction, _CONTRACTION),
    (_softmax, "softmax"),
    (_sum(1, 1), _PLUS),
    (_sum(1, -1), _MINUS),
    (_sum(-1, 1), "rsub __rsub__"),
    (_quotient, "div div_ divide true_divide __truediv__ __itruediv__"),
    (_layer_norm, "layer_norm"),
    (_attention, "scaled_dot_product_attention"),
    (_group_norm, "group_norm"),
    *_SLOPES.items(),
    *((_recurrent(cell), function.__name__) for function, cell in CELLS.items()),
    *((_recurrent_layers(function), function.__name__) for function in KINDS),
    *_LAYER_RULES.items(),
]

RULES: dict[Function, BiasRule] = {
    **{function: rule for rule, names in _NAMED for function in functions_called(names)},
    # Only this one: torch.batch_norm takes its arguments in another order.
    torch.nn.functional.batch_norm: _batch_norm,
    **{getattr(torch.Tensor, name).__get__: homogeneous for name in ("T", "mT", "H", "mH", "real", "imag")},
}

# Whichever of their arguments depends on the input, a gradient leads there.
CONNECTED = frozenset(
    [
        *functions_called(f"{_PRODUCT} {_CONTRACTION} {_PLUS} {_MINUS} rsub __rsub__ cat concat concatenate stack"),
        *CELLS,
        *KINDS,
    ]
)

# They ask a tensor about itself, and get no tensor. Models do it at every turn, and it has to cost nothing.
QUERIES: frozenset[Function] = frozenset(
    [
        *functions_called(
            "dim size numel is_floating_point is_complex is_contiguous stride is_signed get_device __len__"
        ),
        *(
            getattr(torch.Tensor, name).__get__
            for name in (
                "shape",
                "ndim",
                "dtype",
                "device",
                "layout",
                "requires_grad",
                "is_leaf",
                "is_cuda",
                "is_sparse",
            )
        ),
    ]
)

# Layers, whose bias in closed form is made of parameters and running statistics that no forward pass overwrites.
LAYERS = frozenset(function for function, rule in RULES.items() if rule in {*_LAYER_RULES, _batch_norm})

# They change what a tensor says of its values, and not the values.
RESHAPED_IN_PLACE = frozenset(
    functions_called(
        "t_ transpose_ swapaxes_ swapdims_ squeeze_ unsqueeze_ as_strided_ detach_ requires_grad_ rename_ share_memory_"
    )
)
