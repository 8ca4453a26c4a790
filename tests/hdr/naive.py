"""Smoothing written out tap by tap, for tests of what is computed quickly."""

from __future__ import annotations

import itertools

import numpy as np


def gaussian(sigma: float) -> np.ndarray:
    """Weights of a Gaussian, cut off at three standard deviations."""
    weights = np.exp(-0.5 * (np.arange(-round(3 * sigma), round(3 * sigma) + 1) / sigma) ** 2)
    smoothing: np.ndarray = weights / weights.sum()
    return smoothing


def naive_smooth(image: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """An image (H, W) smoothed along both axes; beyond a border it is mirrored without repeating the edge."""
    height, width = image.shape
    padded = np.pad(image, len(weights) // 2, mode="reflect")
    result = np.zeros_like(image)
    for row, column in itertools.product(range(len(weights)), repeat=2):
        result += weights[row] * weights[column] * padded[row : row + height, column : column + width]
    return result


def naive_blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur of an image (H, W)."""
    return naive_smooth(image, gaussian(sigma))
