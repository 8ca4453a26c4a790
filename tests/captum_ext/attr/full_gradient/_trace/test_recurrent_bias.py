"""Recurrent cells: their biases in closed form are what forward mode gives."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.captum_ext.attr.full_gradient._trace.closed_forms import assert_equal, bias_and_reference, normal
from tests.captum_ext.exactness import assert_exact

CELLS = {
    "gru": nn.GRUCell(4, 6),
    "lstm": nn.LSTMCell(4, 6),
    "rnn": nn.RNNCell(4, 6),
    "rnn with relu": nn.RNNCell(4, 6, nonlinearity="relu"),
    "gru without biases": nn.GRUCell(4, 6, bias=False),
}
FUNCTIONS = {nn.GRUCell: torch.gru_cell, nn.LSTMCell: torch.lstm_cell}


@pytest.mark.parametrize("which", ["input and states", "input", "states"])
@pytest.mark.parametrize("name", CELLS)
def test_recurrent_cells_in_closed_form_are_what_forward_mode_gives(name, which):
    cell = CELLS[name].double()
    for parameter in cell.parameters():
        parameter.data = normal(*parameter.shape)
    function = FUNCTIONS.get(type(cell), torch.rnn_relu_cell if name.endswith("relu") else torch.rnn_tanh_cell)
    x, states = normal(3, 4), [normal(3, 6) for _ in range(2 if name == "lstm" else 1)]
    weights = (cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh)
    args = (x, states if name == "lstm" else states[0], *[w if w is None else w.detach() for w in weights])
    dependents = {"input and states": [x, *states], "input": [x], "states": states}[which]
    assert_equal(*bias_and_reference(function, args, {}, dependents))


def test_an_lstm_cell_of_which_only_one_state_depends():
    cell = CELLS["lstm"].double()
    h, c = normal(2, 6), normal(2, 6)
    for state in (lambda x: (x, c), lambda x: (h, x)):
        assert_exact(
            lambda x, state=state: (cell(x[:, :4], state(x))[0] * cell(x[:, 2:], state(x))[1]).sum(1), normal(2, 6)
        )
