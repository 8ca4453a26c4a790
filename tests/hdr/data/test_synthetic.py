"""Synthetic scenes: functions of seed and index, with the truth at the instant of the reference."""

import dataclasses
import math
import statistics
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from hdr._errors import RefusedError
from hdr.bracket import Bracket
from hdr.data import SyntheticBrackets
from hdr.data.motion import Layer, moving_layer
from hdr.data.sample import HdrSample, calibration_of, make_sample
from hdr.data.source import open_scenes
from hdr.data.synthetic import SAME_COUNT, SceneSettings, saturating_scale, with_strong_colours
from hdr.evaluation import open_cases
from hdr.io import write_radiance
from tests.hdr.panoramas import write_panoramas

THREE = (3,)
STILL = SceneSettings(largest_motion=0.0, hand_shake=0.0, objects=(0, 0), exposures=THREE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_panoramas(tmp_path_factory.mktemp("hdri"), 5)
    write_radiance(folder / "sky-photograph.hdr", torch.rand(3, 90, 120).pow(3) + 0.01)
    return folder


def scenes(folder: Path, **arguments: object) -> SyntheticBrackets:
    return SyntheticBrackets(folder, (48, 64), 2000, **arguments)  # type: ignore[arg-type]


def test_shapes_and_ranges_are_those_of_a_bracket(folder: Path) -> None:
    for sample in (scenes(folder)[i] for i in range(12)):
        assert sample["ldr"].shape == (3, 3, 48, 64)
        assert sample["observations"].shape == (3, 11, 48, 64)
        assert sample["displacement"].shape == (3, 2, 48, 64)
        assert sample["target"].shape == (3, 48, 64)
        for values in (sample["ldr"], sample["target"]):
            assert 0 <= float(values.min()) <= float(values.max()) <= 1
        ratios = sample["exposures"][1:] / sample["exposures"][:-1]
        assert sample["exposures"][0] == 1
        assert bool(((ratios >= 1.499) & (ratios <= 16.01)).all())


def test_neighbouring_scenes_have_equally_many_exposures_and_all_numbers_have_their_turn(folder: Path) -> None:
    data = scenes(folder, settings=SceneSettings(exposures=(3, 2, 5), objects=(0, 0)))
    counts = [len(data[block * SAME_COUNT + k]["exposures"]) for block in range(4) for k in (0, SAME_COUNT - 1)]
    assert counts == [3, 3, 2, 2, 5, 5, 3, 3]
    assert data.alike == SAME_COUNT


def test_the_reference_saturates_in_the_promised_share_of_pixels_or_nowhere(folder: Path) -> None:
    data = scenes(folder, settings=SceneSettings(saturation=(0.1, 0.1), exposures=THREE))
    shares = [
        float((sample["target"].amax(dim=0) * sample["exposures"][1] >= 1).double().mean())
        for sample in (data[i] for i in range(12))
    ]
    assert all(share == pytest.approx(0.1, abs=0.003) or share < 0.002 for share in shares)
    assert sum(share > 0.05 for share in shares) >= 6


def test_a_scene_depends_on_seed_and_index_alone(folder: Path) -> None:
    before = torch.get_rng_state()
    first, again, other = scenes(folder)[3], scenes(folder)[3], scenes(folder, seed=1)[3]
    assert torch.equal(torch.get_rng_state(), before)
    for part in ("ldr", "target", "observations", "displacement"):
        assert torch.equal(first[part], again[part])  # type: ignore[literal-required]
    assert not torch.equal(first["target"], other["target"])
    assert not torch.equal(first["target"], scenes(folder)[4]["target"])


def test_scenes_of_another_seed_are_not_those_of_the_first_moved_on(folder: Path) -> None:
    assert not torch.equal(scenes(folder, seed=0)[1]["target"], scenes(folder, seed=1)[0]["target"])


def test_workers_make_the_same_scenes(folder: Path) -> None:
    data = SyntheticBrackets(folder, (24, 24), 4)
    alone = [sample["ldr"] for sample in data]  # type: ignore[attr-defined]
    batch = next(iter(DataLoader(data, batch_size=4, num_workers=2)))
    assert torch.equal(batch["ldr"], torch.stack(alone))


def test_a_crop_lies_in_the_scene(folder: Path) -> None:
    data = scenes(folder, crop=32)
    corners = set()
    for sample in (data[i] for i in range(6)):
        assert sample["target"].shape == (3, 32, 32)
        assert sample["ldr"].shape[-2:] == (48, 64)
        top, left = sample["corner"].tolist()
        assert 0 <= top <= 16
        assert 0 <= left <= 32
        corners.add((top, left))
    assert len(corners) > 3
    with pytest.raises(ValueError, match="a crop of 64 pixels does not fit into scenes of 48 x 64"):
        scenes(folder, crop=64)


def logarithmic_errors(sample: HdrSample) -> list[float]:
    """Of each exposure's radiance against the truth, where it shows the scene well."""
    response, errors = calibration_of(sample).response, []
    for ldr, exposure in zip(sample["ldr"], sample["exposures"], strict=True):
        usable = (ldr > 0.3) & (ldr < 0.85) & (sample["target"] > 1e-4)
        ratio = response.to_linear(ldr) / float(exposure) / sample["target"].clamp_min(1e-4)
        errors.append(float(ratio[usable].log().abs().mean()) if int(usable.sum()) > 100 else math.nan)
    return errors


def test_exposures_of_a_still_scene_agree_with_its_truth(folder: Path) -> None:
    errors = [error for i in range(10) for error in logarithmic_errors(scenes(folder, settings=STILL)[i])]
    known = [error for error in errors if not math.isnan(error)]
    assert len(known) > 10
    # A tone curve that is misjudged by some per cent, light that changes by a tenth, noise and JPEG.
    assert sorted(known)[len(known) // 2] < 0.1


def test_exposures_get_as_much_more_light_than_stated_as_the_settings_say(folder: Path) -> None:
    found = []
    for index in range(30):
        exact, got = (
            scenes(folder, settings=dataclasses.replace(STILL, exposure_error=error))[index] for error in (1e-9, 0.1)
        )
        assert torch.equal(exact["ldr"][0], got["ldr"][0])  # all are relative to the shortest
        assert torch.equal(exact["exposures"], got["exposures"])
        assert torch.equal(exact["target"], got["target"])
        response = calibration_of(exact).response
        light = [response.to_linear(sample["ldr"].double()).log2() for sample in (exact, got)]
        usable = ((exact["ldr"] > 0.3) & (exact["ldr"] < 0.85)).flatten(1)
        apart = (light[1] - light[0]).flatten(1)
        errors = [float(apart[i][usable[i]].median()) if usable[i].sum() > 100 else math.nan for i in range(3)]
        found += [error for error in errors[1:] if not math.isnan(error)]
    assert len(found) > 30
    assert statistics.pstdev(found) == pytest.approx(0.1 * math.sqrt(2), rel=0.3)


def test_of_an_estimated_camera_is_known_what_a_photographer_would_be_told(folder: Path) -> None:
    for index in range(3):
        misjudged, estimated = (
            scenes(folder, settings=dataclasses.replace(STILL, estimated=share, exposure_error=0.04))[index]
            for share in (0.0, 1.0)
        )
        assert torch.equal(misjudged["ldr"], estimated["ldr"])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            bracket = Bracket.from_images(
                list(misjudged["ldr"]),
                misjudged["exposures"].tolist(),
                levels=calibration_of(misjudged).levels,
                check=False,
            )
        told = make_sample(
            estimated["name"], bracket.ldr, bracket.exposures, misjudged["target"], bracket.calibration, 1
        )
        assert not torch.equal(misjudged["light"], told["light"])
        for name in ("exposures", "light", "noise", "displacement", "observations"):
            assert torch.equal(estimated[name], told[name])  # type: ignore[literal-required]


def test_a_share_of_the_cameras_is_estimated(folder: Path) -> None:
    every, some = (scenes(folder, settings=dataclasses.replace(STILL, estimated=share)) for share in (1.0, 0.5))
    same = sum(torch.equal(every[i]["light"], some[i]["light"]) for i in range(16))
    assert 3 < same < 13


def test_where_the_pixels_make_no_bracket_the_camera_is_misjudged(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> Bracket:
        raise RefusedError("the exposures are nearly equal")

    expected = scenes(folder, settings=STILL)[0]
    monkeypatch.setattr(Bracket, "from_images", refused)
    found = scenes(folder, settings=dataclasses.replace(STILL, estimated=1.0))[0]
    assert torch.equal(found["light"], expected["light"])
    assert torch.equal(found["exposures"], expected["exposures"])


def test_a_share_of_the_cameras_is_clean(folder: Path) -> None:
    def noisiest(clean: float) -> float:
        data = scenes(folder, settings=dataclasses.replace(STILL, clean=clean))
        return max(calibration_of(data[index]).shot for index in range(6))

    # Clean cameras have 20,000 electrons or more, which are 5e-5 at most; colours multiply that by 2.4, about, and an
    # estimate that is wrong by two standard deviations by 1.8. Others may have as many, but one of six has far fewer.
    assert noisiest(1.0) < 2.2e-4 < noisiest(0.0)


def test_a_share_of_the_scenes_has_strong_colours_of_any_hue(tmp_path: Path) -> None:
    # All the light there is is orange, a third of it red more than the mean.
    write_radiance(tmp_path / "orange.hdr", torch.tensor([0.6, 0.4, 0.2]).view(3, 1, 1).expand(3, 90, 120))

    def colours(share: float) -> list[tuple[int, float]]:
        settings = dataclasses.replace(STILL, colourful=share)
        data = SyntheticBrackets(tmp_path, (48, 64), settings=settings)
        means = [data[index]["target"].mean(dim=(1, 2)) for index in range(60)]
        return [(int(mean.argmax()), float(mean.amax() / mean.mean())) for mean in means]

    plain, all_colours = colours(0.0), colours(1.0)
    assert {brightest for brightest, _ in plain} == {0}
    assert all(times == pytest.approx(1.5, rel=1e-2) for _, times in plain)
    assert {brightest for brightest, _ in all_colours} == {0, 1, 2}
    # 1 + 0.5 times 0.9 to 2.6; of the mean itself it is less where the weakest channel had less than nothing.
    assert all(1.44 <= times <= 2.31 for _, times in all_colours)
    assert max(times for _, times in all_colours) > 1.9
    assert 10 < sum(brightest > 0 for brightest, _ in colours(0.5)) < 30


def test_strong_colours_keep_the_mean_of_the_channels_but_where_one_would_have_no_light() -> None:
    radiance = torch.tensor([[0.5, 0.3, 0.1], [0.9, 0.06, 0.0]]).T.view(1, 3, 1, 2)
    found = with_strong_colours(radiance, 1.5)[0, :, 0].T
    torch.testing.assert_close(found[0], torch.tensor([0.6, 0.3, 0.0 + 0.02 * 0.3]))
    torch.testing.assert_close(found[1], torch.tensor([1.19, 0.02 * 0.32, 0.02 * 0.32]))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"colourful": 1.1}, "colourful is a share of the scenes, from 0 to 1; got 1.1"),
        ({"clean": -0.1}, "clean is a share of the scenes, from 0 to 1; got -0.1"),
        ({"clean": 1.5}, "clean is a share of the scenes, from 0 to 1; got 1.5"),
        ({"estimated": 75}, "estimated is a share of the scenes, from 0 to 1; got 75"),
        ({"estimated": math.nan}, "estimated is a share .* got nan"),
        ({"largest_step": 0.79}, "largest_step is in pixels, at least 0.8 and finite; got 0.79"),
        ({"largest_step": math.inf}, "largest_step is .* got inf"),
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SceneSettings(**wrong)  # type: ignore[arg-type]


def test_scenes_are_made_with_the_least_settings_and_the_largest(folder: Path) -> None:
    for share, step in ((0.0, 0.8), (1.0, 8.0)):
        extreme = dataclasses.replace(STILL, clean=share, estimated=share, colourful=share, largest_step=step)
        data = scenes(folder, settings=extreme)
        assert all(bool(torch.isfinite(data[index]["target"]).all()) for index in range(6))


def test_larger_steps_show_finer_detail(tmp_path: Path) -> None:
    write_radiance(tmp_path / "blurred.hdr", 0.5 + 0.4 * torch.sin(torch.arange(400) / 4).expand(3, 300, 400))

    def roughness(largest_step: float) -> float:
        settings = dataclasses.replace(STILL, largest_step=largest_step)
        data = SyntheticBrackets(tmp_path, (48, 64), settings=settings)
        targets = [data[index]["target"] for index in range(8)]
        return statistics.fmean(float(t.diff(dim=-1).square().mean() / t.var()) for t in targets)

    assert roughness(5.6) > 2 * roughness(1.4)


def test_scenes_are_measured_with_the_cameras_that_are_asked_for(folder: Path) -> None:
    for cameras, share in (("estimated", 1.0), ("misjudged", 0.0)):
        data = open_scenes(f"synthetic:{folder}", "validation", cameras=cameras)  # type: ignore[arg-type]
        assert isinstance(data, SyntheticBrackets)
        assert data.settings == SceneSettings(exposures=THREE, estimated=share)
        assert open_cases(f"synthetic:{folder}", cameras=cameras).scenes.settings == data.settings  # type: ignore
    with pytest.raises(ValueError, match="cameras must be one of estimated, misjudged, got 'true'"):
        open_scenes(f"synthetic:{folder}", "validation", cameras="true")  # type: ignore[arg-type]


def test_truth_is_the_scene_at_the_references_instant(folder: Path) -> None:
    data = scenes(folder, settings=SceneSettings(objects=(3, 3), largest_motion=40.0, hand_shake=10.0, exposures=THREE))
    nearer = compared = 0
    for sample in (data[i] for i in range(20)):
        errors = logarithmic_errors(sample)
        others = [error for error in (errors[0], errors[2]) if not math.isnan(error)]
        if others and not math.isnan(errors[1]):
            compared += 1
            nearer += errors[1] < max(others)
    assert compared > 8
    assert nearer >= 0.8 * compared


def test_splits_share_no_image(folder: Path) -> None:
    train, validation = scenes(folder, split="train", held_out=0.34), scenes(folder, split="validation", held_out=0.34)
    assert len(validation.names) == 2
    assert sorted(train.names + validation.names) == scenes(folder).names


def test_every_folder_has_its_share_held_out(tmp_path: Path) -> None:
    for name in ("lakes", "towns"):
        (tmp_path / name).mkdir()
        for index in range(4):
            write_radiance(tmp_path / name / f"{name}-{index}.hdr", torch.rand(3, 20, 30))
    names = SyntheticBrackets(tmp_path, (16, 16), split="validation", held_out=0.25).names
    assert [name.partition("-")[0] for name in names] == ["lakes", "towns"]


def test_folders_that_cannot_serve_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such folder"):
        SyntheticBrackets(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"0 HDR images \(.hdr, .exr\), and none of them for the split 'all'"):
        SyntheticBrackets(tmp_path)
    with pytest.raises(ValueError, match="none of them for the split 'train' with a share of 1"):
        scenes(folder, split="train", held_out=1.0)
    with pytest.raises(ValueError, match="split must be"):
        scenes(folder, split="test")
    (tmp_path / "broken.hdr").write_bytes(b"#?RADIANCE\nnothing")
    with pytest.raises(ValueError, match=r"broken\.hdr"):
        SyntheticBrackets(tmp_path)


def test_saturating_scale_is_the_quantile() -> None:
    radiance = torch.arange(1.0, 101.0).reshape(1, 10, 10).expand(3, -1, -1)
    scale = saturating_scale(radiance, 0.2)
    assert int((radiance[0] * scale >= 1).sum()) == 20


def test_the_references_instant_is_zero_and_the_others_lie_before_and_after_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def recorded(*arguments: Any) -> Layer:
        seen.append(arguments[-1])
        return moving_layer(*arguments)

    monkeypatch.setattr("hdr.data.synthetic.moving_layer", recorded)
    data = scenes(folder, settings=SceneSettings(objects=(1, 1), exposures=(5,)))
    for index in range(3):
        data[index]
    assert len(seen) == 3
    for moments in seen:
        assert moments[2] == 0.0
        assert all(0.6 <= moment / (k - 2) <= 1.0 for k, moment in enumerate(moments) if k != 2)
