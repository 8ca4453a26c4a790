"""Lay what biases contribute on the input that they are about, without losing anything of their sum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge
from torch.nn.functional import adaptive_avg_pool1d
from torch.nn.functional import interpolate as resample

from captum_ext.attr._common import Tensors
from captum_ext.attr._common.forward import in_accumulation_dtype, like_rows, row_sum
from captum_ext.attr.full_gradient._trace.backpropagation import Backpropagated
from captum_ext.attr.full_gradient._trace.batch_axis import BatchAxis
from captum_ext.attr.full_gradient._trace.bias_term import BiasTerm, Consumer

Projection = Literal["auto", "interpolate", "backflow", "tokens"]


def interpolate(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize maps and keep their sums: bilinear where they grow, area averaging where they shrink.

    Every source cell is shared out over the target cells with weights that sum to one. Plain bilinear interpolation
    does not keep sums: cells at the border weigh more than those inside.

    Parameters
    ----------
    maps
        Shape (N, C, h, w).
    size
        Rows H and columns W of the target.

    Returns
    -------
    Tensor
        Shape (N, C, H, W); for each example and channel of the same sum as ``maps``.

    Examples
    --------
    >>> import torch
    >>> interpolate(torch.ones(1, 1, 2, 2), (4, 4)).sum()
    tensor(4.)
    """
    rows = _shares(maps.shape[2], size[0], maps)
    columns = _shares(maps.shape[3], size[1], maps)
    return rows @ maps @ columns.mT


def _shares(source: int, target: int, like: Tensor) -> Tensor:
    """Return the interpolation along one axis as a matrix of shape (target, source) whose columns sum to one."""
    cells = torch.eye(source, dtype=like.dtype, device=like.device).unsqueeze(0)
    if target < source:
        weights = adaptive_avg_pool1d(cells, target)[0].mT
    else:
        weights = resample(cells, size=target, mode="linear", align_corners=False)[0].mT
    return weights / weights.sum(0)


def spread_evenly(totals: Tensor, inputs: Tensors) -> Tensors:
    """Share a number for each example out over all elements of its inputs alike.

    Parameters
    ----------
    totals
        Shape (N,).
    inputs
        Tensors of shape (N, ...), whose shapes count.

    Returns
    -------
    tuple of Tensor
        One for each input, of its shape (expanded, not contiguous); they sum to ``totals``.

    Examples
    --------
    >>> import torch
    >>> spread_evenly(torch.tensor([6.0]), (torch.zeros(1, 2), torch.zeros(1, 1)))[0]
    tensor([[2., 2.]])
    """
    share = totals * (len(totals) / sum(tensor.numel() for tensor in inputs))
    return tuple(like_rows(share, tensor).expand(tensor.shape) for tensor in inputs)


def restore_sums(pulled_back: Tensors, totals: Tensor) -> Tensors:
    """Add to J^T c what it lost of the sum of c, evenly: J^T c + (sum c - sum J^T c) / d, d the number of elements.

    Linear in c, so that the maps of all operations may be pulled back together.

    Parameters
    ----------
    pulled_back
        J^T c; one tensor of shape (N, ...) for each input.
    totals
        Sum of c for each example; shape (N,).

    Returns
    -------
    tuple of Tensor
        Of the shapes of ``pulled_back``; they sum to ``totals``.
    """
    missing = totals - row_sum(pulled_back, totals.device)
    shares = spread_evenly(missing, pulled_back)
    return tuple(tensor + share for tensor, share in zip(pulled_back, shares, strict=True))


def token_sums(contribution: Tensor, n_tokens: int) -> Tensor | None:
    """Add up an activation by the token that it belongs to, as far as its shape tells.

    The tokens are the first axis of their number behind the examples. Weights of attention have two such axes, and
    belong to the token that asks, the first of these; heads stand before them.

    Parameters
    ----------
    contribution
        The examples first; shape (N, ...).
    n_tokens
        T.

    Returns
    -------
    Tensor or None
        Shape (N, T); None where no axis has as many entries as there are tokens.

    Examples
    --------
    >>> import torch
    >>> token_sums(torch.ones(1, 4, 3, 3), 3), token_sums(torch.ones(1, 3, 5), 3), token_sums(torch.ones(1, 5), 3)
    (tensor([[12., 12., 12.]]), tensor([[5., 5., 5.]]), None)
    """
    axes = [axis for axis in range(1, contribution.dim()) if contribution.shape[axis] == n_tokens]
    if not axes:
        return None
    # With as many heads as tokens, (N, heads, tokens, ...) is what attention computes with.
    axis = 2 if contribution.dim() == 4 and 2 in axes else axes[0]
    return contribution.movedim(axis, 1).flatten(2).sum(2) if contribution.dim() > 2 else contribution


class InputSpace(Consumer):
    """Consumer of bias terms that adds them all up in input space.

    Maps of one resolution are added before they are resized, and all maps that flow back do so in one pass.

    Parameters
    ----------
    inputs
        Tensors of shape (N, ...).
    projection
        ``"interpolate"`` resizes maps with a known place and spreads all others evenly; ``"backflow"`` sends all maps
        back through the network; ``"tokens"`` keeps each at its token, for inputs of shape (N, T, E), and spreads all
        others evenly; ``"auto"`` resizes where the place is known, spreads what an image model has no
        place for (one number for each channel, as in a classifier) and sends the rest back.
    """

    batch: BatchAxis

    def __init__(self, inputs: Tensors, projection: Projection) -> None:
        self._inputs = inputs
        self._projection = projection
        self.may_flow_back = projection not in ("interpolate", "tokens")
        self._is_image = len(inputs) == 1 and inputs[0].dim() == 4
        self.batch = BatchAxis(inputs[0].shape[0])
        zero = in_accumulation_dtype(inputs[0].new_zeros(inputs[0].shape[0]))
        self._evenly, self._flowing_total = zero, zero
        self._by_token: Tensor | None = None
        self._maps: dict[tuple[int, int], Tensor] = {}
        self._flowing: list[tuple[GradientEdge, Tensor]] = []

    def __call__(self, term: BiasTerm) -> None:
        """Take one bias term."""
        if self._is_image and term.grid is not None and self._projection != "backflow":
            spatial, elsewhere = term.map_and_rest()
            if elsewhere is not None:
                self._evenly = self._evenly + elsewhere
            size = (spatial.shape[1], spatial.shape[2])
            if size in self._maps:
                self._maps[size] += spatial
            else:
                self._maps[size] = spatial
            return
        contribution = term.contribution()
        rows = self.batch.first(contribution)
        if self._projection == "tokens":
            by_token = token_sums(in_accumulation_dtype(rows), self._inputs[0].shape[1])
            if by_token is not None:
                self._by_token = by_token if self._by_token is None else self._by_token + by_token
                return
        self._take_without_place([(term.edge, contribution.to(term.adjoint.dtype))], rows)

    def take_alike(self, terms: Sequence[BiasTerm]) -> None:
        """Take terms of one shape and without a place, with few operations for all of them."""
        if self._projection == "tokens":
            super().take_alike(terms)
            return
        adjoints = torch.stack([term.adjoint for term in terms])
        contributions = adjoints * torch.stack([term.bias for term in terms])
        edges = (term.edge for term in terms)
        flowing = list(zip(edges, contributions.to(adjoints.dtype).unbind(), strict=True))
        self._take_without_place(flowing, self.batch.first(contributions.sum(0)))

    def _take_without_place(self, flowing: list[tuple[GradientEdge, Tensor]], rows: Tensor) -> None:
        """Take contributions, and what they sum to, with the examples first."""
        total = row_sum((rows,), self._evenly.device)
        has_no_place = self._is_image and flowing[0][1].dim() <= 2
        if not self.may_flow_back or (self._projection == "auto" and has_no_place):
            self._evenly = self._evenly + total
        else:
            self._flowing_total = self._flowing_total + total
            self._flowing += flowing

    def flowing_back(self) -> list[tuple[GradientEdge, Tensor]]:
        """Return the maps that no resizing can place."""
        return self._flowing

    def total(self) -> Tensor:
        """Return the sum of all contributions; shape (N,)."""
        placed = self._flowing_total if self._by_token is None else self._flowing_total + self._by_token.sum(1)
        return self._evenly + placed + sum(spatial.sum((1, 2)) for spatial in self._maps.values())

    def contributions(self, passed: Backpropagated, *, conserve: bool) -> Tensors:
        """Return what all biases together contributed, in the shapes of the inputs and in accumulation precision."""
        pulled_back = tuple(in_accumulation_dtype(tensor) for tensor in passed.pulled_back)
        if conserve:  # what the maps lost on the way is spread in one with what has no place
            placed = restore_sums(pulled_back, self._flowing_total + self._evenly)
        else:
            evenly = spread_evenly(self._evenly, self._inputs)
            placed = tuple(flow + share for flow, share in zip(pulled_back, evenly, strict=True))
        if self._by_token is not None:
            return (placed[0] + self._by_token.unsqueeze(2) / self._inputs[0].shape[2],)
        if not self._maps:
            return placed
        image = self._inputs[0]
        size = (image.shape[2], image.shape[3])
        resized = sum(interpolate(spatial.unsqueeze(1), size) for spatial in self._maps.values())
        return (placed[0] + resized / image.shape[1],)
