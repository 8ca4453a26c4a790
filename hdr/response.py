"""A camera's response: which light each value of its picture files stands for.

One monotone curve serves all three channels: three of them, one per channel, would tint what is merged.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from hdr._errors import RefusedError
from hdr._files import written_whole

# Sixteen steps for each of the 255 of an 8-bit file: its values lie on entries, those of deeper files close to one.
_FORMULA_ENTRIES = 16 * 255 + 1
_VALUES_AT_ONCE = 1 << 18  # what is interpolated at once stays in the processor's cache
_INVERSE_ENTRIES = 1 << 14
_BLACK_LEVELS = 4 / 255  # of a file, around its black
_FILE_FORMAT = "hdr camera response"
_FILE_VERSION = 1
_GAMMAS = (0.3, 5.0)


@dataclass(frozen=True)
class Response:
    """Light of every value of a picture file, as a table; between its entries it is linear.

    Make one by :meth:`srgb`, :meth:`linear`, :meth:`gamma`, :meth:`table` or :meth:`load`, or let
    :func:`hdr.calibration.calibrate` estimate it.

    Attributes
    ----------
    light
        Linear light at equally spaced LDR values from 0 to 1: it starts at 0 or above, increases, and is 1 from the
        white level on.
    name
        What it is called, in messages and files.

    Raises
    ------
    ValueError
        If the light is not as above.

    Examples
    --------
    >>> response = Response.gamma(2.0)
    >>> response.to_linear(torch.tensor([0.0, 0.2, 1.0]))
    tensor([0.0000, 0.0400, 1.0000])
    >>> response.to_ldr(torch.tensor([0.04, 1.0, 7.0]))
    tensor([0.2000, 1.0000, 1.0000])
    """

    light: tuple[float, ...]
    name: str = "table"

    def __post_init__(self) -> None:
        light = self._table
        if len(light) < 2 or not bool(light.isfinite().all()):
            raise RefusedError(f"a response needs two or more finite values of light, got {_shortened(self.light)}")
        # Before white every value of the file stands for light of its own, from there on all for the same.
        white = int((light < 1).sum())
        increases = bool((light[:white].diff() > 0).all())
        stays = white < len(light) and bool((light[white:] == 1).all())
        if not (white > 0 and light[0] >= 0 and increases and stays):
            told = _shortened(self.light)
            raise RefusedError(f"the light of a response must increase from 0 or above to 1 and stay there, got {told}")

    @classmethod
    def gamma(cls, gamma: float) -> Response:
        """Light L^gamma of LDR values L.

        Raises
        ------
        ValueError
            If ``gamma`` is outside [0.3, 5].
        """
        if not _GAMMAS[0] <= gamma <= _GAMMAS[1]:
            raise RefusedError(f"gamma must lie between {_GAMMAS[0]} and {_GAMMAS[1]}, got {gamma:g}")
        return cls._from_formula(lambda ldr: ldr**gamma, f"gamma:{gamma:g}")

    @classmethod
    def srgb(cls) -> Response:
        """The sRGB standard's decoding (IEC 61966-2-1): a straight toe below 0.04045, about gamma 2.2 as a whole."""
        return cls._from_formula(
            lambda ldr: torch.where(ldr <= 0.04045, ldr / 12.92, ((ldr + 0.055) / 1.055) ** 2.4), "srgb"
        )

    @classmethod
    def linear(cls) -> Response:
        """Light equal to the LDR value, as in developed raw files."""
        return cls((0.0, 1.0), "linear")

    @classmethod
    def table(cls, light: Tensor | Sequence[float], name: str = "table") -> Response:
        """Light at equally spaced LDR values from 0 to 1.

        Parameters
        ----------
        light
            Shape (levels,), increasing, 1 at the white level and above it.
        name
            What to call it.

        Examples
        --------
        >>> Response.table([0.0, 0.3, 1.0]).to_linear(torch.tensor([0.25, 0.75]))
        tensor([0.1500, 0.6500])
        """
        return cls(tuple(float(value) for value in light), name)

    @classmethod
    def parse(cls, text: str) -> Response:
        """The response that a word names: ``srgb``, ``linear``, ``gamma:2.2``, or the path of a file.

        Raises
        ------
        OSError
            If it is no word that is known and no file that can be opened.
        ValueError
            If the gamma is no number in [0.3, 5], or the file holds something else.

        Examples
        --------
        >>> Response.parse("gamma:1.8") == Response.gamma(1.8)
        True
        """
        if text in ("srgb", "linear"):
            return cls.srgb() if text == "srgb" else cls.linear()
        if text.startswith("gamma:"):
            try:
                return cls.gamma(float(text.removeprefix("gamma:")))
            except ValueError as error:
                raise RefusedError(f"{text!r} is no response: give gamma:2.2 or another number in {_GAMMAS}") from error
        if not Path(text).exists():
            raise FileNotFoundError(f"{text}: no such file, and no response is called so; srgb, linear, gamma:2.2 are")
        return cls.load(text)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Response:
        """Read a response that :meth:`save` wrote.

        Raises
        ------
        OSError
            If the file cannot be opened.
        ValueError
            If it holds something else.
        """
        try:
            content = json.loads(Path(path).read_text("utf-8"))
        except ValueError as error:  # no JSON, or no text
            raise RefusedError(
                f"{path}: no camera response, which is a JSON file; write one by Response.save"
            ) from error
        if not isinstance(content, dict) or content.get("format") != _FILE_FORMAT:
            raise RefusedError(f'{path}: no camera response: a JSON file, but without "format": "{_FILE_FORMAT}"')
        if content.get("version") != _FILE_VERSION:
            raise RefusedError(
                f"{path}: a response of version {content.get('version')}; version {_FILE_VERSION} is read"
            )
        light, name = content.get("light"), content.get("name")
        if not isinstance(light, list) or not all(type(value) in (int, float) for value in light):
            raise RefusedError(f'{path}: a camera response whose "light" is no list of numbers; write it anew')
        try:
            return cls(tuple(float(value) for value in light), str(name))
        except (RefusedError, OverflowError) as error:  # a whole number may be larger than any float
            raise RefusedError(f"{path}: {error}") from error

    def save(self, path: str | os.PathLike[str], overwrite: bool = False) -> None:
        """Write the response as a JSON text that says what it is, whole or not at all.

        Raises
        ------
        FileExistsError
            If the file exists and ``overwrite`` is False.
        OSError
            If the operating system does not let it be written.
        """
        content = {
            "format": _FILE_FORMAT,
            "version": _FILE_VERSION,
            "about": "linear light at equally spaced values of a picture file, 0 to the largest; "
            "for hdr.Response.load (hdr merge --response)",
            "name": self.name,
            "light": self.light,
        }
        with written_whole(path, overwrite=overwrite) as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n", "utf-8")

    @property
    def white_level(self) -> float:
        """Smallest LDR value whose light is 1."""
        return self.light.index(1.0) / (len(self.light) - 1)

    def with_white_level(self, white_level: float) -> Response:
        """The same curve of a camera that clips at an LDR value below 1, so that its light is 1 from there on.

        Parameters
        ----------
        white_level
            In (0.5, 1].

        Raises
        ------
        ValueError
            If it is outside, or above this response's own white level.

        Examples
        --------
        >>> Response.linear().with_white_level(0.8).to_linear(torch.tensor([0.4, 0.8, 0.9]))
        tensor([0.5000, 1.0000, 1.0000])
        """
        if not 0.5 < white_level <= self.white_level:
            raise RefusedError(f"the white level must lie in (0.5, {self.white_level:g}], got {white_level:g}")
        if white_level == self.white_level:
            return self
        levels = torch.linspace(0, 1, _FORMULA_ENTRIES, dtype=torch.float64)
        white = float(self.to_linear(torch.tensor(white_level, dtype=torch.float64)))
        light = (self.to_linear(levels) / white).clamp_max(1.0)
        light[(levels >= white_level - 1e-12)] = 1.0
        return Response.table(light, f"{self.name} with white level {white_level:.4g}")

    def to_linear(self, ldr: Tensor) -> Tensor:
        """Linear light of LDR values.

        Parameters
        ----------
        ldr
            Any shape, floating point. Values outside [0, 1] count as 0 or 1; NaN stays NaN.

        Returns
        -------
        Tensor
            Same shape, dtype and device, in [0, 1]. Not differentiable.
        """
        return interpolated(ldr, self._table)

    def slope(self, ldr: Tensor) -> Tensor:
        """Change of light per change of the LDR value, d linear / d ldr; arguments and result as for ``to_linear``.

        A file with n levels rounds light to slope / n: uniform noise of variance (slope / n)^2 / 12.
        """
        return interpolated(ldr, self._slopes)

    def steepness(self, ldr: Tensor) -> Tensor:
        """As ``slope``, but no less than the mean slope over the next 4 of 255 levels.

        Below the black of a file, as scans of film have it, a response is flat, and what is read there is the noise of
        black all the same.
        """
        return interpolated(ldr, self._steepness)

    def to_ldr(self, linear: Tensor) -> Tensor:
        """LDR values of linear light, the inverse of :meth:`to_linear`.

        Parameters
        ----------
        linear
            Any shape, floating point. Light below that of value 0 gives 0, light above 1 the white level.

        Returns
        -------
        Tensor
            Same shape, dtype and device, in [0, white level]. Not differentiable.
        """
        light = self._table
        step = 1.0 / (len(self.light) - 1)
        # Looked up over the square root of light, where a response is close to straight: a binary search in the
        # table itself takes eight times as long on a whole picture.
        nodes = torch.linspace(0, 1, _INVERSE_ENTRIES, dtype=torch.float64) ** 2
        above = torch.searchsorted(light, nodes).clamp(1, len(light) - 1)
        share = (nodes - light[above - 1]) / (light[above] - light[above - 1])
        return interpolated(linear, (above - 1 + share.clamp(0, 1)) * step, torch.sqrt)

    # Made once: one merge looks values up some sixty times.

    @functools.cached_property
    def _table(self) -> Tensor:
        with torch.inference_mode(False):
            return torch.tensor(self.light, dtype=torch.float64)

    @functools.cached_property
    def _slopes(self) -> Tensor:
        with torch.inference_mode(False):
            (slopes,) = torch.gradient(self._table, spacing=1.0 / (len(self.light) - 1))
            return slopes

    @functools.cached_property
    def _steepness(self) -> Tensor:
        with torch.inference_mode(False):
            return steepness_of(self._table, self._slopes)

    @classmethod
    def _from_formula(cls, formula: Callable[[Tensor], Tensor], name: str) -> Response:
        light = formula(torch.linspace(0, 1, _FORMULA_ENTRIES, dtype=torch.float64))
        return cls(tuple(light.tolist()), name)


def steepness_of(light: Tensor, slopes: Tensor) -> Tensor:
    """The larger of the slopes of a response's table and of the mean slopes over the next 4 of 255 levels."""
    entries = len(light)
    step = max(round(_BLACK_LEVELS * (entries - 1)), 1)
    above = torch.cat([light[step:], light[-1:].expand(min(step, entries))])[:entries]
    return torch.maximum(slopes, (above - light) * ((entries - 1) / step))


def interpolated(values: Tensor, table: Tensor, abscissa: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """Values of [0, 1] looked up in a table over [0, 1], or over a function of it, in bounded memory.

    Parameters
    ----------
    values
        Any shape, floating point. Those outside [0, 1] count as 0 or 1; NaN stays NaN.
    table
        Shape (entries,): at equally spaced places from 0 to 1, linear between them.
    abscissa
        Function from [0, 1] to [0, 1] over which the entries are equally spaced; the values themselves without it.

    Returns
    -------
    Tensor
        As ``values``. Not differentiable.
    """
    if not values.is_floating_point():
        raise RefusedError(f"expected floating point values in [0, 1], got {values.dtype}; divide by the largest level")
    dtype = values.dtype if values.dtype in (torch.float32, torch.float64) else torch.float32
    last = len(table) - 1
    low = table.to(values.device, dtype)
    high = torch.cat([low[1:], low[-1:]])  # of each entry the next one; above the last there is nothing
    result = torch.empty(values.shape, dtype=values.dtype, device=values.device)
    flat, out = values.detach().reshape(-1), result.view(-1)
    for start in range(0, flat.numel(), _VALUES_AT_ONCE):
        part = flat[start : start + _VALUES_AT_ONCE].to(dtype).clamp(0.0, 1.0)
        position = (part if abscissa is None else abscissa(part)).mul_(last)
        below = position.nan_to_num(0.0).to(torch.int32)
        # Not low[below], which takes six times as long.
        out[start : start + _VALUES_AT_ONCE] = torch.lerp(
            low.index_select(0, below), high.index_select(0, below), position.frac()
        )
    return result


def _shortened(light: Sequence[float]) -> str:
    shown = [f"{value:.4g}" for value in (light if len(light) <= 6 else [*light[:3], *light[-3:]])]
    return "[" + ", ".join([*shown[:3], "...", *shown[3:]] if len(light) > 6 else shown) + "]"
