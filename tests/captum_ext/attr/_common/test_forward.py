"""What goes into the model with the points of a path: arguments with a row for each example, and others."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from captum_ext import IDGI, BlurIG, FullGrad, GuidedIG, LayerIDGI, PathIG
from captum_ext.attr import InvalidArgumentError
from captum_ext.metrics import completeness, insertion

LINEAR = nn.Linear(4, 5).double()
ROWS = torch.randn(3, 4, dtype=torch.float64)
ONE_FOR_ALL = torch.arange(1.0, 6.0, dtype=torch.float64)
ONE_FOR_EACH = torch.tensor([2.0, -1.0, 3.0], dtype=torch.float64)


def weighed(x: Tensor, weights: Tensor) -> Tensor:
    return LINEAR(x).tanh() * weights


@pytest.mark.parametrize("chunk", [None, 3, 6])
@pytest.mark.parametrize("weights", [ONE_FOR_ALL, ONE_FOR_ALL[None], torch.tensor(2.0)], ids=["5", "1 x 5", "number"])
def test_tensors_without_a_row_for_each_example_pass_as_they_are(weights, chunk):
    for method in (IDGI, PathIG, GuidedIG):
        found = method(weighed).attribute(
            ROWS, target=1, additional_forward_args=weights, n_steps=7, internal_batch_size=chunk
        )
        bound = method(lambda x: weighed(x, weights)).attribute(ROWS, target=1, n_steps=7)
        torch.testing.assert_close(found, bound)
    layer = LayerIDGI(weighed, LINEAR).attribute(ROWS, target=1, additional_forward_args=weights, n_steps=7)
    torch.testing.assert_close(
        layer, LayerIDGI(lambda x: weighed(x, weights), LINEAR).attribute(ROWS, target=1, n_steps=7)
    )
    maps = ROWS.abs()
    score = insertion(weighed, ROWS, maps, 0, target=1, additional_forward_args=weights, internal_batch_size=chunk)
    torch.testing.assert_close(score.curves, insertion(lambda x: weighed(x, weights), ROWS, maps, 0, target=1).curves)


def test_tensors_with_a_row_for_each_example_go_with_it():
    def forward(x: Tensor, factors: Tensor) -> Tensor:
        return LINEAR(x).tanh() * factors[:, None]

    together = IDGI(forward).attribute(ROWS, target=1, additional_forward_args=ONE_FOR_EACH, n_steps=7)
    for i in range(3):
        alone = IDGI(forward).attribute(
            ROWS[i : i + 1], target=1, additional_forward_args=ONE_FOR_EACH[i : i + 1], n_steps=7
        )
        torch.testing.assert_close(together[i], alone[0])


EDGES = torch.tensor([[0, 1, 1, 2, 2, 3], [1, 0, 2, 1, 3, 2]])
WEIGHT = torch.randn(4, 3, dtype=torch.float64)


def graph_network(nodes: Tensor, edges: Tensor) -> Tensor:
    """Scores of shape (nodes, 3) after two rounds of messages."""
    for _ in range(2):
        received = torch.zeros_like(nodes).index_add(0, edges[1], nodes[edges[0]])
        nodes = (nodes + received).tanh()
    return nodes @ WEIGHT


@pytest.mark.parametrize("method", [IDGI, PathIG, GuidedIG], ids=lambda kind: kind.__name__)
def test_nodes_of_a_graph_are_no_examples_and_this_is_said(method):
    nodes = torch.randn(4, 4, dtype=torch.float64)
    with pytest.raises(
        InvalidArgumentError, match=r"shape \(2, 6\) ties them together.*the whole graph as one example"
    ):
        method(graph_network).attribute(nodes, target=0, additional_forward_args=EDGES)


def test_a_whole_graph_is_one_example():
    nodes = torch.randn(1, 4, 4, dtype=torch.float64)

    def score_of_node_2(batch: Tensor, edges: Tensor) -> Tensor:
        return torch.stack([graph_network(nodes, edges)[2] for nodes in batch])

    found, delta = IDGI(score_of_node_2).attribute(
        nodes, target=0, additional_forward_args=EDGES, n_steps=9, return_convergence_delta=True
    )
    assert found.shape == nodes.shape
    assert delta.abs().max() < 1e-12
    assert completeness(score_of_node_2, nodes, found, 0, 0, EDGES).relative.max() < 1e-9
    _, delta = FullGrad(score_of_node_2).attribute(
        nodes, target=0, additional_forward_args=EDGES, return_convergence_delta=True
    )
    assert delta.abs().max() < 1e-12


def test_images_take_a_shared_argument_too():
    images, scale = torch.rand(2, 3, 8, 8).double(), torch.rand(8, 8).double()
    found = BlurIG(lambda x, s: (x * s).flatten(1).sum(1)).attribute(images, additional_forward_args=scale, n_steps=5)
    assert found.shape == images.shape


@pytest.mark.parametrize("method", [IDGI, FullGrad], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(
    "target",
    [
        *(torch.tensor([1, 0, 4]).to(dtype) for dtype in (torch.uint8, torch.int8, torch.int16, torch.int32)),
        *(np.array([1, 0, 4], dtype=dtype) for dtype in (np.uint8, np.int64)),
        [np.int64(1), 0, np.uint8(4)],
    ],
    ids=repr,
)
def test_targets_are_integers_of_any_kind(method, target):
    explain = method(lambda x: LINEAR(x).tanh()).attribute
    torch.testing.assert_close(explain(ROWS, target=target), explain(ROWS, target=[1, 0, 4]))
    if method is FullGrad:
        torch.testing.assert_close(explain(ROWS, target=target, internal_batch_size=2), explain(ROWS, target=[1, 0, 4]))


def test_masks_are_no_targets():
    with pytest.raises(InvalidArgumentError, match=r"torch\.bool: give integers"):
        IDGI(LINEAR).attribute(ROWS, target=torch.tensor([True, False, True]))
