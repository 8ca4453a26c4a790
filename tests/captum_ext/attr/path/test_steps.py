"""Adaptive steps: the published formula on the reported partition, budgets, tolerances, each example by itself."""

from __future__ import annotations

import warnings
from itertools import pairwise

import pytest
import torch
from torch import nn

from captum_ext import IDGI, BlurIG, GuidedIG, LayerIDGI, PathIG
from captum_ext.attr import BlurPath, StepsReport
from tests.captum_ext.small_models import EvaluationCounter, TokenClassifier, TwoInputs, pictures, smooth_cnn

ADAPTIVE = {"steps": "adaptive", "return_steps_report": True}


class SquaredPath:
    """A user's own: slow at first."""

    def start(self, inputs, baselines):
        return tuple(torch.zeros_like(x) for x in inputs)

    def point(self, inputs, start, fraction):
        return tuple(x * fraction**2 for x in inputs)


PATHS = ["straight", BlurPath(max_sigma=3.0), SquaredPath()]


def steep(x):
    """Rise where the first feature crosses 0.3, within a hundredth of a unit path, and a little everywhere."""
    return torch.sigmoid(1000 * (x[:, 0] - 0.3)) * x[:, 1].exp() + 0.01 * x.sum(1)


def naive_idgi_at(function, points):
    """Algorithm 1 of the paper on given points of one example, one step at a time."""
    total = torch.zeros_like(points[0])
    for left, right in pairwise(points):
        leaf = left.clone().requires_grad_()
        value = function(leaf).sum()
        (gradient,) = torch.autograd.grad(value, leaf)
        total += gradient**2 / (gradient**2).sum() * (function(right).sum() - value).detach()
    return total


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path if isinstance(path, str) else type(path).__name__)
def test_equals_the_published_formula_on_the_reported_partition(path):
    model, x = smooth_cnn(), pictures(2)
    found, delta, residual, report = IDGI(model, path).attribute(
        x, target=[1, 4], n_steps=21, return_convergence_delta=True, return_path_residual=True, **ADAPTIVE
    )
    assert report.fractions.shape == (2, 22)
    assert delta.abs().max() < 1e-12
    for i, target in enumerate([1, 4]):
        if path == "straight":
            points = [x[i : i + 1] * fraction for fraction in report.fractions[i]]
        else:
            points = [path.point((x[i : i + 1],), None, float(fraction))[0] for fraction in report.fractions[i]]
        expected = naive_idgi_at(lambda p, target=target: model(p)[:, target], points)
        torch.testing.assert_close(found[i : i + 1], expected, rtol=0, atol=1e-10)
        linear = 0.0
        for left, right in pairwise(points):
            leaf = left.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(model(leaf)[0, target], leaf)
            linear += float((gradient * (right - left)).sum())
        change = (model(points[-1]) - model(points[0]))[0, target].item()
        assert float(residual[i]) == pytest.approx(linear - change, abs=1e-10)


def test_tuple_of_inputs_with_additional_arguments_and_targets_of_their_own():
    model = TwoInputs()
    inputs = (torch.randn(3, 4).double(), torch.randn(3, 2, 3).double())
    shift = torch.randn(3, 6).double()
    options = {"n_steps": 20, "steps": "adaptive"}
    together = IDGI(model).attribute(
        inputs, target=[0, 4, 2], additional_forward_args=(shift, 2), internal_batch_size=4, **options
    )
    for i, target in enumerate([0, 4, 2]):
        alone = IDGI(model).attribute(
            tuple(x[i : i + 1] for x in inputs),
            target=target,
            additional_forward_args=(shift[i : i + 1], 2),
            **options,
        )
        for a, b in zip(alone, together, strict=True):
            torch.testing.assert_close(a, b[i : i + 1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", [IDGI, PathIG], ids=lambda method: method.__name__)
@pytest.mark.parametrize("n_steps", [1, 2, 7, 8, 9, 32])
@pytest.mark.parametrize("internal_batch_size", [None, 3, 7])
def test_the_budget_is_used_to_the_last_evaluation(method, n_steps, internal_batch_size):
    model = EvaluationCounter(smooth_cnn())
    _, report = method(model).attribute(
        pictures(3), target=1, n_steps=n_steps, internal_batch_size=internal_batch_size, **ADAPTIVE
    )
    assert model.forward_rows == 3 * (n_steps + 1)
    assert model.backward_rows == 3 * n_steps
    assert report.evaluations.tolist() == [n_steps] * 3
    if internal_batch_size is not None:
        assert model.most_rows <= internal_batch_size


@pytest.mark.parametrize("internal_batch_size", [3, 4, 10])
@pytest.mark.parametrize("tolerance", [None, 0.08])
def test_result_does_not_depend_on_internal_batch_size(internal_batch_size, tolerance):
    model, x = smooth_cnn(), pictures(3)
    options = {"target": [0, 1, 2], "n_steps": 40, "tolerance": tolerance, "steps": "adaptive"}
    whole = IDGI(model).attribute(x, **options)
    in_parts = IDGI(model).attribute(x, internal_batch_size=internal_batch_size, **options)
    torch.testing.assert_close(whole, in_parts, rtol=0, atol=1e-12)


def test_a_linear_function_is_divided_evenly_whatever_the_rule_begins_with():
    x = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    _, report = IDGI(lambda x: x.sum(1)).attribute(x, n_steps=16, **ADAPTIVE)
    torch.testing.assert_close(report.fractions[0], torch.arange(17, dtype=torch.float64) / 16)
    torch.testing.assert_close(report.remaining, torch.tensor([1 / 16], dtype=torch.float64))


def test_steps_go_where_the_output_changes_of_each_example_its_own():
    x = torch.tensor([[1.0, 1.0], [0.5, 1.0], [0.1, 1.0]], dtype=torch.float64)  # crosses at 0.3, at 0.6, never
    _, report = IDGI(steep).attribute(x, n_steps=32, **ADAPTIVE)
    for i, crossing in enumerate([0.3, 0.6]):
        fractions = report.fractions[i]
        assert int(((fractions > crossing - 0.07) & (fractions < crossing + 0.07)).sum()) >= 16
    assert int((report.fractions[2] < 0.5).sum()) >= 12
    assert report.remaining.max() < 0.15


@pytest.mark.parametrize("method", [IDGI, PathIG], ids=lambda method: method.__name__)
def test_sixteen_adaptive_steps_on_a_blur_path_are_nearer_to_the_limit_than_thirty_two_equal_ones(method):
    model, x = smooth_cnn(), pictures(4)

    def probabilities(x):
        return (50 * model(x)).softmax(1)

    explainer, target = method(probabilities, BlurPath(3.0)), model(x).argmax(1)
    limit, equal, adaptive = (
        explainer.attribute(x, target=target, n_steps=n_steps, steps=steps)
        for n_steps, steps in ((2000, "equal"), (32, "equal"), (16, "adaptive"))
    )
    assert (adaptive - limit).flatten(1).norm(dim=1).mean() < (equal - limit).flatten(1).norm(dim=1).mean()


def test_automatic_steps_end_at_the_tolerance_and_each_example_takes_what_it_needs():
    model = EvaluationCounter(steep)
    x = torch.tensor([[1.0, 1.0], [0.1, 0.01]], dtype=torch.float64)
    _, report = IDGI(model).attribute(x, n_steps="auto", tolerance=0.1, return_steps_report=True)
    assert isinstance(report, StepsReport)
    assert (report.remaining <= 0.1).all()
    assert int(report.evaluations[0]) > int(report.evaluations[1]) >= 10
    assert model.backward_rows == int(report.evaluations.sum())
    assert model.forward_rows == model.backward_rows + 2
    # What is left in a step is worked out here once more.
    for i in range(2):
        fractions = report.fractions[i]
        moves = steep(x[i] * fractions[:, None]).diff().abs()
        assert float(moves.max() / moves.sum()) == pytest.approx(float(report.remaining[i]), abs=1e-12)


def test_integrated_gradients_stop_at_once_where_the_output_is_linear():
    x = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    found, report = PathIG(lambda x: 3 * x.sum(1)).attribute(x, n_steps="auto", return_steps_report=True)
    torch.testing.assert_close(found, 3 * x)
    assert report.evaluations.tolist() == [4]
    assert report.remaining.tolist() == [0.0]


@pytest.mark.parametrize("method", [IDGI, PathIG], ids=lambda method: method.__name__)
def test_nothing_remains_where_the_output_does_not_move(method):
    x = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    found, report = method(lambda x: torch.relu(x - 5).sum(1)).attribute(x, n_steps="auto", return_steps_report=True)
    assert found.tolist() == [[0.0, 0.0]]
    assert report.evaluations.tolist() == [4]
    assert report.remaining.tolist() == [0.0]


def test_the_delta_of_integrated_gradients_is_within_what_remains():
    model, x = smooth_cnn(), pictures(3)
    found, delta, report = BlurIG(model, 3.0).attribute(
        x, target=1, n_steps="auto", tolerance=0.02, return_convergence_delta=True, return_steps_report=True
    )
    points = [BlurPath(3.0).point((x,), None, j / 400)[0] for j in range(401)]
    moved = torch.stack([model(point)[:, 1] for point in points]).diff(dim=0).abs().sum(0)
    assert (report.remaining <= 0.02).all()
    assert (delta.abs() <= 0.0201 * moved).all()
    assert found.shape == x.shape


def test_equal_steps_are_reported_too():
    x = torch.tensor([[1.0]], dtype=torch.float64)
    _, report = IDGI(lambda x: x.square().sum(1)).attribute(x, n_steps=4, return_steps_report=True)
    assert report.fractions.tolist() == [[0.0, 0.25, 0.5, 0.75, 1.0]]
    assert report.remaining.tolist() == [1 - 0.75**2]
    _, report = GuidedIG(lambda x: x.square().sum(1)).attribute(x, n_steps=4, return_steps_report=True)
    # 2 (0 + 1/4 + 1/2 + 3/4) / 4 is 3/4 where the output moves by 1.
    assert report.remaining.tolist() == [0.25]


def test_layer_activations_with_a_mask():
    model = TokenClassifier()
    tokens = torch.randint(0, 20, (3, 5))
    options = {"target": [0, 1, 2], "n_steps": 24, "steps": "adaptive"}
    found, delta, report = LayerIDGI(model, model.embedding).attribute(
        tokens, return_convergence_delta=True, return_steps_report=True, **options
    )
    assert delta.abs().max() < 1e-12
    assert report.evaluations.tolist() == [24] * 3
    alone = LayerIDGI(model, model.embedding).attribute(tokens[1:2], target=1, n_steps=24, steps="adaptive")
    torch.testing.assert_close(found[1:2], alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_other_precisions(dtype):
    model, x = smooth_cnn(dtype), pictures(2, dtype)
    found, delta = IDGI(model).attribute(x, target=1, n_steps=20, steps="adaptive", return_convergence_delta=True)
    assert found.dtype == dtype
    assert delta.abs().max() < (1e-5 if dtype == torch.float32 else 0.05)


def test_an_output_that_jumps_ends_with_what_the_numbers_resolve():
    x = torch.tensor([[1.0]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found, report = IDGI(lambda x: (x > 0.3).float().sum(1) + 0 * x.sum(1)).attribute(
            x, n_steps=200, return_convergence_delta=False, **ADAPTIVE
        )
    assert report.fractions.diff().min() >= 2.0**-20
    assert found.tolist() == [[0.0]]  # no gradient sees a jump


@pytest.mark.parametrize("jumping", [0, 1])
def test_among_several_inputs_the_coarsest_numbers_end_the_halving(jumping):
    """Of bfloat16 the numbers below 1 lie 2^-8 apart and those above it 2^-7: closer points are one and the same."""
    inputs = [torch.ones(1, 1, dtype=torch.float64)] * 2
    inputs[jumping] = inputs[jumping].bfloat16()
    _, report = IDGI(lambda *x: (x[jumping] > 0.3).double().sum(1) + 0 * (x[0] + x[1]).sum(1)).attribute(
        tuple(inputs), n_steps=64, **ADAPTIVE
    )
    assert report.evaluations.tolist() == [64]
    assert report.fractions.diff().min() == 2.0**-7


def test_a_rise_between_two_flat_parts_is_found_by_integrated_gradients():
    """The gradient is zero at both ends of the step that holds it, so that only the step's residual tells of it."""

    def rises(x):
        along = ((x[:, 0] - 0.29) / 0.02).clamp(0, 1)
        return along**2 * (3 - 2 * along)

    x = torch.ones(1, 1, dtype=torch.float64)
    found, report = PathIG(rises).attribute(x, n_steps=32, **ADAPTIVE)
    assert int(((report.fractions > 0.29) & (report.fractions < 0.31)).sum()) >= 12
    torch.testing.assert_close(found, torch.ones_like(x), rtol=0, atol=0.05)  # the whole rise, from 0 to 1
    _, equal = PathIG(rises).attribute(x, n_steps=32, return_convergence_delta=True)
    assert equal.item() == -1.0  # thirty-two equal steps pass over it


def test_automatic_steps_say_where_they_did_not_suffice():
    x = torch.tensor([[1.0]], dtype=torch.float64)
    with pytest.warns(UserWarning, match="512 steps were taken and .* remains"):
        _, report = PathIG(lambda x: (500 * x).sin().sum(1)).attribute(
            x, n_steps="auto", tolerance=1e-4, return_steps_report=True
        )
    assert report.evaluations.tolist() == [512]


def test_output_that_is_not_finite_names_the_place():
    with pytest.raises(ValueError, match=r"-inf at 0 of the path.*baseline"):
        IDGI(lambda x: x.log().sum(1)).attribute(torch.ones(2, 3), steps="adaptive")


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"steps": "even"}, "'equal' or 'adaptive'"),
        ({"n_steps": "many"}, "or 'auto'"),
        ({"tolerance": 0.1}, "n_steps='auto', or steps='adaptive'"),
        ({"n_steps": "auto", "tolerance": 0.0}, "above 0 and below 1"),
        ({"n_steps": "auto", "tolerance": 1.0}, "above 0 and below 1"),
        ({"n_steps": "auto", "tolerance": float("nan")}, "above 0 and below 1"),
        ({"n_steps": "auto", "tolerance": "little"}, "above 0 and below 1"),
        ({"steps": "adaptive", "n_steps": 0}, "n_steps=0"),
    ],
    ids=str,
)
def test_refusals(keywords, message):
    model, x = smooth_cnn(), pictures()
    for method in (IDGI(model), PathIG(model), LayerIDGI(model, model[1])):
        with pytest.raises(ValueError, match=message):
            method.attribute(x, target=1, **keywords)


@pytest.mark.parametrize("keywords", [{"steps": "adaptive"}, {"n_steps": "auto"}], ids=str)
def test_a_guided_path_has_its_steps_already(keywords):
    with pytest.raises(ValueError, match="chooses each point by the gradient"):
        GuidedIG(smooth_cnn()).attribute(pictures(), target=1, **keywords)


def test_path_that_gives_points_of_other_shapes():
    class Short(SquaredPath):
        def point(self, inputs, start, fraction):
            return tuple(x[:, :1] for x in inputs)

    with pytest.raises(ValueError, match="the path gave a point of shapes"):
        IDGI(smooth_cnn(), Short()).attribute(pictures(), target=1, steps="adaptive")


@pytest.mark.cuda
def test_on_cuda():
    model, x = smooth_cnn().cuda(), pictures().cuda()
    found = IDGI(model).attribute(x, target=1, n_steps=24, steps="adaptive")
    torch.testing.assert_close(
        found.cpu(), IDGI(model.cpu()).attribute(x.cpu(), target=1, n_steps=24, steps="adaptive"), rtol=0, atol=1e-8
    )


def test_model_in_training_mode_comes_back_as_it_was():
    model = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 2)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    IDGI(model).attribute(torch.rand(4, 2), target=1, n_steps=12, steps="adaptive")
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
