"""Tables are safe to open in a spreadsheet."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd

from captum_ext.evaluation.table import write_csv


def test_names_that_look_like_formulas_are_not_formulas(tmp_path: Path):
    names = ["=cmd|' /C calc'!A0.png", "@SUM(1).png", "+1.png", "-1.png", "\tx.png", "a=b.png", "it's.png"]
    frame = pd.DataFrame({"image": names, "class": pd.Series(range(7), dtype="Int64"), "value": np.linspace(-1, 1, 7)})
    frame["reason"] = [None, "=1", *[""] * 5]
    write_csv(tmp_path / "results.csv", frame)
    with (tmp_path / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == [*(f"'{name}" for name in names[:5]), *names[5:]]
    assert [row["reason"] for row in rows[:3]] == ["", "'=1", ""]
    assert [float(row["value"]) for row in rows] == list(np.linspace(-1, 1, 7))
    assert frame["image"].tolist() == names  # the caller's own table is as it was
