"""What the files of a bracket hold, which must be of one kind: images, how fine their values are, and their colours."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from hdr._errors import RefusedError
from hdr._images import hold_eight_bits
from hdr.io import Photograph, is_raw, read_photograph, shared_chroma
from hdr.raw import LEVELS, Colours, RawSettings, read_raw, sensor_to_rec709, white_balance_factors

_SENSOR_WHITES = (2**10 - 1, 2**12 - 1, 2**14 - 1)
# Of the values of the longest exposure at white, and how often a level of those just below it they have to be there.
_LEAST_CLIPPED, _PILED_UP, _LEVELS_BELOW = 1e-3, 8, 32
_CALLER = 5  # frames up: whoever asked hdr.bracket for a bracket

PathLike = str | os.PathLike[str]


class BracketFiles(NamedTuple):
    """The images of a bracket, and what its files say of them all."""

    images: list[Tensor]
    """Each (3, H, W), in [0, 1], 1 the white level."""
    levels: int
    """Largest level of the files."""
    linear: bool
    """Whether values are linear light by the kind of the files."""
    chroma_halved: tuple[bool, bool] | None = None
    """As in :class:`hdr.io.Photograph`."""
    to_rec709: Tensor | None = None
    """Shape (3, 3): from the images' linear light to Rec. 709, where their colours are others."""


def check_one_kind(paths: Sequence[PathLike], names: Sequence[str]) -> None:
    """Raise ValueError if camera raw lies beside developed images, before anything is read."""
    raw_files = [name for path, name in zip(paths, names, strict=True) if is_raw(path)]
    if 0 < len(raw_files) < len(paths):
        raise RefusedError(
            f"{', '.join(raw_files)}: camera raw beside developed images, which have another response; merge one kind"
        )


def read_files(
    paths: Sequence[PathLike],
    names: Sequence[str],
    reference: int | None,
    *,
    raw: RawSettings | None,
    white_level: int | None,
) -> BracketFiles:
    """Read the files of a bracket; arguments and errors are those of :meth:`hdr.bracket.Bracket.from_files`.

    ``reference`` is known here unless it depends on exposures that are to be estimated.
    """
    if not is_raw(paths[0]):
        return _photographs(paths, names, white_level)
    if white_level is not None:
        raise RefusedError(f"{names[0]}: camera raw says itself what white is; leave white_level (--white-level) out")
    return _developed(paths, reference, raw or RawSettings())


def _developed(paths: Sequence[PathLike], reference: int | None, raw: RawSettings) -> BracketFiles:
    """Linear images of raw files, all with the white balance of the reference, and what turns them into Rec. 709.

    In the sensor's colours, where that is known: what clips in one channel is still seen in the others.
    """
    if reference is None:
        raise RefusedError(
            "of raw files whose exposures are to be estimated, say which is the reference (--reference, which counts "
            "from 1)"
        )
    balance = white_balance_factors(paths[reference], raw.white_balance)
    to_rec709 = sensor_to_rec709(paths[reference], balance)
    colours: Colours = "rec709" if to_rec709 is None else "sensor"
    images = [read_raw(path, balance, raw.half_size, colours) for path in paths]
    return BracketFiles(images, LEVELS, linear=True, to_rec709=to_rec709)


def _photographs(paths: Sequence[PathLike], names: Sequence[str], white_level: int | None) -> BracketFiles:
    photographs = [read_photograph(path) for path in paths]
    images, linear = [one.image for one in photographs], photographs[0].linear
    if any(one.linear != linear for one in photographs):
        raise RefusedError(f"{', '.join(names)}: linear files beside encoded ones; merge one kind")
    if len({one.profile for one in photographs}) > 1:
        told = ", ".join(f"{name} {one.profile or 'sRGB'}" for name, one in zip(names, photographs, strict=True))
        raise RefusedError(f"the images of a bracket must have one colour profile, got {told}")
    white = _white(photographs, names, white_level)
    if white is not None:
        for image in images:  # in place: they are this bracket's own, and large
            image.mul_(LEVELS / white).clamp_max_(1.0)
    in_eight_bits = white is None and all(hold_eight_bits(image[..., ::7, ::7]) for image in images)
    levels = 255 if in_eight_bits else white or max(one.levels for one in photographs)
    return BracketFiles(images, levels, linear, shared_chroma(photographs), photographs[0].to_rec709)


def _white(photographs: Sequence[Photograph], names: Sequence[str], stated: int | None) -> int | None:
    """White level of 16-bit files that hold fewer bits, as stated or as their values tell; None for all others."""
    if any(one.levels != LEVELS for one in photographs):
        if stated is not None:
            raise RefusedError(f"{', '.join(names)}: white_level (--white-level) is for files of 16 bits; leave it out")
        return None
    largest = round(max(float(one.image.max()) for one in photographs) * LEVELS)
    if stated is not None:
        if not max(largest, 1) <= stated <= LEVELS:
            raise RefusedError(
                f"the files have values up to {largest}; white_level (--white-level) is from there to {LEVELS}, got "
                f"{stated}"
            )
        return None if stated == LEVELS else stated
    if largest not in _SENSOR_WHITES:
        return None
    # A dark picture, too, may have this level as its largest by chance. What tells them apart is that light beyond
    # white piles up there: in the longest exposure, which has most of it.
    shares = [_share_at(one.image, largest, largest) for one in photographs]
    clipped = max(shares)
    longest = shares.index(clipped)
    below = _share_at(photographs[longest].image, largest - _LEVELS_BELOW, largest - 1) / _LEVELS_BELOW
    if clipped < _LEAST_CLIPPED or clipped < _PILED_UP * below:
        return None
    warnings.warn(
        f"the files hold {largest.bit_length()} bits in 16: {clipped:.1%} of {names[longest]} lie at {largest}, and "
        "nothing above it, so that is taken as white. If it is not, say that white is 65535 (--white-level 65535); if "
        "they are linear, as a sensor's values are, say that the response is (--response linear)",
        stacklevel=_CALLER,
    )
    return largest


def _share_at(image: Tensor, lowest: int, highest: int) -> float:
    between = (image > (lowest - 0.5) / LEVELS) & (image < (highest + 0.5) / LEVELS)
    return float(between.sum()) / image.numel()
