import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hdr.data.panorama import Panorama
from kornia.geometry.conversions import axis_angle_to_rotation_matrix
from torch.utils.data import DataLoader

from hdr.data import SyntheticBrackets
from hdr.data.camera import photograph, saturating_scale
from hdr.data.motion import Layer, compose, moving_layer
from hdr.data.shapes import SHAPES, figure
from hdr.data.synthetic import SceneSettings
from hdr.nn.alignment import pixel_grid
from hdr.radiometry import ldr_to_linear
from tests.hdr.panoramas import write_panoramas

STILL = SceneSettings(largest_motion=0.0, hand_shake=0.0, objects=(0, 0))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_panoramas(tmp_path_factory.mktemp("hdri"), 6)


def scenes(folder: Path, **arguments: object) -> SyntheticBrackets:
    return SyntheticBrackets(folder, (48, 64), 40, **arguments)  # type: ignore[arg-type]


def test_shapes_and_ranges_are_those_of_a_bracket(folder: Path) -> None:
    for sample in (scenes(folder)[i] for i in range(20)):
        assert sample["ldr"].shape == (3, 3, 48, 64)
        assert sample["target"].shape == (3, 48, 64)
        for values in (sample["ldr"], sample["target"]):
            assert 0 <= float(values.min()) <= float(values.max()) <= 1
        ratios = sample["exposures"][1:] / sample["exposures"][:-1]
        assert sample["exposures"][0] == 1
        assert bool(((ratios >= 1.999) & (ratios <= 8.001)).all())


def test_the_reference_saturates_in_the_promised_share_of_pixels(folder: Path) -> None:
    data = scenes(folder, settings=SceneSettings(saturation=(0.1, 0.1)))
    for sample in (data[i] for i in range(8)):
        saturated = (sample["target"].amax(dim=0) * sample["exposures"][1] >= 1).double().mean()
        assert saturated.item() == pytest.approx(0.1, abs=0.002)


def test_a_scene_depends_on_seed_and_index_alone(folder: Path) -> None:
    first, again, other = scenes(folder)[3], scenes(folder)[3], scenes(folder, seed=1)[3]
    assert torch.equal(first["ldr"], again["ldr"])
    assert torch.equal(first["target"], again["target"])
    assert not torch.equal(first["target"], other["target"])
    assert not torch.equal(first["target"], scenes(folder)[4]["target"])


def test_workers_make_the_same_scenes(folder: Path) -> None:
    data = SyntheticBrackets(folder, (24, 24), 4)
    alone = [sample["ldr"] for sample in data]  # type: ignore[attr-defined]
    batch = next(iter(DataLoader(data, batch_size=4, num_workers=2)))
    assert torch.equal(batch["ldr"], torch.stack(alone))


def test_exposures_of_a_still_scene_agree_with_its_truth(folder: Path) -> None:
    data = scenes(folder, settings=STILL)
    for sample in (data[i] for i in range(6)):
        for ldr, exposure in zip(sample["ldr"], sample["exposures"], strict=True):
            usable = (ldr > 0.3) & (ldr < 0.9)
            ratio = ldr_to_linear(ldr, float(exposure))[usable] / sample["target"][usable]
            # A response of gamma 2.2 +- 2 % decoded with 2.2, noise, 8 bits.
            assert ratio.median().item() == pytest.approx(1.0, abs=0.05)


def test_truth_is_the_scene_at_the_references_instant(folder: Path) -> None:
    data = scenes(folder, settings=SceneSettings(objects=(3, 3), largest_motion=40.0, hand_shake=0.0))
    nearer = 0
    for sample in (data[i] for i in range(8)):
        usable = (sample["ldr"] > 0.02) & (sample["ldr"] < 0.95)
        linear = ldr_to_linear(sample["ldr"], sample["exposures"].view(3, 1, 1, 1))
        relative = (linear / sample["target"].clamp_min(1e-4)).log().abs()
        errors = [relative[i][usable[i]].mean().item() for i in range(3)]
        nearer += errors[1] < errors[0] and errors[1] < errors[2]
    assert nearer >= 7


def test_splits_share_no_panorama(folder: Path) -> None:
    train, validation = scenes(folder, split="train", held_out=2), scenes(folder, split="validation", held_out=2)
    assert validation.names == ["sky-01", "sky-04"]
    assert sorted(train.names + validation.names) == scenes(folder).names


def test_folders_that_cannot_serve_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such folder"):
        SyntheticBrackets(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"0 panoramas \(.hdr, .exr\), at least 1"):
        SyntheticBrackets(tmp_path)
    with pytest.raises(ValueError, match="at least 7 are needed"):
        scenes(folder, split="train", held_out=6)
    with pytest.raises(ValueError, match="split must be"):
        scenes(folder, split="test")
    (tmp_path / "broken.hdr").write_bytes(b"#?RADIANCE\nnothing")
    with pytest.raises(ValueError, match=r"broken\.hdr"):
        SyntheticBrackets(tmp_path)


def test_panorama_of_another_projection_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(3, H, 2 H\), got \(3, 8, 8\)"):
        Panorama(torch.ones(3, 8, 8))


def test_views_look_where_the_rotation_says() -> None:
    # A panorama that shows each direction as a colour: the view must show its own rays.
    height, width = 256, 512
    longitude = ((torch.arange(width) + 0.5) / width - 0.5) * 2 * math.pi
    latitude = ((torch.arange(height) + 0.5) / height - 0.5) * math.pi
    x = torch.cos(latitude)[:, None] * torch.sin(longitude)
    z = torch.cos(latitude)[:, None] * torch.cos(longitude)
    y = torch.sin(latitude)[:, None].expand_as(x)
    panorama = Panorama(torch.stack([x, y, z]))
    rotations = axis_angle_to_rotation_matrix(torch.tensor([[0.0, 0.0, 0.0], [0.3, 0.2, 0.1], [0.0, math.pi, 0.0]]))
    views = panorama.view(rotations, 15, 21, focal_length=12.0).numpy()
    for rotation, view in zip(rotations.numpy(), views, strict=True):
        for row, column in ((0, 0), (7, 10), (14, 3), (2, 20)):
            ray = rotation @ np.array([column - 10, row - 7, 12.0])
            np.testing.assert_allclose(view[:, row, column], ray / np.linalg.norm(ray), atol=2e-3)


@pytest.mark.parametrize("shape", SHAPES)
def test_outlines_have_an_inside_and_an_outside(shape: object) -> None:
    positions = (pixel_grid(81, 81, torch.zeros(1)).expand(3, -1, -1, -1) - 40) / 20
    for seed in range(5):
        outline = shape(torch.Generator().manual_seed(seed), positions)  # type: ignore[operator]
        assert outline.shape == (3, 81, 81)
        assert 0.005 < float((outline < 0).double().mean()) < 0.6
        assert float(outline[:, 0].min()) > 0


def test_limbs_move_while_the_head_does_not() -> None:
    positions = (pixel_grid(81, 81, torch.zeros(1)).expand(3, -1, -1, -1) - 40) / 30
    inside = figure(torch.Generator().manual_seed(0), positions) < 0
    assert torch.equal(inside[0, 10:25], inside[2, 10:25])
    assert not torch.equal(inside[0, 50:], inside[2, 50:])


def test_layers_hide_what_is_behind() -> None:
    background = torch.zeros(3, 3, 2, 2)
    glass = Layer(torch.ones(3, 3, 2, 2), torch.full((3, 1, 2, 2), 0.25))
    wall = Layer(torch.full((3, 3, 2, 2), 5.0), torch.ones(3, 1, 2, 2))
    assert compose(background, [glass])[0, 0, 0, 0] == 0.25
    assert compose(background, [wall, glass])[0, 0, 0, 0] == 4.0
    assert compose(background, [glass, wall])[0, 0, 0, 0] == 5.0


def test_things_move_no_further_than_asked() -> None:
    texture = Panorama(torch.ones(3, 32, 64))
    travelled = []
    for seed in range(40):
        generator = torch.Generator().manual_seed(seed)
        opacity = moving_layer(generator, texture, 1.0, 96, 96, largest_motion=10.0).opacity[:, 0]
        whole = opacity[:, [0, -1]].amax() < 0.01 and opacity[:, :, [0, -1]].amax() < 0.01
        if whole and opacity.sum() > 30:  # a thing cut by the frame has another centroid
            grid = pixel_grid(96, 96, opacity)
            centroids = (grid * opacity[:, None]).sum(dim=(2, 3)) / opacity.sum(dim=(1, 2))[:, None]
            travelled += [(centroids[1] - centroids[k]).norm().item() for k in (0, 2)]
    assert len(travelled) >= 10
    assert max(travelled) < 10.0 + 3.0  # limbs and bending move a centroid, too
    assert max(travelled) > 4.0


def test_saturating_scale_is_the_quantile() -> None:
    radiance = torch.arange(1.0, 101.0).reshape(1, 10, 10).expand(3, -1, -1)
    scale = saturating_scale(radiance, 0.2)
    assert int((radiance[0] * scale >= 1).sum()) == 20


def test_pictures_have_the_levels_of_eight_or_sixteen_bits_and_the_noise_of_light() -> None:
    radiance = torch.full((3, 3, 64, 64), 0.05)
    bits = set()
    for seed in range(12):
        ldr = photograph(torch.Generator().manual_seed(seed), radiance, torch.tensor([1.0, 4.0, 16.0]))
        eight = torch.allclose(ldr * 255, (ldr * 255).round(), atol=1e-3)
        bits.add(8 if eight else 16)
        assert torch.allclose(ldr * 65535, (ldr * 65535).round(), atol=1e-1)
        linear = ldr_to_linear(ldr, torch.tensor([1.0, 4.0, 16.0]).view(3, 1, 1, 1))
        spread = linear[0].std(), linear[2].std()
        assert spread[0] > spread[1]  # more light, less noise
        assert linear[0].mean().item() == pytest.approx(0.05, rel=0.15)
    assert bits == {8, 16}
