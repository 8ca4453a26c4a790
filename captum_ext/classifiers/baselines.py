"""Images without information, in image space: values in [0, 1], before a model's normalisation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from captum_ext.attr._common.blur import BLUR_SIGMA, blur_within_borders
from captum_ext.classifiers.choices import ImageBaseline


def image_baseline(kind: ImageBaseline, images: Tensor, mean: Sequence[float]) -> Tensor:
    """Return the baseline of images, in their shape.

    Parameters
    ----------
    kind
        Which one.
    images
        Shape (N, C, H, W), values in [0, 1].
    mean
        Mean of each channel of the training data, values in [0, 1].

    Examples
    --------
    >>> import torch
    >>> image_baseline(ImageBaseline.MEAN, torch.rand(2, 3, 4, 4), (0.5, 0.25, 0.0))[1, :, 0, 0]
    tensor([0.5000, 0.2500, 0.0000])
    """
    if kind is ImageBaseline.BLACK:
        return torch.zeros_like(images)
    if kind is ImageBaseline.WHITE:
        return torch.ones_like(images)
    if kind is ImageBaseline.MEAN:
        return images.new_tensor(mean).reshape(1, -1, 1, 1).expand_as(images).clone()
    return blur_within_borders(images, BLUR_SIGMA)
