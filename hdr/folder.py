"""Brackets in a folder of photographs: which pictures belong together, by camera, time and exposure."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from hdr._card import PHOTOGRAPH_SUFFIXES, read_card
from hdr._copies import one_of_each
from hdr._errors import RefusedError
from hdr._files import as_text
from hdr._shots import Shot, by_name, have_same_light, read_shot
from hdr.io import is_raw
from hdr.settings import LARGEST_GAP

__all__ = ["PHOTOGRAPH_SUFFIXES", "Contents", "Shot", "ShotGroup", "find_brackets", "read_shot"]

_DAY = 86_400  # seconds


@dataclass(frozen=True)
class ShotGroup:
    """Photographs that were taken together.

    Attributes
    ----------
    name
        Of the merged picture, without a suffix; no two groups of a folder have the same.
    shots
        In the order in which they were taken.
    problem
        Why it is no bracket; empty if it is one.
    """

    name: str
    shots: tuple[Shot, ...]
    problem: str = ""

    @property
    def plain_name(self) -> str:
        """What it is named by its files alone, of which there may be several on one card."""
        return _plain_name(self.shots)

    @property
    def paths(self) -> list[Path]:
        """The files."""
        return [shot.path for shot in self.shots]


@dataclass(frozen=True)
class Contents:
    """What was found in a folder.

    Attributes
    ----------
    groups
        In the order in which they were taken.
    unreadable
        File or folder, and the reason.
    left_out
        Developed pictures of shots that lie there raw, too.
    copies
        Further files of shots, raw or developed, of which another file is taken.
    stand_ins
        Raw files that LibRaw does not know, and why, for which the developed pictures beside them are taken.
    results
        What this program has merged of photographs, with what their camera wrote down.
    links
        Symbolic links to folders, which are not searched.
    """

    groups: tuple[ShotGroup, ...]
    unreadable: dict[Path, str] = field(default_factory=dict)
    left_out: tuple[Path, ...] = ()
    copies: tuple[Path, ...] = ()
    stand_ins: dict[Path, str] = field(default_factory=dict)
    results: tuple[Path, ...] = ()
    links: tuple[Path, ...] = ()


def find_brackets(
    folder: str | os.PathLike[str],
    *,
    group: int | None = None,
    gap: float = LARGEST_GAP,
    exclude: str | os.PathLike[str] | None = None,
    progress: Callable[[], object] | None = None,
) -> Contents:
    """Find the brackets in a folder and the folders in it.

    Pictures are ordered by camera and time. A bracket ends where the camera or the size of the pictures changes, where
    more than ``gap`` seconds pass from the end of one exposure to the beginning of the next, and where an exposure
    comes again that the bracket already has. Of a shot that lies there in several files, of one name and moment or
    alike byte by byte, one is taken: the raw file where LibRaw knows it, otherwise that of the commonest kind, of these
    the one with most pixels.

    Parameters
    ----------
    folder
        Holds JPEG, PNG, TIFF, AVIF, HEIC or raw files, at any depth; what begins with a dot is passed over,
        and so is what a disk keeps for itself, such as its recycle bin.
    group
        How many pictures a bracket has, if that is known: then they are counted off, and only another camera or size
        begins a new count.
    gap
        Seconds, at most those of a day.
    exclude
        A folder that is passed over if it lies in the folder that is read, such as that of the results.
    progress
        Called after each file.

    Raises
    ------
    NotADirectoryError
        If there is no such folder.
    ValueError
        If ``group`` is less than 2, ``gap`` negative or more than a day, or the folder holds no photograph.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder}: no such folder")
    if group is not None and group < 2:
        raise RefusedError(f"a bracket has two or more pictures, got a group of {group} (--group)")
    if not 0 <= gap <= _DAY:
        raise RefusedError(f"the gap between brackets is in seconds, 0 or more, and at most a day ({_DAY}); got {gap}")
    card = read_card(folder, exclude, progress)
    chosen, copies = one_of_each(card.shots)
    left_out = card.left_out | {one for one, other in copies.items() if is_raw(other) and not is_raw(one)}
    return Contents(
        groups=tuple(_groups(chosen, group, timedelta(seconds=gap))),
        unreadable=card.refused,
        left_out=tuple(sorted(left_out, key=by_name)),
        copies=tuple(sorted((copies.keys() | card.converted) - left_out, key=by_name)),
        stand_ins=card.stand_ins,
        results=tuple(card.results),
        links=tuple(card.links),
    )


def _groups(shots: Iterable[Shot], count: int | None, gap: timedelta) -> Iterable[ShotGroup]:
    """Groups in the order in which they were taken, each with a name of its own."""
    runs = _runs(sorted(shots, key=_in_order), count, gap)
    runs.sort(key=lambda run: (run[0].taken is None, run[0].taken or datetime.min, by_name(run[0].path)))
    taken: set[str] = set()
    for run in runs:
        plain = _plain_name(run)
        name, number = plain, 1
        # Cards count from 1 again, and there are disks to which A and a are one name.
        while name.casefold() in taken:
            number += 1
            name = f"{plain}-{number}"
        taken.add(name.casefold())
        yield ShotGroup(name, tuple(run), _problem(run, count))


def _in_order(shot: Shot) -> tuple[Any, ...]:
    # Pictures of two kinds that were taken in turn are two brackets.
    kind = (shot.camera, is_raw(shot.path), sorted(shot.size or ()))
    return (*kind, shot.taken is None, shot.taken or datetime.min, by_name(shot.path))


def _runs(shots: Sequence[Shot], count: int | None, gap: timedelta) -> list[list[Shot]]:
    """Take apart what lies in order: counted off, or where time and exposures tell that another bracket begins."""
    runs: list[list[Shot]] = []
    for shot in shots:
        if (
            not runs
            or _is_of_another_kind(runs[-1][-1], shot)
            or (len(runs[-1]) == count if count else _begins_anew(runs[-1], shot, gap))
        ):
            runs.append([])
        runs[-1].append(shot)
    return runs


def _begins_anew(run: list[Shot], shot: Shot, gap: timedelta) -> bool:
    last = run[-1]
    if last.taken is not None and shot.taken is not None:
        # Cameras write down whole seconds: up to one of them is rounding.
        between = (shot.taken - last.taken).total_seconds() - (last.settings.time or 0.0)
        if between > gap.total_seconds() + 1:
            return True
    if shot.exposure is None or any(one.exposure is None for one in run):
        return False  # without exposures only time tells
    # An exposure that the run has already begins the next one.
    return any(one.exposure is not None and have_same_light(shot.exposure, one.exposure) for one in run)


def _is_of_another_kind(one: Shot, other: Shot) -> bool:
    if one.camera != other.camera or is_raw(one.path) != is_raw(other.path):
        return True
    return one.size is not None and other.size is not None and sorted(one.size) != sorted(other.size)


def _plain_name(shots: Sequence[Shot]) -> str:
    # Where a name is no text there are encoders that do not open it.
    first, last = (as_text(shot.path.stem, "replace") for shot in (shots[0], shots[-1]))
    return first if len(shots) == 1 else f"{first}-{last}"


def _problem(run: Sequence[Shot], count: int | None) -> str:
    if len(run) == 1:
        return "a single picture"
    if count is not None and len(run) < count:
        return f"{len(run)} of {count} pictures"
    exposures = [shot.exposure for shot in run]
    if None in exposures:
        missing = ", ".join(shot.path.name for shot in run if shot.exposure is None)
        return f"no exposure time in {missing}; merge it by itself, with its exposures stated (--times or --ev)"
    return ""
