"""A scene with motion, drawn from formulas: a bracket and its true radiance without any data.

A dim room with a bright window and a lamp. A person walks past the window, a ball flies through the room and a pendulum
swings, so every exposure sees them elsewhere, partly before what only the short exposure can hold.

Lengths are in units of the picture's height, x to the right and y down; radiance is linear and the short exposure
saturates at 1.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from hdr._errors import RefusedError
from hdr.bracket import Bracket
from hdr.data.camera import Camera
from hdr.radiometry import GAMMA
from hdr.response import Response

EXPOSURES = (1.0, 4.0, 16.0)
CAMERA = Camera(Response.gamma(GAMMA))
"""A small camera: 8,000 electrons at saturation, 8 bits."""

_OVERSAMPLING = 2
_SKY, _LAMP, _WALL, _FRAME = (0.62, 0.78, 0.98), (0.98, 0.85, 0.60), (0.042, 0.034, 0.026), (0.020, 0.013, 0.008)


class DynamicScene(NamedTuple):
    """A bracket of a moving scene with its ground truth."""

    bracket: Bracket
    """8-bit pictures with noise."""
    radiance: Tensor
    """Shape (3, H, W): the scene at the reference's instant, in [0, 1]."""


def dynamic_scene(height: int = 384, width: int = 576, seed: int = 0) -> DynamicScene:
    """Draw the scene at three instants and photograph it with three exposures.

    Parameters
    ----------
    height, width
        Pixels, at least 64.
    seed
        Of textures, noise and the walk's phase; the same seed gives the same scene.

    Returns
    -------
    DynamicScene
        The person moves by a sixteenth of the height between neighbouring exposures, the ball by a twelfth.

    Raises
    ------
    ValueError
        If a side is shorter than 64 pixels.

    Examples
    --------
    >>> scene = dynamic_scene(64, 96)
    >>> scene.bracket.ldr.shape, scene.radiance.shape
    (torch.Size([3, 3, 64, 96]), torch.Size([3, 64, 96]))
    """
    if min(height, width) < 64:
        raise RefusedError(f"the scene needs at least 64 x 64 pixels, got {height} x {width}")
    source = torch.Generator().manual_seed(seed)
    room = _Room(height * _OVERSAMPLING, width * _OVERSAMPLING, source)
    instants = [F.avg_pool2d(room.at(instant), _OVERSAMPLING).clamp(0.0, 1.0) for instant in (-1.0, 0.0, 1.0)]
    exposures = torch.tensor(EXPOSURES)
    return DynamicScene(Bracket(CAMERA.photograph(source, torch.stack(instants), exposures), exposures), instants[1])


class _Room:
    """Everything that stands still, drawn once, and what moves, drawn on top for each instant."""

    def __init__(self, height: int, width: int, source: torch.Generator) -> None:
        self.pixel = 1.0 / height
        y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
        self.x, self.y = x * self.pixel, y * self.pixel
        self.right = width / height
        self.grain = _fractal_noise(height, width, source)
        self.clouds = _fractal_noise(height, width, source)
        self.phase = float(torch.rand((), generator=source)) * 2 * math.pi
        self.still = self._lamp(self._picture(self._floor(self._window(self._wall()))))

    def at(self, instant: float) -> Tensor:
        """Radiance (3, H, W) at an instant; 0 is the reference's."""
        return self._ball(self._pendulum(self._person(self.still, instant), instant), instant)

    def _paint(self, canvas: Tensor, distance: Tensor, colour: Tensor | tuple[float, float, float]) -> Tensor:
        """Paint where a signed distance is negative, with an edge of one pixel."""
        if isinstance(colour, tuple):
            colour = torch.tensor(colour).view(3, 1, 1)
        return torch.lerp(canvas, colour.expand_as(canvas), (0.5 - distance / self.pixel).clamp(0.0, 1.0))

    def _box(self, left: float, right: float, top: float, bottom: float) -> Tensor:
        return torch.maximum(torch.maximum(left - self.x, self.x - right), torch.maximum(top - self.y, self.y - bottom))

    def _disc(self, x: float, y: float, radius: float) -> Tensor:
        return torch.hypot(self.x - x, self.y - y) - radius

    def _limb(self, start: tuple[float, float], end: tuple[float, float], radius: float) -> Tensor:
        """Signed distance to a line segment with round ends."""
        dx, dy = end[0] - start[0], end[1] - start[1]
        along = (((self.x - start[0]) * dx + (self.y - start[1]) * dy) / (dx * dx + dy * dy)).clamp(0.0, 1.0)
        return torch.hypot(self.x - start[0] - along * dx, self.y - start[1] - along * dy) - radius

    def _wall(self) -> Tensor:
        panels = 0.85 + 0.15 * torch.tanh(8 * torch.sin(self.x * 40))
        return torch.tensor(_WALL).view(3, 1, 1) * (panels * (0.75 + 0.5 * self.grain))

    def _window(self, canvas: Tensor) -> Tensor:
        left, right, top, bottom = 0.22, 0.72, 0.10, 0.55
        canvas = self._paint(canvas, self._box(left - 0.03, right + 0.03, top - 0.03, bottom + 0.04), _FRAME)
        sky = torch.tensor(_SKY).view(3, 1, 1) * (0.45 + 0.55 * self.clouds)
        outside = self._paint(sky, 0.40 + 0.05 * torch.sin(self.x * 9) - self.y, (0.10, 0.20, 0.06))
        hills = outside * (0.7 + 0.6 * self.grain)
        canvas = self._paint(canvas, self._box(left, right, top, bottom), hills)
        for bar in (self._box(0.465, 0.475, top, bottom), self._box(left, right, 0.315, 0.325)):
            canvas = self._paint(canvas, bar, _FRAME)
        return canvas

    def _floor(self, canvas: Tensor) -> Tensor:
        depth = (self.y - 0.72).clamp_min(1e-3)
        tiles = torch.sin((self.x - self.right / 2) / depth * 2.5) * torch.sin(1.6 / depth)
        lit = 0.012 + 0.05 * torch.exp(-((self.x - 0.5) ** 2) * 12)
        brightness = lit * (0.65 + 0.35 * torch.tanh(tiles / (0.02 / depth))) * (0.8 + 0.4 * self.grain)
        tint = torch.tensor([1.0, 0.85, 0.68]).view(3, 1, 1)
        return self._paint(canvas, 0.72 - self.y, tint * brightness)

    def _picture(self, canvas: Tensor) -> Tensor:
        left, top = self.right - 0.42, 0.14
        canvas = self._paint(canvas, self._box(left - 0.02, left + 0.26, top - 0.02, top + 0.20), _FRAME)
        stripes = torch.stack([torch.sin(60 * self.x + 25 * self.y * k) for k in (1.0, -1.0, 0.3)])
        return self._paint(canvas, self._box(left, left + 0.24, top, top + 0.18), 0.045 + 0.04 * stripes)

    def _lamp(self, canvas: Tensor) -> Tensor:
        x, y = self.right - 0.16, 0.52
        near = torch.hypot(self.x - x, self.y - y)
        canvas = canvas * (1 + 3.5 * torch.exp(-near * 5)) + 0.006 * torch.exp(-near * 9)
        canvas = self._paint(canvas, self._box(x - 0.008, x + 0.008, y, 0.85), (0.01, 0.01, 0.012))
        return self._paint(canvas, self._disc(x, y, 0.055), _LAMP)

    def _person(self, canvas: Tensor, instant: float) -> Tensor:
        x, stride = 0.40 + instant / 16, math.sin(self.phase + 0.8 * instant)
        weave = 0.7 + 0.3 * torch.tanh(4 * torch.sin((self.x - x) * 160) * torch.sin(self.y * 160))
        trousers, skin = (0.012, 0.014, 0.030), (0.085, 0.052, 0.038)
        for side in (1, -1):
            foot = (x + 0.07 * side * stride, 0.90)
            canvas = self._paint(canvas, self._limb((x, 0.62), foot, 0.028), trousers)
        coat = torch.tensor([0.070, 0.014, 0.012]).view(3, 1, 1) * weave
        canvas = self._paint(canvas, self._limb((x, 0.40), (x, 0.60), 0.065), coat)
        for side in (1, -1):
            hand = (x + 0.10 * side * stride, 0.58)
            canvas = self._paint(canvas, self._limb((x + 0.05 * side, 0.40), hand, 0.020), coat * 0.8)
            canvas = self._paint(canvas, self._disc(*hand, 0.022), skin)
        canvas = self._paint(canvas, self._disc(x, 0.275, 0.052), skin)
        return self._paint(canvas, self._disc(x - 0.008, 0.262, 0.050), (0.010, 0.007, 0.005))

    def _pendulum(self, canvas: Tensor, instant: float) -> Tensor:
        angle = 0.35 * math.sin(0.9 * instant + 0.4)
        pivot = (0.86, 0.05)
        bob = (pivot[0] + 0.42 * math.sin(angle), pivot[1] + 0.42 * math.cos(angle))
        canvas = self._paint(canvas, self._limb(pivot, bob, 0.004), (0.05, 0.04, 0.02))
        return self._paint(canvas, self._disc(*bob, 0.038), (0.20, 0.15, 0.05))

    def _ball(self, canvas: Tensor, instant: float) -> Tensor:
        x, y, radius = 0.66 + instant / 12, 0.50 + 0.03 * instant**2 - 0.02 * instant, 0.06
        turn = 1.2 * instant
        across = (self.x - x) * math.cos(turn) + (self.y - y) * math.sin(turn)
        stripes = (0.5 - across / self.pixel).clamp(0.0, 1.0)
        colours = torch.tensor([[0.16, 0.15, 0.13], [0.02, 0.06, 0.14]]).view(2, 3, 1, 1)
        shade = 0.5 + 0.5 * (1 - self._disc(x - 0.02, y - 0.03, 0.0) / (2 * radius)).clamp(0.0, 1.0)
        return self._paint(canvas, self._disc(x, y, radius), torch.lerp(colours[0], colours[1], stripes) * shade)


def _fractal_noise(height: int, width: int, source: torch.Generator) -> Tensor:
    """Smooth noise with detail at every scale, in [0, 1], shape (H, W)."""
    total = torch.zeros(height, width)
    for octave in range(2, 8):
        cells = 2**octave
        grid = torch.rand(1, 1, cells + 1, cells * width // height + 1, generator=source) - 0.5
        total += F.interpolate(grid, size=(height, width), mode="bicubic", align_corners=True)[0, 0] / 1.6**octave
    return (0.5 + total / (4 * total.std())).clamp(0.0, 1.0)
