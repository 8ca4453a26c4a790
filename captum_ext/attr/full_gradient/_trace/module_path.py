"""Which module is running: its path below the outermost one, for names in tables and in errors."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

from torch import nn
from torch.nn.modules import module as module_hooks

from captum_ext.attr._common.model_state import is_training


class ModulePath:
    """Context that follows the calls of modules in this thread, without touching any module.

    The hooks are PyTorch's global ones, so that every callable can be followed: a module, a bound method, a function
    that closes over modules.

    Parameters
    ----------
    on_enter
        Called with each module just before it runs, and with this; may raise to stop it.

    Examples
    --------
    >>> import torch
    >>> from captum_ext.attr.full_gradient._trace.module_path import ModulePath
    >>> found = []
    >>> model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU())
    >>> with ModulePath(on_enter=lambda module, modules: found.append(modules.current)):
    ...     _ = model(torch.zeros(1, 2))
    >>> found
    ['', '0', '1']
    """

    def __init__(self, on_enter: Callable[[nn.Module, ModulePath], None]) -> None:
        self._on_enter = on_enter
        self._called: dict[int, nn.Module] = {}
        self._names: dict[int, str] = {}
        self._stack: list[nn.Module] = []
        self._thread = threading.get_ident()
        self._handles: list[Any] = []

    @property
    def innermost(self) -> nn.Module | None:
        """The innermost running module; None outside of modules."""
        return self._stack[-1] if self._stack else None

    @property
    def current(self) -> str | None:
        """The path of the innermost running module; None outside of modules."""
        return self.path_of(self.innermost)

    @property
    def is_training(self) -> bool:
        """Whether the innermost running module is in training mode; False outside of modules."""
        return bool(self._stack) and is_training(self._stack[-1])

    def path_of(self, module: nn.Module | None) -> str | None:
        """Return the path of a module that has run below the outermost one that holds it; None for None.

        The models are looked through when the first path is asked for, which most explanations never do. A module that
        runs inside of another, and is not held by it, is a model of its own: a wrapper may know no more of its model
        than a function.
        """
        if module is None:
            return None
        for called in self._called.values():
            if id(called) not in self._names:
                self._names.update({id(below): path for path, below in called.named_modules()})
        return self._names.get(id(module), "")

    def __enter__(self) -> ModulePath:
        self._handles = [
            module_hooks.register_module_forward_pre_hook(self._enter),
            module_hooks.register_module_forward_hook(self._leave, always_call=True),
        ]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._stack.clear()

    def _enter(self, module: nn.Module, args: Any) -> None:
        if threading.get_ident() != self._thread:
            return
        self._called[id(module)] = module
        self._stack.append(module)
        self._on_enter(module, self)

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        if threading.get_ident() == self._thread and self._stack and self._stack[-1] is module:
            self._stack.pop()
