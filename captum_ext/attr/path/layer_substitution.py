"""Read a layer's activation in a forward pass, and run the model with another in its place."""

from __future__ import annotations

import copy
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel.scatter_gather import scatter
from torch.utils._pytree import tree_map

from captum_ext._errors import InvalidArgumentError
from captum_ext.attr._common.forward import differentiable_kernels

Activation = tuple[Tensor, ...]
Visitor = Callable[[int, Activation], Activation | None]


@dataclass(frozen=True)
class LayerSubstitution:
    """The layers of a model whose activations are read and replaced.

    An activation is the tuple of all floating point tensors in a layer's output, or in its input, in containers and
    dataclasses too; whatever else is there (masks, None, indices) passes through.

    Parameters
    ----------
    forward_func
        The model, or any function of it.
    layers
        Modules that the model calls once in a forward pass, each.
    at_input
        Whether the layers' inputs are meant, not their outputs.
    device_ids
        Of ``torch.nn.DataParallel``, in the order of its batch; empty for a model on one device.
    """

    forward_func: Callable[..., Any]
    layers: Sequence[nn.Module]
    at_input: bool
    device_ids: Sequence[int] = field(default=())

    def activations(self, inputs: tuple[Any, ...]) -> list[Activation]:
        """Run the model and return copies of each layer's activation.

        Raises
        ------
        InvalidArgumentError
            A layer is not called, is called more than once, or has no floating point tensors with the batch first.
        """
        seen: list[dict[torch.device, Activation]] = [{} for _ in self.layers]

        def remember(index: int, activation: Activation) -> None:
            self._check_activation(index, activation, seen[index])
            # A copy: a following operation in place would change the tensor itself.
            seen[index][activation[0].device] = tuple(tensor.detach().clone() for tensor in activation)

        with torch.inference_mode(False), torch.no_grad(), differentiable_kernels(), self._hooks(remember):
            # Copies here too: the model may change its inputs in place.
            copies = [x.clone(memory_format=torch.contiguous_format) if isinstance(x, Tensor) else x for x in inputs]
            self.forward_func(*copies)
        for index, activation in enumerate(seen):
            if not activation:
                raise InvalidArgumentError(f"{self._name(index)} is not called by forward_func: give one that is.")
        # Replicas of a data-parallel model have seen a part of the batch each, in the order of their devices.
        order = {index: place for place, index in enumerate(self.device_ids)}
        gathered = []
        for by_device in seen:
            first, *_ = devices = sorted(by_device, key=lambda device: order.get(device.index, 0))
            parts = zip(*(by_device[device] for device in devices), strict=True)
            gathered.append(tuple(torch.cat([tensor.to(first) for tensor in tensors]) for tensors in parts))
        return gathered

    def forward_with(self, counts: Sequence[int]) -> Callable[..., Any]:
        """Return the model as a function of the activations, then of its own inputs.

        Parameters
        ----------
        counts
            How many tensors each layer's activation has.
        """

        def forward(*tensors_and_inputs: Any) -> Any:
            tensors = tensors_and_inputs[: sum(counts)]
            inputs = tensors_and_inputs[sum(counts) :]
            replicas = scatter(tensors, list(self.device_ids)) if self.device_ids else (tensors,)
            by_device = {replica[0].device: tuple(replica) for replica in replicas}

            def replace(index: int, activation: Activation) -> Activation:
                first = sum(counts[:index])
                return by_device[activation[0].device][first : first + counts[index]]

            with self._hooks(replace):
                return self.forward_func(*inputs)

        return forward

    @contextmanager
    def _hooks(self, visit: Visitor) -> Iterator[None]:
        """Context in which calls of the layers in this thread, and of their data-parallel replicas, are visited."""
        handles = []
        try:
            for index, layer in enumerate(self.layers):
                if self.at_input:
                    hook = _uncompiled(_input_hook(index, visit))
                    handles.append(layer.register_forward_pre_hook(hook, with_kwargs=True))
                else:
                    handles.append(layer.register_forward_hook(_uncompiled(_output_hook(index, visit))))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _check_activation(self, index: int, activation: Activation, seen: dict[torch.device, Activation]) -> None:
        side = "input" if self.at_input else "output"
        if not activation:
            raise InvalidArgumentError(
                f"the {side} of {self._name(index)} holds no floating point tensor: give "
                "a layer after the integers have become numbers, such as the embedding."
            )
        if activation[0].device in seen:
            raise InvalidArgumentError(
                f"{self._name(index)} is called more than once in a forward pass, so its {side} is not one activation: "
                "give a layer that is called once, or one copy of it for each place."
            )

    def _name(self, index: int) -> str:
        return f"layer {index} ({type(self.layers[index]).__name__})"


def _output_hook(index: int, visit: Visitor) -> Callable[..., Any]:
    is_own = _own_calls()

    def hook(module: nn.Module, args: Any, output: Any) -> Any:
        return _visited(output, lambda activation: visit(index, activation)) if is_own(module) else None

    return hook


def _input_hook(index: int, visit: Visitor) -> Callable[..., Any]:
    is_own = _own_calls()

    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not is_own(module):
            return None
        positional = bool(_explained_in(args))
        given = args if positional else kwargs
        replaced = _visited(given, lambda activation: visit(index, activation))
        if replaced is None:
            return None
        return (replaced, kwargs) if positional else (args, replaced)

    return hook


def _uncompiled(hook: Callable[..., Any]) -> Callable[..., Any]:
    """Return a hook that the compiler leaves alone: it cannot follow what asks for the thread, and would warn."""
    if "torch._dynamo" not in sys.modules:  # without an import of the compiler, which is slow, nothing is compiled
        return hook
    uncompiled: Callable[..., Any] = torch.compiler.disable(hook)
    return uncompiled


def _own_calls() -> Callable[[nn.Module], bool]:
    """Return whether a call of a module belongs to this thread, as a function for hooks, which all threads meet."""
    thread = threading.get_ident()
    # Replicas of a data-parallel model run in threads of their own, and nothing tells for which thread: other threads'
    # replicas of the same layer are taken for own ones, which the documentation warns of.
    return lambda module: threading.get_ident() == thread or getattr(module, "_is_replica", False)


def _visited(structure: Any, visit: Callable[[Activation], Activation | None]) -> Any:
    """Show the floating point tensors of a structure to ``visit``; return the structure with what it gives back."""
    replacement = visit(_explained_in(structure))
    if replacement is None:
        return None
    remaining = iter(replacement)
    return _exchanged(structure, lambda _: next(remaining))


def _explained_in(structure: Any) -> Activation:
    found: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    _exchanged(structure, note)
    return tuple(found)


def _exchanged(structure: Any, exchange: Callable[[Tensor], Tensor]) -> Any:
    """Return the structure with other floating point tensors in it."""

    def at(leaf: Any) -> Any:
        if isinstance(leaf, Tensor) and leaf.is_floating_point():
            return exchange(leaf)
        if not is_dataclass(leaf) or isinstance(leaf, type):
            return leaf
        # PyTorch's trees end at a dataclass. Its own __init__ may do more than take the fields.
        exchanged = copy.copy(leaf)
        for name in (one.name for one in fields(leaf)):
            object.__setattr__(exchanged, name, _exchanged(getattr(leaf, name), exchange))
        return exchanged

    return tree_map(at, structure)
