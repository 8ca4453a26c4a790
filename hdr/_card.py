"""Which photographs lie in a folder and can be read, raw files and the developed pictures beside them."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from hdr._errors import RefusedError
from hdr._shots import Shot, by_name, may_be_one_camera, read_shot
from hdr.io import HEIF_SUFFIXES, RAW_SUFFIXES, is_raw

PHOTOGRAPH_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".avif", *HEIF_SUFFIXES, *RAW_SUFFIXES)

# What disks and network drives keep for themselves: what was deleted, and thumbnails without a word of the camera.
_NOT_OF_PEOPLE = ("$recycle.bin", "system volume information", "lost+found", "#recycle", "@recycle", "@eadir")
_LEADS_NOWHERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)  # as links do whose file is gone


class Card(NamedTuple):
    """What lies in a folder and the folders in it.

    Attributes
    ----------
    shots
        Photographs that can be read; of a raw file and the developed pictures beside it, the one or the others.
    results
        What this program has merged of photographs.
    refused
        File or folder that cannot be read, and the reason.
    left_out
        Developed pictures that are not taken, for a raw file of their name lies beside them.
    converted
        Raw files that LibRaw does not know, for which others of their name, beside them, are taken.
    stand_ins
        Raw files that LibRaw does not know, and why, for which the developed pictures beside them are taken.
    links
        Symbolic links to folders, which are not followed.
    """

    shots: list[Shot]
    results: list[Path]
    refused: dict[Path, str]
    left_out: set[Path]
    converted: set[Path]
    stand_ins: dict[Path, str]
    links: list[Path]


def read_card(
    folder: Path, exclude: str | os.PathLike[str] | None, progress: Callable[[], object] | None = None
) -> Card:
    """Read what cameras wrote down about the photographs in a folder, but for those in the folder ``exclude``.

    Raises
    ------
    ValueError
        If it holds no photograph.
    """
    found, links, refused = _files(folder, exclude)
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
    return Card(
        shots=[shot for shot in shots if not shot.is_result],
        results=[shot.path for shot in shots if shot.is_result],
        refused={path: _reason(path, error) for path, error in refused.items()},
        left_out={one for several in beside.values() for one in several} - taken,
        converted=converted,
        stand_ins={path: _reason(path, error) for path, error in stand_ins.items()},
        links=links,
    )


def _files(
    folder: Path, exclude: str | os.PathLike[str] | None
) -> tuple[list[Path], list[Path], dict[Path, Exception]]:
    """Photographs by their names, links to folders, which are not followed, and what cannot be looked at."""
    passed_over = None if exclude is None else Path(exclude).resolve()
    if passed_over is not None and folder.resolve() not in passed_over.parents:
        passed_over = None  # results beside or above the photographs: nothing of theirs is in the way
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
            and (passed_over is None or Path(place, name).resolve() != passed_over)
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
    return sorted(found, key=by_name), links, refused


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
        one.path.suffix.lower() == path.suffix.lower() and may_be_one_camera(one, other)
        for one in known
        for other in developed
    )


def _is_unknown(error: Exception) -> bool:
    from hdr.raw import UnknownRawError

    return isinstance(error, UnknownRawError)


def _reason(path: Path, error: Exception) -> str:
    """What is told of a file beside its name."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).removeprefix(f"{path}: ")
