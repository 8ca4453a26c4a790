"""Scenes that are learned from more than once: kept on the device, cropped, mirrored and turned anew."""

import itertools

import pytest
import torch
from torch import Tensor
from torch.utils.data import default_collate

from hdr.data.pool import ScenePool, mirrored
from hdr.mixing import TYPICAL
from hdr.nn import Generator
from hdr.observation import OBSERVATION_CHANNELS, bring_to_reference
from hdr.training import merge_batch


def scene(seed: int, count: int = 3, side: int = 24) -> dict[str, Tensor]:
    source = torch.Generator().manual_seed(seed)
    displacement = 3 * torch.randn(count, 2, side, side, generator=source)
    displacement[count // 2] = 0
    return {
        "observations": torch.rand(count, OBSERVATION_CHANNELS, side, side, generator=source),
        "displacement": displacement,
        "target": torch.full((3, side, side), float(seed)),
        "exposures": (2.0 + seed) ** torch.arange(count),
        "mixing": torch.tensor([[*row, 0.01 * seed] for row in TYPICAL.matrix]),
    }


def pool(kept: int = 4, batch_size: int = 6, crop: int = 16) -> ScenePool:
    return ScenePool(kept, crop, batch_size, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("mirrors", list(itertools.product([False, True], repeat=3)))
def test_mirrors_keep_what_the_displacement_points_to(mirrors: tuple[bool, bool, bool]) -> None:
    original = scene(1)
    turned = mirrored(original, *mirrors)
    read, expected = (
        bring_to_reference(each["observations"][None], each["displacement"][None], 1) for each in (turned, original)
    )
    # Turning the pictures that were read must give what the turned exposures read.
    for ours, theirs in zip(read[:6], expected[:6], strict=True):  # all maps
        assert ours is not None
        assert theirs is not None
        as_it_was = theirs.flip([axis for axis, mirror in ((-1, mirrors[0]), (-2, mirrors[1])) if mirror])
        torch.testing.assert_close(ours, as_it_was.transpose(-1, -2) if mirrors[2] else as_it_was, atol=1e-4, rtol=0)


def test_a_batch_is_of_whole_observations_and_of_crops_of_the_rest() -> None:
    batch = pool().exchange(default_collate([scene(1), scene(2)]))
    assert batch["observations"].shape == (6, 3, OBSERVATION_CHANNELS, 24, 24)
    assert batch["displacement"].shape == (6, 3, 2, 16, 16)
    assert batch["target"].shape == (6, 3, 16, 16)
    assert bool(((batch["corner"] >= 0) & (batch["corner"] <= 8)).all())
    # Of each scene its own exposures, and its own camera's colours.
    assert torch.equal(batch["exposures"][:, 1], 2 + batch["target"][:, 0, 0, 0])
    assert torch.equal(batch["mixing"][:, 0, 3], 0.01 * batch["target"][:, 0, 0, 0])
    assert merge_batch(Generator.from_preset("tiny").eval(), batch).radiance.shape == (6, 3, 16, 16)


def test_crops_lie_where_their_corner_says() -> None:
    square = scene(1)
    square["target"] = square["observations"][1, :3].clone()
    batch = pool(batch_size=20).exchange(default_collate([square]))
    for image, target, (top, left) in zip(
        batch["observations"], batch["target"], batch["corner"].tolist(), strict=True
    ):
        torch.testing.assert_close(image[1, :3, top : top + 16, left : left + 16], target)
    assert len({tuple(corner) for corner in batch["corner"].tolist()}) > 5


def test_crops_lie_anywhere_in_a_scene() -> None:
    batch = pool(batch_size=100, crop=22).exchange(default_collate([scene(1)]))
    assert {tuple(corner) for corner in batch["corner"].tolist()} == set(itertools.product(range(3), repeat=2))


def test_scenes_are_seen_in_every_mirror() -> None:
    square = scene(1)
    square["target"] = torch.rand(3, 24, 24, generator=torch.Generator().manual_seed(0))
    batch = pool(batch_size=100, crop=24).exchange(default_collate([square]))
    turned = [
        torch.rot90(image, quarters, (1, 2))
        for image in (square["target"], square["target"].flip(2))
        for quarters in range(4)
    ]
    seen = [[torch.equal(target, image) for image in turned].index(True) for target in batch["target"]]
    assert set(seen) == set(range(8))


def test_the_newest_scenes_are_kept_and_the_oldest_go() -> None:
    kept = pool(kept=2, batch_size=50)
    for first in (1, 3, 5):
        batch = kept.exchange(default_collate([scene(first), scene(first + 1)]))
        assert {float(target.mean()) for target in batch["target"]} == {float(first), float(first + 1)}


def test_scenes_with_other_numbers_of_exposures_are_kept_apart() -> None:
    kept = pool(batch_size=20)
    kept.exchange(default_collate([scene(1, count=2)]))
    batch = kept.exchange(default_collate([scene(2, count=3)]))
    assert {float(target.mean()) for target in batch["target"]} == {2.0}
    batch = kept.exchange(default_collate([scene(3, count=2)]))
    assert {float(target.mean()) for target in batch["target"]} == {1.0, 3.0}


def test_the_same_order_gives_the_same_batch() -> None:
    first, second = (pool().exchange(default_collate([scene(1), scene(2)])) for _ in range(2))
    torch.testing.assert_close(first["observations"], second["observations"], rtol=0, atol=0)
    torch.testing.assert_close(first["displacement"], second["displacement"], rtol=0, atol=0)
