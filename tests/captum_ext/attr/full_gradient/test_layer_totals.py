"""The contributions of layers sum to the output, and their maps to their totals."""

from __future__ import annotations

import pytest
import torch

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
