"""The protocol of the IDGI paper: what it fixes, what it leaves, what it refuses."""

from __future__ import annotations

import pytest
import torch

from captum_ext.evaluation import evaluate
from tests.captum_ext.small_models import recognised


def test_methods_and_metrics_are_those_of_the_paper_unless_given(smooth_model):
    found = evaluate(smooth_model, recognised(smooth_model, torch.rand(1, 3, 8, 8)), protocol="idgi-paper", n_steps=2)
    assert set(found["metric"]) == {"insertion", "insertion-raw", "aic", "sic", "aic-ms-ssim", "sic-ms-ssim"}
    assert list(found["method"].unique()) == [
        "ig",
        "idgi",
        "guided-ig",
        "idgi:guided",
        "blur-ig",
        "idgi:blur",
        "random",
    ]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (
            {"insertion_baseline": "white"},
            "insertion_baseline=white was given with protocol=idgi-paper, which has black",
        ),
        ({"curve_steps": 7}, "curve_steps=7"),
        ({"min_score": 0.1}, "min_score=0.1"),
    ],
    ids=str,
)
def test_what_it_fixes_cannot_be_something_else(smooth_model, option, message):
    with pytest.raises(ValueError, match=message):
        evaluate(smooth_model, torch.rand(1, 3, 8, 8), protocol="idgi-paper", **option)


def test_unknown_protocol_lists_the_known_ones(smooth_model):
    with pytest.raises(ValueError, match="known are own, idgi-paper"):
        evaluate(smooth_model, torch.rand(1, 3, 8, 8), protocol="paper")
