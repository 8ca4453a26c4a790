"""Spatial attention: how much of an aligned exposure to let through, place by place."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hdr.nn.blocks import leaky_sums


class SpatialAttentionGate(nn.Module):
    """Weights aligned features by their agreement with the reference.

    Additive attention (Oktay et al., Attention U-Net, 2018) with a map for each place instead of for each channel: what
    moved and could not be aligned disagrees with the reference and is closed out; what the reference lost in saturation
    is let in. Reaches 1 pixel.

    Parameters
    ----------
    channels
        Channels of the features, equal for the reference and the aligned exposure.

    Examples
    --------
    >>> gate = SpatialAttentionGate(8)
    >>> gate(torch.rand(2, 8, 5, 7), torch.rand(2, 8, 5, 7)).shape
    torch.Size([2, 8, 5, 7])
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(channels // 2, 1)
        self.query = nn.Conv2d(channels, hidden, 1)
        self.key = nn.Conv2d(channels, hidden, 1, bias=False)
        self.score = nn.Conv2d(hidden, 1, 3, padding=1)

    def attention(self, reference: Tensor, aligned: Tensor) -> Tensor:
        """Attention maps in (0, 1), (K B, 1, H, W), for features (B, C, H, W) and (K B, C, H, W) of K exposures."""
        return torch.sigmoid(self.score(leaky_sums(self.key(aligned), self.query(reference))))

    def forward(self, reference: Tensor, aligned: Tensor) -> Tensor:
        """Aligned features of K exposures, (K B, C, H, W), times their attention maps."""
        return aligned * self.attention(reference, aligned)
