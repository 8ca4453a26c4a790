"""Results on disk, one whole file for each picture and method, so that a run that was killed can go on."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from captum_ext._files import atomic_write
from captum_ext.evaluation.dataset import FIGURES
from captum_ext.evaluation.measures import METRICS, Curve, Measurement, measurement
from captum_ext.evaluation.settings import EvaluationSettings, differences

SETTINGS = "settings.json"
PARTS = "parts"
_PICTURE = "picture.npz"
_OWN_FILES = (
    SETTINGS,
    *("results.csv", "results.parquet", "summary.csv", "report.html"),
    *(f"curves/{metric}.npz" for metric in METRICS),
    *(f"{FIGURES}/{name}.{suffix}" for name in ("means", *METRICS) for suffix in ("png", "pdf")),
    *(f"{PARTS}/**/{name}" for part in (_PICTURE, "method-*.npz") for name in (part, f".{part}.*")),
)
"""Patterns of what an evaluation writes, also where it was killed meanwhile; nothing else is ever removed."""

Record = dict[str, Any]
Arrays = dict[str, npt.NDArray[Any]]
Part = TypeVar("Part")


class StoreError(ValueError):
    """A folder of results cannot be used; the message says why and what to do."""


@dataclass(frozen=True)
class SeenClass:
    """What a model says of a picture.

    Parameters
    ----------
    index, name
        The class that is explained.
    probability
        The model's, in [0, 1].
    predicted
        Name of the most probable class.
    """

    index: int
    name: str
    probability: float
    predicted: str


@dataclass(frozen=True)
class PicturePart:
    """What is stored of a picture.

    Parameters
    ----------
    seen_class
        The class; None where the picture failed.
    thumbnail
        The picture as the model sees it; shape (H, W, C), 0 to 255. None where the picture failed.
    error
        Why it failed.
    """

    seen_class: SeenClass | None
    thumbnail: npt.NDArray[np.uint8] | None
    error: str | None = None


@dataclass(frozen=True)
class MethodPart:
    """What is stored of a method on a picture.

    Parameters
    ----------
    measurements
        From a metric's name to what it says; empty where the method failed.
    seconds
        Of the attribution.
    map
        Strength of the attribution, 255 at ``limit``; shape (H, W). None where the method failed.
    limit
        Sum of the absolute attributions over the channels that is drawn brightest.
    error
        Why it failed.
    """

    measurements: Mapping[str, Measurement]
    seconds: float
    map: npt.NDArray[np.uint8] | None
    limit: float = 0.0
    error: str | None = None

    @property
    def has_failed(self) -> bool:
        """Whether the method or one of its metrics failed, so that it should be tried again."""
        return self.error is not None or any(found.error is not None for found in self.measurements.values())


class ResultStore:
    """The folder of one evaluation.

    Parameters
    ----------
    directory
        Made where it is missing.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def open(self, settings: EvaluationSettings, force: bool = False) -> None:
        """Begin an evaluation, or go on with one of the same settings; methods and the limit may be others.

        Parameters
        ----------
        settings
            What will be computed.
        force
            Whether an evaluation with other settings, and files of the names that an evaluation writes, are removed.

        Raises
        ------
        StoreError
            There is an evaluation with other settings, or files that would be replaced; nothing was changed.
        """
        asked = settings.as_json()
        if force:
            self._clear()
        stored = self._stored_settings()
        if stored is None:
            there = dict.fromkeys(path.relative_to(self.directory).parts[0] for path in self._own_files())
            if there:
                raise StoreError(
                    f"{self.directory} holds {', '.join(there)} of unknown settings: give another --out, or --force to "
                    "replace them."
                )
        elif found := differences(stored, asked):
            raise StoreError(
                f"{self.directory} holds an evaluation with other settings ({'; '.join(found)}): give another --out, "
                "or --force to start anew."
            )
        if stored != asked:
            with atomic_write(self.directory / SETTINGS) as file:
                file.write((json.dumps(asked, indent=2) + "\n").encode())

    def _stored_settings(self) -> dict[str, Any] | None:
        path = self.directory / SETTINGS
        if not path.exists():
            return None
        try:
            stored = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise StoreError(f"{path}: cannot be read ({error}); --force starts anew.") from error
        if not isinstance(stored, dict):
            raise StoreError(f"{path}: does not hold the settings of an evaluation; --force starts anew.")
        return stored

    def _own_files(self) -> Iterator[Path]:
        """Yield the files that are there under names that an evaluation writes."""
        for pattern in _OWN_FILES:
            yield from (path for path in self.directory.glob(pattern) if not path.is_dir())

    def _clear(self) -> None:
        """Remove these files, and the folders that are empty without them."""
        for path in list(self._own_files()):
            path.unlink()
            for folder in path.relative_to(self.directory).parents[:-1]:
                if not any((self.directory / folder).iterdir()):
                    (self.directory / folder).rmdir()

    def save_picture(self, picture: str, part: PicturePart) -> None:
        """Write what is known of a picture."""
        seen = None if part.seen_class is None else asdict(part.seen_class)
        arrays = {} if part.thumbnail is None else {"thumbnail": part.thumbnail}
        _write(self._folder(picture) / _PICTURE, {"seen_class": seen, "error": part.error}, arrays)

    def load_picture(self, picture: str) -> PicturePart | None:
        """Return what is known of a picture; None if nothing, or if the file is damaged."""
        return _read(self._folder(picture) / _PICTURE, _picture_part)

    def save_method(self, picture: str, method: str, part: MethodPart) -> None:
        """Write what a method found on a picture."""
        values = {name: (found.value, found.refusal, found.error) for name, found in part.measurements.items()}
        record = {"seconds": part.seconds, "limit": part.limit, "error": part.error, "measurements": values}
        arrays: dict[str, npt.NDArray[Any]] = {
            f"curve:{name}": found.curve for name, found in part.measurements.items() if found.curve is not None
        }
        if part.map is not None:
            arrays["map"] = part.map
        _write(self._method_file(picture, method), record, arrays)

    def load_method(self, picture: str, method: str) -> MethodPart | None:
        """Return what a method found on a picture; None if nothing is stored, or if the file is damaged."""
        return _read(self._method_file(picture, method), _method_part)

    def _folder(self, picture: str) -> Path:
        return self.directory / PARTS / picture

    def _method_file(self, picture: str, method: str) -> Path:
        return self._folder(picture) / f"method-{method.replace(':', '-').replace('/', '-')}.npz"


def _write(path: Path, record: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    with atomic_write(path) as file:
        np.savez_compressed(file, record=np.array(json.dumps(record)), **arrays)  # type: ignore[arg-type]


def _read(path: Path, decode: Callable[[Record, Arrays], Part]) -> Part | None:
    """Return what a file holds; None where there is none, or, with a warning, where it does not hold a part."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        return decode(json.loads(str(arrays.pop("record"))), arrays)
    except Exception as error:  # damaged bytes raise nearly anything: zlib.error, EOFError, struct.error, TypeError ...
        # The type alone: NumPy's message would advise to load whatever lies there as a pickle.
        kind = type(error).__name__
        warnings.warn(f"{path}: is damaged ({kind}) and counts as missing, so it is computed again.", stacklevel=2)
        return None


def _picture_part(record: Record, arrays: Arrays) -> PicturePart:
    seen = record["seen_class"]
    return PicturePart(None if seen is None else SeenClass(**seen), arrays.get("thumbnail"), record["error"])


def _method_part(record: Record, arrays: Arrays) -> MethodPart:
    measurements = {
        name: _measurement(arrays.get(f"curve:{name}"), value, *reasons)
        for name, (value, *reasons) in record["measurements"].items()
    }
    return MethodPart(measurements, record["seconds"], arrays.get("map"), record["limit"], record["error"])


def _measurement(
    curve: Curve | None, value: float, refusal: str | None = None, error: str | None = None
) -> Measurement:
    return Measurement(value, None, refusal, error) if curve is None else measurement(value, curve)
