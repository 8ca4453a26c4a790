"""Merger: a bracket in, radiance out, tile by tile, in memory that the tile bounds and not the picture."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from itertools import product
from typing import Literal, get_args

import torch
from torch import Tensor
from tqdm import tqdm

from hdr.bracket import Bracket
from hdr.nn.generator import SMALLEST_SIDE, Generator, round_up
from hdr.radiometry import exposure_stack, inverse_mu_law, ldr_to_linear
from hdr.weights import load_generator

Precision = Literal["float32", "bfloat16", "float16"]

BLEND = 32
"""Pixels over which one tile fades into the next."""

SATURATED = 254.5 / 255
"""LDR value that 8 bits round to the highest level."""

_ROWS_AT_ONCE = 256


class Merger:
    """Merges brackets with a trained generator.

    The generator sees squares of ``tile + overlap`` pixels whose corners lie on its stride. Neighbouring squares share
    ``overlap`` pixels, of which the middle 32 are blended and the others are context. The default overlap leaves the
    generator's whole receptive field as context, so the result is that of one pass over the whole picture, up to
    rounding. Where the reference is saturated, the result is at least as bright as its saturation.

    Parameters
    ----------
    weights
        Name of a bundled preset or a weights file, see :func:`hdr.weights.load_generator`; or a generator, of which a
        copy is used.
    device
        ``"auto"`` takes the GPU if there is one, otherwise the CPU; or a device of PyTorch.
    tile
        Pixels by which the squares advance. A larger tile wastes less on context and takes more memory.
    overlap
        Pixels that neighbouring squares share. Less than the default is faster and an approximation.
    precision
        What convolutions compute in. Half precision is for GPUs, and an approximation.

    Attributes
    ----------
    generator, device, tile, overlap, precision
        As they are used: tile and overlap rounded up so that all corners lie on the generator's stride.

    Raises
    ------
    ValueError
        If a parameter is out of its range or the weights are not a generator's.
    OSError
        If the weights file cannot be opened.

    Examples
    --------
    >>> bracket = Bracket(torch.rand(3, 3, 40, 56), torch.tensor([1.0, 4.0, 16.0]))
    >>> Merger(Generator.from_preset("tiny"), device="cpu")(bracket).shape
    torch.Size([3, 40, 56])
    """

    def __init__(
        self,
        weights: str | os.PathLike[str] | Generator = "small",
        device: str | torch.device = "auto",
        tile: int = 512,
        overlap: int | None = None,
        precision: Precision = "float32",
    ) -> None:
        if precision not in get_args(Precision):
            raise ValueError(f"precision must be one of {', '.join(get_args(Precision))}, got {precision!r}")
        if tile < 1 or (overlap is not None and overlap < 0):
            raise ValueError(f"tile must be at least 1 and overlap at least 0, got {tile} and {overlap}")
        self.device = _choose_device(device)
        # A copy: the user's own generator stays in its mode, in its dtype and on its device.
        generator = copy.deepcopy(weights) if isinstance(weights, Generator) else load_generator(weights)
        self.generator = generator.to(self.device, torch.float32).requires_grad_(False).eval()
        self.precision = precision
        self.tile = round_up(tile, generator.stride)
        context_and_blend = 2 * generator.halo + BLEND if overlap is None else overlap
        # The last square is wider than the overlap, and the generator takes none that are smaller.
        self.overlap = round_up(max(context_and_blend, SMALLEST_SIDE), generator.stride)

    def __call__(self, bracket: Bracket, *, progress: bool = False) -> Tensor:
        """Merge a bracket.

        Parameters
        ----------
        bracket
            What to merge. Camera shake of more than the generator follows has to be registered before, see
            :func:`hdr.registration.register`.
        progress
            Whether to show a progress bar.

        Returns
        -------
        Tensor
            Radiance of shape (3, H, W), float32, on the CPU, finite, >= 0, at the instant of the reference and on the
            scale on which the short exposure saturates at 1.

        Raises
        ------
        FloatingPointError
            If the network returns NaN or infinity, as half precision may.
        """
        merged = self._merge_tiles(bracket, progress)
        for top in range(0, bracket.size[0], _ROWS_AT_ONCE):  # in place, so that no second picture is held
            rows = merged[:, top : top + _ROWS_AT_ONCE]
            rows.copy_(torch.maximum(inverse_mu_law(rows), self._least_radiance(bracket, top)))
        return merged

    def _merge_tiles(self, bracket: Bracket, progress: bool) -> Tensor:
        height, width = bracket.size
        squares = list(product(self._spans(height), self._spans(width)))
        merged = torch.zeros(3, height, width)
        for (top, bottom), (left, right) in tqdm(squares, desc="Merging", unit="tile", disable=not progress):
            square = self._merge_square(bracket, slice(top, bottom), slice(left, right))
            if not bool(torch.isfinite(inverse_mu_law(square)).all()):
                raise FloatingPointError(
                    f"the network returned NaN or infinity for rows {top} to {bottom}, columns {left} to {right}; "
                    "merge with precision='float32'"
                )
            square *= self._fade(top, bottom, height)[:, None] * self._fade(left, right, width)
            merged[:, top:bottom, left:right] += square
        return merged

    @torch.no_grad()
    def _merge_square(self, bracket: Bracket, rows: slice, columns: slice) -> Tensor:
        ldr = bracket.ldr[..., rows, columns].to(self.device, torch.float32)
        stack = exposure_stack(ldr, bracket.exposures.to(ldr)).unsqueeze(0)
        half = self.precision != "float32"
        with torch.autocast(self.device.type, dtype=getattr(torch, self.precision), enabled=half):
            tone_mapped = self.generator(stack)
        assert isinstance(tone_mapped, Tensor)
        return tone_mapped[0].to("cpu", torch.float32)

    def _least_radiance(self, bracket: Bracket, top: int) -> Tensor:
        """What the reference proves: light is not negative, and where it is saturated there was light enough for that.

        The network does not know this; without it, what is dark in the other exposures and has moved away would leave a
        ghost in the reference's highlights.
        """
        reference = bracket.reference[:, top : top + _ROWS_AT_ONCE].to("cpu", torch.float32)
        saturation = ldr_to_linear(reference, float(bracket.exposures[1]))
        return torch.where(reference >= SATURATED, saturation, torch.zeros_like(saturation))

    def _spans(self, length: int) -> Iterator[tuple[int, int]]:
        """Where squares begin and end along one axis of the picture; the last may be shorter, but not than overlap."""
        begin = 0
        while begin + self.tile + self.overlap < length:
            yield begin, begin + self.tile + self.overlap
            begin += self.tile
        yield begin, length

    def _fade(self, begin: int, end: int, length: int) -> Tensor:
        """Weight of a square's pixels along one axis; the weights of all squares sum to 1 at every pixel."""
        rise = self._rise(begin, begin, end) if begin > 0 else torch.ones(end - begin)
        fall = self._rise(begin + self.tile, begin, end) if end < length else torch.zeros(end - begin)
        return rise - fall

    def _rise(self, origin: int, begin: int, end: int) -> Tensor:
        """Ramp from 0 to 1 in the middle of the overlap that begins at ``origin``, at the pixels begin to end."""
        blend = min(BLEND, self.overlap)
        context = (self.overlap - blend) // 2
        return ((torch.arange(begin - origin, end - origin) + 0.5 - context) / blend).clamp(0.0, 1.0)


def _choose_device(device: str | torch.device) -> torch.device:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ValueError(
            f"device must be 'auto' or a device of PyTorch such as 'cpu' or 'cuda', got {device!r}"
        ) from error
    try:
        torch.zeros((), device=chosen).item()
    except (AssertionError, ImportError, RuntimeError) as error:  # the type depends on what is missing
        reason = str(error).splitlines()[0]
        raise ValueError(f"device {device!r} cannot be used here ({reason}); use 'auto' or 'cpu'") from error
    return chosen
