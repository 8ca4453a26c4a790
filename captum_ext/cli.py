"""The command line: ``captum-ext explain`` and ``captum-ext demo``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from captum_ext.demo import run_demo
from captum_ext.explanation import Explanation, Output, Settings, explain_image
from captum_ext.image_baselines import ImageBaseline
from captum_ext.images import read_image
from captum_ext.method_names import METHODS, MethodResult, parse_method_names
from captum_ext.models import Classifier, load_classifier

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Attribution methods that Captum lacks.")

ABOUT_DELTA = (
    "delta: sum of the attributions less the change of the output. IDGI's is 0 at any --n-steps, so it cannot tell "
    "whether these are enough; its path residual can: raise --n-steps until the residual is small."
)


@app.command()
def explain(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Pictures.", show_default=False)],
    model: Annotated[str, typer.Option(help="torchvision's NAME, timm:NAME or package.module:function.")] = "resnet50",
    weights: Annotated[Path | None, typer.Option(metavar="FILE", help="State dict, .safetensors or .pth.")] = None,
    method: Annotated[str, typer.Option(help=f"Any of {','.join(METHODS)}, with commas.")] = "ig,idgi",
    target: Annotated[str | None, typer.Option(metavar="CLASS", help="Index or name; else the predicted one.")] = None,
    output: Annotated[Output, typer.Option(help="What is explained.")] = Output.LOGIT,
    baseline: Annotated[ImageBaseline, typer.Option(help="Where paths start that need it.")] = ImageBaseline.BLACK,
    n_steps: Annotated[int, typer.Option(min=1, help="Steps from baseline to picture.")] = 50,
    internal_batch_size: Annotated[int, typer.Option(min=1, help="Most pictures in one forward pass.")] = 10,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps ...")] = "auto",
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where figures and attributions go.")] = Path("explanations"),
) -> None:
    """Explain what a classifier sees in pictures: figures, raw attributions, and how far to trust them."""
    console = Console(highlight=False)
    try:
        settings = Settings(parse_method_names(method), target, output, baseline, n_steps, internal_batch_size)
        where = _device(device)
        classifier = load_classifier(model, weights, where)
    except (ValueError, RuntimeError) as error:
        console.print(f"[bold red]Refused:[/] {escape(str(error))}", soft_wrap=True)
        raise typer.Exit(2) from error
    failed = _explain_all(console, classifier, images, settings, where, out)
    console.print(f"[dim]{ABOUT_DELTA}[/]")
    if failed:
        console.print(f"[bold red]{failed} of {len(images)} pictures failed.[/]")
        raise typer.Exit(1)


def _explain_all(
    console: Console,
    classifier: Classifier,
    images: Sequence[Path],
    settings: Settings,
    device: torch.device,
    out: Path,
) -> int:
    """Explain picture by picture, and return how many failed."""
    failed = 0
    with _progress(console) as progress:
        bar = progress.add_task("", total=len(images) * len(settings.methods))
        for done, (path, name) in enumerate(zip(images, output_names(images), strict=True), start=1):
            progress.update(bar, description=escape(path.name))
            try:
                explanation = explain_image(
                    classifier, read_image(path), settings, device, on_result=lambda *_: progress.advance(bar)
                )
                files = explanation.save(out, name)
                _report(console, path, explanation, files)
            except (ValueError, RuntimeError, OSError) as error:
                failed += 1
                console.print(f"[bold red]Failed:[/] {_naming(path, error)}", soft_wrap=True)
            progress.update(bar, completed=done * len(settings.methods))
    return failed


@app.command()
def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the figure and the table go.")] = Path("demo-output"),
) -> None:
    """Train a small network on scanned digits, explain it with IG and IDGI, and compare."""
    console = Console(highlight=False)
    with console.status("training on scikit-learn's scanned digits") as status:
        report = run_demo(out, on_method=lambda title: status.update(f"explaining with {title}"))
    console.print(f"The network recognises {report.accuracy:.1%} of the test digits; these are explained.")
    table = Table(title="mean over the test digits, 50 steps", title_justify="left")
    for heading in ("method", "|delta|", "|path residual|", "insertion score", "ms per digit"):
        table.add_column(heading, justify="left" if heading == "method" else "right")
    for row in report.rows:
        residual = "-" if row.path_residual is None else f"{row.path_residual:.2g}"
        table.add_row(row.title, f"{row.delta:.1g}", residual, f"{row.insertion:.3f}", f"{row.milliseconds:.2f}")
    console.print(table)
    console.print(f"[dim]{ABOUT_DELTA} Insertion: the higher, the sooner the network recognises the digit.[/]")
    console.print(f"figure {escape(str(report.figure))}, table {escape(str(report.table))}")


def _naming(path: Path, error: Exception) -> str:
    message = str(error)
    return escape(message if str(path) in message else f"{path}: {message}")


def _report(console: Console, path: Path, explanation: Explanation, files: Sequence[Path]) -> None:
    console.print(f"\n[bold]{escape(str(path))}[/]: {escape(', '.join(map(str, explanation.top)))}", soft_wrap=True)
    table = Table(title=f"explained: {escape(str(explanation.target))}", title_justify="left")
    for heading in ("method", "change of output", "delta", "path residual", "seconds"):
        table.add_column(heading, justify="left" if heading == "method" else "right")
    for name, result in explanation.results.items():
        table.add_row(METHODS[name].title, *_numbers(result))
    console.print(table)
    console.print(f"figure {escape(str(files[0]))}, attributions {escape(str(files[0].with_suffix('')))}.*.npy")


def _numbers(result: MethodResult) -> tuple[str, ...]:
    residual = "-" if result.path_residual is None else f"{result.path_residual.item():+.2g}"
    return f"{result.change.item():+.3f}", f"{result.delta.item():+.2g}", residual, f"{result.seconds:.1f}"


def output_names(images: Sequence[Path]) -> list[str]:
    """Return the stem of each picture, numbered where several have the same.

    Examples
    --------
    >>> output_names([Path("a/cat.jpg"), Path("b/cat.png"), Path("dog.jpg")])
    ['cat', 'cat-2', 'dog']
    """
    names: list[str] = []
    for image in images:
        number, name = 1, image.stem
        while name in names:
            number += 1
            name = f"{image.stem}-{number}"
        names.append(name)
    return names


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    torch.empty(1, device=device)  # refuses here, not in the middle
    return device


def _progress(console: Console) -> Progress:
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    return Progress(*columns, console=console, transient=True)
