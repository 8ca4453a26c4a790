"""The implicit biases of recurrent cells in closed form: a step of a recurrent network is one operation, and often run.

Forward mode takes a cell apart into dozens of operations, each of which costs more than the numbers in it. Written out,
with t for the linear part (the derivative along the cell's own inputs), the affine maps lose their bias parameters,
t(W x + b) = W x, and the gates follow by the product rule.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from captum_ext.attr.full_gradient._trace.implicit_bias import Kept

Affine = tuple[Tensor, Tensor]
"""An affine map's value W x + b and its linear part: W x where x depends on the model's input, else zero."""
Cell = Callable[[list[Tensor], Affine, Affine, Sequence[bool], bool], list[Tensor]]


class CellBias:
    """The biases of a recurrent cell's outputs.

    Steps of one cell are alike, and many small steps cost more apart than together: see `compute`.

    Parameters
    ----------
    cell
        From the states, the affine maps of the input and of the hidden state, whether each state depends on the
        model's input, and ``feeds_first``, to the bias of each output.
    x, states
        The input and the states before; kept for the backward pass.
    depends
        Whether each of them depends on the model's input.
    weights
        Of the input and of the hidden state, and the two bias parameters, None where there are none.
    feeds_first
        Whether autograd sees the first output made from the second, which is then one of the arguments that it is
        linear in: what comes back to the second through the first is part of its adjoint.
    """

    __slots__ = ("_cell", "_depends", "_feeds_first", "_found", "_weights", "kept")

    def __init__(
        self,
        cell: Cell,
        x: Tensor,
        states: Sequence[Tensor],
        depends: Sequence[bool],
        weights: Sequence[Tensor | None],
        *,
        feeds_first: bool = False,
    ) -> None:
        self.kept = Kept([x.detach(), *(state.detach() for state in states)])
        self._cell, self._depends, self._weights = cell, depends, weights
        self._feeds_first = feeds_first
        self._found: list[Tensor] = []

    @property
    def kind(self) -> tuple[Any, ...]:
        """What steps that can be computed together have in common."""
        shapes = (tensor.shape for tensor in self.kept.tensors)
        return (self._cell, *self._depends, self._feeds_first, *map(id, self._weights), *shapes)

    @property
    def size(self) -> int:
        """How many numbers the computation holds at a time."""
        return 4 * self.kept.tensors[1].numel()

    @staticmethod
    def compute(biases: Sequence[CellBias]) -> None:
        """Compute the biases of several steps of one kind together, ahead of `value`."""
        missing = [bias for bias in dict.fromkeys(biases) if not bias._found]
        if not missing:
            return
        for bias in missing:
            bias.kept.check()
        first = missing[0]
        x, *states = (torch.stack(tensors) for tensors in zip(*(bias.kept.tensors for bias in missing), strict=True))
        by_input, by_state, input_bias, state_bias = first._weights
        with torch.no_grad():
            from_input = _affine(x, by_input, input_bias, first._depends[0])
            from_state = _affine(states[0], by_state, state_bias, first._depends[1])
            found = first._cell(states, from_input, from_state, first._depends, first._feeds_first)
        for bias, *of_outputs in zip(missing, *found, strict=True):
            bias._found = of_outputs

    def value(self, output_index: int) -> Tensor:
        """Return the bias of one of the outputs; those of all are computed together."""
        self.compute([self])
        return self._found[output_index]


def _affine(x: Tensor, weight: Any, bias: Tensor | None, depends: bool) -> Affine:
    product = linear(x, weight)
    value = product if bias is None else product + bias
    return value, product if depends else torch.zeros_like(product)


def gru_cell(
    states: list[Tensor], from_input: Affine, from_state: Affine, depends: Sequence[bool], feeds_first: bool
) -> list[Tensor]:
    """Return the bias of h' = n + z (h - n), with r, z = sigmoid(. + .) and n = tanh(. + r .)."""
    (h,) = states
    # The gates and, for nothing, the third part: three operations on all are quicker than cutting two parts out.
    gates = (from_input[0] + from_state[0]).sigmoid_()
    t_gates = torch.ops.aten.sigmoid_backward(from_input[1] + from_state[1], gates)
    (r, z, _), (t_r, t_z, _) = gates.chunk(3, -1), t_gates.chunk(3, -1)
    input_new, t_input_new, state_new, t_state_new = (part.chunk(3, -1)[2] for part in (*from_input, *from_state))
    n = torch.addcmul(input_new, r, state_new).tanh_()
    t_argument = torch.addcmul(t_input_new, t_r, state_new).addcmul_(r, t_state_new)
    bias_of_n = n - torch.ops.aten.tanh_backward(t_argument, n)
    # h' less its linear part, which is that of n, t_z (h - n) and z (t_h - t_n); t_h is h or zero.
    bias = bias_of_n.addcmul(z, bias_of_n, value=-1).addcmul_(t_z, h - n, value=-1)
    return [bias if depends[1] else bias + z * h]


def lstm_cell(
    states: list[Tensor], from_input: Affine, from_state: Affine, depends: Sequence[bool], feeds_first: bool
) -> list[Tensor]:
    """Return the biases of h' = o tanh(c') and c' = f c + i g."""
    c = states[1]
    gates, t_gates = from_input[0] + from_state[0], from_input[1] + from_state[1]
    g = gates.chunk(4, -1)[2].tanh()
    t_g = torch.ops.aten.tanh_backward(t_gates.chunk(4, -1)[2], g)
    # Of all four together, the third for nothing: that is quicker than cutting it out.
    sigmoids = gates.sigmoid_()
    t_sigmoids = torch.ops.aten.sigmoid_backward(t_gates, sigmoids)
    (i, f, _, o), (t_i, t_f, _, t_o) = sigmoids.chunk(4, -1), t_sigmoids.chunk(4, -1)
    memory = torch.addcmul(i * g, f, c)
    t_memory = torch.addcmul(t_i * g, t_f, c).addcmul_(i, t_g)
    if depends[2]:
        t_memory.addcmul_(f, c)
    squashed = memory.tanh()
    t_squashed = torch.ops.aten.tanh_backward(memory if feeds_first else t_memory, squashed)
    return [o * (squashed - t_squashed) - t_o * squashed, memory - t_memory]


def rnn_tanh_cell(
    states: list[Tensor], from_input: Affine, from_state: Affine, depends: Sequence[bool], feeds_first: bool
) -> list[Tensor]:
    """Return the bias of h' = tanh(. + .)."""
    h = (from_input[0] + from_state[0]).tanh_()
    return [h - torch.ops.aten.tanh_backward(from_input[1] + from_state[1], h)]


def rnn_relu_cell(
    states: list[Tensor], from_input: Affine, from_state: Affine, depends: Sequence[bool], feeds_first: bool
) -> list[Tensor]:
    """Return the bias of h' = max(. + ., 0), that of its argument where it is above zero."""
    argument = from_input[0] + from_state[0]
    return [torch.where(argument > 0, argument - from_input[1] - from_state[1], 0.0)]


CELLS: dict[Callable[..., Any], Cell] = {
    torch.gru_cell: gru_cell,
    torch.lstm_cell: lstm_cell,
    torch.rnn_tanh_cell: rnn_tanh_cell,
    torch.rnn_relu_cell: rnn_relu_cell,
}
