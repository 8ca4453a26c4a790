"""The discriminator: tells, patch by patch, photographs of a scene that stood still from merged ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from hdr._errors import RefusedError

_STRIDES = (2, 2, 2, 1, 1)
_KERNEL = 4


class PatchDiscriminator(nn.Module):
    """PatchGAN of five spectrally normalised 4 x 4 convolutions (Isola et al., CVPR 2017; Niu et al., 2021).

    Parameters
    ----------
    base_channels
        Channels after the first convolution, doubled by each of the next three.

    Attributes
    ----------
    receptive_field : int
        Side, 70 pixels, of the patch that one output value sees.
    smallest_side : int
        Height and width that give one output value.

    Examples
    --------
    >>> discriminator = PatchDiscriminator(base_channels=8)
    >>> discriminator(torch.rand(2, 3, 64, 64)).shape
    torch.Size([2, 36])
    """

    receptive_field = 70
    smallest_side = 24

    def __init__(self, base_channels: int = 32) -> None:
        super().__init__()
        widths = [3, base_channels, 2 * base_channels, 4 * base_channels, 8 * base_channels, 1]
        layers: list[nn.Module] = []
        for width_in, width_out, stride in zip(widths, widths[1:], _STRIDES, strict=False):
            layers += [spectral_norm(nn.Conv2d(width_in, width_out, _KERNEL, stride, padding=1)), nn.LeakyReLU(0.2)]
        self.body = nn.Sequential(*layers[:-1])

    def forward(self, tone_mapped: Tensor) -> Tensor:
        """Point q of every picture.

        Parameters
        ----------
        tone_mapped
            Shape (B, 3, H, W), mu-law domain, H and W at least 24.

        Returns
        -------
        Tensor
            Shape (B, n): one value per patch, flattened; n depends on H and W.

        Raises
        ------
        ValueError
            If the shape is another.
        """
        if tone_mapped.ndim != 4 or tone_mapped.shape[1] != 3 or min(tone_mapped.shape[-2:]) < self.smallest_side:
            raise RefusedError(
                f"expected (B, 3, H, W) with H and W >= {self.smallest_side}, got {tuple(tone_mapped.shape)}"
            )
        flat: Tensor = torch.flatten(self.body(tone_mapped), 1)
        return flat
