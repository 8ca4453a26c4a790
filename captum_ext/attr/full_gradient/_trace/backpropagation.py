"""One forward and backward pass in which every bias term is seen, and a second backward for maps that flow back."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.autograd.graph import Node

from captum_ext._captum import TargetType
from captum_ext._errors import InvalidArgumentError
from captum_ext.attr._common import Tensors
from captum_ext.attr._common.checks import all_finite
from captum_ext.attr._common.forward import (
    checkpoints_named,
    copies_of,
    in_accumulation_dtype,
    leaves_of,
    not_dependent,
    or_zeros,
    select_output,
)
from captum_ext.attr._common.model_state import preserve_state
from captum_ext.attr._common.random_draws import RandomDraws
from captum_ext.attr.full_gradient._trace.bias_term import Consumer
from captum_ext.attr.full_gradient._trace.determinism import check_repeated
from captum_ext.attr.full_gradient._trace.operation_trace import LostValueError, OperationTrace

AnyConsumer = TypeVar("AnyConsumer", bound=Consumer)


@dataclass(frozen=True)
class Backpropagated:
    """What one pass gave.

    Attributes
    ----------
    output
        F(x), shape (N,).
    gradients
        The gradient of F with respect to each input, in the input's shape.
    pulled_back
        J^T c with respect to each input, of all maps c together that the consumer sent back; zeros if none.
    """

    output: Tensor
    gradients: Tensors
    pulled_back: Tensors

    def input_terms(self, inputs: Tensors) -> Tensors:
        """Return each input times its gradient, in accumulation precision."""
        return tuple(
            in_accumulation_dtype(gradient) * in_accumulation_dtype(x)
            for gradient, x in zip(self.gradients, inputs, strict=True)
        )


def backpropagate(
    forward_func: Callable[..., Any],
    inputs: Tensors,
    target: TargetType,
    additional_forward_args: tuple[Any, ...] | None,
    make_consumer: Callable[[], AnyConsumer],
) -> tuple[Backpropagated, AnyConsumer]:
    """Run the model forward and backward; every bias term goes to a consumer as soon as its adjoint is known.

    Parameters
    ----------
    forward_func, inputs, target, additional_forward_args
        What is explained. The model and the global random state are as before afterwards.
    make_consumer
        Called for an empty consumer; more than once if the pass has to be repeated.

    Raises
    ------
    NotDeterministicError
        The model is in training mode, or random in another way.
    InvalidArgumentError
        The model's output or the target is refused, see `select_output`, or the output is not finite.
    RuntimeError
        The output does not depend on the inputs.
    """
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        preserve_state(forward_func, *inputs, watch_draws=False) as account,
    ):
        for keep_values in (False, True):
            consumer = make_consumer()
            trace = OperationTrace(consumer, account, keep_values=keep_values)
            try:
                return _run(trace, consumer, account, forward_func, inputs, target, additional_forward_args), consumer
            except LostValueError:
                continue
            finally:
                trace.close()
    raise AssertionError("with all values kept, none is lost")


def _run(
    trace: OperationTrace,
    consumer: Consumer,
    account: RandomDraws,
    forward_func: Callable[..., Any],
    inputs: Tensors,
    target: TargetType,
    additional_forward_args: tuple[Any, ...] | None,
) -> Backpropagated:
    leaves = leaves_of(inputs)
    copies = copies_of(leaves)
    for copy in copies:
        trace.add_input(copy)
    with trace, _eager():
        raw = forward_func(*copies, *(additional_forward_args or ()))
        depends = isinstance(raw, Tensor) and trace.depends_on_input(raw)
    # Not seen: to select is linear, and has no bias.
    output = select_output(raw, target, inputs[0].shape[0])
    if not all_finite(output):
        raise InvalidArgumentError(
            f"the model's output is {output.tolist()}: only a finite number can be explained. Give other inputs, "
            "or look for an overflow, a logarithm or a division in the model."
        )
    if not depends:
        raise not_dependent()
    if account.may_have_happened:
        # Some models draw numbers that they do not use, and other threads draw too: what counts is the output.
        with _eager(), account.watching():
            raw = forward_func(*copies_of(leaves_of(inputs)), *(additional_forward_args or ()))
            check_repeated(output, select_output(raw, target, inputs[0].shape[0]))
    total = output.sum()
    with trace.listening(), checkpoints_named():
        gradients = torch.autograd.grad(total, leaves, allow_unused=True, retain_graph=consumer.may_flow_back)
    if all(gradient is None for gradient in gradients):
        raise not_dependent()  # by way of an operation that only looks differentiable, a quantised one
    pulled_back: tuple[Tensor | None, ...] = (None,) * len(leaves)
    if flowing := consumer.flowing_back():
        edges, maps = zip(*flowing, strict=True)
        pulled_back = torch.autograd.grad(edges, leaves, maps, allow_unused=True)
    return Backpropagated(output.detach(), or_zeros(gradients, inputs), or_zeros(pulled_back, inputs))


_EAGER_LOCK = threading.Lock()
_eager_threads = 0
_stance: Any = None


@contextmanager
def _eager() -> Iterator[None]:
    """Context in which compiled functions, which hide what they compute, run as they were written.

    PyTorch's switch for this is one for the whole process, so that other threads' compiled functions run as they were
    written meanwhile too: more slowly, to the same values. The first thread turns it and the last one turns it back;
    if each did, one would turn it back while another still needs it, and that one would leave it turned for ever.
    """
    global _eager_threads, _stance
    if "torch._dynamo" not in sys.modules:  # without an import of the compiler, which is slow, there are none
        yield
        return
    with _EAGER_LOCK:
        if _eager_threads == 0:
            _stance = torch.compiler.set_stance("force_eager")  # from here on; it remembers what was before
        _eager_threads += 1
    try:
        yield
    finally:
        with _EAGER_LOCK:
            _eager_threads -= 1
            if _eager_threads == 0:
                _stance.__exit__(None, None, None)


def first_not_finite(
    forward_func: Callable[..., Any],
    inputs: Tensors,
    target: TargetType,
    additional_forward_args: tuple[Any, ...] | None,
) -> str:
    """Return the name of the first operation, seen from the output, whose backward makes NaN or infinity of numbers."""
    found: list[str] = []

    def look(node: Node, gradients: Sequence[Tensor | None]) -> None:
        if not all(gradient is None or all_finite(gradient) for gradient in gradients):
            found.append(node.name().split("Backward")[0])

    with torch.inference_mode(False), torch.enable_grad(), preserve_state(forward_func, *inputs):
        leaves = leaves_of(inputs)
        raw = forward_func(*copies_of(leaves), *(additional_forward_args or ()))
        output = select_output(raw, target, inputs[0].shape[0]).sum()
        assert output.grad_fn is not None
        seen, frontier = {output.grad_fn}, [output.grad_fn]
        while frontier:
            node = frontier.pop()
            node.register_hook(lambda gradients, _, node=node: look(node, gradients))
            parents = {parent for parent, _ in node.next_functions if parent is not None} - seen
            seen |= parents
            frontier += parents
        torch.autograd.grad(output, leaves, allow_unused=True)
    return f"operation {found[0]}" if found else "an operation"
