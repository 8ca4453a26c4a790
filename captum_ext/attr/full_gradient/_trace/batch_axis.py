"""Which example of the batch each element of an activation belongs to."""

from __future__ import annotations

from torch import Tensor


class UnknownBatchAxisError(Exception):
    """An activation has no axis that could be the batch; its examples have to be taken one at a time."""


def by_example(activation: Tensor, n_examples: int) -> Tensor:
    """Return the activation with the examples along the first axis, as far as its shape tells.

    Models put the batch first, second (sequences before batches) or fold another axis into it behind the examples
    (windows, heads). What looks right by shape alone can still be wrong; the completeness of each example is the check.

    Raises
    ------
    UnknownBatchAxisError
        No axis fits.

    Examples
    --------
    >>> import torch
    >>> by_example(torch.zeros(2, 5), 2).shape, by_example(torch.zeros(6, 5), 2).shape
    (torch.Size([2, 5]), torch.Size([2, 3, 5]))
    """
    shape = activation.shape
    if shape and shape[0] == n_examples:
        return activation
    if n_examples == 1:
        return activation.unsqueeze(0)
    if len(shape) > 1 and shape[1] == n_examples:
        return activation.transpose(0, 1)
    if shape and shape[0] % n_examples == 0:
        return activation.reshape(n_examples, -1, *shape[1:])
    raise UnknownBatchAxisError
