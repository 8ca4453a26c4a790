"""What evaluations are tried on: three images of noise, and a model that takes images of its own size."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.captum_ext.small_models import smooth_cnn
from tests.captum_ext.tiny_classifier import SIDE


@pytest.fixture
def images() -> Tensor:
    return torch.rand(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def smooth_model() -> nn.Module:
    return smooth_cnn(torch.float32)
