"""The report of an evaluation: one HTML file that needs no other."""

from __future__ import annotations

import base64
import dataclasses
import io
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
import numpy as np
import pandas as pd
from matplotlib.colors import to_hex
from PIL import Image

from captum_ext._errors import printable
from captum_ext._files import atomic_write
from captum_ext.classifiers import ImageBaseline
from captum_ext.evaluation.measures import METRICS, Metric
from captum_ext.evaluation.settings import (
    NOT_STORED,
    EvaluationSettings,
    HiddenPixels,
    Importance,
    InformationMeasure,
    shown,
)
from captum_ext.evaluation.store import Record, ResultStore, jpeg
from captum_ext.evaluation.table import missing_values
from captum_ext.methods import Method
from captum_ext.plot.attributions import COLOUR_MAP
from captum_ext.plot.curves import MOST_IN_ONE_PANEL

REPORT = "report.html"
MAX_IMAGES = 200
"""The first so many images are shown; thousands would make a page that no browser opens."""
MAX_LEFT_OUT = 1000
_ABSENT = {
    ImageBaseline.BLACK: "black",
    ImageBaseline.WHITE: "white",
    ImageBaseline.MEAN: "of the mean colour of the training data",
    ImageBaseline.BLUR: "blurred",
}
_HIDDEN = {
    HiddenPixels.INTERPOLATED: "on top of 1 % random ones, and the others are interpolated",
    HiddenPixels.BLURRED: "over the blurred image, at 25 even shares",
}
_INFORMATION = {
    InformationMeasure.WEBP: "its size as lossless WebP",
    InformationMeasure.PNG: "its size as PNG",
    InformationMeasure.MS_SSIM: "its MS-SSIM to the whole image",
}


@dataclass(frozen=True)
class Findings:
    """What there is to tell of an evaluation, besides what is read from the store.

    Parameters
    ----------
    settings
        Of the evaluation.
    data
        Where the images are from.
    versions
        Of what computed.
    methods, metrics
        By name.
    table, summary
        As `captum_ext.evaluation.evaluate` and `summarize` return them.
    joint_areas
        From a metric's name to the area under each method's median curve.
    figures
        PNG files: of ``"means"``, and of each metric that has curves.
    n_drawn
        From a metric's name to how many images' curves are in its figure.
    """

    settings: EvaluationSettings
    data: str
    versions: Mapping[str, str]
    methods: Mapping[str, Method]
    metrics: Mapping[str, Metric]
    table: pd.DataFrame
    summary: pd.DataFrame
    joint_areas: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    figures: Mapping[str, bytes] = field(default_factory=dict)
    n_drawn: Mapping[str, int] = field(default_factory=dict)


def write_report(store: ResultStore, images: Sequence[str], findings: Findings) -> Path:
    """Write ``report.html``: tables, curves, every image with its maps, what was left out, and the settings.

    Parameters
    ----------
    store
        Where to, and where the images and maps are.
    images
        Names of all images.
    findings
        What to tell.

    Returns
    -------
    Path
        The file.
    """
    template = files("captum_ext.evaluation").joinpath("report.html.jinja").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    html = environment.from_string(template).render(_context(store, images, findings))
    path = store.directory / REPORT
    with atomic_write(path) as file:
        file.write(printable(html).encode())
    return path


def _context(store: ResultStore, images: Sequence[str], findings: Findings) -> dict[str, Any]:
    settings, table, metrics = findings.settings, findings.table, findings.metrics
    first, *_ = (method.title for method in findings.methods.values())
    n_images = table["image"].nunique()
    values = table[table["image"].isin(images[:MAX_IMAGES])].set_index(["image", "method", "metric"])["value"]
    left_out = _left_out(findings)
    colours = matplotlib.colormaps[COLOUR_MAP](np.linspace(0, 1, 9))
    return {
        "title": f"Attribution methods on {settings.model}",
        "subtitle": f"{n_images} images of {Path(findings.data).name}, {len(findings.methods)} methods; "
        f"explained is the {settings.output.value} of the class.",
        "first": first,
        "overview": _overview(findings),
        "means": data_uri("image/png", findings.figures["means"]) if "means" in findings.figures else None,
        "curves": [
            {"title": metrics[name].title, "about": _caption(name, findings), "uri": data_uri("image/png", content)}
            for name, content in findings.figures.items()
            if name in metrics
        ],
        "wide_curves": len(findings.methods) > MOST_IN_ONE_PANEL,
        "metrics": [_metric(name, findings) for name in metrics],
        "images": [_image(name, store, findings, values) for name in images[:MAX_IMAGES] if store.record(name)],
        "n_left_out": max(0, n_images - MAX_IMAGES),
        "left_out": left_out[:MAX_LEFT_OUT],
        "n_left_out_lines": max(0, len(left_out) - MAX_LEFT_OUT),
        "settings": _settings(findings),
        "command": command_line(settings, findings.data),
        "versions": _versions(findings.versions),
        "earlier_versions": [_versions(earlier) for earlier in store.earlier_versions],
        "scale": f"linear-gradient(to right, {', '.join(map(to_hex, colours))})",
    }


def _caption(name: str, findings: Findings) -> str:
    about, n_drawn = findings.metrics[name].about, findings.n_drawn[name]
    n_values = findings.summary.loc[findings.summary["metric"] == name, "n_images"].max()
    return about if n_drawn >= n_values else f"{about}; curves of {n_drawn} of {n_values} images"


def _versions(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name.removesuffix('_sha256')} {version[:12]}" for name, version in versions.items())


def _overview(findings: Findings) -> list[dict[str, Any]]:
    # One attribution has a row for each metric, all with the same time.
    seconds = findings.table.drop_duplicates(["image", "method"]).groupby("method", observed=True)["seconds"].mean()
    best = set()
    for name, metric in findings.metrics.items():
        means = findings.summary.loc[findings.summary["metric"] == name, "mean"].dropna()
        if len(means):
            best.add(means.idxmax() if metric.higher_is_better else means.idxmin())
    overview = []
    for name, method in findings.methods.items():
        rows = findings.summary[findings.summary["method"] == name]
        mean_time = seconds.get(name, np.nan)
        overview.append(
            {
                "title": method.title,
                "cells": [_cell(row, row.Index in best) for row in rows.itertuples()],
                "seconds": "-" if np.isnan(mean_time) else f"{mean_time:.2f}",
            }
        )
    return overview


def _cell(row: Any, is_best: bool) -> dict[str, Any]:
    has_value, is_compared = not np.isnan(row.mean), not pd.isna(row.wins)
    return {
        "mean": f"{row.mean:.3f}" if has_value else "-",
        "interval": f"{row.low:.3f} to {row.high:.3f}" if has_value else "",
        "wins": f"{row.wins}/{row.n_compared}" if is_compared else "",
        "best": is_best,
    }


def _metric(name: str, findings: Findings) -> dict[str, Any]:
    metric = findings.metrics[name]
    rows = findings.summary[findings.summary["metric"] == name]
    return {
        "title": metric.title,
        "arrow": "↑" if metric.higher_is_better else "↓",
        "direction": "higher is better" if metric.higher_is_better else "lower is better",
        "definition": _definition(metric, findings.settings),
        "why_missing": missing_values(findings.table, name),
        "has_joint_area": metric.has_joint_area,
        "rows": [
            {"title": findings.methods[row.method].title, "cells": _detailed(row, findings.joint_areas.get(name))}
            for row in rows.itertuples()
        ],
    }


def _detailed(row: Any, joint_areas: Mapping[str, float] | None) -> list[str]:
    cells = [str(row.n_images)]
    cells += ["-", "-"] if np.isnan(row.mean) else [f"{row.mean:.4f}", f"{row.low:.3f} to {row.high:.3f}"]
    if pd.isna(row.wins):
        cells += ["", "", ""]
    else:
        interval = f"{row.difference_low:+.3f} to {row.difference_high:+.3f}"
        cells += [f"{row.wins}/{row.n_compared}", f"{row.difference:+.4f}", interval]
    if joint_areas is not None:
        cells.append(f"{joint_areas[row.method]:.3f}" if row.method in joint_areas else "-")
    return cells


def _definition(metric: Metric, settings: EvaluationSettings) -> str:
    by = "signed sums" if settings.importance is Importance.SUM else "absolute sums"
    if metric in (METRICS["insertion"], METRICS["insertion-raw"], METRICS["deletion"]):
        enters = metric is not METRICS["deletion"]
        kind = settings.insertion_baseline if enters else settings.deletion_baseline
        raw = metric is METRICS["insertion-raw"]
        divided = "" if raw else ", divided by that of the whole image"
        return (
            f"pixels {'enter' if enters else 'leave'} the image in the order of the map, by {by} over the channels, in "
            f"{settings.curve_steps} steps; those that are out are {_ABSENT[kind]}. The value is the area under the "
            f"probability of the class{divided} (Petsiuk et al., RISE, 2018; normalised as in Yang et al., IDGI, 2023)."
        )
    if metric is METRICS["perturbation"]:
        return (
            f"the half of the pixels that the map calls least important, by absolute sums over the channels, leaves in "
            f"{settings.curve_steps} steps, the least important first; those that are out are "
            f"{_ABSENT[settings.deletion_baseline]}. The value is the mean change of the probability of the class, "
            "divided by that of the whole image (Srinivas and Fleuret, FullGrad, 2019)."
        )
    if metric not in METRICS.values():
        return f"{metric.about}." if metric.about else "a metric of your own."
    aic = metric in (METRICS["aic"], METRICS["aic-ms-ssim"])
    follows = "whether the class is the predicted one" if aic else "the normalised probability of the class"
    similarity = metric in (METRICS["aic-ms-ssim"], METRICS["sic-ms-ssim"])
    information = _INFORMATION[InformationMeasure.MS_SSIM if similarity else settings.information]
    return (
        f"pixels are revealed in the order of the map, by {by} over the channels, {_HIDDEN[settings.hidden]}. "
        f"The value is the area under {follows} against the information in the image, {information} "
        f"(Kapishnikov et al., XRAI, 2019). Images whose class has a probability below {settings.min_score:g} do not "
        "qualify."
    )


def _image(name: str, store: ResultStore, findings: Findings, values: pd.Series) -> dict[str, Any]:
    seen: Record = store.record(name) or {}
    if "error" in seen:
        return {"name": name, "about": f"failed: {seen['error']}", "uri": None, "maps": []}
    other = "" if seen["predicted"] == seen["class_name"] else f", predicted as {seen['predicted']}"
    content = store.array(seen, "image")
    return {
        "name": name,
        "about": f"{seen['class_name']} {100 * seen['probability']:.1f} %{other}",
        "uri": None if content is None else data_uri("image/jpeg", content),
        "maps": [
            _map(record, store, findings, values)
            for method in findings.methods
            if (record := store.record(name, method)) is not None
        ],
    }


def _map(record: Record, store: ResultStore, findings: Findings, values: pd.Series) -> dict[str, Any]:
    content = store.array(record, "map")
    scores = []
    for name, metric in findings.metrics.items() if "error" not in record else ():
        value = values.get((record["image"], record["method"], name), np.nan)
        scores.append({"title": metric.title, "shown": "-" if np.isnan(value) else f"{value:.3f}"})
    return {
        "title": findings.methods[record["method"]].title,
        "uri": None if content is None else map_uri(content),
        "scores": scores,
        "error": record.get("error"),
    }


def _left_out(findings: Findings) -> list[dict[str, str]]:
    """Return one line for each image, status and reason, however many methods and metrics it concerns."""
    rows = findings.table[findings.table["status"] != "ok"]
    concerned = rows.groupby(["image", "status", "reason"], observed=True, sort=False)
    return [
        {
            "image": image,
            "status": status,
            "reason": reason,
            "what": f"{_named(some['metric'], findings.metrics, 'metrics')}; "
            f"{_named(some['method'], findings.methods, 'methods')}",
        }
        for (image, status, reason), some in concerned
    ]


def _named(names: pd.Series, known: Mapping[str, Method] | Mapping[str, Metric], what: str) -> str:
    there = set(names)
    return (
        f"all {what}" if there == set(known) else ", ".join(one.title for name, one in known.items() if name in there)
    )


def _settings(findings: Findings) -> list[tuple[str, str]]:
    pairs = [("data", findings.data), *vars(findings.settings).items()]
    return [
        (name.replace("_", " "), shown(value)) for name, value in pairs if value is not None and name not in NOT_STORED
    ]


def command_line(settings: EvaluationSettings, data: str) -> str:
    """Return the command that makes these results.

    Examples
    --------
    >>> print(command_line(EvaluationSettings(methods=("ig",), metrics=("sic",), n_steps=20), "my images"))
    captum-ext evaluate 'my images' --methods ig --n-steps 20 --metrics sic --out DIR
    """
    words = ["captum-ext", "evaluate", data]
    for option in dataclasses.fields(settings):
        value = getattr(settings, option.name)
        if value != option.default:
            words += [f"--{option.name.replace('_', '-')}", shown(value)]
    return shlex.join([*words, "--out", "DIR"])


def data_uri(media_type: str, content: bytes) -> str:
    """Return a file's content as a data URI.

    Examples
    --------
    >>> data_uri("image/png", b"PNG")
    'data:image/png;base64,UE5H'
    """
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def map_uri(grey: bytes) -> str:
    """Return what `png` made, in colours, as a data URI.

    Examples
    --------
    >>> from captum_ext.evaluation.store import png
    >>> map_uri(png(np.zeros((8, 8), np.uint8)))[:23]
    'data:image/jpeg;base64,'
    """
    with Image.open(io.BytesIO(grey)) as image:
        colours = matplotlib.colormaps[COLOUR_MAP](np.asarray(image), bytes=True)[..., :3]
    return data_uri("image/jpeg", jpeg(np.ascontiguousarray(colours)))
