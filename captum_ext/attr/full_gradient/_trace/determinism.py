"""Refuse forward passes that draw random numbers or mix the examples of a batch, before they change anything."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from captum_ext.attr._common.model_state import is_training
from captum_ext.attr._common.operations import Function, argument
from captum_ext.attr._common.random_draws import SOMETIMES_RANDOM, what_draws
from captum_ext.attr.full_gradient._trace.module_path import ModulePath

_BATCH_STATISTICS = frozenset({torch.nn.functional.batch_norm, torch.batch_norm, torch.native_batch_norm})
SUSPECTS = SOMETIMES_RANDOM | _BATCH_STATISTICS
_SCRIPTED_DROPOUTS = frozenset(
    {"Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout"}
)
_SCRIPTED_NORMS = frozenset({"BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm"})


class NotDeterministicError(RuntimeError):
    """The forward pass is random or depends on the rest of the batch, so that it has no decomposition."""

    def __init__(self, what: str, path: str | None, advice: str = "Call model.eval() first.") -> None:
        where = f"module '{path}'" if path else "the model" if path == "" else "the forward function"
        super().__init__(
            f"{where} runs {what}: one forward pass then says nothing about the next, and its output has no "
            f"decomposition into full gradients. {advice}"
        )


_IN_EVAL_MODE = (
    "model.eval() does not change that, since the function is called with training=True whatever the mode is: give it "
    "training=self.training."
)
_WITHOUT_STATISTICS = (
    "model.eval() does not change that, since the layer keeps no running statistics (track_running_stats=False): give "
    "it some, or use a normalisation that keeps the examples apart, such as GroupNorm."
)
_UNKNOWN_DRAW = (
    "Call model.eval() if it is in training mode; else look for torch.rand, torch.bernoulli, fractional pooling or "
    "functional dropout in it, and give these random numbers as additional_forward_args."
)


def check_operation(
    function: Function, args: tuple[Any, ...], kwargs: dict[str, Any], modules: ModulePath, depends_on_input: bool
) -> None:
    """Raise if the operation, one of ``SUSPECTS``, is about to draw random numbers or to use batch statistics.

    Batch normalisation of weights alone, by which some networks standardise them, is a constant like any other.

    Raises
    ------
    NotDeterministicError
        For active dropout and for batch normalisation by the batch's own statistics; it names the module.
    """
    if function in _BATCH_STATISTICS:
        updates = argument(args, kwargs, 1, "running_mean", None) is not None
        if argument(args, kwargs, 5, "training", False) and (depends_on_input or updates):
            raise NotDeterministicError(
                "batch normalisation with the statistics of the batch",
                modules.current,
                *(() if modules.is_training else (_WITHOUT_STATISTICS,)),
            )
    elif what := what_draws(function, args, kwargs):
        raise NotDeterministicError(what, modules.current, *(() if modules.is_training else (_IN_EVAL_MODE,)))


def check_module(module: nn.Module, modules: ModulePath) -> None:
    """Raise if the module is about to update running statistics, or is a script that hides random operations.

    Raises
    ------
    NotDeterministicError
        Names the module.
    """
    if isinstance(module, _NormBase) and module.training and module.track_running_stats:
        what = "normalisation in train mode, which updates its running statistics"
        raise NotDeterministicError(what, modules.path_of(module))
    if not isinstance(module, torch.jit.ScriptModule):
        return
    for below, part in module.named_modules():
        kind = getattr(part, "original_name", "")
        hidden_path = ".".join(filter(None, (modules.path_of(module), below)))
        if is_training(part) and kind in _SCRIPTED_DROPOUTS and getattr(part, "p", 1.0) > 0:
            raise NotDeterministicError("active dropout", hidden_path)
        if is_training(part) and kind in _SCRIPTED_NORMS:
            raise NotDeterministicError("normalisation in train mode", hidden_path)


def check_repeated(first: Tensor, second: Tensor) -> None:
    """Raise if a forward pass that may have drawn random numbers gives another output when it is run again.

    Raises
    ------
    NotDeterministicError
        The outputs differ.
    """
    # What the order of additions may change, which on CUDA is not always the same.
    eps = torch.finfo(first.dtype).eps
    rounding = 100 * eps if eps < 1e-6 else 4 * eps
    if first.shape != second.shape or not torch.allclose(first, second, rtol=rounding, atol=rounding):
        raise NotDeterministicError("an operation that draws random numbers", None, _UNKNOWN_DRAW)
