"""Classifiers by name: torchvision's, timm's and people's own, with their preprocessing and class names."""

from __future__ import annotations

import difflib
import importlib
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torchvision
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import v2

from captum_ext._errors import RefusedError
from captum_ext.classifiers.choices import Output
from captum_ext.classifiers.weights import load_weights

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_LITE = re.compile(r"efficientnet-lite([0-4])")
_INDEX = re.compile(r"-?[0-9]+")


class ModelError(RefusedError):
    """A model cannot be made; the message says why and what to do."""


@dataclass(frozen=True)
class Preprocessing:
    """From an image to a model's input in two stages, so that baselines can be chosen between them.

    Parameters
    ----------
    to_tensor
        Resizes and crops an RGB image; returns shape (C, H, W), values in [0, 1].
    mean, std
        Normalisation of each channel.
    """

    to_tensor: Callable[[Image.Image], Tensor]
    mean: Sequence[float] = IMAGENET_MEAN
    std: Sequence[float] = IMAGENET_STD

    def normalize(self, images: Tensor) -> Tensor:
        """Return images of shape (N, C, H, W), values in [0, 1], as the model takes them."""
        normalized: Tensor = v2.functional.normalize(images, list(self.mean), list(self.std))
        return normalized


def imagenet_preprocessing() -> Preprocessing:
    """Return the usual preprocessing: short side to 256 pixels, the central 224 x 224, ImageNet's mean and deviation.

    Examples
    --------
    >>> imagenet_preprocessing().to_tensor(Image.new("RGB", (640, 480))).shape
    torch.Size([3, 224, 224])
    """
    steps = [
        v2.PILToTensor(),
        v2.Resize(256, antialias=True),
        v2.CenterCrop(224),
        v2.ToDtype(torch.float32, scale=True),
    ]
    return Preprocessing(v2.Compose(steps))


@dataclass(frozen=True)
class Classifier:
    """A model with what is needed to feed it images and to name what it says.

    A function named on the command line may return one of these, or only a module.

    Parameters
    ----------
    model
        Maps (N, C, H, W) to scores of shape (N, classes), or to an object with these as ``logits``.
    preprocessing
        From an image to the model's input.
    class_names
        One for each class; None where they are not known.
    """

    model: nn.Module
    preprocessing: Preprocessing
    class_names: Sequence[str] | None = None

    def class_name(self, index: int) -> str:
        """Return the name of a class, its number where it has none."""
        if self.class_names is None or index >= len(self.class_names):
            return f"class {index}"
        return self.class_names[index]

    def class_index(self, target: str, n_classes: int) -> int:
        """Return the class that an index (negative ones count from the end) or a name stands for.

        Raises
        ------
        ModelError
            The index is out of range, the name is not known, or several classes have it.
        """
        if _INDEX.fullmatch(target.strip()):
            index = int(target)
            if not -n_classes <= index < n_classes:
                raise ModelError(f"target {index} is out of range: the model has the classes 0 to {n_classes - 1}.")
            return index % n_classes
        names = [name.casefold() for name in self.class_names or ()]
        wanted = target.strip().casefold()
        found = [index for index, name in enumerate(names) if name == wanted]
        if len(found) == 1:
            return found[0]
        if found:
            raise ModelError(f"target {target!r} is the name of classes {found}: give one of these numbers.")
        similar = [name for name in self.class_names or () if wanted in name.casefold()][:5]
        hint = f"similar are {', '.join(similar)}" if similar else "give the number of a class"
        raise ModelError(f"target {target!r} is not the name of a class: {hint}.")


def load_classifier(name: str, weights: Path | None = None, device: torch.device | str = "cpu") -> Classifier:
    """Make a classifier, in evaluation mode.

    Parameters
    ----------
    name
        A classification model of torchvision (``resnet50``), ``timm:NAME``, ``efficientnet-lite0`` (whose weights come
        with a Python package, see `captum_ext.classifiers.efficientnet_lite`), or ``package.module:function``, where
        the function takes no arguments and returns a `Classifier` or a module (which then gets
        `imagenet_preprocessing`).
    weights
        A state dict in a ``.safetensors`` or ``.pth`` file. Without it the default weights are downloaded; a function
        of your own brings its weights with it.
    device
        Where the model runs.

    Raises
    ------
    ModelError
        The name is not known, the weights cannot be downloaded, or the file does not fit the model.
    """
    if name.startswith("timm:"):
        classifier = _from_timm(name.removeprefix("timm:"), pretrained=weights is None)
    elif _LITE.fullmatch(name):
        from captum_ext.classifiers.efficientnets import efficientnet_lite

        classifier = efficientnet_lite(int(name[-1]))
    elif ":" in name:
        classifier = _from_function(name)
    else:
        classifier = _from_torchvision(name, weights)
    if weights is not None:
        load_weights(classifier.model, weights)
    model = Logits(classifier.model).eval().requires_grad_(False).to(device)
    return Classifier(model, classifier.preprocessing, classifier.class_names)


def explained_model(classifier: Classifier, output: Output) -> nn.Module:
    """Return the model whose output is explained: the classifier, or its softmax."""
    return Probabilities(classifier.model) if output is Output.PROBABILITY else classifier.model


def _from_torchvision(name: str, weights: Path | None) -> Classifier:
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        raise ModelError(
            f"model {name!r} is not known: give a classification model of torchvision (similar are "
            f"{_similar(known, name)}), timm:NAME, efficientnet-lite0 to 4, or package.module:function."
        )
    versions = torchvision.models.get_model_weights(name)
    # A file under torchvision's own name tells which of several versions it is, and so its preprocessing.
    same_file = [entry for entry in versions if weights is not None and Path(entry.url).stem == weights.stem]
    version = same_file[0] if same_file else versions.DEFAULT
    if weights is None:
        with _downloading(version.url):
            model = torchvision.models.get_model(name, weights=version)
    else:
        model = torchvision.models.get_model(name, weights=None, **_build_options(name, version.meta))
    # Mean 0 and deviation 1 leave the preset's geometry: normalisation is a stage of its own here.
    preset, to_tensor = version.transforms(), version.transforms(mean=(0.0,) * 3, std=(1.0,) * 3)
    return Classifier(model, Preprocessing(to_tensor, preset.mean, preset.std), version.meta["categories"])


def _build_options(name: str, meta: dict[str, Any]) -> dict[str, Any]:
    """Return what torchvision itself sets when a model is made for its pretrained weights."""
    if name.startswith("vit_"):
        return {"image_size": meta["min_size"][0]}
    if name in ("googlenet", "inception_v3"):
        return {"transform_input": True, "aux_logits": True, "init_weights": False}
    return {}


def _from_timm(name: str, *, pretrained: bool) -> Classifier:
    try:
        import timm
    except ImportError:
        raise ModelError(f"timm:{name} needs the package timm: pip install timm.") from None
    if not timm.is_model(name):
        raise ModelError(f"timm has no model {name!r}; similar are {_similar(timm.list_models(), name)}.")
    with _downloading(f"https://huggingface.co/timm/{name}"):
        model = timm.create_model(name, pretrained=pretrained)
    timm_data: Any = importlib.import_module("timm.data")
    config = timm_data.resolve_model_data_config(model)
    to_tensor = timm_data.create_transform(**{**config, "mean": (0.0,) * 3, "std": (1.0,) * 3})
    subset = timm_data.infer_imagenet_subset(model)
    names = [str(label) for label in timm_data.ImageNetInfo(subset).label_descriptions()] if subset else None
    return Classifier(model, Preprocessing(to_tensor, config["mean"], config["std"]), names)


@contextmanager
def _downloading(source: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ModelError(
            f"the weights cannot be downloaded ({error}). Get them from {source} where there is a network and give "
            "the file: --weights FILE.pth or --weights FILE.safetensors."
        ) from error


def _from_function(name: str) -> Classifier:
    module_name, _, attribute = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # as `python -m` does: people run their own code from where it lies
    try:
        function = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise ModelError(f"{name} cannot be imported: {error}.") from error
    except Exception as error:  # whatever a module of one's own does when it is imported
        raise ModelError(f"{name} cannot be imported: {type(error).__name__}: {error}.") from error
    try:
        made = function() if callable(function) and not isinstance(function, nn.Module) else function
    except Exception as error:
        raise ModelError(f"{name} cannot be made: {type(error).__name__}: {error}.") from error
    classifier = Classifier(made, imagenet_preprocessing()) if isinstance(made, nn.Module) else made
    if not isinstance(classifier, Classifier):
        raise ModelError(
            f"{name} gave a {type(made).__name__}: it must return a torch.nn.Module or a "
            "captum_ext.classifiers.Classifier."
        )
    return classifier


def _similar(known: Iterable[str], name: str) -> str:
    """List the names that are most like the given one."""
    return ", ".join(difflib.get_close_matches(name, list(known), n=6, cutoff=0.0))


class Logits(nn.Module):
    """A model whose output is a tensor, also where the wrapped one returns an object with ``logits``.

    Examples
    --------
    >>> import torch
    >>> from types import SimpleNamespace
    >>> class Wordy(nn.Module):
    ...     def forward(self, x):
    ...         return SimpleNamespace(logits=x.sum((2, 3)))
    >>> Logits(Wordy())(torch.ones(1, 2, 3, 3))
    tensor([[9., 9.]])
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor) -> Tensor:
        """Return scores of shape (N, classes)."""
        try:
            output = self.model(inputs)
        except RuntimeError as error:
            # PyTorch's own word for shapes that do not fit, and not for a want of memory.
            if type(error) is not RuntimeError or "allocate" in str(error):
                raise
            raise ModelError(
                f"the model does not take inputs of shape {tuple(inputs.shape)}: {error}. Give a Classifier with the "
                "preprocessing that the model was made for, or a model for images of this size."
            ) from error
        scores = output
        if not isinstance(output, Tensor):
            scores = output.get("logits") if isinstance(output, dict) else getattr(output, "logits", None)
        if not isinstance(scores, Tensor) or scores.dim() != 2:
            what = f"shape {tuple(scores.shape)}" if isinstance(scores, Tensor) else f"a {type(output).__name__}"
            raise ModelError(
                f"the model returned {what}: it must return scores of shape (N, classes) or an object with these as "
                "`logits`."
            )
        return scores


class Probabilities(nn.Module):
    """A classifier's softmax.

    Examples
    --------
    >>> import torch
    >>> Probabilities(nn.Identity())(torch.tensor([[0.0, 0.0]]))
    tensor([[0.5000, 0.5000]])
    """

    def __init__(self, logits: nn.Module) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, inputs: Tensor) -> Tensor:
        """Return probabilities of shape (N, classes)."""
        scores: Tensor = self.logits(inputs)
        return scores.softmax(1)
