"""Pixels that are not revealed are interpolated from those that are."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from captum_ext.metrics.revealed_pixels import interpolate_hidden, random_mask


@pytest.mark.skipif(importlib.util.find_spec("scipy") is None, reason="SciPy interpolates")
def test_interpolation_restores_a_plane_from_its_corners():
    y, x = np.mgrid[0:9, 0:9]
    plane = np.stack([10 * x + 5 * y, 100 + x, 200 - 2 * y], axis=2).astype(np.uint8)
    corners = random_mask(9, 9, 0.0, seed=0)
    assert corners.sum() == 4
    np.testing.assert_array_equal(interpolate_hidden(plane, corners), plane)


def test_random_pixels_are_the_whole_part_of_their_share():
    # As in the authors' code: of 225 pixels a tenth is 22; corners may be among them.
    drawn = []
    for seed in range(20):
        mask = random_mask(15, 15, 0.1, seed)
        mask[[0, 0, -1, -1], [0, -1, 0, -1]] = False
        drawn.append(int(mask.sum()))
    assert max(drawn) == 22
    assert min(drawn) >= 18
