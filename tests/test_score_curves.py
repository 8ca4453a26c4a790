"""Promises of the insertion score, against values worked by hand and a loop written from the definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor, nn

from captum_ext.image_baselines import blur_within_borders
from captum_ext.metrics import insertion


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


def naive_curve(model: nn.Module, picture: Tensor, attribution: Tensor, absent: Tensor, target: int, n: int) -> Tensor:
    """Enter pixel by pixel in Python, on one picture."""
    _, height, width = picture.shape
    pixels = [(row, column) for row in range(height) for column in range(width)]
    pixels.sort(key=lambda at: -sum(abs(float(attribution[c, at[0], at[1]])) for c in range(3)))
    scores = []
    for step in range(n + 1):
        canvas = absent.clone()
        for row, column in pixels[: round(step * len(pixels) / n)]:
            canvas[:, row, column] = picture[:, row, column]
        scores.append(model(canvas[None])[0, target].item())
    return torch.tensor(scores, dtype=torch.float64)


def test_hand_worked_score_of_four_pixels():
    # The score is the ink, 1 + 2 + 3 + 4. Entering 4, 3, 2, 1: 0, 4, 7, 9, 10, and trapezoids (2 + 5.5 + 8 + 9.5) / 4.
    picture = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    score = insertion(lambda x: x.sum((1, 2, 3)), picture, picture, baselines=0, n_steps=4)
    assert score.curves.tolist() == [[0.0, 4.0, 7.0, 9.0, 10.0]]
    assert score.areas.item() == pytest.approx(6.25)
    assert score.normalized_areas.item() == pytest.approx(0.625)


@pytest.mark.parametrize("n_steps", [1, 5, 42, 50])
def test_curves_equal_a_naive_loop_for_each_example(model, pictures, attributions, n_steps):
    score = insertion(model, pictures, attributions, baselines=0.25, target=[2, 0], n_steps=n_steps)
    for example, target in enumerate([2, 0]):
        expected = naive_curve(
            model, pictures[example], attributions[example], torch.full_like(pictures[0], 0.25), target, n_steps
        )
        torch.testing.assert_close(score.curves[example], expected, rtol=0, atol=1e-12)
        area = sum((expected[k] + expected[k + 1]) / 2 / n_steps for k in range(n_steps))
        torch.testing.assert_close(score.normalized_areas[example], area / expected[-1])


def test_sign_of_an_attribution_does_not_matter(model, pictures, attributions):
    curves = insertion(model, pictures, attributions, target=0).curves
    torch.testing.assert_close(insertion(model, pictures, -attributions, target=0).curves, curves)


def test_default_start_is_the_picture_blurred_with_sigma_20():
    picture = torch.rand(1, 3, 40, 50, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
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


def test_model_and_global_generator_come_back_untouched(pictures, attributions):
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(), nn.Flatten(), nn.Linear(126, 2), nn.Softmax(1)).double()
    before, state = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    insertion(model, pictures, attributions, target=0)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": torch.rand(2, 7, 3, 2, 2)}, r"give pictures \(N, C, H, W\)"),
        ({"attributions": torch.rand(2, 3, 6, 7)}, r"give \(2, 3, 7, 6\) or \(2, 1, 7, 6\)"),
        ({"attributions": torch.full((2, 3, 7, 6), torch.nan)}, "no rank"),
        ({"n_steps": 0}, "n_steps=0"),
        ({"internal_batch_size": 0}, "internal_batch_size=0"),
        ({"baselines": torch.rand(2, 1, 3, 3)}, r"baselines\[0\] has shape"),
        ({"target": 3}, "out of range"),
        ({"target": None}, "give a target"),
    ],
)
def test_bad_input_is_refused_with_what_was_given(model, pictures, attributions, changes, message):
    arguments = {"inputs": pictures, "attributions": attributions, "target": 0, **changes}
    with pytest.raises((ValueError, IndexError), match=message):
        insertion(model, **arguments)


def test_only_the_normalised_area_is_missing_where_the_whole_scores_zero(pictures, attributions):
    score = insertion(lambda x: x[:, 0, 0, 0] * torch.tensor([0.0, 1.0]), pictures, attributions, internal_batch_size=2)
    assert score.normalized_areas.isnan().tolist() == [True, False]
    assert score.areas[0] == 0
