"""The comparison of the IDGI paper, from the results of ``captum-ext evaluate``: each IDGI variant beside its own base.

python benchmarks/idgi_paper.py DIR       DIR is --out of an evaluation with the six methods
"""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import typer
from captum_ext.evaluation.results import PARQUET, Row
from captum_ext.evaluation.statistics import Estimate, Summary, summarize

from captum_ext.evaluation.measures import METRICS
from captum_ext.methods import method_named

PAIRS = (("ig", "idgi"), ("guided-ig", "idgi:guided"), ("blur-ig", "idgi:blur"))
PAPER = ("insertion", "aic", "sic")
"""Yang, Wang and Bilgic, CVPR 2023: on these every IDGI variant is above its own base, for every model."""


def interval(estimate: Estimate, form: str = "+.3f") -> str:
    return f"{estimate.mean:{form}} ({estimate.low:{form}} to {estimate.high:{form}})"


def direction(metric: str, summary: Summary) -> str:
    """Say whether the difference has the paper's sign, and whether its interval leaves 0 out."""
    if summary.comparison is None:
        return "-"
    difference = summary.comparison.difference
    sign = 1 if METRICS[metric].higher_is_better else -1
    same = sign * difference.mean > 0
    certain = difference.low > 0 or difference.high < 0
    paper = "" if metric in PAPER else " (not in the paper)"
    return f"{'IDGI ahead' if same else 'IDGI behind'}{'' if certain else ', within chance'}{paper}"


def print_pairs(rows: list[Row], metrics: list[str]) -> None:
    print("| metric | base | IDGI variant | base's mean | IDGI's mean | difference (95 %) | better on | direction |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for metric in metrics:
        for pair in PAIRS:
            base, ours = summarize(rows, pair, [metric])
            if base.value is None or ours.value is None or ours.comparison is None:
                continue
            compared = ours.comparison
            cells = [METRICS[metric].title, *(method_named(name).title for name in pair)]
            cells += [f"{base.value.mean:.3f}", f"{ours.value.mean:.3f}", interval(compared.difference)]
            cells += [f"{compared.wins} of {compared.n_pictures}", direction(metric, ours)]
            print(f"| {' | '.join(cells)} |")


def print_all(rows: list[Row], methods: list[str], metrics: list[str]) -> None:
    print(f"| method | {' | '.join(METRICS[metric].title for metric in metrics)} | seconds |")
    print(f"| --- |{' --- |' * (len(metrics) + 1)}")
    summaries = summarize(rows, methods, metrics)
    for method in methods:
        values = [summary.value for summary in summaries if summary.method == method]
        seconds = {row.picture: row.seconds for row in rows if row.method == method and row.seconds is not None}
        shown = ["-" if value is None else interval(value, ".3f") for value in values]
        print(f"| {method_named(method).title} | {' | '.join(shown)} | {sum(seconds.values()) / len(seconds):.1f} |")


def main(directory: Path) -> None:
    """Print both tables."""
    rows = [Row(**record) for record in pq.read_table(directory / PARQUET).to_pylist()]
    metrics, methods = (list(dict.fromkeys(getattr(row, name) for row in rows)) for name in ("metric", "method"))
    print(f"{len({row.picture for row in rows})} pictures\n")
    print_pairs(rows, metrics)
    print()
    print_all(rows, methods, metrics)


if __name__ == "__main__":
    typer.run(main)
