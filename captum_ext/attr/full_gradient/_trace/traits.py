"""What is known of an operation from its function alone, looked up once and not at every call."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch

from captum_ext.attr._common.forward import is_guarded
from captum_ext.attr._common.operations import Function, writes_in_place
from captum_ext.attr._common.random_draws import always_draws
from captum_ext.attr.full_gradient._trace.bias_rules import (
    CONNECTED,
    LAYERS,
    QUERIES,
    RESHAPED_IN_PLACE,
    RULES,
    BiasRule,
    by_jacobian,
    homogeneous,
)
from captum_ext.attr.full_gradient._trace.determinism import SUSPECTS
from captum_ext.attr.full_gradient._trace.grid import keeps_places

# A model may differentiate itself. A gradient cannot be repeated without its graph; it comes up later as the hidden
# operation that the graph of the gradient is.
_DIFFERENTIATION = frozenset({torch.autograd.grad, torch.autograd.backward, torch.Tensor.backward})


@dataclass(frozen=True, slots=True)
class Traits:
    """What is known of an operation from its function alone.

    Attributes
    ----------
    name
        As tables give it, such as ``conv2d``.
    is_unseen
        Whether it is of no interest: it asks a tensor about itself, sets an attribute or differentiates.
    is_suspect
        Whether it may be random or mix the examples, which its arguments tell.
    draws
        Whether it draws random numbers whatever its arguments are, but for a generator of its own.
    is_in_place
        Whether it overwrites its first argument, as its name tells.
    only_reshapes_in_place
        Whether that changes what the tensor says of its values, and not the values.
    rule
        For its implicit bias.
    passes_to_first, passes_to_all
        Whether a gradient always leads to its first argument, and to each.
    is_linear_in_first
        Whether it has no bias where its first argument alone depends on the input.
    is_layer
        Whether its bias is made of parameters and running statistics, which no forward pass overwrites.
    is_guarded
        Whether its output's gradient has to be guarded, see `guard_output`.
    keeps_places
        Whether an output as large as what depends on the input has its layout over the image.
    """

    name: str
    is_unseen: bool
    is_suspect: bool
    draws: bool
    is_in_place: bool
    only_reshapes_in_place: bool
    rule: BiasRule
    passes_to_first: bool
    passes_to_all: bool
    is_linear_in_first: bool
    is_layer: bool
    is_guarded: bool
    keeps_places: bool


# Bounded, since a model may make functions of its own in every pass.
@functools.lru_cache(maxsize=2048)
def traits_of(function: Function) -> Traits:
    """Return what is known of an operation from its function."""
    name = getattr(function, "__name__", "")
    rule = RULES.get(function, by_jacobian)
    return Traits(
        name=(name or repr(function)).strip("_"),
        # Attributes are set inside of C++ too, by custom autograd functions, where nothing may be raised.
        is_unseen=function in QUERIES or function in _DIFFERENTIATION or name == "__set__",
        is_suspect=function in SUSPECTS,
        draws=always_draws(function),
        is_in_place=writes_in_place(name),
        only_reshapes_in_place=function in RESHAPED_IN_PLACE,
        rule=rule,
        passes_to_first=function in RULES,
        passes_to_all=function in CONNECTED,
        is_linear_in_first=rule is homogeneous,
        is_layer=function in LAYERS,
        is_guarded=is_guarded(function),
        keeps_places=keeps_places(function),
    )
