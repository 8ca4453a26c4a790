"""The reference is the arccos form of the paper, computed in float64 with NumPy, where that is stable."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from hdr.nn import (
    SphereAdversarialLoss,
    ToneMappedL1Loss,
    alignment_loss,
    inverse_stereographic,
    sphere_distance,
    tone_mapped_l1,
)
from hdr.radiometry import mu_law

vectors = st.lists(st.floats(-30, 30), min_size=5, max_size=5)


def naive_projection(q: np.ndarray) -> np.ndarray:
    square = float(q @ q)
    return np.append(2 * q, square - 1) / (square + 1)


def naive_distance(q: np.ndarray, other: np.ndarray) -> float:
    return math.acos(min(1.0, max(-1.0, float(naive_projection(q) @ naive_projection(other)))))


def naive_pole_distance(q: np.ndarray) -> float:
    square = float(q @ q)
    return math.acos((square - 1) / (square + 1))


def double(values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@given(vectors)
def test_inverse_stereographic_is_the_paper_formula_on_the_unit_sphere(q: list[float]) -> None:
    p = inverse_stereographic(double([q]))[0]
    np.testing.assert_allclose(p.numpy(), naive_projection(np.array(q)), atol=1e-12)
    assert p.norm().item() == pytest.approx(1.0, abs=1e-12)


@given(vectors, vectors)
def test_sphere_distance_is_the_arccos_of_the_paper(q: list[float], other: list[float]) -> None:
    # arccos itself is good to sqrt(eps) near its ends.
    expected = naive_distance(np.array(q), np.array(other))
    assert sphere_distance(double([q]), double([other])).item() == pytest.approx(expected, abs=3e-8)
    assert sphere_distance(double([q])).item() == pytest.approx(naive_pole_distance(np.array(q)), abs=3e-8)


@given(vectors, vectors, vectors)
def test_sphere_distance_is_a_metric(a: list[float], b: list[float], c: list[float]) -> None:
    ab, bc, ac = (sphere_distance(double(x), double(y)).item() for x, y in ((a, b), (b, c), (a, c)))
    assert sphere_distance(double(b), double(a)).item() == pytest.approx(ab, abs=1e-12)
    assert ac <= ab + bc + 1e-12
    assert 0.0 <= ab <= math.pi + 1e-12


@pytest.mark.parametrize("norm", [0.0, 1e-20, 1.0, 1e4, 1e15, 1e30])
def test_pole_distance_is_exact_and_smooth_at_every_size_in_float32(norm: float) -> None:
    q = torch.zeros(1, 6)
    q[0, 2] = norm
    q.requires_grad_()
    distance = sphere_distance(q)
    assert distance.item() == pytest.approx(2 * math.atan2(1.0, norm), rel=1e-6, abs=0)
    (gradient,) = torch.autograd.grad(distance.sum(), q)
    # d/dn 2 atan2(1, n) = -2 / (1 + n^2), along q; 0 at q = 0 by definition.
    expected = 0.0 if norm == 0.0 else -2.0 / (1.0 + norm**2)
    assert gradient[0, 2].item() == pytest.approx(expected, rel=1e-5, abs=1e-38)
    assert gradient[0, :2].abs().max() == 0


@pytest.mark.parametrize("norm", [1e15, 1e25])
def test_large_points_are_projected_close_to_the_pole_without_overflow(norm: float) -> None:
    p = inverse_stereographic(torch.tensor([[0.0, norm]]))[0]
    assert p[2].item() == 1.0
    assert p[1].item() == pytest.approx(2 / norm, rel=1e-6, abs=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [0.3, 1.0, 1e4, 1e15])
def test_distances_at_and_near_equality_and_antipodes_have_finite_gradients(size: float, dtype: torch.dtype) -> None:
    q = (torch.tensor([[0.5, -0.1, 0.7, 0.2]], dtype=dtype) * size).requires_grad_()
    antipode = (-q / q.detach().norm() ** 2).detach()
    for other, expected in ((q.detach().clone(), 0.0), (antipode, math.pi)):
        distance = sphere_distance(q, other)
        assert distance.item() == pytest.approx(expected, abs=1e-3)
        (gradient,) = torch.autograd.grad(distance.sum(), q)
        assert torch.isfinite(gradient).all()


def test_equal_points_and_exact_antipodes_have_subgradient_zero() -> None:
    q = torch.eye(2, 3, requires_grad=True)
    for other in (q.detach().clone(), -q.detach()):
        (gradient,) = torch.autograd.grad(sphere_distance(q, other).sum(), q)
        assert gradient.abs().max() == 0


def test_sphere_gradcheck() -> None:
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(4, 5, dtype=torch.float64, generator=generator) * double([0.1, 0.8, 3.0, 50.0])[:, None]
    other = torch.randn(4, 5, dtype=torch.float64, generator=generator)
    q.requires_grad_()
    assert torch.autograd.gradcheck(inverse_stereographic, (q,))
    assert torch.autograd.gradcheck(sphere_distance, (q,))
    assert torch.autograd.gradcheck(sphere_distance, (q, other.requires_grad_()))


@pytest.mark.parametrize("moments", [1, 3])
def test_adversarial_terms_are_the_moment_sums_of_the_paper(moments: int) -> None:
    generator = torch.Generator().manual_seed(1)
    real, fake = (torch.randn(4, 9, dtype=torch.float64, generator=generator) for _ in range(2))

    def naive(batch: Tensor) -> float:
        distances = [naive_pole_distance(q) for q in batch.numpy()]
        return sum(float(np.mean([d**r for d in distances])) for r in range(1, moments + 1))

    loss = SphereAdversarialLoss(moments)
    assert loss.discriminator_loss(real, fake).item() == pytest.approx(naive(fake) - naive(real), rel=1e-10)
    assert loss.generator_loss(fake).item() == pytest.approx(-naive(fake), rel=1e-10)


def test_generator_and_discriminator_pull_fakes_in_opposite_directions() -> None:
    fake = torch.full((2, 4), 0.7, requires_grad=True)
    loss = SphereAdversarialLoss()
    (generator_pull,) = torch.autograd.grad(loss.generator_loss(fake), fake)
    (discriminator_pull,) = torch.autograd.grad(loss.discriminator_loss(fake.detach() * 2, fake), fake)
    torch.testing.assert_close(generator_pull, -discriminator_pull)


def test_adversarial_loss_refuses_no_moments() -> None:
    with pytest.raises(ValueError, match="at least 1, got 0"):
        SphereAdversarialLoss(0)


def test_tone_mapped_l1_is_the_mean_difference_of_logarithms() -> None:
    generator = torch.Generator().manual_seed(2)
    a, b = (torch.rand(2, 3, 4, 4, dtype=torch.float64, generator=generator) for _ in range(2))
    expected = np.abs(np.log1p(100 * a.numpy()) - np.log1p(100 * b.numpy())).mean() / math.log(101)
    assert ToneMappedL1Loss(mu=100)(a, b).item() == pytest.approx(expected, rel=1e-12)
    assert tone_mapped_l1(a, b).item() != pytest.approx(expected, rel=1e-2)
    assert torch.autograd.gradcheck(tone_mapped_l1, (a.requires_grad_(), b))


def test_tone_mapped_l1_refuses_broadcasting() -> None:
    with pytest.raises(ValueError, match="equal shapes"):
        tone_mapped_l1(torch.rand(1, 3, 4, 4), torch.rand(3, 4, 4))


def shifted_scene() -> tuple[Tensor, Tensor]:
    """A stack whose short and long exposures show the target 4 pixels further right; nothing is saturated."""
    wide = torch.rand(1, 3, 16, 24, generator=torch.Generator().manual_seed(3)) * 0.1
    target, moved = wide[..., 4:20], wide[..., :16]
    radiance = torch.stack([moved, target, moved], dim=1)
    return torch.cat([radiance.clamp(0, 0.9), radiance], dim=2), mu_law(target)


def test_alignment_loss_is_least_at_the_true_displacement() -> None:
    stack, target = shifted_scene()
    losses = []
    for shift in (0.0, 1.0, 2.0, 3.0):  # in pixels of half resolution: the scene moved by 2
        displacement = torch.zeros(1, 2, 2, 8, 8)
        displacement[:, :, 0] = shift
        losses.append(alignment_loss(stack, (displacement,), target).item())
    assert losses.index(min(losses)) == 2
    assert losses[2] < 0.5 * losses[0]


def test_alignment_loss_ignores_saturated_pixels() -> None:
    stack, target = shifted_scene()
    stack[:, :, :3] = 1.0
    assert alignment_loss(stack, (torch.zeros(1, 2, 2, 8, 8),), target).item() == 0.0


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_losses_on_cuda_with_bfloat16() -> None:
    q = torch.randn(2, 36, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    with torch.autocast("cuda", torch.bfloat16):
        loss = SphereAdversarialLoss().generator_loss(q)
    loss.backward()
    assert q.grad is not None
    assert torch.isfinite(q.grad).all()
