"""Of a shot that lies in several files, which one is taken."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import astuple
from pathlib import Path

from hdr._files import digest_of
from hdr._shots import Shot, have_same_light, may_be_one_camera
from hdr.io import is_raw

_SAMPLE = 4096  # bytes from the middle of a picture, which hardly two pictures share


def one_of_each(shots: Sequence[Shot]) -> tuple[list[Shot], dict[Path, Path]]:
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
    return may_be_one_camera(one, other) and all(
        mine is None or theirs is None or have_same_light(mine, theirs) for mine, theirs in settings
    )


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
