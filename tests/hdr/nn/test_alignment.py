"""Deformable convolution is compared with torchvision's; what the network may move is bounded."""

import pytest
import torch
from torchvision.ops import deform_conv2d

from hdr.nn.alignment import (
    CORRECTION_BOUND,
    TAP_BOUND,
    DeformableAlignment,
    DeformableConv,
    upsample_displacement,
)


@pytest.mark.parametrize("kernel_size", [1, 3])
def test_deformable_convolution_is_torchvisions(kernel_size: int) -> None:
    layer = DeformableConv(4, kernel_size)
    torch.nn.init.normal_(layer.mix.weight)
    torch.nn.init.normal_(layer.get_parameter("mix.bias"))
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
    with torch.no_grad():  # as the network merges, in another layout
        last = layer(features.contiguous(memory_format=torch.channels_last), offsets)
    torch.testing.assert_close(last, theirs, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kernel_size", [1, 3])
def test_untrained_deformable_convolution_passes_features_on(kernel_size: int) -> None:
    layer, features = DeformableConv(4, kernel_size), torch.randn(2, 4, 9, 11)
    torch.testing.assert_close(layer(features, torch.zeros(2, 2, layer.taps, 9, 11)), features, atol=1e-5, rtol=1e-5)


def test_corrections_are_bounded() -> None:
    stage = DeformableAlignment(8, kernel_size=3)
    for layer in (stage.correction, stage.tap_offsets):
        torch.nn.init.normal_(layer.weight, std=100.0)
    before = torch.randn(2, 2, 10, 10)
    _, after = stage(torch.randn(2, 8, 10, 10), torch.randn(2, 8, 10, 10), before)
    assert (after - before).abs().max() <= CORRECTION_BOUND + 1e-5
    assert (after - before).abs().max() > 0.95 * CORRECTION_BOUND


def test_taps_stay_within_their_bound() -> None:
    stage = DeformableAlignment(8, kernel_size=1)
    torch.nn.init.normal_(stage.tap_offsets.weight, std=100.0)
    other = torch.zeros(1, 8, 9, 41)
    other[..., 20] = 1.0
    aligned, _ = stage(torch.randn(1, 8, 9, 41), other, torch.zeros(1, 2, 9, 41))
    seen = aligned.abs().sum(dim=(0, 1, 2)).nonzero().flatten() - 20
    assert len(seen) > 1
    assert TAP_BOUND <= seen.abs().max() <= TAP_BOUND + 1  # and bilinear interpolation reaches one pixel further


def test_untrained_stage_warps_by_the_displacement_that_it_is_given() -> None:
    before = torch.zeros(1, 2, 6, 8)
    before[:, 0], before[:, 1] = 2.0, -1.0
    other = torch.randn(1, 8, 6, 8)
    aligned, after = DeformableAlignment(8, kernel_size=3)(torch.randn(1, 8, 6, 8), other, before)
    assert torch.equal(before, after)
    torch.testing.assert_close(aligned[..., 1:, :6], other[..., :5, 2:], atol=1e-5, rtol=0)


def test_a_displacement_at_twice_the_resolution_is_twice_as_long() -> None:
    fine = upsample_displacement(torch.full((1, 2, 3, 4), 1.5))
    assert fine.shape == (1, 2, 6, 8)
    torch.testing.assert_close(fine, torch.full_like(fine, 3.0))
