"""Merger: a bracket in, radiance out, tile by tile: beside these two the tile bounds the memory, not the image."""

from __future__ import annotations

import copy
import math
import os
import warnings
from collections.abc import Iterator
from itertools import product
from typing import NamedTuple, get_args

import torch
from torch import Tensor
from tqdm import tqdm

from hdr._errors import RefusedError
from hdr.agreement import unexplained_variance
from hdr.alignment import Alignment, align
from hdr.bracket import Bracket
from hdr.inpainting import Hidden, HighlightInpainting, hidden_highlights
from hdr.nn.generator import SMALLEST_SIDE, Generator
from hdr.observation import observe, part_around
from hdr.radiometry import inverse_mu_law
from hdr.settings import Mode, Precision
from hdr.weights import UNTRAINED, load_generator

BLEND = 32
"""Pixels over which one tile fades into the next."""

CONTEXT = 48
"""Pixels around a tile that the generator sees besides it, by default."""

_ROWS_AT_ONCE = 256
_WORTH_SAYING = 0.005  # of the image


class MergedBracket(NamedTuple):
    """A merged bracket, and which exposure made which pixel."""

    radiance: Tensor
    """Shape (3, H, W): linear Rec. 709, the short exposure saturates at 1."""
    weights: Tensor
    """Shape (N, H, W), float16: the share of each exposure, the mean of the three channels'; they sum to 1."""
    alignment: Alignment
    """Where the exposures were found."""


class Merger:
    """Merges brackets with a trained generator.

    The exposures are aligned as a whole (:func:`hdr.alignment.align`), and the generator merges them in squares of
    ``tile + overlap`` pixels. Neighbouring squares share ``overlap`` pixels, of which the middle 32 are blended and the
    others are context. Where the reference is saturated, the result is at least as bright as its saturation.

    A bracket in which nothing moves (:attr:`hdr.alignment.Alignment.still`) is merged by the weights of physics and
    denoised: there is nothing to judge, and what the network knows of motion can only disturb. Where nothing moves in
    some of its exposures, the network does not move these, nor judge them where the reference is saturated.

    Parameters
    ----------
    weights
        Name of a bundled preset or a weights file, see :func:`hdr.weights.load_generator`; or a generator, of which a
        copy is used. ``"none"`` is an untrained one: the physical merge, with nothing learned.
    device
        ``"auto"`` takes the GPU if there is one, otherwise the CPU; or a device of PyTorch.
    tile
        Pixels by which the squares advance. A larger tile wastes less on context and takes more memory.
    overlap
        Pixels that neighbouring squares share; by default 128, with which the result is that of one pass over the whole
        image to 1e-3 in the mu-law domain. Less is faster.
    precision
        What convolutions compute in. ``"auto"`` is bfloat16 on a processor that computes in it (AVX-512 BF16, AMX),
        where the result is that of float32 to 2e-3 in the mu-law domain and takes an eighth to a fifth less time,
        and float32 elsewhere. Half precision on a GPU takes less memory, and float16 may overflow.
    denoise
        Whether the merge is denoised, as its weights have learned to; otherwise noise stays for other programs.
    judge
        Whether the network moves and judges exposures in which something moves; otherwise physics alone weighs them,
        as in brackets that stand still, which is quicker, and worse mostly where the reference is dark and noisy.

    Attributes
    ----------
    generator, device, tile, overlap, precision, judge
        As they are used: tile and overlap rounded up so that all corners lie on the generator's stride.
    untrained
        Whether ``"none"`` was asked for.

    Raises
    ------
    ValueError
        If a parameter is out of its range or the weights are not a generator's.
    OSError
        If the weights file cannot be opened.

    Examples
    --------
    >>> bracket = Bracket(torch.rand(3, 3, 40, 56), torch.tensor([1.0, 4.0, 16.0]))
    >>> Merger("none", device="cpu")(bracket, align="off").shape
    torch.Size([3, 40, 56])
    """

    def __init__(
        self,
        weights: str | os.PathLike[str] | Generator = "small",
        device: str | torch.device = "auto",
        tile: int = 776,
        overlap: int | None = None,
        precision: Precision = "auto",
        denoise: bool = True,
        judge: bool = True,
    ) -> None:
        if precision not in get_args(Precision):
            raise RefusedError(f"precision must be one of {', '.join(get_args(Precision))}, got {precision!r}")
        if tile < 1 or (overlap is not None and overlap < 0):
            raise RefusedError(f"tile must be at least 1 and overlap at least 0, got {tile} and {overlap}")
        self.device = _choose_device(device)
        # A copy: the user's own generator stays in its mode, in its dtype and on its device.
        generator = copy.deepcopy(weights) if isinstance(weights, Generator) else load_generator(weights)
        self.generator = generator.to(self.device, torch.float32).requires_grad_(False).eval()
        if not denoise:
            self.generator.denoiser = None
        self.untrained = not isinstance(weights, Generator) and os.fspath(weights) == UNTRAINED
        # An untrained network has nothing to say, and need not be asked.
        self.judge = judge and not self.untrained
        self.precision = _chosen_precision(precision, self.device)
        self.tile = _round_up(tile, generator.stride)
        # The last square is wider than the overlap, and the generator takes none that are smaller.
        self.overlap = _round_up(
            max(2 * CONTEXT + BLEND if overlap is None else overlap, SMALLEST_SIDE), generator.stride
        )

    def __call__(self, bracket: Bracket, align: Mode | Alignment = "auto", *, progress: bool = False) -> Tensor:
        """Merge a bracket.

        Parameters
        ----------
        bracket
            What to merge.
        align
            How the exposures are aligned, see :func:`hdr.alignment.align`; or an alignment of this bracket that was
            found before.
        progress
            Whether to show a progress bar.

        Returns
        -------
        Tensor
            Radiance of shape (3, H, W), float32, on the CPU, finite, >= 0, in linear Rec. 709, at the instant of the
            reference and on the scale on which the short exposure saturates at 1.

        Raises
        ------
        FloatingPointError
            If the network returns NaN or infinity, as half precision may.
        RegistrationError
            If ``align`` is ``"on"`` and an exposure shows too little in common with the reference.
        ValueError
            If the mode is another, or the alignment is of another bracket.
        """
        return self._merged(bracket, align, progress, None)[0]

    def with_weights(
        self, bracket: Bracket, align: Mode | Alignment = "auto", *, progress: bool = False
    ) -> MergedBracket:
        """Merge a bracket, and tell which exposure made which pixel; parameters as for calling the merger."""
        weights = torch.zeros(bracket.count, *bracket.size, dtype=torch.float16)
        radiance, alignment = self._merged(bracket, align, progress, weights)
        return MergedBracket(radiance, weights, alignment)

    def _merged(
        self, bracket: Bracket, how: Mode | Alignment, progress: bool, weights: Tensor | None
    ) -> tuple[Tensor, Alignment]:
        if isinstance(how, Alignment):
            _check_alignment(how, bracket)
        height, width = bracket.size
        squares = list(product(self._spans(height), self._spans(width)))
        # Alignment is work, too: the bar moves from the beginning, and for a single tile.
        with torch.no_grad(), tqdm(total=bracket.count + len(squares), desc="Merging", disable=not progress) as bar:
            alignment = how if isinstance(how, Alignment) else align(bracket, how, progress=bar.update)
            bar.update(bracket.count - bar.n)
            unexplained = unexplained_variance(
                bracket.ldr, bracket.exposures, bracket.calibration, alignment.displacement, bracket.reference_index
            )
            merged = torch.zeros(3, height, width, dtype=torch.float32)
            inpainting = HighlightInpainting(bracket.size)
            for (top, bottom), (left, right) in squares:
                square, shares, hidden = self._merge_square(bracket, alignment, unexplained, (top, bottom, left, right))
                if not bool(torch.isfinite(square).all()):
                    raise FloatingPointError(
                        f"the network returned NaN or infinity for rows {top} to {bottom}, columns {left} to {right}; "
                        "merge with precision='float32' (--precision float32)"
                    )
                fade = self._fade(top, bottom, height)[:, None] * self._fade(left, right, width)
                merged[:, top:bottom, left:right] += square * fade
                if weights is not None:
                    weights[:, top:bottom, left:right] += (shares * fade).half()
                inpainting.add(hidden, square, fade, top=top, left=left)
                bar.update()
        guessed = inpainting.fill(merged)
        if guessed > _WORTH_SAYING:
            warnings.warn(
                f"{guessed:.1%} of the image: white in {bracket.names[bracket.reference_index]} and hidden in all "
                "shorter exposures by what has moved; the light around it is a guess there",
                stacklevel=3,
            )
        for rows in merged.split(_ROWS_AT_ONCE, dim=1):  # in place, so that no second image is held
            rows.copy_(inverse_mu_law(rows).clamp_min(0))
        return bracket.in_rec709(merged), alignment

    def _merge_square(
        self, bracket: Bracket, alignment: Alignment, unexplained: Tensor, region: tuple[int, int, int, int]
    ) -> tuple[Tensor, Tensor, Hidden]:
        """Radiance (3, h, w) in the mu-law domain and weights (N, h, w) of a region (top, bottom, left, right).

        And what no exposure shows of it.
        """
        top, bottom, left, right = region
        height, width = bracket.size
        displacement = alignment.window(*region)
        # All that the displacement and the network's correction of it may point to.
        reach = self.generator.largest_correction + 2
        to_left, to_top = (min(math.floor(low - reach), 0) for low in displacement.amin(dim=(0, 2, 3)).tolist())
        to_right, to_bottom = (max(math.ceil(high + reach), 0) for high in displacement.amax(dim=(0, 2, 3)).tolist())
        pointed_to = (top + to_top, bottom + to_bottom, left + to_left, right + to_right)
        above, below, before, behind = part_around(*pointed_to, bracket.calibration)
        above, before = max(above, 0), max(before, 0)
        ldr = bracket.ldr[..., above : min(below, height), before : min(behind, width)]
        exposures = bracket.exposures.to(self.device, torch.float32)
        observations = observe(
            ldr.to(self.device, torch.float32), exposures, bracket.calibration, unexplained, alignment.still
        )
        inputs = (
            observations.unsqueeze(0),
            exposures.unsqueeze(0),
            displacement.to(self.device, torch.float32).unsqueeze(0),
            bracket.reference_index,
            torch.tensor([[top - above, left - before]]),
        )
        mixing = bracket.calibration.batched_mixing(exposures)
        half = self.precision != "float32"
        with torch.autocast(self.device.type, dtype=getattr(torch, self.precision), enabled=half):
            all_still = sum(alignment.still) == bracket.count - 1
            if all_still or not self.judge:
                output = self.generator.merge_unjudged(*inputs, still=all_still, mixing=mixing)
            else:
                still = torch.tensor([alignment.still], device=self.device) if any(alignment.still) else None
                output = self.generator(*inputs, still, mixing)
        hidden = hidden_highlights(output.aligned, output.weights, exposures[None], bracket.reference_index)
        return output.radiance[0].float().cpu(), output.weights[0].mean(dim=1).float().cpu(), hidden

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


def _check_alignment(alignment: Alignment, bracket: Bracket) -> None:
    count = len(alignment.displacement)
    if (count, alignment.size) != (bracket.count, bracket.size):
        raise RefusedError(
            f"the alignment is of {count} exposures of {alignment.size} (height, width), and the bracket has "
            f"{bracket.count} of {bracket.size}; align this bracket"
        )


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def _chosen_precision(precision: Precision, device: torch.device) -> Precision:
    if precision != "auto":
        return precision
    return "bfloat16" if device.type == "cpu" and _computes_bfloat16() else "float32"


def _computes_bfloat16() -> bool:
    """Whether the processor computes in bfloat16; otherwise that is emulated, and slower than float32."""
    # Not all versions of PyTorch that are supported have a public name for it.
    told = (getattr(torch.cpu, f"_is_{what}_supported", None) for what in ("avx512_bf16", "amx_tile"))
    return torch.backends.mkldnn.is_available() and any(supported is not None and supported() for supported in told)


def _choose_device(device: str | torch.device) -> torch.device:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise RefusedError(
            f"device must be 'auto' or a device of PyTorch such as 'cpu' or 'cuda', got {device!r}"
        ) from error
    try:
        torch.zeros((), device=chosen).item()
    except (AssertionError, ImportError, RuntimeError) as error:  # the type depends on what is missing
        reason = str(error).splitlines()[0]
        raise RefusedError(f"device {device!r} cannot be used here ({reason}); use 'auto' or 'cpu'") from error
    return chosen
