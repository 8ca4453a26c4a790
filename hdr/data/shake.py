"""A photographer's hand: known motion, put on the real exposures of a scene that stood still.

Each exposure is cut out of its picture at another place, by whole pixels: no pixel is interpolated, and at the borders
stands what the camera saw there. What one knows of a still scene, its truth, is known of the shaken one.
"""

from __future__ import annotations

import zlib
from pathlib import PurePath

import torch
from torch import Tensor
from torch.utils.data import Dataset

from hdr._errors import RefusedError
from hdr.bracket import SMALLEST_SIDE
from hdr.data.still import StillBrackets, StillScene
from hdr.io import read_ldr
from hdr.radiometry import middle

_LARGEST_SHARE = 4  # of the shorter side: a crop that is smaller than half of the picture is another scene


class ShakenBrackets(Dataset[StillScene]):
    """Still brackets whose exposures do not lie on each other, by displacements that are always the same.

    Parameters
    ----------
    brackets
        Of scenes that stood still.
    pixels
        The most by which an exposure is displaced in each axis, a whole number; the reference is not. Scenes lose so
        many pixels at each side.
    seed
        Of the displacements: other hands. With the same seed those of a scene grow with ``pixels``, and do not depend
        on which scenes there are beside it.

    Raises
    ------
    OSError
        If a picture cannot be opened.
    ValueError
        If ``pixels`` is negative, no whole number, or more than a quarter of the shorter side of a picture.
    """

    def __init__(self, brackets: StillBrackets, pixels: int, seed: int = 0) -> None:
        self.brackets = brackets
        self.pixels = checked_shake(pixels)
        self.seed = seed
        for name, listed in brackets.lists.items():  # before hours of work on others
            height, width = read_ldr(listed[0].path).shape[1:]
            largest = min(min(height, width) // _LARGEST_SHARE, (min(height, width) - SMALLEST_SIDE) // 2)
            if self.pixels > largest:
                raise RefusedError(
                    f"{name}: a shake of {self.pixels} pixels is too large for pictures of {width} x {height}; "
                    f"{largest} is the most"
                )

    def __len__(self) -> int:
        return len(self.brackets)

    def __getitem__(self, index: int) -> StillScene:
        scene = self.brackets[index]
        displacement = drawn_displacement(scene.name, len(scene.ldr), self.pixels, self.seed)
        return displaced(scene, displacement, self.pixels)


def checked_shake(pixels: float) -> int:
    """The largest displacement as a whole number.

    Raises
    ------
    ValueError
        If it is negative or no whole number.
    """
    if not (float(pixels).is_integer() and pixels >= 0):  # neither NaN nor infinity is
        raise RefusedError(f"a shake is a whole number of pixels, 0 or more, got {pixels}")
    return int(pixels)


def drawn_displacement(name: str, count: int, pixels: int, seed: int = 0) -> Tensor:
    """Displacements of the exposures of a scene, evenly drawn by its name.

    Parameters
    ----------
    name
        Of the scene.
    count
        Number of exposures.
    pixels
        The most in each axis.
    seed
        For other displacements.

    Returns
    -------
    Tensor
        Shape (count, 2), int64, x and y in pixels: where an exposure shows what the reference shows, minus where that
        does, as :class:`hdr.alignment.Alignment` has it; 0 for the reference.

    Examples
    --------
    >>> drawn_displacement("street", 3, 20).shape
    torch.Size([3, 2])
    """
    generator = torch.Generator().manual_seed(zlib.crc32(f"{seed} {PurePath(name).as_posix()}".encode()))
    share = torch.rand(count, 2, generator=generator, dtype=torch.float64)
    displacement = (share * (2 * pixels + 1)).long().clamp_max(2 * pixels) - pixels
    displacement[middle(count)] = 0
    return displacement


def displaced(scene: StillScene, displacement: Tensor, margin: int | None = None) -> StillScene:
    """A still scene, its exposures cut out where a hand would have held the camera.

    Parameters
    ----------
    scene
        Whose exposures lie on each other.
    displacement
        Shape (n, 2), whole pixels, as of :func:`drawn_displacement`; 0 for the reference.
    margin
        Pixels that are cut off at each side of the reference and of all that is known of the scene; by default the
        largest displacement.

    Returns
    -------
    StillScene
        Smaller by twice the margin, with the same calibration.

    Raises
    ------
    ValueError
        If the displacement is not as above or larger than the margin, or the margin leaves nothing.

    Examples
    --------
    >>> from hdr.calibration import Calibration
    >>> from hdr.response import Response
    >>> light, camera = torch.rand(3, 32, 48), Calibration(Response.linear())
    >>> ldr, exposures = torch.stack([light, light.mul(4).clamp_max(1)]), torch.tensor([1.0, 4.0])
    >>> scene = StillScene("drawn", ldr, exposures, ("1", "2"), light, ldr[1].amin(0) == 1, camera, light)
    >>> shaken = displaced(scene, torch.tensor([[0, 0], [5, -2]]))
    >>> shaken.truth.shape, torch.equal(shaken.ldr[1, :, :, 5], scene.ldr[1, :, 7:-3, 5])
    (torch.Size([3, 22, 38]), True)
    """
    count, (height, width) = len(scene.ldr), scene.truth.shape[1:]
    if displacement.shape != (count, 2) or displacement.is_floating_point():
        raise RefusedError(
            f"a displacement must have the shape ({count}, 2) and whole pixels, got {tuple(displacement.shape)} of "
            f"{displacement.dtype}"
        )
    if bool(displacement[middle(count)].any()):
        raise RefusedError(
            f"the reference, exposure {middle(count)}, stays where it is, got {displacement[middle(count)].tolist()}"
        )
    largest = int(displacement.abs().max())
    margin = largest if margin is None else margin
    if margin < largest or 2 * margin > min(height, width) - SMALLEST_SIDE:
        raise RefusedError(
            f"a margin must be from the largest displacement, {largest}, to "
            f"{(min(height, width) - SMALLEST_SIDE) // 2} pixels of {width} x {height}, got {margin}"
        )

    def cut(picture: Tensor, left: int = margin, top: int = margin) -> Tensor:
        return picture[..., top : top + height - 2 * margin, left : left + width - 2 * margin]

    places = (margin - displacement).tolist()
    return scene._replace(
        ldr=torch.stack([cut(picture, *place) for picture, place in zip(scene.ldr, places, strict=True)]),
        truth=cut(scene.truth),
        lost=cut(scene.lost),
        of_others=cut(scene.of_others),
    )
