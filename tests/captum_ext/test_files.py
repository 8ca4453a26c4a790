"""Files are written whole or not at all."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import captum_ext.cli
import hdr.cli
from captum_ext._files import ExistingFileError, atomic_write, check_absent
from hdr._files import written_whole


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


def write(kind: str, path: Path, content: bytes) -> None:
    """Write a file by the means of one of the two packages."""
    if kind == "captum_ext":
        with atomic_write(path) as file:
            file.write(content)
    else:
        with written_whole(path) as temporary:
            temporary.write_bytes(content)


@pytest.mark.parametrize("kind", ["captum_ext", "hdr"])
def test_where_the_name_is_a_link_the_file_it_leads_to_is_written(tmp_path: Path, kind):
    (tmp_path / "disk").mkdir()
    link = tmp_path / "map.npy"
    link.symlink_to(tmp_path / "disk" / "17")  # which does not exist yet
    write(kind, link, b"new")
    assert link.is_symlink()
    assert (tmp_path / "disk" / "17").read_bytes() == b"new"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["17", "disk", "map.npy"]


@pytest.mark.parametrize("kind", ["captum_ext", "hdr"])
def test_a_file_for_which_there_is_no_room_is_named(tmp_path: Path, kind):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match="too large") as refusal:
            write(kind, tmp_path / "map.npy", bytes(10_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert refusal.value.filename == str(tmp_path / "map.npy")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("kind", "makes"), [("captum_ext", "open"), ("hdr", "mkdir")])
def test_a_folder_without_permission_is_refused_at_once_on_windows_too(tmp_path: Path, monkeypatch, kind, makes):
    """There ``tempfile`` takes it for a folder of the name that it has drawn, and draws two thousand million others."""

    def refuse(path, *_: object, **__: object):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(os, makes, refuse)
    monkeypatch.setattr(Path, makes, refuse)
    monkeypatch.setattr(tempfile, "_os", SimpleNamespace(**{**vars(os), "name": "nt"}))
    with pytest.raises(PermissionError) as refusal:
        write(kind, tmp_path / "map.npy", b"")
    assert refusal.value.filename == str(tmp_path / "map.npy")


def test_a_folder_that_takes_no_file_is_named_by_the_file(tmp_path: Path):
    with pytest.raises(OSError, match=r"map\.npy") as refusal, atomic_write(tmp_path / ("x" * 250 + "map.npy")):
        pass
    assert refusal.value.filename == str(tmp_path / ("x" * 250 + "map.npy"))


def test_another_name_of_an_input_is_known_for_it(tmp_path: Path):
    """As Cat.png is to cat.png on macOS."""
    (tmp_path / "cat.png").write_bytes(b"")
    os.link(tmp_path / "cat.png", tmp_path / "other.png")
    with pytest.raises(ExistingFileError, match=r"other\.png is read as an input"):
        check_absent([tmp_path / "new.png", tmp_path / "other.png"], force=True, inputs=[tmp_path / "cat.png"])
    check_absent([tmp_path / "new.png"], inputs=[tmp_path / "cat.png"])


WRITERS = {
    "captum_ext": "from captum_ext._files import atomic_write as write, unwound_when_terminated",
    "hdr": "from hdr._files import written_whole as write, unwound_when_terminated",
}


@pytest.mark.parametrize("imports", WRITERS.values(), ids=WRITERS)
def test_a_program_that_is_terminated_leaves_no_temporary_file(tmp_path: Path, imports):
    program = f"""
import pathlib, time
{imports}
with unwound_when_terminated(), write(pathlib.Path({str(tmp_path / "map.npy")!r})):
    print("begun", flush=True)
    time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"begun\n"
    assert len(os.listdir(tmp_path)) == 1
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 128 + signal.SIGTERM
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("package", [captum_ext.cli, hdr.cli], ids=["captum_ext", "hdr"])
def test_commands_unwind_when_they_are_terminated(package, monkeypatch: pytest.MonkeyPatch):
    seen: list[Any] = []

    def app(_: object) -> int:
        seen.append(signal.getsignal(signal.SIGTERM))
        return 0

    monkeypatch.setattr(f"{package.__name__}.app.app", app)
    assert package.main([]) == 0
    with pytest.raises(SystemExit) as left:
        seen[0](signal.SIGTERM, None)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    assert left.value.code == 128 + signal.SIGTERM
