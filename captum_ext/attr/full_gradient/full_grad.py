"""FullGrad and its variants: every bias of the network is part of the explanation."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any, Literal, overload

import torch
from captum.attr import GradientAttribution
from torch import Tensor

from captum_ext._captum import (
    BaselineType,
    TargetType,
    TensorOrTupleOfTensorsGeneric,
    format_output,
    is_tuple,
    log_usage,
)
from captum_ext._errors import InvalidArgumentError
from captum_ext.attr._common import Tensors
from captum_ext.attr._common.checks import expand_baselines
from captum_ext.attr._common.complete_method import CompleteMethod
from captum_ext.attr._common.forward import in_accumulation_dtype, row_sum
from captum_ext.attr.full_gradient._trace.examples import (
    Examples,
    concatenate,
    explain_in_parts,
    is_complete,
    tolerance,
)
from captum_ext.attr.full_gradient.layer_totals import LayerContribution, LayerTotals, join_layers
from captum_ext.attr.full_gradient.projection import InputSpace, Projection
from captum_ext.attr.full_gradient.saliency import check_image, paper_saliency

PROJECTIONS = ("auto", "interpolate", "backflow", "tokens")


@dataclass(frozen=True)
class _Explained:
    """The attributions of some examples, their outputs F(x), and what the decomposition leaves of these."""

    attributions: Tensors
    output: Tensor
    residual: Tensor


class FullGrad(CompleteMethod, GradientAttribution):
    r"""Full gradients: input times gradient, and the contribution of every bias laid on the input.

    A network's output is more than its gradient times its input: biases contribute too, and a map of the input
    gradient alone leaves their share out. FullGrad takes the exact decomposition

    .. math:: F(x) = \langle \nabla F(x), x \rangle + \sum_k \langle a_k, b_k \rangle

    over the biases b_k of all operations k (see `captum_ext.attr.decompose` for the theorem and its
    proof) and lays every product a_k * b_k on the input, so that the attributions sum to F(x). This holds for every
    differentiable model, transformers and recurrent networks included, and for a fraction of the time that upsampling
    every channel takes.

    Parameters
    ----------
    forward_func
        The model in eval mode, or any function of it that returns one row for each example.

    Notes
    -----
    Source: Srinivas and Fleuret, Full-Gradient Representation for Neural Network Visualization, NeurIPS 2019.

    Examples
    --------
    Attributions have the input's shape and sum to the output of the target:

    >>> import torch
    >>> from captum_ext import FullGrad
    >>> model = torch.nn.Sequential(
    ...     torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.GELU(), torch.nn.Flatten(), torch.nn.Linear(256, 10)
    ... ).eval()
    >>> images = torch.rand(2, 3, 8, 8)
    >>> attributions = FullGrad(model).attribute(images, target=[3, 7])
    >>> bool((attributions.sum((1, 2, 3)) - model(images)[[0, 1], [3, 7]]).abs().max() < 1e-5)
    True

    The published saliency map, for looking at:

    >>> FullGrad(model).attribute(images, target=3, postprocess="paper").shape
    torch.Size([2, 1, 8, 8])

    Which layer contributed what:

    >>> [(layer, found.total.shape) for layer, found in FullGrad(model).layer_attributions(images, target=3).items()]
    [('(input)', torch.Size([2])), ('0', torch.Size([2])), ('1', torch.Size([2])), ('3', torch.Size([2]))]
    """

    @overload
    def attribute(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        baselines: BaselineType = None,
        target: TargetType = None,
        additional_forward_args: object | None = None,
        *,
        projection: Projection = "auto",
        conserve: bool = True,
        postprocess: Literal["paper"] | None = None,
        internal_batch_size: int | None = None,
        return_convergence_delta: Literal[False] = False,
    ) -> TensorOrTupleOfTensorsGeneric: ...

    @overload
    def attribute(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        baselines: BaselineType = None,
        target: TargetType = None,
        additional_forward_args: object | None = None,
        *,
        projection: Projection = "auto",
        conserve: bool = True,
        postprocess: Literal["paper"] | None = None,
        internal_batch_size: int | None = None,
        return_convergence_delta: Literal[True],
    ) -> tuple[TensorOrTupleOfTensorsGeneric, Tensor]: ...

    @overload
    def attribute(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        baselines: BaselineType = None,
        target: TargetType = None,
        additional_forward_args: object | None = None,
        *,
        projection: Projection = "auto",
        conserve: bool = True,
        postprocess: Literal["paper"] | None = None,
        internal_batch_size: int | None = None,
        return_convergence_delta: bool,
    ) -> TensorOrTupleOfTensorsGeneric | tuple[TensorOrTupleOfTensorsGeneric, Tensor]: ...

    @log_usage()
    def attribute(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        baselines: BaselineType = None,
        target: TargetType = None,
        additional_forward_args: object | None = None,
        *,
        projection: Projection = "auto",
        conserve: bool = True,
        postprocess: Literal["paper"] | None = None,
        internal_batch_size: int | None = None,
        return_convergence_delta: bool = False,
    ) -> Any:
        """Attribute the output to the inputs, through the input gradient and through every bias.

        Parameters
        ----------
        inputs
            Floating-point tensor of shape (N, ...), or a tuple of them.
        baselines
            None explains F(x), as published. Anything else that Captum takes (a number, a tensor, a tuple of these)
            explains F(x) - F(x') as the difference of the two decompositions.
        target
            Which output is explained, in any form that Captum takes; None if there is one for each example.
        additional_forward_args
            Further arguments of ``forward_func``, in a tuple; tensors with a row for each example are cut with them.
        projection
            How a bias map comes to the input. ``"interpolate"``, for images of shape (N, C, H, W), resizes it with
            weights that keep its sum and spreads what has no known place evenly. ``"backflow"``, for any input,
            sends it back through the network, all maps in one further backward pass. ``"auto"`` resizes maps with a
            known place (feature maps, and tokens of which it is known), spreads those of an image model that have no
            place, such as a classifier's, and sends the others back. ``"tokens"``, for embedded text of shape
            (N, T, E), leaves each map at the token in whose activation it is, shared out evenly over E, and spreads
            what belongs to no token evenly. Only this keeps a language model's numbers small: normalised tokens send
            back maps of many times their size, which cancel.
        conserve
            Whether backflow restores the sum that J^T c loses, evenly over all elements. False gives the plain
            J^T c, whose sum is not F(x).
        postprocess
            ``"paper"`` gives the published saliency map instead: absolute values, each map rescaled to [0, 1],
            upsampled and added. For images only; ``projection`` and ``conserve`` do not matter to it.
        internal_batch_size
            The most examples in one forward pass; None for all.
        return_convergence_delta
            Whether to return the delta too.

        Returns
        -------
        attributions : Tensor or tuple of Tensor
            Of the shape, dtype and device of the inputs; shape (N, 1, H, W) with ``postprocess="paper"``.
        delta : Tensor
            Shape (N,), with ``return_convergence_delta``: the sum of the attributions less F(x), or F(x) - F(x').

        Raises
        ------
        NotDeterministicError
            A module is in training mode; the message names it. Nothing was changed.
        InvalidArgumentError
            An argument is refused; a `ValueError` that says what is allowed.
        TargetOutOfRangeError
            The target lies outside the output.
        RuntimeError
            The output does not depend on the inputs.
        """
        examples = Examples.given(self.forward_func, inputs, target, additional_forward_args)
        _check_options(examples.inputs, projection, postprocess, baselines, return_convergence_delta)
        if postprocess == "paper":
            saliency = paper_saliency(examples, "contribution", internal_batch_size)
            return format_output(is_tuple(inputs), (saliency,))
        found = _explain(examples, projection, conserve, internal_batch_size)
        if baselines is not None:
            at_baselines = replace(examples, inputs=expand_baselines(baselines, examples.inputs))
            start = _explain(at_baselines, projection, conserve, internal_batch_size)
            found = _Explained(
                tuple(a - b for a, b in zip(found.attributions, start.attributions, strict=True)),
                found.output - start.output,
                found.residual - start.residual,
            )
        attributions = tuple(
            attribution.to(tensor.dtype).contiguous()
            for attribution, tensor in zip(found.attributions, examples.inputs, strict=True)
        )
        delta = row_sum(attributions, found.output.device) - found.output
        _warn_if_incomplete(found, delta if conserve else None, examples.inputs[0].dtype)
        formatted = format_output(is_tuple(inputs), attributions)
        return (formatted, delta) if return_convergence_delta else formatted

    def layer_attributions(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        target: TargetType = None,
        additional_forward_args: object | None = None,
        internal_batch_size: int | None = None,
    ) -> dict[str, LayerContribution]:
        """Return what each module contributed to the output.

        Parameters
        ----------
        inputs, target, additional_forward_args, internal_batch_size
            As in `attribute`.

        Returns
        -------
        dict of str to LayerContribution
            In the order of the forward pass. ``"(input)"`` is <grad F, x>, the other keys are the paths of the modules
            that have biases, ``"(model)"`` for operations of the outermost module or outside of any. The totals sum to
            F(x). Maps are on the image where the place of all of the module's biases is known.
        """

        def explain(part: Examples) -> tuple[LayerTotals, Tensor]:
            passed, totals = part.backpropagate(lambda: LayerTotals(part.inputs))
            totals.add_input(passed)
            return totals, passed.output

        parts = explain_in_parts(
            Examples.given(self.forward_func, inputs, target, additional_forward_args),
            explain,
            lambda part: (part[1], part[0].total() - in_accumulation_dtype(part[1])),
            internal_batch_size,
        )
        return join_layers([totals.by_layer() for totals, _ in parts])


def _explain(examples: Examples, projection: Projection, conserve: bool, internal_batch_size: int | None) -> _Explained:
    def explain(part: Examples) -> _Explained:
        passed, space = part.backpropagate(lambda: InputSpace(part.inputs, projection))
        through_gradient = passed.input_terms(part.inputs)
        through_biases = space.contributions(passed, conserve=conserve)
        residual = (
            row_sum(through_gradient, passed.output.device) + space.total() - in_accumulation_dtype(passed.output)
        )
        attributions = tuple(a + b for a, b in zip(through_gradient, through_biases, strict=True))
        return _Explained(attributions, passed.output, residual)

    parts = explain_in_parts(examples, explain, lambda part: (part.output, part.residual), internal_batch_size)
    found = parts[0] if len(parts) == 1 else concatenate(parts)
    return replace(found, output=in_accumulation_dtype(found.output))


def _check_options(
    inputs: Tensors, projection: Any, postprocess: Any, baselines: Any, return_convergence_delta: bool
) -> None:
    """Raise `InvalidArgumentError` for options that are not known or do not go together."""
    if projection not in PROJECTIONS:
        raise InvalidArgumentError(f"projection={projection!r} was given: give one of {', '.join(PROJECTIONS)}.")
    if postprocess not in (None, "paper"):
        raise InvalidArgumentError(f"postprocess={postprocess!r} was given: give 'paper' or None.")
    if projection == "interpolate" and postprocess is None:
        check_image(inputs, "projection='interpolate'")
    if projection == "tokens" and (len(inputs) != 1 or inputs[0].dim() != 3):
        shapes = [tuple(tensor.shape) for tensor in inputs]
        raise InvalidArgumentError(
            f"projection='tokens' was asked for inputs of shapes {shapes}: it is for one tensor of embedded tokens, "
            "(N, T, E)."
        )
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


def _warn_if_incomplete(found: _Explained, delta: Tensor | None, dtype: torch.dtype) -> None:
    """Warn where the decomposition does not sum to the output, or what is returned does not although it should."""
    decomposition = (
        "the full gradients",
        "Likely causes: autocast or casts to a lower precision inside of the model, a hook that changes gradients, "
        "such as one that clips them.",
    )
    or_float64 = "" if dtype is torch.float64 else ", or float64"
    returned = (
        "the attributions",
        f"Far larger numbers cancel each other in {dtype}: take projection='interpolate' for images{or_float64}.",
    )
    for error, (what, cause) in ((found.residual, decomposition), (delta, returned)):
        if error is not None and not is_complete(found.output, error, dtype):
            allowed = tolerance(dtype, found.output.device) * found.output.abs().clamp(min=1)
            worst = int((error.abs() - allowed).argmax())
            warnings.warn(
                f"{what} of example {worst} sum to {(found.output + error)[worst].item():.6g}, the model's output is "
                f"{found.output[worst].item():.6g}. They are {error[worst].abs().item():.1g} apart. {cause}",
                stacklevel=4,
            )
            return
