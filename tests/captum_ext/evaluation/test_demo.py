"""Promises of the demonstration: a trained network, measured rows, and files that hold them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from captum_ext.evaluation.demo import run_demo


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "new"


@pytest.fixture(scope="module")
def found(folder: Path) -> tuple[float, pd.DataFrame]:
    return run_demo(folder)


def test_network_recognises_digits_that_it_has_not_seen(found):
    accuracy, _ = found
    assert accuracy > 0.95


def test_idgi_is_complete_on_every_path_and_its_residual_is_not_zero(found):
    _, rows = found
    assert list(rows["title"][:4]) == ["IG", "IDGI", "IDGI (blur)", "IDGI (guided)"]
    for row in rows[1:4].itertuples():
        assert row.delta < 1e-5
        assert row.path_residual > 1e-3
        assert 0.5 < row.insertion < 1.1
    assert np.isnan(rows["path_residual"][0])


def test_figure_and_table_hold_what_was_measured(folder: Path, found):
    _, measured = found
    assert (folder / "digits.png").read_bytes().startswith(b"\x89PNG")
    with (folder / "digits.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["title"] for row in rows] == list(measured["title"])
    assert [float(row["insertion"]) for row in rows] == list(measured["insertion"])
    assert rows[0]["path_residual"] == ""
    assert sorted(path.name for path in folder.iterdir()) == ["digits.csv", "digits.png"]
