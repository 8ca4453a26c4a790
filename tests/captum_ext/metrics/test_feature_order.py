"""Features enter and leave in the order of their importance."""

from __future__ import annotations

import pytest
import torch

from captum_ext.metrics import ScoreCurves, insertion


def entering_order(score: ScoreCurves) -> list[int]:
    """Digits entered at each step, where feature k of the input is 10**k and the score is the sum."""
    return [round(float(step)) for step in score.curves[0].diff()]


@pytest.mark.parametrize(
    ("channel_reduction", "order"),
    [
        ("abs_sum", [1, 10, 100]),  # 6, 5, 4
        ("sum", [100, 1, 10]),  # 4, 0, -5
        ("max_abs", [10, 100, 1]),  # 5, 4, 3
        (lambda by_feature: -by_feature[:, :, 0], [10, 1, 100]),  # -3, 0, -4 with the sign changed: 0, -3, -4
    ],
)
def test_channel_reductions_rank_by_hand(channel_reduction, order):
    picture = torch.tensor([[[[1.0, 10.0, 100.0]], [[0.0, 0.0, 0.0]]]])
    attributions = torch.tensor([[[[3.0, 0.0, 4.0]], [[-3.0, -5.0, 0.0]]]])
    score = insertion(
        lambda x: x.sum((1, 2, 3)), picture, attributions, 0, n_steps=3, channel_reduction=channel_reduction
    )
    assert entering_order(score) == order


def test_equal_importance_keeps_the_order_of_the_rows():
    picture = torch.tensor([[[[1.0, 10.0], [100.0, 1000.0]]]])
    score = insertion(lambda x: x.sum((1, 2, 3)), picture, torch.ones_like(picture), 0, n_steps=4)
    assert entering_order(score) == [1, 10, 100, 1000]


def test_attributions_in_half_precision_are_ranked_by_sums_that_it_does_not_hold():
    # 90000 and 75000 are both infinite in half precision.
    picture = torch.tensor([[[[1.0, 10.0]], [[0.0, 0.0]], [[0.0, 0.0]]]])
    attributions = torch.tensor([25000.0, 30000.0]).half().reshape(1, 1, 1, 2).expand(1, 3, 1, 2)
    score = insertion(lambda x: x.sum((1, 2, 3)), picture, attributions, 0, n_steps=2)
    assert entering_order(score) == [10, 1]
