"""What is refused is told from what is wrong with the program, wherever in the package it is refused."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import hdr
from hdr._errors import RefusedError
from hdr.cli.app import app
from hdr.exposure_check import ExposureMismatchError
from hdr.registration import RegistrationError

MODULES = sorted(Path(hdr.__file__).parent.rglob("*.py"))
COMMANDS = ("merge", "tonemap", "evaluate", "train", "export", "demo")


@pytest.mark.parametrize("refused", [RefusedError, ExposureMismatchError, RegistrationError])
def test_a_refusal_is_a_value_error(refused: type[Exception]) -> None:
    assert issubclass(refused, ValueError)
    assert issubclass(refused, RefusedError)


def test_nothing_is_refused_by_a_plain_value_error() -> None:
    # It would be taken for a mistake of NumPy's or of ours, and be a traceback on the command line.
    plain = [
        f"{path}:{node.lineno}"
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Raise)
        and isinstance(node.exc, ast.Call)
        and isinstance(node.exc.func, ast.Name)
        and node.exc.func.id == "ValueError"
    ]
    assert plain == []


def sentences_with_options() -> Iterator[str]:
    """What the library says that names an option of the command line, with ``{}`` for what it fills in."""
    for path in MODULES:
        if "cli" in path.relative_to(Path(hdr.__file__).parent).parts:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                text = "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
                text = node.value
            else:
                continue
            if re.search(r"--[a-z]", text):
                yield text


@pytest.mark.parametrize("sentence", [*sentences_with_options()])
def test_what_the_library_says_is_right_for_python_too(sentence: str) -> None:
    # An option stands in parentheses, without which the sentence is whole; or what it is in Python does, behind it.
    in_python = re.sub(r"--[a-z-]+ \([^()]* in Python\)", "", sentence)
    assert "--" not in re.sub(r"\([^()]*\)", "", in_python)
    # The reference is an index in Python, and a number on the command line.
    assert all(told.startswith(", which counts from 1") for told in re.findall(r"--reference(.*)", sentence))


def test_options_that_the_library_names_are_there() -> None:
    there = {name for command in COMMANDS for one in app[command].assemble_argument_collection() for name in one.names}
    named = {option for sentence in sentences_with_options() for option in re.findall(r"--[a-z-]+", sentence)}
    assert {"--reference", "--times", "--force"} <= named
    assert named <= there
