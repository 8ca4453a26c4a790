"""Blocks keep the size and leak."""

from __future__ import annotations

import torch

from hdr.nn.blocks import ConvBlock


def test_blocks_keep_the_size_and_leak() -> None:
    block = ConvBlock(3, 5, kernel_size=3)
    block.get_parameter("0.weight").data.zero_()
    block.get_parameter("0.bias").data.fill_(-2.0)
    assert torch.equal(block(torch.rand(1, 3, 6, 7)), torch.full((1, 5, 6, 7), -0.2))
    assert ConvBlock(3, 5, stride=2)(torch.rand(1, 3, 6, 8)).shape == (1, 5, 3, 4)
