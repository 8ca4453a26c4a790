"""Means, intervals and wins against numbers worked by hand; tables are safe to open in a spreadsheet."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from captum_ext.evaluation import summarize
from captum_ext.evaluation.outcome import _area_under_median
from captum_ext.evaluation.table import missing_values, write_csv
from captum_ext.metrics import InformationCurve, bootstrap_interval


def table(values: dict[str, list[float | None]], metric: str = "insertion") -> pd.DataFrame:
    rows = [
        (f"{number}.png", method, metric, value)
        for method, column in values.items()
        for number, value in enumerate(column)
    ]
    return pd.DataFrame(rows, columns=["image", "method", "metric", "value"])


def summaries(table: pd.DataFrame, **options) -> list:
    return list(summarize(table, **options).itertuples())


def test_mean_and_wins_are_those_worked_by_hand_and_a_tie_is_no_win():
    ig, idgi = summaries(table({"ig": [0.2, 0.4, 0.6, 0.8], "idgi": [0.3, 0.4, 0.5, 1.2]}))
    assert ig.n_images == 4
    assert pd.isna([ig.wins, ig.n_compared, ig.difference]).all()
    assert ig.mean == pytest.approx(0.5)
    assert idgi.mean == pytest.approx(0.6)
    assert (idgi.wins, idgi.n_compared) == (2, 4)
    assert idgi.difference == pytest.approx(0.1)


def test_less_is_better_for_deletion():
    rows = table({"ig": [0.2, 0.4, 0.6], "idgi": [0.1, 0.3, 0.7]}, "deletion")
    _, idgi = summaries(rows)
    assert idgi.wins == 2
    assert idgi.difference == pytest.approx(-0.1 / 3)


def test_only_images_that_both_have_are_compared():
    rows = table({"ig": [0.2, None, 0.6], "idgi": [0.3, 0.9, None]})
    ig, idgi = summaries(rows)
    assert (ig.n_images, idgi.n_images) == (2, 2)
    assert idgi.mean == pytest.approx(0.6)
    assert (idgi.wins, idgi.n_compared) == (1, 1)
    assert idgi.difference == pytest.approx(0.1)


def test_methods_without_a_value_have_none():
    rows = table({"ig": [None, None], "idgi": [0.3, 0.9]})
    ig, idgi = summaries(rows)
    assert ig.n_images == 0
    assert pd.isna([ig.mean, ig.low, ig.high]).all()
    assert pd.isna([idgi.wins, idgi.n_compared, idgi.difference]).all()
    assert idgi.mean == pytest.approx(0.6)


def test_intervals_are_a_bootstraps_with_a_seed():
    values = list(np.random.default_rng(3).normal(0.5, 0.1, 60))
    first, again, other = (summarize(table({"ig": values}), seed=seed) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(first, again)
    assert list(first["low"]) != list(other["low"])
    (first,) = first.itertuples()
    # Mean plus and minus 1.96 standard errors, which the bootstrap is near to for 60 draws of a normal distribution.
    error = np.std(values) / 60**0.5
    assert first.low == pytest.approx(np.mean(values) - 1.96 * error, abs=0.15 * error)
    assert first.high == pytest.approx(np.mean(values) + 1.96 * error, abs=0.15 * error)


def test_differences_are_paired():
    # Images differ much, methods by the same little: the interval of the difference knows.
    base = list(np.linspace(0, 1, 20))
    rows = table({"ig": base, "idgi": [value + 0.01 for value in base]})
    _, idgi = summaries(rows)
    assert idgi.difference_low == pytest.approx(0.01)
    assert idgi.difference_high == pytest.approx(0.01)
    assert idgi.high - idgi.low > 0.1


def test_columns_with_values_of_the_same_images_get_the_intervals_that_each_has_alone():
    generator = np.random.default_rng(0)
    columns = {"ig": list(generator.random(9)), "idgi": list(generator.random(9)), "gradcam": [0.5, None] + [0.25] * 7}
    together = summarize(table(columns)).set_index("method")
    for method, values in columns.items():
        (alone,) = summaries(table({method: values}))
        low, high = bootstrap_interval(torch.tensor([v for v in values if v is not None]).double(), n_resamples=2000)
        assert (alone.low, alone.high) == pytest.approx((low, high))
        assert tuple(together.loc[method, ["low", "high"]]) == pytest.approx((low, high))


def test_area_is_that_of_the_median_curve_of_the_images_that_qualify():
    curves = np.stack([np.linspace(0, 1, 1001), np.ones(1001), np.zeros(1001)]).astype(np.float32)
    assert _area_under_median(curves) == pytest.approx(0.5, abs=1e-6)
    many = np.random.default_rng(0).random((3000, 1001)).astype(np.float32)
    assert _area_under_median(many) == pytest.approx(InformationCurve(torch.from_numpy(many)).area("median"), abs=1e-6)


def test_metric_without_any_value_says_why():
    rows = table({"ig": [None, None], "idgi": [None, None]}, "sic").assign(status="refused", reason="is too dark")
    why = "None of 2 images has a value; the first, 0.png, was refused: is too dark."
    assert missing_values(rows, "sic") == missing_values(rows.assign(reason="is too dark."), "sic") == why
    assert missing_values(rows.assign(value=[None, None, None, 0.5]), "sic") is None


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


def test_tables_that_hold_an_image_twice_are_refused():
    found = table({"ig": [0.5, 0.7], "idgi": [0.6, 0.6]})
    assert len(summaries(pd.concat([found, found.assign(image="b/" + found["image"])]))) == 2
    with pytest.raises(ValueError, match=r"several rows of 0\.png with ig and insertion"):
        summarize(pd.concat([found, found]))
