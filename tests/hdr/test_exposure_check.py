"""Exposures that contradict the pixels, and exposures that pixels tell."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from hdr.exposure_check import ExposureMismatchError, check_exposures, estimate_exposures, exposure_findings
from hdr.response import Response
from tests.hdr.cameras import CURVES, Curve, drawn_light, exposures_of, gamma, ratios, srgb

EVS = (-2.0, 0.0, 2.0)


def test_pictures_that_agree_where_they_show_the_same_are_not_refused() -> None:
    still = exposures_of(drawn_light(), (0.0, 2.0))
    far = torch.stack([still[0], still[1].roll((80, 110), (1, 2))])
    displacement = torch.tensor([[0.0, 0.0], [110.0, 80.0]])[:, :, None, None].expand(-1, -1, 24, 32)
    with pytest.raises(ExposureMismatchError, match="same scene"):
        check_exposures(far, ratios((0.0, 2.0)))
    check_exposures(far, ratios((0.0, 2.0)), located=lambda _: displacement)
    with pytest.raises(ExposureMismatchError, match="same scene"):  # nor do they agree where they were found
        check_exposures(far, ratios((0.0, 4.0)), located=lambda _: displacement)
    other = exposures_of(drawn_light(seed=7), (0.0, 2.0))
    with pytest.raises(ExposureMismatchError, match="same scene"):
        check_exposures(torch.stack([still[0], other[1]]), ratios((0.0, 2.0)), located=lambda _: 0 * displacement)


def test_a_contrast_is_forgiven_where_a_hand_moved_far_too() -> None:
    # Pillars, which a hand has moved by their width: in place a lit one is compared with a dark one. Where they are
    # found a power of 1.35 makes 2.7 EV of 2, of which 1 would be too few.
    light, evs, shift = drawn_light(), (0.0, 2.0), 32
    width = light.shape[1]
    pillars = np.where(np.arange(width) // shift % 2 == 1, 0.2, 1.0)
    short, long = exposures_of(light * pillars[None, :, None], evs, gamma(2.2 / 1.35))
    far = torch.stack([short[..., : width - shift], long[..., shift:]])
    displacement = torch.tensor([[0.0, 0.0], [-shift, 0.0]])[:, :, None, None].expand(-1, -1, 24, 32)
    with pytest.raises(ExposureMismatchError, match="twice"):
        check_exposures(far, ratios(evs), Response.gamma(2.2))
    check_exposures(far, ratios(evs), Response.gamma(2.2), located=lambda _: displacement)
    with pytest.raises(ExposureMismatchError, match="differ by"):
        check_exposures(far, ratios((0.0, 1.0)), Response.gamma(2.2), located=lambda _: displacement)
    with pytest.raises(ExposureMismatchError, match="twice"):
        check_exposures(far.flip(0), ratios(evs), Response.gamma(2.2), located=lambda _: -displacement)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_several_pictures_may_be_black_or_white_all_over(value: float) -> None:
    evs = (0.0, 2.0, 4.0, 6.0)
    pictures = exposures_of(drawn_light(), evs)
    covered = [0, 1] if value == 0 else [2, 3]
    pictures[covered] = value
    check_exposures(pictures, ratios(evs))
    pictures[covered] = 0.5
    with pytest.raises(ExposureMismatchError, match="the same picture"):
        check_exposures(pictures, ratios(evs))


@pytest.mark.parametrize("darkness", [0.15, 0.6])
@pytest.mark.parametrize(("curve", "share"), [("srgb", 0.35), ("gamma 1.8", 0.35), ("S", 0.2)])
def test_something_large_that_crosses_a_still_picture_does_not_make_it_another_scene(
    curve: str, share: float, darkness: float
) -> None:
    light = drawn_light()
    height, width = light.shape[:2]
    wide, evs = round(share * width), (-2.0, 0.0, 2.0)
    other = drawn_light(seed=4)[: round(0.8 * height), :wide]
    pictures = []
    for ev, left in zip(evs, (0, (width - wide) // 2, width - wide), strict=True):
        covered = light.copy()
        covered[-len(other) :, left : left + wide] = darkness * other
        pictures.append(exposures_of(covered, [ev], CURVES[curve])[0])
    check_exposures(torch.stack(pictures), ratios(evs))
    pictures[1] = exposures_of(drawn_light(seed=7), [0.0], CURVES[curve])[0]
    with pytest.raises(ExposureMismatchError, match="same scene"):
        check_exposures(torch.stack(pictures), ratios(evs))


def test_what_is_left_in_an_all_white_picture_is_no_evidence() -> None:
    # Fog, in which somebody walks: of the longest exposure he alone is not white.
    fog = 1.0 + 0.07 * drawn_light() / drawn_light().max()
    evs, pictures = (-1.5, 0.0, 1.5), []
    for number, ev in enumerate(evs):
        walked = fog.copy()
        walked[40:90, 30 + 60 * number : 42 + 60 * number] *= 0.2
        pictures.append(exposures_of(walked, [ev], middle=0.4)[0])
    ldr = torch.stack(pictures)
    assert float((ldr[2].amin(dim=0) > 0.98).float().mean()) > 0.95
    assert math.isnan(exposure_findings(ldr, ratios(evs))[1].measured)
    check_exposures(ldr, ratios(evs))
    with pytest.raises(ExposureMismatchError, match="pictures 2 and 3 have no well exposed part in common"):
        estimate_exposures(ldr, Response.srgb())


@pytest.mark.parametrize(("stated", "got"), [(0.2, 0.0), (0.3, 0.0), (0.15, -0.15)])
def test_exposures_that_are_stated_near_each_other_do_not_agree_by_being_so(stated: float, got: float) -> None:
    ldr = exposures_of(drawn_light(), (0.0, got), CURVES["srgb"], shot=1e-4, read=1e-6)
    with pytest.raises(ExposureMismatchError, match=r"the same exposure twice|signs reversed"):
        check_exposures(ldr, ratios((0.0, stated)), located=lambda _: torch.zeros(2, 2, 24, 32))


@pytest.mark.parametrize("curve", CURVES)
@pytest.mark.parametrize(
    ("evs", "trouble"),
    [
        (EVS, {"jpeg": 75}),
        (EVS, {"moving_rows": 0.4}),
        (EVS, {"shift": 6}),
        ((0.0, 3.0), {}),
        ((0.0, 1.0, 2.0, 3.0), {}),
        ((0.0, 2.0, 3.0), {}),
    ],
)
def test_right_exposures_pass_with_any_camera(curve: str, evs: tuple[float, ...], trouble: dict) -> None:
    check_exposures(exposures_of(drawn_light(), evs, CURVES[curve], **trouble), ratios(evs))


def test_findings_hold_what_was_stated_and_measured() -> None:
    ldr = exposures_of(drawn_light(), (0.0, 1.0, 3.5))
    findings = exposure_findings(ldr, ratios((0.0, 1.0, 3.5)), Response.srgb())
    assert [finding.pictures for finding in findings] == [(0, 1), (1, 2)]
    assert [finding.stated for finding in findings] == pytest.approx([1.0, 2.5])
    assert [finding.measured for finding in findings] == pytest.approx([1.0, 2.5], abs=0.05)
    assert [finding.problem for finding in findings] == ["", ""]


@pytest.mark.parametrize("curve", ["srgb", "S", "film", "gamma 1.8"])
@pytest.mark.parametrize(
    ("true", "stated", "message"),
    [
        ((2.0, 0.0, -2.0), EVS, "signs reversed"),
        ((0.0, 2.0, 2.0), EVS, "the same exposure twice"),
        ((0.0, 0.0, 4.0), (0.0, 2.0, 4.0), "the same exposure twice"),
        ((0.0, 1.0, 4.0), (0.0, 3.0, 4.0), "differ by"),
        ((0.0, 4.0), (0.0, 1.0), "differ by"),
        ((0.0, 1.0), (0.0, 4.0), "differ by"),
    ],
)
def test_exposures_that_contradict_the_pixels_are_refused_in_ev(
    curve: str, true: tuple[float, ...], stated: tuple[float, ...], message: str
) -> None:
    ldr = exposures_of(drawn_light(), true, CURVES[curve])
    with pytest.raises(ExposureMismatchError, match=message) as refusal:
        check_exposures(ldr, ratios(stated), names=["a.jpg", "b.jpg", "c.jpg"])
    assert " EV" in str(refusal.value)
    assert ".jpg" in str(refusal.value)
    assert "--align off --response srgb" in str(refusal.value)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ([0], "leave out a, with which its neighbours do not agree"),
        ([2], "leave out c, with which its neighbours do not agree"),
        ([4], "leave out e, with which its neighbours do not agree"),
        ([1, 3], "leave out pictures"),
        ([1, 2], "leave out pictures"),
    ],
)
def test_one_picture_that_does_not_belong_is_named(wrong: list[int], told: str) -> None:
    evs = (-2.0, -1.0, 0.0, 1.0, 2.0)
    ldr, other = exposures_of(drawn_light(), evs), exposures_of(drawn_light(seed=1), evs)
    ldr[wrong] = other[wrong].flip(-1)
    with pytest.raises(ExposureMismatchError, match=told):
        check_exposures(ldr, ratios(evs), Response.srgb(), names="abcde")


def test_of_two_pictures_neither_is_the_odd_one() -> None:
    first, second = (exposures_of(drawn_light(seed=seed), (0.0, 2.0)) for seed in (1, 2))
    with pytest.raises(ExposureMismatchError, match="leave out pictures"):
        check_exposures(torch.stack([first[0], second[1]]), ratios((0.0, 2.0)))


def test_a_bracket_of_one_picture_twice_is_refused() -> None:
    picture = exposures_of(drawn_light(), (0.0,))[0]
    with pytest.raises(ExposureMismatchError, match="same picture"):
        check_exposures(torch.stack([picture, picture]), torch.tensor([1.0, 4.0]))


def test_pictures_of_the_same_light_pass_if_they_are_that() -> None:
    stated = (-2.0, 0.0, 0.0, 0.0, 2.0)
    light = ratios(stated)
    check_exposures(exposures_of(drawn_light(), stated), light)
    check_exposures(exposures_of(drawn_light(), (-2.0, 0.0, 0.2, 0.0, 2.0)), light)  # lamps flicker, clouds pass
    check_exposures(exposures_of(drawn_light(), (-2.0, 0.0, 0.3, 0.1, 2.0)), ratios((-2.0, 0.0, 0.07, 0.1, 2.0)))
    for got in (0.7, -0.7):
        other = exposures_of(drawn_light(), (-2.0, 0.0, got, 0.0, 2.0))
        said = rf"2 and picture 3 are stated to have the same light, but differ by {got}"
        with pytest.raises(ExposureMismatchError, match=said):
            check_exposures(other, light, Response.srgb())


def test_behind_what_moved_pictures_of_the_same_light_may_agree() -> None:
    ldr = exposures_of(drawn_light(), (0.0, 0.0))
    rows = 110  # of 192, and so the median, in the light of what passed
    ldr[1, :, :rows] = exposures_of(drawn_light(), (0.8,))[0, :, :rows]
    (finding,) = exposure_findings(ldr, torch.ones(2))
    assert abs(finding.measured) > 0.5
    assert not finding.problem


def test_a_copy_is_told_by_how_far_it_is_stated_from_the_other() -> None:
    first, second = exposures_of(drawn_light(), (0.0, 2.0))
    with pytest.raises(ExposureMismatchError, match=r"picture 1 and picture 3 are the same picture, stated 4\.00 EV"):
        check_exposures(torch.stack([first, second, first]), ratios((0.0, 2.0, 4.0)))


def test_pictures_of_the_same_light_differ_by_what_they_do_whatever_the_contrast() -> None:
    # A power of 1.5 makes 3 EV of 2, and 0.6 of the 0.4 of a cloud.
    stated, steep = (-4.0, -2.0, 0.0, 0.0, 2.0), gamma(2.2 / 1.5)
    check_exposures(
        exposures_of(drawn_light(), (-4.0, -2.0, 0.0, 0.4, 2.0), steep), ratios(stated), Response.gamma(2.2)
    )
    other = exposures_of(drawn_light(), (-4.0, -2.0, 0.0, 0.75, 2.0), steep)
    with pytest.raises(ExposureMismatchError, match=r"same light, but differ by 0\.(7[0-9]|80)"):
        check_exposures(other, ratios(stated), Response.gamma(2.2))


def test_the_contrast_of_a_camera_is_not_told_by_pictures_of_the_same_light() -> None:
    # Of a steep curve every step looks 1.6 times as large; were 0.01 / 0.0001 among the factors, it would not pass.
    ldr = exposures_of(drawn_light(), (-1.0, -1.0, -1.0, -1.0, 1.0, 3.0), gamma(1.4))
    check_exposures(ldr, ratios((-1.0, -0.9999, -0.9998, -0.9997, 1.0, 3.0)))


def test_pictures_of_different_scenes_are_refused() -> None:
    first, second = (exposures_of(drawn_light(seed=seed), EVS) for seed in (1, 2))
    with pytest.raises(ExposureMismatchError, match="same scene"):
        check_exposures(torch.stack([first[0], second[1], first[2]]), ratios(EVS))


@pytest.mark.parametrize("axis", [0, 1])
def test_a_hand_that_moved_by_nearly_a_sixth_of_the_picture_shows_the_same_scene(axis: int) -> None:
    light = drawn_light(222, 296, seed=3)
    height, width = 192, 256
    here, there = light[:height, :width], light[(30, 0)[axis] :, (0, 40)[axis] :][:height, :width]
    moved = torch.stack([exposures_of(here, (-1.0,))[0], exposures_of(there, (1.0,))[0]])
    check_exposures(moved, ratios((-1.0, 1.0)))


def test_exposures_farther_apart_than_a_file_reaches_are_refused() -> None:
    ldr = exposures_of(drawn_light(), (-5.0, 5.0))
    with pytest.raises(ExposureMismatchError, match=r"10\.00 EV"):
        check_exposures(ldr, ratios((-5.0, 5.0)))


def test_black_and_white_exposures_are_not_judged() -> None:
    check_exposures(torch.stack([torch.zeros(3, 64, 64), torch.ones(3, 64, 64)]), torch.tensor([1.0, 4.0]))


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1], [1, 2, 0]])
def test_ratios_are_estimated_in_any_order(order: list[int]) -> None:
    ldr = exposures_of(drawn_light(), EVS, CURVES["gamma 2.2"])[order]
    expected = torch.tensor([1.0, 4.0, 16.0])[order]
    torch.testing.assert_close(estimate_exposures(ldr, Response.gamma(2.2)), expected, rtol=0.05, atol=0)


def test_estimated_ratios_are_as_good_as_the_response() -> None:
    # A gamma of 2.2 taken for 1.1 halves all EV.
    ldr = exposures_of(drawn_light(), EVS, CURVES["gamma 2.2"])
    torch.testing.assert_close(
        estimate_exposures(ldr, Response.gamma(1.1)), torch.tensor([1.0, 2.0, 4.0]), rtol=0.05, atol=0
    )


def test_srgb_is_assumed_with_a_word() -> None:
    ldr = exposures_of(drawn_light(), EVS)
    with pytest.warns(UserWarning, match="sRGB"):
        estimated = estimate_exposures(ldr)
    torch.testing.assert_close(estimated, torch.tensor([1.0, 4.0, 16.0]), rtol=0.05, atol=0)


def test_ratios_of_pictures_without_a_common_part_cannot_be_estimated() -> None:
    with pytest.raises(ExposureMismatchError, match="cannot be estimated"):
        estimate_exposures(torch.stack([torch.zeros(3, 64, 64), torch.ones(3, 64, 64)]), Response.srgb())


def test_pictures_that_contradict_each_other_are_named_shortest_first() -> None:
    ldr = exposures_of(drawn_light(), (0.0, 1.0))
    with pytest.raises(ExposureMismatchError, match=r"a\.jpg and b\.jpg are stated 4\.00 EV apart"):
        check_exposures(ldr, ratios((0.0, 4.0)), names=["a.jpg", "b.jpg"])


@pytest.mark.parametrize(
    ("got", "stated"), [((0.0, 0.0, 2.0), (0.0, 2.0, 4.0)), ((-3.0, -1.0, 1.0, 3.7), (-3.0, -1.0, 1.0, 3.0))]
)
def test_one_exposure_that_is_wrong_does_not_make_the_others_wrong(
    got: tuple[float, ...], stated: tuple[float, ...]
) -> None:
    # By a response of 2.75 a camera of gamma 2.2 has a quarter more EV everywhere, which is forgiven.
    ldr = exposures_of(drawn_light(), got, gamma(2.2))
    findings = exposure_findings(ldr, ratios(stated), Response.gamma(2.75))
    wrong = [not np.isclose(g, s) for g, s in zip(np.diff(got), np.diff(stated), strict=True)]
    assert sum(wrong) == 1
    assert [bool(finding.problem) for finding in findings] == wrong


def crushed(ldr: NDArray) -> NDArray:
    """SRGB, but in shadows twice as many EV."""
    return srgb(ldr) * np.minimum(ldr / 0.15, 1) ** 2.2


def rolled_off(ldr: NDArray) -> NDArray:
    """SRGB, but 2.5 EV of highlights above 0.85."""
    light = np.where(ldr < 0.85, srgb(ldr), srgb(np.array(0.85)) * 2 ** (2.5 * (ldr - 0.85) / 0.15))
    return light / light.max()


@pytest.mark.parametrize(("curve", "factor", "white"), [(crushed, 1 / 16, 255), (rolled_off, 8.0, 204)])
def test_light_is_measured_where_cameras_hardly_differ(curve: Curve, factor: float, white: int) -> None:
    evs, light = (-0.5, 0.5), drawn_light(stops=1.5).copy()
    light[:, :160] *= factor
    ldr = exposures_of(light, evs, curve, middle=0.12 if factor < 1 else 0.05, white=white, shot=0, read=0)
    values = ldr[1] * 255 / white
    assert float(((values < 0.15) | (values > 0.85)).float().mean()) > 0.55  # there this camera is not sRGB
    (finding,) = exposure_findings(ldr, ratios(evs), Response.srgb().with_white_level(white / 255))
    assert finding.measured == pytest.approx(1.0, abs=0.1)


def test_what_agrees_in_a_small_part_does_not_make_one_scene_of_two() -> None:
    source = np.random.default_rng(0)
    squares = source.integers(0, 2, (2, 1, 12, 16)).repeat(16, 2).repeat(16, 3).repeat(3, 1).astype(np.float32)
    squares[0, :, 80:100, 100:124], squares[1, :, 80:100, 100:124] = 0.25, 0.5  # a hundredth of the picture
    exposures = torch.tensor([1.0, 4.0])
    with pytest.raises(ExposureMismatchError, match="same scene"):
        check_exposures(torch.from_numpy(squares), exposures, Response.gamma(2.0))


def test_of_exposures_far_apart_what_moved_is_not_measured() -> None:
    # Six EV apart both show well what somebody in a lit coat covers in one and not in the other, and hardly more.
    light = 0.003 * drawn_light(stops=1.5)
    light[:, 128:] *= 300
    covered = light.copy()
    covered[60:140, 20:80] = 0.3
    ldr = torch.cat([exposures_of(covered, (0.0,), middle=1.0), exposures_of(light, (6.0,), middle=1.0)])
    check_exposures(ldr, ratios((0.0, 6.0)))


def test_a_contrast_is_forgiven_that_all_neighbours_have() -> None:
    check_exposures(exposures_of(drawn_light(), (-3.0, 0.0, 3.0)), ratios(EVS), Response.srgb())
    ldr = exposures_of(drawn_light(), (-2.0, -0.65, 2.5))  # 0.675 times as many EV as stated, and 1.575 times
    with pytest.raises(
        ExposureMismatchError, match=r"1 and picture 2 are stated .* picture 2 and picture 3 are stated"
    ):
        check_exposures(ldr, ratios(EVS), Response.srgb())


@pytest.mark.parametrize(("got", "said"), [(-0.2, "the same exposure twice"), (-1.0, "are the signs reversed")])
def test_a_little_less_light_is_no_reversed_sign(got: float, said: str) -> None:
    with pytest.raises(ExposureMismatchError, match=said):
        check_exposures(exposures_of(drawn_light(), (0.0, got)), ratios((0.0, 2.0)))


@pytest.mark.parametrize(("lowest", "highest"), [(0, 24), (122, 133), (235, 255)])
def test_noise_of_a_black_a_white_or_an_even_picture_is_not_its_structure(lowest: int, highest: int) -> None:
    blocks = np.random.default_rng(0).integers(lowest, highest + 1, (24, 32)).repeat(8, 0).repeat(8, 1) / 255
    even = torch.from_numpy(blocks).float().expand(3, -1, -1)
    pair = [even, exposures_of(drawn_light(), (0.0,))[0]]
    for ldr in (torch.stack(pair), torch.stack(pair[::-1])):
        (finding,) = exposure_findings(ldr, torch.tensor([1.0, 8.0]))
        assert "same scene" not in finding.problem
