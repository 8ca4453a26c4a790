"""How a camera mixes its sensor's colours into those of its files, and what clipped channels then do to the others.

A sensor clips each of its colours s at 1, and the file has M min(s, 1). The rows of M sum to 1, and beside its diagonal
nothing is positive: where a colour of the sensor is clipped, that of the file is, too, and the others of the file are
off by M max(s - 1, 0). That may be more than their light, or far less than their noise.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from hdr.difference import ALL_BUT_CLIPPED
from hdr.geometry import transformed
from hdr.observation import Aligned
from hdr.radiometry import light_of

Row = tuple[float, float, float]
ColourMatrix = tuple[Row, Row, Row]


class ColourMixing(NamedTuple):
    """What a camera does to the colours of its sensor, and with it a channel that clips to the other two."""

    matrix: ColourMatrix
    """From the sensor's colours to those of the file; each row has the sum 1, so that white stays white."""
    errors: Row = (0.0, 0.0, 0.0)
    """Of each channel, the share of its light by which it is off beside a clipped one and the matrix does not tell."""

    def as_tensor(self) -> Tensor:
        """The matrix, and the errors in a fourth column; shape (3, 4), float64."""
        rows = [(*row, error) for row, error in zip(self.matrix, self.errors, strict=True)]
        return torch.tensor(rows, dtype=torch.float64)


NO_MIXING: ColourMatrix = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
TYPICAL = ColourMixing(((1.575, -0.5, -0.075), (-0.2, 1.5, -0.3), (-0.025, -0.4, 1.425)))
"""Of cameras as one meets them: the middle of those that :func:`hdr.data.camera.draw_camera` draws."""


def as_row(values: Iterable[float]) -> Row:
    """Three numbers of channels."""
    red, green, blue = map(float, values)
    return red, green, blue


def spoiling(aligned: Aligned, t: Tensor, known: Sequence[Tensor]) -> Tensor | None:
    """By how much each channel of each exposure is off because others of it are clipped, linear light.

    Of the shortest, which no other one tells of, nothing is known.

    Parameters
    ----------
    aligned
        Observations in the reference's frame, with what their cameras do to colours.
    t
        Shape (B, N, 1, 1, 1): exposures, relative to the shortest, ascending.
    known
        How much light there was, of each exposure but the shortest, from :func:`known_light`.

    Returns
    -------
    Tensor or None
        Shape (B, N, 3, H, W), at least 0; None where clipped channels do nothing to others.
    """
    if aligned.mixing is None:
        return None
    matrix, errors = aligned.mixing.to(t).split([3, 1], dim=2)
    to_sensor, shown, clipped = inverse_of(matrix), aligned.tone_mapped.detach(), aligned.saturation.detach()
    off = [torch.zeros_like(shown[:, 0])]
    for index, there in enumerate(known, start=1):
        # What is not clipped in the file is not in the sensor, whatever noise or motion make of the light.
        lost = (transformed(to_sensor, there * t[:, index]) - 1).clamp_min(0) * clipped[:, index]
        beside = clipped[:, index].amax(dim=1, keepdim=True)
        besides = errors.unsqueeze(3) * beside * light_of(shown[:, index])
        off.append(transformed(matrix, lost).abs() / t[:, index] + besides)
    return torch.stack(off, dim=1)


def known_light(aligned: Aligned, reference: int) -> list[Tensor]:
    """How much light there was by a shorter exposure, (B, 3, H, W), for each but the shortest.

    The longest before it tells that clips nothing, up to the reference; where none does, the shortest.
    """
    count = aligned.tone_mapped.shape[1]
    known = [light_of(aligned.tone_mapped[:, 0].detach())]
    for index in range(1, min(reference + 1, count - 1)):
        # Interpolation leaves 1e-8 of 0, in one tile and not in another.
        unclipped = aligned.saturation[:, index].detach().amax(dim=1, keepdim=True) <= ALL_BUT_CLIPPED
        known.append(torch.where(unclipped, light_of(aligned.tone_mapped[:, index].detach()), known[-1]))
    return known + known[-1:] * (count - 1 - len(known))


def spoils(aligned: Aligned) -> Tensor | None:
    """Of which examples a clipped channel spoils others at all, (B, 1, 1, 1), boolean; None where of none."""
    if aligned.mixing is None:
        return None
    apart = torch.eye(3, 4).to(aligned.mixing)
    return (aligned.mixing != apart).flatten(1).any(dim=1).view(-1, 1, 1, 1)


def inverse_of(matrix: Tensor) -> Tensor:
    """Inverse of matrices (B, 3, 3), by products alone, which every format of graphs has.

    Examples
    --------
    >>> matrix = torch.tensor([[[1.5, -0.4, -0.1], [-0.2, 1.5, -0.3], [0.0, -0.4, 1.4]]])
    >>> torch.allclose(inverse_of(matrix) @ matrix, torch.eye(3), atol=1e-6)
    True
    """
    first, second, third = matrix.unbind(dim=1)
    columns = [_cross(second, third), _cross(third, first), _cross(first, second)]
    determinant = (first * columns[0]).sum(dim=1)
    return torch.stack(columns, dim=2) / determinant.view(-1, 1, 1)


def _cross(left: Tensor, right: Tensor) -> Tensor:
    return left.roll(-1, 1) * right.roll(-2, 1) - left.roll(-2, 1) * right.roll(-1, 1)
