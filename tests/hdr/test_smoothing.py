"""Maps smoothed by a Gaussian."""

import numpy as np
import pytest
import torch

from hdr.smoothing import blurred


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
@pytest.mark.parametrize("sigma", [0.75, 1.0, 2.0])
def test_a_point_becomes_a_gaussian_of_three_deviations(sigma, device):
    maps = torch.zeros(2, 3, 31, 29, dtype=torch.float64, device=device)
    maps[1, 2, 15, 14] = 1.0
    found = blurred(maps, sigma).cpu().numpy()
    reach = round(3 * sigma)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    expected = np.zeros_like(found)
    expected[1, 2, 15 - reach : 16 + reach, 14 - reach : 15 + reach] = np.outer(weights, weights) / weights.sum() ** 2
    np.testing.assert_allclose(found, expected, atol=1e-9)


@pytest.mark.parametrize("size", [(1, 1), (2, 40), (3, 5), (16, 17)])
def test_what_is_even_stays_so_up_to_every_border(size):
    maps = torch.full((1, 2, *size), 0.7)
    torch.testing.assert_close(blurred(maps, 2.0), maps)


def test_half_precision_is_for_the_network_only():
    maps = torch.rand(1, 1, 20, 20)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(blurred(maps, 1.0), blurred(maps, 1.0).float())
        found = blurred(maps, 1.0)
    torch.testing.assert_close(found, blurred(maps, 1.0), rtol=0, atol=0)


@pytest.mark.parametrize("side", [1, 2, 3, 4])
def test_maps_as_small_as_what_is_cut_off_are_smoothed(side):
    smoothed = blurred(torch.ones(1, 1, side, 9), 1.0)  # cut off at 3 pixels
    torch.testing.assert_close(smoothed, torch.ones(1, 1, side, 9))
