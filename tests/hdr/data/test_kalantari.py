from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from hdr.data import KalantariDataset
from hdr.data.source import open_scenes
from hdr.io import write_radiance
from hdr.radiometry import ldr_to_linear, linear_to_ldr, mu_law

EV = (0.0, 2.0, 4.0)


def write_scene(
    folder: Path, *, other_spread: bool = False, ev: tuple[float, ...] = EV, size: int = 40, origin: float = 1.0
) -> torch.Tensor:
    """A still scene; returns its radiance. ``origin`` scales the HDR file, as another zero of EV does."""
    folder.mkdir(parents=True)
    generator = torch.Generator().manual_seed(len(str(folder)))
    radiance = torch.rand(3, size, size + 8, generator=generator) * 0.9 + 0.001
    names = ["a.tif", "b.tif", "c.tif"] if other_spread else [f"input_{i}.tif" for i in (1, 2, 3)]
    for name, value in zip(names, ev, strict=False):
        ldr = linear_to_ldr(radiance, 2 ** (value - min(ev)))
        pixels = (ldr.permute(1, 2, 0).flip(-1).numpy() * 65535).round().astype(np.uint16)
        assert cv2.imwrite(str(folder / name), pixels)
    (folder / ("exposure.txt" if other_spread else "input_exp.txt")).write_text("\n".join(map(str, ev)))
    write_radiance(folder / ("HDRImg.hdr" if other_spread else "ref_hdr.hdr"), radiance * origin)
    return radiance


@pytest.mark.parametrize("other_spread", [False, True])
def test_both_layouts_are_read(tmp_path: Path, other_spread: bool) -> None:
    radiance = write_scene(tmp_path / "set" / "001", other_spread=other_spread)
    sample = KalantariDataset(tmp_path)[0]
    assert sample["name"] == str(Path("set", "001"))
    assert sample["exposures"].tolist() == [1.0, 4.0, 16.0]
    assert sample["ldr"].shape == (3, 3, 40, 48)
    torch.testing.assert_close(sample["ldr"][0], linear_to_ldr(radiance, 1.0), atol=1e-4, rtol=0)
    torch.testing.assert_close(sample["target"], radiance, atol=5e-3, rtol=0)  # RGBE has steps of 0.4 %


def test_pictures_are_sorted_by_exposure(tmp_path: Path) -> None:
    write_scene(tmp_path / "s", ev=(3.0, -3.0, 0.0))
    sample = KalantariDataset(tmp_path)[0]
    assert sample["exposures"].tolist() == [1.0, 8.0, 64.0]
    brightness = sample["ldr"].mean(dim=(1, 2, 3))
    assert bool((brightness[1:] > brightness[:-1]).all())


@pytest.mark.parametrize("origin", [1.0, 0.25, 8.0])
def test_truth_is_brought_to_the_scale_of_the_short_exposure(tmp_path: Path, origin: float) -> None:
    radiance = write_scene(tmp_path / "s", origin=origin)
    torch.testing.assert_close(KalantariDataset(tmp_path)[0]["target"], radiance, atol=5e-3, rtol=0)


def test_crops_flips_and_turns_keep_pictures_and_truth_together(tmp_path: Path) -> None:
    write_scene(tmp_path / "s")
    data = KalantariDataset(tmp_path, crop=16)
    crops = [data[0] for _ in range(8)]
    for sample in crops:
        assert sample["target"].shape == (3, 16, 16)
        assert sample["displacement"].shape == (3, 2, 16, 16)
        assert sample["ldr"].shape == (3, 3, 32, 32)  # with surroundings, for what moved out of the crop
        top, left = sample["corner"].tolist()
        inside = (slice(None), slice(top, top + 16), slice(left, left + 16))
        # The short exposure of this scene is its radiance to the power 1 / 2.2, wherever a pixel has gone.
        radiance = ldr_to_linear(sample["ldr"][0], 1.0)
        torch.testing.assert_close(radiance[inside], sample["target"], atol=5e-3, rtol=0)
        torch.testing.assert_close(sample["observations"][0, :3], mu_law(radiance), atol=1e-3, rtol=0)
        assert sample["ldr"][2].amax(dim=0).min() > 0.05  # no black rows where a turn left the frame
    assert len({sample["target"].sum().item() for sample in crops}) > 1
    assert len({tuple(sample["corner"].tolist()) for sample in crops}) > 1


def test_broken_scenes_are_all_named(tmp_path: Path) -> None:
    write_scene(tmp_path / "good")
    write_scene(tmp_path / "no-truth")
    (tmp_path / "no-truth" / "ref_hdr.hdr").unlink()
    write_scene(tmp_path / "two")
    (tmp_path / "two" / "input_2.tif").unlink()
    write_scene(tmp_path / "cut")
    whole = (tmp_path / "cut" / "input_1.tif").read_bytes()
    (tmp_path / "cut" / "input_1.tif").write_bytes(whole[: len(whole) // 3])
    write_scene(tmp_path / "equal", ev=(0.0, 2.0, 2.0))
    write_scene(tmp_path / "sizes")
    write_radiance(tmp_path / "sizes" / "ref_hdr.hdr", torch.ones(3, 20, 20), overwrite=True)
    with pytest.raises(ValueError, match="5 broken scenes") as refusal:
        KalantariDataset(tmp_path)
    for word in ("no-truth: ref_hdr.hdr missing", "two: 2 .tif files", "cut", "equal", "different sizes", "skip"):
        assert word in str(refusal.value)
    with pytest.warns(UserWarning, match="5 broken scenes"):
        assert [scene.name for scene in KalantariDataset(tmp_path, broken="skip").scenes] == ["good"]
    with pytest.raises(ValueError, match=r"2 .tif files, not 3\nno scene is left"):
        KalantariDataset(tmp_path / "two", broken="skip")


def test_scenes_smaller_than_the_crop_are_refused(tmp_path: Path) -> None:
    write_scene(tmp_path / "s")
    with pytest.raises(ValueError, match="40 x 48 pixels, smaller than the crop of 64"):
        KalantariDataset(tmp_path, crop=64)


def test_folders_without_scenes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no scenes; expected folders with three \.tif files and input_exp"):
        KalantariDataset(tmp_path)
    with pytest.raises(ValueError, match="no such folder"):
        KalantariDataset(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="broken must be"):
        KalantariDataset(tmp_path, broken="ignore")  # type: ignore[arg-type]


def test_folder_names_decide_the_split(tmp_path: Path) -> None:
    write_scene(tmp_path / "Training" / "1")
    write_scene(tmp_path / "Test" / "EXTRA" / "2")
    names = {split: KalantariDataset.from_split(tmp_path, split).scenes[0].name for split in ("train", "validation")}  # type: ignore[arg-type]
    assert names == {"train": str(Path("Training", "1")), "validation": str(Path("Test", "EXTRA", "2"))}


def test_without_such_names_every_tenth_scene_is_held_out(tmp_path: Path) -> None:
    for index in range(12):
        write_scene(tmp_path / f"{index:02d}", size=24)
    held_out = KalantariDataset.from_split(tmp_path, "validation").scenes
    assert [scene.name for scene in held_out] == ["00", "10"]
    assert len(KalantariDataset.from_split(tmp_path, "train").scenes) == 10


def test_open_scenes_names_what_it_takes(tmp_path: Path) -> None:
    write_scene(tmp_path / "Test" / "1")
    assert len(open_scenes(f"kalantari:{tmp_path}", "validation")) == 1  # type: ignore[arg-type]
    for data in ("photographs", "kalantari:", f"sintel:{tmp_path}"):
        with pytest.raises(ValueError, match="synthetic:DIR or kalantari:DIR"):
            open_scenes(data, "train")
