"""Operations of PyTorch as function modes see them: by which names they are called, and what they are called with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import peek_interpreter_stack

Function = Callable[..., Any]

_NAMESPACES: tuple[Any, ...] = (
    *(torch, torch.Tensor, torch.nn.functional, torch._C._nn, torch.nn.init),
    *(torch.special, torch.linalg, torch.fft),
)


def functions_called(names: str) -> frozenset[Function]:
    """Return the functions and methods of PyTorch that have one of the names, which are given with spaces between."""
    found = [getattr(namespace, name, None) for name in names.split() for namespace in _NAMESPACES]
    return frozenset(function for function in found if callable(function))


def argument(args: tuple[Any, ...], kwargs: dict[str, Any], position: int, name: str, default: Any = None) -> Any:
    """Return an argument of a call that may be given by position or by name."""
    return args[position] if len(args) > position else kwargs.get(name, default)


def writes_in_place(name: str) -> bool:
    """Whether an operation of this name overwrites its first argument."""
    return name in _IN_PLACE_OPERATORS or (name.endswith("_") and not name.endswith("__"))


CONTAINERS = (tuple, list, dict)
_IN_PLACE_OPERATORS = frozenset(
    {"__setitem__", "__iadd__", "__isub__", "__imul__", "__itruediv__", "__ifloordiv__", "__imod__", "__ipow__"}
)


def tensors_in(tree: Any) -> list[Tensor]:
    """Return the tensors in nested tuples, lists and dictionaries, from left to right."""
    if isinstance(tree, Tensor):
        return [tree]
    found: list[Tensor] = []
    if not isinstance(tree, CONTAINERS):
        return found
    for branch in tree.values() if isinstance(tree, dict) else tree:
        if isinstance(branch, Tensor):
            found.append(branch)
        elif isinstance(branch, CONTAINERS):
            found += tensors_in(branch)
    return found


def overwritten(args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Tensor]:
    """Return the tensors that an operation which writes in place, or to what it is given, overwrites."""
    if peek_interpreter_stack() is not None:
        return []  # inside of a transform of ``torch.func`` they have no storage, and constants are not written to
    return list(tensors_in((args[:1], kwargs.get("input"), kwargs.get("out"))))
