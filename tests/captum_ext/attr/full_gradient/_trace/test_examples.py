"""What rounding explains, and what it does not."""

from types import SimpleNamespace

import pytest
import torch
import torchvision

from captum_ext import FullGrad
from captum_ext.attr import InvalidArgumentError
from captum_ext.attr.full_gradient._trace.examples import tolerance

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("convolutions", "products", "rounds_to_ten_bits"),
    [(True, False, True), (False, True, True), (False, False, False)],
)
def test_cuda_may_round_float32_to_tf32_but_no_other_type(monkeypatch, convolutions, products, rounds_to_ten_bits):
    monkeypatch.setattr(torch.backends, "cudnn", SimpleNamespace(allow_tf32=convolutions))
    monkeypatch.setattr(torch.backends.cuda, "matmul", SimpleNamespace(allow_tf32=products))
    # A product of n rounded factors in a sum errs by about 2^-11: a hundredth is no rounding of float32, but of TF32.
    assert (tolerance(torch.float32, CUDA) > 0.01) is rounds_to_ten_bits
    assert tolerance(torch.float32, CPU) < 0.01
    assert tolerance(torch.float64, CUDA) == tolerance(torch.float64, CPU) < 1e-6


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_may_round_some_dozen_times_and_no_more(dtype):
    eps = torch.finfo(dtype).eps
    assert 12 * eps < tolerance(dtype, CPU) < 100 * eps


def test_switches_that_cannot_be_read_allow_for_tf32(monkeypatch):
    class Mixed:
        @property
        def allow_tf32(self):
            raise RuntimeError("mix of the legacy and new APIs")

    monkeypatch.setattr(torch.backends, "cudnn", Mixed())
    assert tolerance(torch.float32, CUDA) > 0.01


@pytest.mark.cuda
def test_a_batch_on_cuda_is_not_taken_for_mixed_examples_because_tf32_rounds():
    torch.manual_seed(0)
    model = torchvision.models.resnet50(weights=None).eval().cuda()
    x = torch.randn(8, 3, 64, 64, device="cuda")
    _, delta = FullGrad(model).attribute(x, target=3, return_convergence_delta=True)
    assert bool((delta.abs() < 0.05 * model(x)[:, 3].abs().clamp(min=1)).all())


X = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def test_a_function_that_takes_no_single_example_says_that_it_was_asked_for_one():
    factors = torch.rand(4)

    def forward(x):
        halves = x.reshape(6, 128).tanh()  # an activation of six rows for four examples
        return halves.reshape(4, -1).sum(1) * factors

    with pytest.raises(
        InvalidArgumentError, match=r"4 examples cannot be told by its shape.*alone.*any number of rows"
    ):
        FullGrad(forward).attribute(X)

    def always_four_rows(x):
        return x.sum().tanh() + factors

    with pytest.raises(InvalidArgumentError, match=r"alone cannot be explained: .*shape \(4,\) for 1 rows of input"):
        FullGrad(always_four_rows).attribute(X)
