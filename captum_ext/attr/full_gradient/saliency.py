"""The published saliency maps of full gradients: the map of `FullGrad`, SimpleFullGrad and SmoothFullGrad."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from captum.attr import GradientAttribution
from torch import Tensor

from captum_ext._captum import (
    TargetType,
    TensorOrTupleOfTensorsGeneric,
    format_output,
    is_tuple,
    log_usage,
)
from captum_ext._errors import InvalidArgumentError
from captum_ext.attr._common import Tensors
from captum_ext.attr._common.checks import all_finite, positive_integer
from captum_ext.attr._common.forward import like_rows
from captum_ext.attr.full_gradient._trace.examples import Examples, concatenate, refuse_not_finite
from captum_ext.attr.full_gradient.paper_map import Ingredient, NoisyMaps, PaperMap


def check_image(inputs: Tensors, purpose: str) -> Tensor:
    """Return the one input, of shape (N, C, H, W), or raise `InvalidArgumentError`."""
    if len(inputs) != 1 or inputs[0].dim() != 4:
        shapes = [tuple(tensor.shape) for tensor in inputs]
        raise InvalidArgumentError(
            f"{purpose} was asked for inputs of shapes {shapes}: it is for one image tensor of shape (N, C, H, W). "
            "For other inputs take FullGrad with projection='backflow' and postprocess=None."
        )
    return inputs[0]


def paper_saliency(examples: Examples, ingredient: Ingredient, internal_batch_size: int | None) -> Tensor:
    """Return the published saliency map of some images.

    Parameters
    ----------
    examples
        One input of shape (N, C, H, W).
    ingredient
        What the maps are made of, see `captum_ext.attr.full_gradient.paper_map.PaperMap`.
    internal_batch_size
        The most images in one pass; None for all.

    Returns
    -------
    Tensor
        Shape (N, 1, H, W), not negative.
    """

    def explain(part: Examples) -> Tensor:
        passed, maps = part.backpropagate(lambda: PaperMap(ingredient))
        return maps.saliency(passed, part.inputs[0])

    return _finite_maps(examples, explain, internal_batch_size)


def _finite_maps(examples: Examples, explain: Callable[[Examples], Tensor], internal_batch_size: int | None) -> Tensor:
    """Explain the images in parts; where a map is not finite, name the operation."""
    maps = []
    for part in examples.parts(internal_batch_size):
        maps.append(explain(part))
        if not all_finite(maps[-1]):
            refuse_not_finite(part)
    return concatenate(maps).to(examples.inputs[0].dtype).contiguous()


class SimpleFullGrad(GradientAttribution):
    """Simple FullGrad: the published saliency map with the gradients of feature maps in place of bias contributions.

    The maps are the gradients at the outputs of all layers that have a bias (convolutions, linear layers on tokens,
    batch normalisation), treated as in `FullGrad` with ``postprocess="paper"``. Quick to look at; it does not sum
    to anything.

    Source: Srinivas and Fleuret, NeurIPS 2019; the simplified variant of the authors' implementation.

    Parameters
    ----------
    forward_func
        The model in eval mode, or any function of it that returns one row for each image.

    Examples
    --------
    >>> import torch
    >>> from captum_ext import SimpleFullGrad
    >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.Linear(144, 10)).eval()
    >>> SimpleFullGrad(model).attribute(torch.rand(2, 3, 8, 8), target=1).shape
    torch.Size([2, 1, 8, 8])
    """

    @log_usage()
    def attribute(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        target: TargetType = None,
        additional_forward_args: object | None = None,
        internal_batch_size: int | None = None,
    ) -> TensorOrTupleOfTensorsGeneric:
        """Return the saliency map.

        Parameters
        ----------
        inputs
            Images of shape (N, C, H, W); also in a tuple of one tensor.
        target, additional_forward_args, internal_batch_size
            As in `captum_ext.FullGrad.attribute`, which tells the errors too.

        Returns
        -------
        Tensor or tuple of Tensor
            In the form of the inputs; shape (N, 1, H, W), not negative.
        """
        examples = Examples.given(self.forward_func, inputs, target, additional_forward_args)
        check_image(examples.inputs, type(self).__name__)
        found = paper_saliency(examples, "adjoint", internal_batch_size)
        formatted: TensorOrTupleOfTensorsGeneric = format_output(is_tuple(inputs), (found,))
        return formatted


class SmoothFullGrad(GradientAttribution):
    """Smooth FullGrad: the published saliency map of bias contributions averaged over noisy copies of the image.

    The signed maps a_k * b_k of every operation are averaged over the noise before absolute values are taken and the
    maps are rescaled; the input term is summed over the colours before that.

    Source: Srinivas and Fleuret, NeurIPS 2019; the smoothed variant of the authors' implementation, with its defaults.

    Parameters
    ----------
    forward_func
        The model in eval mode, or any function of it that returns one row for each image.

    Examples
    --------
    >>> import torch
    >>> from captum_ext import SmoothFullGrad
    >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.Linear(144, 10)).eval()
    >>> SmoothFullGrad(model).attribute(torch.rand(2, 3, 8, 8), target=1, n_samples=3).shape
    torch.Size([2, 1, 8, 8])
    """

    @log_usage()
    def attribute(
        self,
        inputs: TensorOrTupleOfTensorsGeneric,
        target: TargetType = None,
        additional_forward_args: object | None = None,
        n_samples: int = 25,
        noise_level: float = 0.15,
        seed: int = 0,
        internal_batch_size: int | None = None,
    ) -> TensorOrTupleOfTensorsGeneric:
        """Return the saliency map.

        Parameters
        ----------
        inputs
            Images of shape (N, C, H, W); also in a tuple of one tensor.
        target, additional_forward_args, internal_batch_size
            As in `captum_ext.FullGrad.attribute`, which tells the errors too.
        n_samples
            How many noisy copies, 1 or more; each takes one forward and one backward pass.
        noise_level
            Standard deviation of the noise, as a part of the range of each image.
        seed
            Of the noise, which is drawn by a generator of its own: PyTorch's global one is left alone. All images get
            the same noise, each as a part of its range, so that a map depends neither on the other images of the batch
            nor on ``internal_batch_size``.

        Returns
        -------
        Tensor or tuple of Tensor
            In the form of the inputs; shape (N, 1, H, W), not negative.
        """
        examples = Examples.given(self.forward_func, inputs, target, additional_forward_args)
        check_image(examples.inputs, type(self).__name__)
        positive_integer("n_samples", n_samples, "the number of noisy copies")
        if not 0 <= noise_level < float("inf"):
            raise InvalidArgumentError(f"noise_level={noise_level!r} was given: give a finite number of 0 or more.")

        def explain(part: Examples) -> Tensor:
            (image,) = part.inputs
            spread = noise_level * like_rows(image.flatten(1).amax(1) - image.flatten(1).amin(1), image)
            # In each part from the beginning, and for all images the same: an image's map is that of the image alone.
            generator = torch.Generator(image.device).manual_seed(seed)
            maps = NoisyMaps()
            for _ in range(n_samples):
                noise = torch.randn(image.shape[1:], generator=generator, dtype=image.dtype, device=image.device)
                noisy = replace(part, inputs=(image + noise * spread,))
                passed, _ = noisy.backpropagate(lambda: maps)
                maps.add_input(passed, noisy.inputs[0])
            return maps.saliency((image.shape[2], image.shape[3]))

        found = _finite_maps(examples, explain, internal_batch_size)
        formatted: TensorOrTupleOfTensorsGeneric = format_output(is_tuple(inputs), (found,))
        return formatted
