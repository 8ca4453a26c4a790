"""What each module contributed to the output."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from captum_ext.attr._common.sums import in_accumulation_dtype, row_sum
from captum_ext.attr.full_gradient._trace.backpropagation import Backpropagated
from captum_ext.attr.full_gradient._trace.batch_axis import by_example
from captum_ext.attr.full_gradient._trace.bias_term import BiasTerm
from captum_ext.attr.full_gradient.projection import interpolate

Tensors = tuple[Tensor, ...]
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


class LayerTotals:
    """Consumer of bias terms that adds them up by module.

    Parameters
    ----------
    inputs
        Tensors of shape (N, ...).
    """

    may_flow_back = False

    def __init__(self, inputs: Tensors) -> None:
        self._inputs = inputs
        self._n_examples = inputs[0].shape[0]
        self._is_image = len(inputs) == 1 and inputs[0].dim() == 4
        self._found: dict[str, LayerContribution] = {}
        self._first_index: dict[str, int] = {INPUT: -1}

    def __call__(self, term: BiasTerm) -> None:
        """Take one bias term."""
        layer = term.operation.module or OUTERMOST
        self._first_index[layer] = min(term.operation.index, self._first_index.get(layer, term.operation.index))
        total = by_example(term.contribution(), self._n_examples)
        map = None
        if self._is_image and term.grid is not None:
            spatial, elsewhere = term.map_and_rest()
            image = self._inputs[0]
            cells = image.shape[2] * image.shape[3]
            map = interpolate(spatial.unsqueeze(1), (image.shape[2], image.shape[3]))
            map = map + (elsewhere / cells).reshape(-1, 1, 1, 1)
        self._add(layer, LayerContribution(row_sum((total,), total.device), map))

    def _add(self, layer: str, more: LayerContribution) -> None:
        before = self._found.get(layer)
        if before is None:
            self._found[layer] = more
            return
        map = None if before.map is None or more.map is None else before.map + more.map
        self._found[layer] = LayerContribution(before.total + more.total, map)

    def flowing_back(self) -> list[tuple[GradientEdge, Tensor]]:
        """Return nothing: only places that are known are shown."""
        return []

    def add_input(self, passed: Backpropagated) -> None:
        """Add the input term <grad F, x>."""
        products = tuple(
            in_accumulation_dtype(gradient) * in_accumulation_dtype(x)
            for gradient, x in zip(passed.gradients, self._inputs, strict=True)
        )
        map = products[0].sum(1, keepdim=True) if self._is_image else None
        self._add(INPUT, LayerContribution(row_sum(products, passed.output.device), map))

    def total(self) -> Tensor:
        """Return the sum over all modules and the input term; shape (N,)."""
        return torch.stack([found.total for found in self._found.values()]).sum(0)

    def by_layer(self) -> dict[str, LayerContribution]:
        """Return the contributions in the order of the forward pass, the input term first."""
        return {layer: self._found[layer] for layer in sorted(self._found, key=self._first_index.__getitem__)}

    @staticmethod
    def concatenate(parts: list[dict[str, LayerContribution]]) -> dict[str, LayerContribution]:
        """Put the results of parts of a batch together; a module that did not run for a part contributed zero."""
        layers = list(dict.fromkeys(layer for part in parts for layer in part))

        def of_part(part: dict[str, LayerContribution], layer: str) -> LayerContribution:
            return part.get(layer) or LayerContribution(torch.zeros_like(part[INPUT].total), None)

        joined = {}
        for layer in layers:
            found = [of_part(part, layer) for part in parts]
            maps = [each.map for each in found if each.map is not None]
            map = torch.cat(maps) if len(maps) == len(found) else None
            joined[layer] = LayerContribution(torch.cat([each.total for each in found]), map)
        return joined
