"""LibraGrad: the model's output, and a gradient with which input and written biases alone account for it."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from captum.attr import InputXGradient
from torch import nn
from torch.nn import functional
from torchvision.models import VisionTransformer

from captum_ext import FullGrad, LibraGrad


def vision_transformer() -> nn.Module:
    model = VisionTransformer(
        image_size=16, patch_size=4, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=5
    )
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model.double().eval()


class ExplicitAttention(nn.Module):
    """Attention written out, as in many libraries."""

    def __init__(self, softmax):
        super().__init__()
        self.values = nn.Linear(6, 6)
        self.softmax = softmax

    def forward(self, tokens):
        weights = self.softmax(tokens @ tokens.transpose(1, 2))
        return (weights @ self.values(tokens)).mean(1)


def test_output_is_that_of_the_model_which_is_left_as_it_was():
    model, images = vision_transformer(), torch.rand(2, 3, 16, 16, dtype=torch.float64)
    before = copy.deepcopy(model.state_dict())
    torch.testing.assert_close(LibraGrad(model)(images), model(images), rtol=1e-12, atol=1e-12)
    FullGrad(LibraGrad(model)).attribute(images, target=1)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    # Nothing stays behind: the model itself has its own gradient again.
    leaf = images.clone().requires_grad_()
    gradients = [torch.autograd.grad(one(leaf)[:, 1].sum(), leaf)[0] for one in (model, LibraGrad(model), model)]
    assert torch.equal(gradients[0], gradients[2])
    assert not torch.allclose(gradients[0], gradients[1])


def test_input_gradient_and_written_biases_account_for_the_output():
    """The law of the paper, by autograd alone: <dF/dx, x> + sum <dF/db, b> = F(x)."""
    model, image = vision_transformer(), torch.rand(1, 3, 16, 16, dtype=torch.float64, requires_grad=True)
    output = LibraGrad(model)(image)[0, 3]
    added = {
        name: parameter
        for name, parameter in model.named_parameters()
        if "bias" in name or "class_token" in name or "pos_embed" in name
    }
    grad_input, *gradients = torch.autograd.grad(output, [image, *added.values()])
    total = (grad_input * image).sum()
    for (name, parameter), gradient in zip(added.items(), gradients, strict=True):
        terms = gradient * parameter
        # Of what makes queries, keys and values, the values' third alone is on the way.
        total = total + (terms[-len(terms) // 3 :] if "in_proj" in name else terms).sum()
    assert abs(total - output) < 1e-12 * max(1, abs(output))
    # Without it they do not, by far.
    plain = model(image)[0, 3]
    gradients = torch.autograd.grad(plain, [image, *added.values()])
    accounted = sum((g * v).sum() for g, v in zip(gradients, [image, *added.values()], strict=True))
    assert abs(accounted - plain) > 0.1 * abs(plain)


def test_full_grad_finds_no_implicit_bias_in_normalisations():
    model, images = vision_transformer(), torch.rand(2, 3, 16, 16, dtype=torch.float64)
    _, delta = FullGrad(LibraGrad(model)).attribute(images, target=2, return_convergence_delta=True)
    assert delta.abs().max() < 1e-12
    layers = FullGrad(LibraGrad(model)).layer_attributions(images, target=2)
    gradient = torch.autograd.grad(LibraGrad(model)(images)[:, 2].sum(), model.encoder.ln.bias)[0]
    expected = (gradient * model.encoder.ln.bias).sum()  # the written bias and nothing else
    total = layers["forward_func.encoder.ln"].total.sum()
    assert total.item() == pytest.approx(expected.item(), abs=1e-12)


@pytest.mark.parametrize(
    ("operation", "reference"),
    [
        (functional.gelu, lambda x: 0.5 * (1 + torch.erf(x / 2**0.5))),
        (functional.silu, torch.sigmoid),
        (functional.hardswish, lambda x: (x + 3).clamp(0, 6) / 6),
        (functional.mish, lambda x: torch.tanh(functional.softplus(x))),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_gradient_of_an_activation_is_its_gate(operation, reference):
    x = torch.tensor([-4.0, -1.0, 0.0, 1e-20, 0.5, 3.0], dtype=torch.float64, requires_grad=True)
    output = LibraGrad(operation)(x)
    torch.testing.assert_close(output, operation(x))
    torch.testing.assert_close(torch.autograd.grad(output.sum(), x)[0], reference(x.detach()))


def test_gradient_of_normalisations_has_a_constant_denominator():
    x = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    weight, bias, out = (torch.randn(5, dtype=torch.float64) for _ in range(3))
    normalised = LibraGrad(lambda x: functional.layer_norm(x, (5,), weight, bias, 0.1))(x)
    torch.testing.assert_close(normalised, functional.layer_norm(x, (5,), weight, bias, 0.1))
    scaled = out * weight / (x.var(1, unbiased=False, keepdim=True) + 0.1).sqrt()
    expected = (scaled - scaled.mean(1, keepdim=True)).detach()
    torch.testing.assert_close(torch.autograd.grad((normalised * out).sum(), x)[0], expected)
    by_root = LibraGrad(lambda x: functional.rms_norm(x, (5,), weight))(x)
    torch.testing.assert_close(by_root, functional.rms_norm(x, (5,), weight))
    expected = (out * weight / x.square().mean(1, keepdim=True).sqrt()).detach()
    torch.testing.assert_close(torch.autograd.grad((by_root * out).sum(), x)[0], expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("normalise", [functional.layer_norm, functional.rms_norm], ids=["layer", "rms"])
def test_normalisations_without_weights_in_half_precision(normalise, dtype):
    x = (1e-3 * torch.randn(3, 5)).to(dtype)  # small, so that what is added to the denominator counts
    found = LibraGrad(lambda x: normalise(x, (5,)))(x)
    torch.testing.assert_close(found, normalise(x, (5,)))


@pytest.mark.parametrize("root", [torch.rsqrt, torch.Tensor.rsqrt], ids=["function", "method"])
def test_a_normalisation_that_is_written_out_is_one_like_others(root):
    x = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(5, dtype=torch.float64)

    def normalise(x):  # as the language models of the transformers library do
        return weight * (x * root(x.pow(2).mean(-1, keepdim=True) + 0.1))

    output = LibraGrad(normalise)(x)
    torch.testing.assert_close(output, functional.rms_norm(x, (5,), weight, 0.1))
    (found,) = torch.autograd.grad(output[:, 2].sum(), x)
    torch.testing.assert_close((found * x).sum(1), output[:, 2])


WEIGHT, SHIFT = nn.Parameter(torch.randn(5, dtype=torch.float64)), torch.randn(5, dtype=torch.float64)


def mean_square(x):
    return x.pow(2).mean(-1, keepdim=True) + 1e-5


def by_var_mean(x):
    variance, mean = torch.var_mean(x, -1, keepdim=True)
    return (x - mean) / (variance + 1e-5).sqrt()


NORMALISATIONS = {
    "by a root": lambda x: (x - x.mean(-1, keepdim=True)) / torch.sqrt(x.var(-1, keepdim=True, unbiased=False) + 1e-5),
    "by var_mean": by_var_mean,
    "by a deviation": lambda x: WEIGHT * (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-6),
    "by a power": lambda x: x / mean_square(x) ** 0.5,
    "times a power": lambda x: x * mean_square(x) ** -0.5,
    "times a reciprocal": lambda x: x * mean_square(x).sqrt().reciprocal(),
    "times one by a root": lambda x: (1 / mean_square(x).sqrt()) * x,
    "times a weight by a root": lambda x: x * ((1 + WEIGHT) / mean_square(x).sqrt()),
    "by a norm": lambda x: x / x.norm(dim=-1, keepdim=True),
    "by a scaled norm": lambda x: x / (x.norm(dim=-1, keepdim=True) * 5**-0.5).clamp(min=1e-6),
    "by a norm of at least a constant": lambda x: x / x.norm(dim=-1, keepdim=True).clamp_min(1e-6),
    "by the larger of a norm and a constant": lambda x: (
        x / torch.maximum(x.norm(dim=-1, keepdim=True), x.new_tensor(1e-6))
    ),
    "by a norm with a new axis": lambda x: x / torch.linalg.norm(x, dim=-1)[:, None],
    "by a norm in single precision": lambda x: x / x.float().norm(dim=-1, keepdim=True).double(),
    "in place": lambda x: x.clone().div_(x.norm(dim=-1, keepdim=True)),
    "by PyTorch's function": lambda x: functional.normalize(x, dim=-1),
    "times a root that is named": lambda x: torch.mul(input=x, other=mean_square(x).rsqrt()),
}
ACTIVATIONS = {
    "GELU": lambda x: x * 0.5 * (1.0 + torch.erf(x / math.sqrt(2.0))),
    "GELU by a distribution": lambda x: x * torch.distributions.Normal(0, 1).cdf(x),
    "GELU by tanh": lambda x: (
        0.5 * x * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * torch.pow(x, 3.0))))
    ),
    "GELU by tanh of products": lambda x: 0.5 * x * (1.0 + torch.tanh(x * 0.7978845608 * (1.0 + 0.044715 * x * x))),
    "GELU by a sigmoid": lambda x: x * torch.sigmoid(1.702 * x),
    "SiLU": lambda x: x.sigmoid() * x,
    "SiLU by the complement": lambda x: x * (1 - torch.sigmoid(-x)),
    "SiLU in place": lambda x: x.clone().mul_(torch.sigmoid(x)),
    "Swish": lambda x: x * torch.sigmoid(WEIGHT * x),
    "hard Swish": lambda x: x * functional.relu6(x + 3) / 6,
    "hard Swish by a sigmoid": lambda x: x * functional.hardsigmoid(x),
    "Mish": lambda x: x * torch.tanh(functional.softplus(x)),
    "Mish by a logarithm": lambda x: x * torch.tanh(torch.log1p(torch.exp(x))),
}


@pytest.mark.parametrize("part", [*NORMALISATIONS.values(), *ACTIVATIONS.values()], ids=[*NORMALISATIONS, *ACTIVATIONS])
@pytest.mark.parametrize("before", [nn.Identity(), nn.Linear(5, 5).double()], ids=["input", "inside"])
def test_what_is_written_out_is_linear_at_its_point(part, before):
    """Normalisations and activations without biases: <gradient, x> = f(x), which their own gradients are far from."""
    hidden = before(torch.randn(3, 5, dtype=torch.float64)).detach().requires_grad_()
    output = LibraGrad(part)(hidden)
    torch.testing.assert_close(output, part(hidden), rtol=0, atol=0)
    (found,) = torch.autograd.grad(output[:, 2].sum(), hidden)
    torch.testing.assert_close((found * hidden).sum(1), output[:, 2], rtol=1e-6, atol=1e-12)
    (plain,) = torch.autograd.grad(part(hidden)[:, 2].sum(), hidden)
    assert not torch.allclose((plain * hidden).sum(1), output[:, 2], rtol=1e-3)
    # The same where the values before it depend on more than the input.
    x = torch.randn(3, 5, dtype=torch.float64)
    _, delta = FullGrad(LibraGrad(lambda x: part(before(x)))).attribute(x, target=2, return_convergence_delta=True)
    assert delta.abs().max() < 1e-12


def gated_linear_unit(x):
    values, gates = torch.cat([x, x.flip(-1)], -1).chunk(2, -1)
    return values * torch.sigmoid(gates)


def gate_of_what_was_made_long_before(x):
    other = x.flip(-1)
    for _ in range(40):
        other = other * 1.01
    return x * torch.sigmoid(other * x)


KEPT = {
    "gate of more than the value, far back": gate_of_what_was_made_long_before,
    "gated linear unit": gated_linear_unit,
    "gate of a weight by the value": lambda x: (WEIGHT / x) * torch.sigmoid(x),
    "by another power": lambda x: x / mean_square(x) ** 0.25,
    "times another power": lambda x: x * mean_square(x) ** -1.0,
    "by a weight by a root": lambda x: x / (WEIGHT / mean_square(x).sqrt()),
    "weight times one by a root": lambda x: WEIGHT * (1 / mean_square(x).sqrt()),
    "square": lambda x: x * x,
    "gated perceptron": lambda x: (x @ (x.new_ones(5, 5) + torch.eye(5, dtype=x.dtype))) * torch.sigmoid(x),
    "squeeze and excitation": lambda x: x * torch.sigmoid(x.mean(-1, keepdim=True)),
    "two gates": lambda x: x.tanh() * x.sigmoid(),
    "gate of the reciprocal": lambda x: (1 / x) * torch.sigmoid(x),
    "root": lambda x: x.abs().sqrt(),
    "distance": lambda x: 1 / (1 + x.norm(dim=-1, keepdim=True)) + 0 * x,
    "weight by a root": lambda x: WEIGHT / mean_square(x).sqrt(),
    "root by a value": lambda x: x.abs().sqrt() / x,
    "sum of absolute values": lambda x: x / x.norm(p=1, dim=-1, keepdim=True),
    "normalised sum of absolute values": lambda x: functional.normalize(x, p=1),
    "softmax of two dimensions": lambda x: x.exp() / x.exp().sum(-1, keepdim=True),
}


def shifted_between(x):
    hidden = x + 0
    gate = torch.sigmoid(hidden)
    return hidden.add_(1).mul_(gate)


def overwritten_view(x):
    buffer = x.new_zeros(3, 7)
    buffer[:, 1:6] = 1 + torch.erf(x)
    gate = buffer[:, 1:6]
    return gate.mul_(x)


IN_PLACE = {
    "gate": (lambda x: (1 + torch.erf(x)).mul_(x), lambda x: (1 + torch.erf(x)) * x),
    "gate that is halved": (lambda x: torch.erf(x).add_(1).mul_(x).div_(2), lambda x: (1 + torch.erf(x)) * x / 2),
    "gate by a scaled value": (lambda x: torch.erf(x).add_(1).mul_(0.5 * x), lambda x: (1 + torch.erf(x)) * (0.5 * x)),
    "gate with a name": (lambda x: (1 + torch.erf(x)).multiply_(other=x), lambda x: (1 + torch.erf(x)) * x),
    "gate by a clamp": (lambda x: (x + 3).clamp_(0, 6).mul_(x).div_(6), lambda x: (x + 3).clamp(0, 6) * x / 6),
    "gate whose value autograd keeps": (lambda x: torch.sigmoid(x).mul_(x), lambda x: torch.sigmoid(x) * x),
    "gate of an activation": (
        lambda x: x * torch.tanh((1 + torch.erf(x)).mul_(x)),
        lambda x: x * torch.tanh((1 + torch.erf(x)) * x),
    ),
    "value": (lambda x: (x + 0).mul_(torch.sigmoid(x)), lambda x: (x + 0) * torch.sigmoid(x)),
    "value by its own gate": (lambda x: (y := x + 0).mul_(y.sigmoid()), lambda x: (y := x + 0) * y.sigmoid()),
    "root": (lambda x: x * mean_square(x).sqrt().reciprocal_(), lambda x: x * mean_square(x).sqrt().reciprocal()),
    "reciprocal root": (lambda x: x * mean_square(x).rsqrt_(), lambda x: x * mean_square(x).rsqrt()),
    "reciprocal root by a function": (lambda x: x * torch.rsqrt_(mean_square(x)), lambda x: x * mean_square(x).rsqrt()),
    "reciprocal root in a view": (
        lambda x: x * x.square().mean(-1)[:, None].rsqrt_(),
        lambda x: x * x.square().mean(-1)[:, None].rsqrt(),
    ),
    "inverse root": (lambda x: (1 / x[:, :1].abs().sqrt()).mul_(x[:, :1]), lambda x: x[:, :1] / x[:, :1].abs().sqrt()),
    "deviation": (
        lambda x: (y := x - x.mean(-1, keepdim=True)).div_(y.std(-1, keepdim=True)),
        lambda x: (y := x - x.mean(-1, keepdim=True)) / y.std(-1, keepdim=True),
    ),
    # These are none, neither way.
    "gate of another value": (lambda x: torch.erf(x.flip(-1)).mul_(x), lambda x: torch.erf(x.flip(-1)) * x),
    "gate of the value before": (shifted_between, lambda x: (x + 1) * torch.sigmoid(x)),
    "view of a buffer": (overwritten_view, lambda x: (x.new_zeros(3, 5) + (1 + torch.erf(x))).flip(-1).flip(-1) * x),
    "sum": (lambda x: torch.erf(x).add_(x), lambda x: torch.erf(x) + x),
    "shares": (
        lambda x: (y := x.square() + 1).div_(y.sum(-1, keepdim=True)),
        lambda x: (y := x.square() + 1) / y.sum(-1, keepdim=True),
    ),
}


@pytest.mark.parametrize(("in_place", "out_of_place"), IN_PLACE.values(), ids=IN_PLACE)
@pytest.mark.parametrize("before", [nn.Identity(), nn.Linear(5, 5).double()], ids=["input", "inside"])
def test_a_formula_has_one_balanced_gradient_in_place_and_out_of_place(in_place, out_of_place, before):
    x = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    found, expected = (LibraGrad(lambda x, f=formula: f(before(x)))(x) for formula in (in_place, out_of_place))
    torch.testing.assert_close(found, out_of_place(before(x)))
    weights = torch.randn(found.shape, dtype=torch.float64)
    gradients = [torch.autograd.grad((weights * output).sum(), x)[0] for output in (found, expected)]
    torch.testing.assert_close(*gradients)
    _, delta = FullGrad(LibraGrad(lambda x: in_place(before(x)))).attribute(
        x.detach(), target=0, return_convergence_delta=True
    )
    assert delta.abs().max() < 1e-12


def test_what_a_product_in_place_overwrites_is_what_the_model_goes_on_with():
    def overwritten(x):
        gate = 1 + torch.erf(x)
        gate.mul_(x)
        return gate

    x = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    (found,) = torch.autograd.grad(LibraGrad(overwritten)(x).sum(), x)
    torch.testing.assert_close(found, 1 + torch.erf(x.detach()))


@pytest.mark.parametrize("overwrite", [torch.Tensor.rsqrt_, lambda x: x.view(-1).rsqrt_()], ids=["itself", "view"])
def test_an_input_that_is_overwritten_is_refused_as_autograd_does_and_keeps_asking_for_its_gradient(overwrite):
    x = torch.rand(3, 5, requires_grad=True)
    for model in (overwrite, LibraGrad(overwrite)):
        with pytest.raises(RuntimeError, match="leaf Variable that requires grad"):
            model(x)
        assert x.requires_grad


@pytest.mark.parametrize("function", KEPT.values(), ids=KEPT)
def test_everything_else_keeps_its_gradient(function):
    x = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(3, 5, dtype=torch.float64)
    (found,) = torch.autograd.grad((weights * LibraGrad(function)(x)).sum(), x)
    (expected,) = torch.autograd.grad((weights * function(x)).sum(), x)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_a_frozen_model_has_the_gradient_of_one_that_is_not():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.slope = nn.Linear(5, 5), nn.Parameter(torch.randn(5))

        def forward(self, x):
            hidden = self.linear(x)
            hidden = hidden * torch.sigmoid(self.slope * hidden)
            return hidden * ((1 + self.slope) / hidden.std(-1, keepdim=True))

    model, x = Block().double(), torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    (found,) = torch.autograd.grad(LibraGrad(model)(x)[:, 1].sum(), x)
    (frozen,) = torch.autograd.grad(LibraGrad(model.requires_grad_(False))(x)[:, 1].sum(), x)
    assert torch.equal(found, frozen)


@pytest.mark.parametrize(
    "softmax",
    [lambda x: x.softmax(2), lambda x: torch.softmax(x, dim=2), lambda x: functional.softmax(x, 2), nn.Softmax(2)],
    ids=["method", "function", "functional", "module"],
)
def test_gradient_of_attention_goes_through_the_values_alone(softmax):
    model = ExplicitAttention(softmax).double()
    tokens = torch.randn(2, 4, 6, dtype=torch.float64, requires_grad=True)
    (found,) = torch.autograd.grad(LibraGrad(model)(tokens)[:, 1].sum(), tokens)
    weights = (tokens @ tokens.transpose(1, 2)).softmax(2).detach()
    expected = weights.mean(1)[:, :, None] * model.values.weight[1]
    torch.testing.assert_close(found, expected.detach())


@pytest.mark.parametrize("need_weights", [False, True])
def test_multi_head_attention_of_pytorch(need_weights):
    attention = nn.MultiheadAttention(6, 2, batch_first=True).double().eval()
    tokens = torch.randn(2, 4, 6, dtype=torch.float64, requires_grad=True)

    def attend(values):
        return attention(values, values, values, need_weights=need_weights)[0]

    def with_constant_weights(values):
        return attention(tokens.detach(), tokens.detach(), values, need_weights=need_weights)[0]

    torch.testing.assert_close(LibraGrad(attend)(tokens), attend(tokens))
    (found,) = torch.autograd.grad(LibraGrad(attend)(tokens)[:, :, 1].sum(), tokens)
    (expected,) = torch.autograd.grad(with_constant_weights(tokens)[:, :, 1].sum(), tokens)
    torch.testing.assert_close(found, expected)


def test_probabilities_keep_their_gradient():
    logits = torch.randn(2, 5, requires_grad=True)
    (found,) = torch.autograd.grad(LibraGrad(lambda x: x.softmax(1))(logits)[:, 0].sum(), logits)
    (expected,) = torch.autograd.grad(logits.softmax(1)[:, 0].sum(), logits)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("operation", [functional.silu, functional.hardswish, functional.mish])
@pytest.mark.parametrize("in_place", [((True,), {}), ((), {"inplace": True})], ids=["position", "name"])
def test_an_activation_in_place_overwrites_its_argument(operation, in_place):
    def model(x):
        hidden = x.clone()
        operation(hidden, *in_place[0], **in_place[1])
        return hidden

    x = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    output = LibraGrad(model)(x)
    torch.testing.assert_close(output, operation(x))
    (found,) = torch.autograd.grad(output.sum(), x)
    torch.testing.assert_close(found, (operation(x) / x).detach())


def test_activations_in_place_and_half_precision():
    model = nn.Sequential(nn.Linear(6, 6), nn.SiLU(inplace=True), nn.LayerNorm(6), nn.Linear(6, 2))
    x = torch.randn(3, 6)
    torch.testing.assert_close(LibraGrad(model)(x), model(x))
    found = InputXGradient(LibraGrad(model)).attribute(x.requires_grad_(), target=0)
    assert found.abs().sum() > 0
    half = copy.deepcopy(model).bfloat16()
    output = LibraGrad(half)(x.detach().bfloat16())
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output, half(x.detach().bfloat16()), rtol=0.05, atol=0.05)


@pytest.mark.filterwarnings("error")
def test_a_compiled_wrapper_has_the_balanced_gradient_of_what_is_written_out():
    linear, x = nn.Linear(5, 5).double(), torch.randn(3, 5, dtype=torch.float64, requires_grad=True)

    def model(x):
        return ACTIVATIONS["GELU"](NORMALISATIONS["by a deviation"](linear(x)))

    balanced = LibraGrad(model)
    (expected,) = torch.autograd.grad(balanced(x)[:, 1].sum(), x)
    (found,) = torch.autograd.grad(torch.compile(balanced, backend="eager")(x)[:, 1].sum(), x)
    torch.testing.assert_close(found, expected)
