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
from torch import Tensor, nn

from captum_ext._errors import InvalidArgumentError
from captum_ext.evaluation import DatasetError, Metric, StoreError, evaluate, summarize
from captum_ext.evaluation.ranks import Rank
from captum_ext.evaluation.store import LOCK
from captum_ext.methods import METHODS, Method, chosen_methods
from captum_ext.metrics import insertion
from tests.captum_ext.small_models import recognised, smooth_cnn
from tests.captum_ext.tiny_classifier import QUICK, tiny_module


def random_map(model: nn.Module, inputs: Tensor, target: int) -> Tensor:
    return torch.rand(inputs.shape, generator=torch.Generator().manual_seed(target))


def share_of_zeros(model: nn.Module, inputs: Tensor, attributions: Tensor, target: int) -> Tensor:
    return (attributions == 0).double().mean()


def test_values_are_those_of_the_functions_called_by_hand(images: Tensor):
    found = evaluate(tiny_module(), images, ["ig"], ["insertion"], **QUICK, insertion_baseline="black")
    network = tiny_module()
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
    found = evaluate(tiny_module(), images, methods, metrics, **QUICK)
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

    assert set(evaluate(tiny_module(), images[:1], [mine], ["insertion"], **QUICK, seed=7)["status"]) == {"ok"}
    assert asked["n_steps"] == 3
    assert asked["seed"] == 7
    assert torch.equal(asked["baselines"], torch.zeros_like(images[:1]))


def test_what_a_method_or_a_metric_of_ones_own_raises_is_its_own_failure(images: Tensor):
    def broken(model, inputs, target):
        raise KeyError("nothing")

    def silly(model, inputs, attributions, target):
        raise TypeError("no number")

    found = evaluate(tiny_module(), images[:1], [broken, "ig"], [silly, "insertion"], **QUICK)
    status = found.set_index(["method", "metric"])["status"]
    assert dict(status) == {
        ("broken", "silly"): "failed",
        ("broken", "insertion"): "failed",
        ("ig", "silly"): "failed",
        ("ig", "insertion"): "ok",
    }
    assert set(found["reason"].dropna()) == {"KeyError: 'nothing'", "TypeError: no number"}


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
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(64, 3)).eval()
    values = [
        evaluate(given, images, ["ig", "idgi"], ["insertion"], **QUICK)["value"].tolist()
        for given in (network, torch.jit.freeze(torch.jit.script(network)))
    ]
    assert values[1] == pytest.approx(values[0], abs=1e-5)


def test_without_a_folder_nothing_is_written(images: Tensor, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    evaluate(tiny_module(), images, ["ig"], ["insertion"], **QUICK)
    assert list(tmp_path.iterdir()) == []


def test_folder_holds_the_table_that_is_returned_and_a_second_call_computes_nothing(images: Tensor, tmp_path: Path):
    first = evaluate(tiny_module(), images, ["ig", random_map], ["insertion"], tmp_path, **QUICK)
    written = pd.read_csv(tmp_path / "results.csv", dtype={"image": str})
    assert np.allclose(written["value"], first["value"])
    assert list(written["method"]) == list(first["method"])
    summary = pd.read_csv(tmp_path / "summary.csv")
    assert np.allclose(summary["mean"], summarize(first)["mean"])
    # Not of the lock, which filelock 3.12 opens as if to write in it.
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != LOCK]
    stamps = {path: path.stat().st_mtime_ns for path in files}

    def never(model, inputs, target):
        raise AssertionError("was computed again")

    never.__name__ = "random_map"
    again = evaluate(tiny_module(), images, ["ig", never], ["insertion"], tmp_path, **QUICK)
    pd.testing.assert_frame_equal(again, first)
    found = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != LOCK]
    assert {path: path.stat().st_mtime_ns for path in found} == stamps


def test_a_method_that_comes_later_explains_the_class_that_the_first_one_did(images: Tensor, tmp_path: Path):
    class ChangesItsMind(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network, self.is_turned = tiny_module(), False

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
    arguments = (tiny_module(), images, ["ig"], ["insertion"], tmp_path)
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
        ({"methods": "ig"}, r"give a sequence, such as \['ig'\]"),
        ({"metrics": "sic"}, r"give a sequence, such as \['sic'\]"),
        ({"metrics": {"../mine": share_of_zeros}}, "give a name without slashes"),
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
    arguments = {"model": tiny_module(), "images": images, "methods": ["ig"], "metrics": ["insertion"], **QUICK}
    with pytest.raises((InvalidArgumentError, DatasetError), match=message):
        evaluate(**{**arguments, **changes}, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_several_processes_need_a_folder_in_which_to_share_results(images: Tensor, monkeypatch):
    monkeypatch.setattr("captum_ext.evaluation.run.ranks", lambda: nullcontext(Rank(0, 2)))
    with pytest.raises(InvalidArgumentError, match="2 processes share their results in a folder: give out="):
        evaluate(tiny_module(), images, ["ig"], ["insertion"], **QUICK)


def test_only_images_that_are_recognised_count():
    network = smooth_cnn(torch.float32)
    images = recognised(network, torch.rand(3, 3, 8, 8))
    wrong = (images[0][0], (images[0][1] + 1) % 5)
    found = evaluate(network, [wrong, *images[1:]], ["random"], ["insertion"], protocol="idgi-paper", n_steps=2)
    assert found["image"].nunique() == 2
    assert set(found["status"]) == {"ok"}
    with pytest.raises(ValueError, match="recognises none of the images"):
        evaluate(network, [wrong], ["random"], ["insertion"], correct_only=True)


def test_random_maps_do_not_depend_on_the_model_and_repeat():
    network = smooth_cnn(torch.float32)
    other = smooth_cnn(torch.float32)
    images = torch.rand(1, 3, 8, 8)
    first, again = (evaluate(m, images, ["random"], ["perturbation"], seed=3)["value"] for m in (network, network))
    assert first.tolist() == again.tolist()
    assert evaluate(other, images, ["random"], ["perturbation"], seed=3)["status"].tolist() == ["ok"]


def test_a_model_in_training_mode_is_asked_in_evaluation_mode_and_left_as_it_was():
    torch.manual_seed(1)
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.5), nn.Flatten(), nn.Linear(3 * 8 * 8, 5)).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    quiet = [(image, int(network.eval()(image[None]).argmax())) for image in torch.rand(4, 3, 8, 8)]
    found = evaluate(network.train(), quiet, ["random"], ["insertion"], correct_only=True)
    assert found["image"].nunique() == 4  # with dropout some would not be recognised
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def greedy(model: nn.Module, inputs: Tensor, target: int, baselines: Tensor) -> Tensor:
    """A method that leaves nothing of what it is given as it was."""
    model.train()
    maps = inputs.clone()
    inputs.zero_().requires_grad_()
    baselines.fill_(torch.nan)
    return maps


def greedy_metric(model: nn.Module, inputs: Tensor, attributions: Tensor, target: int) -> float:
    model.train()
    inputs.zero_()
    attributions.fill_(torch.nan)
    return 1.0


def test_methods_and_metrics_of_ones_own_do_not_change_what_others_find(images: Tensor):
    model = nn.Sequential(nn.BatchNorm2d(3), tiny_module())
    expected = evaluate(model, images, ["ig"], ["insertion", "deletion"], **QUICK)["value"]
    metrics: Any = {"greedy": greedy_metric, "insertion": "insertion", "deletion": "deletion"}
    found = evaluate(model, images, [greedy, "ig"], metrics, **QUICK)
    assert set(found["status"]) == {"ok"}
    found = found[(found["method"] == "ig") & (found["metric"] != "greedy")]
    assert list(found["value"]) == list(expected)


@pytest.mark.parametrize("returned", [None, np.zeros((1, 3, 8, 8))], ids=["None", "array"])
def test_a_method_that_returns_no_tensor_is_told_so(images: Tensor, returned: Any):
    found = evaluate(
        tiny_module(), images[:1], {"mine": lambda model, inputs, target: returned}, ["insertion"], **QUICK
    )
    assert "the method 'mine' returned a" in found["reason"].iloc[0]


def test_methods_of_one_title_are_told_apart(images: Tensor, tmp_path: Path):
    methods: Any = {"few": "ig", "many": Method("IG", IntegratedGradients, arguments={"n_steps": 9}), "other": "idgi"}
    assert [method.title for method in chosen_methods(methods).values()] == ["IG (few)", "IG (many)", "IDGI"]
    few = METHODS["ig"]
    # The figure of the means has a panel for each metric, too.
    metrics: Any = {"zeros": Metric("Share", function=share_of_zeros), "same": Metric("Share", function=share_of_zeros)}
    evaluate(tiny_module(), images, {"few": few, "many": few}, metrics, tmp_path / "out", **QUICK)
    report = (tmp_path / "out" / "report.html").read_text()
    assert "IG (few)" in report
    assert "IG (many)" in report
