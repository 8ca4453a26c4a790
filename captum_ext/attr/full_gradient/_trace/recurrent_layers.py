"""The implicit biases of whole recurrent networks, such as `torch.nn.LSTM`, in closed form.

The hidden states of all steps are what the network returned, or are given by PyTorch's own kernel, which is quick where
a loop over cells is not. From them follow the gates of all steps at once, and how much each gives on; only an LSTM's
memory and the linear part (t, the derivative along the network's own inputs) have to go from step to step, with few
operations in each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import linear

from captum_ext.attr.full_gradient._trace.implicit_bias import Kept


@dataclass(frozen=True, slots=True)
class Direction:
    """One direction of one layer, the steps in the order in which it takes them.

    Attributes
    ----------
    from_input, t_from_input
        What the weights make of the input, without the bias, and of its linear part; shape (T, N, G). The same tensor
        where the input depends on the model's.
    by_state
        The weights of the hidden state; shape (G, H).
    input_bias, state_bias
        Shape (G,); None where there are none.
    before, sequence
        The hidden states before and after the steps; shape (T, N, H).
    states, t_states
        The states before the first step, each of shape (N, H), and their linear parts.
    """

    from_input: Tensor
    t_from_input: Tensor
    by_state: Tensor
    input_bias: Tensor | None
    state_bias: Tensor | None
    before: Tensor
    sequence: Tensor
    states: list[Tensor]
    t_states: list[Tensor]


_SMALL = 2**18
_NUMPY_TYPES = (torch.float32, torch.float64)


def _in_steps(of: Direction, n_gates: int, *tensors: Tensor) -> tuple[Any, Callable[..., Any], list[Any]]:
    """Return what computes step by step, NumPy or PyTorch, its ``addcmul``, and the tensors as it takes them.

    A step is a few operations on a few numbers, where those of PyTorch cost more to begin than to do: three to four
    times what NumPy's do. But NumPy knows the CPU alone and no half precision, and takes threads of its own for large
    products, however many PyTorch was told to take. Both call what is used here by one name.

    First come the weights of the hidden state, transposed and gate by gate, of shape (gates, H, H), the linear part
    from the input, of shape (T, N, gates, H), and the linear part of the hidden state before the first step.
    """
    by_state = of.by_state.unflatten(0, (n_gates, -1)).mT.contiguous()
    tensors = (by_state, of.t_from_input.unflatten(-1, (n_gates, -1)), of.t_states[0], *tensors)
    is_small = len(of.states[0]) * by_state[0].numel() <= _SMALL
    if is_small and by_state.is_cpu and all(tensor.dtype in _NUMPY_TYPES for tensor in tensors):
        return np, _addcmul, [tensor.numpy() for tensor in tensors]
    return torch, torch.addcmul, [*tensors]


def _addcmul(term: Any, first: Any, second: Any, out: Any) -> Any:
    """Compute term + first * second; ``out`` must not be the term."""
    np.multiply(first, second, out)
    return np.add(out, term, out)


# From a direction to the linear part of its sequence and, for each state but the hidden one, value and linear part
# after the last step. What the loops take apart lies together: (T, gates, N, H).
Kind = Callable[[Direction], tuple[Tensor, list[tuple[Tensor, Tensor]]]]


def lstm(of: Direction) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    """Follow h' = o tanh(c') and c' = f c + i g."""
    bias = None if of.input_bias is None or of.state_bias is None else of.input_bias + of.state_bias
    gates = linear(of.before, of.by_state, bias).add_(of.from_input)
    g = gates.chunk(4, -1)[2].tanh()
    i, f, _, o = gates.sigmoid_().chunk(4, -1)  # the third for nothing: all at once are quicker than one by one
    xp, addcmul, (by_state, t_from_input, t_h, t_c, c, h, i, f, g, o) = _in_steps(
        of, 4, of.t_states[1].clone(), of.states[1], of.sequence, i, f.contiguous(), g, o
    )
    gain = i * g
    memory = xp.concatenate([c[None], gain])  # before the first step, and after each
    for f_now, gain_now, c_now, c_next in zip(f, gain, memory[:-1], memory[1:], strict=True):
        addcmul(gain_now, f_now, c_now, out=c_next)
    # How much the arguments of i, f and g give on to c', that of o to h', and c' to h'. A sigmoid s has the slope
    # s - s s; tanh(c') is h' / o, and h' is zero where o is.
    slopes = xp.stack([gain - gain * i, (f - f * f) * memory[:-1], i - gain * g, h - h * o], 1)
    onward = o - h * (h / o.clip(torch.finfo(of.sequence.dtype).tiny))

    t_from_input = xp.multiply(t_from_input.swapaxes(1, 2), slopes, out=xp.empty_like(slopes))
    t_sequence, t_gain = xp.empty_like(h), xp.empty_like(t_c)
    t_from_state, t_gates = xp.empty_like(slopes[0]), xp.empty_like(slopes[0])
    matmul, add, (t_i, t_f, t_g, t_o) = xp.matmul, xp.add, t_gates
    for t_x, slope, f_now, onward_now, t_after in zip(t_from_input, slopes, f, onward, t_sequence, strict=True):
        matmul(t_h, by_state, out=t_from_state)
        addcmul(t_x, t_from_state, slope, out=t_gates)
        add(t_i, t_f, out=t_gain)
        add(t_gain, t_g, out=t_gain)
        addcmul(t_gain, f_now, t_c, out=t_c)
        t_h = addcmul(t_o, onward_now, t_c, out=t_after)
    return torch.as_tensor(t_sequence), [(torch.as_tensor(memory[-1]), torch.as_tensor(t_c))]


def gru(of: Direction) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    """Follow h' = n + z (h - n), with r, z = sigmoid(. + .) and n = tanh(. + r .)."""
    from_input = of.from_input if of.input_bias is None else of.from_input + of.input_bias
    from_state = linear(of.before, of.by_state, of.state_bias)
    (x_r, x_z, x_n), (h_r, h_z, h_n) = from_input.chunk(3, -1), from_state.chunk(3, -1)
    r, z = (x_r + h_r).sigmoid_(), (x_z + h_z).sigmoid_()
    n = torch.addcmul(x_n, r, h_n).tanh_()
    xp, addcmul, (by_state, t_from_input, t_h, h, r, z, n, h_n) = _in_steps(of, 3, of.before, r, z, n, h_n)
    # How much the arguments of r and h_n give on to that of n, that of z to h', and the argument of n to h'.
    slopes = xp.stack([(r - r * r) * h_n, (z - z * z) * (h - n), r], 1)
    onward = (1 - n * n) * (1 - z)

    t_r, t_z, t_n = t_from_input.swapaxes(0, 2).swapaxes(1, 2)
    t_from_input = xp.stack([t_r * slopes[:, 0], t_z * slopes[:, 1], t_n], 1)
    t_sequence, t_argument = xp.empty_like(h), xp.empty_like(t_h)
    t_from_state, t_gates = xp.empty_like(slopes[0]), xp.empty_like(slopes[0])
    matmul, add, (t_r, t_z, t_n) = xp.matmul, xp.add, t_gates
    for t_x, slope, z_now, onward_now, t_after in zip(t_from_input, slopes, z, onward, t_sequence, strict=True):
        matmul(t_h, by_state, out=t_from_state)
        addcmul(t_x, t_from_state, slope, out=t_gates)
        add(t_r, t_n, out=t_argument)
        addcmul(t_z, z_now, t_h, out=t_r)
        t_h = addcmul(t_r, onward_now, t_argument, out=t_after)
    return torch.as_tensor(t_sequence), []


def rnn_tanh(of: Direction) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    """Follow h' = tanh(. + .)."""
    return _follow_rnn(of, 1 - of.sequence * of.sequence)


def rnn_relu(of: Direction) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    """Follow h' = max(. + ., 0)."""
    return _follow_rnn(of, (of.sequence > 0).to(of.sequence.dtype))


def _follow_rnn(of: Direction, slopes: Tensor) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    xp, addcmul, (by_state, _, t_h, slopes, t_from_input) = _in_steps(of, 1, slopes, of.t_from_input * slopes)
    t_sequence, t_from_state = xp.empty_like(slopes), xp.empty_like(t_h)
    for t_x, slope, t_after in zip(t_from_input, slopes, t_sequence, strict=True):
        xp.matmul(t_h, by_state[0], out=t_from_state)
        t_h = addcmul(t_x, t_from_state, slope, out=t_after)
    return torch.as_tensor(t_sequence), []


KINDS: dict[Callable[..., Any], Kind] = {
    torch.lstm: lstm,
    torch.gru: gru,
    torch.rnn_tanh: rnn_tanh,
    torch.rnn_relu: rnn_relu,
}


class LayersBias:
    """The biases of what a recurrent network returns: its sequence, and the states after it.

    Parameters
    ----------
    function
        One of ``KINDS``.
    x, states
        The input, and the states before it, of all layers and directions; kept for the backward pass.
    depends
        Whether each of them depends on the model's input.
    weights
        For each layer, for each direction, the weights of the input and of the hidden state, and their bias parameters
        if there are any.
    output
        The sequence that was returned; kept too.
    batch_first
        Whether it and x have the batch first, the steps second.
    """

    __slots__ = ("_batch_first", "_depends", "_found", "_function", "_weights", "kept")

    def __init__(
        self,
        function: Callable[..., Any],
        x: Tensor,
        states: Sequence[Tensor],
        depends: Sequence[bool],
        weights: list[list[list[Tensor]]],
        output: Tensor,
        *,
        batch_first: bool,
    ) -> None:
        self.kept = Kept([tensor.detach() for tensor in (x, output, *states)])
        self._function, self._depends, self._weights = function, depends, weights
        self._batch_first = batch_first
        self._found: list[list[tuple[Tensor, Tensor]]] = []

    def value(self, output_index: int) -> Tensor:
        """Return the bias of one of the outputs; what they are made of is computed together."""
        with torch.no_grad():
            if not self._found:
                self.kept.check()
                # As PyTorch: what overflows or underflows is seen in the attributions, and neither told nor raised.
                with np.errstate(all="ignore"):
                    self._found = self._compute()
            biases = [value - linear_part for value, linear_part in self._found[output_index]]
            if output_index > 0:
                return torch.stack(biases)
            bias = biases[0] if len(biases) == 1 else torch.cat(biases, -1)
            return bias.transpose(0, 1) if self._batch_first else bias

    def _compute(self) -> list[list[tuple[Tensor, Tensor]]]:
        """Return value and linear part of each direction's sequence, then of each of the states after it."""
        x, output, *states = self.kept.tensors
        if self._batch_first:
            x, output = x.transpose(0, 1).contiguous(), output.transpose(0, 1).contiguous()
        t_x, *t_states = (
            tensor if depends else torch.zeros_like(tensor)
            for tensor, depends in zip((x, *states), self._depends, strict=True)
        )
        after: list[list[tuple[Tensor, Tensor]]] = [[] for _ in states]
        sequences: list[tuple[Tensor, Tensor]] = []
        row = 0
        for layer in self._weights:
            is_last = layer is self._weights[-1]
            if sequences:
                x, t_x = (torch.cat(parts, -1) for parts in zip(*sequences, strict=True))
                sequences = []
            for number, weights in enumerate(layer):
                turn = (lambda tensor: tensor.flip(0)) if number else torch.Tensor.contiguous
                before = [state[row] for state in states]
                x_now = turn(x)
                t_x_now = x_now if t_x is x else turn(t_x)
                sequence = turn(output.chunk(len(layer), -1)[number]) if is_last else self._run(x_now, before, weights)
                t_before = [state[row] for state in t_states]
                direction = _direction(x_now, t_x_now, before, t_before, weights, sequence)
                t_sequence, others = KINDS[self._function](direction)
                for found, both in zip(after, [(sequence[-1], t_sequence[-1]), *others], strict=True):
                    found.append(both)
                sequences.append((turn(sequence), turn(t_sequence)))
                row += 1
        return [sequences, *after]

    def _run(self, x: Tensor, states: list[Tensor], weights: list[Tensor]) -> Tensor:
        """Return the sequence of one direction of a layer whose output nobody sees."""
        rows = [state.unsqueeze(0) for state in states]
        given: Any = rows if len(rows) > 1 else rows[0]
        sequence: Tensor = self._function(x, given, weights, len(weights) > 2, 1, 0.0, False, False, False)[0]
        return sequence


def _direction(
    x: Tensor, t_x: Tensor, states: list[Tensor], t_states: list[Tensor], weights: list[Tensor], sequence: Tensor
) -> Direction:
    by_input, by_state, *biases = weights
    input_bias, state_bias = biases or (None, None)
    from_input = linear(x, by_input)
    t_from_input = from_input if t_x is x else linear(t_x, by_input)
    before = torch.cat([states[0].unsqueeze(0), sequence[:-1]])
    return Direction(from_input, t_from_input, by_state, input_bias, state_bias, before, sequence, states, t_states)
