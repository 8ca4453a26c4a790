"""Means, intervals and wins against numbers worked by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from captum_ext.evaluation.measures import Measurement
from captum_ext.evaluation.results import PictureResult, Row, curves_of
from captum_ext.evaluation.settings import EvaluationSettings
from captum_ext.evaluation.statistics import joint_area, summarize
from captum_ext.evaluation.store import MethodPart, PicturePart


def row(picture: str, method: str, value: float | None, metric: str = "insertion") -> Row:
    return Row(picture, 0, "cat", 0.9, method, metric, value, 1.0, "refused" if value is None else "ok", None)


def table(values: dict[str, list[float | None]], metric: str = "insertion") -> list[Row]:
    return [
        row(f"{number}.png", method, value, metric)
        for method, column in values.items()
        for number, value in enumerate(column)
    ]


def test_mean_and_wins_are_those_worked_by_hand_and_a_tie_is_no_win():
    ig, idgi = summarize(
        table({"ig": [0.2, 0.4, 0.6, 0.8], "idgi": [0.3, 0.4, 0.5, 1.2]}), ["ig", "idgi"], ["insertion"]
    )
    assert (ig.n_pictures, ig.comparison) == (4, None)
    assert ig.value.mean == pytest.approx(0.5)
    assert idgi.value.mean == pytest.approx(0.6)
    assert (idgi.comparison.wins, idgi.comparison.n_pictures) == (2, 4)
    assert idgi.comparison.difference.mean == pytest.approx(0.1)


def test_less_is_better_for_deletion():
    rows = table({"ig": [0.2, 0.4, 0.6], "idgi": [0.1, 0.3, 0.7]}, "deletion")
    _, idgi = summarize(rows, ["ig", "idgi"], ["deletion"])
    assert idgi.comparison.wins == 2
    assert idgi.comparison.difference.mean == pytest.approx(-0.1 / 3)


def test_only_pictures_that_both_have_are_compared():
    rows = table({"ig": [0.2, None, 0.6], "idgi": [0.3, 0.9, None]})
    ig, idgi = summarize(rows, ["ig", "idgi"], ["insertion"])
    assert (ig.n_pictures, idgi.n_pictures) == (2, 2)
    assert idgi.value.mean == pytest.approx(0.6)
    assert (idgi.comparison.wins, idgi.comparison.n_pictures) == (1, 1)
    assert idgi.comparison.difference.mean == pytest.approx(0.1)


def test_methods_without_a_value_have_none():
    rows = table({"ig": [None, None], "idgi": [0.3, 0.9]})
    ig, idgi = summarize(rows, ["ig", "idgi"], ["insertion"])
    assert (ig.value, ig.n_pictures) == (None, 0)
    assert idgi.comparison is None


def test_intervals_are_a_bootstraps_with_a_seed():
    values = list(np.random.default_rng(3).normal(0.5, 0.1, 60))
    (first,), (again,) = (summarize(table({"ig": values}), ["ig"], ["insertion"], seed=1) for _ in range(2))
    (other,) = summarize(table({"ig": values}), ["ig"], ["insertion"], seed=2)
    assert first == again != other
    # Mean plus and minus 1.96 standard errors, which the bootstrap is near to for 60 draws of a normal distribution.
    error = np.std(values) / 60**0.5
    assert first.value.low == pytest.approx(np.mean(values) - 1.96 * error, abs=0.15 * error)
    assert first.value.high == pytest.approx(np.mean(values) + 1.96 * error, abs=0.15 * error)


def test_differences_are_paired():
    # Pictures differ much, methods by the same little: the interval of the difference knows.
    base = list(np.linspace(0, 1, 20))
    rows = table({"ig": base, "idgi": [value + 0.01 for value in base]})
    _, idgi = summarize(rows, ["ig", "idgi"], ["insertion"])
    assert idgi.comparison.difference.low == pytest.approx(0.01)
    assert idgi.comparison.difference.high == pytest.approx(0.01)
    assert idgi.value.high - idgi.value.low > 0.1


def test_joint_area_is_that_of_the_median_curve_of_the_pictures_that_qualify():
    curves = [np.linspace(0, 1, 1001), np.ones(1001), np.zeros(1001), None]
    results = [
        PictureResult(
            f"{number}.png",
            PicturePart(None, None),
            {"ig": MethodPart({"sic": Measurement(0.0, None if c is None else c.astype(np.float32))}, 1.0, None)},
        )
        for number, c in enumerate(curves)
    ]
    settings = EvaluationSettings(Path("data"), "resnet50", None, ("ig", "idgi"), ("sic",))
    assert joint_area(results, settings, "ig", "sic") == pytest.approx(0.5, abs=1e-6)
    assert joint_area(results, settings, "idgi", "sic") is None
    assert np.isnan(curves_of(results, settings, "sic")["ig"][3]).all()
