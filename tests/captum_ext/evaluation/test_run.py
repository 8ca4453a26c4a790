"""Evaluation from Python: objects of one's own, images in memory, and a model that comes back as it was."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from captum.attr import DeepLift, IntegratedGradients
from PIL import Image
from torch import Tensor, nn

from captum_ext._errors import InvalidArgumentError
from captum_ext.classifiers import Classifier, Preprocessing
from captum_ext.evaluation import DatasetError, Metric, StoreError, evaluate, summarize
from captum_ext.evaluation.ranks import Rank
from captum_ext.methods import METHODS, Method
from captum_ext.metrics import insertion
from tests.captum_ext.tiny_classifier import MEAN, SIDE, STD, tiny, to_tensor

QUICK: dict[str, Any] = {"n_steps": 3, "curve_steps": 4, "device": "cpu"}


@pytest.fixture
def images() -> Tensor:
    return torch.rand(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def model() -> nn.Module:
    return tiny().model.requires_grad_(True)


def random_map(model: nn.Module, inputs: Tensor, target: int) -> Tensor:
    return torch.rand(inputs.shape, generator=torch.Generator().manual_seed(target))


def share_of_zeros(model: nn.Module, inputs: Tensor, attributions: Tensor, target: int) -> Tensor:
    return (attributions == 0).double().mean()


def test_values_are_those_of_the_functions_called_by_hand(images: Tensor):
    found = evaluate(model(), images, ["ig"], ["insertion"], **QUICK, insertion_baseline="black")
    network = model()
    for index, image in enumerate(images):
        inputs = image[None]
        target = int(network(inputs).argmax())
        maps = IntegratedGradients(network).attribute(inputs, 0, target, n_steps=3)
        score = insertion(lambda x: network(x).softmax(1), inputs, maps, baselines=0, target=target, n_steps=4)
        assert found["value"][index] == pytest.approx(score.normalized_areas.item(), abs=1e-4)
        assert found["image"][index] == str(index)
        assert found["class_index"][index] == target


def test_methods_and_metrics_of_ones_own_stand_beside_the_known_ones(images: Tensor):
    methods = {
        "ig": "ig",
        "random": random_map,
        "deep lift": DeepLift,
        "steps": Method("One step", METHODS["ig"].build),
    }
    zeros = Metric("Zeros", higher_is_better=False, function=share_of_zeros)
    metrics: Any = {"insertion": "insertion", "zeros": zeros}
    found = evaluate(model(), images, methods, metrics, **QUICK)
    assert list(found["method"].unique()) == list(methods)
    assert set(found["status"]) == {"ok"}
    of_random = found[(found["method"] == "random") & (found["metric"] == "zeros")]
    assert list(of_random["value"]) == [0.0] * 3  # random numbers are not zero
    table = summarize(found, {"insertion": Metric("Insertion"), "zeros": zeros})
    assert list(table["n_images"]) == [3] * 8
    with pytest.raises(InvalidArgumentError, match="metric 'zeros' is not known"):
        summarize(found)


def test_method_of_ones_own_is_given_what_it_asks_for(images: Tensor):
    asked: dict[str, Any] = {}

    def mine(model, inputs, target, baselines, n_steps, seed):
        asked.update(baselines=baselines, n_steps=n_steps, seed=seed)
        return inputs

    assert set(evaluate(model(), images[:1], [mine], ["insertion"], **QUICK, seed=7)["status"]) == {"ok"}
    assert asked["n_steps"] == 3
    assert asked["seed"] == 7
    assert torch.equal(asked["baselines"], torch.zeros_like(images[:1]))


def test_what_a_method_or_a_metric_of_ones_own_raises_is_its_own_failure(images: Tensor):
    def broken(model, inputs, target):
        raise KeyError("nothing")

    def silly(model, inputs, attributions, target):
        raise TypeError("no number")

    found = evaluate(model(), images[:1], [broken, "ig"], [silly, "insertion"], **QUICK)
    status = found.set_index(["method", "metric"])["status"]
    assert dict(status) == {
        ("broken", "silly"): "failed",
        ("broken", "insertion"): "failed",
        ("ig", "silly"): "failed",
        ("ig", "insertion"): "ok",
    }
    assert set(found["reason"].dropna()) == {"KeyError: 'nothing'", "TypeError: no number"}


@pytest.mark.parametrize("label", [2, "2", torch.tensor(2), "sea bird", "sea_bird"])
def test_labels_in_pairs_are_indices_or_names(images: Tensor, label):
    classifier = Classifier(model(), Preprocessing(to_tensor), tiny().class_names)
    found = evaluate(classifier, [(images[0], label)], ["gradcam:0"], ["insertion"], **QUICK)
    assert found["class_index"].tolist() == [2]
    assert found["class_name"].tolist() == ["sea bird"]


def test_files_images_and_tensors_of_the_same_pixels_have_the_same_values(images: Tensor, tmp_path: Path):
    pixels = (images[0] * 255).byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(tmp_path / "a.png")
    tensor = torch.from_numpy(pixels).permute(2, 0, 1) / 255
    classifier = Classifier(model(), Preprocessing(to_tensor, MEAN, STD))
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

    found = evaluate(model(), Broken(), ["ig"], ["insertion"], **QUICK)
    assert list(found["status"]) == ["ok", "failed", "ok"]
    assert found["reason"][1] == "the disk is full"
    assert found["class_index"].tolist()[::2] == [0, 2]


def test_module_comes_back_in_its_own_mode_with_its_own_parameters(images: Tensor):
    network = nn.Sequential(nn.Dropout(), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(400, 3))
    network[1].eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    gradients = [parameter.requires_grad for parameter in network.parameters()]
    state = torch.get_rng_state()
    assert set(evaluate(network, images, ["ig", "fullgrad"], ["insertion"], **QUICK)["status"]) == {"ok"}
    assert [module.training for module in network.modules()] == modes
    assert [parameter.requires_grad for parameter in network.parameters()] == gradients
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_frozen_script_has_the_values_of_its_module(images: Tensor):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * (SIDE - 2) ** 2, 3)).eval()
    values = [
        evaluate(given, images, ["ig", "idgi"], ["insertion"], **QUICK)["value"].tolist()
        for given in (network, torch.jit.freeze(torch.jit.script(network)))
    ]
    assert values[1] == pytest.approx(values[0], abs=1e-5)


def test_without_a_folder_nothing_is_written(images: Tensor, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    evaluate(model(), images, ["ig"], ["insertion"], **QUICK)
    assert list(tmp_path.iterdir()) == []


def test_folder_holds_the_table_that_is_returned_and_a_second_call_computes_nothing(images: Tensor, tmp_path: Path):
    first = evaluate(model(), images, ["ig", random_map], ["insertion"], tmp_path, **QUICK)
    written = pd.read_csv(tmp_path / "results.csv", dtype={"image": str})
    assert np.allclose(written["value"], first["value"])
    assert list(written["method"]) == list(first["method"])
    summary = pd.read_csv(tmp_path / "summary.csv")
    assert np.allclose(summary["mean"], summarize(first)["mean"])
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}

    def never(model, inputs, target):
        raise AssertionError("was computed again")

    never.__name__ = "random_map"
    again = evaluate(model(), images, ["ig", never], ["insertion"], tmp_path, **QUICK)
    pd.testing.assert_frame_equal(again, first)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == stamps


def test_a_method_that_comes_later_explains_the_class_that_the_first_one_did(images: Tensor, tmp_path: Path):
    class ChangesItsMind(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network, self.is_turned = model(), False

        def forward(self, x: Tensor) -> Tensor:
            scores = self.network(x)
            return scores.flip(1) if self.is_turned else scores

    asked: dict[str, list[int]] = {"first": [], "later": []}

    def remembering(name: str):
        def explain(model: nn.Module, inputs: Tensor, target: int) -> Tensor:
            asked[name].append(target)
            return random_map(model, inputs, target)

        return explain

    network = ChangesItsMind()
    evaluate(network, images, {"first": remembering("first")}, ["insertion"], tmp_path / "run", **QUICK)
    network.is_turned = True
    assert network(images).argmax(1).tolist() != asked["first"]
    both = {name: remembering(name) for name in asked}
    found = evaluate(network, images, both, ["insertion"], tmp_path / "run", **QUICK)
    assert asked["later"] == asked["first"]
    assert found["class_index"].tolist() == [target for target in asked["first"] for _ in both]


def test_versions_are_kept_with_the_settings_and_another_torch_is_refused(images: Tensor, tmp_path: Path):
    arguments = (model(), images, ["ig"], ["insertion"], tmp_path)
    evaluate(*arguments, **QUICK)
    file = tmp_path / "settings.json"
    stored = json.loads(file.read_text())
    assert stored["versions"]["torch"] == torch.__version__ or torch.__version__.startswith(stored["versions"]["torch"])
    assert set(stored["versions"]) == {"captum-ext", "captum", "torch", "weights_sha256"}
    stored["versions"]["torch"] = "1.0"
    file.write_text(json.dumps(stored))
    with pytest.raises(StoreError, match=r"results of other versions \(torch was 1.0 and is .*--accept-versions"):
        evaluate(*arguments, **QUICK)
    evaluate(*arguments, **QUICK, accept_versions=True)
    assert json.loads(file.read_text())["earlier_versions"][0]["torch"] == "1.0"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": []}, "no method was given"),
        ({"methods": ["idgy"]}, "method 'idgy' is unknown"),
        ({"methods": [lambda m, x, t: x]}, "in a mapping where it has no name"),
        ({"methods": [3]}, "method 3 was given"),
        ({"metrics": ["beauty"]}, "metric 'beauty' is unknown"),
        ({"metrics": [lambda m, x, a, t: 0]}, "in a mapping where it has no name"),
        ({"images": []}, "no image was given"),
        ({"images": ["a.png", "a.png"]}, "a.png was given 2 times"),
        ({"model": 7}, "model is a int"),
        ({"stride": 3}, "option 'stride' is unknown"),
        ({"steps": "even"}, "steps='even' was given: known are equal, adaptive"),
        ({"baseline": "pink"}, "baseline='pink' was given: known are black"),
        ({"class_from": "folder"}, "are for a folder of images"),
        ({"device": "abacus"}, "device 'abacus' cannot be used"),
    ],
)
def test_what_cannot_be_used_is_refused_before_anything_is_written(images: Tensor, tmp_path: Path, changes, message):
    arguments = {"model": model(), "images": images, "methods": ["ig"], "metrics": ["insertion"], **QUICK}
    with pytest.raises((InvalidArgumentError, DatasetError), match=message):
        evaluate(**{**arguments, **changes}, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_several_processes_need_a_folder_in_which_to_share_results(images: Tensor, monkeypatch):
    monkeypatch.setattr("captum_ext.evaluation.run.ranks", lambda: nullcontext(Rank(0, 2)))
    with pytest.raises(InvalidArgumentError, match="2 processes share their results in a folder: give out="):
        evaluate(model(), images, ["ig"], ["insertion"], **QUICK)
