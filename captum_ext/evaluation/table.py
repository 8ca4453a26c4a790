"""The results of an evaluation as a table, one row for each image, method and metric; and its curves."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from captum_ext._files import atomic_write
from captum_ext.evaluation.store import Record, ResultStore

Curves = npt.NDArray[np.float32]
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


_CATEGORIES = ("image", "class_name", "method", "metric", "status", "reason")
"""Columns in which a few texts come again and again, each of which is kept once."""


def rows(store: ResultStore, images: Iterable[str], methods: Sequence[str], metrics: Sequence[str]) -> Iterator[Row]:
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


def table(store: ResultStore, images: Sequence[str], methods: Sequence[str], metrics: Sequence[str]) -> pd.DataFrame:
    """Return the rows as a frame, with the columns of `Row`."""
    remaining = rows(store, images, methods, metrics)
    # Rows are large in Python and small in a frame, so only some of them are there at a time.
    parts = []
    while part := list(islice(remaining, _ROWS_AT_ONCE)):
        parts.append(_frame(part))
    frame = pd.concat(parts, ignore_index=True) if len(parts) > 1 else (parts[0] if parts else _frame([]))
    order = {"image": images, "method": methods, "metric": metrics, "status": ("ok", "refused", "failed")}
    for name in _CATEGORIES:
        frame[name] = pd.Categorical(frame[name], categories=order.get(name))
    return frame


def _frame(some: list[Row]) -> pd.DataFrame:
    frame = pd.DataFrame.from_records(some, columns=list(Row._fields))
    kinds = {"class_index": "Int64", "probability": "float64", "value": "float64", "seconds": "float64"}
    return frame.astype({**dict.fromkeys(_CATEGORIES, object), **kinds})


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


class CurvesFile:
    """A file ``.npz`` that is written array by array, so that not all have to be in memory.

    Parameters
    ----------
    file
        Where to.
    images
        Names, which are the array ``images``.
    """

    def __init__(self, file: IO[bytes], images: Sequence[str]) -> None:
        self._archive = zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1)
        self.add("images", np.array(images))

    def add(self, name: str, array: npt.NDArray[np.generic]) -> None:
        """Write one more array."""
        with self._archive.open(f"{name}.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array(member, array)  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Complete the file."""
        self._archive.close()


def write_csv(path: Path, frame: pd.DataFrame) -> None:
    """Write a frame as CSV: missing values are empty, texts that look like formulas begin with an apostrophe."""
    texts = {name: column.map(_harmless) for name, column in frame.select_dtypes(exclude="number").items()}
    with atomic_write(path) as file:
        frame.assign(**texts).to_csv(file, index=False, lineterminator="\n")


def _harmless(cell: Any) -> Any:
    """Put an apostrophe before a text that a spreadsheet takes for a formula, such as ``=cmd()`` or ``@SUM(1)``."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell
