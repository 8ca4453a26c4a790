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
Cell = Callable[[list[Tensor], Affine, Affine, Sequence[bool]], list[Tensor]]


class CellBias:
    """The biases of a recurrent cell's outputs.

    Parameters
    ----------
    cell
        From the states, the affine maps of the input and of the hidden state, and whether each state depends on the
        model's input, to the bias of each output.
    x, states
        The input and the states before; kept for the backward pass.
    depends
        Whether each of them depends on the model's input.
    weights
        Of the input and of the hidden state, and the two bias parameters, None where there are none.
    """

    __slots__ = ("_cell", "_depends", "_found", "_weights", "kept")

    def __init__(
        self, cell: Cell, x: Tensor, states: Sequence[Tensor], depends: Sequence[bool], weights: Sequence[Tensor | None]
    ) -> None:
        self.kept = Kept([x.detach(), *(state.detach() for state in states)])
        self._cell, self._depends = cell, depends
        self._weights = [None if weight is None else weight.detach() for weight in weights]
        self._found: list[Tensor] = []

    def value(self, output_index: int) -> Tensor:
        """Return the bias of one of the outputs; those of all are computed together."""
        self.kept.check()
        if not self._found:
            x, *states = self.kept.tensors
            by_input, by_state, input_bias, state_bias = self._weights
            with torch.no_grad():
                from_input = _affine(x, by_input, input_bias, self._depends[0])
                from_state = _affine(states[0], by_state, state_bias, self._depends[1])
                self._found = self._cell(states, from_input, from_state, self._depends[1:])
        return self._found[output_index]


def _affine(x: Tensor, weight: Any, bias: Tensor | None, depends: bool) -> Affine:
    product = linear(x, weight)
    value = product if bias is None else product + bias
    return value, product if depends else torch.zeros_like(product)


def gru_cell(states: list[Tensor], from_input: Affine, from_state: Affine, depends: Sequence[bool]) -> list[Tensor]:
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
    return [bias if depends[0] else bias + z * h]


def lstm_cell(states: list[Tensor], from_input: Affine, from_state: Affine, depends: Sequence[bool]) -> list[Tensor]:
    """Return the biases of h' = o tanh(c') and c' = f c + i g."""
    _, c = states
    i, f, g, o = (from_input[0] + from_state[0]).chunk(4, -1)
    i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
    t_i, t_f, t_g, t_o = (from_input[1] + from_state[1]).chunk(4, -1)
    t_i, t_f, t_o = (torch.ops.aten.sigmoid_backward(t, gate) for t, gate in ((t_i, i), (t_f, f), (t_o, o)))
    t_g = torch.ops.aten.tanh_backward(t_g, g)
    memory = f * c + i * g
    t_memory = t_f * c + t_i * g + i * t_g
    if depends[1]:
        t_memory = t_memory + f * c
    squashed = memory.tanh()
    t_squashed = torch.ops.aten.tanh_backward(t_memory, squashed)
    return [o * (squashed - t_squashed) - t_o * squashed, memory - t_memory]


def rnn_tanh_cell(states: list[Tensor], from_input: Affine, from_state: Affine, _: Sequence[bool]) -> list[Tensor]:
    """Return the bias of h' = tanh(. + .)."""
    h = (from_input[0] + from_state[0]).tanh_()
    return [h - torch.ops.aten.tanh_backward(from_input[1] + from_state[1], h)]


def rnn_relu_cell(states: list[Tensor], from_input: Affine, from_state: Affine, _: Sequence[bool]) -> list[Tensor]:
    """Return the bias of h' = max(. + ., 0), that of its argument where it is above zero."""
    argument = from_input[0] + from_state[0]
    return [torch.where(argument > 0, argument - from_input[1] - from_state[1], 0.0)]


CELLS: dict[Callable[..., Any], Cell] = {
    torch.gru_cell: gru_cell,
    torch.lstm_cell: lstm_cell,
    torch.rnn_tanh_cell: rnn_tanh_cell,
    torch.rnn_relu_cell: rnn_relu_cell,
}
