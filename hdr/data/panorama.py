"""Views into an equirectangular HDR panorama."""

from __future__ import annotations

import math
import os
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from hdr.io import read_radiance
from hdr.nn.alignment import pixel_grid, sample


class Panorama:
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
            raise ValueError(
                f"expected an equirectangular panorama (3, H, 2 H), got {tuple(radiance.shape)}; "
                "other projections must be converted first"
            )
        self.height, self.width = radiance.shape[1:]
        # One column from the other side at either end: interpolation across the seam.
        self._wrapped = F.pad(radiance.unsqueeze(0), (1, 1, 0, 0), mode="circular")

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], device: torch.device | str = "cpu") -> Panorama:
        """Read a .hdr or .exr file; errors name it."""
        try:
            return cls(read_radiance(path).to(device))
        except ValueError as error:
            raise ValueError(f"{Path(path)}: {error}") from error

    @property
    def pixels_per_radian(self) -> float:
        """Resolution at the horizon."""
        return self.width / (2 * math.pi)

    def read(self, positions: Tensor) -> Tensor:
        """Colours at panorama positions.

        Parameters
        ----------
        positions
            Shape (B, 2, H, W): x and y in pixels; x wraps round, y ends at the poles.

        Returns
        -------
        Tensor
            Shape (B, 3, H, W).
        """
        x, y = positions.unbind(dim=1)
        wrapped = torch.stack([x.remainder(self.width) + 1, y], dim=1)
        batch, _, height, width = positions.shape
        # One tall picture instead of a batch: the panorama is not copied for each view.
        tall = wrapped.transpose(0, 1).reshape(1, 2, batch * height, width)
        read = sample(self._wrapped, tall)
        return read.reshape(3, batch, height, width).transpose(0, 1)

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
        centre = torch.tensor([(width - 1) / 2, (height - 1) / 2], device=rotations.device).view(2, 1, 1)
        rays = torch.cat([grid - centre, torch.full_like(grid[:1], focal_length)])
        turned = torch.einsum("bij,jhw->bihw", rotations, rays)
        x, y, z = turned.unbind(dim=1)
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
