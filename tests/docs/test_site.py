"""The built site: no warning, its links lead somewhere, it names everything, and needs no network."""

from __future__ import annotations

import contextlib
import importlib
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from tests.docs.test_documentation import PROGRAMS, ROOT

PUBLIC_MODULES = (
    "captum_ext",
    *(f"captum_ext.{room}" for room in ("attr", "classifiers", "evaluation", "methods", "metrics", "plot")),
    *("hdr", "hdr.data", "hdr.nn"),
)
PROGRAM_PAGES = {"captum-ext": "command-line.html", "hdr": "hdr-command-line.html"}


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    options = ["-W", "--keep-going", "-n", "-q", "-b", "html", "-d", folder / "doctrees"]
    command = [sys.executable, "-m", "sphinx", *options, ROOT / "docs", folder / "html"]
    finished = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return folder / "html"


class Page(HTMLParser):
    """What a page refers to, and what in it can be referred to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.anchors |= {value for name, value in attrs if name == "id" and value}
        self.links += [value for name, value in attrs if name in ("href", "src") and value]


@pytest.fixture(scope="module")
def pages(site) -> dict[Path, Page]:
    return {path: Page(path) for path in site.rglob("*.html")}


def test_internal_links_lead_to_files_and_anchors_that_are_there(pages):
    broken = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            found = target.is_file() and (
                target not in pages or not parts.fragment or unquote(parts.fragment) in pages[target].anchors
            )
            if not found:
                broken.append((path.name, link))
    assert not broken


class Tables(HTMLParser):
    """The tables of a page, as rows of cells, each of which is a list of words."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.found: list[list[list[list[str]]]] = []
        self._cell: list[str] | None = None
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "table":
            self.found.append([])
        elif self.found and tag == "tr":
            self.found[-1].append([])
        elif self.found and tag in ("td", "th"):
            self._cell = []
            self.found[-1][-1].append(self._cell)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._cell = None

    def handle_data(self, data: str) -> None:
        if self._cell is not None:
            self._cell += data.split()


def test_tables_are_no_wider_than_the_text(site):
    """From 1,000 pixels on the text is 46 em wide, and a cell can be no narrower than its longest word."""
    from matplotlib import font_manager  # which brings the font
    from PIL import ImageFont

    size, padding, text_width = 16, 17, 46 * 16
    # DejaVu Sans is wider than what browsers take by a tenth; code is smaller, but of wide letters.
    font = ImageFont.truetype(font_manager.findfont("DejaVu Sans"), 100)
    too_wide = []
    for page in site.rglob("*.html"):
        for table in Tables(page).found:
            columns = max(map(len, table), default=0)
            longest = [
                max(font.getlength(word) for row in table if len(row) > i for word in row[i] or [""])
                for i in range(columns)
            ]
            width = sum(longest) * 0.9 * size / 100 + columns * padding
            if width > text_width:
                too_wide.append((page.name, round(width), table[0]))
    assert not too_wide


def test_formulas_have_a_font_with_mathematical_tables(site):
    styles = (site / "_static" / "site.css").read_text()
    (font,) = re.findall(r'url\("([^"]+)"\)', styles)
    assert b"MATH" in (site / "_static" / font).read_bytes()[:500]  # the font's directory of tables


def test_pages_load_nothing_from_the_network(pages):
    for path in pages:
        loaded = re.findall(r"<(?:script|img|link|iframe)[^>]*(?:src|href)=\"(https?:[^\"]*)", path.read_text())
        assert not loaded, path


def test_signatures_hold_no_address_of_an_object(site):
    found = {path.name: re.findall(r"at 0x[0-9a-f]{6,}", path.read_text()) for path in site.glob("reference/*.html")}
    assert len(found) > 10
    assert not any(found.values()), found


def documented_objects(pages: dict[Path, Page]) -> list[Any]:
    found = []
    for path, page in pages.items():
        if path.parent.name == "reference":
            for anchor in page.anchors:
                module, _, name = anchor.rpartition(".")
                if module.startswith(("captum_ext", "hdr")):
                    with contextlib.suppress(ImportError):
                        found.append(getattr(importlib.import_module(module), name, None))
    return found


@pytest.mark.parametrize("module", PUBLIC_MODULES)
def test_every_public_name_is_in_the_reference(module, pages):
    documented = documented_objects(pages)
    exported = importlib.import_module(module)
    missing = [name for name in exported.__all__ if not any(getattr(exported, name) is one for one in documented)]
    assert exported.__all__
    assert not missing


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_command_is_in_the_reference(program, site):
    text = (site / "reference" / PROGRAM_PAGES[program]).read_text()
    names = [name for name in PROGRAMS[program].resolved_commands() if not name.startswith("-")]
    assert names
    assert all(f'id="{name}"' in text for name in names)


def test_every_notebook_is_among_the_tutorials(site):
    for notebook in (ROOT / "tutorials").glob("*.ipynb"):
        assert (site / "tutorials" / f"{notebook.stem}.html").is_file()
