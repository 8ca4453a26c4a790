"""One call that runs any attribution method, and says what it found and how long it took."""

from __future__ import annotations

import inspect
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from captum_ext._errors import InvalidArgumentError
from captum_ext.attr import GradientDrivenPath
from captum_ext.attr._common.forward import batch_norm_guard
from captum_ext.methods.names import Method
from captum_ext.metrics.completeness import completeness


@dataclass(frozen=True)
class MethodResult:
    """What one method found for N examples.

    Parameters
    ----------
    attributions
        Of the shape of the inputs, or (N, 1, H, W) for maps without channels.
    delta
        Convergence delta; shape (N,). None where the attributions sum to nothing.
    path_residual
        Shape (N,); None where the method has none, because its delta says the same.
    seconds
        Wall-clock time of the call.
    """

    attributions: Tensor
    delta: Tensor | None
    path_residual: Tensor | None
    seconds: float

    @property
    def change(self) -> Tensor | None:
        """Change of the output that the attributions should sum to; shape (N,). None where they sum to nothing."""
        return None if self.delta is None else self.attributions.flatten(1).sum(1) - self.delta


def run_method(
    method: Method,
    forward_func: Callable[..., Any],
    inputs: Tensor,
    baselines: Tensor,
    target: int | Tensor,
    n_steps: int = 50,
    internal_batch_size: int | None = None,
    seed: int = 0,
    steps: Literal["equal", "adaptive"] = "equal",
) -> MethodResult:
    """Attribute with a method, passing on the arguments that it takes.

    Parameters
    ----------
    method
        A value of `METHODS`, or a method of your own.
    forward_func
        The model.
    inputs
        Shape (N, ...).
    baselines
        Shape of the inputs; left out where the method has a baseline of its own.
    target
        The class to explain; one, or one for each example.
    n_steps
        Steps from baseline to input, where the method takes them.
    internal_batch_size
        The most rows that go through the model at once.
    seed
        Of methods that draw random numbers.
    steps
        Where the steps are put, where the method lets them be put.

    Raises
    ------
    InvalidArgumentError
        The method returns no tensor, or refuses what it is given.

    Examples
    --------
    >>> import torch
    >>> from captum_ext.methods import METHODS
    >>> x = torch.rand(2, 4)
    >>> result = run_method(METHODS["idgi"], torch.nn.Linear(4, 3), x, torch.zeros_like(x), target=0)
    >>> result.path_residual.shape
    torch.Size([2])
    """
    attribution = method.build(forward_func)
    accepted = inspect.signature(attribution.attribute).parameters
    offered: dict[str, Any] = {
        "n_steps": n_steps,
        "steps": "equal" if isinstance(getattr(attribution, "path", None), GradientDrivenPath) else steps,
        "internal_batch_size": internal_batch_size,
        "seed": seed,
        "return_convergence_delta": True,
        "return_path_residual": True,
        "baselines": baselines.detach().clone(),
    }
    refused = set() if method.takes_baselines else {"baselines"}
    if not method.is_complete:
        refused.add("return_convergence_delta")
    keywords = {name: value for name, value in offered.items() if name in accepted and name not in refused}
    # A copy: what a person's own method does to its input must not reach the methods and metrics that follow.
    own_inputs = inputs.detach().clone()
    _wait_for(inputs.device)
    begin = time.perf_counter()
    with batch_norm_guard(inputs), warnings.catch_warnings():
        # Captum says so of every input, and puts the flag back.
        warnings.filterwarnings("ignore", message=".*required_grads has been set automatically")
        found = attribution.attribute(own_inputs, target=target, **keywords, **method.arguments)
    _wait_for(inputs.device)
    seconds = time.perf_counter() - begin
    attributions, delta, residual = (*found, None, None)[:3] if isinstance(found, tuple) else (found, None, None)
    if not isinstance(attributions, Tensor):
        raise InvalidArgumentError(
            f"the method {method.title!r} returned a {type(attributions).__name__}: it must return a torch.Tensor, of "
            "the shape of the inputs or (N, 1, H, W)."
        )
    attributions = attributions.detach()
    if method.is_complete and delta is None:
        delta = completeness(forward_func, inputs, attributions, baselines, target).delta
    return MethodResult(attributions, _detached(delta), _detached(residual), seconds)


def _detached(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach()


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
