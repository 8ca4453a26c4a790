"""Scanned digits: all of the data set, and a training that repeats."""

from __future__ import annotations

import torch

from captum_ext.classifiers import scanned_digits, train_classifier


def test_digits_are_all_scans_of_the_data_set_and_none_is_trained_on_and_tested():
    train, test = scanned_digits()
    labels = torch.cat([train.labels, test.labels])
    # Scans of each digit, as the description of the data set (optdigits.tes) counts them.
    assert labels.bincount().tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    together = torch.cat([train.images, test.images]).mul(16)
    assert torch.equal(together, together.round())
    assert together.aminmax() == (0, 16)
    assert len(together.flatten(1).unique(dim=0)) == 1797


def test_training_repeats_and_leaves_the_global_generator_alone():
    train, _ = scanned_digits()
    state = torch.get_rng_state()
    first, second = (train_classifier(train, epochs=1).state_dict() for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, second[name]) for name, value in first.items())
