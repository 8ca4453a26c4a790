"""How well the exposures of a whole image agree: beyond what their noise explains, and but for what moves."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hdr.chroma import brightness
from hdr.difference import DEVIATION_FLOOR, difference_to_reference
from hdr.geometry import pixels_of_cells, sample, side_of_cells
from hdr.observation import BINS, Aligned, aligned_at, at_brightness, observe, unsaturated
from hdr.smoothing import blurred

if TYPE_CHECKING:
    from hdr.calibration import Calibration  # needs OpenCV, which the networks do not

_SAMPLED_PIXELS = 20_000
_FEWEST_IN_BIN = 50
_QUANTILE = 0.1  # of the squared differences: what moved, up to nine tenths of a brightness, has no say
_OF_NOISE = 0.1948  # the same quantile of the mean of three squared standard normal numbers, chi2(3) / 3
_LARGEST_UNEXPLAINED = 0.1**2
_PATCH = 13  # pixels; what moves is larger than a leaf and smaller than the image
_PATCHES = 1000
_FEWEST_PATCHES = 8
_OF_TEXTURE = 0.1  # of its variance: what differs by less is the same texture
_MOVED = 3.5  # excess over the variance, in its units


def unexplained_variance(
    ldr: Tensor, exposures: Tensor, calibration: Calibration, displacement: Tensor, reference: int
) -> Tensor:
    """Squared differences between exposures that the noise of the calibration does not explain, by brightness.

    Film grain, a response that is wrong in its toe, compression: no model knows them all, but the bracket's own pixels
    do. Without it they pass for motion, and long exposures are not believed in shadows.

    Parameters
    ----------
    ldr, exposures, calibration
        As for :func:`hdr.observation.observe`, of the whole image.
    displacement
        Shape (N, 2, h, w): of the whole image, at its resolution or a lower one.
    reference
        Its index.

    Returns
    -------
    Tensor
        Shape (N, 14): variance in the mu-law domain in steps of brightness from 0 to 1; 0 for the reference, and where
        too few pixels are well exposed in both. Steps darker than all of which there are enough have that of the
        darkest of these.
    """
    aligned = _sampled(ldr, exposures, calibration, displacement)
    return _unexplained(aligned, exposures.to(aligned.tone_mapped).view(1, -1, 1, 1, 1), reference)


def _unexplained(aligned: Aligned, t: Tensor, reference: int) -> Tensor:
    squared = difference_to_reference(aligned, t.flatten(1), reference).square().mean(dim=2)[0]
    expected = (aligned.deviation.square() + aligned.deviation[:, reference : reference + 1].square())[0, :, 0]
    known = unsaturated(aligned)[0]
    of_brightness = (aligned.tone_mapped[0, reference].mean(dim=0) * BINS).long().clamp(0, BINS - 1)
    count = t.numel()
    found = torch.zeros(count, BINS, dtype=squared.dtype, device=squared.device)
    for index in (index for index in range(count) if index != reference):
        usable = known[index] & known[reference]
        # Sorted by brightness once, instead of searched for each step of it.
        steps, order = of_brightness[usable].sort(stable=True)
        ends = torch.bincount(steps, minlength=BINS).cumsum(0).tolist()
        measured, noise = squared[index][usable][order], expected[index][usable][order]
        parts = [(step, part) for step, part in enumerate(pairwise([0, *ends])) if part[1] - part[0] >= _FEWEST_IN_BIN]
        for step, (begin, end) in parts:
            quantile = torch.quantile(measured[begin:end], _QUANTILE) / _OF_NOISE
            found[index, step] = quantile - noise[begin:end].median()
        # A long exposure shows darker places than the reference does, and there it is no less uncertain. Not so in
        # brighter ones, of which the reference clips: no more is known of them than that they differ, and what moved
        # would pass.
        if parts:
            darkest = parts[0][0]
            found[index, :darkest] = found[index, darkest]
    return found.clamp(0, _LARGEST_UNEXPLAINED)


def _sampled(ldr: Tensor, exposures: Tensor, calibration: Calibration, displacement: Tensor) -> Aligned:
    """Observations in the reference's frame at some thousands of pixels of the whole image."""
    size, cells = ldr.shape[-2:], displacement.shape[-2:]
    step = math.ceil(math.sqrt(cells.numel() / _SAMPLED_PIXELS))
    some = (..., slice(None, None, step), slice(None, None, step))
    # Whole pixels of the reference, as merges read it: between pixels noise and grain average out.
    places = pixels_of_cells(size, cells, side_of_cells(size, cells) // 2, like=displacement)
    positions = (places[some] + displacement[some]).to(ldr.device, _precise(ldr))
    read = torch.cat([sample(image[None].to(where), where[None]) for image, where in zip(ldr, positions, strict=True)])
    return aligned_at(_observed_alone(read, exposures.to(read), calibration), positions, size)


def moving_share(
    ldr: Tensor,
    exposures: Tensor,
    calibration: Calibration,
    displacement: Tensor,
    index: int,
    reference: int,
    enough: float = 1.0,
) -> float:
    """Share of the image in which an exposure shows something else than the reference, where both show anything.

    Looked at in patches of 13 x 13 pixels, each of which counts if most of its pixels differ by more than is expected:
    single pixels differ at every edge that is half a pixel off, things that move do so in one piece. What JPEG makes of
    a texture is no motion: there brightness must differ by a tenth of the texture's variance, or the mean.

    Parameters
    ----------
    ldr, exposures, calibration
        As for :func:`hdr.observation.observe`, of the whole image.
    displacement
        Shape (2, h, w): of the exposure, of the whole image, at its resolution or a lower one.
    index, reference
        Which exposure, and which is the reference.
    enough
        What is asked: where a quarter of the patches leave no doubt that more moves, they alone are looked at.

    Returns
    -------
    float
        In [0, 1]; 1 where too little is well exposed in both.
    """
    pair, t = (ldr[reference], ldr[index]), exposures[[reference, index]]
    few = _PATCHES // 4
    if enough < 1 and ldr.shape[-2] * ldr.shape[-1] > few * _PATCH**2:  # of a smaller image they are all there are
        moving, shown = _moving_patches(pair, t, calibration, displacement, few)
        expected = enough * shown
        if shown >= _FEWEST_PATCHES and moving > expected + 3 * math.sqrt(expected):  # three standard deviations
            return moving / shown
    moving, shown = _moving_patches(pair, t, calibration, displacement, _PATCHES)
    return moving / shown if shown >= _FEWEST_PATCHES else 1.0


def _moving_patches(
    pair: tuple[Tensor, Tensor], t: Tensor, calibration: Calibration, displacement: Tensor, most: int
) -> tuple[int, int]:
    """Of so many patches at most, how many show something else than the first of a pair, and how many anything."""
    size = pair[0].shape[-2:]
    along = _rows_of_patches(size, most)
    x, y = torch.meshgrid(*reversed(along), indexing="xy")
    places = torch.stack([x, y]).to(pair[0].device, _precise(pair[0]))
    scale = side_of_cells(size, displacement.shape[-2:])
    there = _pixels_at(displacement, *(where // scale for where in along))
    moved = places + there.to(places)
    # The reference is read at whole pixels.
    ours = _pixels_at(pair[0], *along).to(places)
    theirs = sample(pair[1][None].to(places), moved[None])[0]
    t = t.to(places)
    observed = _observed_alone(torch.stack([ours, theirs]), t, calibration)
    aligned = aligned_at(observed, torch.stack([places, moved]), size)
    # As observe adds it, without observing all again; some of the pixels tell as much as all.
    step = math.ceil(math.sqrt(places[0].numel() / _SAMPLED_PIXELS))
    some = Aligned._make(None if maps is None else maps[..., ::step, ::step] for maps in aligned)
    t = t.view(1, -1, 1, 1, 1)
    unexplained = at_brightness(_unexplained(some, t, 0), observed[:, :3])
    aligned = aligned._replace(deviation=(aligned.deviation.square() + unexplained).sqrt())
    differs = _differing(aligned, difference_to_reference(aligned, t.flatten(1), 0)[0, 1])
    known = unsaturated(aligned)[0].all(dim=0).view_as(differs)
    well_exposed = known.sum(dim=(1, 3))
    shown = well_exposed > _PATCH**2 / 2
    moving = shown & ((differs & known).sum(dim=(1, 3)) > well_exposed / 2)
    return int(moving.sum()), int(shown.sum())


def _differing(aligned: Aligned, difference: Tensor) -> Tensor:
    """Where an exposure differs (3, 13 m, 13 n) from the first of two by more than is expected, (m, 13, n, 13).

    By more than compression and sharpening make of one texture, too: the finest colours, and what dark channels have of
    detail, may have nothing in common, but in its brightness a texture is like itself, and its mean is the same.
    """
    variance = _blurred_in_patches(aligned.deviation.square().sum(dim=1)[0, 0], 2.0)
    tolerance = _MOVED * (variance + DEVIATION_FLOOR**2)
    more = _blurred_in_patches(difference.square().mean(dim=0), 1.0) - variance > tolerance
    grey, ours = (brightness(channels, dim=0) for channels in (difference, aligned.tone_mapped[0, 0]))
    texture = _blurred_in_patches(ours[0].square(), 2.0) - _square_of_mean(ours)
    unlike = _blurred_in_patches(grey[0].square(), 1.0) > _OF_TEXTURE * texture
    return more & (unlike | (_square_of_mean(difference) > tolerance))


def _square_of_mean(maps: Tensor) -> Tensor:
    """Square of channels (C, 13 m, 13 n) that are smoothed in their patches, the mean of the channels."""
    return torch.stack([_blurred_in_patches(channel, 2.0).square() for channel in maps]).mean(dim=0)


def _pixels_at(image: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Pixels of (C, H, W) where some rows and columns meet; the edge continues outside."""
    rows, columns = (
        along.clamp_max(side - 1).to(image.device) for along, side in zip((rows, columns), image.shape[1:], strict=True)
    )
    return image.index_select(1, rows).index_select(2, columns)


def _rows_of_patches(size: Sequence[int], most: int) -> tuple[Tensor, Tensor]:
    """Rows and columns of the pixels of so many patches all over an image, 13 in a row for each patch."""
    step = max(_PATCH, math.ceil(math.sqrt(size[0] * size[1] / most)))
    starts = (torch.arange(0, max(side - _PATCH, 0) + 1, step) for side in size)
    rows, columns = ((start[:, None] + torch.arange(_PATCH)).flatten() for start in starts)
    return rows, columns


def _blurred_in_patches(maps: Tensor, sigma: float) -> Tensor:
    """A map (13 m, 13 n) of patches side by side, each smoothed by itself as :func:`blurred` does, (m, 13, n, 13)."""
    smoothing = _smoothing(sigma).to(maps)
    across = (maps.view(-1, _PATCH) @ smoothing).view(-1, _PATCH, maps.shape[1])
    patches: Tensor = (smoothing.T @ across).unflatten(2, (-1, _PATCH))
    return patches


@functools.lru_cache(maxsize=8)
def _smoothing(sigma: float) -> Tensor:
    """The matrix that 13 numbers in a row are smoothed by: convolutions of a thousand images take ten times as long."""
    with torch.inference_mode(False):
        one = torch.eye(_PATCH, dtype=torch.float64).view(_PATCH, 1, 1, _PATCH).expand(-1, -1, _PATCH, -1)
        return blurred(one, sigma)[:, 0, 0]


def _observed_alone(pixels: Tensor, exposures: Tensor, calibration: Calibration) -> Tensor:
    """Observations of pixels that have no neighbours, and so no detail."""
    return observe(pixels, exposures, dataclasses.replace(calibration, chroma_halved=(False, False)))


def _precise(ldr: Tensor) -> torch.dtype:
    """What is computed in: half precision tells neither the places of a large image apart nor, at 16 EV, exposures."""
    return torch.promote_types(ldr.dtype, torch.float32)
