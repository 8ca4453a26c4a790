"""Registration: a known motion of the camera is found and undone, and nothing else is touched."""

import warnings

import cv2
import numpy as np
import pytest
import torch

from hdr.bracket import Bracket
from hdr.registration import CameraMotion, RegistrationError, corner_shift, estimate_motion, register
from hdr.scene import dynamic_scene

EXPOSURES = (1.0, 4.0, 16.0)


def wall(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Radiance with structure at every scale, from shadows at 0.002 to highlights at 1; shape (H, W, 3)."""
    source = np.random.default_rng(seed)
    log_radiance = np.zeros((height, width, 3))
    for cell in (4, 8, 16, 32, 64, 128):
        noise = source.normal(size=(height // cell + 2, width // cell + 2, 3))
        log_radiance += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
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
def test_known_camera_motion_is_found_to_within_a_pixel(motion, moving):
    bracket = hand_held(270, 360, [motion, STILL, np.linalg.inv(motion)], moving)
    for index, truth in [(0, motion), (2, np.linalg.inv(motion))]:
        error = np.linalg.inv(truth) @ estimate_motion(bracket, index).homography
        assert corner_shift(error, bracket.size) < 1.0


def test_motion_in_pictures_larger_than_features_need_is_found():
    motion = shift(40, -30, degrees=1)
    bracket = hand_held(400, 1800, [motion, STILL, STILL])
    error = np.linalg.inv(motion) @ estimate_motion(bracket, 0).homography
    assert corner_shift(error, bracket.size) < 1.0


def test_registered_exposures_show_what_the_reference_shows():
    motions = [shift(70, -40), STILL, shift(-30, 40, degrees=2)]
    shaken, still = hand_held(270, 360, motions), hand_held(270, 360, [STILL] * 3)
    registered = register(shaken, "auto")
    assert torch.equal(registered.reference, shaken.reference)
    for index in (0, 2):
        before = (shaken.ldr[index] - still.ldr[index]).abs().mean()
        after = (registered.ldr[index] - still.ldr[index]).abs()
        assert float(after.mean()) < 0.2 * float(before)
        assert float(after[:, 75:-75, 100:-100].mean()) < 0.02


def test_gaps_are_filled_with_the_reference_as_that_exposure_would_show_it():
    bracket = hand_held(270, 360, [shift(-80, 0), STILL, STILL])
    registered = register(bracket, "on")
    gap = (slice(None), slice(None), slice(0, 70))  # the short exposure begins 80 pixels further right
    expected = (bracket.ldr[1][gap].pow(2.2) / 4).pow(1 / 2.2)
    torch.testing.assert_close(registered.ldr[0][gap], expected, rtol=1e-4, atol=1e-5)


def test_a_tripod_bracket_is_left_as_it_is():
    bracket = hand_held(270, 360, [STILL] * 3, moving=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert register(bracket, "auto") is bracket


@pytest.mark.parametrize(("still", "agreeing", "evident"), [(100, 100, False), (95, 100, False), (80, 100, True)])
def test_a_motion_that_explains_hardly_more_than_none_is_not_evident(still, agreeing, evident):
    assert CameraMotion(shift(3, 0), agreeing, still).is_evident == evident


def test_a_still_scene_with_few_features_is_not_resampled():
    bracket = dynamic_scene(300, 450).bracket
    assert register(bracket, "auto") is bracket


def test_registration_is_repeatable():
    bracket = hand_held(270, 360, [shift(30, 20), STILL, shift(-20, 5)])
    assert torch.equal(register(bracket, "on").ldr, register(bracket, "on").ldr)


@pytest.mark.parametrize("flat", [0.0, 0.5])
def test_pictures_without_structure_are_told_or_refused(flat):
    bracket = Bracket(torch.full((3, 3, 64, 64), flat), torch.tensor(EXPOSURES))
    with pytest.warns(UserWarning, match="is merged as it is: only 0 features") as told:
        assert register(bracket, "auto") is bracket
    assert [str(warning.message).split()[0] for warning in told] == ["short", "long"]
    with pytest.raises(RegistrationError, match="features match the reference's"):
        register(bracket, "on")


def test_pictures_of_different_scenes_are_refused():
    ldr = [torch.from_numpy(photograph(wall(300, 400, seed), 2.0, seed)).permute(2, 0, 1).float() for seed in range(3)]
    with pytest.raises(RegistrationError):
        register(Bracket(torch.stack(ldr), torch.tensor(EXPOSURES)), "on")


def test_motion_by_more_than_a_quarter_of_the_picture_is_refused():
    with pytest.raises(RegistrationError, match="more than a quarter of the picture"):
        estimate_motion(hand_held(270, 360, [shift(100, -40), STILL, STILL]), 0)


def test_off_and_unknown_modes():
    bracket = Bracket(torch.rand(3, 3, 32, 32), torch.tensor(EXPOSURES))
    assert register(bracket, "off") is bracket
    with pytest.raises(ValueError, match="mode must be one of auto, on, off"):
        register(bracket, "maybe")


def test_corner_shift_of_known_motions():
    assert corner_shift(np.eye(3), (100, 200)) == 0.0
    assert corner_shift(shift(3, 4), (100, 200)) == pytest.approx(5.0)
    assert corner_shift(np.diag([2.0, 2.0, 2.0]), (100, 200)) == pytest.approx(0.0)
    assert corner_shift(np.diag([1.0, 1.0, -1.0]), (100, 200)) == float("inf")
