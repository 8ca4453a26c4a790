"""Where on the image the elements of an activation lie, followed from operation to operation."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Grid:
    """Layout of an activation over the image.

    Attributes
    ----------
    axes
        One letter for each axis: N examples, C channels, H and W rows and columns, L tokens in row-major order.
    height, width
        Size of the grid of cells that cover the image.
    prefix
        How many tokens without a place (class tokens, registers) come before those of the grid.
    """

    axes: str
    height: int
    width: int
    prefix: int = 0

    def fits(self, shape: Sequence[int], n_examples: int) -> bool:
        """Whether an activation of this shape can have this layout."""
        wanted = {"N": n_examples, "H": self.height, "W": self.width, "L": self.prefix + self.height * self.width}
        return len(shape) == len(self.axes) and all(
            size == wanted.get(axis, size) for axis, size in zip(self.axes, shape, strict=True)
        )

    def without_channels(self, activation: Tensor) -> Tensor:
        """Return the activation summed over its channels, the examples first."""
        return activation.movedim(self.axes.index("N"), 0).sum(self.axes.replace("N", "").index("C") + 1)

    def cells(self, activation: Tensor) -> tuple[Tensor, Tensor]:
        """Return the activation as a map (N, C, H, W) and, of shape (N,), the sum over what has no place."""
        if "H" in self.axes:
            order = [self.axes.index(axis) for axis in "NCHW"]
            return activation.permute(order), activation.new_zeros(activation.shape[order[0]])
        tokens = activation.permute([self.axes.index(axis) for axis in "NCL"])
        spatial = tokens[:, :, self.prefix :].unflatten(2, (self.height, self.width))
        return spatial, tokens[:, :, : self.prefix].sum((1, 2))

    def map_and_rest(self, activation: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the sum over the channels as a map (N, H, W), and that over what has no place, (N,) or None."""
        axes = self.axes.replace("C", "")
        summed = activation.sum(self.axes.index("C"))
        if "H" in axes:
            return summed if axes == "NHW" else summed.permute([axes.index(axis) for axis in "NHW"]), None
        tokens = summed if axes == "NL" else summed.mT
        spatial = tokens[:, self.prefix :].unflatten(1, (self.height, self.width))
        return spatial, tokens[:, : self.prefix].sum(1) if self.prefix else None


def image_grid(image: Tensor) -> Grid | None:
    """Return the layout of an input of shape (N, C, H, W); None for other inputs, which have no image."""
    return Grid("NCHW", *image.shape[2:]) if image.dim() == 4 else None


def follow(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    sources: Sequence[tuple[Tensor, Grid]],
    output: Tensor,
    n_examples: int,
) -> Grid | None:
    """Return the layout of an operation's output, or None where it is not known.

    Parameters
    ----------
    function, args, kwargs
        The operation.
    sources
        The arguments with a known layout.
    output
        What the operation returned.
    n_examples
        N.
    """
    # Of several, such as a map and the gate of one number for each channel that multiplies it, the one that was kept.
    same_shape = [source for source in sources if source[0].shape == output.shape]
    source, grid = (same_shape or list(sources))[0]
    name = _name(function)
    if name in _PERMUTATIONS:
        found = _permuted(function, args, kwargs, grid)
    elif name in _DISPLACEMENTS:
        found = None
    elif name in _RESHAPES:
        found = _reshaped(grid, output.shape)
    elif name == "getitem":
        found = _sliced(grid, args[1], output.shape)
    elif name in _CONCATENATIONS:
        found = _concatenated(grid, source, args, kwargs)
    elif name == "linear" and grid.axes[-1] != "C":
        found = None  # mixes the last axis, which here is one of places
    else:
        found = _resized(grid, output.shape)
    return found if found is not None and found.fits(output.shape, n_examples) else None


_PERMUTATIONS = frozenset(
    ["get", "permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis", "t", "adjoint"]
)
_RESHAPES = frozenset(["view", "reshape", "flatten", "unflatten", "view_as", "reshape_as"])
_DISPLACEMENTS = frozenset(["roll", "flip", "fliplr", "flipud", "rot90", "sort", "gather", "index_select", "einsum"])
_CONCATENATIONS = frozenset(["cat", "concat", "concatenate"])
_OTHERS = frozenset(["getitem", "linear"])


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", "").strip("_")


def keeps_places(function: Callable[..., Any]) -> bool:
    """Whether an output of the shape of an argument has the layout of that argument."""
    return _name(function) not in _PERMUTATIONS | _RESHAPES | _DISPLACEMENTS | _CONCATENATIONS | _OTHERS


def _permuted(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], grid: Grid) -> Grid | None:
    order = _order_of_axes(
        function, len(grid.axes), _hashable(args[1:]), tuple(zip(kwargs, _hashable(kwargs.values()), strict=True))
    )
    return None if order is None else replace(grid, axes="".join(grid.axes[axis] for axis in order))


def _hashable(values: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(tuple(value) if isinstance(value, list) else value for value in values)


@functools.lru_cache(maxsize=1024)
def _order_of_axes(
    function: Callable[..., Any], n_axes: int, args: tuple[Any, ...], kwargs: tuple[tuple[str, Any], ...]
) -> tuple[int, ...] | None:
    """Find the new order of the axes by doing the same to a tensor whose axes differ in length."""
    # Without data, on the meta device; every way to name axes is read by PyTorch itself, so none has to be known here.
    lengths = (2, 3, 5, 7)[:n_axes]
    permuted = function(torch.empty(lengths, device="meta"), *args, **dict(kwargs))
    if not isinstance(permuted, Tensor) or sorted(permuted.shape) != sorted(lengths):
        return None
    return tuple(lengths.index(length) for length in permuted.shape)


def _reshaped(grid: Grid, shape: Sequence[int]) -> Grid | None:
    """Rows and columns become tokens, or tokens rows and columns; other reshapes lose the place."""
    # A reshape of as many axes is one of the channels, into heads or groups; `fits` refuses it where sizes differ.
    if len(shape) == len(grid.axes):
        return grid
    if grid.axes.endswith(("HW", "HWC")):
        return replace(grid, axes=grid.axes.replace("HW", "L"))
    return replace(grid, axes=grid.axes.replace("L", "HW")) if grid.prefix == 0 else None


def _sliced(grid: Grid, index: Any, shape: Sequence[int]) -> Grid | None:
    """Tokens may lose their prefix, rows and columns may be thinned out."""
    indices = index if isinstance(index, tuple) else (index,)
    if not all(part is Ellipsis or isinstance(part, slice) for part in indices) or len(shape) != len(grid.axes):
        return None
    if "L" not in grid.axes:
        return _resized(grid, shape)
    # From the front only the class token and registers can go; anything else would shift every token's place.
    removed = grid.prefix + grid.height * grid.width - shape[grid.axes.index("L")]
    is_at_start = any(isinstance(part, slice) and part.start == removed and part.stop is None for part in indices)
    if removed == 0:
        return grid
    return replace(grid, prefix=grid.prefix - removed) if is_at_start and removed <= grid.prefix else None


def _concatenated(grid: Grid, source: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Grid | None:
    """Tokens put in front of the grid's become its prefix."""
    tensors = args[0] if args else kwargs["tensors"]
    dim = args[1] if len(args) > 1 else kwargs.get("dim", kwargs.get("axis", 0))
    axis = grid.axes[dim]
    if axis == "C":
        return grid
    # What follows the grid's own tokens would be taken for places of it.
    if axis != "L" or tensors[-1] is not source:
        return None
    return replace(grid, prefix=grid.prefix + sum(tensor.shape[dim] for tensor in tensors[:-1]))


def _resized(grid: Grid, shape: Sequence[int]) -> Grid | None:
    """Convolution, pooling, interpolation and elementwise operations keep the axes; sizes are read off."""
    if len(shape) != len(grid.axes) or "L" in grid.axes:
        return grid
    return replace(grid, height=shape[grid.axes.index("H")], width=shape[grid.axes.index("W")])
