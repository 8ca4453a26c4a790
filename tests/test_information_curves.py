"""AIC and SIC against a naive version of the published definition, one channel and one picture at a time."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.interpolate import griddata
from torch import nn
from torchmetrics.image import MultiScaleStructuralSimilarityIndexMeasure

from captum_ext.metrics import information_curves
from captum_ext.metrics.information_curves import THRESHOLDS
from captum_ext.metrics.revealed_pixels import interpolate_hidden, random_mask


def landscape(n: int = 3, size: int = 24, channels: int = 3, sharpness: float = 40) -> torch.Tensor:
    """Smooth pictures with a bright spot."""
    y, x = torch.meshgrid(torch.linspace(0, 1, size), torch.linspace(0, 1, size), indexing="ij")
    spots = [torch.exp(-sharpness * ((x - 0.3 - 0.2 * i) ** 2 + (y - 0.6) ** 2)) for i in range(n)]
    noise = 0.1 * torch.rand(n, channels, size, size)
    return (0.3 * x + 0.6 * torch.stack(spots))[:, None].expand(-1, channels, -1, -1) * 0.9 + noise


def spot_finder() -> nn.Module:
    """Two logits: the brightest part of a blurred picture, and a constant."""

    class Model(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            brightest = nn.functional.avg_pool2d(x.mean(1, keepdim=True), 3).flatten(1).amax(1)
            return torch.stack([20 * brightest, torch.full_like(brightest, 10.0)], 1)

    return Model()


def naive_fill(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    filled = picture.astype(float)
    for channel in range(picture.shape[2]):
        known, hidden = np.argwhere(mask), np.argwhere(~mask)
        filled[..., channel][~mask] = griddata(known, picture[..., channel][mask], hidden, method="linear")
    return np.round(filled).astype(np.uint8)


def naive_curves(model, image, saliency, target, mask, information):
    """SIC and AIC of one picture, step by step as published; returns the areas."""
    picture = (image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)

    def size_of(version):
        if information == "ms-ssim":
            metric = MultiScaleStructuralSimilarityIndexMeasure(data_range=1.0)
            pair = [torch.from_numpy(p.copy()).permute(2, 0, 1)[None].float() / 255 for p in (version, picture)]
            return float(metric(*pair))
        buffer = io.BytesIO()
        Image.fromarray(version).save(buffer, "webp", lossless=True, quality=100)
        return len(buffer.getvalue())

    def score_of(version):
        with torch.no_grad():
            logits = model(torch.from_numpy(version.copy()).permute(2, 0, 1)[None].float() / 255)[0]
        return float(logits.double().softmax(0)[target]), float(logits.argmax() == target)

    blurred = naive_fill(picture, mask)
    size_0, size_1 = size_of(blurred), size_of(picture)
    score_0, score_1 = score_of(blurred)[0], score_of(picture)[0]
    points = {"softmax": [(0.0, 0.0)], "accuracy": [(0.0, 0.0)]}
    best = {"softmax": 0.0, "accuracy": 0.0}
    for threshold in THRESHOLDS:
        version = naive_fill(picture, mask | (saliency >= np.quantile(saliency, 1 - threshold)))
        share = np.clip((size_of(version) - size_0) / (size_1 - size_0), 0, 1)
        softmax, correct = score_of(version)
        for name, value in (("softmax", (softmax - score_0) / (score_1 - score_0)), ("accuracy", correct)):
            best[name] = max(best[name], float(np.clip(value, 0, 1)))
            points[name].append((share, best[name]))
    areas = []
    for name in ("softmax", "accuracy"):
        x, y = np.array(sorted([*points[name], (1.0, 1.0)], key=lambda p: p[0])).T
        grid = np.linspace(0, 1, 5001)
        areas.append(np.trapezoid(np.interp(grid, x, y), grid))
    return areas


@pytest.mark.parametrize(("information", "size", "n", "sharpness"), [("webp", 24, 3, 40), ("ms-ssim", 176, 1, 4000)])
def test_agrees_with_the_naive_version(information, size, n, sharpness):
    if not hasattr(np, "trapezoid"):
        pytest.skip("NumPy 1 spells it trapz")
    model, images = spot_finder(), landscape(n, size, sharpness=sharpness)
    attributions = images * torch.randn_like(images)
    found = information_curves(model, images, attributions, 0, information=information, min_score=0.6, seed=5)
    assert not found.refused
    mask = random_mask(size, size, 0.01, seed=5)
    for i in range(n):
        saliency = attributions[i].double().abs().sum(0).numpy()
        expected = naive_curves(model, images[i], saliency, 0, mask, information)
        areas = [float(torch.trapezoid(curve[i], dx=1e-3)) for curve in (found.softmax, found.accuracy)]
        np.testing.assert_allclose(areas, expected, atol=1e-3)


def test_a_map_that_knows_the_spot_beats_its_opposite():
    model, images = spot_finder(), landscape()
    found = information_curves(model, images, images, 0, min_score=0.6)
    opposite = information_curves(model, images, 1 - images, 0, min_score=0.6)
    for curve in ("softmax", "accuracy"):
        for how in ("median", "mean"):
            assert found.area(curve, how) > opposite.area(curve, how) + 0.1


def test_curves_go_from_the_random_pixels_to_the_whole_picture():
    found = information_curves(spot_finder(), landscape(), torch.rand(3, 1, 24, 24), [0, 0, 0], min_score=0.6)
    for curves in (found.softmax, found.accuracy):
        assert ((curves >= 0) & (curves <= 1)).all()
        assert (curves[:, -1] == 1).all()


def test_pictures_that_do_not_qualify_are_named_with_the_reason():
    images = landscape()
    images[1] = 0.2
    found = information_curves(spot_finder(), images, torch.rand(3, 1, 24, 24), 0, min_score=0.6)
    assert list(found.refused) == [1]
    assert "below min_score=0.6" in found.refused[1]
    assert found.softmax[1].isnan().all()
    assert not found.softmax[[0, 2]].isnan().any()
    nothing = information_curves(spot_finder(), images[1:2], torch.rand(1, 1, 24, 24), 0)
    with pytest.raises(ValueError, match="no picture qualifies"):
        nothing.area("softmax")


def test_interpolation_restores_a_plane_from_its_corners():
    y, x = np.mgrid[0:9, 0:9]
    plane = np.stack([10 * x + 5 * y, 100 + x, 200 - 2 * y], axis=2).astype(np.uint8)
    corners = random_mask(9, 9, 0.0, seed=0)
    assert corners.sum() == 4
    np.testing.assert_array_equal(interpolate_hidden(plane, corners), plane)


def test_seed_decides_and_the_global_generators_do_not():
    model, images, maps = spot_finder(), landscape(), torch.rand(3, 1, 24, 24)
    first = information_curves(model, images, maps, 0, min_score=0.6, seed=1)
    np.random.rand()  # noqa: NPY002
    torch.rand(())
    again = information_curves(model, images, maps, 0, min_score=0.6, seed=1, internal_batch_size=4)
    other = information_curves(model, images, maps, 0, min_score=0.6, seed=2)
    torch.testing.assert_close(again.softmax, first.softmax)
    assert not torch.equal(other.softmax, first.softmax)


def test_grey_pictures():
    found = information_curves(spot_finder(), landscape(2, channels=1), torch.rand(2, 1, 24, 24), 0, min_score=0.5)
    assert found.softmax.shape == (2, 1001)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": landscape() * 2}, "put the normalisation into forward_func"),
        ({"inputs": torch.rand(3, 5)}, "N, 3, H, W"),
        ({"attributions": torch.rand(3, 1, 24, 23)}, "attributions has shape"),
        ({"information": "jpeg"}, "'webp' and 'ms-ssim'"),
        ({"information": "ms-ssim"}, "176 pixels"),
        ({"thresholds": [0.5, 0.1]}, "must grow"),
        ({"thresholds": []}, "must grow"),
        ({"reveal_fraction": 1.0}, "reveal_fraction"),
        ({"target": 2}, "out of range for 2 classes"),
        ({"forward_func": lambda x: x.sum((1, 2, 3))}, "give logits"),
    ],
    ids=lambda value: value if isinstance(value, str) else ",".join(value),
)
def test_refusals(changes, message):
    arguments = {"forward_func": spot_finder(), "inputs": landscape(), "attributions": torch.rand(3, 1, 24, 24)}
    with pytest.raises(ValueError, match=message):
        information_curves(**{**arguments, "target": 0, **changes})
