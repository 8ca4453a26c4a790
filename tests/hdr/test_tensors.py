"""Which tensors the functions for users take, and what they say of others."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from hdr.alignment import align
from hdr.bracket import Bracket
from hdr.data.synthetic import SceneSettings, SyntheticBrackets
from hdr.delivery import write_picture
from hdr.exposure_map import draw_exposure_map
from hdr.io import read_ldr, read_radiance, write_image, write_preview, write_radiance
from hdr.merge import Merger
from hdr.metrics import METRICS
from hdr.photograph_scene import photograph_scene
from hdr.scene import dynamic_scene
from tests.hdr.brackets import textured
from tests.hdr.encoders import need_encoder
from tests.hdr.generators import random_generator

EXPOSURES = torch.tensor([1.0, 4.0, 16.0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_picture_of_16_bits_is_written_of_every_precision(tmp_path, dtype) -> None:
    # 3/4 is exact in all of them, and 1 times 65535 is more than float16 holds.
    image = torch.tensor([0.0, 0.75, 1.0], dtype=dtype).expand(3, 2, 3)
    write_image(tmp_path / "a.tif", image)
    assert (read_ldr(tmp_path / "a.tif") * 65535)[0, 0].tolist() == pytest.approx([0, 49151, 65535], abs=1)


@pytest.mark.parametrize(("name", "largest"), [("a.exr", r"32-bit float \(3\.4"), ("a.hdr", r"\.hdr files \(1\.69")])
def test_radiance_beyond_the_files_floats_is_refused(tmp_path, name, largest) -> None:
    radiance = torch.full((3, 2, 2), 1e39, dtype=torch.float64)  # finite, and more than 3.4e38
    with pytest.raises(ValueError, match=rf"{name}: radiance of 1e\+39 is too large for .*{largest}"):
        write_radiance(tmp_path / name, radiance)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.exr", "a.hdr", "a.png", "a.tif", "a.jpg", "a.avif"])
def test_radiance_without_pixels_is_refused(tmp_path, name) -> None:
    if name == "a.avif":
        need_encoder(name)
    write = write_radiance if name in ("a.exr", "a.hdr") else write_picture
    with pytest.raises(ValueError, match=r"expected radiance of shape \(3, H, W\), got \(3, 0, 4\)"):
        write(tmp_path / name, torch.zeros(3, 0, 4))
    assert list(tmp_path.iterdir()) == []


def test_a_picture_without_pixels_is_refused(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"expected a picture of shape \(3, H, W\), got \(3, 4, 0\)"):
        write_image(tmp_path / "a.png", torch.zeros(3, 4, 0))


def test_arrays_are_refused_with_what_makes_tensors_of_them(tmp_path) -> None:
    array = np.full((3, 16, 16), 0.5, np.float32)
    calls = {
        "ldr": lambda: Bracket(np.stack([array] * 3), EXPOSURES),  # type: ignore[arg-type]
        "exposures": lambda: Bracket(torch.rand(3, 3, 16, 16), [1.0, 4.0, 16.0]),  # type: ignore[arg-type]
        "image 2": lambda: Bracket.from_images([torch.rand(3, 16, 16), array], [1, 4]),  # type: ignore[list-item]
        "radiance": lambda: write_radiance(tmp_path / "a.exr", array),  # type: ignore[arg-type]
        "picture": lambda: write_image(tmp_path / "a.png", array),  # type: ignore[arg-type]
        "prediction": lambda: METRICS["PSNR-L"](array, torch.rand(3, 16, 16)),  # type: ignore[arg-type]
        "target": lambda: METRICS["SSIM-L"](torch.rand(3, 16, 16), array),  # type: ignore[arg-type]
    }
    for what, call in calls.items():
        with pytest.raises(
            TypeError, match=rf"{what} must be a tensor, got (ndarray|list); torch\.as_tensor makes one"
        ):
            call()
    assert list(tmp_path.iterdir()) == []
    # And that one is taken.
    write_radiance(tmp_path / "a.exr", torch.as_tensor(array))
    assert read_radiance(tmp_path / "a.exr").eq(0.5).all()


@pytest.mark.parametrize("name", METRICS)
def test_metrics_refuse_whole_numbers(name) -> None:
    levels = torch.zeros(3, 16, 16, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"expected floating point, got torch\.uint8 and torch\.uint8"):
        METRICS[name](levels, levels)


@pytest.mark.parametrize("name", ["SSIM-mu", "SSIM-L"])
def test_similarity_needs_half_a_window_of_pixels(name) -> None:
    # The window of 11 is mirrored at the edge, 5 pixels of the 6 that it needs at least.
    assert METRICS[name](torch.ones(3, 6, 9), torch.ones(3, 6, 9)) == pytest.approx(1)
    with pytest.raises(ValueError, match=r"at least 6 pixels wide and high, got 5 x 9 \(H x W\)"):
        METRICS[name](torch.ones(3, 5, 9), torch.ones(3, 5, 9))


def test_a_preview_of_half_precision_is_that_of_single(tmp_path) -> None:
    radiance = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0)).half()
    for name, given in (("half.tif", radiance), ("single.tif", radiance.float())):
        write_preview(tmp_path / name, given, "mu-law")
    torch.testing.assert_close(read_ldr(tmp_path / "half.tif"), read_ldr(tmp_path / "single.tif"), atol=1e-3, rtol=0)


@pytest.fixture
def single_by_default_again() -> Iterator[None]:
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("field", ["ldr", "exposures"])
@pytest.mark.filterwarnings("error::UserWarning:torch")
def test_tensors_that_ask_for_a_gradient_are_merged_like_others(field) -> None:
    bracket, merger = dynamic_scene(64, 96).bracket, Merger(random_generator(), "cpu")
    asking = dataclasses.replace(bracket, **{field: getattr(bracket, field).clone().requires_grad_()})
    expected, found = merger.with_weights(bracket), merger.with_weights(asking)
    for plain, other in ((expected.radiance, found.radiance), (expected.weights, found.weights)):
        assert torch.equal(plain, other)
        assert not other.requires_grad
    assert torch.equal(align(asking).displacement, expected.alignment.displacement)


@pytest.mark.usefixtures("single_by_default_again")
@pytest.mark.parametrize("weights", ["none", "random"])
def test_another_default_precision_changes_no_merge(weights) -> None:
    bracket = dynamic_scene(64, 96).bracket
    merger = Merger("none" if weights == "none" else random_generator(), "cpu")
    expected = merger.with_weights(bracket)
    torch.set_default_dtype(torch.float64)
    found = merger.with_weights(bracket)
    assert found.radiance.dtype == found.alignment.displacement.dtype == torch.float32
    torch.testing.assert_close(found.radiance, expected.radiance, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(draw_exposure_map(found.weights), draw_exposure_map(expected.weights), rtol=0, atol=1e-3)


@pytest.mark.usefixtures("single_by_default_again")
def test_another_default_precision_changes_no_scene(tmp_path) -> None:
    write_radiance(tmp_path / "place.hdr", textured(64, 128))
    scenes = SyntheticBrackets(tmp_path, (48, 64), settings=SceneSettings(objects=(2, 2)))
    expected, sample = photograph_scene(), scenes[3]
    torch.set_default_dtype(torch.float64)
    found, again = photograph_scene(), scenes[3]
    torch.testing.assert_close(found.bracket.ldr, expected.bracket.ldr, rtol=0, atol=8 / 255)  # JPEG makes more of it
    torch.testing.assert_close(found.radiance, expected.radiance, rtol=1e-4, atol=1e-6)
    for key in ("ldr", "exposures", "target"):
        torch.testing.assert_close(again[key], sample[key], rtol=1e-3, atol=8 / 255)
