"""Observations against what a camera does, and where they are found in the reference's frame."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from hdr.calibration import Calibration
from hdr.data.camera import Camera
from hdr.fusion import physical_merge
from hdr.observation import BINS, Aligned, bring_to_reference, continuity, observe, part_around, unsaturated
from hdr.radiometry import inverse_mu_law, mu_law
from hdr.response import Response
from tests.hdr.brackets import EXPOSURES, saturated_texture
from tests.hdr.naive import naive_blur

T = torch.tensor(EXPOSURES)


def test_no_gradient_passes_an_observation() -> None:
    ldr, calibration = torch.rand(2, 3, 40, 50), Calibration(Response.srgb())
    observed = observe(ldr.clone().requires_grad_(), torch.tensor([1.0, 4.0]), calibration)
    assert not observed.requires_grad
    assert torch.equal(observed, observe(ldr, torch.tensor([1.0, 4.0]), calibration))


def test_saturation_begins_and_ends_below_the_white_level() -> None:
    white = 248 / 255
    ldr = torch.full((2, 3, 1, 5), 0.2)
    ldr[:, 1] = white * torch.tensor([0.5, 0.9, 0.94, 0.98, 1.0])
    response = Response.gamma(2.2).with_white_level(white)
    calibration = Calibration(response, white_level=white)
    observed = observe(ldr, torch.tensor([1.0, 4.0]), calibration)
    saturation = bring_to_reference(observed[None], torch.zeros(1, 2, 2, 1, 5), 0).saturation[0, :, :, 0]
    others = torch.zeros(5)  # each channel is told by itself
    expected = torch.stack([others, torch.tensor([0.0, 0.0, 0.5, 1.0, 1.0]), others]).expand(2, 3, 5)
    torch.testing.assert_close(saturation, expected, atol=1e-3, rtol=0)


def test_black_tells_of_cut_noise_where_there_was_more_of_it_than_a_level_holds() -> None:
    # Variance 0.05 * shot * L of the brightest channel, and read noise, against a level of 1/255 of a linear file.
    level, linear = 1 / 255, Response.table(torch.linspace(0, 1, 1021))
    ldr = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 0.8], [0.0, level, 0.8], [level, 0.5, 1.0]]).T.view(1, 3, 4, 1)

    def cut_off(shot: float, read: float) -> Tensor:
        observed = observe(ldr, torch.ones(1), Calibration(linear, shot=shot, read=read))
        aligned = bring_to_reference(observed.expand(2, -1, -1, -1)[None], torch.zeros(1, 2, 2, 4, 1), 0)
        assert aligned.cut_off is not None
        assert torch.equal(aligned.saturation, aligned.cut_off.clamp(0, 1))
        return aligned.cut_off[0, 0, :, :, 0].clamp_max(0).neg()

    none = torch.zeros(3, 4)
    torch.testing.assert_close(cut_off(0.0, (0.4 * level) ** 2), none)
    black = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]).T
    black[2, 0] = 1.0
    torch.testing.assert_close(cut_off(0.0, level**2), black * 0.5, atol=1e-3, rtol=0)
    torch.testing.assert_close(cut_off(0.0, (9 * level) ** 2), black, atol=1e-3, rtol=0)
    beside_bright = black.clone()
    beside_bright[:, 0] = 0.0  # black all over: a bright channel leaves nothing there
    torch.testing.assert_close(cut_off(level**2 / 0.05 / 0.8, 0.0), beside_bright * 0.5, atol=1e-3, rtol=0)


@pytest.mark.parametrize("halved", [False, True])
def test_black_of_files_with_half_the_colours_tells_of_cut_noise_too(halved: bool) -> None:
    ldr = torch.tensor([0.5, 0.3, 0.0]).view(1, 3, 1, 1).expand(2, -1, 40, 40)
    calibration = Calibration(Response.gamma(2.2), read=1e-4, chroma_halved=(halved, halved))
    aligned = bring_to_reference(observe(ldr, torch.ones(2), calibration)[None], torch.zeros(1, 2, 2, 40, 40), 0)
    assert aligned.cut_off is not None
    expected = torch.tensor([0.0, 0.0, -1.0]).view(3, 1, 1).expand(2, -1, 40, 40)
    torch.testing.assert_close(aligned.cut_off[0], expected)


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


def test_black_deviates_by_no_more_than_its_noise_can_make_of_it() -> None:
    """The mu-law is steep in black: its slope there times the noise is several times what noise makes of black."""
    read = 0.003
    calibration = Calibration(Response.linear(), shot=0.0, read=read**2, levels=10**6)
    found = observe(torch.zeros(2, 3, 4, 4), torch.tensor([1.0, 4.0]), calibration)[:, 6, 2, 2]
    # One and a half times the mu-law of light of one standard deviation.
    expected = [1.5 * math.log1p(5000 * read / t) / math.log(5001) for t in (1, 4)]
    assert found.tolist() == pytest.approx(expected, rel=1e-3)
    assert 5000 * read / math.log(5001) > 2 * expected[0]


def test_an_exposure_in_which_nothing_moves_may_differ_by_more() -> None:
    ldr = torch.rand(3, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    calibration = Calibration(Response.gamma(2.2))
    unknown, known = observe(ldr, T, calibration), observe(ldr, T, calibration, still=(True, False, False))
    torch.testing.assert_close(known[0, 6], 2.5 * unknown[0, 6])
    known[0, 6] = unknown[0, 6]
    assert torch.equal(known, unknown)


def test_pixels_deviate_by_what_is_left_of_the_noise_and_are_off_by_all_of_it() -> None:
    ldr, exposures = torch.full((2, 3, 4, 4), 0.3), torch.tensor([1.0, 4.0])
    all_left, quarter = (
        observe(ldr, exposures, Calibration(Response.linear(), shot=1e-3, read=1e-5, levels=65535, noise_left=left))
        for left in (1.0, 0.25)
    )
    torch.testing.assert_close(quarter[:, 6], all_left[:, 6] / 2, rtol=1e-4, atol=0)
    assert torch.equal(quarter[:, 7:], all_left[:, 7:])


def test_deviation_holds_what_the_exposures_of_a_response_disagree_by() -> None:
    ldr = torch.full((2, 3, 8, 8), 0.5)
    exact, doubtful = (
        observe(ldr, torch.tensor([1.0, 4.0]), Calibration(Response.gamma(2.2), shot=0, read=0, disagreement=(ev,)))
        for ev in (0.0, 0.1)
    )
    for index, t in enumerate((1.0, 4.0)):
        radiance = 0.5**2.2 / t
        error = radiance * (2**0.1 - 1) * 5000 / (1 + 5000 * radiance) / math.log(5001)
        added = (doubtful[index, 6].square() - exact[index, 6].square()).sqrt()
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


@pytest.mark.parametrize("direction", [(1.0, 0.0), (0.6, -0.8)])
def test_what_stretches_by_half_more_than_three_pixels_within_eight_jumps_by_half(
    direction: tuple[float, float],
) -> None:
    # 3 pixels are no jump, 6 are one; of every second pixel five span eight.
    displacement = torch.zeros(1, 2, 2, 40, 64)
    displacement[:, 1] = 4.5 / 8 * torch.tensor(direction).view(2, 1, 1) * torch.arange(64.0)
    inner = continuity(displacement)[0, :, 14:26, 14:50]
    torch.testing.assert_close(inner, torch.tensor([1.0, 0.5]).view(2, 1, 1).expand_as(inner), atol=1e-4, rtol=0)


def test_unsaturated_is_what_shows_all_three_channels_inside_its_frame() -> None:
    maps = torch.zeros(1, 1, 3, 1, 4)
    maps[..., 1, :, 1] = 0.2  # in part
    maps[..., 2, :, 2] = 1.0
    seen = torch.tensor([1.0, 1.0, 1.0, 0.0]).view(1, 1, 1, 1, 4)
    assert unsaturated(Aligned(maps, maps, seen, maps, seen, seen)).flatten().tolist() == [True, False, False, False]


def test_a_displacement_jumps_in_a_region_where_it_jumps_in_the_whole() -> None:
    displacement = torch.zeros(1, 2, 2, 41, 331)
    displacement[:, 1, 0, :, 120:] = 8.0
    displacement[:, 1, 1, 20:, 200:] = -9.0
    whole = continuity(displacement)
    assert float(whole.amin()) < 0.2
    for width in (80, 151, 251):  # odd and even
        region = continuity(displacement[..., 80 : 80 + width])
        torch.testing.assert_close(region[..., 16:-16], whole[..., 96 : 64 + width])


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
        for found, expected in zip(region[:6], whole[:6], strict=True):  # all maps
            assert found is not None
            assert expected is not None
            torch.testing.assert_close(found[scene], expected[scene][inside], atol=1e-4, rtol=0)


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


def test_unexplained_variance_of_black_and_white_is_that_of_the_first_and_the_last_step() -> None:
    # Of pictures that all got the same light each is as bright as the brightest of all.
    ldr = torch.tensor([0.0, 1.0]).expand(2, 3, 1, 2)
    table = torch.zeros(2, BINS)
    table[:, 0], table[:, -1] = torch.tensor([0.01, 0.02]), torch.tensor([0.03, 0.04])
    exposures, calibration = torch.ones(2), Calibration(Response.gamma(2.2))
    known, more = observe(ldr, exposures, calibration), observe(ldr, exposures, calibration, table)
    added = more[:, 6, 0].square() - known[:, 6, 0].square()
    torch.testing.assert_close(added, torch.tensor([[0.01, 0.03], [0.02, 0.04]]), atol=1e-6, rtol=0)


def test_every_row_of_a_large_picture_is_observed_as_if_it_were_alone():
    """They are observed some rows at a time; none is lost, and none depends on the others."""
    calibration = Calibration(Response.srgb(), disagreement=(0.1, 0.1))
    ldr = torch.rand(3, 3, 65, 500, generator=torch.Generator().manual_seed(0))
    unexplained = torch.rand(3, BINS, generator=torch.Generator().manual_seed(1)) * 1e-3
    whole = observe(ldr, T, calibration, unexplained, (True, False, False))
    for row in (0, 20, 21, 22, 42, 43, 64):
        alone = observe(ldr[:, :, row : row + 1], T, calibration, unexplained, (True, False, False))
        torch.testing.assert_close(whole[:, :, row : row + 1], alone)


def test_each_channel_has_the_noise_of_its_own_light() -> None:
    # sRGB at 0.5, 0.25 and 0.1, where a level more makes as much difference as the slope tells, or little more.
    ldr = torch.tensor([0.5, 0.25, 0.1]).view(1, 3, 1, 1).expand(2, 3, 8, 8)
    calibration = Calibration(Response.srgb(), shot=1e-3, read=1e-5)
    found = observe(ldr, torch.tensor([1.0, 4.0]), calibration)[:, 7:10, 4, 4]
    light = [((v + 0.055) / 1.055) ** 2.4 for v in (0.5, 0.25, 0.1)]
    above = [((v + 4 / 255 + 0.055) / 1.055) ** 2.4 for v in (0.5, 0.25, 0.1)]
    rounding = [(more - x) / 4 for more, x in zip(above, light, strict=True)]
    variance = [1e-3 * x + 1e-5 + r**2 / 12 + r**2 for x, r in zip(light, rounding, strict=True)]
    expected = torch.tensor(variance).sqrt()
    torch.testing.assert_close(found, torch.stack([expected, expected / 4]), rtol=5e-3, atol=0)


def test_the_detail_that_colours_lose_is_what_brightness_has_and_half_the_resolution_has_not() -> None:
    source = torch.Generator().manual_seed(0)
    ldr = torch.rand(2, 3, 24, 30, generator=source)
    found = observe(ldr, torch.tensor([1.0, 4.0]), saturated_texture(True))[:, 10].double().numpy()
    for exposure, image in zip(found, ldr.double().numpy(), strict=True):
        brightness = 0.299 * image[0] + 0.587 * image[1] + 0.114 * image[2]
        detail = brightness - naive_blur(brightness, 1.5)
        np.testing.assert_allclose(exposure, np.sqrt(naive_blur(detail**2, 1.0)), atol=1e-6)
    assert float(observe(ldr, torch.tensor([1.0, 4.0]), saturated_texture(False))[:, 10].abs().max()) == 0.0


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


def test_what_is_nearly_clipped_is_lost_as_far_as_what_is_around_it_is_clipped() -> None:
    # Grey, which has no colours to restore; from half of its surroundings on, and surely from seven tenths.
    source = torch.Generator().manual_seed(0)
    clipped = torch.rand(24, 60, generator=source) < torch.linspace(0.2, 1, 60)
    value = torch.where(clipped, 1.0, torch.where(torch.rand(24, 60, generator=source) < 0.8, 0.93, 0.5))
    found = observe(value.expand(1, 3, 24, 60), torch.tensor([1.0]), saturated_texture(True))[0, 3:6].clamp_max(1)
    around = naive_blur(clipped.double().numpy(), 1.5)
    partly = np.where(value.numpy() == np.float32(0.93), (0.93 - 0.9) / 0.08, 0.0)
    lost = np.where(partly > 0, np.maximum(partly, np.clip((around - 0.5) / 0.2, 0, 1)), partly)
    expected = np.where(clipped.numpy(), 1.0, lost)
    assert ((lost > partly) & (lost < 1)).mean() > 0.02
    np.testing.assert_allclose(found.numpy(), np.broadcast_to(expected, (3, 24, 60)), atol=1e-4)


def test_ripples_in_what_one_channel_alone_clips_are_lost_in_that_channel() -> None:
    ldr = torch.full((1, 3, 24, 24), 0.5)
    ldr[:, 2] = 1.0
    ldr[:, 2, 12, 8] = 0.95
    calibration = Calibration(Response.srgb(), mixing=None, chroma_halved=(True, True))
    saturation = observe(ldr, torch.tensor([1.0]), calibration)[0, 3:6]
    torch.testing.assert_close(saturation[:, 12, 8], torch.tensor([0.0, 0.0, 1.0]))


@pytest.mark.parametrize("halved", [(True, True), (False, True), (True, False), (False, False)])
def test_files_with_half_the_colours_are_observed_alike_where_a_graph_is_told_of_them(
    halved: tuple[bool, bool],
) -> None:
    ldr = torch.rand(2, 3, 21, 30, generator=torch.Generator().manual_seed(0))
    calibration = Calibration(Response.srgb(), chroma_halved=halved)
    rows, columns = (torch.tensor(float(half)) for half in halved)
    of_a_graph = dataclasses.replace(calibration, chroma_halved=(rows, columns))  # type: ignore[arg-type]
    found, expected = (observe(ldr, torch.tensor([1.0, 4.0]), camera) for camera in (of_a_graph, calibration))
    torch.testing.assert_close(found, expected)
    assert bool(expected[:, 10].any()) == any(halved)


def test_fine_colours_darken_no_channel_beside_one_that_clips_below_the_largest_value() -> None:
    ldr = (torch.rand(1, 3, 40, 40, generator=torch.Generator().manual_seed(0))).clamp_max(0.8)
    response, t = Response.srgb().with_white_level(0.8), torch.ones(1)
    restored, plain = (
        observe(ldr, t, Calibration(response, white_level=0.8, chroma_halved=(halved, halved)))[0, :3]
        for halved in (True, False)
    )
    darker, clipped = plain - restored, ldr[0].amax(dim=0) >= 0.98 * 0.8
    assert 0.1 < float(clipped.float().mean()) < 0.9
    assert float(darker[:, clipped].max()) < 1e-6
    assert float(darker[:, ~clipped].max()) > 0.01


@pytest.mark.parametrize("halved", [(True, True), (False, True), (True, False), (False, False)])
@pytest.mark.parametrize("region", [(40, 57, 61, 90), (33, 41, 48, 57), (0, 9, 70, 101)])
def test_a_part_of_a_file_tells_what_all_of_it_tells_of_a_region(
    halved: tuple[bool, bool], region: tuple[int, int, int, int]
) -> None:
    ldr = torch.rand(2, 3, 97, 101, generator=torch.Generator().manual_seed(4)).sqrt() * 1.2
    camera = torch.tensor([1.0, 4.0]), Calibration(Response.srgb(), chroma_halved=halved)
    top, bottom, left, right = region
    above, below, before, behind = part_around(*region, camera[1])
    above, before = max(above, 0), max(before, 0)
    part = observe(ldr[..., above:below, before:behind].clamp_max(1), *camera)
    inside = part[..., top - above : bottom - above, left - before : right - before]
    torch.testing.assert_close(inside, observe(ldr.clamp_max(1), *camera)[..., top:bottom, left:right])
    if not any(halved):
        assert (above, below, before, behind) == region
