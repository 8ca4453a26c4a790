"""Consumers of bias terms that lay every contribution on the input, in no more memory than the maps' own sizes."""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.autograd.graph import GradientEdge

from captum_ext.attr._common.sums import in_accumulation_dtype, row_sum
from captum_ext.attr.full_gradient._trace.backpropagation import Backpropagated
from captum_ext.attr.full_gradient._trace.batch_axis import by_example
from captum_ext.attr.full_gradient._trace.bias_term import BiasTerm
from captum_ext.attr.full_gradient.projection import interpolate, restore_sums, spread_evenly

Tensors = tuple[Tensor, ...]
Projection = Literal["auto", "interpolate", "backflow"]


class InputSpace:
    """Adds up all bias contributions in input space.

    Maps of one resolution are added before they are resized, and all maps that flow back do so in one pass.

    Parameters
    ----------
    inputs
        Tensors of shape (N, ...).
    projection
        ``"interpolate"`` resizes maps with a known place and spreads all others evenly; ``"backflow"`` sends all maps
        back through the network; ``"auto"`` resizes where the place is known, spreads what an image model has no
        place for (one number for each channel, as in a classifier) and sends the rest back.
    """

    def __init__(self, inputs: Tensors, projection: Projection) -> None:
        self._inputs = inputs
        self._projection = projection
        self.may_flow_back = projection != "interpolate"
        self._is_image = len(inputs) == 1 and inputs[0].dim() == 4
        self._n_examples = inputs[0].shape[0]
        zero = in_accumulation_dtype(inputs[0].new_zeros(self._n_examples))
        self._evenly, self._flowing_total = zero, zero
        self._maps: dict[tuple[int, int], Tensor] = {}
        self._flowing: list[tuple[GradientEdge, Tensor]] = []

    def __call__(self, term: BiasTerm) -> None:
        """Take one bias term."""
        if self._is_image and term.grid is not None and self._projection != "backflow":
            spatial, elsewhere = term.map_and_rest()
            self._evenly = self._evenly + elsewhere
            size = (spatial.shape[1], spatial.shape[2])
            self._maps[size] = self._maps[size] + spatial if size in self._maps else spatial
            return
        contribution = term.contribution()
        total = by_example(contribution, self._n_examples)
        total = row_sum((total,), self._evenly.device)
        has_no_place = self._is_image and contribution.dim() <= 2
        if self._projection == "interpolate" or (self._projection == "auto" and has_no_place):
            self._evenly = self._evenly + total
        else:
            self._flowing_total = self._flowing_total + total
            self._flowing.append((term.edge, contribution.to(term.adjoint.dtype)))

    def flowing_back(self) -> list[tuple[GradientEdge, Tensor]]:
        """Return the maps that no resizing can place."""
        return self._flowing

    def total(self) -> Tensor:
        """Return the sum of all contributions; shape (N,)."""
        return self._evenly + self._flowing_total + sum(map.sum((1, 2)) for map in self._maps.values())

    def contributions(self, passed: Backpropagated, *, conserve: bool) -> Tensors:
        """Return what all biases together contributed, in the shapes of the inputs and in accumulation precision."""
        pulled_back = tuple(in_accumulation_dtype(tensor) for tensor in passed.pulled_back)
        if conserve:
            pulled_back = restore_sums(pulled_back, self._flowing_total)
        evenly = spread_evenly(self._evenly, self._inputs)
        placed = tuple(flow + share for flow, share in zip(pulled_back, evenly, strict=True))
        if not self._maps:
            return placed
        image = self._inputs[0]
        size = (image.shape[2], image.shape[3])
        resized = sum(interpolate(map.unsqueeze(1), size) for map in self._maps.values())
        return (placed[0] + resized / image.shape[1],)
