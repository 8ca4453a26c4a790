"""Blocks keep the size and leak; squares of four pixels become channels as PyTorch has them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from hdr.nn.blocks import ConvBlock, leaky_sums, unshuffled


def test_blocks_keep_the_size_and_leak() -> None:
    block = ConvBlock(3, 5, kernel_size=3)
    block.get_parameter("0.weight").data.zero_()
    block.get_parameter("0.bias").data.fill_(-2.0)
    assert torch.equal(block(torch.rand(1, 3, 6, 7)), torch.full((1, 5, 6, 7), -0.2))
    assert ConvBlock(3, 5, stride=2)(torch.rand(1, 3, 6, 8)).shape == (1, 5, 3, 4)


@pytest.mark.parametrize("examples", [1, 2])
@pytest.mark.parametrize("exposures", [1, 3])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_what_is_shared_is_added_to_every_exposure(examples: int, exposures: int, layout: torch.memory_format) -> None:
    own = torch.randn(exposures * examples, 3, 4, 5).contiguous(memory_format=layout)
    shared = torch.randn(examples, 3, 4, 5).contiguous(memory_format=layout)
    found = leaky_sums(own, shared)
    for index, features in enumerate(found):
        total = own[index] + shared[index % examples]
        assert torch.equal(features, torch.where(total > 0, total, 0.1 * total))
    # Or whatever comes after would be computed in another layout.
    assert found.stride() == own.stride()


@pytest.mark.parametrize("learning", [False, True])
def test_squares_of_four_pixels_become_channels(learning: bool) -> None:
    maps = torch.rand(2, 3, 6, 8).requires_grad_(learning)
    small = unshuffled(maps)
    assert torch.equal(small, F.pixel_unshuffle(maps, 2))
    assert small.is_contiguous(memory_format=torch.channels_last)
    assert small.requires_grad == learning
