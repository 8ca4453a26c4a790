"""The comparison of the IDGI paper, from the results of ``captum-ext evaluate``: each IDGI variant beside its own base.

    python benchmarks/idgi_paper.py DIR ...             each is --out of an evaluation and named as the network; one is
                                                        told in full, several side by side
    python benchmarks/idgi_paper.py --by-steps DIR ...  NETWORK_8, NETWORK_16 and so on, of as many steps: insertion on
                                                        the pictures that all of a network's have

For evaluations under ``--protocol idgi-paper`` SIC is the area under the median curve of all images, as in the paper;
its interval draws whole images, for both methods of a pair at once. All other scores are means over images.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cyclopts
import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from captum_ext.evaluation import METRICS, summarize
from captum_ext.methods import method_named
from captum_ext.metrics import bootstrap_interval

N_DRAWS = 500
FEWEST = 5
PAIRS = (("ig", "idgi"), ("guided-ig", "idgi:guided"), ("blur-ig", "idgi:blur"))
PAPER = ("insertion", "insertion-raw", "aic", "sic", "aic-ms-ssim", "sic-ms-ssim")
"""Yang, Wang and Bilgic, CVPR 2023: on these every IDGI variant is above its own base, for every model."""


FULL_GRAD, OTHERS = "fullgrad:paper", ("saliency", "gradcam", "ig", "idgi", "random")
SHOWN = ("insertion", "aic", "sic-ms-ssim", "perturbation")
"""Of all maps, side by side."""


@dataclass(frozen=True)
class Evaluation:
    """An evaluation as it lies in its folder.

    Parameters
    ----------
    directory
        The folder.
    """

    directory: Path

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What was asked for."""
        found: dict[str, Any] = json.loads((self.directory / "settings.json").read_text())["settings"]
        return found

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row for each image, method and metric."""
        return pd.read_csv(self.directory / "results.csv")

    @property
    def n_steps(self) -> int:
        """Steps of the path methods."""
        return int(self.settings["n_steps"])

    @property
    def network(self) -> str:
        """Name of the folder, without the number of steps that it may end in."""
        return self.directory.name.removesuffix(f"_{self.n_steps}")

    @property
    def images(self) -> set[str]:
        """Those that were explained."""
        return set(self.table["image"])

    def has(self, *methods: str) -> bool:
        """Whether the methods are among those that were asked for."""
        return set(methods) <= set(self.table["method"])

    def compared(self, metric: str, base: str, ours: str, images: Collection[str] | None = None) -> Compared:
        """Compare two methods on one metric, on some images or on all."""
        of_metric = self.table[self.table["metric"] == metric]
        if images is not None:
            of_metric = of_metric[of_metric["image"].isin(images)]
        values = of_metric.pivot(index="image", columns="method", values="value")[[base, ours]].dropna()
        pairs = torch.tensor(values.to_numpy(dtype=np.float64).tolist())
        wins = (pairs[:, 1] > pairs[:, 0]) if METRICS[metric].higher_is_better else (pairs[:, 1] < pairs[:, 0])
        if metric.startswith("sic") and self.settings["protocol"] == "idgi-paper":
            return self._by_median_curves(metric, base, ours, int(wins.sum()))
        difference = pairs[:, 1] - pairs[:, 0]
        first, second = pairs.mean(0).tolist()
        low, high = bootstrap_interval(difference)
        return Compared(first, second, second - first, low, high, int(wins.sum()), len(pairs))

    def _by_median_curves(self, metric: str, base: str, ours: str, wins: int) -> Compared:
        with np.load(self.directory / "curves" / f"{metric}.npz") as stored:
            both = np.stack([stored[base], stored[ours]])
        both = both[:, ~np.isnan(both).any((0, 2))]

        def areas(curves: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
            found: npt.NDArray[np.float64] = np.trapezoid(np.median(curves, axis=1), dx=1 / (both.shape[2] - 1), axis=1)
            return found

        generator = np.random.default_rng(0)
        draws = generator.integers(both.shape[1], size=(N_DRAWS, both.shape[1]))
        differences = [np.diff(areas(both[:, draw]))[0] for draw in draws]
        low, high = np.quantile(differences, [0.025, 0.975])
        first, second = areas(both).tolist()
        return Compared(first, second, second - first, float(low), float(high), wins, both.shape[1])


@dataclass(frozen=True)
class Compared:
    """Two methods on one metric: their scores, the difference with its interval of 95 %, and how many images agree."""

    base: float
    ours: float
    difference: float
    low: float
    high: float
    wins: int
    n_images: int

    def cells(self) -> list[str]:
        """Return the numbers as a table shows them."""
        shown = f"{self.difference:+.3f} ({self.low:+.3f} to {self.high:+.3f})"
        return [f"{self.base:.3f}", f"{self.ours:.3f}", shown, f"{self.wins}/{self.n_images}"]

    def cell(self, *, higher_is_better: bool) -> str:
        """Return the difference, how many images agree and the verdict, which stands out if the claim does not hold."""
        verdict = self.verdict(higher_is_better=higher_is_better)
        if verdict == "too few":
            return f"{self.difference:+.3f}, {self.wins}/{self.n_images}, too few"
        *_, difference, wins = self.cells()
        return f"{difference}, {wins}, {verdict if verdict == 'holds' else f'**{verdict}**'}"

    def verdict(self, *, higher_is_better: bool) -> str:
        """Say whether the second method is ahead, by an interval that leaves 0 out, of enough images for one."""
        if self.n_images < FEWEST:
            return "too few"
        if self.low <= 0 <= self.high:
            return "undecided"
        return "holds" if (self.difference > 0) == higher_is_better else "does not hold"


def print_pairs(evaluation: Evaluation, metrics: Sequence[str]) -> None:
    for metric in metrics:
        for base, ours in PAIRS:
            if not evaluation.has(base, ours):
                continue
            found = evaluation.compared(metric, base, ours)
            claim = found.verdict(higher_is_better=METRICS[metric].higher_is_better)
            claim = claim if metric in PAPER else f"{claim} (not claimed)"
            cells = [evaluation.network, METRICS[metric].title, method_named(base).title, *found.cells(), claim]
            print(f"| {' | '.join(cells)} |")


def print_full_grad(evaluation: Evaluation) -> None:
    """Compare FullGrad's published map with its peers by the pixel perturbation test of its paper."""
    for other in OTHERS:
        if evaluation.has(FULL_GRAD, other) and "perturbation" in set(evaluation.table["metric"]):
            found = evaluation.compared("perturbation", other, FULL_GRAD)
            cells = [evaluation.network, method_named(other).title, *found.cells()]
            print(f"| {' | '.join(cells)} | {found.verdict(higher_is_better=False)} |")


def print_all(evaluation: Evaluation) -> None:
    table = evaluation.table
    metrics = table["metric"].unique()
    print(f"| {evaluation.network} | {' | '.join(METRICS[metric].title for metric in metrics)} | seconds |")
    print(f"| --- |{' --- |' * (len(metrics) + 1)}")
    seconds = table.drop_duplicates(["image", "method"]).groupby("method")["seconds"].mean()
    for method, rows in summarize(table).groupby("method", sort=False):
        shown = ["-" if pd.isna(r.mean) else f"{r.mean:.3f} ({r.low:.3f} to {r.high:.3f})" for r in rows.itertuples()]
        print(f"| {method_named(method).title} | {' | '.join(shown)} | {seconds[method]:.1f} |")
    print()


def print_in_full(evaluation: Evaluation) -> None:
    """Print everything about one network."""
    print("| network | metric | base | base's | IDGI's | difference (95 %) | better on | IDGI ahead |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    print_pairs(evaluation, list(evaluation.table["metric"].unique()))
    print("\n| network | other map | its | FullGrad's | difference (95 %) | better on | FullGrad ahead |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    print_full_grad(evaluation)
    print()
    print_all(evaluation)


def print_side_by_side(evaluations: Sequence[Evaluation]) -> None:
    """Print the claims and the means of several networks under the paper's protocol, one column each."""
    columns = " | ".join(evaluation.network for evaluation in evaluations)
    rule = " --- |" * len(evaluations)
    print(f"| metric | base | {columns} |\n| --- | --- |{rule}")
    for metric in (*PAPER, "perturbation"):
        better = METRICS[metric].higher_is_better
        for base, ours in PAIRS:
            cells = [
                evaluation.compared(metric, base, ours).cell(higher_is_better=better) for evaluation in evaluations
            ]
            title = METRICS[metric].title if metric in PAPER else f"{METRICS[metric].title} (not claimed)"
            print(f"| {title} | {method_named(base).title} | {' | '.join(cells)} |")
    print(f"\n| random less IG | {columns} |\n| --- |{rule}")
    cells = [" ".join(evaluation.compared("insertion", "ig", "random").cells()[2:]) for evaluation in evaluations]
    print(f"| {METRICS['insertion'].title} | {' | '.join(cells)} |")
    print(f"\n| FullGrad (paper), perturbation, less that of | {columns} |\n| --- |{rule}")
    for other in OTHERS:
        found = [evaluation.compared("perturbation", other, FULL_GRAD) for evaluation in evaluations]
        cells = [one.cell(higher_is_better=False) for one in found]
        print(f"| {method_named(other).title} | {' | '.join(cells)} |")
    print(f"\n| map: {', '.join(METRICS[metric].title for metric in SHOWN)} | {columns} |\n| --- |{rule}")
    means = [summarize(evaluation.table).set_index(["method", "metric"])["mean"] for evaluation in evaluations]
    for method in evaluations[0].table["method"].unique():
        cells = [" / ".join(f"{mean[method, metric]:.3f}" for metric in SHOWN) for mean in means]
        print(f"| {method_named(method).title} | {' | '.join(cells)} |")


def print_by_steps(evaluations: Sequence[Evaluation]) -> None:
    """Print base's and IDGI's insertion over numbers of steps, on the same pictures for all numbers."""
    counts = sorted({evaluation.n_steps for evaluation in evaluations})
    print(f"| network | pictures | base | {' | '.join(f'{n} steps' for n in counts)} |")
    print(f"| --- | --- | --- |{' --- |' * len(counts)}")
    for network in dict.fromkeys(evaluation.network for evaluation in evaluations):
        by_count = {evaluation.n_steps: evaluation for evaluation in evaluations if evaluation.network == network}
        images = set.intersection(*(evaluation.images for evaluation in by_count.values()))
        for base, ours in PAIRS:
            found = [by_count[n].compared("insertion", base, ours, images) for n in counts]
            cells = [
                f"{one.base:.3f} / {one.ours:.3f}, {one.wins}/{one.n_images}, {one.verdict(higher_is_better=True)}"
                for one in found
            ]
            print(f"| {network} | {len(images)} | {method_named(base).title} | {' | '.join(cells)} |")


def main(*directories: Path, by_steps: bool = False) -> None:
    """Print all tables."""
    evaluations = [Evaluation(directory) for directory in directories]
    if by_steps:
        print_by_steps(evaluations)
        return
    for evaluation in evaluations:
        print(f"{evaluation.network}: {len(evaluation.images)} images, {evaluation.n_steps} steps\n")
    if len(evaluations) == 1:
        print_in_full(evaluations[0])
    else:
        print_side_by_side(evaluations)


if __name__ == "__main__":
    cyclopts.run(main)
