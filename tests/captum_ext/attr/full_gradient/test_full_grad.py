"""FullGrad sums to the output, equals the published maps, and works inside Captum."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from captum.attr import NoiseTunnel
from captum.attr import visualization as captum_visualization
from captum.metrics import infidelity, sensitivity_max
from torch import nn

from captum_ext._errors import InvalidArgumentError, TargetOutOfRangeError
from captum_ext.attr.full_gradient.decompose import decompose
from captum_ext.attr.full_gradient.full_grad import FullGrad
from captum_ext.attr.full_gradient.projection import interpolate
from captum_ext.attr.full_gradient.saliency import SmoothFullGrad
from captum_ext.attr.path.idgi import IDGI
from tests.captum_ext.randomised_models import randomise, torchvision_images, torchvision_model
from tests.captum_ext.small_models import CLASSES, InPlace, TwoInputs, pictures, smooth_cnn

PROJECTIONS = ("auto", "interpolate", "backflow")


def per_example(values):
    return values.flatten(1).sum(1)


def sequence_model():
    recurrent, head = randomise(nn.GRU(6, 5, batch_first=True)), randomise(nn.Linear(5, CLASSES))
    return lambda x: head(recurrent(x)[0][:, -1])


def tabular_model():
    return randomise(nn.Sequential(nn.Linear(7, 9), nn.SiLU(), nn.LayerNorm(9), nn.Linear(9, CLASSES)))


INPUTS = {
    "picture": (smooth_cnn, lambda: pictures(3)),
    "table": (tabular_model, lambda: torch.randn(3, 7).double()),
    "sequence": (sequence_model, lambda: torch.randn(3, 4, 6).double()),
}


# ---- completeness ----


@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("projection", ["auto", "backflow"])
def test_attributions_sum_to_the_output(kind, projection):
    make_model, make_inputs = INPUTS[kind]
    model, x = make_model(), make_inputs()
    found, delta = FullGrad(model).attribute(x, target=2, projection=projection, return_convergence_delta=True)
    assert found.shape == x.shape
    assert found.is_contiguous()
    torch.testing.assert_close(per_example(found), model(x)[:, 2].detach(), rtol=0, atol=1e-10)
    torch.testing.assert_close(delta, per_example(found) - model(x)[:, 2].detach(), rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ["resnet18", "swin_t", "mobilenet_v3_small", "densenet121"])
@pytest.mark.parametrize("projection", PROJECTIONS)
def test_attributions_of_torchvision_models_sum_to_the_output(name, projection):
    model, x = torchvision_model(name), torchvision_images(name, 2)
    found = FullGrad(model).attribute(x, target=3, projection=projection)
    torch.testing.assert_close(per_example(found), model(x)[:, 3].detach(), rtol=1e-9, atol=1e-9)


def test_images_that_are_not_square():
    conv, weights = randomise(nn.Conv2d(3, 4, 3, stride=(1, 2))), torch.randn(4, 4, 4).double()
    x = torch.rand(2, 3, 6, 9).double()
    found = FullGrad(lambda x: per_example(conv(x) * weights)).attribute(x, projection="interpolate")
    gradient = torch.nn.functional.conv_transpose2d(weights[None], conv.weight, stride=(1, 2))
    biases = torch.einsum("chw,c->hw", weights, conv.bias)[None, None]
    expected = x * gradient + interpolate(biases, (6, 9)) / 3
    torch.testing.assert_close(found, expected.detach(), rtol=0, atol=1e-10)


def test_plain_backflow_with_baselines_is_the_difference_of_two_plain_ones():
    model, x, start = smooth_cnn(), pictures(2), pictures(2).flip(0) + 0.1
    options = {"target": 1, "projection": "backflow", "conserve": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found, at_input, at_start = (
            FullGrad(model).attribute(*given, **options) for given in ((x, start), (x,), (start,))
        )
    torch.testing.assert_close(found, at_input - at_start, rtol=0, atol=1e-12)


@pytest.mark.parametrize("baselines", [0.3, "tensor", "one"])
def test_with_baselines_attributions_are_the_difference_of_two_decompositions(baselines):
    model, x = smooth_cnn(), pictures(3)
    baselines = {"tensor": pictures(3), "one": pictures(1)}.get(baselines, baselines)
    start = torch.zeros_like(x) + baselines
    method = FullGrad(model)
    found, delta = method.attribute(x, baselines, target=2, return_convergence_delta=True)
    expected = method.attribute(x, target=2) - method.attribute(start, target=2)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(per_example(found), (model(x) - model(start))[:, 2].detach(), rtol=0, atol=1e-10)
    torch.testing.assert_close(delta, method.compute_convergence_delta(found, start, x, target=2), rtol=0, atol=1e-10)


def test_plain_backflow_does_not_sum_to_the_output_and_its_delta_says_so():
    model, x = smooth_cnn(), pictures(2)
    found, delta = FullGrad(model).attribute(
        x, target=1, projection="backflow", conserve=False, return_convergence_delta=True
    )
    expected = per_example(found) - model(x)[:, 1].detach()
    torch.testing.assert_close(delta, expected, rtol=0, atol=1e-10)
    assert delta.abs().min() > 1e-3


def test_a_linear_model_is_input_times_weight_and_its_bias_spread_evenly():
    layer = randomise(nn.Linear(4, 2))
    x = torch.randn(3, 4, dtype=torch.float64)
    found = FullGrad(layer).attribute(x, target=1)
    # J^T c = w b; what it lacks of the sum b goes to all four features alike.
    flow = layer.weight[1] * layer.bias[1]
    expected = layer.weight[1] * x + flow + (layer.bias[1] - flow.sum()) / 4
    torch.testing.assert_close(found, expected.detach(), rtol=0, atol=1e-12)


def test_tuples_of_inputs_keep_their_form():
    model = TwoInputs()
    inputs = (torch.randn(3, 4).double(), torch.randn(3, 2, 3).double())
    found = FullGrad(model).attribute(inputs, target=2)
    assert isinstance(found, tuple)
    assert [part.shape for part in found] == [x.shape for x in inputs]
    torch.testing.assert_close(sum(map(per_example, found)), model(*inputs)[:, 2].detach(), rtol=0, atol=1e-10)
    (single,) = FullGrad(smooth_cnn()).attribute((pictures(1),), target=0)
    assert single.shape == (1, 3, 8, 8)


TARGETS = [1, -1, [0, 1, 2, 3, 4], torch.tensor([4, 3, 2, 1, 0]), torch.tensor(2)]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("postprocess", [None, "paper"])
def test_parts_of_a_batch_give_what_the_whole_batch_gives(target, postprocess):
    class Shifted(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = smooth_cnn()

        def forward(self, x, shift, power):
            return self.model(x + shift) ** power

    x, shift = pictures(5), torch.randn(5, 3, 1, 1).double()
    options = {"target": target, "additional_forward_args": (shift, 3), "postprocess": postprocess}
    method = FullGrad(Shifted())
    whole = method.attribute(x, **options)
    for size in (1, 2, 5, 9):
        parts = method.attribute(x, internal_batch_size=size, **options)
        torch.testing.assert_close(parts, whole, rtol=0, atol=1e-12)


@pytest.mark.parametrize("baselines", [None, (0.5, torch.randn(1, 2, 3).double())], ids=["none", "each its own"])
def test_parts_of_several_inputs_are_of_the_same_examples(baselines):
    method, inputs = FullGrad(TwoInputs()), (torch.randn(4, 4).double(), torch.randn(4, 2, 3).double())
    shift, target = torch.randn(4, 6).double(), [0, 4, 2, 1]
    alone = [
        method.attribute(
            tuple(x[i : i + 1] for x in inputs),
            baselines,
            target[i],
            (shift[i : i + 1], 2),
            return_convergence_delta=True,
        )
        for i in range(4)
    ]
    for size in (1, 2, 3, None):
        found, delta = method.attribute(
            inputs, baselines, target, (shift, 2), internal_batch_size=size, return_convergence_delta=True
        )
        for k in range(2):
            torch.testing.assert_close(found[k], torch.cat([one[k] for one, _ in alone]), rtol=0, atol=1e-12)
        assert delta.abs().max() < 1e-12
        layers = method.layer_attributions(inputs, target, (shift, 2), internal_batch_size=size)
        total = torch.stack([layer.total for layer in layers.values()]).sum(0)
        torch.testing.assert_close(total, method.forward_func(*inputs, shift, 2)[range(4), target].detach())


def test_gradients_that_are_not_finite_are_refused_of_examples_that_are_taken_one_by_one_too():
    def model(x):
        # Seven numbers are of neither of two examples.
        activated = torch.cat([x.flatten(), x.new_ones(1)]).exp()[:-1].reshape(x.shape)
        return (activated + torch.where(x > 0, x.sqrt(), 0.0)).sum(1)

    x = torch.tensor([[1.0, 2.0, 3.0], [1.0, 0.0, 2.0]], dtype=torch.float64)
    for explain in (FullGrad(model).attribute, lambda x: decompose(model, x)):
        explain(x.clamp(min=0.5))
        with pytest.raises(InvalidArgumentError, match="no finite gradient exists at these inputs: operation Sqrt"):
            explain(x)


@pytest.mark.parametrize(
    "options", [{"projection": "interpolate"}, {"projection": "backflow"}, {"postprocess": "paper"}]
)
def test_maps_lie_where_they_are_however_a_model_lays_out_its_channels(options):
    model = randomise(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Conv2d(4, 5, 3, stride=2), nn.Flatten(), nn.Linear(40, 2))
    )
    x = torch.randn(2, 3, 8, 11).double()
    expected = FullGrad(model).attribute(x, target=1, **options)
    model = model.to(memory_format=torch.channels_last)
    assert not model[0](x).is_contiguous()
    torch.testing.assert_close(FullGrad(model).attribute(x, target=1, **options), expected)


def test_nothing_that_is_returned_hangs_on_a_graph():
    method, leaf = FullGrad(smooth_cnn()), pictures(2).requires_grad_()
    x = leaf * 2
    found = method.attribute(x, target=1, return_convergence_delta=True)
    against = method.attribute(x, baselines=leaf, target=1, return_convergence_delta=True)
    terms = decompose(method.forward_func, x, 1)
    tensors = [*found, *against, terms.output, terms.input_gradients, terms.input_contribution, terms.delta()]
    tensors += [part.values for part in terms.contributions]
    for layer in method.layer_attributions(x, target=1).values():
        tensors += [layer.total] if layer.map is None else [layer.total, layer.map]
    assert not any(tensor.requires_grad for tensor in tensors)


@pytest.mark.parametrize("target", [[0, 1], [(0,), (1,)], torch.tensor([0, 1]), np.array([0, 1])])
@pytest.mark.parametrize("size", [None, 1, 2])
def test_targets_of_a_part_are_not_taken_for_those_of_every_part(target, size):
    method, x = FullGrad(smooth_cnn()), pictures(4)
    for explain in (method.attribute, method.layer_attributions, SmoothFullGrad(smooth_cnn()).attribute):
        with pytest.raises(InvalidArgumentError, match="2 entries for 4 examples"):
            explain(x, target=target, internal_batch_size=size)


def test_internal_batch_size_bounds_the_rows_of_each_pass():
    rows = []
    model = smooth_cnn()

    def counted(x: torch.Tensor) -> torch.Tensor:
        rows.append(len(x))
        return model(x)

    FullGrad(counted).attribute(pictures(5), target=1, internal_batch_size=2)
    assert rows == [2, 2, 1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attributions_keep_the_inputs_type(dtype):
    model, x = smooth_cnn().to(dtype), pictures(2).to(dtype)
    found, delta = FullGrad(model).attribute(x, target=1, return_convergence_delta=True)
    assert found.dtype == dtype
    assert (delta.abs() < {torch.float32: 1e-5, torch.bfloat16: 0.1}[dtype]).all()


def test_channels_last_pictures_give_contiguous_attributions():
    found = FullGrad(smooth_cnn()).attribute(pictures(2).to(memory_format=torch.channels_last), target=1)
    assert found.is_contiguous()


def test_an_inexact_model_warns_with_both_numbers():
    class Rounded(nn.Module):
        def forward(self, x):
            return x.to(torch.float16).double().flatten(1).sum(1)

    x = pictures(1)
    with pytest.warns(UserWarning, match=r"sum to .* the model's output is .* apart.* autocast"):
        FullGrad(Rounded()).attribute(x)
    # Where the six digits of both are the same: f is the input rounded to float32.
    rounded = torch.tensor([[0.1]], dtype=torch.float64)
    with pytest.warns(UserWarning, match=r"output is 0\.1\. They are 1e-09 apart"):
        FullGrad(lambda x: x.float().double().sum(1)).attribute(rounded)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FullGrad(smooth_cnn()).attribute(x, target=1)


def test_a_hook_that_changes_gradients_is_told_and_a_backward_that_is_no_derivative_is_followed():
    def clipped(x):
        hidden = 2 * x
        hidden.register_hook(lambda gradient: gradient.clamp(-0.1, 0.1))
        return hidden.tanh().flatten(1).sum(1)

    with pytest.warns(UserWarning, match=r"sum to .* a hook that changes gradients"):
        FullGrad(clipped).attribute(pictures(1))

    class StraightThrough(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.round()

        @staticmethod
        def backward(ctx, gradient):
            return gradient

    x = pictures(2)
    found = FullGrad(lambda x: per_example(StraightThrough.apply(3 * x).exp())).attribute(x)
    torch.testing.assert_close(per_example(found), per_example((3 * x).round().exp()), rtol=1e-12, atol=0)


# ---- inside Captum ----


def test_noise_tunnel_is_the_mean_over_noisy_inputs():
    model, x = smooth_cnn(), pictures(2)
    tunnel = NoiseTunnel(FullGrad(model))
    torch.manual_seed(3)
    found, delta = tunnel.attribute(
        x, nt_type="smoothgrad", nt_samples=4, stdevs=0.1, target=1, return_convergence_delta=True
    )
    torch.manual_seed(3)
    noisy = x.repeat_interleave(4, 0) + torch.normal(0.0, torch.full((8, 3, 8, 8), 0.1))
    expected = FullGrad(model).attribute(noisy, target=1).reshape(2, 4, 3, 8, 8).mean(1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    assert delta.abs().max() < 1e-6


def test_infidelity_and_sensitivity_and_pictures():
    model, x = smooth_cnn(), pictures(2)
    method = FullGrad(model)
    attributions = method.attribute(x, target=1)

    def perturb(x):
        noise = 0.01 * torch.randn_like(x)
        return noise, x - noise

    assert torch.isfinite(infidelity(model, perturb, x, attributions, target=1)).all()
    sensitivity = sensitivity_max(method.attribute, x, perturb_radius=0.01, n_perturb_samples=3, target=1)
    assert (sensitivity < 1).all()
    figure, _ = captum_visualization.visualize_image_attr(
        attributions[0].permute(1, 2, 0).numpy(), x[0].permute(1, 2, 0).numpy(), "heat_map", use_pyplot=False
    )
    assert figure is not None
    assert method.has_convergence_delta()
    assert method.multiplies_by_inputs


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_works_where_gradients_are_off(context):
    model, x = smooth_cnn(), pictures(2)
    expected = FullGrad(model).attribute(x, target=1)
    with context():
        found = FullGrad(model).attribute(pictures(2) * 0 + x, target=1)
    torch.testing.assert_close(found, expected)


def test_model_and_input_in_place_stay_as_they_are():
    model, x = InPlace().eval(), pictures(2)
    before = x.clone()
    found = FullGrad(model).attribute(x, target=1)
    assert torch.equal(x, before)
    assert not x.requires_grad
    torch.testing.assert_close(per_example(found), model(x.clone())[:, 1].detach(), rtol=0, atol=1e-10)


# ---- bad input ----


def detached(x):
    return smooth_cnn()(x.detach() + 0)


BAD = {
    "no target": ({}, InvalidArgumentError, r"give a target"),
    "target out of range": ({"target": 5}, TargetOutOfRangeError, r"give -5 to 4"),
    "targets out of range": ({"target": [0, 7]}, TargetOutOfRangeError, r"give -5 to 4"),
    "integers": ({"inputs": torch.ones(2, 3, 8, 8).long()}, InvalidArgumentError, r"int64.*integers"),
    "NaN": ({"inputs": torch.full((2, 3, 8, 8), torch.nan)}, InvalidArgumentError, r"NaN"),
    "projection": ({"projection": "up"}, InvalidArgumentError, r"'up'.*auto, interpolate, backflow"),
    "postprocess": ({"postprocess": "abs"}, InvalidArgumentError, r"'abs'.*'paper' or None"),
    "delta of the paper map": (
        {"target": 1, "postprocess": "paper", "return_convergence_delta": True},
        InvalidArgumentError,
        r"absolute values.*postprocess=None",
    ),
    "baselines of the paper map": (
        {"target": 1, "postprocess": "paper", "baselines": 0},
        InvalidArgumentError,
        r"F\(x\) alone",
    ),
    "interpolate a table": (
        {"inputs": torch.ones(2, 7).double(), "projection": "interpolate"},
        InvalidArgumentError,
        r"\(2, 7\).*\(N, C, H, W\).*backflow",
    ),
    "paper map of a sequence": (
        {"inputs": torch.ones(2, 4, 6).double(), "postprocess": "paper"},
        InvalidArgumentError,
        r"\(2, 4, 6\).*\(N, C, H, W\)",
    ),
    "internal batch size": ({"internal_batch_size": 0}, InvalidArgumentError, r"integer of 1 or more"),
    "baseline shape": ({"target": 1, "baselines": torch.zeros(2, 3)}, InvalidArgumentError, r"shape"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments_are_told_with_what_is_allowed(case):
    options, error, message = BAD[case]
    given: dict[str, object] = {"inputs": pictures(2)}
    given.update(options)
    with pytest.raises(error, match=message):
        FullGrad(smooth_cnn()).attribute(**given)


@pytest.mark.parametrize(
    ("forward_func", "error", "message"),
    [
        (detached, RuntimeError, "does not depend on the inputs"),
        (lambda x: torch.fft.fft(x.flatten(1))[:, 0], InvalidArgumentError, "complex.*real"),
        (lambda x: x.flatten(1).argmax(1), InvalidArgumentError, "int64.*floating point"),
        (lambda x: x.flatten(1).sum(1) / 0.0, InvalidArgumentError, "inf"),
        (lambda x: x.sum(), InvalidArgumentError, "one row"),
        (lambda x: {"logits": x}, InvalidArgumentError, "dict"),
    ],
)
def test_outputs_that_cannot_be_explained_are_told(forward_func, error, message):
    with pytest.raises(error, match=message):
        FullGrad(forward_func).attribute(pictures(2), target=1 if forward_func is detached else None)


@pytest.mark.cuda
@pytest.mark.parametrize("projection", PROJECTIONS)
def test_cuda_gives_what_cpu_gives(projection):
    model, x = torchvision_model("swin_t"), torchvision_images("swin_t")
    expected = FullGrad(model).attribute(x, target=3, projection=projection)
    found = FullGrad(model.cuda()).attribute(x.cuda(), target=3, projection=projection)
    assert found.is_cuda
    torch.testing.assert_close(found.cpu(), expected)


# ---- where no gradient exists ----


def root_left_out(x):
    return torch.where(x > 0, x.sqrt(), 0 * x).flatten(1).sum(1)


@pytest.mark.parametrize("method", [FullGrad, SmoothFullGrad], ids=lambda kind: kind.__name__)
def test_gradients_that_are_not_finite_are_refused_with_the_operation(method):
    x = torch.ones(2, 3, 4, 4).double()
    x[1, 0, 0, 0] = 0
    options = {"noise_level": 0.0, "n_samples": 1} if method is SmoothFullGrad else {}
    with pytest.raises(InvalidArgumentError, match="operation Sqrt gives NaN"):
        method(root_left_out).attribute(x, **options)


def test_the_operation_is_found_in_time_where_many_ways_lead_back():
    def forward(x):
        x = x.sqrt()
        for _ in range(60):  # 2^60 ways
            x = x + x.tanh()
        return x.sum(1)

    with pytest.raises(InvalidArgumentError, match="operation Sqrt gives NaN"):
        FullGrad(lambda x: torch.where(x.sum(1) > 9, forward(x), 0 * forward(x))).attribute(torch.zeros(1, 2))


def test_the_published_map_and_the_layers_refuse_them_too():
    x = torch.zeros(1, 3, 4, 4).double()
    with pytest.raises(InvalidArgumentError, match="operation Sqrt gives NaN"):
        FullGrad(root_left_out).attribute(x, postprocess="paper")
    with pytest.raises(InvalidArgumentError, match="operation Sqrt gives NaN"):
        FullGrad(root_left_out).layer_attributions(x)


@pytest.mark.filterwarnings("ignore:.*quant")
def test_quantised_layers_have_no_gradient_and_say_so():
    model = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3)))
    for method in (FullGrad(model), IDGI(model)):
        with pytest.raises(RuntimeError, match=r"does not depend on the inputs.*quantised"):
            method.attribute(torch.randn(2, 5), target=0)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64], ids=str)
def test_constants_of_integers_are_added_as_numbers(dtype):
    constant = torch.tensor([200, 1, 0, 7, 255]).to(dtype)
    x = torch.randn(2, 5, dtype=torch.float64)
    for function in (lambda x: x + constant, lambda x: constant - 2 * x, lambda x: torch.add(x, constant, alpha=3)):
        _, delta = FullGrad(lambda x, f=function: f(x).sum(1)).attribute(x, return_convergence_delta=True)
        assert delta.abs().max() < 1e-12


@pytest.mark.parametrize("scale", [1.0, 30.0, 1000.0])
def test_what_is_returned_is_complete_or_warned_of(scale):
    layers = [layer for _ in range(6) for layer in (nn.Linear(20, 20), nn.GELU())]
    model = nn.Sequential(*layers, nn.Linear(20, 1))
    for layer in model[::2]:
        nn.init.normal_(layer.bias, 0, scale)
        nn.init.normal_(layer.weight, 0, scale / 4)
    x = torch.randn(2, 20)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _, delta = FullGrad(model).attribute(x, projection="backflow", return_convergence_delta=True)
    output = model(x)[:, 0]
    is_complete = bool((delta.abs() <= 1e-4 * output.abs().clamp(min=1)).all())
    assert is_complete or any("sum to" in str(warning.message) for warning in caught)


@pytest.mark.parametrize(("dtype", "size"), [(torch.float64, 1e7), (torch.float32, 1e3)])
def test_where_numbers_cancel_a_higher_precision_is_named_if_there_is_one(dtype, size):
    x = torch.tensor([[0.5, 0.9, 0.1]], dtype=dtype)
    with pytest.warns(UserWarning, match="cancel each other") as caught:
        FullGrad(lambda x: (((x + size) * size - size**2) / size).tanh().sum(1)).attribute(x, projection="backflow")
    assert str(caught[0].message).endswith("for images." if dtype is torch.float64 else "for images, or float64.")


def rounding(x):
    """Half precision inside, which is exact in the first of the examples."""
    return x.to(torch.float16).double().flatten(1).sum(1)


def test_the_warning_is_of_the_worst_example_with_its_numbers():
    x = torch.tensor([[1.0, 2.0], [1.0005, 2.0], [0.1, 0.3]], dtype=torch.float64)
    with pytest.warns(UserWarning, match=r"of example 1 sum to 3\.0005, the model's output is 3\."):
        FullGrad(rounding).attribute(x)


def test_small_outputs_are_not_warned_of_for_rounding_alone():
    def cancelling(x):
        large = ((x * 1e4).sum(1) - (x * 9999.3).sum(1)) - (x * 0.7).sum(1)
        return large + 1e-6 * x.exp().sum(1)

    x = torch.rand(4, 50, dtype=torch.float64)
    assert decompose(cancelling, x).delta().abs().max() > 1e-13  # far above 1e-9 of an output of 1e-4
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FullGrad(cancelling).attribute(x)


def test_with_baselines_the_warning_is_of_the_difference():
    x, baselines = torch.tensor([[1.0005]], dtype=torch.float64), torch.tensor([[1.0005]], dtype=torch.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the same rounding twice, which the difference does not have
        attributions, delta = FullGrad(rounding).attribute(x, baselines, return_convergence_delta=True)
    assert not attributions.any()
    assert not delta.any()


def test_plain_backflow_is_not_warned_of():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FullGrad(smooth_cnn()).attribute(pictures(2), target=1, projection="backflow", conserve=False)


BIASED = nn.Conv2d(3, 2, 3, dtype=torch.float64)


def test_backflow_sends_maps_with_a_place_back_too():
    x = pictures(2)
    found = FullGrad(lambda x: BIASED(x).sum((1, 2, 3))).attribute(x, projection="backflow")
    maps = BIASED.bias.detach().reshape(1, 2, 1, 1).expand(2, 2, 6, 6)
    back = torch.nn.functional.conv_transpose2d(maps, BIASED.weight.detach())
    missing = (maps.sum((1, 2, 3)) - back.sum((1, 2, 3))) / x[0].numel()
    slope = torch.nn.functional.conv_transpose2d(torch.ones_like(maps), BIASED.weight.detach())
    torch.testing.assert_close(found, slope * x + back + missing.reshape(2, 1, 1, 1))


def test_a_classifiers_bias_is_spread_evenly_over_an_image():
    x, weight = pictures(2), torch.randn(2, dtype=torch.float64)

    def classifier(x, bias):
        return (BIASED(x).mean((2, 3)).tanh() + bias) @ weight

    attribute = FullGrad(lambda x: classifier(x, torch.tensor([0.5, -2.0]).double())).attribute
    without = FullGrad(lambda x: classifier(x, torch.zeros(2).double())).attribute(x)
    share = (0.5 * weight[0] - 2.0 * weight[1]) / x[0].numel()
    torch.testing.assert_close(attribute(x) - without, share.expand(x.shape))


def test_what_lies_on_a_class_token_is_spread_evenly():
    x, token = pictures(2), torch.randn(1, 1, 2, dtype=torch.float64)

    def tokens(x):
        return torch.cat([token.expand(len(x), -1, -1), BIASED(x).flatten(2).mT], 1).sum((1, 2))

    found = FullGrad(tokens).attribute(x, projection="interpolate")
    without = FullGrad(lambda x: BIASED(x).sum((1, 2, 3))).attribute(x, projection="interpolate")
    torch.testing.assert_close(found - without, (token.sum() / x[0].numel()).expand(x.shape))
