"""A real place with motion: a photographed HDR panorama's view, in which people walk and a ball flies.

The view is of "venice_sunrise" (Poly Haven, CC0), an evening at a lagoon; motion, exposures and the camera's tone curve
are added. No network was trained on it.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch

from hdr.bracket import Bracket
from hdr.data.camera import Camera
from hdr.data.motion import compose, moving_layer
from hdr.data.scenery import Scenery
from hdr.geometry import pixel_grid
from hdr.io import read_radiance
from hdr.response import Response
from hdr.scene import DynamicScene

EXPOSURES = (1.0, 4.0, 16.0)
_VIEW = Path(__file__).parent / "_data" / "venice.exr"
_MARGIN = 8  # pixels of the view that the trembling hand may need
_SHAKE = ((2.6, -1.7, 0.004), (0.0, 0.0, 0.0), (-2.1, 2.4, -0.003))  # right, down, turned
_SATURATED = 0.12  # of the reference's pixels
_THINGS = ((11, 0.30, 14.0), (23, 0.45, 18.0), (5, 1.6, 26.0))  # seed, brightness over the typical, pixels of motion


def photograph_scene(seed: int = 0) -> DynamicScene:
    """Photograph the place at three instants with three exposures, hand-held, as 8-bit JPEG with a tone curve.

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
    layers = [
        moving_layer(
            torch.Generator().manual_seed(thing), scenery, brightness * typical, height, width, motion, (-1, 0, 1)
        )
        for thing, brightness, motion in _THINGS
    ]
    instants = compose(background, layers)
    exposures = torch.tensor(EXPOSURES)
    saturated = torch.quantile(instants[1].amax(dim=0).flatten(), 1 - _SATURATED).item()
    instants = instants / (saturated * EXPOSURES[1])
    images = _camera().photograph(torch.Generator().manual_seed(seed), instants, exposures)
    bracket = Bracket.from_images(list(images), list(EXPOSURES), names=("short", "reference", "long"))
    return DynamicScene(bracket, instants[1].clamp(0, 1))


def _camera() -> Camera:
    """A camera whose JPEGs have an S in their tone curve, as most do: not gamma 2.2."""
    ldr = torch.linspace(0, 1, 1021, dtype=torch.float64)
    bent = ldr + 0.3 * torch.sin(2 * math.pi * ldr) / (2 * math.pi)
    return Camera(Response.table(bent**2.2), jpeg_quality=92)
