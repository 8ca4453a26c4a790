"""Compute what is missing of an evaluation, picture by picture and method by method."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from captum_ext._errors import described
from captum_ext.classifiers import Classifier, Probabilities, SeenImage, explained_model, read_image, seen_image
from captum_ext.evaluation.dataset import DatasetError, LabelledPicture, class_of_label
from captum_ext.evaluation.measures import Meter
from captum_ext.evaluation.settings import EvaluationSettings
from captum_ext.evaluation.store import MethodPart, PicturePart, ResultStore, SeenClass
from captum_ext.methods import method_named, run_method
from captum_ext.plot import scaled_map


@dataclass(frozen=True)
class Runner:
    """Computes the parts of an evaluation that the store does not have yet.

    Parameters
    ----------
    classifier
        On ``device``.
    settings
        What to compute.
    store
        Where results are, and go.
    device
        Where the model is.
    internal_batch_size
        The most rows that go through the model at once.
    """

    classifier: Classifier
    settings: EvaluationSettings
    store: ResultStore
    device: torch.device
    internal_batch_size: int | None = None

    def run(
        self,
        pictures: Sequence[LabelledPicture],
        on_method: Callable[[LabelledPicture, str], None] = lambda picture, method: None,
    ) -> None:
        """Compute what is missing. Whatever failed before is tried again.

        Parameters
        ----------
        pictures
            Which ones.
        on_method
            Called when the result of a method on a picture is stored.
        """
        for picture in pictures:
            missing = [method for method in self.settings.methods if not self._is_stored(picture, method)]
            seen = self._see(picture) if missing or not self._is_seen(picture) else None
            for method in self.settings.methods:
                if seen is not None and method in missing:
                    self.store.save_method(picture.name, method, self._part(method, *seen))
                on_method(picture, method)

    def _is_seen(self, picture: LabelledPicture) -> bool:
        part = self.store.load_picture(picture.name)
        return part is not None and part.error is None

    def _is_stored(self, picture: LabelledPicture, method: str) -> bool:
        part = self.store.load_method(picture.name, method)
        return part is not None and not part.has_failed

    def _see(self, picture: LabelledPicture) -> tuple[SeenImage, int] | None:
        """Return a picture and its class, which is stored; None where it fails, with the reason stored."""
        try:
            if picture.problem is not None:
                raise DatasetError(picture.problem)
            seen = seen_image(self.classifier, read_image(picture.path), self.settings.baseline, self.device)
            stored = self.store.load_picture(picture.name)
            if stored is not None and stored.seen_class is not None:
                return seen, stored.seen_class.index
            found = self._classify(seen, picture.label)
        except Exception as error:  # people's own models raise anything, and the other pictures go on
            self.store.save_picture(picture.name, PicturePart(None, None, described(error)))
            return None
        thumbnail = (seen.image * 255).round().clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy()
        self.store.save_picture(picture.name, PicturePart(found, thumbnail))
        return seen, found.index

    def _classify(self, seen: SeenImage, label: str | None) -> SeenClass:
        with torch.no_grad():
            probabilities = Probabilities(self.classifier.model)(seen.inputs)[0]
        predicted = int(probabilities.argmax())
        index = predicted if label is None else class_of_label(self.classifier, label, len(probabilities))
        names = self.classifier.class_name(index), self.classifier.class_name(predicted)
        return SeenClass(index, names[0], float(probabilities[index]), names[1])

    def _part(self, method: str, seen: SeenImage, target: int) -> MethodPart:
        settings = self.settings
        try:
            result = run_method(
                method_named(method),
                explained_model(self.classifier, settings.output),
                seen.inputs,
                seen.baselines,
                target,
                settings.n_steps,
                self.internal_batch_size,
                settings.seed,
            )
            found = scaled_map(result.attributions[0])  # refuses maps that are not finite
            values = Meter(self.classifier, settings, self.internal_batch_size).measure(
                seen, result.attributions, target
            )
        except Exception as error:  # as in _see
            return MethodPart({}, 0.0, None, error=described(error))
        return MethodPart(values, result.seconds, (found.values * 255).round().astype(np.uint8), found.limit)
