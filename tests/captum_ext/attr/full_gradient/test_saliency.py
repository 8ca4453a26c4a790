"""The published saliency maps equal the published algorithm, and refuse what is no image."""

from __future__ import annotations

import pytest
import torch
from captum.attr import NoiseTunnel

from captum_ext._errors import InvalidArgumentError
from captum_ext.attr.full_gradient.decompose import decompose
from captum_ext.attr.full_gradient.full_grad import FullGrad
from captum_ext.attr.full_gradient.paper_map import rescaled_sum
from captum_ext.attr.full_gradient.saliency import SimpleFullGrad, SmoothFullGrad
from tests.captum_ext.naive_full_grad import naive_full_grad, naive_smooth_full_grad
from tests.captum_ext.randomised_models import torchvision_images, torchvision_model
from tests.captum_ext.small_models import EvaluationCounter, pictures, smooth_cnn


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("vgg11_bn", torch.float32),
        ("densenet121", torch.float64),
        *(("resnet18", dtype) for dtype in (torch.float32, torch.float64)),
        *(("squeezenet1_1", dtype) for dtype in (torch.float32, torch.float64)),
    ],
)
def test_paper_map_equals_the_published_algorithm(name, dtype):
    model, x = torchvision_model(name).to(dtype), torchvision_images(name, 2).to(dtype)
    expected = naive_full_grad(model, x, 3)
    found = FullGrad(model).attribute(x, target=3, postprocess="paper")
    assert found.shape == (2, 1, 64, 64)
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()


@pytest.mark.parametrize("name", ["squeezenet1_1", "resnet18"])
def test_simple_full_grad_equals_the_published_algorithm(name):
    model, x = torchvision_model(name), torchvision_images(name, 2)
    expected = naive_full_grad(model, x, 3, simple=True)
    found = SimpleFullGrad(model).attribute(x, target=3)
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_smooth_full_grad_equals_the_published_algorithm():
    model, x = torchvision_model("resnet18"), torchvision_images("resnet18", 2)
    generator = torch.Generator().manual_seed(5)
    ranges = torch.stack([image.max() - image.min() for image in x]).reshape(2, 1, 1, 1)
    noises = [torch.randn(x.shape[1:], generator=generator, dtype=x.dtype) * 0.15 * ranges for _ in range(3)]
    expected = naive_smooth_full_grad(model, x, 3, noises)
    state = torch.get_rng_state()
    found = SmoothFullGrad(model).attribute(x, target=3, n_samples=3, seed=5)
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("internal_batch_size", [1, 2, 3, 5])
def test_smooth_full_grad_of_an_image_is_that_of_the_image_alone(internal_batch_size):
    method, x = SmoothFullGrad(smooth_cnn()), pictures(5)
    alone = torch.cat([method.attribute(x[i : i + 1], target=1, n_samples=3, seed=7) for i in range(5)])
    found = method.attribute(x, target=1, n_samples=3, seed=7, internal_batch_size=internal_batch_size)
    torch.testing.assert_close(found, alone)
    assert not torch.allclose(found, method.attribute(x, target=1, n_samples=3, seed=8), rtol=1e-3)


def test_smooth_full_grad_averages_over_as_many_copies_as_the_authors_do():
    model, x = EvaluationCounter(smooth_cnn()), pictures(2)
    found = SmoothFullGrad(model).attribute(x, target=1)
    assert (model.forward_rows, model.backward_rows) == (25 * 2, 25 * 2)
    torch.testing.assert_close(found, SmoothFullGrad(model).attribute(x, target=1, noise_level=0.15, n_samples=25))


def test_paper_map_of_a_transformer_lies_on_the_image():
    model, x = torchvision_model("swin_t"), torchvision_images("swin_t")
    found = FullGrad(model).attribute(x, target=3, postprocess="paper")
    assert found.shape == (1, 1, 64, 64)
    assert (found >= 0).all()
    assert found.std() > 0


@pytest.mark.parametrize("method", [SimpleFullGrad, SmoothFullGrad])
def test_saliency_maps_are_for_pictures_only(method):
    with pytest.raises(InvalidArgumentError, match=r"\(N, C, H, W\)"):
        method(torch.nn.Linear(7, 2)).attribute(torch.ones(2, 7), target=1)


@pytest.mark.parametrize(
    ("options", "message"), [({"n_samples": 0}, "1 or more"), ({"noise_level": -1.0}, "0 or more")]
)
def test_noise_is_checked(options, message):
    with pytest.raises(InvalidArgumentError, match=message):
        SmoothFullGrad(smooth_cnn()).attribute(pictures(1), target=1, **options)


class Identity(torch.autograd.Function):
    """Whose bias is known in sum only, since it has no forward mode."""

    @staticmethod
    def forward(context, x):
        return x.clone()

    @staticmethod
    def backward(context, gradient):
        return gradient


CONV = torch.nn.Conv2d(3, 4, 3, dtype=torch.float64)
HEAD = torch.nn.Linear(144, 2, dtype=torch.float64)


def activated(x):
    return HEAD(torch.nn.functional.gelu(CONV(x)).flatten(1))[:, 0]


def test_biases_that_are_known_in_sum_only_are_not_drawn():
    x = pictures(2)
    found = FullGrad(lambda x: HEAD(Identity.apply(CONV(x)).flatten(1))).attribute(x, target=0, postprocess="paper")
    expected = FullGrad(lambda x: HEAD(CONV(x).flatten(1))).attribute(x, target=0, postprocess="paper")
    torch.testing.assert_close(found, expected)


def at_full_size(maps):
    return torch.nn.functional.interpolate(rescaled_sum(maps.abs()), size=(8, 8), mode="bilinear", align_corners=True)


@pytest.mark.parametrize("method", [FullGrad, SmoothFullGrad])
def test_neither_are_they_where_their_place_is_known(method):
    """Unpooling has no bias at its output alone, but lies on the image: drawn is the convolution before it."""

    def unpooled(maps):
        return torch.nn.functional.max_unpool2d(*torch.nn.functional.max_pool2d(maps, 2, return_indices=True), 2)

    head = torch.nn.Linear(144, 2, dtype=torch.float64)
    x = pictures(2).requires_grad_()
    maps = CONV(x)
    of_input, of_maps = torch.autograd.grad(head(unpooled(maps).flatten(1))[:, 0].sum(), (x, maps))
    products = (of_input * x) if method is FullGrad else (of_input * x).sum(1, keepdim=True)
    expected = rescaled_sum(products.abs()) + at_full_size(of_maps * CONV.bias[:, None, None])
    options = {"postprocess": "paper"} if method is FullGrad else {"n_samples": 1, "noise_level": 0.0}
    found = method(lambda x: head(unpooled(CONV(x)).flatten(1))).attribute(x.detach(), target=0, **options)
    torch.testing.assert_close(found, expected.detach())


def test_simple_full_grad_takes_layers_and_no_activation_functions():
    x = pictures(2).requires_grad_()
    maps = CONV(x)
    output = HEAD(torch.nn.functional.gelu(maps).flatten(1))[:, 0].sum()
    of_input, of_maps = torch.autograd.grad(output, (x, maps))
    expected = rescaled_sum((of_input * x).abs()) + at_full_size(of_maps)
    torch.testing.assert_close(SimpleFullGrad(activated).attribute(x.detach()), expected.detach())


def test_smooth_full_grad_without_noise_has_the_maps_of_all_operations():
    x = pictures(2)
    found = decompose(activated, x, maps="full")
    expected = rescaled_sum((found.input_gradients * x).sum(1, keepdim=True).abs())
    for part in found.contributions:
        if part.values.dim() == 4:
            expected = expected + at_full_size(part.values)
    assert [part.name for part in found.contributions] == ["conv2d", "gelu", "linear"]
    torch.testing.assert_close(SmoothFullGrad(activated).attribute(x, n_samples=1, noise_level=0.0), expected)


@pytest.mark.parametrize("method", [SimpleFullGrad, SmoothFullGrad, FullGrad])
def test_maps_hang_on_no_graph_though_the_images_do(method):
    leaf = pictures(2).requires_grad_()
    keywords = {"postprocess": "paper"} if method is FullGrad else {}
    found = method(smooth_cnn()).attribute(leaf * 2, target=1, **keywords)
    assert not found.requires_grad
    assert leaf.grad is None


@pytest.mark.parametrize("method", [SimpleFullGrad, SmoothFullGrad])
def test_a_tuple_of_one_image_tensor_gives_a_tuple(method):
    explainer, images = method(smooth_cnn()), (pictures(2),)
    found = explainer.attribute(images, target=1)
    assert isinstance(found, tuple)
    torch.testing.assert_close(found[0], explainer.attribute(images[0], target=1))
    # What wraps a method goes by the form. (Captum 0.7 takes no tuple of standard deviations.)
    (smoothed,) = NoiseTunnel(explainer).attribute(images, stdevs=0.1, nt_samples=2, target=1)
    assert smoothed.shape == (2, 1, 8, 8)
