"""The page about a bracket: one file, well formed, small, and true to the radiance."""

from __future__ import annotations

import base64
import colorsys
import dataclasses
import os
import re
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hdr.alignment import Alignment
from hdr.bracket import Bracket
from hdr.calibration import Calibration
from hdr.merge import MergedBracket, Merger
from hdr.report import LONGEST_SIDE, encode_log2, write_report
from hdr.response import Response
from tests.hdr.brackets import textured
from tests.programs import LAYOUT, asked_in_browser

VOID = {"meta", "img", "input", "br", "link", "hr"}
EXPOSURES = torch.tensor([1.0, 4.0, 16.0])


class Page(HTMLParser):
    """Every element with its attributes, and the text between; an element that is not closed in its turn fails."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self._open or self._open[-1] not in ("style", "script"):
            self.text += data

    def by_id(self, name: str) -> dict[str, str | None]:
        return next(attributes for _, attributes in self.elements if attributes.get("id") == name)


def picture(source: str | None) -> Image.Image:
    assert source is not None
    return Image.open(BytesIO(base64.b64decode(source.partition("base64,")[2])))


def pixels_of(path: Path, name: str) -> np.ndarray:
    """A picture of the page, by what stands in its place: (H, W, 3), in [0, 1]."""
    page = Page(path.read_text(encoding="utf-8"))
    source = next(attributes["src"] for _, attributes in page.elements if attributes.get("alt") == name)
    return np.asarray(picture(source)) / 255


def merged_of(bracket: Bracket, radiance: torch.Tensor, displacement: torch.Tensor | None = None) -> MergedBracket:
    height, width = bracket.size
    if displacement is None:
        displacement = torch.zeros(bracket.count, 2, height, width)
    weights = torch.full((bracket.count, height, width), 1 / bracket.count, dtype=torch.float16)
    return MergedBracket(radiance, weights, Alignment(displacement, bracket.size))


@pytest.fixture(scope="module")
def bracket() -> Bracket:
    scene = textured(96, 128)
    ldr = (scene * EXPOSURES.view(3, 1, 1, 1)).clamp(0, 1).pow(1 / 2.2)
    return Bracket(ldr, EXPOSURES)


def page_of(path: Path, bracket: Bracket, merged: MergedBracket, **options) -> Page:
    write_report(path, bracket, merged, **options)
    return Page(path.read_text(encoding="utf-8"))


def test_the_page_is_well_formed_and_needs_no_other_file(tmp_path, bracket):
    page = page_of(tmp_path / "a.html", bracket, Merger("none", device="cpu").with_weights(bracket))
    assert [tag for tag, _ in page.elements].count("img") == 3 + 2 + 3  # exposures, displacements, merged twice, map
    assert not any(tag == "link" for tag, _ in page.elements)
    sources = [value for _, attributes in page.elements for name in ("src", "href") if (value := attributes.get(name))]
    assert all(source.startswith("data:image/") for source in sources)
    rest = re.sub(r'data:image/\w+;base64,[^"]+', "", (tmp_path / "a.html").read_text(encoding="utf-8"))
    assert "//" not in rest.replace("// of each code", "")
    assert "url(" not in rest
    assert [path.name for path in tmp_path.iterdir()] == ["a.html"]


def test_the_sliders_picture_decodes_to_the_radiance(tmp_path, bracket):
    radiance = textured(96, 128) * torch.logspace(-2, 1, 128)
    radiance[:, :4] = 0
    page = page_of(tmp_path / "a.html", bracket, merged_of(bracket, radiance))
    coded = page.by_id("coded")
    lowest, step = float(coded["data-lowest"]), float(coded["data-step"])
    codes = np.asarray(picture(coded["src"])).astype(float)
    light = np.where(codes > 0, 2 ** (lowest + (codes - 1) * step), 0)
    truth = radiance.permute(1, 2, 0).numpy()
    assert step <= 14 / 254
    assert (light[:4] == 0).all()
    shown = truth > truth.max() / 2**13.9
    assert shown.mean() > 0.8
    assert np.abs(np.log2(light[shown] / truth[shown])).max() <= step / 2 + 1e-4


@pytest.mark.parametrize("level", [0.0, 1e-7, 3.0])
def test_light_of_one_level_is_encoded(level):
    codes, lowest, step = encode_log2(torch.full((3, 2, 2), level))
    light = np.where(codes > 0, 2 ** (lowest + (codes.astype(float) - 1) * step), 0)
    np.testing.assert_allclose(light, level, rtol=1e-3)


def test_light_far_below_the_brightest_is_black():
    codes, lowest, step = encode_log2(torch.tensor([2.0**-20, 2.0**-12, 2.0]).expand(1, 1, 3).permute(2, 0, 1))
    assert (codes.flatten()[0], codes.flatten()[2], lowest) == (0, 255, -13)
    assert lowest + (int(codes.flatten()[1]) - 1) * step == pytest.approx(-12, abs=step / 2)


def test_names_and_notes_stand_as_text(tmp_path, bracket):
    names = ('<script>alert("a")</script>.jpg', "b&amp;.jpg", "c'$title'.jpg")
    calibration = Calibration(Response.gamma(2.2), notes=("<i>dark</i> & unknown",))
    named = Bracket(bracket.ldr, EXPOSURES, names, calibration)
    notes = ['"</ul>" is no end', "<i>dark</i> & unknown"]
    merged = merged_of(named, textured(96, 128))
    page = page_of(tmp_path / "a.html", named, merged, notes=notes)
    assert all(page.text.count(name) >= 4 for name in names)  # title, heading, caption, table
    assert notes[0] in page.text
    assert page.text.count(notes[1]) == 1  # of the calibration, and raised: one note
    assert [tag for tag, _ in page.elements].count("script") == 1
    assert not any(tag == "i" for tag, _ in page.elements)


def test_names_that_are_no_text_are_told_by_their_bytes(tmp_path, bracket):
    named = dataclasses.replace(bracket, names=(os.fsdecode(b"caf\xe9.jpg"), *bracket.names[1:]))
    page = page_of(tmp_path / "a.html", named, Merger().with_weights(named), notes=[named.names[0]])
    assert page.text.count(r"caf\xe9.jpg") > 2


def test_what_was_estimated_is_told(tmp_path, bracket):
    calibration = Calibration(
        Response.gamma(2.2), 0.97, 3e-5, 2e-6, corrections=(0.0, 0.12, -0.001), disagreement=(0.07, float("nan"))
    )
    told = Bracket(bracket.ldr, EXPOSURES, (), calibration)
    displacement = torch.zeros(3, 2, 48, 64)
    displacement[2, :, 20, 30] = torch.tensor([3.0, 4.0])
    page = page_of(tmp_path / "a.html", told, merged_of(told, textured(96, 128), displacement))
    words = " ".join(page.text.split())
    for expected in ("gamma:2.2", "0.97 of the", "3e-05 L + 2e-06", "at most 0.0 pixels", "at most 5.0 pixels"):
        assert expected in words
    rows = re.findall(r"<tr>(<td>.*?)</tr>", (tmp_path / "a.html").read_text(encoding="utf-8"))
    assert [re.findall(r"<td>(.*?)</td>", row) for row in rows] == [
        ["exposure 1", "1", "+0.00", "", "not known"],
        ["exposure 2", "4", "+0.12", "0.07", "reference"],
        ["exposure 3", "16", "+0.00", "not known", "not known"],
    ]


def test_a_displacement_is_drawn_by_direction_and_length(tmp_path, bracket):
    displacement = torch.zeros(3, 2, 96, 128)
    displacement[0, 0, :, :64] = 5.0  # to the right, which is red
    displacement[0, 1, :, 64:] = -2.5  # upwards, half as far
    page_of(tmp_path / "a.html", bracket, merged_of(bracket, textured(96, 128), displacement))
    drawn = pixels_of(tmp_path / "a.html", "Displacement of exposure 1")
    np.testing.assert_allclose(drawn[48, 32], colorsys.hsv_to_rgb(0.0, 1, 1), atol=0.06)
    np.testing.assert_allclose(drawn[48, 96], colorsys.hsv_to_rgb(0.75, 1, 0.5), atol=0.06)


@pytest.mark.parametrize("swapped", [False, True])
def test_linear_files_are_shown_as_eyes_see_them(tmp_path, swapped):
    colour = torch.tensor([0.2, 0.4, 0.1])
    ldr = torch.stack([colour / 2, colour]).view(2, 3, 1, 1).expand(2, 3, 40, 56)
    to_rec709 = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]) if swapped else None
    linear = Bracket(ldr, EXPOSURES[:2], (), Calibration(Response.linear()), to_rec709=to_rec709)
    page_of(tmp_path / "a.html", linear, merged_of(linear, textured(40, 56)))
    shown = pixels_of(tmp_path / "a.html", "exposure 2").mean((0, 1))
    np.testing.assert_allclose(shown, colour[[1, 0, 2] if swapped else [0, 1, 2]] ** (1 / 2.2), atol=0.02)


def test_notes_of_the_calibration_and_what_stands_still_are_told(tmp_path, bracket):
    noted = Bracket(bracket.ldr, EXPOSURES, (), Calibration(Response.gamma(2.2), notes=("the white level is a guess",)))
    merged = merged_of(noted, textured(96, 128))
    merged = merged._replace(alignment=dataclasses.replace(merged.alignment, still=(False, False, True)))
    page = page_of(tmp_path / "a.html", noted, merged)
    assert "the white level is a guess" in page.text
    rows = re.findall(r"<tr>(<td>.*?)</tr>", (tmp_path / "a.html").read_text(encoding="utf-8"))
    assert [re.findall(r"<td>(.*?)</td>", row)[-1] for row in rows] == ["no", "reference", "yes"]


def test_a_large_bracket_makes_a_small_page(tmp_path):
    # Noise, which nothing compresses: the worst that a photograph can be.
    noise = torch.rand(3, 1800, 2400, generator=torch.Generator().manual_seed(0))
    large = Bracket(noise.half().expand(5, -1, -1, -1), 4.0 ** torch.arange(5))
    page = page_of(tmp_path / "a.html", large, merged_of(large, noise.pow(6), torch.zeros(5, 2, 900, 1200)))
    assert (tmp_path / "a.html").stat().st_size < 3_000_000
    assert picture(page.by_id("tone-mapped")["src"]).size == (LONGEST_SIDE, LONGEST_SIDE * 3 // 4)


def test_an_existing_file_is_refused_and_kept(tmp_path, bracket):
    path = tmp_path / "a.html"
    path.write_text("mine")
    merged = merged_of(bracket, textured(96, 128))
    with pytest.raises(FileExistsError, match="--force"):
        write_report(path, bracket, merged)
    assert path.read_text() == "mine"
    write_report(path, bracket, merged, overwrite=True)
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


@pytest.mark.parametrize("row", [0, -1])
def test_a_page_that_cannot_be_made_leaves_nothing(tmp_path, monkeypatch, bracket, row):
    monkeypatch.setattr("hdr.report._ROWS_AT_ONCE", 16)
    radiance = textured(96, 128)
    radiance[0, row, 0] = float("nan")
    with pytest.raises(ValueError, match="NaN or infinite"):
        write_report(tmp_path / "a.html", bracket, merged_of(bracket, radiance))
    with pytest.raises(ValueError, match=r"\.html"):
        write_report(tmp_path / "a.htm", bracket, merged_of(bracket, textured(96, 128)))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("width", [1200, 390])  # a desk's, a phone's
def test_the_page_is_whole_in_a_browser(tmp_path, bracket, width):
    names = ("DSC_0100 of the first evening.JPG", "DSC_0101.JPG", "DSC_0102.JPG")
    told = Bracket(bracket.ldr, EXPOSURES, names, Calibration(Response.gamma(2.2), corrections=(0.0, 0.12, -0.001)))
    write_report(tmp_path / "a.html", told, Merger("none", device="cpu").with_weights(told))
    found = asked_in_browser((tmp_path / "a.html").read_text(encoding="utf-8"), LAYOUT, tmp_path, width)
    maps = ["Map of the exposures", f"Displacement of {names[0]}", f"Displacement of {names[2]}"]
    # The canvas takes the place of the tone-mapped picture, and the coded one is not for eyes.
    assert found == {"beyond": 0, "broken": [], "shown": [*names, *maps], "squeezed": 0}


def test_the_slider_exposes_the_light_in_a_browser(tmp_path, bracket):
    radiance = torch.linspace(0.01, 1, 128).expand(3, 96, 128).clone()
    radiance[1:, 48:] *= 0.5
    write_report(tmp_path / "a.html", bracket, merged_of(bracket, radiance))
    question = """
        const canvas = document.getElementById("merged"), slider = document.getElementById("exposure");
        return [null, -2, 0, 3].map((ev) => {
          if (ev !== null) { slider.value = ev; slider.dispatchEvent(new window.Event("input")); }
          const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
          return [Number(slider.value), document.getElementById("ev").textContent, Array.from(pixels)];
        });
    """
    told = asked_in_browser((tmp_path / "a.html").read_text(encoding="utf-8"), question, tmp_path)
    luminance = 0.2126 * radiance[0] + 0.7152 * radiance[1] + 0.0722 * radiance[2]
    assert told[0][0] == pytest.approx(np.log2(0.18) - float(luminance.log2().mean()), abs=0.051)  # middle grey, to 0.1
    assert [words for _, words, _ in told[1:]] == ["-2.0 EV", "0.0 EV", "+3.0 EV"]
    for ev, _, pixels in told:
        light = (radiance.permute(1, 2, 0).numpy() * 2**ev).clip(0, 1)
        signal = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)  # IEC 61966-2-1
        found = np.array(pixels).reshape(96, 128, 4)
        assert (found[..., 3] == 255).all()
        assert np.abs(found[..., :3] / 255 - signal).max() < 0.02


@pytest.mark.parametrize("level", [1e-3, 1.0, 300.0])
def test_the_slider_begins_between_all_black_and_all_white(tmp_path, bracket, level):
    radiance = level * textured(96, 128)
    slider = page_of(tmp_path / "a.html", bracket, merged_of(bracket, radiance)).by_id("exposure")
    least, begins, most = (float(slider[name] or "nan") for name in ("min", "value", "max"))
    assert least < begins < most
    assert float(radiance.max()) * 2**least < 1 / 4  # 2 EV below white and more
    assert float(radiance.min()) * 2**most > 0.99


@pytest.mark.parametrize(("steps", "code"), [(-0.8, 0), (-0.3, 1), (0.0, 1), (0.3, 1), (0.7, 2)])
def test_what_is_held_ends_half_a_step_below_the_darkest_code(steps, code):
    light = 2.0 ** torch.tensor([1.0, 1.0 - 14 + steps * 14 / 254, 1.0 - 15])
    codes, lowest, step = encode_log2(light.expand(1, 3, 3).permute(2, 0, 1).transpose(0, 2).contiguous())
    assert (lowest, step) == (pytest.approx(-13), pytest.approx(14 / 254))
    assert sorted(codes.flatten().tolist()) == [0] * 3 + [code] * 3 + [255] * 3


def test_every_number_of_the_page_is_the_brackets(tmp_path):
    exposures = torch.tensor([1.0, 2.512, 16.0, 99.97])
    ldr = textured(40, 56).expand(4, 3, 40, 56)
    calibration = Calibration(Response.gamma(2.2), levels=4095, disagreement=(0.07, 0.11, 0.13))
    told = Bracket(ldr, exposures, (), calibration, reference_index=2)
    page = page_of(tmp_path / "a.html", told, merged_of(told, textured(24, 50)))  # cropped
    words = " ".join(page.text.split())
    assert "50 x 24 pixels at the instant of exposure 3, from 4 exposures" in words
    assert re.search(r"Levels of the files\s*4095", words)
    for text in ("1 x the light", "2.512 x the light", "16 x the light of the shortest, reference", "99.97 x the"):
        assert text in words
    rows = re.findall(r"<tr>(<td>.*?)</tr>", (tmp_path / "a.html").read_text(encoding="utf-8"))
    assert [re.findall(r"<td>(.*?)</td>", row)[3] for row in rows] == ["", "0.07", "0.11", "0.13"]


def test_the_slider_of_a_picture_that_is_nearly_black_begins_within_its_range(tmp_path, bracket):
    radiance = torch.zeros(3, 96, 128)
    radiance[:, 40, 60] = 1.0
    slider = page_of(tmp_path / "a.html", bracket, merged_of(bracket, radiance)).by_id("exposure")
    least, begins, most = (float(slider[name] or "nan") for name in ("min", "value", "max"))
    assert least <= begins <= most


def test_files_of_other_colours_are_shown_in_rec_709_by_whatever_response(tmp_path):
    colour = torch.tensor([0.2, 0.4, 0.1])
    ldr = colour.view(3, 1, 1).expand(2, 3, 40, 56)
    swap = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    other = Bracket(ldr, EXPOSURES[:2], (), Calibration(Response.gamma(2.2)), to_rec709=swap)
    page_of(tmp_path / "a.html", other, merged_of(other, textured(40, 56)))
    shown = pixels_of(tmp_path / "a.html", "exposure 2").mean((0, 1))
    np.testing.assert_allclose(shown, colour[[1, 0, 2]], atol=0.02)


def test_the_map_has_one_colour_for_exposures_of_the_same_light(tmp_path):
    exposures = torch.tensor([1.0, 1.0, 4.0])
    same = Bracket(textured(40, 56).expand(3, 3, 40, 56), exposures, (), Calibration(Response.gamma(2.2)))
    merged = merged_of(same, textured(40, 56))
    merged.weights[:] = torch.tensor([0.0, 1.0, 0.0]).view(3, 1, 1)
    page_of(tmp_path / "a.html", same, merged)
    shown = pixels_of(tmp_path / "a.html", "Map of the exposures").mean((0, 1))
    np.testing.assert_allclose(shown, (0.90, 0.25, 0.15), atol=0.02)  # the shortest's


def test_a_strip_is_reduced_to_a_row(tmp_path):
    # 16 rows of 14000 columns: of 400 columns they are less than half a row.
    strip = Bracket(torch.full((3, 1, 1), 0.3).expand(2, 3, 16, 14_000), EXPOSURES[:2])
    merged = merged_of(strip, torch.full((3, 16, 14_000), 0.1), torch.zeros(2, 2, 8, 7000))
    page_of(tmp_path / "a.html", strip, merged)
    assert pixels_of(tmp_path / "a.html", "exposure 1").shape == (1, 400, 3)
