"""Image classifiers by name, with their weights, preprocessing and baselines."""

from typing import TYPE_CHECKING

from captum_ext._lazy import lazy_names

if TYPE_CHECKING:
    from captum_ext.attr._common.blur import blur_within_borders
    from captum_ext.classifiers.choices import ImageBaseline, Output
    from captum_ext.classifiers.digits import Digits, scanned_digits, train_classifier
    from captum_ext.classifiers.efficientnets import efficientnet_lite
    from captum_ext.classifiers.images import ImageFileError, SeenImage, image_baseline, read_image, seen_image
    from captum_ext.classifiers.models import (
        Classifier,
        Logits,
        ModelError,
        Preprocessing,
        Probabilities,
        explained_model,
        imagenet_preprocessing,
        load_classifier,
    )
    from captum_ext.classifiers.photograph import Photograph, photographs
    from captum_ext.classifiers.weights import WeightsFileError, load_weights

__all__ = [
    "Classifier",
    "Digits",
    "ImageBaseline",
    "ImageFileError",
    "Logits",
    "ModelError",
    "Output",
    "Photograph",
    "Preprocessing",
    "Probabilities",
    "SeenImage",
    "WeightsFileError",
    "blur_within_borders",
    "efficientnet_lite",
    "explained_model",
    "image_baseline",
    "imagenet_preprocessing",
    "load_classifier",
    "load_weights",
    "photographs",
    "read_image",
    "scanned_digits",
    "seen_image",
    "train_classifier",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "captum_ext.attr._common.blur": ("blur_within_borders",),
        "choices": ("ImageBaseline", "Output"),
        "digits": ("Digits", "scanned_digits", "train_classifier"),
        "efficientnets": ("efficientnet_lite",),
        "images": ("ImageFileError", "SeenImage", "image_baseline", "read_image", "seen_image"),
        "models": (
            "Classifier",
            "Logits",
            "ModelError",
            "Preprocessing",
            "Probabilities",
            "explained_model",
            "imagenet_preprocessing",
            "load_classifier",
        ),
        "photograph": ("Photograph", "photographs"),
        "weights": ("WeightsFileError", "load_weights"),
    },
)
