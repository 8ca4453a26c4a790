"""``captum-ext evaluate``: attribution methods measured on a folder of images."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from captum_ext._errors import printable
from captum_ext.cli._console import console, print_failures, print_table
from captum_ext.evaluation.settings import EvaluationSettings, Flag

if TYPE_CHECKING:
    import pandas as pd


def evaluate(
    data: Path,
    /,
    *,
    out: Path,
    settings: EvaluationSettings | None = None,
    force: Flag = False,
    accept_versions: Flag = False,
) -> int:
    """Measure attribution methods on a folder of images: tables, curves and a report.

    Killed and started again it goes on where it was; --methods and --limit may then be others. torchrun splits the
    images among its processes.

    Parameters
    ----------
    data
        Folder of images.
    out
        Folder of results.
    force
        Start anew; what evaluate wrote into the folder of results is removed, and nothing else.
    accept_versions
        Go on with results of other versions of the packages, or of other weights.
    """
    # Here, as everywhere in the commands: help imports nothing that computes, which takes seconds.
    import pandas as pd

    from captum_ext import evaluation
    from captum_ext.evaluation.outcome import RESULTS, SUMMARY
    from captum_ext.evaluation.ranks import is_first_process
    from captum_ext.evaluation.report import REPORT
    from captum_ext.evaluation.table import missing_values

    settings = settings or EvaluationSettings()
    found = evaluation.evaluate(
        settings.model,
        data,
        out=out,
        settings=settings,
        force=force,
        accept_versions=accept_versions,
        progress=True,
    )
    if not is_first_process():
        return 0
    summary = pd.read_csv(out / SUMMARY)
    for metric in found["metric"].unique():
        _print_summary(metric, summary[summary["metric"] == metric])
        if why := missing_values(found, metric):
            console().print(escape(f"{evaluation.METRICS[metric].title}: {why}"))
    failed = found[found["status"] == "failed"].drop_duplicates("image")
    written = ", ".join(printable(out / name) for name in (REPORT, RESULTS))
    console().print(escape(f"report and table: {written}"))
    return print_failures(dict(zip(failed["image"], failed["reason"], strict=True)), found["image"].nunique())


def _print_summary(metric: str, summary: pd.DataFrame) -> None:
    from captum_ext.evaluation import METRICS
    from captum_ext.methods import method_named

    about = METRICS[metric]
    if not len(summary):
        return
    first = method_named(summary["method"].iloc[0]).title
    numbers = ["images", "mean", "95 % interval", f"better than {first}", f"less {first}, 95 % interval"]
    rows = [(method_named(row.method).title, *_cells(row)) for row in summary.itertuples()]
    print_table(f"{about.title}: {about.about}", ["method"], numbers, rows)


def _cells(row: Any) -> tuple[str, ...]:
    if math.isnan(row.mean):
        return str(row.n_images), "-", "-", "", ""
    own = str(row.n_images), f"{row.mean:.3f}", f"[{row.low:.3f}, {row.high:.3f}]"
    if math.isnan(row.wins):
        return *own, "", ""
    interval = f"[{row.difference_low:+.3f}, {row.difference_high:+.3f}]"
    return *own, f"{row.wins:.0f}/{row.n_compared:.0f}", f"{row.difference:+.3f} {interval}"
