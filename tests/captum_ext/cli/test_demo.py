"""``captum-ext demo`` asks before it replaces, and says what it found and where it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.captum_ext.conftest import Command


def test_files_are_replaced_only_with_force_and_nothing_is_computed_before_asking(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "digits.csv").write_text("mine")
    monkeypatch.setattr(
        "captum_ext.evaluation.demo.train_classifier", lambda *_: pytest.fail("was computed before asking")
    )
    result = command("demo", "--out", str(tmp_path))
    assert result.exit_code == 1
    assert "digits.csv exists already: give --force" in result.stderr
    assert (tmp_path / "digits.csv").read_text() == "mine"


def test_table_is_printed_and_where_the_figure_is(tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "digits.csv").write_text("mine")
    monkeypatch.setattr("captum_ext.classifiers.digits.N_TEST", 100)
    monkeypatch.setattr("captum_ext.evaluation.demo.N_STEPS", 2)
    monkeypatch.setattr("captum_ext.evaluation.demo.EPOCHS", 2)
    result = command("demo", "--out", str(tmp_path), "--force")
    assert result.exit_code == 0, result.output
    assert re.search(r"recognises \d+\.\d% of the test digits", result.stdout)
    assert "IDGI (guided)" in result.stdout
    assert str(tmp_path / "digits.png") in result.stdout
    assert (tmp_path / "digits.csv").read_text() != "mine"
