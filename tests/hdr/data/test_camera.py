"""The one camera: noise of light and of reading, clipping, levels, JPEG, and what an estimate of it gets wrong."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from hdr.data.camera import Camera, draw_camera, misjudged
from hdr.data.synthetic import calibration_of_camera
from hdr.response import Response

T = torch.tensor([1.0, 4.0, 16.0])


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def flat(value: float, count: int = 3, side: int = 96) -> Tensor:
    return torch.full((count, 3, side, side), value)


def test_noise_is_that_of_light_and_of_reading() -> None:
    camera = Camera(Response.linear(), full_well=4000.0, read_noise=3e-3, levels=65535)
    ldr = camera.photograph(source(), flat(0.02), T)
    for image, t in zip(ldr, T.tolist(), strict=True):
        light = 0.02 * t
        assert float(image.mean()) == pytest.approx(light, rel=0.01)
        assert float(image.std()) == pytest.approx(math.sqrt(light / 4000 + 9e-6), rel=0.03)


def test_grain_is_a_share_of_the_light() -> None:
    camera = Camera(Response.linear(), full_well=1e12, read_noise=0.0, grain=0.05, levels=65535)
    for image in camera.photograph(source(), flat(0.02), T):
        assert float(image.std() / image.mean()) == pytest.approx(0.05, rel=0.03)


@pytest.mark.parametrize("levels", [255, 65535])
def test_files_have_their_levels(levels: int) -> None:
    ldr = Camera(Response.gamma(2.2), levels=levels).photograph(source(), torch.rand(3, 3, 32, 32), T)
    torch.testing.assert_close(ldr * levels, (ldr * levels).round(), atol=2e-2, rtol=0)
    assert 0 <= float(ldr.min()) <= float(ldr.max()) <= 1


@pytest.mark.parametrize("white_level", [1.0, 248 / 255])
def test_channels_clip_at_the_white_level(white_level: float) -> None:
    camera = Camera(Response.gamma(2.2), white_level=white_level)
    ldr = camera.photograph(source(), flat(3.0), T)
    torch.testing.assert_close(ldr, torch.full_like(ldr, white_level), atol=1e-6, rtol=0)


def test_values_are_those_of_the_response() -> None:
    camera = Camera(Response.gamma(1.8), full_well=1e12, read_noise=0.0, levels=65535)
    ldr = camera.photograph(source(), flat(0.03), T)
    for image, t in zip(ldr, T.tolist(), strict=True):
        torch.testing.assert_close(image, torch.full_like(image, (0.03 * t) ** (1 / 1.8)), atol=1e-4, rtol=0)


def test_values_are_rounded_to_the_nearest_level() -> None:
    scene = torch.linspace(0, 0.99, 256).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    camera = Camera(Response.gamma(2.2), full_well=1e12, read_noise=0.0)
    levels = 255 * camera.photograph(source(), scene, torch.ones(1))
    off = levels - 255 * scene ** (1 / 2.2)
    assert -0.501 < float(off.min()) < -0.4
    assert 0.4 < float(off.max()) < 0.501


def test_a_sensor_of_other_colours_clips_before_they_are_turned_into_those_of_the_file() -> None:
    colours = ((1.5, -0.5, 0.0), (-0.2, 1.5, -0.3), (0.0, -0.4, 1.4))
    camera = Camera(Response.linear(), full_well=1e12, read_noise=0.0, levels=65535, colours=colours)
    scene = torch.rand(1, 3, 12, 12, generator=source()) * 2
    matrix = np.array(colours)
    expected = np.empty((3, 12, 12))
    for row, column in np.ndindex(12, 12):
        sensor = np.linalg.solve(matrix, scene[0, :, row, column].double().numpy())
        expected[:, row, column] = np.clip(matrix @ np.clip(sensor, 0, 1), 0, 1)
    np.testing.assert_allclose(camera.photograph(source(), scene, torch.ones(1))[0].numpy(), expected, atol=2e-5)
    grey = camera.photograph(source(), flat(0.02), T)
    for image, t in zip(grey, T.tolist(), strict=True):
        torch.testing.assert_close(image, torch.full_like(image, 0.02 * t), atol=2e-5, rtol=0)


def test_the_noise_of_a_camera_is_known_in_the_colours_of_the_file() -> None:
    colours = ((1.5, -0.5, 0.0), (-0.2, 1.5, -0.3), (0.0, -0.4, 1.4))
    camera = Camera(Response.linear(), full_well=2000.0, read_noise=3e-3, levels=65535, colours=colours)
    known = calibration_of_camera(camera)
    image = camera.photograph(source(), flat(0.2, count=1, side=200), torch.ones(1))[0]
    assert known.channels_mix
    assert float(image.var(dim=(1, 2)).mean()) == pytest.approx(known.shot * 0.2 + known.read, rel=0.03)
    assert not calibration_of_camera(Camera(Response.linear())).channels_mix


def test_a_sun_stays_finite_and_white() -> None:
    ldr = Camera(Response.gamma(2.2)).photograph(source(), flat(1e9, side=16), T)
    assert bool((ldr == 1).all())


def test_jpeg_changes_detail_but_not_the_mean() -> None:
    scene = 0.2 * torch.rand(1, 3, 64, 64)
    exact, compressed = (
        Camera(Response.gamma(2.2), full_well=1e12, read_noise=0.0, jpeg_quality=quality).photograph(
            source(), scene, torch.ones(1)
        )
        for quality in (None, 80)
    )
    assert compressed.shape == exact.shape
    # Each image by itself.
    camera, others = Camera(Response.gamma(2.2), full_well=1e12, read_noise=0.0, jpeg_quality=80), scene.flip(-1)
    together = camera.photograph(source(), torch.cat([scene, others]), torch.ones(2))
    alone = [camera.photograph(source(), one, torch.ones(1)) for one in (scene, others)]
    torch.testing.assert_close(together, torch.cat(alone))
    assert 0.005 < float((exact - compressed).abs().mean()) < 0.2
    assert float(compressed.mean()) == pytest.approx(float(exact.mean()), abs=0.01)


def test_photographs_are_functions_of_the_generator() -> None:
    camera, scene = Camera(Response.srgb()), torch.rand(2, 3, 16, 16)
    before = torch.get_rng_state()
    first, again, other = (camera.photograph(source(seed), scene, T[:2]) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_cameras_are_drawn_as_one_meets_them() -> None:
    cameras = [draw_camera(source(seed)) for seed in range(60)]
    assert {camera.levels for camera in cameras} == {255, 65535}
    assert {camera.jpeg_quality is None for camera in cameras} == {True, False}
    assert all(camera.levels == 255 for camera in cameras if camera.jpeg_quality is not None)
    assert {camera.white_level == 1 for camera in cameras} == {True, False}
    assert all(1e3 <= camera.full_well <= 3e4 and 1e-4 <= camera.read_noise <= 2e-3 for camera in cameras)
    assert all(camera.grain == 0 or 0.01 <= camera.grain <= 0.08 for camera in cameras)
    assert all(camera.jpeg_quality is None or 80 <= camera.jpeg_quality <= 98 for camera in cameras)
    assert all(0.965 <= camera.white_level <= 1 for camera in cameras)
    # Most files have all levels and no grain, and colours that are not the sensor's.
    for few in ([camera.white_level < 1 for camera in cameras], [camera.grain > 0 for camera in cameras]):
        assert 0 < sum(few) < 25
    assert 30 < sum(camera.colours is not None for camera in cameras) < 50
    middles = [float(camera.response.to_linear(torch.tensor(0.5))) for camera in cameras]
    assert 0.5**2.9 < min(middles) < 0.5**2.3 < 0.5**2.0 < max(middles) < 0.5**1.5


def test_a_share_of_the_cameras_is_clean() -> None:
    for share, fewest, most in ((0.0, 0, 8), (0.5, 20, 45), (1.0, 60, 60)):
        drawn = [draw_camera(source(seed), share) for seed in range(60)]
        clean = [camera for camera in drawn if camera.full_well >= 2e4 and camera.read_noise <= 3e-4]
        clean = [camera for camera in clean if camera.jpeg_quality is None and camera.grain == 0]
        assert fewest <= len(clean) <= most
        assert share < 1 or {camera.levels for camera in clean} == {255, 65535}
    # Without clean ones the draws are what they were.
    assert draw_camera(source(3), 0.0) == draw_camera(source(3))


def test_an_estimate_is_off_by_a_few_per_cent_or_exact() -> None:
    ldr = torch.linspace(0.1, 0.95, 50, dtype=torch.float64)
    errors, factors, known = [], [], []
    for seed in range(40):
        camera = draw_camera(source(seed))
        seen = misjudged(source(seed + 1000), camera)
        ratio = seen.response.to_linear(ldr) / camera.response.to_linear((ldr / camera.white_level).clamp_max(1))
        if seen.white_level == camera.white_level:
            errors.append(float(ratio.log2().abs().max()))
        else:
            assert seen.white_level == 1.0  # a camera that clips early, and was not found out
        factors.append(seen.full_well / camera.full_well)
        known.append(seen.levels == camera.levels)
    assert min(errors) < 1e-3 < 0.02 < max(errors) < 0.5
    assert 0.3 < sum(error < 1e-3 for error in errors) / len(errors) < 0.7
    assert 0.3 < min(factors) < 0.9 < 1.1 < max(factors) < 3
    assert all(known)


def test_the_curve_of_a_camera_that_clips_early_ends_where_it_is_known_to_clip() -> None:
    camera, values = Camera(Response.gamma(2.0), white_level=0.9), torch.linspace(0.1, 0.85, 20, dtype=torch.float64)
    errors: dict[float, list[float]] = {0.9: [], 1.0: []}
    for seed in range(40):
        seen = misjudged(source(seed), camera)
        told = (values / seen.white_level) ** 2
        errors[seen.white_level].append(float((seen.response.to_linear(values) - told).abs().max()))
    # Of ten such cameras nine are found out.
    assert 32 <= len(errors[0.9]) < 40
    # Half of the curves are known exactly, whether it is known that they end early or not.
    for of_white in errors.values():
        assert min(of_white) < 1e-5
        assert max(of_white) < 0.2


def test_white_stays_white_in_the_colours_of_the_file_and_no_colour_takes_light_from_a_sensor() -> None:
    matrices = [np.array(camera.colours) for seed in range(60) if (camera := draw_camera(source(seed))).colours]
    assert 20 < len(matrices) < 50
    for matrix in matrices:
        np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-12)
        assert np.linalg.inv(matrix).min() >= 0
        assert (matrix - np.diag(np.diag(matrix))).max() <= 0


def test_jpeg_keeps_which_channel_is_which() -> None:
    radiance = torch.tensor([0.5, 0.2, 0.05]).view(1, 3, 1, 1).expand(1, 3, 32, 32)
    lossless = Camera(Response.srgb(), full_well=1e8, read_noise=1e-6)
    through, plain = (
        camera.photograph(torch.Generator(), radiance, torch.ones(1))
        for camera in (dataclasses.replace(lossless, jpeg_quality=95), lossless)
    )
    torch.testing.assert_close(through, plain, atol=0.02, rtol=0)


def test_noise_is_misjudged_in_one_sense() -> None:
    camera, logarithms = Camera(Response.srgb(), grain=0.05), []
    for seed in range(40):
        seen = misjudged(torch.Generator().manual_seed(seed), camera)
        assert seen.grain == 0  # which is never known of
        # Standard deviations: of shot noise by the root of the electrons.
        more, more_read = camera.full_well / seen.full_well, seen.read_noise / camera.read_noise
        assert more != 1.0
        assert more_read == pytest.approx(more)
        logarithms.append(math.log(more))
    # By up to a half for most.
    assert 0.6 < sum(abs(one) < math.log(1.5) for one in logarithms) / len(logarithms) < 0.95
