"""What is known of a camera's response before a picture is seen: how the responses of cameras differ from sRGB.

A response is a broken line over a coordinate that is fine where responses are steep in EV: at black and at white. Its
logarithm is sRGB's plus a few ways in which cameras differ from that, each to an unknown degree, plus what is smooth.
That few ways tell nearly all is known from many cameras: Grossberg and Nayar, "Modeling the space of camera response
functions", PAMI 2004. What no two exposures tell, near black and up to white, goes on as the response does beside.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from numpy.typing import NDArray

from hdr._cells import ENTRIES, STEP, Array, log_curve, read_off
from hdr.radiometry import GAMMA
from hdr.response import Response

KNOTS = 48
_DARK_SHARE, _BRIGHT_SHARE = 0.4, 0.2  # the rest is even

# Standard deviations: how far a response is from sRGB's toe, 0, to that of gamma 2.2, 1; of its gamma; of contrast c,
# by which value v is that of v + c sin(2 pi v) / 2 pi; and of a shoulder, beyond which white is 1 + 6 times as bright
# as sRGB would have it (the curve of Reinhard et al., 2002, that compresses the light above white into it).
_TOE, _OF_GAMMA, _CONTRAST = 0.7, 0.25, 0.25
_SHOULDER, _SHOULDER_HEIGHT = 0.3, 6.0
# By how many EV the slope may differ besides over a knot's length, and how fast that may change. What is smooth is so
# over the values themselves: over the knots, which crowd at white, a curve would turn as far in the last levels as
# before them, and it is there that no two exposures tell.
_SLOPE, _BEND = 0.25, 0.007


def knots(ldr: Array) -> tuple[NDArray[np.intp], Array]:
    """The knot below each value, and the share of the one above."""
    bright = -np.log1p(-63 / 64 * ldr) / math.log(64)
    position = (_from_black(ldr) + _BRIGHT_SHARE * (bright - ldr)) * (KNOTS - 1)
    below = np.minimum(position.astype(np.intp), KNOTS - 2)
    return below, position - below


@functools.lru_cache(maxsize=1)
def curve_prior() -> Array:
    """Matrix of the quadratic form that the difference of a response's log2 to sRGB's pays at the knots, (48, 48)."""
    values = _values()
    lengths = np.diff((KNOTS - 1) * _from_black(values))
    slope = np.diff(np.eye(KNOTS), axis=0) / lengths[:, None]
    between = (lengths[1:] + lengths[:-1]) / 2
    bend = np.diff(slope, axis=0) / between[:, None]
    smooth = slope.T @ (slope * lengths[:, None]) / _SLOPE**2 + bend.T @ (bend * between[:, None]) / _BEND**2
    smooth += 1e-6 * np.eye(KNOTS)  # light has no scale
    ways = _ways_of_cameras(values)
    pays = smooth @ ways
    # The inverse of the covariance of smooth curves plus that of the ways, by Woodbury's identity.
    prior: Array = smooth - pays @ np.linalg.solve(np.eye(ways.shape[1]) + ways.T @ pays, pays.T)
    return prior


def _ways_of_cameras(values: Array) -> Array:
    """By how many EV a response differs from sRGB one standard deviation along each way, (values, ways)."""
    srgb = Response.srgb()
    lit = np.maximum(values, STEP / 4)
    toe = GAMMA * np.log2(lit) - read_off(log_curve(srgb), values)
    contrast = GAMMA * np.sin(2 * np.pi * values) / (2 * np.pi * lit) / math.log(2)
    light = srgb.to_linear(torch.from_numpy(values)).numpy()
    shoulder = np.log2(1 + _SHOULDER_HEIGHT * (1 - light))
    return np.stack([_TOE * toe, _OF_GAMMA * np.log2(lit), _CONTRAST * contrast, _SHOULDER * shoulder], axis=1)


def _values() -> Array:
    """Values of the knots."""
    fine = np.linspace(0, 1, 16 * ENTRIES)
    below, share = knots(fine)
    values: Array = np.interp(np.arange(KNOTS), below + share, fine)
    return values


def _from_black(ldr: Array) -> Array:
    """A coordinate from 0 to 1 over which responses are smooth: even but for black, where they are steep."""
    dark: Array = np.log1p(64 * ldr) / math.log(65)
    return _DARK_SHARE * dark + (1 - _DARK_SHARE) * ldr
