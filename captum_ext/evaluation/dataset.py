"""The pictures of an evaluation and the class of each."""

from __future__ import annotations

import csv
import importlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from PIL import Image

from captum_ext._files import printable
from captum_ext.classifiers import Classifier, ModelError

FIGURES = "figures"
"""Subfolder of the results that holds figures."""
_WNID = re.compile(r"n\d{8}")


class DatasetError(ValueError):
    """A folder or a table of labels cannot be used; the message says why."""


class ClassFrom(str, Enum):
    """Where the class of a picture comes from, if there is no table."""

    AUTO = "auto"
    """The folder, where all pictures lie in subfolders, else the prediction."""
    FOLDER = "folder"
    """Name of the folder that the picture lies in."""
    FILE_NAME = "file-name"
    """The number that the file's name begins with, as in ``027_eft.jpg``."""
    PREDICTION = "prediction"
    """The most probable class."""


@dataclass(frozen=True)
class LabelledPicture:
    """A picture of the evaluation.

    Parameters
    ----------
    path
        The file.
    name
        Its path inside of the folder, with slashes, as `captum_ext._files.printable` shows it; no two pictures
        have the same.
    label
        Index or name of the class; None takes the predicted one.
    problem
        Why the class is not known, where it should be.
    """

    path: Path
    name: str
    label: str | None = None
    problem: str | None = None


def find_pictures(data: Path, leave_out: Path | None = None) -> list[Path]:
    """Return the pictures in a folder and its subfolders, in alphabetical order; hidden ones are left out.

    Parameters
    ----------
    data
        The folder.
    leave_out
        The folder of the results, whose pictures do not count where it lies inside of ``data``; where it is ``data``
        itself, those of its ``figures`` do not.

    Raises
    ------
    DatasetError
        It is no folder, or holds no picture.

    Examples
    --------
    >>> find_pictures(Path("no-such-folder"))
    Traceback (most recent call last):
    captum_ext.evaluation.dataset.DatasetError: no-such-folder: is not a folder; give one with pictures.
    """
    if not data.is_dir():
        raise DatasetError(f"{data}: is not a folder; give one with pictures.")
    known = {suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    own = () if leave_out is None else (leave_out.resolve(), (leave_out / FIGURES).resolve())
    without = frozenset(folder for folder in own if data.resolve() in folder.parents)
    found = sorted(path for path in _files(data, without) if path.suffix.lower() in known)
    if not found:
        raise DatasetError(f"{data}: holds no picture (.jpg, .png, .webp ...).")
    return found


def _files(folder: Path, without: frozenset[Path]) -> Iterator[Path]:
    """Yield the files in a folder and its subfolders, linked ones as well; a link into what it lies in ends there."""
    real = folder.resolve()
    if real in without:
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from _files(Path(entry.path), without | {real})
            elif entry.is_file():
                yield Path(entry.path)


def labelled_pictures(
    data: Path, paths: Sequence[Path], class_from: ClassFrom, labels: Path | None = None
) -> list[LabelledPicture]:
    """Return the pictures of a folder with their labels.

    Parameters
    ----------
    data
        The folder.
    paths
        The pictures in it, see `find_pictures`.
    class_from
        Where labels come from, if ``labels`` is None; as `resolved_class_from` returns it.
    labels
        A table, see `read_labels`.

    Raises
    ------
    DatasetError
        The table is unusable or names files that are not there.
    """
    names = [printable(path.relative_to(data).as_posix()) for path in paths]
    label_of = _LABELS[class_from] if labels is None else _from_table(labels, names)
    return [LabelledPicture(path, name, *label_of(name)) for path, name in zip(paths, names, strict=True)]


def resolved_class_from(data: Path, paths: Iterable[Path], class_from: ClassFrom) -> ClassFrom:
    """Return where the classes of pictures in a folder come from: `ClassFrom.AUTO` as what it stands for there.

    Examples
    --------
    >>> data = Path("pictures")
    >>> resolved_class_from(data, [data / "cat" / "1.jpg", data / "dog" / "2.jpg"], ClassFrom.AUTO)
    <ClassFrom.FOLDER: 'folder'>
    """
    if class_from is not ClassFrom.AUTO:
        return class_from
    return ClassFrom.FOLDER if all(path.parent != data for path in paths) else ClassFrom.PREDICTION


Label = tuple[str | None, str | None]
"""A label or None, and the reason why there is none or None."""


def _folder_label(name: str) -> Label:
    *folders, _ = name.split("/")
    return (folders[-1], None) if folders else (None, "lies in no subfolder that could name its class")


def _file_name_label(name: str) -> Label:
    found = re.match(r"\d+", name.rsplit("/", 1)[-1])
    return (found[0], None) if found else (None, "has a name that does not begin with the number of a class")


def _predicted_label(name: str) -> Label:
    return None, None


_LABELS: dict[ClassFrom, Callable[[str], Label]] = {
    ClassFrom.FOLDER: _folder_label,
    ClassFrom.FILE_NAME: _file_name_label,
    ClassFrom.PREDICTION: _predicted_label,
}


def read_labels(path: Path) -> dict[str, str]:
    """Read a table with the columns ``file`` (path inside of the folder) and ``class`` (index or name).

    Raises
    ------
    DatasetError
        The file cannot be read, lacks a column or a cell, or gives a file two classes.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path}: cannot be read as a table ({error}).") from error
    columns = reader.fieldnames or ()
    if not rows or not {"file", "class"} <= set(columns):
        found = ", ".join(columns) if rows else "no row"
        raise DatasetError(f"{path}: has {found}; give the columns file and class, with a header.")
    labels: dict[str, str] = {}
    for line, row in rows:
        n_cells = sum(cell is not None for cell in row.values()) - (None in row)
        if None in row or n_cells < len(columns):
            how = "more" if None in row else "fewer"
            raise DatasetError(
                f"{path}, line {line}: has {how} cells than the header; give one for each column, in quotes where it "
                "holds a comma."
            )
        name, label = row["file"].strip(), row["class"].strip()
        if labels.setdefault(name, label) != label:
            raise DatasetError(f"{path}: gives {name} the classes {labels[name]!r} and {label!r}.")
    return labels


def _from_table(path: Path, names: Sequence[str]) -> Callable[[str], Label]:
    labels = read_labels(path)
    there = set(names)
    missing = [name for name in labels if name not in there]
    if missing:
        raise DatasetError(f"{path}: names {len(missing)} files that are not in the folder, the first is {missing[0]}.")
    return lambda name: (labels[name], None) if labels.get(name) else (None, f"has no class in {path.name}")


def class_of_label(classifier: Classifier, label: str, n_classes: int) -> int:
    """Return the class that a label stands for: an index, a name (underscores for spaces), or an ImageNet wnid.

    Raises
    ------
    ModelError
        The label is none of these.
    """
    wnid = label.strip()
    if _WNID.fullmatch(wnid):
        known = _imagenet_classes()
        if n_classes != len(known) or wnid not in known:
            raise ModelError(
                f"label {label!r} is an ImageNet wnid, and which class it is for a model with {n_classes} classes is "
                "not known (timm lists the wnids of the usual 1000): give a table of numbers with --labels."
            )
        return known[wnid]
    try:
        return classifier.class_index(label, n_classes)
    except ModelError:
        if "_" not in label:
            raise
        return classifier.class_index(label.replace("_", " "), n_classes)


def _imagenet_classes() -> Mapping[str, int]:
    """Return the index of each wnid among ImageNet's 1000 classes; empty without timm, which lists them."""
    try:
        info = importlib.import_module("timm.data").ImageNetInfo("imagenet-1k")
    except ImportError:
        return {}
    return {wnid: index for index, wnid in enumerate(info.label_names())}
