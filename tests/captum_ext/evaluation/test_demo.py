"""Promises of the demonstration: real digits, a trained network, measured rows, the same every time."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from captum_ext.classifiers import scanned_digits, train_classifier
from captum_ext.evaluation.demo import run_demo


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "new"


@pytest.fixture(scope="module")
def found(folder: Path) -> tuple[float, pd.DataFrame]:
    return run_demo(folder)


def test_digits_are_all_scans_of_the_data_set_and_none_is_trained_on_and_tested():
    train, test = scanned_digits()
    labels = torch.cat([train.labels, test.labels])
    # Scans of each digit, as the description of the data set (optdigits.tes) counts them.
    assert labels.bincount().tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    together = torch.cat([train.images, test.images]).mul(16)
    assert torch.equal(together, together.round())
    assert together.aminmax() == (0, 16)
    assert len(together.flatten(1).unique(dim=0)) == 1797


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


def test_training_repeats_and_leaves_the_global_generator_alone():
    train, _ = scanned_digits()
    state = torch.get_rng_state()
    first, second = (train_classifier(train, epochs=1).state_dict() for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, second[name]) for name, value in first.items())
