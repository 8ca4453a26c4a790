"""A command as a test calls it: in the same process, with what it says on either output."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import pytest


class Finished(NamedTuple):
    """A command that has run."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def output(self) -> str:
        """All that it said, with single blanks, however its lines were broken."""
        return " ".join((self.stdout + self.stderr).split())


Command = Callable[..., Finished]


def called(
    main: Callable[[Sequence[str]], int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Command:
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object) -> Finished:
        capsys.readouterr()
        exit_code = main([str(argument) for argument in arguments])
        return Finished(exit_code, *capsys.readouterr())

    return run
