"""LibraGrad: a transformer whose gradients leave out what its non-linear parts would bend them by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from captum_ext.attr._common.forward import in_accumulation_dtype
from captum_ext.attr._common.operations import Function, functions_called, writes_in_place
from captum_ext.attr._written_out import depends, is_gate_of, is_inverse_root, is_root

_SOFTMAX = functions_called("softmax")
_RMS_NORM = (functional.rms_norm, torch.rms_norm)
_RECIPROCAL_ROOT = functions_called("rsqrt rsqrt_")
_PRODUCTS = functions_called("mul multiply mul_ multiply_")
_QUOTIENTS = functions_called("div divide true_divide div_ divide_ true_divide_")
_SLOPE_AT_ZERO: dict[Function, float] = {
    functional.gelu: 0.5,
    functional.silu: 0.5,
    functional.hardswish: 0.5,
    functional.mish: 0.6,
}
"""Activations x g(x), with g(0)."""


class LibraGrad(nn.Module):
    """The same model with balanced gradients, for any method that takes gradients.

    Its output is that of the model. On the way back three parts of a transformer are taken as what they were in this
    forward pass, constants: the attention's weights, the denominator of a layer or RMS normalisation, and the gate g(x)
    of an activation x g(x) such as GELU. What is left is linear in the input at this point, so that input gradient
    and written biases account for the output, without the implicit biases of these parts (see `FullGrad`): in
    particular the last layer normalisation, whose own bias is otherwise nearly all of a transformer's output, says
    again where it came from.

    Everything else keeps its gradient. A softmax counts as attention if it is of three or more dimensions. Parts that
    are written out are known too: what ``torch.rsqrt`` gives, and a square root, a standard deviation or a Euclidean
    norm, also with a small number added, by which something is divided, are the denominator of a normalisation, as that
    of ``torch.nn.functional.normalize`` is; and what multiplies x and was made from x alone, element by element, by
    erf, tanh, a sigmoid or a clamp, is the gate of an activation, as in x * sigmoid(x). In place, as in
    sigmoid(x).mul_(x), they are the same. A softmax written out by exponentials keeps its gradient, products of two
    activations, as in gated perceptrons, are not scaled, and compiled or scripted models are not looked into.

    Parameters
    ----------
    forward_func
        The model, or any function of it. It is neither changed nor copied.

    Notes
    -----
    Source: Mehri, Soleymani Baghshah and Pilehvar, LibraGrad: Balancing Gradient Flow for Universally Better Vision
    Transformer Attributions, CVPR 2025.

    Examples
    --------
    A layer normalisation forgets how large its input is, so its own gradient accounts for nothing of its output:

    >>> import torch
    >>> from captum_ext import FullGrad, LibraGrad
    >>> norm = torch.nn.LayerNorm(4, eps=0.0)
    >>> x = torch.tensor([[1.0, 2.0, 3.0, 10.0]])
    >>> for model in (norm, LibraGrad(norm)):
    ...     found = FullGrad(model).layer_attributions(x, target=3)
    ...     print(round(found["(input)"].total.item(), 3), "of", round(model(x)[0, 3].item(), 3))
    -0.0 of 1.697
    1.697 of 1.697
    """

    def __init__(self, forward_func: Callable[..., Any]) -> None:
        super().__init__()
        self.forward_func = forward_func

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return what ``forward_func`` returns."""
        # What is written out is told by autograd's graph, which there is not while a compiler follows.
        run = torch.compiler.disable(self._run) if torch.compiler.is_compiling() else self._run
        return run(*args, **kwargs)

    def _run(self, *args: Any, **kwargs: Any) -> Any:
        with _BalancedGradients():
            return self.forward_func(*args, **kwargs)


class _BalancedGradients(TorchFunctionMode):
    """Puts operations of the same value and a balanced gradient in the place of those that bend it."""

    def __torch_function__(
        self, func: Function, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in (functional.scaled_dot_product_attention, functional.multi_head_attention_forward):
            return _attention(func, *args, **kwargs)
        if func in _SOFTMAX:
            weights = func(*args, **kwargs)
            return weights.detach() if weights.dim() >= 3 else weights
        if func in (functional.layer_norm, torch.layer_norm):
            return _layer_norm(*args, **kwargs)
        if func in _RMS_NORM:
            return _rms_norm(*args, **kwargs)
        if func is functional.normalize:
            return _normalize(*args, **kwargs)
        if func in _RECIPROCAL_ROOT:
            return _reciprocal_root(func, *args, **kwargs)
        if func in _PRODUCTS or func in _QUOTIENTS:
            return _balanced(func, *args, **kwargs)
        if func in _SLOPE_AT_ZERO:
            return _gated(func, *args, **kwargs)
        return func(*args, **kwargs)


def _attention(func: Function, query: Tensor, key: Tensor, *args: Any, **kwargs: Any) -> Any:
    """Attend with weights that are constants: they depend on queries and keys alone."""
    return func(query.detach(), key.detach(), *args, **kwargs)


def _layer_norm(
    input: Tensor,  # noqa: A002  (as PyTorch calls it)
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Tensor:
    axes = tuple(range(-len(normalized_shape), 0))
    x = in_accumulation_dtype(input)
    centred = x - x.mean(axes, keepdim=True)
    normalised = centred / (centred.square().mean(axes, keepdim=True) + eps).sqrt().detach()
    if weight is not None:
        normalised = normalised * weight
    return (normalised if bias is None else normalised + bias).to(input.dtype)


def _rms_norm(
    input: Tensor,  # noqa: A002
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Tensor:
    axes = tuple(range(-len(normalized_shape), 0))
    x = in_accumulation_dtype(input)
    least = _added_by_default(input.dtype) if eps is None else eps
    normalised = x / (x.square().mean(axes, keepdim=True) + least).sqrt().detach()
    return (normalised if weight is None else normalised * weight).to(input.dtype)


@cache
def _added_by_default(dtype: torch.dtype) -> float:
    """What this PyTorch's ``rms_norm`` adds to the mean square if it is not told.

    Of numbers in half precision 2.6 takes the resolution of their own type, newer ones that of the one computed in.
    """
    tiny = torch.tensor([2.0**-12], dtype=dtype, device="cpu")
    own, computed = torch.finfo(dtype).eps, torch.finfo(in_accumulation_dtype(tiny).dtype).eps
    # Its square is far above the one and far below the other: it is normalised to 0.6 or more, or to 0.008 at the most.
    return computed if functional.rms_norm(tiny, (1,)).item() > 0.1 else own


def _normalize(
    input: Tensor,  # noqa: A002
    p: float = 2.0,
    dim: int | Sequence[int] = 1,
    eps: float = 1e-12,
    out: Tensor | None = None,
) -> Tensor:
    if p != 2 or out is not None:
        return functional.normalize(input, p, dim, eps, out)  # type: ignore[arg-type]
    norm: Tensor = torch.linalg.vector_norm(input.detach(), 2, dim, keepdim=True)
    return input / norm.clamp_min(eps)


def _balanced(func: Function, input: Any, other: Any, **kwargs: Any) -> Any:  # noqa: A002
    """Return a product or a quotient, in which what is written out as a denominator or a gate is a constant."""
    if func in _QUOTIENTS:
        if is_root(other) and depends(input):
            other = other.detach()
    elif _is_factor(other, input):
        other = other.detach()
    elif _is_factor(input, other):
        return func(_constant_for(func, input), other, **kwargs)
    return func(input, other, **kwargs)


def _reciprocal_root(func: Function, input: Tensor, **kwargs: Any) -> Any:  # noqa: A002
    return func(_constant_for(func, input), **kwargs)


def _constant_for(func: Function, value: Tensor) -> Tensor:
    """Return a value as a constant: this very tensor where it is overwritten, since the model goes on with it."""
    if not writes_in_place(func.__name__):
        return value.detach()
    if value.is_leaf:  # what asks for a gradient is not overwritten, as autograd says
        return value
    # A view cannot be detached in place. Its value written over itself has no more of a gradient.
    return value.copy_(value.detach().clone()) if value._is_view() else value.detach_()


def _is_factor(value: Any, other: Any) -> bool:
    return (is_inverse_root(value) and depends(other)) or is_gate_of(value, other)


def _gated(func: Function, input: Tensor, *args: Any, **kwargs: Any) -> Tensor:  # noqa: A002
    with torch.no_grad():
        x = in_accumulation_dtype(input)
        small = x.abs() < torch.finfo(x.dtype).eps
        # What is divided must not be what is overwritten.
        value = func(x.clone(), *args, **kwargs)
        gate = torch.where(small, _SLOPE_AT_ZERO[func], value / torch.where(small, 1.0, x)).to(input.dtype)
    if kwargs.get("inplace") or (args and args[0] is True):
        return input.mul_(gate)
    return input * gate
