"""Models that draw numbers or mix examples are refused with what to do about it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from captum_ext import FullGrad
from captum_ext.attr import NotDeterministicError

X = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))


class FunctionalDropout(nn.Module):
    def forward(self, x):
        return F.dropout(x).sum((1, 2, 3))


IN_EVAL_MODE = {
    "functional dropout": (FunctionalDropout(), "training=self.training"),
    "no running statistics": (nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False), nn.Flatten()), "GroupNorm"),
    "fractional pooling": (
        nn.Sequential(nn.FractionalMaxPool2d(3, output_size=4), nn.Flatten(), nn.Linear(48, 1)),
        "fractional pooling",
    ),
}


@pytest.mark.parametrize("name", IN_EVAL_MODE)
def test_models_in_eval_mode_are_not_told_to_go_there(name):
    model, advice = IN_EVAL_MODE[name]
    with pytest.raises(NotDeterministicError, match=advice) as refusal:
        FullGrad(model.eval()).attribute(X, target=0 if isinstance(model, nn.Sequential) else None)
    assert "Call model.eval() first" not in str(refusal.value)


def test_models_in_training_mode_are_told_to_leave_it():
    with pytest.raises(NotDeterministicError, match=r"module '0' runs active dropout.*Call model.eval\(\) first"):
        FullGrad(nn.Sequential(nn.Dropout(), nn.Flatten())).attribute(X, target=0)
