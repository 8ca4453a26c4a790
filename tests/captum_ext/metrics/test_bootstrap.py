"""Bootstrap intervals, against values worked by hand and SciPy's."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch

from captum_ext.metrics import bootstrap, bootstrap_interval
from captum_ext.metrics.bootstrap import bootstrap_band


@pytest.mark.parametrize(("level", "interval"), [(0.95, (0.0, 1.0)), (0.4, (0.5, 0.5))])
def test_two_examples_by_hand(level, interval):
    # Means of two draws from {0, 1} are 0, 1/2, 1 with probabilities 1/4, 1/2, 1/4.
    assert bootstrap_interval(torch.tensor([0.0, 1.0]), level) == interval


@pytest.mark.parametrize("how", ["mean", "median"])
@pytest.mark.parametrize("level", [0.9, 0.99])
def test_agrees_with_scipy(how, level):
    stats = pytest.importorskip("scipy.stats")
    values = torch.from_numpy(np.random.default_rng(1).exponential(size=60))
    seeded = "rng" if "rng" in inspect.signature(stats.bootstrap).parameters else "random_state"
    expected = stats.bootstrap(
        (values.numpy(),),
        getattr(np, how),
        confidence_level=level,
        n_resamples=10_000,
        method="percentile",
        **{seeded: np.random.default_rng(2)},
    ).confidence_interval
    spread = expected.high - expected.low
    assert bootstrap_interval(values, level, how=how) == pytest.approx(tuple(expected), abs=0.04 * spread)


def test_seed_decides_and_the_global_generators_do_not():
    values = torch.rand(20)
    first = bootstrap_interval(values, seed=1, n_resamples=100)
    np.random.rand()  # noqa: NPY002
    torch.rand(())
    assert bootstrap_interval(values, seed=1, n_resamples=100) == first
    assert bootstrap_interval(values, seed=2, n_resamples=100) != first


def test_one_example_gives_an_interval_of_length_zero():
    assert bootstrap_interval(torch.tensor([0.3], dtype=torch.float64)) == (0.3, 0.3)


def test_a_band_is_the_interval_at_each_point():
    curves = torch.rand(12, 3)
    lower, upper = bootstrap_band(curves, n_resamples=50, seed=4, how="median")
    for point in range(3):
        expected = bootstrap_interval(curves[:, point], n_resamples=50, seed=4, how="median")
        assert (lower[point], upper[point]) == expected


@pytest.mark.parametrize("how", ["mean", "median"])
def test_how_many_draws_are_made_at_once_does_not_matter(how, monkeypatch):
    curves = torch.rand(12, 3, dtype=torch.float64)
    together = bootstrap_band(curves, n_resamples=50, seed=4, how=how)
    monkeypatch.setattr(bootstrap, "_NUMBERS_AT_ONCE", 1)
    one_by_one = bootstrap_band(curves, n_resamples=50, seed=4, how=how)
    np.testing.assert_allclose(together, one_by_one, rtol=1e-12)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"values": torch.rand(3, 2)}, r"shape \(3, 2\)"),
        ({"values": torch.rand(0)}, "at least one example"),
        ({"values": torch.tensor([1.0, torch.nan])}, "leave examples without a result out"),
        ({"level": 95}, "level=95"),
        ({"n_resamples": 0}, "n_resamples=0"),
        ({"how": "max"}, "'mean' and 'median'"),
        ({"values": [1.0, 2.0]}, "values is a list: give a torch.Tensor"),
        ({"values": np.ones(3)}, "values is a ndarray: give a torch.Tensor"),
        ({"seed": -1}, "seed=-1 was given"),
    ],
)
def test_refusals(changes, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_interval(**{"values": torch.rand(4), **changes})
