"""What the bias of one operation adds to the output, known when the backward pass reaches it, and who receives that."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge

from captum_ext.attr._common.forward import in_accumulation_dtype
from captum_ext.attr.full_gradient._trace.batch_axis import BatchAxis
from captum_ext.attr.full_gradient._trace.grid import Grid
from captum_ext.attr.full_gradient._trace.module_path import ModulePath


# Neither is frozen, which takes several times as long to make: there is one for every operation.
@dataclass(slots=True, eq=False)
class Operation:
    """One operation of a forward pass.

    Attributes
    ----------
    index
        Its place in the order of execution, among the operations with a bias.
    name
        The name of the function, such as ``conv2d``.
    modules, innermost
        The module in which it ran, None outside of modules, and what knows its path.
    is_layer
        Whether it is a convolution, a linear layer or a batch normalisation.
    """

    index: int
    name: str
    modules: ModulePath
    innermost: nn.Module | None
    is_layer: bool = False

    @property
    def module(self) -> str | None:
        """The path of the innermost module that ran it, ``""`` for the outermost one, None outside of modules."""
        return self.modules.path_of(self.innermost)


@dataclass(slots=True, eq=False)
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

    def map_and_rest(self) -> tuple[Tensor, Tensor | None]:
        """Return the product summed over channels as a map (N, H, W), and the sum of what has no place, (N,).

        In accumulation precision, and of tensors of their own; None if everything has a place. Only where ``grid`` is
        known.
        """
        assert self.grid is not None
        if self.grid.axes == "NCHW" and self.is_by_channel:
            return in_accumulation_dtype(weighted_sum(self.adjoint, self.bias.reshape(-1))), None
        return self.grid.map_and_rest(in_accumulation_dtype(self.contribution()))

    @property
    def is_by_channel(self) -> bool:
        """Whether the bias is one number for each channel, along the axis before rows and columns."""
        return self.bias.dim() == 3 and self.bias.shape == (self.adjoint.shape[-3], 1, 1)


class Consumer(ABC):
    """Receives the bias terms of one backward pass and keeps what it needs of them."""

    may_flow_back = False
    batch: BatchAxis | None = None
    """Is shown every activation of the forward pass, if there is one."""

    @abstractmethod
    def __call__(self, term: BiasTerm) -> None:
        """Take one term; its adjoint is gone afterwards."""

    def take_alike(self, terms: Sequence[BiasTerm]) -> None:
        """Take terms of one shape and place, as of one output of all steps of a recurrent cell; here one by one."""
        for term in terms:
            self(term)

    def flowing_back(self) -> list[tuple[GradientEdge, Tensor]]:
        """Return the maps that are to be pulled back to the input, with their places in the graph; none by default."""
        return []


def weighted_sum(images: Tensor, weights: Tensor) -> Tensor:
    """Add up the channels of (N, C, H, W), each with a weight; (N, H, W). By matmul, since einsum is slow to begin."""
    weights = weights.to(images.dtype)
    if images.is_contiguous():
        return torch.matmul(weights, images.flatten(2)).view(images.shape[0], *images.shape[2:])
    return torch.matmul(images.permute(0, 2, 3, 1), weights)
