import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hdr.radiometry import (
    growth_of,
    inverse_mu_law,
    ldr_to_linear,
    light_of,
    linear_to_ldr,
    log_average,
    mu_law,
    relative_exposures,
    tone_mapped_of,
)

unit = st.floats(0.0, 1.0, allow_nan=False)
exposures = st.floats(1.0, 64.0, allow_nan=False)
gammas = st.floats(0.5, 3.0, allow_nan=False)


def double(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


@given(unit, exposures, gammas)
def test_ldr_to_linear_is_the_paper_formula(ldr: float, exposure: float, gamma: float) -> None:
    assert ldr_to_linear(double(ldr), exposure, gamma).item() == pytest.approx(ldr**gamma / exposure, rel=1e-12)


@given(unit, exposures, gammas)
def test_camera_response_inverts_on_unsaturated_values(ldr: float, exposure: float, gamma: float) -> None:
    radiance = ldr_to_linear(double(ldr), exposure, gamma)
    assert linear_to_ldr(radiance, exposure, gamma).item() == pytest.approx(ldr, rel=1e-9, abs=1e-100)


@given(st.floats(0.0, 1e4), exposures)
def test_ldr_saturates_where_radiance_times_exposure_passes_one(radiance: float, exposure: float) -> None:
    ldr = linear_to_ldr(double(radiance), exposure).item()
    assert 0.0 <= ldr <= 1.0
    assert (ldr == 1.0) or radiance * exposure < 1.0


@given(st.floats(-1.0, 1e4), st.floats(1.0, 1e5))
def test_mu_law_round_trip(radiance: float, mu: float) -> None:
    assert inverse_mu_law(mu_law(double(radiance), mu), mu).item() == pytest.approx(radiance, rel=1e-9, abs=1e-15)


@given(st.floats(0.0, 1e4))
def test_mu_law_is_the_paper_formula_and_odd(radiance: float) -> None:
    expected = math.log1p(5000.0 * radiance) / math.log(5001.0)
    assert mu_law(double(radiance)).item() == pytest.approx(expected, rel=1e-12, abs=1e-300)
    assert mu_law(double(-radiance)).item() == pytest.approx(-expected, rel=1e-12, abs=1e-300)


def test_mu_law_keeps_small_radiance_in_float32() -> None:
    # log(1 + x) instead of log1p(x) would give 0 here: 5000 * 1e-12 is below float32's epsilon.
    assert mu_law(torch.tensor(1e-12)).item() == pytest.approx(5000e-12 / math.log(5001.0), rel=1e-4)


def test_the_quick_forms_of_the_mu_law_are_the_mu_law_in_float32() -> None:
    light = torch.cat([torch.zeros(1), torch.logspace(-8, 0, 200)])
    tone_mapped = torch.log1p(5000 * light.double()) / math.log(5001)
    torch.testing.assert_close(tone_mapped_of(5000 * light + 1).double(), tone_mapped, rtol=0, atol=2e-7)
    torch.testing.assert_close(growth_of(tone_mapped.float()).double(), 5000 * light.double() + 1, rtol=3e-6, atol=0)
    torch.testing.assert_close(light_of(tone_mapped.float()), light, rtol=3e-6, atol=1e-9)


def test_black_pixels_have_the_slope_of_the_curve() -> None:
    black = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(mu_law(black).sum(), black)
    torch.testing.assert_close(slope, torch.full_like(slope, 5000.0 / math.log(5001.0)))
    (slope,) = torch.autograd.grad(linear_to_ldr(black, 1.0).sum(), black)
    assert slope.tolist() == [0.0, 0.0, 0.0]  # the curve's own is infinite


@pytest.mark.parametrize(
    "function",
    [
        lambda x: ldr_to_linear(x, 3.0),
        lambda x: linear_to_ldr(x, 0.9),
        lambda x: linear_to_ldr(x, double(0.5)),
        mu_law,
        inverse_mu_law,
        lambda x: mu_law(-x),
        relative_exposures,
    ],
)
def test_gradcheck(function) -> None:  # type: ignore[no-untyped-def]
    x = torch.tensor([0.07, 0.2, 0.5, 0.9], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(function, (x,))


@given(st.lists(st.floats(1e-4, 1e3), min_size=1, max_size=9))
def test_relative_exposures_keep_ratios_and_start_at_one(times: list[float]) -> None:
    relative = relative_exposures(torch.tensor(times, dtype=torch.float64))
    assert relative.min().item() == 1.0
    assert (relative * min(times)).tolist() == pytest.approx(times)


def test_exposures_broadcast_per_example() -> None:
    ldr = torch.full((2, 3, 1, 1, 1), 0.5)
    t = torch.tensor([[1.0, 2.0, 4.0], [1.0, 8.0, 64.0]]).view(2, 3, 1, 1, 1)
    linear = ldr_to_linear(ldr, t)
    assert linear.flatten().tolist() == pytest.approx([0.5**2.2 / e for e in (1, 2, 4, 1, 8, 64)])


@pytest.mark.parametrize("times", [torch.tensor([1.0, 0.0]), torch.tensor([1.0, float("nan")]), torch.tensor([])])
def test_impossible_exposures_are_refused(times: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="exposure"):
        relative_exposures(times)


@pytest.mark.parametrize(("exposure", "gamma"), [(0.0, 2.2), (-1.0, 2.2), (torch.zeros(1), 2.2), (1.0, 0.0)])
def test_impossible_responses_are_refused(exposure: float | torch.Tensor, gamma: float) -> None:
    for function in (ldr_to_linear, linear_to_ldr):
        with pytest.raises(ValueError, match=r"must be positive"):
            function(torch.rand(2), exposure, gamma)


def test_non_positive_mu_is_refused() -> None:
    for function in (mu_law, inverse_mu_law):
        with pytest.raises(ValueError, match="mu must be positive"):
            function(torch.rand(2), 0.0)


@pytest.mark.parametrize("scale", [1.0, 1e4, 1e-5, 1e-7, 1e-20])
def test_the_logarithmic_average_is_the_geometric_mean_on_any_scale(scale: float) -> None:
    radiance = torch.rand(2, 3, 5, 7, generator=torch.Generator().manual_seed(0)) + 0.01
    radiance[1] *= 100
    values = radiance.double().numpy()
    luminance = 0.2126 * values[:, 0] + 0.7152 * values[:, 1] + 0.0722 * values[:, 2]
    expected = [math.prod(image.flatten()) ** (1 / 35) * scale for image in luminance]
    found = log_average(radiance * scale)
    assert found.shape == (2, 1, 1, 1)
    assert found.flatten().tolist() == pytest.approx(expected, rel=1e-5)


def test_black_is_a_millionth_of_the_brightest_in_the_logarithmic_average() -> None:
    half_black = torch.tensor([0.0, 4.0]).expand(3, 1, 2)
    assert float(log_average(half_black)) == pytest.approx(4e-3, rel=1e-5)  # sqrt(4e-6 * 4)
    assert 0 < float(log_average(torch.zeros(3, 2, 2))) < 1e-30
