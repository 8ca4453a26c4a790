"""The physical merge against its formulas, worked pixel by pixel in float64, and against what noise allows."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from hdr.calibration import Calibration
from hdr.data.camera import Camera
from hdr.fusion import (
    BINS,
    Aligned,
    _blurred_in_patches,
    blended,
    bring_to_reference,
    clipping_value,
    continuity,
    moving_share,
    noise_of_blend,
    not_below_saturation,
    observe,
    physical_merge,
    prior,
    unexplained_variance,
)
from hdr.radiometry import inverse_mu_law, mu_law
from hdr.response import Response
from tests.hdr.brackets import EXPOSURES, photographed, textured

T = torch.tensor(EXPOSURES)


def naive_blur(image: np.ndarray, sigma: float, radius: int) -> np.ndarray:
    """Gaussian blur of (H, W), mirrored at the edges, tap by tap."""
    taps = np.array([math.exp(-(k**2) / (2 * sigma**2)) for k in range(-radius, radius + 1)])
    taps /= taps.sum()
    height, width = image.shape
    padded = np.pad(image, radius, mode="reflect")
    result = np.zeros_like(image)
    for dy, dx in itertools.product(range(2 * radius + 1), repeat=2):
        result += taps[dy] * taps[dx] * padded[dy : dy + height, dx : dx + width]
    return result


def naive_prior(aligned: Aligned, exposures: list[float], reference: int) -> np.ndarray:
    """Logarithms of the weights of one scene, (N, 3, H, W), relative to the largest."""
    tone_mapped, saturation, deviation, noise, seen, lost = (part[0].double().numpy() for part in aligned)
    unsaturated, deviation, seen = (1 - saturation - 1e-3).clip(0), deviation[:, 0], seen[:, 0]
    # By how much the dark channels of a JPEG are wrong: values by gamma 2.2, brightness of ITU-R BT.601.
    light = (5001**tone_mapped - 1) / 5000
    times = np.array(exposures).reshape(-1, 1, 1, 1)
    value = np.clip(light * times, 1e-3, 1) ** (1 / 2.2)
    brightness = np.einsum("c,nchw->nhw", [0.299, 0.587, 0.114], value)[:, None]
    of_light = 2 * lost * np.maximum(1 - value / brightness, 0) * 2.2 * value**1.2 / times
    wrong = (of_light * 5000 / (1 + 5000 * light) / math.log(5001)) ** 2
    count, _, height, width = tone_mapped.shape
    # Noise as it shows in the mu-law domain at the brightness of the reference.
    brightness = (5001 ** np.stack([naive_blur(channel, 2.0, 6) for channel in tone_mapped[reference]]) - 1) / 5000
    slope = 5000 / (1 + 5000 * brightness) / math.log(5001)
    smooth = [np.stack([naive_blur(channel, 1.0, 3) for channel in one]) for one in noise]
    variance = [(one * slope) ** 2 + 1e-10 for one in smooth]
    variance = [v + (0 if i == reference else 0.0015**2) for i, v in enumerate(variance)]
    log = np.zeros((count, 3, height, width))
    for i, t in enumerate(exposures):
        # Light above the noise of both, clipped where one of the two clips first.
        more = np.sqrt(smooth[i] ** 2 + smooth[reference] ** 2)
        shown = [np.minimum(light[k], 1 / max(t, exposures[reference])) + more for k in (i, reference)]
        difference = (np.log1p(5000 * shown[0]) - np.log1p(5000 * shown[1])) / math.log(5001)
        for row, column in itertools.product(range(height), range(width)):
            # Channels that only mixed with a clipped one say nothing against less light; the others then count for all.
            ours = tone_mapped[reference, :, row, column]
            itself = ours >= min(math.log1p(5000 * 0.97 / exposures[reference]) / math.log(5001), ours.max())
            spoilt = (saturation[reference, :, row, column] >= 1 - 1e-3) & ~itself
            less = np.where(spoilt, 0, difference[:, row, column] * math.sqrt(3 / max(3 - spoilt.sum(), 1)))
            difference[:, row, column] = np.where(difference[:, row, column] < 0, less, difference[:, row, column])
        differing = deviation[i] ** 2 + deviation[reference] ** 2 + 0.003**2
        told = differing / (differing + wrong[i] + wrong[reference])
        alone = (told * difference**2).mean(axis=0)
        squared = naive_blur(alone, 1.0, 3)
        # Of a place that the reference has lost, other such places around it.
        lost_share = (saturation[reference].min(axis=0) >= 0.999).astype(float)
        lost_around = naive_blur(lost_share, 1.0, 3)
        among_lost = naive_blur(alone * lost_share, 1.0, 3) / np.maximum(lost_around, 0.3)
        by_themselves = lost_share * np.clip((lost_around - 0.3) / 0.2, 0, 1)
        squared_of_lost = (1 - by_themselves) * squared + by_themselves * among_lost
        expected = naive_blur(deviation[i] ** 2 + deviation[reference] ** 2, 2.0, 6)
        for row, column, channel in itertools.product(range(height), range(width), range(3)):
            here, place = (row, column), (channel, row, column)
            excess = max(squared[here] - expected[here], 0.0)
            consistent = 1.0 if i == reference else math.exp(-0.5 * excess / (expected[here] + 0.003**2))
            precision = exposures[reference] * variance[reference][place] / variance[i][place]
            usable = unsaturated[i][place]
            if i > reference:  # what the reference saw of the light clips it: the channel, or where they mix all three
                mixed = len(set(saturation[i, :, row, column])) == 1
                seen_by_reference = tone_mapped[reference, :, row, column]
                clips = (5001 ** (seen_by_reference.max() if mixed else seen_by_reference[channel]) - 1) / 5000 * t
                usable = min(usable, max(0.0, min(1.0, (1.3 - clips) / 0.2)))
            weight = usable * precision * consistent * seen[i][here]
            if i < reference:  # shorter exposures decide where the reference is lost
                darker = max(squared_of_lost[here] - expected[here], 0.0)
                enough = math.exp(-0.5 * darker / (expected[here] + 0.006**2))
                usable = 1.0 if i == 0 else max(unsaturated[i][place], 1e-3)
                trust = 1.0 if seen[i][here] else 0.03
                weight += 0.01 * saturation[reference][place] * enough * usable * trust * t
            log[i][place] = math.log(weight + (1e-5 if i == reference else 1e-12))
    return np.maximum(log - log.max(axis=0), -8.0)


def random_aligned(
    count: int, reference: int, seed: int = 0, mixing: bool = False, subsampled: bool = False
) -> Aligned:
    """Exposures that agree here and disagree there, saturated and unseen in parts that overlap."""
    source = torch.Generator().manual_seed(seed)
    scene = mu_law(textured(16, 20, seed))
    difference = 0.04 * torch.randn(1, count, 3, 16, 20, generator=source)
    difference[:, reference] = 0
    saturation = (2 * torch.rand(1, count, 3, 16, 20, generator=source) - 0.7).clamp(0, 1)
    if mixing:
        saturation = saturation.amax(dim=2, keepdim=True).expand_as(saturation)
    deviation = 0.002 + 0.02 * torch.rand(1, count, 1, 16, 20, generator=source)
    noise = 0.001 + 0.005 * torch.rand(1, count, 3, 16, 20, generator=source)
    seen = (torch.rand(1, count, 1, 16, 20, generator=source) < 0.8).float()
    seen[:, reference] = 1
    lost = 0.1 * torch.rand(1, count, 1, 16, 20, generator=source) if subsampled else torch.zeros_like(seen)
    return Aligned((scene + difference).clamp(0, 1), saturation, deviation, noise, seen, lost)


@pytest.mark.parametrize("subsampled", [False, True])
@pytest.mark.parametrize("mixing", [False, True])
@pytest.mark.parametrize(
    ("exposures", "reference"),
    [((1.0, 4.0), 0), ((1.0, 3.0, 11.0), 1), ((1.0, 2.0, 4.0, 9.0), 2), ((1.0, 2.0, 5.0), 0)],
)
def test_prior_is_its_formula_pixel_by_pixel(
    exposures: tuple[float, ...], reference: int, mixing: bool, subsampled: bool
) -> None:
    aligned = random_aligned(len(exposures), reference, mixing=mixing, subsampled=subsampled)
    found = prior(aligned, torch.tensor([exposures]), reference)[0].numpy()
    np.testing.assert_allclose(found, naive_prior(aligned, list(exposures), reference), atol=2e-3)


def test_a_white_sky_beside_what_is_small_and_dark_is_as_the_short_exposure_has_it() -> None:
    # A bird of five pixels, which the reference alone shows before a sky that it has lost.
    light = torch.full((3, 3, 21, 21), 0.6)
    light[1, :, 8:13, 8:13] = 0.01
    ldr = (light * T.view(3, 1, 1, 1)).clamp(0, 1) ** (1 / 2.2)
    calibration = Calibration(Response.gamma(2.2), shot=1e-5, read=1e-8)
    aligned = bring_to_reference(observe(ldr, T, calibration)[None], torch.zeros(1, 3, 2, 21, 21), 1)
    weights = prior(aligned, T[None], 1)[0].softmax(dim=0)
    assert float(weights[1, :, 8:13, 8:13].min()) > 0.99
    around = torch.ones(21, 21, dtype=torch.bool)
    around[8:13, 8:13] = False
    assert float(weights[0, :, around].min()) > 0.9


def test_prior_is_bounded_so_that_a_softmax_passes_gradients() -> None:
    found = prior(random_aligned(3, 1), T[None], 1)
    assert found.max() == 0
    assert found.min() == -8


def still(noise: float = 0.0, **arguments: object) -> Aligned:
    """A still scene as the exposures see it, (1, N, ...)."""
    bracket = photographed(textured(48, 64, darkest=0.02, brightest=0.045), noise=noise, levels=None)
    observed = observe(bracket.ldr, bracket.exposures, bracket.calibration)[None]
    return bring_to_reference(observed, torch.zeros(1, 3, 2, 48, 64), 1)


def weights_under(shot: float, read: float, radiance: float) -> Tensor:
    """Weights (3,) of exposures that show the same everywhere."""
    ldr = (radiance * T).view(3, 1, 1, 1).expand(3, 3, 32, 32) ** (1 / 2.2)
    calibration = Calibration(Response.gamma(2.2), shot=shot, read=read, levels=10**6)
    aligned = bring_to_reference(observe(ldr, T, calibration)[None], torch.zeros(1, 3, 2, 32, 32), 1)
    return prior(aligned, T[None], 1)[0, :, 0, 16, 16].softmax(dim=0)


def test_under_shot_noise_the_weights_are_the_exposures() -> None:
    # It has the variance of the light: radiance from t times the light has 1 / t of it.
    torch.testing.assert_close(weights_under(1e-2, 0.0, 0.03), T / T.sum(), atol=3e-3, rtol=0)


def test_under_read_noise_the_weights_are_the_squared_exposures() -> None:
    # Each image has the same noise, divided by t as the image is.
    torch.testing.assert_close(weights_under(0.0, 1e-4, 0.002), T**2 / (T**2).sum(), atol=3e-3, rtol=0)


def test_without_noise_the_reference_is_preferred_to_what_alignment_may_have_blurred() -> None:
    weights = weights_under(0.0, 1e-12, 0.03)
    assert weights[1] > 0.9


def test_the_merge_of_a_noisy_still_bracket_is_better_than_any_exposure_of_it() -> None:
    truth = textured(96, 96, darkest=0.02, brightest=0.045)
    camera = Camera(Response.gamma(2.2), full_well=200.0, read_noise=0.0, levels=65535)
    ldr = camera.photograph(torch.Generator().manual_seed(0), truth.expand(3, -1, -1, -1), T)
    calibration = Calibration(camera.response, shot=5e-3, read=0.0, levels=65535)
    aligned = bring_to_reference(observe(ldr, T, calibration)[None], torch.zeros(1, 3, 2, 96, 96), 1)
    weights = prior(aligned, T[None], 1).softmax(dim=1)
    radiance = inverse_mu_law(aligned.tone_mapped)
    merged = (weights * radiance).sum(dim=1)[0]
    errors = [float((one - truth).square().mean()) for one in (*radiance[0], merged)]
    assert errors[0] > errors[1] > errors[2] > errors[3]
    # The variance of a mean weighted by t: shot noise x / 200 over the sum of t.
    assert errors[3] == pytest.approx(float(truth.mean()) * 5e-3 / float(T.sum()), rel=0.05)


def test_what_contradicts_the_reference_is_left_out() -> None:
    aligned = still(noise=1e-2)
    moved = aligned.tone_mapped.clone()
    moved[:, 2, :, 16:32, 24:40] += 0.2
    weights = prior(aligned._replace(tone_mapped=moved), T[None], 1)[0, :, 0].softmax(dim=0)
    assert weights[2, 18:30, 26:38].max() < 1e-3
    assert weights[2, :10].min() > 0.6


def test_a_long_exposure_is_believed_where_noise_has_blackened_the_reference() -> None:
    # One pixel in nine is black, as by noise in a deep shadow; a shadow that is gone in the other exposure is no noise.
    light = torch.full((1, 2, 3, 36, 36), 1e-3)
    noisy = light.clone()
    noisy[:, 0, :, ::3, ::3] = 0.0
    noisy[:, 1, :, 12:24, 12:24] = 0.03
    flat = torch.ones(1, 2, 1, 36, 36)
    noise, deviation = 5e-4 * flat.expand(-1, -1, 3, -1, -1), 0.04 * flat
    nothing = torch.zeros_like(light)
    aligned = Aligned(mu_law(noisy), nothing, deviation, noise, flat, nothing[:, :, :1])
    weights = prior(aligned, torch.tensor([[1.0, 16.0]]), 0).softmax(dim=1)[0, 1, 0]
    outside = torch.ones(36, 36, dtype=torch.bool)
    outside[8:28, 8:28] = False
    assert weights[outside].min() > 0.4
    assert weights[14:22, 14:22].max() < 0.01


def test_what_an_exposure_did_not_see_is_not_blended() -> None:
    aligned = still(noise=1e-2)
    seen = aligned.seen.clone()
    seen[:, 2, :, :, :10] = 0
    weights = prior(aligned._replace(seen=seen), T[None], 1)[0, :, 0].softmax(dim=0)
    assert weights[2, :, :10].max() < 1e-3
    assert weights[2, :, 10:].min() > 0.7


def lost_reference(short: float) -> Tensor:
    """Weights (3,) where the reference and the longest are clipped and the shortest shows a radiance."""
    ldr = torch.ones(3, 3, 32, 32)
    ldr[0] = short ** (1 / 2.2)
    observed = observe(ldr, T, Calibration(Response.gamma(2.2)))[None]
    aligned = bring_to_reference(observed, torch.zeros(1, 3, 2, 32, 32), 1)
    return prior(aligned, T[None], 1)[0, :, 0, 16, 16].softmax(dim=0)


@pytest.mark.parametrize("radiance", [0.26, 0.6, 0.94, 1.0])
def test_shorter_exposures_decide_where_the_reference_is_lost(radiance: float) -> None:
    assert lost_reference(radiance)[0] > 0.99


def test_a_shorter_exposure_that_is_too_dark_to_have_saturated_the_reference_is_not_believed() -> None:
    assert lost_reference(0.05)[1] > 0.99


def test_rounding_of_what_is_clipped_decides_nothing() -> None:
    # Interpolated between clipped pixels, saturation is 1 - 6e-8, or 1: as it happens.
    ldr = torch.ones(3, 3, 32, 32)
    ldr[0] = 0.05 ** (1 / 2.2)  # hardly believed: it is too dark for what the others show
    observed = observe(ldr, T, Calibration(Response.gamma(2.2)))[None]
    aligned = bring_to_reference(observed, torch.zeros(1, 3, 2, 32, 32), 1)
    rounded = aligned._replace(saturation=torch.where(aligned.saturation == 1, 1 - 2**-24, aligned.saturation))
    weights, as_rounded = (prior(one, T[None], 1).softmax(dim=1) for one in (aligned, rounded))
    torch.testing.assert_close(as_rounded, weights, atol=1e-5, rtol=0)


@pytest.mark.parametrize("of_white", [0.5, 0.94, 1.0])
def test_what_jpeg_makes_of_white_is_not_believed(of_white: float) -> None:
    # The long exposure, sixteen times the light, is clipped everywhere; its file says 248 to 255 of 255 for it.
    response = Response.gamma(2.2)
    ldr = torch.full((2, 3, 32, 32), of_white)
    ldr[:, 1:] = 0.1  # a saturated red
    ldr[1, 0] = torch.randint(248, 256, (32, 32), generator=torch.Generator().manual_seed(0)) / 255
    exposures = torch.tensor([1.0, 16.0])
    ldr[1, 1:] = response.to_ldr(response.to_linear(ldr[0, 1:]) * 16)
    observed = observe(ldr, exposures, Calibration(response))[None]
    assert (observed[0, 1, 3] < 1).float().mean() > 0.2
    aligned = bring_to_reference(observed, torch.zeros(1, 2, 2, 32, 32), 0)
    assert prior(aligned, exposures[None], 0).softmax(dim=1)[:, 1].max() < 1e-3


def test_no_gradient_passes_an_observation() -> None:
    ldr, calibration = torch.rand(2, 3, 40, 50), Calibration(Response.srgb())
    observed = observe(ldr.clone().requires_grad_(), torch.tensor([1.0, 4.0]), calibration)
    assert not observed.requires_grad
    assert torch.equal(observed, observe(ldr, torch.tensor([1.0, 4.0]), calibration))


@pytest.mark.parametrize("mixing", [True, False])
def test_saturation_begins_and_ends_below_the_white_level(mixing: bool) -> None:
    white = 248 / 255
    ldr = torch.full((2, 3, 1, 5), 0.2)
    ldr[:, 1] = white * torch.tensor([0.5, 0.9, 0.94, 0.98, 1.0])
    response = Response.gamma(2.2).with_white_level(white)
    calibration = Calibration(response, white_level=white, channels_mix=mixing)
    observed = observe(ldr, torch.tensor([1.0, 4.0]), calibration)
    saturation = bring_to_reference(observed[None], torch.zeros(1, 2, 2, 1, 5), 0).saturation[0, :, :, 0]
    of_brightest = torch.tensor([0.0, 0.0, 0.5, 1.0, 1.0])
    others = of_brightest if mixing else torch.zeros(5)
    expected = torch.stack([others, of_brightest, others]).expand(2, 3, 5)
    torch.testing.assert_close(saturation, expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize(("shift", "expected"), [(0.0, 0.0), (0.05, 0.5), (0.1, 1.0), (0.5, 1.0), (1.0, 1.0)])
def test_what_is_read_beside_a_clipped_pixel_is_clipped_too(shift: float, expected: float) -> None:
    ldr = torch.full((2, 3, 4, 6), 0.4)
    ldr[1, :, :, 3:] = 1.0
    observed = observe(ldr, torch.tensor([1.0, 4.0]), Calibration(Response.srgb()))[None]
    displacement = torch.zeros(1, 2, 2, 4, 6)
    displacement[:, 1, 0] = shift
    saturation = bring_to_reference(observed, displacement, 0).saturation[0, 1, 0, 2]
    torch.testing.assert_close(saturation, torch.tensor([0, 0, expected, 1, 1, 1]), atol=1e-3, rtol=0)


@pytest.mark.parametrize("shift", [0.0, 0.3, 0.5])
def test_bars_before_a_bright_window_stay_thin_wherever_exposures_lie(shift: float) -> None:
    """Between a bar and the clipped light beside it interpolation reads what is in neither."""
    light = torch.full((1, 1, 9, 96), 0.9)
    light[..., 0::12] = light[..., 1::12] = 0.002
    exposures, response = torch.tensor([1.0, 2.0, 4.0, 8.0]), Response.gamma(2.2)
    fine = torch.nn.functional.interpolate(light, scale_factor=(1, 10))  # what pixels are means of
    pixels = [torch.nn.functional.avg_pool2d(fine.roll(round(10 * s), -1), (1, 10)) for s in (shift, shift, shift, 0)]
    ldr = response.to_ldr(torch.cat(pixels).expand(4, 3, 9, 96) * exposures.view(4, 1, 1, 1))
    displacement = torch.zeros(1, 4, 2, 9, 96)
    displacement[:, :3, 0] = shift
    on_film = torch.full((4, BINS), 0.03**2)
    observed = observe(ldr, exposures, Calibration(response), on_film, (True, True, True, False))[None]
    radiance = inverse_mu_law(physical_merge(observed, exposures[None], displacement, 3)[0])[0, 0, 4, 12:84]
    shortest = inverse_mu_law(bring_to_reference(observed, displacement, 3).tone_mapped)[0, 0, 0, 4, 12:84]
    panes, shown = radiance.view(6, 12), shortest.view(6, 12)
    assert float((panes / shown)[:, 2:].min()) > 0.9
    assert float(panes[:, :2].max()) < 0.3


def saturated_red(mixing: bool) -> Tensor:
    """Weights (3 exposures, 3 channels) of a red that two of three exposures clip, in the middle of a flat scene."""
    radiance = torch.tensor([0.9, 0.004, 0.002]).view(3, 1, 1).expand(3, 3, 32, 32)
    ldr = (radiance * T.view(3, 1, 1, 1)).clamp(0, 1) ** (1 / 2.2)
    observed = observe(ldr, T, Calibration(Response.gamma(2.2), shot=1e-3, channels_mix=mixing))[None]
    aligned = bring_to_reference(observed, torch.zeros(1, 3, 2, 32, 32), 1)
    return prior(aligned, T[None], 1)[0, :, :, 16, 16].softmax(dim=0)


def test_the_unclipped_channels_of_a_saturated_colour_are_believed_where_channels_do_not_mix() -> None:
    weights = saturated_red(mixing=False)
    assert weights[0, 0] > 0.99
    # As under shot noise wherever nothing is clipped: the longest knows most.
    assert weights[2, 1:].min() > 0.5


def test_a_clipped_channel_spoils_the_others_where_channels_mix() -> None:
    assert saturated_red(mixing=True)[0].min() > 0.99


@pytest.mark.parametrize("levels", [255, 65535])
@pytest.mark.parametrize("radiance", [0.005, 0.05])
def test_deviation_is_what_the_camera_scatters(levels: int, radiance: float) -> None:
    camera = Camera(Response.gamma(2.2), full_well=8000.0, read_noise=5e-4, levels=levels)
    flat = torch.full((3, 3, 128, 128), radiance)
    ldr = camera.photograph(torch.Generator().manual_seed(0), flat, T)
    calibration = Calibration(camera.response, shot=1 / 8000, read=2.5e-7, levels=levels)
    observed = observe(ldr, T, calibration)
    for number, image in enumerate(observed):
        assert float(image[6].mean()) == pytest.approx(float(image[:3].std()), rel=0.06)
        # And in the radiance itself, besides, by what a level of the file is worth.
        t, light = float(T[number]), radiance * float(T[number])
        level = 2.2 * light ** (1 - 1 / 2.2) / levels / t
        expected = math.hypot(float(inverse_mu_law(image[:3]).std()), level)
        assert float(image[7].mean()) == pytest.approx(expected, rel=0.06)


def test_an_exposure_in_which_nothing_moves_may_differ_by_more() -> None:
    ldr = torch.rand(3, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    calibration = Calibration(Response.gamma(2.2))
    unknown, known = observe(ldr, T, calibration), observe(ldr, T, calibration, still=(True, False, False))
    torch.testing.assert_close(known[0, 6], 2.5 * unknown[0, 6])
    known[0, 6] = unknown[0, 6]
    assert torch.equal(known, unknown)


def test_deviation_holds_what_the_exposures_of_a_response_disagree_by() -> None:
    ldr = torch.full((2, 3, 8, 8), 0.5)
    exact, doubtful = (
        observe(ldr, torch.tensor([1.0, 4.0]), Calibration(Response.gamma(2.2), shot=0, read=0, disagreement=(ev,)))
        for ev in (0.0, 0.1)
    )
    radiance = 0.5**2.2
    error = radiance * (2**0.1 - 1) * 5000 / (1 + 5000 * radiance) / math.log(5001)
    added = (doubtful[0, 6].square() - exact[0, 6].square()).sqrt()
    torch.testing.assert_close(added, torch.full_like(added, error), rtol=0.02, atol=0)


def test_exposures_are_read_where_the_displacement_points_and_the_reference_is_copied() -> None:
    observed = torch.rand(1, 3, 11, 20, 24)
    displacement = torch.full((1, 3, 2, 20, 24), 0.5)
    displacement[:, 0, 0], displacement[:, 0, 1] = 2.0, -3.0
    aligned = bring_to_reference(observed, displacement, 1)
    assert torch.equal(aligned.tone_mapped[:, 1], observed[:, 1, :3])
    assert torch.equal(aligned.deviation[:, 1], observed[:, 1, 6:7])
    assert torch.equal(aligned.noise[:, 1], observed[:, 1, 7:10])
    torch.testing.assert_close(aligned.tone_mapped[0, 0, :, 3:, :22], observed[0, 0, :3, :17, 2:], atol=1e-5, rtol=0)
    root = inverse_mu_law(observed[0, 2, :3]) ** 0.25
    middle = (root[:, :-1, :-1] + root[:, 1:, :-1] + root[:, :-1, 1:] + root[:, 1:, 1:]) / 4
    torch.testing.assert_close(aligned.tone_mapped[0, 2, :, :-1, :-1], mu_law(middle**4), atol=1e-5, rtol=0)
    middle = (observed[0, 2, 7:10, :-1, :-1] + observed[0, 2, 7:10, 1:, :-1]) / 4
    middle = middle + (observed[0, 2, 7:10, :-1, 1:] + observed[0, 2, 7:10, 1:, 1:]) / 4
    torch.testing.assert_close(aligned.noise[0, 2, :, :-1, :-1], middle, atol=1e-5, rtol=0)


def test_what_is_black_has_a_gradient_where_it_is_read_between_pixels() -> None:
    observed = torch.zeros(1, 2, 11, 8, 8)
    observed[..., 4:] = 0.5
    observed.requires_grad_()
    displacement = torch.zeros(1, 2, 2, 8, 8)
    displacement[:, 1] = 0.3
    with torch.autograd.detect_anomaly():  # NaN on the way, too: what explains models looks at every operation
        bring_to_reference(observed, displacement, 0).tone_mapped.sum().backward()
    assert observed.grad is not None
    assert bool(torch.isfinite(observed.grad).all())


def test_a_lamp_as_small_as_a_pixel_keeps_an_eighth_of_its_light_between_two_and_more_nearer_to_one() -> None:
    night = torch.full((1, 2, 11, 9, 9), 0.0)
    night[:, :, :3] = mu_law(torch.tensor(1e-3))
    night[:, 1, :3, 4, 4] = 1.0
    shares = []
    for shift in (0.0, 0.2, 0.5):
        displacement = torch.zeros(1, 2, 2, 9, 9)
        displacement[:, 1, 0] = shift
        found = inverse_mu_law(bring_to_reference(night, displacement, 0).tone_mapped[0, 1, 0, 4])
        shares.append(float(found.max()))
    # Fourth roots: ((1 - s) + s 0.001 ^ (1 / 4)) ^ 4. In the mu-law domain it would be 0.03 of it at s = 1 / 2.
    assert shares == pytest.approx([((1 - s) + s * 1e-3**0.25) ** 4 for s in (0.0, 0.2, 0.5)], rel=1e-3)
    assert shares[-1] > 0.12


def test_nothing_is_believed_where_the_displacement_jumps() -> None:
    displacement = torch.zeros(1, 2, 2, 40, 64)
    displacement[:, 1, 1, :, 32:] = 9.0
    found = continuity(displacement)
    assert bool((found[0, 0] == 1).all())
    assert bool((found[0, 1, :, [*range(20), *range(44, 64)]] == 1).all())
    assert float(found[0, 1, :, 31:33].max()) < 0.2
    assert float(found[0, 1].diff(dim=-1).abs().max()) < 0.3  # no seam of its own
    torch.testing.assert_close(found[0, 1], found[0, 1, :1].expand(40, 64))


def test_what_is_known_of_a_displacement_is_not_looked_for_again() -> None:
    displacement = torch.zeros(1, 2, 2, 12, 12)
    observed = observe(torch.rand(2, 3, 12, 12), torch.tensor([1.0, 4.0]), Calibration(Response.srgb()))[None]
    half = torch.full((1, 2, 12, 12), 0.5)
    assert bool((bring_to_reference(observed, displacement, 0, continuous=half).seen == 0.5).all())


def test_what_bends_does_not_jump() -> None:
    """A homography, a rotation by ten degrees, and what moves by less than three pixels."""
    y, x = torch.meshgrid(torch.arange(40.0), torch.arange(64.0), indexing="ij")
    turned = torch.stack([-0.174 * y - 0.015 * x, 0.174 * x - 0.015 * y])
    by_two = torch.zeros(2, 40, 64)
    by_two[0, 10:30, 20:40] = 2.9
    displacement = torch.stack([turned, by_two, torch.zeros(2, 40, 64)])[None]
    assert torch.equal(continuity(displacement), torch.ones(1, 3, 40, 64))


def test_no_gradient_passes_the_jumps_of_a_displacement() -> None:
    # Where nothing jumps, a root of 0 would have one that is no number.
    displacement = torch.zeros(1, 2, 2, 12, 12, requires_grad=True)
    observed = observe(torch.rand(2, 3, 12, 12), torch.tensor([1.0, 4.0]), Calibration(Response.srgb()))
    aligned = bring_to_reference(observed[None], displacement, 0)
    assert not aligned.seen.requires_grad
    aligned.tone_mapped.sum().backward()
    assert displacement.grad is not None
    assert bool(displacement.grad.isfinite().all())


@pytest.mark.parametrize("size", [(16, 16), (17, 31), (2, 3), (1, 1)])
def test_continuity_of_any_size_is_a_share(size: tuple[int, int]) -> None:
    displacement = 4 * torch.randn(2, 3, 2, *size, generator=torch.Generator().manual_seed(0))
    displacement[:, 1] = 7.25
    found = continuity(displacement)
    assert found.shape == (2, 3, *size)
    assert bool(((found >= 0) & (found <= 1)).all())
    assert bool((found[:, 1] == 1).all())
    assert bool((found[:, 0] == 1).all()) == (min(size) == 1)


def test_seen_is_what_lies_inside_the_frame() -> None:
    displacement = torch.zeros(1, 2, 2, 6, 8)
    displacement[:, 1, 0] = -2.4
    displacement[:, 1, 1] = 1.4
    seen = bring_to_reference(torch.rand(1, 2, 11, 6, 8), displacement, 0).seen[0, :, 0]
    assert bool((seen[0] == 1).all())
    expected = torch.zeros(6, 8)
    expected[:5, 2:] = 1  # column 2 is read at -0.4, still in the first pixel; row 4 at 5.4, still in the last
    assert torch.equal(seen[1], expected)


def test_a_region_is_read_as_part_of_the_whole() -> None:
    observed = torch.rand(2, 3, 11, 40, 48)
    displacement = 4 * torch.randn(2, 3, 2, 40, 48)
    corner = torch.tensor([[8, 4], [12, 20]])
    whole = bring_to_reference(observed, displacement, 1)
    for scene, (top, left) in enumerate(corner.tolist()):
        inside = (..., slice(top, top + 16), slice(left, left + 20))
        parts = torch.stack([displacement[k][..., t : t + 16, s : s + 20] for k, (t, s) in enumerate(corner.tolist())])
        region = bring_to_reference(observed, parts, 1, corner)
        for found, expected in zip(region, whole, strict=True):
            torch.testing.assert_close(found[scene], expected[scene][inside], atol=1e-4, rtol=0)


def test_clipping_value_is_the_lower_saturation_of_two_exposures() -> None:
    expected = torch.log1p(5000 / torch.tensor([[4.0, 4.0, 16.0]])) / math.log(5001)
    torch.testing.assert_close(clipping_value(T[None], 1), expected)


def unexplained_of(grain: float, noise: float = 2e-3, scale: int = 1) -> tuple[Tensor, Tensor]:
    """Unexplained variance with multiplicative grain that the calibration does not know of, and which brightnesses the
    scene has on both sides of: at the ends of its range, those of the reference are chosen by their grain."""
    scene = textured(160, 160, darkest=0.004, brightest=0.045)
    source = torch.Generator().manual_seed(5)
    instants = [scene * (1 + grain * torch.randn(scene.shape, generator=source)) for _ in EXPOSURES]
    bracket = photographed(instants, noise=noise, levels=None)
    nowhere = torch.zeros(3, 2, 160 // scale, 160 // scale)
    found = unexplained_variance(bracket.ldr, bracket.exposures, bracket.calibration, nowhere, 1)
    shown = torch.histc(mu_law(scene).mean(dim=0), BINS, 0, 1) > 100
    return found, shown & shown.roll(1) & shown.roll(-1)


def test_nothing_is_unexplained_where_the_noise_is_known() -> None:
    found, shown = unexplained_of(0.0)
    assert found.shape == (3, BINS)
    assert found[:, shown].max() < 0.004**2


@pytest.mark.parametrize("scale", [1, 2])
def test_unexplained_grain_is_found(scale: int) -> None:
    # Also where displacements are kept at half the resolution: between pixels grain averages out.
    found, shown = unexplained_of(0.1, scale=scale)
    assert bool((found[1] == 0).all())  # the reference has nothing to be compared with
    # Grain of a tenth in both: sqrt(2) * 0.1 x of radiance, times the slope of the mu-law.
    middle = (torch.arange(BINS) + 0.5)[shown] / BINS
    x = inverse_mu_law(middle)
    expected = (2**0.5 * 0.1 * x * 5000 / (1 + 5000 * x) / math.log(5001)).square()
    torch.testing.assert_close(found[2, shown], expected, rtol=0.3, atol=0)
    assert int(shown.sum()) >= 2


def test_what_moved_is_not_taken_for_grain() -> None:
    scene = textured(160, 160, darkest=0.01, brightest=0.045)
    moved = scene.clone()
    moved[:, :, :80] = scene[:, :, :80].flip(1)
    bracket = photographed([moved, scene, moved], noise=5e-4, levels=None)
    found = unexplained_variance(bracket.ldr, bracket.exposures, bracket.calibration, torch.zeros(3, 2, 160, 160), 1)
    difference = (mu_law(moved) - mu_law(scene)).square().mean()
    assert found.max() < 0.02 * difference


def test_nothing_is_unexplained_where_the_reference_is_clipped() -> None:
    """A white wall, before which something dark stood in the short exposure: how dark it was, white does not tell."""
    ldr = torch.full((2, 3, 80, 80), 0.3)
    ldr[1] = 0.6
    ldr[1, :, :, :40] = 1.0
    calibration = Calibration(Response.gamma(2.2))
    found = unexplained_variance(ldr, torch.tensor([1.0, 4.0]), calibration, torch.zeros(2, 2, 80, 80), 1)
    step = int(BINS * math.log1p(5000 / 4) / math.log(5001))
    assert float(found[0, step]) == 0.0
    assert float(found[0].max()) > 0.0  # where it is not clipped, it is known that 0.3^2.2 is not 0.6^2.2 / 4


def test_nor_where_one_of_its_channels_is_clipped() -> None:
    ldr = torch.full((2, 3, 80, 80), 0.3)
    ldr[1] = 0.5
    ldr[1, :, :, :40] = torch.tensor([0.85, 0.85, 1.0]).view(3, 1, 1)
    calibration = Calibration(Response.gamma(2.2), channels_mix=False)
    found = unexplained_variance(ldr, torch.tensor([1.0, 4.0]), calibration, torch.zeros(2, 2, 80, 80), 1)
    brightness = sum(math.log1p(5000 * value**2.2 / 4) for value in (0.85, 0.85, 1.0)) / 3 / math.log(5001)
    assert float(found[0, int(BINS * brightness)]) == 0.0
    assert float(found[0].max()) > 0.0


def test_what_is_unexplained_is_looked_for_all_over_a_wide_image_and_in_its_own_pixels() -> None:
    ldr = torch.full((2, 3, 60, 240), 0.2)
    ldr[1] = 0.2 * 4 ** (1 / 2.2)
    ldr[:, :, :, 120:] *= 1.8
    ldr[0, :, :, 120:] *= 1.05  # on the right exposures disagree
    ldr[:, 2, ::2] *= 0.9
    exposures, nowhere = torch.tensor([1.0, 4.0]), torch.zeros(2, 2, 60, 240)
    alone, halved = (
        unexplained_variance(ldr, exposures, Calibration(Response.gamma(2.2), chroma_halved=(one, one)), nowhere, 1)
        for one in (False, True)
    )
    right = math.log1p(5000 * (0.2 * 1.8) ** 2.2) / math.log(5001)
    assert float(alone[0, int(BINS * right)]) > 1e-5
    # Pixels that were picked out have no neighbours from which colours could get detail.
    assert torch.equal(alone, halved)


def test_what_is_darker_than_all_that_was_compared_is_as_uncertain_as_the_darkest() -> None:
    """A floor below which the reference's values do not fall, as of scanned film: the long exposure sees below it."""
    scene = textured(160, 160, darkest=6e-4, brightest=0.045)
    bracket = photographed([scene.clamp_min(0.002), scene.clamp_min(0.002), scene], noise=2e-4, levels=None)
    camera = (bracket.ldr, bracket.exposures, bracket.calibration)
    found = unexplained_variance(*camera, torch.zeros(3, 2, 160, 160), 1)
    shown = torch.histc(mu_law(scene.clamp_min(0.002)).mean(dim=0), BINS, 0, 1)
    darkest = int((shown >= 100).nonzero()[0])
    assert darkest >= 3
    assert found[2, darkest] > 0.01**2
    assert found[2, :darkest].unique().numel() == 1
    assert found[2, 0] > 0.01**2
    observed = observe(*camera, found)[None]
    weights = physical_merge(observed, bracket.exposures[None], torch.zeros(1, 3, 2, 160, 160), 1)[1]
    assert float(weights[0, 2, :, (scene < 0.0015).all(dim=0)].mean()) > 0.5


def test_what_is_brighter_than_all_that_was_compared_is_no_more_uncertain_for_that() -> None:
    """Something bright comes before a wall that the reference all but clips: grain does not make it the wall's."""
    source = torch.Generator().manual_seed(5)
    scene = textured(160, 160, darkest=0.004, brightest=0.06)
    scene[:, 60:100, 60:100] = 0.18
    with_lamp = scene.clone()
    with_lamp[:, 70:90, 70:90] = 0.9
    on_film = [one * (1 + 0.1 * torch.randn(one.shape, generator=source)) for one in (with_lamp, scene, scene)]
    bracket = photographed(on_film, noise=5e-4, levels=None)
    camera = (bracket.ldr, bracket.exposures, bracket.calibration)
    nowhere = torch.zeros(3, 2, 160, 160)
    found = unexplained_variance(*camera, nowhere, 1)
    assert found[0].max() > 0.01**2
    assert bool((found[:, -2:] == 0).all())
    weights = physical_merge(observe(*camera, found)[None], bracket.exposures[None], nowhere[None], 1)[1]
    assert float(weights[0, 0, :, 72:88, 72:88].max()) < 0.05


def test_unexplained_variance_adds_to_the_deviation_at_its_brightness() -> None:
    radiance = inverse_mu_law(torch.tensor([2.5, 6.5, 7.0]) / BINS)
    ldr = (radiance ** (1 / 2.2)).expand(2, 3, 1, 3)
    table = torch.zeros(2, BINS)
    table[0, 6], table[0, 7] = 0.01, 0.03
    exposures, calibration = torch.tensor([1.0, 4.0]), Calibration(Response.gamma(2.2))
    known, more = observe(ldr, exposures, calibration), observe(ldr, exposures, calibration, table)
    added = more[0, 6, 0].square() - known[0, 6, 0].square()
    torch.testing.assert_close(added, torch.tensor([0.0, 0.01, 0.02]), atol=1e-4, rtol=0)
    assert torch.equal(more[1], known[1])


def photographed_with(moved: Tensor, noise: float = 1e-3, size: int = 160) -> tuple[Tensor, Tensor, Calibration]:
    """A bracket whose longest exposure shows another scene than the others."""
    scene = textured(size, size, darkest=0.01, brightest=0.045)
    bracket = photographed([scene, scene, torch.lerp(scene, 0.3 * scene.flip(1), moved)], noise=noise)
    return bracket.ldr, bracket.exposures, bracket.calibration


STILL = torch.zeros(2, 160, 160)


def test_nothing_moves_in_a_still_scene_however_noisy() -> None:
    for noise in (0.0, 1e-3, 3e-3):
        assert moving_share(*photographed_with(torch.zeros(160, 160), noise), STILL, 2, 1) < 0.005


@pytest.mark.parametrize("side", [60, 100])
def test_what_moves_is_counted_by_its_area(side: int) -> None:
    moved = torch.zeros(160, 160)
    moved[50 : 50 + side, 30 : 30 + side] = 1
    share = moving_share(*photographed_with(moved), STILL, 2, 1)
    assert share == pytest.approx((side / 160) ** 2, rel=0.35)
    assert moving_share(*photographed_with(moved), STILL, 0, 1) < 0.005


@pytest.mark.parametrize("side", [0, 20, 60, 150])
def test_whether_much_moves_is_told_by_the_share_that_moves(side: int) -> None:
    moved = torch.zeros(320, 320)
    moved[50 : 50 + side, 30 : 30 + side] = 1
    where = (*photographed_with(moved, size=320), torch.zeros(2, 320, 320), 2, 1)
    assert (moving_share(*where, 0.02) > 0.02) == (moving_share(*where) > 0.02) == (side > 50)


def test_patches_are_smoothed_one_by_one() -> None:
    maps = torch.rand(26, 39, dtype=torch.float64)
    smoothed = _blurred_in_patches(maps, 2.0)
    for row, column in ((0, 0), (1, 2)):
        patch = maps[13 * row : 13 * row + 13, 13 * column : 13 * column + 13].numpy()
        expected = torch.from_numpy(naive_blur(patch, 2.0, 6))
        torch.testing.assert_close(smoothed[row, :, column], expected)


def test_single_pixels_that_differ_do_not_count() -> None:
    moved = torch.zeros(160, 160)
    moved[::16, ::16] = 1
    assert moving_share(*photographed_with(moved), STILL, 2, 1) < 0.005


def test_motion_that_the_displacement_undoes_does_not_count() -> None:
    scene = textured(160, 172, darkest=0.001, brightest=0.06)
    instants = [scene[..., :160], scene[..., :160], scene[..., 12:]]
    bracket = photographed(instants, noise=1e-3)
    undone = torch.zeros(2, 80, 80)  # at half the resolution, in pixels of the image
    undone[0] = -12.0
    known = (bracket.ldr, bracket.exposures, bracket.calibration)
    assert moving_share(*known, undone, 2, 1) < 0.01
    assert moving_share(*known, torch.zeros(2, 80, 80), 2, 1) > 0.05


def test_where_nothing_is_well_exposed_everything_may_move() -> None:
    ldr = torch.ones(3, 3, 160, 160)
    assert moving_share(ldr, T, Calibration(Response.gamma(2.2)), STILL, 2, 1) == 1.0


def test_every_row_of_a_large_picture_is_observed_as_if_it_were_alone():
    """They are observed some rows at a time; none is lost, and none depends on the others."""
    calibration = Calibration(Response.srgb(), disagreement=(0.1, 0.1))
    ldr = torch.rand(3, 3, 65, 500, generator=torch.Generator().manual_seed(0))
    unexplained = torch.rand(3, BINS, generator=torch.Generator().manual_seed(1)) * 1e-3
    whole = observe(ldr, T, calibration, unexplained, (True, False, False))
    for row in (0, 20, 21, 22, 42, 43, 64):
        alone = observe(ldr[:, :, row : row + 1], T, calibration, unexplained, (True, False, False))
        torch.testing.assert_close(whole[:, :, row : row + 1], alone)


def test_noise_left_in_a_blend_is_what_many_brackets_of_the_same_scene_differ_by() -> None:
    source = torch.Generator().manual_seed(0)
    light = torch.tensor([0.01, 0.1, 0.5]).view(1, 1, 3, 1, 1)
    # Each channel has noise of its own; deviation is one number for all three.
    sigma = torch.tensor([[0.004, 0.001], [0.002, 0.003], [0.001, 0.008]]).T.view(1, 2, 3, 1, 1)
    of_all = torch.tensor([0.01, 0.003]).view(1, 2, 1, 1, 1)
    read = light + sigma * torch.randn(400, 2, 3, 6, 6, generator=source)
    weights = torch.tensor([0.3, 0.7]).view(1, 2, 1, 1, 1).expand(400, 2, 3, 6, 6)
    noise, deviation = sigma.expand(400, 2, 3, 6, 6), of_all.expand(400, 2, 1, 6, 6)
    one, zero = torch.ones_like(deviation), torch.zeros_like(deviation)
    aligned = Aligned(mu_law(read), torch.zeros_like(read), deviation, noise, one, zero)
    merge = blended(aligned, weights)
    noise, deviation = noise_of_blend(aligned, weights, merge)
    assert noise.shape == deviation.shape == (400, 3, 6, 6)
    torch.testing.assert_close(noise.mean(dim=(0, 2, 3)), merge.std(dim=0).mean(dim=(1, 2)), rtol=0.03, atol=0)
    expected = math.hypot(0.3 * 0.01, 0.7 * 0.003)
    torch.testing.assert_close(deviation, torch.full_like(deviation, expected), rtol=0.02, atol=0)


def test_noise_left_in_a_blend_has_a_gradient_where_there_is_none_and_beyond_the_mu_law() -> None:
    tone_mapped = torch.tensor([-0.1, 0.0, 0.5, 1.5]).view(1, 1, 1, 1, 4).expand(1, 2, 3, 1, 4)
    none = torch.zeros(1, 2, 3, 1, 4)
    weights = torch.full_like(tone_mapped, 0.5).requires_grad_()
    # One channel without any noise among others that have some, too.
    for sigma in (none, none + torch.tensor([0.01, 0.0, 0.002]).view(3, 1, 1)):
        of_all = sigma.mean(dim=2, keepdim=True)
        aligned = Aligned(tone_mapped, tone_mapped, of_all, sigma, torch.ones_like(of_all), torch.zeros_like(of_all))
        found = noise_of_blend(aligned, weights, tone_mapped[:, 0])
        assert all(bool((part >= 0).all()) for part in found)
        (gradient,) = torch.autograd.grad(found[0].sum() + found[1].sum(), weights)
        assert bool(torch.isfinite(gradient).all())


@pytest.mark.parametrize(("tone_mapped", "light"), [(-0.2, 0.0), (0.0, 0.0), (0.4, (5001**0.4 - 1) / 5000), (1.3, 1.0)])
def test_noise_left_in_a_blend_is_half_of_what_light_within_it_spans(tone_mapped: float, light: float) -> None:
    # Nothing is darker than black nor brighter than what the shortest holds; the mu-law goes on to the other side of 0.
    radiance = torch.full((1, 3, 9, 9), tone_mapped)
    known = torch.full((1, 2, 3, 9, 9), 0.01)
    known[:, :, 1] = 0.001
    aligned = Aligned(radiance.expand(1, 2, 3, 9, 9), known, known[:, :, :1], known, known[:, :, :1], known[:, :, :1])
    found = noise_of_blend(aligned, torch.full_like(known, 0.5), radiance)[0]
    for channel, sigma in enumerate(np.array([0.01, 0.001, 0.01]) / math.sqrt(2)):
        ends = [math.copysign(math.log1p(5000 * abs(x)), x) / math.log(5001) for x in (light + sigma, light - sigma)]
        expected = torch.full((9, 9), (ends[0] - ends[1]) / 2)
        torch.testing.assert_close(found[0, channel], expected, rtol=1e-3, atol=0)


def test_noise_left_in_a_blend_is_that_of_the_light_around() -> None:
    source = torch.Generator().manual_seed(0)
    radiance = torch.rand(1, 3, 12, 14, generator=source).double()
    known = 1e-3 * torch.rand(1, 2, 3, 12, 14, generator=source).double()
    aligned = Aligned(radiance.expand(1, 2, 3, 12, 14), known, known[:, :, :1], known, known[:, :, :1], known[:, :, :1])
    weights = torch.rand(1, 2, 3, 12, 14, generator=source).double()
    found = noise_of_blend(aligned, weights, radiance)[0]
    for channel in range(3):
        sigma = naive_blur((weights * known).square().sum(dim=1).sqrt()[0, channel].numpy(), 1.0, 3)
        light = (5001 ** naive_blur(radiance[0, channel].numpy(), 1.0, 3) - 1) / 5000
        ends = [np.sign(x) * np.log1p(5000 * abs(x)) / math.log(5001) for x in (light + sigma, light - sigma)]
        np.testing.assert_allclose(found[0, channel].numpy(), (ends[0] - ends[1]) / 2, rtol=2e-3)


@pytest.mark.parametrize("mixing", [False, True])
def test_each_channel_has_the_noise_of_its_own_light(mixing: bool) -> None:
    # sRGB at 0.5, 0.25 and 0.1; a camera that mixes its colours puts three tenths of the mean of all into each.
    ldr = torch.tensor([0.5, 0.25, 0.1]).view(1, 3, 1, 1).expand(2, 3, 8, 8)
    calibration = Calibration(Response.srgb(), shot=1e-3, read=1e-5, channels_mix=mixing)
    found = observe(ldr, torch.tensor([1.0, 4.0]), calibration)[:, 7:10, 4, 4]
    light = [((v + 0.055) / 1.055) ** 2.4 for v in (0.5, 0.25, 0.1)]
    rounding = [2.4 / 1.055 * ((v + 0.055) / 1.055) ** 1.4 / 255 for v in (0.5, 0.25, 0.1)]
    variance = [1e-3 * x + 1e-5 + r**2 / 12 + r**2 for x, r in zip(light, rounding, strict=True)]
    shared = 0.3 if mixing else 0.0
    expected = torch.tensor([math.sqrt((1 - shared) * v + shared * sum(variance) / 3) for v in variance])
    torch.testing.assert_close(found, torch.stack([expected, expected / 4]), rtol=5e-3, atol=0)


def saturated_texture(subsampled: bool) -> Calibration:
    """A camera whose files are 8-bit sRGB, and keep colour at half the resolution or do not."""
    return Calibration(
        Response.srgb(), shot=1e-5, read=1e-8, channels_mix=False, chroma_halved=(subsampled, subsampled)
    )


def test_the_detail_that_colours_lose_is_what_brightness_has_and_half_the_resolution_has_not() -> None:
    source = torch.Generator().manual_seed(0)
    ldr = torch.rand(2, 3, 24, 30, generator=source)
    found = observe(ldr, torch.tensor([1.0, 4.0]), saturated_texture(True))[:, 10].double().numpy()
    for exposure, image in zip(found, ldr.double().numpy(), strict=True):
        brightness = 0.299 * image[0] + 0.587 * image[1] + 0.114 * image[2]
        detail = brightness - naive_blur(brightness, 1.5, 4)
        np.testing.assert_allclose(exposure, np.sqrt(naive_blur(detail**2, 1.0, 3)), atol=1e-6)
    assert float(observe(ldr, torch.tensor([1.0, 4.0]), saturated_texture(False))[:, 10].abs().max()) == 0.0


@pytest.mark.parametrize(("subsampled", "believed"), [(True, True), (False, False)])
def test_what_a_jpeg_adds_to_the_dark_channel_of_a_texture_is_no_motion(subsampled: bool, believed: bool) -> None:
    # A yellow texture without any blue: by half the resolution of colour its blue gets what its brightness has of
    # detail, the reference more of it than the longer exposure, which shows the same light.
    source = torch.Generator().manual_seed(1)
    light = 0.02 * (1 + 0.9 * torch.sin(7 * torch.rand(1, 3, 40, 40, generator=source)))
    light[:, 2] = 1e-6
    values = Response.srgb().to_ldr(torch.cat([light, 4 * light, 8 * light]))
    values[1, 2] += 0.25 * torch.rand(40, 40, generator=source) * values[1, 0]
    exposures = torch.tensor([1.0, 4.0, 8.0])
    observed = observe(values, exposures, saturated_texture(subsampled))[None]
    aligned = bring_to_reference(observed, torch.zeros(1, 3, 2, 40, 40), 1)
    weights = prior(aligned, exposures[None], 1).softmax(dim=1)
    assert (float(weights[0, 2, 2, 8:-8, 8:-8].mean()) > 0.5) == believed
    # What differs in all channels is motion all the same.
    moved = values.clone()
    moved[2] = values[2].flip(-1)
    aligned = bring_to_reference(
        observe(moved, exposures, saturated_texture(subsampled))[None], torch.zeros(1, 3, 2, 40, 40), 1
    )
    assert float(prior(aligned, exposures[None], 1).softmax(dim=1)[0, 2, 2, 8:-8, 8:-8].mean()) < 0.1


def test_a_channel_that_was_only_mixed_with_a_clipped_one_is_no_evidence_of_motion() -> None:
    # A red jacket: red has clipped in the reference and left its green and blue too bright, by a matrix of the camera.
    light = torch.tensor([0.6, 0.05, 0.04]).view(1, 1, 3, 1, 1).expand(1, 2, 3, 20, 20).clone()
    light[:, 1] = torch.tensor([0.25, 0.16, 0.12]).view(1, 3, 1, 1)
    saturation, one = torch.zeros(1, 2, 3, 20, 20), torch.ones(1, 2, 1, 20, 20)
    saturation[:, 1] = 1.0
    aligned = Aligned(mu_law(light), saturation, 0.004 * one, 1e-3 * one.expand(1, 2, 3, 20, 20), one, 0 * one)
    exposures = torch.tensor([[1.0, 4.0]])
    assert float(prior(aligned, exposures, 1).softmax(dim=1)[:, 0].min()) > 0.9
    # But what is too dark to have clipped red is something else.
    light[:, 0] /= 4
    weights = prior(aligned._replace(tone_mapped=mu_law(light)), exposures, 1).softmax(dim=1)
    assert float(weights[:, 0].max()) < 0.1


def clipped_reference(reference: list[float], alone: bool) -> Aligned:
    """Two exposures of 2 x 2 pixels, the second clipped; ``alone``: channels do not mix, and one pixel shows it."""
    light = torch.tensor(reference).view(1, 1, 3, 1, 1).repeat(1, 2, 1, 2, 2)
    saturation, one = torch.zeros_like(light), torch.ones(1, 2, 1, 2, 2)
    saturation[:, 1] = 1.0
    if alone:
        saturation[:, 1, 0, 0, 0] = 0.0
    return Aligned(mu_law(light), saturation, one, light, one, 0 * one)


@pytest.mark.parametrize(
    ("reference", "estimate", "mixed", "alone"),
    [
        # The reference clips at 1 / 16. A blue sky: others may be clipped for its blue, by a matrix of the camera.
        ([0.0625] * 3, [0.03, 0.05, 0.4], [0.03, 0.05, 0.4], [0.0625, 0.0625, 0.4]),
        # Too dark in all channels to have clipped anything: something else, and the reference's colour is better.
        ([0.0625, 0.0625, 0.03], [0.0125] * 3, [0.0625, 0.0625, 0.03], [0.0625, 0.0625, 0.0125]),
        # Nothing becomes darker.
        ([0.0625, 0.03, 0.03], [0.0125, 0.05, 0.0125], [0.0625, 0.05, 0.03], [0.0625, 0.05, 0.0125]),
        # Lost and nearly clipped, it is a bound, too: its brightest channel, or all where the estimate is too dark.
        ([0.05] * 3, [0.0125] * 3, [0.05] * 3, [0.05] * 3),
        ([0.05, 0.04, 0.04], [0.0125] * 3, [0.05, 0.04, 0.04], [0.05, 0.0125, 0.0125]),
    ],
)
def test_what_clipped_the_reference_was_as_bright_as_that(
    reference: list[float], estimate: list[float], mixed: list[float], alone: list[float]
) -> None:
    given = mu_law(torch.tensor(estimate).view(1, 3, 1, 1).expand(1, 3, 2, 2))
    for channels_alone, expected in ((False, mixed), (True, alone)):
        aligned = clipped_reference(reference, channels_alone)
        found = not_below_saturation(given, aligned, torch.tensor([[1.0, 16.0]]), 1)
        torch.testing.assert_close(inverse_mu_law(found)[0, :, 1, 1], torch.tensor(expected), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("above", "green", "blue"),
    [(0.2, 0.0, 0.0), (0.1, 0.5, 0.0), (0.0, 1.0, 0.0), (-0.01, 1.0, 0.5), (-0.02, 1.0, 1.0)],
)
def test_between_too_dark_and_bright_enough_the_colour_changes_softly(above: float, green: float, blue: float) -> None:
    # Shares of the way to the reference, whose red and green are clipped: over 0.2 of the mu-law domain above 0.99 / 16
    # and 0.02 below.
    brightest = math.log1p(5000 * 0.99 / 16) / math.log(5001) + above
    estimate = torch.tensor([brightest, 0.6, 0.5]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    aligned = clipped_reference([0.0625, 0.0625, 0.05], False)
    found = not_below_saturation(estimate, aligned, torch.tensor([[1.0, 16.0]]), 1)[0, :, 1, 1]
    clipped, unclipped = (math.log1p(5000 * light) / math.log(5001) for light in (0.0625, 0.05))
    expected = torch.tensor([0.6 + green * (clipped - 0.6), 0.5 + blue * (unclipped - 0.5)])
    torch.testing.assert_close(found[1:], expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("subsampled", [True, False])
def test_what_a_jpeg_ripples_in_white_is_lost_too(subsampled: bool) -> None:
    # White but for one pixel of 0.95, beside which the gaussian of 1.5 pixels has 0.93 of what is clipped; and a grey
    # of the same value that little white surrounds.
    ldr = torch.full((1, 3, 24, 40), 1.0)
    ldr[:, :, :, 20:] = 0.95
    ldr[:, :, 12, 8] = 0.95
    ldr[:, :, 4, 8] = 0.5
    saturation = observe(ldr, torch.tensor([1.0]), saturated_texture(subsampled))[0, 3:6]
    partly = (0.95 - 0.9) / 0.08
    expected = torch.full((3,), 1.0 if subsampled else partly)
    torch.testing.assert_close(saturation[:, 12, 8], expected)
    torch.testing.assert_close(saturation[:, 12, 32], torch.full((3,), partly))
    assert float(saturation[:, 4, 8].max()) == 0.0  # what is not nearly clipped is no ripple


def test_each_example_of_a_batch_has_a_camera_of_its_own() -> None:
    # The last pair of cases above: of a camera that mixes channels, and of one that does not.
    mixing, alone = (clipped_reference([0.0625] * 3, one) for one in (False, True))
    both = Aligned(*(torch.cat(parts) for parts in zip(mixing, alone, strict=True)))
    given = mu_law(torch.tensor([0.03, 0.05, 0.4]).view(1, 3, 1, 1).expand(2, 3, 2, 2))
    found = not_below_saturation(given, both, torch.tensor([[1.0, 16.0]]).expand(2, -1), 1)
    expected = torch.tensor([[0.03, 0.05, 0.4], [0.0625, 0.0625, 0.4]])
    torch.testing.assert_close(inverse_mu_law(found)[:, :, 1, 1], expected, atol=1e-5, rtol=0)


def test_whether_much_moves_is_not_told_by_a_few_patches_that_happen_to_move() -> None:
    """Eight leaves that lie where every fourth patch is looked at: 8 of 225, but 1 % of the image."""
    size, step = 416, 27  # 27^2 = 416^2 / 237: of at most 250 patches
    scene = textured(size, size, darkest=0.01, brightest=0.045)
    leaves = torch.zeros(1, size, size)
    for place in range(1, 9):
        leaves[:, place * step : place * step + 13, place * step : place * step + 13] = 1.0
    bracket = photographed([scene, scene, torch.lerp(scene, 0.3 * scene.flip(1), leaves)], noise=1e-3)
    camera = (bracket.ldr, bracket.exposures, bracket.calibration, torch.zeros(2, size, size), 2, 1)
    everywhere = moving_share(*camera)
    assert 0.0 < everywhere < 0.02
    assert moving_share(*camera, enough=0.02) == everywhere


def test_noise_of_which_all_exposures_have_as_much_more_is_no_reason_to_doubt_one_less() -> None:
    """Else the network would learn to look for places so noisy that nothing can differ there."""
    scene = mu_law(textured(16, 16))
    tone_mapped = torch.stack([scene, scene + 0.02])[None]
    one = torch.ones(1, 2, 1, 16, 16)
    scale = torch.ones((), requires_grad=True)
    noise = scale * 0.05 * one.expand(-1, -1, 3, -1, -1)
    aligned = Aligned(tone_mapped, torch.zeros_like(tone_mapped), 0.002 * one, noise, one, 0 * one)
    weights = prior(aligned, torch.tensor([[1.0, 4.0]]), 0)
    assert bool((weights[:, 1] < 0).any())  # it differs
    (gradient,) = torch.autograd.grad(weights[:, 1].clamp(-7.9, -0.01).mean(), scale)
    assert abs(float(gradient)) < 1e-2


def test_ripples_in_what_one_channel_alone_clips_are_lost_in_that_channel() -> None:
    ldr = torch.full((1, 3, 24, 24), 0.5)
    ldr[:, 2] = 1.0
    ldr[:, 2, 12, 8] = 0.95
    calibration = Calibration(Response.srgb(), channels_mix=False, chroma_halved=(True, True))
    saturation = observe(ldr, torch.tensor([1.0]), calibration)[0, 3:6]
    torch.testing.assert_close(saturation[:, 12, 8], torch.tensor([0.0, 0.0, 1.0]))
