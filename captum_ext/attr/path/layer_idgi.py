"""IDGI for the activation of a layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from captum.attr import GradientAttribution, LayerAttribution
from torch import Tensor, nn

from captum_ext._captum import (
    BaselineType,
    TargetType,
    format_additional_forward_args,
    format_outputs,
    format_tensor_into_tuples,
)
from captum_ext._errors import InvalidArgumentError
from captum_ext.attr._common.checks import Steps, check_inputs, expand_baselines
from captum_ext.attr._common.complete_method import CompleteMethod
from captum_ext.attr._common.model_state import preserve_state
from captum_ext.attr.path.layer_substitution import LayerSubstitution
from captum_ext.attr.path.paths import GradientDrivenPath, Path, resolve_path
from captum_ext.attr.path.rules import IMPORTANT_DIRECTION
from captum_ext.attr.path.walk import attribute_along, logged, prepare_walk


class LayerIDGI(CompleteMethod, LayerAttribution, GradientAttribution):
    """IDGI for the activation of a layer, or of several.

    The path leads from the layer's activation at the baselines to its activation at the inputs, and the model runs on
    from there. The attributions sum to the change of the output when the activation is exchanged, which is
    F(inputs) - F(baselines) when all information passes through the layer.

    The inputs themselves need no gradient, so they may be integers: for a text model take its embedding layer. As for
    `IDGI`, a number says how much of the change is credited to a token, not whether the token speaks for or against.

    Source: Yang, Wang and Bilgic, IDGI, CVPR 2023, on the activations that Captum's ``LayerIntegratedGradients`` walks
    between.

    Parameters
    ----------
    forward_func
        The model, or any function of it that returns one row for each example.
    layer
        A module of the model, or a list of modules none of which feeds another. Each is called once in a forward pass.
    device_ids
        Needed only where ``forward_func`` wraps a ``torch.nn.DataParallel`` model and is not one itself.
        No other thread may call a data-parallel model meanwhile.
    path
        As for `IDGI`; a blur path has no meaning here, since the walk has its own start.

    Raises
    ------
    InvalidArgumentError
        The path is not known, or a layer is no module.

    Examples
    --------
    >>> import torch
    >>> from captum_ext import LayerIDGI
    >>> embedding = torch.nn.Embedding(100, 8)
    >>> model = torch.nn.Sequential(embedding, torch.nn.Flatten(), torch.nn.Linear(8 * 5, 2))
    >>> tokens = torch.randint(0, 100, (3, 5))
    >>> LayerIDGI(model, embedding).attribute(tokens, target=0).shape
    torch.Size([3, 5, 8])
    """

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        layer: nn.Module | list[nn.Module],
        device_ids: list[int] | None = None,
        path: str | Path | GradientDrivenPath = "straight",
    ) -> None:
        modules = layer if isinstance(layer, list) else [layer]
        if not modules or not all(isinstance(module, nn.Module) for module in modules):
            raise InvalidArgumentError(
                f"layer={layer!r} was given: give a module of the model, such as model.features, or a list of modules."
            )
        LayerAttribution.__init__(self, forward_func, layer, device_ids)
        GradientAttribution.__init__(self, forward_func)
        self.path = resolve_path(path)

    @logged
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        baselines: BaselineType = None,
        target: TargetType = None,
        additional_forward_args: object | None = None,
        n_steps: int | Literal["auto"] = 50,
        internal_batch_size: int | None = None,
        return_convergence_delta: bool = False,
        attribute_to_layer_input: bool = False,
        grad_kwargs: Mapping[str, Any] | None = None,
        *,
        return_path_residual: bool = False,
        show_progress: bool = False,
        steps: Steps = "equal",
        tolerance: float | None = None,
        return_steps_report: bool = False,
    ) -> Any:
        """Attribute the change of the output to the layer's activation.

        Arguments not listed here are those of `IDGI.attribute`. Two more forward passes read the activations.

        Parameters
        ----------
        inputs
            As for `IDGI.attribute`; integers are allowed.
        attribute_to_layer_input
            Whether the layer's input is explained, not its output.
        grad_kwargs
            Further arguments of ``torch.autograd.grad``, for instance ``{"allow_unused": True}``.

        Returns
        -------
        attributions : Tensor, tuple of Tensor, or list of these
            Of the shape of the layer's activation; a tuple where the layer has several tensors, a list where
            ``layer`` is a list.
        delta : Tensor
            Shape (N,), with ``return_convergence_delta``: the sum of all attributions less the change of the output
            when the activation is exchanged.
        residual : Tensor
            Shape (N,), with ``return_path_residual``; see `IDGI`.
        report : StepsReport
            With ``return_steps_report``; see `captum_ext.attr.StepsReport`.

        Raises
        ------
        InvalidArgumentError
            As for `IDGI.attribute`; a layer is not called, is called twice, or its activation has not the batch first.
        """
        tensors = format_tensor_into_tuples(inputs)
        n_examples = check_inputs(tensors, integers_allowed=True)
        arguments = format_additional_forward_args(additional_forward_args) or ()
        with preserve_state(self.forward_func, *tensors):
            modules = self.layer if isinstance(self.layer, list) else [self.layer]
            device_ids = self.device_ids or getattr(self.forward_func, "device_ids", None) or ()
            layers = LayerSubstitution(self.forward_func, modules, attribute_to_layer_input, device_ids)
            ends = layers.activations((*tensors, *arguments))
            starts = layers.activations((*expand_baselines(baselines, tensors), *arguments))
            _check_batch_first(ends, n_examples)
            counts = [len(activation) for activation in ends]
            walk = prepare_walk(
                self.path,
                layers.forward_with(counts),
                tuple(tensor for activation in ends for tensor in activation),
                tuple(tensor for activation in starts for tensor in activation),
                target,
                (*tensors, *arguments),
                n_steps,
                internal_batch_size,
                rule=IMPORTANT_DIRECTION,
                progress_name=type(self).__name__ if show_progress else None,
                steps=steps,
                tolerance=tolerance,
                grad_kwargs=grad_kwargs or {},
            )
            found = attribute_along(walk, with_residual=return_path_residual, with_report=return_steps_report)
        remaining = iter(found.attributions)
        by_layer = [tuple(next(remaining) for _ in range(count)) for count in counts]
        return found.returned(format_outputs(isinstance(self.layer, list), by_layer), return_convergence_delta)


def _check_batch_first(activations: list[tuple[Tensor, ...]], n_examples: int) -> None:
    for index, activation in enumerate(activations):
        for tensor in activation:
            if tensor.dim() == 0 or tensor.shape[0] != n_examples:
                raise InvalidArgumentError(
                    f"layer {index} has an activation of shape {tuple(tensor.shape)} for {n_examples} examples: give a "
                    "layer whose tensors have the batch first."
                )
