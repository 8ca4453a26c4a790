"""The pages of the documentation: their examples run, and what they quote is what is said."""

from __future__ import annotations

import ast
import contextlib
import doctest
import functools
import io
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from captum_ext.cli.app import app as captum_ext_app
from hdr.cli.app import app as hdr_app
from tests.hdr.exported import share_exports

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(python|text|sh)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)
PROGRAMS = {"captum-ext": captum_ext_app, "hdr": hdr_app}


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
def test_python_blocks_run_in_order_and_print_what_the_page_says(page, tmp_path, tmp_path_factory, monkeypatch):
    monkeypatch.chdir(tmp_path)
    share_exports(monkeypatch, tmp_path_factory.getbasetemp())
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
