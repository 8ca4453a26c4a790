"""Evaluation: every method on every scene, clipped to what the short exposure can know, and the mean of it."""

import pytest
import torch

from hdr.baselines import BASELINES, reference_only
from hdr.evaluation import OURS, Score, mean_scores, score, score_scenes
from hdr.metrics import METRICS
from hdr.scene import dynamic_scene


def samples(count: int):
    for seed in range(count):
        scene = dynamic_scene(64, 96, seed)
        bracket = scene.bracket
        yield {"name": f"scene {seed}", "ldr": bracket.ldr, "exposures": bracket.exposures, "target": scene.radiance}


def test_every_scene_is_measured_by_every_method():
    scores = list(score_scenes(reference_only, samples(2)))
    assert [[one.method for one in scene] for scene in scores] == [[OURS, *BASELINES]] * 2
    assert [scene[0].scene for scene in scores] == ["scene 0", "scene 1"]
    for scene in scores:
        assert scene[0].metrics == scene[1].metrics  # the reference under both names


def test_baselines_can_be_left_out():
    assert [one.method for scene in score_scenes(reference_only, samples(1), baselines=False) for one in scene] == [
        OURS
    ]


def test_radiance_beyond_the_short_exposure_is_clipped():
    scene = dynamic_scene(64, 96)
    truth = torch.ones_like(scene.radiance)
    told = score("bright", scene.bracket, truth, {"brighter": lambda bracket: 7 * torch.ones_like(bracket.reference)})
    assert told[0].metrics["PSNR-L"] == float("inf")


def test_mean_is_taken_for_each_method():
    scores = [
        Score(scene, method, dict.fromkeys(METRICS, value))
        for scene, method, value in [("a", "x", 1.0), ("a", "y", 5.0), ("b", "x", 3.0), ("b", "y", 6.0)]
    ]
    means = mean_scores(scores)
    assert [(one.scene, one.method) for one in means] == [("mean", "x"), ("mean", "y")]
    assert [one.metrics["PSNR-mu"] for one in means] == pytest.approx([2.0, 5.5])
