"""IDGI: integrated gradients without explanation noise."""

from __future__ import annotations

from typing import Any, Literal, overload

from captum_ext._captum import (
    BaselineType,
    TargetType,
    TensorOrTupleOfTensorsGeneric,
)
from captum_ext.attr._common.checks import Steps
from captum_ext.attr.path.rules import IMPORTANT_DIRECTION
from captum_ext.attr.path.walk import PathMethod, logged


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
    the same walk, comes from the same evaluations and shrinks as 1 / n. Or let the steps look after themselves,
    ``n_steps="auto"``.

    What IDGI says is **where** the output changed, not what speaks for it and what against: all features get the sign
    of a step's change, in proportion to their squared gradients, and so depend on the scale of the features. For
    f = x0 - x1 at (3, 1) from zero, integrated gradients give (3, -1) and IDGI (1, 1). Where a signed answer is asked
    for, take ``captum.attr.IntegratedGradients`` or `captum_ext.FullGrad`.

    Source: Yang, Wang and Bilgic, IDGI: A Framework to Eliminate Explanation Noise from Integrated Gradients,
    CVPR 2023, algorithm 1.

    Parameters
    ----------
    forward_func
        The model, or any function of it that returns one row for each example.
    path
        ``"straight"`` from the baseline, ``"blur"`` from the blurred image, ``"guided"`` along small gradients first,
        or an object with the methods of `captum_ext.attr.Path` or `captum_ext.attr.GradientDrivenPath`, for instance
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

    @overload
    def attribute(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        baselines: BaselineType = None,
        target: TargetType = None,
        additional_forward_args: object | None = None,
        n_steps: int | Literal["auto"] = 50,
        internal_batch_size: int | None = None,
        return_convergence_delta: Literal[False] = False,
        *,
        return_path_residual: Literal[False] = False,
        show_progress: bool = False,
        steps: Steps = "equal",
        tolerance: float | None = None,
        return_steps_report: Literal[False] = False,
    ) -> TensorOrTupleOfTensorsGeneric: ...

    @overload
    def attribute(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        baselines: BaselineType = None,
        target: TargetType = None,
        additional_forward_args: object | None = None,
        n_steps: int | Literal["auto"] = 50,
        internal_batch_size: int | None = None,
        return_convergence_delta: bool = False,
        *,
        return_path_residual: bool = False,
        show_progress: bool = False,
        steps: Steps = "equal",
        tolerance: float | None = None,
        return_steps_report: bool = False,
    ) -> Any: ...

    @logged
    def attribute(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        baselines: BaselineType = None,
        target: TargetType = None,
        additional_forward_args: object | None = None,
        n_steps: int | Literal["auto"] = 50,
        internal_batch_size: int | None = None,
        return_convergence_delta: bool = False,
        *,
        return_path_residual: bool = False,
        show_progress: bool = False,
        steps: Steps = "equal",
        tolerance: float | None = None,
        return_steps_report: bool = False,
    ) -> Any:
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
            Further arguments of ``forward_func``, one or a tuple. Tensors with a row for each example are repeated for
            each point of the path; everything else is passed as it is. A tensor that has N rows by chance is better
            bound to the function, ``lambda x: model(x, weights)``. They get no attribution.
        n_steps
            Number of steps from start to input, 1 or more; or ``"auto"``, as many adaptive steps as ``tolerance`` asks
            for, at most 512.
        internal_batch_size
            The most rows that go through the model at once (at least N). None sends all points of the path in one
            pass; a guided path always takes one point at a time. The result does not depend on it.
        return_convergence_delta
            Whether to return the delta.
        return_path_residual
            Whether to return the path residual.
        show_progress
            Whether to show a progress bar.
        steps
            ``"equal"``, all of one length, or ``"adaptive"``: four equal ones first, then the steps in which the output
            changes most are halved until ``n_steps`` are taken, each example's where it needs them. On photographs a
            map came as near to its limit with 3 to 12 times fewer evaluations on the straight path and 11 to 32 times
            fewer on the blur path, in the median on four networks. Not for a path that chooses its points.
        tolerance
            With adaptive steps, an example for which no step holds more than this share of all that the output moves
            takes no further one; above 0 and below 1, for ``n_steps="auto"`` 0.05 if not given.
        return_steps_report
            Whether to return where the steps were, and what remains.

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
        report : StepsReport
            With ``return_steps_report``; see `captum_ext.attr.StepsReport`.

        Raises
        ------
        InvalidArgumentError
            Inputs, baselines, target or numbers do not fit; the model's output is not one finite number for each row.
        TargetOutOfRangeError
            The target lies outside the output.
        RuntimeError
            The output does not depend on the inputs.
        """
        return self._follow(
            IMPORTANT_DIRECTION,
            inputs,
            baselines,
            target,
            additional_forward_args,
            n_steps,
            internal_batch_size,
            show_progress=show_progress,
            with_delta=return_convergence_delta,
            steps=steps,
            tolerance=tolerance,
            with_residual=return_path_residual,
            with_report=return_steps_report,
        )
