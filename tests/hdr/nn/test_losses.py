"""The reference is the arccos form of the paper, computed in float64 with NumPy, where that is stable."""

import itertools
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
    regression_loss,
    relative_square,
    sphere_distance,
    tone_mapped_l1,
)
from hdr.observation import Aligned

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


def test_as_in_the_published_code_three_moments_are_taken_unless_told() -> None:
    q = torch.rand(4, 9, generator=torch.Generator().manual_seed(0))
    distances = [naive_pole_distance(one) for one in q.double().numpy()]
    expected = sum(d + d**2 + d**3 for d in distances) / len(distances)
    assert SphereAdversarialLoss().moment_sum(q).item() == pytest.approx(expected, rel=1e-5)


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


def aligned_exposures(found: Tensor, saturation: Tensor | float = 0.0, seen: Tensor | float = 1.0) -> Aligned:
    """Exposures (B, N, 3, H, W) as the generator found them."""
    maps = torch.zeros_like(found[:, :, :1])
    return Aligned(found, maps + saturation, maps + 0.01, maps + 0.001, maps + seen, maps)


def test_alignment_loss_is_the_mean_over_exposures_of_differences_that_level_off() -> None:
    found, target = torch.rand(2, 3, 3, 4, 5), torch.rand(2, 3, 4, 5)
    saturation, seen = torch.rand(2, 3, 3, 4, 5), (torch.rand(2, 3, 1, 4, 5) < 0.7).float()
    terms = []
    for batch, exposure, channel, row, column in itertools.product(range(2), (0, 2), range(3), range(4), range(5)):
        usable = saturation[batch, exposure, channel, row, column] < 0.5 and seen[batch, exposure, 0, row, column] == 1
        x = abs(float(found[batch, exposure, channel, row, column] - target[batch, channel, row, column]))
        terms.append(x / (1 + x / 0.1) if usable else 0.0)
    loss = alignment_loss(aligned_exposures(found, saturation, seen), target, 1)
    assert loss.item() == pytest.approx(sum(terms) / len(terms), rel=1e-5)


def test_alignment_loss_is_least_at_the_true_displacement() -> None:
    wide = torch.rand(1, 3, 16, 24, generator=torch.Generator().manual_seed(3))
    target = wide[..., 4:20]
    losses = [
        alignment_loss(
            aligned_exposures(wide[:, None, ..., 4 - shift : 20 - shift].expand(1, 3, -1, -1, -1)), target, 1
        )
        for shift in (0, 1, 2, 4)
    ]
    assert losses[0] == 0
    assert all(loss > 0.01 for loss in losses[1:])


@pytest.mark.parametrize(("saturation", "counts"), [(0.4, True), (0.6, False), (1.0, False)])
def test_alignment_loss_ignores_what_is_more_than_half_saturated(saturation: float, counts: bool) -> None:
    found, target = torch.rand(1, 2, 3, 4, 4), torch.rand(1, 3, 4, 4)
    assert (alignment_loss(aligned_exposures(found, saturation), target, 0) > 0) == counts


def test_alignment_loss_teaches_the_others_and_neither_the_reference_nor_the_masks() -> None:
    found = torch.rand(1, 3, 3, 4, 4, requires_grad=True)
    masks = torch.full((1, 3, 1, 4, 4), 0.1, requires_grad=True)
    alignment_loss(aligned_exposures(found, masks), torch.rand(1, 3, 4, 4), 1).backward()
    assert found.grad is not None
    assert found.grad[:, [0, 2]].abs().min() > 0
    assert found.grad[:, 1].abs().max() == 0
    assert masks.grad is None


def test_moments_are_taken_in_full_precision() -> None:
    # bfloat16 has 8 bits: near the pole distances of some thousandths would all be rounded by as much.
    q = (300 + 20 * torch.rand(4, 9)).bfloat16()
    for precision in (torch.bfloat16, torch.float16):
        loss = SphereAdversarialLoss(3).moment_sum(q.to(precision))
        assert loss.dtype == torch.float32
        exact = SphereAdversarialLoss(3).moment_sum(q.to(precision).double()).item()
        assert loss.item() == pytest.approx(exact, rel=1e-6)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_losses_on_cuda_with_bfloat16() -> None:
    q = torch.randn(2, 36, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    with torch.autocast("cuda", torch.bfloat16):
        loss = SphereAdversarialLoss().generator_loss(q)
    loss.backward()
    assert q.grad is not None
    assert torch.isfinite(q.grad).all()


@pytest.mark.parametrize("shapes", [((2, 3, 8, 8), (3, 8, 8), (2, 3, 8, 8)), ((1, 3, 7, 9),) * 3])
def test_regression_is_of_images_of_one_shape_that_hold_a_patch(shapes):
    with pytest.raises(ValueError, match=r"expected equal shapes .*H and W at least 8, got"):
        regression_loss(*map(torch.zeros, shapes))


def test_relative_square_counts_every_example_by_what_physics_has_left():
    target = torch.zeros(2, 3, 4, 5)
    physical = torch.stack([torch.full((3, 4, 5), 0.1), torch.full((3, 4, 5), 0.4)])
    output = torch.stack([torch.full((3, 4, 5), 0.2), torch.full((3, 4, 5), -0.2)])
    assert float(relative_square(output, physical, target)) == pytest.approx((4 + 1 / 4) / 2, rel=1e-3)
    exact = torch.zeros_like(target)  # where physics is exact, less than anybody sees costs nothing much
    assert float(relative_square(exact + 1e-4, exact, target)) == pytest.approx(0.01, rel=1e-3)
    # Right to a thousandth it counts twice what it is: 60 dB are added to its mean square.
    assert float(relative_square(exact + 2e-3, exact + 1e-3, target)) == pytest.approx(4e-6 / 2e-6, rel=1e-3)
    with pytest.raises(ValueError, match="equal shapes"):
        relative_square(output[:1], physical, target)


def test_regression_in_one_patch_is_not_paid_for_by_progress_in_another():
    target, physical = torch.zeros(1, 3, 8, 16), torch.full((1, 3, 8, 16), 0.5)
    output = physical.clone()
    output[..., :8], output[..., 8:] = 0.0, 0.75
    assert float(regression_loss(output, physical, target)) == 0.125  # half of the patches are 0.25 worse


def test_regression_is_the_mean_over_patches_by_how_much_more_they_are_off():
    source = torch.Generator().manual_seed(0)
    output, physical, target = (torch.randn(2, 3, 19, 24, generator=source).double() for _ in range(3))
    output *= 1.02
    worse = []
    for example, row, column in itertools.product(range(2), (0, 8), (0, 8, 16)):  # the last three rows are no patch
        patch = (example, slice(None), slice(row, row + 8), slice(column, column + 8))
        ours, theirs = (float((merge[patch] - target[patch]).abs().sum()) / 192 for merge in (output, physical))
        worse.append(max(ours - theirs, 0.0))
    assert 0 < sum(one == 0 for one in worse) < len(worse)
    assert float(regression_loss(output, physical, target)) == pytest.approx(sum(worse) / len(worse))
