"""Images: read from files, and brought into the form in which a model takes them, with where paths to them start."""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from captum_ext._errors import RefusedError
from captum_ext.attr._common.blur import BLUR_SIGMA, blur_within_borders
from captum_ext.classifiers.choices import ImageBaseline
from captum_ext.classifiers.models import Classifier

MAX_ASPECT_RATIO = 100
"""Thinner images are refused: resizing their short side to a model's size would take gigabytes."""


class ImageFileError(RefusedError):
    """A file cannot be read as an image; the message says which and why."""


def read_image(path: Path) -> Image.Image:
    """Read an image, turned as its EXIF orientation says, in mode RGB.

    Transparency is laid on white, and of an animation the first frame is taken.

    Parameters
    ----------
    path
        A file of any format that Pillow reads.

    Raises
    ------
    ImageFileError
        The file is missing, a directory, unreadable, damaged, empty, too large or too thin, or holds floating point
        pixels or integers beyond 16 bits, whose range is unknown.

    Examples
    --------
    >>> read_image(Path("no-such-image.jpg"))
    Traceback (most recent call last):
    captum_ext.classifiers.images.ImageFileError: no-such-image.jpg: there is no such file.
    """
    if path.is_dir():
        raise ImageFileError(f"{path}: is a directory; name the images in it, for instance {path}/*.jpg.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                width, height = image.size
                if max(image.size) > MAX_ASPECT_RATIO * min(
                    image.size
                ):  # of a line no resized picture has anything left
                    raise ImageFileError(
                        f"{path}: is {width} x {height} pixels; sides may differ by a factor of {MAX_ASPECT_RATIO} at "
                        "most, crop it first."
                    )
                return _to_rgb(path, ImageOps.exif_transpose(image))
    except FileNotFoundError:
        raise ImageFileError(f"{path}: there is no such file.") from None
    except UnidentifiedImageError:
        raise ImageFileError(f"{path}: is not an image in a format that Pillow reads (JPEG, PNG, WebP ...).") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        # Pillow's own limit against files that unpack to gigabytes.
        raise ImageFileError(
            f"{path}: has more than {Image.MAX_IMAGE_PIXELS:,} pixels; make it smaller first."
        ) from None
    except ImageFileError:
        raise
    except (OSError, SyntaxError, EOFError, ValueError, struct.error, zlib.error) as error:  # all of Pillow's own
        raise ImageFileError(f"{path}: cannot be read: {error}.") from error


def _to_rgb(path: Path, image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ImageFileError(f"{path}: holds floating point pixels of unknown range; convert it to 8 or 16 bits.")
    if image.mode.startswith("I"):
        # Pillow clips 16 bits to 8 where it should divide.
        sixteen_bits = np.asarray(image).astype(np.float64)
        lowest, highest = sixteen_bits.min(), sixteen_bits.max()
        if lowest < 0 or highest > 65535:
            raise ImageFileError(
                f"{path}: holds integers from {lowest:.0f} to {highest:.0f}, of unknown range; convert it to 8 or 16 "
                "bits."
            )
        return Image.fromarray((sixteen_bits / 257).round().astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        opaque = Image.new("RGBA", image.size, "white")
        opaque.alpha_composite(image.convert("RGBA"))
        return opaque.convert("RGB")
    return image.convert("RGB")


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
