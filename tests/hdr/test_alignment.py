"""Deformable convolution is compared with torchvision's; matching with a displacement that is known."""

import pytest
import torch
from torchvision.ops import deform_conv2d

from hdr.nn.alignment import DeformableAlignment, DeformableConv, LocalMatching, warp


@pytest.mark.parametrize("kernel_size", [1, 3])
def test_deformable_convolution_is_torchvisions(kernel_size: int) -> None:
    torch.manual_seed(0)
    layer = DeformableConv(4, kernel_size)
    torch.nn.init.normal_(layer.mix.weight)
    torch.nn.init.normal_(layer.mix.bias)
    features = torch.randn(2, 4, 9, 11)
    offsets = 3 * torch.randn(2, 2, layer.taps, 9, 11)
    # torchvision interleaves (dy, dx) per tap and keeps the kernel as (out, in, rows, columns).
    theirs = deform_conv2d(
        features,
        offsets.flip(1).transpose(1, 2).flatten(1, 2),
        layer.mix.weight.reshape(4, 4, kernel_size, kernel_size),
        layer.mix.bias,
        padding=kernel_size // 2,
    )
    torch.testing.assert_close(layer(features, offsets), theirs, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kernel_size", [1, 3])
def test_untrained_deformable_convolution_passes_features_on(kernel_size: int) -> None:
    layer, features = DeformableConv(4, kernel_size), torch.randn(2, 4, 9, 11)
    torch.testing.assert_close(layer(features, torch.zeros(2, 2, layer.taps, 9, 11)), features, atol=1e-5, rtol=1e-5)


def test_warp_reads_where_the_displacement_points() -> None:
    image = torch.arange(20.0).reshape(1, 1, 4, 5)
    displacement = torch.zeros(1, 2, 4, 5)
    displacement[:, 0], displacement[:, 1] = 1.0, 2.0
    assert warp(image, displacement)[0, 0, 1, 2] == image[0, 0, 3, 3]
    displacement[:, 0], displacement[:, 1] = 0.5, 0.0
    assert warp(image, displacement)[0, 0, 1, 2].item() == pytest.approx(7.5)


def test_warp_of_bfloat16_keeps_coordinates_exact() -> None:
    image = torch.zeros(1, 1, 1, 600, dtype=torch.bfloat16)
    image[..., 511] = 1.0
    moved = warp(image, torch.tensor([1.0, 0.0]).reshape(1, 2, 1, 1).expand(1, 2, 1, 600))
    assert moved.dtype == torch.bfloat16
    assert int(moved.argmax()) == 510


def test_untrained_matching_finds_a_shift() -> None:
    torch.manual_seed(1)
    matching = LocalMatching(8, radius=4)
    matching.log_sharpness.data.fill_(4.0)
    wide = torch.randn(1, 8, 20, 28)
    displacement = matching(wide[..., 4:24], wide[..., 1:21])  # reference x is at x + 3 in the other
    inner = displacement[..., 6:14, 6:14]
    assert inner[:, 0].mean().item() == pytest.approx(3.0, abs=0.3)
    assert inner[:, 1].mean().item() == pytest.approx(0.0, abs=0.3)


def test_matching_stays_within_its_radius() -> None:
    torch.manual_seed(2)
    matching = LocalMatching(8, radius=3)
    torch.nn.init.normal_(matching.correct[-1].weight, std=50.0)
    displacement = matching(torch.randn(2, 8, 12, 12), torch.randn(2, 8, 12, 12))
    assert displacement.abs().max() <= 3.0
    assert displacement.abs().max() > 2.9


def test_corrections_are_bounded() -> None:
    torch.manual_seed(3)
    stage = DeformableAlignment(8, kernel_size=3)
    for layer in (stage.correction, stage.tap_offsets):
        torch.nn.init.normal_(layer.weight, std=100.0)
    before = torch.randn(2, 2, 10, 10)
    _, after = stage(torch.randn(2, 8, 10, 10), torch.randn(2, 8, 10, 10), before)
    assert (after - before).abs().max() <= 2.0 + 1e-5
    assert (after - before).abs().max() > 1.9


def test_untrained_stage_keeps_the_displacement() -> None:
    before = torch.randn(1, 2, 6, 6)
    _, after = DeformableAlignment(8, kernel_size=1)(torch.randn(1, 8, 6, 6), torch.randn(1, 8, 6, 6), before)
    assert torch.equal(before, after)
