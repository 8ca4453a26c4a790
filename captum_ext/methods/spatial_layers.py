"""Find the layer of a network whose maps Grad-CAM weighs, and tell where ReLU is called as a function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from captum_ext._errors import InvalidArgumentError
from captum_ext.attr._common.model_state import preserve_state

_RELU_FUNCTIONS = frozenset({"relu", "relu_"})


def named_layer(model: nn.Module, name: str) -> nn.Module:
    """Return a module by its name; names that wrappers put before it may be left out.

    Raises
    ------
    InvalidArgumentError
        No module has the name, or several end in it.

    Examples
    --------
    >>> model = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()))
    >>> named_layer(model, "0.1")
    ReLU()
    """
    modules = dict(model.named_modules())
    # The shortest one is the outermost: "1" is the classifier's second part, not the second part of each block.
    found = sorted((full for full in modules if f".{full}".endswith(f".{name}")), key=lambda full: full.count("."))
    if not name or not found:
        known = [full for full in modules if full][-8:]
        raise InvalidArgumentError(f"the model has no layer {name!r}; its last ones are {', '.join(known)}.")
    if len(found) > 1 and found[0].count(".") == found[1].count("."):
        raise InvalidArgumentError(f"several layers are called {name!r}: give one of {', '.join(found[:5])}.")
    return model.get_submodule(found[0])


def last_spatial_layer(model: nn.Module, inputs: Tensor) -> nn.Module:
    """Return the module that is done last among those that return maps of shape (N, C, H, W), H and W above 1.

    For a ResNet this is ``layer4``, for networks that end in pooling it is what is pooled.

    Parameters
    ----------
    model
        Run once, on the first example.
    inputs
        Shape (N, C, H, W).

    Raises
    ------
    InvalidArgumentError
        No module returns maps.

    Examples
    --------
    >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    >>> last_spatial_layer(model, torch.rand(1, 3, 8, 8))
    Conv2d(3, 4, kernel_size=(3, 3), stride=(1, 1))
    """
    finished: list[nn.Module] = []

    def remember(module: nn.Module, _: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.dim() == 4 and min(output.shape[2:]) > 1:
            finished.append(module)

    handles = [module.register_forward_hook(remember) for module in model.modules() if module is not model]
    try:
        with torch.no_grad(), preserve_state(model, inputs):
            model(inputs[:1].clone())
    finally:
        for handle in handles:
            handle.remove()
    if not finished:
        raise InvalidArgumentError(
            "no layer of the model returns maps of shape (N, C, H, W), which Grad-CAM needs: choose another method."
        )
    return finished[-1]


class _ReluCalls(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        # The mode is off inside of the call, so that F.relu and the torch.relu that it calls count once.
        self.count += getattr(func, "__name__", None) in _RELU_FUNCTIONS
        return func(*args, **(kwargs or {}))


def check_relu_modules(model: nn.Module, inputs: Tensor) -> None:
    """Check that every ReLU is a ``torch.nn.ReLU``, the only ones whose gradient guided backpropagation can change.

    Parameters
    ----------
    model
        Run once, on the first example.
    inputs
        Shape (N, ...).

    Raises
    ------
    InvalidArgumentError
        The model has no such module, or calls ReLU as a function too.
    """
    n_modules = 0

    def count(*_: Any) -> None:
        nonlocal n_modules
        n_modules += 1

    handles = [module.register_forward_hook(count) for module in model.modules() if isinstance(module, nn.ReLU)]
    calls = _ReluCalls()
    try:
        with torch.no_grad(), preserve_state(model, inputs), calls:
            model(inputs[:1].clone())
    finally:
        for handle in handles:
            handle.remove()
    if n_modules == 0 or calls.count > n_modules:
        found = "none" if n_modules == 0 else f"{calls.count - n_modules} of {calls.count} as functions"
        raise InvalidArgumentError(
            f"guided backpropagation needs every ReLU to be a torch.nn.ReLU module; the model calls {found}. Take "
            "gradcam instead."
        )
