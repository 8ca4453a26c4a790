"""Things that move: by their speed, in front of what is behind them."""

from __future__ import annotations

import torch

from hdr.data.motion import Layer, _own_coordinates, compose, moving_layer
from hdr.data.scenery import Panorama
from hdr.geometry import pixel_grid


def test_layers_hide_what_is_behind() -> None:
    background = torch.zeros(3, 3, 2, 2)
    glass = Layer(torch.ones(3, 3, 2, 2), torch.full((3, 1, 2, 2), 0.25))
    wall = Layer(torch.full((3, 3, 2, 2), 5.0), torch.ones(3, 1, 2, 2))
    assert compose(background, [glass])[0, 0, 0, 0] == 0.25
    assert compose(background, [wall, glass])[0, 0, 0, 0] == 4.0
    assert compose(background, [glass, wall])[0, 0, 0, 0] == 5.0


def centroids_of(seed: int, speed: float, moments: tuple[float, ...]) -> torch.Tensor | None:
    """Where a thing is at each instant, (N, 2); None if the frame cuts it, for then it has another centroid."""
    texture = Panorama(torch.ones(3, 32, 64))
    generator = torch.Generator().manual_seed(seed)
    opacity = moving_layer(generator, texture, 1.0, 96, 96, speed, moments).opacity[:, 0]
    if opacity[:, [0, -1]].amax() > 0.01 or opacity[:, :, [0, -1]].amax() > 0.01 or opacity[0].sum() < 30:
        return None
    return (pixel_grid(96, 96, like=opacity) * opacity[:, None]).sum(dim=(2, 3)) / opacity.sum(dim=(1, 2))[:, None]


def test_things_move_by_their_speed_from_instant_to_instant() -> None:
    moved = 0
    for seed in range(60):
        centroids = centroids_of(seed, 12.0, (-1.0, 0.0, 1.0))
        if centroids is not None:
            moved += 1
            steps = (centroids[1:] - centroids[:-1]).norm(dim=1)
            # Limbs and bending move a centroid, too.
            assert bool(((steps > 8.0) & (steps < 16.0)).all())
            assert (centroids[0] + centroids[2] - 2 * centroids[1]).norm() < 4.0
    assert moved >= 6


def test_an_instant_is_where_the_exposure_is_taken() -> None:
    shown = 0
    for seed in range(60):
        centroids = centroids_of(seed, 12.0, (-0.5, 0.0, 0.0))
        if centroids is not None:
            shown += 1
            assert (centroids[1] - centroids[2]).norm() < 3.0  # but for leaves and limbs that sway
            assert 3.0 < (centroids[0] - centroids[1:].mean(dim=0)).norm() < 9.0
    assert shown >= 6


def test_things_turn_and_grow_from_instant_to_instant() -> None:
    turns, growths = [], []
    for seed in range(40):
        generator = torch.Generator().manual_seed(seed)
        grid = pixel_grid(96, 96, like=torch.zeros(1))
        own = _own_coordinates(generator, grid, 30.0, 96, 96, 12.0, (-1.0, 0.0, 1.0))
        # By how much the thing's own x grows over a pixel: cos and sin of its angle, over its size.
        over = torch.stack([own[:, 0].diff(dim=-1).mean(dim=(1, 2)), own[:, 0].diff(dim=-2).mean(dim=(1, 2))])
        angle, scale = torch.atan2(over[1], over[0]), -over.norm(dim=0).log()
        turns.append(angle.diff())
        growths.append(scale.diff())
    for steps, typical in ((torch.stack(turns), 0.15), (torch.stack(growths), 0.04)):
        assert 0.7 * typical < float(steps.std()) < 1.4 * typical
        # As much before the reference's instant as after it, but for what bends.
        assert float((steps[:, 1] - steps[:, 0]).abs().median()) < 0.25 * typical
