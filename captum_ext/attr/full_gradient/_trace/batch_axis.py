"""Which example of the batch each element of an activation belongs to."""

from __future__ import annotations

from torch import Tensor


class UnknownBatchAxisError(Exception):
    """An activation has no axis that could be the batch; its examples have to be taken one at a time."""


class BatchAxis:
    """Tells the examples apart in the activations of one pass, as far as their shapes tell.

    Models put the batch first, second (sequences before batches) or fold another axis into it behind the examples
    (windows, heads). Where two of these fit a shape, a length that was seen as a folded batch without doubt is one
    again. What looks right by shape alone can still be wrong; the completeness of each example is the check.

    Parameters
    ----------
    n_examples
        The length of the batch.

    Examples
    --------
    >>> import torch
    >>> batch = BatchAxis(2)
    >>> batch.first(torch.zeros(2, 5)).shape, batch.first(torch.zeros(6, 2, 5)).shape
    (torch.Size([2, 5]), torch.Size([2, 6, 5]))
    >>> batch.see(torch.zeros(6, 5))
    >>> batch.first(torch.zeros(6, 2, 5)).shape
    torch.Size([2, 3, 2, 5])
    """

    def __init__(self, n_examples: int) -> None:
        self._n_examples = n_examples
        self._folded: set[int] = set()

    def see(self, activation: Tensor) -> None:
        """Look at the shape of an activation, before the first is told apart."""
        shape, n = activation.shape, self._n_examples
        if len(shape) > 1 and shape[0] != n and shape[1] != n and shape[0] % n == 0:
            self._folded.add(shape[0])

    def first(self, activation: Tensor) -> Tensor:
        """Return the activation with the examples along the first axis.

        Raises
        ------
        UnknownBatchAxisError
            No axis fits.
        """
        shape, n = activation.shape, self._n_examples
        if shape and shape[0] == n:
            return activation
        if n == 1 and not shape:
            return activation.unsqueeze(0)
        is_folded = bool(shape) and shape[0] % n == 0
        if len(shape) > 1 and shape[1] == n and not (is_folded and shape[0] in self._folded):
            return activation.transpose(0, 1)
        if not is_folded:
            raise UnknownBatchAxisError
        return activation.reshape(n, -1, *shape[1:])
