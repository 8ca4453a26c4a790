"""Every method inside what Captum users already do."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from captum.attr import NoiseTunnel
from captum.attr import visualization as captum_visualization
from captum.metrics import infidelity, sensitivity_max
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from captum_ext import IDGI, BlurIG, GuidedIG, LayerIDGI
from tests.captum_ext.small_models import CLASSES, InPlace, pictures, smooth_cnn

METHODS = {
    "idgi": IDGI,
    "idgi:blur": lambda f: IDGI(f, "blur"),
    "idgi:guided": lambda f: IDGI(f, "guided"),
    "blur-ig": BlurIG,
    "guided-ig": GuidedIG,
}
each_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
STEPS = {"target": 1, "n_steps": 4}


@each_method
def test_noise_tunnel_smoothgrad_is_the_mean_over_noisy_inputs(method):
    model, x = smooth_cnn(), pictures(2)
    tunnel = NoiseTunnel(method(model))
    torch.manual_seed(3)
    found = tunnel.attribute(x, nt_type="smoothgrad", nt_samples=4, stdevs=0.1, **STEPS)
    torch.manual_seed(3)
    # Captum repeats each example and adds noise to all of them in one draw.
    noisy = x.repeat_interleave(4, 0) + torch.normal(0.0, torch.full((8, 3, 8, 8), 0.1))
    expected = method(model).attribute(noisy, **STEPS).reshape(2, 4, 3, 8, 8).mean(1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


@each_method
@pytest.mark.parametrize("nt_samples_batch_size", [None, 2])
def test_noise_tunnel_vargrad_in_batches_of_samples(method, nt_samples_batch_size):
    model, x = smooth_cnn(), pictures(2)
    found, delta = NoiseTunnel(method(model)).attribute(
        x,
        nt_type="vargrad",
        nt_samples=4,
        nt_samples_batch_size=nt_samples_batch_size,
        stdevs=0.1,
        return_convergence_delta=True,
        **STEPS,
    )
    assert found.shape == x.shape
    assert (found >= -1e-12).all()
    assert (found > 0).any()
    assert delta.shape == (8,)


@each_method
def test_infidelity_and_sensitivity(method):
    model, x = smooth_cnn(), pictures(2)
    explainer = method(model)

    def perturb(x: Tensor) -> tuple[Tensor, Tensor]:
        noise = 0.01 * torch.randn_like(x)
        return noise, x - noise

    attributions = explainer.attribute(x, **STEPS)
    assert torch.isfinite(infidelity(model, perturb, x, attributions, target=1, normalize=True)).all()
    sensitivity = sensitivity_max(explainer.attribute, x, perturb_radius=0.01, n_perturb_samples=3, **STEPS)
    assert sensitivity.shape == (2,)
    assert (sensitivity < 1).all()


@each_method
def test_visualize_image_attr(method):
    model, x = smooth_cnn(), pictures(1)
    attributions = method(model).attribute(x, **STEPS)
    figure, _ = captum_visualization.visualize_image_attr(
        np.transpose(attributions[0].numpy(), (1, 2, 0)),
        np.transpose(x[0].numpy(), (1, 2, 0)),
        method="blended_heat_map",
        sign="all",
        use_pyplot=False,
    )
    assert figure.axes


@each_method
def test_data_loader_batch_by_batch_equals_one_call(method):
    model, x = smooth_cnn(), pictures(5)
    labels = torch.tensor([0, 1, 2, 3, 4])
    loader = DataLoader(TensorDataset(x, labels), batch_size=2)
    parts = [method(model).attribute(batch, target=target, n_steps=4) for batch, target in loader]
    whole = method(model).attribute(x, target=labels, n_steps=4)
    torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=1e-12)


@each_method
@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning", "ignore:`torch.jit:DeprecationWarning")
def test_torchscript_models(method):
    model, x = smooth_cnn(), pictures(2)
    expected = method(model).attribute(x, **STEPS)
    frozen = torch.jit.freeze(torch.jit.script(model))
    for scripted in (torch.jit.script(model), torch.jit.trace(model, x), frozen):
        torch.testing.assert_close(method(scripted).attribute(x, **STEPS), expected, rtol=0, atol=1e-10)


@each_method
def test_compiled_models(method):
    torch._dynamo.reset()
    model = InPlace().eval()
    compiled = torch.compile(model, backend="aot_eager")
    for n in (2, 3):
        x = pictures(n)
        torch.testing.assert_close(
            method(compiled).attribute(x, internal_batch_size=2 * n, **STEPS),
            method(model).attribute(x, **STEPS),
            rtol=0,
            atol=1e-10,
        )


@each_method
def test_models_with_operations_in_place(method):
    model, x = InPlace().eval(), pictures(2)
    model.norm.running_mean.uniform_()
    before = x.clone()

    class OutOfPlace(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return model.head(torch.relu(model.norm(model.conv(x * 2.0)) + 0.5).mean((2, 3)))

    found = method(model).attribute(x, internal_batch_size=4, **STEPS)
    assert torch.equal(x, before)
    torch.testing.assert_close(found, method(OutOfPlace()).attribute(x, **STEPS), rtol=0, atol=1e-12)


@each_method
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode], ids=["no_grad", "inference_mode"])
def test_without_gradients_enabled(method, mode):
    model, x = smooth_cnn(), pictures(2)
    expected = method(model).attribute(x, **STEPS)
    with mode():
        found = method(model).attribute(x.clone(), **STEPS)
        assert not torch.is_grad_enabled()
    torch.testing.assert_close(found.clone(), expected, rtol=0, atol=1e-12)


@each_method
def test_frozen_parameters_and_inputs_that_require_gradients(method):
    model, x = smooth_cnn(), pictures(2)
    expected = method(model).attribute(x, **STEPS)
    model.requires_grad_(False)
    leaf = x.clone().requires_grad_()
    found = method(model).attribute(leaf, **STEPS)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    assert not found.requires_grad
    assert leaf.grad is None


@each_method
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-3), (torch.bfloat16, 0.2)], ids=str)
def test_result_is_in_the_dtype_of_the_input(method, dtype, tolerance):
    model, x = smooth_cnn(), pictures(2)
    expected = method(model).attribute(x, **STEPS)
    low = copy.deepcopy(model).to(dtype)
    found, delta = method(low).attribute(x.to(dtype), return_convergence_delta=True, **STEPS)
    assert found.dtype == dtype
    assert torch.isfinite(delta).all()
    assert (found.double() - expected).abs().max() <= tolerance * expected.abs().max()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sums_over_a_path_are_kept_in_float32_for_half_precision(dtype):
    # The sum swings between -30 and 30 a dozen times; bfloat16 holds such numbers to an eighth only, float16 to a 64th.
    x = torch.ones(1, 1, dtype=dtype)
    found = IDGI(lambda x: 30 * torch.sin(40 * x.float()).sum(1)).attribute(x, n_steps=200)
    assert found.dtype == dtype
    torch.testing.assert_close(float(found), 30 * math.sin(40), rtol=torch.finfo(dtype).eps, atol=0)


@each_method
def test_channels_last_comes_back_contiguous(method):
    model, x = smooth_cnn(), pictures(2)
    found = method(model).attribute(x.to(memory_format=torch.channels_last), **STEPS)
    assert found.is_contiguous()
    torch.testing.assert_close(found, method(model).attribute(x, **STEPS), rtol=0, atol=1e-12)


@each_method
def test_transformer_encoder_is_complete_although_it_has_a_fast_path(method):
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dtype=torch.float64)
    encoder = nn.TransformerEncoder(layer, 1).eval().requires_grad_(False)
    model = nn.Sequential(nn.Conv2d(3, 8, 4, stride=4, dtype=torch.float64), nn.Flatten(2)).requires_grad_(False)

    def classify(x: Tensor) -> Tensor:
        return encoder(model(x).transpose(1, 2)).mean(1)

    x = pictures(2)
    found, delta = method(classify).attribute(x, return_convergence_delta=True, target=1, n_steps=30)
    assert (delta.abs() < 0.1 * found.abs().sum((1, 2, 3))).all()


def test_autocast_around_the_call():
    model, x = smooth_cnn(torch.float32), pictures(2, torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, delta = IDGI(model).attribute(x, return_convergence_delta=True, **STEPS)
    assert found.dtype == torch.float32
    assert delta.abs().max() < 1e-5


def test_progress_bar_counts_all_points(capsys):
    IDGI(smooth_cnn()).attribute(pictures(2), show_progress=True, **STEPS)
    assert "5/5" in capsys.readouterr().err


@pytest.mark.cuda
@each_method
def test_on_cuda(method):
    model, x = smooth_cnn(), pictures(2)
    expected = method(model).attribute(x, **STEPS)
    found = method(copy.deepcopy(model).cuda()).attribute(x.cuda(), internal_batch_size=4, **STEPS)
    assert found.is_cuda
    torch.testing.assert_close(found.cpu(), expected, rtol=0, atol=1e-8)


@pytest.mark.cuda
@each_method
def test_bfloat16_on_cuda(method):
    model, x = smooth_cnn(torch.bfloat16).cuda(), pictures(2, torch.bfloat16).cuda()
    found = method(model).attribute(x, **STEPS)
    assert found.dtype == torch.bfloat16
    assert torch.isfinite(found).all()


@pytest.mark.cuda
def test_data_parallel():
    model, x = smooth_cnn().cuda(), pictures(4).cuda()
    parallel = nn.DataParallel(model)
    torch.testing.assert_close(IDGI(parallel).attribute(x, **STEPS), IDGI(model).attribute(x, **STEPS))
    found = LayerIDGI(parallel, model[1]).attribute(x, **STEPS)
    torch.testing.assert_close(found, LayerIDGI(model, model[1]).attribute(x, **STEPS))


def test_number_of_classes_is_what_the_tests_assume():
    assert smooth_cnn()(pictures(2)).shape == (2, CLASSES)


@pytest.mark.parametrize("with_delta", [False, True])
def test_noise_tunnel_does_not_average_the_residual(with_delta):
    model, x = smooth_cnn(), pictures()
    for method in (IDGI(model), LayerIDGI(model, model[1])):
        with pytest.raises(ValueError, match="ask the method itself for it"):
            NoiseTunnel(method).attribute(x, target=1, return_path_residual=True, return_convergence_delta=with_delta)


def test_names_for_people():
    assert [kind.get_name() for kind in (IDGI, LayerIDGI, BlurIG, GuidedIG)] == [
        "IDGI",
        "Layer IDGI",
        "Blur IG",
        "Guided IG",
    ]
