"""Files are written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from captum_ext._files import atomic_write


def test_file_that_breaks_off_leaves_what_was_there(tmp_path: Path):
    (tmp_path / "map.npy").write_bytes(b"old")

    def interrupted() -> None:
        with atomic_write(tmp_path / "map.npy") as file:
            file.write(b"half of the n")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [path.name for path in tmp_path.iterdir()] == ["map.npy"]
    assert (tmp_path / "map.npy").read_bytes() == b"old"
