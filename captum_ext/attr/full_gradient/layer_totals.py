"""What each module contributed to the output."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from captum_ext.attr._common import Tensors
from captum_ext.attr._common.forward import row_sum
from captum_ext.attr.full_gradient._trace.backpropagation import Backpropagated
from captum_ext.attr.full_gradient._trace.batch_axis import BatchAxis
from captum_ext.attr.full_gradient._trace.bias_term import BiasTerm, Consumer
from captum_ext.attr.full_gradient._trace.examples import concatenate
from captum_ext.attr.full_gradient.projection import interpolate

INPUT = "(input)"
OUTERMOST = "(model)"


@dataclass(frozen=True)
class LayerContribution:
    """What the biases of one module contributed.

    Attributes
    ----------
    total
        The contribution to each example's output; shape (N,).
    map
        Where on the image it lies, shape (N, 1, H, W), of the same sum; None where that is not known.
    """

    total: Tensor
    map: Tensor | None


class LayerTotals(Consumer):
    """Consumer of bias terms that adds them up by module.

    Parameters
    ----------
    inputs
        Tensors of shape (N, ...).
    """

    batch: BatchAxis

    def __init__(self, inputs: Tensors) -> None:
        self._inputs = inputs
        self.batch = BatchAxis(inputs[0].shape[0])
        self._is_image = len(inputs) == 1 and inputs[0].dim() == 4
        self._found: dict[str, LayerContribution] = {}
        self._first_index: dict[str, int] = {INPUT: -1}

    def __call__(self, term: BiasTerm) -> None:
        """Take one bias term."""
        layer = term.operation.module or OUTERMOST
        self._first_index[layer] = min(term.operation.index, self._first_index.get(layer, term.operation.index))
        total = self.batch.first(term.contribution())
        placed = None
        if self._is_image and term.grid is not None:
            spatial, elsewhere = term.map_and_rest()
            height, width = self._inputs[0].shape[2:]
            placed = interpolate(spatial.unsqueeze(1), (height, width))
            if elsewhere is not None:
                placed = placed + (elsewhere / (height * width)).reshape(-1, 1, 1, 1)
        self._add(layer, LayerContribution(row_sum((total,), total.device), placed))

    def _add(self, layer: str, more: LayerContribution) -> None:
        before = self._found.get(layer)
        if before is not None:
            placed = None if before.map is None or more.map is None else before.map + more.map
            more = LayerContribution(before.total + more.total, placed)
        self._found[layer] = more

    def add_input(self, passed: Backpropagated) -> None:
        """Add the input term <grad F, x>."""
        terms = passed.input_terms(self._inputs)
        on_image = terms[0].sum(1, keepdim=True) if self._is_image else None
        self._add(INPUT, LayerContribution(row_sum(terms, passed.output.device), on_image))

    def total(self) -> Tensor:
        """Return the sum over all modules and the input term; shape (N,)."""
        return torch.stack([found.total for found in self._found.values()]).sum(0)

    def by_layer(self) -> dict[str, LayerContribution]:
        """Return the contributions in the order of the forward pass, the input term first."""
        return {layer: self._found[layer] for layer in sorted(self._found, key=self._first_index.__getitem__)}


def join_layers(parts: list[dict[str, LayerContribution]]) -> dict[str, LayerContribution]:
    """Put the results of parts of a batch together; a module that did not run for a part contributed zero."""
    layers = dict.fromkeys(layer for part in parts for layer in part)

    def complete(part: dict[str, LayerContribution]) -> dict[str, LayerContribution]:
        total, on_image = part[INPUT].total, part[INPUT].map
        nothing = LayerContribution(torch.zeros_like(total), None if on_image is None else torch.zeros_like(on_image))
        return {layer: part.get(layer, nothing) for layer in layers}

    return concatenate([complete(part) for part in parts])
