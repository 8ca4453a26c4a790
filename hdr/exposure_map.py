"""Which exposure made which pixel, as a picture."""

from __future__ import annotations

import torch
from torch import Tensor

from hdr.radiometry import groups_of_light

_ROWS_AT_ONCE = 256
_SHORTEST, _MIDDLE, _LONGEST = (0.90, 0.25, 0.15), (0.95, 0.90, 0.70), (0.15, 0.35, 0.75)


def draw_exposure_map(weights: Tensor, exposures: Tensor | None = None) -> Tensor:
    """Colours of the exposures, mixed by their weights: red the shortest, pale yellow the middle, blue the longest.

    What got the same light has the same colour; where all did, the first is red and the last blue.

    Parameters
    ----------
    weights
        Shape (N, H, W), N >= 2, sums to 1 over the exposures: as :meth:`hdr.merge.Merger.with_weights` returns them.
    exposures
        Shape (N,), of the bracket, ascending; by default each got other light.

    Returns
    -------
    Tensor
        Shape (3, H, W), in [0, 1].

    Examples
    --------
    >>> draw_exposure_map(torch.tensor([1.0, 0.0, 0.0]).view(3, 1, 1)).flatten()
    tensor([0.9000, 0.2500, 0.1500])
    """
    place = _places(len(weights), exposures)
    anchors = torch.tensor([_SHORTEST, _MIDDLE, _LONGEST], dtype=torch.float32)
    below = place.long().clamp_max(1)
    colours = torch.lerp(anchors[below], anchors[below + 1], (place - below)[:, None])
    drawn = torch.empty(3, *weights.shape[1:], dtype=torch.float32)
    for rows, of_rows in zip(drawn.split(_ROWS_AT_ONCE, dim=1), weights.split(_ROWS_AT_ONCE, dim=1), strict=True):
        rows.copy_(torch.einsum("nhw,nc->chw", of_rows.float(), colours).clamp_(0, 1))
    return drawn


def _places(count: int, exposures: Tensor | None) -> Tensor:
    """Where the exposures lie between the shortest, 0, and the longest, 2."""
    groups = [] if exposures is None else groups_of_light(exposures.tolist())
    if len(groups) < 2:
        return torch.linspace(0, 2, count, dtype=torch.float32)
    sizes = torch.tensor([len(group) for group in groups])
    return torch.linspace(0, 2, len(groups), dtype=torch.float32).repeat_interleave(sizes)
