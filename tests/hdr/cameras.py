"""Cameras for the tests: drawn light, response curves by formula, exposures with noise, motion and JPEG."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Curve = Callable[[NDArray], NDArray]


def srgb(ldr: NDArray) -> NDArray:
    """IEC 61966-2-1."""
    return np.where(ldr <= 0.04045, ldr / 12.92, ((ldr + 0.055) / 1.055) ** 2.4)


def gamma(exponent: float) -> Curve:
    return lambda ldr: ldr**exponent


def s_curve(ldr: NDArray) -> NDArray:
    """sRGB under a contrast curve z - 0.1 sin(2 pi z), as picture styles have it."""
    original = np.linspace(0, 1, 4097)
    return srgb(np.interp(ldr, original - 0.1 * np.sin(2 * np.pi * original), original))


def film(ldr: NDArray) -> NDArray:
    """A long shoulder: ldr = log(1 + 30 L) / log(31)."""
    return (31.0**ldr - 1) / 30


def shoulder(height: float) -> Curve:
    """sRGB of L (1 + h) / (1 + h L): what is near white is crowded into the last levels."""

    def light(ldr: NDArray) -> NDArray:
        compressed = srgb(ldr)
        return compressed / (1 + height * (1 - compressed))

    return light


CURVES: dict[str, Curve] = {
    "srgb": srgb,
    "gamma 1.8": gamma(1.8),
    "gamma 2.2": gamma(2.2),
    "gamma 2.6": gamma(2.6),
    "S": s_curve,
    "film": film,
}


@functools.cache
def drawn_light(height: int = 192, width: int = 256, seed: int = 0, stops: float = 7.0) -> NDArray:
    """Light of a drawn scene, shape (height, width, 3): gradients, edges, texture; its median 1.

    One scene serves many tests: it is not to be written to.
    """
    rng = np.random.default_rng(seed)
    # Blurred noise of four sizes has the spectrum of photographs; a few flat shapes have their edges.
    waves: list[np.ndarray] = [
        cv2.GaussianBlur(rng.normal(size=(height, width)), (0, 0), size, borderType=cv2.BORDER_REFLECT) * size * weight
        for size, weight in ((32.0, 1.6), (12.0, 0.8), (4.0, 0.3), (1.5, 0.1))
    ]
    ev = np.sum(waves, axis=0)
    for _ in range(12):
        top, left = rng.integers(height), rng.integers(width)
        ev[top : top + rng.integers(10, height // 3), left : left + rng.integers(10, width // 3)] += rng.normal() * 1.5
    ev = (ev - np.median(ev)) * stops / np.ptp(np.percentile(ev, [1, 99]))
    tint = np.stack([cv2.GaussianBlur(rng.normal(size=(height, width)), (0, 0), 20.0) * 10 for _ in range(3)], -1)
    return np.exp2(ev[..., None] + tint).astype(np.float64)


def exposures_of(
    light: NDArray,
    evs: Sequence[float],
    curve: Curve = srgb,
    *,
    middle: float = 0.15,
    white: int = 255,
    jpeg: int | None = None,
    shot: float = 5e-5,
    read: float = 1e-6,
    moving_rows: float = 0.0,
    shift: int = 0,
    seed: int = 0,
    levels: int = 255,
) -> Tensor:
    """What a camera makes of light: shape (N, 3, H, W), rounded to levels; EV 0 shows light 1 as ``middle``."""
    rng = np.random.default_rng(seed)
    ldr_of_light = np.linspace(0, 1, 16385)
    pictures = []
    for number, ev in enumerate(evs):
        seen = np.roll(light, (number * shift, -number * shift), (0, 1))
        rows = int(len(light) * moving_rows)
        seen[:rows] = np.roll(seen[:rows], number * 37, 1)
        linear = np.clip(seen * middle * 2.0**ev, 0, 4)
        linear = linear + rng.normal(size=linear.shape) * np.sqrt(shot * linear + read)
        ldr = np.interp(np.clip(linear, 0, 1), curve(ldr_of_light), ldr_of_light) * white / 255
        picture = np.rint(ldr * levels) / levels
        if jpeg is not None:
            coded = cv2.imencode(".jpg", np.rint(picture * 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, jpeg])[1]
            picture = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR)) / 255.0
        pictures.append(picture)
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float().contiguous()


def ratios(evs: Sequence[float]) -> Tensor:
    return torch.tensor([2.0 ** (ev - evs[0]) for ev in evs])
