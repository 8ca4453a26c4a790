"""What attribution methods accept: inputs, baselines and steps are checked here, with one wording."""

from __future__ import annotations

import cmath
import operator
import warnings
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import numpy as np
import torch
from torch import Tensor

from captum_ext._captum import BaselineType, format_baseline
from captum_ext._errors import InvalidArgumentError


def check_inputs(inputs: tuple[Tensor, ...], *, integers_allowed: bool = False) -> int:
    """Check the tensors to be explained and return the number of examples.

    Parameters
    ----------
    inputs
        One tensor or more, each of shape (N, ...).
    integers_allowed
        True where a layer is explained and the inputs may be indices, such as tokens.

    Raises
    ------
    InvalidArgumentError
        No tensor; a tensor without a batch dimension or without elements, or one that is sparse, nested or without
        numbers; batches of different length; complex numbers, or of eight bits; integers where they are not allowed;
        values that are not finite.
    """
    if not inputs:
        raise InvalidArgumentError("inputs is an empty tuple: give a tensor or a tuple of tensors of shape (N, ...).")
    for index, tensor in enumerate(inputs):
        _check_tensor(f"inputs[{index}]", tensor, integers_allowed)
    lengths = [tensor.shape[0] for tensor in inputs]
    if len(set(lengths)) > 1:
        raise InvalidArgumentError(
            f"the tensors of inputs have batch lengths {lengths}: all must hold the same number of examples."
        )
    return lengths[0]


def check_is_tensor(name: str, value: object, shape: str) -> None:
    """Raise `InvalidArgumentError` with the shape that is wanted if a result or a list of numbers is not a tensor."""
    if isinstance(value, Tensor):
        return
    hint = "convert it with torch.as_tensor"
    if isinstance(value, tuple):
        hint = "methods that return a convergence delta too give it second, and the first part is meant"
    raise InvalidArgumentError(f"{name} is a {type(value).__name__}: give a torch.Tensor of shape {shape}; {hint}.")


def all_finite(tensor: Tensor) -> bool:
    """Return whether no entry is NaN or infinite, by their sum, which takes a fraction of the time.

    Examples
    --------
    >>> import torch
    >>> all_finite(torch.ones(3)), all_finite(torch.tensor([torch.inf, -torch.inf]))
    (True, False)
    """
    # A sum of finite numbers may overflow: only where it did is each looked at.
    return cmath.isfinite(tensor.detach().sum().item()) or bool(torch.isfinite(tensor).all())


def _check_tensor(name: str, tensor: Tensor, integers_allowed: bool) -> None:
    if not isinstance(tensor, Tensor):
        raise InvalidArgumentError(f"{name} is a {type(tensor).__name__}: give a torch.Tensor of shape (N, ...).")
    if tensor.layout is not torch.strided or tensor.is_nested:
        form = "nested" if tensor.is_nested else tensor.layout
        raise InvalidArgumentError(
            f"{name} is {form}: give a dense tensor of shape (N, ...), such as to_dense() or to_padded_tensor(0.0) "
            "make, and let forward_func convert it."
        )
    if tensor.is_meta:
        raise InvalidArgumentError(f"{name} is on the device 'meta' and holds no numbers: give a tensor that does.")
    shape = tuple(tensor.shape)
    if not shape:
        raise InvalidArgumentError(f"{name} has no batch dimension: give shape (N, ...), for one example unsqueeze(0).")
    if tensor.numel() == 0:
        raise InvalidArgumentError(f"{name} of shape {shape} has no elements: give at least one example and feature.")
    if tensor.is_complex():
        raise InvalidArgumentError(f"{name} is {tensor.dtype}: give real numbers, for instance torch.view_as_real.")
    if not tensor.is_floating_point():
        if integers_allowed:
            return
        raise InvalidArgumentError(
            f"{name} is {tensor.dtype}, and no gradient exists with respect to integers: convert images with "
            ".float(); for token indices explain the embedding layer with LayerIDGI."
        )
    if tensor.dtype.itemsize == 1:
        raise InvalidArgumentError(f"{name} is {tensor.dtype}, which computes nothing: convert it with .float().")
    if not all_finite(tensor):
        raise InvalidArgumentError(f"{name} holds NaN or infinite values: replace them before attribution.")


def expand_baselines(baselines: BaselineType, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Give every form of baseline that Captum takes the shape, dtype and device of the inputs.

    Parameters
    ----------
    baselines
        None (zeros), a number, a tensor of the input's shape or of batch 1, or a tuple of these, one for each input.
    inputs
        Tensors of shape (N, ...).

    Returns
    -------
    tuple of Tensor
        One baseline for each input, of the input's shape.

    Raises
    ------
    InvalidArgumentError
        The number of baselines or the shape of one does not fit the inputs, or one holds values that are not finite.

    Examples
    --------
    >>> import torch
    >>> expand_baselines((0.5, torch.ones(1, 2)), (torch.zeros(2, 1), torch.zeros(2, 2)))[1].shape
    torch.Size([2, 2])
    """
    given: Any = baselines if isinstance(baselines, tuple) else (baselines,)
    # NumPy's float64 is a float to Python, its other numbers are none to Captum.
    numbers = tuple(baseline.item() if isinstance(baseline, np.number) else baseline for baseline in given)
    formatted = format_baseline(numbers if isinstance(baselines, tuple) else numbers[0], inputs)
    if len(formatted) != len(inputs):
        raise InvalidArgumentError(
            f"baselines has {len(formatted)} entries for {len(inputs)} input tensors: give one for each."
        )
    return tuple(
        _expand_baseline(f"baselines[{index}]", baseline, tensor)
        for index, (baseline, tensor) in enumerate(zip(formatted, inputs, strict=True))
    )


def _expand_baseline(name: str, baseline: Tensor | float, tensor: Tensor) -> Tensor:
    if not isinstance(baseline, Tensor):
        expanded = torch.full_like(tensor, baseline)
    else:
        wanted = tuple(tensor.shape)
        if baseline.dim() != tensor.dim() or baseline.shape[0] not in (1, wanted[0]):
            raise _baseline_shape_error(name, baseline, wanted)
        try:
            expanded = baseline.detach().to(tensor).expand(wanted)
        except RuntimeError:
            raise _baseline_shape_error(name, baseline, wanted) from None
    if expanded.is_floating_point() and not all_finite(expanded):
        raise InvalidArgumentError(f"{name} holds NaN or infinite values: give finite ones.")
    return expanded


def _baseline_shape_error(name: str, baseline: Tensor, wanted: tuple[int, ...]) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"{name} has shape {tuple(baseline.shape)} for an input of shape {wanted}: give {wanted}, "
        f"{(1, *wanted[1:])} or a number."
    )


NO_QUADRATURE = (
    "walks have equal steps and each step is credited by itself, so that there is no quadrature to choose, as "
    "captum.attr.IntegratedGradients has one. Leave it out; what follows n_steps here is internal_batch_size."
)


Steps = Literal["equal", "adaptive"]
AUTOMATIC_TOLERANCE = 0.05
AUTOMATIC_LIMIT = 512


@dataclass(frozen=True)
class StepPlan:
    """How many steps a walk takes, and where.

    Parameters
    ----------
    n_steps
        Steps of each example; the most where there is a tolerance.
    adaptive
        Whether steps are halved where much happens; else all have one length.
    tolerance
        An example of which no more than this remains, see `captum_ext.attr.StepsReport`, takes no further step; None
        takes all.
    """

    n_steps: int
    adaptive: bool = False
    tolerance: float | None = None


def plan_steps(
    n_steps: int | Literal["auto"], steps: Steps, tolerance: float | None, *, path_is_known: bool
) -> StepPlan:
    """Check what a user asked of the steps of a walk, and return it as a plan.

    Parameters
    ----------
    n_steps, steps, tolerance
        As `captum_ext.IDGI.attribute` takes them.
    path_is_known
        False for a path that chooses each point by the gradient at the one before.

    Raises
    ------
    InvalidArgumentError
        One of them is not allowed, or not with the others.

    Examples
    --------
    >>> plan_steps("auto", "equal", None, path_is_known=True)
    StepPlan(n_steps=512, adaptive=True, tolerance=0.05)
    """
    if steps not in get_args(Steps):
        raise InvalidArgumentError(f"steps={steps!r} was given: it is 'equal' or 'adaptive'.")
    automatic = n_steps == "auto"
    if isinstance(n_steps, str) and not automatic:
        raise InvalidArgumentError(f"n_steps={n_steps!r} was given: it is an integer of 1 or more, or 'auto'.")
    adaptive = automatic or steps == "adaptive"
    if adaptive and not path_is_known:
        raise InvalidArgumentError(
            f"{'n_steps=' + repr(n_steps) if automatic else 'steps=' + repr(steps)} was given for a path that chooses "
            "each point by the gradient at the one before, such as a guided one: give a number of equal steps, or "
            "another path."
        )
    if tolerance is not None:
        if not adaptive:
            raise InvalidArgumentError(
                f"tolerance={tolerance!r} was given for equal steps, whose number is fixed: give n_steps='auto', or "
                "steps='adaptive' with n_steps as the most that may be taken."
            )
        if not (isinstance(tolerance, float | int) and 0 < tolerance < 1):
            raise InvalidArgumentError(
                f"tolerance={tolerance!r} was given: it is a share of what the output moves, above 0 and below 1."
            )
    if automatic:
        return StepPlan(AUTOMATIC_LIMIT, True, AUTOMATIC_TOLERANCE if tolerance is None else float(tolerance))
    number = positive_integer("n_steps", cast(int, n_steps), "the number of steps from baseline to input")
    return StepPlan(number, adaptive, None if tolerance is None else float(tolerance))


def points_per_pass(internal_batch_size: int | None, n_examples: int, n_steps: int) -> int:
    """Return how many points of the path go through the model at once.

    As in Captum, one point of every example is the least; a smaller ``internal_batch_size`` gives a warning.
    """
    if internal_batch_size is None:
        return n_steps
    if isinstance(internal_batch_size, str):  # by position, where Captum has its quadrature
        raise InvalidArgumentError(f"internal_batch_size={internal_batch_size!r} was given: {NO_QUADRATURE}")
    size = positive_integer("internal_batch_size", internal_batch_size, "the most rows in one forward pass, or None")
    if size < n_examples:
        warnings.warn(
            f"internal_batch_size={size} is less than the {n_examples} examples given; {n_examples} rows go through "
            "the model at once. Give fewer examples to use less memory.",
            stacklevel=4,
        )
    return max(1, size // n_examples)


def positive_integer(name: str, number: int, meaning: str) -> int:
    """Return an argument as an ``int``, or raise `InvalidArgumentError` with its meaning if it is not 1 or more."""
    return _integer(name, number, meaning, least=1)


def check_seed(seed: int) -> int:
    """Return a seed as an ``int``, or raise `InvalidArgumentError` if it is not 0 or more."""
    return _integer("seed", seed, "what the random numbers start from", least=0)


def _integer(name: str, number: int, meaning: str, least: int) -> int:
    try:
        integer = operator.index(number)
    except TypeError:
        integer = least - 1
    if integer < least or isinstance(number, bool):
        raise InvalidArgumentError(f"{name}={number!r} was given: {name} is {meaning}, an integer of {least} or more.")
    return integer
