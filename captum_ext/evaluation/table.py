"""The results of an evaluation as a table, one row for each image, method and metric, its curves and its summary."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from captum_ext._errors import InvalidArgumentError
from captum_ext._files import atomic_write
from captum_ext.evaluation.measures import METRICS, Metric
from captum_ext.evaluation.store import Record, ResultStore
from captum_ext.metrics.bootstrap import bootstrap_band

Curves = npt.NDArray[np.float32]
Values = npt.NDArray[np.float64]
LEVEL = 0.95
N_RESAMPLES = 2000
"""The ends of an interval vary by a fiftieth of its length from seed to seed, which no one reads off a table."""
_ROWS_AT_ONCE = 50_000


class Row(NamedTuple):
    """One image, method and metric: the columns of a table of results.

    Parameters
    ----------
    image
        Path inside of the folder.
    class_index, class_name
        The class that was explained; missing where the image failed.
    probability
        The model's for this class.
    method, metric
        Names.
    value
        Missing where ``status`` is not ``"ok"``.
    seconds
        Of the attribution, without its metrics.
    status
        ``"ok"``; ``"refused"`` where the image does not qualify for the metric; ``"failed"`` where the image cannot be
        read or classified, or the method or a metric raises.
    reason
        Why, where it is not ``"ok"``.
    """

    image: str
    class_index: int | None
    class_name: str | None
    probability: float | None
    method: str
    metric: str
    value: float | None
    seconds: float | None
    status: str
    reason: str | None


# A few texts come again and again in a column, so that each is kept once, in the end.
_DTYPES = {str: object, str | None: object, int | None: "Int64", float | None: "float64"}
_COLUMNS = {name: _DTYPES[kind] for name, kind in get_type_hints(Row).items()}
_CATEGORIES = [name for name, dtype in _COLUMNS.items() if dtype is object]


def rows_of(store: ResultStore, images: Iterable[str], methods: Sequence[str], metrics: Sequence[str]) -> Iterator[Row]:
    """Yield what is stored, in the order that is given; of images and methods that did not run there is no row."""
    for image in images:
        seen = store.record(image)
        if seen is None:
            continue
        about = (image, seen.get("class_index"), seen.get("class_name"), seen.get("probability"))
        for method in methods:
            record = seen if "error" in seen else store.record(image, method)
            if record is not None:
                for metric in metrics:
                    yield Row(*about, method, metric, *_found(record, metric))


def _found(record: Record, metric: str) -> tuple[float | None, float | None, str, str | None]:
    """Return value, seconds, status and reason."""
    if "error" in record:
        return None, None, "failed", record["error"]
    for status, content in record["metrics"][metric].items():
        if status != "value":
            return None, record["seconds"], status, content
    return record["metrics"][metric]["value"], record["seconds"], "ok", None


def table_of(store: ResultStore, images: Sequence[str], methods: Sequence[str], metrics: Sequence[str]) -> pd.DataFrame:
    """Return the rows as a frame, with the columns of `Row`."""
    remaining = rows_of(store, images, methods, metrics)
    # Rows are large in Python and small in a frame, so only some of them are there at a time.
    parts = [pd.DataFrame(columns=list(_COLUMNS)).astype(_COLUMNS)]
    while part := list(islice(remaining, _ROWS_AT_ONCE)):
        parts.append(pd.DataFrame.from_records(part, columns=list(_COLUMNS)).astype(_COLUMNS))
    frame = pd.concat(parts, ignore_index=True)
    order = {"image": images, "method": methods, "metric": metrics, "status": ("ok", "refused", "failed")}
    for name in _CATEGORIES:
        frame[name] = pd.Categorical(frame[name], categories=order.get(name))
    return frame


def summarize(table: pd.DataFrame, metrics: Mapping[str, Metric] | None = None, seed: int = 0) -> pd.DataFrame:
    """Return a row for each metric and method, in the order of the table.

    Parameters
    ----------
    table
        As `captum_ext.evaluation.evaluate` returns it, or several of its kind behind each other.
    metrics
        By name; needed for those of one's own, to know whether more is better. None takes the known ones.
    seed
        Of the bootstrap.

    Returns
    -------
    pandas.DataFrame
        ``metric``, ``method``; ``n_images`` with a value, their ``mean`` with its bootstrap interval of 95 %, ``low``
        to ``high``. And beside the first method, on the ``n_compared`` images that both have a value of: ``wins``, the
        images on which the method is better (a tie is none); the mean ``difference``, its value less the first one's,
        with the interval of this paired difference, ``difference_low`` to ``difference_high``. What there is not is
        missing.

    Raises
    ------
    InvalidArgumentError
        A metric is not known, or an image has several rows of one method and metric.

    Examples
    --------
    >>> table = pd.DataFrame(
    ...     [("a", "ig", 0.5), ("b", "ig", 0.7), ("a", "idgi", 0.6), ("b", "idgi", 0.6)],
    ...     columns=["image", "method", "value"],
    ... ).assign(metric="insertion")
    >>> ig, idgi = summarize(table).itertuples()
    >>> print(round(ig.mean, 3), idgi.wins, idgi.n_compared)
    0.6 1 2
    """
    known = METRICS if metrics is None else metrics
    found = []
    for metric in table["metric"].unique():
        if metric not in known:
            raise InvalidArgumentError(f"metric {metric!r} is not known: give metrics={{{metric!r}: Metric(...)}}.")
        of_metric = table[table["metric"] == metric]
        again = of_metric[of_metric.duplicated(["image", "method"])]
        if len(again):
            raise InvalidArgumentError(
                f"the table has several rows of {again['image'].iloc[0]} with {again['method'].iloc[0]} and {metric}: "
                "give each image once for each method, and images of several folders names of their own."
            )
        methods = list(of_metric["method"].unique())
        # One column for each method, one line for each image, so that lines are pairs.
        values = of_metric.pivot(index="image", columns="method", values="value").reindex(columns=methods)
        columns = values.to_numpy(dtype=np.float64)
        differences = columns[:, 1:] - columns[:, :1]
        sign = 1 if known[metric].higher_is_better else -1
        own, paired = _estimates(columns, seed), _estimates(differences, seed)
        wins = (sign * differences > 0).sum(0)
        for place, method in enumerate(methods):
            row: dict[str, Any] = {"metric": metric, "method": method, **dict(zip(_OWN, own[place], strict=True))}
            if place and paired[place - 1][0]:
                row |= {**dict(zip(_PAIRED, paired[place - 1], strict=True)), "wins": wins[place - 1]}
            found.append(row)
    columns_in_order = ["metric", "method", *_OWN, "n_compared", "wins", *_PAIRED[1:]]
    counts = dict.fromkeys(("n_images", "n_compared", "wins"), "Int64")
    return pd.DataFrame(found, columns=columns_in_order).astype(counts)


_OWN = ("n_images", "mean", "low", "high")
_PAIRED = ("n_compared", "difference", "difference_low", "difference_high")


def _estimates(columns: Values, seed: int) -> list[tuple[int, float, float, float]]:
    """Return how many values each column has, their mean and its interval; NaN for none."""
    present = ~np.isnan(columns)
    found = [(0, np.nan, np.nan, np.nan)] * columns.shape[1]
    for pattern in {present[:, place].tobytes(): place for place in range(columns.shape[1])}.values():
        rows = present[:, pattern]
        # Columns with values of the same images are resampled together, which takes little more time than one.
        same = [place for place in range(columns.shape[1]) if (present[:, place] == rows).all()]
        if rows.any():
            values = columns[rows][:, same]
            low, high = bootstrap_band(torch.from_numpy(values), LEVEL, N_RESAMPLES, seed)
            for index, place in enumerate(same):
                found[place] = (int(rows.sum()), float(values[:, index].mean()), float(low[index]), float(high[index]))
    return found


def missing_values(table: pd.DataFrame, metric: str) -> str | None:
    """Say why a metric has no value at all; None where it has one.

    Examples
    --------
    >>> table = pd.DataFrame({
    ...     "image": ["a", "b"], "metric": "sic", "value": np.nan, "status": "refused", "reason": "too dark"
    ... })
    >>> missing_values(table, "sic")
    'None of 2 images has a value; the first, a, was refused: too dark.'
    """
    rows = table[table["metric"] == metric]
    if not len(rows) or rows["value"].notna().any():
        return None
    first = rows.iloc[0]
    return (
        f"None of {rows['image'].nunique()} images has a value; the first, {first['image']}, "
        f"{'was refused' if first['status'] == 'refused' else 'failed'}: {first['reason'].rstrip('.')}."
    )


def curves_of(store: ResultStore, images: Sequence[str], method: str, metric: str) -> Curves | None:
    """Return a method's curves of one metric; shape (N, points), NaN for images without one. None if there is none."""
    curves = None
    for index, image in enumerate(images):
        record = store.record(image, method)
        curve = None if record is None else store.curve(record, metric)
        if curve is not None:
            if curves is None:
                curves = np.full((len(images), len(curve)), np.nan, np.float32)
            curves[index] = curve
    return curves


def write_csv(path: Path, frame: pd.DataFrame) -> None:
    """Write a frame as CSV: missing values are empty, texts that look like formulas begin with an apostrophe."""
    texts = {name: column.map(_harmless) for name, column in frame.select_dtypes(exclude="number").items()}
    with atomic_write(path) as file:
        frame.assign(**texts).to_csv(file, index=False, lineterminator="\n")


def _harmless(cell: Any) -> Any:
    """Put an apostrophe before a text that a spreadsheet takes for a formula, such as ``=cmd()`` or ``@SUM(1)``."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell
