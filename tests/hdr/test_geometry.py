"""Sampling and warping: positions are pixels, x before y, counted from the first pixel's centre."""

import numpy as np
import pytest
import torch

from hdr.geometry import pixel_grid, sample, warp


def naive_bilinear(image: np.ndarray, x: float, y: float) -> np.ndarray:
    """One bilinear read of (C, H, W), the edge going on outside."""
    height, width = image.shape[1:]
    x, y = min(max(x, 0.0), width - 1.0), min(max(y, 0.0), height - 1.0)
    left, top = min(int(x), width - 2), min(int(y), height - 2)
    right, bottom = x - left, y - top
    above = (1 - right) * image[:, top, left] + right * image[:, top, left + 1]
    below = (1 - right) * image[:, top + 1, left] + right * image[:, top + 1, left + 1]
    return (1 - bottom) * above + bottom * below


def test_pixel_grid_counts_columns_and_rows() -> None:
    grid = pixel_grid(2, 3, like=torch.zeros(1, dtype=torch.float64))
    assert grid.dtype == torch.float64
    assert grid[0, 0].tolist() == [[0, 1, 2], [0, 1, 2]]
    assert grid[0, 1].tolist() == [[0, 0, 0], [1, 1, 1]]


@pytest.mark.parametrize("size", [(7, 12), (9, 4)])
def test_sampling_is_bilinear_between_the_centres_of_the_pixels(size: tuple[int, int]) -> None:
    image = torch.rand(1, 3, *size, dtype=torch.float64)
    positions = torch.rand(1, 2, 5, 6, dtype=torch.float64) * torch.tensor([size[1] + 3, size[0] + 3]).view(1, 2, 1, 1)
    positions = positions - 2  # some outside
    read = sample(image, positions)[0].numpy()
    for row in range(5):
        for column in range(6):
            x, y = positions[0, :, row, column].tolist()
            np.testing.assert_allclose(read[:, row, column], naive_bilinear(image[0].numpy(), x, y), atol=1e-12)


def test_whole_positions_read_the_pixels_themselves() -> None:
    image = torch.rand(2, 3, 6, 11)
    read = sample(image, pixel_grid(6, 11, like=image).expand(2, -1, -1, -1))
    torch.testing.assert_close(read, image, atol=1e-5, rtol=0)


def test_outside_may_be_black() -> None:
    image = torch.ones(1, 1, 4, 4)
    outside = torch.tensor([-5.0, 1.0]).view(1, 2, 1, 1)
    assert sample(image, outside).item() == 1.0
    assert sample(image, outside, padding_mode="zeros").item() == 0.0


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


def test_sampling_under_autocast_is_that_of_float32() -> None:
    image, positions = torch.rand(1, 3, 8, 8), 7 * torch.rand(1, 2, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        read = sample(image, positions)
    assert torch.equal(read, sample(image, positions))
