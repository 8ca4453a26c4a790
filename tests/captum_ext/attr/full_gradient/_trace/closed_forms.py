"""A bias in closed form beside what forward mode gives."""

from __future__ import annotations

import torch
from torch import Tensor

from captum_ext.attr.full_gradient._trace.bias_rules import RULES, Observation
from captum_ext.attr.full_gradient._trace.implicit_bias import Call, ElementwiseBias, JacobianBias
from captum_ext.attr.full_gradient._trace.traits import traits_of

GENERATOR = torch.Generator().manual_seed(7)


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=GENERATOR, dtype=torch.float64)


def bias_and_reference(function, args, kwargs, dependents) -> tuple[list[Tensor], list[Tensor]]:
    """Return the biases by the rule of an operation, and by forward mode."""
    overwrites = traits_of(function).is_in_place or bool(kwargs.get("inplace"))

    def call() -> Call:
        return Call(function, args, kwargs, dependents, overwrites=overwrites)

    output = None if overwrites else function(*args, **kwargs)
    n_outputs = len(output) if isinstance(output, tuple) else 1
    bias = RULES[function](Observation(args, kwargs, dependents, call, output))
    assert not isinstance(bias, JacobianBias)
    reference = JacobianBias(call())
    if overwrites and isinstance(bias, ElementwiseBias):
        bias.learn_output(function(args[0].clone(), *args[1:], **kwargs))
    found = [torch.zeros(()) if bias is None else bias.value(i) for i in range(n_outputs)]
    return found, [reference.value(i) for i in range(n_outputs)]


def assert_equal(found: list[Tensor], expected: list[Tensor]) -> None:
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double().expand(other.shape), other, rtol=0, atol=1e-12)
