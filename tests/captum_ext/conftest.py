"""``captum-ext`` as a test calls it."""

from __future__ import annotations

import pytest

from captum_ext.cli import main
from tests.command_line import Command, called


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    return called(main, capsys, monkeypatch)
