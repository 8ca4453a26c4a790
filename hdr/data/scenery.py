"""Where scenes come from: HDR photographs and equirectangular panoramas, read in the log domain.

Interpolating linear radiance by cubics rings around lamps; the logarithm of radiance does not, and keeps what is sharp.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from hdr._errors import RefusedError
from hdr.geometry import pixel_grid, sample, transformed
from hdr.io import read_radiance

_DARKEST = 1e-6  # of the picture's median


class Scenery:
    """An HDR picture that scenes are looked at in.

    Parameters
    ----------
    radiance
        Shape (3, H, W): linear, any scale.
    wraps
        Whether the left edge goes on at the right one, as a panorama's does; other edges are mirrored.

    Attributes
    ----------
    height, width
        In pixels.
    """

    def __init__(self, radiance: Tensor, *, wraps: bool = False) -> None:
        self.height, self.width = radiance.shape[1:]
        self.wraps = wraps
        self._darkest = max(float(radiance.median()), 1e-12) * _DARKEST
        pad = "circular" if wraps else "reflect"
        self._log = F.pad((radiance + self._darkest).log().unsqueeze(0), (2, 2, 0, 0), mode=pad)

    def read(self, positions: Tensor) -> Tensor:
        """Radiance (B, 3, H, W) at positions (B, 2, H, W) in pixels; the outside is wrapped or mirrored."""
        x, y = positions.unbind(dim=1)
        x = x.remainder(self.width) if self.wraps else _mirrored(x, self.width)
        batch, _, height, width = positions.shape
        # One tall image instead of a batch: the picture is not copied for each view.
        tall = torch.stack([x + 2, _mirrored(y, self.height)]).reshape(1, 2, batch * height, width)
        log = sample(self._log, tall, mode="bicubic").reshape(3, batch, height, width).transpose(0, 1)
        return (log.exp() - self._darkest).clamp_min(0)


class Panorama(Scenery):
    """An equirectangular picture of the whole sphere that can be looked at in any direction.

    Parameters
    ----------
    radiance
        Shape (3, H, W), W = 2 H: linear, any scale. Left to right once round the horizon, top is up.

    Raises
    ------
    ValueError
        If the shape is another.
    """

    def __init__(self, radiance: Tensor) -> None:
        if radiance.ndim != 3 or radiance.shape[0] != 3 or radiance.shape[2] != 2 * radiance.shape[1]:
            raise RefusedError(
                f"expected an equirectangular panorama (3, H, 2 H), got {tuple(radiance.shape)}; "
                "other projections must be converted first"
            )
        super().__init__(radiance, wraps=True)

    @property
    def pixels_per_radian(self) -> float:
        """Resolution at the horizon."""
        return self.width / (2 * math.pi)

    def view(self, rotations: Tensor, height: int, width: int, focal_length: float) -> Tensor:
        """Perspective views, as a pinhole camera takes them.

        Parameters
        ----------
        rotations
            Shape (B, 3, 3): from the camera's axes (right, down, forward) to the panorama's; the identity looks at the
            panorama's middle.
        height, width
            Size of the views in pixels.
        focal_length
            In pixels of the view.

        Returns
        -------
        Tensor
            Shape (B, 3, height, width).
        """
        grid = pixel_grid(height, width, like=rotations)[0]
        centre = rotations.new_tensor([(width - 1) / 2, (height - 1) / 2]).view(2, 1, 1)
        rays = torch.cat([grid - centre, torch.full_like(grid[:1], focal_length)])
        x, y, z = transformed(rotations, rays).unbind(dim=1)
        longitude = torch.atan2(x, z)
        latitude = torch.atan2(y, torch.hypot(x, z))
        return self.read(
            torch.stack(
                [
                    (longitude / (2 * math.pi) + 0.5) * self.width - 0.5,
                    (latitude / math.pi + 0.5) * self.height - 0.5,
                ],
                dim=1,
            )
        )


def read_scenery(path: str | os.PathLike[str], device: torch.device | str = "cpu") -> Scenery:
    """Read a .hdr or .exr file: a panorama if it is twice as wide as high, at half its resolution, else a photograph.

    At half resolution a panorama is sharp to the pixel, as photographs are: what networks learn on blur, they smooth.

    Raises
    ------
    ValueError
        If the file is damaged, or holds NaN, infinity or negative light; the message names it.
    """
    radiance = read_radiance(path).to(device)
    if radiance.shape[2] != 2 * radiance.shape[1]:
        return Scenery(radiance)
    try:
        return Panorama(F.avg_pool2d(radiance, 2))
    except RefusedError as error:
        raise RefusedError(f"{Path(path)}: {error}") from error


def _mirrored(position: Tensor, length: int) -> Tensor:
    """Positions inside [0, length - 1], reflected at both ends as often as it takes."""
    span = max(length - 1, 1)
    return span - (position.remainder(2 * span) - span).abs()
