"""How far a mean or a median over examples could be from that of all examples: the bootstrap."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from torch import Tensor

from captum_ext._errors import InvalidArgumentError
from captum_ext.attr._common.checks import check_is_tensor, check_seed, positive_integer

Array = npt.NDArray[np.float64]
AGGREGATES = ("mean", "median")
_NUMBERS_AT_ONCE = 1 << 20


def bootstrap_interval(
    values: Tensor, level: float = 0.95, n_resamples: int = 10_000, seed: int = 0, how: str = "mean"
) -> tuple[float, float]:
    """Return the interval of a mean (or median) when the examples are drawn again, with replacement.

    Percentile bootstrap: the interval holds the middle ``level`` of the resampled means.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3.

    Parameters
    ----------
    values
        One number for each example; shape (N,). One example gives an interval of length zero.
    level
        Share of the resampled means within the interval, in (0, 1).
    n_resamples
        How often N examples are drawn.
    seed
        Of the draws, which depend on it, N and ``n_resamples`` alone.
    how
        ``"mean"`` or ``"median"``.

    Returns
    -------
    tuple of float
        Lower and upper end.

    Raises
    ------
    InvalidArgumentError
        No example, values that are not finite, or numbers out of range.

    Examples
    --------
    >>> import torch
    >>> bootstrap_interval(torch.tensor([1.0, 1.0, 1.0]))
    (1.0, 1.0)
    >>> low, high = bootstrap_interval(torch.arange(100.0))  # 49.5 and about 1.96 standard errors of 2.9
    >>> round(low), round(high)
    (44, 55)
    """
    check_is_tensor("values", values, "(N,)")
    if values.dim() != 1:
        raise InvalidArgumentError(f"values has shape {tuple(values.shape)}: give one number for each example, (N,).")
    lower, upper = bootstrap_band(values[:, None], level, n_resamples, seed, how)
    return float(lower[0]), float(upper[0])


def bootstrap_band(
    curves: Tensor, level: float = 0.95, n_resamples: int = 1000, seed: int = 0, how: str = "mean"
) -> tuple[Array, Array]:
    """Return the interval of `bootstrap_interval` at each point of a mean (or median) curve.

    Parameters
    ----------
    curves
        One curve for each example; shape (N, P).
    level, n_resamples, seed, how
        As in `bootstrap_interval`; each draw takes whole curves.

    Returns
    -------
    tuple of numpy.ndarray
        Lower and upper curve; shape (P,) each.

    Raises
    ------
    InvalidArgumentError
        As `bootstrap_interval` does.

    Examples
    --------
    >>> import torch
    >>> lower, upper = bootstrap_band(torch.tensor([[0.0, 1.0], [0.0, 3.0]]))
    >>> lower, upper
    (array([0., 1.]), array([0., 3.]))
    """
    data = curves.detach().cpu().double().numpy()
    _check(data, level, how)
    n_resamples = positive_integer("n_resamples", n_resamples, "how often the examples are drawn")
    generator = np.random.default_rng(check_seed(seed))
    # Some draws at a time: all draws of N curves together would not fit into memory.
    at_once = max(1, _NUMBERS_AT_ONCE // (len(data) if how == "mean" else data.size))
    resampled = []
    for first in range(0, n_resamples, at_once):
        draws = generator.integers(len(data), size=(min(at_once, n_resamples - first), len(data)))
        if how == "mean":
            # How often each curve was drawn is all that its mean depends on, and a matrix product is quick.
            counts = np.stack([np.bincount(draw, minlength=len(data)) for draw in draws])
            resampled.append(counts @ data / len(data))
        else:
            resampled.append(np.median(data[draws], axis=1))
    lower, upper = np.quantile(np.concatenate(resampled), [(1 - level) / 2, (1 + level) / 2], axis=0)
    return lower, upper


def _check(data: Array, level: float, how: str) -> None:
    if data.size == 0:
        raise InvalidArgumentError(f"values of shape {data.shape} were given: give at least one example.")
    if not np.isfinite(data).all():
        raise InvalidArgumentError("values holds NaN or infinite numbers: leave examples without a result out.")
    if not 0 < level < 1:
        raise InvalidArgumentError(f"level={level!r} was given: it must be between 0 and 1.")
    if how not in AGGREGATES:
        raise InvalidArgumentError(f"how={how!r} was given: known are 'mean' and 'median'.")
