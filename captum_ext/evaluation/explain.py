"""Explain images with several methods: figures and raw attributions."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from captum_ext._errors import InvalidArgumentError, described, printable
from captum_ext._files import atomic_write, check_absent
from captum_ext.classifiers import (
    Classifier,
    Probabilities,
    explained_model,
    load_classifier,
    read_image,
    seen_image,
)
from captum_ext.evaluation.ranks import device_named
from captum_ext.evaluation.settings import ExplanationSettings, with_options
from captum_ext.methods import MethodResult, check_layers, chosen_methods, method_named, run_method
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
class Explanation:
    """What was found for one image.

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
        """Draw the image and each method's map and overlay."""
        return attribution_figure(
            self.image,
            {method_named(name).title: result.attributions[0] for name, result in self.results.items()},
            title=f"{title}: {self.target}",
        )

    def save(self, directory: Path, name: str) -> None:
        """Write the files of `output_files`: the figure, and the raw attributions of shape (C, H, W) for each method.

        Files are whole or not there; the same names are replaced.
        """
        figure_path, *paths = output_files(directory, name, list(self.results))
        with atomic_write(figure_path) as file, warnings.catch_warnings():
            # Of names in alphabets that Matplotlib's font lacks; the file has the whole name.
            warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from", UserWarning)
            self.figure(printable(name)).savefig(file, format="png")
        for path, result in zip(paths, self.results.values(), strict=True):
            with atomic_write(path) as file:
                np.save(file, result.attributions[0].cpu().numpy())


def output_files(directory: Path, name: str, methods: Sequence[str]) -> list[Path]:
    """Return the files that an explanation is saved as; a colon in a method's name becomes a hyphen.

    Examples
    --------
    >>> [path.name for path in output_files(Path("out"), "cat", ["ig", "idgi:blur"])]
    ['cat.png', 'cat.ig.npy', 'cat.idgi-blur.npy']
    """
    arrays = [directory / f"{name}.{method.replace(':', '-')}.npy" for method in methods]
    return [directory / f"{name}.png", *arrays]


def output_names(images: Sequence[Path]) -> list[str]:
    """Return the stem of each image, numbered where several have the same, be it in small letters or in capitals.

    Examples
    --------
    >>> output_names([Path("a/cat.jpg"), Path("b/Cat.png"), Path("dog.jpg")])
    ['cat', 'Cat-2', 'dog']
    """
    names: list[str] = []
    taken: set[str] = set()  # without capitals: to Windows and macOS, Cat.png is cat.png
    for image in images:
        number, name = 1, image.stem
        while name.casefold() in taken:
            number += 1
            name = f"{image.stem}-{number}"
        taken.add(name.casefold())
        names.append(name)
    return names


def explain(
    images: Sequence[str | Path],
    out: str | Path,
    *,
    settings: ExplanationSettings | None = None,
    force: bool = False,
    progress: bool = False,
    **options: Any,
) -> Iterator[tuple[Path, Explanation | str]]:
    """Explain images from files, and write a figure and the raw attributions of each.

    Everything that can be refused is refused before the first image. One that fails is told, and the others go on.

    Parameters
    ----------
    images
        Files.
    out
        Folder for the files of `output_files`, made where it is missing.
    settings
        How; None takes the defaults.
    force
        Whether existing files are replaced.
    progress
        Whether to show a bar on the standard error, where that is a terminal.
    **options
        Fields of `ExplanationSettings`, in place of those in ``settings``.

    Yields
    ------
    tuple
        Each file, and what was found in it, or why it failed.

    Raises
    ------
    ValueError
        Something cannot be used, or a file would be replaced; nothing was computed.
    """
    settings = with_options(settings or ExplanationSettings(), options)
    paths = [Path(image) for image in images]
    if not paths:
        raise InvalidArgumentError("no image was given: name one or more files.")
    chosen = chosen_methods(settings.methods)
    names = output_names(paths)
    files = [file for name in names for file in output_files(Path(out), name, settings.methods)]
    check_absent(files, force, inputs=paths)
    device = device_named(settings.device)
    classifier = load_classifier(settings.model, settings.weights, device)
    check_layers(chosen, explained_model(classifier, settings.output))
    with tqdm(total=len(paths) * len(chosen), unit="map", disable=None if progress else True, leave=False) as bar:
        for done, (path, name) in enumerate(zip(paths, names, strict=True), start=1):
            bar.set_postfix_str(printable(path.name))
            try:
                explanation = explain_image(classifier, read_image(path), settings, device, lambda *_: bar.update())
                explanation.save(Path(out), name)
                found: Explanation | str = explanation
            except Exception as error:  # people's own models raise anything, and the other images go on
                found = described(error).removeprefix(f"{printable(path)}: ")
            bar.update(done * len(chosen) - bar.n)
            yield path, found


def explain_image(
    classifier: Classifier,
    image: Image.Image,
    settings: ExplanationSettings,
    device: torch.device | str = "cpu",
    on_result: Callable[[str, MethodResult], object] = lambda name, result: None,
) -> Explanation:
    """Explain one image with every method that is asked for.

    Parameters
    ----------
    classifier
        As `captum_ext.classifiers.models.load_classifier` makes it, on ``device``.
    image
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
    seen = seen_image(classifier, image, settings.baseline, device)
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
            steps=settings.steps.value,
        )
        on_result(name, results[name])
    return Explanation(seen.image, target, top, results)


def _predict(classifier: Classifier, inputs: Tensor, target: str | None) -> tuple[Prediction, list[Prediction]]:
    """Return the class to explain and the five most probable ones."""
    with torch.no_grad():
        probabilities = Probabilities(classifier.model)(inputs)[0]
    top = probabilities.topk(min(5, len(probabilities))).indices.tolist()
    chosen = top[0] if target is None else classifier.class_index(target, len(probabilities))
    first, *others = [
        Prediction(index, classifier.class_name(index), float(probabilities[index])) for index in (chosen, *top)
    ]
    return first, others
