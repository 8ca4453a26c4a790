"""One picture, one classifier, several methods: what the command line computes, before it prints."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from captum_ext._files import atomic_write, printable
from captum_ext.classifiers import Classifier, ImageBaseline, Output, Probabilities, explained_model, seen_image
from captum_ext.methods import MethodResult, method_named, run_method
from captum_ext.plot import attribution_figure


@dataclass(frozen=True)
class Prediction:
    """A class with the probability that a model gives it, in [0, 1].

    Examples
    --------
    >>> print(Prediction(27, "eft", 0.998))
    eft 99.8 %
    """

    index: int
    name: str
    probability: float

    def __str__(self) -> str:
        return f"{self.name} {100 * self.probability:.1f} %"


@dataclass(frozen=True)
class Settings:
    """How pictures are explained.

    Parameters
    ----------
    methods
        Names from `captum_ext.methods.METHODS`.
    target
        Index or name of a class; None takes the most probable one of each picture.
    output
        What is explained.
    baseline
        Where paths start, for methods that take a baseline.
    n_steps, internal_batch_size
        As for `captum_ext.IDGI.attribute`.
    """

    methods: Sequence[str] = ("ig", "idgi")
    target: str | None = None
    output: Output = Output.LOGIT
    baseline: ImageBaseline = ImageBaseline.BLACK
    n_steps: int = 50
    internal_batch_size: int | None = 10


@dataclass(frozen=True)
class Explanation:
    """What was found for one picture.

    Parameters
    ----------
    image
        As the model sees it, before normalisation; shape (C, H, W), values in [0, 1].
    target
        The class that was explained.
    top
        The five most probable classes, the first one first.
    results
        From a method's name to what it found; attributions have shape (1, C, H, W).
    """

    image: Tensor
    target: Prediction
    top: Sequence[Prediction]
    results: Mapping[str, MethodResult]

    def figure(self, title: str) -> Figure:
        """Draw the picture and each method's map and overlay."""
        return attribution_figure(
            self.image,
            {method_named(name).title: result.attributions[0] for name, result in self.results.items()},
            title=f"{title}: {self.target}",
        )

    def save(self, directory: Path, name: str) -> list[Path]:
        """Write the files of `output_files`: the figure, and the raw attributions of shape (C, H, W) for each method.

        Files are whole or not there; the same names are replaced.
        """
        figure_path, *paths = output_files(directory, name, list(self.results))
        with atomic_write(figure_path) as file:
            self.figure(printable(name)).savefig(file, format="png")
        for path, result in zip(paths, self.results.values(), strict=True):
            with atomic_write(path) as file:
                np.save(file, result.attributions[0].cpu().numpy())
        return [figure_path, *paths]


def output_files(directory: Path, name: str, methods: Sequence[str]) -> list[Path]:
    """Return the files that an explanation is saved as; a colon in a method's name becomes a hyphen.

    Examples
    --------
    >>> [path.name for path in output_files(Path("out"), "cat", ["ig", "idgi:blur"])]
    ['cat.png', 'cat.ig.npy', 'cat.idgi-blur.npy']
    """
    arrays = [directory / f"{name}.{method.replace(':', '-')}.npy" for method in methods]
    return [directory / f"{name}.png", *arrays]


def explain_image(
    classifier: Classifier,
    picture: Image.Image,
    settings: Settings,
    device: torch.device | str = "cpu",
    on_result: Callable[[str, MethodResult], None] = lambda name, result: None,
) -> Explanation:
    """Explain one picture with every method that is asked for.

    Parameters
    ----------
    classifier
        As `captum_ext.classifiers.models.load_classifier` makes it, on ``device``.
    picture
        RGB.
    settings
        What to compute.
    device
        Where the model is.
    on_result
        Called when a method is done.

    Raises
    ------
    ModelError
        The target is not a class of the model.
    """
    seen = seen_image(classifier, picture, settings.baseline, device)
    target, top = _predict(classifier, seen.inputs, settings.target)
    model = explained_model(classifier, settings.output)
    results = {}
    for name in settings.methods:
        results[name] = run_method(
            method_named(name),
            model,
            seen.inputs,
            seen.baselines,
            target.index,
            settings.n_steps,
            settings.internal_batch_size,
        )
        on_result(name, results[name])
    return Explanation(seen.image, target, top, results)


def _predict(
    classifier: Classifier, inputs: Tensor, target: str | None, n_top: int = 5
) -> tuple[Prediction, list[Prediction]]:
    """Return the class to explain and the most probable ones."""
    with torch.no_grad():
        probabilities = Probabilities(classifier.model)(inputs)[0]
    top = probabilities.topk(min(n_top, len(probabilities))).indices.tolist()
    chosen = top[0] if target is None else classifier.class_index(target, len(probabilities))
    first, *others = [
        Prediction(index, classifier.class_name(index), float(probabilities[index])) for index in (chosen, *top)
    ]
    return first, others
