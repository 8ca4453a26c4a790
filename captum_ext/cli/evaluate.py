"""``captum-ext evaluate``: attribution methods measured on a folder of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from captum_ext._files import printable
from captum_ext.classifiers import ImageBaseline, Output, explained_model, load_classifier
from captum_ext.cli.console import (
    Baseline,
    DeviceName,
    ExplainedOutput,
    InternalBatchSize,
    ModelName,
    Steps,
    Weights,
    device_named,
    progress_bar,
    refusals,
)
from captum_ext.evaluation.dataset import (
    ClassFrom,
    LabelledPicture,
    find_pictures,
    labelled_pictures,
    resolved_class_from,
)
from captum_ext.evaluation.figures import write_figures
from captum_ext.evaluation.measures import METRICS, parse_metric_names
from captum_ext.evaluation.ranks import Rank, ranks
from captum_ext.evaluation.report import Findings, write_report
from captum_ext.evaluation.results import CSV, GrowingTables, load_results, write_curves, write_tables
from captum_ext.evaluation.runner import Runner
from captum_ext.evaluation.settings import EvaluationSettings, InformationMeasure
from captum_ext.evaluation.statistics import Estimate, Summary, summarize
from captum_ext.evaluation.store import ResultStore
from captum_ext.methods import METHODS, check_layers, method_named, parse_method_names


def evaluate(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Folder of pictures.", show_default=False)],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where results go, or are.", show_default=False)],
    model: ModelName = "resnet50",
    weights: Weights = None,
    methods: Annotated[
        str, typer.Option(help=f"Any of {','.join(METHODS)}, gradcam:LAYER; compared with the first.")
    ] = "ig,idgi,fullgrad,gradcam",
    metrics: Annotated[str, typer.Option(help=f"Any of {','.join(METRICS)}.")] = ",".join(METRICS),
    class_from: Annotated[
        ClassFrom, typer.Option(help="auto: folders if there are, else predictions.")
    ] = ClassFrom.AUTO,
    labels: Annotated[Path | None, typer.Option(metavar="CSV", help="Table with the columns file and class.")] = None,
    output: ExplainedOutput = Output.LOGIT,
    baseline: Baseline = ImageBaseline.BLACK,
    n_steps: Steps = 50,
    insertion_baseline: Annotated[ImageBaseline, typer.Option(help="Before pixels enter.")] = ImageBaseline.BLUR,
    deletion_baseline: Annotated[ImageBaseline, typer.Option(help="After pixels left.")] = ImageBaseline.MEAN,
    curve_steps: Annotated[int, typer.Option(min=1, help="Steps of insertion and deletion.")] = 50,
    information: Annotated[
        InformationMeasure, typer.Option(help="What AIC and SIC measure information by.")
    ] = InformationMeasure.WEBP,
    min_score: Annotated[float, typer.Option(min=0, max=1, help="Probability to qualify for AIC and SIC.")] = 0.8,
    seed: Annotated[int, typer.Option(min=0, help="Of everything that is random.")] = 0,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many pictures.")] = None,
    internal_batch_size: InternalBatchSize = 10,
    device: DeviceName = "auto",
    force: Annotated[
        bool, typer.Option("--force", help="Start anew; what evaluate wrote into DIR is removed.")
    ] = False,
) -> None:
    """Measure attribution methods on a folder of pictures: tables, curves and a report.

    Killed and started again it goes on where it was; --methods and --limit may then be others.

    torchrun splits the pictures among its processes.
    """
    with ranks() as rank:
        console = Console(highlight=False, emoji=False, quiet=not rank.is_first)
        with refusals(console):
            paths = find_pictures(data, leave_out=out)
            settings = EvaluationSettings(
                data=data,
                model=model,
                weights=weights,
                methods=tuple(parse_method_names(methods)),
                metrics=tuple(parse_metric_names(metrics)),
                class_from=class_from if labels is not None else resolved_class_from(data, paths, class_from),
                labels=labels,
                output=output,
                baseline=baseline,
                n_steps=n_steps,
                insertion_baseline=insertion_baseline,
                deletion_baseline=deletion_baseline,
                curve_steps=curve_steps,
                information=information,
                min_score=min_score,
                seed=seed,
                limit=limit,
            )
            pictures = labelled_pictures(data, paths, settings.class_from, labels)[:limit]
            where = device_named(device, rank.local)
            classifier = load_classifier(model, weights, where)
            check_layers(settings.methods, explained_model(classifier, output))
            store = ResultStore(out)
            rank.once(lambda: store.open(settings, force))
        runner = Runner(classifier, settings, store, where, internal_batch_size)
        # Each process has pictures and so refusals of its own, which must be heard.
        with refusals(Console(highlight=False, emoji=False)):
            _run(console, runner, pictures, rank)
            rank.wait()
            failed = _conclude(console, store, settings, pictures) if rank.is_first else 0
    if failed:
        console.print(f"[bold red]{failed} of {len(pictures)} pictures failed.[/]")
        raise typer.Exit(1)


def _run(console: Console, runner: Runner, pictures: list[LabelledPicture], rank: Rank) -> None:
    """Compute what is missing of this process's pictures; the first process keeps the tables up to date."""
    tables = GrowingTables(runner.store, [picture.name for picture in pictures], runner.settings)
    own = pictures[rank.index :: rank.count]
    with progress_bar(console, hidden=not rank.is_first) as progress:
        bar = progress.add_task("", total=len(own) * len(runner.settings.methods))

        def on_method(picture: LabelledPicture, method: str) -> None:
            progress.update(bar, advance=1, description=f"{escape(picture.name)}: {escape(method)}")
            if rank.is_first:
                tables.update()

        runner.run(own, on_method)


def _conclude(
    console: Console, store: ResultStore, settings: EvaluationSettings, pictures: list[LabelledPicture]
) -> int:
    """Merge what all processes found, show it, and return how many pictures failed."""
    results = load_results(store, [picture.name for picture in pictures], settings)
    rows = [row for result in results for row in result.rows(settings)]
    write_tables(store.directory, rows)
    write_curves(store.directory, results, settings)
    summaries = summarize(rows, settings.methods, settings.metrics, settings.seed)
    figures = write_figures(store.directory, results, summaries, settings)
    report = write_report(store.directory, Findings(settings, results, rows, summaries, figures))
    for metric in settings.metrics:
        console.print(_table(metric, [summary for summary in summaries if summary.metric == metric]))
    reasons = {row.picture: row.reason for row in rows if row.status == "failed"}
    for picture, reason in reasons.items():
        console.print(f"[bold red]Failed:[/] {escape(f'{picture}: {reason}')}", soft_wrap=True)
    console.print(
        f"report {escape(printable(report))}, table {escape(printable(store.directory / CSV))}", soft_wrap=True
    )
    return len(reasons)


def _table(metric: str, summaries: list[Summary]) -> Table:
    about = METRICS[metric]
    table = Table(title=f"{about.title}: {about.about}", title_justify="left")
    first = method_named(summaries[0].method).title
    headings = ("method", "pictures", "mean", "95 % interval", f"better than {first}", f"less {first}, 95 % interval")
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "method" else "right")
    for summary in summaries:
        table.add_row(method_named(summary.method).title, str(summary.n_pictures), *map(escape, _cells(summary)))
    return table


def _cells(summary: Summary) -> tuple[str, ...]:
    value, comparison = summary.value, summary.comparison
    shown = ("-", "-") if value is None else (f"{value.mean:.3f}", _interval(value, ".3f"))
    if comparison is None:
        return (*shown, "", "")
    difference = comparison.difference
    return (
        *shown,
        f"{comparison.wins}/{comparison.n_pictures}",
        f"{difference.mean:+.3f} {_interval(difference, '+.3f')}",
    )


def _interval(estimate: Estimate, form: str) -> str:
    return f"[{estimate.low:{form}}, {estimate.high:{form}}]"
