"""``captum-ext demo``: the methods on photographs, and on scanned digits."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape

from captum_ext._files import check_absent
from captum_ext.cli._console import WHAT_IDGI_SAYS, console, print_table
from captum_ext.evaluation.settings import Flag

if TYPE_CHECKING:
    import pandas as pd

_ABOUT_PHOTOGRAPHS = (
    "path residual: the error that integrated gradients would make on the same walk, as a share of the change; it "
    "falls with more steps. Insertion, from a blurred image: the higher, the sooner the network is as sure as of the "
    "whole."
)
_ABOUT_DIGITS = (
    "delta: sum of the attributions less the change of the output. IDGI's is 0 for any number of steps, so it cannot "
    "tell whether these are enough; its path residual can. Insertion starts from the digit's mean grey."
)


def demo(*, out: Path = Path("demo-output"), force: Flag = False) -> None:
    """Explain photographs by a real ImageNet network and scanned digits by a small one, with five methods each.

    Parameters
    ----------
    out
        Folder for the figures and the tables.
    force
        Replace existing files.
    """
    # Said before PyTorch is imported, which takes some seconds.
    console().print("Explaining four photographs and the scanned digits takes about a minute.")
    screen = console()
    with screen.status("starting") as status:

        def tell(step: str) -> None:
            if screen.is_terminal:
                status.update(step)
            else:
                screen.print(step)

        from captum_ext.evaluation import demo as digits
        from captum_ext.evaluation import photograph_demo as photographs

        files = [*photographs.output_files(out), *digits.output_files(out)]
        check_absent(files, force)
        seen, of_photographs = photographs.run_photograph_demo(out, tell)
        tell("training on scanned digits")
        accuracy, of_digits = digits.run_demo(out, on_method=lambda title: tell(f"explaining digits with {title}"))
    _print_photographs(seen, of_photographs)
    _print_digits(accuracy, of_digits)
    console().print(f"[dim]{WHAT_IDGI_SAYS}[/]\n")
    console().print("Written:")
    abouts = (
        "what five methods find in the photographs",
        "the first table",
        "what they find in ten digits",
        "the second table",
    )
    for path, about in zip(files, abouts, strict=True):
        console().print(escape(f"  {path}  {about}"))


def _print_photographs(seen: pd.DataFrame, measured: pd.DataFrame) -> None:
    title = "seen by EfficientNet-Lite0 (Google, Apache-2.0)"
    rows = [
        (one.name, f"{one.author} ({one.licence})", one.class_name, f"{one.probability:.0%}")
        for one in seen.itertuples(index=False)
    ]
    print_table(title, ["photograph", "by", "most probable class"], ["probability"], rows)
    cells = []
    for row in measured.itertuples():
        residual = "-" if math.isnan(row.path_residual) else f"{row.path_residual:.1%}"
        cells.append((row.title, str(row.evaluations), residual, f"{row.insertion:.3f}", f"{row.seconds:.1f}"))
    numbers = ["gradients", "|path residual|", "insertion score", "seconds"]
    print_table("mean over the photographs, the class's logit explained", ["method"], numbers, cells)
    console().print(f"[dim]{_ABOUT_PHOTOGRAPHS}[/]\n")


def _print_digits(accuracy: float, measured: pd.DataFrame) -> None:
    console().print(f"A small network recognises {accuracy:.1%} of the test digits; these are explained.")
    rows = []
    for row in measured.itertuples():
        delta = "-" if math.isnan(row.delta) else f"{row.delta:.1g}"
        residual = "-" if math.isnan(row.path_residual) else f"{row.path_residual:.2g}"
        rows.append((row.title, delta, residual, f"{row.insertion:.3f}", f"{row.milliseconds:.2f}"))
    numbers = ["|delta|", "|path residual|", "insertion score", "ms per digit"]
    print_table("mean over the test digits, 50 steps", ["method"], numbers, rows)
    console().print(f"[dim]{_ABOUT_DIGITS}[/]\n")
