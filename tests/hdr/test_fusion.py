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
    blended,
    merged,
    noise_of_blend,
    not_below_saturation,
    prior,
    without_cut_noise,
    without_tolerance,
)
from hdr.mixing import NO_MIXING, TYPICAL
from hdr.observation import Aligned, bring_to_reference, continuity, observe
from hdr.radiometry import inverse_mu_law, mu_law
from hdr.response import Response
from tests.hdr.brackets import EXPOSURES, photographed, textured
from tests.hdr.naive import naive_blur

T = torch.tensor(EXPOSURES)


def naive_prior(aligned: Aligned, exposures: list[float], reference: int) -> np.ndarray:
    """Logarithms of the weights of one scene, (N, 3, H, W), relative to the largest."""
    parts = (part[0].double().numpy() for part in aligned if part is not None)
    tone_mapped, saturation, deviation, noise, seen, lost, *_ = parts
    off = naive_spoiling(aligned, exposures, reference)
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
    brightness = (5001 ** np.stack([naive_blur(channel, 2.0) for channel in tone_mapped[reference]]) - 1) / 5000
    slope = 5000 / (1 + 5000 * brightness) / math.log(5001)
    smooth = [np.stack([naive_blur(channel, 1.0) for channel in one]) for one in noise]
    variance = [(one * slope) ** 2 + 1e-10 for one in smooth]
    variance = [v + (0 if i == reference else 0.0015**2) for i, v in enumerate(variance)]
    log = np.zeros((count, 3, height, width))
    for i, t in enumerate(exposures):
        # Light above the noise of both, clipped where one of the two clips first.
        more = np.sqrt(smooth[i] ** 2 + smooth[reference] ** 2)
        shown = [np.minimum(light[k], 1 / max(t, exposures[reference])) + more for k in (i, reference)]
        # The reference is as near to what is shown as clipped channels may have put it off.
        most = off[i] + off[reference]
        shown[1] = shown[1] + np.clip(shown[0] - shown[1], -most, most)
        difference = (np.log1p(5000 * shown[0]) - np.log1p(5000 * shown[1])) / math.log(5001)
        differing = deviation[i] ** 2 + deviation[reference] ** 2 + 0.003**2
        told = differing / (differing + wrong[i] + wrong[reference])
        alone = (told * difference**2).mean(axis=0)
        squared = naive_blur(alone, 1.0)
        # Of a place that the reference has lost, other such places around it.
        lost_share = (saturation[reference].min(axis=0) >= 0.999).astype(float)
        lost_around = naive_blur(lost_share, 1.0)
        among_lost = naive_blur(alone * lost_share, 1.0) / np.maximum(lost_around, 0.3)
        by_themselves = lost_share * np.clip((lost_around - 0.3) / 0.2, 0, 1)
        squared_of_lost = (1 - by_themselves) * squared + by_themselves * among_lost
        # Slopes of that logarithm over those of the mu-law, by the means of the channels.
        grey_noise = np.sqrt(smooth[i].mean(axis=0) ** 2 + smooth[reference].mean(axis=0) ** 2)
        grey_noise = np.maximum(grey_noise - 0.002, 0)
        grey = [1 / 5000 + light[k].mean(axis=0) for k in (i, reference)]
        slopes = [one / (one + grey_noise) for one in grey]
        expected = naive_blur((slopes[0] * deviation[i]) ** 2 + (slopes[1] * deviation[reference]) ** 2, 2.0)
        for row, column, channel in itertools.product(range(height), range(width), range(3)):
            here, place = (row, column), (channel, row, column)
            excess = max(squared[here] - expected[here], 0.0)
            consistent = 1.0 if i == reference else math.exp(-0.5 * excess / (expected[here] + 0.003**2))
            precision = exposures[reference] * variance[reference][place] / variance[i][place]
            usable = unsaturated[i][place]
            if i > reference:  # what the reference saw of the light clips it: the channel, or where none shows it all
                mixed = len(set(saturation[i, :, row, column])) == 1
                seen_by_reference = tone_mapped[reference, :, row, column]
                clips = (5001 ** (seen_by_reference.max() if mixed else seen_by_reference[channel]) - 1) / 5000 * t
                usable = min(usable, max(0.0, min(1.0, (1.3 - clips) / 0.2)))
            elif i > 0 and saturation[i, :, row, column].max() >= 0.999:  # beside white, what shorter ones saw of it
                clear = [k for k in range(1, i) if saturation[k, :, row, column].max() <= 1e-3]
                clips = light[max(clear, default=0)][place] * t
                doubt = min(1.0, 2 * saturation[i][place]) * (1 - max(0.0, min(1.0, (1.3 - clips) / 0.2)))
                usable = min(usable, 1 - doubt)
            # What clipped channels do to this one makes it as wrong as more noise would.
            right = noise[i][place] ** 2 / (noise[i][place] ** 2 + off[i][place] ** 2)
            weight = usable * right * precision * consistent * seen[i][here]
            if i < reference:  # shorter exposures decide where the reference is lost
                darker = max(squared_of_lost[here] - expected[here], 0.0)
                enough = math.exp(-0.5 * darker / (expected[here] + 0.006**2))
                usable = 1.0 if i == 0 else max(usable * right, 1e-3)
                trust = 1.0 if seen[i][here] else 0.03
                trust = trust if exposures[reference] > 1.1 * t else 0.0  # one of its light clips where it does
                weight += 0.01 * saturation[reference][place] * enough * usable * trust * t
            log[i][place] = math.log(weight + (1e-5 if i == reference else 1e-12))
    return np.maximum(log - log.max(axis=0), -8.0)


def naive_spoiling(aligned: Aligned, exposures: list[float], reference: int) -> np.ndarray:
    """By how much each channel of each exposure is off beside clipped ones, (N, 3, H, W), in linear light."""
    light = (5001 ** aligned.tone_mapped[0].double().numpy() - 1) / 5000
    off = np.zeros_like(light)
    if aligned.mixing is None:
        return off
    matrix, errors = aligned.mixing[0, :, :3].double().numpy(), aligned.mixing[0, :, 3].double().numpy()
    saturation = aligned.saturation[0].double().numpy()
    for row, column in itertools.product(range(light.shape[2]), range(light.shape[3])):
        known = light[0, :, row, column]
        for i in range(1, len(exposures)):
            clipped = saturation[i, :, row, column]
            lost = np.maximum(np.linalg.solve(matrix, known * exposures[i]) - 1, 0) * clipped
            besides = errors * clipped.max() * light[i, :, row, column]
            off[i, :, row, column] = np.abs(matrix @ lost) / exposures[i] + besides
            if i <= reference and clipped.max() <= 1e-3:
                known = light[i, :, row, column]
    return off


def random_aligned(
    count: int, reference: int, seed: int = 0, mixing: bool = False, subsampled: bool = False
) -> Aligned:
    """Exposures that agree here and disagree there, saturated and unseen in parts that overlap."""
    source = torch.Generator().manual_seed(seed)
    scene = mu_law(textured(16, 20, seed))
    difference = 0.04 * torch.randn(1, count, 3, 16, 20, generator=source)
    difference[:, reference] = 0
    saturation = (2 * torch.rand(1, count, 3, 16, 20, generator=source) - 0.7).clamp(0, 1)
    saturation[..., :5] = saturation[:, :, :1, :, :5]  # there all channels are alike, whether clipped or in part
    scene = scene * (1.25 if mixing else 1.0)  # so that some of the sensor is clipped
    colours = torch.tensor([[[1.4, -0.3, -0.1, 0.0], [-0.2, 1.3, -0.1, 0.05], [0.0, -0.4, 1.4, 0.1]]])
    deviation = 0.002 + 0.02 * torch.rand(1, count, 1, 16, 20, generator=source)
    noise = 0.001 + 0.005 * torch.rand(1, count, 3, 16, 20, generator=source)
    seen = (torch.rand(1, count, 1, 16, 20, generator=source) < 0.8).float()
    seen[:, reference] = 1
    lost = 0.1 * torch.rand(1, count, 1, 16, 20, generator=source) if subsampled else torch.zeros_like(seen)
    observed = ((scene + difference).clamp(0, 1), saturation, deviation, noise, seen, lost)
    return Aligned(*observed, colours if mixing else None)


@pytest.mark.parametrize("subsampled", [False, True])
@pytest.mark.parametrize("mixing", [False, True])
@pytest.mark.parametrize(
    ("exposures", "reference"),
    [
        ((1.0, 4.0), 0),
        ((1.0, 3.0, 11.0), 1),
        ((1.0, 2.0, 4.0, 9.0), 2),
        ((1.0, 2.0, 5.0), 0),
        ((1.0, 3.8, 4.0, 4.1, 16.0), 2),
    ],
)
def test_prior_is_its_formula_pixel_by_pixel(
    exposures: tuple[float, ...], reference: int, mixing: bool, subsampled: bool
) -> None:
    aligned = random_aligned(len(exposures), reference, mixing=mixing, subsampled=subsampled)
    if mixing:
        off = naive_spoiling(aligned, list(exposures), reference)
        assert 0.02 < (off[1:, 0] > 0.01).mean() < 0.9  # of the first channel, which nothing but the matrix spoils
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
    ldr[:, 1:] = 0.1  # a saturated red, which spoils no other channel
    ldr[1, 0] = torch.randint(248, 256, (32, 32), generator=torch.Generator().manual_seed(0)) / 255
    exposures = torch.tensor([1.0, 16.0])
    ldr[1, 1:] = response.to_ldr(response.to_linear(ldr[0, 1:]) * 16)
    observed = observe(ldr, exposures, Calibration(response))[None]
    assert (observed[0, 1, 3] < 1).float().mean() > 0.2
    aligned = bring_to_reference(observed, torch.zeros(1, 2, 2, 32, 32), 0)
    assert prior(aligned, exposures[None], 0).softmax(dim=1)[:, 1, 0].max() < 1e-3


@pytest.mark.parametrize(("shortest", "believed"), [(1.0, False), (0.96, True)])
def test_what_jpeg_makes_of_white_in_the_reference_is_not_believed_beside_white(
    shortest: float, believed: bool
) -> None:
    # A sun of which blue comes out as 249 of 255; or a yellow, whose blue is as bright as that.
    response = Response.linear()
    ldr = torch.ones(2, 3, 32, 32)
    ldr[0] *= shortest / 8
    ldr[0, :2] = 1.0
    ldr[1, 2] = 249 / 255
    if not believed:
        ldr[0, 2] = 1.0
    exposures = torch.tensor([1.0, 8.0])
    observed = observe(ldr, exposures, Calibration(response, mixing=None))[None]
    aligned = bring_to_reference(observed, torch.zeros(1, 2, 2, 32, 32), 1)
    weights = prior(aligned, exposures[None], 1).softmax(dim=1)[0, :, 2]
    assert (float(weights[1].min()) > 0.5) == believed
    assert (float(weights[0].min()) > 0.99) == (not believed)


def saturated_red(mixing: bool) -> Tensor:
    """Weights (3 exposures, 3 channels) of a red that two of three exposures clip, in the middle of a flat scene."""
    radiance = torch.tensor([0.9, 0.004, 0.002]).view(3, 1, 1).expand(3, 3, 32, 32)
    ldr = (radiance * T.view(3, 1, 1, 1)).clamp(0, 1) ** (1 / 2.2)
    calibration = Calibration(Response.gamma(2.2), shot=1e-3, mixing=TYPICAL if mixing else None)
    observed, nowhere = observe(ldr, T, calibration)[None], torch.zeros(1, 3, 2, 32, 32)
    aligned = bring_to_reference(observed, nowhere, 1, mixing=calibration.batched_mixing(T))
    return prior(aligned, T[None], 1)[0, :, :, 16, 16].softmax(dim=0)


def test_the_unclipped_channels_of_a_saturated_colour_are_believed_where_channels_do_not_mix() -> None:
    weights = saturated_red(mixing=False)
    assert weights[0, 0] > 0.99
    # As under shot noise wherever nothing is clipped: the longest knows most.
    assert weights[2, 1:].min() > 0.5


def test_a_clipped_channel_spoils_the_others_where_channels_mix() -> None:
    # The reference has lost 2.6 of red, and of it 0.2 of green, of which there is 0.02, and a fortieth of blue.
    weights = saturated_red(mixing=True)[0]
    assert weights[:2].min() > 0.99
    assert weights[2] > 0.9


def test_nothing_is_believed_where_the_displacement_jumps() -> None:
    displacement = torch.zeros(1, 2, 2, 40, 64)
    displacement[:, 1, 1, :, 32:] = 9.0
    found = continuity(displacement)
    assert bool((found[0, 0] == 1).all())
    assert bool((found[0, 1, :, [*range(20), *range(44, 64)]] == 1).all())
    assert float(found[0, 1, :, 31:33].max()) < 0.2
    assert float(found[0, 1].diff(dim=-1).abs().max()) < 0.3  # no seam of its own
    torch.testing.assert_close(found[0, 1], found[0, 1, :1].expand(40, 64))


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
    noise, deviation, _ = noise_of_blend(aligned, weights, merge)
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
    found, _, of_light = noise_of_blend(aligned, weights, radiance)
    for channel in range(3):
        sigma = naive_blur((weights * known).square().sum(dim=1).sqrt()[0, channel].numpy(), 1.0)
        light = (5001 ** naive_blur(radiance[0, channel].numpy(), 1.0) - 1) / 5000
        ends = [np.sign(x) * np.log1p(5000 * abs(x)) / math.log(5001) for x in (light + sigma, light - sigma)]
        np.testing.assert_allclose(found[0, channel].numpy(), (ends[0] - ends[1]) / 2, rtol=2e-3)
        np.testing.assert_allclose(of_light[0, channel].numpy(), sigma, rtol=2e-3)


def clipped_reference(reference: list[float], alone: bool) -> Aligned:
    """Two exposures of 2 x 2 pixels, the second clipped; ``alone``: channels do not mix."""
    light = torch.tensor(reference).view(1, 1, 3, 1, 1).repeat(1, 2, 1, 2, 2)
    saturation, one = torch.zeros_like(light), torch.ones(1, 2, 1, 2, 2)
    saturation[:, 1] = 1.0
    mixing = torch.tensor([[*row, 0.0] for row in (NO_MIXING if alone else TYPICAL.matrix)])[None]
    return Aligned(mu_law(light), saturation, one, light, one, 0 * one, mixing)


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


def test_what_did_not_clip_the_reference_may_be_darker_than_it_shows() -> None:
    # By noise, for instance: a mean that could only rise above the reference would be too bright.
    light = torch.tensor([0.02, 0.03, 0.01]).view(1, 1, 3, 1, 1).expand(1, 2, 3, 2, 2)
    one = torch.ones(1, 2, 1, 2, 2)
    aligned = Aligned(mu_law(light), torch.zeros_like(light), one, light, one, 0 * one)
    darker = mu_law(0.8 * light[:, 0])
    assert torch.equal(not_below_saturation(darker, aligned, torch.tensor([[1.0, 16.0]]), 1), darker)


def test_without_its_tolerance_a_still_bracket_has_the_deviation_of_one_that_moves() -> None:
    ldr = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    # The reference itself never has any.
    moving, unmoved = (
        bring_to_reference(
            observe(ldr, T, Calibration(Response.gamma(2.2)), still=still)[None], torch.zeros(1, 3, 2, 8, 8), 1
        )
        for still in ((), (True, False, True))
    )
    assert float((unmoved.deviation / moving.deviation).amax()) > 2
    for found, expected in zip(without_tolerance(unmoved, 1), moving, strict=True):
        torch.testing.assert_close(found, expected)


def test_each_example_of_a_batch_has_a_camera_of_its_own() -> None:
    # The last pair of cases above: of a camera that mixes channels, and of one that does not.
    mixing, alone = (clipped_reference([0.0625] * 3, one) for one in (False, True))
    pairs = zip(mixing[:-1], alone[:-1], strict=True)
    both = Aligned(*(torch.cat(pair) for pair in pairs))  # type: ignore[arg-type]
    given = mu_law(torch.tensor([0.03, 0.05, 0.4]).view(1, 3, 1, 1).expand(2, 3, 2, 2))
    found = not_below_saturation(given, both, torch.tensor([[1.0, 16.0]]).expand(2, -1), 1)
    expected = torch.tensor([[0.03, 0.05, 0.4], [0.0625, 0.0625, 0.4]])
    torch.testing.assert_close(inverse_mu_law(found)[:, :, 1, 1], expected, atol=1e-5, rtol=0)


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


def dark(light: Tensor, deviation: float, levels: int = 65535) -> Aligned:
    """Twice the same light (3, H, W) with other noise of a standard deviation, by a linear camera that cuts it at 0."""
    random = torch.Generator().manual_seed(0)
    noisy = light + deviation * torch.randn(2, *light.shape, generator=random)
    files = (noisy.clamp(0, 1) * levels).round() / levels
    response = Response.table(torch.linspace(0, 1, 1021))
    camera = Calibration(response, shot=0.0, read=deviation**2, levels=levels, mixing=None)
    return bring_to_reference(observe(files, torch.ones(2), camera)[None], torch.zeros(1, 2, 2, *light.shape[1:]), 0)


@pytest.mark.parametrize("of_noise", [0.0, 0.25, 0.5, 1.0, 2.0, 5.0])
def test_noise_that_was_cut_off_in_black_adds_no_light(of_noise: float) -> None:
    # In the mean max(x + s z, 0) is x Phi(x / s) + s phi(x / s).
    deviation = 2e-3
    light = of_noise * deviation
    aligned = dark(torch.full((3, 64, 64), light), deviation)
    weights = torch.full((1, 2, 3, 64, 64), 0.5)
    shown = inverse_mu_law(blended(aligned, weights)).mean().item()
    phi = math.exp(-(of_noise**2) / 2) / math.sqrt(2 * math.pi)
    assert shown == pytest.approx(light * (1 + math.erf(of_noise / math.sqrt(2))) / 2 + deviation * phi, rel=0.02)
    found = inverse_mu_law(merged(aligned, weights, torch.ones(1, 2), 0)).mean().item()
    assert found == pytest.approx(light, abs=0.15 * deviation)
    assert 0.15 * shown <= found * 1.001 <= shown * 1.001  # some light is left, for there may be some


def test_what_is_black_for_want_of_levels_keeps_the_light_that_rounding_leaves() -> None:
    # A third of a level: a third of the pixels would show one, if it were for noise alone.
    aligned = dark(torch.full((3, 64, 64), 0.4 / 255), 0.3 / 255, levels=255)
    weights = torch.full((1, 2, 3, 64, 64), 0.5)
    zero = (aligned.tone_mapped < 1e-6).float().mean()
    assert 0.5 < zero < 0.8
    assert torch.equal(merged(aligned, weights, torch.ones(1, 2), 0), blended(aligned, weights))


def test_what_is_bright_beside_black_is_not_darkened_by_more_than_noise() -> None:
    light = torch.zeros(3, 24, 24)
    light[:, :, ::4] = 0.2  # lines
    aligned = dark(light, 1e-3)
    weights = torch.full((1, 2, 3, 24, 24), 0.5)
    estimate = blended(aligned, weights)
    found = without_cut_noise(estimate, aligned, weights, torch.full_like(estimate, 1e-3))
    less = inverse_mu_law(estimate) - inverse_mu_law(found)
    assert 1e-3 < less[..., ::4].mean() <= 2e-3 + 1e-6
    # Each exposure counts as far as it is in the estimate: by the other alone, here without black, nothing changes.
    assert aligned.cut_off is not None
    alone = aligned._replace(cut_off=torch.cat([aligned.cut_off[:, :1], torch.zeros_like(aligned.cut_off[:, 1:])], 1))
    second = torch.stack([torch.zeros_like(weights[:, 0]), torch.ones_like(weights[:, 1])], dim=1)
    assert torch.equal(without_cut_noise(estimate, alone, second, torch.full_like(estimate, 1e-3)), estimate)
    assert torch.equal(without_cut_noise(estimate, aligned._replace(cut_off=None), weights, estimate), estimate)
