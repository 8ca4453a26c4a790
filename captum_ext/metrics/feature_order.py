"""Which features of an input enter or leave together, and in which order an attribution map ranks them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from captum_ext._errors import InvalidArgumentError
from captum_ext.attr._common.checks import check_is_tensor
from captum_ext.attr._common.forward import in_accumulation_dtype

ChannelReduction = Literal["abs_sum", "sum", "max_abs"] | Callable[[Tensor], Tensor]

_REDUCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "abs_sum": lambda attributions: attributions.abs().sum(2),
    "sum": lambda attributions: attributions.sum(2),
    "max_abs": lambda attributions: attributions.abs().amax(2),
}


def feature_ranks(attributions: Tensor, inputs: Tensor, channel_reduction: ChannelReduction) -> Tensor:
    """Rank the features of each example, 0 for the most important one; equal ones keep their order in the input.

    Parameters
    ----------
    attributions
        Of the shape of ``inputs``; images (N, 1, H, W), tokens (N, T, E) and embeddings (N, T) too.
    inputs
        Images (N, C, H, W) with the pixels as features, rows (N, F), tokens (N, T) or embeddings (N, T, E) with the
        tokens as features.
    channel_reduction
        How the attributions of one feature's channels make its importance: ``"abs_sum"``, ``"sum"``, ``"max_abs"`` or
        a function from shape (N, features, channels) to (N, features).

    Returns
    -------
    Tensor
        Integers on the device of the inputs; shape (N, 1, H, W), (N, F) or (N, T, 1), which broadcasts to the inputs.

    Raises
    ------
    InvalidArgumentError
        Shapes do not fit, the reduction is not known or returned another shape, or an importance is not finite.

    Examples
    --------
    >>> import torch
    >>> feature_ranks(torch.tensor([[0.5, -2.0, 0.0]]), torch.zeros(1, 3), "abs_sum")
    tensor([[1, 0, 2]])
    """
    by_feature = _channels_last(attributions, inputs)
    importance = _importance(by_feature, channel_reduction)
    order = importance.argsort(dim=1, descending=True, stable=True)
    n_examples, *feature_shape = inputs.shape
    shape = {2: feature_shape, 3: [feature_shape[0], 1]}.get(inputs.dim(), [1, *feature_shape[1:]])
    return order.argsort(dim=1).reshape(n_examples, *shape).to(inputs.device)


def _channels_last(attributions: Tensor, inputs: Tensor) -> Tensor:
    """Lay attributions out as (N, features, channels)."""
    shape = tuple(inputs.shape)
    # Of pixels and tokens one number each will do as well; a table's features have no channels.
    allowed: tuple[tuple[int, ...], ...] = (shape,)
    if len(shape) != 2:
        allowed = shape, (shape[0], 1, *shape[2:]) if len(shape) == 4 else shape[:2]
    check_is_tensor("attributions", attributions, " or ".join(map(str, allowed)))
    given = tuple(attributions.shape)
    if given not in allowed and not (inputs.dim() == 2 and attributions.dim() == 3 and given[:2] == shape):
        raise InvalidArgumentError(
            f"attributions has shape {given} for inputs of shape {shape}: give {' or '.join(map(str, allowed))}."
        )
    values = in_accumulation_dtype(attributions.detach())
    if inputs.dim() == 4:
        return values.flatten(2).transpose(1, 2)
    return values if values.dim() == 3 else values[:, :, None]


def _importance(by_feature: Tensor, channel_reduction: ChannelReduction) -> Tensor:
    reduce = _REDUCTIONS.get(channel_reduction) if isinstance(channel_reduction, str) else channel_reduction
    if not callable(reduce):
        raise InvalidArgumentError(
            f"channel_reduction={channel_reduction!r} was given: known are {', '.join(map(repr, _REDUCTIONS))}, or a "
            "function from shape (N, features, channels) to (N, features)."
        )
    importance = reduce(by_feature)
    if importance.shape != by_feature.shape[:2]:
        raise InvalidArgumentError(
            f"channel_reduction returned shape {tuple(importance.shape)} for {tuple(by_feature.shape)}: return "
            f"{tuple(by_feature.shape[:2])}."
        )
    check_has_rank(importance)
    return importance


def check_has_rank(importance: Tensor) -> None:
    """Raise `InvalidArgumentError` if a feature's importance is not finite."""
    if not bool(torch.isfinite(importance).all()):
        raise InvalidArgumentError(
            "attributions holds NaN or infinite values, which have no rank: leave these examples out."
        )
