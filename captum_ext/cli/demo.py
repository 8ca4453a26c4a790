"""``captum-ext demo``: the methods on scanned digits."""

from __future__ import annotations

from pathlib import Path

from rich.markup import escape

from captum_ext._files import check_absent
from captum_ext.cli._console import console, print_table
from captum_ext.evaluation.demo import output_files, run_demo
from captum_ext.evaluation.settings import Flag

_ABOUT = (
    "delta: sum of the attributions less the change of the output. IDGI's is 0 for any number of steps, so it cannot "
    "tell whether these are enough; its path residual can, it falls with more steps. Insertion: the higher, the sooner "
    "the network recognises the digit."
)


def demo(*, out: Path = Path("demo-output"), force: Flag = False) -> None:
    """Train a small network on scanned digits, explain it with five methods, and compare.

    Parameters
    ----------
    out
        Folder for the figure and the table.
    force
        Replace existing files.
    """
    check_absent(output_files(out), force)
    with console().status("training on scikit-learn's scanned digits") as status:
        report = run_demo(out, on_method=lambda title: status.update(f"explaining with {title}"))
    console().print(f"The network recognises {report.accuracy:.1%} of the test digits; these are explained.")
    rows = []
    for row in report.rows:
        delta = "-" if row.delta is None else f"{row.delta:.1g}"
        residual = "-" if row.path_residual is None else f"{row.path_residual:.2g}"
        rows.append((row.title, delta, residual, f"{row.insertion:.3f}", f"{row.milliseconds:.2f}"))
    numbers = ["|delta|", "|path residual|", "insertion score", "ms per digit"]
    print_table("mean over the test digits, 50 steps", ["method"], numbers, rows)
    console().print(f"[dim]{_ABOUT}[/]")
    console().print(escape(f"figure {report.figure}, table {report.table}"))
