"""What all attribution methods share: checks, the target function, guards, and sums over the features of an example."""

from torch import Tensor

Tensors = tuple[Tensor, ...]
"""One tensor for each input of a model; shape (N, ...)."""
