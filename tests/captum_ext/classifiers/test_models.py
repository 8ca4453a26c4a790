"""Promises of models by name: torchvision's own preprocessing and names, other people's models, weights from files."""

from __future__ import annotations

import sys
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torchvision
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from captum_ext.classifiers import (
    Classifier,
    Logits,
    ModelError,
    Preprocessing,
    WeightsFileError,
    imagenet_preprocessing,
    load_classifier,
    load_weights,
)


@pytest.fixture(scope="module")
def squeezenet_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = torchvision.models.squeezenet1_1(weights=None).state_dict()
    path = tmp_path_factory.mktemp("weights") / "own.safetensors"
    save_file(state, path)
    return path


@pytest.fixture
def gradient_picture() -> Image.Image:
    return Image.linear_gradient("L").resize((400, 300)).convert("RGB")


def test_torchvision_model_has_its_own_preprocessing_and_class_names(squeezenet_file, gradient_picture):
    classifier = load_classifier("squeezenet1_1", squeezenet_file)
    expected = torchvision.models.SqueezeNet1_1_Weights.DEFAULT.transforms()(gradient_picture)
    image = classifier.preprocessing.to_tensor(gradient_picture)
    assert 0 <= image.min() < image.max() <= 1
    torch.testing.assert_close(classifier.preprocessing.normalize(image[None])[0], expected)
    assert classifier.class_name(27) == "eft"
    assert not classifier.model.training
    assert not any(parameter.requires_grad for parameter in classifier.model.parameters())


def test_torchvision_model_gives_what_the_file_holds(squeezenet_file):
    reference = torchvision.models.squeezenet1_1(weights=None)
    load_weights(reference, squeezenet_file)
    inputs = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        load_classifier("squeezenet1_1", squeezenet_file).model(inputs), reference.eval()(inputs)
    )


def test_file_under_torchvisions_own_name_selects_its_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    # resnet50's two versions differ: the first is resized to 256 pixels, the second to 232.
    versions = torchvision.models.ResNet50_Weights
    monkeypatch.setattr("captum_ext.classifiers.models.load_weights", lambda model, path: None)
    picture = Image.linear_gradient("L").resize((300, 300)).convert("RGB")
    for version in versions:
        found = load_classifier("resnet50", tmp_path / Path(version.url).name).preprocessing
        torch.testing.assert_close(found.normalize(found.to_tensor(picture)[None])[0], version.transforms()(picture))


def test_inception_is_built_as_for_its_pretrained_weights(monkeypatch: pytest.MonkeyPatch):
    # torchvision sets transform_input only when it loads the weights itself; without it the scores are others.
    monkeypatch.setattr("captum_ext.classifiers.models.load_weights", lambda model, path: None)
    network: Any = load_classifier("inception_v3", Path("own.pth")).model.model
    assert network.transform_input


def test_without_a_network_the_error_says_where_the_file_is_and_how_to_give_it(monkeypatch: pytest.MonkeyPatch):
    def unreachable(*args: object, **kwargs: object) -> None:
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", unreachable)
    with pytest.raises(ModelError, match=r"https://download\.pytorch\.org/models/resnet18-.*--weights FILE\.pth"):
        load_classifier("resnet18")


def test_unknown_names_list_known_ones():
    with pytest.raises(ModelError, match=r"'resnet51' is not known: .*resnet50.*package\.module:function"):
        load_classifier("resnet51")
    with pytest.raises(ModelError, match="timm has no model 'resnet51'; similar are resnet"):
        load_classifier("timm:resnet51")
    with pytest.raises(ModelError, match="cannot be imported: No module named 'no_such_module'"):
        load_classifier("no_such_module:model")


def test_timm_model_has_its_own_preprocessing_and_names(tmp_path: Path, gradient_picture):
    import timm
    from timm.data.config import resolve_model_data_config
    from timm.data.transforms_factory import create_transform

    reference = timm.create_model("test_resnet.r160_in1k", pretrained=False).eval()
    torch.save(reference.state_dict(), tmp_path / "own.pth")
    classifier = load_classifier("timm:test_resnet.r160_in1k", tmp_path / "own.pth")
    transform = create_transform(**resolve_model_data_config(reference))
    inputs = classifier.preprocessing.normalize(classifier.preprocessing.to_tensor(gradient_picture)[None])
    torch.testing.assert_close(inputs[0], transform(gradient_picture), rtol=0, atol=1e-5)
    torch.testing.assert_close(classifier.model(inputs), reference(inputs))
    assert "eft" in classifier.class_name(27)


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "my_models.py").write_text(
        "from torch import nn\n"
        "from captum_ext.classifiers.models import Classifier, Preprocessing\n"
        "def bare(): return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())\n"
        "def full(): return Classifier(bare(), Preprocessing(None, (0.5,), (0.25,)), ['cat', 'dog', 'Dog'])\n"
        "def wrong(): return 3\n"
        "def needy(path): return bare()\n"
        "def broken(): raise KeyError('depth')\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    yield "my_models"
    sys.modules.pop("my_models", None)


def test_own_function_may_return_a_module_or_a_classifier(own_module: str):
    bare = load_classifier(f"{own_module}:bare")
    assert bare.preprocessing.mean == imagenet_preprocessing().mean
    assert bare.class_name(1) == "class 1"
    assert load_classifier(f"{own_module}:full").class_name(1) == "dog"
    with pytest.raises(ModelError, match="gave a int: it must return"):
        load_classifier(f"{own_module}:wrong")


def test_own_function_that_raises_is_named_with_type_and_message(own_module: str, tmp_path: Path):
    with pytest.raises(ModelError, match=r"my_models:broken cannot be made: KeyError: 'depth'"):
        load_classifier(f"{own_module}:broken")
    with pytest.raises(ModelError, match=r"my_models:needy cannot be made: TypeError: .*'path'"):
        load_classifier(f"{own_module}:needy")
    (tmp_path / "half_models.py").write_text("def whole(: pass\n")
    with pytest.raises(ModelError, match=r"half_models:whole cannot be imported: SyntaxError: "):
        load_classifier("half_models:whole")


@pytest.mark.parametrize("wrap", [lambda x: SimpleNamespace(logits=x), lambda x: {"logits": x}, lambda x: x])
def test_logits_are_found_in_the_models_output(wrap):
    class Wrapped(nn.Module):
        def forward(self, x):
            return wrap(x.mean((2, 3)))

    assert Logits(Wrapped())(torch.ones(2, 5, 3, 3)).tolist() == [[1.0] * 5] * 2


@pytest.mark.parametrize("output", [(torch.ones(1, 2),), torch.ones(1, 2, 2), {"scores": 1}])
def test_output_without_scores_is_refused(output):
    class Strange(nn.Module):
        def forward(self, x):
            return output

    with pytest.raises(ModelError, match=r"must return scores of shape \(N, classes\)"):
        Logits(Strange())(torch.ones(1, 3, 2, 2))


def test_targets_are_indices_or_names():
    names = ["cat", "Great white shark", "crane", "crane"]
    classifier = Classifier(nn.Identity(), Preprocessing(None), names)
    assert classifier.class_index("3", 4) == 3
    assert classifier.class_index("-1", 4) == 3
    assert classifier.class_index("great white SHARK", 4) == 1
    with pytest.raises(ModelError, match=r"classes \[2, 3\]: give one of these numbers"):
        classifier.class_index("crane", 4)
    with pytest.raises(ModelError, match="similar are Great white shark"):
        classifier.class_index("shark", 4)
    with pytest.raises(ModelError, match="out of range: the model has the classes 0 to 3"):
        classifier.class_index("4", 4)
    for strange in ("²", "--5", "-", "٣"):
        with pytest.raises(ModelError, match="is not the name of a class"):
            classifier.class_index(strange, 4)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {f"module.{name}": value for name, value in state.items()},
    ],
)
def test_checkpoints_of_several_layouts_are_loaded(tmp_path: Path, wrap):
    saved, model = nn.Linear(2, 3), nn.Linear(2, 3)
    torch.save(wrap(saved.state_dict()), tmp_path / "own.pth")
    load_weights(model, tmp_path / "own.pth")
    assert torch.equal(model.weight, saved.weight)


class RunsCode:
    def __reduce__(self):
        return (Path.touch, (Path("was-run"),))


def test_pickled_code_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": RunsCode()}, tmp_path / "own.pth")
    with pytest.raises(WeightsFileError, match="can run code"):
        load_weights(nn.Linear(1, 1), tmp_path / "own.pth")
    assert not (tmp_path / "was-run").exists()


def test_files_that_do_not_fit_are_refused_with_the_names(tmp_path: Path):
    save_file({"weight": torch.zeros(2, 2), "other": torch.zeros(1)}, tmp_path / "own.safetensors")
    with pytest.raises(
        WeightsFileError, match=r"it lacks bias; it has besides other; weight is \(2, 2\) where .*\(3, 2\)"
    ):
        load_weights(nn.Linear(2, 3), tmp_path / "own.safetensors")
    (tmp_path / "empty.safetensors").write_bytes(b"")
    with pytest.raises(WeightsFileError, match="cannot be read as weights"):
        load_weights(nn.Linear(2, 3), tmp_path / "empty.safetensors")
    with pytest.raises(WeightsFileError, match="there is no such file"):
        load_weights(nn.Linear(2, 3), tmp_path / "none.pth")
    (tmp_path / "weights.npz").write_bytes(b"")
    with pytest.raises(WeightsFileError, match=r"ends in \.safetensors"):
        load_weights(nn.Linear(2, 3), tmp_path / "weights.npz")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(WeightsFileError, match="holds no state dict"):
        load_weights(nn.Linear(2, 3), tmp_path / "list.pth")


X = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def test_a_model_for_other_images_says_which_it_was_given():
    model = Logits(nn.Sequential(nn.Flatten(), nn.Linear(10, 2)))
    with pytest.raises(ModelError, match=r"does not take inputs of shape \(4, 3, 8, 8\): mat1.*preprocessing"):
        model(X)
