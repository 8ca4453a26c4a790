"""``captum-ext demo`` asks before it replaces, and says what it found and where it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.command_line import Command


def test_files_are_replaced_only_with_force_and_nothing_is_computed_before_asking(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "digits.csv").write_text("mine")
    for module, function in (("demo", "train_classifier"), ("photograph_demo", "load_classifier")):
        monkeypatch.setattr(
            f"captum_ext.evaluation.{module}.{function}", lambda *_: pytest.fail("was computed before asking")
        )
    result = command("demo", "--out", str(tmp_path))
    assert result.exit_code == 1
    assert "digits.csv exists already: give --force" in result.stderr
    assert (tmp_path / "digits.csv").read_text() == "mine"


def test_tables_are_printed_and_where_the_figures_are(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "digits.csv").write_text("mine")
    monkeypatch.setattr("captum_ext.evaluation.photograph_demo.N_PHOTOGRAPHS", 1)
    monkeypatch.setattr("captum_ext.evaluation.photograph_demo.N_STEPS", 2)
    monkeypatch.setattr("captum_ext.evaluation.photograph_demo.CURVE_STEPS", 2)
    monkeypatch.setattr("captum_ext.classifiers.digits.N_TEST", 100)
    monkeypatch.setattr("captum_ext.evaluation.demo.N_STEPS", 2)
    monkeypatch.setattr("captum_ext.evaluation.demo.EPOCHS", 2)
    result = command("demo", "--out", str(tmp_path), "--force")
    assert result.exit_code == 0, result.output
    assert re.search(r"recognises \d+\.\d% of the test digits", result.stdout)
    assert "IDGI (guided)" in result.stdout
    # What EfficientNet-Lite0 sees in scikit-image's cat, and whose photograph it is.
    assert re.search(r"cat .*Stefan van der Walt \(CC0\).*tiger cat .*39%", result.stdout)
    assert "not for or against" in result.stdout
    for name in ("photographs.png", "photographs.csv", "digits.png", "digits.csv"):
        assert f"{tmp_path / name}  " in result.stdout
    assert (tmp_path / "photographs.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "digits.csv").read_text() != "mine"
