"""Insertion and deletion: how a score follows as features enter or leave in the order of an attribution map."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from captum_ext._captum import BaselineType, TargetType, format_additional_forward_args
from captum_ext._errors import InvalidArgumentError
from captum_ext.attr._common.blur import BLUR_SIGMA, blur_within_borders
from captum_ext.attr._common.checks import check_inputs, expand_baselines, points_per_pass, positive_integer
from captum_ext.attr._common.forward import TargetFunction, in_accumulation_dtype
from captum_ext.attr._common.model_state import preserve_state
from captum_ext.metrics.feature_order import ChannelReduction, feature_ranks


@dataclass(frozen=True)
class ScoreCurves:
    """The scores of N examples as their features enter or leave.

    Parameters
    ----------
    curves
        Score after 0, 1, ..., n_steps shares of the features; shape (N, n_steps + 1).
    areas
        Area under each curve over the share of features, 0 to 1, by the trapezoidal rule; shape (N,).
    normalized_areas
        ``areas`` divided by the score of the whole input; shape (N,). 0.5 where the score changes evenly. A good map
        has it near 1 for insertion and near 0 for deletion; above 1 is possible, since part of an image may score
        higher than the whole. NaN where the whole input's score is 0 but for rounding, which is no measure: 0, or
        less in size than the dtype's ``eps`` times the largest score on the curve; also where scores are not finite.
    whole
        Score of the whole input; shape (N,). None where it is not known.
    """

    curves: Tensor
    areas: Tensor
    normalized_areas: Tensor
    whole: Tensor | None = None

    def normalized_curves(self) -> Tensor:
        """Return the curves divided by the score of the whole input; shape (N, n_steps + 1).

        NaN where ``normalized_areas`` is; without ``whole`` also where an area is 0, which tells nothing of it.

        Examples
        --------
        >>> import torch
        >>> ScoreCurves(torch.tensor([[0.0, 4.0]]), torch.tensor([2.0]), torch.tensor([0.5])).normalized_curves()
        tensor([[0., 1.]])
        """
        if self.whole is None:
            return self.curves * (self.normalized_areas / self.areas)[:, None]
        return _divided(self.curves, self.whole[:, None]).masked_fill(self.normalized_areas.isnan()[:, None], torch.nan)


def insertion(
    forward_func: Callable[..., Any],
    inputs: Tensor,
    attributions: Tensor,
    baselines: BaselineType = None,
    target: TargetType = None,
    additional_forward_args: object | None = None,
    n_steps: int = 50,
    internal_batch_size: int | None = None,
    channel_reduction: ChannelReduction = "abs_sum",
) -> ScoreCurves:
    """Let the features with the largest attributions enter first, and follow the score.

    Features are the pixels of an image, the columns of a table or the tokens of a text. After step k the first
    round(k P / n_steps) of the P features come from the input, the others from the baseline. Features of equal
    importance keep their order in the input.

    Source: Petsiuk, Das and Saenko, RISE, BMVC 2018, section 4.3; normalised as in Yang, Wang and Bilgic, IDGI,
    CVPR 2023.

    Parameters
    ----------
    forward_func
        The score: a model, or a function of one such as ``lambda x: model(x).softmax(1)`` for probabilities.
    inputs
        Images (N, C, H, W), tabular rows (N, F) or embeddings (N, T, E), floating point; or tokens (N, T), integers.
    attributions
        Of the shape of ``inputs``; also (N, 1, H, W) for images, (N, T) for embeddings, (N, T, E) for tokens.
    baselines
        What features are while they are out: a number (for tokens the index of the padding or mask token) or a tensor
        of the input's shape or of batch 1. None takes images blurred with sigma = 20 pixels; others need one.
    target
        Which output of each example is the score, in any form that Captum takes.
    additional_forward_args
        Further arguments of ``forward_func``; tensors with a row for each example are repeated for each step.
    n_steps
        Number of equal steps, 1 or more; each moves the share 1 / n_steps of the features. Steps beyond one for each
        feature repeat points of the curve and cost nothing.
    internal_batch_size
        The most rows that go through the model at once (at least N). None takes N.
    channel_reduction
        How the attributions a of one feature's channels (or embedding dimensions) make its importance: ``"abs_sum"``
        sum |a|, ``"sum"`` sum a, with which negative features come last, ``"max_abs"`` max |a|, or a function from
        shape (N, features, channels) to (N, features).

    Raises
    ------
    InvalidArgumentError
        Shapes do not fit, numbers are out of range, attributions are not finite, or inputs other than images have no
        baseline.

    Examples
    --------
    Only the left pixel counts, and the map knows it: the score is there with the first of two steps.

    >>> import torch
    >>> image = torch.tensor([[[[1.0, 1.0]]]])
    >>> score = insertion(lambda x: x[:, 0, 0, 0], image, torch.tensor([[[[2.0, 0.0]]]]), baselines=0, n_steps=2)
    >>> score.curves, score.normalized_areas
    (tensor([[0., 1., 1.]]), tensor([0.7500]))
    """
    whole, absent, ranks = whole_absent_and_ranks(inputs, attributions, baselines, channel_reduction)
    score = TargetFunction(forward_func, target, format_additional_forward_args(additional_forward_args), len(inputs))
    curves = follow_features(score, absent, whole, ranks, n_steps, internal_batch_size)
    return _measured(curves, whole=curves[:, -1])


def deletion(
    forward_func: Callable[..., Any],
    inputs: Tensor,
    attributions: Tensor,
    baselines: BaselineType = None,
    target: TargetType = None,
    additional_forward_args: object | None = None,
    n_steps: int = 50,
    internal_batch_size: int | None = None,
    channel_reduction: ChannelReduction = "abs_sum",
) -> ScoreCurves:
    """Let the features with the largest attributions leave first, and follow the score; a good map makes it drop.

    The counterpart of `insertion`, with its arguments: after step k the first round(k P / n_steps) of the P features
    come from the baseline, the others from the input.

    Source: Petsiuk, Das and Saenko, RISE, BMVC 2018, section 4.3.

    Examples
    --------
    The score goes with the pixel that holds it.

    >>> import torch
    >>> image = torch.tensor([[[[1.0, 1.0]]]])
    >>> score = deletion(lambda x: x[:, 0, 0, 0], image, torch.tensor([[[[2.0, 0.0]]]]), baselines=0, n_steps=2)
    >>> score.curves, score.normalized_areas
    (tensor([[1., 0., 0.]]), tensor([0.2500]))
    """
    whole, absent, ranks = whole_absent_and_ranks(inputs, attributions, baselines, channel_reduction)
    score = TargetFunction(forward_func, target, format_additional_forward_args(additional_forward_args), len(inputs))
    curves = follow_features(score, whole, absent, ranks, n_steps, internal_batch_size)
    return _measured(curves, whole=curves[:, 0])


def whole_absent_and_ranks(
    inputs: Tensor, attributions: Tensor, baselines: BaselineType, channel_reduction: ChannelReduction
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the whole inputs, the inputs without any feature, and the ranks of the features."""
    check_inputs((inputs,), integers_allowed=isinstance(inputs, Tensor) and inputs.dim() == 2)
    if inputs.dim() not in (2, 3, 4):
        raise InvalidArgumentError(
            f"inputs has shape {tuple(inputs.shape)}: give images (N, C, H, W), rows (N, F), tokens (N, T) or "
            "embeddings (N, T, E)."
        )
    whole = inputs.detach()
    return whole, _absent(whole, baselines), feature_ranks(attributions, whole, channel_reduction)


def _absent(inputs: Tensor, baselines: BaselineType) -> Tensor:
    if baselines is not None:
        _check_token_baseline(inputs, baselines)
        return expand_baselines(baselines, (inputs,))[0]
    if inputs.dim() != 4:
        raise InvalidArgumentError(
            f"no baselines were given for inputs of shape {tuple(inputs.shape)}: only images can be blurred. Give "
            "what a feature is while it is out, for instance the mean of each column, the index of the padding token "
            "or its embedding."
        )
    return blur_within_borders(inputs, BLUR_SIGMA)


def _check_token_baseline(inputs: Tensor, baselines: BaselineType) -> None:
    if inputs.is_floating_point():
        return
    parts = baselines if isinstance(baselines, tuple) else (baselines,)
    if any(part.is_floating_point() if isinstance(part, Tensor) else isinstance(part, float) for part in parts):
        raise InvalidArgumentError(
            f"baselines={baselines!r} was given for inputs of {inputs.dtype}: give integers, such as the index of the "
            "padding token."
        )


def follow_features(
    score: TargetFunction,
    start: Tensor,
    end: Tensor,
    ranks: Tensor,
    n_steps: int,
    internal_batch_size: int | None,
    most: float = 1.0,
) -> Tensor:
    """Score inputs whose features change from ``start`` to ``end`` in the order of their ranks; (N, n_steps + 1).

    After the last step the share ``most`` of them has changed.
    """
    n_steps = positive_integer("n_steps", n_steps, "the number of steps in which features change")
    n_features = ranks[0].numel()
    changed = [round(most * step * n_features / n_steps) for step in range(n_steps + 1)]
    distinct = sorted(set(changed))  # with more steps than features, steps repeat
    rows = score.n_examples if internal_batch_size is None else internal_batch_size
    at_once = points_per_pass(rows, score.n_examples, len(distinct))
    columns = []
    with torch.no_grad(), preserve_state(score.forward_func, start):
        for first in range(0, len(distinct), at_once):
            counts = distinct[first : first + at_once]
            mixed = torch.cat([torch.where(ranks < count, end, start) for count in counts])
            columns.append(score.values((mixed,), len(counts)).reshape(len(counts), score.n_examples))
    place = {count: index for index, count in enumerate(distinct)}
    return torch.cat(columns)[[place[count] for count in changed]].T.contiguous()


def _measured(curves: Tensor, whole: Tensor) -> ScoreCurves:
    areas = area_under(curves)
    normalized = _divided(areas, whole)
    measurable = is_measure(whole, curves) & normalized.isfinite()
    return ScoreCurves(curves, areas, torch.where(measurable, normalized, torch.nan), whole)


def is_measure(whole: Tensor, curves: Tensor) -> Tensor:
    """Return which whole inputs' scores are more than 0 and rounding beside those on their curves; shape (N,)."""
    largest = curves.abs().amax(1)
    return (whole != 0) & (whole.abs() >= torch.finfo(curves.dtype).eps * largest)


def area_under(curves: Tensor) -> Tensor:
    """Return the area under each curve over 0 to 1, in the dtype of the curves; shape (N,)."""
    # In half precision the sum of scores that are no larger than usual logits would overflow.
    areas = torch.trapezoid(in_accumulation_dtype(curves), dx=1 / (curves.shape[1] - 1), dim=1)
    return areas.to(curves.dtype)


def _divided(scores: Tensor, whole: Tensor) -> Tensor:
    return (in_accumulation_dtype(scores) / in_accumulation_dtype(whole)).to(scores.dtype)
