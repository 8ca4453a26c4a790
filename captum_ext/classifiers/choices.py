"""What a person chooses of a classifier; of words alone, since a command's help asks for nothing else."""

from __future__ import annotations

from enum import Enum


class ImageBaseline(str, Enum):
    """Where a path to an image starts."""

    BLACK = "black"
    WHITE = "white"
    MEAN = "mean"
    """The mean colour of the training data, which normalisation maps to zero, Captum's default."""
    BLUR = "blur"
    """The image itself, blurred with sigma = 20 pixels."""


class Output(str, Enum):
    """Which output of a classifier is explained."""

    PROBABILITY = "probability"
    LOGIT = "logit"
