"""Leave the user's model and random number generators as they were."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def untouched(forward_func: Callable[..., Any], *tensors: Tensor) -> Iterator[None]:
    """Context after which the model's buffers and PyTorch's global generators are as before, also after an exception.

    A model in training mode draws random numbers (dropout) and changes its buffers (running statistics, the vectors
    of spectral normalisation) in every forward pass. Buffers of modules in training mode are put back in place.

    Parameters
    ----------
    forward_func
        The model; a module, a bound method of one, or a function or partial that refers to one.
    *tensors
        The model's inputs, whose CUDA devices' generators are restored too.
    """
    saved = [(buffer, buffer.detach().clone()) for buffer in _buffers_that_training_changes(forward_func)]
    devices = sorted({x.device.index for x in tensors if isinstance(x, Tensor) and x.device.type == "cuda"})
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        with torch.no_grad():
            for buffer, value in saved:
                buffer.copy_(value)


def _buffers_that_training_changes(forward_func: Callable[..., Any]) -> Iterator[Tensor]:
    seen: set[int] = set()
    for root in _modules_behind(forward_func):
        for module in root.modules():
            if module.training:
                for buffer in module.buffers(recurse=False):
                    if id(buffer) not in seen:
                        seen.add(id(buffer))
                        yield buffer


def _modules_behind(forward_func: Any) -> Iterator[nn.Module]:
    """Yield the modules that a callable is, is bound to, or refers to by name."""
    if isinstance(forward_func, nn.Module):
        yield forward_func
    elif inspect.ismethod(forward_func):
        if isinstance(forward_func.__self__, nn.Module):
            yield forward_func.__self__
    elif isinstance(forward_func, partial):
        for part in (forward_func.func, *forward_func.args, *forward_func.keywords.values()):
            yield from _modules_behind(part)
    elif inspect.isfunction(forward_func):
        names = inspect.getclosurevars(forward_func)
        for value in (*names.nonlocals.values(), *names.globals.values()):
            if isinstance(value, nn.Module):
                yield value
