"""Where to walk: paths from a baseline to the input.

A path is one of two kinds, and any object with the right methods is one (`Path`, `GradientDrivenPath`):

* a `Path` knows each of its points beforehand, so that many go through the model at once;
* a `GradientDrivenPath` chooses the next point when it has seen the gradient at the present one.

Both give tuples of tensors of the inputs' shapes. The last point of every walk is the input itself; it is not asked of
the path.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from captum_ext._captum import BaselineType
from captum_ext._errors import InvalidArgumentError
from captum_ext.attr._common import Tensors
from captum_ext.attr._common.blur import gaussian_blur
from captum_ext.attr._common.checks import expand_baselines


@runtime_checkable
class Path(Protocol):
    """A path whose points depend on the inputs alone.

    Examples
    --------
    A path that brightens slowly at first:

    >>> import torch
    >>> from captum_ext import IDGI
    >>> class QuadraticPath:
    ...     def start(self, inputs, baselines):
    ...         return tuple(torch.zeros_like(x) for x in inputs)
    ...     def point(self, inputs, start, fraction):
    ...         return tuple(s + (x - s) * fraction**2 for x, s in zip(inputs, start))
    >>> x = torch.tensor([[1.0, 2.0]])
    >>> IDGI(lambda x: x.exp().sum(1), path=QuadraticPath()).attribute(x, n_steps=8).sum()  # e + e^2 - 2
    tensor(8.1073)
    """

    def start(self, inputs: Tensors, baselines: BaselineType) -> Tensors:
        """Return the first point; raise where inputs or baselines do not fit the path. Baselines are as given."""
        ...

    def point(self, inputs: Tensors, start: Tensors, fraction: float) -> Tensors:
        """Return the point at ``fraction`` j / n of the way, 0 <= j < n."""
        ...


@runtime_checkable
class GradientDrivenPath(Protocol):
    """A path on which each point depends on the gradients met before."""

    def start(self, inputs: Tensors, baselines: BaselineType) -> Tensors:
        """Return the first point; raise where inputs or baselines do not fit the path. Baselines are as given."""
        ...

    def walk(self, inputs: Tensors, start: Tensors, n_steps: int) -> Generator[Tensors, Tensors, None]:
        """Yield the points 0 to ``n_steps - 1``; each ``yield`` receives the gradient at the point it gave."""
        ...


class StraightPath:
    """The straight line x' + (j / n) (x - x') from the baseline x' to the input x.

    Source: Sundararajan, Taly and Yan, Axiomatic Attribution for Deep Networks, ICML 2017.
    """

    def start(self, inputs: Tensors, baselines: BaselineType) -> Tensors:
        """Return the baselines in the inputs' shapes; zeros where none are given."""
        return expand_baselines(baselines, inputs)

    def point(self, inputs: Tensors, start: Tensors, fraction: float) -> Tensors:
        """Return the point at ``fraction`` of the line."""
        return tuple(torch.lerp(s, x, fraction) for x, s in zip(inputs, start, strict=True))


@dataclass(frozen=True)
class BlurPath:
    """From the image blurred with ``max_sigma`` to the image itself, sigma_j = max_sigma (1 - j / n)^power.

    The blur is Gaussian, cut at four sigma, with zeros outside the image. The baseline is the blurred image, so no
    other can be given.

    Source: Xu, Venugopalan and Sundararajan, Attribution in Scale and Space, CVPR 2020.

    Parameters
    ----------
    max_sigma
        Standard deviation of the strongest blur, in pixels.
    power
        1 for steps of equal sigma, as published. Images change most while sigma is small, and 2 puts more steps
        there: with 50 steps from a sigma of 50, a last step from 0.02 pixels instead of one from 1 pixel, in which much
        of the output's change can lie. The path is the same, so more steps lead to the same BlurIG attributions.

    Raises
    ------
    InvalidArgumentError
        ``max_sigma`` or ``power`` is not finite and above 0; in ``start``, baselines are given or an input is not
        (N, C, H, W).

    Examples
    --------
    >>> import torch
    >>> from captum_ext import IDGI
    >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.LazyLinear(10))
    >>> IDGI(model, path=BlurPath(max_sigma=4.0, power=2.0)).attribute(torch.rand(2, 3, 8, 8), target=1).shape
    torch.Size([2, 3, 8, 8])
    """

    max_sigma: float = 50.0
    power: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.max_sigma) and self.max_sigma > 0):
            raise InvalidArgumentError(
                f"max_sigma={self.max_sigma!r} was given: it must be finite and above 0, in pixels."
            )
        if not (math.isfinite(self.power) and self.power > 0):
            raise InvalidArgumentError(f"power={self.power!r} was given: it must be finite and above 0.")

    def start(self, inputs: Tensors, baselines: BaselineType) -> Tensors:
        """Return the images blurred with ``max_sigma``."""
        if baselines is not None:
            raise InvalidArgumentError(
                "baselines were given for a blur path, whose baseline is the blurred image itself: leave baselines "
                "out, or take path='straight' with a blurred image as baseline."
            )
        for index, tensor in enumerate(inputs):
            if tensor.dim() != 4:
                raise InvalidArgumentError(
                    f"inputs[{index}] has shape {tuple(tensor.shape)}: a blur path needs images, (N, C, H, W)."
                )
        return self.point(inputs, inputs, 0.0)

    def point(self, inputs: Tensors, start: Tensors, fraction: float) -> Tensors:
        """Return the images blurred with ``max_sigma * (1 - fraction) ** power``."""
        sigma = self.max_sigma * (1.0 - fraction) ** self.power
        return tuple(gaussian_blur(tensor, sigma) for tensor in inputs)


@dataclass(frozen=True)
class GuidedPath:
    """A path that moves the features with the smallest gradients first, near the straight line.

    Step j must bring the L1 distance to the input down to (1 - j / n) of the whole. Of the features that still lag
    behind the line by no more than ``max_dist``, groups of the ``fraction`` with the smallest absolute gradients go
    ahead of it, as far as ``max_dist`` allows, until that is reached; the last group goes part of the way.

    All input tensors of one example count together, and each example of a batch walks for itself.

    Source: Kapishnikov et al., Guided Integrated Gradients, CVPR 2021.

    Parameters
    ----------
    fraction
        Share of the features that move together, in (0, 1].
    max_dist
        How far a feature may be from the straight line, as a share of its own way, in [0, 1]. 0 is the line itself.

    Raises
    ------
    InvalidArgumentError
        ``fraction`` or ``max_dist`` is out of range.
    """

    fraction: float = 0.25
    max_dist: float = 0.02

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 1:
            raise InvalidArgumentError(f"fraction={self.fraction!r} was given: it must be above 0 and at most 1.")
        if not 0 <= self.max_dist <= 1:
            raise InvalidArgumentError(f"max_dist={self.max_dist!r} was given: it must be from 0 to 1.")

    def start(self, inputs: Tensors, baselines: BaselineType) -> Tensors:
        """Return the baselines in the inputs' shapes; zeros where none are given."""
        return expand_baselines(baselines, inputs)

    def walk(self, inputs: Tensors, start: Tensors, n_steps: int) -> Generator[Tensors, Tensors, None]:
        """Yield the points 0 to ``n_steps - 1``, given the gradient at each."""
        distance = _join([(x - s).abs() for x, s in zip(inputs, start, strict=True)])
        progress = torch.zeros_like(distance)
        gradient = yield start
        for step in range(1, n_steps):
            # A gradient that is not finite ranks last among those that may move.
            steepness = _join(gradient).abs().nan_to_num(nan=torch.inf).clamp(max=torch.finfo(distance.dtype).max)
            progress = self._advance(progress, distance, steepness, step / n_steps)
            fractions = _split(progress, inputs)
            gradient = yield tuple(
                s + (x - s) * share.to(x.dtype) for x, s, share in zip(inputs, start, fractions, strict=True)
            )

    def _advance(self, progress: Tensor, distance: Tensor, gradient: Tensor, along: float) -> Tensor:
        """Move each example's features so that the distance left is ``1 - along`` of the whole.

        Parameters
        ----------
        progress
            Share of its own way that each feature has gone; shape (N, D).
        distance
            Length of that way; shape (N, D).
        gradient
            Absolute gradient, finite; shape (N, D).
        along
            Share of the way that the step must reach.
        """
        lowest, highest = max(along - self.max_dist, 0.0), min(along + self.max_dist, 1.0)
        # Whoever lags further behind the line than allowed is moved up first, whatever its gradient.
        progress = progress.clamp(min=lowest)
        movable = (progress < highest) & (distance > 0)
        gain = torch.where(movable, distance * (highest - progress), 0.0)
        needed = (distance * (along - progress)).sum(1)

        # Published is a loop that moves one group after another and looks each time whether enough is gained. What a
        # group gains does not depend on the groups before, so sorting once and adding up gives the same for a batch.
        order = torch.where(movable, gradient, torch.inf).argsort(1)
        gained = gain.gather(1, order).cumsum(1)
        first, end = self._last_group(gradient.gather(1, order), movable.sum(1), gained, needed)
        before, after = _up_to(gained, first), _up_to(gained, end)
        # The last group would gain too much; all of its features go the same part of their ways.
        part = ((needed - before) / (after - before).clamp(min=torch.finfo(gained.dtype).tiny)).clamp(0.0, 1.0)

        rank = torch.arange(order.shape[1], device=order.device)
        share = torch.where(rank < first[:, None], 1.0, torch.where(rank < end[:, None], part[:, None], 0.0))
        share = torch.zeros_like(gain).scatter(1, order, share) * movable
        return progress + share * (highest - progress)

    def _last_group(self, ranked: Tensor, movable: Tensor, gained: Tensor, needed: Tensor) -> tuple[Tensor, Tensor]:
        """Find, for each example, the group of features whose moving reaches what is needed.

        A group is the next ``fraction`` of all features in the order of their gradients, and those that tie with its
        last. Returned are the ranks where the group begins and where it ends, each of shape (N,).
        """
        # The published threshold is a quantile of the gradients, taken at the lower of two neighbours.
        last = math.floor(self.fraction * (ranked.shape[1] - 1))
        keys = torch.where(torch.arange(ranked.shape[1], device=ranked.device) < movable[:, None], ranked, torch.inf)
        first = torch.zeros_like(movable)
        end = torch.zeros_like(movable)
        # A loop over groups, not over features: 1 / fraction rounds at the most, for all examples together. The small
        # factor is rounding, without which a step could begin a group for nothing.
        while bool((open_ := (end < movable) & (_up_to(gained, end) < needed * (1 - 1e-9))).any()):
            key = keys.gather(1, (end + last).clamp(max=keys.shape[1] - 1)[:, None])
            following = torch.searchsorted(keys, key, right=True)[:, 0].minimum(movable)
            first = torch.where(open_, end, first)
            end = torch.where(open_, following, end)
        return first, end


def _join(tensors: Tensors | list[Tensor]) -> Tensor:
    """Lay out all features of one example in one row, in double precision where the device has it."""
    dtype = torch.float32 if tensors[0].device.type == "mps" else torch.float64
    device = tensors[0].device
    return torch.cat([tensor.to(device, dtype).reshape(tensor.shape[0], -1) for tensor in tensors], dim=1)


def _split(rows: Tensor, like: Tensors) -> Tensors:
    parts = rows.split([math.prod(tensor.shape[1:]) for tensor in like], dim=1)
    return tuple(part.reshape(tensor.shape).to(tensor.device) for part, tensor in zip(parts, like, strict=True))


def _up_to(cumulative: Tensor, end: Tensor) -> Tensor:
    """Return the cumulative sum of the first ``end`` entries of each row."""
    return torch.where(end > 0, cumulative.gather(1, (end - 1).clamp(min=0)[:, None])[:, 0], 0.0)


PATHS: dict[str, type[StraightPath] | type[BlurPath] | type[GuidedPath]] = {
    "straight": StraightPath,
    "blur": BlurPath,
    "guided": GuidedPath,
}


def resolve_path(path: str | Path | GradientDrivenPath) -> Path | GradientDrivenPath:
    """Return the path that a name stands for, or a path object as it is.

    Raises
    ------
    InvalidArgumentError
        The name is not known, or the object has not the methods of a path.

    Examples
    --------
    >>> resolve_path("guided")
    GuidedPath(fraction=0.25, max_dist=0.02)
    """
    if isinstance(path, str) and path in PATHS:
        return PATHS[path]()
    if isinstance(path, Path | GradientDrivenPath) and not isinstance(path, type):
        return path
    raise InvalidArgumentError(
        f"path={path!r} was given: known are {', '.join(map(repr, PATHS))}, or an object with the methods `start` and "
        "`point` (or `walk`) of captum_ext.attr.Path (or GradientDrivenPath)."
    )
