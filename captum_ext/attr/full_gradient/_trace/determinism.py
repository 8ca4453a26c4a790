"""Refuse forward passes that draw random numbers or mix the examples of a batch, before they change anything."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from captum_ext.attr.full_gradient._trace.implicit_bias import Function, argument

_DROPOUT_NAMES = (
    *("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout", "feature_dropout"),
    *("dropout_", "alpha_dropout_", "feature_alpha_dropout_", "feature_dropout_"),
)
_DROPOUTS = frozenset(
    getattr(namespace, name)
    for name in _DROPOUT_NAMES
    for namespace in (torch, torch.nn.functional)
    if hasattr(namespace, name)
)
_BATCH_STATISTICS = frozenset({torch.nn.functional.batch_norm, torch.batch_norm, torch.native_batch_norm})
_DROPOUT_ARGUMENT = {
    torch.nn.functional.multi_head_attention_forward: "dropout_p",
    torch.nn.functional.scaled_dot_product_attention: "dropout_p",
}
SUSPECTS = _DROPOUTS | _BATCH_STATISTICS | _DROPOUT_ARGUMENT.keys() | {torch.nn.functional.rrelu, torch.lstm, torch.gru}
_SCRIPTED_DROPOUTS = frozenset(
    {"Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout"}
)
_SCRIPTED_NORMS = frozenset({"BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm"})


class NotDeterministicError(RuntimeError):
    """The forward pass is random or depends on the rest of the batch, so that it has no decomposition."""

    def __init__(self, what: str, path: str | None) -> None:
        where = f"module '{path}'" if path else "the model" if path == "" else "the forward function"
        super().__init__(
            f"{where} runs {what}: one forward pass then says nothing about the next, and its output has no "
            f"decomposition into full gradients. Call model.eval() first."
        )


def check_operation(
    function: Function, args: tuple[Any, ...], kwargs: dict[str, Any], path: str | None, depends_on_input: bool
) -> None:
    """Raise if the operation, one of ``SUSPECTS``, is about to draw random numbers or to use batch statistics.

    Batch normalisation of weights alone, by which some networks standardise them, is a constant like any other.

    Raises
    ------
    NotDeterministicError
        For active dropout and for batch normalisation by the batch's own statistics; it names the module.
    """
    if function in _DROPOUTS:
        is_functional = getattr(function, "__module__", "") == "torch.nn.functional"
        training = argument(args, kwargs, 2, "training" if is_functional else "train", True)
        if training and argument(args, kwargs, 1, "p", 0.5) > 0:
            raise NotDeterministicError("active dropout", path)
    elif function in _BATCH_STATISTICS:
        updates = argument(args, kwargs, 1, "running_mean", None) is not None
        if argument(args, kwargs, 5, "training", False) and (depends_on_input or updates):
            raise NotDeterministicError("batch normalisation with the statistics of the batch (train mode)", path)
    elif function in _DROPOUT_ARGUMENT:
        position = 10 if function is torch.nn.functional.multi_head_attention_forward else 4
        probability = argument(args, kwargs, position, "dropout_p", 0.0)
        if probability > 0 and kwargs.get("training", True):
            raise NotDeterministicError("attention with active dropout", path)
    elif function is torch.nn.functional.rrelu:
        if kwargs.get("training", False):
            raise NotDeterministicError("randomised leaky ReLU in train mode", path)
    else:
        weights = next(i for i, value in enumerate(args) if isinstance(value, list))
        dropout, training = args[weights + 3], args[weights + 4]
        if training and dropout > 0:
            raise NotDeterministicError("a recurrent network with active dropout", path)


def check_module(module: nn.Module, path: str) -> None:
    """Raise if the module is about to update running statistics, or is a script that hides random operations.

    Raises
    ------
    NotDeterministicError
        Names the module.
    """
    if isinstance(module, _NormBase) and module.training and module.track_running_stats:
        raise NotDeterministicError("normalisation in train mode, which updates its running statistics", path)
    if not isinstance(module, torch.jit.ScriptModule):
        return
    for below, part in module.named_modules():
        kind = getattr(part, "original_name", "")
        hidden_path = ".".join(filter(None, (path, below)))
        if part.training and kind in _SCRIPTED_DROPOUTS and getattr(part, "p", 1.0) > 0:
            raise NotDeterministicError("active dropout", hidden_path)
        if part.training and kind in _SCRIPTED_NORMS:
            raise NotDeterministicError("normalisation in train mode", hidden_path)


@contextmanager
def refuse_random_numbers(inputs: tuple[Tensor, ...]) -> Iterator[None]:
    """Context that raises at its end if random numbers were drawn in it, by whatever means.

    Raises
    ------
    NotDeterministicError
        The state of a global generator, the CPU's or that of an input's CUDA device, has changed.
    """
    devices = {x.device for x in inputs if x.device.type == "cuda"}

    def state() -> list[Tensor]:
        return [torch.get_rng_state(), *(torch.cuda.get_rng_state(device) for device in devices)]

    before = state()
    yield
    if not all(torch.equal(old, new) for old, new in zip(before, state(), strict=True)):
        raise NotDeterministicError("an operation that draws random numbers", None)
