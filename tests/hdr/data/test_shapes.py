"""Outlines: an inside, an outside, and limbs that move."""

from __future__ import annotations

import pytest
import torch

from hdr.data.shapes import SHAPES, figure
from hdr.geometry import pixel_grid


@pytest.mark.parametrize("shape", SHAPES)
def test_outlines_have_an_inside_and_an_outside(shape: object) -> None:
    positions = (pixel_grid(81, 81, like=torch.zeros(1)).expand(3, -1, -1, -1) - 40) / 20
    for seed in range(5):
        outline = shape(torch.Generator().manual_seed(seed), positions)  # type: ignore[operator]
        assert outline.shape == (3, 81, 81)
        assert 0.005 < float((outline < 0).double().mean()) < 0.6
        assert float(outline[:, 0].min()) > 0


def test_limbs_move_while_the_head_does_not() -> None:
    positions = (pixel_grid(81, 81, like=torch.zeros(1)).expand(3, -1, -1, -1) - 40) / 30
    inside = figure(torch.Generator().manual_seed(0), positions) < 0
    assert torch.equal(inside[0, 10:25], inside[2, 10:25])
    assert not torch.equal(inside[0, 50:], inside[2, 50:])
