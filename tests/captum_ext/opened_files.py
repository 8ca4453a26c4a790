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
    """Context that collects the files of which this thread calls a function; a file that is imported alone is none."""
    package, opened = Path(captum_ext.__file__).parent, set()

    def note(frame: Any, event: str, _: object) -> None:
        file = Path(frame.f_code.co_filename)
        if event == "call" and package in file.parents and frame.f_code.co_name != "<module>":
            opened.add(file.relative_to(package).as_posix())

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield opened
    finally:
        sys.setprofile(before)
