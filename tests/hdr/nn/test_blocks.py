"""Blocks keep the size and leak; squares of four pixels become channels as PyTorch has them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from hdr.nn.blocks import ConvBlock, leaky_sums, mixed_in_format_of, side_by_side, unshuffled


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


@pytest.mark.parametrize("learning", [False, True])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_planes_are_mixed_into_the_layout_of_other_features(learning: bool, layout: torch.memory_format) -> None:
    like, planes = torch.rand(2, 3, 4, 5).contiguous(memory_format=layout), torch.randn(2, 6, 4, 5)
    mix = torch.nn.Conv2d(6, 3, 1)
    assert mix.bias is not None
    expected = torch.einsum("oi,bihw->bohw", mix.weight[:, :, 0, 0], planes) + mix.bias[:, None, None]
    with torch.set_grad_enabled(learning):
        mixed = mixed_in_format_of(like, planes, mix)
    torch.testing.assert_close(mixed, expected)
    assert mixed.stride() == like.stride()
    assert mixed.requires_grad == learning


def test_convolutions_side_by_side_are_those_one_by_one() -> None:
    first, second = (torch.nn.Conv2d(4, channels, 3, padding=1) for channels in (2, 5))
    features = torch.randn(2, 4, 6, 7)
    both = side_by_side(features, first, second)
    torch.testing.assert_close(both, torch.cat([first(features), second(features)], dim=1))
    both.square().sum().backward()
    assert all(parameter.grad is not None for one in (first, second) for parameter in one.parameters())
