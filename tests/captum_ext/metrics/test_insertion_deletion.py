"""Promises of insertion and deletion, against values worked by hand and a loop written from the definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from captum_ext.attr._common.blur import blur_within_borders
from captum_ext.metrics import deletion, insertion
from tests.captum_ext.small_models import TokenClassifier

both_directions = pytest.mark.parametrize("measure", [insertion, deletion], ids=lambda measure: measure.__name__)


@pytest.fixture
def model() -> nn.Module:
    generator = torch.Generator().manual_seed(3)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 5 * 4, 3), nn.Softmax(1)
    ).double()
    for parameter in network.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return network


@pytest.fixture
def pictures() -> Tensor:
    return torch.rand(2, 3, 7, 6, generator=torch.Generator().manual_seed(4), dtype=torch.float64)


@pytest.fixture
def attributions() -> Tensor:
    return torch.randn(2, 3, 7, 6, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def naive_curve(model: nn.Module, start: Tensor, end: Tensor, attribution: Tensor, target: int, n: int) -> Tensor:
    """Change one picture to another, pixel by pixel in Python."""
    _, height, width = start.shape
    pixels = [(row, column) for row in range(height) for column in range(width)]
    pixels.sort(key=lambda at: -sum(abs(float(attribution[c, at[0], at[1]])) for c in range(3)))
    scores = []
    for step in range(n + 1):
        canvas = start.clone()
        for row, column in pixels[: round(step * len(pixels) / n)]:
            canvas[:, row, column] = end[:, row, column]
        scores.append(model(canvas[None])[0, target].item())
    return torch.tensor(scores, dtype=torch.float64)


def test_hand_worked_score_of_four_pixels():
    # The score is the ink, 1 + 2 + 3 + 4. Entering 4, 3, 2, 1: 0, 4, 7, 9, 10, and trapezoids (2 + 5.5 + 8 + 9.5) / 4.
    picture = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    score = insertion(lambda x: x.sum((1, 2, 3)), picture, picture, baselines=0, n_steps=4)
    assert score.curves.tolist() == [[0.0, 4.0, 7.0, 9.0, 10.0]]
    assert score.areas.item() == pytest.approx(6.25)
    assert score.normalized_areas.item() == pytest.approx(0.625)


def test_hand_worked_deletion_of_four_pixels():
    # Leaving 4, 3, 2, 1: 10, 6, 3, 1, 0, and trapezoids (8 + 4.5 + 2 + 0.5) / 4.
    picture = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    score = deletion(lambda x: x.sum((1, 2, 3)), picture, picture, baselines=0, n_steps=4)
    assert score.curves.tolist() == [[10.0, 6.0, 3.0, 1.0, 0.0]]
    assert score.areas.item() == pytest.approx(3.75)
    assert score.normalized_areas.item() == pytest.approx(0.375)


@both_directions
@pytest.mark.parametrize("n_steps", [1, 5, 42, 50])
def test_curves_equal_a_naive_loop_for_each_example(model, pictures, attributions, measure, n_steps):
    score = measure(model, pictures, attributions, baselines=0.25, target=[2, 0], n_steps=n_steps)
    for example, target in enumerate([2, 0]):
        ends = [torch.full_like(pictures[0], 0.25), pictures[example]]
        whole = -1
        if measure is deletion:
            ends, whole = ends[::-1], 0
        expected = naive_curve(model, *ends, attributions[example], target, n_steps)
        torch.testing.assert_close(score.curves[example], expected, rtol=0, atol=1e-12)
        area = sum((expected[k] + expected[k + 1]) / 2 / n_steps for k in range(n_steps))
        torch.testing.assert_close(score.normalized_areas[example], area / expected[whole])


def test_deletion_is_insertion_in_the_opposite_order_backwards(model, pictures, attributions):
    arguments = {"target": 1, "n_steps": 42, "channel_reduction": "sum"}
    leaving = deletion(model, pictures, attributions, **arguments).curves
    entering = insertion(model, pictures, -attributions, **arguments).curves
    torch.testing.assert_close(leaving, entering.flip(1), rtol=0, atol=1e-12)


def test_sign_of_an_attribution_does_not_matter(model, pictures, attributions):
    curves = insertion(model, pictures, attributions, target=0).curves
    torch.testing.assert_close(insertion(model, pictures, -attributions, target=0).curves, curves)


@pytest.mark.parametrize("shape", [(1, 3, 1, 1), (2, 1, 1, 4), (2, 1, 4, 1)])
@both_directions
def test_pictures_one_pixel_wide_or_high(measure, shape):
    picture = torch.rand(shape, dtype=torch.float64)
    curves = measure(lambda x: x.sum((1, 2, 3)), picture, picture).curves
    whole = curves[:, -1] if measure is insertion else curves[:, 0]
    assert curves.shape == (shape[0], 51)
    torch.testing.assert_close(whole, picture.sum((1, 2, 3)))


def test_steps_beyond_one_for_each_feature_repeat_points_and_cost_nothing():
    rows = []
    score = insertion(
        lambda x: rows.append(len(x)) or x.sum(1), torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 2.0]]), 0, n_steps=5
    )
    assert score.curves.tolist() == [[0.0, 0.0, 2.0, 2.0, 3.0, 3.0]]  # round(0.4 k) features: 0 0 1 1 2 2
    assert sum(rows) == 3


def test_rows_of_a_table_by_hand():
    # Columns enter in the order 1, 2, 0 from the baseline (5, 5, 5).
    score = insertion(
        lambda x: x[:, 0] + 10 * x[:, 1] + 100 * x[:, 2],
        torch.tensor([[1.0, 2.0, 3.0]]),
        torch.tensor([[0.1, -0.9, 0.5]]),
        baselines=torch.tensor([[5.0, 5.0, 5.0]]),
        n_steps=3,
    )
    assert score.curves.tolist() == [[555.0, 525.0, 325.0, 321.0]]


@pytest.mark.parametrize("embedded", [False, True], ids=["tokens", "embeddings"])
@pytest.mark.parametrize("by_dimension", [False, True], ids=["(N, T)", "(N, T, E)"])
@both_directions
def test_text_equals_a_naive_loop_token_by_token(measure, embedded, by_dimension):
    model, padding = TokenClassifier(), 7
    tokens = torch.tensor([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])
    attributions = torch.randn(2, 5, 4, dtype=torch.float64)
    importance = attributions.abs().sum(2)
    head = nn.Sequential(nn.Flatten(), model.hidden, nn.Tanh(), model.head)
    score = measure(
        head if embedded else model,
        model.embedding(tokens) if embedded else tokens,
        attributions if by_dimension else importance,
        model.embedding.weight[None, padding : padding + 1].expand(1, 5, -1) if embedded else padding,
        target=2,
        n_steps=5,
    )
    for example in range(2):
        order = sorted(range(5), key=lambda place: -importance[example, place])
        expected = []
        for step in range(6):
            moved = order[:step]
            inside = moved if measure is insertion else [place for place in range(5) if place not in moved]
            line = [int(tokens[example, place]) if place in inside else padding for place in range(5)]
            expected.append(model(torch.tensor([line]))[0, 2].item())
        assert score.curves[example].tolist() == pytest.approx(expected, abs=1e-12)


@both_directions
def test_inputs_that_ask_for_gradients_come_back_as_they_were(model, pictures, attributions, measure):
    before = pictures.clone()
    score = measure(model, pictures.requires_grad_(), attributions.requires_grad_(), target=0)
    assert not score.curves.requires_grad
    assert pictures.grad is None
    assert torch.equal(pictures, before)


def test_default_start_is_the_picture_blurred_with_sigma_20():
    picture = torch.rand(1, 3, 40, 50, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    ndimage = pytest.importorskip("scipy.ndimage")
    blurred = [ndimage.gaussian_filter(channel, 20, mode="constant", truncate=4) for channel in picture[0].numpy()]
    inside = ndimage.gaussian_filter(np.ones((40, 50)), 20, mode="constant", truncate=4)
    expected = torch.from_numpy(np.stack(blurred) / inside)[None]
    torch.testing.assert_close(blur_within_borders(picture, 20.0), expected, rtol=0, atol=1e-9)
    start = insertion(lambda x: x[:, 1, 3, 7], picture, picture).curves[0, 0]
    assert start.item() == pytest.approx(expected[0, 1, 3, 7].item(), abs=1e-9)


@pytest.mark.parametrize("internal_batch_size", [2, 3, 7, 1000])
def test_internal_batch_size_bounds_the_rows_and_not_the_result(model, pictures, attributions, internal_batch_size):
    rows = []

    def counted(x: Tensor) -> Tensor:
        rows.append(len(x))
        return model(x)

    expected = insertion(model, pictures, attributions, target=torch.tensor([2, 0])).curves
    found = insertion(
        counted, pictures, attributions, target=torch.tensor([2, 0]), internal_batch_size=internal_batch_size
    ).curves
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    assert max(rows) <= internal_batch_size
    assert sum(rows) == 2 * 43  # 42 pixels: of 50 steps, 8 change none


def test_batch_equals_one_by_one_with_additional_arguments(model, pictures, attributions):
    weights = torch.tensor([2.0, 5.0], dtype=torch.float64)

    def weighted(x: Tensor, weight: Tensor, power: int) -> Tensor:
        return model(x) * weight[:, None] ** power

    both = insertion(weighted, pictures, attributions, target=[1, 2], additional_forward_args=(weights, 2))
    for k, target in enumerate([1, 2]):
        alone = insertion(
            weighted,
            pictures[k : k + 1],
            attributions[k : k + 1],
            target=[target],
            additional_forward_args=(weights[k : k + 1], 2),
            internal_batch_size=8,
        )
        torch.testing.assert_close(both.curves[k : k + 1], alone.curves)


def test_maps_without_channels_are_taken(model, pictures, attributions):
    summed = attributions.abs().sum(1, keepdim=True)
    expected = insertion(model, pictures, attributions, target=0).curves
    torch.testing.assert_close(insertion(model, pictures, summed, target=0).curves, expected)


@both_directions
def test_model_and_global_generator_come_back_untouched(pictures, attributions, measure):
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(), nn.Flatten(), nn.Linear(126, 2), nn.Softmax(1)).double()
    before, state = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    measure(model, pictures, attributions, target=0)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": torch.rand(2, 7, 3, 2, 2)}, r"give images \(N, C, H, W\)"),
        ({"attributions": torch.rand(2, 3, 6, 7)}, r"give \(2, 3, 7, 6\) or \(2, 1, 7, 6\)"),
        ({"attributions": torch.full((2, 3, 7, 6), torch.nan)}, "no rank"),
        ({"attributions": np.ones((2, 3, 7, 6))}, "attributions is a ndarray: give a torch.Tensor"),
        ({"attributions": (torch.ones(2, 3, 7, 6), torch.ones(2))}, "attributions is a tuple.*the first part is meant"),
        ({"inputs": torch.rand(2, 3), "attributions": torch.rand(2, 3)}, "only images can be blurred"),
        (
            {"inputs": torch.rand(2, 3, 4), "attributions": torch.rand(2, 4), "baselines": 0},
            r"give \(2, 3, 4\) or \(2, 3\)",
        ),
        (
            {"inputs": torch.ones(2, 3, dtype=torch.long), "attributions": torch.rand(2, 3), "baselines": 0.5},
            "index of the padding token",
        ),
        ({"inputs": torch.ones(2, 3, 7, 6, dtype=torch.uint8)}, "convert images with .float"),
        ({"channel_reduction": "mean"}, "known are 'abs_sum', 'sum', 'max_abs'"),
        ({"channel_reduction": lambda by_feature: by_feature}, r"channel_reduction returned shape \(2, 42, 3\)"),
        ({"n_steps": 0}, "n_steps=0"),
        ({"internal_batch_size": 0}, "internal_batch_size=0"),
        ({"baselines": torch.rand(2, 1, 3, 3)}, r"baselines\[0\] has shape"),
        ({"target": 3}, "out of range"),
        ({"target": None}, "give a target"),
    ],
)
@both_directions
def test_bad_input_is_refused_with_what_was_given(model, pictures, attributions, measure, changes, message):
    arguments = {"inputs": pictures, "attributions": attributions, "target": 0, **changes}
    with pytest.raises((ValueError, IndexError), match=message):
        measure(model, **arguments)


def test_only_the_normalised_area_is_missing_where_the_whole_scores_zero(pictures, attributions):
    score = insertion(lambda x: x[:, 0, 0, 0] * torch.tensor([0.0, 1.0]), pictures, attributions, internal_batch_size=2)
    assert score.normalized_areas.isnan().tolist() == [True, False]
    assert score.areas[0] == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
@both_directions
def test_a_whole_that_scores_next_to_nothing_is_no_measure(measure, dtype):
    # Each of two pixels scores 1 alone, and both together next to nothing.
    pixels = torch.tensor([[[[1.0, 1.0]]]], dtype=dtype).expand(4, 1, 1, 2)
    eps = torch.finfo(dtype).eps
    rest = torch.tensor([torch.finfo(dtype).smallest_normal / 4, eps / 2, 2 * eps, 0.0]).double().to(dtype)

    def score(x: Tensor) -> Tensor:
        left, right = x[:, 0, 0].unbind(1)
        return torch.where(left == right, left * rest.repeat(len(x) // 4), 1)

    found = measure(score, pixels, torch.tensor([2.0, 1.0]).expand(4, 1, 1, 2), baselines=0, n_steps=2)
    assert found.normalized_areas.isnan().tolist() == [True, True, False, True]
    assert found.normalized_curves().isnan().all(1).tolist() == found.normalized_areas.isnan().tolist()
    assert found.curves.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@both_directions
def test_areas_in_half_precision_are_those_of_their_curves(measure, dtype):
    # 51 scores of 2048, whose sum is beyond what float16 holds.
    picture = torch.ones(1, 1, 8, 8, dtype=dtype)
    found = measure(lambda x: torch.full((len(x),), 2048.0, dtype=dtype), picture, picture, baselines=0)
    assert (found.areas.item(), found.normalized_areas.item()) == (2048, 1)
    assert found.areas.dtype == found.normalized_areas.dtype == dtype


def test_scores_that_are_not_finite_have_no_normalised_area():
    found = insertion(lambda x: 1 / (1 - x[:, 0]), torch.tensor([[1.0, 1.0]]), torch.rand(1, 2), baselines=0, n_steps=2)
    assert found.normalized_areas.isnan().all()


def test_normalised_curves_do_not_need_an_area():
    # Scores of -1 without the pixels and 1 with them.
    picture = torch.ones(1, 1, 1, 2)
    found = insertion(lambda x: x.sum((1, 2, 3)) - 1, picture, picture, baselines=0, n_steps=2)
    assert (found.areas.item(), found.normalized_areas.item()) == (0, 0)
    assert found.normalized_curves().tolist() == [[-1, 0, 1]]
