"""Attribution methods by name: these, and those of Captum."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from captum.attr import Attribution, InputXGradient, IntegratedGradients, Saliency
from torch import nn

from captum_ext._errors import InvalidArgumentError
from captum_ext.attr import IDGI, BlurIG, FullGrad, GuidedIG, SimpleFullGrad, SmoothFullGrad
from captum_ext.methods.captum_methods import SeededGradientShap, SpatialGradCam, SpatialGuidedGradCam
from captum_ext.methods.spatial_layers import named_layer


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
        False where the method has a baseline of its own, such as the blurred image, or none.
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
    "gradcam": _saliency("Grad-CAM", SpatialGradCam),
    "guided-gradcam": _saliency("Guided Grad-CAM", SpatialGuidedGradCam),
}
TAKE_A_LAYER: dict[str, Callable[..., Attribution]] = {
    "gradcam": SpatialGradCam,
    "guided-gradcam": SpatialGuidedGradCam,
}
"""Methods that may be followed by a colon and the name of a layer."""


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


def split_names(text: str, what: str, known: Iterable[str]) -> list[str]:
    """Split a list of names at its commas; a name that comes twice counts once.

    Parameters
    ----------
    text
        For instance ``"ig, idgi"``.
    what
        What a name stands for, for the message.
    known
        What can be given, for the message; the caller refuses names that are not among it.

    Raises
    ------
    InvalidArgumentError
        There is no name.

    Examples
    --------
    >>> split_names("ig, idgi,ig", "method", ["ig", "idgi"])
    ['ig', 'idgi']
    """
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise InvalidArgumentError(f"no {what} was given: known are {', '.join(known)}.")
    return names
