"""Photographs that come with scikit-image and scikit-learn, so that real networks have something to see offline."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from captum_ext._errors import extra


@dataclass(frozen=True)
class Photograph:
    """An image with what its licence asks to be said.

    Parameters
    ----------
    name
        One word.
    image
        RGB, between 451 x 300 and 640 x 427 pixels.
    author, licence
        To be named where the image is shown.
    """

    name: str
    image: Image.Image
    author: str
    licence: str


def photographs() -> list[Photograph]:
    """Return five photographs: a cat, a cup, a rocket, a palace, a flower.

    The extra ``captum-ext[demo]`` brings them.

    Raises
    ------
    ImportError
        scikit-image or scikit-learn is not installed.
    """
    with extra("demo"):
        import skimage.data
        from sklearn.datasets import load_sample_image

    return [
        _photograph("cat", skimage.data.chelsea(), "Stefan van der Walt", "CC0"),
        _photograph("cup", skimage.data.coffee(), "Rachel Michetti", "CC0"),
        _photograph("rocket", skimage.data.rocket(), "SpaceX", "public domain"),
        _photograph("palace", load_sample_image("china.jpg"), "danielbuechele", "CC BY 2.0"),
        _photograph("flower", load_sample_image("flower.jpg"), "vultilion", "CC BY 2.0"),
    ]


def _photograph(name: str, pixels: npt.NDArray[np.uint8], author: str, licence: str) -> Photograph:
    return Photograph(name, Image.fromarray(pixels), author, licence)
