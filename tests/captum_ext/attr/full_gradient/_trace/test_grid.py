"""The place of an activation on the image is known as far as operations keep it, and not beyond."""

from __future__ import annotations

import pytest
import torch

from captum_ext.attr.full_gradient._trace.backpropagation import backpropagate
from captum_ext.attr.full_gradient._trace.grid import Grid, follow
from captum_ext.attr.full_gradient.full_grad import FullGrad
from captum_ext.attr.full_gradient.projection import InputSpace
from tests.captum_ext.randomised_models import torchvision_images, torchvision_model


def grids_of(name, n_examples=1):
    model, x = torchvision_model(name), torchvision_images(name, n_examples)
    found = {}

    class Grids(InputSpace):
        def __call__(self, term):
            found[term.operation.module or term.operation.name] = term.grid

    backpropagate(model, (x,), 3, None, lambda: Grids((x,), "auto"))
    return found


def test_tokens_of_a_vision_transformer_are_laid_on_their_grid_behind_the_class_token():
    grids = grids_of("vit_b_32", 2)
    assert grids["conv_proj"] == Grid("NCHW", 7, 7)
    for part in ("ln_1", "self_attention", "mlp.0", "mlp.1"):
        grid = grids[f"encoder.layers.encoder_layer_3.{part}"]
        assert (grid.height, grid.width, grid.prefix) == (7, 7, 1)
    assert grids["heads.head"] is None


def test_rows_and_columns_before_channels_are_known_and_shifted_windows_are_not():
    grids = grids_of("swin_t")
    assert grids["features.1.0.norm1"] == Grid("NHWC", 16, 16)
    assert grids["features.1.1.mlp.1"] == Grid("NHWC", 16, 16)
    assert grids["features.2.norm"] == Grid("NHWC", 8, 8)
    assert grids["features.7.1.mlp.0"] == Grid("NHWC", 2, 2)
    assert grids["features.1.1.attn"] is None


def prefixed(x):
    return torch.cat([torch.zeros(1, 2, 3).double(), x.flatten(2).mT], 1)


TOKEN = 1 * 4 + 3
REARRANGEMENTS = [
    (lambda x: x.permute(0, 2, 3, 1), (0, 1, 3)),
    (lambda x: x.flatten(2).transpose(1, 2), (0, TOKEN)),
    (lambda x: x.movedim(1, -1).reshape(1, 16, 3).permute(1, 0, 2), (TOKEN, 0)),
    (prefixed, (0, 2 + TOKEN)),
    (lambda x: prefixed(x)[:, 2:].unflatten(1, (4, 4)), (0, 1, 3)),
    (lambda x: prefixed(x)[:, 1:].exp(), (0, 1 + TOKEN)),
]


@pytest.mark.parametrize(("rearrange", "cell"), REARRANGEMENTS)
def test_a_bias_on_one_cell_stays_there_through_rearrangements(rearrange, cell):
    x = torch.randn(1, 3, 4, 4, dtype=torch.float64)
    constant = torch.zeros_like(rearrange(x))
    constant[cell] = 1.0
    with_bias, without = (
        FullGrad(lambda x, c=c: (rearrange(x) + c).flatten().sum(0, keepdim=True)).attribute(
            x, projection="interpolate"
        )
        for c in (constant, torch.zeros_like(constant))
    )
    expected = torch.zeros_like(x)
    expected[:, :, 1, 3] = 1.0
    torch.testing.assert_close(with_bias - without, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("lose", [lambda x: x.roll(1, 2), lambda x: x.flip(3), lambda x: x.reshape(1, 4, 12)])
def test_what_is_moved_about_has_no_known_place_and_is_spread_evenly(lose):
    x = torch.randn(1, 3, 4, 4, dtype=torch.float64)
    constant = torch.zeros_like(lose(x))
    constant[0, 0, 0] = 1.0
    found = FullGrad(lambda x: (lose(x) + constant).flatten().sum(0, keepdim=True)).attribute(
        x, projection="interpolate"
    )
    shares = found - x
    torch.testing.assert_close(shares, torch.full_like(x, constant.sum().item() / 48), rtol=0, atol=1e-12)


GRID = Grid("NLC", 4, 4, prefix=2)


def followed(function, args, shape, grid=GRID):
    source = torch.zeros([{"N": 1, "L": grid.prefix + 16, "C": 3, "H": 4, "W": 4}[axis] for axis in grid.axes])
    return follow(function, (source, *args), {}, [(source, grid)], torch.zeros(shape), 1)


def test_tokens_lose_their_place_if_the_end_is_cut_too():
    everything = slice(None)
    cut = torch.Tensor.__getitem__
    assert followed(cut, [(everything, slice(2, None))], (1, 16, 3)) == Grid("NLC", 4, 4)
    assert followed(cut, [(everything, slice(1, None))], (1, 17, 3)) == Grid("NLC", 4, 4, prefix=1)
    # As many tokens are left, and they are others.
    assert followed(cut, [(everything, slice(1, 17))], (1, 16, 3)) is None
    assert followed(cut, [(everything, slice(2, 18))], (1, 16, 3)) is None
    assert followed(cut, [(everything, slice(0, 16))], (1, 16, 3)) is None


def test_a_linear_layer_on_an_axis_of_places_mixes_them():
    linear = torch.nn.functional.linear
    assert followed(linear, [], (1, 18, 3)) == GRID
    assert followed(linear, [], (1, 3, 18), Grid("NCL", 4, 4, prefix=2)) is None
    assert followed(linear, [], (1, 3, 4, 4), Grid("NCHW", 4, 4)) is None
