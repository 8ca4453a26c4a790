"""An image in the form in which a model takes it, with the image without information that a path to it starts from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from captum_ext.attr._common.blur import BLUR_SIGMA, blur_within_borders
from captum_ext.classifiers.choices import ImageBaseline
from captum_ext.classifiers.models import Classifier


@dataclass(frozen=True)
class SeenImage:
    """An image as a model sees it.

    Parameters
    ----------
    image
        Before normalisation; shape (C, H, W), values in [0, 1].
    inputs
        After it; shape (1, C, H, W).
    baselines
        Where paths to the image start, after normalisation; shape (1, C, H, W).
    """

    image: Tensor
    inputs: Tensor
    baselines: Tensor


def seen_image(
    classifier: Classifier, given: Image.Image | Tensor, baseline: ImageBaseline, device: torch.device | str
) -> SeenImage:
    """Bring an image into the form in which a model takes it, with its baseline.

    Parameters
    ----------
    classifier
        The model.
    given
        An image of any size in RGB; or one as the model takes it before normalisation, of shape (C, H, W) with values
        in [0, 1].
    baseline
        Where paths to it start.
    device
        Where the model is.
    """
    preprocessing = classifier.preprocessing
    image = (given if isinstance(given, Tensor) else preprocessing.to_tensor(given)).to(device)
    start = image_baseline(baseline, image[None], preprocessing.mean)
    return SeenImage(image, preprocessing.normalize(image[None]), preprocessing.normalize(start))


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
