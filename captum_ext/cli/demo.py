"""``captum-ext demo``: the methods on photographs, and on scanned digits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape

from captum_ext._files import check_absent
from captum_ext.cli._console import WHAT_IDGI_SAYS, console, print_table
from captum_ext.evaluation.settings import Flag

if TYPE_CHECKING:
    from captum_ext.evaluation.demo import DemoReport
    from captum_ext.evaluation.photograph_demo import PhotographReport

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

        check_absent((*photographs.output_files(out), *digits.output_files(out)), force)
        of_photographs = photographs.run_photograph_demo(out, tell)
        tell("training on scanned digits")
        of_digits = digits.run_demo(out, on_method=lambda title: tell(f"explaining digits with {title}"))
    _print_photographs(of_photographs)
    _print_digits(of_digits)
    console().print(f"[dim]{WHAT_IDGI_SAYS}[/]\n")
    files = {
        of_photographs.figure: "what five methods find in the photographs",
        of_photographs.table: "the first table",
        of_digits.figure: "what they find in ten digits",
        of_digits.table: "the second table",
    }
    console().print("Written:")
    for path, what in files.items():
        console().print(escape(f"  {path}  {what}"))


def _print_photographs(report: PhotographReport) -> None:
    rows = []
    for one in report.seen:
        source = f"{one.photograph.author} ({one.photograph.licence})"
        rows.append((one.photograph.name, source, one.class_name, f"{one.probability:.0%}"))
    title = "seen by EfficientNet-Lite0 (Google, Apache-2.0)"
    print_table(title, ["photograph", "by", "most probable class"], ["probability"], rows)
    measured = []
    for method in report.rows:
        residual = "-" if method.path_residual is None else f"{method.path_residual:.1%}"
        numbers = f"{method.evaluations}", residual, f"{method.insertion:.3f}", f"{method.seconds:.1f}"
        measured.append((method.title, *numbers))
    numbers_of = ["gradients", "|path residual|", "insertion score", "seconds"]
    print_table("mean over the photographs, the class's logit explained", ["method"], numbers_of, measured)
    console().print(f"[dim]{_ABOUT_PHOTOGRAPHS}[/]\n")


def _print_digits(report: DemoReport) -> None:
    console().print(f"A small network recognises {report.accuracy:.1%} of the test digits; these are explained.")
    rows = []
    for row in report.rows:
        delta = "-" if row.delta is None else f"{row.delta:.1g}"
        residual = "-" if row.path_residual is None else f"{row.path_residual:.2g}"
        rows.append((row.title, delta, residual, f"{row.insertion:.3f}", f"{row.milliseconds:.2f}"))
    numbers = ["|delta|", "|path residual|", "insertion score", "ms per digit"]
    print_table("mean over the test digits, 50 steps", ["method"], numbers, rows)
    console().print(f"[dim]{_ABOUT_DIGITS}[/]\n")
