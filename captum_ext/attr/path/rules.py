"""What a step of a path is worth: the Riemann rule and the important direction.

A rule takes two points of a path that follow each other, with the values there and the gradient at the first, and
returns the contribution of each feature to the step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from captum_ext.attr._common.sums import in_accumulation_dtype, like_rows, rows


@dataclass(frozen=True)
class EvaluatedPoint:
    """One point of a path for every example, with what the model said there.

    Parameters
    ----------
    position
        x_j; one tensor of shape (N, ...) for each input.
    value
        f(x_j); shape (N,).
    gradient
        The gradient of f at x_j, in the shapes of ``position``; None at the end of the path, where no rule asks for it.
    """

    position: tuple[Tensor, ...]
    value: Tensor
    gradient: tuple[Tensor, ...] | None


Rule = Callable[[EvaluatedPoint, EvaluatedPoint], tuple[Tensor, ...]]


def riemann(left: EvaluatedPoint, right: EvaluatedPoint) -> tuple[Tensor, ...]:
    """Credit each feature with g_j (x_{j+1} - x_j), the left Riemann sum of the path integral of the gradient.

    Examples
    --------
    >>> import torch
    >>> left = EvaluatedPoint((torch.tensor([[0.0, 0.0]]),), torch.tensor([0.0]), (torch.tensor([[3.0, 1.0]]),))
    >>> right = EvaluatedPoint((torch.tensor([[1.0, 1.0]]),), torch.tensor([5.0]), None)
    >>> riemann(left, right)
    (tensor([[3., 1.]]),)
    """
    return tuple(
        in_accumulation_dtype(gradient) * (in_accumulation_dtype(x_right) - in_accumulation_dtype(x_left))
        for gradient, x_left, x_right in zip(_gradient(left), left.position, right.position, strict=True)
    )


def important_direction(left: EvaluatedPoint, right: EvaluatedPoint) -> tuple[Tensor, ...]:
    """Credit each feature with g_j^2 / ||g_j||^2 (f_{j+1} - f_j): the step's whole change, along its own gradient.

    The norm is over all inputs of one example together. A gradient of zero has no direction and one that is not finite
    has none that could be computed; such a step contributes nothing.

    Source: Yang, Wang and Bilgic, IDGI, CVPR 2023, equation 9 and algorithm 1.

    Examples
    --------
    >>> import torch
    >>> left = EvaluatedPoint((torch.tensor([[0.0, 0.0]]),), torch.tensor([0.0]), (torch.tensor([[3.0, 1.0]]),))
    >>> right = EvaluatedPoint((torch.tensor([[1.0, 1.0]]),), torch.tensor([5.0]), None)
    >>> important_direction(left, right)
    (tensor([[4.5000, 0.5000]]),)
    """
    gradients = tuple(in_accumulation_dtype(gradient) for gradient in _gradient(left))
    device = left.value.device
    # Scaled by the largest component: the square of a saturated softmax's gradient, 1e-25, is 0 in float32.
    peak = torch.stack([rows(gradient).abs().amax(1).to(device) for gradient in gradients]).amax(0)
    usable = (peak > 0) & torch.isfinite(peak)
    scale = torch.where(usable, peak, 1.0)
    directions = tuple(torch.where(like_rows(usable, g), g / like_rows(scale, g), 0.0) for g in gradients)
    squared_norm = sum(rows(direction).square().sum(1).to(device) for direction in directions)
    change = in_accumulation_dtype(right.value) - in_accumulation_dtype(left.value)
    weight = torch.where(usable, change / torch.where(usable, squared_norm, 1.0), 0.0)
    return tuple(direction.square() * like_rows(weight, direction) for direction in directions)


def _gradient(point: EvaluatedPoint) -> tuple[Tensor, ...]:
    assert point.gradient is not None, "rules take the gradient at the left end of a step"
    return point.gradient
