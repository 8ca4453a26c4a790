"""``hdr`` as a test calls it, and photographs to call it with."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hdr.cli import main
from hdr.scene import dynamic_scene
from hdr.weights import save_generator
from tests.command_line import Command, called
from tests.hdr.generators import random_generator
from tests.hdr.photographs import write_photograph


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    return called(main, capsys, monkeypatch)


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "mine.safetensors"
    save_generator(random_generator(), path)
    return path


@pytest.fixture(scope="session")
def taken(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Three exposures of the drawn scene, 1 : 4 : 16, as PNG with EXIF data."""
    folder = tmp_path_factory.mktemp("taken")
    ldr = dynamic_scene(96, 128).bracket.ldr
    for index, time in enumerate([1 / 60, 1 / 15, 4 / 15]):
        pixels = ldr[index].permute(1, 2, 0).mul(255).round().to(torch.uint8).numpy()
        write_photograph(folder / f"{index}.png", pixels, time=time, iso=100, f_number=8.0)
    return [(folder / f"{index}.png").read_bytes() for index in range(3)]


@pytest.fixture
def photographs(tmp_path: Path, taken: list[bytes]) -> list[Path]:
    paths = [tmp_path / f"{index}.png" for index in range(3)]
    for path, data in zip(paths, taken, strict=True):
        path.write_bytes(data)
    return paths
