"""The images of an evaluation and the class of each."""

from __future__ import annotations

import csv
import importlib
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from captum_ext._errors import RefusedError, printable
from captum_ext.classifiers import Classifier, ImageFileError, ModelError, read_image
from captum_ext.evaluation.settings import ClassFrom
from captum_ext.metrics.information_curves import ROUNDING

FIGURES = "figures"
"""Subfolder of the results that holds figures."""
_WNID = re.compile(r"n\d{8}")


class DatasetError(RefusedError):
    """A folder or a table of labels cannot be used; the message says why."""


Given = Image.Image | Tensor
"""An image as it comes from a file or from a person: any size, or as the model sees it before normalisation."""


@dataclass(frozen=True)
class LabelledImage:
    """An image of the evaluation, which is read when its turn comes.

    Parameters
    ----------
    name
        No two images have the same. Of a file the path inside of the folder, with slashes, as
        `captum_ext._files.printable` shows it.
    load
        Returns the image, and the index or name of its class; None for the predicted one.
    """

    name: str
    load: Callable[[], tuple[Given, str | int | None]]


def find_images(data: Path, leave_out: Path | None = None) -> list[Path]:
    """Return the images in a folder and its subfolders, in alphabetical order; hidden ones are left out.

    Parameters
    ----------
    data
        The folder.
    leave_out
        The folder of the results, whose images do not count where it lies inside of ``data``; where it is ``data``
        itself, those of its ``figures`` do not.

    Raises
    ------
    DatasetError
        It is no folder, or holds no image.

    Examples
    --------
    >>> find_images(Path("no-such-folder"))
    Traceback (most recent call last):
    captum_ext.evaluation.dataset.DatasetError: no-such-folder: is not a folder; give one with images.
    """
    if not data.is_dir():
        raise DatasetError(f"{data}: is not a folder; give one with images.")
    known = {suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    own = () if leave_out is None else (leave_out.resolve(), (leave_out / FIGURES).resolve())
    without = frozenset(folder for folder in own if data.resolve() in folder.parents)
    found = sorted(path for path in _files(data, without) if path.suffix.lower() in known)
    if not found:
        raise DatasetError(f"{data}: holds no image (.jpg, .png, .webp ...).")
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


def labelled_images(
    data: Path, paths: Sequence[Path], class_from: ClassFrom, labels: Path | None = None
) -> list[LabelledImage]:
    """Return the images of a folder with their labels.

    Parameters
    ----------
    data
        The folder.
    paths
        The images in it, see `find_images`.
    class_from
        Where labels come from, if ``labels`` is None; as `resolved_class_from` returns it.
    labels
        A table, see `read_labels`.

    Raises
    ------
    DatasetError
        The table is unusable or names files that are not there, or no image at all has a class where it should be.
    """
    names = [printable(path.relative_to(data).as_posix()) for path in paths]
    label_of = _LABELS[class_from] if labels is None else _from_table(labels, names)
    found = [label_of(name) for name in names]
    if all(isinstance(label, _NoLabel) for label in found):
        raise DatasetError(
            f"{data}: no class is known; the first image, {names[0]}, {found[0]}. Give another --class-from, or a "
            "table with --labels."
        )
    return [LabelledImage(*rest) for rest in zip(names, map(_reader, paths, found), strict=True)]


def _reader(path: Path, label: Label) -> Callable[[], tuple[Given, str | None]]:
    def load() -> tuple[Given, str | None]:
        if isinstance(label, _NoLabel):
            raise DatasetError(str(label))
        return _read(path), label

    return load


def _read(path: Path) -> Image.Image:
    try:
        return read_image(path)
    except ImageFileError as error:
        # Reasons are told beside the image's name, so that its path would only be a second one.
        raise DatasetError(str(error).removeprefix(f"{path}: ")) from error


def given_images(images: Sequence[Any] | Tensor | Dataset[Any]) -> list[LabelledImage]:
    """Return images that are in memory, in a data set of PyTorch's kind, or in files, with their labels.

    Parameters
    ----------
    images
        Each one a file, a PIL image, or a tensor of shape (C, H, W) with values in [0, 1]; or a pair of one of these
        and its label, an index or a name. Files are called by their paths, others by their numbers.

    Raises
    ------
    DatasetError
        There is no image, or a file is given twice.

    Examples
    --------
    >>> import torch
    >>> first, second = given_images([(torch.zeros(3, 8, 8), 2), torch.ones(3, 8, 8)])
    >>> second.name, first.load()[1], second.load()[1]
    ('1', 2, None)
    """
    if not (count := len(images)):  # type: ignore[arg-type]
        raise DatasetError("no image was given.")

    def reader(index: int) -> Callable[[], tuple[Given, str | int | None]]:
        def load() -> tuple[Given, str | int | None]:
            item = images[index]
            image, label = item if isinstance(item, (tuple, list)) else (item, None)
            if isinstance(image, (str, Path)):
                image = _read(Path(image))
            if isinstance(image, Tensor):
                _check_tensor(image)
            if not isinstance(image, (Tensor, Image.Image)):
                raise DatasetError(f"is a {type(image).__name__}: give a file, a PIL image or a tensor.")
            if isinstance(label, Tensor):
                if label.numel() != 1:
                    raise DatasetError(f"has a label of shape {tuple(label.shape)}: give the number of a class.")
                label = label.item()
            return image, label

        return load

    # A data set may compute what it gives, so only lists are looked into for names of files.
    listed = images if isinstance(images, (list, tuple)) else [None] * count
    firsts = [item[0] if isinstance(item, (tuple, list)) and item else item for item in listed]
    names = [printable(item) if isinstance(item, (str, Path)) else str(i) for i, item in enumerate(firsts)]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DatasetError(f"{twice[0]} was given {names.count(twice[0])} times: give each image once.")
    return [LabelledImage(name, reader(index)) for index, name in enumerate(names)]


def _check_tensor(image: Tensor) -> None:
    if image.dim() != 3:
        raise DatasetError(f"has shape {tuple(image.shape)}: give (C, H, W).")
    if not image.is_floating_point():
        raise DatasetError(f"is a tensor of {image.dtype}: give floating point values in [0, 1], such as image / 255.")
    lowest, highest = (float(end) for end in image.detach().aminmax()) if image.numel() else (0.0, 0.0)
    if not (lowest >= -ROUNDING and highest <= 1 + ROUNDING):
        raise DatasetError(
            f"has values from {lowest:.4g} to {highest:.4g}: give values in [0, 1], and what normalises them as the "
            "model's preprocessing."
        )


def resolved_class_from(data: Path, paths: Iterable[Path], class_from: ClassFrom) -> ClassFrom:
    """Return where the classes of images in a folder come from: `ClassFrom.AUTO` as what it stands for there.

    Examples
    --------
    >>> data = Path("images")
    >>> resolved_class_from(data, [data / "cat" / "1.jpg", data / "dog" / "2.jpg"], ClassFrom.AUTO)
    <ClassFrom.FOLDER: 'folder'>
    """
    if class_from is not ClassFrom.AUTO:
        return class_from
    return ClassFrom.FOLDER if all(path.parent != data for path in paths) else ClassFrom.PREDICTION


class _NoLabel(str):
    """Why the class of an image is not known, where it should be."""


Label = str | _NoLabel | None


def _folder_label(name: str) -> Label:
    *folders, _ = name.split("/")
    return folders[-1] if folders else _NoLabel("lies in no subfolder that could name its class")


def _file_name_label(name: str) -> Label:
    found = re.match(r"\d+", name.rsplit("/", 1)[-1])
    return found[0] if found else _NoLabel("has a name that does not begin with the number of a class")


_LABELS: dict[ClassFrom, Callable[[str], Label]] = {
    ClassFrom.FOLDER: _folder_label,
    ClassFrom.FILE_NAME: _file_name_label,
    ClassFrom.PREDICTION: lambda name: None,
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
    return lambda name: labels.get(name) or _NoLabel(f"has no class in {path.name}")


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


@cache
def _imagenet_classes() -> Mapping[str, int]:
    """Return the index of each wnid among ImageNet's 1000 classes; empty without timm, which lists them."""
    try:
        info = importlib.import_module("timm.data").ImageNetInfo("imagenet-1k")
    except ImportError:
        return {}
    return {wnid: index for index, wnid in enumerate(info.label_names())}
