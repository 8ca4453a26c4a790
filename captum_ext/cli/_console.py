"""How the commands speak: tables and sentences on the standard output, what went wrong on the standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import TextIOWrapper

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from captum_ext._errors import printable

WHAT_IDGI_SAYS = (
    "IDGI says where the output changed, not for or against: all features of a step get the sign of its change, in "
    "proportion to their squared gradients. For f = x0 - x1 at (3, 1), IG gives (3, -1) and IDGI (1, 1)."
)


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


def console(*, stderr: bool = False) -> Console:
    """Return a console that shows names as they are, without highlighting parts of them."""
    return Console(highlight=False, emoji=False, soft_wrap=True, stderr=stderr)


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


def print_failures(failures: Mapping[str, str], total: int) -> int:
    """Tell on the standard error which images failed and why, each once; return the exit code."""
    errors = console(stderr=True)
    for image, reason in failures.items():
        errors.print(f"[bold red]Failed:[/] {escape(printable(f'{image}: {reason}'))}")
    if failures:
        errors.print(f"[bold red]{len(failures)} of {total} images failed.[/]")
    return 1 if failures else 0
