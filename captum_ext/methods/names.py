"""Attribution methods by name: these, and those of Captum."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from types import SimpleNamespace
from typing import Any, Protocol, TypeVar

from captum.attr import Attribution, InputXGradient, IntegratedGradients, Saliency
from torch import Tensor, nn

from captum_ext._errors import InvalidArgumentError
from captum_ext.attr import IDGI, BlurIG, FullGrad, GuidedIG, LibraGrad, SimpleFullGrad, SmoothFullGrad
from captum_ext.methods.captum_methods import (
    RandomAttribution,
    SeededGradientShap,
    SpatialGradCam,
    SpatialGuidedGradCam,
)
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
    about
        What it is, in one line.
    source
        Where it was published.
    """

    title: str
    build: Callable[[Callable[..., Any]], Any]
    takes_baselines: bool = True
    is_complete: bool = True
    arguments: Mapping[str, Any] = field(default_factory=dict)
    about: str = ""
    source: str = ""


def _saliency(
    title: str,
    build: Callable[[Callable[..., Any]], Any],
    about: str,
    source: str,
    arguments: Mapping[str, Any] | None = None,
) -> Method:
    """Return a method that says where the model looks, and sums to nothing."""
    return Method(title, build, False, False, arguments or {}, about, source)


_XU = "Xu, Venugopalan, Sundararajan, CVPR 2020"
_KAPISHNIKOV = "Kapishnikov et al., CVPR 2021"
_YANG = "Yang, Wang, Bilgic, CVPR 2023"
_SRINIVAS = "Srinivas, Fleuret, NeurIPS 2019"
_SELVARAJU = "Selvaraju et al., ICCV 2017"
METHODS: dict[str, Method] = {
    "ig": Method(
        "IG",
        IntegratedGradients,
        about="gradients along the straight line from a baseline",
        source="Sundararajan, Taly, Yan, ICML 2017",
    ),
    "blur-ig": Method(
        "Blur IG", BlurIG, takes_baselines=False, about="gradients from the blurred image to the sharp one", source=_XU
    ),
    "guided-ig": Method(
        "Guided IG", GuidedIG, about="gradients on a path where small ones come first", source=_KAPISHNIKOV
    ),
    "idgi": Method(
        "IDGI", IDGI, about="steps of the straight line credited along the gradient's own direction", source=_YANG
    ),
    "idgi:blur": Method(
        "IDGI (blur)",
        lambda model: IDGI(model, path="blur"),
        takes_baselines=False,
        about="the same on the path from the blurred image",
        source=_YANG,
    ),
    "idgi:guided": Method(
        "IDGI (guided)", lambda model: IDGI(model, path="guided"), about="the same on a guided path", source=_YANG
    ),
    "fullgrad": Method("FullGrad", FullGrad, about="input times gradient plus every bias, exact", source=_SRINIVAS),
    "fullgrad:paper": _saliency(
        "FullGrad (paper)", FullGrad, "its saliency map, as published", _SRINIVAS, {"postprocess": "paper"}
    ),
    "fullgrad:libra": Method(
        "FullGrad (LibraGrad)",
        lambda model: FullGrad(LibraGrad(model)),
        about="the same with the balanced gradients of a transformer",
        source="Mehri, Soleymani Baghshah, Pilehvar, CVPR 2025",
    ),
    "simple-fullgrad": _saliency(
        "Simple FullGrad", SimpleFullGrad, "gradients without biases", "the authors' repository"
    ),
    "smooth-fullgrad": _saliency(
        "Smooth FullGrad", SmoothFullGrad, "mean of maps under noise", "the authors' repository"
    ),
    "saliency": _saliency(
        "Saliency", Saliency, "absolute gradient", "Simonyan, Vedaldi, Zisserman, ICLR workshop 2014"
    ),
    "input-x-gradient": _saliency("Input x gradient", InputXGradient, "input times gradient", "Shrikumar et al., 2016"),
    "gradientshap": Method(
        "Gradient SHAP",
        SeededGradientShap,
        about="gradients at random points between baseline and image",
        source="Lundberg, Lee, NeurIPS 2017",
    ),
    "gradcam": _saliency("Grad-CAM", SpatialGradCam, "maps of the last layer with maps, weighted", _SELVARAJU),
    "guided-gradcam": _saliency(
        "Guided Grad-CAM", SpatialGuidedGradCam, "guided backpropagation times Grad-CAM", _SELVARAJU
    ),
    "random": _saliency("Random", RandomAttribution, "random numbers, for comparison", "a control"),
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
    title = f"{METHODS[base].title} ({layer})"
    return replace(METHODS[base], title=title, build=lambda model: build(model, layer))


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


class MethodFunction(Protocol):
    """A method of one's own: any function that takes these three arguments, by position.

    It may take ``baselines``, ``n_steps``, ``internal_batch_size`` and ``seed`` too, by name.
    """

    def __call__(self, model: nn.Module, inputs: Tensor, target: int, /) -> Tensor:
        """Return attributions of shape (1, C, H, W), or (1, 1, H, W) for a map without channels.

        Parameters
        ----------
        model
            What is explained; gives scores of shape (1, classes).
        inputs
            One image as the model takes it; shape (1, C, H, W).
        target
            The class to explain.
        """


# No type says that a function may take some of these arguments more.
GivenMethod = Method | type[Attribution] | MethodFunction | Callable[..., Tensor]
GivenMethods = Sequence[str | GivenMethod] | Mapping[str, str | GivenMethod]


def chosen_methods(given: GivenMethods) -> dict[str, Method]:
    """Return methods by name.

    Parameters
    ----------
    given
        Names as `method_named` takes them; classes of Captum's kind, such as ``captum.attr.DeepLift``; functions, see
        `MethodFunction`; or `Method`, which says how to build one. In a mapping they have names of one's choice, in a
        sequence their own. Titles that several have are followed by the name.

    Raises
    ------
    InvalidArgumentError
        There is none, a name is not known or has two meanings, or something is no method.

    Examples
    --------
    >>> def grey(model, inputs, target):
    ...     return inputs.mean(1, keepdim=True)
    >>> list(chosen_methods(["ig", "gradcam:layer4", grey]))
    ['ig', 'gradcam:layer4', 'grey']
    """
    found = chosen(given, _resolved, "method", [*METHODS, "gradcam:LAYER"])
    titles = distinct_titles({name: method.title for name, method in found.items()})
    return {name: replace(method, title=titles[name]) for name, method in found.items()}


def distinct_titles(titles: Mapping[str, str]) -> dict[str, str]:
    """Return titles by name, those that several have followed by the name: one must not stand for all of them.

    Examples
    --------
    >>> distinct_titles({"a": "Map", "b": "Map", "c": "Other"})
    {'a': 'Map (a)', 'b': 'Map (b)', 'c': 'Other'}
    """
    times = Counter(titles.values())
    return {name: title if times[title] == 1 else f"{title} ({name})" for name, title in titles.items()}


def _resolved(name: str | None, method: str | GivenMethod) -> tuple[str, Method]:
    if isinstance(method, str):
        return name or method, method_named(method)
    if isinstance(method, Method):
        return name or method.title, method
    own = own_name(name, method, "method", "a class of Captum's kind, a Method")
    if isinstance(method, type) and issubclass(method, Attribution):
        return own, Method(own, method, is_complete=False)
    function: Callable[..., Tensor] = method
    return own, Method(own, lambda model: SimpleNamespace(attribute=partial(function, model)), is_complete=False)


Chosen = TypeVar("Chosen")


def chosen(
    given: Iterable[Any], resolve: Callable[[str | None, Any], tuple[str, Chosen]], what: str, known: Iterable[str]
) -> dict[str, Chosen]:
    """Return by name what was chosen of one kind, of methods or metrics.

    Parameters
    ----------
    given
        A sequence, or a mapping from names of one's choice.
    resolve
        From that name, None in a sequence, and what was given, to its name and what it stands for.
    what
        The kind.
    known
        Names that may be given.

    Raises
    ------
    InvalidArgumentError
        There is none, a name has two meanings, or a text was given where several are asked for.
    """
    if isinstance(given, str):
        raise InvalidArgumentError(f"{what}s={given!r} was given: give a sequence, such as [{given!r}].")
    pairs = given.items() if isinstance(given, Mapping) else [(None, one) for one in given]
    found: dict[str, Chosen] = {}
    meant: dict[str, object] = {}
    for name, one in pairs:
        own, resolved = resolve(name, one)
        if meant.setdefault(own, one) != one:
            raise InvalidArgumentError(f"two {what}s are called {own!r}: give a mapping from names to {what}s.")
        found[own] = resolved
    if not found:
        raise InvalidArgumentError(f"no {what} was given: known are {', '.join(known)}.")
    return found


def own_name(name: str | None, given: object, what: str, allowed: str) -> str:
    """Return the name of a function or class of a person's own, or raise `InvalidArgumentError` if it has none."""
    own = str(name or getattr(given, "__name__", type(given).__name__))
    if not callable(given) or own == "<lambda>":
        raise InvalidArgumentError(
            f"{what} {given!r} was given: give a name, {allowed}, or a function, in a mapping where it has no name."
        )
    return own
