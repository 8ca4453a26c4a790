"""Which exposure made which pixel, as a picture."""

from __future__ import annotations

import torch
from torch import Tensor

_ROWS_AT_ONCE = 256
_SHORTEST, _MIDDLE, _LONGEST = (0.90, 0.25, 0.15), (0.95, 0.90, 0.70), (0.15, 0.35, 0.75)


def draw_exposure_map(weights: Tensor) -> Tensor:
    """Colours of the exposures, mixed by their weights: red the shortest, pale yellow the middle, blue the longest.

    Parameters
    ----------
    weights
        Shape (N, H, W), N >= 2, sums to 1 over the exposures: as :meth:`hdr.merge.Merger.with_weights` returns them.

    Returns
    -------
    Tensor
        Shape (3, H, W), in [0, 1].

    Examples
    --------
    >>> draw_exposure_map(torch.tensor([1.0, 0.0, 0.0]).view(3, 1, 1)).flatten()
    tensor([0.9000, 0.2500, 0.1500])
    """
    place = torch.linspace(0, 2, len(weights), dtype=torch.float32)
    anchors = torch.tensor([_SHORTEST, _MIDDLE, _LONGEST], dtype=torch.float32)
    below = place.long().clamp_max(1)
    colours = torch.lerp(anchors[below], anchors[below + 1], (place - below)[:, None])
    drawn = torch.empty(3, *weights.shape[1:], dtype=torch.float32)
    for rows, of_rows in zip(drawn.split(_ROWS_AT_ONCE, dim=1), weights.split(_ROWS_AT_ONCE, dim=1), strict=True):
        rows.copy_(torch.einsum("nhw,nc->chw", of_rows.float(), colours).clamp_(0, 1))
    return drawn
