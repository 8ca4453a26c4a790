"""Numbers under the protocol of the IDGI paper are the measures' own."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from captum_ext import IDGI
from captum_ext.evaluation import evaluate
from captum_ext.metrics import information_curves, insertion, perturbation
from captum_ext.metrics.information_curves import EVEN_THRESHOLDS
from tests.captum_ext.small_models import recognised

METHODS = ["ig", "idgi", "random"]


def test_measures_signed_insertion_from_black_of_the_probability(smooth_model):
    image, label = recognised(smooth_model, torch.rand(1, 3, 8, 8))[0]
    found = evaluate(
        smooth_model,
        [(image, label)],
        METHODS,
        ["insertion", "insertion-raw", "perturbation"],
        protocol="idgi-paper",
        n_steps=6,
    )

    def probability(x):
        return smooth_model(x).softmax(1)

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
            internal_batch_size=10,  # as evaluate does: large weights make other roundings of other batches
        )
        assert values["sic" + suffix] == pytest.approx(curves.areas("softmax").item(), abs=1e-6)
        assert values["aic" + suffix] == pytest.approx(curves.areas("accuracy").item(), abs=1e-6, nan_ok=True)


def test_small_images_lose_similarity_alone(smooth_model):
    metrics = ["aic", "sic", "aic-ms-ssim", "sic-ms-ssim"]
    found = evaluate(smooth_model, torch.rand(1, 3, 8, 8), ["random"], metrics, min_score=0.0).set_index("metric")
    assert set(found.loc[["aic-ms-ssim", "sic-ms-ssim"], "reason"]) == {
        "MS-SSIM needs images of 176 pixels or more on each side"
    }
    assert "MS-SSIM" not in str(found.loc[["aic", "sic"], "reason"].tolist())
