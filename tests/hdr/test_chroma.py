"""Colours of JPEG files, which are kept at half the resolution."""

import itertools

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from hdr.calibration import Calibration
from hdr.chroma import brightness, lost_detail, with_fine_colours
from hdr.observation import observe
from hdr.response import Response
from tests.hdr.naive import gaussian, naive_smooth

WEIGHTS = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, as JFIF has them


def naive_slope(bright, colour):
    """Slope of the regression at half resolution times its correlation; sides are even."""
    y, c = (one.reshape(one.shape[0] // 2, 2, one.shape[1] // 2, 2).mean((1, 3)) for one in (bright, colour))
    mean_y, mean_c, mean_yy, mean_cc, mean_yc = (
        naive_smooth(one, gaussian(1.0)) for one in (y, c, y * y, c * c, y * c)
    )
    noise = (2 / 255) ** 2
    variance_y, variance_c = mean_yy - mean_y**2 + noise, mean_cc - mean_c**2 + noise
    covariance = mean_yc - mean_y * mean_c
    correlation = np.abs(covariance) / np.sqrt(variance_y * variance_c)
    return covariance / variance_y * np.clip((correlation - 0.4) / 0.4, 0, 1)


def leaves(height=96, width=120) -> Tensor:
    """Olive leaves, a few pixels wide, before a blue sky; float64."""
    generator = torch.Generator().manual_seed(3)
    mask = torch.rand(1, 1, height // 4 + 2, width // 4 + 2, generator=generator, dtype=torch.float64)
    mask = torch.nn.functional.interpolate(mask, scale_factor=4.0, mode="bicubic")[..., :height, :width] > 0.5
    leaf, sky = torch.tensor([0.35, 0.33, 0.12]), torch.tensor([0.45, 0.62, 0.85])
    return torch.where(mask, leaf.double().view(1, 3, 1, 1), sky.double().view(1, 3, 1, 1))


def through_jpeg(image: Tensor, quality: int = 95, sampling: int = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420) -> Tensor:
    """What a JPEG has kept of images of shape (1, 3, H, W); by default half as many values of colour each way."""
    levels = (image[0].permute(1, 2, 0).numpy()[..., ::-1] * 255).round().astype(np.uint8)
    halved = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
    _, data = cv2.imencode(".jpg", levels, [cv2.IMWRITE_JPEG_QUALITY, quality, *halved])
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert decoded is not None
    return torch.from_numpy(decoded[..., ::-1].copy()).permute(2, 0, 1)[None].double() / 255


def test_colours_get_of_the_lost_brightness_what_they_change_by_with_it() -> None:
    ldr = through_jpeg(leaves(32, 40))
    red, green, blue = ldr[0].numpy()
    bright = WEIGHTS[0] * red + WEIGHTS[1] * green + WEIGHTS[2] * blue
    binomial = np.array([1, 4, 6, 4, 1]) / 16
    expected = []
    for channel in (red, blue):
        slope = naive_slope(bright, channel - bright)
        # Linear between the centres of the pixels of half resolution, and constant beyond the outermost.
        rows, columns = (np.clip((np.arange(2 * n) - 0.5) / 2, 0, n - 1) for n in slope.shape)
        fine = np.array([[np.interp(c, np.arange(slope.shape[1]), line) for c in columns] for line in slope])
        fine = np.array([np.interp(rows, np.arange(slope.shape[0]), line) for line in fine.T]).T
        expected.append(fine * (bright - naive_smooth(bright, binomial)))
    found = (with_fine_colours(ldr) - ldr)[0].numpy()
    inner = np.s_[4:-4, 4:-4]  # at the border the resampling goes on with its edge
    np.testing.assert_allclose(found[0][inner], expected[0][inner], atol=1e-9)
    np.testing.assert_allclose(found[2][inner], expected[1][inner], atol=1e-9)


@pytest.mark.parametrize("quality", [80, 98])
@pytest.mark.parametrize("size", [(96, 120), (95, 121)])
def test_leaves_before_a_sky_lose_their_blue_rim(size, quality) -> None:
    truth = leaves(*size)
    decoded = through_jpeg(truth, quality)
    restored = with_fine_colours(decoded)
    assert restored.shape == decoded.shape
    before, after = ((one - truth).square().mean() for one in (decoded, restored))
    assert float(after) < 0.6 * float(before)
    kept = brightness(restored) - brightness(decoded)
    assert float(kept.abs().quantile(0.9)) < 1e-12  # but for the few colours that end at 0 or 1


def test_where_columns_of_colour_are_halved_rows_stay_as_they_are() -> None:
    truth = leaves()
    decoded = through_jpeg(truth, sampling=cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422)
    errors = [
        float((one - truth).square().mean())
        for one in (decoded, with_fine_colours(decoded), with_fine_colours(decoded, halved=(False, True)))
    ]
    assert errors[2] < 0.75 * min(errors[:2])
    # What changes from row to row alone has lost nothing; and a picture on its side is restored as it is upright.
    rows = truth[..., :1].expand(-1, -1, -1, 60)
    torch.testing.assert_close(with_fine_colours(rows, halved=(False, True)), rows)
    sideways = with_fine_colours(decoded.mT.contiguous(), halved=(True, False)).mT
    torch.testing.assert_close(sideways, with_fine_colours(decoded, halved=(False, True)))
    torch.testing.assert_close(with_fine_colours(decoded, halved=(False, False)), decoded)


@pytest.mark.parametrize("size", [(31, 40), (32, 39), (31, 39)])
def test_an_odd_side_is_as_if_its_edge_were_there_twice(size) -> None:
    ldr = through_jpeg(leaves(32, 40))[..., : size[0], : size[1]]
    twice = torch.nn.functional.pad(ldr, (0, size[1] % 2, 0, size[0] % 2), mode="replicate")
    torch.testing.assert_close(with_fine_colours(ldr), with_fine_colours(twice)[..., : size[0], : size[1]])


def test_what_brightness_does_not_tell_stays() -> None:
    generator = torch.Generator().manual_seed(5)
    grey = torch.rand(1, 1, 40, 40, generator=generator).expand(1, 3, 40, 40)
    torch.testing.assert_close(with_fine_colours(grey), grey, rtol=0, atol=1e-6)
    # A texture of brightness over colours that go their own way: noise would be all that they got.
    hues = torch.rand(1, 3, 5, 5, generator=generator, dtype=torch.float64)
    hues = torch.nn.functional.interpolate(hues - brightness(hues), scale_factor=8.0, mode="bicubic")
    texture = 0.5 + 0.1 * torch.rand(1, 1, 40, 40, generator=generator, dtype=torch.float64)
    truth = (texture + 0.3 * hues).clamp(0, 1)
    decoded = through_jpeg(truth)
    before, after = ((one - truth).square().mean() for one in (decoded, with_fine_colours(decoded)))
    assert float(after) < 1.03 * float(before)


def test_values_stay_values() -> None:
    image = leaves()
    image[:, 2] = torch.where(image[:, 2] < 0.5, 0.0, 0.9)  # a leaf without blue, which gets less than none
    restored = with_fine_colours(through_jpeg(image))
    assert float(restored.min()) == 0.0
    assert float(restored.max()) <= 1.0


def test_colours_that_clip_stay() -> None:
    sky = (leaves() == leaves().amax()).any(dim=1, keepdim=True)
    yellow, leaf = (torch.tensor(colour).double().view(1, 3, 1, 1) for colour in ((1.0, 0.9, 0.1), (0.1, 0.2, 0.1)))
    ldr = through_jpeg(torch.where(sky, yellow, leaf))
    coloured = (ldr.amax(dim=1, keepdim=True) >= 0.98) & (ldr.amin(dim=1, keepdim=True) < 0.49)
    changed = (with_fine_colours(ldr, 0.98) != ldr).any(dim=1, keepdim=True)
    assert float(coloured.double().mean()) > 0.1
    assert not bool((changed & coloured).any())
    assert float(changed[ldr.amax(dim=1, keepdim=True) < 0.98].double().mean()) > 0.5


@pytest.mark.parametrize("leaf", [(0.15, 0.35, 0.05), (0.1, 0.1, 0.1)])
def test_white_beside_leaves_is_white_and_never_darker(leaf) -> None:
    sky = (leaves() == leaves().amax()).any(dim=1, keepdim=True)
    truth = torch.where(sky, 1.0, torch.tensor(leaf).double().view(1, 3, 1, 1))
    decoded = through_jpeg(truth)
    restored = with_fine_colours(decoded, 0.98)
    clipped = (decoded.amax(dim=1) >= 0.98).expand(3, -1, -1)
    assert bool((restored >= decoded)[0, clipped].all())
    # A channel that is darker than the clipping value passes for a well exposed one.
    before, after = (int((one < 0.98)[0, clipped].sum()) for one in (decoded, restored))
    assert after <= 0.5 * before if len(set(leaf)) > 1 else after == before


def test_files_are_observed_with_fine_colours_where_theirs_are_not() -> None:
    ldr = through_jpeg(leaves()).float().repeat(2, 1, 1, 1)
    exposures = torch.tensor([1.0, 4.0])

    def observed(*halved: bool | Tensor) -> Tensor:
        calibration = Calibration(Response.srgb(), chroma_halved=halved)  # type: ignore[arg-type]
        return observe(ldr, exposures, calibration)

    fine = Calibration(Response.srgb())
    for rows, columns in ((True, True), (False, True), (True, False)):
        expected = observe(with_fine_colours(ldr, 0.98, (rows, columns)), exposures, fine)[:, :3]
        torch.testing.assert_close(observed(rows, columns)[:, :3], expected)
        assert not torch.allclose(observed(rows, columns)[:, :3], observed(False, False)[:, :3], atol=0.01)
    torch.testing.assert_close(observed(False, False), observe(ldr, exposures, fine))
    for given in itertools.product((True, False), repeat=2):  # of a graph they are inputs
        torch.testing.assert_close(observed(*(torch.tensor(float(one)) for one in given)), observed(*given))


def test_what_clips_below_the_largest_value_is_observed_no_darker_than_it_is() -> None:
    ldr = through_jpeg(leaves()).float().repeat(2, 1, 1, 1)
    calibration = Calibration(Response.srgb(), white_level=0.85, chroma_halved=(True, True))
    clipped = ldr.amax(dim=1, keepdim=True) >= 0.98 * 0.85
    assert 0.1 < float(clipped.float().mean()) < 0.9
    exposures = torch.tensor([1.0, 4.0])
    fine = observe(ldr, exposures, Calibration(Response.srgb()))
    darker = (observe(ldr, exposures, calibration)[:, :3] - fine[:, :3]).amin(dim=1, keepdim=True) < -1e-6
    assert not bool((darker & clipped).any())
    assert float(darker[~clipped].float().mean()) > 0.5


def test_lost_detail_is_nothing_where_brightness_is_smooth() -> None:
    ramp = torch.linspace(0, 1, 64).expand(1, 3, 64, 64)
    assert float(lost_detail(ramp)[..., 8:-8, 8:-8].max()) < 1e-4
