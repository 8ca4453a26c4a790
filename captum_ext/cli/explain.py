"""``captum-ext explain``: figures and raw attributions of images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape

from captum_ext._errors import printable
from captum_ext.cli._console import WHAT_IDGI_SAYS, console, print_failures, print_table
from captum_ext.evaluation.settings import ExplanationSettings, Flag

if TYPE_CHECKING:
    from captum_ext.methods import MethodResult

_ABOUT_DELTA = (
    "delta: sum of the attributions less the change of the output. IDGI's is 0 at any --n-steps, so it cannot tell "
    "whether these are enough; its path residual can: raise --n-steps until the residual is small."
)


def explain(
    *images: Path,
    settings: ExplanationSettings | None = None,
    out: Path = Path("explanations"),
    force: Flag = False,
) -> int:
    """Explain what a classifier sees in images: figures, raw attributions, and how far to trust them.

    Parameters
    ----------
    images
        Files.
    out
        Folder for figures and attributions.
    force
        Replace existing files.
    """
    from captum_ext.evaluation import explain as library
    from captum_ext.methods import method_named

    failures = {}
    for found in library.explain(images, out, settings=settings, force=force, progress=True):
        if found.explanation is None:
            failures[str(found.path)] = found.error or ""
            continue
        top = ", ".join(map(str, found.explanation.top))
        console().print(f"\n[bold]{escape(printable(found.path))}[/]: {escape(top)}")
        numbers = ["change of output", "delta", "path residual", "seconds"]
        rows = [(method_named(name).title, *_numbers(result)) for name, result in found.explanation.results.items()]
        print_table(f"explained: {found.explanation.target}", ["method"], numbers, rows)
        figure, arrays = (printable(path) for path in (found.files[0], found.files[0].with_suffix("")))
        console().print(escape(f"figure {figure}, attributions {arrays}.*.npy"))
    console().print(f"[dim]{_ABOUT_DELTA}[/]")
    if any(name.startswith("idgi") for name in (settings or ExplanationSettings()).methods):
        console().print(f"[dim]{WHAT_IDGI_SAYS}[/]")
    return print_failures(failures, len(images))


def _numbers(result: MethodResult) -> tuple[str, ...]:
    change = "-" if result.change is None else f"{result.change.item():+.3f}"
    delta = "-" if result.delta is None else f"{result.delta.item():+.2g}"
    residual = "-" if result.path_residual is None else f"{result.path_residual.item():+.2g}"
    return change, delta, residual, f"{result.seconds:.1f}"
