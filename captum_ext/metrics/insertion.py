"""Insertion: how fast a score recovers when pixels enter in the order of an attribution map."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from captum_ext._captum import (
    BaselineType,
    TargetType,
    expand_additional_forward_args,
    expand_target,
    format_additional_forward_args,
    run_forward,
)
from captum_ext.attr.model_state import untouched
from captum_ext.attr.target_function import select_output
from captum_ext.attr.validation import (
    InvalidArgumentError,
    check_inputs,
    check_n_steps,
    expand_baselines,
    points_per_pass,
)
from captum_ext.image_baselines import BLUR_SIGMA, blur_within_borders


@dataclass(frozen=True)
class InsertionScore:
    """The score of N examples as their pixels enter.

    Parameters
    ----------
    curves
        Score with 0, 1, ..., n_steps shares of the pixels in; shape (N, n_steps + 1).
    areas
        Area under each curve over the share of pixels, 0 to 1, by the trapezoidal rule; shape (N,).
    normalized_areas
        ``areas`` divided by the score of the whole picture; shape (N,). 0.5 where the score grows evenly, near 1 where
        the first pixels bring it all; above 1 is possible, since part of a picture may score higher than the whole.
    """

    curves: Tensor
    areas: Tensor
    normalized_areas: Tensor


def insertion(
    forward_func: Callable[..., Any],
    inputs: Tensor,
    attributions: Tensor,
    baselines: BaselineType = None,
    target: TargetType = None,
    additional_forward_args: object | None = None,
    n_steps: int = 50,
    internal_batch_size: int | None = None,
) -> InsertionScore:
    """Let the pixels with the largest attributions enter first, and follow the score.

    A pixel's rank is the sum of its absolute attributions over the channels; equal ranks keep the order of the rows of
    the picture. After step k the first round(k P / n_steps) of the P pixels come from the input, the others
    from the baseline.

    Source: Petsiuk, Das and Saenko, RISE, BMVC 2018, section 4.3; normalised as in Yang, Wang and Bilgic, IDGI,
    CVPR 2023.

    Parameters
    ----------
    forward_func
        The score: a model, or a function of one such as ``lambda x: model(x).softmax(1)`` for probabilities.
    inputs
        Shape (N, C, H, W), floating point.
    attributions
        Shape (N, C, H, W), or (N, 1, H, W) for maps without channels.
    baselines
        What pixels are before they enter: a number or a tensor of the input's shape or of batch 1. None takes the
        inputs blurred with sigma = 20 pixels.
    target
        Which output of each example is the score, in any form that Captum takes.
    additional_forward_args
        Further arguments of ``forward_func``; tensors with a batch dimension are repeated for each step.
    n_steps
        Number of equal steps, 1 or more.
    internal_batch_size
        The most rows that go through the model at once (at least N). None takes N.

    Raises
    ------
    InvalidArgumentError
        Shapes do not fit, numbers are out of range, attributions are not finite, or a whole picture's score is zero.

    Examples
    --------
    Only the left pixel counts, and the map knows it: the score is there with the first of two steps.

    >>> import torch
    >>> picture = torch.tensor([[[[1.0, 1.0]]]])
    >>> score = insertion(lambda x: x[:, 0, 0, 0], picture, torch.tensor([[[[2.0, 0.0]]]]), baselines=0, n_steps=2)
    >>> score.curves, score.normalized_areas
    (tensor([[0., 1., 1.]]), tensor([0.7500]))
    """
    n_examples = _check_pictures(inputs, attributions)
    n_steps = check_n_steps(n_steps)
    rows = n_examples if internal_batch_size is None else internal_batch_size
    at_once = points_per_pass(rows, n_examples, n_steps + 1)
    arguments = format_additional_forward_args(additional_forward_args)
    with torch.no_grad(), untouched(forward_func, inputs):
        absent = blur_within_borders(inputs, BLUR_SIGMA) if baselines is None else _baseline(baselines, inputs)
        ranks = _ranks(attributions)
        columns = []
        for first in range(0, n_steps + 1, at_once):
            counts = [round(k * ranks[0].numel() / n_steps) for k in range(n_steps + 1)[first : first + at_once]]
            pictures = torch.cat([torch.where(ranks < count, inputs, absent) for count in counts])
            output = run_forward(forward_func, pictures, None, expand_additional_forward_args(arguments, len(counts)))
            scores = select_output(output, expand_target(target, len(counts)), len(pictures))
            columns.append(scores.reshape(len(counts), n_examples))
    return _score(torch.cat(columns).T.contiguous())


def _baseline(baselines: BaselineType, inputs: Tensor) -> Tensor:
    return expand_baselines(baselines, (inputs,))[0]


def _ranks(attributions: Tensor) -> Tensor:
    """Rank of each pixel, 0 for the largest; shape (N, 1, H, W)."""
    importance = attributions.abs().sum(1, keepdim=True)
    order = importance.flatten(1).argsort(dim=1, descending=True, stable=True)
    return order.argsort(dim=1).reshape(importance.shape)


def _score(curves: Tensor) -> InsertionScore:
    full = curves[:, -1]
    if bool((full == 0).any()):
        example = int(torch.nonzero(full == 0)[0])
        raise InvalidArgumentError(
            f"the whole picture of example {example} scores 0, and areas are measured against that: choose another "
            "target or score."
        )
    areas = torch.trapezoid(curves, dx=1 / (curves.shape[1] - 1), dim=1)
    return InsertionScore(curves, areas, areas / full)


def _check_pictures(inputs: Tensor, attributions: Tensor) -> int:
    n_examples = check_inputs((inputs,))
    if inputs.dim() != 4:
        raise InvalidArgumentError(f"inputs has shape {tuple(inputs.shape)}: insertion takes pictures, (N, C, H, W).")
    pixels = (n_examples, *inputs.shape[2:])
    if attributions.dim() != 4 or (attributions.shape[0], *attributions.shape[2:]) != pixels:
        raise InvalidArgumentError(
            f"attributions has shape {tuple(attributions.shape)} for inputs of shape {tuple(inputs.shape)}: give the "
            "same shape, or one channel instead of all."
        )
    if not bool(torch.isfinite(attributions).all()):
        raise InvalidArgumentError("attributions holds NaN or infinite values, which have no rank.")
    return n_examples
