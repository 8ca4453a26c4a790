"""Camera raw: light that is known, through a mosaic with black level, white balance and noise, comes back."""

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
import torch
from numpy.typing import NDArray

from hdr._errors import RefusedError
from hdr.bracket import Bracket
from hdr.cli import main
from hdr.exposure import CameraSettings, read_camera_settings
from hdr.io import read_radiance
from hdr.merge import Merger
from hdr.raw import (
    RawSettings,
    _inverse_of,
    read_raw,
    read_raw_settings,
    read_settings_and_moment,
    sensor_to_rec709,
    white_balance_factors,
)
from tests.hdr.raw_files import write_dng

pytest.importorskip("rawpy")

INNER = (slice(None), slice(6, -6), slice(6, -6))


def smooth_light(height: int = 64, width: int = 96, brightest: float = 0.6) -> NDArray[np.float64]:
    """Light (H, W, 3) without detail, which a mosaic loses nothing of."""
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    return brightest * np.stack([0.2 + 0.8 * x, 0.3 + 0.5 * y, 0.7 - 0.4 * x], axis=-1)


def as_tensor(light: NDArray[np.float64]) -> torch.Tensor:
    return torch.from_numpy(light).permute(2, 0, 1).float()


@pytest.mark.parametrize("neutral", [(1.0, 1.0, 1.0), (0.5, 1.0, 0.7), (1.0, 0.8, 0.9)])
def test_light_comes_back_through_black_level_mosaic_and_white_balance(
    tmp_path: Path, neutral: tuple[float, float, float]
) -> None:
    light = smooth_light()
    write_dng(tmp_path / "a.dng", light, neutral=neutral)
    found = read_raw(tmp_path / "a.dng")
    assert found.shape == (3, 64, 96)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found[INNER], as_tensor(light)[INNER], atol=1e-3, rtol=0)


def test_noise_is_that_of_the_sensor_and_has_no_bias(tmp_path: Path) -> None:
    light = np.full((128, 128, 3), 0.02)
    write_dng(tmp_path / "a.dng", light, noise=0.005)
    half = read_raw(tmp_path / "a.dng", half_size=True)
    assert float(half.mean()) == pytest.approx(0.02, abs=2e-4)
    assert float(half[0].std()) == pytest.approx(0.005, rel=0.1)


def test_what_the_sensor_clips_is_one_in_every_channel(tmp_path: Path) -> None:
    light = smooth_light()
    light[20:40, 20:40] = 3.0
    write_dng(tmp_path / "a.dng", light, neutral=(0.5, 1.0, 0.7))
    clipped = read_raw(tmp_path / "a.dng")[:, 24:36, 24:36]
    torch.testing.assert_close(clipped, torch.ones_like(clipped), atol=1e-3, rtol=0)


COLOURS = np.array([[1.6, -0.5, -0.1], [-0.2, 1.5, -0.3], [0.0, -0.5, 1.5]])


@pytest.mark.parametrize("neutral", [(1.0, 1.0, 1.0), (0.5, 1.0, 0.7)])
def test_the_sensors_own_colours_and_the_matrix_to_rec709_are_known(
    tmp_path: Path, neutral: tuple[float, float, float]
) -> None:
    light = smooth_light()
    write_dng(tmp_path / "a.dng", light, neutral=neutral, colours=COLOURS)
    matrix = sensor_to_rec709(tmp_path / "a.dng")
    assert matrix is not None
    np.testing.assert_allclose(matrix, COLOURS, atol=1e-4)
    seen = as_tensor(light @ np.linalg.inv(COLOURS).T)
    found = read_raw(tmp_path / "a.dng", colours="sensor")
    torch.testing.assert_close(found[INNER], seen[INNER], atol=1e-3, rtol=0)
    torch.testing.assert_close(read_raw(tmp_path / "a.dng")[INNER], as_tensor(light)[INNER], atol=2e-3, rtol=0)


def test_the_matrix_of_a_table_keeps_white_white_whatever_the_channels_gain() -> None:
    to_sensor = np.array([[0.8, -0.2, 0.1], [-0.3, 1.2, 0.1], [0.0, 0.2, 0.7]])
    found = _inverse_of(to_sensor)
    np.testing.assert_allclose(found.sum(axis=1), 1.0)
    np.testing.assert_allclose(_inverse_of(np.diag([2.0, 1.0, 0.5]) @ to_sensor), found)


def test_a_camera_that_wrote_no_white_balance_has_that_of_daylight(tmp_path: Path, monkeypatch) -> None:
    raw = SimpleNamespace(camera_whitebalance=[0.0] * 4, daylight_whitebalance=[2.2, 1.1, 1.65, 0.0])
    monkeypatch.setattr("hdr.raw._opened", lambda path: nullcontext(raw))
    assert white_balance_factors(tmp_path / "a.dng") == pytest.approx((2.0, 1.0, 1.5))


def test_only_the_ratios_of_a_white_balance_count(tmp_path: Path) -> None:
    write_dng(tmp_path / "a.dng", smooth_light())
    once, twice = (read_raw(tmp_path / "a.dng", (2.0 * factor, factor, 1.5 * factor)) for factor in (1.0, 2.0))
    torch.testing.assert_close(twice, once, atol=1e-4, rtol=0)


def test_without_a_matrix_in_file_or_table_colours_stay_what_they_are(tmp_path: Path) -> None:
    names = ("short", "middle", "long")
    for name, time in zip(names, (1 / 400, 1 / 100, 1 / 25), strict=True):
        light = np.minimum(smooth_light(brightest=0.07) * time * 400, 1.0)
        write_dng(tmp_path / f"{name}.dng", light, time=time, with_matrix=False)
    assert sensor_to_rec709(tmp_path / "short.dng") is None
    assert Bracket.from_files([tmp_path / f"{name}.dng" for name in names]).to_rec709 is None


def test_strong_colours_that_clip_one_by_one_are_merged_before_they_become_rec709(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Red light of which the sensor's green sees some: its red clips in two of three exposures, and is right in one.
    light = smooth_light(96, 128, brightest=0.05)
    light[24:72, 32:96] = (0.6, 0.02, 0.01)
    paths = [tmp_path / f"{name}.dng" for name in ("short", "middle", "long")]
    for number, (path, time) in enumerate(zip(paths, (1 / 400, 1 / 100, 1 / 25), strict=True)):
        seen = light @ np.linalg.inv(COLOURS).T * time * 400
        # The sensor clips; write_dng turns into its colours what is given in Rec. 709.
        clipped = np.minimum(seen, 1.0) @ COLOURS.T
        write_dng(path, clipped, time=time, colours=COLOURS, noise=1e-3, seed=number)

    def error(bracket: Bracket) -> float:
        merged = Merger("none", "cpu")(bracket, align="off")
        return float((merged - as_tensor(light))[1, 30:66, 40:88].square().mean().sqrt())

    in_sensor_colours = Bracket.from_files(paths)
    assert not in_sensor_colours.calibration.channels_mix
    monkeypatch.setattr("hdr._bracket_files.sensor_to_rec709", lambda path, balance: None)
    as_developed = Bracket.from_files(paths)
    assert as_developed.calibration.channels_mix
    assert error(in_sensor_colours) < 0.4 * error(as_developed)  # of green, which the longest exposure knows best


def test_a_dark_file_is_not_brightened(tmp_path: Path) -> None:
    """Each file's brightest pixel is another; no scale may follow it."""
    for name, brightest in (("a.dng", 0.6), ("b.dng", 0.6 / 16)):
        write_dng(tmp_path / name, smooth_light(brightest=brightest))
    bright, dark = read_raw(tmp_path / "a.dng"), read_raw(tmp_path / "b.dng")
    torch.testing.assert_close(16 * dark[INNER], bright[INNER], atol=2e-3, rtol=0.01)


def test_half_size_is_one_pixel_for_four(tmp_path: Path) -> None:
    light = smooth_light()
    write_dng(tmp_path / "a.dng", light)
    half = read_raw(tmp_path / "a.dng", half_size=True)
    expected = torch.nn.functional.avg_pool2d(as_tensor(light), 2)
    torch.testing.assert_close(half, expected, atol=5e-3, rtol=0)


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, -1), (8, 1)])
def test_pictures_are_upright(tmp_path: Path, orientation: int, turns: int) -> None:
    light = smooth_light()
    write_dng(tmp_path / "a.dng", light, orientation=orientation)
    expected = as_tensor(np.rot90(light, turns).copy())
    torch.testing.assert_close(read_raw(tmp_path / "a.dng")[INNER], expected[INNER], atol=1e-3, rtol=0)


def test_settings_are_read(tmp_path: Path) -> None:
    write_dng(tmp_path / "a.dng", smooth_light(), time=1 / 60, iso=400, f_number=5.6)
    for read in (read_raw_settings, read_camera_settings):
        found = read(tmp_path / "a.dng")
        assert found.time == pytest.approx(1 / 60, rel=1e-4)
        assert found.iso == 400
        assert found.f_number == pytest.approx(5.6, rel=1e-5)
    write_dng(tmp_path / "b.dng", smooth_light(), time=None, iso=None, f_number=None)
    assert read_raw_settings(tmp_path / "b.dng") == CameraSettings(None, None, None)


def test_white_balance_is_the_cameras_daylight_from_the_pixels_or_given(tmp_path: Path) -> None:
    grey = np.full((64, 64, 3), 0.2)
    write_dng(tmp_path / "a.dng", grey, neutral=(0.5, 1.0, 0.8))
    assert white_balance_factors(tmp_path / "a.dng") == pytest.approx((2.0, 1.0, 1.25), rel=1e-4)
    assert white_balance_factors(tmp_path / "a.dng", "daylight") == pytest.approx((1.0, 1.0, 1.0), rel=1e-4)
    assert white_balance_factors(tmp_path / "a.dng", "auto") == pytest.approx((2.0, 1.0, 1.25), rel=0.02)
    assert white_balance_factors(tmp_path / "a.dng", (1.5, 1.0, 2.0)) == (1.5, 1.0, 2.0)
    read = read_raw(tmp_path / "a.dng", (1.0, 1.0, 1.0))
    torch.testing.assert_close(read[:, 8:-8, 8:-8].mean((1, 2)), torch.tensor([0.1, 0.2, 0.16]), atol=1e-3, rtol=0)


@pytest.mark.parametrize("given", ["warm", "1,2", "1,0,1", "-1,1,1", "nan,1,1", ""])
def test_other_white_balances_are_refused(given: str) -> None:
    with pytest.raises(ValueError, match=r"white balance must be camera, daylight, auto or three positive factors"):
        RawSettings.parse(given)


def test_files_that_are_damaged_or_something_else_are_refused_by_name(tmp_path: Path) -> None:
    write_dng(tmp_path / "whole.dng", smooth_light())
    (tmp_path / "short.dng").write_bytes((tmp_path / "whole.dng").read_bytes()[:3000])
    (tmp_path / "text.nef").write_text("nothing")
    (tmp_path / "empty.cr3").write_bytes(b"")
    for name in ("short.dng", "text.nef", "empty.cr3"):
        with pytest.raises(ValueError, match=name):
            read_raw(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        read_raw(tmp_path / "none.dng")


@pytest.mark.parametrize("rows", [1, 20])
def test_a_copy_that_ends_in_nothing_is_refused(tmp_path: Path, rows: int) -> None:
    # As long as the whole file, as copies are that were begun and not ended; LibRaw would make black of it.
    write_dng(tmp_path / "whole.dng", smooth_light(64, 96))
    data = bytearray((tmp_path / "whole.dng").read_bytes())
    with tifffile.TiffFile(tmp_path / "whole.dng") as file:
        page = file.pages[0]
        end = page.dataoffsets[0] + page.databytecounts[0]
    data[end - 2 * 96 * rows : end] = bytes(2 * 96 * rows)
    (tmp_path / "short.dng").write_bytes(data)
    with pytest.raises(ValueError, match=rf"short\.dng: damaged, {rows} of 64 rows are empty"):
        read_raw(tmp_path / "short.dng")


def test_black_is_not_taken_for_nothing(tmp_path: Path) -> None:
    light = smooth_light()
    light[40:] = 0
    write_dng(tmp_path / "a.dng", light, noise=0.002)
    assert float(read_raw(tmp_path / "a.dng")[:, 44:].max()) < 0.02


def write_bracket(folder: Path, neutrals: list[tuple[float, float, float]]) -> NDArray[np.float64]:
    """Three raw files, two stops apart, of one scene of which the longer two lose a part."""
    light = smooth_light(brightest=0.07)
    light[8:20, 8:20] = 0.8
    for name, time, neutral in zip(("short", "middle", "long"), (1 / 400, 1 / 100, 1 / 25), neutrals, strict=True):
        write_dng(folder / f"{name}.dng", np.minimum(light * time * 400, 1.0), time=time, neutral=neutral)
    return light


def test_a_bracket_of_raw_files_is_linear_and_has_the_white_balance_that_is_asked_for(tmp_path: Path) -> None:
    light = write_bracket(tmp_path, [(1.0, 1.0, 1.0)] * 3)
    paths = [tmp_path / f"{name}.dng" for name in ("long", "short", "middle")]
    bracket = Bracket.from_files(paths)
    assert bracket.exposures.tolist() == pytest.approx([1, 4, 16], rel=1e-3)
    assert bracket.calibration.response.name == "linear"
    assert bracket.names == ("short.dng", "middle.dng", "long.dng")
    torch.testing.assert_close(
        bracket.radiance(0)[:, 24:60, 24:90], as_tensor(light)[:, 24:60, 24:90], atol=1e-3, rtol=0
    )
    warm = Bracket.from_files(paths, raw=RawSettings((2.0, 1.0, 1.0)))
    ratio = (warm.ldr[0] / bracket.ldr[0])[:, 24:60, 24:90].mean((1, 2))
    assert ratio[0] > 1.8 * ratio[1]


def test_raw_and_developed_files_are_no_bracket(tmp_path: Path) -> None:
    write_bracket(tmp_path, [(1.0, 1.0, 1.0)] * 3)
    with pytest.raises(ValueError, match=r"short\.dng: camera raw beside developed images"):
        Bracket.from_files([tmp_path / "short.dng", tmp_path / "middle.png"])


def test_raw_files_are_merged_from_the_command_line(tmp_path: Path) -> None:
    light = write_bracket(tmp_path, [(0.5, 1.0, 0.7)] * 3)
    files = [str(tmp_path / f"{name}.dng") for name in ("short", "middle", "long")]
    assert main(["merge", *files, "--out", str(tmp_path / "out.exr"), "--weights", "none", "--half-size"]) == 0
    merged = read_radiance(tmp_path / "out.exr")
    expected = torch.nn.functional.avg_pool2d(as_tensor(light), 2)
    assert merged.shape == expected.shape
    torch.testing.assert_close(merged[:, 14:28, 14:44], expected[:, 14:28, 14:44], atol=1e-3, rtol=0.01)
    torch.testing.assert_close(
        merged[:, 5:9, 5:9], expected[:, 5:9, 5:9], atol=1e-3, rtol=0.01
    )  # only the short saw it


@pytest.mark.filterwarnings("ignore:.*disagree by", "ignore:too little")
def test_all_of_a_bracket_have_the_white_balance_that_its_middle_exposure_was_taken_with(tmp_path: Path) -> None:
    neutrals = {"short": (1.0, 1.0, 1.0), "middle": (0.5, 1.0, 0.8), "long": (0.8, 1.0, 0.4)}
    for name, time in (("short", 0.01), ("middle", 0.04), ("long", 0.16)):
        write_dng(tmp_path / f"{name}.dng", smooth_light() * time / 0.16, time=time, neutral=neutrals[name])
    paths = [tmp_path / f"{name}.dng" for name in ("long", "short", "middle")]
    bracket = Bracket.from_files(paths, check=False)
    balance = white_balance_factors(tmp_path / "middle.dng")
    assert balance == pytest.approx((2.0, 1.0, 1.25), rel=1e-3)
    for picture, path in zip(bracket.ldr, bracket.paths, strict=True):
        assert torch.equal(picture, read_raw(path, balance, colours="sensor"))


class _WithoutMoment:
    """A raw file of whose moment rawpy makes no date, as of a year beyond 9999."""

    @property
    def other(self) -> None:
        raise ValueError("year 31337 is out of range")


@pytest.mark.parametrize("read", [read_raw_settings, read_settings_and_moment])
def test_a_moment_that_the_calendar_does_not_have_is_refused_by_name(monkeypatch, read):
    monkeypatch.setattr("hdr.raw._opened", lambda _: nullcontext(_WithoutMoment()))
    with pytest.raises(RefusedError, match=r"a\.dng: damaged, .*year 31337"):
        read("a.dng")


def test_nothing_is_known_by_a_matrix_of_which_white_is_none():
    # Rows that take white to black have no scale by which it stays white.
    assert not _inverse_of(np.zeros((3, 3)) + np.array([[1.0], [0.0], [0.0]]) * 0.5).any()
