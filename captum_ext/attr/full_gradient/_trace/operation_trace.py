"""See every operation of a forward pass, whatever the model is made of, and know which depend on the input."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor
from torch._C._functorch import peek_interpreter_stack
from torch.autograd.graph import GradientEdge, Node, get_gradient_edge
from torch.overrides import TorchFunctionMode

from captum_ext.attr._common.forward import guard_output
from captum_ext.attr._common.operations import CONTAINERS, Function, overwritten, tensors_in
from captum_ext.attr._common.random_draws import RandomDraws
from captum_ext.attr.full_gradient._trace.bias_rules import Observation
from captum_ext.attr.full_gradient._trace.bias_term import BiasTerm, Consumer, Operation
from captum_ext.attr.full_gradient._trace.determinism import check_module, check_operation
from captum_ext.attr.full_gradient._trace.grid import Grid, follow, image_grid
from captum_ext.attr.full_gradient._trace.implicit_bias import (
    AffineBias,
    BackwardBias,
    Call,
    ConstantBias,
    ElementwiseBias,
    ForwardModeMissingError,
    ImplicitBias,
    JacobianBias,
    Kept,
    finite,
)
from captum_ext.attr.full_gradient._trace.module_path import ModulePath
from captum_ext.attr.full_gradient._trace.recurrent_bias import CellBias
from captum_ext.attr.full_gradient._trace.traits import Traits, traits_of

Key = tuple[Node, int]


_NO_TENSORS = (int, float, str, torch.Size)

# Steps of a recurrent network wait for each other until they are so many numbers: then time goes into these.
_LARGE = 2**18


class LostValueError(Exception):
    """A hidden operation's input is gone; the forward pass has to be repeated with all values kept."""


# Nodes that rearrange values: operations that autograd adds by itself when a tensor is overwritten through a view.
_VIEWS = (
    *("Alias", "AsStrided", "Clone", "Detach", "Diagonal", "Expand", "Narrow", "Permute", "Select", "Slice", "Split"),
    *("SplitWithSizes", "Squeeze", "T", "ToCopy", "Transpose", "Unbind", "Unfold", "UnsafeView", "Unsqueeze", "View"),
    *("ViewAsComplex", "ViewAsReal"),
)
_VIEW_NODES = frozenset(f"{name}Backward{version}" for name in _VIEWS for version in range(4))


class _Output:
    """One output of an operation, and the adjoint that is its own.

    Other outputs of the same operation may have been computed from it, as an LSTM cell's hidden state is from its
    memory. What autograd hands to a hook has come back through these too, and they are operations' outputs themselves,
    whose biases count already: it is taken off again.
    """

    __slots__ = ("_through_others", "edge", "made_from")

    def __init__(self, tensor: Tensor) -> None:
        node = tensor.grad_fn
        assert node is not None
        self.edge = GradientEdge(node, tensor.output_nr)
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


class _Known:
    """A value of the forward pass that depends on the input, and where it lies on the image."""

    __slots__ = ("grid", "value")

    def __init__(self, value: Callable[[], Tensor | None], grid: Grid | None) -> None:
        self.value = value
        self.grid = grid


class _Hook:
    """What is done with the adjoint of an output, once, when it arrives in the backward pass that is listened to.

    It is not taken off the graph, which takes long where there are hundreds: it forgets what it holds.
    """

    __slots__ = ("_contract", "_trace")

    def __init__(self, trace: OperationTrace, contract: Callable[[Tensor], None]) -> None:
        self._trace: OperationTrace | None = trace
        self._contract: Callable[[Tensor], None] | None = contract

    def __call__(self, adjoint: Tensor | None) -> None:
        contract, trace = self._contract, self._trace
        if contract is None or trace is None or adjoint is None or not trace.is_listening:
            return
        self._contract = None  # Nothing is held longer than it is needed.
        contract(adjoint)

    def forget(self) -> None:
        """Hold nothing any more: a hook that holds its own graph would keep it in memory for ever."""
        self._contract = self._trace = None


class OperationTrace(TorchFunctionMode):
    """Function mode that hooks every operation with a bias and hands its bias terms to a consumer during backward.

    Use it as a context around the forward pass; the terms come when the output's gradient is computed.

    Parameters
    ----------
    consumer
        Receives each term once, in the order of the backward pass. Terms hold the full adjoint: keep less.
    account
        Of what is drawn from the global generators.
    keep_values
        Keep all activations, so that the inputs of hidden operations (TorchScript, custom autograd functions)
        cannot be lost.
    """

    def __init__(
        self,
        consumer: Consumer,
        account: RandomDraws,
        *,
        keep_values: bool = False,
    ) -> None:
        super().__init__()
        self.is_listening = False
        self.modules = ModulePath(check_module)
        self._consumer = consumer
        self._account = account
        self._batch = consumer.batch
        self._keep_values = keep_values
        self._known: dict[Key, _Known] = {}
        self._is_on_image = False
        self._constants: set[Node] = set()
        self._n_examples = 0
        self._inside: dict[Node, list[_Output]] = {}
        self._not_looked_inside: list[_Output] = []
        self._held: dict[int, list[Kept]] = {}
        self._hooks: list[_Hook] = []
        self._steps: dict[tuple[Any, ...], list[tuple[Operation, GradientEdge, int, CellBias, Tensor]]] = {}
        self._count = 0

    def add_input(self, tensor: Tensor) -> None:
        """Declare a tensor to be the model's input."""
        grid = image_grid(tensor)
        self._is_on_image = self._is_on_image or grid is not None
        self._learn(tensor, grid)
        self._n_examples = tensor.shape[0]

    def depends_on_input(self, tensor: Tensor) -> bool:
        """Whether the tensor is differentiably connected to the input."""
        node = tensor.grad_fn
        return node is not None and ((node, tensor.output_nr) in self._known or self._resolve(tensor, node))

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Context in which terms are handed over: of this backward pass, and of none that the model runs itself."""
        self.is_listening = True
        try:
            yield
        finally:
            self.is_listening = False
        for kind in [*self._steps]:
            self._contract_steps(kind)

    def close(self) -> None:
        """Let go of the graph."""
        for hook in self._hooks:
            hook.forget()
        self._hooks.clear()
        self._steps.clear()
        self._known.clear()
        self._constants.clear()
        self._inside.clear()
        self._not_looked_inside.clear()

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
        traits = traits_of(func)
        if traits.is_unseen:
            return func(*args, **kwargs)
        if traits.draws and kwargs.get("generator") is None:
            if traits.is_in_place:
                self._keep_what_is_overwritten(args, kwargs)
            return self._account.run(func, args, kwargs)
        # Inside of a transform of ``torch.func`` nothing is looked at: the whole transform is one hidden operation.
        is_transformed = peek_interpreter_stack() is not None
        dependents = [] if is_transformed else self._dependents(args, kwargs)
        if traits.is_suspect:
            check_operation(func, args, kwargs, self.modules, bool(dependents))
        # Of a list, as for ``torch._foreach_add_``, each tensor comes up later as what a hidden operation gave.
        is_list = traits.is_in_place and bool(args) and isinstance(args[0], list | tuple)
        if not dependents or is_list or not torch.is_grad_enabled():
            if traits.is_in_place or "out" in kwargs:
                self._keep_what_is_overwritten(args, kwargs)
            return func(*args, **kwargs)
        if traits.is_in_place or (kwargs and kwargs.get("inplace")):
            return self._run_in_place(func, traits, args, kwargs, dependents)
        output = func(*args, **kwargs)
        if output is None or isinstance(output, _NO_TENSORS):
            return output
        is_alone = len(dependents) == 1 and bool(args) and args[0] is dependents[0]
        passes = traits.passes_to_all or (is_alone and traits.passes_to_first)
        made = [output] if isinstance(output, Tensor) else tensors_in(output)
        results = [
            tensor
            for tensor in made
            if tensor.requires_grad and _is_plain(tensor) and (passes or self._is_connected(tensor))
        ]
        if not results or any(tensor is dependent for tensor in results for dependent in dependents):
            return output
        if traits.is_guarded:
            guard_output(func, output)
        bias = None
        if not (is_alone and traits.is_linear_in_first):
            bias = traits.rule(
                Observation(args, kwargs, dependents, lambda: Call(func, args, kwargs, dependents), output)
            )
        grids = [self._grid_of_output(func, traits, args, kwargs, dependents, tensor) for tensor in results]
        if bias is None:
            for tensor, grid in zip(results, grids, strict=True):
                self._learn(tensor, grid)
            return output
        parents: list[GradientEdge] = []
        if isinstance(bias, JacobianBias):
            parents = [get_gradient_edge(dependent) for dependent in dependents]
        self._watch(bias.kept)
        # Before they are known: what lies between them is looked for among what is not.
        outputs = self._outputs(results, bias)
        for tensor, grid in zip(results, grids, strict=True):
            self._learn(tensor, grid)
        for index, tensor in enumerate(made):
            if id(tensor) in outputs:
                known = outputs[id(tensor)], index, bias, parents
                self._hook(tensor, traits.name, traits.is_layer, self._contract, *known)
        return output

    # ---- what depends on the input ----

    def _dependents(self, args: Sequence[Any], kwargs: dict[str, Any]) -> list[Tensor]:
        """Return the arguments that depend on the input; none where one of them is sparse or nested.

        Such an operation is not looked at, and what comes of it is found where it is plain again, as of one hidden
        operation from the last plain values on.
        """
        # This runs for every operation, and nearly all arguments are flat.
        found: list[Tensor] = []
        for value in (*args, *kwargs.values()) if kwargs else args:
            if isinstance(value, Tensor):
                if value.requires_grad:
                    if not _is_plain(value):
                        return []
                    if self.depends_on_input(value):
                        found.append(value)
            elif isinstance(value, CONTAINERS):  # most of them hold sizes and steps, and no tensor
                found.extend(tensor for tensor in tensors_in(value) if self.depends_on_input(tensor))
        return found

    def _learn(self, tensor: Tensor, grid: Grid | None) -> None:
        node = tensor.grad_fn
        assert node is not None
        if self._batch is not None:
            self._batch.see(tensor)
        if not self._keep_values:
            self._known[node, tensor.output_nr] = _Known(weakref.ref(tensor), grid)
            return
        kept = Kept([tensor.detach()])
        self._watch(kept)
        self._known[node, tensor.output_nr] = _Known(partial(_first_of, kept), grid)

    def _resolve(self, tensor: Tensor, node: Node) -> bool:
        """Find out about a tensor that no seen operation made: a constant, a view, or a hidden operation."""
        if node in self._constants:
            return False
        for output in self._not_looked_inside:
            self._remember_inside(output, self._walk_back(output.edge.node)[0])
        self._not_looked_inside.clear()
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
            parents = [GradientEdge(*key) for key in boundary]
            kept = Kept([tensor.detach(), *(self._value_of(key) for key in boundary)])
            self._watch(kept)
            self._hook(tensor, node.name(), False, self._contract_hidden, output, kept, parents)
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

    def _walk_back(self, start: Node, oldest: int = 0) -> tuple[set[Node], list[Key]]:
        """Return the unseen nodes above a node, and the seen values that they start from.

        A node's number tells when it was made, and none was made from a later one: what is older than ``oldest`` can be
        left out.
        """
        visited, frontier = {start}, [start]
        boundary: dict[Key, None] = {}
        while frontier:
            for parent, number in frontier.pop().next_functions:
                if parent is None or parent in self._constants:
                    continue
                if (parent, number) in self._known:
                    boundary[parent, number] = None
                elif parent not in visited and parent._sequence_nr() >= oldest:
                    visited.add(parent)
                    frontier.append(parent)
        return visited, list(boundary)

    def _outputs(self, results: list[Tensor], bias: ImplicitBias) -> dict[int, _Output]:
        """Return the outputs of one operation, each with those among them that it was made from.

        Cells know by themselves that their first output was made from the second.
        """
        outputs = {id(tensor): _Output(tensor) for tensor in results}
        # Outputs of one node cannot be made from each other.
        if len(results) > 1 and not isinstance(bias, CellBias) and len({tensor.grad_fn for tensor in results}) > 1:
            oldest = min(output.edge.node._sequence_nr() for output in outputs.values())
            for output in outputs.values():
                nodes, _ = self._walk_back(output.edge.node, oldest)
                behind = nodes - {output.edge.node}
                output.made_from = [other for other in outputs.values() if other.edge.node in behind]
        for tensor in results:
            # A view of something that the operation made inside, as a linear layer's output of three axes is: a write
            # to the view goes to that inner tensor, which then comes up as a value of its own.
            base = tensor._base if tensor._is_view() else None
            node = None if base is None else base.grad_fn
            if base is None or node is None or node in self._constants or (node, base.output_nr) in self._known:
                continue
            self._not_looked_inside.append(outputs[id(tensor)])
        return outputs

    def _remember_inside(self, output: _Output, nodes: set[Node]) -> None:
        """Remember which nodes an output was made by, in case one of them comes up as a value of its own."""
        for inner in nodes - {output.edge.node}:
            self._inside.setdefault(inner, []).append(output)

    def _grid_of_output(
        self,
        func: Function,
        traits: Traits,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        dependents: Sequence[Tensor],
        output: Tensor,
    ) -> Grid | None:
        if not self._is_on_image:
            return None
        sources: list[tuple[Tensor, Grid]] = []
        for tensor in dependents:
            known = self._known.get((cast(Node, tensor.grad_fn), tensor.output_nr))
            if known is not None and known.grid is not None:
                if traits.keeps_places and tensor.shape == output.shape:
                    return known.grid
                sources.append((tensor, known.grid))
        return follow(func, args, kwargs, sources, output, self._n_examples) if sources else None

    def _grid(self, edge: GradientEdge) -> Grid | None:
        known = self._known.get((edge.node, edge.output_nr))
        return None if known is None else known.grid

    # ---- values that the biases need later ----

    def _watch(self, kept: Kept) -> None:
        """Remember which storages are held, in case one of them is overwritten."""
        for tensor in kept.tensors:
            if tensor.layout is torch.strided:  # sparse tensors have no storage
                self._held.setdefault(tensor.untyped_storage().data_ptr(), []).append(kept)

    def _keep_what_is_overwritten(self, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        """Copy what is still needed of the tensors that an operation is about to overwrite, constants or not."""
        tensors = overwritten(args, kwargs)
        self._account.before_writing(tensors)
        for tensor in tensors:
            if tensor.layout is torch.strided:
                for kept in self._held.pop(tensor.untyped_storage().data_ptr(), ()):
                    kept.own()

    # ---- hooks ----

    def _hook(self, tensor: Tensor, name: str, is_layer: bool, contract: Callable[..., None], *known: Any) -> None:
        """Have the term of an operation handed over when the adjoint of its output arrives.

        ``contract`` gets the operation, what is known of it already, and then the adjoint.
        """
        operation = Operation(self._count, name, self.modules, self.modules.innermost, is_layer)
        self._count += 1
        hook = _Hook(self, partial(contract, operation, *known))
        tensor.register_hook(hook)
        self._hooks.append(hook)

    def _contract(
        self,
        operation: Operation,
        output: _Output,
        index: int,
        bias: ImplicitBias,
        parents: list[GradientEdge],
        adjoint: Tensor,
    ) -> None:
        """Hand over the term of an operation whose bias can be computed."""
        edge = output.edge
        if isinstance(bias, CellBias):
            kind = bias.kind
            steps = self._steps.setdefault(kind, [])
            steps.append((operation, edge, index, bias, adjoint))
            if len(steps) * bias.size > _LARGE:
                self._contract_steps(kind)
            return
        if output.shares:
            with self._hooks_at_rest():
                adjoint = output.own(adjoint)
        try:
            self._consumer(BiasTerm(operation, adjoint, bias.value(index), edge, self._grid(edge)))
        except ForwardModeMissingError:
            assert isinstance(bias, JacobianBias)
            value, gradients = bias.pull_back(index, adjoint)
            self._consume_split(operation, adjoint, value, edge, gradients, bias.call.values, parents)

    def _contract_steps(self, kind: tuple[Any, ...]) -> None:
        """Hand over the terms of steps of a recurrent network that waited for each other."""
        steps = self._steps.pop(kind)
        CellBias.compute([bias for _, _, _, bias, _ in steps])
        for output in {index: None for _, _, index, _, _ in steps}:
            self._consumer.take_alike(
                [
                    BiasTerm(operation, adjoint, bias.value(index), edge, None)
                    for operation, edge, index, bias, adjoint in steps
                    if index == output
                ]
            )

    def _contract_hidden(
        self, operation: Operation, output: _Output, kept: Kept, parents: list[GradientEdge], adjoint: Tensor
    ) -> None:
        """Hand over the terms of an operation that was not seen: its own backward pulls the adjoint back."""
        kept.check()
        value, *parent_values = kept.tensors
        with self._hooks_at_rest():
            adjoint = output.own(adjoint)
            gradients = _own_gradients(output.edge, parents, adjoint)
        self._consume_split(operation, adjoint, value, output.edge, gradients, parent_values, parents)

    @contextmanager
    def _hooks_at_rest(self) -> Iterator[None]:
        """Context in which a gradient may pass through other hooks, which wait for their whole adjoint."""
        self.is_listening = False
        try:
            yield
        finally:
            self.is_listening = True

    def _value_of(self, key: Key) -> Tensor:
        value = self._known[key].value()
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
        self,
        func: Function,
        traits: Traits,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        dependents: list[Tensor],
    ) -> Any:
        """Run an operation that writes into its first argument, seen as one that makes a new tensor.

        Autograd sees a write through a view as an operation on the whole tensor that is viewed, and so it is here.
        """
        if not args:
            args, kwargs = (kwargs["input"],), {key: value for key, value in kwargs.items() if key != "input"}
        target: Tensor = args[0]
        base = target._base if target._is_view() and target._base is not None else target
        base_depends = self.depends_on_input(base)  # first, since this may hold on to values of an unseen operation
        self._keep_what_is_overwritten(args, kwargs)
        if traits.only_reshapes_in_place:
            # The values stay where they are, and autograd sees a view of them, or nothing that it follows any more.
            return func(*args, **kwargs)
        others = [tensor for tensor in tensors_in((args[1:], kwargs)) if self.depends_on_input(tensor)]
        on_base = func if base is target else _through_view(func, target, base)
        grid = self._grid_of_output(func, traits, args, kwargs, dependents, base)
        parents = [base, *others] if base_depends else others

        def make_call() -> Call:
            return Call(on_base, (base, *args[1:]), kwargs, parents, overwrites=True)

        bias = traits.rule(Observation(args, kwargs, dependents, make_call))
        if base is not target:
            bias = _bias_on_base(bias, base_depends, make_call)
        edges = [get_gradient_edge(parent) for parent in parents]
        output = func(*args, **kwargs)
        self._learn(base, grid)
        if isinstance(bias, ElementwiseBias):
            bias.learn_output(base)
            self._watch(bias.kept)
        if bias is not None:
            self._hook(base, traits.name, traits.is_layer, self._contract, _Output(base), 0, bias, edges)
        return output


def _first_of(kept: Kept) -> Tensor:
    kept.check()
    return kept.tensors[0]


def _is_plain(tensor: Tensor) -> bool:
    """Whether a tensor is neither sparse nor nested, nor in a layout of its own: every place has a number."""
    return tensor.layout is torch.strided and not tensor.is_nested


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
    if isinstance(bias, BackwardBias):
        return BackwardBias(make_call())
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
