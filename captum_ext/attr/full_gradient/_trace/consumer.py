"""Who receives the bias terms of a backward pass."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor
from torch.autograd.graph import GradientEdge

from captum_ext.attr.full_gradient._trace.batch_axis import BatchAxis
from captum_ext.attr.full_gradient._trace.bias_term import BiasTerm


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
