"""The comparison of the IDGI paper, from the results of ``captum-ext evaluate``: each IDGI variant beside its own base.

python benchmarks/idgi_paper.py DIR       DIR is --out of an evaluation with the six methods
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cyclopts
import pandas as pd

from captum_ext.evaluation import METRICS, summarize
from captum_ext.methods import method_named

PAIRS = (("ig", "idgi"), ("guided-ig", "idgi:guided"), ("blur-ig", "idgi:blur"))
PAPER = ("insertion", "insertion-raw", "aic", "sic")
"""Yang, Wang and Bilgic, CVPR 2023: on these every IDGI variant is above its own base, for every model."""


def verdict(ours: Any) -> str:
    """Say whether IDGI is ahead, as the paper claims, by an interval that leaves 0 out."""
    sign = 1 if METRICS[ours.metric].higher_is_better else -1
    certain = ours.difference_low > 0 or ours.difference_high < 0
    found = "undecided" if not certain else "holds" if sign * ours.difference > 0 else "does not hold"
    return found if ours.metric in PAPER else f"{found} (not claimed in the paper)"


def print_pairs(table: pd.DataFrame) -> None:
    print("| metric | base | IDGI variant | base's mean | IDGI's mean | difference (95 %) | better on | IDGI ahead |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for metric in table["metric"].unique():
        for pair in PAIRS:
            both = [table[(table["metric"] == metric) & (table["method"] == method)] for method in pair]
            base, ours = summarize(pd.concat(both)).itertuples()
            if pd.isna(ours.difference):
                continue
            cells = [METRICS[metric].title, *(method_named(name).title for name in pair)]
            cells += [f"{base.mean:.3f}", f"{ours.mean:.3f}"]
            cells += [f"{ours.difference:+.3f} ({ours.difference_low:+.3f} to {ours.difference_high:+.3f})"]
            cells += [f"{ours.wins} of {ours.n_compared}", verdict(ours)]
            print(f"| {' | '.join(cells)} |")


def print_all(table: pd.DataFrame) -> None:
    metrics = table["metric"].unique()
    print(f"| method | {' | '.join(METRICS[metric].title for metric in metrics)} | seconds |")
    print(f"| --- |{' --- |' * (len(metrics) + 1)}")
    seconds = table.drop_duplicates(["image", "method"]).groupby("method")["seconds"].mean()
    for method, rows in summarize(table).groupby("method", sort=False):
        shown = ["-" if pd.isna(r.mean) else f"{r.mean:.3f} ({r.low:.3f} to {r.high:.3f})" for r in rows.itertuples()]
        print(f"| {method_named(method).title} | {' | '.join(shown)} | {seconds[method]:.1f} |")


def main(directory: Path, /) -> None:
    """Print both tables."""
    table = pd.read_csv(directory / "results.csv")
    print(f"{table['image'].nunique()} images\n")
    print_pairs(table)
    print()
    print_all(table)


if __name__ == "__main__":
    cyclopts.run(main)
