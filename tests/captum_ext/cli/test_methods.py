"""``captum-ext methods`` lists every method."""

from __future__ import annotations

import pytest

from captum_ext.methods import METHODS
from tests.command_line import Command


@pytest.mark.parametrize("columns", ["60", "200"])
def test_every_method_is_listed_whole_with_what_it_is_and_its_source(command: Command, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    cells = [line.split("│")[1:4] for line in command("methods").stdout.splitlines() if line.startswith("│")]
    names = [cell[0].strip() for cell in cells if cell[0].strip()]
    assert names == list(METHODS)
    together = " ".join(" ".join(word for cell in cells for word in cell[column].split()) for column in (1, 2))
    assert all(method.about and method.about in together for method in METHODS.values())
    assert all(method.source and method.source in together for method in METHODS.values())
