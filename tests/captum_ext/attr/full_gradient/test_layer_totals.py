"""The contributions of layers sum to the output, and their maps to their totals."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from captum_ext.attr.full_gradient.full_grad import FullGrad
from tests.captum_ext.randomised_models import torchvision_images, torchvision_model
from tests.captum_ext.small_models import pictures, smooth_cnn


@pytest.mark.parametrize("name", ["resnet18", "swin_t"])
def test_layers_sum_to_the_output_and_their_maps_to_their_totals(name):
    model, x = torchvision_model(name), torchvision_images(name, 2)
    layers = FullGrad(model).layer_attributions(x, target=3)
    assert next(iter(layers)) == "(input)"
    modules = [path for path in layers if not path.startswith("(")]
    assert modules == [path for path, _ in model.named_modules() if path in modules]
    torch.testing.assert_close(sum(layer.total for layer in layers.values()), model(x)[:, 3].detach())
    with_map = [layer for layer in layers.values() if layer.map is not None]
    assert len(with_map) >= len(layers) - 14
    for layer in with_map:
        assert layer.map.shape == (2, 1, 64, 64)
        torch.testing.assert_close(layer.map.flatten(1).sum(1), layer.total)


def test_layers_of_parts_of_a_batch_equal_those_of_the_batch():
    model, x = smooth_cnn(), pictures(3)
    whole = FullGrad(model).layer_attributions(x, target=[0, 1, 2])
    parts = FullGrad(model).layer_attributions(x, target=[0, 1, 2], internal_batch_size=1)
    assert list(whole) == list(parts) == ["(input)", "0", "1", "2", "3", "5"]
    for layer, found in whole.items():
        torch.testing.assert_close(found.total, parts[layer].total)


def test_operations_of_no_module_are_the_models_own_and_a_module_stands_where_it_ran_first():
    first, second = nn.Linear(3, 3).double(), nn.Linear(3, 3).double()

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.second, self.first = second, first

        def forward(self, x):
            return self.first(self.second(self.first(x)).exp()).sum(1) + 1

    x = torch.randn(2, 3, dtype=torch.float64)
    found = FullGrad(Twice()).layer_attributions(x)
    assert list(found) == ["(input)", "first", "second", "(model)"]
    torch.testing.assert_close(sum(layer.total for layer in found.values()), Twice()(x).detach())
    outside = FullGrad(lambda x: x.sum(1) + 1).layer_attributions(x)
    torch.testing.assert_close(outside["(model)"].total, torch.ones(2, dtype=torch.float64))


def test_a_module_that_did_not_run_for_an_example_gave_it_nothing():
    extra = nn.Linear(3, 3).double()
    x = torch.tensor([[1.0, 2.0, 3.0], [-1.0, -2.0, -3.0]], dtype=torch.float64)

    class Sometimes(nn.Module):
        def __init__(self):
            super().__init__()
            self.extra = extra

        def forward(self, x):
            return (self.extra(x) if x.sum() > 0 else x).sum(1)

    found = FullGrad(Sometimes()).layer_attributions(x, internal_batch_size=1)
    torch.testing.assert_close(found["extra"].total, torch.stack([extra.bias.sum().detach(), x.new_zeros(())]))


@pytest.mark.parametrize("first", [1.0, -1.0], ids=["ran first", "ran second"])
def test_a_module_that_did_not_run_for_an_image_has_a_map_of_nothing_there(first):
    class Sometimes(nn.Module):
        def __init__(self):
            super().__init__()
            self.extra = nn.Conv2d(3, 3, 3, padding=1).double()

        def forward(self, x):
            return (self.extra(x) if x.sum() > 0 else x).exp().sum((1, 2, 3))

    method, image = FullGrad(Sometimes()), torch.rand(1, 3, 4, 5).double()
    x = torch.cat([first * image, -first * image])
    ran = 0 if first > 0 else 1
    found = method.layer_attributions(x, internal_batch_size=1)["extra"]
    alone = method.layer_attributions(x[ran : ran + 1])["extra"]
    torch.testing.assert_close(found.map[ran : ran + 1], alone.map)
    assert not found.map[1 - ran].any()


def test_a_module_has_a_map_only_if_all_of_its_biases_have_a_place():
    conv = nn.Conv2d(3, 2, 3).double()

    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = conv

        def forward(self, x):
            means = self.conv(x).mean((2, 3)) + 2
            maps = self.conv(x) + 1
            if self.lose == "last":
                means = (maps.mean((2, 3)) + 2) * 1
            return maps.sum((1, 2, 3)) + means.sum(1) if self.lose else maps.sum((1, 2, 3))

    x = torch.randn(1, 3, 6, 6, dtype=torch.float64)
    for lose in (None, "first", "last"):
        model = Mixed()
        model.lose = lose
        found = FullGrad(model).layer_attributions(x)
        assert found["conv"].map is not None
        assert (found["(model)"].map is None) == bool(lose)


def test_inputs_that_are_no_image_have_no_maps():
    linear = nn.Linear(4, 4).double()
    found = FullGrad(lambda x: linear(x).exp().sum((1, 2))).layer_attributions(torch.randn(2, 3, 4).double())
    assert all(layer.map is None for layer in found.values())


def test_several_inputs_are_no_image_though_the_first_looks_like_one():
    images, numbers = torch.randn(2, 3, 4, 4).double(), torch.randn(2, 3).double()
    conv = nn.Conv2d(3, 2, 3).double()
    found = FullGrad(lambda x, y: conv(x).sum((1, 2, 3)) + y.exp().sum(1)).layer_attributions((images, numbers))
    assert all(layer.map is None for layer in found.values())


def test_a_map_of_tokens_keeps_what_lies_on_the_class_token():
    conv, norm = nn.Conv2d(3, 4, 2, 2).double(), nn.LayerNorm(4).double()
    norm.bias.data = torch.randn(4).double()
    token, weight = torch.randn(1, 1, 4).double(), torch.randn(10, 4).double()

    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = conv, norm

        def forward(self, x):
            tokens = self.conv(x).flatten(2).transpose(1, 2)
            return (self.norm(torch.cat([token.expand(len(x), -1, -1), tokens], 1)) * weight).sum((1, 2))

    found = FullGrad(Tokens()).layer_attributions(torch.randn(2, 3, 6, 6).double())["norm"]
    on_token = (norm(token)[0, 0] * weight[0]).sum().detach()
    assert on_token.abs() > 0.01
    torch.testing.assert_close(found.map.sum((1, 2, 3)), found.total)
