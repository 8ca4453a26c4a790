"""Evaluate attribution methods: one call from a model and images to a table."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import nn
from torch.utils.data import Dataset
from torchvision.transforms import v2
from tqdm.auto import tqdm

from captum_ext._errors import InvalidArgumentError, described
from captum_ext.attr._common.model_state import is_training
from captum_ext.classifiers import (
    Classifier,
    Logits,
    Preprocessing,
    Probabilities,
    SeenImage,
    explained_model,
    imagenet_preprocessing,
    load_classifier,
    seen_image,
)
from captum_ext.evaluation.dataset import (
    DatasetError,
    LabelledImage,
    class_of_label,
    find_images,
    given_images,
    labelled_images,
    resolved_class_from,
)
from captum_ext.evaluation.measures import GivenMetrics, Metric, chosen_metrics, measure
from captum_ext.evaluation.outcome import GrowingTable, files_of, write_outcome
from captum_ext.evaluation.ranks import Rank, device_named, ranks
from captum_ext.evaluation.report import Findings
from captum_ext.evaluation.settings import (
    ClassFrom,
    EvaluationSettings,
    as_json,
    under_protocol,
    versions,
    with_options,
)
from captum_ext.evaluation.store import Record, ResultStore, jpeg, png
from captum_ext.evaluation.table import summarize, table_of
from captum_ext.methods import GivenMethods, Method, check_layers, chosen_methods, run_method
from captum_ext.plot import scaled_map

Images = str | Path | Sequence[Any] | torch.Tensor | Dataset[Any]


def evaluate(
    model: str | nn.Module | Classifier,
    images: Images,
    methods: GivenMethods | None = None,
    metrics: GivenMetrics | None = None,
    out: str | Path | None = None,
    *,
    preprocessing: Preprocessing | None = None,
    settings: EvaluationSettings | None = None,
    force: bool = False,
    accept_versions: bool = False,
    progress: bool = False,
    **options: Any,
) -> pd.DataFrame:
    """Measure attribution methods on images, each method with each metric on each image.

    What an image, a method or a metric raises is told in its row, and the others go on. With ``out``, a run that was
    killed goes on where it was when it is called again; methods and the limit may then be others, and what failed is
    tried again. Under ``torchrun`` the images are split among the processes.

    Parameters
    ----------
    model
        A name as `captum_ext.classifiers.load_classifier` takes it, a classifier, or a module that returns logits of
        shape (N, classes); it is put into evaluation mode while it runs.
    images
        A folder; or a list of files, a tensor of shape (N, C, H, W), or any sequence or data set whose items are files,
        PIL images or tensors of shape (C, H, W), or pairs of these and a label. Values of tensors are in [0, 1].
    methods
        Names from `captum_ext.methods.METHODS`, and objects of one's own as `captum_ext.methods.chosen_methods` takes
        them. The others are compared with the first. None takes those of the settings.
    metrics
        Names from `captum_ext.evaluation.METRICS`, and functions of one's own as `captum_ext.evaluation.MetricFunction`
        says. None takes those of the settings.
    out
        Folder of results: ``results.csv``, ``summary.csv``, ``report.html``, ``curves`` and ``figures``, and what a
        run goes on from. None keeps nothing but the table.
    preprocessing
        Of a module. None takes files with `captum_ext.classifiers.imagenet_preprocessing`, and tensors as they are.
    settings
        Everything else that results depend on; None takes the defaults.
    force
        Whether to start anew; of ``out``, what an evaluation wrote is removed, and nothing else.
    accept_versions
        Whether to go on with results that other versions of the packages, or other weights, have made.
    progress
        Whether to show a bar on the standard error, where that is a terminal.
    **options
        Fields of `EvaluationSettings`, in place of those in ``settings``.

    Returns
    -------
    pandas.DataFrame
        A row for each image, method and metric, with the columns of `captum_ext.evaluation.Row`;
        `captum_ext.evaluation.summarize` makes means with intervals of it.

    Raises
    ------
    InvalidArgumentError, DatasetError, ModelError, StoreError
        Something cannot be used; nothing was computed. All are of type `ValueError`.

    Examples
    --------
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
    >>> found = evaluate(model, torch.rand(4, 3, 8, 8), ["ig", "idgi"], ["insertion"], n_steps=4, curve_steps=4)
    >>> len(found), list(found["method"].unique()), list(found["status"].unique())
    (8, ['ig', 'idgi'], ['ok'])
    """
    settings = under_protocol(with_options(settings or EvaluationSettings(), options))
    chosen = chosen_methods(settings.methods if methods is None else methods)
    measured = chosen_metrics(settings.metrics if metrics is None else metrics)
    settings = with_options(settings, {"methods": tuple(chosen), "metrics": tuple(measured)})
    with ranks() as rank:
        folder = None if out is None else Path(out)
        if folder is None and rank.count > 1:
            raise InvalidArgumentError(f"{rank.count} processes share their results in a folder: give out=.")
        labelled, data, settings = _labelled(images, settings, folder)
        device = device_named(settings.device, rank.local)
        if isinstance(model, str):
            classifier = load_classifier(model, settings.weights, device)
            settings = with_options(settings, {"model": model})
        else:
            classifier = _own_classifier(model, preprocessing, reads_files=isinstance(images, (str, Path)))
            device = next((parameter.device for parameter in classifier.model.parameters()), device)
            settings = with_options(settings, {"model": type(getattr(model, "model", model)).__name__})
        check_layers(chosen, explained_model(classifier, settings.output))
        run = _Run(classifier, chosen, measured, settings, device)
        made_with = versions(classifier.model)
        files = files_of(settings) if folder is not None else []
        asked = as_json(settings, data)
        with (
            # What nobody wants to keep lies in a folder that goes with the context.
            tempfile.TemporaryDirectory() if folder is None else nullcontext(folder) as directory,
            _evaluation_mode(classifier.model),
            closing(ResultStore(Path(directory), rank.index)) as store,
        ):
            rank.once(lambda: store.open(asked, made_with, files, force=force, accept_versions=accept_versions))
            run.compute(labelled, store, rank, grows=folder is not None, progress=progress)
            rank.wait()
            store.refresh()
            names = [image.name for image in labelled if not run.leaves_out(image.name, store)]
            if not names:
                raise DatasetError("the model recognises none of the images: correct_only leaves nothing to measure.")
            found = table_of(store, names, settings.methods, settings.metrics)
            if folder is not None and rank.is_first and not store.is_concluded(names):
                summary = summarize(found, measured, settings.seed)
                findings = Findings(settings, data, made_with, chosen, measured, found, summary)
                write_outcome(store, names, findings)
                store.conclude(names)
            rank.wait()
    return found


def _labelled(
    images: Images, settings: EvaluationSettings, out: Path | None
) -> tuple[list[LabelledImage], str, EvaluationSettings]:
    """Return the images, where they are from, and settings that say where their classes are from."""
    if isinstance(images, (str, Path)):
        data = Path(images)
        paths = find_images(data, leave_out=out)
        if settings.labels is None:
            settings = with_options(settings, {"class_from": resolved_class_from(data, paths, settings.class_from)})
        found = labelled_images(data, paths, settings.class_from, settings.labels)
        return found[: settings.limit], str(data.resolve()), settings
    if settings.labels is not None or settings.class_from not in (ClassFrom.AUTO, ClassFrom.PREDICTION):
        raise InvalidArgumentError(
            "labels and class_from are for a folder of images: give pairs of an image and its label instead."
        )
    return given_images(images)[: settings.limit], "given images", settings


def _own_classifier(
    model: nn.Module | Classifier, preprocessing: Preprocessing | None, *, reads_files: bool
) -> Classifier:
    """Return a person's model as a classifier whose scores are a tensor."""
    if isinstance(model, Classifier):
        return Classifier(Logits(model.model), model.preprocessing, model.class_names)
    if not isinstance(model, nn.Module):
        raise InvalidArgumentError(
            f"model is a {type(model).__name__}: give a name, a torch.nn.Module or a captum_ext.classifiers.Classifier."
        )
    if preprocessing is None:
        preprocessing = imagenet_preprocessing() if reads_files else Preprocessing(_unchanged, (0.0,), (1.0,))
    return Classifier(Logits(model), preprocessing)


def _unchanged(image: Image.Image) -> torch.Tensor:
    tensor: torch.Tensor = v2.functional.to_dtype(v2.functional.pil_to_tensor(image), torch.float32, scale=True)
    return tensor


@contextmanager
def _evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Context in which a model is in evaluation mode; each of its modules is then in its own mode again."""
    training = [module for module in model.modules() if is_training(module)]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@dataclass(frozen=True)
class _Run:
    """What computes the results that a store does not have yet.

    Parameters
    ----------
    classifier
        On ``device``.
    methods, metrics
        By name.
    settings
        How.
    device
        Where the model is.
    """

    classifier: Classifier
    methods: Mapping[str, Method]
    metrics: Mapping[str, Metric]
    settings: EvaluationSettings
    device: torch.device

    def compute(
        self, images: Sequence[LabelledImage], store: ResultStore, rank: Rank, *, grows: bool, progress: bool
    ) -> None:
        """Compute what is missing of this process's images; whatever failed before is tried again."""
        store.mend()
        store.refresh()
        own = images[rank.index :: rank.count]
        growing = GrowingTable(store, [image.name for image in images], self.settings) if grows else None
        # None hides the bar where the standard error is no terminal.
        hidden = None if progress and rank.is_first else True
        with tqdm(total=len(own) * len(self.methods), unit="map", disable=hidden, leave=False) as bar:
            for image in own:
                missing = [name for name in self.methods if not store.is_done(image.name, name)]
                seen = self._see(image, store) if missing or not store.is_done(image.name) else None
                if seen is not None:
                    for name in missing:
                        bar.set_postfix_str(f"{image.name}: {name}", refresh=False)
                        self._explain(image, name, *seen, store=store)
                        bar.update()
                        if growing is not None and rank.is_first:
                            growing.update()
                bar.update(len(self.methods) - (len(missing) if seen is not None else 0))

    def _see(self, image: LabelledImage, store: ResultStore) -> tuple[SeenImage, int] | None:
        """Return an image and its class, which are stored; None where it is left out, or fails, with the reason."""
        if self.leaves_out(image.name, store):
            return None
        try:
            given, label = image.load()
            seen = seen_image(self.classifier, given, self.settings.baseline, self.device)
            stored = store.record(image.name)
            if stored is not None and "class_index" in stored:
                return seen, stored["class_index"]
            found = self._classify(seen, label)
        except Exception as error:  # people's own models raise anything, and the other images go on
            store.save({"image": image.name, "error": described(error)}, {})
            return None
        pixels = (seen.image * 255).round().clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy()
        store.save({"image": image.name, **found}, {"image": jpeg(pixels)})
        return None if self.leaves_out(image.name, store) else (seen, found["class_index"])

    def leaves_out(self, image: str, store: ResultStore) -> bool:
        """Whether an image was seen and does not count, because only those that are recognised do."""
        found = store.record(image) if self.settings.correct_only else None
        return found is not None and "error" not in found and found["class_name"] != found["predicted"]

    def _classify(self, seen: SeenImage, label: str | int | None) -> Record:
        with torch.no_grad():
            probabilities = Probabilities(self.classifier.model)(seen.inputs)[0]
        predicted = int(probabilities.argmax())
        index = predicted if label is None else class_of_label(self.classifier, str(label), len(probabilities))
        return {
            "class_index": index,
            "class_name": self.classifier.class_name(index),
            "probability": float(probabilities[index]),
            "predicted": self.classifier.class_name(predicted),
        }

    def _explain(self, image: LabelledImage, name: str, seen: SeenImage, target: int, *, store: ResultStore) -> None:
        """Store what a method and the metrics say, or why they cannot."""
        settings = self.settings
        self.classifier.model.eval()  # whatever mode the method before it, a person's own, has left
        try:
            result = run_method(
                self.methods[name],
                explained_model(self.classifier, settings.output),
                seen.inputs,
                seen.baselines,
                target,
                settings.n_steps,
                settings.internal_batch_size,
                settings.seed,
                settings.steps.value,
            )
            self.classifier.model.eval()
            strength = scaled_map(result.attributions[0]).values  # refuses maps that are not finite
            found = measure(self.metrics, self.classifier, seen, result.attributions, target, settings)
        except Exception as error:  # as in _see
            store.save({"image": image.name, "method": name, "error": described(error)}, {})
            return
        values = {metric: content for metric, (content, _) in found.items()}
        arrays = {
            f"curve:{metric}": curve.astype("<f4").tobytes()
            for metric, (_, curve) in found.items()
            if curve is not None
        }
        arrays["map"] = png((strength * 255).round().astype(np.uint8))
        store.save({"image": image.name, "method": name, "seconds": result.seconds, "metrics": values}, arrays)
