"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import secrets
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NoReturn

from captum_ext._errors import RefusedError


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Context that gives a binary file to write, which takes its name when the context ends without an exception.

    Parameters
    ----------
    path
        The file's name when it is complete; one that is there is replaced, but a symbolic link stays, and what it leads
        to is replaced. Its directory is made where it is missing.

    Examples
    --------
    >>> import tempfile
    >>> directory = Path(tempfile.mkdtemp())
    >>> with atomic_write(directory / "new" / "numbers.txt") as file:
    ...     _ = file.write(b"1 2 3")
    >>> [path.name for path in directory.rglob("*.*")]
    ['numbers.txt']
    """
    path = Path(os.path.realpath(path)) if path.is_symlink() else path
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not by `tempfile`: its files are their owner's alone, where the umask says who may read; and on Windows it takes a
    # folder without permission for a name that is in use, and tries others for hours.
    temporary, is_made = path.with_name(f".{path.name}.{secrets.token_hex(4)}"), False
    try:
        with temporary.open("xb") as file:
            is_made = True
            yield file
        os.replace(temporary, path)
    except OSError as error:
        # A full disk names no file, and a folder that takes none a temporary one, of which nobody knows.
        if error.errno is not None and error.filename in (None, temporary, str(temporary)):
            error.filename = str(path)
        raise
    finally:
        if is_made:
            temporary.unlink(missing_ok=True)


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


class ExistingFileError(RefusedError):
    """A file would be replaced without having been asked for; the message names it."""


def check_absent(paths: Sequence[Path], force: bool = False, inputs: Sequence[Path] = ()) -> None:
    """Check that files can be written and none would be replaced, before anything is computed.

    Parameters
    ----------
    paths
        What will be written.
    force
        Whether existing files may be replaced.
    inputs
        Files that are read, and so never replaced.

    Raises
    ------
    ExistingFileError
        A file is there, and ``force`` is False; it is one of the inputs; or a directory would be where a file is.
    """
    for parent in dict.fromkeys(path.parent for path in paths):
        first = next(folder for folder in (parent, *parent.parents) if folder.exists())
        if not first.is_dir():
            raise ExistingFileError(f"{first}: is no folder; give another --out.")
    read = {_identity(path) for path in inputs}
    replaced = [path for path in paths if _identity(path) in read]
    if replaced:
        raise ExistingFileError(f"{replaced[0]} is read as an input and would be replaced: give another --out.")
    there = [path for path in paths if path.exists()]
    if there and not force:
        others = f" and {len(there) - 1} more" if len(there) > 1 else ""
        raise ExistingFileError(f"{there[0]}{others} exists already: give --force to replace, or another --out.")


def _identity(path: Path) -> object:
    """What two paths have in common that lead to one file, as those do that differ in capitals alone on macOS."""
    try:
        found = path.stat()
    except OSError:
        return path.resolve()
    return found.st_dev, found.st_ino
