"""What noise does not explain between exposures of a whole image, and how much of it moves."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import chi2
from torch import Tensor

from hdr.agreement import _blurred_in_patches, moving_share, unexplained_variance
from hdr.calibration import Calibration
from hdr.fusion import physical_merge
from hdr.observation import BINS, observe
from hdr.radiometry import inverse_mu_law, mu_law
from hdr.response import Response
from tests.hdr.brackets import EXPOSURES, photographed, textured
from tests.hdr.naive import naive_blur

T = torch.tensor(EXPOSURES)


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


def test_unexplained_variance_is_that_of_the_difference() -> None:
    """Of one brightness, where a tenth of what differs least has to tell the variance of all."""
    source = torch.Generator().manual_seed(0)
    exposures, grain = torch.tensor([1.0, 2.0]), 0.05
    light = 0.2 * (1 + grain * torch.randn(2, 3, 160, 160, generator=source))
    camera = Calibration(Response.linear(), shot=0.0, read=1e-12, levels=10**6)
    nowhere = torch.zeros(2, 2, 160, 160)
    found = unexplained_variance(light * exposures.view(2, 1, 1, 1), exposures, camera, nowhere, 0)
    # Both have the grain; 0.2 times the slope of the mu-law there.
    expected = 2 * (grain * 0.2 * 5000 / (1 + 5000 * 0.2) / math.log(5001)) ** 2
    step = int(BINS * math.log1p(5000 * 0.2) / math.log(5001))
    assert float(found[1, step]) == pytest.approx(expected, rel=0.08)


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
    calibration = Calibration(Response.gamma(2.2), mixing=None)
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


def test_what_is_found_elsewhere_by_the_displacement_is_explained() -> None:
    """The longest exposure shows everything 12 columns to the right and 7 rows further up."""
    scene = textured(160, 160, darkest=0.01, brightest=0.045)
    bracket = photographed([scene, scene, scene.roll((-7, 12), (1, 2))], noise=5e-4, levels=None)
    camera = (bracket.ldr, bracket.exposures, bracket.calibration)
    displacement = torch.zeros(3, 2, 160, 160)
    assert unexplained_variance(*camera, displacement, 1)[2].max() > 0.02**2
    displacement[2, 0], displacement[2, 1] = 12.0, -7.0
    assert unexplained_variance(*camera, displacement, 1)[2].max() < 0.004**2


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


def photographed_with(moved: Tensor, noise: float = 1e-3, size: int = 160) -> tuple[Tensor, Tensor, Calibration]:
    """A bracket whose longest exposure shows another scene than the others."""
    scene = textured(size, size, darkest=0.01, brightest=0.045)
    bracket = photographed([scene, scene, torch.lerp(scene, 0.3 * scene.flip(1), moved)], noise=noise)
    return bracket.ldr, bracket.exposures, bracket.calibration


STILL = torch.zeros(2, 160, 160)


def test_nothing_moves_in_a_still_scene_however_noisy() -> None:
    for noise in (0.0, 1e-3, 3e-3):
        assert moving_share(*photographed_with(torch.zeros(160, 160), noise), STILL, 2, 1) < 0.005


def test_nothing_moves_in_grain_that_the_camera_does_not_know_of() -> None:
    scene = textured(160, 160, darkest=0.01, brightest=0.045)
    source = torch.Generator().manual_seed(5)
    on_film = [scene * (1 + 0.2 * torch.randn(scene.shape, generator=source)) for _ in EXPOSURES]
    bracket = photographed(on_film, noise=5e-4, levels=None)
    assert moving_share(bracket.ldr, bracket.exposures, bracket.calibration, STILL, 2, 1) < 0.02


@pytest.mark.parametrize("read", [1e-12, 0.01])
@pytest.mark.parametrize(("of_tolerance", "moves"), [(0.9, False), (1.1, True)])
def test_what_differs_by_much_more_than_is_expected_moves(read: float, of_tolerance: float, moves: bool) -> None:
    # Two grey pictures but for the middle: d^2 - s^2 > 3.5 (s^2 + 0.003^2), s^2 the variance of the difference.
    slope = 5000 / (1 + 5000 * 0.2) / math.log(5001)
    variance = 2 * (read * slope) ** 2
    difference = of_tolerance * math.sqrt(4.5 * variance + 3.5 * 0.003**2)
    ldr = torch.full((2, 3, 156, 156), 0.2)
    ldr[1, :, 39:117, 39:117] = inverse_mu_law(mu_law(torch.tensor(0.2)) + difference)
    camera = Calibration(Response.linear(), shot=0.0, read=read**2, levels=10**6)
    share = moving_share(ldr, torch.ones(2), camera, torch.zeros(2, 156, 156), 1, 0)
    assert share == pytest.approx(0.25 if moves else 0.0, abs=0.03)


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
        expected = torch.from_numpy(naive_blur(patch, 2.0))
        torch.testing.assert_close(smoothed[row, :, column], expected)


def test_single_pixels_that_differ_do_not_count() -> None:
    moved = torch.zeros(160, 160)
    moved[::16, ::16] = 1
    assert moving_share(*photographed_with(moved), STILL, 2, 1) < 0.005


@pytest.mark.parametrize(
    ("change", "moves"),
    [("none", False), ("detail of blue", False), ("texture", True), ("shade", True), ("colour", True)],
)
def test_what_compression_makes_of_the_colours_of_a_texture_does_not_move(change: str, moves: bool) -> None:
    # Foliage: a texture of brightness, and hardly any blue, whose detail another exposure has as it comes.
    source = torch.Generator().manual_seed(2)
    texture, other = torch.exp(0.4 * torch.randn(2, 1, 156, 156, generator=source))
    green = torch.tensor([0.05, 0.08, 0.01]).view(3, 1, 1)
    detail = torch.tensor([0.0, 0.0, 1.0]).view(3, 1, 1) * torch.log(other)
    there = {
        "none": green * texture,
        "detail of blue": green * texture * torch.exp(detail),
        "texture": green * other,
        "shade": 0.7 * green * texture,
        "colour": green.roll(1, dims=0) * texture,
    }[change]
    ldr = torch.stack([green * texture, green * texture]).clamp(0, 1)
    ldr[1, :, :78] = there[:, :78].clamp(0, 1)
    camera = Calibration(Response.linear(), shot=1e-6, read=1e-8, levels=65535)
    share = moving_share(ldr, torch.ones(2), camera, torch.zeros(2, 156, 156), 1, 0)
    assert share == pytest.approx(0.5 if moves else 0.0, abs=0.05)


def test_a_smooth_texture_that_moved_by_a_pixel_is_no_longer_like_itself() -> None:
    scene = textured(156, 156, darkest=0.01, brightest=0.045)
    moved = torch.cat([scene[..., :78], scene.roll(1, dims=-1)[..., 78:]], dim=-1)
    bracket = photographed([scene, scene, moved], noise=5e-4, levels=None)
    assert moving_share(bracket.ldr, bracket.exposures, bracket.calibration, torch.zeros(2, 156, 156), 2, 1) > 0.4


def test_motion_that_the_displacement_undoes_does_not_count() -> None:
    scene = textured(160, 172, darkest=0.001, brightest=0.06)
    instants = [scene[..., :160], scene[..., :160], scene[..., 12:]]
    bracket = photographed(instants, noise=1e-3)
    undone = torch.zeros(2, 80, 80)  # at half the resolution, in pixels of the image
    undone[0] = -12.0
    known = (bracket.ldr, bracket.exposures, bracket.calibration)
    assert moving_share(*known, undone, 2, 1) < 0.01
    assert moving_share(*known, torch.zeros(2, 80, 80), 2, 1) > 0.05


def test_displacements_of_half_the_resolution_are_those_of_their_pixels_all_along_a_panorama() -> None:
    """Strips of 36 columns, of which the longest exposure shows every second one 6 rows lower."""
    scene = textured(41, 1600, darkest=0.01, brightest=0.045)
    scene[..., :1380] = 1.0  # clipped: what is compared lies on the right, where errors of a scale add up
    lower = (torch.arange(1600) // 36 % 2).bool()
    bracket = photographed([scene, scene, torch.where(lower, scene.roll(6, dims=1), scene)], noise=5e-4, levels=None)
    displacement = torch.zeros(3, 2, 21, 800)
    displacement[2, 1] = 6.0 * lower[::2]
    known = (bracket.ldr, bracket.exposures, bracket.calibration)
    assert moving_share(*known, displacement[2], 2, 1) < 0.01
    assert unexplained_variance(*known, displacement, 1).max() < 0.004**2


def test_where_nothing_is_well_exposed_everything_may_move() -> None:
    ldr = torch.ones(3, 3, 160, 160)
    assert moving_share(ldr, T, Calibration(Response.gamma(2.2)), STILL, 2, 1) == 1.0


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


def test_unexplained_variance_is_what_a_loop_over_brightnesses_finds() -> None:
    source = torch.Generator().manual_seed(3)
    exposures, size = torch.tensor([1.0, 4.0]), (80, 80)
    tint = torch.tensor([1.0, 0.6, 0.3]).view(3, 1, 1)
    light = tint * 10 ** (-2.2 + 2.1 * torch.rand(1, *size, generator=source)) / 1.1
    # Grain, and where it is brightest something quite different, which the longer exposure shows until it clips.
    there = light * (1 + 0.15 * torch.randn(3, *size, generator=source)).clamp_min(0.1)
    there = torch.where((light[:1] > 0.05) & (light[:1] < 0.22), 0.4 * light, there)
    ldr = torch.stack([light, (4 * there).clamp_max(1)])
    ldr[1] = torch.where(ldr[1] > 0.85, 1.0, ldr[1])
    camera = Calibration(Response.linear(), shot=2e-4, read=1e-7, levels=65535)
    found = unexplained_variance(ldr, exposures, camera, torch.zeros(2, 2, *size), 0)

    deviation = observe(ldr, exposures, camera)[:, 6:7].double().numpy()
    shown = ldr.double().numpy() / np.array([1.0, 4.0]).reshape(2, 1, 1, 1)
    tone_mapped = np.log1p(5000 * np.minimum(shown, 0.25)) / math.log(5001)  # where the longer one clips
    squared = np.square(tone_mapped[1] - tone_mapped[0]).mean(0)
    brightness = (np.log1p(5000 * shown[0]) / math.log(5001)).mean(0)
    usable = (ldr < 0.9).all(dim=1).all(dim=0).numpy()
    expected = np.zeros(BINS)
    compared = []
    for step in range(BINS):
        here = usable & (np.floor(brightness * BINS) == step)
        if here.sum() >= 50:
            compared.append(step)
            quantile = np.quantile(squared[here], 0.1) / (chi2.ppf(0.1, 3) / 3)
            expected[step] = quantile - np.median(np.square(deviation).sum((0, 1))[here])
    expected[: compared[0]] = expected[compared[0]]
    assert 0 < compared[0] < compared[-1] < BINS - 1
    assert expected.max() > 0.1**2  # more is not believed
    np.testing.assert_allclose(found[1].numpy(), expected.clip(0, 0.1**2), rtol=0.02, atol=1e-6)


def test_by_few_patches_that_are_well_exposed_nothing_is_decided() -> None:
    scene = textured(160, 160, darkest=0.01, brightest=0.045)
    lit = torch.ones(3, 160, 160)
    lit[:, :20, :20] = scene[:, :20, :20]
    bracket = photographed([lit, lit, lit], noise=1e-3)  # still, which four patches do not tell
    assert moving_share(bracket.ldr, bracket.exposures, bracket.calibration, STILL, 2, 1) == 1.0


def test_half_precision_does_not_lose_the_places_of_a_wide_image() -> None:
    scene = textured(16, 4401, darkest=0.01, brightest=0.045)
    bracket = photographed([scene[..., :4400], scene[..., :4400], scene[..., 1:]], noise=1e-3)
    displacement = torch.zeros(3, 2, 16, 4400)
    displacement[2, 0] = -1.0
    half, whole = (
        unexplained_variance(ldr, bracket.exposures, bracket.calibration, displacement, 1)
        for ldr in (bracket.ldr.half(), bracket.ldr.half().float())
    )
    torch.testing.assert_close(half.float(), whole, atol=1e-6, rtol=1e-3)
    assert moving_share(bracket.ldr.half(), bracket.exposures, bracket.calibration, displacement[2], 2, 1) < 0.01
