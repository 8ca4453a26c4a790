"""Which result in a folder is of which photographs: names of files come again on every card."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from hdr._errors import RefusedError
from hdr._files import digest_of
from hdr._radiance import told_photographs
from hdr.folder import Shot, ShotGroup, read_shot
from hdr.io import is_raw

_RADIANCE = ("exr", "tif", "hdr")
_UNKNOWN = "unknown"  # of which photographs; no fingerprint is that


@dataclasses.dataclass(frozen=True)
class Result:
    """Where a bracket's result lies, or is to lie.

    Attributes
    ----------
    group
        With the name of the result, which is another where that is of other photographs.
    photographs
        By which the result is known.
    done
        Whether it is there.
    by_name
        Whether it is only its name that says so, for an earlier version wrote it.
    """

    group: ShotGroup
    photographs: str
    done: bool
    by_name: bool


def fingerprint(shots: Iterable[Shot]) -> str:
    """What tells photographs from all others, 32 digits: names, cameras and moments, and where these miss, contents.

    So it is the same when somebody adds words to a file, or develops it anew.
    """
    told = [json.dumps(_traits(shot)) for shot in shots]
    return hashlib.sha256("\n".join(sorted(told)).encode()).hexdigest()[:32]


def fingerprint_of_files(paths: Iterable[Path]) -> str:
    """The same of files; empty where one of them tells nothing, as linear light does not."""
    try:
        return fingerprint([read_shot(path) for path in paths])
    except (OSError, RefusedError):
        return ""


def find_results(groups: Sequence[ShotGroup], out: Path, radiance: str, *, force: bool) -> list[Result]:
    """Where the results of brackets lie, or are to lie such that none of other photographs is replaced.

    Processes that begin at different moments find the same, for what one of them has written meanwhile is known again.

    Parameters
    ----------
    groups
        The brackets of a folder, in their order.
    out
        The folder for the results, which need not be there.
    radiance
        As what they are to be written, such as ``exr``.
    force
        Whether what does not say of which photographs it is may be replaced.
    """
    there = _Results(out, radiance, force)
    given: set[str] = set()
    found = []
    for group in groups:
        photographs = fingerprint(group.shots)
        name = there.name_of(group, photographs, given)
        given.add(name.casefold())
        told = there.photographs(f"{name}.{radiance}")
        found.append(Result(dataclasses.replace(group, name=name), photographs, told in (photographs, ""), told == ""))
    return found


class _Results:
    """What lies in a folder, read as it is asked for."""

    def __init__(self, out: Path, radiance: str, force: bool) -> None:
        self._out, self._radiance, self._force = out, radiance, force
        # There are disks to which A and a are one name.
        self._files = {name.casefold(): name for name in (os.listdir(out) if out.is_dir() else ())}
        self._told: dict[str, str | None] = {}
        # By the plain names of brackets, with a number behind or without: what is asked for first, and the first ones.
        self._radiance_files: dict[str, list[str]] = {}
        for file in sorted(self._files, key=lambda file: (not file.endswith(radiance), len(file), file)):
            stem, _, suffix = file.rpartition(".")
            if suffix in _RADIANCE:
                for plain in {stem, re.sub(r"-\d+$", "", stem)}:
                    self._radiance_files.setdefault(plain, []).append(file)

    def photographs(self, name: str) -> str | None:
        """Of which photographs a file says it is; empty if an earlier version wrote it, None if there is none."""
        key = name.casefold()
        if key not in self._told:
            path = self._out / self._files.get(key, name)
            # Asked of the disk, which may write names in another way than it lists them, by what never raises.
            self._told[key] = _told(path) if os.path.isfile(path) else None
        return self._told[key]

    def name_of(self, group: ShotGroup, photographs: str, given: set[str]) -> str:
        plain = group.plain_name
        for file in self._radiance_files.get(plain.casefold(), ()):
            if self.photographs(file) == photographs:
                name = Path(self._files[file]).stem
                if name.casefold() not in given and self._is_free(name, group, photographs):
                    return name
        name, number = group.name, 1
        while name.casefold() in given or not self._is_free(name, group, photographs):
            number += 1
            name = f"{plain}-{number}"
        return name

    def _is_free(self, name: str, group: ShotGroup, photographs: str) -> bool:
        told = {suffix: self.photographs(f"{name}.{suffix}") for suffix in _RADIANCE}
        if any(one not in (None, "", _UNKNOWN, photographs) for one in told.values()):
            return False  # also where a file of another kind is to be written: previews have one name
        there = told[self._radiance]
        if there == "":
            return name == group.name  # which earlier versions gave to this bracket
        return there != _UNKNOWN or self._force


def _told(path: Path) -> str:
    try:
        told = told_photographs(path)
    except OSError:  # of somebody else, who lets nobody read it
        told = None
    return _UNKNOWN if told is None else told


def _traits(shot: Shot) -> list[object]:
    stem, kind = shot.path.stem.casefold(), "raw" if is_raw(shot.path) else "developed"
    if shot.taken is not None and shot.camera:
        return [os.fsencode(stem).hex(), kind, shot.camera, shot.taken.isoformat()]
    return [os.fsencode(stem).hex(), kind, digest_of(shot.path)]
