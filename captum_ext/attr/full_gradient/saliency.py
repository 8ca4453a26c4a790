"""The published saliency maps of full gradients: the map of `FullGrad`, SimpleFullGrad and SmoothFullGrad."""

from __future__ import annotations

from collections.abc import Callable

import torch
from captum.attr import GradientAttribution
from torch import Tensor

from captum_ext._captum import TargetType, format_additional_forward_args, format_tensor_into_tuples, log_usage
from captum_ext.attr._common.checks import check_inputs
from captum_ext.attr.full_gradient._trace.examples import Examples
from captum_ext.attr.full_gradient.checks import check_image, check_noise, rows_at_once
from captum_ext.attr.full_gradient.paper_map import Ingredient, NoisyMaps, PaperMap


def paper_saliency(examples: Examples, ingredient: Ingredient, rows_at_once: int | None) -> Tensor:
    """Return the published saliency map of some images.

    Parameters
    ----------
    examples
        One input of shape (N, C, H, W).
    ingredient
        What the maps are made of, see `captum_ext.attr.full_gradient.paper_map.PaperMap`.
    rows_at_once
        The most images in one pass; None for all.

    Returns
    -------
    Tensor
        Shape (N, 1, H, W), not negative.
    """

    def of_rows(start: int, stop: int) -> Tensor:
        rows = examples.rows(start, stop)
        passed, maps = examples.backpropagate(start, stop, rows, lambda: PaperMap(ingredient))
        return maps.saliency(passed, rows[0])

    return _in_parts(of_rows, len(examples), rows_at_once).to(examples.inputs[0].dtype)


def _in_parts(of_rows: Callable[[int, int], Tensor], n_examples: int, rows_at_once: int | None) -> Tensor:
    size = rows_at_once or n_examples
    parts = [of_rows(start, min(start + size, n_examples)) for start in range(0, n_examples, size)]
    return torch.cat(parts).contiguous()


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
        inputs: Tensor,
        target: TargetType = None,
        additional_forward_args: object | None = None,
        internal_batch_size: int | None = None,
    ) -> Tensor:
        """Return the saliency map.

        Parameters
        ----------
        inputs
            Images of shape (N, C, H, W).
        target, additional_forward_args, internal_batch_size
            As in `captum_ext.FullGrad.attribute`, which tells the errors too.

        Returns
        -------
        Tensor
            Shape (N, 1, H, W), not negative.
        """
        tensors = format_tensor_into_tuples(inputs)
        check_inputs(tensors)
        check_image(tensors, type(self).__name__)
        arguments = format_additional_forward_args(additional_forward_args)
        examples = Examples(self.forward_func, tensors, target, arguments)
        return paper_saliency(examples, "adjoint", rows_at_once(internal_batch_size))


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
        inputs: Tensor,
        target: TargetType = None,
        additional_forward_args: object | None = None,
        n_samples: int = 25,
        noise_level: float = 0.15,
        seed: int = 0,
        internal_batch_size: int | None = None,
    ) -> Tensor:
        """Return the saliency map.

        Parameters
        ----------
        inputs
            Images of shape (N, C, H, W).
        target, additional_forward_args, internal_batch_size
            As in `captum_ext.FullGrad.attribute`, which tells the errors too.
        n_samples
            How many noisy copies, 1 or more; each takes one forward and one backward pass.
        noise_level
            Standard deviation of the noise, as a part of the range of each image.
        seed
            Of the noise, which is drawn by a generator of its own: PyTorch's global one is left alone.

        Returns
        -------
        Tensor
            Shape (N, 1, H, W), not negative.
        """
        tensors = format_tensor_into_tuples(inputs)
        check_inputs(tensors)
        image = check_image(tensors, type(self).__name__).detach()
        check_noise(n_samples, noise_level)
        arguments = format_additional_forward_args(additional_forward_args)
        examples = Examples(self.forward_func, (image,), target, arguments)
        generator = torch.Generator(image.device).manual_seed(seed)
        spread = noise_level * (image.flatten(1).amax(1) - image.flatten(1).amin(1)).reshape(-1, 1, 1, 1)

        def of_rows(start: int, stop: int) -> Tensor:
            maps = NoisyMaps()
            for _ in range(n_samples):
                noise = torch.randn(
                    image[start:stop].shape, generator=generator, dtype=image.dtype, device=image.device
                )
                noisy = image[start:stop] + noise * spread[start:stop]
                passed, _ = examples.backpropagate(start, stop, (noisy,), lambda: maps)
                maps.add_input(passed, noisy)
            return maps.saliency((image.shape[2], image.shape[3]))

        return _in_parts(of_rows, len(examples), rows_at_once(internal_batch_size)).to(image.dtype)
