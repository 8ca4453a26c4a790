"""AIC and SIC against a naive version of the published definition, one channel and one picture at a time."""

from __future__ import annotations

import importlib.util
import io
import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from captum_ext.metrics import (
    InformationCurve,
    accuracy_information_curve,
    information_curves,
    softmax_information_curve,
)
from captum_ext.metrics.information_curves import (
    EVEN_THRESHOLDS,
    THRESHOLDS,
    _curve,
    _refusals,
    information_curves_by_measure,
)
from captum_ext.metrics.revealed_pixels import random_mask
from tests.captum_ext.small_models import EvaluationCounter

MISSING = [name for name in ("scipy", "threadpoolctl") if importlib.util.find_spec(name) is None]
interpolates = pytest.mark.skipif(bool(MISSING), reason=f"hidden pixels are interpolated with {', '.join(MISSING)}")


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


def grey_levels(image: torch.Tensor) -> np.ndarray:
    return (image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)


def naive_fill(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    from scipy.interpolate import griddata

    filled = picture.astype(float)
    for channel in range(picture.shape[2]):
        known, hidden = np.argwhere(mask), np.argwhere(~mask)
        filled[..., channel][~mask] = griddata(known, picture[..., channel][mask], hidden, method="linear")
    return np.round(filled).astype(np.uint8)


def naive_ms_ssim(x: np.ndarray, y: np.ndarray) -> float:
    """As Wang, Simoncelli and Bovik define it, mirrored at the last scale, which alone has a term of luminance."""
    from scipy.signal import convolve2d

    line = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    window = np.outer(line, line) / line.sum() ** 2

    def local_mean(values: np.ndarray) -> np.ndarray:
        return np.stack([convolve2d(values[..., c], window, "valid") for c in range(values.shape[2])], 2)

    product = 1.0
    for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        if scale == 4:
            x, y = (np.pad(v, ((5, 5), (5, 5), (0, 0)), mode="reflect") for v in (x, y))
        mean_x, mean_y = local_mean(x), local_mean(y)
        variances = local_mean(x * x) - mean_x**2 + local_mean(y * y) - mean_y**2
        alike = (2 * (local_mean(x * y) - mean_x * mean_y) + 0.0009) / (variances + 0.0009)
        if scale == 4:
            alike = alike * (2 * mean_x * mean_y + 0.0001) / (mean_x**2 + mean_y**2 + 0.0001)
        product *= max(alike.mean(), 0.0) ** weight
        x, y = (v[: len(v) // 2 * 2, : v.shape[1] // 2 * 2] for v in (x, y))
        x, y = ((v[::2, ::2] + v[1::2, ::2] + v[::2, 1::2] + v[1::2, 1::2]) / 4 for v in (x, y))
    return product


def naive_information(version: np.ndarray, whole: np.ndarray, information: str) -> float:
    if information == "ms-ssim":
        return naive_ms_ssim(version / 255, whole / 255)
    buffer = io.BytesIO()
    if information == "png":
        Image.fromarray(version).save(buffer, "png")
    else:
        Image.fromarray(version).save(buffer, "webp", lossless=True, quality=100)
    return len(buffer.getvalue())


def naive_scores(model, version: np.ndarray, target: int) -> np.ndarray:
    with torch.no_grad():
        logits = model(torch.from_numpy(version.copy()).permute(2, 0, 1)[None].float() / 255)[0]
    return np.array([float(logits.double().softmax(0)[target]), float(logits.argmax() == target)])


def naive_curves(model, image, saliency, target, mask, information="webp", thresholds=THRESHOLDS):
    """SIC and AIC of one picture, step by step as published; two curves of 1001 points."""
    from scipy.interpolate import interp1d

    picture = grey_levels(image)
    blurred = naive_fill(picture, mask)
    told_0, told_1 = (naive_information(version, picture, information) for version in (blurred, picture))
    score_0, score_1 = naive_scores(model, blurred, target), naive_scores(model, picture, target)
    shares, scores, best = [], [], np.zeros(2)
    for threshold in thresholds:
        version = naive_fill(picture, mask | (saliency >= np.quantile(saliency, 1 - threshold)))
        share = (naive_information(version, picture, information) - told_0) / (told_1 - told_0)
        best = np.maximum(best, np.clip((naive_scores(model, version, target) - score_0) / (score_1 - score_0), 0, 1))
        shares.append(np.clip(share, 0, 1))
        scores.append(best)
    # The corners come last, and interp1d sorts by x with a stable sort.
    x, y = [*shares, 0.0, 1.0], np.array([*scores, np.zeros(2), np.ones(2)])
    curves = [interp1d(x, column)(np.linspace(0, 1, 1000, endpoint=False)) for column in y.T]
    return [np.append(curve, 1.0) for curve in curves]


@interpolates
@pytest.mark.parametrize(
    ("information", "size", "n", "sharpness", "thresholds"),
    [("webp", 24, 3, 40, THRESHOLDS), ("ms-ssim", 176, 1, 4000, (0.01, 0.05, 0.2))],
    ids=["webp", "ms-ssim"],
)
def test_agrees_with_the_naive_version(information, size, n, sharpness, thresholds):
    model, images = spot_finder(), landscape(n, size, sharpness=sharpness)
    attributions = images * torch.randn_like(images)
    found = information_curves(model, images, attributions, 0, information, thresholds, min_score=0.6, seed=5)
    assert not found.refused
    mask = random_mask(size, size, 0.01, seed=5)
    for i in range(n):
        saliency = attributions[i].double().abs().sum(0).numpy()
        expected = naive_curves(model, images[i], saliency, 0, mask, information, thresholds)
        for curve, by_hand in zip((found.softmax[i], found.accuracy[i]), expected, strict=True):
            np.testing.assert_allclose(curve.numpy(), by_hand, atol=1e-3)


@interpolates
def test_score_without_information_counts_for_nothing():
    # The left is flat but for the pixels that are always revealed, so that with its flat pixels the picture tells less
    # than without.
    mask = random_mask(24, 24, 0.01, seed=0)
    image = torch.full((1, 3, 24, 24), 0.25)
    image[..., 8:] = torch.rand(3, 24, 16)
    image[0, :, torch.from_numpy(mask)] = torch.rand(3, int(mask.sum()))

    def flatness(x: torch.Tensor) -> torch.Tensor:
        flat = ((x[..., :8] - 0.25).abs() < 0.01).float().mean((1, 2, 3))
        return torch.stack([8 * flat, torch.full_like(flat, 4.0)], 1)

    left = torch.zeros(1, 1, 24, 24)
    left[..., :8] = 1 + torch.rand(24, 8)
    found = information_curves(flatness, image, left, 0)
    expected, _ = naive_curves(flatness, image[0], left[0, 0].double().numpy(), 0, mask)
    assert found.softmax[0, 0] == 0
    np.testing.assert_allclose(found.softmax[0].numpy(), expected, atol=1e-3)


def curves_over_blurred(model, image, saliency, target, information):
    """SIC and AIC as the reproduction of the IDGI paper has them: of 25 images, from all blurred to all shown."""
    from scipy.ndimage import gaussian_filter

    picture = grey_levels(image).astype(float)
    border = gaussian_filter(np.ones(picture.shape[:2]), 20, mode="constant")
    blurred = np.stack(
        [gaussian_filter(c, 20, mode="constant") / border for c in picture.transpose(2, 0, 1)], 2
    ).round()
    order = np.argsort(-saliency, axis=None, kind="stable")
    versions = []
    for count in np.linspace(0, saliency.size, 25):
        shown = np.zeros(saliency.size, bool)
        shown[order[: round(count)]] = True
        versions.append(np.where(shown.reshape(saliency.shape)[..., None], picture, blurred).astype(np.uint8))
    told = np.array([naive_information(version, versions[-1], information) for version in versions], float)
    scores = np.stack([naive_scores(model, version, target) for version in versions])
    shares, scores = ((v - v[0]) / (v[-1] - v[0]) for v in (told, scores))
    best = np.maximum.accumulate(scores.clip(0, 1))
    return [np.interp(np.linspace(0, 1, 1001), *along(shares.clip(0, 1), line)) for line in best.T]


def along(x, y):
    order = np.argsort(x, kind="stable")
    return x[order], y[order]


@pytest.mark.parametrize(("information", "size", "sharpness"), [("png", 48, 40), ("ms-ssim", 176, 400)])
def test_over_a_blurred_image_it_is_that_of_the_reproduction(information, size, sharpness):
    gaussian_filter = pytest.importorskip("scipy.ndimage").gaussian_filter
    model, images = spot_finder(), landscape(1, size, sharpness=sharpness)
    # Regions, as scattered pixels alone make a larger file than the whole picture.
    noise = np.random.default_rng(2).standard_normal(images.shape)
    attributions = images.new_tensor(gaussian_filter(noise, (0, 0, size / 12, size / 12)))
    found = information_curves(
        model,
        images,
        attributions,
        0,
        information,
        EVEN_THRESHOLDS,
        min_score=0.6,
        hidden="blurred",
        channel_reduction="sum",
    )
    expected = curves_over_blurred(model, images[0], attributions[0].double().sum(0).numpy(), 0, information)
    for curve, reference in zip((found.softmax[0], found.accuracy[0]), expected, strict=True):
        assert 0.05 < reference.mean() < 0.95
        np.testing.assert_allclose(curve.numpy(), reference, atol=0.01)


def test_blurred_images_that_are_recognised_do_not_qualify_for_the_accuracy_curve():
    image = 0.4 + 0.1 * torch.rand(1, 3, 24, 24)

    def bright(x):
        return torch.stack([20 * x.mean((1, 2, 3)), torch.full((len(x),), 5.0)], 1)

    found = information_curves(bright, image, torch.rand_like(image), 0, min_score=0.5, hidden="blurred")
    assert "blurred pixels alone are recognised" in found.refused[0]


@interpolates
def test_several_measures_of_information_share_one_run_of_the_model():
    model, images = EvaluationCounter(spot_finder()), landscape(1, 176, sharpness=4000)
    attributions = torch.rand(1, 1, 176, 176)
    both = information_curves_by_measure(("png", "ms-ssim"), model, images, attributions, 0, (0.1, 0.5), min_score=0.6)
    assert model.forward_rows == 1 + 3
    for information, curves in both.items():
        alone = information_curves(model, images, attributions, 0, information, (0.1, 0.5), min_score=0.6)
        torch.testing.assert_close(curves.softmax, alone.softmax)
        torch.testing.assert_close(curves.accuracy, alone.accuracy)
    assert not torch.equal(both["png"].softmax, both["ms-ssim"].softmax)


@interpolates
def test_a_map_that_knows_the_spot_beats_its_opposite():
    model, images = spot_finder(), landscape()
    found = information_curves(model, images, images, 0, min_score=0.6)
    opposite = information_curves(model, images, 1 - images, 0, min_score=0.6)
    for curve in ("softmax", "accuracy"):
        for how in ("median", "mean"):
            assert found.area(curve, how) > opposite.area(curve, how) + 0.1


@interpolates
def test_curves_go_from_the_random_pixels_to_the_whole_picture():
    found = information_curves(spot_finder(), landscape(), torch.rand(3, 1, 24, 24), [0, 0, 0], min_score=0.6)
    for curves in (found.softmax, found.accuracy):
        assert ((curves >= 0) & (curves <= 1)).all()
        assert (curves[:, -1] == 1).all()


@interpolates
def test_pictures_that_do_not_qualify_are_named_with_the_reason():
    images = landscape()
    images[1] = 0.2
    found = information_curves(spot_finder(), images, torch.rand(3, 1, 24, 24), 0, min_score=0.6)
    assert list(found.refused) == [1]
    assert "below min_score=0.6" in found.refused[1]
    for which in ("softmax", "accuracy"):
        assert found.areas(which).isnan().tolist() == [False, True, False]
        assert found.curve(which).refused == found.refused
    nothing = information_curves(spot_finder(), images[1:2], torch.rand(1, 1, 24, 24), 0)
    with pytest.raises(ValueError, match="no image qualifies"):
        nothing.area("softmax")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_probabilities_of_logits_in_half_precision_are_not_rounded_to_it(dtype):
    """exp(6) / (exp(6) + 1) is 0.99753, which lies between two numbers of either type."""
    probability = math.exp(6) / (math.exp(6) + 1)

    def model(x):
        return torch.tensor([[6.0, 0.0]], dtype=dtype).expand(len(x), 2)

    images = landscape(1)
    for min_score, is_reached in ((probability - 1e-9, True), (probability + 1e-9, False)):
        (reason,) = information_curves(
            model, images, images, target=0, min_score=min_score, hidden="blurred"
        ).refused.values()
        assert ("below min_score" not in reason) == is_reached


def test_a_probability_of_1_is_not_below_a_min_score_of_1():
    def certain(x: torch.Tensor) -> torch.Tensor:
        return torch.stack([1e4 * x.mean((1, 2, 3)), torch.zeros(len(x))], 1)

    found = information_curves(certain, landscape(1), torch.rand(1, 1, 24, 24), 0, "png", min_score=1, hidden="blurred")
    # The blurred image is recognised as surely, which is another matter.
    assert found.refused[0].startswith("softmax curve: blurred pixels alone score 1.000")


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_model_gets_images_and_gives_probabilities_of_any_precision(dtype):
    images, maps = landscape(2), torch.rand(2, 1, 24, 24)
    options = {"target": 0, "information": "png", "min_score": 0.6, "hidden": "blurred"}
    expected = information_curves(spot_finder(), images, maps, **options)
    seen = []

    def model(x: torch.Tensor) -> torch.Tensor:
        seen.append(x.dtype)
        return spot_finder()(x.float()).to(torch.float64 if dtype == torch.float64 else torch.float16)

    found = information_curves(model, images.to(dtype), maps, **options)
    assert set(seen) == {dtype}
    assert found.softmax.dtype == torch.float64
    tolerance = 1e-5 if dtype == torch.float64 else 0.1  # bfloat16 has eight bits of a grey value
    torch.testing.assert_close(found.softmax, expected.softmax, rtol=0, atol=tolerance)


def sure(x: torch.Tensor) -> torch.Tensor:
    """The same probability of 0.9, give or take, for everything."""
    return torch.stack([2.2 + 0.1 * x.mean((1, 2, 3)), torch.zeros(len(x))], 1)


def fond_of_smooth_pictures(x: torch.Tensor) -> torch.Tensor:
    """A probability of more than a half that noise lowers."""
    return torch.stack([2 - 2 * x.diff(dim=3).abs().mean((1, 2, 3)), torch.zeros(len(x))], 1)


@interpolates
@pytest.mark.parametrize(
    ("model", "image", "target", "reasons"),
    [
        (sure, torch.full((3, 24, 24), 0.5), 0, {"softmax": "as much information", "accuracy": "as much information"}),
        (sure, torch.rand(3, 24, 24), 1, {"softmax": "below min_score", "accuracy": "below min_score"}),
        (
            fond_of_smooth_pictures,
            torch.rand(3, 24, 24),
            0,
            {"softmax": "random pixels alone score", "accuracy": "random pixels alone are recognised"},
        ),
        (
            lambda x: 0.1 * fond_of_smooth_pictures(x),
            torch.rand(3, 24, 24),
            1,
            {"accuracy": "the whole image is not recognised"},
        ),
    ],
    ids=["no information", "low score", "smooth", "another class"],
)
def test_each_curve_has_its_own_reasons(model, image, target, reasons):
    arguments = {"attributions": torch.rand(1, 1, 24, 24), "target": target, "min_score": 0.4}
    for which, curve in (("softmax", softmax_information_curve), ("accuracy", accuracy_information_curve)):
        found = curve(model, image[None], **arguments)
        assert list(found.refused) == ([0] if which in reasons else [])
        assert found.areas().isnan().item() == (which in reasons)
        if which in reasons:
            assert reasons[which] in found.refused[0]


@interpolates
def test_single_curves_are_those_of_both():
    images, maps = landscape(), torch.rand(3, 1, 24, 24)
    both = information_curves(spot_finder(), images, maps, 0, min_score=0.6, seed=3)
    for which, measure in (("softmax", softmax_information_curve), ("accuracy", accuracy_information_curve)):
        single = measure(spot_finder(), images, maps, 0, min_score=0.6, seed=3)
        torch.testing.assert_close(single.curve, getattr(both, which))
        torch.testing.assert_close(single.areas(), both.areas(which))
        assert single.area("mean") == pytest.approx(both.areas(which).mean().item())


def test_areas_by_hand():
    line = torch.linspace(0, 1, 1001, dtype=torch.float64)
    missing = torch.full_like(line, torch.nan)
    curves = InformationCurve(torch.stack([line, torch.ones_like(line), missing, torch.zeros_like(line)]), {2: "dark"})
    torch.testing.assert_close(curves.areas(), torch.tensor([0.5, 1.0, torch.nan, 0.0]).double(), equal_nan=True)
    assert curves.area("median") == pytest.approx(0.5)
    assert curves.area("mean") == pytest.approx(0.5)
    # The median of two curves lies in their middle.
    assert InformationCurve(curves.curve[:2]).area("median") == pytest.approx(0.75)
    with pytest.raises(ValueError, match="'median' and 'mean'"):
        curves.area("max")


@interpolates
def test_a_picture_that_is_not_recognised_costs_one_evaluation():
    model = EvaluationCounter(spot_finder())
    information_curves(model, torch.full((1, 3, 24, 24), 0.1), torch.rand(1, 1, 24, 24), 0)
    assert model.forward_rows == 1
    information_curves(model, landscape(1), torch.rand(1, 1, 24, 24), 0, min_score=0.6, internal_batch_size=4)
    assert model.forward_rows == 1 + len(THRESHOLDS) + 2
    assert model.most_rows <= 4


@interpolates
def test_seed_decides_and_the_global_generators_do_not():
    model, images, maps = spot_finder(), landscape(), torch.rand(3, 1, 24, 24)
    first = information_curves(model, images, maps, 0, min_score=0.6, seed=1)
    np.random.rand()  # noqa: NPY002
    torch.rand(())
    again = information_curves(model, images, maps, 0, min_score=0.6, seed=1, internal_batch_size=4)
    other = information_curves(model, images, maps, 0, min_score=0.6, seed=2)
    torch.testing.assert_close(again.softmax, first.softmax)
    assert not torch.equal(other.softmax, first.softmax)


@interpolates
def test_grey_pictures():
    images, maps = landscape(2, channels=1), torch.rand(2, 1, 24, 24)
    found = information_curves(spot_finder(), images, maps, 0, min_score=0.5)
    assert found.softmax.shape == (2, 1001)


@pytest.mark.parametrize("as_given", [list, np.array, torch.tensor], ids=lambda given: given.__name__)
def test_thresholds_are_taken_as_arrays_too(as_given):
    model, images, maps = spot_finder(), landscape(1), torch.rand(1, 1, 24, 24)
    options = {"min_score": 0.6, "hidden": "blurred"}
    expected = information_curves(model, images, maps, 0, thresholds=(0.25, 0.5), **options)
    found = information_curves(model, images, maps, 0, thresholds=as_given([0.25, 0.5]), **options)
    torch.testing.assert_close(found.softmax, expected.softmax)


@pytest.mark.parametrize("target", [0, [0, 0], torch.tensor(0), torch.tensor([0]), np.array([0, 0])], ids=repr)
def test_target_is_one_integer_or_one_for_each_picture(target):
    images, maps = landscape(2), torch.rand(2, 1, 24, 24)
    expected = information_curves(spot_finder(), images, maps, 0, min_score=0.6, hidden="blurred")
    found = information_curves(spot_finder(), images, maps, target, min_score=0.6, hidden="blurred")
    torch.testing.assert_close(found.softmax, expected.softmax)


@pytest.mark.filterwarnings("error")
def test_pictures_that_ask_for_gradients_and_overshoot_by_rounding_are_taken():
    images, maps = landscape(1).clamp(0, 1), torch.rand(1, 1, 24, 24)
    images[0, :, 0, :2] = torch.tensor([0.0, 1.0])
    expected = information_curves(spot_finder(), images, maps, 0, min_score=0.6, hidden="blurred")
    images[0, :, 0, :2] = torch.tensor([-2e-7, 1.0000002])
    found = information_curves(spot_finder(), images.requires_grad_(), maps, 0, min_score=0.6, hidden="blurred")
    torch.testing.assert_close(found.softmax, expected.softmax)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": landscape() * 2}, "put the normalisation into forward_func"),
        ({"inputs": torch.rand(3, 5)}, "N, 3, H, W"),
        ({"attributions": torch.rand(3, 1, 24, 23)}, "attributions has shape"),
        ({"information": "jpeg"}, "'webp', 'png', 'ms-ssim'"),
        ({"information": "ms-ssim"}, "176 pixels"),
        ({"hidden": "black"}, "hidden='black' was given: known are 'interpolated', 'blurred'"),
        ({"channel_reduction": "max"}, "channel_reduction='max'"),
        ({"thresholds": [0.5, 0.1]}, "must grow"),
        ({"thresholds": []}, "must grow"),
        ({"reveal_fraction": 1.0}, "reveal_fraction"),
        ({"min_score": 80}, "min_score=80"),
        ({"internal_batch_size": 0}, "internal_batch_size=0"),
        ({"target": 2}, "out of range for 2 classes"),
        ({"forward_func": lambda x: x.sum((1, 2, 3))}, "give logits"),
        ({"forward_func": lambda x: (x, x)}, "forward_func returned a tuple: wrap the model"),
        ({"forward_func": lambda x: {"logits": x}}, "forward_func returned a dict: wrap the model"),
        ({"attributions": torch.full((3, 1, 24, 24), torch.nan)}, "no rank"),
        ({"attributions": torch.full((3, 3, 24, 24), torch.inf)}, "no rank"),
        ({"attributions": torch.rand(3, 2, 24, 24)}, r"give \(3, 3, 24, 24\) or \(3, 1, 24, 24\)"),
        ({"attributions": np.ones((3, 1, 24, 24))}, "attributions is a ndarray: give a torch.Tensor"),
        ({"attributions": (torch.rand(3, 1, 24, 24), torch.rand(3))}, "attributions is a tuple.*the first part"),
        ({"inputs": torch.rand(3, 3, 1, 24), "attributions": torch.rand(3, 1, 1, 24)}, "2 pixels or more"),
        ({"inputs": torch.rand(3, 3, 24, 1), "attributions": torch.rand(3, 1, 24, 1)}, "2 pixels or more"),
        ({"inputs": torch.full((3, 3, 24, 24), 1.000015)}, r"values from 1\.000015 to 1\.000015"),
        ({"target": [0, 1]}, r"target has shape \(2,\) for 3 images"),
        ({"target": [0]}, r"target has shape \(1,\) for 3 images"),
        ({"target": [[0], [1], [0]]}, r"target has shape \(3, 1\) for 3 images"),
        ({"target": None}, "target=None was given"),
        ({"target": 0.5}, "target=0.5 was given"),
        ({"target": "cat"}, "target='cat' was given"),
        ({"thresholds": np.array([0.1, np.nan, 0.5])}, "must grow"),
        ({"thresholds": torch.tensor([0.5, 0.1])}, "must grow"),
        ({"seed": -1}, "seed=-1 was given"),
    ],
    ids=lambda value: value if isinstance(value, str) else ",".join(value),
)
def test_refusals(changes, message):
    arguments = {"forward_func": spot_finder(), "inputs": landscape(), "attributions": torch.rand(3, 1, 24, 24)}
    with pytest.raises(ValueError, match=message):
        information_curves(**{**arguments, "target": 0, "hidden": "blurred", **changes})


def test_without_scipy_interpolated_curves_are_refused_and_blurred_ones_are_not(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    images, maps = landscape(1), torch.rand(1, 1, 24, 24)
    with pytest.raises(ImportError, match=r"pip install scipy threadpoolctl, or take hidden='blurred'"):
        information_curves(spot_finder(), images, maps, 0)
    assert information_curves(spot_finder(), images, maps, 0, hidden="blurred").softmax.shape == (1, 1001)


def test_negative_targets_count_from_the_end():
    images = landscape()
    found, same = (information_curves(spot_finder(), images, images, target=t, hidden="blurred") for t in (-2, 0))
    assert not found.accuracy.isnan().all()
    torch.testing.assert_close(found.accuracy, same.accuracy, equal_nan=True)
    torch.testing.assert_close(found.softmax, same.softmax, equal_nan=True)


def test_random_pixels_that_score_or_tell_no_less_disqualify():
    ends = {"softmax": np.array([0.7, 0.7]), "accuracy": np.array([0.0, 1.0])}
    assert list(_refusals(ends, np.array([0.1, 0.5, 1.0]))) == ["softmax"]
    assert list(_refusals({**ends, "softmax": np.array([0.6, 0.7])}, np.array([1.0, 0.5, 1.0]))) == [
        "softmax",
        "accuracy",
    ]


@interpolates
@pytest.mark.parametrize(("n_finite", "reason"), [(0, "scores nan"), (1, "output is not finite")])
def test_images_on_which_the_model_is_not_finite_qualify_for_neither_curve(n_finite, reason):
    def overflowing(x: torch.Tensor) -> torch.Tensor:
        logits = 5 * torch.stack([x.mean((1, 2, 3)), -x.mean((1, 2, 3))], 1)
        # The whole image comes alone, all versions of it together.
        return logits if len(x) <= n_finite else logits * torch.inf

    found = information_curves(overflowing, landscape()[:1], torch.rand(1, 1, 24, 24), 0)
    for which in ("softmax", "accuracy"):
        assert reason in found.curve(which).refused[0]
        assert found.areas(which).isnan().all()


def test_without_information_there_is_no_score_however_many_points_lie_there():
    # So many points at no information that a sort which is not stable puts the corner among them.
    shares, scores = np.zeros(1000), np.linspace(0.1, 0.9, 1000)
    curve = _curve(np.concatenate([shares, [0.5]]), np.concatenate([scores, [0.9]]))
    assert curve[0] == 0.0
    corner = _curve(np.concatenate([[0.5], np.ones(1000)]), np.concatenate([[0.1], scores]))
    assert corner[-1] == 1.0


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("internal_batch_size", [None, 2])
def test_an_accelerator_finds_the_curves_of_the_cpu(internal_batch_size):
    images = landscape(1, 176, sharpness=4000)
    attributions = images * torch.randn_like(images)
    options = {"target": 0, "thresholds": (0.01, 0.05, 0.2), "min_score": 0.6, "hidden": "blurred"}
    measures = ("png", "ms-ssim")
    here = information_curves_by_measure(measures, spot_finder(), images, attributions, **options)
    there = information_curves_by_measure(
        measures, spot_finder(), images.cuda(), attributions.cuda(), internal_batch_size=internal_batch_size, **options
    )
    for measure in measures:
        assert not there[measure].refused
        torch.testing.assert_close(there[measure].softmax, here[measure].softmax, rtol=0, atol=1e-4)
