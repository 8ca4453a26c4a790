"""Exposures: time * ISO / N^2 from EXIF, EV from files, and a word whenever something does not fit."""

import math
import warnings
from pathlib import Path

import pytest
from PIL import Image, TiffImagePlugin

from hdr.exposure import (
    CameraSettings,
    exposures_from_ev,
    exposures_from_exif,
    parse_numbers,
    read_camera_settings,
    read_exposure_file,
    settings_of,
    warn_if_camera_disagrees,
)
from tests.hdr.photographs import ISO, write_photograph


def three(folder: Path, suffix: str = ".jpg", **settings: list) -> list[Path]:
    return [
        write_photograph(folder / f"{index}{suffix}", **{name: values[index] for name, values in settings.items()})
        for index in range(3)
    ]


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_exposure_is_time_times_iso_over_squared_f_number(tmp_path, suffix):
    paths = three(tmp_path, suffix, time=[1 / 60, 1 / 60, 1 / 15], iso=[100, 400, 400], f_number=[8.0, 8.0, 4.0])
    first, second, third = exposures_from_exif(paths)
    assert second / first == pytest.approx(4.0)  # ISO alone
    assert third / second == pytest.approx(4.0 * 4.0)  # four times the time, and two stops of aperture
    assert first == pytest.approx(100 / 60 / 64)


def test_settings_that_cameras_write_for_unknown_are_none(tmp_path):
    assert read_camera_settings(write_photograph(tmp_path / "a.jpg", time=0.0, iso=0, f_number=0.0)) == CameraSettings(
        None, None, None
    )


def test_saturated_iso_is_read_from_the_recommended_exposure_index(tmp_path):
    exif = Image.Exif()
    exif.get_ifd(0x8769).update({ISO: 65535, 0x8832: 102400})
    Image.new("RGB", (32, 24)).save(tmp_path / "a.jpg", exif=exif)
    assert read_camera_settings(tmp_path / "a.jpg").iso == 102400


@pytest.mark.parametrize(
    ("tags", "iso"),
    [
        ({0x8827: 100, 0x8832: 200, 0x8833: 400}, 100),
        ({0x8832: 200, 0x8833: 400}, 200),
        ({0x8833: 400}, 400),
        ({0x8827: 65535, 0x8833: 102400}, 102400),
        ({0x8827: 65535}, None),
    ],
)
def test_iso_is_the_photographic_sensitivity_before_what_stands_in_for_it(tmp_path, tags, iso):
    exif = Image.Exif()
    exif.get_ifd(0x8769).update(tags)
    Image.new("RGB", (32, 24)).save(tmp_path / "a.jpg", exif=exif)
    assert read_camera_settings(tmp_path / "a.jpg").iso == iso


def test_missing_exposure_time_names_the_files_and_the_remedy(tmp_path):
    paths = three(tmp_path, time=[0.1, None, None], iso=[100] * 3, f_number=[8.0] * 3)
    with pytest.raises(ValueError, match=r"no exposure time in the EXIF data of .*1.jpg, .*2.jpg; give the exposure"):
        exposures_from_exif(paths)


@pytest.mark.parametrize(("missing", "name"), [("iso", "ISO"), ("f_number", "f-number")])
def test_setting_stated_by_some_pictures_only_is_an_error(tmp_path, missing, name):
    settings = {"time": [0.1, 0.2, 0.4], "iso": [100] * 3, "f_number": [8.0] * 3}
    settings[missing] = [settings[missing][0], None, settings[missing][2]]
    with pytest.raises(ValueError, match=f"no {name} in the EXIF data of .*1.jpg, but in that of the others"):
        exposures_from_exif(three(tmp_path, **settings))


def test_setting_stated_by_no_picture_is_taken_as_constant_with_a_word(tmp_path):
    paths = three(tmp_path, time=[0.1, 0.2, 0.4], f_number=[2.0] * 3)
    with pytest.warns(UserWarning, match="do not state their ISO"):
        exposures = exposures_from_exif(paths)
    assert [exposure / exposures[0] for exposure in exposures] == pytest.approx([1.0, 2.0, 4.0])


def test_times_that_hide_an_automatic_iso_are_reported(tmp_path):
    paths = three(tmp_path, time=[0.1, 0.2, 0.4], iso=[400, 200, 100], f_number=[8.0] * 3)
    with pytest.warns(UserWarning, match=r"given are 1 : 2 : 4, but the camera recorded 1 : 1 : 1"):
        warn_if_camera_disagrees(paths, [0.1, 0.2, 0.4])


@pytest.mark.parametrize(("ev", "warned"), [(0.4, False), (0.6, True), (-0.6, True), (1.2, True)])
def test_half_an_ev_is_the_most_that_goes_without_a_word(tmp_path, ev, warned):
    paths = three(tmp_path, time=[0.1, 0.2, 0.4], iso=[100] * 3, f_number=[8.0] * 3)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        warn_if_camera_disagrees(paths, [0.1, 0.2, 0.4 * 2**ev])
    assert bool(told) == warned


def test_exposures_that_agree_with_the_camera_pass_without_a_word(tmp_path):
    paths = three(tmp_path, time=[0.1, 0.2, 0.4], iso=[100] * 3, f_number=[8.0] * 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_if_camera_disagrees(paths, [0.25, 0.5, 1.0])


def test_exposure_values_are_powers_of_two():
    assert exposures_from_ev([-2, 0, 1, 3]) == [0.25, 1.0, 2.0, 8.0]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 500.0, -500.0])
def test_impossible_exposure_values_are_refused(value):
    with pytest.raises(ValueError, match="exposure values are in EV"):
        exposures_from_ev([0.0, value])


@pytest.mark.parametrize("text", ["-2.00\n0.00\n2.00\n", "-2 0 2", "\ufeff-2\r\n0\r\n2\r\n", "-2,0,2", "-2; 0 ;2\n"])
def test_exposure_files_hold_one_ev_a_line(tmp_path, text):
    (tmp_path / "input_exp.txt").write_text(text, encoding="utf-8")
    assert read_exposure_file(tmp_path / "input_exp.txt") == [0.25, 1.0, 4.0]


@pytest.mark.parametrize("data", [b"", b"a\nb\nc\n", b"\xff\xfe\x00\x01"])
def test_exposure_files_without_numbers_are_refused_by_name(tmp_path, data):
    (tmp_path / "input_exp.txt").write_bytes(data)
    with pytest.raises(ValueError, match=r"input_exp.txt: .*expected one exposure value"):
        read_exposure_file(tmp_path / "input_exp.txt")


@pytest.mark.parametrize("text", ["1/60,1/15", "1/60, 1/15", " 1/60 1/15 ", "1/60;1/15"])
def test_numbers_are_separated_by_commas_semicolons_or_blanks(text):
    assert parse_numbers(text) == [1 / 60, 1 / 15]


@pytest.mark.parametrize("text", ["", "1/60,,1/15", "1/0", "1 / fast", "1e400"])
def test_what_is_no_number_is_refused(text):
    with pytest.raises(ValueError, match="numbers or fractions with commas or blanks between"):
        parse_numbers(text)


@pytest.mark.parametrize(("apex", "f_number"), [(2.0, 2.0), (4.0, 4.0), (5.0, 5.65685), (6.0, 8.0)])
def test_apertures_are_told_by_apex_as_half_of_a_logarithm(apex: float, f_number: float) -> None:
    # EXIF 2.3: Av = 2 log2(F).
    assert settings_of({0x9202: apex}).f_number == pytest.approx(f_number, rel=1e-5)


@pytest.mark.parametrize(("apex", "time"), [(0.0, 1.0), (6.0, 1 / 64), (-2.0, 4.0)])
def test_times_are_told_by_apex_as_a_logarithm(apex: float, time: float) -> None:
    # EXIF 2.3: Tv = -log2(t). A time that is written as such comes first.
    assert settings_of({0x9201: apex}).time == time
    assert settings_of({0x9201: apex, 0x829A: 0.5}).time == 0.5
    assert settings_of({0x9202: 2.0, 0x829D: 8.0}).f_number == 8.0


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, 1e6, -1e6, "fast", None, (), TiffImagePlugin.IFDRational(0, 0)]
)
def test_settings_that_no_camera_has_are_not_known(value: object) -> None:
    tags = (0x829A, 0x829D, 0x8827)
    of_light = {tag: value for tag in tags if not isinstance(value, float) or abs(value) != 1e6}
    assert settings_of(of_light | {0x9201: value, 0x9202: value}) == CameraSettings(None, None, None)


def test_of_several_sensitivities_the_first_is_taken() -> None:
    assert settings_of({0x8827: (400, 0)}).iso == 400


@pytest.mark.parametrize("missing", ["iso", "f_number"])
def test_a_camera_that_wrote_not_all_down_is_not_asked(tmp_path: Path, missing: str) -> None:
    settings: dict[str, list] = {"time": [0.1, 0.1, 0.1], "iso": [100] * 3, "f_number": [8.0] * 3}
    settings[missing] = [None, None, None]
    paths = three(tmp_path, ".jpg", **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_if_camera_disagrees(paths, [0.1, 0.2, 0.4])


def test_a_comma_after_the_last_value_of_a_file_is_none(tmp_path: Path) -> None:
    (tmp_path / "exposure.txt").write_text("-2,\n0,\n2,\n", encoding="utf-8")
    assert read_exposure_file(tmp_path / "exposure.txt") == [0.25, 1.0, 4.0]
