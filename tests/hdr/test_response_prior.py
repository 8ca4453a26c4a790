"""What is known of responses before a picture is seen."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hdr._cells import log_curve
from hdr._response_prior import curve_prior, knots
from hdr.response import Response
from tests.hdr.cameras import Curve, gamma, s_curve, shoulder


def values_of_knots() -> np.ndarray:
    fine = np.linspace(0, 1, 40_001)
    below, share = knots(fine)
    return np.interp(np.arange(48), below + share, fine)


def test_knots_lie_from_black_to_white_and_closer_at_both_ends() -> None:
    below, share = knots(np.linspace(0, 1, 1001))
    place = below + share
    assert (below[0], share[0], below[-1], share[-1]) == (0, 0.0, 46, pytest.approx(1.0))
    assert (share >= 0).all()
    assert (share <= 1 + 1e-9).all()
    assert (np.diff(place) > 0).all()
    density = np.gradient(place, 0.001)
    assert density[0] > 2 * density[500] < density[-1]


def smooth_form(at: np.ndarray) -> np.ndarray:
    """What slopes and bends pay, by a loop over the knots."""
    place = 47 * (0.4 * np.log(1 + 64 * at) / math.log(65) + 0.6 * at)  # where a curve is even, in knots
    form = 1e-6 * np.eye(48)
    slopes = []
    for low in range(47):
        slope = np.zeros(48)
        slope[low : low + 2] = np.array([-1, 1]) / (place[low + 1] - place[low])
        form += (place[low + 1] - place[low]) * np.outer(slope, slope) / 0.25**2
        slopes.append(slope)
    for low in range(46):
        between = (place[low + 2] - place[low]) / 2
        bend = (slopes[low + 1] - slopes[low]) / between
        form += between * np.outer(bend, bend) / 0.007**2
    return form


def ways_of_cameras(at: np.ndarray) -> np.ndarray:
    """The toe of gamma 2.2, another gamma, contrast, a shoulder: one standard deviation of each."""
    srgb = np.where(at > 0.04045, ((at + 0.055) / 1.055) ** 2.4, at / 12.92)
    levels = np.arange(256) / 255
    light = np.where(levels > 0.04045, ((levels + 0.055) / 1.055) ** 2.4, levels / 12.92)
    light[0] = light[1] / 4
    lit = np.maximum(at, 1 / 1020)
    toe = np.log2(lit**2.2) - np.interp(at, levels, np.log2(light))
    small = 1e-6  # of a contrast: v + c sin(2 pi v) / 2 pi, to the power of 2.2
    contrast = (2.2 * np.log2(lit + small * np.sin(2 * np.pi * at) / (2 * np.pi)) - 2.2 * np.log2(lit)) / small
    return np.stack([0.7 * toe, 0.25 * np.log2(lit), 0.25 * contrast, 0.3 * np.log2(1 + 6 * (1 - srgb))], axis=1)


def test_a_curve_pays_for_slope_and_bend_but_for_what_it_has_of_the_ways_of_cameras() -> None:
    """Its cheapest split into so much of each way and a smooth rest, by least squares."""
    at = values_of_knots()
    smooth, ways = smooth_form(at), ways_of_cameras(at)
    root = np.linalg.cholesky(smooth).T
    shapes = np.random.default_rng(0).normal(size=(5, 48)).cumsum(axis=1).cumsum(axis=1) / 100
    # All but the scale of light, which costs nothing.
    for shape in (*shapes, *ways.T, np.log2(1 + at)):
        equations, right = np.concatenate([root @ ways, np.eye(4)]), np.concatenate([root @ shape, np.zeros(4)])
        amounts = np.linalg.lstsq(equations, right, rcond=None)[0]
        expected = np.square(equations @ amounts - right).sum()
        assert shape @ curve_prior() @ shape == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize(
    "camera",
    [gamma(1.8), gamma(2.2), gamma(2.6), s_curve, shoulder(1), shoulder(4)],
    ids=["gamma 1.8", "gamma 2.2", "gamma 2.6", "S", "shoulder 1", "shoulder 4"],
)
def test_what_cameras_do_costs_little_beside_a_wave_of_the_same_size(camera: Curve) -> None:
    at = values_of_knots()
    difference = np.interp(at, np.arange(256) / 255, log_curve(Response.table(camera(np.linspace(0, 1, 256)).tolist())))
    difference -= np.interp(at, np.arange(256) / 255, log_curve(Response.srgb()))
    wave = np.std(difference) * np.sqrt(2) * np.sin(2 * np.pi * 3 * at)
    assert 20 * (difference @ curve_prior() @ difference) < wave @ curve_prior() @ wave
