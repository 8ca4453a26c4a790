"""How much an image tells, against another library's numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from captum_ext.metrics.image_information import information_in, multiscale_similarity


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
    images = torch.stack([image, noisy, 1 - noisy])
    found = multiscale_similarity(images, noisy)
    assert found.tolist() == pytest.approx([expected, 1, 0], abs=1e-8)
    assert multiscale_similarity(images.float(), noisy.float()).tolist() == pytest.approx(found.tolist(), abs=1e-5)


@pytest.mark.parametrize("information", ["png", "webp", "ms-ssim"])
def test_versions_of_an_image_together_tell_what_each_tells_alone(information):
    whole, *versions = (
        (255 * image).byte().permute(1, 2, 0).numpy() for seed in (0, 1) for image in waves_and_noise(3, 176, seed)
    )
    together = information_in(versions, whole, information)
    assert together == pytest.approx([information_in([version], whole, information)[0] for version in versions])
    assert len(set(together)) == len(versions)


def test_of_large_images_no_more_versions_than_memory_holds_are_compared_at_once(monkeypatch):
    rng = np.random.default_rng(0)
    versions = [rng.integers(256, size=(180, 200, 3), dtype=np.uint8) for _ in range(5)]
    whole = (versions[0] // 2 + versions[1] // 2).astype(np.uint8)
    expected, seen = information_in(versions, whole, "ms-ssim"), []

    def counted(images, other):
        seen.append(len(images))
        return multiscale_similarity(images, other)

    monkeypatch.setattr("captum_ext.metrics.image_information._PIXELS_AT_ONCE", 2 * 180 * 200)
    monkeypatch.setattr("captum_ext.metrics.image_information.multiscale_similarity", counted)
    assert information_in(versions, whole, "ms-ssim") == pytest.approx(expected)
    assert seen == [2, 2, 1]
