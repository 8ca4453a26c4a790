"""Projections keep the sum of every map, and are what their formulas say."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn
from torch.nn.functional import interpolate as resample

from captum_ext.attr.full_gradient._trace.backpropagation import backpropagate
from captum_ext.attr.full_gradient._trace.bias_term import Consumer
from captum_ext.attr.full_gradient.full_grad import FullGrad
from captum_ext.attr.full_gradient.projection import InputSpace, interpolate, restore_sums, spread_evenly, token_sums
from tests.captum_ext.randomised_models import randomise

sizes = st.integers(1, 12)


@settings(max_examples=60)
@given(sizes, sizes, sizes, sizes)
def test_interpolation_keeps_sums_for_all_sizes(h, w, height, width):
    maps = torch.randn(2, 3, h, w, dtype=torch.float64)
    resized = interpolate(maps, (height, width))
    assert resized.shape == (2, 3, height, width)
    torch.testing.assert_close(resized.sum((2, 3)), maps.sum((2, 3)), rtol=0, atol=1e-11)


@settings(max_examples=30)
@given(sizes, sizes, st.integers(0, 12), st.integers(0, 12))
def test_interpolation_divides_by_the_adjoint_applied_to_ones_and_is_bilinear(h, w, more_rows, more_columns):
    size = (h + more_rows, w + more_columns)
    maps = torch.randn(1, 1, h, w, dtype=torch.float64)
    cells = torch.zeros(1, 1, h, w, dtype=torch.float64, requires_grad=True)
    upsampled = resample(cells, size=size, mode="bilinear", align_corners=False)
    (weight_of_cell,) = torch.autograd.grad(upsampled.sum(), cells)
    expected = resample(maps / weight_of_cell, size=size, mode="bilinear", align_corners=False)
    torch.testing.assert_close(interpolate(maps, size), expected, rtol=1e-10, atol=1e-10)


def test_interpolation_shrinks_by_area():
    maps = torch.arange(16, dtype=torch.float64).reshape(1, 1, 4, 4)
    expected = torch.tensor([[10.0, 18.0], [42.0, 50.0]], dtype=torch.float64)
    torch.testing.assert_close(interpolate(maps, (2, 2))[0, 0], expected)


def test_what_has_no_place_is_spread_over_all_elements_of_all_inputs():
    first, second = spread_evenly(torch.tensor([10.0, 20.0]), (torch.zeros(2, 3), torch.zeros(2, 1, 2)))
    assert first.tolist() == [[2.0] * 3, [4.0] * 3]
    assert second.tolist() == [[[2.0, 2.0]], [[4.0, 4.0]]]


def test_restored_sums_add_the_missing_part_evenly():
    (restored,) = restore_sums((torch.tensor([[1.0, 2.0]]),), torch.tensor([10.0]))
    assert restored.tolist() == [[4.5, 5.5]]


def test_an_activation_belongs_to_the_tokens_that_its_shape_tells():
    values = torch.rand(2, 3, 3, 4, dtype=torch.float64)
    # As many heads as tokens: heads come first.
    by_head = torch.stack([torch.stack([example[:, t].sum() for t in range(3)]) for example in values])
    torch.testing.assert_close(token_sums(values, 3), by_head)
    # Weights of attention belong to the token that asks, with heads and without.
    weights = values[..., :3]
    asking = torch.stack([torch.stack([example[:, t].sum() for t in range(3)]) for example in weights])
    torch.testing.assert_close(token_sums(weights, 3), asking)
    alone = torch.stack([torch.stack([example[t].sum() for t in range(3)]) for example in weights[:, 0]])
    torch.testing.assert_close(token_sums(weights[:, 0], 3), alone)
    torch.testing.assert_close(token_sums(values[:, :, 0], 4), values[:, :, 0].sum(1))
    assert token_sums(values, 5) is None


def test_a_bias_of_a_token_is_shared_out_over_its_embedding():
    # A score of <w, x_1> + <w, b> of the second token, which b is added to, and 6 for the whole text.
    weight, bias = torch.tensor([2.0, -1.0]), torch.zeros(3, 2)
    bias[1] = torch.tensor([3.0, 1.0])
    x = torch.tensor([[[1.0, 5.0], [2.0, 4.0], [3.0, 3.0]]])
    found = FullGrad(lambda x: (x + bias)[:, 1] @ weight + 6).attribute(x, projection="tokens")
    expected = torch.ones(1, 3, 2)  # 6 over six elements
    expected[0, 1] += weight * x[0, 1] + (weight * bias[1]).sum() / 2
    torch.testing.assert_close(found, expected)


def test_what_is_no_map_of_an_image_is_sent_back_and_what_a_classifier_adds_is_spread():
    first, second = randomise(nn.Linear(4, 3)), randomise(nn.Linear(3, 2), 1)

    def model(image: Tensor) -> Tensor:
        return second(first(image.flatten(2)).sum(1))

    image = torch.randn(2, 3, 2, 2, dtype=torch.float64)
    # Behind every row of pixels, one for each channel, the first layer's bias; its Jacobian is its weight.
    contribution = second.weight[1] * first.bias
    sent_back = first.weight.T @ contribution
    missing = 3 * (contribution.sum() - sent_back.sum())
    gradient = (first.weight.T @ second.weight[1]).reshape(2, 2)
    expected = gradient * image + sent_back.reshape(2, 2) + (missing + second.bias[1]) / 12
    torch.testing.assert_close(FullGrad(model).attribute(image, target=1), expected.detach(), rtol=0, atol=1e-12)


# ---- per operation ----


class OneOperation(InputSpace):
    """Keeps the terms of a single operation."""

    def __init__(self, inputs, projection, index):
        super().__init__(inputs, projection)
        self.index = index
        self.seen = set()
        self.sum = torch.zeros(inputs[0].shape[0], dtype=torch.float64)

    def __call__(self, term):
        self.seen.add(term.operation.index)
        if term.operation.index == self.index:
            self.sum += term.contribution().flatten(1).sum(1)
            super().__call__(term)


def mixed_model():
    return randomise(
        nn.Sequential(
            *(nn.Conv2d(3, 4, 3), nn.GELU(), nn.AvgPool2d(2), nn.BatchNorm2d(4), nn.Flatten(2)),
            *(nn.Linear(9, 5), nn.Softmax(-1), nn.Flatten(), nn.Linear(20, 2)),
        )
    )


@pytest.mark.parametrize("projection", ["interpolate", "backflow", "auto"])
def test_every_operation_keeps_its_own_sum(projection):
    model, x = mixed_model(), torch.randn(2, 3, 8, 8, dtype=torch.float64)
    operations = 6
    for index in range(operations):
        passed, space = backpropagate(model, (x,), 1, None, lambda i=index: OneOperation((x,), projection, i))
        (projected,) = space.contributions(passed, conserve=True)
        assert space.seen == set(range(operations))
        assert space.sum.abs().min() > 1e-6
        torch.testing.assert_close(projected.sum((1, 2, 3)), space.sum, rtol=0, atol=1e-12)


def test_one_backward_pass_equals_the_jacobian_of_the_layers_below_for_each_operation():
    first, second = (randomise(layer, seed) for seed, layer in enumerate((nn.Linear(4, 5), nn.Linear(5, 1))))
    x = torch.randn(3, 4, dtype=torch.float64)
    found = FullGrad(lambda x: second(torch.relu(first(x)))).attribute(x, projection="backflow", conserve=False)
    expected = torch.zeros_like(x)
    for i in range(3):
        gate = (first(x[i]) > 0).double()
        adjoint = second.weight[0] * gate
        # The first bias lies at the first layer's output, the second's at the output itself.
        expected[i] = first.weight.T @ adjoint * x[i]
        expected[i] += first.weight.T @ (adjoint * first.bias)
        expected[i] += first.weight.T @ (gate * second.weight[0]) * second.bias[0]
    torch.testing.assert_close(found, expected.detach(), rtol=0, atol=1e-12)


def test_conserved_backflow_is_the_plain_one_and_one_number_for_each_example():
    model, x = mixed_model(), torch.randn(2, 3, 8, 8, dtype=torch.float64)
    plain, kept = (FullGrad(model).attribute(x, target=1, projection="backflow", conserve=c) for c in (False, True))
    difference = (kept - plain).flatten(1)
    assert difference.abs().min() > 1e-6
    torch.testing.assert_close(difference, difference[:, :1].expand_as(difference), rtol=0, atol=1e-12)


@pytest.mark.parametrize("projection", ["auto", "backflow", "tokens"])
def test_steps_of_a_cell_come_to_the_input_together_as_they_do_one_by_one(projection, monkeypatch):
    cell, head = nn.LSTMCell(4, 5).double(), nn.Linear(5, 3).double()

    def model(x: Tensor) -> Tensor:
        state: Any = None
        for step in range(x.shape[1]):
            state = cell(x[:, step], state)
        return head(state[0])

    x = torch.randn(2, 6, 4, dtype=torch.float64)
    together, delta = FullGrad(model).attribute(x, target=1, projection=projection, return_convergence_delta=True)
    assert delta.abs().max() < 1e-12
    monkeypatch.setattr(InputSpace, "take_alike", Consumer.take_alike)
    one_by_one = FullGrad(model).attribute(x, target=1, projection=projection)
    torch.testing.assert_close(together, one_by_one, rtol=0, atol=1e-12)
    assert together.abs().sum() > 0.1


def test_steps_of_a_cell_in_an_image_model_are_spread_evenly_as_a_classifier_is():
    cell = nn.GRUCell(12, 3).double()

    def model(image: Tensor) -> Tensor:
        state: Any = None
        for row in range(4):
            state = cell(image[:, :, row].flatten(1), state)
        return state

    image = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    found, delta = FullGrad(model).attribute(image, target=1, return_convergence_delta=True)
    assert delta.abs().max() < 1e-12
    leaf = image.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model(leaf)[:, 1].sum(), leaf)
    biases = found - gradient * image  # the same number in every pixel
    torch.testing.assert_close(biases, biases[:, :1, :1, :1].expand_as(biases), rtol=0, atol=1e-12)
    assert biases.abs().min() > 1e-6
