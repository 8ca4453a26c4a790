from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from hdr.calibration import Calibration, calibrate
from hdr.data.still import (
    BY_OTHERS,
    LOST_HIGHLIGHTS,
    StillBrackets,
    StillScene,
    choose_exposures,
    mean_of_exposures,
    on_scale_of,
    read_exposure_list,
    score_still,
)
from hdr.metrics import evaluate
from hdr.response import Response
from tests.hdr.cameras import CURVES, drawn_light, exposures_of, ratios

EVS = (-4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)


def write_bracket(
    folder: Path, evs: tuple[float, ...] = EVS, curve: str = "S", listed: str | None = None, **camera: object
) -> Tensor:
    """Write pictures 0.png, 1.png ... and their list; returns the light that EV 0 shows, shape (3, H, W)."""
    folder.mkdir(parents=True, exist_ok=True)
    light = drawn_light(96, 128, stops=9.0)
    for number, picture in enumerate(exposures_of(light, evs, CURVES[curve], **camera)):  # type: ignore[arg-type]
        pixels = picture.permute(1, 2, 0).flip(-1).mul(255).round().byte().numpy()
        assert cv2.imwrite(str(folder / f"{number}.png"), pixels)
    lines = [f"{number}.png,{2.0**ev}" for number, ev in enumerate(evs)]
    (folder / "exposures.csv").write_text("\n".join(["file,seconds", *lines]) if listed is None else listed)
    return torch.from_numpy(light).permute(2, 0, 1).float() * 0.15


def test_truth_is_the_scenes_light_on_the_shortest_exposures_scale(tmp_path: Path) -> None:
    light = write_bracket(tmp_path)
    scene = StillBrackets(tmp_path)[0]
    shortest = 2.0 ** EVS[int(scene.names[0].removesuffix(".png"))]
    expected = (light * shortest).clamp(0, 1)
    assert evaluate(on_scale_of(expected, scene.truth).clamp(0, 1), expected)["PSNR-mu"] > 45
    # What saturates the shortest saturates the truth, but for the little that is known of the curve close to white.
    clipped = scene.ldr[0].amin(0) >= 1
    assert float(scene.truth[:, clipped].min()) > 0.9


def test_pieces_fit_together(tmp_path: Path) -> None:
    write_bracket(tmp_path)
    scene = StillBrackets(tmp_path)[0]
    assert isinstance(scene, StillScene)
    assert scene.ldr.shape == (3, 3, 96, 128)
    assert scene.truth.shape == (3, 96, 128)
    assert scene.lost.shape == (96, 128)
    assert scene.lost.dtype == torch.bool
    assert scene.exposures.tolist() == [1.0, 4.0, 16.0]
    brightness = scene.ldr.mean((1, 2, 3))
    assert bool((brightness.diff() > 0).all())
    assert 0 <= float(scene.truth.min()) <= float(scene.truth.max()) <= 1


def test_lost_highlights_are_those_of_the_middle_exposure_only(tmp_path: Path) -> None:
    write_bracket(tmp_path)
    scene = StillBrackets(tmp_path)[0]
    lost = torch.zeros(96, 128, dtype=torch.bool)
    for row in range(96):
        for column in range(128):
            short, middle = (max(scene.ldr[index, :, row, column].tolist()) for index in (0, 1))
            lost[row, column] = middle >= 250 / 255 - 1e-6 and short < 245 / 255 - 1e-6
    assert torch.equal(scene.lost, lost)
    assert 0 < int(lost.sum()) < lost.numel()


def test_the_list_says_which_exposures_are_merged(tmp_path: Path) -> None:
    lines = [f"{number}.png,{2.0**ev},{'yes' if number in (0, 3, 7) else ''}" for number, ev in enumerate(EVS)]
    write_bracket(tmp_path, listed="\n".join(["file,seconds,use", *lines]))
    scene = StillBrackets(tmp_path)[0]
    assert scene.names == ("0.png", "3.png", "7.png")
    assert scene.exposures.tolist() == [1.0, 8.0, 128.0]


@pytest.mark.parametrize("count", [2, 3, 4])
def test_as_many_exposures_are_merged_as_asked_for(tmp_path: Path, count: int) -> None:
    write_bracket(tmp_path)
    scene = StillBrackets(tmp_path, exposures_per_bracket=count)[0]
    assert scene.exposures.tolist() == [4.0**index for index in range(count)]


def test_all_are_merged_where_there_are_no_more(tmp_path: Path) -> None:
    write_bracket(tmp_path, evs=(-2.0, 0.0, 2.0))
    assert StillBrackets(tmp_path, exposures_per_bracket=5)[0].names == ("0.png", "1.png", "2.png")


def test_chosen_exposures_show_the_scene_well() -> None:
    # All of the light lies within 2 EV: exposures 4 to 6 of eight have it in the middle of their range.
    ldr = exposures_of(drawn_light(96, 128).clip(0.5, 2), EVS, middle=0.08)
    chosen = choose_exposures(ldr, ratios(EVS), 3)
    well = ((ldr > 0.1) & (ldr < 0.9)).flatten(1).float().mean(1)
    assert float(well[chosen].max()) == float(well.max())
    assert [EVS[b] - EVS[a] for a, b in itertools.pairwise(chosen)] == [2.0, 2.0]


@pytest.mark.parametrize(
    "listed",
    [
        "file,seconds\n1.png,4\n0.png,1\n2.png,16",
        "Seconds, File\n4, 1.png\n1, 0.png\n16, 2.png\n",
        "1.png,4\n0.png,1\n2.png,16\n",
        "1.png 4\n0.png 1\n2.png 16\n",
        "# a night\n\n1.png,8/2\n0.png,1/1\n2.png,16\n",
        "\ufefffile,seconds\r\n1.png,4\r\n0.png,1\r\n2.png,16\r\n",
        "file,seconds,camera\n1.png,4,A\n0.png,1,A\n2.png,16,A",
    ],
)
def test_lists_are_read_as_people_write_them(tmp_path: Path, listed: str) -> None:
    write_bracket(tmp_path, evs=(0.0, 2.0, 4.0))
    (tmp_path / "exposures.csv").write_bytes(listed.encode())
    found = read_exposure_list(tmp_path / "exposures.csv")
    assert [(one.path.name, one.seconds, one.use) for one in found] == [
        ("0.png", 1.0, None),
        ("1.png", 4.0, None),
        ("2.png", 16.0, None),
    ]


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        ("", "0 exposures"),
        ("file,seconds\n0.png,1", "1 exposures"),
        ("0.png,1\n0.png,4", "twice"),
        ("0.png,1\n1.png", "line 2: expected file,seconds"),
        ("0.png,1\n1.png,long", "line 2: 'long' is no exposure time"),
        ("0.png,1\n1.png,0", "line 2: an exposure time must be positive"),
        ("0.png,1\n1.png,-4", "line 2: an exposure time must be positive"),
        ("0.png,1\n1.png,nan", "line 2"),
        ("0.png,1\nmissing.png,4", "line 2: there is no file missing.png"),
        ("file,seconds,use\n0.png,1,maybe\n1.png,4,no", "line 2: use is yes or no"),
        ("file,seconds,use\n0.png,1,yes\n1.png,4,no", "1 exposures to merge"),
    ],
)
def test_damaged_lists_are_refused_with_the_line(tmp_path: Path, listed: str, message: str) -> None:
    write_bracket(tmp_path, evs=(0.0, 2.0), listed=listed)
    with pytest.raises(ValueError, match=message):
        StillBrackets(tmp_path)[0]


def test_a_list_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "exposures.csv").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(ValueError, match="no text"):
        StillBrackets(tmp_path)


def test_folders_of_folders_are_brackets_by_name(tmp_path: Path) -> None:
    write_bracket(tmp_path / "night" / "b", evs=(0.0, 2.0))
    write_bracket(tmp_path / "a", evs=(0.0, 2.0))
    brackets = StillBrackets(tmp_path)
    assert len(brackets) == 2
    assert [brackets[index].name for index in range(2)] == ["a", str(Path("night", "b"))]


def test_a_folder_without_brackets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no exposures\.csv"):
        StillBrackets(tmp_path)
    with pytest.raises(ValueError, match="no such folder"):
        StillBrackets(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="two or more"):
        StillBrackets(tmp_path, exposures_per_bracket=1)


def test_pictures_of_different_sizes_are_refused(tmp_path: Path) -> None:
    write_bracket(tmp_path, evs=(0.0, 2.0))
    assert cv2.imwrite(str(tmp_path / "1.png"), np.zeros((20, 30, 3), np.uint8))
    with pytest.raises(ValueError, match="different sizes"):
        StillBrackets(tmp_path)[0]


def test_exposures_that_contradict_the_pixels_are_left_out(tmp_path: Path) -> None:
    # The camera could not go on: from the sixth picture on it got the light of the fifth.
    lines = "\n".join(f"{number}.png,{2.0**ev}" for number, ev in enumerate(EVS))
    stuck = tuple(min(ev, 0.0) for ev in EVS)
    light = write_bracket(tmp_path, evs=stuck, listed=lines)
    with pytest.warns(UserWarning, match=r"without 5\.png, 6\.png, 7\.png.*the same exposure twice"):
        scene = StillBrackets(tmp_path)[0]
    assert set(scene.names) <= {f"{number}.png" for number in range(5)}
    expected = (light * 2.0 ** EVS[int(scene.names[0].removesuffix(".png"))]).clamp(0, 1)
    assert evaluate(on_scale_of(expected, scene.truth).clamp(0, 1), expected)["PSNR-mu"] > 40


def test_a_bracket_of_which_no_two_fit_is_refused(tmp_path: Path) -> None:
    write_bracket(tmp_path, evs=(0.0, 0.0), listed="0.png,1\n1.png,4")
    with pytest.raises(ValueError, match="no two exposures fit"):
        StillBrackets(tmp_path)[0]


def test_a_response_that_is_given_is_used(tmp_path: Path) -> None:
    write_bracket(tmp_path, curve="gamma 1.8")
    scene = StillBrackets(tmp_path, response=Response.gamma(1.8))[0]
    assert scene.calibration.response == Response.gamma(1.8)


def test_the_mean_is_the_inverse_variance_mean_of_unclipped_exposures() -> None:
    # Two exposures of even light 0.2 and 0.8, off by different errors; by hand with Var = (shot L + read) / t^2.
    calibration = Calibration(Response.linear(), shot=1e-3, read=1e-4, levels=1 << 30)
    ldr = torch.stack([torch.full((3, 8, 8), 0.21), torch.full((3, 8, 8), 0.80)])
    times = torch.tensor([1.0, 4.0], dtype=torch.float64)
    first = (1 * 0.21 + 4 * 0.80 / 4) / 5
    weights = [1 / (1e-3 * first + 1e-4), 16 / (1e-3 * 4 * first + 1e-4)]
    expected = (weights[0] * 0.21 + weights[1] * 0.20) / sum(weights)
    assert float(mean_of_exposures(ldr, times, calibration).mean()) == pytest.approx(expected, rel=1e-5)
    assert float(mean_of_exposures(ldr, times, calibration, 1).mean()) == pytest.approx(expected * 4, rel=1e-5)


def test_a_clipped_exposure_has_no_say() -> None:
    calibration = Calibration(Response.linear())
    ldr = torch.stack([torch.full((3, 8, 8), 0.5), torch.ones(3, 8, 8)])
    mean = mean_of_exposures(ldr, torch.tensor([1.0, 4.0], dtype=torch.float64), calibration)
    torch.testing.assert_close(mean, torch.full((3, 8, 8), 0.5))


def test_one_factor_is_free_in_scores(tmp_path: Path) -> None:
    write_bracket(tmp_path)
    scene = StillBrackets(tmp_path)[0]
    result = mean_of_exposures(scene.ldr, scene.exposures.double(), calibrate(scene.ldr, scene.exposures))
    one, other = score_still(result, scene), score_still(result * 3.7, scene)
    assert one == pytest.approx(other, rel=1e-4)
    assert one["PSNR-mu"] > 35


def test_the_truth_itself_has_no_error(tmp_path: Path) -> None:
    write_bracket(tmp_path)
    scene = StillBrackets(tmp_path)[0]
    scores = score_still(scene.truth, scene)
    assert scores["PSNR-mu"] > 100
    assert scores[LOST_HIGHLIGHTS] > 100


def test_lost_highlights_are_scored_alone(tmp_path: Path) -> None:
    write_bracket(tmp_path)
    scene = StillBrackets(tmp_path)[0]
    # 0.1 in the mu-law domain, in the lost pixels only: 20 dB there.
    coded = torch.log1p(5000 * scene.truth) / math.log(5001)
    wrong = torch.where(scene.lost, torch.expm1((coded - 0.1) * math.log(5001)) / 5000, scene.truth)
    scores = score_still(wrong, scene)
    assert scores[LOST_HIGHLIGHTS] == pytest.approx(20, abs=0.1)
    assert scores["PSNR-mu"] > 22


def test_without_lost_highlights_their_score_is_nan(tmp_path: Path) -> None:
    write_bracket(tmp_path)
    scene = StillBrackets(tmp_path)[0]
    assert math.isnan(score_still(scene.truth, scene._replace(lost=scene.lost & False))[LOST_HIGHLIGHTS])


def test_what_the_other_exposures_show_has_nothing_of_the_merged_ones(tmp_path: Path) -> None:
    write_bracket(tmp_path)
    scene = StillBrackets(tmp_path)[0]
    chosen = [int(name.removesuffix(".png")) for name in scene.names]
    ldr = torch.stack(
        [torch.from_numpy(cv2.imread(str(tmp_path / f"{k}.png"))).flip(-1).permute(2, 0, 1) / 255 for k in range(8)]
    )
    others = [k for k in range(8) if k not in chosen]
    seen = scene.of_others.isfinite().all(0)
    unclipped = (ldr[others].amax(1) < scene.calibration.white_level - 10 / 255).any(0)
    assert torch.equal(seen, unclipped)
    # They alone, on the scale of the shortest that is merged: whatever the chosen ones are.
    times = torch.tensor([2.0**ev for ev in EVS], dtype=torch.float64)
    repainted = ldr.clone()
    repainted[chosen] = 0.5
    expected = mean_of_exposures(repainted, times, scene.calibration, chosen[0], others).clamp(0, 1)
    torch.testing.assert_close(scene.of_others[:, seen].double(), expected[:, seen].double(), atol=1e-6, rtol=1e-5)
    assert score_still(scene.of_others.nan_to_num(1.0), scene)[BY_OTHERS[0]] > 100


def test_noise_of_the_merged_exposures_is_no_gain_by_the_others(tmp_path: Path) -> None:
    write_bracket(tmp_path, shot=2e-4)
    scene = StillBrackets(tmp_path)[0]
    alone = replace(scene.calibration, corrections=())
    plain = mean_of_exposures(scene.ldr, scene.exposures.double(), alone)
    smooth = torch.nn.functional.avg_pool2d(plain[None].double(), 3, 1, 1, count_include_pad=False)[0]
    found = [score_still(one, scene) for one in (plain, smooth)]
    ahead, by_others = (found[1][name] - found[0][name] for name in ("PSNR-mu", BY_OTHERS[0]))
    assert by_others > ahead + 1


def test_where_every_exposure_is_merged_there_are_no_others(tmp_path: Path) -> None:
    write_bracket(tmp_path, EVS[2:5])
    scene = StillBrackets(tmp_path)[0]
    assert len(scene.names) == 3
    assert bool(scene.of_others.isnan().all())
    scores = score_still(scene.truth, scene)
    assert all(math.isnan(scores[name]) for name in BY_OTHERS)
    assert scores["PSNR-mu"] > 100
