"""Which module is running: its path below the outermost one, for names in tables and in errors."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

from torch import nn
from torch.nn.modules import module as module_hooks


class ModulePath:
    """Context that follows the calls of modules in this thread, without touching any module.

    The hooks are PyTorch's global ones, so that every callable can be followed: a module, a bound method, a function
    that closes over modules.

    Parameters
    ----------
    on_enter
        Called with each module and its path just before the module runs; may raise to stop it.

    Examples
    --------
    >>> import torch
    >>> from captum_ext.attr.full_gradient._trace.module_path import ModulePath
    >>> paths = []
    >>> model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU())
    >>> with ModulePath(on_enter=lambda module, path: paths.append(path)):
    ...     _ = model(torch.zeros(1, 2))
    >>> paths
    ['', '0', '1']
    """

    def __init__(self, on_enter: Callable[[nn.Module, str], None]) -> None:
        self._on_enter = on_enter
        self._names: dict[int, str] = {}
        self._stack: list[nn.Module] = []
        self._thread = threading.get_ident()
        self._handles: list[Any] = []

    @property
    def current(self) -> str | None:
        """The path of the innermost running module; None outside of modules."""
        return self._names.get(id(self._stack[-1])) if self._stack else None

    @property
    def is_training(self) -> bool:
        """Whether the innermost running module is in training mode; False outside of modules."""
        return bool(self._stack) and self._stack[-1].training

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
        if id(module) not in self._names:
            root = not self._stack
            self._names.update({id(m): path for path, m in module.named_modules()} if root else {id(module): ""})
        self._stack.append(module)
        self._on_enter(module, self._names[id(module)])

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        if threading.get_ident() == self._thread and self._stack and self._stack[-1] is module:
            self._stack.pop()
