"""Evaluation: every method on every scene, clipped to what the short exposure can know, and the mean of it."""

import dataclasses
import math
from operator import itemgetter
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from hdr.baselines import BASELINES, reference_only
from hdr.calibration import Calibration
from hdr.data.sample import make_sample
from hdr.data.still import LOST_HIGHLIGHTS, StillBrackets, score_still
from hdr.evaluation import (
    OURS,
    UNTRAINED,
    Case,
    Cases,
    Score,
    mean_scores,
    measure_against,
    open_cases,
    score,
    score_cases,
)
from hdr.merge import Merger
from hdr.metrics import METRICS
from hdr.nn import Generator
from hdr.response import Response
from hdr.scene import dynamic_scene
from tests.hdr.brackets import ldr_of, textured


def scenes(count: int) -> list:
    drawn = [dynamic_scene(64, 96, seed) for seed in range(count)]
    return [
        make_sample(f"scene {seed}", b.ldr, b.exposures, truth, b.calibration, 1)
        for seed, (b, truth) in enumerate(drawn)
    ]


@pytest.fixture(scope="module")
def merger() -> Merger:
    return Merger(Generator.from_preset("tiny"), "cpu")  # the user's own, which has not learned anything either


def test_every_scene_is_measured_by_every_method(merger):
    scores = list(score_cases(merger, Cases(scenes(2))))
    assert [[one.method for one in scene] for scene in scores] == [[OURS, UNTRAINED, *BASELINES]] * 2
    assert [scene[0].scene for scene in scores] == ["scene 0", "scene 1"]
    assert all(list(one.metrics) == list(METRICS) for scene in scores for one in scene)
    for scene in scores:
        assert scene[0].metrics == scene[1].metrics  # the untrained generator under both names


def test_the_physical_merge_is_called_by_its_name_and_measured_once():
    (scene,) = score_cases(Merger("none", "cpu"), Cases(scenes(1)))
    assert [one.method for one in scene] == [UNTRAINED, *BASELINES]


def test_baselines_can_be_left_out(merger):
    assert [[one.method for one in scene] for scene in score_cases(merger, Cases(scenes(1)), False)] == [[OURS]]


@pytest.mark.parametrize(
    ("data", "options", "words"),
    [
        ("still:{}", {"cameras": "misjudged"}, "cameras .* of still:DIR"),
        ("kalantari:{}", {"cameras": "estimated"}, "cameras .* of kalantari:DIR"),
        ("still:{}", {"skip_broken": True}, "of still:DIR is left out"),
        ("synthetic:{}", {"skip_broken": True}, "of synthetic:DIR is left out"),
        ("synthetic:{}", {"shake": 4}, "the exposures of synthetic:DIR moved as they did"),
        ("kalantari:{}", {"shake": 4}, "the exposures of kalantari:DIR moved as they did"),
        ("still:{}", {"shake": -4}, "a shake is a whole number of pixels, 0 or more, got -4"),
        ("kalantari:{}", {"shake": -4}, "a shake is a whole number of pixels, 0 or more, got -4"),
    ],
)
def test_options_of_other_data_are_refused(tmp_path, data, options, words):
    (tmp_path / "exposures.csv").write_text("file,seconds\n")
    with pytest.raises(ValueError, match=words):
        open_cases(data.format(tmp_path), **options)


def test_an_index_that_is_wrong_in_a_scene_does_not_end_the_list():
    class Damaged(list):
        def __getitem__(self, index):
            return [][index]

    cases = Cases(Damaged([1, 2]))
    with pytest.raises(IndexError, match="list index"):
        list(cases)


def test_only_as_many_scenes_as_asked_for():
    every = scenes(2)
    assert len(Cases(every)) == 2
    assert len(Cases(every, 7)) == 2
    assert [case.name for case in Cases(every, 1)] == ["scene 0"]
    with pytest.raises(IndexError):
        Cases(every, 1)[1]


@pytest.mark.parametrize("limit", [0, -1])
def test_no_scene_at_all_is_refused(limit):
    with pytest.raises(ValueError, match=rf"the limit is 1 scene or more, got {limit}; leave it out for all"):
        Cases(scenes(2), limit)


def test_a_case_is_the_scene_with_the_calibration_that_it_was_made_with():
    drawn = dynamic_scene(64, 96)
    case = Cases(scenes(1))[0]
    assert torch.equal(case.bracket.ldr, drawn.bracket.ldr)
    torch.testing.assert_close(case.bracket.radiance(1), drawn.bracket.radiance(1), rtol=1e-2, atol=1e-4)
    expected = score(case, {"reference": reference_only})[0].metrics
    assert expected == case.measure(reference_only(case.bracket))


def test_radiance_beyond_the_short_exposure_is_clipped():
    measure = measure_against(torch.ones(3, 32, 32))
    assert measure(torch.full((3, 32, 32), 7.0))["PSNR-L"] == float("inf")


@pytest.mark.parametrize("data", ["photos", "still:", "sintel:there"])
def test_data_of_an_unknown_kind_is_refused(data):
    with pytest.raises(ValueError, match=f"synthetic:DIR, kalantari:DIR or still:DIR, got '{data}'"):
        open_cases(data)


def write_still_bracket(folder: Path) -> None:
    folder.mkdir(parents=True)
    scene = textured(96, 128, brightest=1.0)
    lines = ["file,seconds"]
    for index in range(5):
        pixels = ldr_of(scene, 2.0**index, 1e-3, seed=index).mul(255).round().byte().permute(1, 2, 0).flip(-1)
        cv2.imwrite(str(folder / f"{index}.png"), pixels.numpy())
        lines.append(f"{index}.png,{2.0**index / 100}")
    (folder / "exposures.csv").write_text("\n".join(lines))


def test_real_still_brackets_are_measured_against_all_their_exposures(tmp_path, merger):
    write_still_bracket(tmp_path / "still" / "wall")
    (case,) = open_cases(f"still:{tmp_path / 'still'}")
    assert case.bracket.count == 3
    ((ours,),) = score_cases(merger, [case], baselines=False)
    assert ours.metrics["PSNR-mu"] > case.measure(reference_only(case.bracket))["PSNR-mu"]


def test_without_a_shake_still_brackets_are_as_they_were(tmp_path):
    write_still_bracket(tmp_path / "wall")
    (case,) = open_cases(f"still:{tmp_path}", shake=0)
    scene = StillBrackets(tmp_path)[0]
    assert torch.equal(case.bracket.ldr, scene.ldr)
    assert case.measure(scene.ldr[0]) == pytest.approx(score_still(scene.ldr[0], scene), rel=0, abs=0, nan_ok=True)


def test_the_score_of_a_shaken_reference_is_that_of_the_still_one_on_the_crop(tmp_path):
    write_still_bracket(tmp_path / "wall")
    (case,) = open_cases(f"still:{tmp_path}", shake=12)
    assert case.name == "wall"
    assert case.bracket.size == (72, 104)
    ldr, truth = (of[..., 12:-12, 12:-12].double().numpy() for of in itemgetter(1, 4)(StillBrackets(tmp_path)[0]))
    assert np.array_equal(case.bracket.ldr[1].double().numpy(), ldr[1])
    # By hand: the camera has gamma 2.2 here; one factor is free, the median ratio to the truth where that is moderate.
    light = ldr[1] ** 2.2
    usable = (truth > 1e-3) & (truth < 0.5) & (light > 0)
    ratios = np.sort(truth[usable] / light[usable])
    light = np.clip(light * ratios[(len(ratios) - 1) // 2], 0, 1)
    coded = [np.log1p(5000 * of) / np.log(5001) for of in (light, truth)]
    expected = {
        "PSNR-mu": -10 * np.log10(np.square(coded[0] - coded[1]).mean()),
        "PSNR-L": -10 * np.log10(np.square(light - truth).mean()),
    }
    given = dataclasses.replace(case.bracket, calibration=Calibration(Response.gamma(2.2)))
    found = score(Case(case.name, given, case.measure), {"reference": reference_only})[0].metrics
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-3)
    assert found[LOST_HIGHLIGHTS] < found["PSNR-mu"]


def test_a_scene_without_what_is_measured_does_not_count_in_its_mean():
    values = {"a": 30.0, "b": float("nan"), "c": 40.0}
    scores = [Score(scene, "x", {"PSNR-mu": 20.0, LOST_HIGHLIGHTS: value}) for scene, value in values.items()]
    (mean,) = mean_scores(scores)
    assert mean.metrics == {"PSNR-mu": 20.0, LOST_HIGHLIGHTS: 35.0}
    (none,) = mean_scores(scores[1:2])
    assert math.isnan(none.metrics[LOST_HIGHLIGHTS])


def test_mean_is_taken_for_each_method():
    scores = [
        Score(scene, method, dict.fromkeys(METRICS, value))
        for scene, method, value in [("a", "x", 1.0), ("a", "y", 5.0), ("b", "x", 3.0), ("b", "y", 6.0)]
    ]
    means = mean_scores(scores)
    assert [(one.scene, one.method) for one in means] == [("mean", "x"), ("mean", "y")]
    assert [one.metrics["PSNR-mu"] for one in means] == pytest.approx([2.0, 5.5])
