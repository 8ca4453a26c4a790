"""What the bias of one operation adds to the output, as it is known when the backward pass reaches the operation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from captum_ext.attr._common.sums import in_accumulation_dtype
from captum_ext.attr.full_gradient._trace.grid import Grid


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of a forward pass.

    Attributes
    ----------
    index
        Its place in the order of execution, among the operations with a bias.
    name
        The name of the function, such as ``conv2d``.
    module
        The path of the innermost module that ran it, ``""`` for the outermost one, None outside of modules.
    is_layer
        Whether it is a convolution, a linear layer or a batch normalisation.
    """

    index: int
    name: str
    module: str | None
    is_layer: bool = False


@dataclass(frozen=True, slots=True)
class BiasTerm:
    """What the bias of one operation adds to the output: the elementwise product of ``adjoint`` and ``bias``.

    Attributes
    ----------
    operation
        The operation that has the bias.
    adjoint
        Gradient of the output with respect to ``edge``.
    bias
        The bias, in a shape that broadcasts to that of the adjoint.
    edge
        The place in the autograd graph where the product lies.
    grid
        Where on the image it lies; None where that is not known.
    is_part
        Whether this is one of several terms of an operation whose bias is known in sum only: the value v at its
        output with the adjoint a, and the values v_j at its inputs with -J_j^T a.
    """

    operation: Operation
    adjoint: Tensor
    bias: Tensor
    edge: GradientEdge
    grid: Grid | None
    is_part: bool = False

    def contribution(self) -> Tensor:
        """Return the product, in the adjoint's shape; real, also inside of a Fourier transform."""
        if self.adjoint.is_complex():
            return (self.adjoint.conj() * self.bias).real
        return self.adjoint * self.bias

    def map_and_rest(self) -> tuple[Tensor, Tensor]:
        """Return the product summed over channels as a map (N, H, W), and the sum of what has no place, (N,).

        In accumulation precision. Only where ``grid`` is known.
        """
        assert self.grid is not None
        if self.grid.axes == "NCHW" and self.is_by_channel:
            bias = self.bias.reshape(-1).to(self.adjoint.dtype)
            spatial = in_accumulation_dtype(torch.einsum("nchw,c->nhw", self.adjoint, bias))
            return spatial, spatial.new_zeros(spatial.shape[0])
        spatial, rest = self.grid.cells(in_accumulation_dtype(self.contribution()))
        return spatial.sum(1), rest

    @property
    def is_by_channel(self) -> bool:
        """Whether the bias is one number for each channel, along the axis before rows and columns."""
        return self.bias.dim() == 3 and self.bias.shape == (self.adjoint.shape[-3], 1, 1)
