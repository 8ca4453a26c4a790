"""``captum-ext demo``: the methods on scanned digits."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from captum_ext._files import check_absent
from captum_ext.cli.console import Force, refusals
from captum_ext.evaluation.demo import output_files, run_demo

_ABOUT = (
    "delta: sum of the attributions less the change of the output. IDGI's is 0 for any number of steps, so it cannot "
    "tell whether these are enough; its path residual can, it falls with more steps. Insertion: the higher, the sooner "
    "the network recognises the digit."
)


def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the figure and the table go.")] = Path("demo-output"),
    force: Force = False,
) -> None:
    """Train a small network on scanned digits, explain it with five methods, and compare."""
    console = Console(highlight=False, emoji=False)
    with refusals(console):
        check_absent(output_files(out), force)
    with console.status("training on scikit-learn's scanned digits") as status:
        report = run_demo(out, on_method=lambda title: status.update(f"explaining with {title}"))
    console.print(f"The network recognises {report.accuracy:.1%} of the test digits; these are explained.")
    table = Table(title="mean over the test digits, 50 steps", title_justify="left")
    for heading in ("method", "|delta|", "|path residual|", "insertion score", "ms per digit"):
        table.add_column(heading, justify="left" if heading == "method" else "right")
    for row in report.rows:
        delta = "-" if row.delta is None else f"{row.delta:.1g}"
        residual = "-" if row.path_residual is None else f"{row.path_residual:.2g}"
        table.add_row(row.title, delta, residual, f"{row.insertion:.3f}", f"{row.milliseconds:.2f}")
    console.print(table)
    console.print(f"[dim]{_ABOUT}[/]")
    console.print(f"figure {escape(str(report.figure))}, table {escape(str(report.table))}")
