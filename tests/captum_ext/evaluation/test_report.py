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

from captum_ext.evaluation import report as report_module
from captum_ext.evaluation.figures import write_figures
from captum_ext.evaluation.measures import Measurement
from captum_ext.evaluation.report import Findings, write_report
from captum_ext.evaluation.results import PictureResult
from captum_ext.evaluation.settings import EvaluationSettings
from captum_ext.evaluation.statistics import summarize
from captum_ext.evaluation.store import MethodPart, PicturePart, SeenClass

VOID = {"meta", "img", "br", "link", "input", "hr"}
SETTINGS = EvaluationSettings(Path("some data"), "resnet50", None, ("ig", "gradcam:a<b"), ("deletion", "sic"))
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


def result(name: str, value: float, refused: bool = False) -> PictureResult:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    falling, rising = np.linspace(1, 0, 5, dtype=np.float32), np.linspace(0, 1, 1001, dtype=np.float32)
    sic = Measurement(float("nan"), None, "scores <too> little") if refused else Measurement(value, rising)
    part = MethodPart({"deletion": Measurement(value, falling), "sic": sic}, 2.0, pixels[..., 0], 0.5)
    picture = PicturePart(SeenClass(1, "a <b> cat", 0.75, "dog"), pixels)
    return PictureResult(name, picture, dict.fromkeys(SETTINGS.methods, part))


FAILED = PictureResult(NAMES[2], PicturePart(None, None, "is not a picture"), {})
RESULTS = [result(NAMES[0], 0.25), result(NAMES[1], 0.5, refused=True), FAILED]


def findings(results: list[PictureResult], directory: Path | None = None) -> Findings:
    rows = [row for found in results for row in found.rows(SETTINGS)]
    summaries = summarize(rows, SETTINGS.methods, SETTINGS.metrics)
    figures = {} if directory is None else write_figures(directory, results, summaries, SETTINGS)
    return Findings(SETTINGS, results, rows, summaries, figures)


@pytest.fixture(scope="module")
def directory(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("report")
    write_report(directory, findings(RESULTS, directory))
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
    assert [a["data-picture"] for a in page.found("article")] == NAMES
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
    assert "captum-ext evaluate 'some data' --model resnet50 --methods 'ig,gradcam:a<b' --metrics deletion,sic" in text
    assert re.search(r"captum-ext \d.*captum \d.*torch \d", text)


def test_evaluation_without_any_value_has_a_report_too(tmp_path):
    page = Page(write_report(tmp_path, findings([FAILED], tmp_path)).read_text())
    assert page.open == []
    assert not page.found("img")
    assert "is not a picture" in " ".join(page.text)


def test_thousands_of_pictures_are_counted_and_the_first_are_shown(tmp_path, monkeypatch):
    monkeypatch.setattr(report_module, "MAX_PICTURES", 2)
    page = Page(write_report(tmp_path, findings(RESULTS)).read_text())
    assert len(page.found("article")) == 2
    assert "The first 2 of 3 pictures are shown" in " ".join(" ".join(page.text).split())


def test_figures_are_written_for_papers_too(directory):
    found = {path.name for path in (directory / "figures").iterdir()}
    assert found == {f"{name}.{suffix}" for name in ("means", "deletion", "sic") for suffix in ("png", "pdf")}
    assert (directory / "figures" / "sic.pdf").read_bytes().startswith(b"%PDF")
