"""The report: one page that needs nothing else, holds every picture, and says nothing as markup that was a name."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from captum_ext.evaluation import METRICS
from captum_ext.evaluation import report as report_module
from captum_ext.evaluation.outcome import write_outcome
from captum_ext.evaluation.report import Findings
from captum_ext.evaluation.settings import EvaluationSettings
from captum_ext.evaluation.store import ResultStore, jpeg, png
from captum_ext.evaluation.table import summarize, table_of
from captum_ext.methods import chosen_methods
from tests.programs import LAYOUT, asked_in_browser

VOID = {"meta", "img", "br", "link", "input", "hr"}
SETTINGS = EvaluationSettings(methods=("ig", "gradcam:a<b"), metrics=("deletion", "sic"))
VERSIONS = {"captum-ext": "0.1", "captum": "0.9", "torch": "2.6", "weights_sha256": "0" * 64}
NAMES = ["cats/one.png", '<script>alert(1)</script> & "two".png', "three.png"]


class Page(HTMLParser):
    """Checks that tags are closed in order, and collects what a test asks about."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def found(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


def save(store: ResultStore, name: str, value: float, refused: bool = False) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    falling, rising = np.linspace(1, 0, 5, dtype="<f4"), np.linspace(0, 1, 1001, dtype="<f4")
    about = {"class_index": 1, "class_name": "a <b> cat", "probability": 0.75, "predicted": "dog"}
    store.save({"image": name, **about}, {"image": jpeg(pixels)})
    metrics = {"deletion": {"value": value}, "sic": {"refused": "scores <too> little"} if refused else {"value": value}}
    arrays = {"map": png(pixels[..., 0]), "curve:deletion": falling.tobytes()}
    if not refused:
        arrays["curve:sic"] = rising.tobytes()
    for method in SETTINGS.methods:
        store.save({"image": name, "method": method, "seconds": 2.0, "metrics": metrics}, arrays)


def write(directory: Path, *, all_fail: bool = False) -> None:
    store = ResultStore(directory)
    store.open({}, VERSIONS, [])
    if not all_fail:
        save(store, NAMES[0], 0.25)
        save(store, NAMES[1], 0.5, refused=True)
    store.save({"image": NAMES[2], "error": "is not a picture"}, {})
    found = table_of(store, NAMES, SETTINGS.methods, SETTINGS.metrics)
    metrics = {name: METRICS[name] for name in SETTINGS.metrics}
    summary = summarize(found, metrics)
    findings = Findings(SETTINGS, "some data", VERSIONS, chosen_methods(SETTINGS.methods), metrics, found, summary)
    write_outcome(store, NAMES, findings)


@pytest.fixture(scope="module")
def directory(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("report")
    write(directory)
    return directory


@pytest.fixture(scope="module")
def page(directory: Path) -> Page:
    return Page((directory / "report.html").read_text())


def test_page_is_well_formed_and_needs_no_other_file(directory, page):
    text = (directory / "report.html").read_text()
    assert text.startswith("<!DOCTYPE html>")
    assert page.open == []
    assert not page.found("script") + page.found("link") + page.found("iframe")
    referring = {"src", "href", "srcset", "data", "action"}
    references = [value for _, tag in page.tags for name, value in tag.items() if name in referring]
    assert references
    assert all(value.startswith(("data:image/jpeg;base64,", "data:image/png;base64,")) for value in references)
    assert not re.search(r"https?:|@import|url\(", text)


def test_every_picture_is_there_with_a_map_for_each_method(page):
    assert [a["data-image"] for a in page.found("article")] == NAMES
    alternatives = [a["alt"] for a in page.found("img")]
    assert alternatives.count(NAMES[0]) == alternatives.count(NAMES[1]) == 1
    assert alternatives.count("IG") == alternatives.count("Grad-CAM (a<b)") == 2
    for image in page.found("img"):
        content = base64.b64decode(image["src"].split(",")[1])
        with Image.open(io.BytesIO(content)) as picture:
            assert min(picture.size) >= 40


def test_tables_hold_means_wins_refusals_failures_settings_and_versions(page):
    text = " ".join(" ".join(page.text).split())
    assert "0.375" in text  # mean of 0.25 and 0.5
    assert "0/2" in text  # equal values are no wins
    assert "SIC; all methods refused scores <too> little" in text
    assert "all metrics; all methods failed is not a picture" in text
    assert "a <b> cat 75.0 %, predicted as dog" in text
    assert "captum-ext evaluate 'some data' --methods 'ig,gradcam:a<b' --metrics deletion,sic" in text
    assert "captum-ext 0.1, captum 0.9, torch 2.6, weights 000000000000" in text


def test_evaluation_without_any_value_has_a_report_too(tmp_path):
    write(tmp_path, all_fail=True)
    page = Page((tmp_path / "report.html").read_text())
    assert page.open == []
    assert not page.found("img")
    assert "is not a picture" in " ".join(page.text)


def test_thousands_of_pictures_are_counted_and_the_first_are_shown(tmp_path, monkeypatch):
    monkeypatch.setattr(report_module, "MAX_IMAGES", 2)
    write(tmp_path)
    page = Page((tmp_path / "report.html").read_text())
    assert len(page.found("article")) == 2
    assert "The first 2 of 3 images are shown" in " ".join(" ".join(page.text).split())


def test_figures_are_written_for_papers_too(directory):
    found = {path.name for path in (directory / "figures").iterdir()}
    assert found == {f"{name}.{suffix}" for name in ("means", "deletion", "sic") for suffix in ("png", "pdf")}
    assert (directory / "figures" / "sic.pdf").read_bytes().startswith(b"%PDF")


def test_figure_of_many_curves_is_drawn_from_some_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("captum_ext.evaluation.outcome.MOST_NUMBERS_DRAWN", 5)
    write(tmp_path)
    captions = " ".join(Page((tmp_path / "report.html").read_text()).text)
    assert "by that of the whole image; curves of 1 of 2 images" in captions  # deletion: two curves of five points
    assert captions.count("curves of 1 of") == 1  # sic: one curve, of which all is drawn


@pytest.mark.parametrize("width", [1200, 390])  # a desk's, a phone's
def test_the_page_is_whole_in_a_browser(tmp_path, width):
    write(tmp_path / "results")
    page = (tmp_path / "results" / "report.html").read_text(encoding="utf-8")
    found = asked_in_browser(page, LAYOUT, tmp_path, width)
    assert found.pop("shown").count(NAMES[0]) == 1
    assert found == {"beyond": 0, "broken": [], "squeezed": 0}
