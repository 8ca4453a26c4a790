"""Real brackets of scenes that stand still, with truth: what all exposures give, for a merge of some of them.

A folder holds the pictures and ``exposures.csv`` with the columns ``file`` and ``seconds``, and perhaps ``use``, which
marks the exposures that are to be merged. Truth is the mean of all exposures, weighted by their noise, after the
response was estimated from all of them; so where things moved it is none. It shares the noise of the merged exposures,
and whoever keeps that is nearer to it: the mean of the others, which does not, is a second truth.
"""

from __future__ import annotations

import csv
import itertools
import math
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from hdr._errors import RefusedError
from hdr.calibration import Calibration, calibrate
from hdr.exposure import parse_numbers
from hdr.exposure_check import exposure_findings
from hdr.io import read_photograph, shared_chroma
from hdr.metrics import evaluate, psnr_l, psnr_mu
from hdr.radiometry import middle, relative_exposures
from hdr.response import Response

LIST_NAME = "exposures.csv"
LOST_HIGHLIGHTS = "PSNR-mu in lost highlights"
BY_OTHERS = ("PSNR-mu, others", "PSNR-L, others")
"""Against the mean of the exposures that were not merged."""

_STEP_EV, _LARGEST_STEP_EV = 2.0, 3.3
_MARGIN = 0.1  # below the white level, where an exposure begins to lose its weight: cameras mix channels that clip
_LEVEL = 1.0 / 255.0


class ListedExposure(NamedTuple):
    """One line of an exposure list."""

    path: Path
    seconds: float
    use: bool | None
    """Whether it is to be merged; None where the list does not say."""


class StillScene(NamedTuple):
    """Exposures of a still scene that are to be merged, and what all of its exposures show."""

    name: str
    ldr: Tensor
    """Shape (n, 3, H, W), shortest first, values in [0, 1]."""
    exposures: Tensor
    """Shape (n,): relative to the shortest, which is 1."""
    names: tuple[str, ...]
    """The files' names, in the same order."""
    truth: Tensor
    """Shape (3, H, W): radiance in [0, 1] on the scale on which the shortest of the n saturates at 1."""
    lost: Tensor
    """Shape (H, W), boolean: where the reference is clipped, and the shortest is not; of two exposures nowhere."""
    calibration: Calibration
    """Of all exposures."""
    of_others: Tensor
    """Shape (3, H, W): as ``truth``, of the exposures that are not to be merged; NaN where they are clipped, too."""


class StillBrackets(Dataset[StillScene]):
    """Still brackets at or below a folder, each folder with an exposure list one.

    Parameters
    ----------
    folder
        Holds ``exposures.csv`` and pictures, or folders that do.
    exposures_per_bracket
        How many exposures are to be merged where a list has no column ``use``: as many neighbours, about 2 EV apart,
        that together show most of the scene well.
    response
        Of the camera, where it is known; estimated from all exposures of each bracket if None.

    Raises
    ------
    OSError
        If a list cannot be read.
    ValueError
        If there is no exposure list, or one is damaged; the message names the file and the line.
    """

    def __init__(
        self, folder: str | os.PathLike[str], exposures_per_bracket: int = 3, response: Response | None = None
    ) -> None:
        if exposures_per_bracket < 2:
            raise RefusedError(
                f"a bracket has two or more exposures, got exposures_per_bracket={exposures_per_bracket}"
            )
        folder = Path(folder)
        if not folder.is_dir():
            raise RefusedError(f"{folder}: no such folder; give one with still brackets")
        lists = sorted(folder.rglob(LIST_NAME))
        if not lists:
            raise RefusedError(f"{folder}: no {LIST_NAME} in it or below; expected pictures and a list: file,seconds")
        # By the folder below the one that is given, or by the name of this itself.
        names = [
            folder.resolve().name if path.parent == folder else path.parent.relative_to(folder).as_posix()
            for path in lists
        ]
        self.lists = {name: read_exposure_list(path) for name, path in zip(names, lists, strict=True)}
        self.exposures_per_bracket = exposures_per_bracket
        self.response = response

    def __len__(self) -> int:
        return len(self.lists)

    def __getitem__(self, index: int) -> StillScene:
        name, listed = list(self.lists.items())[index]
        return read_still_scene(name, listed, self.exposures_per_bracket, self.response)


def read_exposure_list(path: str | os.PathLike[str]) -> list[ListedExposure]:
    """Read an exposure list: a line for each picture, shortest exposure first in what is returned.

    Parameters
    ----------
    path
        A CSV file: ``file``, ``seconds`` (a number or a fraction) and perhaps ``use`` (yes or no). Without these names
        in the first line, the columns are taken in this order; blanks may stand for commas.

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If a line is damaged, a picture is missing or listed twice, or there are fewer than two.
    """
    path = Path(path)
    try:
        lines = [line.strip() for line in path.read_text("utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise RefusedError(f"{path}: no text in UTF-8; write a line for each picture: file,seconds") from error
    rows = [
        (number, [cell.strip() for cell in next(csv.reader([line]))] if "," in line else line.split())
        for number, line in enumerate(lines, start=1)
        if line and not line.startswith("#")
    ]
    columns = ["file", "seconds", "use"]
    if rows and {"file", "seconds"} <= {cell.lower() for cell in rows[0][1]}:
        columns = [cell.lower() for cell in rows.pop(0)[1]]
    listed = [_listed(path, number, dict(zip(columns, cells, strict=False))) for number, cells in rows]
    twice = {one.path.name for one in listed if [other.path for other in listed].count(one.path) > 1}
    if twice:
        raise RefusedError(f"{path}: listed twice: {', '.join(sorted(twice))}")
    if len(listed) < 2:
        raise RefusedError(f"{path}: {len(listed)} exposures; a bracket has two or more")
    return sorted(listed, key=lambda one: one.seconds)


def read_still_scene(
    name: str, listed: Sequence[ListedExposure], exposures_per_bracket: int = 3, response: Response | None = None
) -> StillScene:
    """Read all exposures of a bracket, choose those to merge, and make the truth from all.

    Exposures whose stated times contradict the pixels are left out of both, with a warning that names them.

    Parameters
    ----------
    name
        Of the scene.
    listed
        As :func:`read_exposure_list` returns them.
    exposures_per_bracket, response
        As for :class:`StillBrackets`.

    Raises
    ------
    OSError
        If a picture cannot be opened.
    ValueError
        If pictures or exposures do not make a bracket.
    """
    photographs = [read_photograph(one.path) for one in listed]
    pictures = [one.image for one in photographs]
    sizes = {tuple(picture.shape[1:]) for picture in pictures}
    if len(sizes) > 1:
        raise RefusedError(f"{listed[0].path.parent}: pictures of different sizes (height, width): {sorted(sizes)}")
    ldr = torch.stack(pictures)
    times = torch.tensor([one.seconds for one in listed], dtype=torch.float64)
    kept = _consistent(name, ldr, times, listed, response)
    ldr, times, listed = ldr[kept], times[kept], [listed[index] for index in kept]
    calibration = calibrate(ldr, times, response=response, chroma_halved=shared_chroma(photographs))
    chosen = [index for index, one in enumerate(listed) if one.use]
    if not any(one.use is not None for one in listed):
        chosen = choose_exposures(ldr, times, exposures_per_bracket, calibration.white_level)
    if len(chosen) < 2:
        raise RefusedError(f"{listed[0].path.parent}: {len(chosen)} exposures to merge; two or more are needed")
    truth = mean_of_exposures(ldr, times, calibration, chosen[0])
    merged = ldr[chosen]
    shortest, reference = merged[0].amax(0), merged[middle(len(merged))].amax(0)
    lost_by_reference_only = (reference >= calibration.white_level - 5 * _LEVEL) & (
        shortest < calibration.white_level - 10 * _LEVEL
    )
    return StillScene(
        name,
        merged,
        relative_exposures(times[chosen]).to(ldr.dtype),
        tuple(listed[index].path.name for index in chosen),
        truth.clamp(0.0, 1.0).to(ldr.dtype),
        lost_by_reference_only,
        calibration,
        _mean_of_others(ldr, times, calibration, chosen).to(ldr.dtype),
    )


def mean_of_exposures(
    ldr: Tensor, times: Tensor, calibration: Calibration, shortest: int = 0, used: Sequence[int] | None = None
) -> Tensor:
    """Radiance as the mean over exposures, each weighted by its inverse variance and faded out where it clips.

    The variance is that of the mean's own radiance in each exposure, found in a first pass with weights proportional to
    time: a variance from an exposure's own noisy value would favour values that are too small (Granados et al., 2010).

    Parameters
    ----------
    ldr, times
        Shape (N, 3, H, W), and (N,) in ascending order.
    calibration
        Of this bracket.
    shortest
        Index of the exposure that saturates at 1.
    used
        Indices, ascending, of the exposures whose mean it is; all if None.

    Returns
    -------
    Tensor
        Shape (3, H, W), on the scale on which that exposure saturates at 1. Where all exposures are clipped, the white
        of the first.
    """
    used = range(len(times)) if used is None else used
    corrections = torch.tensor(calibration.corrections or (0.0,) * len(times), dtype=times.dtype)
    got = times * torch.exp2(corrections)
    light = (got / got[shortest]).tolist()
    mean: Tensor | None = None
    for _ in range(2):
        total, weights = torch.zeros_like(ldr[0]), torch.zeros_like(ldr[0])
        for index in used:
            picture, time = ldr[index], light[index]
            linear = calibration.response.to_linear(picture)
            weight = ((calibration.white_level - picture.amax(0, keepdim=True)) / _MARGIN).clamp(0.0, 1.0) * time
            if mean is not None:
                expected = (mean * time).clamp_max(1.0)
                rounding = (calibration.response.steepness(picture) / calibration.levels).square() / 12
                weight = weight * time / (calibration.shot * expected + calibration.read + rounding)
            if index == used[0]:
                weight = weight + 1e-9  # of what is clipped everywhere the shortest knows most
            total += weight * linear / time
            weights += weight
        mean = total / weights
    assert mean is not None
    return mean


def _mean_of_others(ldr: Tensor, times: Tensor, calibration: Calibration, chosen: Sequence[int]) -> Tensor:
    others = [index for index in range(len(times)) if index not in chosen]
    if not others:
        return torch.full_like(ldr[0], math.nan)
    mean = mean_of_exposures(ldr, times, calibration, chosen[0], others).clamp(0.0, 1.0)
    seen = (ldr[others].amax(1) < calibration.white_level - 10 * _LEVEL).any(0)
    return torch.where(seen, mean, math.nan)


def choose_exposures(ldr: Tensor, times: Tensor, count: int, white_level: float = 1.0) -> list[int]:
    """Indices of neighbouring exposures, about 2 EV apart, that together show most of the scene well.

    Parameters
    ----------
    ldr, times
        Shape (N, 3, H, W), and (N,) in ascending order.
    count
        How many; all, if there are no more.
    white_level
        LDR value at which the channels clip.
    """
    ev = times.log2().tolist()
    sequences = [_spaced(ev, start, count) for start in range(len(ev))]
    complete = [sequence for sequence in sequences if len(sequence) == count]
    if not complete:  # too few, or too far apart: neighbours
        starts = range(max(1, len(ev) - count + 1))
        complete = [list(range(start, min(start + count, len(ev)))) for start in starts]
    small = ldr[..., :: max(1, ldr.shape[-2] // 256), :: max(1, ldr.shape[-1] // 256)].amax(1)
    well = (small > 0.1) & (small < 0.9 * white_level)
    middle = (len(ev) - 1) / 2
    return max(
        complete,
        key=lambda sequence: (float(well[sequence].any(0).float().mean()), -abs(sum(sequence) / count - middle)),
    )


def on_scale_of(truth: Tensor, result: Tensor) -> Tensor:
    """A result times one factor for the whole picture, which a response leaves free: the median ratio to the truth.

    Parameters
    ----------
    truth, result
        Shape (3, H, W); the ratio is taken where the truth lies between 0.001 and 0.5.

    Examples
    --------
    >>> truth = torch.full((3, 4, 4), 0.25)
    >>> float(on_scale_of(truth, truth * 3).mean())
    0.25
    """
    usable = (truth > 1e-3) & (truth < 0.5) & (result > 0)
    return result * (truth[usable] / result[usable]).median() if bool(usable.any()) else result


def score_still(result: Tensor, scene: StillScene) -> dict[str, float]:
    """The metrics of a merge of a still scene, with one factor free.

    Also PSNR-mu in highlights that the middle exposure lost, and both PSNR against what the other exposures show.

    Parameters
    ----------
    result
        Shape (3, H, W), radiance.
    scene
        With its truth.

    Returns
    -------
    dict
        By name, as in :data:`hdr.metrics.METRICS`; ``LOST_HIGHLIGHTS``, NaN where nothing is lost; and ``BY_OTHERS``,
        NaN where all exposures were merged.
    """
    scaled = on_scale_of(scene.truth, result.to(scene.truth)).clamp(0.0, 1.0)
    scores = evaluate(scaled, scene.truth)
    scores[LOST_HIGHLIGHTS] = _where(scene.lost, psnr_mu, scaled, scene.truth)
    # The factor is their own: they, too, leave one free. NaN is not between 0.001 and 0.5.
    scaled = on_scale_of(scene.of_others, result.to(scene.of_others)).clamp(0.0, 1.0)
    seen = ~scene.of_others.isnan().any(0)
    for name, psnr in zip(BY_OTHERS, (psnr_mu, psnr_l), strict=True):
        scores[name] = _where(seen, psnr, scaled, scene.of_others)
    return scores


def _where(pixels: Tensor, psnr: Callable[[Tensor, Tensor], Tensor], result: Tensor, truth: Tensor) -> float:
    """PSNR of (3, H, W) over some pixels (H, W); NaN without any."""
    return float(psnr(result[:, pixels][..., None], truth[:, pixels][..., None])) if bool(pixels.any()) else math.nan


def _listed(path: Path, number: int, cells: dict[str, str]) -> ListedExposure:
    where = f"{path}, line {number}"
    if not cells.get("file") or not cells.get("seconds"):
        raise RefusedError(f"{where}: expected file,seconds, got {','.join(cells.values())!r}")
    try:
        (seconds,) = parse_numbers(cells["seconds"])
    except ValueError as error:
        raise RefusedError(f"{where}: {cells['seconds']!r} is no exposure time in seconds") from error
    if not (seconds > 0 and math.isfinite(seconds)):
        raise RefusedError(f"{where}: an exposure time must be positive, got {cells['seconds']}")
    file = path.parent / cells["file"]
    if not file.is_file():
        raise RefusedError(f"{where}: there is no file {cells['file']} beside the list")
    use = cells.get("use", "").lower()
    if use not in ("", "1", "yes", "true", "x", "0", "no", "false", "-"):
        raise RefusedError(f"{where}: use is yes or no, got {use!r}")
    return ListedExposure(file, seconds, None if "use" not in cells else use in ("1", "yes", "true", "x"))


def _consistent(
    name: str, ldr: Tensor, times: Tensor, listed: Sequence[ListedExposure], response: Response | None
) -> list[int]:
    """The longest run of exposures whose stated times do not contradict the pixels."""
    findings = exposure_findings(ldr, times, response, [one.path.name for one in listed])
    breaks = [finding.pictures[1] for finding in findings if finding.problem]
    runs = [list(range(*ends)) for ends in itertools.pairwise([0, *breaks, len(listed)])]
    longest = max(runs, key=len)
    if len(longest) < 2:
        problems = "; ".join(finding.problem for finding in findings if finding.problem)
        raise RefusedError(f"{listed[0].path.parent}: no two exposures fit the pixels: {problems}")
    left_out = [one.path.name for index, one in enumerate(listed) if index not in longest]
    if left_out:
        problems = "; ".join(finding.problem for finding in findings if finding.problem)
        warnings.warn(f"{name}: without {', '.join(left_out)}, because {problems}", stacklevel=3)
    return longest


def _spaced(ev: Sequence[float], start: int, count: int) -> list[int]:
    """Exposures from ``start`` on, each the one nearest to 2 EV above the one before; fewer if steps would be large."""
    sequence = [start]
    while len(sequence) < count and sequence[-1] + 1 < len(ev):
        last = sequence[-1]
        following = min(range(last + 1, len(ev)), key=lambda index: abs(ev[index] - ev[last] - _STEP_EV))
        if ev[following] - ev[last] > _LARGEST_STEP_EV:
            break
        sequence.append(following)
    return sequence
