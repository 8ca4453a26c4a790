"""Leave the user's model as it was, its buffers above all, and the random number generators."""

from __future__ import annotations

import inspect
import re
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import _global_forward_pre_hooks
from torch.nn.parameter import is_lazy
from torch.utils.hooks import RemovableHandle

from captum_ext.attr._common.random_draws import RandomDraws


@contextmanager
def preserve_state(
    forward_func: Callable[..., Any], *tensors: Tensor, watch_draws: bool = True
) -> Iterator[RandomDraws]:
    """Context after which the model's buffers and PyTorch's global generators are as before, also after an exception.

    It gives the account of what the thread draws in it. The generators stay where they are while other threads draw
    from them, see `RandomDraws`.

    A model in training mode draws random numbers (dropout) and changes its buffers (running statistics, the vectors
    of spectral normalisation) in every forward pass; in evaluation mode a few write to a buffer all the same (a cache,
    a count of calls). Buffers are put back in place, wherever ``forward_func`` has the modules from; other threads'
    modules are left alone. What a compiled or scripted module in evaluation mode writes is not seen.

    Parameters
    ----------
    forward_func
        The model, or any callable that runs one.
    *tensors
        The model's inputs, whose CUDA devices' generators are restored too.
    watch_draws
        Whether every operation is looked at for what it draws. False where the caller sees them all anyway.
    """
    devices = sorted({x.device.index for x in tensors if isinstance(x, Tensor) and x.is_cuda})
    account = RandomDraws(devices)
    saved = _SavedBuffers(account)
    account.before_writing = saved.before_writing
    # A module is not watched where its forward method is called by itself, or where it was compiled in place.
    for module in _modules_behind(forward_func):
        saved.add(module)
    try:
        with account, _watched_by(saved), account.watching() if watch_draws else nullcontext():
            yield account
    finally:
        saved.put_back()


def is_training(module: nn.Module) -> bool:
    """Whether a module is in training mode; a frozen script has no mode, and is made in evaluation mode."""
    return getattr(module, "training", False)


class _SavedBuffers:
    """Buffers of modules: which tensors they are; and values, in training mode all, otherwise those that are written.

    Parameters
    ----------
    account
        Told of modules that may draw random numbers without being seen.
    """

    def __init__(self, account: RandomDraws) -> None:
        self._account = account
        self._modules: dict[int, nn.Module] = {}
        self._buffers: list[tuple[nn.Module, str, Tensor | None]] = []
        self._values: dict[int, tuple[Tensor, Tensor]] = {}
        self._unwritten: dict[int, list[Tensor]] = {}  # by their storage

    def add(self, root: nn.Module) -> None:
        """Save what a module and the modules in it have, where they are not saved yet."""
        if id(root) in self._modules:
            return
        # By hand: modules() makes up the path of each, and takes three times as long in every call.
        found, unseen = {id(root): root}, [root]
        while unseen:
            for child in unseen.pop()._modules.values():
                if child is not None and id(child) not in found:
                    found[id(child)] = child
                    unseen.append(child)
        for module in found.values():
            if id(module) in self._modules:
                continue
            # Its first pass gives a lazy module its buffers: it is saved when it is about to run once more.
            if any(buffer is not None and is_lazy(buffer) for buffer in module._buffers.values()):
                continue
            self._modules[id(module)] = module
            # What it draws is not seen in a script, nor in a compiled module, made by `torch.compile` or in place.
            is_compiled = hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None
            if is_training(module) and (is_compiled or isinstance(module, torch.jit.ScriptModule)):
                self._account.hidden()
            for name, buffer in module._buffers.items():
                self._buffers.append((module, name, buffer))
                if buffer is not None and is_training(module):
                    self._save(buffer)
                elif buffer is not None and buffer.layout is torch.strided:
                    self._unwritten.setdefault(buffer.untyped_storage().data_ptr(), []).append(buffer)

    def before_writing(self, tensors: Iterable[Tensor]) -> None:
        """Save the buffers that an operation is about to overwrite, or part of them."""
        for tensor in tensors:
            if self._unwritten and tensor.layout is torch.strided:
                for buffer in self._unwritten.pop(tensor.untyped_storage().data_ptr(), ()):
                    self._save(buffer)

    def _save(self, buffer: Tensor) -> None:
        if id(buffer) not in self._values:
            self._values[id(buffer)] = (buffer, buffer.detach().clone())

    def put_back(self) -> None:
        """Give every module its tensors back, with their values."""
        if self._values:
            with torch.no_grad():
                for tensor, value in self._values.values():
                    tensor.copy_(value)
        for module, name, buffer in self._buffers:
            # A scripted module's buffers are no dictionary, and have no get.
            if name not in module._buffers or module._buffers[name] is not buffer:
                module._buffers[name] = buffer


class _Watching(threading.local):
    """What is saved in this thread before its modules run."""

    saved: tuple[_SavedBuffers, ...] = ()


_WATCHING = _Watching()
_LOCK = threading.Lock()
_watching_threads = 0
# Compiled graphs depend on the numbers of the hooks: with one of its own for all calls, a model is compiled once.
_HOOK_NUMBER = RemovableHandle(OrderedDict()).id
# Compiled modules warn that they meet hooks twice. The list of filters is one for all threads, so that a context which
# puts the whole list back would take away what another thread has added.
_NO_WARNING = (
    "ignore",
    re.compile("Using `torch.compile\\(module\\)` when there are global hooks"),
    UserWarning,
    None,
    0,
)


def _save_before_running(module: nn.Module, _: Any) -> None:
    # While a model is compiled this must leave no trace in the graph; the compiled module itself was met before.
    if torch.compiler.is_compiling():
        return
    for saved in _WATCHING.saved:
        saved.add(module)


@contextmanager
def _watched_by(saved: _SavedBuffers) -> Iterator[None]:
    """Context in which modules that this thread is about to run are saved first."""
    global _watching_threads
    with _LOCK:
        _watching_threads += 1
        if _watching_threads == 1:
            _global_forward_pre_hooks[_HOOK_NUMBER] = _save_before_running
            warnings.filters.insert(0, _NO_WARNING)  # type: ignore[attr-defined]
    _WATCHING.saved = (*_WATCHING.saved, saved)
    try:
        yield
    finally:
        _WATCHING.saved = tuple(other for other in _WATCHING.saved if other is not saved)
        with _LOCK:
            _watching_threads -= 1
            if _watching_threads == 0:
                del _global_forward_pre_hooks[_HOOK_NUMBER]
                if _NO_WARNING in warnings.filters:  # it is not where a context of warnings ended meanwhile
                    warnings.filters.remove(_NO_WARNING)  # type: ignore[attr-defined]


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
