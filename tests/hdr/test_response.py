from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hdr.response import Response
from tests.hdr.cameras import s_curve, srgb

LEVELS = torch.arange(256, dtype=torch.float64) / 255


@st.composite
def tables(draw: st.DrawFn) -> list[float]:
    steps = draw(st.lists(st.floats(0.01, 1.0), min_size=1, max_size=40))
    first = draw(st.floats(0.0, 0.5))
    light = np.cumsum([first, *steps])
    light /= light[-1]
    light[-1] = 1.0
    return [*light.tolist(), *[1.0] * draw(st.integers(0, 3))]


def naive_light(light: list[float], ldr: float) -> float:
    """Linear interpolation, one value at a time."""
    position = min(max(ldr, 0.0), 1.0) * (len(light) - 1)
    below = min(math.floor(position), len(light) - 2)
    return light[below] + (position - below) * (light[below + 1] - light[below])


def test_srgb_is_the_standards_formula_at_all_levels_of_a_file() -> None:
    expected = torch.from_numpy(srgb(LEVELS.numpy()))
    torch.testing.assert_close(Response.srgb().to_linear(LEVELS), expected, atol=1e-12, rtol=0)


def test_srgb_has_the_values_that_everyone_knows() -> None:
    # 0.5 is 21.4 % of the light; middle grey, 18 %, is value 118 of 255.
    assert float(Response.srgb().to_linear(torch.tensor(0.5))) == pytest.approx(0.21404, abs=1e-5)
    assert round(float(Response.srgb().to_ldr(torch.tensor(0.18))) * 255) == 118


@pytest.mark.parametrize("exponent", [0.45, 1.0, 1.8, 2.2, 2.6])
def test_gamma_is_a_power(exponent: float) -> None:
    torch.testing.assert_close(Response.gamma(exponent).to_linear(LEVELS), LEVELS**exponent, atol=1e-12, rtol=0)
    between = torch.linspace(0.01, 1, 65536, dtype=torch.float64)  # the levels of a deeper file
    torch.testing.assert_close(Response.gamma(exponent).to_linear(between), between**exponent, atol=3e-5, rtol=0)


def test_linear_is_the_identity() -> None:
    ldr = torch.rand(3, 20, 30)
    torch.testing.assert_close(Response.linear().to_linear(ldr), ldr)
    torch.testing.assert_close(Response.linear().to_ldr(ldr), ldr, atol=1e-4, rtol=0)


@given(tables(), st.lists(st.floats(-0.5, 1.5), min_size=1, max_size=20))
def test_a_table_is_linear_between_its_entries(light: list[float], ldr: list[float]) -> None:
    result = Response.table(light).to_linear(torch.tensor(ldr, dtype=torch.float64))
    assert result.tolist() == pytest.approx([naive_light(light, value) for value in ldr], abs=1e-9)


@given(tables(), st.lists(st.floats(0, 1), min_size=2, max_size=20))
def test_light_never_decreases_with_the_value(light: list[float], ldr: list[float]) -> None:
    linear = Response.table(light).to_linear(torch.tensor(sorted(ldr), dtype=torch.float64))
    assert bool((linear.diff() >= -1e-12).all())


@given(tables(), st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_to_ldr_is_the_inverse_up_to_the_white_level(light: list[float], ldr: list[float]) -> None:
    response = Response.table(light)
    values = torch.tensor(ldr, dtype=torch.float64).clamp_max(response.white_level)
    torch.testing.assert_close(response.to_ldr(response.to_linear(values)), values, atol=5e-3, rtol=0)


@pytest.mark.parametrize("response", [Response.srgb(), Response.gamma(2.2), Response.table([*s_curve(LEVELS.numpy())])])
def test_the_inverse_is_exact_to_a_hundredth_of_a_level(response: Response) -> None:
    ldr = torch.linspace(0.02, 1, 5000, dtype=torch.float64)
    torch.testing.assert_close(response.to_ldr(response.to_linear(ldr)), ldr, atol=0.01 / 255, rtol=0)


def test_light_above_white_gives_the_white_level() -> None:
    response = Response.srgb().with_white_level(248 / 255)
    assert response.to_ldr(torch.tensor([1.0, 1.5, 100.0])).tolist() == pytest.approx([248 / 255] * 3, abs=1e-6)


@pytest.mark.parametrize("white_level", [0.4, 0.5, 0.95])
def test_white_levels_of_no_camera_and_above_the_known_one_are_refused(white_level: float) -> None:
    with pytest.raises(ValueError, match=r"must lie in \(0\.5, 0\.9\]"):
        Response.linear().with_white_level(0.9).with_white_level(white_level)


@pytest.mark.parametrize("gamma", [0.29, 5.01, math.nan])
def test_gammas_of_no_camera_are_refused(gamma: float) -> None:
    with pytest.raises(ValueError, match=r"between 0\.3 and 5\.0"):
        Response.gamma(gamma)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("function", ["to_linear", "to_ldr", "slope"])
def test_half_precision_is_looked_up_in_single(function: str, dtype: torch.dtype) -> None:
    ldr = torch.linspace(0, 1, 500).to(dtype)
    single = getattr(Response.srgb(), function)(ldr.float())
    assert torch.equal(getattr(Response.srgb(), function)(ldr), single.to(dtype))


@pytest.mark.parametrize("response", [Response.srgb(), Response.gamma(1.8), Response.linear()])
def test_slope_is_the_derivative(response: Response) -> None:
    ldr = torch.linspace(0.1, 0.9, 50, dtype=torch.float64)
    step = 1e-3
    numeric = (response.to_linear(ldr + step) - response.to_linear(ldr - step)) / (2 * step)
    torch.testing.assert_close(response.slope(ldr), numeric, atol=1e-3, rtol=1e-3)


def test_below_black_a_response_is_as_steep_as_above() -> None:
    # A scan whose black is 17: flat up to it, and 1 / 238 of light per level from there on.
    levels = torch.arange(256, dtype=torch.float64)
    light = (levels - 17).clamp_min(0) + 1e-7 * levels
    scan = Response.table(light / light[-1])
    found = scan.steepness(torch.tensor([5.0, 13.0, 15.0, 17.0, 100.0], dtype=torch.float64) / 255)
    per_level = torch.tensor([0.0, 0.0, 0.5, 1.0, 1.0], dtype=torch.float64)  # over the next four levels
    torch.testing.assert_close(found, per_level * 255 / 238, atol=1e-4, rtol=0)
    assert float(scan.slope(torch.tensor(15.0 / 255))) < 1e-3


@pytest.mark.parametrize("response", [Response.srgb(), Response.gamma(2.2), Response.linear()])
def test_elsewhere_it_is_the_slope_or_that_of_the_next_levels(response: Response) -> None:
    ldr = torch.linspace(0, 1, 300, dtype=torch.float64)
    above = (ldr + 4 / 255).clamp_max(1)
    mean = (response.to_linear(above) - response.to_linear(ldr)) * 255 / 4
    expected = torch.maximum(response.slope(ldr), mean)
    torch.testing.assert_close(response.steepness(ldr), expected, atol=2e-3, rtol=2e-3)


def test_all_channels_have_one_curve() -> None:
    ldr, order = torch.rand(2, 3, 8, 8), [2, 0, 1]
    response = Response.srgb()
    assert torch.equal(response.to_linear(ldr)[:, order], response.to_linear(ldr[:, order]))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("function", ["to_linear", "to_ldr", "slope"])
def test_results_have_the_inputs_shape_and_dtype(function: str, dtype: torch.dtype) -> None:
    ldr = torch.rand(2, 3, 5, 7).to(dtype).transpose(-1, -2)
    result = getattr(Response.srgb(), function)(ldr)
    assert result.shape == ldr.shape
    assert result.dtype == dtype


def test_large_pictures_are_looked_up_in_parts_and_none_is_lost() -> None:
    ldr = torch.rand(700_001, dtype=torch.float64)
    torch.testing.assert_close(Response.gamma(2.0).to_linear(ldr), ldr**2, atol=1e-7, rtol=0)


def test_nan_stays_nan_and_the_rest_is_clipped() -> None:
    linear = Response.srgb().to_linear(torch.tensor([math.nan, -1.0, 2.0, math.inf]))
    assert linear.isnan().tolist() == [True, False, False, False]
    assert linear[1:].tolist() == [0.0, 1.0, 1.0]


def test_integers_are_refused() -> None:
    with pytest.raises(ValueError, match="floating point"):
        Response.srgb().to_linear(torch.zeros(3, dtype=torch.uint8))


@pytest.mark.parametrize(
    "light",
    [
        [],
        [1.0],
        [0.0, 0.5],
        [0.0, 0.5, 0.4, 1.0],
        [0.0, 0.5, 0.5, 1.0],
        [-0.1, 0.5, 1.0],
        [0.0, math.nan, 1.0],
        [0.0, math.inf],
        [0.0, 1.0, 0.9, 1.0],
        [0.0, 2.0, 1.0],
        [1.0, 1.0],
    ],
)
def test_a_table_that_is_no_response_is_refused(light: list[float]) -> None:
    with pytest.raises(ValueError, match="response"):
        Response.table(light)


@pytest.mark.parametrize("white", [248 / 255, 0.8])
def test_a_white_level_scales_light_to_one_there(white: float) -> None:
    response = Response.srgb().with_white_level(white)
    assert response.white_level == pytest.approx(white, abs=1 / 4080)
    ldr = torch.tensor([0.1, 0.3, 0.6], dtype=torch.float64)
    expected = torch.from_numpy(srgb(ldr.numpy()) / srgb(np.array(white)))
    torch.testing.assert_close(response.to_linear(ldr), expected, atol=1e-6, rtol=0)
    assert float(response.to_linear(torch.tensor(white + 0.01))) == 1.0


@pytest.mark.parametrize("white", [0.4, 1.1, math.nan])
def test_a_white_level_outside_the_curve_is_refused(white: float) -> None:
    with pytest.raises(ValueError, match="white level"):
        Response.srgb().with_white_level(white)


@pytest.mark.parametrize(
    "response",
    [Response.srgb(), Response.linear(), Response.gamma(1.9), Response.table([0.0, 0.2, 1.0, 1.0], "my camera")],
)
def test_a_response_is_read_back_as_it_was_saved(tmp_path: Path, response: Response) -> None:
    response.save(tmp_path / "camera.json")
    assert Response.load(tmp_path / "camera.json") == response
    assert Response.parse(str(tmp_path / "camera.json")) == response


def test_the_file_says_what_it_is(tmp_path: Path) -> None:
    Response.srgb().save(tmp_path / "camera.json")
    content = json.loads((tmp_path / "camera.json").read_text("utf-8"))
    assert content["format"] == "hdr camera response"
    assert content["light"][-1] == 1


def test_an_existing_file_is_replaced_only_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "camera.json"
    Response.srgb().save(path)
    with pytest.raises(FileExistsError):
        Response.linear().save(path)
    assert Response.load(path) == Response.srgb()
    Response.linear().save(path, overwrite=True)
    assert Response.load(path) == Response.linear()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x89PNG\r\n\x1a\n\x00\xff", "JSON"),
        (b"0.0 0.1 1.0", "JSON"),
        (b"[0, 0.5, 1]", "format"),
        (b'{"light": [0, 0.5, 1]}', "format"),
        (b'{"format": "hdr camera response", "version": 9, "light": [0, 1]}', "version 9"),
        (b'{"format": "hdr camera response", "version": 1}', "list of numbers"),
        (b'{"format": "hdr camera response", "version": 1, "light": ["0", "1"]}', "list of numbers"),
        (b'{"format": "hdr camera response", "version": 1, "light": [false, true]}', "list of numbers"),
        (b'{"format": "hdr camera response", "version": 1, "light": [1, 0]}', "increase"),
        (b'{"format": "hdr camera response", "version": 1, "light": [0, 1' + 400 * b"0" + b"]}", "too large"),
    ],
)
def test_a_file_of_something_else_is_refused_by_name(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "thing.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as refusal:
        Response.load(path)
    assert str(path) in str(refusal.value)


def test_words_name_responses() -> None:
    assert Response.parse("srgb") == Response.srgb()
    assert Response.parse("linear") == Response.linear()
    assert Response.parse("gamma:2.4") == Response.gamma(2.4)


@pytest.mark.parametrize("text", ["gamma:", "gamma:two", "gamma:0", "gamma:nan", "gamma:50"])
def test_a_gamma_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"gamma:2\.2"):
        Response.parse(text)


def test_an_unknown_word_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(FileNotFoundError, match=r"srgb, linear, gamma:2\.2"):
        Response.parse("rec709")


def test_a_white_level_above_the_curves_own_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must lie in \(0\.5, 0\.8\]"):
        Response.linear().with_white_level(0.8).with_white_level(0.9)


@pytest.mark.parametrize("response", [Response.srgb(), Response.gamma(2.2), Response.linear()])
def test_every_level_of_a_file_can_be_the_white_level(response: Response) -> None:
    assert response.with_white_level(response.white_level) is response
    for level in range(128, 255, 9):
        assert response.with_white_level(level / 255).white_level == pytest.approx(level / 255, abs=1e-9)


def test_light_below_that_of_the_first_value_gives_that_value() -> None:
    ldr = Response.table([0.2, 0.5, 1.0]).to_ldr(torch.tensor([0.0, 0.1, 0.2], dtype=torch.float64))
    torch.testing.assert_close(ldr, torch.zeros(3, dtype=torch.float64), atol=1e-3, rtol=0)
