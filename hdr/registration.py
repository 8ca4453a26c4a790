"""Global registration of hand-held brackets: the camera's motion, which may be hundreds of pixels.

It is the homography that most of the matching features agree on, so what moves in the scene does not pull the camera
along. Dense flow (:mod:`hdr.alignment`) begins where this ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from hdr._errors import RefusedError
from hdr._extras import extras_named
from hdr.radiometry import linear_to_ldr

with extras_named():
    import cv2

if TYPE_CHECKING:
    from hdr.bracket import Bracket  # calibrated with the help of what is here

_LONGEST_SIDE = 1600  # of the pictures that features are found in; more costs time and finds no better homography
_FEATURES = 2000
_LOWE_RATIO = 0.75
_INLIER_DISTANCE = 2.0
_FEWEST_INLIERS = 20
_STILL_SHARE = 0.9  # of the matches: if so many agree that nothing moved, the rest is noise
_LARGEST_SHIFT = 0.25  # of the longest side; beyond it the images are not a bracket


class RegistrationError(RefusedError):
    """No motion of the camera explains the difference of two exposures."""


class CameraMotion(NamedTuple):
    """How the camera moved between the reference and another exposure, and what speaks for it."""

    homography: NDArray[np.float64]
    """Shape (3, 3), acting on (x, y, 1) in pixels: from the reference's pixels to the other exposure's."""
    agreeing: int
    """Matching features that agree with the homography, within two pixels of the pictures that were matched."""
    still: int
    """Matching features that agree as well with no motion at all."""

    @property
    def is_evident(self) -> bool:
        """Whether the homography explains notably more than a camera that stood still does."""
        return self.still < _STILL_SHARE * self.agreeing


def estimate_motion(bracket: Bracket, index: int) -> CameraMotion:
    """Find the homography from the reference's pixels to those of another exposure.

    SIFT features of both pictures, shown at the longer one's exposure so that they look alike, are matched with Lowe's
    ratio test; MAGSAC++ keeps the homography that most matches agree on.

    Parameters
    ----------
    bracket
        The exposures.
    index
        Which exposure to compare with the reference.

    Returns
    -------
    CameraMotion
        The homography and the number of matches that speak for it.

    Raises
    ------
    RegistrationError
        If there are too few matches, or they agree on nothing plausible.
    """
    reference, other = _alike(bracket, index)
    here, there = _match(reference, other)
    if len(here) < _FEWEST_INLIERS:
        raise RegistrationError(f"only {len(here)} features match the reference's, {_FEWEST_INLIERS} are needed")
    cv2.setRNGSeed(0)  # the same bracket must give the same picture
    found, inliers = cv2.findHomography(
        here, there, cv2.USAC_MAGSAC, _INLIER_DISTANCE, maxIters=5000, confidence=0.9999
    )
    agreeing = 0 if inliers is None else int(inliers.sum())
    if found is None or agreeing < _FEWEST_INLIERS:
        raise RegistrationError(f"only {agreeing} of {len(here)} matching features agree on a motion of the camera")
    to_small = _reduction(bracket.size, reference.shape)
    homography: NDArray[np.float64] = np.linalg.inv(to_small) @ found @ to_small
    homography /= homography[2, 2]
    if not corner_shift(homography, bracket.size) <= _LARGEST_SHIFT * max(bracket.size):
        raise RegistrationError("the motion of the camera would be more than a quarter of the picture")
    still = int((np.linalg.norm(here - there, axis=1) < _INLIER_DISTANCE).sum())
    return CameraMotion(homography, agreeing, still)


def corner_shift(homography: NDArray[np.float64], size: tuple[int, int]) -> float:
    """Largest distance in pixels by which a homography moves a corner of a picture of size (H, W)."""
    height, width = size
    corners = np.array([[0, 0, 1], [width - 1, 0, 1], [0, height - 1, 1], [width - 1, height - 1, 1]], np.float64)
    moved = corners @ homography.T
    if not bool((moved[:, 2] > 0).all()):
        return float("inf")
    return float(np.linalg.norm(moved[:, :2] / moved[:, 2:] - corners[:, :2], axis=1).max())


def _alike(bracket: Bracket, index: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """The reference and another exposure as small 8-bit grey pictures that look alike but for motion."""
    # Both at the longer of the two exposures: shadows become visible in both, and what saturates does so in both.
    shown_at = float(bracket.exposures[max(index, bracket.reference_index)])
    scale = min(1.0, _LONGEST_SIDE / max(bracket.size))
    small_size = [max(round(side * scale), 1) for side in bracket.size]
    pictures = []
    for which in (bracket.reference_index, index):
        small = F.interpolate(bracket.ldr[which].unsqueeze(0).float(), size=small_size, mode="area")[0]
        light = bracket.calibration.response.to_linear(small) / float(bracket.exposures[which])
        shown = linear_to_ldr(light, shown_at)
        pictures.append(shown.mean(dim=0).mul(255).round().to(torch.uint8).cpu().numpy())
    return pictures[0], pictures[1]


def _reduction(size: tuple[int, int], small_size: tuple[int, ...]) -> NDArray[np.float64]:
    """Matrix from pixels of a picture to pixels of its small version; both count from the first pixel's centre."""
    y_scale, x_scale = (small / whole for small, whole in zip(small_size, size, strict=True))
    return np.array([[x_scale, 0, (x_scale - 1) / 2], [0, y_scale, (y_scale - 1) / 2], [0, 0, 1]])


def _match(reference: NDArray[Any], other: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Positions (n, 2) of features that look alike, in the reference and in the other picture."""
    sift: Any = cv2.SIFT.create(nfeatures=_FEATURES, contrastThreshold=0.02)
    here, looks_here = sift.detectAndCompute(reference, None)
    there, looks_there = sift.detectAndCompute(other, None)
    nothing = np.empty((0, 2), np.float32)
    if looks_here is None or looks_there is None or len(there) < 2:
        return nothing, nothing
    pairs = cv2.BFMatcher(cv2.NORM_L2).knnMatch(looks_here, looks_there, k=2)
    good = [first for first, second in pairs if first.distance < _LOWE_RATIO * second.distance]
    if not good:
        return nothing, nothing
    positions_here = np.array([here[match.queryIdx].pt for match in good], np.float32)
    return positions_here, np.array([there[match.trainIdx].pt for match in good], np.float32)
