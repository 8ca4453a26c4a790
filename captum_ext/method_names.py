"""Names of the attribution methods on the command line, and one call that runs any of them."""

from __future__ import annotations

import inspect
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from captum.attr import Attribution, InputXGradient, IntegratedGradients, Saliency
from torch import Tensor, nn

from captum_ext.attr import IDGI, BlurIG, FullGrad, GuidedIG, SimpleFullGrad, SmoothFullGrad
from captum_ext.attr.batch_norm_guard import batch_norm_guard
from captum_ext.attr.validation import InvalidArgumentError
from captum_ext.captum_methods import GradCam, GuidedGradCam, SeededGradientShap
from captum_ext.metrics.completeness import completeness
from captum_ext.names import split_names
from captum_ext.spatial_layers import named_layer


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
        False where the method has a baseline of its own, such as the blurred picture, or none.
    is_complete
        Whether the attributions should sum to a change of the output, so that there is a delta.
    arguments
        Further arguments of ``attribute``.
    """

    title: str
    build: Callable[[Callable[..., Any]], Attribution]
    takes_baselines: bool = True
    is_complete: bool = True
    arguments: Mapping[str, Any] = field(default_factory=dict)


def _saliency(
    title: str, build: Callable[[Callable[..., Any]], Attribution], arguments: Mapping[str, Any] | None = None
) -> Method:
    """Return a method that says where the model looks, and sums to nothing."""
    return Method(title, build, takes_baselines=False, is_complete=False, arguments=arguments or {})


METHODS: dict[str, Method] = {
    "ig": Method("IG", IntegratedGradients),
    "blur-ig": Method("Blur IG", BlurIG, takes_baselines=False),
    "guided-ig": Method("Guided IG", GuidedIG),
    "idgi": Method("IDGI", IDGI),
    "idgi:blur": Method("IDGI (blur)", lambda model: IDGI(model, path="blur"), takes_baselines=False),
    "idgi:guided": Method("IDGI (guided)", lambda model: IDGI(model, path="guided")),
    "fullgrad": Method("FullGrad", FullGrad),
    "fullgrad:paper": _saliency("FullGrad (paper)", FullGrad, {"postprocess": "paper"}),
    "simple-fullgrad": _saliency("Simple FullGrad", SimpleFullGrad),
    "smooth-fullgrad": _saliency("Smooth FullGrad", SmoothFullGrad),
    "saliency": _saliency("Saliency", Saliency),
    "input-x-gradient": _saliency("Input x gradient", InputXGradient),
    "gradientshap": Method("Gradient SHAP", SeededGradientShap),
    "gradcam": _saliency("Grad-CAM", GradCam),
    "guided-gradcam": _saliency("Guided Grad-CAM", GuidedGradCam),
}
TAKE_A_LAYER: dict[str, Callable[..., Attribution]] = {"gradcam": GradCam, "guided-gradcam": GuidedGradCam}
"""Methods that may be followed by a colon and the name of a layer."""


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


def method_named(name: str) -> Method:
    """Return a method by its name.

    Parameters
    ----------
    name
        A key of `METHODS`, or one of `TAKE_A_LAYER` with a layer, such as ``gradcam:layer4``.

    Raises
    ------
    InvalidArgumentError
        The name is not known.

    Examples
    --------
    >>> method_named("gradcam:layer4").title
    'Grad-CAM (layer4)'
    """
    if name in METHODS:
        return METHODS[name]
    base, layer = _with_layer(name)
    if not layer:
        raise InvalidArgumentError(f"method {name!r} is unknown: known are {', '.join(METHODS)}, gradcam:LAYER.")
    build = TAKE_A_LAYER[base]
    return _saliency(f"{METHODS[base].title} ({layer})", lambda model: build(model, layer))


def _with_layer(name: str) -> tuple[str, str]:
    """Split a method's name from its layer, which is empty where it has none."""
    base, _, layer = name.partition(":")
    return (base, layer) if name not in METHODS and base in TAKE_A_LAYER else (name, "")


def check_layers(names: Iterable[str], model: nn.Module) -> None:
    """Check that a model has the layers that methods name, before anything is computed.

    Parameters
    ----------
    names
        Of methods, as for `method_named`.
    model
        What will be explained.

    Raises
    ------
    InvalidArgumentError
        The model has no layer of a name, or several.

    Examples
    --------
    >>> check_layers(["ig", "idgi:blur", "gradcam:0"], nn.Sequential(nn.Conv2d(3, 4, 3)))
    """
    for _, layer in map(_with_layer, names):
        if layer:
            named_layer(model, layer)


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
    given = split_names(names, "method", METHODS)
    for name in given:
        method_named(name)  # refuses what is unknown
    return given


def run_method(
    method: Method,
    forward_func: Callable[..., Any],
    inputs: Tensor,
    baselines: Tensor,
    target: int | Tensor,
    n_steps: int = 50,
    internal_batch_size: int | None = None,
    seed: int = 0,
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
    offered: dict[str, Any] = {
        "n_steps": n_steps,
        "internal_batch_size": internal_batch_size,
        "seed": seed,
        "return_convergence_delta": True,
        "return_path_residual": True,
        "baselines": baselines,
    }
    refused = set() if method.takes_baselines else {"baselines"}
    if not method.is_complete:
        refused.add("return_convergence_delta")
    keywords = {name: value for name, value in offered.items() if name in accepted and name not in refused}
    _wait_for(inputs.device)
    begin = time.perf_counter()
    with batch_norm_guard(inputs), warnings.catch_warnings():
        # Captum says so of every input, and puts the flag back.
        warnings.filterwarnings("ignore", message=".*required_grads has been set automatically")
        found = attribution.attribute(inputs, target=target, **keywords, **method.arguments)
    _wait_for(inputs.device)
    seconds = time.perf_counter() - begin
    attributions, delta, residual = (*found, None, None)[:3] if isinstance(found, tuple) else (found, None, None)
    attributions = attributions.detach()
    if method.is_complete and delta is None:
        delta = completeness(forward_func, inputs, attributions, baselines, target).delta
    return MethodResult(attributions, _detached(delta), _detached(residual), seconds)


def _detached(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach()


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
