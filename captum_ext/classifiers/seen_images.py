"""An image in the form in which a model takes it, with the baseline that a path to it starts from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from captum_ext.classifiers.baselines import image_baseline
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
