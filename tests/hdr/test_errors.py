"""What is refused is told from what is wrong with the program, wherever in the package it is refused."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import hdr
from hdr._errors import RefusedError
from hdr.exposure_check import ExposureMismatchError
from hdr.registration import RegistrationError

MODULES = sorted(Path(hdr.__file__).parent.rglob("*.py"))


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
