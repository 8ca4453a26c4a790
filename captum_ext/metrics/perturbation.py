"""The pixel perturbation test: how much the score changes as the features that a map calls unimportant leave."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from captum_ext._captum import BaselineType, TargetType, format_additional_forward_args
from captum_ext._errors import InvalidArgumentError
from captum_ext.attr._common.forward import TargetFunction
from captum_ext.metrics.feature_order import ChannelReduction
from captum_ext.metrics.insertion_deletion import (
    ScoreCurves,
    area_under,
    follow_features,
    is_measure,
    whole_absent_and_ranks,
)


def perturbation(
    forward_func: Callable[..., Any],
    inputs: Tensor,
    attributions: Tensor,
    baselines: BaselineType = None,
    target: TargetType = None,
    additional_forward_args: object | None = None,
    n_steps: int = 50,
    most: float = 0.5,
    internal_batch_size: int | None = None,
    channel_reduction: ChannelReduction = "abs_sum",
) -> ScoreCurves:
    """Let the features with the smallest attributions leave first, and follow by how much the score changes.

    A good map calls only those unimportant without which the model says the same, so its curve stays low. Deletion of
    the largest ones makes pictures that no network has seen; this removes what should not matter. Arguments are those
    of `insertion`, but for ``most``.

    Source: Srinivas and Fleuret, FullGrad, NeurIPS 2019, section 5.1.

    Parameters
    ----------
    n_steps
        Number of equal steps, 1 or more.
    most
        Share of the features that are gone after the last step, above 0 and at most 1.

    Returns
    -------
    ScoreCurves
        ``curves`` are |f after step k - f(x)| / |f(x)| for k from 0 to ``n_steps``, ``areas`` and ``normalized_areas``
        the mean of that over the shares from 0 to ``most``. Low is good. NaN where f(x) is 0 but for rounding, as
        `ScoreCurves` tells it.

    Raises
    ------
    InvalidArgumentError
        As for `insertion`; ``most`` is out of range.

    Examples
    --------
    The right pixel does not count, and the map knows it: nothing changes until it is gone.

    >>> import torch
    >>> image = torch.tensor([[[[1.0, 1.0]]]])
    >>> score = perturbation(lambda x: x[:, 0, 0, 0], image, torch.tensor([[[[2.0, 0.0]]]]), baselines=0, n_steps=1)
    >>> score.curves, score.areas
    (tensor([[0., 0.]]), tensor([0.]))
    """
    if not 0 < most <= 1:
        raise InvalidArgumentError(f"most={most!r} was given: it is the share of the features that leave, in (0, 1].")
    whole, absent, ranks = whole_absent_and_ranks(inputs, attributions, baselines, channel_reduction)
    score = TargetFunction(forward_func, target, format_additional_forward_args(additional_forward_args), len(inputs))
    least_first = ranks[0].numel() - 1 - ranks
    outputs = follow_features(score, whole, absent, least_first, n_steps, internal_batch_size, most)
    own = outputs[:, :1]
    curves = torch.where(is_measure(own[:, 0], outputs)[:, None], (outputs - own).abs() / own.abs(), torch.nan)
    areas = area_under(curves)
    return ScoreCurves(curves, areas, areas, torch.ones_like(areas))
