"""The results of an evaluation as tables: one row for each picture, method and metric; CSV, Parquet and curves."""

from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from captum_ext._files import atomic_write
from captum_ext.evaluation.settings import EvaluationSettings
from captum_ext.evaluation.store import MethodPart, PicturePart, ResultStore

CSV = "results.csv"
PARQUET = "results.parquet"
CURVES = "curves"


@dataclass(frozen=True)
class Row:
    """One picture, method and metric.

    Parameters
    ----------
    picture
        Path inside of the folder.
    class_index, class_name
        The class that was explained; None where the picture failed.
    probability
        The model's for this class.
    method, metric
        Names.
    value
        None where ``status`` is not ``"ok"``.
    seconds
        Of the attribution, without its metrics.
    status
        ``"ok"``; ``"refused"`` where the picture does not qualify for the metric; ``"failed"`` where the picture cannot
        be read or classified, or the method or a metric raises.
    reason
        Why, where it is not ``"ok"``.
    """

    picture: str
    class_index: int | None
    class_name: str | None
    probability: float | None
    method: str
    metric: str
    value: float | None
    seconds: float | None
    status: str
    reason: str | None


_COLUMNS = pa.schema(
    [
        ("picture", pa.string()),
        ("class_index", pa.int64()),
        ("class_name", pa.string()),
        ("probability", pa.float64()),
        ("method", pa.string()),
        ("metric", pa.string()),
        ("value", pa.float64()),
        ("seconds", pa.float64()),
        ("status", pa.string()),
        ("reason", pa.string()),
    ]
)


@dataclass(frozen=True)
class PictureResult:
    """Everything that is stored of a picture.

    Parameters
    ----------
    name
        Path inside of the folder.
    part
        The picture.
    methods
        From a method's name to what it found, in the order of the settings; methods that did not run are missing.
    """

    name: str
    part: PicturePart
    methods: Mapping[str, MethodPart]

    def rows(self, settings: EvaluationSettings) -> list[Row]:
        """Return a row for each method and metric."""
        methods = settings.methods if self.part.error is not None else list(self.methods)
        return [self._row(method, metric) for method in methods for metric in settings.metrics]

    def _row(self, method: str, metric: str) -> Row:
        part = self.methods.get(method)
        error = self.part.error if part is None or self.part.error is not None else part.error
        if part is None or error is not None:
            return self._about(method, metric, status="failed", reason=error)
        found = part.measurements[metric]
        if found.error is not None:
            return self._about(method, metric, seconds=part.seconds, status="failed", reason=found.error)
        if math.isnan(found.value):
            return self._about(method, metric, seconds=part.seconds, status="refused", reason=found.refusal)
        return self._about(method, metric, value=found.value, seconds=part.seconds)

    def _about(
        self,
        method: str,
        metric: str,
        value: float | None = None,
        seconds: float | None = None,
        status: str = "ok",
        reason: str | None = None,
    ) -> Row:
        seen = self.part.seen_class
        if seen is None:
            return Row(self.name, None, None, None, method, metric, value, seconds, status, reason)
        return Row(self.name, seen.index, seen.name, seen.probability, method, metric, value, seconds, status, reason)


def load_results(store: ResultStore, pictures: Sequence[str], settings: EvaluationSettings) -> list[PictureResult]:
    """Return what is stored of pictures, in their order; those of which nothing is stored are left out."""
    results = []
    for name in pictures:
        part = store.load_picture(name)
        if part is not None:
            found = {method: store.load_method(name, method) for method in settings.methods}
            methods = {method: result for method, result in found.items() if result is not None}
            results.append(PictureResult(name, part, methods))
    return results


def write_tables(directory: Path, rows: Sequence[Row]) -> None:
    """Write the rows as ``results.csv`` and ``results.parquet``; missing values are empty and null."""
    records = [asdict(row) for row in rows]
    with atomic_write(directory / CSV) as file:
        file.write(csv_text([field.name for field in fields(Row)], records).encode())
    with atomic_write(directory / PARQUET) as file:
        pq.write_table(pa.Table.from_pylist(records, _COLUMNS), file)


def csv_text(columns: Sequence[str], records: Sequence[Mapping[str, object]]) -> str:
    """Return records as CSV with a header.

    Examples
    --------
    >>> print(csv_text(["a", "b"], [{"a": 1, "b": None}]), end="")
    a,b
    1,
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


class GrowingTables:
    """Tables that are written while an evaluation runs, but not at every result.

    Parameters
    ----------
    store
        Results, also those of other processes.
    pictures
        Names of all pictures.
    settings
        Of the evaluation.
    pause
        Seconds between two versions at least; more where writing takes long.
    """

    def __init__(
        self, store: ResultStore, pictures: Sequence[str], settings: EvaluationSettings, pause: float = 10.0
    ) -> None:
        self._store, self._pictures, self._settings, self._pause = store, pictures, settings, pause
        self._next = time.monotonic()

    def update(self) -> None:
        """Write the tables anew if it is time to."""
        begin = time.monotonic()
        if begin >= self._next:
            results = load_results(self._store, self._pictures, self._settings)
            write_tables(self._store.directory, [row for result in results for row in result.rows(self._settings)])
            end = time.monotonic()
            # At most a twentieth of the time goes into tables, however many rows there are.
            self._next = end + max(self._pause, 20 * (end - begin))


Curves = dict[str, npt.NDArray[np.float32]]


def curves_of(results: Sequence[PictureResult], settings: EvaluationSettings, metric: str) -> Curves:
    """Return each method's curves for one metric.

    Parameters
    ----------
    results
        Of N pictures.
    settings
        For the order of the methods.
    metric
        Name of the metric.

    Returns
    -------
    dict of str to numpy.ndarray
        From a method's name to shape (N, points); NaN for pictures without a curve. Methods without any are left out.
    """
    found: Curves = {}
    for method in settings.methods:
        curves = [_curve(result, method, metric) for result in results]
        n_points = max((len(curve) for curve in curves if curve is not None), default=0)
        if n_points:
            empty = np.full(n_points, np.nan, np.float32)
            found[method] = np.stack([empty if curve is None else curve for curve in curves])
    return found


def _curve(result: PictureResult, method: str, metric: str) -> npt.NDArray[np.float32] | None:
    part = result.methods.get(method)
    return None if part is None or metric not in part.measurements else part.measurements[metric].curve


def write_curves(directory: Path, results: Sequence[PictureResult], settings: EvaluationSettings) -> None:
    """Write ``curves/METRIC.npz``: ``pictures`` with the names, and each method's curves of `curves_of`."""
    names = np.array([result.name for result in results])
    for metric in settings.metrics:
        with atomic_write(directory / CURVES / f"{metric}.npz") as file:
            np.savez_compressed(file, pictures=names, **curves_of(results, settings, metric))  # type: ignore[arg-type]
