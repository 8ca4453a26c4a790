from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from hdr.alignment import align
from hdr.bracket import Bracket
from hdr.calibration import Calibration
from hdr.data.shake import ShakenBrackets, checked_shake, displaced, drawn_displacement
from hdr.data.still import StillBrackets, StillScene
from hdr.merge import Merger
from hdr.response import Response
from tests.hdr.data.test_still import EVS, write_bracket

PIXELS = 9


@pytest.fixture
def still(tmp_path: Path) -> StillBrackets:
    write_bracket(tmp_path / "wall")
    return StillBrackets(tmp_path)


def moved_back(picture: Tensor, displacement: list[int], height: int, width: int) -> Tensor:
    """What the reference's crop shows, looked up in an exposure pixel by pixel; NaN where that did not see it."""
    seen = torch.full((3, height, width), math.nan)
    for row in range(height):
        for column in range(width):
            there, beside = row + displacement[1], column + displacement[0]
            if 0 <= there < height and 0 <= beside < width:
                seen[:, row, column] = picture[:, there, beside]
    return seen


def test_exposures_moved_back_are_the_original_ones_pixel_by_pixel(still: StillBrackets) -> None:
    original, shaken = still[0], ShakenBrackets(still, PIXELS)[0]
    height, width = 96 - 2 * PIXELS, 128 - 2 * PIXELS
    assert shaken.ldr.shape == (3, 3, height, width)
    displacement = drawn_displacement("wall", 3, PIXELS).tolist()
    assert all(any(displacement[index]) for index in (0, 2))
    for index in range(3):
        expected = original.ldr[index, :, PIXELS:-PIXELS, PIXELS:-PIXELS]
        seen = moved_back(shaken.ldr[index], displacement[index], height, width)
        there = seen.isfinite()
        lost = 1 - (1 - abs(displacement[index][0]) / width) * (1 - abs(displacement[index][1]) / height)
        assert float((~there).float().mean()) == pytest.approx(lost, abs=1e-6)
        assert torch.equal(seen[there], expected[there])


def test_at_the_borders_stands_what_the_camera_saw_there(still: StillBrackets) -> None:
    original = still[0]
    shaken = displaced(original, torch.tensor([[-5, 3], [0, 0], [0, 0]]), 6)
    # Content lies 5 pixels to the left and 3 lower: the camera looked 5 to the right and 3 higher.
    assert torch.equal(shaken.ldr[0], original.ldr[0, :, 3:87, 11:127])


def test_reference_and_truth_stay_where_they_are(still: StillBrackets) -> None:
    original, shaken = still[0], ShakenBrackets(still, PIXELS)[0]
    inner = (..., slice(PIXELS, 96 - PIXELS), slice(PIXELS, 128 - PIXELS))
    assert torch.equal(shaken.ldr[1], original.ldr[1][inner])
    assert torch.equal(shaken.truth, original.truth[inner])
    assert torch.equal(shaken.lost, original.lost[inner])
    assert torch.equal(shaken.of_others.nan_to_num(-1), original.of_others[inner].nan_to_num(-1))
    for name in ("name", "names", "calibration"):
        assert getattr(shaken, name) == getattr(original, name)
    assert torch.equal(shaken.exposures, original.exposures)


@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_the_exposure_that_a_merge_shows_is_the_one_that_is_not_moved(count: int) -> None:
    bracket = Bracket(torch.rand(count, 3, 32, 32), torch.tensor([2.0**index for index in range(count)]))
    still = [not any(row) for row in drawn_displacement("a", count, 1000).tolist()]
    assert still == [index == bracket.reference_index for index in range(count)]


def test_displacements_are_evenly_drawn_within_the_largest() -> None:
    drawn = torch.stack([drawn_displacement(f"scene {number}", 3, 2)[[0, 2]] for number in range(2000)])
    shares = torch.bincount(drawn.flatten() + 2, minlength=5) / drawn.numel()
    assert len(shares) == 5
    # 8000 draws of a fifth: the standard deviation of a share is 0.0045.
    torch.testing.assert_close(shares, torch.full((5,), 0.2), atol=0.02, rtol=0)
    x, y = drawn[:, 0].unbind(1)
    assert abs(float(torch.corrcoef(torch.stack([x, y]).double())[0, 1])) < 0.1


def test_a_scene_is_shaken_alike_whatever_is_measured_beside_it(tmp_path: Path) -> None:
    for name in ("a", "b", "c/night"):
        write_bracket(tmp_path / name, evs=EVS[1:6])
    torch.manual_seed(5)
    together = ShakenBrackets(StillBrackets(tmp_path), PIXELS)
    of_b = together[1]
    torch.rand(7)
    again = ShakenBrackets(StillBrackets(tmp_path / "b"), PIXELS)[0]
    assert of_b.name == again.name == "b"
    assert torch.equal(of_b.ldr, again.ldr)
    assert not torch.equal(drawn_displacement("a", 3, PIXELS), drawn_displacement("b", 3, PIXELS))
    assert not torch.equal(drawn_displacement("a", 3, PIXELS), drawn_displacement("a", 3, PIXELS, seed=1))


def test_a_stronger_shake_goes_the_same_way() -> None:
    weak, strong = (drawn_displacement("street", 3, pixels) for pixels in (100, 400))
    torch.testing.assert_close(strong / 4, weak.float(), atol=1.5, rtol=0)


def test_what_a_hand_did_is_found(still: StillBrackets) -> None:
    shaken = ShakenBrackets(still, PIXELS)[0]
    bracket = Bracket.from_images(list(shaken.ldr), shaken.exposures.tolist())
    found = align(bracket).displacement.median(dim=3).values.median(dim=2).values
    torch.testing.assert_close(found, drawn_displacement("wall", 3, PIXELS).float(), atol=0.3, rtol=0)
    assert Merger("none", "cpu")(bracket).shape == shaken.truth.shape


@pytest.mark.parametrize("pixels", [-1, -0.5, 2.5, math.nan, math.inf])
def test_what_is_no_shake_is_refused(pixels: float) -> None:
    with pytest.raises(ValueError, match=r"a shake is a whole number of pixels, 0 or more, got"):
        checked_shake(pixels)


def test_a_shake_that_leaves_too_little_is_refused_before_anything_is_measured(still: StillBrackets) -> None:
    with pytest.raises(ValueError, match="wall: a shake of 25 pixels is too large for pictures of 128 x 96; 24 is"):
        ShakenBrackets(still, 25)
    assert ShakenBrackets(still, 24)[0].ldr.shape == (3, 3, 48, 80)


def test_the_smallest_bracket_is_left() -> None:
    scene = small_scene(20, 40)
    assert displaced(scene, torch.zeros(3, 2, dtype=torch.long), 2).truth.shape == (3, 16, 36)
    with pytest.raises(ValueError, match="to 2 pixels of 40 x 20, got 3"):
        displaced(scene, torch.zeros(3, 2, dtype=torch.long), 3)


def small_scene(height: int, width: int) -> StillScene:
    ldr = torch.rand(3, 3, height, width)
    names = ("0", "1", "2")
    lost = torch.zeros(height, width, dtype=torch.bool)
    camera = Calibration(Response.linear())
    return StillScene("small", ldr, torch.tensor([1.0, 4.0, 16.0]), names, ldr[1], lost, camera, ldr[1])


@pytest.mark.parametrize(
    ("displacement", "margin", "message"),
    [
        (torch.zeros(2, 2, dtype=torch.long), None, "shape"),
        (torch.zeros(3, 2), None, "whole pixels"),
        (torch.tensor([[0, 0], [1, 0], [0, 0]]), None, "the reference, exposure 1, stays"),
        (torch.tensor([[0, -4], [0, 0], [0, 0]]), 3, "from the largest displacement, 4, to 8"),
    ],
)
def test_displacements_that_cannot_be_are_refused(displacement: Tensor, margin: int | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        displaced(small_scene(32, 40), displacement, margin)
