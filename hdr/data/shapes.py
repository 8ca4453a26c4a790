"""Outlines of things that move: implicit functions, negative inside, in units of the thing's own size.

Every function takes positions of shape (T, 2, H, W), one picture for each instant, and gives roughly the signed
distance to the outline, (T, H, W). Limbs may move from instant to instant: no single displacement describes that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from hdr.data.draws import integer, uniform

Shape = Callable[[torch.Generator, Tensor], Tensor]


def blob(generator: torch.Generator, positions: Tensor) -> Tensor:
    """A round thing with a wavy outline."""
    x, y = positions.unbind(dim=1)
    angle = torch.atan2(y, x)
    radius = torch.ones_like(angle)
    for wave in range(2, 6):
        amplitude = uniform(generator, 0.0, 0.5 / wave)
        radius = radius + amplitude * torch.cos(wave * angle + uniform(generator, 0, 2 * math.pi))
    return torch.hypot(x, y) - radius


def box(generator: torch.Generator, positions: Tensor) -> Tensor:
    """A box with rounded corners, on some of them a second one like a cabin."""
    half_height = uniform(generator, 0.3, 0.8)
    outline = _rounded_box(positions, (0.0, 0.0), (1.0, half_height), 0.15)
    if uniform(generator, 0, 1) < 0.6:
        cabin = _rounded_box(positions, (uniform(generator, -0.3, 0.3), -half_height), (0.55, 0.35), 0.2)
        outline = torch.minimum(outline, cabin)
    return outline


def figure(generator: torch.Generator, positions: Tensor) -> Tensor:
    """A walking figure: head, trunk, arms and legs that swing."""
    instants = positions.shape[0]
    stride = uniform(generator, 0.1, 0.6)
    phase = uniform(generator, 0, 2 * math.pi)
    pace = uniform(generator, 0.3, 1.2)
    parts = [_capsules(positions, [(0.0, -0.78)] * instants, [(0.0, -0.76)] * instants, 0.17)]
    parts.append(_capsules(positions, [(0.0, -0.38)] * instants, [(0.0, 0.05)] * instants, 0.21))
    for side in (-1.0, 1.0):
        swing = [side * stride * math.sin(phase + pace * instant) for instant in range(instants)]
        feet = [(0.9 * math.sin(s), 0.1 + 0.9 * math.cos(s)) for s in swing]
        hands = [(-0.6 * math.sin(s) + 0.08 * side, -0.4 + 0.6 * math.cos(s)) for s in swing]
        parts.append(_capsules(positions, [(0.07 * side, 0.1)] * instants, feet, 0.11))
        parts.append(_capsules(positions, [(0.15 * side, -0.42)] * instants, hands, 0.07))
    return torch.stack(parts).amin(dim=0)


def foliage(generator: torch.Generator, positions: Tensor) -> Tensor:
    """A twig with leaves that sway, each a little on its own."""
    instants = positions.shape[0]
    parts = [_capsules(positions, [(-1.2, 0.0)] * instants, [(1.1, 0.0)] * instants, 0.03)]
    for leaf in range(integer(generator, 6, 10)):
        stalk = uniform(generator, -1.0, 1.0)
        side = -1.0 if leaf % 2 else 1.0
        reach, lean = side * uniform(generator, 0.25, 0.5), uniform(generator, -0.2, 0.4)
        tips = [(stalk + lean + uniform(generator, -0.08, 0.08), reach) for _ in range(instants)]
        parts.append(_capsules(positions, [(stalk, side * 0.1)] * instants, tips, uniform(generator, 0.06, 0.13)))
    return torch.stack(parts).amin(dim=0)


SHAPES: tuple[Shape, ...] = (blob, box, figure, foliage)


def bird(generator: torch.Generator, positions: Tensor) -> Tensor:
    """A bird that beats its wings; for scenes that are composed, not among those that are drawn for training."""
    instants = positions.shape[0]
    phase = uniform(generator, 0, 2 * math.pi)
    lifts = [0.18 + 0.2 * math.sin(phase + 1.9 * instant) for instant in range(instants)]
    parts = [_capsules(positions, [(-0.28, 0.05)] * instants, [(0.26, 0.0)] * instants, 0.1)]
    for side in (-1.0, 1.0):
        elbows = [(0.02 + 0.4 * side, -lift) for lift in lifts]
        tips = [(-0.08 + 0.95 * side, -0.6 * lift) for lift in lifts]
        parts.append(_capsules(positions, [(0.02, -0.02)] * instants, elbows, 0.06))
        parts.append(_capsules(positions, elbows, tips, 0.04))
    return torch.stack(parts).amin(dim=0)


def _rounded_box(positions: Tensor, centre: tuple[float, float], half: tuple[float, float], corner: float) -> Tensor:
    x, y = positions.unbind(dim=1)
    over_x = (x - centre[0]).abs() - half[0] + corner
    over_y = (y - centre[1]).abs() - half[1] + corner
    outside = torch.hypot(over_x.clamp_min(0), over_y.clamp_min(0))
    return outside + torch.maximum(over_x, over_y).clamp_max(0) - corner


def _capsules(
    positions: Tensor,
    starts: Sequence[tuple[float, float]],
    ends: Sequence[tuple[float, float]],
    radius: float,
) -> Tensor:
    """Distance to a thick line at each instant."""
    start = torch.tensor(starts, device=positions.device).view(-1, 2, 1, 1)
    along = torch.tensor(ends, device=positions.device).view(-1, 2, 1, 1) - start
    relative = positions - start
    share = (relative * along).sum(dim=1, keepdim=True) / along.square().sum(dim=1, keepdim=True).clamp_min(1e-8)
    x, y = (relative - share.clamp(0, 1) * along).unbind(dim=1)
    return torch.hypot(x, y) - radius
