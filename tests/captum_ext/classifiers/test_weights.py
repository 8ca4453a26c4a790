"""Files of weights are loaded whole or refused in one sentence, whatever is in them."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from captum_ext.classifiers.weights import WeightsFileError, load_weights


def model() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))


def damaged(content: bytes, chance: random.Random) -> bytes:
    """Return a file's bytes with some of them changed, left out, doubled or cut off."""
    start, length = chance.randrange(len(content)), chance.randrange(1, 40)
    kind = chance.randrange(4)
    if kind == 0:
        return content[:start]
    if kind == 1:
        return content[:start] + content[start + length :]
    if kind == 2:
        return content[:start] + content[max(0, start - length) :]
    return content[:start] + chance.randbytes(length) + content[start + length :]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_five_hundred_damaged_files_are_loaded_or_refused_with_their_name(tmp_path: Path, legacy):
    path, chance = tmp_path / "weights.pth", random.Random(3)
    torch.save(model().state_dict(), path, _use_new_zipfile_serialization=not legacy)
    content, refusals = path.read_bytes(), []
    for _ in range(500):
        path.write_bytes(damaged(content, chance))
        try:
            load_weights(model(), path)
        except WeightsFileError as error:
            refusals.append(str(error))
    assert len(refusals) > 250
    assert all(message.startswith(f"{path}: ") and "\n" not in message for message in refusals)


def test_names_that_are_numbers_are_refused(tmp_path: Path):
    torch.save({0: torch.zeros(1), 1: torch.zeros(1)}, tmp_path / "weights.pth")
    with pytest.raises(WeightsFileError, match=r"its tensors are named 0, 1: give a state dict"):
        load_weights(model(), tmp_path / "weights.pth")


def test_weights_with_nan_are_refused_and_infinite_masks_are_not(tmp_path: Path):
    given = model()
    given.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
    torch.save(given.state_dict(), tmp_path / "mask.pth")
    load_weights(given, tmp_path / "mask.pth")
    with torch.no_grad():
        given.get_parameter("3.bias")[1] = torch.nan
    torch.save(given.state_dict(), tmp_path / "weights.pth")
    untouched = model()
    before: dict[str, Tensor] = {name: value.clone() for name, value in untouched.state_dict().items()}
    with pytest.raises(WeightsFileError, match=r"3\.bias holds NaN.*give weights of before"):
        load_weights(untouched, tmp_path / "weights.pth")
    assert all(torch.equal(before[name], value) for name, value in untouched.state_dict().items())
