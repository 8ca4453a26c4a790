"""How the commands speak: tables and sentences on the standard output, what went wrong on the standard error."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from io import TextIOWrapper
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console
from rich.markup import escape
from rich.table import Table

Flag = Annotated[bool, Parameter(negative=(), show_default=False)]


@contextmanager
def every_name_told() -> Iterator[None]:
    """Context in which letters that the standard output cannot show are told by their number, as on the standard error.

    On Windows, what goes into a file or to another program is written in the system's code page; without this a name in
    another alphabet would end the command when its work is done.
    """
    output = sys.stdout
    if not isinstance(output, TextIOWrapper):  # as a notebook's, which takes every letter
        yield
        return
    before = output.errors
    output.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        output.reconfigure(errors=before)


def say(text: str) -> None:
    """Print a sentence, names as they are."""
    Console(highlight=False, emoji=False, soft_wrap=True).print(escape(text))


def note(text: str) -> None:
    """Print a remark on the standard error, on a line of its own also where a progress bar stands there."""
    from tqdm import tqdm  # here, as all that help has no need of

    with tqdm.external_write_mode(file=sys.stderr):
        Console(highlight=False, emoji=False, soft_wrap=True, stderr=True).print(escape(text))


_subject: ContextVar[str] = ContextVar("subject", default="")


@contextmanager
def about(subject: str) -> Iterator[None]:
    """Context, of this thread alone, in which remarks begin with what they are about."""
    token = _subject.set(subject)
    try:
        yield
    finally:
        _subject.reset(token)


def print_table(title: str, words: Sequence[str], numbers: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table; ``words`` and ``numbers`` are its headings, numbers stand to the right."""
    table = Table(title=escape(title), title_justify="left")
    for heading in words:
        table.add_column(heading, overflow="fold")  # a name that is cut off is none
    for heading in numbers:
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(*map(escape, row))
    Console(highlight=False, emoji=False).print(table)


@contextmanager
def noted_warnings() -> Iterator[None]:
    """Context in which what this package warns of is a remark on the standard error, and other packages are silent."""

    def noted(message: Warning | str, *_: Any, **__: Any) -> None:
        subject = _subject.get()
        note(f"Note: {subject}: {message}" if subject else f"Note: {message}")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("always", category=UserWarning, module=r"hdr\.|__main__")
        warnings.showwarning = noted
        yield


@contextmanager
def remembered_warnings() -> Iterator[list[str]]:
    """Context that gives a list of what is warned of in it, which is shown as without it, too."""
    told: list[str] = []
    with warnings.catch_warnings():
        show = warnings.showwarning

        def remember(message: Warning | str, *arguments: Any, **options: Any) -> None:
            told.append(str(message))
            show(message, *arguments, **options)

        warnings.showwarning = remember
        yield told
