"""Light that no exposure shows: the reference has lost it, and in the shorter exposures something dark is in front.

All that is known of it is that it was bright enough to clip the reference. So it gets what the lost light around it
has, which the shorter exposures do show, or the reference's clipping value where that is brighter: a sky goes on behind
what has moved, instead of keeping a grey patch of its shape. It is a guess, and made where nothing else is known only.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from hdr.difference import clipped_itself
from hdr.geometry import upsampled_window
from hdr.observation import Aligned
from hdr.radiometry import mu_law, of_same_light
from hdr.smoothing import blurred

CELL = 4
"""Pixels of a side of the cells in which the light around is averaged."""

_DARK = (0.04, 0.1)  # in the mu-law domain, below clipping: from there on something dark is in front, and surely
_BLACK = (0.2, 0.35)  # likewise; what is so much darker is not the light that clipped the reference, whatever it weighs
_NEARLY_CLIPPED = 0.08  # mu-law domain: what the reference shows of light that is nearly lost is around, too
_EDGE, _EDGE_GAIN = 2.0, 16.0  # pixels, and a factor: the blurred edge of what is in front is darkened, too
_ENOUGH = 2.0  # of a cell, one over the share that has to be known for it to stand for itself
_VISIBLE = 0.02  # mu-law domain
_TINY = 1e-12
_ROWS_AT_ONCE = 256


class Hidden(NamedTuple):
    """Which light of a merge no exposure shows, and where the light around is known."""

    share: Tensor | None
    """(B, 3, H, W), 0 known to 1 hidden; None where nothing is hidden."""
    known: Tensor
    """(B, 3, H, W): weight of each place among what surrounds hidden light."""


def hidden_highlights(aligned: Aligned, weights: Tensor, exposures: Tensor, reference: int) -> Hidden:
    """Where the reference is clipped and stands alone, for shorter exposures show something far darker there.

    Parameters
    ----------
    aligned
        Observations in the reference's frame.
    weights
        Shape (B, N, 3, H, W): how much of each exposure is in the merge.
    exposures
        Shape (B, N), relative to the shortest, ascending.
    reference
        Its index. Of the shortest exposure, or one of its light, nothing is hidden.
    """
    # Of the same light as the reference, another exposure clips where it does, and shows no more.
    alike = of_same_light(exposures, reference)
    any_shorter = (~alike)[:, :reference].any(dim=1).view(-1, 1, 1, 1)
    clipped = (aligned.saturation[:, reference] >= 1) & any_shorter
    ours = aligned.tone_mapped[:, reference]
    less = (~alike)[:, :reference].to(ours).view(len(ours), reference, 1, 1, 1)
    limit = mu_law(1.0 / exposures[:, reference]).to(ours).view(-1, 1, 1, 1)
    nearly = ((ours - limit) / _NEARLY_CLIPPED + 1).clamp(0, 1)
    if not bool(clipped.any()):
        return Hidden(None, nearly)
    shorter = aligned.tone_mapped[:, :reference] * less
    seen = torch.where(aligned.seen[:, :reference] > 0.5, shorter, 0.0)
    # How far the brightest of them lies below what clips the reference, in the channel in which it comes nearest.
    below = torch.stack([torch.where(clipped, limit - shown.amax(1), 1.0).amin(1) for shown in (seen, shorter)], dim=1)
    lost = clipped.any(dim=1, keepdim=True).to(below)
    hidden = None
    if bool((below[:, :1] * lost > _DARK[0]).any()):
        below = blurred(below * lost, 1.0) / blurred(lost, 1.0).clamp_min(_TINY)  # of what is lost alone
        dark, black = (
            ((one - perhaps) / (surely - perhaps)).clamp(0, 1)
            for one, (perhaps, surely) in zip(below.split(1, dim=1), (_DARK, _BLACK), strict=True)
        )
        # Of black so little is certain that it may agree with anything, and be in the merge; but light it is not.
        unshown = (weights * alike.to(ours).view(*alike.shape, 1, 1, 1)).sum(dim=1)
        hidden = clipped * dark * torch.maximum(unshown, black)
        own = clipped & clipped_itself(ours, exposures[:, reference])
        hidden = (_EDGE_GAIN * blurred(hidden, _EDGE)).clamp_max(1) * own
    shown = (weights[:, :reference] * less).sum(dim=1)
    shown = shown if hidden is None else shown * (1 - hidden)
    # What is believed in part is believed less.
    return Hidden(hidden, torch.where(clipped, shown.square().square(), nearly))


class HighlightInpainting:
    """Collects from the squares of an image what is hidden and what is around, and fills the one from the other.

    Parameters
    ----------
    size
        Height and width of the image.

    Examples
    --------
    >>> image = torch.full((3, 32, 32), 0.8)
    >>> hidden, known = torch.zeros(1, 3, 32, 32), torch.ones(1, 3, 32, 32)
    >>> image[:, 8:16, 8:16], hidden[..., 8:16, 8:16], known[..., 8:16, 8:16] = 0.5, 1.0, 0.0
    >>> inpainting = HighlightInpainting((32, 32))
    >>> inpainting.add(Hidden(hidden, known), image, torch.ones(32, 32), top=0, left=0)
    >>> inpainting.fill(image)
    0.0625
    >>> image.amin().round(decimals=4)
    tensor(0.8000)
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size
        self._share: Tensor | None = None  # an image of it, as soon as anything is hidden
        # Of cells: weight, and weight times light.
        self._known = torch.zeros(6, *(-(-side // CELL) for side in size), dtype=torch.float32)

    def add(self, hidden: Hidden, square: Tensor, fade: Tensor, *, top: int, left: int) -> None:
        """Add a square of the image.

        Parameters
        ----------
        hidden
            Of the square, with a batch of one.
        square
            Shape (3, h, w): its light, mu-law domain.
        fade
            Shape (h, w): its weight; those of all squares sum to 1.
        top, left
            Of its first pixel, multiples of :data:`CELL`.
        """
        if hidden.share is not None:
            if self._share is None:
                self._share = torch.zeros(3, *self.size, dtype=torch.float16)
            rows, columns = square.shape[-2:]
            self._share[:, top : top + rows, left : left + columns] += (hidden.share[0].float().cpu() * fade).half()
        known = hidden.known[0].float().cpu()
        cells = F.avg_pool2d(torch.cat([known, known * square]) * fade, CELL, ceil_mode=True)
        rows, columns = cells.shape[-2:]
        self._known[:, top // CELL : top // CELL + rows, left // CELL : left // CELL + columns] += cells

    def fill(self, image: Tensor) -> float:
        """Fill what is hidden of an image (3, H, W), mu-law domain, in place; nothing becomes darker.

        Returns
        -------
        float
            The share of the image's pixels that became visibly brighter.
        """
        if self._share is None:
            return 0.0
        cells = torch.cat(_spread(*self._known[None].chunk(2, dim=1)), dim=1)
        height, width = self.size
        guessed = 0
        for top in range(0, height, _ROWS_AT_ONCE):
            bottom = min(top + _ROWS_AT_ONCE, height)
            around, trust = upsampled_window(cells, CELL, (top, bottom), (0, width))[0].chunk(2)
            ours = image[:, top:bottom]
            change = self._share[:, top:bottom].float() * trust * (around - ours).clamp_min(0)
            guessed += int((change.amax(dim=0) > _VISIBLE).sum())
            ours += change
        return guessed / (height * width)


def _spread(weight: Tensor, weighted: Tensor) -> tuple[Tensor, Tensor]:
    """Means of what is known, in each cell of as near surroundings as enough is known in, and how much that is.

    Pull and push (Gortler et al., The Lumigraph, SIGGRAPH 1996): averages over larger and larger cells, then back to
    the small ones, each of which takes from the larger what it does not know itself.

    Parameters
    ----------
    weight, weighted
        Shape (1, 3, h, w): weights, and values times weights.

    Returns
    -------
    mean, confidence : Tensor
        The same shape; the confidence in [0, 1].
    """
    levels = [(weight, weighted)]
    while min(levels[-1][0].shape[-2:]) >= 2:
        weight, weighted = (F.avg_pool2d(maps, 2, ceil_mode=True) for maps in levels[-1])
        levels.append((weight, weighted))
    mean, confidence = torch.zeros_like(weight), torch.zeros_like(weight)
    for weight, weighted in reversed(levels):
        mean, confidence = (_resized(maps, weight.shape[-2:]) for maps in (mean, confidence))
        own = (_ENOUGH * weight).clamp_max(1)
        others = (1 - own) * confidence
        confidence = own + others
        mean = (own * weighted / weight.clamp_min(_TINY) + others * mean) / confidence.clamp_min(_TINY)
    return mean, confidence


def _resized(maps: Tensor, size: torch.Size) -> Tensor:
    if maps.shape[-2:] == size:
        return maps
    return F.interpolate(maps, size=(size[0], size[1]), mode="bilinear", align_corners=False)
