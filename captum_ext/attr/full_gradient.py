"""The exact decomposition of one forward pass into its input gradient and the contribution of every bias."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from captum_ext._captum import run_forward
from captum_ext.attr.operation_trace import Consumer, LostValueError, OperationTrace


@dataclass
class Traced:
    output: Tensor
    gradients: tuple[Tensor, ...]
    leaves: tuple[Tensor, ...]
    trace: OperationTrace


def backward_with_terms(forward_func, inputs, target, additional_forward_args, consumer: Consumer, retain_graph=False) -> Traced:
    try:
        return _run(forward_func, inputs, target, additional_forward_args, consumer, False, retain_graph)
    except LostValueError:
        return _run(forward_func, inputs, target, additional_forward_args, consumer, True, retain_graph)


def _run(forward_func, inputs, target, additional_forward_args, consumer, keep_values, retain_graph):
    trace = OperationTrace(consumer, keep_values=keep_values)
    with torch.inference_mode(False), torch.enable_grad(), torch.compiler.set_stance("force_eager"):
        leaves = tuple(tensor.detach().requires_grad_() for tensor in inputs)
        seen = tuple(leaf.clone() for leaf in leaves)
        for tensor in seen:
            trace.add_input(tensor)
        with trace:
            output = run_forward(forward_func, seen, target, additional_forward_args)
            depends = trace.depends_on_input(output)
        gradients = torch.autograd.grad(output.sum(), leaves, allow_unused=True, retain_graph=retain_graph)
    trace.active = False
    return Traced(output.detach(), gradients, leaves, trace)
