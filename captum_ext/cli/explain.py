"""``captum-ext explain``: figures and raw attributions of images."""

from __future__ import annotations

from pathlib import Path

from rich.markup import escape

from captum_ext._errors import printable
from captum_ext.cli._console import WHAT_IDGI_SAYS, console, print_failures, print_table
from captum_ext.evaluation.settings import ExplanationSettings, Flag

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
    explained = library.explain(images, out, settings=settings, force=force, progress=True)
    for (path, found), name in zip(explained, library.output_names(images), strict=True):
        if isinstance(found, str):
            failures[str(path)] = found
            continue
        top = ", ".join(map(str, found.top))
        console().print(f"\n[bold]{escape(printable(path))}[/]: {escape(top)}")
        rows = []
        for method, result in found.results.items():
            change = "-" if result.change is None else f"{result.change.item():+.3f}"
            delta = "-" if result.delta is None else f"{result.delta.item():+.2g}"
            residual = "-" if result.path_residual is None else f"{result.path_residual.item():+.2g}"
            rows.append((method_named(method).title, change, delta, residual, f"{result.seconds:.1f}"))
        numbers = ["change of output", "delta", "path residual", "seconds"]
        print_table(f"explained: {found.target}", ["method"], numbers, rows)
        written = printable(out / name)
        console().print(escape(f"figure {written}.png, attributions {written}.*.npy"))
    console().print(f"[dim]{_ABOUT_DELTA}[/]")
    if any(name.startswith("idgi") for name in (settings or ExplanationSettings()).methods):
        console().print(f"[dim]{WHAT_IDGI_SAYS}[/]")
    return print_failures(failures, len(images))
