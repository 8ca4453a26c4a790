"""Metrics: PSNR and SSIM against their formulas in float64."""

import math

import numpy as np
import pytest
import torch
from scipy.signal import correlate2d

from hdr.metrics import METRICS, evaluate, psnr_l, psnr_mu, ssim_l, ssim_mu


def pair(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    target = torch.rand(2, 3, 24, 28, generator=generator, dtype=torch.float64)
    noise = torch.randn(2, 3, 24, 28, generator=generator, dtype=torch.float64) * torch.tensor([0.02, 0.2]).view(
        2, 1, 1, 1
    )
    return (target + noise).clamp(0, 1), target


def naive_mu(values: torch.Tensor) -> np.ndarray:
    return np.log(1 + 5000 * values.numpy()) / math.log(5001)


def naive_psnr(prediction: np.ndarray, target: np.ndarray) -> float:
    return -10 * math.log10(float(((prediction - target) ** 2).mean()))


def naive_ssim(prediction: np.ndarray, target: np.ndarray) -> float:
    # Wang et al., 2004, equation 13, on the pixels whose whole window lies in the picture.
    axis = np.arange(-5, 6)
    window = np.exp(-(axis[:, None] ** 2 + axis[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    values = []
    for x, y in zip(prediction, target, strict=True):
        mean_x, mean_y, xx, yy, xy = (correlate2d(v, window, "valid") for v in (x, y, x * x, y * y, x * y))
        numerator = (2 * mean_x * mean_y + 0.01**2) * (2 * (xy - mean_x * mean_y) + 0.03**2)
        denominator = (mean_x**2 + mean_y**2 + 0.01**2) * (xx - mean_x**2 + yy - mean_y**2 + 0.03**2)
        values.append(numerator / denominator)
    return float(np.mean(values))


def test_psnr_is_the_mean_over_one_image_in_each_domain():
    prediction, target = pair()
    for index in range(2):
        linear = naive_psnr(prediction[index].numpy(), target[index].numpy())
        tone_mapped = naive_psnr(naive_mu(prediction[index]), naive_mu(target[index]))
        assert float(psnr_l(prediction, target)[index]) == pytest.approx(linear, abs=1e-6)
        assert float(psnr_mu(prediction, target)[index]) == pytest.approx(tone_mapped, abs=1e-6)


def test_psnr_of_a_known_error():
    target = torch.full((3, 16, 16), 0.25, dtype=torch.float64)
    assert float(psnr_l(target + 0.01, target)) == pytest.approx(40.0)


def test_ssim_is_that_of_wang_in_each_domain():
    prediction, target = pair()
    # Kornia pads by reflection where the formula has no window, so a wide constant frame makes both agree.
    framed = [torch.nn.functional.pad(image, (12, 12, 12, 12), value=0.5) for image in (prediction, target)]
    for index in range(2):
        linear = naive_ssim(framed[0][index].numpy(), framed[1][index].numpy())
        tone_mapped = naive_ssim(naive_mu(framed[0][index]), naive_mu(framed[1][index]))
        inner = (24 + 24 - 10) * (28 + 24 - 10)
        outer = (24 + 24) * (28 + 24)
        # The frame itself has SSIM 1; Kornia averages over its outermost five pixels as well.
        assert float(ssim_l(*framed)[index]) == pytest.approx((linear * inner + outer - inner) / outer, abs=1e-6)
        assert float(ssim_mu(*framed)[index]) == pytest.approx((tone_mapped * inner + outer - inner) / outer, abs=1e-6)


def test_equal_images_have_infinite_psnr_and_ssim_1():
    target = pair()[1]
    assert torch.isinf(psnr_mu(target, target)).all()
    assert torch.isinf(psnr_l(target, target)).all()
    torch.testing.assert_close(ssim_mu(target, target), torch.ones(2, dtype=torch.float64))
    torch.testing.assert_close(ssim_l(target, target), torch.ones(2, dtype=torch.float64))


def test_mu_metrics_see_shadows_and_linear_metrics_see_highlights():
    target = torch.full((3, 16, 16), 0.001)
    shadow, highlight = target.clone(), target.clone()
    shadow[:, 8:] = 0.0
    highlight[:, 8:] = 0.9
    assert psnr_mu(shadow, target) < 20 < psnr_l(shadow, target)
    assert psnr_l(highlight, target) < 5


def test_one_image_gives_one_number_and_evaluate_gives_all():
    prediction, target = pair()
    told = evaluate(prediction[0], target[0])
    assert list(told) == ["PSNR-mu", "PSNR-L", "SSIM-mu", "SSIM-L"]
    for name, metric in METRICS.items():
        assert told[name] == pytest.approx(float(metric(prediction, target)[0]))


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS.keys())
@pytest.mark.parametrize("shapes", [((3, 16, 16), (3, 16, 17)), ((16, 16), (16, 16)), ((1, 16, 16), (1, 16, 16))])
def test_other_shapes_are_refused(metric, shapes):
    with pytest.raises(ValueError, match="shape"):
        metric(*(torch.zeros(shape) for shape in shapes))
