"""The theorem of full gradients, checked."""

from __future__ import annotations

import torch
from torch import Tensor

from captum_ext.attr import decompose


def assert_exact(forward_func, inputs, target=None, tolerance=1e-9, arguments=None):
    """Each example's output is its gradient times its input and the contributions, computed here once more."""
    tensors = inputs if isinstance(inputs, tuple) else (inputs,)
    before = [tensor.clone() for tensor in tensors]
    found = decompose(forward_func, inputs, target, arguments, maps="sum")
    gradients = found.input_gradients if isinstance(inputs, tuple) else (found.input_gradients,)
    total = sum((g * x).flatten(1).sum(1) for g, x in zip(gradients, tensors, strict=True))
    total = total + sum(contribution.values for contribution in found.contributions)
    # Copies that ask for gradients, for models that differentiate themselves.
    expected = forward_func(*[tensor.clone().requires_grad_().clone() for tensor in tensors]).detach()
    expected = expected if target is None else expected[:, target]
    torch.testing.assert_close(found.output, expected.reshape(-1), rtol=0, atol=1e-12 * float(expected.abs().max() + 1))
    assert ((total - expected.reshape(-1)).abs() <= tolerance * expected.reshape(-1).abs().clamp(min=1)).all()
    for tensor, old in zip(tensors, before, strict=True):
        assert torch.equal(tensor, old)
    return found


def per_example(values: Tensor) -> Tensor:
    return values.flatten(1).sum(1)
