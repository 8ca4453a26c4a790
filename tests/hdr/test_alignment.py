"""Displacement of whole images: a known shift is found, what stands still stays, and a part is part of the whole."""

import math
import warnings
from typing import Any, Literal

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

import hdr.alignment
from hdr.alignment import Alignment, align, dense_displacement
from hdr.bracket import Bracket
from hdr.calibration import Calibration
from hdr.registration import CameraMotion, RegistrationError
from hdr.response import Response
from hdr.scene import dynamic_scene
from tests.hdr.brackets import EXPOSURES, ldr_of, photographed, textured

INNER = (slice(None), slice(12, -12), slice(12, -12))


def shifted(height: int, width: int, x: int, y: int, **arguments: Any) -> tuple[Tensor, Tensor]:
    """A scene, and the same seen x pixels further right and y further down."""
    margin = 24
    wide = textured(height + 2 * margin, width + 2 * margin, **arguments)
    here = wide[:, margin : margin + height, margin : margin + width]
    there = wide[:, margin - y : margin - y + height, margin - x : margin - x + width]
    return here, there


def assert_is(displacement: Tensor, x: float, y: float, within: float) -> None:
    inner = displacement[INNER]
    assert inner[0].median().item() == pytest.approx(x, abs=within)
    assert inner[1].median().item() == pytest.approx(y, abs=within)
    error = (inner - torch.tensor([x, y]).view(2, 1, 1)).norm(dim=0)
    assert error.quantile(0.9) < within


@pytest.mark.parametrize(("x", "y"), [(3, 0), (-5, 2), (12, -9)])
def test_a_known_shift_is_found_to_a_tenth_of_a_pixel(x: int, y: int) -> None:
    here, there = shifted(128, 160, x, y)
    found = dense_displacement(here, there, limit=1.0)
    assert found.shape == (2, 128, 160)
    assert found.dtype == torch.float32
    assert_is(found, x, y, 0.1)


def test_a_shift_by_half_a_pixel_is_found() -> None:
    # Two pixels in one, of a scene that was shifted by one.
    here, there = shifted(256, 320, 3, -1)
    here, there = (torch.nn.functional.avg_pool2d(scene, 2) for scene in (here, there))
    assert_is(dense_displacement(here, there, limit=1.0), 1.5, -0.5, 0.1)


@pytest.mark.parametrize(("shift", "moved"), [(0.25, 0.0), (0.4, 0.4)])
def test_a_background_that_moved_by_less_than_a_third_of_a_pixel_has_not_moved(shift: float, moved: float) -> None:
    # Pixels that are not interpolated stay as sharp as they are.
    here = (255 * textured(96, 128)[0]).byte().numpy()
    background, agreement = hdr.alignment._background(here, np.full((96, 128, 2), (shift, 0.0), np.float32))
    assert background is not None
    np.testing.assert_allclose(background, np.broadcast_to((moved, 0.0), (96, 128, 2)), atol=1e-4)
    assert agreement == 1.0


@pytest.mark.parametrize(("other", "limit"), [(4.0, 1 / 4), (16.0, 1 / 16)])
def test_a_shift_is_found_between_different_exposures_of_which_one_is_clipped(other: float, limit: float) -> None:
    here, there = shifted(128, 160, -4, 3, darkest=0.003, brightest=0.3)
    ldr = ldr_of(here, 1.0), ldr_of(there, other)
    clipped = (ldr[1].amax(dim=0) == 1).float().mean()
    assert (0.02 if other == 4 else 0.2) < clipped < 0.6
    found = dense_displacement(ldr[0] ** 2.2, ldr[1] ** 2.2 / other, limit)
    assert_is(found, -4, 3, 0.1)


def test_a_shift_is_found_around_a_clipped_region() -> None:
    here, there = shifted(128, 160, 5, 2)
    for scene, (top, left) in ((here, (40, 50)), (there, (42, 55))):
        scene[:, top : top + 32, left : left + 48] = 5.0
    assert_is(dense_displacement(here, there, limit=1.0), 5, 2, 0.1)


@pytest.mark.parametrize("noise", [0.003, 0.01])
def test_what_stands_still_in_noise_is_kept_still(noise: float) -> None:
    scene = textured(96, 128, darkest=0.02, brightest=0.4)
    scene[:, :, 64:] = 0.1  # a wall without texture: flow would follow the noise
    here, there = (ldr_of(scene, 1.0, noise, seed=seed) ** 2.2 for seed in (1, 2))
    assert (dense_displacement(here, there, limit=1.0) == 0).float().mean() > 0.8


def test_what_moves_in_front_of_what_stands_is_followed_alone() -> None:
    scene, thing = textured(128, 160, 1), textured(48, 48, 2)
    here, there = scene.clone(), scene.clone()
    here[:, 40:88, 40:88] = thing
    there[:, 40:88, 46:94] = thing
    found = dense_displacement(here, there, limit=1.0)
    thing_moved, rest = found[:, 48:80, 48:80], found[:, :, 112:]
    assert thing_moved[0].median() == pytest.approx(6.0, abs=0.1)
    assert float(rest.abs().max()) == 0.0


def test_what_is_white_moves_with_its_edges() -> None:
    # A card that is clipped but for some dots, in front of a background that moves, too.
    here, there = (scene.clone() for scene in shifted(160, 200, -3, 2, darkest=0.02, brightest=0.2))
    for scene, left in ((here, 60), (there, 66)):
        scene[:, 40:110, left : left + 80] = 0.5
        scene[:, 45:110:12, left + 5 : left + 80 : 12] = 0.05
    inside = dense_displacement(here, there, limit=0.25)[:, 50:100, 70:130]
    assert (inside - torch.tensor([6.0, 0.0]).view(2, 1, 1)).norm(dim=0).quantile(0.9) < 1.0


def test_what_is_white_behind_something_that_moves_stands_still() -> None:
    # A sky, of whose outline a bird makes a part only.
    here, there = (scene.clone() for scene in shifted(160, 200, -3, 2, darkest=0.02, brightest=0.2))
    here[:, :90], there[:, :92] = 0.5, 0.5
    here[:, 40:52, 60:76], there[:, 40:52, 68:84] = 0.01, 0.01
    found = dense_displacement(here, there, limit=0.25)
    sky = found[:, 5:80, 20:-20].flatten(1)
    away = (sky - torch.tensor([-3.0, 2.0]).view(2, 1)).norm(dim=0) < 0.5
    assert away.float().mean() > 0.9


def test_flow_does_not_bend_a_white_sky_around_what_moves_in_front_of_it() -> None:
    # A tripod; the sky is clipped, and a level or two darker in one place of the other exposure.
    here = textured(200, 240, darkest=0.02, brightest=0.2)
    here[:, :120] = 0.5
    there = here.clone()
    y, x = torch.meshgrid(torch.arange(200.0), torch.arange(240.0), indexing="ij")
    there[:, :120] = 0.25 - 0.005 * torch.exp(-((y - 60) ** 2 + (x - 130) ** 2) / (2 * 25**2))[:120]
    person = textured(120, 40, darkest=0.005, brightest=0.1)
    here[:, 40:160, 60:100], there[:, 40:160, 80:120] = person, person
    moved = dense_displacement(here, there, limit=0.25).norm(dim=0)
    assert moved[60:150, 64:96].median() > 15
    assert moved[:120, :50].max() < 1
    assert moved[:120, 130:].max() < 1


def test_the_only_thing_with_texture_is_not_the_background() -> None:
    # A person in front of an empty wall, who says nothing of how the camera moved.
    here, there = torch.full((3, 200, 300), 0.1), torch.full((3, 200, 300), 0.1)
    person = textured(80, 30, darkest=0.01, brightest=0.09)
    here[:, 40:120, 60:90], there[:, 40:120, 76:106] = person, person
    moved = dense_displacement(here, there, limit=0.25)
    assert_is(moved[:, 40:120, 60:90], 16, 0, 0.3)
    assert moved[:, :, 150:].abs().max() == 0


@pytest.mark.parametrize("size", [(16, 16), (16, 100), (33, 17)])
def test_small_images_are_aligned(size: tuple[int, int]) -> None:
    scene = textured(*size)
    found = dense_displacement(scene, scene, limit=1.0)
    assert found.shape == (2, *size)
    assert float(found.abs().max()) < 0.2


def hand_held(height: int = 192, width: int = 256, shake: int = 0) -> Bracket:
    """Exposures whose places are found shake pixels further right and half of it further up, and the other way."""
    here, there = shifted(height, width, shake, -shake // 2)
    back = shifted(height, width, -shake, shake // 2)[1]
    return photographed([there, here, back])


def test_a_shaken_bracket_is_aligned_to_its_reference() -> None:
    found = align(hand_held(shake=10))
    assert found.size == (192, 256)
    assert found.displacement.shape == (3, 2, 192, 256)
    assert float(found.displacement[1].abs().max()) == 0.0
    assert_is(found.displacement[0], 10, -5, 0.15)
    assert_is(found.displacement[2], -10, 5, 0.15)


def test_any_exposure_can_be_the_reference() -> None:
    here, there = shifted(192, 256, 6, 0)
    found = align(photographed([here, there, there], reference=0))
    assert float(found.displacement[0].abs().max()) == 0.0
    assert_is(found.displacement[1], 6, 0, 0.15)
    assert_is(found.displacement[2], 6, 0, 0.15)


def test_alignment_is_repeatable() -> None:
    bracket = hand_held(shake=8)
    assert torch.equal(align(bracket).displacement, align(bracket).displacement)


def test_a_tripod_bracket_is_left_as_it_is_but_for_what_moved() -> None:
    bracket = dynamic_scene(128, 192).bracket
    found = align(bracket).displacement
    assert (found == 0).float().mean() > 0.7
    assert float(found.abs().max()) > 1.0


@pytest.mark.parametrize("mode", ["auto", "off"])
def test_off_takes_the_exposures_as_they_lie(mode: Literal["auto", "off"]) -> None:
    moved = float(align(hand_held(shake=10), mode).displacement.abs().max())
    assert (moved > 9) == (mode == "auto")


@pytest.mark.parametrize("flat", [0.0, 0.5])
def test_a_camera_whose_motion_cannot_be_told_is_noted_or_refused(flat: float) -> None:
    bracket = Bracket(torch.full((3, 3, 64, 64), flat), torch.tensor(EXPOSURES))
    with pytest.warns(UserWarning, match="the camera's motion cannot be told .only 0 features") as told:
        found = align(bracket, "auto")
    assert float(found.displacement.abs().max()) == 0.0
    assert [str(warning.message)[:10] for warning in told] == ["exposure 1", "exposure 3"]
    with pytest.raises(RegistrationError, match="features match the reference's"):
        align(bracket, "on")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        align(bracket, "off")


def test_on_asks_for_the_cameras_motion_also_where_flow_has_followed_the_background(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def untold(*_: Any) -> CameraMotion:
        raise RegistrationError("nothing in common")

    monkeypatch.setattr(hdr.alignment, "estimate_motion", untold)
    bracket = hand_held(96, 128, shake=4)
    align(bracket, "auto")  # and nothing is warned of
    with pytest.raises(RegistrationError, match="nothing in common"):
        align(bracket, "on")


def test_exposures_are_shown_clipped_where_one_of_the_two_clips_first(monkeypatch: pytest.MonkeyPatch) -> None:
    limits, shown = [], hdr.alignment._exposure_shown

    def remember(bracket: Bracket, index: int, limit: float, scale: int) -> Any:
        limits.append((index, limit))
        return shown(bracket, index, limit, scale)

    monkeypatch.setattr(hdr.alignment, "_exposure_shown", remember)
    align(hand_held(32, 32))
    assert limits == [(1, 1 / 4), (0, 1 / 4), (1, 1 / 16), (2, 1 / 16)]


def test_unknown_modes_are_refused() -> None:
    with pytest.raises(ValueError, match="mode must be one of auto, on, off, got 'maybe'"):
        align(hand_held(32, 32), "maybe")  # type: ignore[arg-type]


def test_progress_is_told_after_every_exposure() -> None:
    calls = []
    align(hand_held(32, 32), "off", progress=lambda: calls.append(1))
    assert len(calls) == 3


@pytest.fixture
def half_resolution(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hdr.alignment, "_LARGEST_AT_FULL_RESOLUTION", 10_000)


@pytest.mark.usefixtures("half_resolution")
@pytest.mark.parametrize("size", [(192, 256), (191, 255)])
def test_large_images_are_aligned_at_half_their_resolution_in_their_own_pixels(size: tuple[int, int]) -> None:
    found = align(hand_held(*size, shake=10))
    assert found.displacement.shape == (3, 2, 96, 128)
    assert_is(found.window(0, size[0], 0, size[1])[0], 10, -5, 0.3)
    assert_is(found.window(0, size[0], 0, size[1])[2], -10, 5, 0.3)
    assert found.still == (True, False, True)


@pytest.mark.parametrize("size", [(64, 80), (63, 79), (64, 79)])
@pytest.mark.parametrize("scale", [1, 2])
def test_a_window_is_the_same_part_of_the_whole(size: tuple[int, int], scale: int) -> None:
    rows, columns = (-(-side // scale) for side in size)
    alignment = Alignment(torch.randn(3, 2, rows, columns), size)
    whole = alignment.window(0, size[0], 0, size[1])
    assert whole.shape == (3, 2, *size)
    for top, bottom, left, right in [(0, 16, 0, 16), (7, 40, 21, 60), (30, size[0], 31, size[1]), (8, 9, 50, 51)]:
        torch.testing.assert_close(alignment.window(top, bottom, left, right), whole[..., top:bottom, left:right])


def test_windows_of_half_resolution_interpolate_between_the_middles_of_cells() -> None:
    alignment = Alignment(torch.arange(8.0).expand(1, 2, 6, 8), (12, 16))
    row = alignment.window(0, 12, 0, 16)[0, 0, 3]
    # Cell k covers pixels 2 k and 2 k + 1, whose middle is 2 k + 0.5.
    expected = ((torch.arange(16.0) - 0.5) / 2).clamp(0, 7)
    torch.testing.assert_close(row, expected)


def test_seen_by_all_is_cut_to_what_every_exposure_saw() -> None:
    displacement = torch.zeros(3, 2, 40, 60)
    displacement[0, 0], displacement[0, 1] = 7.0, -3.0  # the first saw 7 columns less on the right, 3 rows at the top
    displacement[2, 0], displacement[2, 1] = -4.4, 0.3
    rows, columns = Alignment(displacement, (40, 60)).seen_by_all()
    assert (rows, columns) == (slice(3, 40), slice(4, 53))


def test_seen_by_all_of_a_still_bracket_is_everything() -> None:
    assert Alignment(torch.zeros(2, 2, 30, 50), (30, 50)).seen_by_all() == (slice(0, 30), slice(0, 50))


def test_seen_by_all_counts_in_pixels_of_the_bracket_also_at_half_resolution() -> None:
    displacement = torch.zeros(2, 2, 20, 30)
    displacement[0, 0] = 8.0
    rows, columns = Alignment(displacement, (40, 59)).seen_by_all()
    assert rows == slice(0, 40)
    assert columns.start == 0
    assert 48 <= columns.stop <= 51


def test_seen_by_all_of_a_still_panorama_of_odd_height_is_everything_also_at_half_resolution() -> None:
    # 21 cells of 2 rows are 42 rows: cells are no smaller than 2 x 2 pixels because of that.
    assert Alignment(torch.zeros(2, 2, 21, 300), (41, 600)).seen_by_all() == (slice(0, 41), slice(0, 600))


@pytest.mark.parametrize("size", [(40, 60), (41, 61), (41, 300), (300, 41)])
@pytest.mark.parametrize("shift", [(0.0, 0.0), (3.2, -2.7), (-2.7, 3.2), (0.3, 0.9), (-6.0, -5.0)])
def test_every_pixel_of_what_all_saw_was_seen_by_all(size: tuple[int, int], shift: tuple[float, float]) -> None:
    height, width = size
    displacement = torch.zeros(2, 2, -(-height // 2), -(-width // 2))
    displacement[0] = torch.tensor(shift).view(2, 1, 1)
    rows, columns = Alignment(displacement, size).seen_by_all()
    for side, kept, moved in ((height, rows, shift[1]), (width, columns, shift[0])):
        seen = [place for place in range(side) if -0.5 < place + moved < side - 0.5]
        assert seen[0] <= kept.start <= seen[0] + 1
        assert seen[-1] - 1 <= kept.stop - 1 <= seen[-1]


def test_a_thing_that_left_the_frame_does_not_cut_the_rest() -> None:
    displacement = torch.zeros(2, 2, 40, 60)
    displacement[0, 0, 15:20, 20:30] = 100.0  # found nowhere: a hole, not a border
    assert Alignment(displacement, (40, 60)).seen_by_all() == (slice(0, 40), slice(0, 60))


def test_a_still_scene_is_known_as_such_and_not_moved_by_flow() -> None:
    scene = textured(160, 160, darkest=0.01, brightest=0.045)
    bracket = photographed(scene, noise=3e-3)
    alignment = align(bracket)
    assert alignment.still == (True, False, True)
    assert float(alignment.displacement.abs().max()) == 0


def test_a_lamp_that_moves_in_a_still_scene_is_followed_alone() -> None:
    here = textured(200, 240, darkest=0.003, brightest=0.02)
    there = here.clone()
    y, x = torch.meshgrid(torch.arange(200.0), torch.arange(240.0), indexing="ij")
    for scene, left in ((here, 80), (there, 86)):
        lamp = 0.1 * torch.exp(-((y - 60) ** 2 + (x - left) ** 2) / (2 * 4**2))
        scene += lamp
    bracket = photographed([there, here, here], noise=1e-3)
    found = align(bracket)
    assert found.still == (True, False, True)
    assert found.displacement[0, 0, 56:64, 77:83].mean().item() == pytest.approx(6, abs=0.5)
    assert found.displacement[0, :, 110:].abs().max() == 0
    assert found.displacement[2].abs().max() == 0


@pytest.mark.parametrize(("disagreement", "followed"), [(0.0, True), (0.1, True), (0.2, True), (0.9, False)])
def test_what_exposures_disagree_about_everywhere_is_no_motion(disagreement: float, followed: bool) -> None:
    # A sky of 230, which another exposure shows as 190 but for a cloud: flow would take the light from there.
    here, there = np.full((60, 80), 230, np.uint8), np.full((60, 80), 190, np.uint8)
    there[20:40, 45:65] = 230
    flow = np.zeros((60, 80, 2), np.float32)
    flow[20:40, 20:40] = 25, 0
    _, evident = hdr.alignment._chosen(here, there, flow, np.zeros_like(flow), disagreement)
    assert (evident[25:35, 25:35, 0] == (25 if followed else 0)).all()
    assert (evident[:10] == 0).all()


@pytest.mark.parametrize(("levels", "followed"), [(15, False), (30, True)])
def test_in_a_still_scene_flow_is_followed_where_it_explains_twenty_levels_more(levels: int, followed: bool) -> None:
    here = np.full((60, 80), 100, np.uint8)
    there = here.copy()
    here[20:40, 20:40], there[20:40, 45:65] = 100 + levels, 100 + levels
    flow = np.zeros((60, 80, 2), np.float32)
    flow[20:40, 20:40] = 25, 0
    _, evident = hdr.alignment._chosen(here, there, flow, np.zeros_like(flow), 0.0)
    assert (evident[25:35, 25:35, 0] == (25 if followed else 0)).all()


def test_in_a_still_scene_flow_is_followed_where_a_faint_texture_moves_together() -> None:
    # Grey on grey, of a tenth; single pixels differ by little more than noise makes of them.
    scene = textured(200, 240, darkest=0.02, brightest=0.9)
    faint = textured(40, 60, seed=1, darkest=0.1, brightest=0.12)
    instants = [scene.clone(), scene]
    for instant, left in zip(instants, (104, 100), strict=True):
        instant[:, 70:120, 90:180] = 0.11
        instant[:, 75:115, left : left + 60] = faint
    found = align(photographed(instants, exposures=(1.0, 4.0), noise=3e-3, reference=1))
    assert found.still == (True, False)
    inside = found.displacement[0, :, 85:105, 115:150]
    assert inside.median(dim=2).values.median(dim=1).values.tolist() == pytest.approx([4, 0], abs=0.5)
    elsewhere = found.displacement[0].abs().amax(dim=0)
    elsewhere[65:125, 85:185] = 0
    assert (elsewhere > 0).float().mean() < 0.01


def test_in_a_still_scene_flow_of_noise_is_not_followed_though_it_explains_much() -> None:
    # The difference of two exposures in noise; flow that reads another of the next five pixels is closer to the
    # reference, by far, and goes another way in each pixel.
    random = np.random.default_rng(0)
    here, there = random.normal(100, 8, (2, 90, 120)).round().clip(0, 255).astype(np.uint8)
    columns = np.arange(120)
    candidates = np.stack([there[:, (columns + by).clip(0, 119)] for by in range(-2, 3)])
    best = np.abs(candidates.astype(int) - here).argmin(axis=0) - 2
    flow = np.stack([best, np.zeros_like(best)], axis=2).astype(np.float32)
    notably, evident = hdr.alignment._chosen(here, there, flow, np.zeros_like(flow), 0.0)
    assert (notably != 0).any(axis=2).mean() > 0.5
    assert (evident == 0).all()


def test_in_a_still_scene_flow_is_not_followed_for_light_that_changed_alone() -> None:
    # A sky that is brighter to the right; in the other exposure all of it by eight levels, as 20 pixels further right.
    sky = np.broadcast_to(80 + 0.4 * np.arange(160), (90, 160))
    here, there = sky.round().astype(np.uint8), (sky - 8).round().astype(np.uint8)
    flow = np.zeros((90, 160, 2), np.float32)
    flow[20:70, 40:120] = 20, 0
    notably, evident = hdr.alignment._chosen(here, there, flow, np.zeros_like(flow), 0.0)
    assert (notably[30:60, 50:110, 0] == 20).all()
    assert (evident == 0).all()


@pytest.mark.parametrize(("shift", "followed"), [(0.25, False), (0.4, True)])
def test_in_a_still_scene_flow_is_followed_from_a_third_of_a_pixel_on(shift: float, followed: bool) -> None:
    # Waves of 8 pixels, of which a quarter of a pixel tells 6 levels: pixels that stay where they are stay sharp.
    columns = np.arange(160)
    here, there = (
        np.broadcast_to(120 + 40 * np.sin((columns - by) * np.pi / 4), (90, 160)).round().astype(np.uint8)
        for by in (0, shift)
    )
    flow = np.zeros((90, 160, 2), np.float32)
    flow[..., 0] = shift
    flow[:, 100:] = 0
    _, evident = hdr.alignment._chosen(here, there, flow, np.zeros_like(flow), 0.0)
    assert (evident[20:70, 20:80, 0] == (np.float32(shift) if followed else 0)).all()


def test_in_a_still_scene_flow_is_not_followed_out_of_the_glow_of_a_lamp() -> None:
    # The glow is wider by two fifths where the exposure is longer than stated; what reads it further out, there,
    # explains it to a level. No way is that of all the patch.
    y, x = np.mgrid[-45:46, -60:61].astype(np.float32)
    squared = x * x + y * y
    here, there = ((60 + 100 * np.exp(-squared / (2 * s * s))).round().astype(np.uint8) for s in (5, 7))
    flow = np.stack([0.4 * x, 0.4 * y], axis=2) * (squared < 12**2)[..., None]
    notably, evident = hdr.alignment._chosen(here, there, flow.astype(np.float32), np.zeros_like(flow), 0.0)
    amid = (squared > 4**2) & (squared < 7**2)
    assert (notably[amid] != 0).any(axis=1).mean() > 0.9
    assert (evident[amid] == 0).all()


@pytest.mark.parametrize("wide", [False, True])
def test_flow_is_followed_up_to_the_border_and_not_out_of_the_frame(wide: bool) -> None:
    """Along the longer side of 60 x 90 pixels; beyond its end the last pixel goes on, and would explain anything."""
    here = np.full((60, 90), 60, np.uint8)
    there, flow = here.copy(), np.zeros((60, 90, 2), np.float32)
    here[:, 60:70], there[:, 75:85], flow[:, 60:70, 0] = 200, 200, 15.0  # stays within
    here[:, 50:54] = there[:, 50:54] = 120
    here[:, -6:], there[:, -1:], flow[:, -6:, 0] = 200, 200, 15.0  # leaves it
    if not wide:
        here, there, flow = here.T.copy(), there.T.copy(), flow.transpose(1, 0, 2)[..., ::-1].copy()
    chosen, _ = hdr.alignment._chosen(here, there, flow, np.zeros_like(flow), 0.0)
    along = chosen[30, :, 0] if wide else chosen[:, 30, 1]
    assert (along[62:68] == 15).all()
    assert (along[-4:] == 0).all()


def test_an_exposure_in_which_something_moves_is_not_still() -> None:
    scene = textured(160, 160, darkest=0.01, brightest=0.045)
    for side in (36, 60):  # a twentieth of the image, or a seventh
        moved = scene.clone()
        moved[:, 40 : 40 + side, 40 : 40 + side] = 0.3 * scene[:, 40 : 40 + side, 60 : 60 + side]
        assert align(photographed([moved, scene, scene], noise=1e-3)).still == (False, False, True)
    assert align(photographed([moved, scene, scene], noise=1e-3), "off").still == (False, False, True)


def test_the_background_moves_as_simply_as_it_can() -> None:
    """Where only a corner shows anything, a homography that fits its noise is off by pixels elsewhere."""
    here, there = (torch.full((3, 200, 240), 0.02) for _ in range(2))
    here[:, 130:190, 170:230], there[:, 130:190, 170:230] = shifted(60, 60, 3, 1, darkest=0.005, brightest=0.2)
    shown = [
        hdr.alignment._shown(ldr_of(scene, 4.0, 0.002, seed=seed) ** 2.2, 1.0)
        for seed, scene in enumerate((here, there))
    ]
    background = hdr.alignment._flow(shown[0], shown[1]).background
    assert background is not None
    assert np.abs(background - [3, 1]).max() < 0.5


def test_a_strip_longer_than_opencv_reads_is_aligned_at_a_lower_resolution() -> None:
    strip = textured(48, 640, brightest=0.2).repeat(1, 1, 55)
    bracket = Bracket(
        torch.stack([strip.mul(t).clamp(max=1).pow(1 / 2.2) for t in (1.0, 4.0)]), torch.tensor([1.0, 4.0])
    )
    alignment = align(bracket)
    assert alignment.displacement.shape == (2, 2, 24, 17600)
    assert alignment.window(0, 48, 35000, 35200).shape == (2, 2, 48, 200)
    assert float(alignment.displacement.abs().max()) < 0.5


@pytest.mark.parametrize("levels", [255, 65535])
@pytest.mark.parametrize("response", [Response.linear(), Response.srgb()])
@pytest.mark.parametrize("longest", [4.0, 64.0, 1024.0])
def test_flow_is_shown_light_as_it_is_whatever_the_file_and_the_ratio(
    response: Response, levels: int, longest: float
) -> None:
    """Both exposures clipped where the longer one is, by a power of 1 / 2.2, in grey levels of 255."""
    light = torch.rand(3, 24, 32, generator=torch.Generator().manual_seed(0)) ** 6
    ldr = (response.to_ldr(light) * levels).round() / levels
    bracket = Bracket(
        torch.stack([ldr, ldr]), torch.tensor([1.0, longest]), calibration=Calibration(response, levels=levels)
    )
    shown = hdr.alignment._exposure_shown(bracket, 0, 1 / longest, 1)
    seen = response.to_linear(ldr.double()).clamp_max(1 / longest) * longest
    grey = (seen ** (1 / 2.2)).mean(dim=0).numpy()
    expected = cv2.GaussianBlur(grey, (0, 0), 0.7) * 255
    assert np.abs(shown - expected).max() < 1.5


@pytest.mark.parametrize(
    ("disagreement", "largest"), [((0.1, 0.4, 0.2), 0.4), ((math.nan, 0.1), 0.1), ((math.nan,), 0.0), ((), 0.0)]
)
def test_flow_is_told_by_how_much_exposures_disagree_at_most(disagreement: tuple[float, ...], largest: float) -> None:
    calibration = Calibration(Response.srgb(), disagreement=disagreement)
    bracket = Bracket(torch.rand(2, 3, 16, 16), torch.tensor([1.0, 4.0]), calibration=calibration)
    assert hdr.alignment._largest_disagreement(bracket) == largest


@pytest.mark.usefixtures("half_resolution")
def test_a_homography_of_small_pixels_maps_their_middles(monkeypatch: pytest.MonkeyPatch) -> None:
    turned = np.array([[0.9, -0.2, 30.0], [0.3, 1.1, -12.0], [1e-4, 2e-4, 1.0]])
    motion = CameraMotion(turned, agreeing=100, still=0)
    monkeypatch.setattr(hdr.alignment, "estimate_motion", lambda *_: motion)
    used, warp = [], cv2.warpPerspective

    def remember(image: Any, homography: Any, *given: Any, **how: Any) -> Any:
        used.append(homography)
        return warp(image, homography, *given, **how)

    monkeypatch.setattr(cv2, "warpPerspective", remember)
    flow = np.full((96, 128, 2), 2.0, np.float32)
    monkeypatch.setattr(hdr.alignment, "_flow", lambda *_: hdr.alignment._Followed(flow, None, None, 0.0))
    moved = align(hand_held(192, 256), "on").displacement
    # Small pixel (x, y) holds pixels 2 x, 2 x + 1, ..., whose middle is (2 x + 0.5, 2 y + 0.5).
    for x, y in ((0, 0), (100, 20), (5, 90)):
        there = turned @ [2 * x + 0.5, 2 * y + 0.5, 1.0]
        found = used[0] @ [x, y, 1.0]
        np.testing.assert_allclose(found[:2] / found[2], (there[:2] / there[2] - 0.5) / 2, atol=1e-9)
        # Flow is followed first, then the camera: both in one displacement, in pixels of the bracket.
        there = turned @ [2 * (x + 2) + 0.5, 2 * (y + 2) + 0.5, 1.0]
        np.testing.assert_allclose(moved[0, :, y, x], there[:2] / there[2] - [2 * x + 0.5, 2 * y + 0.5], atol=1e-3)
    # Of a motion that explains no more than standing still does, nothing is made unless it is asked for.
    monkeypatch.setattr(hdr.alignment, "estimate_motion", lambda *_: motion._replace(still=95))
    assert bool((align(hand_held(192, 256), "auto").displacement[0] == 4.0).all())
