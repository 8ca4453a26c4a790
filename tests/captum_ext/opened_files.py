"""Which files of the package a call runs through, so that tests can hold the walks that CONTRIBUTING promises."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import captum_ext


@contextmanager
def opened_files() -> Iterator[set[str]]:
    """Context that collects the files of which this thread calls a function, and tells them when it ends."""
    package = Path(captum_ext.__file__).parent
    called: set[str] = set()

    def note(frame: Any, event: str, _: object) -> None:
        # Every call of every library comes by: what is cheap is asked here, and the rest of each file once.
        if event == "call" and frame.f_code.co_name != "<module>":
            called.add(frame.f_code.co_filename)

    opened: set[str] = set()
    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield opened
    finally:
        sys.setprofile(before)
        opened |= {file.relative_to(package).as_posix() for file in map(Path, called) if package in file.parents}
