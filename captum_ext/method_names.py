"""Names of the attribution methods on the command line, and one call that runs any of them."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from captum.attr import Attribution, IntegratedGradients
from torch import Tensor

from captum_ext.attr import IDGI, BlurIG, FullGrad, GuidedIG
from captum_ext.attr.validation import InvalidArgumentError


@dataclass(frozen=True)
class Method:
    """An attribution method as it is offered by name.

    Parameters
    ----------
    title
        Name for people.
    build
        Makes the method for a model.
    takes_baselines
        False where the method has a baseline of its own, such as the blurred picture.
    """

    title: str
    build: Callable[[Callable[..., Any]], Attribution]
    takes_baselines: bool = True


METHODS: dict[str, Method] = {
    "ig": Method("IG", IntegratedGradients),
    "blur-ig": Method("Blur IG", BlurIG, takes_baselines=False),
    "guided-ig": Method("Guided IG", GuidedIG),
    "idgi": Method("IDGI", IDGI),
    "idgi:blur": Method("IDGI (blur)", lambda model: IDGI(model, path="blur"), takes_baselines=False),
    "idgi:guided": Method("IDGI (guided)", lambda model: IDGI(model, path="guided")),
    "fullgrad": Method("FullGrad", FullGrad),
}


@dataclass(frozen=True)
class MethodResult:
    """What one method found for N examples.

    Parameters
    ----------
    attributions
        Of the shape of the inputs.
    delta
        Convergence delta; shape (N,).
    path_residual
        Shape (N,); None where the method has none, because its delta says the same.
    seconds
        Wall-clock time of the call.
    """

    attributions: Tensor
    delta: Tensor
    path_residual: Tensor | None
    seconds: float

    @property
    def change(self) -> Tensor:
        """Change of the output that the attributions should sum to; shape (N,)."""
        return self.attributions.flatten(1).sum(1) - self.delta


def parse_method_names(names: str) -> list[str]:
    """Split a list of names at its commas; a name that comes twice counts once.

    Raises
    ------
    InvalidArgumentError
        A name is not known, or there is none.

    Examples
    --------
    >>> parse_method_names("ig, idgi:blur")
    ['ig', 'idgi:blur']
    """
    given = list(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))
    unknown = [name for name in given if name not in METHODS]
    if unknown or not given:
        what = f"method {', '.join(map(repr, unknown))} is unknown" if unknown else "no method was given"
        raise InvalidArgumentError(f"{what}: known are {', '.join(METHODS)}.")
    return given


def run_method(
    method: Method,
    forward_func: Callable[..., Any],
    inputs: Tensor,
    baselines: Tensor,
    target: int | Tensor,
    n_steps: int = 50,
    internal_batch_size: int | None = None,
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

    Examples
    --------
    >>> import torch
    >>> x = torch.rand(2, 4)
    >>> result = run_method(METHODS["idgi"], torch.nn.Linear(4, 3), x, torch.zeros_like(x), target=0)
    >>> result.path_residual.shape
    torch.Size([2])
    """
    attribution = method.build(forward_func)
    accepted = inspect.signature(attribution.attribute).parameters
    keywords: dict[str, Any] = {"n_steps": n_steps, "internal_batch_size": internal_batch_size}
    if method.takes_baselines:
        keywords["baselines"] = baselines
    if "return_path_residual" in accepted:
        keywords["return_path_residual"] = True
    keywords = {name: value for name, value in keywords.items() if name in accepted}
    _wait_for(inputs.device)
    begin = time.perf_counter()
    attributions, delta, *residual = attribution.attribute(
        inputs, target=target, return_convergence_delta=True, **keywords
    )
    _wait_for(inputs.device)
    seconds = time.perf_counter() - begin
    return MethodResult(attributions.detach(), delta.detach(), residual[0].detach() if residual else None, seconds)


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
