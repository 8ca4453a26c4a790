"""Brackets in a folder of photographs: which pictures belong together, by camera, time and exposure."""

from __future__ import annotations

import errno
import math
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from hdr._camera_tags import read_camera_tags
from hdr._errors import RefusedError
from hdr._exif_text import PROGRAM
from hdr._extras import extras_named
from hdr._files import as_text, digest_of
from hdr.exif import read_exif
from hdr.exposure import CameraSettings, read_camera_settings, settings_of
from hdr.io import HEIF_SUFFIXES, RAW_SUFFIXES, is_raw
from hdr.radiometry import SAME_LIGHT
from hdr.settings import LARGEST_GAP

with extras_named():
    from PIL import ExifTags

PHOTOGRAPH_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".avif", *HEIF_SUFFIXES, *RAW_SUFFIXES)

_BASE = ExifTags.Base
_DAY = 86_400  # seconds
_SAMPLE = 4096  # bytes from the middle of a picture, which hardly two pictures share
# What disks and network drives keep for themselves: what was deleted, and thumbnails without a word of the camera.
_NOT_OF_PEOPLE = ("$recycle.bin", "system volume information", "lost+found", "#recycle", "@recycle", "@eadir")
_LEADS_NOWHERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)  # as links do whose file is gone


@dataclass(frozen=True)
class Shot:
    """A photograph and what its camera wrote down.

    Attributes
    ----------
    path
        The file.
    camera
        Maker, model and serial number, as far as they are known.
    taken
        When it was begun; None if the camera did not say.
    settings
        Time, ISO and f-number.
    size
        Width and height as stored; None where the file does not tell before it is decoded.
    is_result
        Whether the file says that it is no photograph, but was merged of some by this program.
    """

    path: Path
    camera: str
    taken: datetime | None
    settings: CameraSettings
    size: tuple[int, int] | None
    is_result: bool = False

    @property
    def exposure(self) -> float | None:
        """Light in the picture's values, time * ISO / N^2, with what is not known left out; None without a time."""
        time, iso, f_number = self.settings.time, self.settings.iso, self.settings.f_number
        return None if time is None else time * (iso or 100.0) / 100.0 / (f_number or 1.0) ** 2


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
    links
        Symbolic links to folders, which are not searched.
    results
        What this program has merged of photographs, with what their camera wrote down.
    stand_ins
        Raw files that LibRaw does not know, and why, for which the developed pictures beside them are taken.
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
    passed_over = None if exclude is None else Path(exclude).resolve()
    if passed_over is not None and folder.resolve() not in passed_over.parents:
        passed_over = None  # results beside or above the photographs: nothing of theirs is in the way
    found, links, refused = _files(folder, passed_over)
    paths, beside = _beside(found)
    if not paths and not refused:
        raise RefusedError(f"{folder}: no photographs ({', '.join(PHOTOGRAPH_SUFFIXES)})")
    shots, failed = _read(paths, progress)
    readable = {shot.path.with_suffix("") for shot in shots if is_raw(shot.path)}
    converted = {path for path, error in failed.items() if path.with_suffix("") in readable and _is_unknown(error)}
    unread = {path: error for path, error in failed.items() if path in beside and path.with_suffix("") not in readable}
    instead, developed, damaged = _stood_for(unread, beside, shots, progress)
    stand_ins = {path: failed[path] for path in instead if _is_unknown(failed[path])}
    refused |= {path: error for path, error in failed.items() if path not in converted and path not in stand_ins}
    refused |= damaged
    taken = {one for path in instead for one in beside[path]}
    shots += developed
    results = [shot.path for shot in shots if shot.is_result]
    chosen, copies = _one_of_each([shot for shot in shots if not shot.is_result])
    left_out = {one for several in beside.values() for one in several} - taken
    left_out |= {one for one, other in copies.items() if is_raw(other) and not is_raw(one)}
    runs = _runs(sorted(chosen, key=_in_order), group, timedelta(seconds=gap))
    runs.sort(key=lambda run: (run[0].taken is None, run[0].taken or datetime.min, _by_name(run[0].path)))
    return Contents(
        tuple(_named(runs, group)),
        {path: _reason(path, error) for path, error in refused.items()},
        tuple(sorted(left_out, key=_by_name)),
        tuple(sorted((copies.keys() | converted) - left_out, key=_by_name)),
        {path: _reason(path, error) for path, error in stand_ins.items()},
        tuple(results),
        tuple(links),
    )


def read_shot(path: str | os.PathLike[str]) -> Shot:
    """Read what a camera wrote down about a photograph.

    It is not decoded, but for a raw file whose EXIF data, of a kind that is known here, do not tell time and ISO.

    Raises
    ------
    OSError
        If the file cannot be opened.
    ValueError
        If it is damaged, or no photograph.
    """
    path = Path(path)
    size = None
    if is_raw(path):
        try:
            tags, details, _ = read_exif(path)
        except RefusedError:
            from hdr.raw import read_settings_and_moment  # needs rawpy

            # Raw formats of which nobody here knows anything tell LibRaw when they were taken, and no camera.
            settings, taken = read_settings_and_moment(path)
            return Shot(path, path.suffix.lower(), taken, settings, None)
        settings = settings_of(details)
        if settings.time is None or settings.iso is None:  # LibRaw knows makers' own words, but decodes for them
            settings = read_camera_settings(path)
    else:
        tags, details, _, size = read_camera_tags(path)
        settings = settings_of(details)
    words = [tags.get(_BASE.Make), tags.get(_BASE.Model), details.get(_BASE.BodySerialNumber)]
    camera = " ".join(str(word).strip("\0 ") for word in words if word)
    taken = _moment(details.get(_BASE.DateTimeOriginal), details.get(_BASE.SubsecTimeOriginal))
    is_result = tags.get(_BASE.Software) == PROGRAM
    return Shot(path, camera, taken or _moment(tags.get(_BASE.DateTime), None), settings, size, is_result)


def _files(folder: Path, exclude: Path | None) -> tuple[list[Path], list[Path], dict[Path, Exception]]:
    """Photographs by their names, links to folders, which are not followed, and what cannot be looked at."""
    found: list[Path] = []
    links: list[Path] = []
    refused: dict[Path, Exception] = {}

    def refuse(error: OSError) -> None:
        if Path(error.filename) == folder:
            raise error
        refused[Path(error.filename)] = error

    for place, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".")
            and name.lower() not in _NOT_OF_PEOPLE
            and (exclude is None or Path(place, name).resolve() != exclude)
        )
        links += [Path(place, name) for name in folders if Path(place, name).is_symlink()]
        for path in (Path(place, name) for name in names if not name.startswith(".")):
            if path.suffix.lower() not in PHOTOGRAPH_SUFFIXES:
                continue
            try:
                is_file = stat.S_ISREG(path.stat().st_mode)
            except OSError as error:
                if error.errno not in _LEADS_NOWHERE:
                    refused[path] = error
                continue
            if is_file:
                found.append(path)
    return sorted(found, key=_by_name), links, refused


def _beside(found: Sequence[Path]) -> tuple[list[Path], dict[Path, list[Path]]]:
    """Files without the developed ones that lie beside a raw file, and these by that."""
    raw = {path.with_suffix("") for path in found if is_raw(path)}
    developed: dict[Path, list[Path]] = {}
    for path in found:
        if not is_raw(path) and path.with_suffix("") in raw:
            developed.setdefault(path.with_suffix(""), []).append(path)
    beside = {
        path: developed[path.with_suffix("")] for path in found if is_raw(path) and path.with_suffix("") in developed
    }
    return [path for path in found if is_raw(path) or path.with_suffix("") not in raw], beside


def _read(paths: Iterable[Path], progress: Callable[[], object] | None) -> tuple[list[Shot], dict[Path, Exception]]:
    shots: list[Shot] = []
    refused: dict[Path, Exception] = {}
    developed: set[object] = set()
    for path in paths:
        try:
            if path.stat().st_size == 0:
                raise RefusedError(f"{path}: empty, 0 bytes; copy it again")
            shot = read_shot(path)
            if is_raw(path):
                _check_kind(shot, developed)
            shots.append(shot)
        except (OSError, RefusedError) as error:
            refused[path] = error
        if progress is not None:
            progress()
    return shots, refused


def _check_kind(shot: Shot, developed: set[object]) -> None:
    """Raise a ValueError where LibRaw cannot decode a raw file, of whose kind it has not decoded another.

    Decoding takes long, and whether it can be done is a matter of the camera and of how it stores its pictures.
    A file that is cut short is told as one when it is merged, as a developed picture is.
    """
    from hdr._raw_exif import compressions
    from hdr.raw import check_develops

    kind = shot.path.suffix.lower(), shot.camera, compressions(shot.path)
    if kind not in developed:
        check_develops(shot.path)
        developed.add(kind)


def _reason(path: Path, error: Exception) -> str:
    """What is told of a file beside its name."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).removeprefix(f"{path}: ")


def _is_unknown(error: Exception) -> bool:
    from hdr.raw import UnknownRawError

    return isinstance(error, UnknownRawError)


def _stood_for(
    unread: Mapping[Path, Exception],
    beside: Mapping[Path, list[Path]],
    shots: Iterable[Shot],
    progress: Callable[[], object] | None,
) -> tuple[list[Path], list[Shot], dict[Path, Exception]]:
    """Raw files that cannot be read, and the developed pictures that stand for them, read and damaged ones.

    A raw file takes the pictures beside it with it where its like can be read: then it is damaged, and a bracket
    is not of two kinds.
    """
    developed, damaged = _read(dict.fromkeys(one for path in unread for one in beside[path]), progress)
    of_name: dict[Path, list[Shot]] = {}
    for one in developed:
        of_name.setdefault(one.path.with_suffix(""), []).append(one)
    # One for each camera: there may be thousands of either.
    known = {(shot.path.suffix.lower(), shot.camera): shot for shot in shots}.values()
    instead = [
        path
        for path, error in unread.items()
        if _is_stood_for(path, error, known, of_name.get(path.with_suffix(""), []))
    ]
    taken = {one for path in instead for one in beside[path]}
    return (
        instead,
        [one for one in developed if one.path in taken],
        {path: error for path, error in damaged.items() if path in taken},
    )


def _is_stood_for(path: Path, error: Exception, known: Iterable[Shot], developed: Sequence[Shot]) -> bool:
    """Whether developed pictures stand for a raw file that cannot be read, for it is not the only one of its kind."""
    from hdr.raw import UnknownRawError

    if not developed:
        return False  # nothing else can be read either
    if isinstance(error, UnknownRawError) and error.known_camera:
        return True
    # A file that begins with nothing is as unknown as one of a new camera, but others of that camera are known.
    return not any(
        one.path.suffix.lower() == path.suffix.lower() and _may_be_one_camera(one, other)
        for one in known
        for other in developed
    )


def _one_of_each(shots: Sequence[Shot]) -> tuple[list[Shot], dict[Path, Path]]:
    """One file of every shot; and by every other file the one that is taken for it."""
    common = Counter(shot.path.suffix.lower() for shot in shots)
    of_one_name: dict[str, list[list[Shot]]] = {}
    for shot in shots:
        same = of_one_name.setdefault(shot.path.stem.casefold(), [])
        for several in same:
            if _are_one_shot(several[0], shot):
                several.append(shot)
                break
        else:
            same.append([shot])
    chosen: list[Shot] = []
    copies: dict[Path, Path] = {}
    for same in of_one_name.values():
        for several in same:
            best = min(
                several,
                key=lambda shot: (
                    not is_raw(shot.path),
                    -common[shot.path.suffix.lower()],
                    -math.prod(shot.size or ()),
                    os.fspath(shot.path),
                ),
            )
            chosen.append(best)
            copies |= {shot.path: best.path for shot in several if shot is not best}
    twins = _copies(chosen)
    return [shot for shot in chosen if shot.path not in twins], copies | twins


def _copies(shots: Iterable[Shot]) -> dict[Path, Path]:
    """By each file that is alike another byte by byte, such as "IMG_1 (1).JPG", that with the shortest name."""
    alike = [sorted(shots, key=lambda shot: (len(shot.path.stem), os.fspath(shot.path)))]
    # The cheap ones first, so that hardly any file is read whole.
    for trait in (_size_and_settings, _middle, lambda shot: digest_of(shot.path)):
        finer = []
        for several in alike:
            by_trait: dict[object, list[Shot]] = {}
            for shot in several:
                by_trait.setdefault(trait(shot), []).append(shot)
            finer += [same for same in by_trait.values() if len(same) > 1]
        alike = finer
    return {copy.path: first.path for first, *others in alike for copy in others}


def _size_and_settings(shot: Shot) -> object:
    return shot.path.stat().st_size, shot.camera, shot.taken, shot.settings


def _middle(shot: Shot) -> object:
    with shot.path.open("rb") as file:
        file.seek(shot.path.stat().st_size // 2)
        return file.read(_SAMPLE)


def _are_one_shot(one: Shot, other: Shot) -> bool:
    """Whether two files of one name are of one shot: by camera and moment, or as they lie beside each other."""
    beside = one.path.with_suffix("") == other.path.with_suffix("")
    if one.taken is None or other.taken is None:
        if not beside:
            return False
    elif one.taken.replace(microsecond=0) != other.taken.replace(microsecond=0):
        return False
    if not beside and not (one.camera and other.camera):
        return False  # programs write many files in a second, cameras none twice
    settings = zip(astuple(one.settings), astuple(other.settings), strict=True)
    return _may_be_one_camera(one, other) and all(
        mine is None or theirs is None or _have_same_light(mine, theirs) for mine, theirs in settings
    )


def _may_be_one_camera(one: Shot, other: Shot) -> bool:
    """Whether two cameras have one name; raw files may tell more of it than developed ones, or nothing."""
    if any(shot.camera == shot.path.suffix.lower() for shot in (one, other)):
        return True
    return one.camera.startswith(other.camera) or other.camera.startswith(one.camera)


def _have_same_light(one: float, other: float) -> bool:
    """Whether two exposures, or settings, are the same, as what differs by less than those of a bracket do is."""
    return max(one, other) < SAME_LIGHT * min(one, other)


def _in_order(shot: Shot) -> tuple[Any, ...]:
    # Pictures of two kinds that were taken in turn are two brackets.
    kind = (shot.camera, is_raw(shot.path), sorted(shot.size or ()))
    return (*kind, shot.taken is None, shot.taken or datetime.min, _by_name(shot.path))


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
    return any(one.exposure is not None and _have_same_light(shot.exposure, one.exposure) for one in run)


def _is_of_another_kind(one: Shot, other: Shot) -> bool:
    if one.camera != other.camera or is_raw(one.path) != is_raw(other.path):
        return True
    return one.size is not None and other.size is not None and sorted(one.size) != sorted(other.size)


def _named(runs: Iterable[Sequence[Shot]], count: int | None) -> Iterable[ShotGroup]:
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


def _by_name(path: Path) -> tuple[str, str]:
    return path.stem.casefold(), os.fspath(path)


def _moment(text: object, fraction: object) -> datetime | None:
    try:
        moment = datetime.strptime(str(text).strip("\0 "), "%Y:%m:%d %H:%M:%S")
    except ValueError:  # cameras without a clock write spaces or zeros
        return None
    digits = str(fraction).strip("\0 ") if fraction else ""
    return moment + timedelta(seconds=float(f"0.{digits}")) if digits.isdecimal() else moment
