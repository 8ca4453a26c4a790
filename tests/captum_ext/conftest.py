"""The command line as a test calls it: in the same process, with what it says on either output."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest

from captum_ext.cli import main


class Finished(NamedTuple):
    """A command that has run."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def output(self) -> str:
        return self.stdout + self.stderr


Command = Callable[..., Finished]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str) -> Finished:
        capsys.readouterr()
        exit_code = main(arguments)
        return Finished(exit_code, *capsys.readouterr())

    return run
