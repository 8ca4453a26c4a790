"""Numbers on the command line are read as they were written, or refused."""

from __future__ import annotations

import pytest

from tests.command_line import Command

SAID = "is a whole number, got"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["explain", "a.png", "--n-steps", "2.5"], f"--n-steps {SAID} 2.5"),
        (["explain", "a.png", "--internal-batch-size=0.5"], f"--internal-batch-size {SAID} 0.5"),
        (["evaluate", "images", "--curve-steps", "9.5"], f"--curve-steps {SAID} 9.5"),
        (["evaluate", "images", "--limit", "1.5"], f"--limit {SAID} 1.5"),
        (["evaluate", "images", "--seed", "0.5"], f"--seed {SAID} 0.5"),
    ],
)
def test_a_fraction_where_a_whole_number_belongs_is_refused(
    command: Command, tmp_path, monkeypatch, arguments: list[str], told: str
):
    monkeypatch.chdir(tmp_path)
    finished = command(*arguments, "--out", "out")
    assert finished.exit_code == 1
    assert finished.stderr.startswith(f"Error: {told}")
    assert finished.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
