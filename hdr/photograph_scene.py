"""A simulated bracket of a real place: the view of a photographed HDR panorama, with people and a gull drawn into it.

The view is of "venice_sunrise" (Poly Haven, CC0), a morning at the lagoon; motion, exposures, noise and the tone curve
are simulated, so that the truth is known. No network was trained on it.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hdr.bracket import Bracket
from hdr.data.camera import Camera
from hdr.data.draws import smooth_field
from hdr.data.motion import Layer, compose
from hdr.data.scenery import Scenery
from hdr.data.shapes import bird, figure
from hdr.geometry import pixel_grid, sample
from hdr.io import read_radiance
from hdr.response import Response
from hdr.scene import DynamicScene

EXPOSURES = (1.0, 4.0, 16.0)
_VIEW = Path(__file__).parent / "_data" / "venice.exr"
_MARGIN = 8  # pixels of the view that the trembling hand may need
_SHAKE = ((2.6, -1.7, 0.004), (0.0, 0.0, 0.0), (-2.1, 2.4, -0.003))  # right, down, turned
_SATURATED = 0.12  # of the reference's pixels
_EDGE = 0.6  # pixels over which a thing's edge fades

_HORIZON = 134.0  # row
_CAMERA_HEIGHT = 0.68  # of a person's: there the horizon passes, whatever the distance
_HAIR, _SKIN, _TROUSERS = (0.06, 0.05, 0.045), (0.50, 0.33, 0.25), (0.14, 0.15, 0.20)


class _Walker(NamedTuple):
    column: float
    """Where they are in the reference."""
    height: float
    """Pixels."""
    pace: float
    """Pixels to the right from one exposure to the next."""
    coat: tuple[float, float, float]
    """Radiance, as a multiple of the scene's median."""
    seed: int


_WALKERS = (
    _Walker(70.0, 46.0, 5.0, (0.55, 0.12, 0.10), 4),
    _Walker(196.0, 64.0, -8.0, (0.75, 0.68, 0.55), 8),
    _Walker(356.0, 136.0, 13.0, (0.12, 0.20, 0.34), 2),  # before the brightest of the sky
)
_GULL_CENTRE, _GULL_SPAN, _GULL_SPEED, _GULL_SEED = (318.0, 62.0), 44.0, (26.0, -5.0), 3
_GULL = (0.85, 0.85, 0.90)


def photograph_scene(seed: int = 0) -> DynamicScene:
    """Photograph the place at three instants with a simulated hand-held camera: three JPEG files with a tone curve.

    Parameters
    ----------
    seed
        Of the noise.

    Returns
    -------
    DynamicScene
        The bracket, calibrated from its own pixels, and the true radiance at the reference's instant.
    """
    scenery = Scenery(read_radiance(_VIEW))
    height, width = scenery.height - 2 * _MARGIN, scenery.width - 2 * _MARGIN
    grid = pixel_grid(height, width, like=torch.zeros(1))[0] + _MARGIN
    centre = torch.tensor([scenery.width / 2, scenery.height / 2]).view(2, 1, 1)
    views = []
    for right, down, turn in _SHAKE:
        x, y = grid - centre
        turned = torch.stack([math.cos(turn) * x - math.sin(turn) * y, math.sin(turn) * x + math.cos(turn) * y])
        views.append(turned + centre + torch.tensor([right, down]).view(2, 1, 1))
    background = scenery.read(torch.stack(views))
    typical = background[1].median().item()
    layers = [_walker(walker, typical, height, width) for walker in _WALKERS]
    instants = compose(background, [*layers, _gull(typical, height, width)])
    exposures = torch.tensor(EXPOSURES)
    saturated = torch.quantile(instants[1].amax(dim=0).flatten(), 1 - _SATURATED).item()
    instants = instants / (saturated * EXPOSURES[1])
    # The camera's JPEGs have an S in their tone curve, as most do: not gamma 2.2.
    ldr = torch.linspace(0, 1, 1021, dtype=torch.float64)
    bent = ldr + 0.3 * torch.sin(2 * math.pi * ldr) / (2 * math.pi)
    camera = Camera(Response.table(bent**2.2), jpeg_quality=92)
    images = camera.photograph(torch.Generator().manual_seed(seed), instants, exposures)
    bracket = Bracket.from_images(list(images), list(EXPOSURES), names=("short", "reference", "long"))
    return DynamicScene(bracket, instants[1].clamp(0, 1))


def _walker(walker: _Walker, typical: float, height: int, width: int) -> Layer:
    """A person in a coat, lit by the sky on the right."""
    generator = torch.Generator().manual_seed(walker.seed)
    size = walker.height / 1.95  # the figure reaches from -0.95 to 1 of its own size
    row = _HORIZON + (_CAMERA_HEIGHT - 1) * walker.height + 0.95 * size
    places = [(walker.column + moment * walker.pace, row) for moment in (-1, 0, 1)]
    positions = _own_positions(places, size, height, width)
    outline = figure(generator, positions) * size
    x, y = positions[:, :1], positions[:, 1:]
    hair, skin, coat, trousers = (torch.tensor(c).view(1, 3, 1, 1) for c in (_HAIR, _SKIN, walker.coat, _TROUSERS))
    colour = torch.where(y < -0.6, torch.where(y < 0.1 * x - 0.8, hair, skin), torch.where(y < 0.15, coat, trousers))
    # Folds of the cloth, fixed to the person.
    folds = smooth_field(generator, 1, 64, 64, 24).view(1, 1, 64, 64).expand(len(places), 1, 64, 64)
    light = 1 + 0.9 * x + 0.12 * sample(folds, 32 + 31 * positions)
    return Layer(typical * colour * light.clamp(0.4, 2.0), torch.sigmoid(-outline.unsqueeze(1) / _EDGE))


def _gull(typical: float, height: int, width: int) -> Layer:
    """A gull in flight, nearly white, and dark against the sky all the same."""
    places = [
        tuple(at + moment * step for at, step in zip(_GULL_CENTRE, _GULL_SPEED, strict=True)) for moment in (-1, 0, 1)
    ]
    positions = _own_positions(places, _GULL_SPAN / 2, height, width)
    outline = bird(torch.Generator().manual_seed(_GULL_SEED), positions) * _GULL_SPAN / 2
    light = 1 - 2.5 * positions[:, 1:].clamp(-0.3, 0.2)
    radiance = typical * torch.tensor(_GULL).view(1, 3, 1, 1) * light
    return Layer(radiance, torch.sigmoid(-outline.unsqueeze(1) / _EDGE))


def _own_positions(places: list[Any], size: float, height: int, width: int) -> Tensor:
    """Pixels in the coordinates of a thing that is at these places (x, y) in turn, (N, 2, H, W)."""
    centres = torch.tensor(places).view(-1, 2, 1, 1)
    return (pixel_grid(height, width, like=centres) - centres) / size
