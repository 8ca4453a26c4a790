"""Registration: a known motion of the camera is found, whatever moves in the scene."""

import cv2
import numpy as np
import pytest
import torch

from hdr.bracket import Bracket
from hdr.calibration import Calibration
from hdr.registration import CameraMotion, RegistrationError, _alike, _reduction, corner_shift, estimate_motion
from hdr.response import Response

EXPOSURES = (1.0, 4.0, 16.0)


def wall(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Radiance with structure at every scale, from shadows at 0.002 to highlights at 1; shape (H, W, 3)."""
    source = np.random.default_rng(seed)
    log_radiance = np.zeros((height, width, 3))
    for cell in (4, 8, 16, 32, 64, 128):
        noise = source.normal(size=(height // cell + 2, width // cell + 2, 3))
        log_radiance += np.asarray(cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC), np.float64)
    return np.clip(np.exp(log_radiance - 3.5), 0.002, 1.0)


def photograph(radiance: np.ndarray, exposure: float, seed: int) -> np.ndarray:
    noisy = radiance * exposure + np.random.default_rng(seed).normal(size=radiance.shape) * 0.003
    return np.round(255 * np.clip(noisy, 0, 1) ** (1 / 2.2)) / 255


def hand_held(height: int, width: int, motions: list[np.ndarray], moving: bool = False) -> Bracket:
    """Exposures in which the reference's pixel x is seen at motions[i] @ x."""
    margin = 200
    scene = wall(height + 2 * margin, width + 2 * margin)
    ldr = []
    for index, (exposure, motion) in enumerate(zip(EXPOSURES, motions, strict=True)):
        seen = scene.copy()
        if moving:  # a bright disc that is elsewhere in every exposure
            centre = (margin + width // 3 + 40 * index, margin + height // 2)
            cv2.circle(seen, centre, height // 6, (0.3, 0.2, 0.25), -1)
        to_scene = np.array([[1, 0, margin], [0, 1, margin], [0, 0, 1.0]])
        picture = cv2.warpPerspective(
            seen, to_scene @ np.linalg.inv(motion), (width, height), flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
        )
        ldr.append(photograph(np.clip(picture, 0, 1), exposure, index))
    return Bracket(torch.from_numpy(np.stack(ldr)).permute(0, 3, 1, 2).float(), torch.tensor(EXPOSURES))


def shift(x: float, y: float, degrees: float = 0.0, perspective: float = 0.0) -> np.ndarray:
    angle = np.deg2rad(degrees)
    return np.array(
        [[np.cos(angle), -np.sin(angle), x], [np.sin(angle), np.cos(angle), y], [perspective, -perspective, 1.0]]
    )


STILL = np.eye(3)


@pytest.mark.parametrize(
    "motion", [shift(80, -30), shift(-12.5, 7.25), shift(20, 10, degrees=3), shift(15, -40, 1.0, perspective=2e-5)]
)
@pytest.mark.parametrize("moving", [False, True])
def test_known_camera_motion_is_found_to_within_a_pixel(motion: np.ndarray, moving: bool) -> None:
    bracket = hand_held(270, 360, [motion, STILL, np.linalg.inv(motion)], moving)
    for index, truth in [(0, motion), (2, np.linalg.inv(motion))]:
        found = estimate_motion(bracket, index)
        error = np.linalg.inv(truth) @ found.homography
        assert corner_shift(error, bracket.size) < 1.0
        assert found.is_evident


def test_motion_in_images_larger_than_features_need_is_found() -> None:
    motion = shift(40, -30, degrees=1)
    bracket = hand_held(400, 1800, [motion, STILL, STILL])
    error = np.linalg.inv(motion) @ estimate_motion(bracket, 0).homography
    assert corner_shift(error, bracket.size) < 1.0


def test_the_middle_of_a_block_of_pixels_is_the_middle_of_the_small_pixel() -> None:
    # Pixels 4 k to 4 k + 3 become pixel k: 4 k + 1.5 is where its centre lies.
    to_small = _reduction((400, 1200), (100, 300))
    for row, column in ((0, 0), (7, 40), (99, 299)):
        small = to_small @ np.array([4 * column + 1.5, 4 * row + 1.5, 1.0])
        np.testing.assert_allclose(small, [column, row, 1.0], atol=1e-12)


def test_the_corners_of_a_wide_picture_move_as_they_lie() -> None:
    assert corner_shift(np.diag([1.1, 1.0, 1.0]), (101, 301)) == pytest.approx(30.0)
    assert corner_shift(np.diag([1.0, 1.1, 1.0]), (101, 301)) == pytest.approx(10.0)


@pytest.mark.parametrize(
    ("size", "small"),
    [((40, 60), (40, 60)), ((100, 2000), (80, 1600)), ((3200, 400), (1600, 200)), ((16, 60000), (1, 1600))],
)
def test_features_are_found_in_pictures_of_1600_pixels_at_most(size: tuple[int, int], small: tuple[int, int]) -> None:
    bracket = Bracket(torch.rand(2, 3, *size), torch.tensor([1.0, 4.0]))
    assert [picture.shape for picture in _alike(bracket, 0)] == [small, small]


@pytest.mark.parametrize("index", [0, 2])
def test_shadows_are_compared_as_the_longer_of_the_two_exposures_shows_them(index: int) -> None:
    # A scene in the lowest thousandth of the shortest exposure: only when brightened is anything to be seen in it.
    motion = shift(20, -10)
    margin = 40
    scene = 2e-4 * wall(240 + 2 * margin, 320 + 2 * margin)
    there = cv2.warpPerspective(
        scene,
        shift(margin, margin) @ np.linalg.inv(motion),
        (320, 240),
        flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
    )
    here = scene[margin : margin + 240, margin : margin + 320]
    images = [there if which == index else here for which in range(3)]
    exposures = (1.0, 60.0, 3600.0)
    ldr = [np.clip(image * t, 0, 1) for image, t in zip(images, exposures, strict=True)]
    with pytest.warns(UserWarning, match="60 times the exposure"):
        bracket = Bracket(
            torch.from_numpy(np.stack(ldr)).permute(0, 3, 1, 2).float(),
            torch.tensor(exposures),
            calibration=Calibration(Response.linear()),
            reference_index=1,
        )
    if index == 0:  # the longer of the two is the reference, where this is too dark all the same
        with pytest.raises(RegistrationError):
            estimate_motion(bracket, index)
    else:
        error = np.linalg.inv(motion) @ estimate_motion(bracket, index).homography
        assert corner_shift(error, bracket.size) < 1.0


@pytest.mark.parametrize("moving", [False, True])
def test_a_tripod_has_no_evident_motion(moving: bool) -> None:
    bracket = hand_held(270, 360, [STILL] * 3, moving)
    for index in (0, 2):
        found = estimate_motion(bracket, index)
        assert not found.is_evident
        assert corner_shift(found.homography, bracket.size) < 1.0


@pytest.mark.parametrize(("still", "agreeing", "evident"), [(100, 100, False), (95, 100, False), (80, 100, True)])
def test_a_motion_that_explains_hardly_more_than_none_is_not_evident(still: int, agreeing: int, evident: bool) -> None:
    assert CameraMotion(shift(3, 0), agreeing, still).is_evident == evident


def test_registration_is_repeatable() -> None:
    bracket = hand_held(270, 360, [shift(30, 20), STILL, shift(-20, 5)])
    first, again = estimate_motion(bracket, 0), estimate_motion(bracket, 0)
    np.testing.assert_array_equal(first.homography, again.homography)


@pytest.mark.parametrize("flat", [0.0, 0.5])
def test_images_without_structure_are_refused(flat: float) -> None:
    bracket = Bracket(torch.full((3, 3, 64, 64), flat), torch.tensor(EXPOSURES))
    with pytest.raises(RegistrationError, match="only 0 features match the reference's, 20 are needed"):
        estimate_motion(bracket, 0)


def test_images_of_different_scenes_are_refused() -> None:
    ldr = [torch.from_numpy(photograph(wall(300, 400, seed), 2.0, seed)).permute(2, 0, 1).float() for seed in range(3)]
    with pytest.raises(RegistrationError):
        estimate_motion(Bracket(torch.stack(ldr), torch.tensor(EXPOSURES)), 2)


def test_motion_by_more_than_a_quarter_of_the_image_is_refused() -> None:
    with pytest.raises(RegistrationError, match="more than a quarter of the picture"):
        estimate_motion(hand_held(270, 360, [shift(100, -40), STILL, STILL]), 0)


def test_corner_shift_of_known_motions() -> None:
    assert corner_shift(np.eye(3), (100, 200)) == 0.0
    assert corner_shift(shift(3, 4), (100, 200)) == pytest.approx(5.0)
    assert corner_shift(np.diag([2.0, 2.0, 2.0]), (100, 200)) == pytest.approx(0.0)
    assert corner_shift(np.diag([1.0, 1.0, -1.0]), (100, 200)) == float("inf")
