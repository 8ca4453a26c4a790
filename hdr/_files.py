"""Files that are written whole or not at all; needs nothing but the standard library."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NoReturn

from hdr._errors import RefusedError


@contextmanager
def written_whole(path: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[Path]:
    """Context that gives a temporary path, and renames it to ``path`` when the block ends without an error.

    After an error, at any moment, ``path`` is what it was and nothing else is left in its folder. Where it is a
    symbolic link, that stays, and what it leads to is written.

    Parameters
    ----------
    path
        The file to write.
    overwrite
        Whether it may exist.

    Raises
    ------
    FileExistsError
        If it exists and ``overwrite`` is False.
    FileNotFoundError
        If its folder does not exist.
    OSError
        If the operating system does not let a file be created there, or has no room for it.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> with written_whole(pathlib.Path(folder.name, "note.txt")) as temporary:
    ...     _ = temporary.write_text("whole")
    >>> [file.name for file in pathlib.Path(folder.name).iterdir()]
    ['note.txt']
    >>> folder.cleanup()
    """
    path = Path(path)
    check_writable(path, overwrite=overwrite)
    name, path = path.name, _followed(path)  # of the name's end it is told how to write
    # A folder rather than a file: encoders go by the name's end, and some open what must not be there yet.
    with _temporary_folder_beside(path) as folder:
        temporary = folder / name
        try:
            yield temporary
            with temporary.open("rb+") as written:
                os.fsync(written.fileno())
            os.replace(temporary, path)
        except OSError as error:
            # A full disk names no file, or the temporary one, of which the user does not know.
            if error.errno is not None and error.filename in (None, temporary, str(temporary)):
                error.filename = str(path)
            raise


@contextmanager
def unwound_when_terminated() -> Iterator[None]:
    """Context in which SIGTERM ends the program as an exception does, so that no temporary file stays behind.

    Where a handler is set already, or outside of the main thread, which alone can set one, nothing is changed.
    """
    is_default = threading.current_thread() is threading.main_thread() and (
        signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    )
    if not is_default:
        yield
        return

    def leave(number: int, _: object) -> NoReturn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not stop the cleaning up
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def check_writable(
    path: str | os.PathLike[str], *, overwrite: bool = False, suffixes: tuple[str, ...] | None = None
) -> None:
    """Raise now, before the work, what writing would: an existing file, a folder that takes none, another suffix."""
    path = Path(path)
    if suffixes is not None:
        known_suffix(path, suffixes, "the result is written to")
    if path.suffix.lower() == ".exr":
        check_name_is_text(path, "OpenEXR")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; give the name of a file")
    if path.exists() and not path.is_file():
        raise FileExistsError(f"{path} is a device or a pipe, which cannot be replaced; give the name of a file")
    if path.exists() and not overwrite:
        raise FileExistsError(
            f"{path} exists; choose another name, or replace it with --force (overwrite=True in Python)"
        )
    folder = _followed(path).parent
    if not folder.is_dir():
        raise FileNotFoundError(f"{path}: there is no folder {folder}; create it first")
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"{path}: no permission to write in the folder {folder}; choose another")


def check_folder(path: str | os.PathLike[str]) -> None:
    """Raise a NotADirectoryError if ``path``, where a folder is to be, is a file."""
    if Path(path).exists() and not Path(path).is_dir():
        raise NotADirectoryError(f"{path} is a file; give the name of a folder")


def check_takes_files(folder: Path) -> None:
    """Raise a PermissionError if a folder is there, and no file can be written in it."""
    if folder.is_dir() and not os.access(folder, os.W_OK):
        raise PermissionError(f"no permission to write in the folder {folder}; choose another")


def _followed(path: Path) -> Path:
    """Where a path leads if it is a symbolic link, otherwise the path as it was given."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


@contextmanager
def _temporary_folder_beside(path: Path) -> Iterator[Path]:
    # Not by `tempfile`: on Windows what is made in its folders is their owner's alone, also when it has been moved; and
    # there it takes a folder without permission for a name that is in use, and tries others for hours.
    folder = path.with_name(f".hdr-{secrets.token_hex(4)}")
    try:
        folder.mkdir()
    except OSError as error:  # it names the temporary folder, of which the user does not know
        raise OSError(error.errno, f"cannot be written in its folder: {error.strerror}", os.fspath(path)) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def identity(path: Path) -> object:
    """What two paths have in common that lead to one file, as those do that differ in capitals alone on macOS."""
    try:
        found = path.stat()
    except OSError:
        return str(path.resolve()).casefold()  # which may be one file when it is written
    return found.st_dev, found.st_ino


def digest_of(path: Path) -> str:
    """What tells the contents of a file from all others, 64 digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(2**20):
            digest.update(part)
    return digest.hexdigest()


def as_text(name: str, errors: Literal["backslashreplace", "replace"] = "backslashreplace") -> str:
    """A name as every file can tell it: bytes that are no UTF-8, as old disks have them, by their numbers or as �."""
    return os.fsencode(name).decode("utf-8", errors)


def check_name_is_text(path: Path, reader: str) -> None:
    """Raise a ValueError if a name, which ``reader`` takes as UTF-8 alone, is not."""
    if as_text(os.fspath(path)) != os.fspath(path):
        raise RefusedError(
            f"{path}: a name that is no UTF-8, which {reader} does not open; rename the file or its folder"
        )


def known_suffix(path: Path, allowed: tuple[str, ...], verb: str) -> str:
    suffix = path.suffix.lower()
    if suffix not in allowed:
        raise RefusedError(f"{path}: {verb} {', '.join(allowed)} files; this name ends in {suffix or 'no suffix'}")
    return suffix
