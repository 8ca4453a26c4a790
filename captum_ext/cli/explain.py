"""``captum-ext explain``: figures and raw attributions of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from captum_ext._files import check_absent, printable
from captum_ext.classifiers import Classifier, ImageBaseline, Output, explained_model, load_classifier, read_image
from captum_ext.cli.console import (
    Baseline,
    DeviceName,
    ExplainedOutput,
    Force,
    InternalBatchSize,
    ModelName,
    Steps,
    Weights,
    device_named,
    naming,
    progress_bar,
    refusals,
)
from captum_ext.evaluation.explain import Explanation, Settings, explain_image, output_files
from captum_ext.methods import METHODS, MethodResult, check_layers, method_named, parse_method_names

_ABOUT_DELTA = (
    "delta: sum of the attributions less the change of the output. IDGI's is 0 at any --n-steps, so it cannot tell "
    "whether these are enough; its path residual can: raise --n-steps until the residual is small."
)


def explain(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Pictures.", show_default=False)],
    model: ModelName = "resnet50",
    weights: Weights = None,
    method: Annotated[str, typer.Option(help=f"Any of {','.join(METHODS)}, gradcam:LAYER, with commas.")] = "ig,idgi",
    target: Annotated[str | None, typer.Option(metavar="CLASS", help="Index or name; else the predicted one.")] = None,
    output: ExplainedOutput = Output.LOGIT,
    baseline: Baseline = ImageBaseline.BLACK,
    n_steps: Steps = 50,
    internal_batch_size: InternalBatchSize = 10,
    device: DeviceName = "auto",
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where figures and attributions go.")] = Path("explanations"),
    force: Force = False,
) -> None:
    """Explain what a classifier sees in pictures: figures, raw attributions, and how far to trust them."""
    console = Console(highlight=False, emoji=False)
    with refusals(console):
        settings = Settings(parse_method_names(method), target, output, baseline, n_steps, internal_batch_size)
        files = [file for name in output_names(images) for file in output_files(out, name, settings.methods)]
        check_absent(files, force, inputs=images)
        where = device_named(device)
        classifier = load_classifier(model, weights, where)
        check_layers(settings.methods, explained_model(classifier, output))
    failed = _explain_all(console, classifier, images, settings, where, out)
    console.print(f"[dim]{_ABOUT_DELTA}[/]")
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
    with progress_bar(console) as progress:
        bar = progress.add_task("", total=len(images) * len(settings.methods))
        for done, (path, name) in enumerate(zip(images, output_names(images), strict=True), start=1):
            progress.update(bar, description=escape(printable(path.name)))
            try:
                explanation = explain_image(
                    classifier, read_image(path), settings, device, on_result=lambda *_: progress.advance(bar)
                )
                files = explanation.save(out, name)
                _report(console, path, explanation, files)
            except Exception as error:  # people's own models raise anything, and the other pictures go on
                failed += 1
                console.print(f"[bold red]Failed:[/] {naming(path, error)}", soft_wrap=True)
            progress.update(bar, completed=done * len(settings.methods))
    return failed


def _report(console: Console, path: Path, explanation: Explanation, files: Sequence[Path]) -> None:
    console.print(
        f"\n[bold]{escape(printable(path))}[/]: {escape(', '.join(map(str, explanation.top)))}", soft_wrap=True
    )
    table = Table(title=f"explained: {escape(str(explanation.target))}", title_justify="left")
    for heading in ("method", "change of output", "delta", "path residual", "seconds"):
        table.add_column(heading, justify="left" if heading == "method" else "right")
    for name, result in explanation.results.items():
        table.add_row(method_named(name).title, *_numbers(result))
    console.print(table)
    figure, arrays = (escape(printable(path)) for path in (files[0], files[0].with_suffix("")))
    console.print(f"figure {figure}, attributions {arrays}.*.npy")


def _numbers(result: MethodResult) -> tuple[str, ...]:
    change = "-" if result.change is None else f"{result.change.item():+.3f}"
    delta = "-" if result.delta is None else f"{result.delta.item():+.2g}"
    residual = "-" if result.path_residual is None else f"{result.path_residual.item():+.2g}"
    return change, delta, residual, f"{result.seconds:.1f}"


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
