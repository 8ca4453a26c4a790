from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from hdr._cells import Cells, black_level
from hdr.calibration import Calibration, agreeing_response, calibrate
from hdr.exposure_check import check_exposures
from hdr.mixing import ColourMixing
from hdr.response import Response
from tests.hdr.cameras import CURVES, Curve, drawn_light, exposures_of, gamma, ratios, shoulder

EVS = (-2.0, 0.0, 2.0)


def error_in_ev(response: Response, curve: str, ldr: Tensor, white: int = 255) -> float:
    """Mean |EV| between a response and the camera's own, where exposures share values; light has no scale."""
    shared = ldr[1:][ldr[1:] < (white - 4) / 255]
    low, high = max(8, int(255 * ldr[:-1].quantile(0.05))), int(255 * shared[::7].quantile(0.99))
    levels = np.arange(low, high)
    true = np.log2(CURVES[curve](levels / white))
    found = np.log2(response.to_linear(torch.from_numpy(levels / 255)).numpy())
    difference = found - true
    return float(np.abs(difference - np.median(difference)).mean())


@pytest.mark.parametrize("curve", CURVES)
@pytest.mark.parametrize("evs", [EVS, (0.0, 2.0), (0.0, 3.0), (-1.0, 0.0, 1.0), (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0)])
def test_the_cameras_curve_is_found(curve: str, evs: tuple[float, ...]) -> None:
    ldr = exposures_of(drawn_light(), evs, CURVES[curve])
    # Of one large step only, a small wave with the period of the step stays in the curve.
    bound = 0.05 if evs == (0.0, 3.0) else 0.02
    assert error_in_ev(calibrate(ldr, ratios(evs)).response, curve, ldr) < bound


@pytest.mark.parametrize("curve", CURVES)
@pytest.mark.parametrize(
    ("trouble", "bound"),
    [
        ({"jpeg": 95}, 0.03),
        ({"jpeg": 75, "shot": 2e-4, "read": 4e-6}, 0.08),
        ({"moving_rows": 0.3}, 0.05),
        ({"moving_rows": 0.3, "jpeg": 90}, 0.06),
        ({"shift": 2}, 0.1),
    ],
)
def test_motion_noise_and_compression_hardly_bend_it(curve: str, trouble: dict, bound: float) -> None:
    ldr = exposures_of(drawn_light(), EVS, CURVES[curve], **trouble)
    assert error_in_ev(calibrate(ldr, ratios(EVS)).response, curve, ldr) < bound


@settings(max_examples=15)
@given(st.integers(0, 2**31), st.integers(2, 4), st.floats(0.5, 4.0))
def test_the_curve_increases_whatever_the_pictures(seed: int, count: int, step: float) -> None:
    ldr = torch.rand(count, 3, 40, 48, generator=torch.Generator().manual_seed(seed))
    exposures = torch.tensor([2.0 ** (step * index) for index in range(count)])
    light = torch.tensor(calibrate(ldr, exposures).response.light)
    assert bool((light.diff() >= 0).all())
    assert float(light[-1]) == 1


def test_only_ratios_of_exposures_matter() -> None:
    ldr = exposures_of(drawn_light(), EVS, CURVES["S"])
    one, other = calibrate(ldr, ratios(EVS)), calibrate(ldr, ratios(EVS) * 0.01)
    assert one.response.light == pytest.approx(other.response.light, rel=1e-3)


def test_channels_have_no_order() -> None:
    ldr = exposures_of(drawn_light(), EVS, CURVES["S"])
    one, other = calibrate(ldr, ratios(EVS)), calibrate(ldr[:, [2, 0, 1]], ratios(EVS))
    assert one.response.light == pytest.approx(other.response.light, rel=1e-6, abs=1e-9)


def test_neighbours_agree_after_calibration_and_not_before() -> None:
    ldr = exposures_of(drawn_light(), EVS, CURVES["film"])
    found = calibrate(ldr, ratios(EVS))
    assumed = calibrate(ldr, ratios(EVS), response=Response.srgb())
    assert max(found.disagreement) < 0.02
    assert min(assumed.disagreement) > 0.2


def test_disagreement_is_what_the_light_differs_by() -> None:
    # The second exposure had 0.3 EV more light than it is stated to have; the response is right.
    ldr = exposures_of(drawn_light(), (0.0, 2.3), shot=0, read=0)
    assert calibrate(ldr, ratios((0.0, 2.0)), response=Response.srgb()).disagreement[0] == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize(("off", "noted"), [(0.3, False), (0.4, True)])
def test_a_note_asks_whether_the_light_was_the_same_where_exposures_disagree_by_a_third_of_an_ev(
    off: float, noted: bool
) -> None:
    ldr = exposures_of(drawn_light(), (0.0, 2.0 + off))
    notes = calibrate(ldr, ratios((0.0, 2.0)), response=Response.srgb()).notes
    expected = f"exposures 1 and 2, shortest first, disagree by {off:.2f} EV: was the light the same?"
    assert [note for note in notes if "disagree" in note] == [expected] * noted


def test_a_shutter_that_is_not_exact_is_found() -> None:
    ldr = exposures_of(drawn_light(), (-2.0, 0.12, 2.0), CURVES["gamma 2.2"])
    calibration = calibrate(ldr, ratios(EVS))
    assert calibration.corrections[0] == 0
    # What is linear in the stated EV is the response's: of (0, e, 0) all is orthogonal to that but for a constant.
    assert calibration.corrections == pytest.approx((0.0, 0.12, 0.0), abs=0.03)
    assert max(calibration.disagreement) < 0.03


@pytest.mark.parametrize("errors", [(0.12, 0.0), (-0.08, 0.15), (0.0, -0.2)])
def test_with_a_response_that_is_given_every_shutter_is_found(errors: tuple[float, float]) -> None:
    got = (-2.0, errors[0], 2.0 + errors[1])
    ldr = exposures_of(drawn_light(), got, CURVES["gamma 2.2"], moving_rows=0.2)
    calibration = calibrate(ldr, ratios(EVS), response=Response.gamma(2.2))
    assert calibration.corrections == pytest.approx((0.0, *errors), abs=0.015)
    assert max(calibration.disagreement) < 0.03


@pytest.mark.parametrize("error", [0.01, 0.4])
def test_rounding_and_wrong_responses_are_no_shutters(error: float) -> None:
    ldr = exposures_of(drawn_light(), (-2.0, error, 2.0 + error), CURVES["gamma 2.2"])
    assert calibrate(ldr, ratios(EVS), response=Response.gamma(2.2)).corrections == (0.0, 0.0, 0.0)


def test_exact_exposures_are_not_corrected() -> None:
    ldr = exposures_of(drawn_light(), EVS, CURVES["S"])
    assert calibrate(ldr, ratios(EVS)).corrections == pytest.approx((0, 0, 0), abs=0.01)


def test_without_evidence_the_response_is_srgb_and_a_note_says_so() -> None:
    ldr = torch.stack([torch.full((3, 64, 64), 0.02), torch.ones(3, 64, 64)])
    calibration = calibrate(ldr, torch.tensor([1.0, 64.0]))
    assert calibration.response == Response.srgb()
    assert any("sRGB" in note for note in calibration.notes)
    assert math.isnan(calibration.disagreement[0])


def test_few_cells_that_exposures_share_are_no_evidence_for_a_response() -> None:
    ldr = torch.ones(2, 3, 192, 256)
    ldr[:, :, :96] = 0
    patch = torch.rand(3, 24, 24, generator=torch.Generator().manual_seed(0)) * 0.3 + 0.2
    ldr[:, :, 96:120, 96:120] = torch.stack([patch, 1.5 * patch])
    calibration = calibrate(ldr, torch.tensor([1.0, 2.0]))
    assert calibration.response == Response.srgb()
    assert any("share too little" in note for note in calibration.notes)


def test_by_a_response_that_nothing_tells_the_light_is_not_called_another() -> None:
    # A white-out: two exposures show it by one brightness each, which the camera's contrast puts 1.3 EV too far apart.
    white_out = 1 + 0.05 * drawn_light() / drawn_light().max()
    evs = (0.0, 2.0, 4.0)
    ldr = exposures_of(white_out, evs, CURVES["S"], middle=0.08)
    calibration = calibrate(ldr, ratios(evs))
    assert calibration.disagreement[0] > 1
    assert any("share too little" in note for note in calibration.notes)
    assert not any("was the light the same" in note for note in calibration.notes)
    given = calibrate(ldr, ratios(evs), response=Response.srgb())
    assert any("was the light the same" in note for note in given.notes)


def far_notes(notes: tuple[str, ...]) -> list[str]:
    return [note for note in notes if "EV apart" in note]


@pytest.mark.parametrize("stops", [7.0, 13.0])
@pytest.mark.parametrize("curve", ["gamma 1.8", "gamma 2.6", "S", "film"])
def test_a_note_says_so_where_the_step_is_too_large_to_tell_the_response(curve: str, stops: float) -> None:
    for step in (1.0, 2.0, 3.0, 4.0, 6.0, 8.0):
        evs = (-0.6 * step, 0.4 * step)
        ldr = exposures_of(drawn_light(stops=stops), evs, CURVES[curve])
        calibration = calibrate(ldr, ratios(evs))
        far = step > 5
        assert len(far_notes(calibration.notes)) == far
        if far:
            (note,) = far_notes(calibration.notes)
            assert f"exposures 1 and 2, shortest first, are {step:.1f} EV apart" in note
            assert "steps of 2 or 3 EV" in note
            assert "--response FILE" in note


def test_a_step_of_five_ev_is_not_too_large_to_tell_the_response() -> None:
    ldr = exposures_of(drawn_light(stops=13.0), (-3.0, 2.0), CURVES["S"])
    calibration = calibrate(ldr, ratios((-3.0, 2.0)))
    assert not far_notes(calibration.notes)
    assert error_in_ev(calibration.response, "S", ldr) < 0.15


def test_of_several_steps_that_are_too_large_the_largest_is_told() -> None:
    evs = (-7.0, -1.0, 6.0)
    ldr = exposures_of(drawn_light(stops=13.0), evs, CURVES["S"])
    (note,) = far_notes(calibrate(ldr, ratios(evs)).notes)
    assert "exposures 2 and 3, shortest first, are 7.0 EV apart" in note


def test_the_response_between_exposures_far_apart_is_a_guess() -> None:
    errors = []
    for step in (2.0, 4.0, 6.0, 8.0):
        ldr = exposures_of(drawn_light(stops=10.0), (-0.6 * step, 0.4 * step), CURVES["S"])
        errors.append(error_in_ev(calibrate(ldr, ratios((0.0, step))).response, "S", ldr))
    assert max(errors[:2]) < 0.08
    assert min(errors[2:]) > 0.12


def test_of_exposures_far_apart_nothing_else_is_guessed() -> None:
    # Film's black: dark cells keep their value, and what both seem to show says that all exposures were the same.
    evs = (-4.0, 4.0)
    ldr = exposures_of(drawn_light(stops=13.0), evs, CURVES["film"]).mul(239 / 255).add(16 / 255).mul(255).round() / 255
    notes = calibrate(ldr, ratios(evs)).notes
    assert len(far_notes(notes)) == 1
    assert not any(words in note for note in notes for words in ("was the light the same", "do not lie", "share"))


def test_an_exposure_that_lies_far_from_others_is_no_matter_where_those_tell_the_response() -> None:
    evs = (-3.0, -1.0, 1.0, 7.0)
    ldr = exposures_of(drawn_light(stops=10.0), evs, CURVES["S"])
    calibration = calibrate(ldr, ratios(evs))
    assert error_in_ev(calibration.response, "S", ldr) < 0.04
    assert not far_notes(calibration.notes)


def test_with_a_response_that_is_given_no_step_is_too_large_for_it() -> None:
    evs = (-4.0, 3.0)
    ldr = exposures_of(drawn_light(stops=10.0), evs, CURVES["gamma 2.2"])
    assert not far_notes(calibrate(ldr, ratios(evs), response=Response.gamma(2.2)).notes)


@pytest.mark.parametrize("curve", ["srgb", "gamma 1.8", "gamma 2.2", "gamma 2.6"])
def test_above_the_values_that_exposures_share_the_curve_goes_on_as_it_began(curve: str) -> None:
    ldr = exposures_of(drawn_light().clip(0.2, 1.5), EVS, CURVES[curve], middle=0.06)
    calibration = calibrate(ldr, ratios(EVS))
    assert any("no two exposures share values above" in note for note in calibration.notes)
    levels = np.array([220, 250]) / 255
    low, high = calibration.response.to_linear(torch.from_numpy(levels)).log2()
    assert float(high - low) == pytest.approx(float(np.diff(np.log2(CURVES[curve](levels)))[0]), abs=0.12)


@pytest.mark.parametrize(
    ("curve", "bound"),
    [*((curve, 0.04) for curve in CURVES.values()), (shoulder(1), 0.04), (shoulder(3), 0.04), (shoulder(6), 0.07)],
    ids=[*CURVES, "shoulder 1", "shoulder 3", "shoulder 6"],
)
@pytest.mark.parametrize("evs", [EVS, (-2.0, 0.0, 3.0), (0.0, 1.5)])
def test_white_is_as_bright_as_the_camera_has_it(curve: Curve, bound: float, evs: tuple[float, ...]) -> None:
    """All light is told in parts of white, and of the last levels below it noisy exposures tell least."""
    levels = np.linspace(0.5, 0.95, 10)
    errors = []
    for seed in range(3):
        ldr = exposures_of(drawn_light(seed=seed), evs, curve, shot=1e-3, seed=seed)
        found = calibrate(ldr, ratios(evs)).response.to_linear(torch.from_numpy(levels)).numpy()
        errors.append(np.abs(np.log2(found / curve(levels))).max())
    assert np.mean(errors) < (bound if evs == EVS else 1.25 * bound)


@pytest.mark.parametrize(("evs", "bound"), [((0.0, 1.0), 0.15), ((0.0, 1.5), 0.1)])
@pytest.mark.parametrize("curve", CURVES)
def test_white_is_found_where_what_is_nearly_white_is_rough(curve: str, evs: tuple[float, ...], bound: float) -> None:
    """Leaves before a sky, foam: hardly a cell near white is without a clipped pixel."""
    levels = np.linspace(0.4, 0.9, 10)
    errors = []
    for seed in range(3):
        light = drawn_light(seed=seed)
        rough = np.exp2(np.random.default_rng(1).normal(scale=0.35, size=(192, 256, 1)))
        light = np.where(light.mean(axis=2, keepdims=True) > 1.2, light * rough, light)
        ldr = exposures_of(light, evs, CURVES[curve], shot=1e-3, seed=seed)
        found = calibrate(ldr, ratios(evs)).response.to_linear(torch.from_numpy(levels)).numpy()
        errors.append(np.abs(np.log2(found / CURVES[curve](levels))).max())
    assert np.mean(errors) < bound


def test_neither_texture_nor_noise_moves_the_curve() -> None:
    """The mean of the values of a cell is not the value of its mean light."""
    rng = np.random.default_rng(0)
    light = drawn_light() * np.exp2(rng.normal(scale=0.7, size=(192, 256, 1)))
    ldr = exposures_of(light, EVS, CURVES["S"], read=1e-5)
    assert error_in_ev(calibrate(ldr, ratios(EVS)).response, "S", ldr) < 0.03


@pytest.mark.parametrize("given", [Response.gamma(2.0), Response.gamma(2.0).with_white_level(0.9)])
def test_a_response_that_is_given_is_kept(given: Response) -> None:
    ldr = exposures_of(drawn_light(), EVS, CURVES["film"])
    assert calibrate(ldr, ratios(EVS), response=given).response == given


@pytest.mark.parametrize("curve", ["srgb", "gamma 1.8", "film"])
@pytest.mark.parametrize(("white", "jpeg"), [(248, None), (248, 90), (240, None), (235, 95)])
def test_a_white_level_below_the_largest_value_is_found(curve: str, white: int, jpeg: int | None) -> None:
    ldr = exposures_of(drawn_light(), EVS, CURVES[curve], white=white, jpeg=jpeg)
    calibration = calibrate(ldr, ratios(EVS))
    assert calibration.white_level * 255 == pytest.approx(white, abs=1.01)
    assert calibration.response.white_level == calibration.white_level
    assert error_in_ev(calibration.response, curve, ldr, white) < 0.03
    given = calibrate(ldr, ratios(EVS), response=Response.srgb())
    assert given.white_level * 255 == pytest.approx(white, abs=1.01)
    assert not any("however much light" in note for note in (*calibration.notes, *given.notes))


@pytest.mark.parametrize("curve", CURVES)
@pytest.mark.parametrize("trouble", [{}, {"jpeg": 75}, {"moving_rows": 0.4}])
def test_no_white_level_is_invented(curve: str, trouble: dict) -> None:
    ldr = exposures_of(drawn_light(seed=3), EVS, CURVES[curve], **trouble)
    assert calibrate(ldr, ratios(EVS)).white_level == 1.0


def test_a_bright_wall_that_may_be_clipped_or_not_is_noted() -> None:
    # Half of the long exposure has value 240 and nothing a larger one; the short one cannot tell, it is black there.
    light = drawn_light().clip(0.01, 0.5)
    light[:96] = 1.0
    ldr = exposures_of(light, (-1.0, 0.0), CURVES["srgb"], middle=0.871, shot=0, read=0)
    calibration = calibrate(ldr, ratios((-1.0, 0.0)))
    assert calibration.white_level == 1.0
    assert any("clipped" in note for note in calibration.notes)


def below_white(ldr: Tensor, evs: tuple[float, ...] = EVS, response: Response | None = None) -> list[str]:
    return [note for note in calibrate(ldr, ratios(evs), response=response).notes if "however much light" in note]


@pytest.mark.parametrize("jpeg", [None, 90])
@pytest.mark.parametrize("tint", [(1.0, 0.85, 0.65), (0.75, 0.5, 1.0)])
def test_channels_that_clip_below_white_are_noted(tint: tuple[float, float, float], jpeg: int | None) -> None:
    # A print in sepia; and linear light of a raw file whose white balance leaves each channel a white of its own.
    light = drawn_light()
    own = exposures_of(light, EVS, CURVES["gamma 1.8"], jpeg=jpeg)
    tinted = (own * torch.tensor(tint).view(3, 1, 1) * 255).round() / 255
    (note,) = below_white(tinted)
    for colour, white in zip(("red", "green", "blue"), tint, strict=True):
        assert (colour in note) == (white < 1)
        assert white == 1 or f"{colour} stays at {255 * white:.0f} of 255" in note
    assert not below_white(own)


@pytest.mark.parametrize(("ev", "noted"), [(0.19, False), (0.31, True)])
def test_a_channel_that_clips_by_less_than_a_quarter_of_an_ev_below_white_is_not_noted(ev: float, noted: bool) -> None:
    level = round(255 * 2 ** (-ev / 2.2))
    ldr = exposures_of(drawn_light(), EVS, CURVES["gamma 2.2"])
    ldr[:, 1] = (ldr[:, 1] * level).round() / 255
    found = below_white(ldr, response=Response.gamma(2.2))
    assert [f"green stays at {level} of 255" in note for note in found] == [True] * noted


@pytest.mark.parametrize("curve", CURVES)
@pytest.mark.parametrize(
    "trouble", [{}, {"jpeg": 75}, {"moving_rows": 0.4}, {"shift": 3}, {"shot": 2e-3, "read": 1e-4}]
)
def test_channels_that_clip_at_white_are_not_said_to_clip_below(curve: str, trouble: dict) -> None:
    ldr = exposures_of(drawn_light(seed=3), EVS, CURVES[curve], **trouble)
    assert not below_white(ldr)
    assert not below_white(ldr, response=Response.srgb())


def test_channels_that_clip_below_white_are_told_by_the_light_that_exposures_got() -> None:
    # The shutter was open for 0.2 EV longer than stated. Of green, which clips at 0.8, there is 0.7 EV more than white
    # in the brightest place, and half an EV more is enough to say so.
    light = drawn_light().clip(0.05, 0.5)
    light[40:100, 40:120] = 2 ** (0.7 + 2.2 * math.log2(1 / 0.8)) / 0.15
    ldr = exposures_of(light, (-2.2, 0.0), gamma(2.2))
    ldr[:, 1] = (ldr[:, 1] * 0.8 * 255).round() / 255
    assert len(below_white(ldr, (-2.0, 0.0), Response.gamma(2.2))) == 1


def test_what_hides_all_that_is_bright_is_no_clipped_channel() -> None:
    light = drawn_light().clip(0.01, 1.0)
    light[40:80, 40:80] = 40.0
    hidden = light.copy()
    hidden[30:90, 30:90] = 0.3
    ldr = torch.cat([exposures_of(lit, (ev,), gamma(2.2)) for lit, ev in zip((light, light, hidden), EVS, strict=True)])
    assert not below_white(ldr)


def test_black_that_is_not_zero_is_found() -> None:
    ldr = exposures_of(drawn_light(stops=10.0), (-2.0, 0.0, 2.0, 4.0), CURVES["srgb"], middle=0.02)
    fogged = torch.round((16 / 255 + ldr * (1 - 16 / 255)) * 255) / 255
    calibration = calibrate(fogged, ratios((-2.0, 0.0, 2.0, 4.0)))
    assert any("light begins above" in note for note in calibration.notes)
    assert float(calibration.response.to_linear(torch.tensor(12 / 255))) < 1e-4
    assert not any("light begins above" in note for note in calibrate(ldr, ratios((-2.0, 0.0, 2.0, 4.0))).notes)


@pytest.mark.parametrize(("shot", "read"), [(5e-5, 1e-6), (4e-4, 1e-6), (4e-4, 1e-5), (1e-5, 5e-7), (2e-3, 1e-6)])
def test_noise_is_measured_within_a_factor_of_two(shot: float, read: float) -> None:
    ldr = exposures_of(drawn_light(384, 384), EVS, CURVES["srgb"], shot=shot, read=read)
    calibration = calibrate(ldr, ratios(EVS))
    assert shot / 2 < calibration.shot < shot * 2
    for light in (0.01, 0.1):  # read noise shows where there is little light only
        variance = calibration.shot * light + calibration.read
        assert 0.5 < variance / (shot * light + read) < 2


@pytest.mark.parametrize(
    ("shot", "jpeg", "least"), [(4e-4, None, 0.8), (2e-3, None, 0.8), (1e-4, 95, 0.5), (1e-3, 80, 0.3)]
)
def test_noise_is_measured_where_it_is_not_smoothed_away(shot: float, jpeg: int | None, least: float) -> None:
    # In flat places JPEG has left a twentieth of it; and flat in the shorter exposure are places of little noise.
    ldr = exposures_of(drawn_light(384, 384), EVS, CURVES["srgb"], shot=shot, jpeg=jpeg)
    camera = calibrate(ldr, ratios(EVS))
    for light in (0.02, 0.1, 0.4):
        assert least < (camera.shot * light + camera.read) / (shot * light + 1e-6) < 1.2


@pytest.mark.parametrize(("shot", "jpeg"), [(1e-3, None), (4e-4, 95), (1e-3, 90), (1e-3, 80)])
def test_how_much_noise_single_pixels_still_have_is_measured(shot: float, jpeg: int | None) -> None:
    # Against the same exposures without noise, through the same compression. Flat places have less than others.
    light, response = drawn_light(384, 384), Response.srgb()
    ldr, clean = (exposures_of(light, EVS, CURVES["srgb"], shot=shot * on, read=0, jpeg=jpeg) for on in (1, 0))
    camera = calibrate(ldr, ratios(EVS))
    linear = response.to_linear(clean).double()
    exposed = (linear > 0.02) & (linear < 0.8)
    said = camera.noise_left * (camera.shot * linear + camera.read) + (response.slope(clean) / 255).square() / 12
    found = (response.to_linear(ldr) - linear).square() / said
    assert (0.8 if jpeg is None else 0.4) < 1 / float(found[exposed].clamp_max(40).mean()) < 1.2


def test_light_that_changed_softly_over_the_picture_is_no_noise() -> None:
    # A lamp that moved: within a cell of four pixels it is brighter by up to a tenth at one side.
    light, shot, read = drawn_light(384, 384), 1e-5, 1e-6
    waves = 1 + 0.15 * np.sin(2 * np.pi * np.arange(384) / 32)[:, None, None]
    ldr = torch.cat(
        [
            exposures_of(lit, (ev,), shot=shot, read=read, seed=number)
            for number, (lit, ev) in enumerate(((light, -1.0), (light * waves, 1.0)))
        ]
    )
    camera = calibrate(ldr, ratios((-1.0, 1.0)), response=Response.srgb())
    for one in (0.05, 0.2):
        assert 0.5 < (camera.shot * one + camera.read) / (shot * one + read) < 1.2


@pytest.mark.parametrize("close", [0.0, 0.06])
@pytest.mark.filterwarnings("error")
def test_black_that_is_not_zero_is_found_beside_pictures_of_the_same_light(close: float) -> None:
    evs = (-2.0, -2.0 + close, 0.0, 2.0, 2.0 + close, 4.0)
    ldr = exposures_of(drawn_light(stops=12.0), evs, CURVES["film"]) * (1 - 20 / 255) + 20 / 255
    alone = black_level(Cells.of(ldr[[0, 2, 3, 5]]), np.array(evs)[[0, 2, 3, 5]])
    assert black_level(Cells.of(ldr), np.array(evs)) == pytest.approx(alone, abs=1.01 / 255)
    assert alone > 0.05


def test_pictures_of_the_same_light_do_not_speak_against_a_response() -> None:
    evs = (0.0, 0.0, 0.0, 0.0, 2.0)
    ldr = exposures_of(drawn_light(), evs, gamma(1.0), levels=65535)
    candidates = [Response.gamma(2.2), Response.srgb(), Response.linear()]
    found = agreeing_response(ldr, ratios(evs), candidates)
    assert found is not None
    assert found.name == "linear"
    assert agreeing_response(ldr[:4], torch.ones(4), candidates) is candidates[0]


@pytest.mark.filterwarnings("error")
def test_of_pictures_of_the_same_light_one_tells_the_response() -> None:
    evs = (-2.0, -2.0, 0.0, 2.0, 2.0, 2.0)
    ldr = exposures_of(drawn_light(), (-2.0, -2.0, 0.2, 2.0, 2.0, 2.0), CURVES["S"])
    camera = calibrate(ldr, ratios(evs))
    alone = calibrate(ldr[[0, 2, 3]], ratios((-2.0, 0.0, 2.0)))
    assert camera.response == alone.response
    assert (camera.shot, camera.read, camera.levels) == (alone.shot, alone.read, alone.levels)
    first, second, third = alone.corrections
    assert camera.corrections == (first, first, second, third, third, third)
    assert np.isnan(camera.disagreement).tolist() == [True, False, False, True, True]
    assert (camera.disagreement[1], camera.disagreement[2]) == alone.disagreement


def test_pictures_of_the_same_light_are_located_one_for_each() -> None:
    still = exposures_of(drawn_light(192, 256), (-2.0, -2.0, 0.0, 2.0), CURVES["S"])
    ldr, displacement = rolled(still)
    camera = calibrate(ldr, ratios((-2.0, -2.0, 0.0, 2.0)), located=lambda _: displacement)
    chosen = [0, 2, 3]
    alone = calibrate(ldr[chosen], ratios((-2.0, 0.0, 2.0)), located=lambda _: displacement[chosen])
    assert camera.response == alone.response


def test_notes_number_the_pictures_of_the_whole_bracket() -> None:
    ldr = exposures_of(drawn_light(), (-2.0, -2.0, 0.0, 2.7))
    camera = calibrate(ldr, ratios((-2.0, -2.0, 0.0, 2.0)), response=Response.srgb())
    assert next(note for note in camera.notes if "disagree" in note).startswith("exposures 3 and 4, shortest first")
    far = exposures_of(drawn_light(), (-4.0, -4.0, 4.0))
    assert far_notes(calibrate(far, ratios((-4.0, -4.0, 4.0))).notes)[0].startswith("exposures 1 and 3, shortest")


def test_pictures_that_all_got_the_same_light_tell_noise_and_no_response() -> None:
    shot, read = 4e-4, 1e-5
    ldr = exposures_of(drawn_light(384, 384), (0.0, 0.0, 0.0), shot=shot, read=read)
    guessed, given = calibrate(ldr, torch.ones(3)), calibrate(ldr, torch.ones(3), response=Response.srgb())
    for camera, said in ((guessed, "it is taken as sRGB"), (given, "but no more range")):
        assert camera.response == Response.srgb()
        assert shot / 2 < camera.shot < 2 * shot
        assert camera.corrections == (0.0, 0.0, 0.0)
        assert [note.endswith(said) for note in camera.notes] == [True]
        assert camera.notes[0].startswith("all pictures got the same light")
        assert camera.response_known is (camera is given)


def test_what_rounding_adds_is_no_noise() -> None:
    ldr = exposures_of(drawn_light(384, 384), EVS, CURVES["srgb"], shot=0, read=0)
    calibration = calibrate(ldr, ratios(EVS), response=Response.srgb())
    for value in (0.35, 0.7):
        light, slope = (float(of(torch.tensor(value))) for of in (Response.srgb().to_linear, Response.srgb().slope))
        assert calibration.shot * light + calibration.read < 0.5 * (slope / 255) ** 2 / 12


def test_noise_that_cannot_be_measured_is_assumed_and_noted() -> None:
    ldr = torch.stack([torch.full((3, 64, 64), 0.02), torch.ones(3, 64, 64)])
    calibration = calibrate(ldr, torch.tensor([1.0, 64.0]), response=Response.srgb())
    assert (calibration.shot, calibration.read) == (Calibration.shot, Calibration.read)
    assert any("noise" in note for note in calibration.notes)
    assert math.isnan(calibration.disagreement[0])
    assert not any("disagree" in note for note in calibration.notes)


def test_the_depth_of_the_files_is_seen() -> None:
    light = drawn_light()
    eight, sixteen = exposures_of(light, EVS), exposures_of(light, EVS, levels=65535)
    assert calibrate(eight, ratios(EVS), response=Response.srgb()).levels == 255
    assert calibrate(sixteen, ratios(EVS), response=Response.srgb()).levels == 65535


def rolled(still: Tensor) -> tuple[Tensor, Tensor]:
    """Exposures that lie 17 rows and 9 columns apart, and their displacement from the first one's frame."""
    moved = torch.stack([image.roll((17 * index, 9 * index), (1, 2)) for index, image in enumerate(still)])
    steps = torch.arange(float(len(still)))
    displacement = torch.stack([9 * steps, 17 * steps], dim=1)[:, :, None, None]
    return moved, displacement.expand(-1, -1, still.shape[2] // 2, still.shape[3] // 2)


def test_exposures_can_be_aligned_with_a_first_response() -> None:
    light, asked = drawn_light(), []
    still = exposures_of(light, EVS, CURVES["S"])
    moved, displacement = rolled(still)

    def located(response: Response) -> Tensor:
        asked.append(response)
        return displacement

    with_help = calibrate(moved, ratios(EVS), located=located)
    assert len(asked) == 1
    assert error_in_ev(asked[0], "S", still) < 0.5
    assert error_in_ev(with_help.response, "S", still) < 0.02


def test_black_is_looked_for_where_exposures_show_the_same() -> None:
    evs = (-2.0, 0.0, 2.0, 4.0)
    ldr = exposures_of(drawn_light(288, 384, stops=10.0), evs, CURVES["srgb"], middle=0.02)
    fogged = torch.round((16 / 255 + ldr * (1 - 16 / 255)) * 255) / 255
    moved, displacement = rolled(fogged)
    still, found = calibrate(fogged, ratios(evs)), calibrate(moved, ratios(evs), located=lambda _: displacement)
    assert [note for note in found.notes if "light begins above" in note] == [
        note for note in still.notes if "light begins above" in note
    ]
    levels = torch.linspace(0.15, 0.95, 20, dtype=torch.float64)
    apart = (found.response.to_linear(levels) / still.response.to_linear(levels)).log2()
    assert float(apart.abs().max()) < 0.1
    assert float(found.response.to_linear(torch.tensor(12 / 255))) < 1e-4


def test_what_moved_is_neither_noise_nor_disagreement() -> None:
    still = exposures_of(drawn_light(), EVS, CURVES["S"], shot=1e-4, read=1e-6)
    moved, displacement = rolled(still)
    for response in (None, calibrate(still, ratios(EVS)).response):
        truth = calibrate(still, ratios(EVS), response=response)
        found = calibrate(moved, ratios(EVS), response=response, located=lambda _: displacement)
        assert found.shot == pytest.approx(truth.shot, rel=0.2)
        assert found.disagreement == pytest.approx(truth.disagreement, abs=0.005)


def test_what_no_response_explains_counts_for_a_fifth_of_an_ev() -> None:
    def typical(*disagreement: float) -> float:
        return Calibration(Response.srgb(), disagreement=disagreement).typical_disagreement

    assert typical(0.05, 0.15) == pytest.approx(0.1)
    assert typical(0.1, 1.5) == pytest.approx(0.15)
    assert typical(math.nan, 0.1) == 0.1
    assert typical(math.nan) == 0


@pytest.mark.parametrize(
    "mixing", [None, ColourMixing(((1.5, -0.4, -0.1), (-0.2, 1.5, -0.3), (0.0, -0.4, 1.4)), (0.1, 0.0, 0.05))]
)
def test_a_calibration_comes_back_from_its_tensors(mixing: ColourMixing | None) -> None:
    calibration = Calibration(
        Response.gamma(2.0),
        0.9,
        shot=1e-3,
        read=1e-5,
        levels=65535,
        noise_left=0.3,
        mixing=mixing,
        chroma_halved=(False, True),
        disagreement=(0.05, math.nan, 0.15),
    )
    tensors = calibration.as_tensors()
    # Every fourth entry is the light of a level of an 8-bit file.
    torch.testing.assert_close(tensors[0][::4], (torch.arange(256, dtype=torch.float64) / 255) ** 2)
    found = Calibration.from_tensors(*tensors)
    assert (found.white_level, found.shot, found.read, found.levels) == (0.9, 1e-3, 1e-5, 65535)
    assert (found.mixing, found.chroma_halved, found.noise_left) == (mixing, (False, True), 0.3)
    assert found.typical_disagreement == pytest.approx(0.1)
    assert float(found.response.to_linear(torch.tensor(0.3))) == pytest.approx(0.09, rel=1e-4)


def developed(
    light: NDArray, colours: NDArray, noise: dict, exponent: float = 2.2, evs: tuple[float, ...] = EVS
) -> Tensor:
    """Exposures of a sensor whose channels clip one by one, in other colours than its own, and gamma."""
    sensor = exposures_of(light, evs, gamma(1.0), levels=65535, **noise).double()
    linear = torch.einsum("ij,njhw->nihw", torch.from_numpy(colours), sensor).clamp(0, 1)
    return ((linear ** (1 / exponent)) * 255).round().float() / 255


COLOURS = np.array([[1.8, -0.7, -0.1], [-0.3, 1.7, -0.4], [0.0, -0.6, 1.6]])


@pytest.mark.parametrize("noise", [{}, {"shot": 2e-4, "read": 1e-6}])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_whether_a_clipped_channel_spoils_the_others_is_seen(seed: int, noise: dict) -> None:
    # Colours that are saturated here and there, as of flowers: each channel has a part of its own.
    own = np.stack([drawn_light(seed=3 * seed + channel)[..., channel] for channel in range(3)], -1)
    light = own**0.4 * drawn_light(seed=3 * seed + 50)[..., :1] ** 0.7
    for colours, mixing in ((np.eye(3), False), (COLOURS, True)):
        ldr = developed(light, colours, noise)
        assert calibrate(ldr, ratios(EVS)).channels_mix == mixing
        assert calibrate(ldr, ratios(EVS), response=Response.gamma(2.2)).channels_mix == mixing


@pytest.mark.parametrize("moving_rows", [0, 19])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_how_a_camera_mixes_its_colours_is_found_beside_clipped_channels(seed: int, moving_rows: int) -> None:
    own = np.stack([drawn_light(seed=3 * seed + channel)[..., channel] for channel in range(3)], -1)
    light = own**0.4 * drawn_light(seed=3 * seed + 50)[..., :1] ** 0.7
    ldr = developed(light, COLOURS, {})
    ldr[1:, :, :moving_rows] = ldr[1:, :, :moving_rows].roll(60, -1)
    found = calibrate(ldr, ratios(EVS), response=Response.gamma(2.2)).mixing
    assert found is not None
    # To what the mean of a cell of 4 x 4 pixels tells, half of which may be clipped.
    np.testing.assert_allclose(np.array(found.matrix), COLOURS, atol=0.15)
    np.testing.assert_allclose(np.array(found.matrix).sum(1), 1, atol=1e-9)
    assert max(found.errors) < 0.03


@pytest.mark.parametrize(("of_others", "mixes"), [(0.1, False), (0.2, True)])
def test_channels_that_have_hardly_anything_of_others_clip_one_by_one(of_others: float, mixes: bool) -> None:
    # In all what the three have of others, of which a typical camera has 1.5.
    own = np.stack([drawn_light(seed=channel)[..., channel] for channel in range(3)], -1)
    light = own**0.4 * drawn_light(seed=50)[..., :1] ** 0.7
    colours = np.eye(3) + of_others / np.trace(COLOURS - np.eye(3)) * (COLOURS - np.eye(3))
    camera = calibrate(developed(light, colours, {}), ratios(EVS), response=Response.gamma(2.2))
    assert camera.channels_mix == mixes
    if mixes:
        assert camera.mixing is not None
        assert np.trace(np.array(camera.mixing.matrix)) - 3 == pytest.approx(of_others, rel=0.1)


def test_what_no_matrix_explains_beside_clipped_channels_is_measured() -> None:
    # As on film: blue falls short by a quarter wherever red is white.
    own = np.stack([drawn_light(seed=channel)[..., channel] for channel in range(3)], -1)
    light = own**0.4 * drawn_light(seed=50)[..., :1] ** 0.7
    ldr = exposures_of(light, EVS, gamma(2.2), levels=65535)
    response = Response.gamma(2.2)
    less = response.to_ldr(0.75 * response.to_linear(ldr[:, 2]))
    ldr[:, 2] = torch.where(ldr[:, 0] >= 1, less, ldr[:, 2])
    found = calibrate(ldr, ratios(EVS), response=response)
    assert not found.channels_mix
    assert found.mixing is not None
    red, green, blue = found.mixing.errors
    assert (red, green) == (0.0, 0.0)
    # Of that 0.05 is usual; and of many cells less than all is white.
    assert 0.1 < blue < 0.2


def test_a_shutter_that_is_not_exact_does_not_pass_for_a_clipped_channel_that_spoils_others() -> None:
    own = np.stack([drawn_light(seed=channel)[..., channel] for channel in range(3)], -1)
    light = own**0.4 * drawn_light(seed=50)[..., :1] ** 0.7
    ldr = developed(light, np.eye(3), {}, evs=(-2.0, 0.15, 2.3))
    assert not calibrate(ldr, ratios(EVS), response=Response.gamma(2.2)).channels_mix


@pytest.mark.parametrize("rest", [0.1, 0.2])
def test_few_strong_colours_are_enough_to_see_that_clipping_spoils_others(rest: float) -> None:
    own = np.stack([drawn_light(seed=channel)[..., channel] for channel in range(3)], -1)
    light = own**0.4 * drawn_light(seed=50)[..., :1] ** 0.7
    faint = (1 - rest) * light.mean(-1, keepdims=True) + rest * light
    flowers = light.shape[1] // 10
    faint[:, :flowers] = light[:, :flowers]
    assert calibrate(developed(faint, COLOURS, {}), ratios(EVS)).channels_mix


def sky_and_ground(palest: float, level: float, seed: int) -> NDArray:
    """A sky from some blue to nearly white above grey ground, with hardly any other colours."""
    brightness = drawn_light(192, 256, seed=seed).mean(-1, keepdims=True)
    red = np.linspace(palest, 0.85, 256)[None, :, None]
    sky = brightness[:96] ** 0.3 * np.concatenate([red, (1 + red) / 2, np.ones_like(red)], -1)
    ground = brightness[96:] * np.array([1.0, 0.97, 0.93])
    return np.concatenate([sky * level / np.median(sky), ground * 0.2 / np.median(ground)])


@pytest.mark.parametrize("drawn", [(0.55, 1.75, 4), (0.55, 1.9, 4), (0.55, 1.9, 5)])
def test_a_pale_sky_tells_that_clipping_spoils_others(drawn: tuple[float, float, int]) -> None:
    # Far below white, where strong colours tell it, there is hardly a difference.
    ldr = developed(sky_and_ground(*drawn), COLOURS, {"shot": 5e-5, "read": 1e-6})
    assert calibrate(ldr, ratios(EVS)).channels_mix


@pytest.mark.parametrize("drawn", [(0.45, 1.6, 1), (0.45, 1.6, 2), (0.45, 1.6, 3), (0.5, 1.6, 5)])
def test_a_pale_sky_of_channels_that_clip_one_by_one_does_not_pass_for_spoilt(drawn: tuple[float, float, int]) -> None:
    ldr = developed(sky_and_ground(*drawn), np.eye(3), {"shot": 5e-5, "read": 1e-6})
    assert not calibrate(ldr, ratios(EVS)).channels_mix


def test_pictures_without_any_light_are_said_to_be_black() -> None:
    generator = torch.Generator().manual_seed(0)
    for brightest in (5, 8):
        noise = torch.randint(0, brightest + 1, (3, 3, 64, 64), generator=generator) / 255
        said = f"the pictures are black: nothing in them is brighter than {brightest} of 255"
        assert said in calibrate(noise, ratios(EVS)).notes
    noise = torch.randint(0, 17, (3, 3, 64, 64), generator=generator) / 255
    assert not any("black" in note for note in calibrate(noise, ratios(EVS)).notes)
    assert not any("black" in note for note in calibrate(exposures_of(drawn_light(), EVS), ratios(EVS)).notes)


def test_channels_are_taken_to_mix_where_nothing_tells() -> None:
    grey = np.repeat(drawn_light().mean(-1, keepdims=True), 3, -1)
    assert calibrate(exposures_of(grey, EVS), ratios(EVS)).channels_mix
    assert calibrate(exposures_of(drawn_light(), (-4.0, -3.0)), ratios((-4.0, -3.0))).channels_mix


CANDIDATES = [Response.gamma(2.2), Response.srgb(), Response.linear()]


@pytest.mark.parametrize("trouble", [{}, {"jpeg": 75}, {"moving_rows": 0.4}])
@pytest.mark.parametrize("response", CANDIDATES)
def test_of_several_responses_the_one_is_taken_by_which_exposures_agree(response: Response, trouble: dict) -> None:
    ldr = exposures_of(drawn_light(), EVS, lambda ldr: response.to_linear(torch.from_numpy(ldr)).numpy(), **trouble)
    for candidates in (CANDIDATES, CANDIDATES[::-1]):
        found = agreeing_response(ldr, ratios(EVS), candidates)
        assert found is not None
        assert found.name == response.name


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("response", CANDIDATES)
def test_a_camera_that_moved_does_not_hide_the_response(response: Response, count: int) -> None:
    evs = (-4.0, -2.0, 0.0, 2.0, 4.0)[(5 - count) // 2 :][:count]
    still = exposures_of(drawn_light(), evs, lambda ldr: response.to_linear(torch.from_numpy(ldr)).numpy())
    moved = torch.stack([one.roll(9 * number, -1) for number, one in enumerate(still)])
    displacement = torch.tensor([[9.0 * number, 0.0] for number in range(count)])[:, :, None, None]

    def located(by: Response) -> Tensor:
        # What is aligned by another response than its own is found in a wrong place, and nearly agrees there.
        right = displacement.expand(-1, -1, 24, 32)
        return right if by.name == response.name else 0.5 * right

    found = agreeing_response(moved, ratios(evs), CANDIDATES, located=located)
    assert found is not None
    assert found.name == response.name
    # A picture that stands still is not moved by an alignment that a wrong response has led astray.
    found = agreeing_response(still, ratios(evs), CANDIDATES, located=lambda _: displacement.expand(-1, -1, 24, 32))
    assert found is not None
    assert found.name == response.name


def test_of_several_responses_none_is_taken_if_exposures_are_off_by_each() -> None:
    ldr = exposures_of(drawn_light(), EVS, CURVES["srgb"])
    assert agreeing_response(ldr, ratios(EVS), [Response.gamma(4.0), Response.linear()]) is None


@pytest.mark.parametrize(("agreeing", "taken"), [(5, True), (3, False)])
def test_a_response_is_taken_by_which_two_fifths_of_the_picture_agree(agreeing: int, taken: bool) -> None:
    # Of ten rows of cells some show the light as it was, and the others less than half of it.
    ldr, darker = (exposures_of(drawn_light(), (-2.0, ev), gamma(2.2)) for ev in (0.0, -1.2))
    changed = torch.arange(192) // 4 % 10 >= agreeing
    ldr[1][:, changed] = darker[1][:, changed]
    found = agreeing_response(ldr, ratios((-2.0, 0.0)), CANDIDATES[:1])
    assert (found is not None) == taken


def test_exposures_are_located_only_where_they_do_not_clearly_agree_as_they_lie() -> None:
    asked: list[str] = []

    def located(response: Response) -> Tensor:
        asked.append(response.name)
        return torch.zeros(3, 2, 24, 32)

    still = exposures_of(drawn_light(), EVS, gamma(2.2))
    agreeing_response(still, ratios(EVS), CANDIDATES, located=located)
    assert asked == []
    agreeing_response(rolled(still)[0], ratios(EVS), CANDIDATES, located=located)
    assert asked == [candidate.name for candidate in CANDIDATES]


@pytest.mark.parametrize("step", [2.0, 3.0])
@pytest.mark.parametrize("response", CANDIDATES[:2])
def test_exposures_stated_at_half_their_distance_do_not_make_files_linear(response: Response, step: float) -> None:
    ldr = exposures_of(drawn_light(), (-step, 0.0, step), lambda ldr: response.to_linear(torch.from_numpy(ldr)).numpy())
    stated = ratios((-step / 2, 0.0, step / 2))
    assert agreeing_response(ldr, stated, CANDIDATES) is None
    # Nor where an alignment is led astray, and by it they agree at no distance.
    astray = torch.tensor([[0.0, 0.0], [40.0, 0.0], [80.0, 0.0]])[:, :, None, None].expand(-1, -1, 24, 32)
    assert agreeing_response(ldr, stated, CANDIDATES, located=lambda _: astray) is None


@pytest.mark.parametrize("step", [1.0, 4.0])
def test_a_response_agrees_that_is_off_by_less_than_a_twentieth_of_a_step(step: float) -> None:
    ldr = exposures_of(drawn_light(), (-0.6 * step, 0.4 * step), gamma(2.2), shot=0, read=0)
    stated = ratios((0.0, step))
    assert agreeing_response(ldr, stated, [Response.gamma(2.2 * 1.03)]) is not None
    assert agreeing_response(ldr, stated, [Response.gamma(2.2 * 1.1)]) is None


def test_of_several_responses_the_first_is_taken_where_nothing_tells() -> None:
    for value in (torch.zeros, torch.ones):
        found = agreeing_response(value(3, 3, 64, 64), ratios(EVS), CANDIDATES)
        assert found is not None
        assert found.name == "gamma:2.2"


@pytest.mark.parametrize(("stated", "got"), [(0.2, -0.02), (0.2, 0.05), (0.4, 0.19)])
def test_a_shutter_is_off_by_less_than_half_of_a_step(stated: float, got: float) -> None:
    ldr = exposures_of(drawn_light(), (0.0, got), CURVES["srgb"])
    assert calibrate(ldr, ratios((0.0, stated)), response=Response.srgb()).corrections == (0.0, 0.0)


@pytest.mark.parametrize("shape", [(2, 2, 24, 32), (3, 24, 32), (3, 2, 0, 0), (3, 1, 24, 32)])
def test_a_displacement_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    ldr = exposures_of(drawn_light(), EVS, CURVES["srgb"])
    with pytest.raises(ValueError, match=r"displacement must have the shape \(3, 2, h, w\), got \(" + str(shape)[1:-1]):
        calibrate(ldr, ratios(EVS), located=lambda _: torch.zeros(shape))


@pytest.mark.parametrize("value", [math.nan, math.inf, -1e19, 1e30, 300.0])
def test_a_displacement_out_of_the_picture_is_as_if_there_were_none(value: float) -> None:
    ldr = exposures_of(drawn_light(), EVS, CURVES["srgb"])
    found = calibrate(ldr, ratios(EVS), located=lambda _: torch.full((3, 2, 24, 32), value))
    assert found == calibrate(ldr, ratios(EVS))


def test_a_displacement_that_leaves_hardly_a_cell_is_as_if_there_were_none() -> None:
    ldr = exposures_of(drawn_light(), EVS, CURVES["srgb"])
    # Of 192 x 256 pixels one row of 17 cells is left.
    assert Cells.of(ldr, torch.full((3, 2, 24, 32), 188.0)).pixels.shape[2] == 17
    found = calibrate(ldr, ratios(EVS), located=lambda _: torch.full((3, 2, 24, 32), 188.0))
    assert found == calibrate(ldr, ratios(EVS))


def test_cells_are_read_where_an_exposure_shows_them() -> None:
    ldr = torch.rand(2, 3, 23, 30)
    displacement = torch.tensor([[0.0, 0.0], [5.4, -2.6]])[:, :, None, None].expand(-1, -1, 23, 30)
    cells = Cells.of(ldr, displacement)
    found = {tuple(pixels.ravel().tolist()) for pixels in np.moveaxis(cells.pixels, 2, 0)}
    expected = {
        tuple(
            torch.stack([ldr[0, :, y : y + 4, x : x + 4], ldr[1, :, y - 3 : y + 1, x + 5 : x + 9]]).flatten().tolist()
        )
        for y in range(0, 20, 4)
        for x in range(0, 27, 4)
        if y >= 3 and x + 9 <= 30
    }
    assert found == expected


@pytest.mark.parametrize(
    ("ldr", "exposures", "message"),
    [
        (torch.rand(1, 3, 32, 32), torch.tensor([1.0]), "two or more"),
        (torch.rand(3, 32, 32), torch.tensor([1.0, 2.0, 4.0]), "two or more"),
        (torch.rand(2, 1, 32, 32), torch.tensor([1.0, 2.0]), "RGB"),
        (torch.zeros(2, 3, 32, 32, dtype=torch.uint8), torch.tensor([1.0, 2.0]), "floating point"),
        (torch.full((2, 3, 32, 32), math.nan), torch.tensor([1.0, 2.0]), r"\[0, 1\]"),
        (torch.rand(2, 3, 32, 32) * 255, torch.tensor([1.0, 2.0]), r"\[0, 1\]"),
        (torch.rand(2, 3, 3, 32), torch.tensor([1.0, 2.0]), "4 pixels"),
        (torch.rand(2, 3, 32, 32), torch.tensor([1.0, 2.0, 4.0]), "2 positive exposures"),
        (torch.rand(2, 3, 32, 32), torch.tensor([1.0, math.nan]), "positive"),
        (torch.rand(2, 3, 32, 32), torch.tensor([1.0, math.inf]), "positive"),
        (torch.rand(2, 3, 32, 32), torch.tensor([0.0, 1.0]), "positive"),
        (torch.rand(2, 3, 32, 32), torch.tensor([2.0, 1.0]), "ascend"),
    ],
)
def test_what_is_no_bracket_is_refused(ldr: Tensor, exposures: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        calibrate(ldr, exposures)
    with pytest.raises(ValueError, match=message):
        check_exposures(ldr, exposures)


@pytest.mark.parametrize("curve", CURVES)
def test_pictures_that_do_not_lie_on_each_other_are_compared_by_ranks(curve: str) -> None:
    # Three views of one scene, 24 of 200 pixels apart: what is at the border is seen by one of them only.
    light = drawn_light(200, 264, seed=5)
    views = [light[24 * index :, 24 * index :][:144, :200] for index in range(3)]
    ldr = torch.cat([exposures_of(view, (ev,), CURVES[curve]) for view, ev in zip(views, EVS, strict=True)])
    calibration = calibrate(ldr, ratios(EVS))
    assert any("do not lie on each other" in note for note in calibration.notes)
    assert error_in_ev(calibration.response, curve, ldr) < 0.15


@pytest.mark.parametrize(("off", "noted"), [(0.2, False), (0.45, True)])
def test_exposures_do_not_lie_on_each_other_where_cells_are_off_by_a_third_of_an_ev(off: float, noted: bool) -> None:
    # Each cell of the second is brighter or darker, as it happens, by so much in the median, and no response explains
    # it. Not by one of two amounts: where half the cells agree with a response, that is the response.
    brighter = np.random.default_rng(0).uniform(-2 * off, 2 * off, (48, 64, 1)).repeat(4, axis=0).repeat(4, axis=1)
    light = drawn_light()
    ldr = torch.cat([exposures_of(light, (-1.0,)), exposures_of(light * 2**brighter, (1.0,))])
    assert any("do not lie on each other" in note for note in calibrate(ldr, ratios((-1.0, 1.0))).notes) == noted


@pytest.mark.parametrize(
    ("sampling", "quality", "expected"),
    [
        (None, 100, False),
        (cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444, 100, False),
        (cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444, 85, True),  # quantised away
        (cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422, 95, True),
        (cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420, 95, True),
    ],
)
def test_files_that_keep_colour_at_half_the_resolution_are_known(
    sampling: int | None, quality: int, expected: bool
) -> None:
    # Orange, green and violet, each with one texture for all its channels, which the differences of them have, too.
    source = np.random.default_rng(0)
    colours = np.repeat(np.array([[1.0, 0.5, 0.1], [0.2, 0.8, 0.3], [0.6, 0.2, 0.9]]), 64, axis=0)[None]
    light = 0.05 * colours * np.exp(0.5 * cv2.GaussianBlur(source.normal(size=(192, 192, 1)), (0, 0), 0.6))[..., None]
    exposures = torch.tensor([1.0, 4.0, 16.0])
    files = []
    for t in exposures.tolist():
        noisy = light * t + 2e-3 * np.sqrt(light * t) * source.normal(size=light.shape)
        levels = (255 * noisy.clip(0, 1) ** (1 / 2.2)).round().astype(np.uint8)
        if sampling is not None:
            options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
            decoded = cv2.imdecode(cv2.imencode(".jpg", levels[..., ::-1], options)[1], cv2.IMREAD_COLOR)
            assert decoded is not None
            levels = decoded[..., ::-1]
        files.append(torch.from_numpy(levels.copy()).permute(2, 0, 1) / 255)
    assert calibrate(torch.stack(files), exposures).chroma_halved == (expected, expected)
    deeper = 0.997 * torch.stack(files)  # no JPEG has levels between those of 8 bits
    assert calibrate(deeper, exposures).chroma_halved == (False, False)
    told = calibrate(torch.stack(files), exposures, chroma_halved=(False, True))  # what files say is not doubted
    assert told.chroma_halved == (False, True)


@pytest.mark.parametrize("halved", [False, True])
def test_noise_of_each_channel_is_colour_in_full_resolution(halved: bool) -> None:
    # Two flat colours, complementary ones of one brightness, so that all that noise has in common with them cancels.
    source = np.random.default_rng(0)
    tint = np.array([0.3, -0.3 * 0.2126 / 0.7152, 0.0])
    colours = np.repeat(np.array([1 + tint, 1 - tint]), 96, axis=0)[None]
    files = []
    for grey in (0.25, 0.25 * 4 ** (1 / 2.2)):
        levels = (255 * (grey * colours + 0.02 * source.normal(size=(192, 192, 3)))).round().astype(np.uint8)
        if halved:
            options = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, 0x221111]
            levels = np.asarray(cv2.imdecode(cv2.imencode(".jpg", levels, options)[1], cv2.IMREAD_COLOR))
        files.append(torch.from_numpy(levels.copy()).permute(2, 0, 1) / 255)
    found = calibrate(torch.stack(files), torch.tensor([1.0, 4.0]), response=Response.gamma(2.2))
    assert found.chroma_halved == (halved, halved)


def test_grey_pictures_have_no_colours_to_lose() -> None:
    grey = np.repeat(drawn_light().mean(-1, keepdims=True), 3, -1)
    assert calibrate(exposures_of(grey, EVS, shot=0, read=0), ratios(EVS)).chroma_halved == (False, False)


def test_noise_that_is_cut_off_at_black_is_no_other_exposure() -> None:
    # A dark place at high ISO: where half of the pixels are black, those that are not leave a mean that is too bright.
    light = drawn_light(192, 256, seed=8)
    ldr = exposures_of(light, (-4.0, -2.0, 0.0), CURVES["srgb"], shot=1 / 600, read=(4 / 600) ** 2)
    assert float((ldr[0] == 0).float().mean()) > 0.1
    found = calibrate(ldr, torch.tensor([1.0, 4.0, 16.0]), response=Response.srgb())
    assert max(map(abs, found.corrections)) < 0.05
    assert max(found.disagreement) < 0.2
