"""What FullGrad and its variants accept."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from captum_ext._errors import InvalidArgumentError
from captum_ext.attr._common.checks import positive_integer

Tensors = tuple[Tensor, ...]
PROJECTIONS = ("auto", "interpolate", "backflow")


def check_image(inputs: Tensors, purpose: str) -> Tensor:
    """Return the one input, of shape (N, C, H, W), or raise `InvalidArgumentError`."""
    if len(inputs) != 1 or inputs[0].dim() != 4:
        shapes = [tuple(tensor.shape) for tensor in inputs]
        raise InvalidArgumentError(
            f"{purpose} was asked for inputs of shapes {shapes}: it is for one image tensor of shape (N, C, H, W). "
            "Use projection='backflow' and postprocess=None for other inputs."
        )
    return inputs[0]


def check_options(
    inputs: Tensors, projection: Any, postprocess: Any, baselines: Any, return_convergence_delta: bool
) -> None:
    """Raise `InvalidArgumentError` for options that are not known or do not go together."""
    if projection not in PROJECTIONS:
        raise InvalidArgumentError(f"projection={projection!r} was given: give one of {', '.join(PROJECTIONS)}.")
    if postprocess not in (None, "paper"):
        raise InvalidArgumentError(f"postprocess={postprocess!r} was given: give 'paper' or None.")
    if projection == "interpolate" and postprocess is None:
        check_image(inputs, "projection='interpolate'")
    if postprocess is None:
        return
    check_image(inputs, "postprocess='paper'")
    if return_convergence_delta:
        raise InvalidArgumentError(
            "return_convergence_delta=True was given with postprocess='paper': absolute values, each map rescaled on "
            "its own, do not sum to the output, so there is nothing to measure. Use postprocess=None for the delta."
        )
    if baselines is not None:
        raise InvalidArgumentError(
            "baselines were given with postprocess='paper': the published map is of F(x) alone. Leave them out, or "
            "use postprocess=None."
        )


def rows_at_once(internal_batch_size: int | None) -> int | None:
    """Return the most examples in one pass, or raise `InvalidArgumentError` if that is not 1 or more."""
    if internal_batch_size is None:
        return None
    return positive_integer(
        "internal_batch_size", internal_batch_size, "the most examples in one forward pass, or None"
    )


def check_noise(n_samples: int, noise_level: float) -> None:
    """Raise `InvalidArgumentError` for a number of samples below 1 or a negative noise level."""
    positive_integer("n_samples", n_samples, "the number of noisy copies")
    if not 0 <= noise_level < float("inf"):
        raise InvalidArgumentError(f"noise_level={noise_level!r} was given: give a finite number of 0 or more.")
