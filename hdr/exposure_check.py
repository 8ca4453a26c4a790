"""Whether the exposures that were stated agree with the pixels, and what the pixels say where none were."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hdr._cells import (
    FEWEST_CELLS,
    OFF_SHARE,
    SAME_EV,
    Array,
    Cells,
    Located,
    black_level,
    checked_ev,
    comparable,
    ev_apart,
    log_curve,
    srgb_above_black,
)
from hdr._errors import RefusedError
from hdr._extras import extras_named
from hdr.response import Response

with extras_named():
    import cv2

_SAME_SHARE = 0.25  # of the EV stated: less than this is the same light
_OTHER_LIGHT = 0.5  # EV: of what was stated as the same light, more than lamps that flicker and clouds make of it
_CONTRAST = 1.75  # times as many EV as sRGB would show: what cameras' own curves may make of them
_LEAST_SIMILARITY = 0.42  # of 1500 pairs of different pictures 3 came above it, of brackets none below
_JUDGED_EV, _FARTHEST_EV = 5.0, 8.0  # farther apart, what both show well is a choice of what moved; or nothing
_MIDDLE = (0.15, 0.85)
_COMPARED_SIDE = 40
_AGREEING_EV, _AGREEING_SHARE = 0.4, 0.5  # of cells, of which most would differ by more if the exposures were others
# The same, of cells where they lie: behind what is large and moves, much stays. Of 981 pairs of different pictures one
# in a hundred had 0.16 by any contrast, none more than 0.225.
_CONTRASTS = 25
_CLOSELY_AGREEING_EV, _CLOSELY_AGREEING_SHARE = 0.15, 0.25
_LEAST_SHARED = 0.02  # of all cells; what is less may all have moved


class ExposureMismatchError(RefusedError):
    """The exposures that were stated contradict the pixels."""


@dataclass(frozen=True)
class ExposureFinding:
    """What two neighbouring exposures of a bracket say about the light that they got.

    Attributes
    ----------
    pictures
        Indices of the shorter and the longer exposure.
    stated, measured
        By how many EV the second has more light than the first; measured is NaN where nothing is well exposed in both.
    problem
        How they contradict each other, in words; empty if they do not.
    """

    pictures: tuple[int, int]
    stated: float
    measured: float
    problem: str = ""


def exposure_findings(
    ldr: Tensor,
    exposures: Tensor,
    response: Response | None = None,
    names: Sequence[str] | None = None,
    *,
    located: Located | None = None,
) -> tuple[ExposureFinding, ...]:
    """Compare the exposures that were stated with the pixels, neighbour by neighbour.

    Parameters
    ----------
    ldr, exposures
        As for :func:`hdr.calibration.calibrate`.
    response
        By which light is measured; sRGB if None. A camera's own contrast is forgiven: up to 1.75 times as many EV as
        stated, if all neighbours have about the same factor.
    names
        What to call the pictures.
    located
        As for :func:`hdr.calibration.calibrate`; asked only about what seems to contradict the exposures. Pictures that
        agree with them where they show the same do not.

    Returns
    -------
    tuple of ExposureFinding
        N - 1 of them.

    Raises
    ------
    ValueError
        If shapes, values or exposures are not as above.
    """
    ev = checked_ev(ldr, exposures)
    called = _called(names, len(ev))
    findings = _findings_of_light(ldr, ev, response, called, located)
    white = 1.0 if response is None else response.white_level
    return tuple(_or_copy(finding, ldr, ev, called, white) for finding in findings)


def _findings_of_light(
    ldr: Tensor, ev: Array, response: Response | None, called: Sequence[str], located: Located | None
) -> list[ExposureFinding]:
    """What neighbours tell but for copies, which agree with themselves."""
    cells = Cells.of(ldr)
    curve = srgb_above_black(black_level(cells, ev)) if response is None else log_curve(response)
    white = 1.0 if response is None else response.white_level
    neighbours = [(a, a + 1) for a in range(len(ev) - 1)]
    stated = [float(ev[b] - ev[a]) for a, b in neighbours]
    measured, contrast = _measured(cells, stated, curve, white)
    same_scene = [_same_scene(cells, a, b, curve, white, s) for (a, b), s in zip(neighbours, stated, strict=True)]
    findings = []
    for (a, b), s, m, same in zip(neighbours, stated, measured, same_scene, strict=True):
        words = _problem(s, m, contrast, same)
        findings.append(ExposureFinding((a, b), s, m, f"{called[a]} and {called[b]} {words}" if words else ""))
    closely, on_the_whole = (_CLOSELY_AGREEING_EV, _CLOSELY_AGREEING_SHARE), (_AGREEING_EV, _AGREEING_SHARE)
    findings = [_unless_agreeing(finding, cells, curve, white, *closely) for finding in findings]
    if located is not None and any(finding.problem for finding in findings):
        moved = Cells.of(ldr, located(response or Response.srgb()))
        findings = [_unless_agreeing(finding, moved, curve, white, *on_the_whole) for finding in findings]
        if not any(finding.problem for finding in findings):
            return findings
        # What is left may be a camera of much contrast and a hand that moved far, of which the one hides the other.
        measured, contrast = _measured(moved, stated, curve, white)
        findings = [
            finding
            if _problem(finding.stated, m, contrast, same)
            else _unless_agreeing(finding, moved, curve, white, *on_the_whole, contrast)
            for finding, m, same in zip(findings, measured, same_scene, strict=True)
        ]
    return findings


def check_exposures(
    ldr: Tensor,
    exposures: Tensor,
    response: Response | None = None,
    names: Sequence[str] | None = None,
    *,
    located: Located | None = None,
) -> None:
    """Refuse exposures that contradict the pixels; arguments as for :func:`exposure_findings`.

    Raises
    ------
    ExposureMismatchError
        If they were stated with the wrong sign, a picture is there twice, the list belongs to other pictures, the
        pictures show different scenes, or so far apart that they share no light; the message says so in EV.
    ValueError
        If shapes, values or exposures are not as for :func:`hdr.calibration.calibrate`.

    Examples
    --------
    >>> ramp = torch.linspace(0.05, 0.9, 64).expand(3, 64, 64)
    >>> ldr = torch.stack([ramp / 4, ramp / 2, ramp])
    >>> check_exposures(ldr, torch.tensor([1.0, 2.0, 4.0]), Response.linear())
    >>> check_exposures(ldr.flip(0), torch.tensor([1.0, 2.0, 4.0]), Response.linear())
    Traceback (most recent call last):
    hdr.exposure_check.ExposureMismatchError: the exposures contradict the pixels: picture 1 and picture 2 are ...
    """
    findings = exposure_findings(ldr, exposures, response, names, located=located)
    problems = [finding.problem for finding in findings if finding.problem]
    if problems:
        odd = _odd_one(findings)
        which = (
            "pictures" if odd is None else f"{_called(names, len(ldr))[odd]}, with which its neighbours do not agree"
        )
        raise ExposureMismatchError(
            f"the exposures contradict the pixels: {'; '.join(problems)}. Correct the exposures that were stated "
            f"(--times, --ev), leave out {which} (of other light, too: a flash), or have the exposures estimated, as "
            '"auto" (--ev auto); with check=False (--align off --response srgb) they are merged as stated'
        )


def _called(names: Sequence[str] | None, count: int) -> list[str]:
    return list(names) if names is not None else [f"picture {number}" for number in range(1, count + 1)]


def _odd_one(findings: Sequence[ExposureFinding]) -> int | None:
    """The picture that all contradictions are about, if it is one alone, and it agrees with none."""
    wrong = [set(finding.pictures) for finding in findings if finding.problem]
    right = {picture for finding in findings if not finding.problem for picture in finding.pictures}
    suspects = set.intersection(*wrong) - right
    return suspects.pop() if len(suspects) == 1 else None


def estimate_exposures(ldr: Tensor, response: Response | None = None) -> Tensor:
    """Relative exposures of pictures of one scene, from their pixels.

    Response and exposure ratios cannot both be free, so the ratios are as good as the response that is given: a camera
    with more contrast than it says makes all ratios too large, by the same power.

    Parameters
    ----------
    ldr
        Shape (N, 3, H, W), N >= 2, values in [0, 1], in any order.
    response
        Of the camera. If None, sRGB is assumed, and a warning says so.

    Returns
    -------
    Tensor
        Shape (N,), in the order of ``ldr``; the smallest is 1.

    Raises
    ------
    ExposureMismatchError
        If two pictures that follow each other in brightness have no well exposed part in common, or are the same.
    ValueError
        If shapes or values are not as above.

    Examples
    --------
    >>> ramp = torch.linspace(0.05, 0.9, 64).expand(3, 64, 64)
    >>> estimate_exposures(torch.stack([ramp, ramp / 4, ramp / 2]), Response.linear()).round(decimals=2)
    tensor([4., 1., 2.])
    """
    checked_ev(ldr, torch.arange(1.0, len(ldr) + 1))
    if response is None:
        warnings.warn("the exposures are estimated as if the camera's response were sRGB", stacklevel=2)
        response = Response.srgb()
    cells = Cells.of(ldr)
    order = np.argsort(cells.mean.mean((1, 2)), kind="stable")
    for a, b in itertools.pairwise(order):
        if _show_the_same(ldr[a], ldr[b], response.white_level):
            raise ExposureMismatchError(f"pictures {a + 1} and {b + 1} are the same picture; leave one of them out")
    curve = log_curve(response)
    rows, steps = [], []
    for distance in (1, 2):
        for a, b in zip(order, order[distance:], strict=False):
            measured = _measured_ev(cells, a, b, curve, response.white_level)
            if math.isnan(measured) and distance == 1:
                raise ExposureMismatchError(
                    f"pictures {a + 1} and {b + 1} have no well exposed part in common, so that their exposures cannot "
                    "be estimated; state them (--times, --ev)"
                )
            if not math.isnan(measured):
                row = np.zeros(len(ldr))
                row[a], row[b] = -1.0, 1.0
                rows.append(row)
                steps.append(measured)
    ev = np.linalg.lstsq(np.stack(rows), np.array(steps), rcond=None)[0]
    return torch.from_numpy(np.exp2(ev - ev.min())).to(ldr)


def _measured_ev(cells: Cells, a: int, b: int, curve: Array, white: float) -> float:
    """By how many EV b has more light than a: the median over what both show well; NaN if nothing is."""
    usable = comparable(cells, a, b, curve, white)
    # In the middle of the file's range, where cameras differ least from the response that is assumed.
    brighter = np.maximum(cells.mean[a], cells.mean[b])
    usable &= (brighter > _MIDDLE[0]) & (brighter < _MIDDLE[1] * white)
    return float(np.median(ev_apart(cells, a, b, curve, usable))) if _enough(usable) else math.nan


def _enough(usable: NDArray[np.bool_]) -> bool:
    """Whether so much of all cells is usable that it may not all have moved."""
    return bool(usable.sum() >= max(FEWEST_CELLS, _LEAST_SHARED * usable.size))


def _measured(cells: Cells, stated: Sequence[float], curve: Array, white: float) -> tuple[list[float], float]:
    """What neighbours differ by in EV; and how many times as much as stated it is, in the median."""
    measured = [
        _measured_ev(cells, a, a + 1, curve, white) if s <= _JUDGED_EV else math.nan for a, s in enumerate(stated)
    ]
    known = [m / s for m, s in zip(measured, stated, strict=True) if s > SAME_EV and m > _SAME_SHARE * s]
    return measured, float(np.clip(np.median(known), 1 / _CONTRAST, _CONTRAST)) if known else 1.0


def _or_copy(finding: ExposureFinding, ldr: Tensor, ev: Array, called: Sequence[str], white: float) -> ExposureFinding:
    """A finding, or that the longer exposure is a copy of one before."""
    index = finding.pictures[1]
    copied = next((other for other in range(index) if _show_the_same(ldr[other], ldr[index], white)), None)
    if copied is None:
        return finding
    apart = float(ev[index] - ev[copied])
    stated = f", stated {apart:.2f} EV apart" if apart > SAME_EV else ""
    return replace(finding, problem=f"{called[copied]} and {called[index]} are the same picture{stated}")


def _show_the_same(picture: Tensor, other: Tensor, white: float) -> bool:
    """Whether two pictures are one, and show anything; of what is white or black all over there may be several."""
    return bool(torch.equal(picture, other) and picture.amin() < white and picture.amax() > 0)


def _unless_agreeing(
    finding: ExposureFinding,
    cells: Cells,
    curve: Array,
    white: float,
    within: float,
    share: float,
    contrast: float = 1.0,
) -> ExposureFinding:
    """A finding without its problem if of what two exposures show well so large a share is as far apart as stated."""
    a, b = finding.pictures
    if not finding.problem:
        return finding
    usable = comparable(cells, a, b, curve, white)
    apart = ev_apart(cells, a, b, curve, usable)
    if finding.stated > SAME_EV:
        within = min(within, OFF_SHARE * finding.stated)
    near = np.abs(apart - contrast * finding.stated) < within
    return replace(finding, problem="") if _enough(usable) and float(near.mean()) > share else finding


def _problem(stated: float, measured: float, contrast: float, same_scene: bool) -> str:
    if stated > _FARTHEST_EV:
        return f"are stated {stated:.2f} EV apart, too far for files that hold 8: take one between"
    if not same_scene:
        return "do not show the same scene"
    if math.isnan(measured):
        return ""
    if stated <= SAME_EV:
        apart = measured / contrast
        other = abs(apart - stated) > _OTHER_LIGHT
        return f"are stated to have the same light, but differ by {apart:.2f} EV" if other else ""
    if measured < -_SAME_SHARE * stated:
        return f"are stated {stated:.2f} EV apart, but differ by {measured:.2f} EV (are the signs reversed?)"
    if measured < _SAME_SHARE * stated:
        return f"are stated {stated:.2f} EV apart, but differ by {measured:.2f} EV (the same exposure twice?)"
    tolerance = 0.25 * stated + 0.2
    if abs(measured - contrast * stated) > tolerance or not stated / _CONTRAST < measured < stated * _CONTRAST:
        return f"are stated {stated:.2f} EV apart, but differ by {measured:.2f} EV"
    return ""


def _same_scene(cells: Cells, a: int, b: int, curve: Array, white: float, stated: float) -> bool:
    """Whether two exposures have the same structure; or, behind what is large and moves, enough that is the same light.

    What stays is as far apart as stated, but for the contrast of the camera.
    """
    if _similarity(cells, a, b, white) >= _LEAST_SIMILARITY:
        return True
    usable = comparable(cells, a, b, curve, white)
    if not _enough(usable):
        return False
    apart = ev_apart(cells, a, b, curve, usable)
    contrasts = np.geomspace(1 / _CONTRAST, _CONTRAST, _CONTRASTS)
    shares = [float((np.abs(apart - contrast * stated) < _CLOSELY_AGREEING_EV).mean()) for contrast in contrasts]
    return max(shares) > _CLOSELY_AGREEING_SHARE


def _similarity(cells: Cells, a: int, b: int, white: float) -> float:
    """Correlation of the structure of two exposures, shifted by up to a sixth of the picture; 1 if one has none."""
    structures = []
    for index in (a, b):
        picture = cells.mean[index].mean(0)
        darkest, brightest = np.percentile(picture, [20, 90])
        if brightest < 0.1 or darkest > 0.9 * white or brightest - darkest < 0.05:
            return 1.0  # nearly black, white or even: noise is not structure
        scale = _COMPARED_SIDE / max(cells.grid)
        size = [max(6, round(side * scale)) for side in cells.grid]
        small = cv2.resize(picture.reshape(cells.grid).astype(np.float32), size[::-1], interpolation=cv2.INTER_AREA)
        # Ranks do not depend on the response, nor on which part of the scene's range is exposed well.
        _, place, counts = np.unique((small * 255).round(), return_inverse=True, return_counts=True)
        ranks = ((np.cumsum(counts) - counts / 2)[place] / small.size).reshape(small.shape).astype(np.float32)
        structures.append(ranks - cv2.GaussianBlur(ranks, (0, 0), 4.0))
    first, second = structures
    top, left = (side // 6 for side in first.shape)
    middle = np.ascontiguousarray(first[top : first.shape[0] - top, left : first.shape[1] - left])
    if middle.std() < 1e-3:
        return 1.0
    return float(cv2.matchTemplate(second, middle, cv2.TM_CCOEFF_NORMED).max())
