"""The protocol of the IDGI paper: what it fixes, what it refuses, and that its numbers are insertion's own."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from captum_ext import IDGI
from captum_ext.evaluation import evaluate
from captum_ext.metrics import information_curves, insertion, perturbation
from captum_ext.metrics.information_curves import EVEN_THRESHOLDS
from tests.captum_ext.small_models import smooth_cnn

METHODS = ["ig", "idgi", "random"]


@pytest.fixture
def model() -> nn.Module:
    return smooth_cnn(torch.float32)


def recognised(model, images):
    return [(image, int(model(image[None]).argmax())) for image in images]


def test_measures_signed_insertion_from_black_of_the_probability(model):
    image, label = recognised(model, torch.rand(1, 3, 8, 8))[0]
    found = evaluate(
        model,
        [(image, label)],
        METHODS,
        ["insertion", "insertion-raw", "perturbation"],
        protocol="idgi-paper",
        n_steps=6,
    )

    def probability(x):
        return model(x).softmax(1)

    attributions = IDGI(probability).attribute(image[None], 0.0, label, n_steps=6)
    options = {"baselines": 0.0, "target": label, "n_steps": 20}
    expected = insertion(probability, image[None], attributions, channel_reduction="sum", **options)
    # A module's images are taken as they are, so the mean colour of its preprocessing is 0.
    unimportant = perturbation(probability, image[None], attributions, **options)
    values = found[found["method"] == "idgi"].set_index("metric")["value"]
    assert values["insertion"] == pytest.approx(expected.normalized_areas.item(), abs=1e-5)
    assert values["insertion-raw"] == pytest.approx(expected.areas.item(), abs=1e-5)
    assert values["perturbation"] == pytest.approx(unimportant.areas.item(), abs=1e-5)


def test_information_curves_reveal_a_blurred_image_by_signed_sums():
    model = nn.Sequential(nn.AvgPool2d(16), nn.Flatten(), nn.Linear(3 * 11 * 11, 4)).eval()
    with torch.no_grad():
        model[2].weight.mul_(60)
    images = torch.rand(40, 3, 176, 176)
    sure = [(x, int(p.argmax())) for x, p in zip(images, model(images).softmax(1), strict=True) if p.max() > 0.8]
    image, label = sure[0]
    metrics = ["aic", "sic", "aic-ms-ssim", "sic-ms-ssim"]
    found = evaluate(model, [(image, label)], ["idgi"], metrics, protocol="idgi-paper", n_steps=4)
    assert set(found["status"]) <= {"ok", "refused"}
    attributions = IDGI(lambda x: model(x).softmax(1)).attribute(image[None], 0.0, label, n_steps=4)
    values = found.set_index("metric")["value"]
    for suffix, information in (("", "png"), ("-ms-ssim", "ms-ssim")):
        curves = information_curves(
            model,
            image[None],
            attributions,
            label,
            information,
            EVEN_THRESHOLDS,
            hidden="blurred",
            channel_reduction="sum",
        )
        assert values["sic" + suffix] == pytest.approx(curves.areas("softmax").item(), abs=1e-6)
        assert values["aic" + suffix] == pytest.approx(curves.areas("accuracy").item(), abs=1e-6, nan_ok=True)


def test_small_images_lose_similarity_alone(model):
    metrics = ["aic", "sic", "aic-ms-ssim", "sic-ms-ssim"]
    found = evaluate(model, torch.rand(1, 3, 8, 8), ["random"], metrics, min_score=0.0).set_index("metric")
    assert set(found.loc[["aic-ms-ssim", "sic-ms-ssim"], "reason"]) == {
        "MS-SSIM needs images of 176 pixels or more on each side"
    }
    assert "MS-SSIM" not in str(found.loc[["aic", "sic"], "reason"].tolist())


def test_only_images_that_are_recognised_count(model):
    images = recognised(model, torch.rand(3, 3, 8, 8))
    wrong = (images[0][0], (images[0][1] + 1) % 5)
    found = evaluate(model, [wrong, *images[1:]], ["random"], ["insertion"], protocol="idgi-paper", n_steps=2)
    assert found["image"].nunique() == 2
    assert set(found["status"]) == {"ok"}
    with pytest.raises(ValueError, match="recognises none of the images"):
        evaluate(model, [wrong], ["random"], ["insertion"], correct_only=True)


def test_methods_and_metrics_are_those_of_the_paper_unless_given(model):
    found = evaluate(model, recognised(model, torch.rand(1, 3, 8, 8)), protocol="idgi-paper", n_steps=2)
    assert set(found["metric"]) == {"insertion", "insertion-raw", "aic", "sic", "aic-ms-ssim", "sic-ms-ssim"}
    assert list(found["method"].unique()) == [
        "ig",
        "idgi",
        "guided-ig",
        "idgi:guided",
        "blur-ig",
        "idgi:blur",
        "random",
    ]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (
            {"insertion_baseline": "white"},
            "insertion_baseline=white was given with protocol=idgi-paper, which has black",
        ),
        ({"curve_steps": 7}, "curve_steps=7"),
        ({"min_score": 0.1}, "min_score=0.1"),
    ],
    ids=str,
)
def test_what_it_fixes_cannot_be_something_else(model, option, message):
    with pytest.raises(ValueError, match=message):
        evaluate(model, torch.rand(1, 3, 8, 8), protocol="idgi-paper", **option)


def test_unknown_protocol_lists_the_known_ones(model):
    with pytest.raises(ValueError, match="known are own, idgi-paper"):
        evaluate(model, torch.rand(1, 3, 8, 8), protocol="paper")


def test_random_maps_do_not_depend_on_the_model_and_repeat(model):
    other = smooth_cnn(torch.float32)
    images = torch.rand(1, 3, 8, 8)
    first, again = (evaluate(m, images, ["random"], ["perturbation"], seed=3)["value"] for m in (model, model))
    assert first.tolist() == again.tolist()
    assert evaluate(other, images, ["random"], ["perturbation"], seed=3)["status"].tolist() == ["ok"]


def test_a_model_in_training_mode_is_asked_in_evaluation_mode_and_left_as_it_was():
    torch.manual_seed(1)
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.5), nn.Flatten(), nn.Linear(3 * 8 * 8, 5)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    quiet = [(image, int(model.eval()(image[None]).argmax())) for image in torch.rand(4, 3, 8, 8)]
    found = evaluate(model.train(), quiet, ["random"], ["insertion"], correct_only=True)
    assert found["image"].nunique() == 4  # with dropout some would not be recognised
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


class CountedImages(torch.utils.data.Dataset):
    """Images with labels, and how often each was read."""

    def __init__(self, pairs):
        self.pairs, self.read = pairs, [0] * len(pairs)

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, index):
        self.read[index] += 1
        return self.pairs[index]


def test_each_image_is_read_once_and_not_again_when_it_is_known(model, tmp_path):
    images = recognised(model, torch.rand(3, 3, 8, 8))
    counted = CountedImages([(images[0][0], (images[0][1] + 1) % 5), *images[1:]])
    options = {"methods": ["random"], "metrics": ["insertion"], "correct_only": True, "out": tmp_path}
    first = evaluate(model, counted, **options)
    assert counted.read == [1, 1, 1]
    again = evaluate(model, counted, **options)
    assert counted.read == [1, 1, 1]
    assert first.equals(again)
    assert first["image"].nunique() == 2
