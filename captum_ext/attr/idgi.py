"""IDGI: integrated gradients without explanation noise, for inputs and for layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from captum.attr import GradientAttribution, LayerAttribution
from torch import Tensor, nn

from captum_ext._captum import (
    BaselineType,
    TargetType,
    TensorOrTupleOfTensorsGeneric,
    format_additional_forward_args,
    format_output,
    format_outputs,
    format_tensor_into_tuples,
    is_tuple,
    log_usage,
)
from captum_ext.attr.layer_substitution import LayerSubstitution
from captum_ext.attr.model_state import untouched
from captum_ext.attr.path_attribution import PathAttributions, PathMethod, attribute_along, prepare_walk
from captum_ext.attr.path_rules import important_direction
from captum_ext.attr.paths import AdaptivePath, Path, resolve_path
from captum_ext.attr.validation import InvalidArgumentError, check_inputs, expand_baselines


class IDGI(PathMethod):
    r"""Important direction gradient integration: each step of a path is credited along the gradient's own direction.

    Integrated gradients multiply the gradient with the step, and most of a step lies across the gradient, where it
    changes features and not the output. That part is explanation noise. IDGI gives the whole change of the output in
    a step to the direction that makes it:

    .. math:: A = \sum_{j=0}^{n-1} \frac{g_j \odot g_j}{\lVert g_j \rVert^2} \, (f_{j+1} - f_j)

    with :math:`f_j` the output and :math:`g_j` its gradient at the point :math:`x_j` of the path. The norm is over all
    input tensors of one example together.

    The attributions sum to :math:`f_n - f_0` for every path and every number of steps, because the sum telescopes.
    The convergence delta therefore does **not** say whether ``n_steps`` is enough. The path residual does:
    :math:`\sum_j \langle g_j, x_{j+1} - x_j \rangle - (f_n - f_0)`, the error that integrated gradients would make on
    the same walk, comes from the same evaluations and shrinks as 1 / n.

    Source: Yang, Wang and Bilgic, IDGI: A Framework to Eliminate Explanation Noise from Integrated Gradients,
    CVPR 2023, algorithm 1.

    Parameters
    ----------
    forward_func
        The model, or any function of it that returns one row for each example.
    path
        ``"straight"`` from the baseline, ``"blur"`` from the blurred picture, ``"guided"`` along small gradients first,
        or an object with the methods of `captum_ext.attr.Path` or `captum_ext.attr.AdaptivePath`, for instance
        ``BlurPath(max_sigma=20)``.

    Raises
    ------
    InvalidArgumentError
        The path is not known.

    Examples
    --------
    >>> import torch
    >>> from captum_ext import IDGI
    >>> model = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2)).double()
    >>> x = torch.rand(4, 3, dtype=torch.float64)
    >>> attributions, delta = IDGI(model).attribute(x, target=1, return_convergence_delta=True)
    >>> attributions.shape, bool(delta.abs().max() < 1e-12)
    (torch.Size([4, 3]), True)
    """

    @log_usage()
    def attribute(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        baselines: BaselineType = None,
        target: TargetType = None,
        additional_forward_args: object | None = None,
        n_steps: int = 50,
        internal_batch_size: int | None = None,
        return_convergence_delta: bool = False,
        return_path_residual: bool = False,
        show_progress: bool = False,
    ) -> (
        TensorOrTupleOfTensorsGeneric
        | tuple[TensorOrTupleOfTensorsGeneric, Tensor]
        | tuple[TensorOrTupleOfTensorsGeneric, Tensor, Tensor]
    ):
        """Attribute the change of the output along the path to the inputs.

        A call costs ``n_steps + 1`` forward and ``n_steps`` backward evaluations of each example.

        Parameters
        ----------
        inputs
            Tensor or tuple of tensors of shape (N, ...), floating point, finite.
        baselines
            Where the path starts: None (zeros), a number, a tensor of the input's shape or of batch 1, or a tuple of
            these, one for each input. A blur path has a start of its own and takes none.
        target
            Which output of each example is explained: None if there is one number for each; an integer; a tuple of
            integers for outputs of more dimensions; a tensor or list of N integers or a list of N tuples, one for each
            example. Negative integers count from the end.
        additional_forward_args
            Further arguments of ``forward_func``, one or a tuple. Tensors with a batch dimension are repeated for each
            point of the path; everything else is passed as it is. They get no attribution.
        n_steps
            Number of steps from start to input, 1 or more.
        internal_batch_size
            The most rows that go through the model at once (at least N). None sends all points of the path in one
            pass; a guided path always takes one point at a time. The result does not depend on it.
        return_convergence_delta
            Whether to return the delta.
        return_path_residual
            Whether to return the path residual.
        show_progress
            Whether to show a progress bar.

        Returns
        -------
        attributions : Tensor or tuple of Tensor
            Of the shape, dtype and device of the inputs.
        delta : Tensor
            Shape (N,), with ``return_convergence_delta``: the sum of the attributions less f(x) - f(start of the path).
            Beyond rounding it differs from zero only where the gradient vanishes at a step that changes the output.
        residual : Tensor
            Shape (N,), with ``return_path_residual``: the left Riemann sum less the same change. Raise ``n_steps``
            until it is small against the change of the output.

        Raises
        ------
        InvalidArgumentError
            Inputs, baselines, target or numbers do not fit; the model's output is not one finite number for each row.
        TargetOutOfRangeError
            The target lies outside the output.
        RuntimeError
            The output does not depend on the inputs.
        """
        found = self._follow(
            important_direction,
            format_tensor_into_tuples(inputs),
            baselines,
            target,
            additional_forward_args,
            n_steps,
            internal_batch_size,
            show_progress=show_progress,
            with_residual=return_path_residual,
        )
        return _with_deltas(format_output(is_tuple(inputs), found.attributions), found, return_convergence_delta)


class LayerIDGI(LayerAttribution, GradientAttribution):
    """IDGI for the activation of a layer, or of several.

    The path leads from the layer's activation at the baselines to its activation at the inputs, and the model runs on
    from there. The attributions sum to the change of the output when the activation is exchanged, which is
    F(inputs) - F(baselines) when all information passes through the layer.

    The inputs themselves need no gradient, so they may be integers: for a text model take its embedding layer.

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
    path
        As for `IDGI`; a blur path has no meaning here, since the walk has its own start.

    Raises
    ------
    InvalidArgumentError
        The path is not known.

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
        path: str | Path | AdaptivePath = "straight",
    ) -> None:
        LayerAttribution.__init__(self, forward_func, layer, device_ids)
        GradientAttribution.__init__(self, forward_func)
        self.path = resolve_path(path)

    @log_usage()
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        baselines: BaselineType = None,
        target: TargetType = None,
        additional_forward_args: object | None = None,
        n_steps: int = 50,
        internal_batch_size: int | None = None,
        return_convergence_delta: bool = False,
        attribute_to_layer_input: bool = False,
        grad_kwargs: Mapping[str, Any] | None = None,
        return_path_residual: bool = False,
        show_progress: bool = False,
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

        Raises
        ------
        InvalidArgumentError
            As for `IDGI.attribute`; a layer is not called, is called twice, or its activation has not the batch first.
        """
        tensors = format_tensor_into_tuples(inputs)
        n_examples = check_inputs(tensors, integers_allowed=True)
        arguments = format_additional_forward_args(additional_forward_args) or ()
        with untouched(self.forward_func, *tensors):
            layers = self._substitution(attribute_to_layer_input)
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
                progress_name=type(self).__name__ if show_progress else None,
                grad_kwargs=grad_kwargs,
            )
            found = attribute_along(walk, important_direction, with_residual=return_path_residual)
        remaining = iter(found.attributions)
        by_layer = [tuple(next(remaining) for _ in range(count)) for count in counts]
        return _with_deltas(format_outputs(isinstance(self.layer, list), by_layer), found, return_convergence_delta)

    def _substitution(self, at_input: bool) -> LayerSubstitution:
        layers = self.layer if isinstance(self.layer, list) else [self.layer]
        device_ids = self.device_ids or getattr(self.forward_func, "device_ids", None) or ()
        return LayerSubstitution(self.forward_func, layers, at_input, device_ids)

    def has_convergence_delta(self) -> bool:
        """Return True: the attributions sum to the change of the output."""
        return True

    @property
    def multiplies_by_inputs(self) -> bool:
        """True: attributions are in units of the output."""
        return True


def _check_batch_first(activations: list[tuple[Tensor, ...]], n_examples: int) -> None:
    for index, activation in enumerate(activations):
        for tensor in activation:
            if tensor.dim() == 0 or tensor.shape[0] != n_examples:
                raise InvalidArgumentError(
                    f"layer {index} has an activation of shape {tuple(tensor.shape)} for {n_examples} examples: give a "
                    "layer whose tensors have the batch first."
                )


def _with_deltas(attributions: Any, found: PathAttributions, with_delta: bool) -> Any:
    extras = [found.delta] if with_delta else []
    if found.residual is not None:
        extras.append(found.residual)
    return (attributions, *extras) if extras else attributions
