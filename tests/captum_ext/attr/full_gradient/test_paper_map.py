"""Maps are rescaled and laid over each other as the paper does it, with less work."""

from __future__ import annotations

import torch

from captum_ext.attr.full_gradient.paper_map import _Overlay, _rescaled_channel_product, rescaled_sum


def test_rescaling_takes_the_least_magnitude_off_every_channel():
    magnitudes = 1 + torch.rand(2, 3, 4, 5, dtype=torch.float64)
    least, most = magnitudes.amin((1, 2, 3), keepdim=True), magnitudes.amax((1, 2, 3), keepdim=True)
    expected = ((magnitudes - least) / (most - least + 1e-6)).sum(1, keepdim=True)
    torch.testing.assert_close(rescaled_sum(magnitudes), expected)


def test_products_by_channel_are_rescaled_without_being_made():
    adjoint = torch.randn(2, 3, 4, 5, dtype=torch.float64).sign() * (1 + torch.rand(2, 3, 4, 5, dtype=torch.float64))
    bias = torch.tensor([0.5, -3.0, 2.0], dtype=torch.float64).reshape(3, 1, 1)
    torch.testing.assert_close(_rescaled_channel_product(adjoint, bias), rescaled_sum((adjoint * bias).abs()))


def test_maps_of_one_resolution_are_added_and_the_full_one_stays_as_it_is():
    overlay, whole, half = _Overlay(), torch.rand(1, 1, 4, 4), torch.rand(1, 1, 2, 2)
    for found in (whole, half, 2 * whole, 3 * half):
        overlay.add(found)
    enlarged = torch.nn.functional.interpolate(4 * half, size=(4, 4), mode="bilinear", align_corners=True)
    torch.testing.assert_close(overlay.at((4, 4)), 3 * whole + enlarged)
