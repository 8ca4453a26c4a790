"""See every operation of a forward pass, whatever the model is made of, and know which depend on the input."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor
from torch.autograd.graph import GradientEdge, Node, get_gradient_edge
from torch.overrides import TorchFunctionMode

from captum_ext.attr._common.batch_norm import guard_output
from captum_ext.attr._common.random_draws import Function, RandomDraws, draws
from captum_ext.attr.full_gradient._trace.batch_axis import BatchAxis
from captum_ext.attr.full_gradient._trace.bias_rules import (
    LAYERS,
    QUERIES,
    RESHAPED_IN_PLACE,
    RULES,
    Observation,
    by_jacobian,
    overwrites_first_argument,
)
from captum_ext.attr.full_gradient._trace.bias_term import BiasTerm, Operation
from captum_ext.attr.full_gradient._trace.determinism import SUSPECTS, check_module, check_operation
from captum_ext.attr.full_gradient._trace.grid import Grid, follow, image_grid
from captum_ext.attr.full_gradient._trace.implicit_bias import (
    AffineBias,
    Call,
    ConstantBias,
    ForwardModeMissingError,
    ImplicitBias,
    JacobianBias,
    Kept,
    finite,
    tensors_in,
)
from captum_ext.attr.full_gradient._trace.module_path import ModulePath

Key = tuple[Node, int]


class LostValueError(Exception):
    """A hidden operation's input is gone; the forward pass has to be repeated with all values kept."""


# Nodes that rearrange values: operations that autograd adds by itself when a tensor is overwritten through a view.
_VIEWS = (
    *("Alias", "AsStrided", "Clone", "Detach", "Diagonal", "Expand", "Narrow", "Permute", "Select", "Slice", "Split"),
    *("SplitWithSizes", "Squeeze", "T", "ToCopy", "Transpose", "Unbind", "Unfold", "UnsafeView", "Unsqueeze", "View"),
    *("ViewAsComplex", "ViewAsReal"),
)
# A model may differentiate itself. A gradient cannot be repeated without its graph; it comes up later as the hidden
# operation that the graph of the gradient is.
_DIFFERENTIATION = frozenset({torch.autograd.grad, torch.autograd.backward, torch.Tensor.backward})
_VIEW_NODES = frozenset(f"{name}Backward{version}" for name in _VIEWS for version in range(4))


class _Output:
    """One output of an operation, and the adjoint that is its own.

    Other outputs of the same operation may have been computed from it, as an LSTM cell's hidden state is from its
    memory. What autograd hands to a hook has come back through these too, and they are operations' outputs themselves,
    whose biases count already: it is taken off again.
    """

    __slots__ = ("_through_others", "edge", "made_from")

    def __init__(self, tensor: Tensor) -> None:
        self.edge = get_gradient_edge(tensor)
        self.made_from: list[_Output] = []
        self._through_others: Tensor | None = None

    @property
    def shares(self) -> bool:
        """Whether other outputs are behind this one, or it behind others that have been met."""
        return bool(self.made_from) or self._through_others is not None

    def own(self, adjoint: Tensor) -> Tensor:
        """Return the part of the adjoint that did not come through other outputs, and tell the outputs behind."""
        if self._through_others is not None:
            adjoint = adjoint - self._through_others
            self._through_others = None
        if self.made_from:
            edges = [other.edge for other in self.made_from]
            # Now, since the nodes on the way forget their values when the backward pass has gone through them.
            gradients = torch.autograd.grad([self.edge], edges, [adjoint], retain_graph=True, allow_unused=True)
            for other, gradient in zip(self.made_from, gradients, strict=True):
                before = other._through_others
                if gradient is not None:
                    other._through_others = gradient if before is None else before + gradient
        return adjoint


class OperationTrace(TorchFunctionMode):
    """Function mode that hooks every operation with a bias and hands its bias terms to a consumer during backward.

    Use it as a context around the forward pass; the terms come when the output's gradient is computed.

    Parameters
    ----------
    consumer
        Receives each term once, in the order of the backward pass. Terms hold the full adjoint: keep less.
    account
        Of what is drawn from the global generators.
    batch
        Is shown every activation; None for none.
    keep_values
        Keep all activations, so that the inputs of hidden operations (TorchScript, custom autograd functions)
        cannot be lost.
    """

    def __init__(
        self,
        consumer: Callable[[BiasTerm], None],
        account: RandomDraws,
        batch: BatchAxis | None = None,
        *,
        keep_values: bool = False,
    ) -> None:
        super().__init__()
        self._active = False
        self.modules = ModulePath(check_module)
        self._consumer = consumer
        self._account = account
        self._batch = batch
        self._keep_values = keep_values
        self._known: dict[Key, Callable[[], Tensor | None]] = {}
        self._grids: dict[Key, Grid] = {}
        self._constants: set[Node] = set()
        self._n_examples = 0
        self._inside: dict[Node, list[_Output]] = {}
        self._held: dict[int, list[Kept]] = {}
        self._handles: list[Any] = []
        self._count = 0

    def add_input(self, tensor: Tensor) -> None:
        """Declare a tensor to be the model's input."""
        self._learn(tensor, image_grid(tensor))
        self._n_examples = tensor.shape[0]

    def depends_on_input(self, tensor: Tensor) -> bool:
        """Whether the tensor is differentiably connected to the input.

        Tensors inside of ``torch.func`` transforms are not looked at: the whole transform is one hidden operation.
        """
        if not tensor.requires_grad or is_functorch_wrapped_tensor(tensor) or (node := tensor.grad_fn) is None:
            return False
        return (node, tensor.output_nr) in self._known or self._resolve(tensor, node)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Context in which terms are handed over: of this backward pass, and of none that the model runs itself."""
        self._active = True
        try:
            yield
        finally:
            self._active = False

    def close(self) -> None:
        """Remove the hooks. Hooks that hold their own graph would keep it in memory for ever."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._known.clear()
        self._grids.clear()
        self._constants.clear()
        self._inside.clear()

    def __enter__(self) -> OperationTrace:
        self.modules.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._held.clear()  # After the forward pass nothing is overwritten any more.
        super().__exit__(*error)
        self.modules.__exit__(*error)

    def __torch_function__(
        self, func: Function, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        # Attributes are set inside of C++ too, by custom autograd functions, where nothing may be raised.
        if func in QUERIES or getattr(func, "__name__", "") == "__set__":
            return func(*args, **kwargs)
        if func in SUSPECTS:
            check_operation(func, args, kwargs, self.modules, bool(self._dependents(args, kwargs)))
        elif draws(func, args, kwargs):
            return self._account.run(func, args, kwargs)
        if not torch.is_grad_enabled() or not (dependents := self._dependents(args, kwargs)):
            return func(*args, **kwargs)
        if func in _DIFFERENTIATION:
            return func(*args, **kwargs)
        if overwrites_first_argument(func, kwargs):
            return self._run_in_place(func, args, kwargs, dependents)
        output = func(*args, **kwargs)
        if output is None or isinstance(output, int | float | str | torch.Size):
            return output
        made = tensors_in(output)
        results = [tensor for tensor in made if tensor.requires_grad and self._is_connected(tensor)]
        if not results or not {*map(id, results)}.isdisjoint(map(id, dependents)):
            return output
        guard_output(func, output)
        seen = Observation(args, kwargs, dependents, lambda: Call(func, args, kwargs, dependents), output)
        bias = RULES.get(func, by_jacobian)(seen)
        parents: list[GradientEdge] = []
        if isinstance(bias, JacobianBias):
            parents = [get_gradient_edge(dependent) for dependent in dependents]
        if bias is not None and func not in LAYERS:
            self._watch(bias.kept)
        # Before they are known: what lies between them is looked for among what is not.
        outputs = {} if bias is None else self._outputs(results)
        for tensor in results:
            self._learn(tensor, self._grid_of_output(func, args, kwargs, dependents, tensor))
        if bias is not None:
            for index, tensor in enumerate(made):
                if id(tensor) in outputs:
                    self._hook(tensor, outputs[id(tensor)], index, func, bias, parents)
        return output

    # ---- what depends on the input ----

    def _dependents(self, args: Sequence[Any], kwargs: dict[str, Any]) -> list[Tensor]:
        tensors = tensors_in(args) + tensors_in(kwargs) if kwargs else tensors_in(args)
        return [tensor for tensor in tensors if self.depends_on_input(tensor)]

    def _learn(self, tensor: Tensor, grid: Grid | None) -> None:
        node = tensor.grad_fn
        assert node is not None
        if self._batch is not None:
            self._batch.see(tensor)
        if grid is not None:
            self._grids[node, tensor.output_nr] = grid
        if not self._keep_values:
            self._known[node, tensor.output_nr] = weakref.ref(tensor)
            return
        kept = Kept([tensor.detach()])
        self._watch(kept)
        self._known[node, tensor.output_nr] = lambda: kept.tensors[0]

    def _resolve(self, tensor: Tensor, node: Node) -> bool:
        """Find out about a tensor that no seen operation made: a constant, a view, or a hidden operation."""
        if node in self._constants:
            return False
        nodes, boundary = self._walk_back(node)
        if not boundary:
            self._constants.add(node)
            return False
        self._learn(tensor, None)
        if any(inner.name() not in _VIEW_NODES for inner in nodes):
            output = _Output(tensor)
            # Outputs of hidden operations come up one by one, in any order: this one may be on the way to another.
            for other in self._inside.get(node, ()):
                other.made_from.append(output)
            self._remember_inside(output, nodes)
            self._hook_hidden(tensor, output, node, boundary)
        return True

    def _is_connected(self, tensor: Tensor) -> bool:
        """Whether a gradient leads from what an operation gave to the input.

        It does not where the operation takes only a shape or a type from what depends on the input, as in
        ``bias.expand_as(x)``: the result is a constant, whose hook no backward pass would call.
        """
        node = tensor.grad_fn
        if node is None:
            return False
        if any(parent in self._known for parent in node.next_functions):
            return True
        return bool(self._walk_back(node)[1])

    def _walk_back(self, start: Node) -> tuple[set[Node], list[Key]]:
        """Return the unseen nodes above a node, and the seen values that they start from."""
        visited, frontier = {start}, [start]
        boundary: dict[Key, None] = {}
        while frontier:
            for parent, number in frontier.pop().next_functions:
                if parent is None or parent in self._constants:
                    continue
                if (parent, number) in self._known:
                    boundary[parent, number] = None
                elif parent not in visited:
                    visited.add(parent)
                    frontier.append(parent)
        return visited, list(boundary)

    def _outputs(self, results: list[Tensor]) -> dict[int, _Output]:
        """Return the outputs of one operation, each with those among them that it was made from."""
        outputs = {id(tensor): _Output(tensor) for tensor in results}
        if len({tensor.grad_fn for tensor in results}) > 1:  # outputs of one node cannot be made from each other
            for output in outputs.values():
                nodes, _ = self._walk_back(output.edge.node)
                behind = nodes - {output.edge.node}
                output.made_from = [other for other in outputs.values() if other.edge.node in behind]
        for tensor in results:
            # A view of something that the operation made inside, as a linear layer's output of three axes is: a write
            # to the view goes to that inner tensor, which then comes up as a value of its own.
            if tensor._is_view() and tensor._base is not None and self._is_unseen(tensor._base):
                output = outputs[id(tensor)]
                self._remember_inside(output, self._walk_back(output.edge.node)[0])
        return outputs

    def _is_unseen(self, tensor: Tensor) -> bool:
        node = tensor.grad_fn
        return node is not None and (node, tensor.output_nr) not in self._known and node not in self._constants

    def _remember_inside(self, output: _Output, nodes: set[Node]) -> None:
        """Remember which nodes an output was made by, in case one of them comes up as a value of its own."""
        for inner in nodes - {output.edge.node}:
            self._inside.setdefault(inner, []).append(output)

    def _grid_of_output(
        self,
        func: Function,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        dependents: Sequence[Tensor],
        output: Tensor,
    ) -> Grid | None:
        if not self._grids:
            return None
        found = [(tensor, self._grid(get_gradient_edge(tensor))) for tensor in dependents]
        sources = [(tensor, grid) for tensor, grid in found if grid is not None]
        return follow(func, args, kwargs, sources, output, self._n_examples) if sources else None

    def _grid(self, edge: GradientEdge) -> Grid | None:
        return self._grids.get((edge.node, edge.output_nr))

    # ---- values that the biases need later ----

    def _watch(self, kept: Kept) -> None:
        """Remember which storages are held, in case one of them is overwritten."""
        for tensor in kept.tensors:
            self._held.setdefault(tensor.untyped_storage().data_ptr(), []).append(kept)

    def _rescue(self, target: Tensor) -> None:
        """Copy what is still needed of a tensor that is about to be overwritten."""
        for kept in self._held.pop(target.untyped_storage().data_ptr(), ()):
            kept.own()

    # ---- hooks ----

    def _new_operation(self, name: str, *, is_layer: bool = False) -> Operation:
        self._count += 1
        return Operation(self._count - 1, name, self.modules.current, is_layer)

    def _hook(
        self,
        tensor: Tensor,
        output: _Output,
        index: int,
        func: Function,
        bias: ImplicitBias,
        parents: list[GradientEdge],
    ) -> None:
        name = (getattr(func, "__name__", None) or repr(func)).strip("_")
        operation = self._new_operation(name, is_layer=func in LAYERS)
        edge = output.edge
        waiting: list[ImplicitBias] = [bias]

        def contract(adjoint: Tensor | None) -> None:
            if not self._active or adjoint is None:
                return
            bias = waiting.pop()  # Nothing is held longer than it is needed.
            if output.shares:
                with self._hooks_at_rest():
                    adjoint = output.own(adjoint)
            try:
                self._consumer(BiasTerm(operation, adjoint, bias.value(index), edge, self._grid(edge)))
            except ForwardModeMissingError:
                assert isinstance(bias, JacobianBias)
                value, gradients = bias.pull_back(index, adjoint)
                self._consume_split(operation, adjoint, value, edge, gradients, bias.call.values, parents)

        self._handles.append(tensor.register_hook(contract))

    def _hook_hidden(self, tensor: Tensor, output: _Output, node: Node, boundary: list[Key]) -> None:
        """Hook an operation that was not seen: its own backward pulls the adjoint back to what was seen."""
        operation = self._new_operation(node.name())
        edge, parents = output.edge, [GradientEdge(*key) for key in boundary]
        kept = Kept([tensor.detach(), *(self._value_of(key) for key in boundary)])
        self._watch(kept)

        def contract(adjoint: Tensor | None) -> None:
            if not self._active or adjoint is None:
                return
            kept.check()
            value, *parent_values = kept.tensors
            with self._hooks_at_rest():
                adjoint = output.own(adjoint)
                gradients = _own_gradients(edge, parents, adjoint)
            self._consume_split(operation, adjoint, value, edge, gradients, parent_values, parents)

        self._handles.append(tensor.register_hook(contract))

    @contextmanager
    def _hooks_at_rest(self) -> Iterator[None]:
        """Context in which a gradient may pass through other hooks, which wait for their whole adjoint."""
        self._active = False
        try:
            yield
        finally:
            self._active = True

    def _value_of(self, key: Key) -> Tensor:
        value = self._known[key]()
        if value is None or (value.grad_fn is not key[0] and not self._keep_values):
            raise LostValueError
        return value.detach()

    def _consume_split(
        self,
        operation: Operation,
        adjoint: Tensor,
        value: Tensor,
        edge: GradientEdge,
        gradients: Sequence[Tensor | None],
        parent_values: Sequence[Tensor],
        parents: Sequence[GradientEdge],
    ) -> None:
        """Hand over <a, b> as <a, v> - sum_j <J_j^T a, v_j>, each product where it lies."""
        self._consumer(BiasTerm(operation, adjoint, finite(value), edge, self._grid(edge), True))
        for gradient, parent_value, parent in zip(gradients, parent_values, parents, strict=True):
            if gradient is not None:
                self._consumer(BiasTerm(operation, -gradient, finite(parent_value), parent, self._grid(parent), True))

    # ---- operations that overwrite ----

    def _run_in_place(
        self, func: Function, args: tuple[Any, ...], kwargs: dict[str, Any], dependents: list[Tensor]
    ) -> Any:
        """Run an operation that writes into its first argument, seen as one that makes a new tensor.

        Autograd sees a write through a view as an operation on the whole tensor that is viewed, and so it is here.
        """
        if not args:
            args, kwargs = (kwargs["input"],), {key: value for key, value in kwargs.items() if key != "input"}
        target: Tensor = args[0]
        base = target._base if target._is_view() and target._base is not None else target
        base_depends = self.depends_on_input(base)  # first, since this may hold on to values of an unseen operation
        self._rescue(base)
        if func in RESHAPED_IN_PLACE:
            # The values stay where they are, and autograd sees a view of them, or nothing that it follows any more.
            return func(*args, **kwargs)
        others = [tensor for tensor in tensors_in((args[1:], kwargs)) if self.depends_on_input(tensor)]
        on_base = func if base is target else _through_view(func, target, base)
        grid = self._grid_of_output(func, args, kwargs, dependents, base)
        parents = [base, *others] if base_depends else others

        def make_call() -> Call:
            return Call(on_base, (base, *args[1:]), kwargs, parents, overwrites=True)

        bias = RULES.get(func, by_jacobian)(Observation(args, kwargs, dependents, make_call))
        if base is not target:
            bias = _bias_on_base(bias, base_depends, make_call)
        edges = [get_gradient_edge(parent) for parent in parents]
        output = func(*args, **kwargs)
        guard_output(func, base)
        self._learn(base, grid)
        if bias is not None:
            self._hook(base, _Output(base), 0, func, bias, edges)
        return output


def _through_view(func: Function, target: Tensor, base: Tensor) -> Function:
    """Return the operation on ``base`` that does to its part ``target`` what ``func`` does to ``target`` alone."""
    size, stride, offset = target.size(), target.stride(), target.storage_offset() - base.storage_offset()

    def on_base(whole: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        func(whole.as_strided(size, stride, whole.storage_offset() + offset), *args, **kwargs)
        return whole

    return on_base


def _bias_on_base(bias: ImplicitBias | None, base_depends: bool, make_call: Callable[[], Call]) -> ImplicitBias | None:
    if bias is None and base_depends:
        return None
    if isinstance(bias, ConstantBias | AffineBias):
        return AffineBias(make_call())
    return JacobianBias(make_call())


def _own_gradients(edge: GradientEdge, parents: list[GradientEdge], adjoint: Tensor) -> list[Tensor | None]:
    """Pull an adjoint back to parents, to each without what comes to it through another parent.

    Autograd gives total derivatives: where parent p was itself made from parent q, the gradient of q holds the way
    through p, which is told by p already. Taken away from the latest parent on, which no other was made from.
    """
    gradients: list[Tensor | None] = list(
        torch.autograd.grad([edge], parents, [adjoint], retain_graph=True, allow_unused=True)
    )
    if len(parents) < 2:
        return gradients
    # Leaves have no number of their own, and are made from nothing.
    numbers = [-1 if "AccumulateGrad" in parent.node.name() else parent.node._sequence_nr() for parent in parents]
    order = sorted(range(len(parents)), key=numbers.__getitem__, reverse=True)
    for place, later in enumerate(order):
        gradient, earlier = gradients[later], [k for k in order[place + 1 :] if numbers[k] < numbers[later]]
        if gradient is None or not earlier:
            continue
        sources = [parents[k] for k in earlier]
        through = torch.autograd.grad([parents[later]], sources, [gradient], retain_graph=True, allow_unused=True)
        for k, part in zip(earlier, through, strict=True):
            total = gradients[k]
            if part is not None and total is not None:
                gradients[k] = total - part
    return gradients
