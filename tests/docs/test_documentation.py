"""The documentation: it builds without a warning, its links lead somewhere, it names everything, its examples run."""

from __future__ import annotations

import ast
import contextlib
import doctest
import functools
import importlib
import io
import re
import shlex
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from captum_ext.cli.app import app as captum_ext_app
from hdr.cli.app import app as hdr_app

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PUBLIC_MODULES = (
    "captum_ext",
    *(f"captum_ext.{room}" for room in ("attr", "classifiers", "evaluation", "methods", "metrics", "plot")),
    *("hdr", "hdr.data", "hdr.nn"),
)
BLOCK = re.compile(r"^```(python|text|sh)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)
# One process builds the site for all tests that look at it.
on_the_site = pytest.mark.xdist_group("site")
PROGRAMS = {"captum-ext": captum_ext_app, "hdr": hdr_app}
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


@on_the_site
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


@on_the_site
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


@on_the_site
def test_formulas_have_a_font_with_mathematical_tables(site):
    styles = (site / "_static" / "site.css").read_text()
    (font,) = re.findall(r'url\("([^"]+)"\)', styles)
    assert b"MATH" in (site / "_static" / font).read_bytes()[:500]  # the font's directory of tables


@on_the_site
def test_pages_load_nothing_from_the_network(pages):
    for path in pages:
        loaded = re.findall(r"<(?:script|img|link|iframe)[^>]*(?:src|href)=\"(https?:[^\"]*)", path.read_text())
        assert not loaded, path


@on_the_site
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


@on_the_site
@pytest.mark.parametrize("module", PUBLIC_MODULES)
def test_every_public_name_is_in_the_reference(module, pages):
    documented = documented_objects(pages)
    exported = importlib.import_module(module)
    missing = [name for name in exported.__all__ if not any(getattr(exported, name) is one for one in documented)]
    assert exported.__all__
    assert not missing


@on_the_site
@pytest.mark.parametrize("program", PROGRAMS)
def test_every_command_is_in_the_reference(program, site):
    text = (site / "reference" / PROGRAM_PAGES[program]).read_text()
    names = [name for name in PROGRAMS[program].resolved_commands() if not name.startswith("-")]
    assert names
    assert all(f'id="{name}"' in text for name in names)


@on_the_site
def test_every_notebook_is_among_the_tutorials(site):
    for notebook in (ROOT / "tutorials").glob("*.ipynb"):
        assert (site / "tutorials" / f"{notebook.stem}.html").is_file()


def expected_output(text: str, code_end: int, block: re.Match[str]) -> bool:
    """Whether a block of text is what the code before it prints: nothing stands between the two."""
    return block[1] == "text" and not text[code_end : block.start()].strip()


# Of pages that ask a network: by how much, relative and absolute, what they print may differ on another processor,
# where one that is trained on the spot is another one, and a given one rounds otherwise. The others say it exactly.
TOLERANCES = {
    "compare.md": (0.35, 0.05),
    "steps.md": (0.35, 0.05),
    "baselines.md": (0.35, 0.05),
    "detectors-and-regression.md": (0.02, 0.001),
    # What the bundled weights give changes with them.
    "explain-hdr.md": (0.05, 0.1),
    "export.md": (0.02, 0.001),
    "bracket.md": (0.02, 0.02),
    "own-code.md": (0.02, 0.0001),
    "memory.md": (0.02, 0.001),
    "own-path.md": (0.02, 0.001),
    "getting-started.md": (0.02, 0.001),
    "language-models.md": (0.02, 0.001),
    "audio.md": (0.05, 0.02),
    "text.md": (0.02, 0.001),
}
MEASURED = re.compile(r"-?\d+\.\d+(?:e[-+]\d+)?|\d+(?=\s?%)")


def says_the_same(expected: str, printed: str, tolerance: tuple[float, float] | None) -> bool:
    """Whether a page says what its code prints: words and whole numbers as they are, measured ones nearly."""
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    if doctest.OutputChecker().check_output(expected, printed, flags):
        return True
    if tolerance is None:
        return False
    rel, absolute = tolerance
    words = [MEASURED.sub("<number>", text).split() for text in (expected, printed)]
    numbers = [[float(number) for number in MEASURED.findall(text)] for text in (expected, printed)]
    return words[0] == words[1] and all(
        found == pytest.approx(said, rel=rel, abs=absolute) for said, found in zip(*numbers, strict=True)
    )


def test_what_a_page_says_of_measured_numbers_may_differ_a_little_and_nothing_else():
    within = (0.35, 0.05)
    assert says_the_same("4 steps: 0.51, 20 %", "4 steps: 0.48, 23 %", within)
    assert not says_the_same("4 steps: 0.51", "5 steps: 0.51", within)
    assert not says_the_same("4 steps: 0.51", "4 steps: 0.91", within)
    assert not says_the_same("True", "False", within)
    assert not says_the_same("4 steps: 0.51", "4 steps: 0.50", None)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_blocks_run_in_order_and_print_what_the_page_says(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = page.read_text(encoding="utf-8")
    namespace: dict[str, Any] = {"__name__": "__main__"}
    printed, code_end = "", -1
    for block in BLOCK.finditer(text):
        if block[1] == "python":
            line = text[: block.start()].count("\n") + 1
            output = io.StringIO()
            with contextlib.redirect_stdout(output):
                # Empty lines before the code, so that a traceback names the line of the page.
                exec(compile("\n" * line + block[2], str(page), "exec"), namespace)
            printed, code_end = output.getvalue(), block.end()
        elif code_end > 0 and expected_output(text, code_end, block):
            assert says_the_same(block[2], printed, TOLERANCES.get(page.name)), f"{page}: printed {printed!r}"


@functools.cache
def words_of_the_code() -> str:
    """All that ``hdr`` may say, with ``{}`` for what it fills in, one text a line."""
    said = []
    for path in (ROOT / "hdr").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                said.append("".join(str(p.value) if isinstance(p, ast.Constant) else "{}" for p in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                said.append(node.value)
    return "\n".join(said)


def quoted_messages() -> list[str]:
    text = (ROOT / "docs" / "how-to" / "when-things-go-wrong.md").read_text(encoding="utf-8")
    tables = text[: text.index("## It looks wrong")]
    return re.findall(r"^\| `([^`]+)`", tables, flags=re.MULTILINE)


@pytest.mark.parametrize("message", quoted_messages())
def test_messages_that_are_explained_are_ones_that_are_said(message):
    pattern = r"[^\n]*".join(re.escape(piece) for piece in re.split(r" ?\.\.\. ?", message))
    assert re.search(pattern, words_of_the_code())


def test_there_are_messages_that_are_explained():
    assert len(quoted_messages()) > 30


def shell_commands() -> list[Any]:
    found = []
    for page in PAGES:
        for block in BLOCK.finditer(page.read_text(encoding="utf-8")):
            if block[1] == "sh":
                found += [
                    pytest.param(shlex.split(line, comments=True), id=line)
                    for line in block[2].replace("\\\n", " ").splitlines()
                    if line.startswith((*(f"{program} " for program in PROGRAMS), "torchrun "))
                ]
    return found


@pytest.mark.parametrize("words", shell_commands())
def test_command_lines_are_ones_that_the_programs_take(words):
    if words[0] == "torchrun":
        words = words[words.index("-m") + 1 :]
        words = [words[0].removesuffix(".cli").replace("_", "-"), *words[1:]]
    program, *arguments = words
    # Raises for an option that is not there.
    PROGRAMS[program].parse_args(arguments, print_error=False, exit_on_error=False)
