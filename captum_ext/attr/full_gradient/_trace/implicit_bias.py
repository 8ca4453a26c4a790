"""The implicit bias of one operation: its value minus its own linear part.

An operation v = op(v_1, ..., v_m) with the Jacobians J_j has at its input the bias b = v - sum_j J_j v_j. For a
convolution that is the bias parameter, for GELU, softmax or attention it is whatever the linear part leaves over. This
file knows no graph and no output: it answers for one call at a time.
"""

from __future__ import annotations

import cmath
import functools
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import Parameter

from captum_ext.attr._common.operations import Function, tensors_in

_HUGE = 1e38


class ForwardModeMissingError(Exception):
    """The operation has no forward-mode derivative, so that its bias cannot be computed at its output."""


class ImplicitBias(Protocol):
    """A bias that is computed when it is asked for, at the latest when the adjoint arrives."""

    def value(self, output_index: int) -> Tensor:
        """Return the bias of one of the operation's outputs, in a shape that broadcasts to that output."""
        ...

    @property
    def kept(self) -> Kept:
        """What the bias will be computed from."""
        ...


class Kept:
    """Tensors that are held for the backward pass without copying them, unless they are about to be overwritten.

    Parameters
    ----------
    tensors
        Aliases without a graph.
    """

    __slots__ = ("_versions", "tensors")

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self.tensors = list(tensors)
        self._versions = [tensor._version for tensor in self.tensors]

    def own(self) -> None:
        """Copy the tensors, whose storage is about to be overwritten."""
        self.tensors = [tensor.clone() for tensor in self.tensors]
        self._versions = [tensor._version for tensor in self.tensors]

    def check(self) -> None:
        """Raise RuntimeError if a tensor was overwritten without being seen."""
        if [tensor._version for tensor in self.tensors] != self._versions:
            raise RuntimeError(
                "An activation was overwritten by an operation that cannot be seen (inside TorchScript, a custom "
                "autograd function or a tensor subclass) before its bias was computed. Make it out of place."
            )


"""In a constant: a union of types is made anew wherever it is asked for, which counts where every operation passes."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Stands for the tensor with this number."""

    number: int


def _map(tree: Any, leaf: Callable[[Any], Any]) -> Any:
    if isinstance(tree, tuple | list) and not isinstance(tree, torch.Size):
        branches = [_map(branch, leaf) for branch in tree]
        return tuple(branches) if isinstance(tree, tuple) else branches
    if isinstance(tree, dict):
        return {key: _map(branch, leaf) for key, branch in tree.items()}
    return leaf(tree)


def _to_places(tree: Any, places: dict[int, int]) -> Any:
    return _map(tree, lambda leaf: _Place(places[id(leaf)]) if id(leaf) in places else leaf)


def _fill(tree: Any, tensors: Sequence[Tensor]) -> Any:
    return _map(tree, lambda leaf: tensors[leaf.number] if isinstance(leaf, _Place) else leaf)


def _with_forward_mode(
    function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Function, tuple[Any, ...], dict[str, Any]]:
    """Return a call of the same value that has a forward-mode derivative, which fused attention has not.

    PyTorch's choice of a kernel is one for all threads, so it is not touched.
    """
    if function is torch.nn.functional.scaled_dot_product_attention:
        return _attention, args, kwargs
    if function is torch.nn.functional.multi_head_attention_forward:
        # Asked for its weights, it computes them one by one; they come second, and nobody looks at them.
        if len(args) > _NEED_WEIGHTS:
            args = (*args[:_NEED_WEIGHTS], True, *args[_NEED_WEIGHTS + 1 :])
        else:
            kwargs = {**kwargs, "need_weights": True}
    return function, args, kwargs


_NEED_WEIGHTS = 15


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Compute what `torch.nn.functional.scaled_dot_product_attention` does, by plain operations."""
    if attn_mask is not None and attn_mask.dtype is torch.bool:
        attn_mask = torch.zeros_like(attn_mask, dtype=query.dtype).masked_fill_(~attn_mask, -torch.inf)
    output: Tensor = torch.ops.aten._scaled_dot_product_attention_math(
        query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
    )[0]
    return output


class Call:
    """One call of an operation, which can be repeated at other values of its dependent arguments.

    Parameters
    ----------
    function, args, kwargs
        What was called.
    dependents
        The tensors among the arguments that depend on the model's input; all other arguments are constants.
    overwrites
        Whether the operation writes into its first argument, which is then copied, now and before each repetition.
    """

    def __init__(
        self,
        function: Function,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        dependents: Sequence[Tensor],
        *,
        overwrites: bool = False,
    ) -> None:
        constants = [
            tensor
            for tensor in tensors_in((args, kwargs))
            if not isinstance(tensor, Parameter) and not any(tensor is dependent for dependent in dependents)
        ]
        originals = [*dependents, *constants]
        self.kept = Kept([tensor.detach() for tensor in originals])
        if overwrites:
            self.kept.own()
        places = {id(tensor): place for place, tensor in enumerate(originals)}
        self._number_of_values = len(dependents)
        self._overwrites = overwrites
        function, args, kwargs = _with_forward_mode(function, args, kwargs)
        self._function = function
        device = originals[0].device.type
        self._autocast = (device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device))
        self._args: tuple[Any, ...] = _to_places(args, places)
        self._kwargs: dict[str, Any] = _to_places(kwargs, places)

    @property
    def values(self) -> list[Tensor]:
        """The values of the dependent arguments, without a graph."""
        return self.kept.tensors[: self._number_of_values]

    def at(self, values: Sequence[Tensor]) -> list[Tensor]:
        """Repeat the call with these values of the dependent arguments and return the tensors that come out."""
        self.kept.check()
        tensors = [*values, *self.kept.tensors[self._number_of_values :]]
        args, kwargs = _fill(self._args, tensors), _fill(self._kwargs, tensors)
        if self._overwrites:
            args = (args[0].clone(), *args[1:])
        device, dtype, is_enabled = self._autocast
        autocast = torch.autocast(device, dtype, is_enabled, cache_enabled=False) if is_enabled else nullcontext()
        with autocast:
            output = self._function(*args, **kwargs)
        return [args[0]] if output is None else tensors_in(output)


class ConstantBias:
    """A bias that is known beforehand: a parameter, or a constant that is added."""

    __slots__ = ("kept",)

    def __init__(self, tensor: Tensor) -> None:
        self.kept = Kept([tensor.detach()])

    def value(self, output_index: int) -> Tensor:
        """Return the bias; the same for every output."""
        self.kept.check()
        return self.kept.tensors[0]


class OutputBias:
    """A bias that is a function of the operation's own output, which is kept in place of the arguments.

    Parameters
    ----------
    output
        What the operation returned.
    function
        From the output to the bias.
    """

    __slots__ = ("_function", "kept")

    def __init__(self, output: Tensor, function: Callable[[Tensor], Tensor]) -> None:
        self.kept = Kept([output.detach()])
        self._function = function

    def value(self, output_index: int) -> Tensor:
        """Return the bias of the only output."""
        self.kept.check()
        return self._function(self.kept.tensors[0])


class ProductBias:
    """The bias of the product of two factors that both depend on the input: less the product, since it has degree 2.

    Parameters
    ----------
    factors
        Kept for the backward pass, as autograd keeps them.
    """

    __slots__ = ("kept",)

    def __init__(self, factors: Sequence[Tensor]) -> None:
        self.kept = Kept([factor.detach() for factor in factors])

    def value(self, output_index: int) -> Tensor:
        """Return the bias of the only output."""
        self.kept.check()
        first, second = self.kept.tensors
        return (first * second).neg_()


class _CallBias:
    """A bias that is computed from a repetition of the call."""

    __slots__ = ("call",)

    def __init__(self, call: Call) -> None:
        self.call = call

    @property
    def kept(self) -> Kept:
        """The arguments of the call."""
        return self.call.kept


class ScaledOutput(_CallBias):
    """The bias of an operation that is homogeneous of degree d in its dependent arguments: (1 - d) times its value.

    Euler's theorem: sum_j J_j v_j = d v. A product of two dependent factors has degree 2, a quotient of two degree 0.
    """

    __slots__ = ("_factor",)

    def __init__(self, call: Call, factor: float) -> None:
        super().__init__(call)
        self._factor = factor

    def value(self, output_index: int) -> Tensor:
        """Return the scaled value of the operation, which is computed anew instead of kept."""
        return self.call.at(self.call.values)[output_index] * self._factor


class AffineBias(_CallBias):
    """The bias of an operation that is affine in its dependent arguments: what it gives when they are all zero."""

    __slots__ = ()

    def value(self, output_index: int) -> Tensor:
        """Return the value of the operation at zero; infinite entries, which masks leave behind, as zeros."""
        zeros = [value.new_zeros(()).expand(value.shape) for value in self.call.values]
        return finite(self.call.at(zeros)[output_index])


class JacobianBias(_CallBias):
    """The bias of any differentiable operation, by one forward-mode derivative of that operation alone."""

    __slots__ = ()

    def value(self, output_index: int) -> Tensor:
        """Return v - sum_j J_j v_j.

        Masks put infinities into a forward pass, whose products with their zero adjoints are not numbers. The
        telescoping holds for any stand-in v' of the values, as long as an operation and its consumers use the
        same; infinite entries are replaced by zeros.

        Raises
        ------
        ForwardModeMissingError
            If PyTorch has no forward-mode derivative for the operation.
        """
        bias = self._value(output_index, self.call.values)
        if cmath.isfinite(bias.sum().item()):
            return bias
        return finite(self._value(output_index, [finite(value) for value in self.call.values]))

    def _value(self, output_index: int, tangents: Sequence[Tensor]) -> Tensor:
        try:
            with _forward_mode():
                values = zip(self.call.values, tangents, strict=True)
                duals = [forward_ad.make_dual(value, tangent) for value, tangent in values]
                primal, linear_part = forward_ad.unpack_dual(self.call.at(duals)[output_index])
        except (NotImplementedError, RuntimeError) as error:
            raise ForwardModeMissingError(str(error)) from error
        if linear_part is None:
            # C++ autograd functions drop the tangent without an error.
            raise ForwardModeMissingError("the forward-mode derivative is missing")
        bias: Tensor = primal - linear_part
        return bias

    def pull_back(self, output_index: int, adjoint: Tensor) -> tuple[Tensor, list[Tensor | None]]:
        """Return the operation's value v and J_j^T a for each dependent argument, by reverse mode.

        For operations without forward mode: <a, b> = <a, v> - sum_j <J_j^T a, v_j>.
        """
        with torch.enable_grad():
            leaves = [value.detach().requires_grad_() for value in self.call.values]
            output = self.call.at(leaves)[output_index]
            gradients = torch.autograd.grad(output, leaves, adjoint, allow_unused=True)
        return output.detach(), list(gradients)


class BackwardBias(JacobianBias):
    """The bias of an operation to which PyTorch's backward pass gives another Jacobian than forward mode does.

    Where several values are written to one place, the last one counts, and all get its gradient; of a matrix that
    counts as symmetric, one half is read, and both get a gradient. The output's gradient is the backward pass's, and
    so the decomposition has to be.
    """

    __slots__ = ()

    def value(self, output_index: int) -> Tensor:
        """Raise `ForwardModeMissingError`, so that reverse mode is taken."""
        raise ForwardModeMissingError("the backward pass is not the transpose of forward mode")


Slope = Callable[[Tensor, Tensor, Tensor], Tensor]


class ElementwiseBias:
    """The bias of an operation on each element alone, x -> g(x): g(x) - g'(x) x.

    Parameters
    ----------
    x, output
        What goes in and comes out; kept for the backward pass. Without the output, of an operation that is about to
        overwrite its argument, x is copied, and the output is given to `learn_output`.
    slope
        From a tensor t, the input x and the output to g'(x) t: the kernel of the operation's own backward pass, since
        the Jacobian is diagonal.
    """

    __slots__ = ("_slope", "kept")

    def __init__(self, x: Tensor, output: Tensor | None, slope: Slope) -> None:
        self.kept = Kept([x.detach().clone()] if output is None else [x.detach(), output.detach()])
        self._slope = slope

    def learn_output(self, output: Tensor) -> None:
        """Keep what came out of an operation that has overwritten its argument."""
        self.kept = Kept([self.kept.tensors[0], output.detach()])

    def value(self, output_index: int) -> Tensor:
        """Return the bias of the only output."""
        self.kept.check()
        x, output = self.kept.tensors
        bias = output - self._slope(x, x, output)
        if cmath.isfinite(bias.sum().item()):
            return bias
        return finite(output - self._slope(finite(x), x, output))  # what a mask has left, see `JacobianBias.value`


class NormalisationBias:
    """The bias of y = gamma (x - mean) / sqrt(variance + eps) + beta, where the statistics are those of x itself.

    The mean and the root are homogeneous of degree 1 but for eps, so that J x = (y - beta) eps / (variance + eps).

    Parameters
    ----------
    x
        What is normalised; kept for the backward pass.
    shift
        beta, in a shape that broadcasts to the output; None where there is none.
    eps
        What is added to the variance.
    normalise
        From x to y - beta and to 1 / sqrt(variance + eps), in a shape that broadcasts to the output.
    """

    __slots__ = ("_eps", "_normalise", "kept")

    def __init__(
        self, x: Tensor, shift: Tensor | None, eps: float, normalise: Callable[[Tensor], tuple[Tensor, Tensor]]
    ) -> None:
        self.kept = Kept([x.detach(), *(() if shift is None else (shift.detach(),))])
        self._eps = eps
        self._normalise = normalise

    def value(self, output_index: int) -> Tensor:
        """Return the bias of the only output."""
        self.kept.check()
        with torch.no_grad():
            x, *shift = self.kept.tensors
            scaled, inverse_root = self._normalise(x)
            bias = scaled * (1 - self._eps * inverse_root.square()).to(scaled.dtype)
            return bias + shift[0] if shift else bias


class AttentionBias:
    """The bias of softmax(s q k^T + mask) v, by the product rule: all of it is bilinear but for the softmax.

    With l = s q k^T, shares p = softmax(l + mask) and d, how many of q and k depend on the input, the linear part of l
    is d l, that of p is d p (l - <p, l>), and that of the output is this times v, and the output itself if v depends.

    Parameters
    ----------
    arguments
        Query, key and value; kept for the backward pass.
    depends
        Whether each of them depends on the input.
    mask
        What is added to the products, or which of them count; None for all.
    scale
        s.
    """

    __slots__ = ("_depends", "_scale", "kept")

    def __init__(self, arguments: Sequence[Tensor], depends: Sequence[bool], mask: Tensor | None, scale: float) -> None:
        self.kept = Kept([tensor.detach() for tensor in (*arguments, *(() if mask is None else (mask,)))])
        self._depends, self._scale = depends, scale

    def value(self, output_index: int) -> Tensor:
        """Return the bias of the only output."""
        self.kept.check()
        query, key, value, *mask = self.kept.tensors
        with torch.no_grad():
            products = query @ key.mT * self._scale
            logits = products
            for given in mask:
                logits = products.masked_fill(~given, -torch.inf) if given.dtype is torch.bool else products + given
            shares = logits.softmax(-1)
            if mask:  # where a mask leaves nothing, attention gives zeros
                shares = shares.nan_to_num_(nan=0.0)
            weighted = shares * products
            attended = shares @ value
            bias = (weighted.sum(-1, keepdim=True) * attended - weighted @ value) * sum(self._depends[:2])
            return bias if self._depends[2] else bias + attended


# PyTorch has one level of forward mode for the whole process, and refuses a second. Reentrant, so that an operation
# that explains something itself is refused and does not wait for itself.
_FORWARD_MODE = threading.RLock()


@contextmanager
def _forward_mode() -> Iterator[None]:
    """Context in which this thread, alone among those that explain, may take a forward-mode derivative."""
    with _FORWARD_MODE:
        _load_forward_mode()
        with forward_ad.dual_level():
            yield


@functools.cache
def _load_forward_mode() -> None:
    """Let PyTorch load forward mode, which happens at its first use and warns of PyTorch's own deprecated parts."""
    with warnings.catch_warnings(), forward_ad.dual_level():
        warnings.simplefilter("ignore", FutureWarning)
        forward_ad.make_dual(torch.zeros(()), torch.zeros(()))


def finite(tensor: Tensor) -> Tensor:
    """Return the tensor with zeros in place of infinities and of the huge numbers that stand for them in masks."""
    if tensor.layout is not torch.strided:
        tensor = tensor.to_dense()
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return tensor
    return torch.where(tensor.abs() < _HUGE, tensor, torch.zeros((), dtype=tensor.dtype, device=tensor.device))
