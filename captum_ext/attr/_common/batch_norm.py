"""Guard against PyTorch's wrong gradient of eval-mode batch normalisation on CPU.

Seen on torch 2.6, 2.13 and 2.15: when the batch is 1 and the incoming gradient has a transposed layout, as after
``batch_norm(x).flatten(2).transpose(1, 2)``, the CPU kernel of the backward pass reads the gradient as if it were
contiguous. The input gradient is then wrong by more than its own size, and nothing says so. Making the incoming
gradient contiguous mends it. LeViT, EfficientFormer and XCiT of timm meet the bug, with every gradient method.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

_BATCH_NORMS = frozenset({"batch_norm", "native_batch_norm", "_native_batch_norm_legit_no_training"})


def _to_contiguous(gradient: Tensor) -> Tensor:
    return gradient.contiguous()


def is_guarded(func: Callable[..., Any]) -> bool:
    """Whether a function is a batch normalisation."""
    return getattr(func, "__name__", None) in _BATCH_NORMS


def guard_output(func: Callable[..., Any], output: Any) -> None:
    """Hook the output of one observed operation if that operation is a batch normalisation on CPU.

    For function modes that see every operation anyway: one call after each operation.

    Parameters
    ----------
    func
        The operation, as ``__torch_function__`` receives it.
    output
        What the operation returned; the hook is set on its first tensor.
    """
    if not is_guarded(func):
        return
    tensor = output[0] if isinstance(output, tuple | list) else output
    if isinstance(tensor, Tensor) and tensor.device.type == "cpu" and tensor.requires_grad:
        tensor.register_hook(_to_contiguous)


class _BatchNormGuard(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        guard_output(func, output)
        return output


def batch_norm_guard(*tensors: Tensor) -> AbstractContextManager[Any]:
    """Context in which eager models differentiate batch normalisation correctly.

    Operations inside TorchScript are not seen, and CUDA does not have the bug, so the context does nothing unless
    one of ``tensors`` is on the CPU.

    Parameters
    ----------
    *tensors
        The model's inputs.

    Examples
    --------
    >>> import torch
    >>> from captum_ext.attr import batch_norm_guard
    >>> x = torch.randn(1, 4, 2, 3, requires_grad=True)
    >>> with batch_norm_guard(x):
    ...     y = torch.nn.BatchNorm2d(4).eval()(x).flatten(2).transpose(1, 2)
    >>> torch.autograd.grad(y.square().sum(), x)[0].shape
    torch.Size([1, 4, 2, 3])
    """
    if any(tensor.device.type == "cpu" for tensor in tensors):
        return _BatchNormGuard()
    return nullcontext()
