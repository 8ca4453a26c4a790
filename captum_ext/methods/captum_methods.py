"""Captum's methods that need more than a model to be built: a layer, or a seed."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from captum.attr import GradientAttribution, GradientShap, GuidedGradCam, LayerAttribution, LayerGradCam
from torch import Tensor, nn

from captum_ext._captum import TargetType
from captum_ext._errors import InvalidArgumentError
from captum_ext.attr._common.model_state import preserve_state
from captum_ext.methods.spatial_layers import check_relu_modules, last_spatial_layer, named_layer


class _SpatialMethod(GradientAttribution):
    """A method that starts from the maps of one layer of an image model; see its subclasses."""

    def __init__(self, forward_func: Callable[..., Any], layer: str | None = None) -> None:
        if not isinstance(forward_func, nn.Module):
            raise InvalidArgumentError(
                f"{type(self).__name__} was given a {type(forward_func).__name__}: give a torch.nn.Module."
            )
        super().__init__(forward_func)
        self.layer = layer

    def attribute(self, inputs: Tensor, target: TargetType = None) -> Tensor:
        """Return the map of images of shape (N, C, H, W).

        Parameters
        ----------
        inputs
            Images of shape (N, C, H, W).
        target
            As in ``captum.attr.LayerGradCam``.

        Raises
        ------
        InvalidArgumentError
            The model has no layer with maps or none of the given name, or is not made as the method needs it.
        """
        if inputs.dim() != 4:
            raise InvalidArgumentError(
                f"inputs has shape {tuple(inputs.shape)}: {type(self).__name__} takes images, (N, C, H, W)."
            )
        if self.layer is None:
            layer = last_spatial_layer(self.forward_func, inputs)
        else:
            layer = named_layer(self.forward_func, self.layer)
        with preserve_state(self.forward_func, inputs):
            return self._of_layer(layer, inputs, target).detach()

    def _of_layer(self, layer: nn.Module, inputs: Tensor, target: TargetType) -> Tensor:
        raise NotImplementedError


class SpatialGradCam(_SpatialMethod):
    """Grad-CAM on one layer, brought to the size of the input; shape (N, 1, H, W), not negative.

    Source: Selvaraju et al., Grad-CAM, ICCV 2017, by ``captum.attr.LayerGradCam``; enlarged bilinearly.

    Parameters
    ----------
    forward_func
        A module.
    layer
        Name of the layer; None takes `captum_ext.methods.spatial_layers.last_spatial_layer`.

    Examples
    --------
    >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
    >>> SpatialGradCam(model).attribute(torch.rand(2, 3, 8, 8), target=1).shape
    torch.Size([2, 1, 8, 8])
    """

    def _of_layer(self, layer: nn.Module, inputs: Tensor, target: TargetType) -> Tensor:
        maps = LayerGradCam(self.forward_func, layer).attribute(inputs, target, relu_attributions=True)
        if not isinstance(maps, Tensor) or maps.dim() != 4:
            raise InvalidArgumentError(
                f"layer {self.layer!r} returns no maps of shape (N, C, H, W), as Grad-CAM needs."
            )
        enlarged: Tensor = LayerAttribution.interpolate(maps, tuple(inputs.shape[2:]), "bilinear")
        return enlarged


class SpatialGuidedGradCam(_SpatialMethod):
    """Guided backpropagation times Grad-CAM; of the shape of the inputs, and summing to nothing.

    Source: Selvaraju et al., Grad-CAM, ICCV 2017, section 3.2, by ``captum.attr.GuidedGradCam``.

    Parameters
    ----------
    forward_func
        A module in which every ReLU is a ``torch.nn.ReLU``.
    layer
        As for `SpatialGradCam`.

    Examples
    --------
    >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
    >>> SpatialGuidedGradCam(model).attribute(torch.rand(2, 3, 8, 8), target=1).shape
    torch.Size([2, 3, 8, 8])
    """

    def _of_layer(self, layer: nn.Module, inputs: Tensor, target: TargetType) -> Tensor:
        check_relu_modules(self.forward_func, inputs)
        with warnings.catch_warnings():
            # Captum says at every call that it sets hooks and takes them off again.
            warnings.filterwarnings("ignore", message="Setting backward hooks on ReLU")
            attributions: Tensor = GuidedGradCam(self.forward_func, layer).attribute(
                inputs, target, interpolate_mode="bilinear"
            )
        return attributions


class RandomAttribution(GradientAttribution):
    """Random numbers, uniform from 0 to 1: the control of every comparison, which does not look at the model.

    Parameters
    ----------
    forward_func
        Is not called.

    Examples
    --------
    >>> RandomAttribution(lambda x: x).attribute(torch.rand(2, 3, 8, 8)).shape
    torch.Size([2, 3, 8, 8])
    """

    def attribute(self, inputs: Tensor, target: TargetType = None, seed: int = 0) -> Tensor:
        """Return random numbers of the shape of the inputs.

        Parameters
        ----------
        inputs
            Shape (N, ...).
        target
            Does not matter.
        seed
            Of the numbers, which depend on it and on the shape alone.
        """
        generator = torch.Generator().manual_seed(seed)
        return torch.rand(inputs.shape, generator=generator).to(inputs)


class SeededGradientShap(GradientAttribution):
    """Gradient SHAP with random numbers of its own; PyTorch's and NumPy's global generators are left alone.

    Source: Lundberg and Lee, NeurIPS 2017, by ``captum.attr.GradientShap`` without noise on the inputs.

    Parameters
    ----------
    forward_func
        The model, or any function of it.

    Examples
    --------
    >>> x = torch.tensor([[1.0, 2.0]])
    >>> SeededGradientShap(lambda x: 3 * x.sum(1)).attribute(x, torch.zeros_like(x))
    tensor([[3., 6.]])
    """

    def attribute(
        self,
        inputs: Tensor,
        baselines: Tensor,
        target: TargetType = None,
        n_steps: int = 50,
        internal_batch_size: int | None = None,
        seed: int = 0,
    ) -> Tensor:
        """Return attributions of the shape of the inputs.

        Parameters
        ----------
        inputs
            Shape (N, ...).
        baselines
            Shape (M, ...), from which each sample draws one.
        target
            As in ``captum.attr.GradientShap``.
        n_steps
            Samples for each example, each of which takes one forward and one backward pass.
        internal_batch_size
            The most rows that go through the model at once (at least N). None takes all.
        seed
            Of the points between baseline and input.
        """
        at_once = n_steps if internal_batch_size is None else max(1, internal_batch_size // len(inputs))
        shap, total = GradientShap(self.forward_func), torch.zeros_like(inputs)
        with preserve_state(self.forward_func, inputs), _seeded(seed):
            for first in range(0, n_steps, at_once):
                n_samples = min(at_once, n_steps - first)
                total += n_samples * shap.attribute(inputs, baselines, n_samples=n_samples, target=target).detach()
        return total / n_steps


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Context with seeded global generators, which are put back."""
    # Captum draws from NumPy's global generator, so a generator object cannot be handed to it.
    state = np.random.get_state()  # noqa: NPY002
    try:
        np.random.seed(seed)  # noqa: NPY002
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            yield
    finally:
        np.random.set_state(state)  # noqa: NPY002
