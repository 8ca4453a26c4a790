"""The decomposition is exact on every architecture, operation by operation."""

from __future__ import annotations

import gc
import math
import weakref

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from captum_ext._errors import InvalidArgumentError
from captum_ext.attr.full_gradient._trace.bias_term import Consumer
from captum_ext.attr.full_gradient._trace.determinism import NotDeterministicError
from captum_ext.attr.full_gradient._trace.operation_trace import OperationTrace
from captum_ext.attr.full_gradient.decompose import decompose
from captum_ext.attr.full_gradient.full_grad import FullGrad
from tests.captum_ext.exactness import assert_exact, per_example
from tests.captum_ext.randomised_models import REPRESENTATIVES, randomise, torchvision_images, torchvision_model

MAPS = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
SEQUENCES = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


# ---- whole architectures ----


@pytest.mark.parametrize("name", REPRESENTATIVES)
def test_one_torchvision_model_of_each_family(name):
    assert_exact(torchvision_model(name), torchvision_images(name), target=3)


@pytest.mark.slow
@pytest.mark.parametrize("name", torchvision.models.list_models(module=torchvision.models))
def test_every_torchvision_classification_model(name):
    assert_exact(torchvision_model(name), torchvision_images(name), target=3)


TIMM = ["levit_128s", "efficientformer_l1", "xcit_nano_12_p16_224"]
MORE_TIMM = [
    *("deit_tiny_patch16_224", "mixer_s32_224", "pvt_v2_b0", "mobilevit_xxs", "edgenext_xx_small"),
    *("poolformer_s12", "nfnet_f0", "resnest14d", "halonet26t", "botnet26t_256", "lambda_resnet26t"),
    *("coat_tiny", "crossvit_tiny_240", "cait_xxs24_224", "gcvit_xxtiny", "hrnet_w18_small", "volo_d1_224"),
    *("twins_svt_small", "visformer_tiny", "mvitv2_tiny", "fastvit_t8", "repvit_m0_9", "tiny_vit_5m_224"),
    *("hiera_tiny_224", "eva02_tiny_patch14_224", "swinv2_tiny_window8_256", "convnextv2_atto", "davit_tiny"),
    *("focalnet_tiny_srf", "ghostnet_050", "dpn48b", "maxvit_rmlp_pico_rw_256", "gmlp_s16_224"),
    *("inception_next_atto", "sequencer2d_s", "mambaout_femto", "resmlp_12_224", "starnet_s1"),
]


@pytest.mark.parametrize("name", [*TIMM, *(pytest.param(name, marks=pytest.mark.slow) for name in MORE_TIMM)])
def test_timm_models(name):
    timm = pytest.importorskip("timm")
    model = randomise(timm.create_model(name, pretrained=False, num_classes=10))
    assert_exact(model, torch.randn(1, *model.default_cfg["input_size"], dtype=torch.float64), target=3)


SMALL = {"num_hidden_layers": 2, "num_attention_heads": 3, "hidden_size": 24, "intermediate_size": 48}


def bert():
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(**SMALL, vocab_size=50)
    model = randomise(transformers.BertModel(config))
    mask = torch.tensor([[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]])
    return lambda x: model(inputs_embeds=x, attention_mask=mask).pooler_output


def gpt2():
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(n_embd=24, n_layer=2, n_head=3, vocab_size=50, n_positions=8)
    model = randomise(transformers.GPT2LMHeadModel(config))
    return lambda x: model(inputs_embeds=x).logits[:, -1]


def vit():
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(**SMALL, image_size=16, patch_size=4, num_labels=5)
    model = randomise(transformers.ViTForImageClassification(config))
    return lambda x: model(x).logits


@pytest.mark.parametrize(("make", "shape"), [(bert, (2, 5, 24)), (gpt2, (2, 5, 24)), (vit, (2, 3, 16, 16))])
def test_hugging_face_encoders(make, shape):
    assert_exact(make(), torch.randn(shape, dtype=torch.float64), target=3)


def lstm():
    network = randomise(nn.LSTM(6, 7, num_layers=2, bidirectional=True, batch_first=True))

    def forward(x):
        output, (hidden, cell) = network(x)
        return output.sum((1, 2)) + hidden.square().sum((0, 2)) + cell.sum((0, 2))

    return forward


LENGTHS = torch.tensor([5, 3])


def gru_on_packed_sequences():
    network = randomise(nn.GRU(6, 4))

    def forward(x, lengths=LENGTHS):
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True)
        return nn.utils.rnn.pad_packed_sequence(network(packed)[0], batch_first=True)[0].sum((1, 2))

    return forward


def transformer_encoder():
    layer = nn.TransformerEncoderLayer(6, 2, 12, activation="gelu", batch_first=True, norm_first=True)
    network = randomise(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False))
    mask = nn.Transformer.generate_square_subsequent_mask(5, dtype=torch.float64)
    return lambda x: network(x, mask=mask, is_causal=True).square().sum((1, 2))


def sequences_before_batches():
    network = randomise(nn.TransformerEncoder(nn.TransformerEncoderLayer(6, 2, 12), 1, enable_nested_tensor=False))
    return lambda x: network(x.transpose(0, 1))[0].square().sum(1)


def multihead_attention_with_weights():
    network = randomise(nn.MultiheadAttention(6, 3, batch_first=True))
    return lambda x: sum(per_example(part.exp()) for part in network(x, x, x))


@pytest.mark.parametrize(
    "make",
    [lstm, transformer_encoder, sequences_before_batches, multihead_attention_with_weights],
)
def test_sequence_models(make):
    assert_exact(make(), SEQUENCES)


def test_packed_sequences_whose_examples_are_told_apart_one_by_one():
    assert_exact(gru_on_packed_sequences(), SEQUENCES, arguments=LENGTHS)


# ---- single operations and what Python can do with them ----

LINEAR = randomise(nn.Linear(6, 6))
DEFORMABLE = torchvision.ops.DeformConv2d(3, 4, 3, padding=1).double()
OFFSETS = nn.Conv2d(3, 18, 3, padding=1).double()
MADE_BEFORE = nn.Parameter(torch.randn(6, 6, dtype=torch.float64)) * 2


def put_into_constants(x):
    y = torch.ones_like(x)
    y[:, 0] = x[:, 1] * 2
    y[:, 1] = 5.0
    y = y * x
    y[:, 2] += x[:, 0]
    y[:, :1].mul_(3.0)
    y[..., 0].sigmoid_()
    return per_example(y.exp())


def put_into_views_of_constants(x):
    y = torch.full_like(x, 0.7)
    y[:, 0].copy_(x[:, 1])
    y[:, 2].mul_(x[:, 0])
    return per_example((y * (y + 1)).exp())


def write_through_views(x):
    y = x * 2
    first, second = y[:, 0], y[:, 1]
    kept = y.tanh()
    first.clamp_(-1, 1)
    second.add_(first)
    y.mul_(2).add_(x)
    second.mul_(x[:, 2])
    first.add_(1.5)
    return per_example(y * second.unsqueeze(1)) + per_example(kept) + per_example(first)


def overwrite_what_a_bias_needs(x):
    hidden = x * 2
    # PyTorch keeps the result of a sigmoid, not its argument, so that this may be overwritten.
    shares = hidden.sigmoid()
    hidden.zero_()
    doubled = x + 1
    doubled.add_(doubled)
    return per_example(shares.log() * (hidden + x) + doubled.div_(x.exp()))


def dynamic_convolution(x):
    rows = []
    for example in x:
        weight = example.mean((1, 2)).expand(5, -1)[:, :, None, None].tanh()
        rows.append(F.conv2d(example[None], weight, example.mean((1, 2)).repeat(2)[:5]).square().sum())
    return torch.stack(rows)


def arithmetic(x):
    ones = torch.ones(3, 1, 1, dtype=x.dtype)
    terms = [1 - x, 3 * x / 2, 2 / (x.abs() + 1), x / (x**2 + 1), x - 5, x * x * x, x % 2, -x, x + x]
    terms += [torch.add(x, ones, alpha=3), torch.add(ones, x, alpha=2), torch.sub(ones, x, alpha=2)]
    terms += [torch.rsub(x, 2, alpha=3), torch.rsub(ones, x, alpha=3), ones.sub(x)]
    return per_example(sum((i + 1) * term for i, term in enumerate(terms)))


def several_outputs(x):
    parts = [*x.split([1, 2], 1), *x.chunk(2, 2), *x.unbind(3), x.sort(1)[0], x.max(1)[0], *torch.var_mean(x, 1)]
    return sum(per_example((i + 1) * part.exp()) for i, part in enumerate(parts))


def constants_mixed_in(x):
    ones = torch.ones(2, 1, 8, 8, dtype=x.dtype)
    mixed = torch.cat([x, ones], 1).exp().sum((1, 2, 3)) + per_example(torch.maximum(x, ones / 3))
    mixed = mixed + per_example(torch.where(x > 0, x, 2.0) + torch.where(x > 0, 1, x) + x.clamp(-0.5, 0.7))
    return mixed + per_example(F.pad(x, (1, 1), value=2.0).exp() + F.pad(x, (1, 1)).exp())


def indices_and_einsum(x):
    scores = torch.einsum("nchw,ndhw->ncd", x[:, [0, 2]], x[:, torch.tensor([1, 2])])
    return per_example(scores) + per_example(x[..., ::2, None]) + torch.einsum("nchw,nchw,nchw->n", x, x, x)


def normalisations(x):
    normed = F.layer_norm(x, (8, 8)) + F.group_norm(x, 3) + F.instance_norm(x) + F.normalize(x)
    mean, variance = torch.full((3,), 0.5, dtype=x.dtype), torch.full((3,), 2.0, dtype=x.dtype)
    normed = (
        normed + F.batch_norm(x, mean, variance) + torch.batch_norm(x, mean, mean, mean, variance, False, 0.1, 1, False)
    )
    return per_example(normed.exp())


def fourier(x):
    spectrum = torch.fft.rfft2(x)
    filtered = torch.fft.irfft2(spectrum * torch.complex(MAPS[0, 0, :, :5], MAPS[0, 1, :, :5]) + 1)
    # Squared, because PyTorch 2.6 cannot pass the expanded gradient of a plain sum back through irfft2.
    return per_example(filtered**2) + per_example(spectrum.abs()) + per_example((spectrum**2).real)


CONDITIONAL = {
    "layer, weight": lambda x, by: F.layer_norm(x, (8,), by[:8], torch.ones(8, dtype=x.dtype)),
    "layer, shift": lambda x, by: F.layer_norm(x, (8,), None, by[:8]),
    "group, weight": lambda x, by: F.group_norm(x, 3, by[:3]),
    # With a weight, because PyTorch 2.6 cannot pass a gradient back through a group norm with a shift alone.
    "group, shift": lambda x, by: F.group_norm(x, 3, torch.ones(3, dtype=x.dtype), by[:3]),
    "batch": lambda x, by: F.batch_norm(x, by[:3].detach(), by[3:6].detach().exp(), by[:3], by[3:6]),
    "convolution": lambda x, by: F.conv2d(x, MAPS, by[:2]),
    "linear": lambda x, by: F.linear(x, MAPS[0, 0], by[:8]),
    "slope": lambda x, by: F.prelu(x, by[:3]),
    "places": lambda x, by: F.grid_sample(
        x, F.affine_grid(0.3 * by[:6].reshape(1, 2, 3).tanh(), x.shape, align_corners=False), align_corners=False
    ),
}


@pytest.mark.parametrize("name", CONDITIONAL)
def test_layers_whose_weights_depend_on_the_input(name):
    assert_exact(lambda x: per_example(CONDITIONAL[name](x, (x + 1).exp()[0, 0, 0]).tanh()), MAPS[:1])


TWICE = torch.tensor([0, 0, 2])


def write(target, index, values):
    target[index] = values
    return target


def unpool_overlapping_windows(x):
    features = F.pad(x * 3, (1, 1, 1, 1))
    pooled, places = F.max_pool2d(features, 3, 2, return_indices=True)
    return F.max_unpool2d(pooled, places, 3, 2, output_size=features.shape[2:]).tanh()


NOT_TRANSPOSED = {
    "unpooling of overlapping windows": unpool_overlapping_windows,
    "index": lambda x: write(x.sin(), (slice(None), slice(None), TWICE), x[:, :, 3:6].exp()).tanh(),
    "index of a view": lambda x: write(x.sin()[:, 0], (slice(None), [1, 1]), x[:, 1, 3:5].exp()).tanh(),
    "index of a constant": lambda x: write(torch.zeros_like(x), (slice(None), 1, TWICE), x[:, 1, :3].exp()).tanh(),
    "index_put": lambda x: x.sin().index_put((torch.tensor([[0], [1]]), TWICE), x[:, :1].exp()).tanh(),
    "index_copy": lambda x: x.sin().index_copy(2, TWICE, x[:, :, 3:6].exp()).tanh(),
    "scatter": lambda x: x.sin().scatter(2, TWICE[:, None].expand(2, 3, 3, 8), x[:, :, 3:6].exp()).tanh(),
    "cholesky": lambda x: torch.linalg.cholesky(x[:, :, :3, :3] / 9 + torch.eye(3)).tanh(),
    "eigh": lambda x: torch.linalg.eigh(x[:, :, :3, :3])[1].tanh().square(),
}


@pytest.mark.parametrize("name", NOT_TRANSPOSED)
def test_operations_whose_backward_pass_is_not_their_transposed_derivative(name):
    assert_exact(lambda x: per_example(NOT_TRANSPOSED[name](x)), MAPS)


EDGES = torch.tensor([[0, 0, 1, 2, 3, 4], [1, 2, 2, 3, 4, 0]])
GRAPH = torch.sparse_coo_tensor(EDGES, torch.arange(1.0, 7.0, dtype=torch.float64), (5, 5), check_invariants=True)
GRAPH = GRAPH.coalesce()


def attention_along_edges(nodes):
    products = (nodes[EDGES[0]] * nodes[EDGES[1]]).sum(1)
    shares = torch.sparse.softmax(torch.sparse_coo_tensor(EDGES, products, (5, 5)), 1)
    return torch.sparse.mm(shares, nodes.tanh())


SPARSE = {
    "graph": lambda nodes: torch.sparse.mm(GRAPH, nodes.tanh()),
    "graph in rows": lambda nodes: torch.sparse.mm(GRAPH.to_sparse_csr(), nodes.tanh()),
    "graph and bias": lambda nodes: torch.sparse.addmm(torch.ones(5, 6, dtype=torch.float64), GRAPH, nodes.tanh()),
    "sparse constant added": lambda nodes: torch.add(nodes.tanh()[:, :5], GRAPH),
    "attention along edges": attention_along_edges,
    "activation made sparse": lambda nodes: torch.sparse.mm(nodes.relu().to_sparse(), MAPS[0, 0, :6]),
    "values of a sparse activation": lambda nodes: (nodes + 1).to_sparse().coalesce().values().tanh(),
    "nested": lambda nodes: torch.nested.to_padded_tensor(
        torch.nested.as_nested_tensor([nodes[:2].exp(), nodes[2:]]), 0.0
    ),
}


@pytest.mark.filterwarnings("ignore:.*(Sparse CSR|nested tensors)")
@pytest.mark.parametrize("name", SPARSE)
def test_sparse_and_nested_tensors(name):
    assert_exact(lambda x: per_example(SPARSE[name](x[0] + 1)[None].sin()), SEQUENCES[:1])


COMPLEX_FUNCTIONS = [torch.tanh, torch.sigmoid, torch.exp, torch.sqrt, torch.reciprocal, torch.abs]


@pytest.mark.parametrize("function", COMPLEX_FUNCTIONS, ids=lambda function: function.__name__)
def test_functions_of_complex_numbers(function):
    def forward(x):
        values = function(torch.complex(x[:, 0], x[:, 1]) * torch.complex(x[:, 2], torch.ones_like(x[:, 2])))
        return per_example(torch.view_as_real(values).sin() if values.is_complex() else values.sin())

    assert_exact(forward, MAPS)


def attention(x, **options):
    x = x.unsqueeze(1)
    return per_example(F.scaled_dot_product_attention(x, 2 * x, x.sin(), **options))


def masked_attention(x):
    scores = x @ x.transpose(1, 2)
    added = scores + torch.full((5, 5), -math.inf, dtype=x.dtype).triu(1)
    filled = scores.masked_fill(torch.ones(5, 5).triu(1).bool(), -math.inf)
    lowest = scores.masked_fill_(torch.ones(5, 5).triu(2).bool(), torch.finfo(x.dtype).min)
    return per_example((added.softmax(-1) + filled.softmax(-1) + lowest.float().softmax(-1).double()) @ x)


@pytest.mark.parametrize(
    "function",
    [
        *(put_into_constants, put_into_views_of_constants, write_through_views, overwrite_what_a_bias_needs),
        *(dynamic_convolution, arithmetic, several_outputs, constants_mixed_in, indices_and_einsum, normalisations),
        fourier,
    ],
)
def test_operations_on_maps(function):
    assert_exact(function, MAPS)


@pytest.mark.parametrize("options", [{}, {"is_causal": True}, {"attn_mask": torch.ones(5, 5).tril().bool()}])
def test_fused_attention(options):
    assert_exact(lambda x: attention(x, **options), SEQUENCES)


def test_fused_attention_with_a_mask_that_depends_on_the_input():
    assert_exact(lambda x: attention(x, attn_mask=(x @ x.mT).tanh().unsqueeze(1)), SEQUENCES)


def test_masks_of_infinities_give_numbers():
    # One of the three goes through float32, as in transformers, and rounds there.
    assert_exact(masked_attention, SEQUENCES, tolerance=1e-6)


@pytest.mark.parametrize("squash", [torch.exp, torch.sigmoid, F.softplus], ids=lambda function: function.__name__)
def test_infinities_before_any_operation_give_numbers(squash):
    assert_exact(lambda x: per_example(squash(x.masked_fill(x > 0, -torch.inf))), SEQUENCES)


def test_layers_that_are_shared_and_reused():
    assert_exact(lambda x: per_example(LINEAR(F.gelu(LINEAR(x)) + LINEAR(x))), SEQUENCES)


def test_modules_that_work_in_place():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.SiLU(True), nn.ReLU(True), nn.Conv2d(4, 4, 1), nn.Hardswish(True))
    assert_exact(nn.Sequential(randomise(model), nn.Hardtanh(inplace=True), nn.Flatten()), MAPS, target=7)


def test_operation_without_forward_mode():
    found = assert_exact(lambda x: per_example(F.gelu(DEFORMABLE(x, OFFSETS(x).tanh()))), MAPS)
    assert "deform_conv2d" in [contribution.name for contribution in found.contributions]


def test_graph_that_was_made_before_the_forward_pass():
    assert_exact(lambda x: per_example((x @ MADE_BEFORE + MADE_BEFORE[0]).tanh()), SEQUENCES)


def test_parametrised_weights():
    first = nn.utils.parametrizations.weight_norm(nn.Linear(6, 6).double())
    second = nn.utils.parametrizations.spectral_norm(nn.Linear(6, 6).double()).eval()
    assert_exact(lambda x: per_example(second(first(x).relu())), SEQUENCES)


def test_checkpointed_part():
    part = torch.utils.checkpoint.checkpoint
    assert_exact(lambda x: part(lambda y: per_example(LINEAR(y).tanh()), x, use_reentrant=False), SEQUENCES)


def test_dictionary_through_a_wrapper_and_several_inputs():
    def model(a, b):
        return {"scores": (per_example(a.exp()) * per_example(b) + 3,)}

    assert_exact(lambda a, b: model(a, b)["scores"][0], (MAPS, SEQUENCES))


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = LINEAR

    def forward(self, x):
        return torch.sigmoid(self.linear(x)) * 2 + x


class HiddenProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return a * b.exp(), a.sin()

    @staticmethod
    def backward(ctx, first, second):
        a, b = ctx.saved_tensors
        return first * b.exp() + second * a.cos(), first * a * b.exp()


def hidden_function_whose_input_is_dropped(x):
    x = x * 2 + 1
    x = HiddenProduct.apply(x, x)[0]
    return per_example(x.tanh().exp())


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_scripted_and_traced_modules_are_one_operation():
    scripted, traced = torch.jit.script(Gated()), torch.jit.trace(Gated(), SEQUENCES)
    assert_exact(lambda x: per_example(scripted(scripted(x).tanh())), SEQUENCES)
    assert_exact(lambda x: per_example(traced(x)), SEQUENCES)
    plain = torch.jit.script(nn.Sequential(nn.Linear(6, 6), nn.GELU(), nn.Linear(6, 2)).double().eval())
    assert_exact(plain, SEQUENCES[0], 1)
    assert_exact(torch.jit.freeze(plain), SEQUENCES[0], 1)


def test_compiled_modules_are_seen_through():
    compiled = torch.compile(Gated(), backend="aot_eager")
    found = assert_exact(lambda x: per_example(compiled(x)), SEQUENCES)
    assert [contribution.name for contribution in found.contributions] == ["linear", "sigmoid"]


def test_custom_autograd_functions_are_one_operation_for_each_output():
    def forward(x):
        first, second = HiddenProduct.apply(x * 2, (x + 1).cos())
        return per_example(first) + per_example(second.relu())

    assert_exact(forward, MAPS)
    assert_exact(hidden_function_whose_input_is_dropped, MAPS)


def test_function_transforms_inside_of_the_model_are_one_operation():
    def forward(x):
        slopes = torch.func.vmap(torch.func.grad(lambda row: row.sin().sum()))(x * 2)
        return per_example(slopes.exp()) + torch.func.vmap(lambda row: (row**3).sum())(x + 1)

    assert_exact(forward, MAPS)


# ---- not only in sum ----


def biased_layers(model):
    kinds = (nn.Conv2d, nn.Linear, nn.BatchNorm2d)
    return {path: m for path, m in model.named_modules() if isinstance(m, kinds) and m.bias is not None}


@pytest.mark.parametrize("name", ["squeezenet1_1", "resnet18", "swin_t"])
def test_each_layer_contributes_its_bias_times_the_gradient_of_its_bias(name):
    model, x = torchvision_model(name), torchvision_images(name)
    found = {c.module: c.sum() for c in decompose(model, x, 3, maps="sum").contributions if c.name in LAYER_NAMES}
    layers = {path: layer for path, layer in biased_layers(model).items() if path in found}
    gradients = torch.autograd.grad(model(x)[0, 3], [layer.bias for layer in layers.values()])
    assert len(layers) >= 11
    for (path, layer), gradient in zip(layers.items(), gradients, strict=True):
        bias = layer.bias
        if isinstance(layer, nn.BatchNorm2d):
            bias = bias - layer.weight * layer.running_mean / (layer.running_var + layer.eps).sqrt()
        expected = (bias * gradient).sum()
        assert abs(found[path].item() - expected.item()) <= 1e-10 * max(1.0, abs(expected.item())), path


LAYER_NAMES = ("conv2d", "linear", "batch_norm")


def test_the_implicit_bias_of_an_activation_is_what_its_tangent_leaves_over():
    x = torch.randn(2, 4, dtype=torch.float64)
    (contribution,) = decompose(lambda x: torch.sigmoid(x).sum(1), x, maps="full").contributions
    s = torch.sigmoid(x)
    torch.testing.assert_close(contribution.values, s - s * (1 - s) * x, rtol=0, atol=1e-12)


def test_full_maps_sum_to_spatial_maps_and_these_to_sums():
    model, x = torchvision_model("resnet18"), torchvision_images("resnet18", 2)
    full, spatial, sums = (decompose(model, x, 3, maps=maps).contributions for maps in ("full", "spatial", "sum"))
    assert full[0].values.shape == (2, 64, 32, 32)
    assert spatial[0].values.shape == (2, 32, 32)
    assert sums[0].values.shape == (2,)
    for a, b, c in zip(full, spatial, sums, strict=True):
        assert (a.name, a.module) == (b.name, b.module) == (c.name, c.module)
        torch.testing.assert_close(a.sum(), c.values)
        torch.testing.assert_close(b.sum(), c.values)


def test_maps_without_a_place_on_an_image_are_summed_over_their_last_axis():
    layer, weights = nn.Linear(6, 4).double(), torch.randn(5, 4, dtype=torch.float64)
    found = decompose(lambda x: (torch.sigmoid(layer(x)) * weights).sum((1, 2)), SEQUENCES)
    leaf = layer(SEQUENCES).detach().requires_grad_()
    s = torch.sigmoid(leaf.detach())
    of_linear = (weights * s * (1 - s) * layer.bias).sum(-1)
    of_sigmoid = (weights * (s - s * (1 - s) * leaf)).sum(-1)
    assert [part.name for part in found.contributions] == ["linear", "sigmoid"]
    for part, expected in zip(found.contributions, (of_linear, of_sigmoid), strict=True):
        torch.testing.assert_close(part.values, expected.detach(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("maps", ["sum", "spatial", "full"])
def test_outputs_of_several_sizes_of_one_operation_are_one_contribution(maps):
    # A power of the whole and of a part, by one function with a derivative of its own.
    def both(x):
        return TwoSizes.apply(x)

    found = decompose(lambda x: sum(part.flatten(1).sum(1) for part in both(x)), SEQUENCES, maps=maps)
    # x^2 has the implicit bias -x^2.
    expected = -(SEQUENCES**2).sum((1, 2)) - (SEQUENCES[:, 0] ** 2).sum(1)
    torch.testing.assert_close(sum(part.sum() for part in found.contributions), expected)


class TwoSizes(torch.autograd.Function):
    @staticmethod
    def forward(context, x):
        context.save_for_backward(x)
        return x**2, x[:, 0] ** 2

    @staticmethod
    def backward(context, whole, part):
        (x,) = context.saved_tensors
        gradient = whole * 2 * x
        gradient[:, 0] += part * 2 * x[:, 0]
        return gradient


# ---- batches ----


@pytest.mark.parametrize("name", ["resnet18", "swin_t"])
def test_a_batch_gives_what_its_examples_give_alone(name):
    model, x = torchvision_model(name), torchvision_images(name, 3)
    batch = decompose(model, x, [1, 2, 3], maps="sum")
    for i in range(3):
        alone = decompose(model, x[i : i + 1], i + 1, maps="sum")
        torch.testing.assert_close(batch.output[i], alone.output[0])
        for together, single in zip(batch.contributions, alone.contributions, strict=True):
            torch.testing.assert_close(together.values[i], single.values[0], rtol=1e-8, atol=1e-12)


def test_examples_are_told_apart_where_shapes_do_not_tell():
    # As many steps as examples, steps first: by its shape alone the first axis looks like the batch.
    steps = torch.randn(3, 3, 6, dtype=torch.float64)

    def forward(x):
        return LINEAR(x.transpose(0, 1)).tanh()[-1, :, 2]

    batch = assert_exact(forward, steps)
    for i in range(3):
        alone = decompose(forward, steps[i : i + 1], maps="sum")
        for together, single in zip(batch.contributions, alone.contributions, strict=True):
            torch.testing.assert_close(together.sum()[i], single.values[0])


def test_a_model_that_mixes_examples_is_refused():
    with pytest.raises(InvalidArgumentError, match="keep the examples"):
        decompose(lambda x: per_example((x - x.mean(0)).exp()), MAPS)


# ---- precision ----


@pytest.mark.parametrize("name", ["resnet18", "swin_t", "mobilenet_v3_small", "densenet121"])
def test_float32_is_exact_to_1e_4(name):
    model, x = torchvision_model(name).float(), torchvision_images(name).float()
    found = decompose(model, x, 3, maps="sum")
    assert (found.delta().abs() <= 1e-4 * found.output.abs().clamp(min=1)).all()


def test_bfloat16_works_and_tells_its_delta():
    model, x = torchvision_model("resnet18").bfloat16(), torchvision_images("resnet18").bfloat16()
    found = decompose(model, x, 3)
    assert found.output.dtype == torch.bfloat16
    assert 0 < found.delta().abs() < 0.25 * max(1, found.output.abs())


def test_autocast_is_repeated_for_single_operations():
    network = nn.TransformerEncoder(nn.TransformerEncoderLayer(6, 2, 12, batch_first=True), 1).eval()

    def forward(x):
        with torch.autocast("cpu", torch.bfloat16):
            return per_example(network(x).float().tanh())

    found = decompose(forward, SEQUENCES.float(), maps="sum")
    assert (found.delta().abs() < 0.1).all()


def test_autocast_is_repeated_where_arguments_have_several_types():
    layer, weight = nn.Linear(6, 6), torch.randn(6, 1)

    def forward(x):
        with torch.autocast("cpu", torch.bfloat16):
            of_input = layer(x).expand(6, 6) * weight.bfloat16()
            return F.linear(x, of_input).float().tanh().sum(1)  # of float32 and bfloat16

    found = decompose(forward, torch.randn(1, 6), maps="sum")
    assert [part.name for part in found.contributions] == ["linear", "linear", "tanh"]
    assert found.delta().abs() < 0.1


def test_batch_norm_before_a_transposition_is_differentiated_correctly():
    norm = randomise(nn.BatchNorm2d(4))

    def attention(x):
        tokens = norm(x).flatten(2).transpose(1, 2)
        return per_example((tokens @ tokens.transpose(1, 2)).tanh())

    assert_exact(attention, torch.randn(1, 4, 2, 3, dtype=torch.float64))


# ---- what has no decomposition, and what stays as it was ----


def training(layer):
    return nn.Sequential(nn.Conv2d(3, 4, 3), layer, nn.Flatten(), nn.LazyLinear(2)).double()


@pytest.mark.parametrize(
    "layer", [nn.BatchNorm2d(4), nn.Dropout(0.3), nn.Dropout2d(0.3), nn.InstanceNorm2d(4, 1e-5, 0.1, True, True)]
)
def test_training_mode_is_refused_by_name_and_changes_nothing(layer):
    model = training(layer).eval()
    model(MAPS)
    model.train()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    random_state = torch.get_rng_state()
    with pytest.raises(NotDeterministicError, match=r"module '1'.*eval"):
        decompose(model, MAPS, 1)
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random_state)


@pytest.mark.filterwarnings("ignore:.*torch.jit")
@pytest.mark.parametrize(
    "model",
    [
        nn.LSTM(6, 4, 2, dropout=0.5, batch_first=True),
        nn.MultiheadAttention(6, 2, dropout=0.5, batch_first=True),
        torch.jit.script(nn.Dropout()),
        nn.RReLU(),
    ],
)
def test_random_layers_are_refused_in_train_mode_and_taken_in_eval_mode(model):
    def forward(x):
        output = model(x, x, x) if isinstance(model, nn.MultiheadAttention) else model(x)
        return per_example((output[0] if isinstance(output, tuple) else output) ** 2)

    model.double().train()
    with pytest.raises(NotDeterministicError, match="eval"):
        decompose(forward, SEQUENCES)
    model.eval()
    assert_exact(forward, SEQUENCES)


def test_random_numbers_by_any_means_are_refused_and_the_generator_put_back():
    state = torch.get_rng_state()
    with pytest.raises(NotDeterministicError, match="random numbers"):
        decompose(lambda x: per_example(x * torch.rand(8)), MAPS)
    assert torch.equal(torch.get_rng_state(), state)


def test_batch_statistics_of_weights_are_constants():
    def standardised(x):
        weight = F.batch_norm(LINEAR.weight.unsqueeze(0), None, None, training=True)
        return per_example((x @ weight[0]).tanh())

    assert_exact(standardised, SEQUENCES)


def test_a_module_that_standardises_weights_is_a_constant_in_training_mode_too():
    standardise = nn.BatchNorm1d(6, affine=False, track_running_stats=False, dtype=torch.float64).train()
    assert_exact(lambda x: per_example((x @ standardise(LINEAR.weight).T).tanh()), SEQUENCES)


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_scripts_tell_normalisation_in_training_mode_and_take_dropout_of_nothing():
    script = torch.jit.script(nn.Sequential(nn.BatchNorm2d(3), nn.Tanh()).double())
    before = {name: value.clone() for name, value in script.state_dict().items()}
    model = nn.Sequential(nn.Identity(), script)
    with pytest.raises(NotDeterministicError, match=r"module '1\.0' runs normalisation in train mode"):
        decompose(lambda x: per_example(model(x)), MAPS)
    assert all(torch.equal(before[name], value) for name, value in script.state_dict().items())
    nothing = torch.jit.script(nn.Dropout(0.0)).train()
    assert_exact(lambda x: per_example(nothing(x).tanh()), MAPS)


def test_running_statistics_of_weights_are_not_updated_by_asking():
    mean, variance = torch.zeros(6).double(), torch.ones(6).double()

    def standardised(x):
        return per_example((x @ F.batch_norm(LINEAR.weight, mean, variance, training=True).T).tanh())

    with pytest.raises(NotDeterministicError, match="statistics of the batch"):
        decompose(standardised, SEQUENCES)
    assert not mean.any()
    assert torch.equal(variance, torch.ones(6).double())


def test_model_and_memory_are_as_before_also_after_an_error():
    model = randomise(nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU(), nn.Flatten(), nn.Linear(144, 2)))
    calls = []
    handle = model[0].register_forward_hook(lambda *_: calls.append(1))
    decompose(model, MAPS, 1)
    with pytest.raises(ZeroDivisionError):
        decompose(lambda x: model(x) / (1 // 0), MAPS, 1)
    assert len(calls) == 2
    assert list(model[0]._forward_hooks) == [handle.id]
    assert not torch.nn.modules.module._global_forward_hooks
    assert not torch.nn.modules.module._global_forward_pre_hooks
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert not model.training


def test_no_activation_outlives_the_call():
    kept = []

    def forward(x):
        hidden = F.gelu(x * 2)
        kept.append(weakref.ref(hidden.untyped_storage()))
        return per_example(hidden.softmax(1))

    gc.collect()
    gc.disable()  # what holds itself would wait for it, on a GPU too, where memory is not what it counts
    try:
        decompose(forward, MAPS)
        FullGrad(forward).attribute(MAPS, projection="backflow")
        assert [storage() for storage in kept] == [None, None]
        assert not [held for held in gc.get_objects() if isinstance(held, OperationTrace | Consumer)]
    finally:
        gc.enable()


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_works_where_gradients_are_off(context):
    with context():
        assert_exact(lambda x: per_example(F.gelu(LINEAR(x))), SEQUENCES.clone())


@pytest.mark.cuda
def test_cuda_gives_what_cpu_gives():
    model, x = torchvision_model("swin_t"), torchvision_images("swin_t")
    found = decompose(model.cuda(), x.cuda(), 3, maps="sum")
    assert found.output.is_cuda
    assert found.delta().abs().item() <= 1e-9


def test_examples_that_went_through_different_modules_have_no_common_terms():
    class Either(nn.Module):
        def __init__(self):
            super().__init__()
            self.positive, self.negative = nn.Linear(3, 3).double(), nn.Linear(3, 3).double()

        def forward(self, x):
            # Seven numbers are of neither of two examples, which are therefore taken one by one.
            x = torch.cat([x.flatten(), x.new_ones(1)]).exp()[:-1].log().reshape(x.shape)
            return torch.cat([(self.positive if row.sum() > 0 else self.negative)(row) for row in x.split(1)]).sum(1)

    x = torch.tensor([[1.0, 2.0, 3.0], [-1.0, -2.0, -3.0]], dtype=torch.float64)
    assert decompose(Either(), x.abs()).delta().abs().max() < 1e-12
    with pytest.raises(InvalidArgumentError, match="different operations for different examples"):
        decompose(Either(), x)
