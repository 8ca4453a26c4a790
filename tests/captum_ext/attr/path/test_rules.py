"""What a step along important directions is worth, also where its gradient vanishes or overflows."""

from __future__ import annotations

import torch
from torch import Tensor

from captum_ext import IDGI, PathIG
from captum_ext.attr.path.rules import EvaluatedPoint, riemann, step_residual


def test_gradient_is_taken_at_the_left_end_of_the_step():
    # f = exp(a) + exp(2 b) from (0, 0) in one step: gradient (1, 2), so a fifth and four fifths of the change.
    x = torch.tensor([[1.0, 0.5]], dtype=torch.float64)
    found = IDGI(lambda x: x[:, 0].exp() + (2 * x[:, 1]).exp()).attribute(x, n_steps=1)
    change = 2 * (torch.e - 1)
    torch.testing.assert_close(found, torch.tensor([[change / 5, 4 * change / 5]], dtype=torch.float64))


def test_saturated_softmax_gives_finite_complete_attributions_in_float32():
    # Gradients near 1e-25: their squares are 0 in float32.
    weight = torch.randn(6, 2)

    def model(x: Tensor) -> Tensor:
        return torch.softmax(torch.stack([x @ weight[:, 0] + 58.0, x @ weight[:, 1]], 1), 1)

    x = torch.rand(4, 6)
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model(leaf)[:, 1].sum(), leaf)
    assert 0 < gradient.abs().max() < 1e-20
    assert (gradient.square() == 0).all()
    attributions = IDGI(model).attribute(x, target=1, n_steps=20)
    change = (model(x) - model(torch.zeros_like(x)))[:, 1]
    assert torch.isfinite(attributions).all()
    assert (change.abs() > 0).all()
    torch.testing.assert_close(attributions.sum(1) / change, torch.ones(4), rtol=1e-4, atol=0)


def test_vanishing_gradient_contributes_nothing_and_the_delta_says_so():
    # f is flat up to 1/2, where it begins to rise: half of the steps have no gradient, one of them the rise.
    x = torch.tensor([[1.0], [0.0]], dtype=torch.float64)
    attributions, delta = IDGI(lambda x: torch.relu(x - 0.45).sum(1)).attribute(
        x, n_steps=2, return_convergence_delta=True
    )
    # Steps from 0 to 0.5 (flat, change 0.05) and from 0.5 to 1 (change 0.5).
    torch.testing.assert_close(attributions, torch.tensor([[0.5], [0.0]], dtype=torch.float64))
    torch.testing.assert_close(delta, torch.tensor([-0.05, 0.0], dtype=torch.float64))


def test_infinite_gradient_gives_no_nan():
    # The square root has an infinite slope at the black baseline.
    x = torch.tensor([[0.25, 1.0]], dtype=torch.float64)
    attributions, delta = IDGI(lambda x: x.sqrt().sum(1)).attribute(x, n_steps=4, return_convergence_delta=True)
    assert torch.isfinite(attributions).all()
    # The first step, from 0 to a quarter, is worth half of the change, and has no usable gradient.
    torch.testing.assert_close(delta, torch.tensor([-0.75], dtype=torch.float64))


def test_a_long_step_along_a_small_gradient_earns_little():
    # f = a + b / 100: by hand, the shares are 1 and 1e-4 of 1 + 1e-4. Integrated gradients give both the same.
    x = torch.tensor([[1.0, 100.0]], dtype=torch.float64)

    def model(x: Tensor) -> Tensor:
        return x[:, 0] + 0.01 * x[:, 1]

    torch.testing.assert_close(PathIG(model).attribute(x, n_steps=3), torch.tensor([[1.0, 1.0]], dtype=torch.float64))
    expected = 2.0 * torch.tensor([[1.0, 1e-4]], dtype=torch.float64) / (1 + 1e-4)
    torch.testing.assert_close(IDGI(model).attribute(x, n_steps=3), expected)


def test_a_step_in_half_precision_is_worth_what_single_precision_says():
    # A gradient of 300 over a step of 300 is worth 90000, which half precision does not hold: its largest is 65504.
    zero, x, gradient = (torch.tensor([[number, number / 4]]).half() for number in (0.0, 300.0, 300.0))
    left = EvaluatedPoint((zero,), torch.tensor([-60000.0]).half(), (gradient,))
    right = EvaluatedPoint((x,), torch.tensor([20000.0]).half(), None)
    (found,) = riemann(left, right)
    assert found.tolist() == [[90000.0, 5625.0]]
    # The output moves by about 80000, which half precision does not hold either.
    change = float(right.value) - float(left.value)
    assert step_residual(left, right).tolist() == [95625.0 - change]


def test_many_steps_in_half_precision_add_up_to_what_they_are_together():
    # f = a + 2 b to (1, 1): a fifth and four fifths of 3, of 2000 steps that half precision would round one by one.
    x = torch.ones(1, 2).half()
    found = IDGI(lambda x: x[:, 0] + 2 * x[:, 1]).attribute(x, n_steps=2000)
    assert torch.equal(found, torch.tensor([[0.6, 2.4]]).half())


def test_delta_and_report_in_half_precision_are_of_the_change_that_it_does_not_hold():
    # From -1 to 2050 are 2051, between 2050 and 2052: the attribution is rounded to 2052, which the delta tells.
    x = torch.ones(1, 1).half()
    found, delta, report = IDGI(lambda x: (2051 * x.float() - 1).sum(1).half()).attribute(
        x, n_steps=1, return_convergence_delta=True, return_steps_report=True
    )
    assert found.tolist() == [[2052.0]]
    assert delta.tolist() == [1.0]
    assert report.remaining.tolist() == [1.0]
