"""The map of exposures mixes their colours by their weights."""

import pytest
import torch

from hdr.exposure_map import draw_exposure_map

RED, YELLOW, BLUE = (0.90, 0.25, 0.15), (0.95, 0.90, 0.70), (0.15, 0.35, 0.75)


@pytest.mark.parametrize(
    ("weights", "colour"),
    [
        ([1.0, 0.0], RED),
        ([0.0, 1.0], BLUE),
        ([0.0, 1.0, 0.0], YELLOW),
        ([0.0, 0.0, 1.0, 0.0, 0.0], YELLOW),
        ([0.0, 1.0, 0.0, 0.0, 0.0], tuple((r + y) / 2 for r, y in zip(RED, YELLOW, strict=True))),
        ([0.25, 0.75], tuple(0.25 * r + 0.75 * b for r, b in zip(RED, BLUE, strict=True))),
    ],
)
def test_colours_go_from_red_over_yellow_to_blue_and_mix_by_weight(weights: list[float], colour: tuple) -> None:
    drawn = draw_exposure_map(torch.tensor(weights).view(-1, 1, 1).expand(-1, 4, 5).half())
    assert drawn.shape == (3, 4, 5)
    torch.testing.assert_close(drawn[:, 2, 3], torch.tensor(colour), atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("exposures", "colours"),
    [
        ([1.0, 1.0, 4.0, 4.0, 16.0, 16.0], [RED, RED, YELLOW, YELLOW, BLUE, BLUE]),
        ([1.0, 1.0, 1.05, 4.0, 16.0], [RED, RED, RED, YELLOW, BLUE]),
        ([1.0, 4.0, 4.0], [RED, BLUE, BLUE]),
        ([1.0, 1.0, 1.0], [RED, YELLOW, BLUE]),  # a burst: which picture, not how much light
    ],
)
def test_what_got_the_same_light_has_the_same_colour(exposures: list[float], colours: list[tuple]) -> None:
    alone = torch.eye(len(exposures)).unsqueeze(-1)  # column i is of exposure i alone
    drawn = draw_exposure_map(alone, torch.tensor(exposures))
    torch.testing.assert_close(drawn[..., 0].T, torch.tensor(colours), atol=1e-6, rtol=0)


def test_colours_are_those_of_an_image() -> None:
    drawn = draw_exposure_map(torch.rand(7, 16, 16).softmax(dim=0) * 1.002)
    assert 0 <= float(drawn.min()) < float(drawn.max()) <= 1


def test_colours_of_many_rows_are_those_of_each() -> None:
    weights = torch.rand(3, 300, 4).softmax(dim=0)
    drawn = draw_exposure_map(weights)
    for row in (0, 255, 256, 299):
        torch.testing.assert_close(drawn[:, row : row + 1], draw_exposure_map(weights[:, row : row + 1]))
