"""What is drawn from the global generators is seen, however it is drawn, and nothing else is taken for it."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import nn

from captum_ext import IDGI
from captum_ext.attr._common.random_draws import RandomDraws

DRAWS = {
    "function": lambda: torch.rand(2),
    "tensor": lambda: torch.empty(2).uniform_(),
    "Python function": lambda: nn.functional.gumbel_softmax(torch.zeros(2)),
    "initialiser": lambda: nn.init.trunc_normal_(torch.empty(2)),
    "operator": lambda: torch.ops.aten.rand([2]),
    "overload": lambda: torch.ops.aten.rand.default([2]),
    "fractional pooling": lambda: nn.FractionalMaxPool2d(2, output_size=2)(torch.rand(1, 1, 4, 4)),
    "lstm": lambda: nn.LSTM(2, 2, 2, dropout=0.5)(torch.zeros(1, 2)),
    "attention": lambda: nn.MultiheadAttention(2, 1, dropout=0.5)(*[torch.zeros(1, 2)] * 3, need_weights=False),
    "scripted": lambda: torch.jit.script(nn.Dropout())(torch.ones(2)),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit")
@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_every_way_of_drawing_is_known(draw, idle_thread):
    head, before = nn.Linear(6, 1), torch.get_rng_state()
    IDGI(lambda x: (draw(), head(x)[:, 0])[1]).attribute(torch.ones(2, 6), n_steps=2)
    assert torch.equal(torch.get_rng_state(), before)


UNRELATED = {
    "own generator": lambda: torch.rand(2, generator=torch.Generator()),
    "evaluation": lambda: nn.functional.dropout(torch.ones(2), training=False),
    "nothing": lambda: torch.ones(2).square(),
}


@pytest.mark.parametrize("act", UNRELATED.values(), ids=UNRELATED)
def test_what_does_not_draw_is_not_taken_for_a_draw(act):
    with RandomDraws() as account, account.watching():
        act()
        assert not account.may_have_happened


def test_draws_of_a_context_inside_do_not_look_like_those_of_another_thread(idle_thread):
    before = torch.get_rng_state()
    with RandomDraws() as account, account.watching():
        torch.rand(1)
        with RandomDraws() as inner, inner.watching():
            torch.rand(1)
        torch.rand(1)
    assert torch.equal(torch.get_rng_state(), before)


def test_what_another_thread_drew_is_not_forgotten_after_more_draws_of_ones_own(idle_thread):
    drawn: list[float] = []
    with RandomDraws() as account, account.watching():
        torch.rand(1)
        thread = threading.Thread(target=lambda: drawn.extend(torch.rand(4).tolist()))
        thread.start()
        thread.join()
        torch.rand(1)
        torch.rand(1)
    assert len(drawn) == 4
    assert not set(drawn) & set(torch.rand(20).tolist())
