"""Paths: what their points promise, and which parameters they refuse."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from captum_ext import IDGI, BlurIG, GuidedIG, LayerIDGI, PathIG
from captum_ext.attr import BlurPath, GuidedPath
from tests.captum_ext.small_models import TwoInputs, pictures, smooth_cnn


def test_guided_path_counts_all_inputs_of_an_example_together():
    model = TwoInputs()
    a, b = torch.randn(3, 4).double(), torch.randn(3, 2, 3).double()
    found = GuidedIG(model, max_dist=0.3).attribute((a, b), target=1, n_steps=6)

    def joined(x):
        return model(x[:, :4], x[:, 4:].reshape(-1, 2, 3))

    expected = GuidedIG(joined, max_dist=0.3).attribute(torch.cat([a, b.flatten(1)], 1), target=1, n_steps=6)
    torch.testing.assert_close(torch.cat([found[0], found[1].flatten(1)], 1), expected, rtol=0, atol=1e-12)


@settings(max_examples=25)
@given(
    fraction=st.floats(0.01, 1.0),
    max_dist=st.floats(0.0, 1.0),
    n_steps=st.integers(1, 12),
    seed=st.integers(0, 1000),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_guided_path_keeps_to_its_two_promises(fraction, max_dist, n_steps, seed, dtype):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, 9, generator=generator, dtype=dtype)
    x[0, 3] = 0.0
    walk = GuidedPath(fraction, max_dist).walk((x,), (torch.zeros_like(x),), n_steps)
    (point,) = next(walk)
    for j in range(1, n_steps):
        (point,) = walk.send((torch.randn(x.shape, generator=generator).to(dtype),))
        along = torch.where(x != 0, point / x, j / n_steps)
        # As near to the input, in L1, as the straight line is; and no feature further from that line than allowed.
        left = (x - point).abs().sum(1)
        torch.testing.assert_close(left, x.abs().sum(1) * (1 - j / n_steps), rtol=1e-5, atol=1e-6)
        assert (along - j / n_steps).abs().max() <= max_dist + 1e-5


def test_guided_path_moves_small_gradients_first():
    # Two equal features, half of the way in all: the one with the smaller gradient goes first, and whole.
    walk = GuidedPath(fraction=0.5, max_dist=1.0).walk((torch.ones(1, 2),), (torch.zeros(1, 2),), 2)
    next(walk)
    (point,) = walk.send((torch.tensor([[3.0, -1.0]]),))
    torch.testing.assert_close(point, torch.tensor([[0.0, 1.0]]))


def test_path_objects_say_what_they_are():
    assert BlurIG(nn.Identity(), 7.0).path == BlurPath(max_sigma=7.0)
    assert BlurIG(nn.Identity(), power=2.0).path == BlurPath(power=2.0)
    assert repr(GuidedIG(nn.Identity()).path) == "GuidedPath(fraction=0.25, max_dist=0.02)"


def test_features_whose_gradient_is_not_a_number_go_last():
    path = GuidedPath(fraction=0.5, max_dist=1.0)
    inputs, start = (torch.ones(1, 4),), (torch.zeros(1, 4),)
    walk = path.walk(inputs, start, n_steps=2)
    next(walk)
    (point,) = walk.send((torch.tensor([[torch.nan, 3.0, 2.0, torch.inf]]),))
    # Half of the way: the two with finite gradients go first, and all of theirs.
    assert point.tolist() == [[0.0, 1.0, 1.0, 0.0]]


@pytest.fixture
def model():
    return smooth_cnn()


@pytest.mark.parametrize("method", [lambda f: IDGI(f, "blur"), BlurIG], ids=["idgi", "blur-ig"])
def test_blur_path_takes_neither_baselines_nor_what_is_not_an_image(model, method):
    with pytest.raises(ValueError, match="leave baselines out"):
        method(model).attribute(pictures(), 0, target=1)
    with pytest.raises(ValueError, match=r"shape \(2, 5\): a blur path needs images"):
        method(lambda x: x.sum(1)).attribute(torch.rand(2, 5))


@pytest.mark.parametrize("power", [0, -1.0, math.inf, math.nan])
def test_power_of_a_blur_path_is_finite_and_positive(power):
    with pytest.raises(ValueError, match="power="):
        BlurPath(power=power)


@pytest.mark.parametrize("max_sigma", [0, -1.0, math.inf, math.nan])
def test_max_sigma_is_finite_and_positive(model, max_sigma):
    for make in (lambda: BlurPath(max_sigma), lambda: BlurIG(model, max_sigma)):
        with pytest.raises(ValueError, match="max_sigma"):
            make()


@pytest.mark.parametrize("fraction", [0, -0.1, 1.1, math.nan])
def test_fraction_is_above_0_and_at_most_1(model, fraction):
    for make in (lambda: GuidedPath(fraction=fraction), lambda: GuidedIG(model, fraction=fraction)):
        with pytest.raises(ValueError, match="fraction"):
            make()


@pytest.mark.parametrize("max_dist", [-0.1, 1.1, math.nan])
def test_max_dist_is_from_0_to_1(model, max_dist):
    for make in (lambda: GuidedPath(max_dist=max_dist), lambda: GuidedIG(model, max_dist=max_dist)):
        with pytest.raises(ValueError, match="max_dist"):
            make()


@pytest.mark.parametrize("path", ["curved", "", None, 3, BlurPath])
def test_unknown_path_lists_the_known_ones(model, path):
    for make in (IDGI, PathIG, lambda f, path: LayerIDGI(f, f[1], path=path)):
        with pytest.raises(ValueError, match="known are 'straight', 'blur', 'guided'"):
            make(model, path=path)


def test_path_of_ones_own_with_points_of_other_shapes(model):
    class Short:
        def start(self, inputs, baselines):
            return tuple(torch.zeros_like(x) for x in inputs)

        def point(self, inputs, start, fraction):
            return tuple(x[:, :1] for x in inputs)

    with pytest.raises(ValueError, match="the path gave a point of shapes"):
        IDGI(model, Short()).attribute(pictures(), target=1)


def test_a_feature_without_a_gradient_still_takes_its_part_of_the_way():
    # All other features are where they have to be, so that all of the way is the last one's.
    end = torch.ones(1, 9).double()
    begin = end.clone()
    begin[0, -1] = 0
    walk = GuidedPath().walk((end,), (begin,), n_steps=4)
    next(walk)
    (point,) = walk.send((torch.full((1, 9), torch.nan).double(),))
    assert point[0, -1].item() == pytest.approx(0.25)
