"""A bracket: three exposures of one scene and how much light each got. Validated once, here."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from hdr.exposure import exposures_from_ev, exposures_from_exif, read_exposure_file, warn_if_camera_disagrees
from hdr.io import check_not_raw, read_ldr
from hdr.nn.generator import SMALLEST_SIDE
from hdr.radiometry import GAMMA, ldr_to_linear, relative_exposures

SMALLEST_RATIO = 1.1
TRAINED_RATIOS = (2.0, 8.0)
_RATIO_TOLERANCE = 1.1  # a nominal 1/60 s is 1/64 s, and exposures of 3 EV must pass as 8

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class Bracket:
    """Three exposures of one scene, shortest first.

    Attributes
    ----------
    ldr
        Shape (3, 3, H, W): exposure, channel, height, width; floating point in [0, 1], encoded with gamma 2.2.
    exposures
        Shape (3,): relative to the shortest, which is 1, in ascending order.
    names
        What the pictures are called, in the same order.

    Raises
    ------
    ValueError
        If shapes, values, sizes or exposures are not as above, or two exposures are nearly equal.

    Examples
    --------
    >>> bracket = Bracket(torch.rand(3, 3, 32, 48), torch.tensor([1.0, 4.0, 16.0]))
    >>> bracket.reference.shape, bracket.size
    (torch.Size([3, 32, 48]), (32, 48))
    """

    ldr: Tensor
    exposures: Tensor
    names: tuple[str, ...] = ("short", "reference", "long")

    def __post_init__(self) -> None:
        _check_images(self.ldr)
        _check_exposures(self.exposures, self.names)

    @classmethod
    def from_images(
        cls,
        images: Sequence[Tensor],
        exposures: Sequence[float],
        *,
        gamma: float = GAMMA,
        linear: bool = False,
        names: Sequence[str] | None = None,
    ) -> Bracket:
        """Make a bracket of three or more pictures in any order.

        Parameters
        ----------
        images
            Each of shape (3, H, W), floating point in [0, 1].
        exposures
            Exposure times in seconds, or any positive multiple of the light that each picture got.
        gamma
            The pictures' own encoding, L = light^(1 / gamma).
        linear
            Whether the pictures are linear, which is gamma 1; another gamma beside it is refused.
        names
            What to call the pictures in messages.

        Returns
        -------
        Bracket
            Sorted by exposure. Of more than three, those that :func:`select_three` finds, with a warning that says so.

        Raises
        ------
        ValueError
            If numbers, sizes, values or exposures do not make a bracket.
        """
        names = [f"picture {number}" for number in range(1, len(images) + 1)] if names is None else list(names)
        _check_one_for_each(images, exposures)
        encoding = _encoding(gamma, linear)
        chosen = _chosen_with_a_word(exposures, names)
        _check_equal_sizes([images[index] for index in chosen], [names[index] for index in chosen])
        ldr = torch.stack([images[index] for index in chosen])
        if encoding != GAMMA:
            ldr = ldr_to_linear(ldr, 1.0, encoding).pow_(1.0 / GAMMA)
        light = torch.tensor([float(exposures[index]) for index in chosen], dtype=torch.float64)
        return cls(ldr, relative_exposures(light).to(ldr.dtype), tuple(names[index] for index in chosen))

    @classmethod
    def from_files(
        cls,
        paths: Sequence[PathLike],
        exposure_times: Sequence[float] | None = None,
        *,
        exposure_values: Sequence[float] | None = None,
        exposure_file: PathLike | None = None,
        gamma: float = GAMMA,
        linear: bool = False,
    ) -> Bracket:
        """Read a bracket of three or more photographs.

        Exposures come from the one of ``exposure_times``, ``exposure_values`` and ``exposure_file`` that is given, and
        without any from EXIF data, as time * ISO / N^2.

        Parameters
        ----------
        paths
            TIFF, PNG or JPEG files of 8 or 16 bits, in any order.
        exposure_times
            Seconds, one for each file.
        exposure_values
            EV, one for each file; one more is twice the light.
        exposure_file
            Text file with one EV a line, in the order of ``paths`` (the layout of Kalantari and Ramamoorthi).
        gamma, linear
            As in :meth:`from_images`.

        Returns
        -------
        Bracket
            Sorted by exposure; of more than three files, the three that span the range best, with a warning.

        Raises
        ------
        OSError
            If a file cannot be opened.
        ValueError
            If a file, the exposures or their combination is not a bracket; the message names the file.
        """
        for path in paths:
            check_not_raw(path)
        names = [Path(path).name for path in paths]
        exposures = _stated_exposures(paths, exposure_times, exposure_values, exposure_file)
        chosen = _chosen_with_a_word(exposures, names)
        # Only now: of nine photographs of 24 megapixels six need not be decoded.
        return cls.from_images(
            [read_ldr(paths[index]) for index in chosen],
            [exposures[index] for index in chosen],
            gamma=gamma,
            linear=linear,
            names=[names[index] for index in chosen],
        )

    @property
    def reference(self) -> Tensor:
        """The middle exposure, whose instant the merged picture shows; shape (3, H, W)."""
        return self.ldr[1]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return int(self.ldr.shape[-2]), int(self.ldr.shape[-1])

    def radiance(self, index: int) -> Tensor:
        """Radiance of one of the exposures, 0 the shortest; shape (3, H, W), the short exposure saturates at 1."""
        return ldr_to_linear(self.ldr[index], float(self.exposures[index]))


def select_three(exposures: Sequence[float]) -> tuple[int, int, int]:
    """Choose the three exposures that span the range best, as indices from the shortest to the longest.

    The shortest and the longest keep the whole range; between them, the one nearest to their geometric mean keeps the
    steps even.

    Raises
    ------
    ValueError
        If there are fewer than three, or one is not positive.

    Examples
    --------
    >>> select_three([1 / 15, 1 / 60, 1 / 4, 1 / 250, 1.0])
    (3, 0, 4)
    """
    if len(exposures) < 3:
        raise ValueError(f"a bracket needs three or more exposures, got {len(exposures)}")
    if not all(exposure > 0 and math.isfinite(exposure) for exposure in exposures):
        raise ValueError(f"exposures must be positive and finite, got {list(exposures)}")
    order = sorted(range(len(exposures)), key=lambda index: exposures[index])
    middle = 0.5 * (math.log(exposures[order[0]]) + math.log(exposures[order[-1]]))
    reference = min(order[1:-1], key=lambda index: abs(math.log(exposures[index]) - middle))
    return order[0], reference, order[-1]


def _stated_exposures(
    paths: Sequence[PathLike],
    exposure_times: Sequence[float] | None,
    exposure_values: Sequence[float] | None,
    exposure_file: PathLike | None,
) -> list[float]:
    stated = [source for source in (exposure_times, exposure_values, exposure_file) if source is not None]
    if len(stated) > 1:
        raise ValueError("exposure times, exposure values and an exposure file exclude each other; give one of them")
    if not stated:
        return exposures_from_exif(paths)
    if exposure_file is not None:
        exposures = read_exposure_file(exposure_file)
    elif exposure_values is not None:
        exposures = exposures_from_ev(exposure_values)
    else:
        exposures = [float(time) for time in exposure_times or ()]
    _check_one_for_each(paths, exposures)
    select_three(exposures)  # refuses what is not positive before ratios are taken
    warn_if_camera_disagrees(paths, exposures)
    return exposures


def _encoding(gamma: float, linear: bool) -> float:
    if linear and gamma not in (GAMMA, 1.0):
        raise ValueError(f"linear pictures have no gamma; got gamma={gamma:g} as well, give one of the two")
    return 1.0 if linear else gamma


def _chosen_with_a_word(exposures: Sequence[float], names: Sequence[str]) -> tuple[int, int, int]:
    chosen = select_three(exposures)
    if len(exposures) > 3:
        used = ", ".join(str(names[index]) for index in chosen)
        warnings.warn(
            f"of {len(exposures)} exposures the three that span the range best are merged: {used}", stacklevel=3
        )
    return chosen


def _check_one_for_each(pictures: Sequence[object], exposures: Sequence[float]) -> None:
    if len(pictures) != len(exposures):
        raise ValueError(f"there are {len(pictures)} pictures but {len(exposures)} exposures; give one for each")


def _check_images(ldr: Tensor) -> None:
    if ldr.ndim != 4 or ldr.shape[:2] != (3, 3):
        raise ValueError(f"expected three RGB exposures of shape (3, 3, H, W), got {tuple(ldr.shape)}")
    if not ldr.is_floating_point():
        raise ValueError(f"expected floating point values in [0, 1], got {ldr.dtype}; divide by the largest level")
    if min(ldr.shape[-2:]) < SMALLEST_SIDE:
        raise ValueError(
            f"pictures must be at least {SMALLEST_SIDE} pixels wide and high, got {tuple(ldr.shape[-2:])} (H, W)"
        )
    low, high = float(ldr.min()), float(ldr.max())
    if not (low >= 0.0 and high <= 1.0):  # also refuses NaN
        raise ValueError(f"picture values must lie in [0, 1], got values from {low:g} to {high:g}")


def _check_exposures(exposures: Tensor, names: Sequence[str]) -> None:
    if exposures.shape != (3,) or len(names) != 3:
        raise ValueError(f"expected three exposures with a name each, got {tuple(exposures.shape)} and {len(names)}")
    values = [float(exposure) for exposure in exposures]
    if values[0] != 1.0 or values != sorted(values):
        raise ValueError(f"exposures must ascend from 1, relative to the shortest, got {values}; use from_images")
    for index in (1, 2):
        ratio = values[index] / values[index - 1]
        if not ratio >= SMALLEST_RATIO:
            raise ValueError(
                f"{names[index - 1]} and {names[index]} have nearly equal exposures (ratio {ratio:.3g}, at least "
                f"{SMALLEST_RATIO} is needed); are these three different exposures of a bracket?"
            )
        if not TRAINED_RATIOS[0] / _RATIO_TOLERANCE <= ratio <= TRAINED_RATIOS[1] * _RATIO_TOLERANCE:
            warnings.warn(
                f"{names[index]} has {ratio:.3g} times the exposure of {names[index - 1]}; the networks are trained "
                f"on {TRAINED_RATIOS[0]:g} to {TRAINED_RATIOS[1]:g} times, look at the result",
                stacklevel=4,
            )


def _check_equal_sizes(images: Sequence[Tensor], names: Sequence[str]) -> None:
    sizes = {name: tuple(image.shape) for name, image in zip(names, images, strict=True)}
    if len(set(sizes.values())) > 1:
        told = ", ".join(f"{name} {'x'.join(map(str, reversed(shape[-2:])))}" for name, shape in sizes.items())
        raise ValueError(f"the pictures of a bracket must have one size (width x height), got {told}")
