"""Images in memory, in files and in data sets: read once, one by one, with their labels."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from captum_ext.classifiers import Classifier, Preprocessing
from captum_ext.evaluation import evaluate
from tests.captum_ext.small_models import recognised, smooth_cnn
from tests.captum_ext.tiny_classifier import MEAN, QUICK, STD, tiny, tiny_module, to_tensor


@pytest.mark.parametrize("label", [2, "2", torch.tensor(2), "sea bird", "sea_bird"])
def test_labels_in_pairs_are_indices_or_names(images: Tensor, label):
    classifier = Classifier(tiny_module(), Preprocessing(to_tensor), tiny().class_names)
    found = evaluate(classifier, [(images[0], label)], ["gradcam:0"], ["insertion"], **QUICK)
    assert found["class_index"].tolist() == [2]
    assert found["class_name"].tolist() == ["sea bird"]


@pytest.mark.parametrize(
    ("change", "label", "reason"),
    [
        (lambda image: (255 * image).byte(), 0, "give floating point values in [0, 1], such as image / 255"),
        (lambda image: 255 * image, 0, "give values in [0, 1]"),
        (lambda image: image - 1, 0, "has values from -"),
        (lambda image: image * torch.nan, 0, "has values from nan to nan"),
        (lambda image: image[None], 0, "give (C, H, W)"),
        (lambda image: image, torch.tensor(1.5), "target '1.5' is not the name of a class"),
        (lambda image: image, torch.tensor([0, 1, 0]), "has a label of shape (3,)"),
    ],
)
def test_tensors_that_are_no_image_or_no_label_fail_with_the_reason(images: Tensor, change, label, reason):
    found = evaluate(tiny_module(), [(change(images[0]), label), images[1]], ["ig"], ["insertion"], **QUICK)
    assert list(found["status"]) == ["failed", "ok"]
    assert reason in found["reason"][0]


def test_files_images_and_tensors_of_the_same_pixels_have_the_same_values(images: Tensor, tmp_path: Path):
    pixels = (images[0] * 255).byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(tmp_path / "a.png")
    tensor = torch.from_numpy(pixels).permute(2, 0, 1) / 255
    classifier = Classifier(tiny_module(), Preprocessing(to_tensor, MEAN, STD))
    given = [tmp_path / "a.png", Image.fromarray(pixels), tensor]
    values = [evaluate(classifier, [image], ["ig"], ["insertion"], **QUICK)["value"][0] for image in given]
    values.append(evaluate(classifier, tmp_path, ["ig"], ["insertion"], **QUICK)["value"][0])
    assert values == pytest.approx([values[0]] * 4, abs=1e-6)


def test_data_set_is_read_one_by_one_and_what_it_raises_is_the_failure_of_one_image(images: Tensor):
    class Broken(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 3

        def __getitem__(self, index: int) -> tuple[Tensor, int]:
            if index == 1:
                raise OSError("the disk is full")
            return images[index], index

    found = evaluate(tiny_module(), Broken(), ["ig"], ["insertion"], **QUICK)
    assert list(found["status"]) == ["ok", "failed", "ok"]
    assert found["reason"][1] == "the disk is full"
    assert found["class_index"].tolist()[::2] == [0, 2]


class CountedImages(torch.utils.data.Dataset):
    """Images with labels, and how often each was read."""

    def __init__(self, pairs):
        self.pairs, self.read = pairs, [0] * len(pairs)

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, index):
        self.read[index] += 1
        return self.pairs[index]


def test_each_image_is_read_once_and_not_again_when_it_is_known(tmp_path):
    network = smooth_cnn(torch.float32)
    images = recognised(network, torch.rand(3, 3, 8, 8))
    counted = CountedImages([(images[0][0], (images[0][1] + 1) % 5), *images[1:]])
    options = {"methods": ["random"], "metrics": ["insertion"], "correct_only": True, "out": tmp_path}
    first = evaluate(network, counted, **options)
    assert counted.read == [1, 1, 1]
    again = evaluate(network, counted, **options)
    assert counted.read == [1, 1, 1]
    assert first.equals(again)
    assert first["image"].nunique() == 2
