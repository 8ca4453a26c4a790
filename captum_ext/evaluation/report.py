"""The report of an evaluation: one HTML file that needs no other."""

from __future__ import annotations

import importlib.metadata
import math
import shlex
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
import numpy as np
from matplotlib.colors import to_hex

import captum_ext
from captum_ext._files import atomic_write, printable
from captum_ext.classifiers import ImageBaseline
from captum_ext.evaluation.embedding import jpeg_uri, map_uri, png_uri
from captum_ext.evaluation.figures import MEANS
from captum_ext.evaluation.measures import METRICS
from captum_ext.evaluation.results import PictureResult, Row
from captum_ext.evaluation.settings import EvaluationSettings, InformationMeasure
from captum_ext.evaluation.statistics import Estimate, Summary, joint_area
from captum_ext.methods import method_named
from captum_ext.plot.attributions import COLOUR_MAP
from captum_ext.plot.curves import MOST_IN_ONE_PANEL

REPORT = "report.html"
MAX_PICTURES = 200
"""The first so many pictures are shown; thousands would make a page that no browser opens."""
_MAP_PIXELS = 150
_ABSENT = {
    ImageBaseline.BLACK: "black",
    ImageBaseline.WHITE: "white",
    ImageBaseline.MEAN: "of the mean colour of the training data",
    ImageBaseline.BLUR: "blurred",
}
_INFORMATION = {
    InformationMeasure.WEBP: "its size as lossless WebP",
    InformationMeasure.MS_SSIM: "its MS-SSIM to the whole picture",
}
_PACKAGES = ("captum", "torch", "torchvision", "numpy")


@dataclass(frozen=True)
class Findings:
    """What a report tells.

    Parameters
    ----------
    settings
        Of the evaluation.
    results
        Of all pictures.
    rows
        Of all pictures.
    summaries
        For each method and metric.
    figures
        What `captum_ext.evaluation.figures.write_figures` returned.
    """

    settings: EvaluationSettings
    results: Sequence[PictureResult]
    rows: Sequence[Row]
    summaries: Sequence[Summary]
    figures: Mapping[str, bytes]


def write_report(directory: Path, findings: Findings) -> Path:
    """Write ``report.html``: tables, curves, every picture with its maps, what was left out, and the settings.

    Parameters
    ----------
    directory
        Where to.
    findings
        What to tell.

    Returns
    -------
    Path
        The file.
    """
    template = files("captum_ext.evaluation").joinpath("report.html.jinja").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    html = environment.from_string(template).render(_context(findings))
    path = directory / REPORT
    with atomic_write(path) as file:
        file.write(printable(html).encode())
    return path


def _context(findings: Findings) -> dict[str, Any]:
    settings, results = findings.settings, findings.results
    return {
        "title": f"Attribution methods on {settings.model}",
        "subtitle": f"{len(results)} pictures of {settings.data.name}, {len(settings.methods)} methods; "
        f"explained is the {settings.output.value} of the class.",
        "first": _title(settings.methods[0]),
        "overview": _overview(findings),
        "means": png_uri(findings.figures[MEANS]) if MEANS in findings.figures else None,
        "curves": [
            {"title": METRICS[name].title, "about": METRICS[name].about, "uri": png_uri(content)}
            for name, content in findings.figures.items()
            if name in METRICS
        ],
        "wide_curves": len(settings.methods) > MOST_IN_ONE_PANEL,
        "metrics": [_metric(name, findings) for name in settings.metrics],
        "pictures": [_picture(result, settings) for result in results[:MAX_PICTURES]],
        "n_left_out": max(0, len(results) - MAX_PICTURES),
        "left_out": _left_out(findings.rows, settings),
        "settings": _settings(settings),
        "command": command_line(settings),
        "versions": ", ".join([f"captum-ext {captum_ext.__version__}", *map(_version, _PACKAGES)]),
        "scale": _css_scale(),
    }


def _version(package: str) -> str:
    return f"{package} {importlib.metadata.version(package)}"


def _title(method: str) -> str:
    return method_named(method).title


def _overview(findings: Findings) -> list[dict[str, Any]]:
    settings, best = findings.settings, _best(findings.summaries)
    seconds: defaultdict[str, dict[str, float]] = defaultdict(dict)
    for row in findings.rows:
        if row.seconds is not None:
            seconds[row.method][row.picture] = row.seconds
    return [
        {
            "title": _title(method),
            "cells": [_cell(summary, summary in best) for summary in findings.summaries if summary.method == method],
            "seconds": f"{np.mean(list(seconds[method].values())):.2f}" if seconds[method] else "-",
        }
        for method in settings.methods
    ]


def _best(summaries: Sequence[Summary]) -> list[Summary]:
    """Return the summary with the best mean of each metric."""
    best: dict[str, tuple[float, Summary]] = {}
    for summary in summaries:
        if summary.value is not None:
            merit = summary.value.mean if METRICS[summary.metric].higher_is_better else -summary.value.mean
            if summary.metric not in best or merit > best[summary.metric][0]:
                best[summary.metric] = merit, summary
    return [summary for _, summary in best.values()]


def _cell(summary: Summary, is_best: bool) -> dict[str, Any]:
    value, comparison = summary.value, summary.comparison
    return {
        "mean": "-" if value is None else f"{value.mean:.3f}",
        "interval": "" if value is None else _interval(value),
        "wins": "" if comparison is None else f"{comparison.wins}/{comparison.n_pictures}",
        "best": is_best,
    }


def _interval(estimate: Estimate, sign: str = "") -> str:
    return f"{estimate.low:{sign}.3f} to {estimate.high:{sign}.3f}"


def _metric(name: str, findings: Findings) -> dict[str, Any]:
    metric = METRICS[name]
    return {
        "title": metric.title,
        "arrow": "↑" if metric.higher_is_better else "↓",
        "direction": "higher is better" if metric.higher_is_better else "lower is better",
        "definition": _definition(name, findings.settings),
        "has_joint_area": metric.has_joint_area,
        "rows": [
            {"title": _title(summary.method), "cells": _detailed(summary, findings)}
            for summary in findings.summaries
            if summary.metric == name
        ],
    }


def _detailed(summary: Summary, findings: Findings) -> list[str]:
    value, comparison = summary.value, summary.comparison
    cells = [str(summary.n_pictures)]
    cells += ["-", "-"] if value is None else [f"{value.mean:.4f}", _interval(value)]
    if comparison is None:
        cells += ["", "", ""]
    else:
        difference = comparison.difference
        cells += [f"{comparison.wins}/{comparison.n_pictures}", f"{difference.mean:+.4f}", _interval(difference, "+")]
    if METRICS[summary.metric].has_joint_area:
        area = joint_area(findings.results, findings.settings, summary.method, summary.metric)
        cells.append("-" if area is None else f"{area:.3f}")
    return cells


def _definition(name: str, settings: EvaluationSettings) -> str:
    if name in ("insertion", "deletion"):
        kind = settings.insertion_baseline if name == "insertion" else settings.deletion_baseline
        moves = "enter the picture" if name == "insertion" else "leave the picture"
        return (
            f"pixels {moves} in the order of the map, in {settings.curve_steps} steps; those that are out are "
            f"{_ABSENT[kind]}. The value is the area under the probability of the class, divided by that of the whole "
            "picture (Petsiuk et al., RISE, 2018; normalised as in Yang et al., IDGI, 2023)."
        )
    follows = "whether the class is the predicted one" if name == "aic" else "the normalised probability of the class"
    return (
        "pixels are revealed in the order of the map on top of 1 % random ones, the others are interpolated. The value "
        f"is the area under {follows} against the information in the picture, "
        f"{_INFORMATION[settings.information]} (Kapishnikov et al., XRAI, 2019). Pictures whose class has a "
        f"probability below {settings.min_score:g} do not qualify."
    )


def _picture(result: PictureResult, settings: EvaluationSettings) -> dict[str, Any]:
    seen = result.part.seen_class
    about = f"failed: {result.part.error}"
    if seen is not None:
        other = "" if seen.predicted == seen.name else f", predicted as {seen.predicted}"
        about = f"{seen.name} {100 * seen.probability:.1f} %{other}"
    thumbnail = result.part.thumbnail
    return {
        "name": result.name,
        "about": about,
        "uri": None if thumbnail is None else jpeg_uri(thumbnail, 2 * _MAP_PIXELS),
        "maps": [] if thumbnail is None else [_map(method, result, settings) for method in result.methods],
    }


def _map(method: str, result: PictureResult, settings: EvaluationSettings) -> dict[str, Any]:
    part = result.methods[method]
    values = {name: part.measurements[name].value for name in settings.metrics if name in part.measurements}
    return {
        "title": _title(method),
        "uri": None if part.map is None else map_uri(part.map, _MAP_PIXELS),
        "scores": [
            {"title": METRICS[name].title, "shown": "-" if math.isnan(value) else f"{value:.3f}"}
            for name, value in values.items()
        ],
        "error": part.error,
    }


def _left_out(rows: Sequence[Row], settings: EvaluationSettings) -> list[dict[str, str]]:
    """Return one line for each picture, status and reason, however many methods and metrics it concerns."""
    concerned: defaultdict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for row in rows:
        if row.status != "ok":
            concerned[row.picture, row.status, row.reason or ""].append(row)
    return [
        {"picture": picture, "status": status, "reason": reason, "what": _concerned(found, settings)}
        for (picture, status, reason), found in concerned.items()
    ]


def _concerned(rows: Sequence[Row], settings: EvaluationSettings) -> str:
    methods, metrics = {row.method for row in rows}, {row.metric for row in rows}
    shown_methods = (
        "all methods"
        if methods == set(settings.methods)
        else ", ".join(_title(name) for name in settings.methods if name in methods)
    )
    shown_metrics = (
        "all metrics"
        if metrics == set(settings.metrics)
        else ", ".join(METRICS[name].title for name in settings.metrics if name in metrics)
    )
    return f"{shown_metrics}; {shown_methods}"


def _settings(settings: EvaluationSettings) -> list[tuple[str, str]]:
    stored = settings.as_json()
    return [
        (name.replace("_", " "), ", ".join(map(str, value)) if isinstance(value, list) else str(value))
        for name, value in stored.items()
        if value is not None
    ]


def command_line(settings: EvaluationSettings) -> str:
    """Return the command that makes these results.

    Examples
    --------
    >>> print(command_line(EvaluationSettings(Path("my pictures"), "resnet50", None, ("ig",), ("sic",), n_steps=20)))
    captum-ext evaluate 'my pictures' --model resnet50 --methods ig --metrics sic --n-steps 20 --out DIR
    """
    default = EvaluationSettings(settings.data, "", None, (), ())
    words = ["captum-ext", "evaluate", str(settings.data)]
    for name, value in vars(settings).items():
        if name != "data" and value != getattr(default, name):
            shown = ",".join(value) if isinstance(value, tuple) else str(getattr(value, "value", value))
            words += [f"--{name.replace('_', '-')}", shown]
    return shlex.join([*words, "--out", "DIR"])


def _css_scale(n_stops: int = 9) -> str:
    colours = matplotlib.colormaps[COLOUR_MAP](np.linspace(0, 1, n_stops))
    return f"linear-gradient(to right, {', '.join(to_hex(colour) for colour in colours)})"
