"""The Gaussian blur is SciPy's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from captum_ext.attr._common.blur import gaussian_blur
from tests.captum_ext.small_models import pictures


def scipy_blur(x: np.ndarray, sigma: float) -> np.ndarray:
    ndimage = pytest.importorskip("scipy.ndimage")
    return np.stack([ndimage.gaussian_filter(channel, sigma, mode="constant") for channel in x])


@pytest.mark.parametrize("sigma", [0.05, 0.3, 0.9, 1.0, 2.15, 2.5, 20.0])
def test_gaussian_blur_is_scipys(sigma):
    x = pictures(2, size=13)
    expected = np.stack([scipy_blur(image, sigma) for image in x.numpy()])
    np.testing.assert_allclose(gaussian_blur(x, sigma).numpy(), expected, rtol=0, atol=1e-12)


def test_gaussian_blur_of_bfloat16_is_rounded_once():
    x = pictures(2, torch.bfloat16, size=32)
    differs = gaussian_blur(x, 6.0) != gaussian_blur(x.double(), 6.0).bfloat16()
    assert differs.double().mean() < 0.01
