"""Scenery: what a picture shows at a position, whatever lies outside, and views of panoramas."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from kornia.geometry.conversions import axis_angle_to_rotation_matrix

from hdr.data.scenery import Panorama, Scenery, read_scenery
from hdr.geometry import pixel_grid
from hdr.io import write_radiance


def test_positions_on_pixels_read_the_pixels() -> None:
    radiance = torch.rand(3, 12, 17) + 0.01
    read = Scenery(radiance).read(pixel_grid(12, 17, like=radiance))[0]
    torch.testing.assert_close(read, radiance, rtol=1e-3, atol=1e-5)


def test_edges_are_mirrored_and_panoramas_go_round() -> None:
    radiance = torch.rand(3, 8, 16) + 0.01
    outside = torch.tensor([[-3.0, 17.0], [2.0, 2.0]]).view(1, 2, 1, 2)
    mirrored, wrapped = Scenery(radiance).read(outside)[0, :, 0], Panorama(radiance).read(outside)[0, :, 0]
    torch.testing.assert_close(mirrored, radiance[:, 2, [3, 13]], rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(wrapped, radiance[:, 2, [13, 1]], rtol=1e-3, atol=1e-5)


def test_lamps_do_not_ring() -> None:
    radiance = torch.full((3, 16, 16), 0.01)
    radiance[:, 8, 8] = 1000.0
    positions = pixel_grid(61, 61, like=radiance) / 4
    read = Scenery(radiance).read(positions)
    assert float(read.min()) > 0.002  # cubic interpolation of radiance itself would reach -70


def test_black_stays_black() -> None:
    assert float(Scenery(torch.zeros(3, 8, 8)).read(7 * torch.rand(1, 2, 5, 5)).abs().max()) < 1e-20


def test_panorama_of_another_projection_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(3, H, 2 H\), got \(3, 8, 8\)"):
        Panorama(torch.ones(3, 8, 8))


def test_views_look_where_the_rotation_says() -> None:
    # A panorama that shows each direction as a colour: the view must show its own rays. Radiance is positive, so one
    # more of each.
    height, width = 256, 512
    longitude = ((torch.arange(width) + 0.5) / width - 0.5) * 2 * math.pi
    latitude = ((torch.arange(height) + 0.5) / height - 0.5) * math.pi
    x = torch.cos(latitude)[:, None] * torch.sin(longitude)
    z = torch.cos(latitude)[:, None] * torch.cos(longitude)
    y = torch.sin(latitude)[:, None].expand_as(x)
    panorama = Panorama(torch.stack([x, y, z]) + 1.5)
    rotations = axis_angle_to_rotation_matrix(torch.tensor([[0.0, 0.0, 0.0], [0.3, 0.2, 0.1], [0.0, math.pi, 0.0]]))
    views = panorama.view(rotations, 15, 21, focal_length=12.0).numpy() - 1.5
    for rotation, view in zip(rotations.numpy(), views, strict=True):
        for row, column in ((0, 0), (7, 10), (14, 3), (2, 20)):
            ray = rotation @ np.array([column - 10, row - 7, 12.0])
            np.testing.assert_allclose(view[:, row, column], ray / np.linalg.norm(ray), atol=2e-3)


def test_panoramas_are_read_at_half_their_resolution_and_photographs_whole(tmp_path: Path) -> None:
    write_radiance(tmp_path / "panorama.exr", torch.rand(3, 32, 64))
    write_radiance(tmp_path / "photograph.exr", torch.rand(3, 32, 48))
    panorama, photograph = (read_scenery(tmp_path / f"{name}.exr") for name in ("panorama", "photograph"))
    assert isinstance(panorama, Panorama)
    assert not isinstance(photograph, Panorama)
    assert (panorama.height, panorama.width) == (16, 32)
    assert (photograph.height, photograph.width) == (32, 48)
