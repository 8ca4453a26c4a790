"""What a bracket's own pixels say about its camera: response, white level, noise, errors of the shutter."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from hdr._cells import (
    FEWEST_CELLS,
    FEWEST_EQUATIONS,
    STEP,
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
from hdr._images import hold_eight_bits
from hdr._mixing_fit import colour_mixing
from hdr._response_fit import (
    Equations,
    equations_of_cells,
    equations_of_partly_clipped,
    equations_of_ranks,
    response_of,
    solve,
)
from hdr._traits import (
    READ,
    SHOT,
    channels_clipped_below,
    disagreement_of,
    exposure_errors,
    lacks_fine_colours,
    noise_of,
    white_level_of,
)
from hdr.mixing import NO_MIXING, TYPICAL, ColourMixing, as_row
from hdr.radiometry import groups_of_light
from hdr.response import Response

RESPONSE_ENTRIES = 1021
"""Of a response's table as a tensor: four for each level of an 8-bit file."""

_FAR_FROM_ALIGNED = 0.3  # EV, the typical residual where cells of two exposures show different things
# Of the EV stated, what the right response is off by. Exposures stated at half their distance make of gamma 2.2 nearly
# linear: 0.09.
_AGREEING = 0.05
# Shares of what two exposures show well: of 96 brackets with the right one 0.45 at least, of 64 others 0.33 at most.
_LEAST_AGREEING, _CLEARLY_AGREEING = 0.4, 0.6
_ALL_BLACK = 8.5 * STEP
_WELL_KNOWN = 0.8  # of the range of values
# EV, between neighbours that tell the response. On real brackets it is off by 0.2 EV with steps of 4, by 0.3 with 5, by
# 0.4 and more with 6 to 8, however many cells both show well.
_LARGEST_TELLING_STEP = 5.5
_LARGE_DISAGREEMENT = 0.35  # EV
_LARGEST_RESPONSE_ERROR = 0.2  # EV, in the median of what two exposures share; real brackets had 0.16 at most


@dataclass(frozen=True)
class Calibration:
    """How a camera turned light into the values of a bracket.

    Attributes
    ----------
    response
        Light of every value, for all three channels.
    white_level
        LDR value at and above which a channel is clipped; the response's.
    shot, read
        The variance of linear light L in [0, 1] is ``shot * L + read``, without what rounding to levels adds.
    levels
        Quantisation levels of the files: 255, or 65535 for 16 bits.
    noise_left
        Share of that variance that single pixels of the files still have: compression, and what else smooths a picture
        in a camera, take the finest noise away and leave the coarse.
    mixing
        What the camera does to the colours of its sensor, and with it a channel that clips to the other two; None where
        these are still worth what they say. By default a typical camera's.
    chroma_halved
        Whether the files keep half as many rows, and half as many columns, of colour as of brightness: JPEG of 4:2:0
        does both, as phones write it, and of 4:2:2 the second, as many cameras do. There colours lack fine detail, and
        the dark channel of saturated ones is wrong where brightness has it.
    corrections
        For each exposure, by how many EV it got more light than stated, beside the shortest: the small errors of
        shutters and of clouds that no response explains.
    disagreement
        For each exposure but the shortest, the median of |EV| by which it and the one before disagree, corrected; NaN
        where nothing is well exposed in both, and, unless all got the same light, where both did.
    response_known
        Whether the response was given, or the pixels tell it; otherwise it is a guess.
    notes
        What could not be known, in words for the user.
    """

    response: Response
    white_level: float = 1.0
    shot: float = SHOT
    read: float = READ
    levels: int = 255
    noise_left: float = 1.0
    mixing: ColourMixing | None = TYPICAL
    chroma_halved: tuple[bool, bool] = (False, False)
    corrections: tuple[float, ...] = ()
    disagreement: tuple[float, ...] = ()
    response_known: bool = True
    notes: tuple[str, ...] = ()

    def as_tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        """What can be put into a batch or a graph.

        Returns
        -------
        tuple of Tensor
            Light of :data:`RESPONSE_ENTRIES` equally spaced values from 0 to 1; shot, read, levels, white level, the
            typical disagreement, 1 where there are half as many rows of colour, 1 where there are half as many columns,
            and the share of the noise that is left; and the mixing of colours, (3, 4), the errors in the last column.
            All float64.
        """
        values = torch.linspace(0, 1, RESPONSE_ENTRIES, dtype=torch.float64)
        camera = (self.shot, self.read, self.levels, self.white_level)
        noise = (*camera, self.typical_disagreement, *self.chroma_halved, self.noise_left)
        mixing = (self.mixing or ColourMixing(NO_MIXING)).as_tensor()
        return self.response.to_linear(values), torch.tensor(noise, dtype=torch.float64), mixing

    def batched_mixing(self, like: Tensor) -> Tensor | None:
        """The mixing of colours for a batch of one example, (1, 3, 4); None where there is none."""
        return None if self.mixing is None else self.mixing.as_tensor().to(like).unsqueeze(0)

    @classmethod
    def from_tensors(cls, light: Tensor, noise: Tensor, mixing: Tensor) -> Calibration:
        """The calibration that :meth:`as_tensors` put into a batch or a graph; of corrections and notes it has none.

        Examples
        --------
        >>> calibration = Calibration(Response.srgb(), shot=1e-3, chroma_halved=(False, True))
        >>> found = Calibration.from_tensors(*calibration.as_tensors())
        >>> found.shot, found.levels, found.chroma_halved
        (0.001, 255, (False, True))
        """
        shot, read, levels, white_level, disagreement, rows, columns, left = noise.tolist()
        return cls(
            Response.table(light),
            white_level,
            shot,
            read,
            round(levels),
            left,
            _mixing_of(mixing),
            chroma_halved=(bool(rows), bool(columns)),
            disagreement=(disagreement,),
        )

    @property
    def channels_mix(self) -> bool:
        """Whether the camera mixes the colours of its sensor, so that a channel that clips spoils the other two."""
        return self.mixing is not None and self.mixing.matrix != NO_MIXING

    @property
    def typical_disagreement(self) -> float:
        """Mean of those disagreements that are known, in EV; 0 where none is.

        Each counts for 0.2 at most: no response is that wrong, and more is other light, or something that moved.
        """
        known = [min(ev, _LARGEST_RESPONSE_ERROR) for ev in self.disagreement if math.isfinite(ev)]
        return sum(known) / len(known) if known else 0.0


def _mixing_of(mixing: Tensor) -> ColourMixing | None:
    red, green, blue, errors = (as_row(column) for column in (*mixing[:, :3], mixing[:, 3]))
    found = ColourMixing((red, green, blue), errors)
    return None if found == ColourMixing(NO_MIXING) else found


def calibrate(
    ldr: Tensor,
    exposures: Tensor,
    *,
    response: Response | None = None,
    located: Located | None = None,
    chroma_halved: tuple[bool, bool] | None = None,
) -> Calibration:
    """Estimate response, white level and noise of the camera that took a bracket.

    Parameters
    ----------
    ldr
        Shape (N, 3, H, W), N >= 2, values in [0, 1] of 8-bit files, shortest exposure first.
    exposures
        Shape (N,): positive multiples of the light that each exposure got, ascending. They are taken as true but for
        small errors: response and exposure ratios cannot both be free. Gross errors are told by
        :func:`hdr.exposure_check.check_exposures`. Of those that got the same light the first tells for all; where all
        did, nothing tells a response, and sRGB is taken if none is given.
    response
        Of the camera, where it is known; then only the rest is estimated, and errors of the exposures of up to a
        quarter of an EV each, and up to half of what was stated.
    located
        Called with a first response, tells where the exposures show the same: displacement of shape (N, 2, h, w), in
        pixels of ``ldr`` and at its resolution or a lower one. Without it, pictures that do not lie on each other are
        compared by their ranks, which is less exact, and what moved passes for noise and disagreement.
    chroma_halved
        As in :class:`Calibration`, where the files tell; by default the pixels of 8-bit files do, of both together.

    Returns
    -------
    Calibration
        On what little evidence there is, with notes that say so: nothing is raised because of the pictures' content.

    Raises
    ------
    ValueError
        If shapes, values or exposures are not as above.

    Examples
    --------
    >>> light = torch.rand(3, 96, 128).clamp_min(0.01)
    >>> exposures = torch.tensor([1.0, 4.0, 16.0])
    >>> ldr = (0.1 * light * exposures.view(3, 1, 1, 1)).clamp_max(1).pow(1 / 1.8).mul(255).round() / 255
    >>> calibration = calibrate(ldr, exposures)
    >>> calibration.white_level, calibration.levels, len(calibration.disagreement)
    (1.0, 255, 2)
    """
    ev = checked_ev(ldr, exposures)
    groups = groups_of_light(exposures.tolist())
    if len(groups) == 1:
        guess = response or Response.srgb()
        found = _calibrated(ldr, ev, guess, located, chroma_halved, [_same_light(response)])
        return replace(found, response_known=response is not None)
    if len(groups) == len(ev):
        return _calibrated(ldr, ev, response, located, chroma_halved, [])
    firsts = [group[0] for group in groups]

    def first_located(camera: Response) -> Tensor:
        assert located is not None
        return located(camera)[firsts]

    one_each = _calibrated(
        ldr[firsts], ev[firsts], response, None if located is None else first_located, chroma_halved, [], firsts
    )
    return _for_all(one_each, groups)


def _same_light(response: Response | None) -> str:
    """What to say of exposures that all got the same light."""
    guessed = "" if response is not None else ", and nothing tells the camera's response: it is taken as sRGB"
    return f"all pictures got the same light: their merge has less noise than one of them, but no more range{guessed}"


def _for_all(of_groups: Calibration, groups: Sequence[Sequence[int]]) -> Calibration:
    """The calibration of all exposures from that of one for each light."""
    corrections = [correction for correction, group in zip(of_groups.corrections, groups, strict=True) for _ in group]
    disagreement = []
    for number, group in enumerate(groups):
        disagreement += [] if number == 0 else [of_groups.disagreement[number - 1]]
        disagreement += [math.nan] * (len(group) - 1)
    return replace(of_groups, corrections=tuple(corrections), disagreement=tuple(disagreement))


def _calibrated(
    ldr: Tensor,
    ev: Array,
    response: Response | None,
    located: Located | None,
    chroma_halved: tuple[bool, bool] | None,
    notes: list[str],
    places: Sequence[int] | None = None,
) -> Calibration:
    """:func:`calibrate` by exposures that are at certain places of the bracket."""
    numbers = [place + 1 for place in (places or range(len(ev)))]
    cells = Cells.of(ldr)
    if (brightest := float(cells.brightest.max())) < _ALL_BLACK:
        notes.append(f"the pictures are black: nothing in them is brighter than {brightest / STEP:.0f} of 255")
    if response is None:
        found = _estimated(cells, ev, ldr, located, notes, numbers)
    else:
        cells = _where_shown(cells, ldr, located, response)
        curve = log_curve(response)
        white = white_level_of(cells, ev, curve, notes)
        found = _Found(cells, response, white, exposure_errors(cells, ev, curve, white))
    cells, errors = found.cells, found.errors
    response = found.response.with_white_level(min(found.white, found.response.white_level))
    below = channels_clipped_below(cells, ev + errors, log_curve(response), response.white_level)
    if any(math.isfinite(level) for level in below):
        notes.append(_clipped_below_white(below))
    # A quarter of the pixels tells as much as all.
    levels = 255 if hold_eight_bits(torch.from_numpy(cells.pixels[..., ::4])) else 65535
    noise = noise_of(cells, ev, response, levels, notes)
    if chroma_halved is None:
        lacking = levels == 255 and lacks_fine_colours(cells, response.white_level)
        chroma_halved = lacking, lacking
    disagreement = disagreement_of(cells, ev + errors, response)
    notes += [
        f"exposures {numbers[index]} and {numbers[index + 1]}, shortest first, disagree by {ev_apart:.2f} EV: was the "
        "light the same?"
        for index, ev_apart in enumerate(disagreement)
        # By a response that is a guess nobody tells whether the light was another.
        if ev_apart > _LARGE_DISAGREEMENT
        and found.told
        and not (found.too_far and ev[index + 1] - ev[index] > _LARGEST_TELLING_STEP)
    ]
    corrections = tuple((errors - errors[0]).tolist())
    return Calibration(
        response,
        response.white_level,
        noise.shot,
        noise.read,
        levels,
        noise.left,
        mixing=colour_mixing(cells, ev + errors, response),
        chroma_halved=chroma_halved,
        corrections=corrections,
        disagreement=disagreement,
        response_known=found.told,
        notes=tuple(notes),
    )


def _clipped_below_white(levels: Sequence[float]) -> str:
    told = ", ".join(
        f"{colour} stays at {level / STEP:.0f} of 255"
        for colour, level in zip(("red", "green", "blue"), levels, strict=True)
        if math.isfinite(level)
    )
    return (
        f"{told} however much light there is: channels that clip below white are not known as clipped, and highlights "
        "are lost; develop the files so that what is clipped is white, and without a tint"
    )


class _Found(NamedTuple):
    """What is known of a camera once its response is."""

    cells: Cells
    """Where the exposures show the same."""
    response: Response
    white: float
    """The white level that the pixels tell."""
    errors: Array
    """By how many EV each exposure got more light than stated."""
    too_far: bool = False
    """Whether steps are too large to tell a response."""
    told: bool = True
    """Whether the pixels tell the response; otherwise it is a guess, unless it was given."""


def _estimated(
    cells: Cells, ev: Array, ldr: Tensor, located: Located | None, notes: list[str], numbers: Sequence[int]
) -> _Found:
    """The response that the pixels tell, or sRGB where they tell none; and what could not be known."""
    guessed = black_level(cells, ev)
    base, rough = _first_curve(cells, ev, guessed)
    cells = _where_shown(cells, ldr, located, response_of(rough))
    # Black is what keeps its value in one place, and only now it is known where places are.
    black = black_level(cells, ev)
    if black != guessed:
        base, rough = _first_curve(cells, ev, black)
    if black:
        notes.append(f"dark parts keep their value whatever the exposure: light begins above {black / STEP:.0f} of 255")
    white = white_level_of(cells, ev, rough, notes)
    equations = equations_of_cells(cells, ev, rough, black, white)
    found = solve(equations, ev, base, rough)
    unaligned = found.residual > _FAR_FROM_ALIGNED
    if unaligned:
        equations = equations_of_ranks(cells, ev, black, white)
        found = solve(equations, ev, base, base)
    else:
        nearly_white = equations_of_partly_clipped(cells, ev, found.curve, black, white)
        equations = Equations.concatenated([equations, nearly_white])
        found = solve(equations, ev, base, found.curve)
    telling = int((equations.ev <= _LARGEST_TELLING_STEP).sum())
    too_far = telling < FEWEST_EQUATIONS <= len(equations.ev)
    if unaligned and not too_far:
        notes.append("the exposures do not lie on each other: their response is less exact than that of aligned ones")
    if len(equations.ev) < FEWEST_EQUATIONS:
        notes.append("the exposures share too little to tell the camera's response: it is taken as sRGB")
        return _Found(cells, Response.srgb(), white, np.zeros(len(ev)), too_far, told=False)
    if too_far:
        notes.append(_far_apart(ev, numbers))
    elif equations.high.max() < _WELL_KNOWN * white:
        notes.append(
            f"no two exposures share values above {equations.high.max() / STEP:.0f} of 255: there the response goes on "
            "as it does below"
        )
    return _Found(cells, response_of(found.curve), white, found.errors, too_far)


def agreeing_response(
    ldr: Tensor, exposures: Tensor, candidates: Sequence[Response], *, located: Located | None = None
) -> Response | None:
    """The one of several responses by which exposures agree best.

    Parameters
    ----------
    ldr, exposures, located
        As for :func:`calibrate`.
    candidates
        Responses that the files may have, such as gamma 2.2, sRGB and linear; the likeliest first.

    Returns
    -------
    Response or None
        The first if nothing tells; None if by none two fifths of what exposures show well is as far apart as stated, to
        a twentieth.

    Raises
    ------
    ValueError
        If shapes, values or exposures are not as for :func:`calibrate`.

    Examples
    --------
    >>> light = torch.rand(3, 96, 128).clamp_min(0.01)
    >>> exposures = torch.tensor([1.0, 2.0, 4.0])
    >>> ldr = 0.25 * light * exposures.view(3, 1, 1, 1)  # linear
    >>> agreeing_response(ldr, exposures, [Response.gamma(2.2), Response.srgb(), Response.linear()]).name
    'linear'
    """
    ev = checked_ev(ldr, exposures)
    cells = Cells.of(ldr)
    shares = _agreeing_shares([cells] * len(candidates), ev, candidates)
    if np.isnan(shares).all():
        return candidates[0]
    # Stated at half their distance, a mistake that is easily made, exposures of sRGB files are nearly linear.
    at_twice = _agreeing_shares([cells] * len(candidates), 2 * ev, candidates)
    if located is not None and np.nanmax(shares) <= _CLEARLY_AGREEING:
        moved = [_where_shown(cells, ldr, located, candidate) for candidate in candidates]
        shares = np.fmax(shares, _agreeing_shares(moved, ev, candidates))
        at_twice = np.fmax(at_twice, _agreeing_shares(moved, 2 * ev, candidates))
    sure = np.nanmax(shares) > max(_LEAST_AGREEING, *np.nan_to_num(at_twice))
    return candidates[int(np.nanargmax(shares))] if sure else None


def _agreeing_shares(cells: Sequence[Cells], ev: Array, responses: Sequence[Response]) -> Array:
    """Of what neighbours show well, how much is as far apart as stated by each response; NaN if nothing tells."""
    return np.array([_agreeing_share(one, ev, response) for one, response in zip(cells, responses, strict=True)])


def _agreeing_share(cells: Cells, ev: Array, response: Response) -> float:
    """The same by one response: not by how much they differ, for what has moved differs by any."""
    curve = log_curve(response)
    shares = []
    for a, b in itertools.pairwise(group[0] for group in groups_of_light(np.exp2(ev).tolist())):
        usable = comparable(cells, a, b, curve, response.white_level)
        off = np.abs(ev_apart(cells, a, b, curve, usable) - (ev[b] - ev[a]))
        if off.size >= FEWEST_CELLS:
            shares.append(float((off < _AGREEING * (ev[b] - ev[a])).mean()))
    return sum(shares) / len(shares) if shares else math.nan


def _far_apart(ev: Array, numbers: Sequence[int]) -> str:
    """What to say of a response that only neighbours tell that are far apart."""
    steps = np.diff(ev)
    index = int(steps.argmax())
    return (
        f"exposures {numbers[index]} and {numbers[index + 1]}, shortest first, are {steps.max():.1f} EV apart: what "
        "both show is nearly black in one and nearly white in the other, so that the camera's response between is a "
        "guess, usually off by 0.2 EV or more. Take steps of 2 or 3 EV, or give the response of another bracket of "
        "this camera (--response FILE, as --save-response writes it)"
    )


def _first_curve(cells: Cells, ev: Array, black: float) -> tuple[Array, Array]:
    """The sRGB curve above black, and the one that ranks make of it, whatever moved."""
    base = srgb_above_black(black)
    return base, solve(equations_of_ranks(cells, ev, black, 0.92), ev, base, base).curve


def _where_shown(cells: Cells, ldr: Tensor, located: Located | None, response: Response) -> Cells:
    """The cells read where each exposure shows them, if that is known and enough of them were seen by all."""
    if located is None:
        return cells
    moved = Cells.of(ldr, located(response))
    return moved if moved.pixels.shape[2] >= FEWEST_CELLS else cells
