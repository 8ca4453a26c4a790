"""Integrated gradients along any path with the Riemann rule: PathIG, BlurIG and GuidedIG."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, overload

from torch import Tensor

from captum_ext._captum import (
    BaselineType,
    TargetType,
    TensorOrTupleOfTensorsGeneric,
)
from captum_ext.attr._common.checks import Steps
from captum_ext.attr.path.paths import BlurPath, GuidedPath
from captum_ext.attr.path.rules import RIEMANN
from captum_ext.attr.path.walk import PathMethod, logged


class PathIG(PathMethod):
    r"""Integrated gradients along a path: the left Riemann sum of the gradient over the path's steps.

    .. math:: A = \sum_{j=0}^{n-1} g_j \odot (x_{j+1} - x_j)

    For the straight line Captum's own ``IntegratedGradients`` has better quadratures.

    Parameters
    ----------
    forward_func
        The model, or any function of it that returns one row for each example.
    path
        ``"straight"``, ``"blur"``, ``"guided"``, or an object with the methods of `captum_ext.attr.Path` or
        `captum_ext.attr.GradientDrivenPath`.

    Raises
    ------
    InvalidArgumentError
        The path is not known.

    Examples
    --------
    >>> import torch
    >>> from captum_ext import PathIG
    >>> x = torch.tensor([[1.0, 2.0]])
    >>> PathIG(lambda x: (x**2).sum(1)).attribute(x, n_steps=100, return_convergence_delta=True)
    (tensor([[0.9900, 3.9600]]), tensor([-0.0500]))
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
        show_progress: bool = False,
        steps: Steps = "equal",
        tolerance: float | None = None,
        return_steps_report: bool = False,
    ) -> Any:
        """Attribute the change of the output along the path to the inputs.

        Arguments, errors and costs are those of `captum_ext.IDGI.attribute`. The convergence delta shrinks as 1 / n,
        and says whether ``n_steps`` is enough. Adaptive steps are halved where the gradients at a step's ends would
        share it out most differently, or miss most of its change of the output. ``tolerance`` is the share of what the
        output moves that the steps' linear estimates may miss, added up without signs.

        Returns
        -------
        attributions : Tensor or tuple of Tensor
            Of the shape, dtype and device of the inputs.
        delta : Tensor
            Shape (N,), with ``return_convergence_delta``: the sum of the attributions less f(x) - f(start of the path).
        report : StepsReport
            With ``return_steps_report``; see `captum_ext.attr.StepsReport`.
        """
        return self._follow(
            RIEMANN,
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
            with_report=return_steps_report,
        )


class BlurIG(PathIG):
    """Blur integrated gradients: from a blurred image to the image itself.

    The blurred image is the baseline, so ``baselines`` must be left out. At every scale the path adds the detail of
    that scale, and no colour has to stand for "nothing".

    Source: Xu, Venugopalan and Sundararajan, Attribution in Scale and Space, CVPR 2020.

    Parameters
    ----------
    forward_func
        The model, or any function of it that returns one row for each example.
    max_sigma
        Standard deviation of the strongest blur, in pixels.
    power
        1 for steps of equal sigma, as published; 2 for smaller steps where the blur is small, which brings the delta
        down. See `captum_ext.attr.BlurPath`.

    Raises
    ------
    InvalidArgumentError
        ``max_sigma`` or ``power`` is not finite and above 0.

    Examples
    --------
    >>> import torch
    >>> from captum_ext import BlurIG
    >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.LazyLinear(10))
    >>> images = torch.rand(2, 3, 8, 8)
    >>> BlurIG(model, max_sigma=4.0).attribute(images, target=1).shape
    torch.Size([2, 3, 8, 8])
    """

    def __init__(self, forward_func: Callable[..., Tensor], max_sigma: float = 50.0, power: float = 1.0) -> None:
        super().__init__(forward_func, BlurPath(max_sigma, power))


class GuidedIG(PathIG):
    """Guided integrated gradients: the features with the smallest gradients go first.

    The walk avoids regions where the gradient is large and says little about input or baseline. It is sequential, one
    point of every example at a time.

    Source: Kapishnikov, Venugopalan, Avci, Wedin, Terry and Bolukbasi, Guided Integrated Gradients, CVPR 2021.

    Parameters
    ----------
    forward_func
        The model, or any function of it that returns one row for each example.
    fraction
        Share of the features that move together, in (0, 1].
    max_dist
        How far a feature may be from the straight line, as a share of its own way, in [0, 1].

    Raises
    ------
    InvalidArgumentError
        ``fraction`` or ``max_dist`` is out of range.

    Examples
    --------
    >>> import torch
    >>> from captum_ext import GuidedIG
    >>> x = torch.tensor([[1.0, 2.0]])
    >>> GuidedIG(lambda x: x.prod(1)).attribute(x, n_steps=1000).sum().round(decimals=1)
    tensor(2.)
    """

    def __init__(self, forward_func: Callable[..., Tensor], fraction: float = 0.25, max_dist: float = 0.02) -> None:
        super().__init__(forward_func, GuidedPath(fraction, max_dist))
