"""Results on disk: what was measured as lines of JSON, arrays behind each other in one file, read when they are drawn.

A line is written when its arrays are, in one call, and never changed. A process that is killed leaves at most half a
line, which counts as nothing; whatever comes later under the same names takes the place of what was there. Each process
of ``torchrun`` writes files of its own and reads those of all, so that file systems of several machines will do.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import sys
import warnings
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock, Timeout
from PIL import Image

from captum_ext._errors import RefusedError
from captum_ext._files import atomic_write
from captum_ext.evaluation.settings import differences

if TYPE_CHECKING:
    from captum_ext.evaluation.measures import Curve

SETTINGS = "settings.json"
PARTS = "parts"
LOCK = ".lock"
JPEG_QUALITY = 80
MAP_PIXELS = 150
"""The longest side of a map on the page; of an image it is twice as long."""
_LONGEST_LINE = 1 << 20

Record = dict[str, Any]
Place = tuple[int, int]
"""Where in a file something begins, and how many bytes it has."""


class StoreError(RefusedError):
    """A folder of results cannot be used; the message says why and what to do."""


class ResultStore:
    """The folder of one evaluation.

    In memory are the names of images and methods and where their lines begin, a few hundred bytes for each.

    Parameters
    ----------
    directory
        Made where it is missing.
    rank
        Which of several processes this one is.
    """

    def __init__(self, directory: Path, rank: int = 0) -> None:
        self.directory = directory
        self._rank = rank
        self._lines: dict[str, dict[str, tuple[int, Place]]] = {}
        self._failed: set[tuple[str, str]] = set()
        self._read_up_to: dict[int, int] = {}
        self._open: dict[tuple[int, str], IO[bytes]] = {}
        self._lock = FileLock(directory / LOCK)

    def open(
        self,
        settings: Mapping[str, Any],
        versions: Mapping[str, str],
        files: Sequence[str],
        *,
        force: bool = False,
        accept_versions: bool = False,
    ) -> None:
        """Begin an evaluation, or go on with one; no other run can then write here, until `close` or the process's end.

        Parameters
        ----------
        settings, versions
            Of what will be computed; methods and the limit may be others than those of what is here.
        files
            Names of what will be written, besides what the store does.
        force
            Whether what an evaluation wrote here is removed.
        accept_versions
            Whether results of other versions are kept, beside those to come.

        Raises
        ------
        StoreError
            There is an evaluation with other settings or versions, or a file of a name that will be written and that no
            evaluation wrote; or another run is at work here.
        """
        # Once before a lock is laid into somebody's folder, and once when no one else can change what is there.
        self._check(settings, versions, files, force, accept_versions)
        self.directory.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise StoreError(
                f"{self.directory}: another run is writing its results here; wait for it, or give another --out."
            ) from None
        self._check(settings, versions, files, force, accept_versions)
        if force:
            self._clear()
        stored = self._stored() or {"files": [], "earlier_versions": []}
        earlier = stored["earlier_versions"]
        if stored.get("versions", versions) != versions:
            earlier = [*earlier, stored["versions"]]
        now = {
            "settings": settings,
            "versions": versions,
            "earlier_versions": earlier,
            "files": list(dict.fromkeys([*stored["files"], *files])),
            "concluded": stored.get("concluded"),
        }
        if now != stored:
            self._write_settings(now)

    def _check(
        self,
        settings: Mapping[str, Any],
        versions: Mapping[str, str],
        files: Sequence[str],
        force: bool,
        accept_versions: bool,
    ) -> None:
        stored = self._stored()
        own = {SETTINGS, *stored["files"]} if stored else set()
        foreign = [name for name in (SETTINGS, *files) if name not in own and (self.directory / name).exists()]
        if foreign:
            raise StoreError(
                f"{self.directory} holds {', '.join(foreign)}, which this version of evaluate did not write: give "
                "another --out."
            )
        if force or not stored:
            return
        if found := differences(stored["settings"], settings):
            raise StoreError(
                f"{self.directory} holds an evaluation with other settings ({'; '.join(found)}): give another --out, "
                "or --force to start anew."
            )
        if (found := differences(stored["versions"], versions)) and not accept_versions:
            raise StoreError(
                f"{self.directory} holds results of other versions ({'; '.join(found)}): give --accept-versions to "
                "keep them beside those to come, or --force to start anew."
            )

    def _stored(self) -> Record:
        """Return what ``settings.json`` holds; nothing where it is not there, or not one of these."""
        try:
            stored = json.loads((self.directory / SETTINGS).read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return {}
        return stored if isinstance(stored, dict) and {"settings", "versions", "files"} <= stored.keys() else {}

    def _write_settings(self, content: Record) -> None:
        with atomic_write(self.directory / SETTINGS) as file:
            file.write((json.dumps(content, indent=2) + "\n").encode())

    def _clear(self) -> None:
        """Remove what evaluations wrote here, and the folders that are empty without it."""
        written = [self.directory / name for name in self._stored().get("files", ())]
        # What is being written has the name of the file, with a dot before and something behind.
        halves = [half for path in written for half in path.parent.glob(f".{path.name}.*")]
        for path in [*written, *halves, *self._parts("*"), self.directory / SETTINGS]:
            path.unlink(missing_ok=True)
        for folder in {path.parent for path in written} | {self.directory / PARTS}:
            if folder != self.directory and folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()

    @property
    def earlier_versions(self) -> list[dict[str, str]]:
        """The versions with which results were made that are here beside those of now."""
        return list(self._stored().get("earlier_versions", ()))

    def is_concluded(self, images: Sequence[str]) -> bool:
        """Whether tables, figures and the report are those of these images and of all that is stored."""
        stored = self._stored()
        return bool(stored) and stored.get("concluded") == self._state(stored, images)

    def conclude(self, images: Sequence[str]) -> None:
        """Remember that tables, figures and the report are written."""
        stored = self._stored()
        self._write_settings({**stored, "concluded": self._state(stored, images)})

    def _state(self, stored: Record, images: Sequence[str]) -> str:
        sizes = [(path.name, path.stat().st_size) for path in sorted(self._parts("*.jsonl"))]
        files = [name for name in stored["files"] if not (self.directory / name).is_file()]
        state = json.dumps([stored["settings"], stored["versions"], files, sizes, list(images)], sort_keys=True)
        return hashlib.sha256(state.encode()).hexdigest()

    def _parts(self, pattern: str) -> list[Path]:
        named = re.compile(r"\d+\.(jsonl|arrays)")
        return [path for path in (self.directory / PARTS).glob(pattern) if named.fullmatch(path.name)]

    def _part(self, rank: int, suffix: str) -> Path:
        return self.directory / PARTS / f"{rank}.{suffix}"

    def refresh(self) -> None:
        """Take note of what this and other processes have written since the last time."""
        for path in sorted(self._parts("*.jsonl")):
            rank = int(path.stem)
            with path.open("rb") as file:
                file.seek(begin := self._read_up_to.get(rank, 0))
                for line in file:
                    if not line.endswith(b"\n"):
                        break  # being written, or the half line of a process that was killed
                    self._note(path, rank, (begin, len(line)), line)
                    begin += len(line)
            self._read_up_to[rank] = begin

    def _note(self, path: Path, rank: int, place: Place, line: bytes) -> None:
        try:
            record = json.loads(line)
            image, method = str(record["image"]), str(record.get("method", ""))
            # The image itself, or one metric of it.
            found = record.get("metrics", {}).values()
            has_failed = record.get("error") is not None or any("failed" in of_metric for of_metric in found)
        except (ValueError, KeyError, TypeError, AttributeError):
            warnings.warn(
                f"{path}: the line at byte {place[0]} is damaged and counts as missing, so it is computed again.",
                stacklevel=3,
            )
            return
        known = self._lines.setdefault(image, {})
        # Of two processes the one that succeeded is right: who runs what may be different after a restart.
        if has_failed and method in known and (image, method) not in self._failed and known[method][0] != rank:
            return
        known[sys.intern(method)] = rank, place
        (self._failed.add if has_failed else self._failed.discard)((image, method))

    def is_done(self, image: str, method: str = "") -> bool:
        """Whether there is a result that has not failed; without a method, whether the image was seen."""
        return method in self._lines.get(image, ()) and (image, method) not in self._failed

    def record(self, image: str, method: str = "") -> Record | None:
        """Return the line of a method on an image; without a method, that of the image; None where there is none."""
        if (found := self._lines.get(image, {}).get(method)) is None:
            return None
        rank, (begin, length) = found
        record: Record = json.loads(self._read(rank, "jsonl", begin, length))
        record["rank"] = rank
        return record

    def array(self, record: Record, name: str) -> bytes | None:
        """Return the bytes of an array of a record; None where it has none, or, with a warning, where it is damaged."""
        if (place := record.get("arrays", {}).get(name)) is None:
            return None
        rank = record["rank"]
        try:
            return zlib.decompress(self._read(rank, "arrays", *place))
        except (OSError, zlib.error, TypeError) as error:
            path = self._part(rank, "arrays")
            warnings.warn(f"{path}: {name} of {record['image']} is damaged ({error}) and left out.", stacklevel=2)
            return None

    def curve(self, record: Record, name: str) -> Curve | None:
        """Return the curve of a metric in a record; None where it has none."""
        content = self.array(record, f"curve:{name}")
        return None if content is None else np.frombuffer(content, "<f4")

    def _read(self, rank: int, suffix: str, begin: int, length: int) -> bytes:
        if (rank, suffix) not in self._open:
            self._open[rank, suffix] = self._part(rank, suffix).open("rb")
        file = self._open[rank, suffix]
        file.seek(begin)
        return file.read(length)

    def save(self, record: Record, arrays: Mapping[str, bytes]) -> None:
        """Write a record with ``image`` and, for a method, ``method``, and its arrays."""
        lines, packed = self._part(self._rank, "jsonl"), self._part(self._rank, "arrays")
        packed.parent.mkdir(parents=True, exist_ok=True)
        contents = {name: zlib.compress(content, level=1) for name, content in arrays.items()}
        places = {}
        with packed.open("ab", buffering=0) as file:
            for name, content in contents.items():
                places[name] = (file.tell(), len(content))
                file.write(content)
        line = (json.dumps({**record, "arrays": places}) + "\n").encode()
        with lines.open("ab", buffering=0) as file:
            begin = file.tell()
            file.write(line)
        self._note(lines, self._rank, (begin, len(line)), line)
        self._read_up_to[self._rank] = begin + len(line)

    def mend(self) -> None:
        """Cut off the half line that a killed process left, so that the next one begins on a line of its own."""
        path = self._part(self._rank, "jsonl")
        if not path.exists():
            return
        with path.open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            begin = file.seek(max(0, size - _LONGEST_LINE))
            tail = file.read()
            if not tail.endswith(b"\n"):
                file.truncate(begin + tail.rfind(b"\n") + 1)

    def close(self) -> None:
        """Close the files that are read, and let other runs write here."""
        while self._open:
            self._open.popitem()[1].close()
        self._lock.release()


def jpeg(pixels: npt.NDArray[np.uint8], longest_side: int = 2 * MAP_PIXELS) -> bytes:
    """Return an image of shape (H, W, 1) or (H, W, 3) as a JPEG; a larger one is made smaller."""
    image = Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels)
    image.thumbnail((longest_side, longest_side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, format="jpeg", quality=JPEG_QUALITY, optimize=True)
    return buffer.getvalue()


def png(strength: npt.NDArray[np.uint8]) -> bytes:
    """Return a map of shape (H, W) as a grey PNG; a larger one is made smaller."""
    image = Image.fromarray(strength)
    # Made smaller before it is coloured: a mean of colours is no colour of the scale.
    image.thumbnail((MAP_PIXELS, MAP_PIXELS), Image.Resampling.BOX)
    buffer = io.BytesIO()
    image.save(buffer, format="png")
    return buffer.getvalue()
