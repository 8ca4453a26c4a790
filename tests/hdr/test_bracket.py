"""Brackets: sorted, of one size, of distinct exposures, or refused by name."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hdr.bracket import Bracket, select_three
from tests.hdr.photographs import random_pixels, write_16_bit, write_photograph


def images(count: int = 3, height: int = 20, width: int = 30) -> list[torch.Tensor]:
    return list(torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0)))


def write_bracket(folder, times, suffix=".png", **settings):
    return [
        write_photograph(folder / f"{index}{suffix}", random_pixels(seed=index), time=time, **settings)
        for index, time in enumerate(times)
    ]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0), (2, 1, 0)])
def test_pictures_are_sorted_by_exposure(order):
    pictures, times = images(), [1 / 60, 1 / 15, 1 / 4]
    bracket = Bracket.from_images(
        [pictures[i] for i in order], [times[i] for i in order], names=[f"{i}" for i in order]
    )
    torch.testing.assert_close(bracket.ldr, torch.stack(pictures))
    torch.testing.assert_close(bracket.exposures, torch.tensor([1.0, 4.0, 15.0]))
    assert bracket.names == ("0", "1", "2")


def test_files_are_merged_by_time_iso_and_aperture(tmp_path):
    paths = [
        write_photograph(tmp_path / "a.png", random_pixels(seed=0), time=1 / 30, iso=800, f_number=4.0),
        write_photograph(tmp_path / "b.png", random_pixels(seed=1), time=1 / 30, iso=200, f_number=4.0),
        write_photograph(tmp_path / "c.png", random_pixels(seed=2), time=1 / 30, iso=200, f_number=8.0),
    ]
    bracket = Bracket.from_files(paths)
    assert bracket.names == ("c.png", "b.png", "a.png")
    torch.testing.assert_close(bracket.exposures, torch.tensor([1.0, 4.0, 16.0]))
    expected = torch.from_numpy(random_pixels(seed=1).transpose(2, 0, 1) / np.float32(255))
    torch.testing.assert_close(bracket.reference, expected)


@pytest.mark.parametrize(
    "source",
    [{"exposure_times": [0.01, 0.04, 0.16]}, {"exposure_values": [-2.0, 0.0, 2.0]}, {"exposure_file": "-2\n0\n2"}],
)
def test_exposures_are_given_as_seconds_ev_or_file(tmp_path, source):
    paths = write_bracket(tmp_path, [None] * 3)
    if "exposure_file" in source:
        (tmp_path / "exposure.txt").write_text(source["exposure_file"])
        source = {"exposure_file": tmp_path / "exposure.txt"}
    torch.testing.assert_close(Bracket.from_files(paths, **source).exposures, torch.tensor([1.0, 4.0, 16.0]))


def test_only_one_source_of_exposures_is_taken(tmp_path):
    with pytest.raises(ValueError, match="exclude each other"):
        Bracket.from_files(write_bracket(tmp_path, [None] * 3), [1.0, 2.0, 4.0], exposure_values=[0.0, 1.0, 2.0])


def test_automatic_iso_does_not_pass_without_a_word(tmp_path):
    paths = [
        write_photograph(tmp_path / f"{index}.png", time=time, iso=iso, f_number=4.0)
        for index, (time, iso) in enumerate([(0.01, 400), (0.04, 200), (0.16, 100)])
    ]
    torch.testing.assert_close(Bracket.from_files(paths).exposures, torch.tensor([1.0, 2.0, 4.0]))
    with pytest.warns(UserWarning, match="the camera recorded 1 : 2 : 4"):
        Bracket.from_files(paths, exposure_times=[0.01, 0.04, 0.16])


def test_missing_exif_names_the_files_and_the_remedy(tmp_path):
    with pytest.raises(ValueError, match=r"no exposure time in the EXIF data of .*0.png.*give the exposure times"):
        Bracket.from_files(write_bracket(tmp_path, [None] * 3))


@pytest.mark.parametrize("times", [(0.1, 0.1, 0.4), (0.1, 0.1, 0.1), (0.1, 0.105, 0.4)])
def test_equal_exposures_are_refused_by_name(tmp_path, times):
    with pytest.raises(ValueError, match=r"0.png and 1.png have nearly equal exposures"):
        Bracket.from_files(write_bracket(tmp_path, times, iso=100, f_number=8.0))


def test_different_sizes_are_refused_by_name(tmp_path):
    paths = write_bracket(tmp_path, [0.1, 0.2, 0.4])
    write_photograph(paths[2], random_pixels(24, 40))
    with pytest.raises(ValueError, match=r"one size .*1.png 32x24, 2.png 40x24"):
        Bracket.from_files(paths, [0.1, 0.2, 0.4])


@pytest.mark.parametrize("count", [0, 1, 2])
def test_fewer_than_three_pictures_are_refused(count):
    with pytest.raises(ValueError, match=f"needs three or more exposures, got {count}"):
        Bracket.from_images(images(count), [1.0, 2.0, 4.0][:count])


@pytest.mark.parametrize("exposures", [[1.0, 2.0], [1.0, 2.0, 4.0, 8.0]])
def test_one_exposure_is_needed_for_each_picture(tmp_path, exposures):
    with pytest.raises(ValueError, match=f"3 pictures but {len(exposures)} exposures"):
        Bracket.from_files(write_bracket(tmp_path, [None] * 3), exposures)


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_impossible_exposure_times_are_refused(bad):
    with pytest.raises(ValueError, match="positive and finite"):
        Bracket.from_images(images(), [1.0, bad, 4.0])


def test_camera_raw_is_refused_before_its_exif_is_asked_for(tmp_path):
    paths = [tmp_path / f"{index}.NEF" for index in range(3)]
    with pytest.raises(ValueError, match="camera raw is not read"):
        Bracket.from_files(paths)


@pytest.mark.filterwarnings("ignore:.* times the exposure of")
@pytest.mark.parametrize(
    ("evs", "chosen"),
    [
        ([-2, -1, 0, 1, 2], (0, 2, 4)),
        ([0, -1, 1, -2, 2, -3, 3], (5, 0, 6)),
        ([-4, -3, -2, -1, 0, 1, 2, 3, 4], (0, 4, 8)),
        ([0, 1, 2, 5], (0, 2, 3)),
    ],
)
def test_of_more_exposures_the_three_that_span_the_range_are_chosen_and_told(evs, chosen):
    pictures, names = images(len(evs)), [f"{ev:+d}" for ev in evs]
    with pytest.warns(UserWarning, match=f"of {len(evs)} exposures the three") as told:
        bracket = Bracket.from_images(pictures, [2.0**ev for ev in evs], names=names)
    assert ", ".join(names[index] for index in chosen) in str(told[0].message)
    torch.testing.assert_close(bracket.ldr, torch.stack([pictures[index] for index in chosen]))


@given(st.lists(st.floats(1e-6, 1e6), min_size=3, max_size=12))
def test_choice_spans_the_whole_range(exposures):
    short, reference, long = select_three(exposures)
    assert len({short, reference, long}) == 3
    assert exposures[short] == min(exposures)
    assert exposures[long] == max(exposures)
    assert exposures[short] <= exposures[reference] <= exposures[long]


def test_files_that_are_not_chosen_are_not_decoded(tmp_path):
    paths = write_bracket(tmp_path, [None] * 5, ".jpg")
    paths[1].write_bytes(paths[1].read_bytes()[:-200])
    with pytest.warns(UserWarning, match="of 5 exposures"):
        assert Bracket.from_files(paths, [0.1, 0.2, 0.4, 0.8, 1.6]).names == ("0.jpg", "2.jpg", "4.jpg")


@pytest.mark.parametrize(("times", "warned"), [((1, 8, 64), False), ((1, 2, 4), False), ((1, 16, 32), True)])
def test_ratios_that_networks_have_not_seen_are_reported(times, warned):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        Bracket.from_images(images(), times)
    assert bool(told) == warned


def test_linear_and_gamma_input_become_gamma_2_2():
    light = torch.full((3, 20, 20), 0.25, dtype=torch.float64)
    expected = torch.full((3, 3, 20, 20), 0.25 ** (1 / 2.2), dtype=torch.float64)
    for pictures, encoding in [(light, {"linear": True}), (light.sqrt(), {"gamma": 2.0}), (light ** (1 / 2.2), {})]:
        torch.testing.assert_close(Bracket.from_images([pictures] * 3, [1, 4, 16], **encoding).ldr, expected)


def test_linear_pictures_with_a_gamma_are_refused():
    with pytest.raises(ValueError, match=r"linear pictures have no gamma; got gamma=1.8 as well"):
        Bracket.from_images(images(), [1, 4, 16], gamma=1.8, linear=True)


def test_16_bit_linear_tiffs_keep_their_depth(tmp_path):
    paths = [write_16_bit(tmp_path / f"{i}.tif", random_pixels(depth=np.uint16, seed=i)) for i in range(3)]
    bracket = Bracket.from_files(paths, [1.0, 4.0, 16.0], linear=True)
    light = torch.from_numpy(random_pixels(depth=np.uint16, seed=2).transpose(2, 0, 1) / 65535).float()
    torch.testing.assert_close(bracket.radiance(2), light / 16, rtol=1e-5, atol=1e-7)


def test_short_exposure_saturates_at_radiance_1():
    bracket = Bracket(torch.ones(3, 3, 16, 16), torch.tensor([1.0, 4.0, 16.0]))
    assert [float(bracket.radiance(index).max()) for index in range(3)] == pytest.approx([1.0, 1 / 4, 1 / 16])


@pytest.mark.parametrize(
    ("ldr", "exposures", "said"),
    [
        (torch.zeros(2, 3, 16, 16), [1.0, 4.0, 16.0], r"shape \(3, 3, H, W\)"),
        (torch.zeros(3, 1, 16, 16), [1.0, 4.0, 16.0], r"shape \(3, 3, H, W\)"),
        (torch.zeros(3, 3, 15, 16), [1.0, 4.0, 16.0], "at least 16 pixels"),
        (torch.zeros(3, 3, 16, 16, dtype=torch.uint8), [1.0, 4.0, 16.0], "floating point"),
        (torch.full((3, 3, 16, 16), 255.0), [1.0, 4.0, 16.0], r"lie in \[0, 1\]"),
        (torch.full((3, 3, 16, 16), float("nan")), [1.0, 4.0, 16.0], r"lie in \[0, 1\]"),
        (torch.zeros(3, 3, 16, 16), [1.0, 4.0], "three exposures"),
        (torch.zeros(3, 3, 16, 16), [1.0, 16.0, 4.0], "ascend from 1"),
        (torch.zeros(3, 3, 16, 16), [2.0, 4.0, 16.0], "ascend from 1"),
    ],
)
def test_what_is_no_bracket_is_refused(ldr, exposures, said):
    with pytest.raises(ValueError, match=said):
        Bracket(ldr, torch.tensor(exposures))
