from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from hdr.data.camera import draw_camera
from hdr.mixing import NO_MIXING, TYPICAL, inverse_of, known_light, spoiling, spoils
from hdr.observation import Aligned
from hdr.radiometry import mu_law

MATRIX = ((1.6, -0.5, -0.1), (-0.2, 1.5, -0.3), (0.0, -0.6, 1.6))


def aligned_of(light: Tensor, clipped: Tensor, mixing: Tensor | None) -> Aligned:
    """Exposures of linear light (N, 3, H, W), relative to the shortest, which are clipped here and there."""
    one = torch.ones_like(light[None, :, :1])
    return Aligned(mu_law(light)[None], clipped[None].to(light), one, light[None], one, 0 * one, mixing)


def as_mixing(matrix: tuple, errors: tuple[float, ...] = (0.0, 0.0, 0.0)) -> Tensor:
    return torch.tensor([[*row, error] for row, error in zip(matrix, errors, strict=True)], dtype=torch.float64)[None]


def photographed_by_a_sensor(light: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
    """Files of a sensor whose colours clip one by one, pixel by pixel: light over exposure, and what is white."""
    files = np.zeros((len(times), *light.shape))
    for exposure, time in enumerate(times.tolist()):
        for row, column in np.ndindex(*light.shape[1:]):
            sensor = np.linalg.solve(np.array(MATRIX), light[:, row, column].numpy() * time)
            files[exposure, :, row, column] = np.array(MATRIX) @ np.minimum(sensor, 1.0)
    white = files >= 1
    return torch.from_numpy(np.minimum(files, 1.0)) / times.view(-1, 1, 1, 1), torch.from_numpy(white)


def spoiling_of(aligned: Aligned, times: Tensor, reference: int) -> Tensor | None:
    return spoiling(aligned, times, known_light(aligned, reference))


@pytest.mark.parametrize(("exposures", "reference"), [((1.0, 4.0), 0), ((1.0, 3.0, 8.0), 1), ((1.0, 2.0, 4.0, 9.0), 2)])
def test_it_is_what_a_sensor_that_clips_does_to_colours(exposures: tuple[float, ...], reference: int) -> None:
    times = torch.tensor(exposures, dtype=torch.float64)
    # Up to a third of what clips the shortest, so that this tells all; in colours that no channel of the sensor lacks.
    sensor = torch.rand(3, 12, 14, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 0.3 + 0.02
    light = torch.einsum("ij,jhw->ihw", torch.tensor(MATRIX, dtype=torch.float64), sensor)
    sensor, light = sensor[:, light.amin(0) > 0.01][:, None], light[:, light.amin(0) > 0.01][:, None]
    files, white = photographed_by_a_sensor(light, times)
    off = spoiling_of(aligned_of(files, white, as_mixing(MATRIX)), times.view(1, -1, 1, 1, 1), reference)
    assert off is not None
    wrong = (files - light).abs()
    told = ~white
    assert float(wrong[told].max()) > 0.02
    torch.testing.assert_close(off[0][told], wrong[told], atol=1e-9, rtol=0)


def test_what_the_matrix_does_not_tell_is_a_share_of_the_light() -> None:
    light = torch.full((2, 3, 1, 2), 0.1, dtype=torch.float64)
    clipped = torch.zeros(2, 3, 1, 2)
    clipped[1, 0, 0, 0] = 1.0  # red of one of two pixels, by half and in full
    for share in (0.5, 1.0):
        aligned = aligned_of(light, share * clipped, as_mixing(NO_MIXING, (0.0, 0.2, 0.3)))
        off = spoiling_of(aligned, torch.tensor([1.0, 4.0]).view(1, 2, 1, 1, 1), 0)
        assert off is not None
        expected = torch.tensor([0.0, 0.2 * 0.1, 0.3 * 0.1], dtype=torch.float64) * share
        torch.testing.assert_close(off[0, 1, :, 0, 0], expected)
        assert float(off[0, 1, :, 0, 1].max()) == 0.0
        assert float(off[0, 0].max()) == 0.0  # of the shortest nothing is known


def test_how_much_light_there_was_the_longest_unclipped_exposure_up_to_the_reference_tells() -> None:
    # By the first exposure red clips the last by far, by the second hardly; the third is the reference, and longer ones
    # may show something else. What interpolation leaves of no saturation is none.
    for clipped_second, bright in ((0.0, 0.3), (1e-8, 0.3), (1.0, 0.9)):
        light = torch.full((4, 3, 1, 1), 0.02, dtype=torch.float64)
        light[0, 0], light[1, 0] = 0.9, 0.3
        clipped = torch.zeros(4, 3, 1, 1)
        clipped[2:, 0] = 1.0
        clipped[1, 0] = clipped_second
        times = torch.tensor([1.0, 2.0, 4.0, 8.0]).view(1, 4, 1, 1, 1)
        off = spoiling_of(aligned_of(light, clipped, as_mixing(MATRIX)), times, 2)
        assert off is not None
        sensor = np.linalg.solve(np.array(MATRIX), np.array([bright, 0.02, 0.02]) * 8)
        expected = np.abs(np.array(MATRIX)[1, 0]) * max(sensor[0] - 1, 0) / 8
        assert float(off[0, 3, 1]) == pytest.approx(expected, abs=1e-6)


def test_a_channel_that_is_not_white_in_the_file_has_spoilt_nothing() -> None:
    # Noise, or something that moved: the shortest tells ten times the light that the others show.
    light = torch.full((3, 3, 1, 1), 0.05, dtype=torch.float64)
    light[0] = 0.5
    times = torch.tensor([1.0, 4.0, 16.0]).view(1, 3, 1, 1, 1)
    off = spoiling_of(aligned_of(light, torch.zeros(3, 3, 1, 1), as_mixing(MATRIX, (0.1, 0.1, 0.1))), times, 1)
    assert off is not None
    assert float(off.max()) == 0.0


def test_where_no_camera_mixes_nothing_is_computed() -> None:
    aligned = aligned_of(torch.rand(2, 3, 2, 2), torch.ones(2, 3, 2, 2), None)
    assert spoiling_of(aligned, torch.tensor([1.0, 4.0]).view(1, 2, 1, 1, 1), 0) is None
    assert spoils(aligned) is None


def test_of_which_examples_clipped_channels_spoil_others_is_told_one_by_one() -> None:
    of_each = torch.cat([as_mixing(NO_MIXING), as_mixing(TYPICAL.matrix), as_mixing(NO_MIXING, (0.1, 0.0, 0.0))])
    aligned = aligned_of(torch.rand(2, 3, 2, 2), torch.ones(2, 3, 2, 2), of_each)
    found = spoils(aligned)
    assert found is not None
    assert found.flatten().tolist() == [False, True, True]


def test_the_inverse_is_that_of_each_matrix() -> None:
    matrices = torch.rand(5, 3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + torch.eye(3)
    expected = np.stack([np.linalg.inv(one) for one in matrices.numpy()])
    np.testing.assert_allclose(inverse_of(matrices).numpy(), expected, atol=1e-12)


def test_typical_is_a_matrix_that_leaves_white_white() -> None:
    assert all(sum(row) == pytest.approx(1.0) for row in TYPICAL.matrix)


def test_typical_is_the_mean_of_the_cameras_that_are_drawn() -> None:
    source = torch.Generator().manual_seed(0)
    drawn = [camera.colours for _ in range(400) if (camera := draw_camera(source)).colours is not None]
    # The widest range of a number is 0.4: over the root of 12 and of some 240 draws, a mean is off by 0.008.
    np.testing.assert_allclose(np.mean(drawn, axis=0), np.array(TYPICAL.matrix), atol=0.02)
    assert TYPICAL.errors == (0.0, 0.0, 0.0)
