"""What every data set of brackets gives for one scene."""

from __future__ import annotations

from typing import TypedDict

import torch
from torch import Tensor

from hdr.agreement import unexplained_variance
from hdr.alignment import align
from hdr.bracket import Bracket
from hdr.calibration import Calibration
from hdr.observation import observe


class HdrSample(TypedDict):
    """One scene of N exposures; a DataLoader's default collation adds a batch dimension in front."""

    name: str
    """Which scene, for tables."""
    ldr: Tensor
    """Shape (N, 3, H, W): exposure (short to long), channel, height, width; values in [0, 1]."""
    exposures: Tensor
    """Shape (N,): relative to the shortest, which is 1."""
    observations: Tensor
    """Shape (N, 11, H, W): what the generator takes, see :func:`hdr.observation.observe`."""
    displacement: Tensor
    """Shape (N, 2, h, w): of the crop that is learned from, or of the whole scene."""
    corner: Tensor
    """Shape (2,): row and column of the crop's first pixel."""
    target: Tensor
    """Shape (3, h, w): radiance at the reference's instant in [0, 1]; the short exposure saturates at 1."""
    light: Tensor
    """Shape (entries,): the response, light of equally spaced LDR values, as far as it is known."""
    noise: Tensor
    """Shape (8,): shot, read, levels and white level of the calibration, by how many EV exposures disagree, 1 where
    there are half as many rows, and 1 where half as many columns, of colour, and the share of the noise that is
    left."""
    mixing: Tensor
    """Shape (3, 4): what the camera does to the colours of its sensor, see
    :meth:`hdr.calibration.Calibration.as_tensors`."""


def make_sample(
    name: str,
    ldr: Tensor,
    exposures: Tensor,
    target: Tensor,
    calibration: Calibration,
    reference: int,
    crop: tuple[int, int, int] | None = None,
) -> HdrSample:
    """A scene with what the generator takes: observations, and the displacement of the whole image.

    Parameters
    ----------
    name, ldr, exposures
        As in :class:`HdrSample`.
    target
        Radiance of the whole scene, (3, H, W).
    calibration
        What is known of the camera.
    reference
        Index of the reference.
    crop
        Row, column and side of the square that is learned from; None takes the whole scene.
    """
    height, width = ldr.shape[-2:]
    observations, displacement = observed(Bracket(ldr, exposures, calibration=calibration, reference_index=reference))
    light, noise, mixing = calibration.as_tensors()
    top, left, rows, columns = (0, 0, height, width) if crop is None else (*crop, crop[2])
    inside = (..., slice(top, top + rows), slice(left, left + columns))
    return {
        "name": name,
        "ldr": ldr,
        "exposures": exposures,
        "observations": observations,
        "displacement": displacement[inside],
        "corner": torch.tensor([top, left]),
        "target": target[inside],
        "light": light,
        "noise": noise,
        "mixing": mixing,
    }


def observed(bracket: Bracket) -> tuple[Tensor, Tensor]:
    """What the generator takes of a whole bracket: observations (N, 11, H, W) and the displacement (N, 2, H, W)."""
    # Scenes too dark to see how the camera moved are merged, too.
    alignment = align(bracket, warn=False)
    displacement = alignment.window(0, bracket.size[0], 0, bracket.size[1])
    camera = (bracket.ldr, bracket.exposures, bracket.calibration)
    unexplained = unexplained_variance(*camera, displacement, bracket.reference_index)
    return observe(*camera, unexplained, alignment.still), displacement.to(bracket.ldr)


def calibration_of(sample: HdrSample) -> Calibration:
    """The calibration that a scene was made with."""
    return Calibration.from_tensors(sample["light"], sample["noise"], sample["mixing"])
