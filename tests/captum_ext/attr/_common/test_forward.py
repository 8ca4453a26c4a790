"""What goes into the model with the points of a path, and the gradients that come back, of batch normalisation too."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.utils.checkpoint
from torch import Tensor, nn

from captum_ext import IDGI, BlurIG, FullGrad, GuidedIG, LayerIDGI, PathIG
from captum_ext.attr import InvalidArgumentError, batch_norm_guard
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


def test_examples_that_a_shared_argument_ties_weakly_are_refused_too():
    rows = torch.arange(12.0).reshape(4, 3)

    def model(x: Tensor, weight: Tensor) -> Tensor:  # the first row is worth 3.01 among all, and 3 alone
        return x.sum(1) + (x.mean(0) - x[0]) @ weight * 0.01 / 13.5

    with pytest.raises(InvalidArgumentError, match=r"shape \(3,\) ties them together"):
        IDGI(model).attribute(rows, additional_forward_args=torch.ones(3))


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


class LeVitStem(nn.Module):
    """A convolution and a normalisation whose picture becomes a row of tokens, as in LeViT."""

    def __init__(self, norm: type[nn.Module]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = norm(4, affine=True, track_running_stats=True)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.norm(self.conv(x)).flatten(2).transpose(1, 2)
        attention = torch.softmax(tokens @ tokens.transpose(1, 2), 2)
        return self.head((attention @ tokens).mean(1))


@pytest.fixture(params=[nn.BatchNorm2d, nn.InstanceNorm2d])
def stem(request) -> nn.Module:
    model = LeVitStem(request.param).double().eval()
    model.get_buffer("norm.running_mean").normal_()
    model.get_buffer("norm.running_var").uniform_(0.5, 2.0)
    nn.init.normal_(model.get_parameter("norm.weight"))
    return model


def gradient(model: nn.Module, x: Tensor) -> Tensor:
    leaf = x.clone().requires_grad_()
    return torch.autograd.grad(model(leaf)[:, 0].sum(), leaf)[0]


def central_differences(model: nn.Module, x: Tensor, step: float = 1e-6) -> Tensor:
    slopes = torch.zeros_like(x)
    with torch.no_grad():
        for i in range(x.numel()):
            offset = torch.zeros(x.numel(), dtype=x.dtype)
            offset[i] = step
            change = model(x + offset.reshape(x.shape)) - model(x - offset.reshape(x.shape))
            slopes.view(-1)[i] = change[0, 0] / (2 * step)
    return slopes


def test_pytorch_gives_a_wrong_gradient_without_the_guard(stem):
    """When this fails, PyTorch is mended, and the guard can go once the mended release is the lowest supported."""
    x = torch.rand(1, 3, 2, 3, dtype=torch.float64)
    true = central_differences(stem, x)
    assert (gradient(stem, x) - true).abs().max() > true.abs().max()


def test_gradient_is_right_inside_the_guard(stem):
    x = torch.rand(1, 3, 2, 3, dtype=torch.float64)
    with batch_norm_guard(x):
        found = gradient(stem, x)
    torch.testing.assert_close(found, central_differences(stem, x), rtol=1e-6, atol=1e-8)


def test_path_methods_use_the_guard(stem, monkeypatch):
    x = torch.rand(1, 3, 2, 3, dtype=torch.float64)
    alone = PathIG(stem).attribute(x, target=0, n_steps=400, return_convergence_delta=True)
    assert alone[1].abs().max() < 1e-2 * alone[0].abs().max()
    # In a batch of two PyTorch's gradient is right; so the guarded one is, too.
    both = IDGI(stem).attribute(x.expand(2, -1, -1, -1).clone(), target=0, n_steps=1)
    torch.testing.assert_close(IDGI(stem).attribute(x, target=0, n_steps=1)[0], both[0], rtol=0, atol=1e-12)


def test_normalisation_of_each_picture_is_guarded_too():
    """With statistics of its own, as instance normalisation mostly has them."""
    norm, x = nn.InstanceNorm2d(3), torch.randn(1, 3, 4, 5, dtype=torch.float64)

    def model(x: Tensor) -> Tensor:
        tokens = norm(x).flatten(2).transpose(1, 2)
        return (torch.softmax(tokens @ tokens.transpose(1, 2), 2) @ tokens).square().mean(1)

    both = IDGI(model).attribute(x.expand(2, -1, -1, -1).clone(), 0.1, target=0, n_steps=3)
    torch.testing.assert_close(IDGI(model).attribute(x, 0.1, target=0, n_steps=3)[0], both[0], rtol=0, atol=1e-12)
    assert FullGrad(model).attribute(x, target=0, return_convergence_delta=True)[1].abs().max() < 1e-12


@pytest.mark.skipif(torch.__version__.startswith("2.6."), reason="compiles what watches a model, function by function")
def test_compilers_follow_the_guard(stem):
    torch._dynamo.reset()
    graphs = []

    def compiler(graph: torch.fx.GraphModule, inputs: list[Tensor]):
        graphs.append(graph)
        return graph.forward

    x = torch.rand(1, 3, 2, 3, dtype=torch.float64)
    IDGI(torch.compile(stem, backend=compiler)).attribute(x, target=0, n_steps=3, internal_batch_size=1)
    assert 1 <= len(graphs) <= 2  # where a gradient is taken, and at the end of the path


def test_guard_leaves_no_mode_and_no_hook_behind(stem):
    x = torch.rand(1, 3, 2, 3, dtype=torch.float64)
    with pytest.raises(ArithmeticError), batch_norm_guard(x):
        raise ArithmeticError
    assert torch.overrides._get_current_function_mode() is None


@pytest.mark.parametrize(
    "normalise",
    [
        lambda x, w, b, mean, var: torch.native_batch_norm(x, w, b, mean, var, False, 0.1, 1e-5)[0],
        lambda x, *args: torch.ops.aten._native_batch_norm_legit_no_training(x, *args, 0.1, 1e-5)[0],
        lambda x, w, b, mean, var: torch.batch_norm(x, w, b, mean, var, False, 0.1, 1e-5, False),
        lambda x, w, b, mean, var: torch.ops.aten.batch_norm.default(x, w, b, mean, var, False, 0.1, 1e-5, False),
        lambda x, w, b, mean, var: torch._native_batch_norm_legit(x, w, b, mean, var, False, 0.1, 1e-5)[0],
        lambda x, w, b, mean, var: torch._batch_norm_impl_index(x, w, b, mean, var, False, 0.1, 1e-5, False)[0],
        lambda x, w, b, mean, var: nn.functional.instance_norm(x, mean, var, w, b, use_input_stats=False),
        lambda x, w, b, mean, var: torch.instance_norm(x, w, b, mean, var, False, 0.1, 1e-5, False),
    ],
    ids=["native", "no training", "batch_norm", "exported", "legit", "implementation", "instances", "instance_norm"],
)
def test_every_name_of_batch_normalisation_is_guarded(normalise):
    weight, shift, mean, variance = torch.rand(4, 4, dtype=torch.float64) + 0.5
    x = torch.randn(1, 4, 2, 3, dtype=torch.float64, requires_grad=True)
    gradient = torch.randn(1, 6, 4, dtype=torch.float64)
    with batch_norm_guard(x):
        tokens = normalise(x, weight, shift, mean, variance).flatten(2).transpose(1, 2)
        (found,) = torch.autograd.grad(tokens, x, gradient)
    slope = (weight / (variance + 1e-5).sqrt()).reshape(1, 4, 1, 1)
    torch.testing.assert_close(found, slope * gradient.transpose(1, 2).reshape(1, 4, 2, 3))


@pytest.mark.parametrize(
    ("target", "quoted"),
    [
        ([(1,), (0,)], "target=[(1,), (0,)] leaves 3 of its numbers"),
        (torch.tensor([1, 0]), "target is a tensor of shape (2,) for 2 examples with an output of shape (4, 3) each"),
    ],
    ids=["list", "tensor"],
)
@pytest.mark.parametrize(
    "explain",
    [
        lambda model, x, target: IDGI(model).attribute(x, target=target),
        lambda model, x, target: FullGrad(model).attribute(x, target=target),
        lambda model, x, target: insertion(model, x, x, 0, target, n_steps=6, internal_batch_size=100),
    ],
    ids=["IDGI", "FullGrad", "insertion"],
)
def test_a_refused_target_is_quoted_as_it_was_given(explain, target, quoted):
    def model(x: Tensor) -> Tensor:
        return x.reshape(-1, 4, 3)

    x = torch.rand(2, 12)
    with pytest.raises(InvalidArgumentError) as caught:
        explain(model, x, target)
    assert quoted in str(caught.value)


class Checkpointed(nn.Module):
    def __init__(self, use_reentrant: bool) -> None:
        super().__init__()
        self.first, self.last, self.use_reentrant = nn.Linear(4, 8), nn.Linear(8, 3), use_reentrant

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.utils.checkpoint.checkpoint(self.first, x, use_reentrant=self.use_reentrant)
        return self.last(hidden.relu())


@pytest.mark.parametrize("method", [IDGI, GuidedIG, FullGrad], ids=lambda method: method.__name__)
def test_checkpoints_that_allow_no_gradient_of_the_inputs_are_named(method):
    x = torch.rand(2, 4)
    with pytest.raises(RuntimeError, match="give use_reentrant=False there, or turn checkpoints off"):
        method(Checkpointed(True)).attribute(x, target=0)
    _, delta = method(Checkpointed(False)).attribute(x, target=0, return_convergence_delta=True)
    assert delta.abs().max() < 1e-2
