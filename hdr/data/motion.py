"""Things that move in front of a background, at the instants of a bracket."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hdr.data.draws import integer, log_uniform, normal, smooth_field, uniform
from hdr.data.scenery import Scenery
from hdr.data.shapes import SHAPES
from hdr.geometry import pixel_grid


@dataclass(frozen=True)
class Layer:
    """A thing at N instants: its radiance (N, 3, H, W) and its opacity in [0, 1], (N, 1, H, W)."""

    radiance: Tensor
    opacity: Tensor


def moving_layer(
    generator: torch.Generator,
    texture: Scenery,
    brightness: float,
    height: int,
    width: int,
    speed: float,
    moments: Sequence[float],
) -> Layer:
    """Draw a thing with the texture of a piece of a picture.

    Parameters
    ----------
    generator
        Everything random comes from here.
    texture
        Where its surface comes from.
    brightness
        Mean radiance of its surface.
    height, width
        Size of the scene.
    speed
        Pixels that it moves in a unit of time.
    moments
        When each exposure is taken; 0 is the reference's instant.

    Returns
    -------
    Layer
        Moved, turned, scaled and bent a little differently at every instant.
    """
    size = log_uniform(generator, 0.08, 0.35) * min(height, width)
    grid = pixel_grid(height, width, like=texture.read(torch.zeros(1, 2, 1, 1)))
    positions = _own_coordinates(generator, grid, size, height, width, speed, moments)
    shape = SHAPES[integer(generator, 0, len(SHAPES) - 1)]
    outline = shape(generator, positions).unsqueeze(1) * size
    softness = log_uniform(generator, 0.3, 2.5)
    opacity = torch.sigmoid(-outline / softness)
    return Layer(_surface(generator, texture, positions, size, brightness), opacity)


def compose(background: Tensor, layers: list[Layer]) -> Tensor:
    """Background (N, 3, H, W) with layers in front of it, the last one nearest."""
    for layer in layers:
        background = torch.lerp(background, layer.radiance.to(background), layer.opacity.to(background))
    return background


def _own_coordinates(
    generator: torch.Generator,
    grid: Tensor,
    size: float,
    height: int,
    width: int,
    speed: float,
    moments: Sequence[float],
) -> Tensor:
    """Image positions in the coordinates of the thing at each instant, (N, 2, H, W), size 1 around 0."""
    centre = torch.tensor([uniform(generator, 0, width), uniform(generator, 0, height)])
    # Things move sideways rather than up and down.
    direction = math.pi * integer(generator, 0, 1) + 0.5 * float(normal(generator, 1))
    velocity = speed * torch.tensor([math.cos(direction), math.sin(direction)])
    turn, growth = 0.15 * float(normal(generator, 1)), 0.04 * float(normal(generator, 1))
    tilt = 0.2 * float(normal(generator, 1))
    bend = log_uniform(generator, 0.002, 0.06)
    shared = bend * smooth_field(generator, 2, height, width, 3)
    moving = speed > 1.0
    placed = []
    for moment in moments:
        angle = tilt + moment * turn if moving else tilt
        own_bend = shared + (0.5 * bend * smooth_field(generator, 2, height, width, 3) if moving else 0.0)
        offset = (grid[0] - (centre + moment * velocity).to(grid.device).view(2, 1, 1)) / (size * (1 + moment * growth))
        x = math.cos(angle) * offset[0] + math.sin(angle) * offset[1]
        y = -math.sin(angle) * offset[0] + math.cos(angle) * offset[1]
        placed.append(torch.stack([x, y]) + own_bend.to(grid.device))
    return torch.stack(placed)


def _surface(generator: torch.Generator, texture: Scenery, positions: Tensor, size: float, brightness: float) -> Tensor:
    """Radiance of the surface, (N, 3, H, W): texture, tint, shading."""
    # Between the poles' surroundings, where an equirectangular picture is stretched.
    place = torch.tensor([uniform(generator, 0, texture.width), uniform(generator, 0.25, 0.75) * texture.height])
    detail = size * log_uniform(generator, 0.4, 1.5)
    colours = texture.read(place.to(positions.device).view(1, 2, 1, 1) + detail * positions)
    # A lamp or the sun on a surface would be a light source: compress to a few times the mean.
    mean = colours.mean().clamp_min(1e-6)
    colours = colours / mean
    colours = colours / (1 + colours / 8)
    plainness = uniform(generator, 0.0, 0.7)
    tint = torch.exp(0.3 * normal(generator, 3)).to(positions.device).view(1, 3, 1, 1)
    light = uniform(generator, 0, 2 * math.pi)
    slope = math.cos(light) * positions[:, :1] + math.sin(light) * positions[:, 1:]
    shading = (1 + uniform(generator, 0.0, 0.6) * slope).clamp(0.2, 2.0)
    return brightness * shading * torch.lerp(colours, tint.expand_as(colours), plainness)
