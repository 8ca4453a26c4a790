"""How much an image tells, against another library's numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from captum_ext.metrics.image_information import multiscale_similarity


def waves_and_noise(channels: int, size: int, seed: int) -> list[torch.Tensor]:
    y, x = np.mgrid[0:size, 0 : size + 7] / size
    waves = np.stack([0.5 + 0.4 * np.sin(9 * x + k) * np.cos(7 * y - k) for k in range(channels)])
    noise = 0.2 * np.random.default_rng(seed).standard_normal((size, size + 7, channels)).transpose(2, 0, 1)
    levels = [(255 * np.clip(image, 0, 1)).round() for image in (waves, waves + noise)]
    return [torch.from_numpy(level / 255) for level in levels]


# What torchmetrics 1.9 gives in float64 (with its weights of the scales in float32), data_range=1.0.
@pytest.mark.parametrize(
    ("channels", "size", "seed", "expected"),
    [(1, 176, 0, 0.5788735516247826), (3, 176, 1, 0.5792935248391805), (3, 224, 2, 0.5225506000355912)],
)
def test_ms_ssim_is_that_of_torchmetrics(channels, size, seed, expected):
    image, noisy = waves_and_noise(channels, size, seed)
    assert multiscale_similarity(image, noisy) == pytest.approx(expected, abs=1e-8)
    assert multiscale_similarity(image.float(), noisy.float()) == pytest.approx(expected, abs=1e-5)
    assert multiscale_similarity(image, 1 - noisy) == 0
