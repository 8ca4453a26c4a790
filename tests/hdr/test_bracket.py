"""Brackets: sorted, of one size, of distinct exposures, or refused by name."""

import re
import threading
import warnings

import numpy as np
import pytest
import torch

from hdr.alignment import align
from hdr.bracket import Bracket, _check_reference, _reference
from hdr.calibration import Calibration
from hdr.exposure_check import ExposureMismatchError
from hdr.radiometry import middle
from hdr.response import Response
from tests.hdr.brackets import ldr_of, textured
from tests.hdr.cameras import CURVES, drawn_light, exposures_of
from tests.hdr.photographs import random_pixels, write_16_bit, write_photograph

# What is estimated from noise comes with notes.
pytestmark = pytest.mark.filterwarnings("ignore:.*too little is flat|.*disagree by|.*no two exposures share")

GIVEN = {"response": Response.gamma(2.2), "check": False}
"""For images that are noise: nothing is estimated from their pixels, nor do their exposures fit them."""


def images(count: int = 3, height: int = 20, width: int = 30) -> list[torch.Tensor]:
    return list(torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0)))


def photographs(exposures: list[float], response: float = 2.2, seed: int = 0) -> list[torch.Tensor]:
    """8-bit images of one scene, by a camera of another gamma than 2.2 if asked for."""
    scene = textured(96, 128, seed, brightest=1.0)
    levels = [(scene * t / min(exposures)).clamp(0, 1) ** (1 / response) * 255 for t in exposures]
    return [image.round() / 255 for image in levels]


def write_bracket(folder, times, suffix=".png", **settings):
    return [
        write_photograph(folder / f"{index}{suffix}", random_pixels(seed=index), time=time, **settings)
        for index, time in enumerate(times)
    ]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0), (2, 1, 0)])
def test_pictures_are_sorted_by_exposure(order):
    pictures, times = images(), [1 / 60, 1 / 15, 1 / 4]
    bracket = Bracket.from_images(
        [pictures[i] for i in order], [times[i] for i in order], names=[f"{i}" for i in order], **GIVEN
    )
    torch.testing.assert_close(bracket.ldr, torch.stack(pictures))
    torch.testing.assert_close(bracket.exposures, torch.tensor([1.0, 4.0, 15.0]))
    assert bracket.names == ("0", "1", "2")


def test_files_are_merged_by_time_iso_and_aperture(tmp_path):
    paths = [
        write_photograph(tmp_path / "a.png", random_pixels(seed=0), time=1 / 30, iso=800, f_number=4.0),
        write_photograph(tmp_path / "b.png", random_pixels(seed=1), time=1 / 30, iso=200, f_number=4.0),
        write_photograph(tmp_path / "c.png", random_pixels(seed=2), time=1 / 30, iso=200, f_number=8.0),
    ]
    bracket = Bracket.from_files(paths, **GIVEN)
    assert bracket.names == ("c.png", "b.png", "a.png")
    torch.testing.assert_close(bracket.exposures, torch.tensor([1.0, 4.0, 16.0]))
    expected = torch.from_numpy(random_pixels(seed=1).transpose(2, 0, 1) / np.float32(255))
    torch.testing.assert_close(bracket.reference, expected)


@pytest.mark.parametrize(
    "source",
    [{"exposure_times": [0.01, 0.04, 0.16]}, {"exposure_values": [-2.0, 0.0, 2.0]}, {"exposure_file": "-2\n0\n2"}],
)
def test_exposures_are_given_as_seconds_ev_or_file(tmp_path, source):
    paths = write_bracket(tmp_path, [None] * 3)
    if "exposure_file" in source:
        (tmp_path / "exposure.txt").write_text(source["exposure_file"])
        source = {"exposure_file": tmp_path / "exposure.txt"}
    torch.testing.assert_close(Bracket.from_files(paths, **source, **GIVEN).exposures, torch.tensor([1.0, 4.0, 16.0]))


def test_only_one_source_of_exposures_is_taken(tmp_path):
    with pytest.raises(ValueError, match="exclude each other"):
        Bracket.from_files(write_bracket(tmp_path, [None] * 3), [1.0, 2.0, 4.0], exposure_values=[0.0, 1.0, 2.0])


def test_automatic_iso_does_not_pass_without_a_word(tmp_path):
    paths = [
        write_photograph(tmp_path / f"{index}.png", time=time, iso=iso, f_number=4.0)
        for index, (time, iso) in enumerate([(0.01, 400), (0.04, 200), (0.16, 100)])
    ]
    torch.testing.assert_close(Bracket.from_files(paths, **GIVEN).exposures, torch.tensor([1.0, 2.0, 4.0]))
    with pytest.warns(UserWarning, match="the camera recorded 1 : 2 : 4"):
        Bracket.from_files(paths, exposure_times=[0.01, 0.04, 0.16], **GIVEN)


def test_missing_exif_names_the_files_and_the_remedy(tmp_path):
    with pytest.raises(ValueError, match=r"no exposure time in the EXIF data of .*0.png.*give the exposure times"):
        Bracket.from_files(write_bracket(tmp_path, [None] * 3))


def test_several_pictures_of_one_exposure_make_a_bracket(tmp_path):
    light, times = drawn_light(), (0.1, 0.4, 0.4, 0.42, 1.6)
    evs = np.log2(np.array(times) / 0.4).tolist()
    paths = []
    for index, (picture, time) in enumerate(zip(exposures_of(light, evs), times, strict=True)):
        pixels = picture.permute(1, 2, 0).mul(255).round().byte().numpy()
        paths.append(write_photograph(tmp_path / f"{index}.png", pixels, time=time, iso=100, f_number=8.0))
    bracket = Bracket.from_files(paths)
    assert bracket.exposures.tolist() == pytest.approx([1, 4, 4, 4.2, 16], rel=0.02)
    assert bracket.reference_index == 2  # the middle one of the three that are in the middle
    alone = Bracket.from_files([paths[index] for index in (0, 1, 4)])
    assert bracket.calibration.response == alone.calibration.response


@pytest.mark.parametrize(
    ("exposures", "expected"),
    [
        ([1, 1, 1], 1),
        ([1, 1, 1, 16], 1),
        ([1, 16, 16, 16], 0),
        ([1, 4, 16, 16, 16], 1),
        ([1, 4, 4, 4, 4, 16], 2),
        ([1, 1.05, 1.12, 4], 2),  # less than a tenth more than the first is the same light; a twelfth more is not
    ],
)
def test_exposures_of_the_same_light_count_as_one_in_the_choice_of_a_reference(exposures, expected):
    light = torch.tensor(exposures, dtype=torch.float32)
    pictures = torch.rand(len(exposures), 3, 16, 16)
    assert Bracket(pictures, light).reference_index == expected
    given = Bracket.from_images(list(pictures.flip(0)), exposures[::-1], response=Response.srgb(), check=False)
    assert given.reference_index == expected
    assert _reference(exposures[::-1], None) == len(exposures) - 1 - expected or len(set(exposures)) < len(exposures)


def test_a_copy_of_a_picture_is_refused_wherever_it_lies(tmp_path):
    first, second, brighter = exposures_of(drawn_light(), (0.0, 0.0, 2.0))
    with pytest.raises(ExposureMismatchError, match=r"a and c are the same picture\. "):
        Bracket.from_images([first, second, first, brighter], [1, 1, 1, 4], names="abcd")
    with pytest.raises(ExposureMismatchError, match="are the same picture; leave one of them out"):
        Bracket.from_images([first, brighter, first], "auto", response=Response.srgb())


def test_different_sizes_are_refused_by_name(tmp_path):
    paths = write_bracket(tmp_path, [0.1, 0.2, 0.4])
    write_photograph(paths[2], random_pixels(24, 40))
    with pytest.raises(ValueError, match=r"one size .*1.png 32x24, 2.png 40x24"):
        Bracket.from_files(paths, [0.1, 0.2, 0.4])


@pytest.mark.parametrize(("count", "said"), [(0, "got 0$"), (1, r"got 1 \(image 1\)")])
def test_fewer_than_two_images_are_refused(count, said):
    with pytest.raises(ValueError, match=f"needs two or more exposures, {said}"):
        Bracket.from_images(images(count), [1.0, 2.0, 4.0][:count])


@pytest.mark.parametrize("exposures", [[1.0, 2.0], [1.0, 2.0, 4.0, 8.0]])
def test_one_exposure_is_needed_for_each_picture(tmp_path, exposures):
    with pytest.raises(ValueError, match=f"3 images but {len(exposures)} exposures"):
        Bracket.from_files(write_bracket(tmp_path, [None] * 3), exposures)


def test_files_of_one_name_in_two_folders_are_told_apart(tmp_path):
    sizes = {"d1": (24, 32), "d2": (24, 40)}
    for folder, size in sizes.items():
        (tmp_path / folder).mkdir()
        write_photograph(tmp_path / folder / "a.png", random_pixels(*size))
    with pytest.raises(ValueError, match=r"one size .*a.png 32x24, a.png 40x24"):
        Bracket.from_files([tmp_path / folder / "a.png" for folder in sizes], [0.1, 0.2])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"names": ("a", "b")}, "3 images but 2 names"),
        ({"paths": ("a", "b", "c", "d")}, "3 images but 4 paths"),
        ({"exposures": [1.0, 4.0]}, "(2,) for 3"),
        ({"exposures": [1.0, 4.0, float("inf")]}, "must be finite"),
        ({"exposures": [1.0, float("nan"), 4.0]}, "must be finite"),
        ({"to_rec709": torch.eye(2)}, r"to_rec709 must be of shape (3, 3), got (2, 2)"),
    ],
)
def test_what_does_not_fit_the_images_is_refused(given, said):
    settings = {"exposures": [1.0, 4.0, 16.0], **given}
    exposures = torch.tensor(settings.pop("exposures"))
    with pytest.raises(ValueError, match=re.escape(said)):
        Bracket(torch.stack(images()), exposures, **settings)
    if "names" in given or "paths" in given:
        with pytest.raises(ValueError, match=re.escape(said)):
            Bracket.from_images(images(), [1.0, 4.0, 16.0], **given, **GIVEN)


@pytest.mark.parametrize(
    ("response", "said"), [("srgb", r"Response\.parse.*got 'srgb'"), (["srgb"], "each.*got 'srgb'")]
)
def test_a_response_by_name_is_refused_with_what_reads_names(response, said):
    with pytest.raises(TypeError, match=said):
        Bracket.from_images(images(), [1, 4, 16], response=response, check=False)


def test_the_depth_of_images_is_told_by_their_values():
    deep = [(0.2 * 4**index * textured(64, 96)).clamp(0, 1) for index in range(3)]
    coarse = [(image * 255).round() / 255 for image in deep]
    settings = {"response": Response.linear(), "check": False}
    assert Bracket.from_images(deep, [1, 4, 16], **settings).calibration.levels == 65535
    assert Bracket.from_images(coarse, [1, 4, 16], **settings).calibration.levels == 255
    assert Bracket.from_images(deep, [1, 4, 16], levels=255, **settings).calibration.levels == 255


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_impossible_exposure_times_are_refused(bad):
    with pytest.raises(ValueError, match="positive and finite"):
        Bracket.from_images(images(), [1.0, bad, 4.0])


@pytest.mark.parametrize("count", range(2, 8))
def test_any_number_of_exposures_is_kept_and_the_middle_one_is_the_reference(count):
    bracket = Bracket.from_images(images(count), [2.0**k for k in range(count)], **GIVEN)
    assert bracket.count == count
    assert bracket.reference_index == middle(count) == (count - 1) // 2
    assert torch.equal(bracket.reference, images(count)[(count - 1) // 2])


def test_the_reference_is_chosen_among_the_images_as_they_are_given():
    pictures = images()
    bracket = Bracket.from_images([pictures[2], pictures[0], pictures[1]], [16.0, 1.0, 4.0], reference=0, **GIVEN)
    assert bracket.reference_index == 2
    assert torch.equal(bracket.reference, pictures[2])
    with pytest.raises(ValueError, match="must be one of the 3 exposures, 0 to 2 from the shortest, got 3"):
        Bracket(torch.stack(pictures), torch.tensor([1.0, 4.0, 16.0]), reference_index=3)


@pytest.mark.parametrize("factor", [1 / 60, 1.0, 1000.0])
def test_only_the_ratios_of_the_exposures_count(factor):
    bracket = Bracket.from_images(images(), [factor * t for t in (1, 4, 16)], **GIVEN)
    torch.testing.assert_close(bracket.exposures, torch.tensor([1.0, 4.0, 16.0]))


@pytest.mark.parametrize(
    ("times", "warned"),
    [((1, 8, 64), False), ((1, 2, 4), False), ((1, 16, 32), False), ((1, 17, 34), False), ((1, 18, 36), True)],
)
def test_ratios_that_networks_have_not_seen_are_reported(times, warned):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        Bracket.from_images(images(), times, **GIVEN)
    assert any("the networks are trained on up to 16 times" in str(one.message) for one in told) == warned


@pytest.mark.parametrize(
    ("encode", "response"),
    [
        (lambda x: x, Response.linear()),
        (lambda x: x**0.5, Response.gamma(2.0)),
        (lambda x: 12.92 * x if x <= 0.0031308 else 1.055 * x ** (1 / 2.4) - 0.055, Response.srgb()),
    ],
    ids=["linear", "gamma", "srgb"],
)
@pytest.mark.parametrize("light", [0.002, 0.25])
def test_radiance_is_that_of_the_response_that_is_given(encode, response, light):
    ldr = [torch.full((3, 20, 20), encode(light), dtype=torch.float64)] * 3
    bracket = Bracket.from_images(ldr, [1, 4, 16], response=response, check=False)
    expected = torch.full((3, 20, 20), light / 4, dtype=torch.float64)
    torch.testing.assert_close(bracket.radiance(1), expected, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("gamma", [1.6, 2.8])
def test_the_response_of_8_bit_images_is_estimated_so_that_exposures_agree(gamma):
    bracket = Bracket.from_images(photographs([1, 4, 16], gamma), [1, 4, 16])
    usable = (bracket.ldr[1] > 0.25) & (bracket.ldr[2] < 0.9)
    apart = (bracket.radiance(2) / bracket.radiance(1))[usable].log2().abs().median()
    assert apart < 0.1
    assert max(bracket.calibration.disagreement) < 0.1
    assert bracket.calibration.levels == 255


def test_a_shaking_hand_is_neither_noise_nor_disagreement():
    light, offsets = drawn_light(240, 320), [(9, 4), (20, 16), (3, 27)]
    shaken = [
        exposures_of(light[y : y + 192, x : x + 256], [ev], CURVES["S"], shot=1e-4, read=1e-6, seed=index)[0]
        for index, ((y, x), ev) in enumerate(zip(offsets, (-2.0, 0.0, 2.0), strict=True))
    ]
    found = Bracket.from_images(shaken, [1, 4, 16]).calibration
    values = torch.linspace(0.1, 0.9, 30, dtype=torch.float64)
    truth = torch.from_numpy(CURVES["S"](values.numpy()))
    difference = (found.response.to_linear(values) / truth).log2()
    assert (difference - difference.median()).abs().max() < 0.08
    assert max(found.disagreement) < 0.03
    assert found.shot == pytest.approx(1e-4, rel=0.3)


def scene(width: int = 128) -> list[torch.Tensor]:
    return list(exposures_of(drawn_light(96, width), (-2.0, 0.0, 2.0), CURVES["S"]))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_images_of_every_floating_type_are_calibrated_as_those_of_float32(dtype):
    images = [image.to(dtype) for image in scene()]
    found = Bracket.from_images(images, [1, 4, 16])
    expected = Bracket.from_images([image.float() for image in images], [1, 4, 16])
    assert found.ldr.dtype == dtype
    torch.testing.assert_close(
        found.exposures.float(), expected.exposures, rtol=1e-3 if dtype.itemsize > 1 else 0, atol=0
    )
    torch.testing.assert_close(found.calibration.response.light, expected.calibration.response.light)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_images_on_a_gpu_are_calibrated_as_those_on_the_cpu():
    found = Bracket.from_images([image.cuda() for image in scene()], [1, 4, 16])
    expected = Bracket.from_images(scene(), [1, 4, 16])
    assert found.ldr.is_cuda
    assert found.calibration.response == expected.calibration.response


def test_a_strip_is_calibrated_although_it_is_long_and_narrow():
    strip = [image[:, :20].repeat(1, 1, 800) for image in scene()]  # 2 million pixels
    assert Bracket.from_images(strip, [1, 4, 16]).size == (20, 102400)


def test_exposures_are_aligned_with_the_white_level_of_the_response_that_is_given(monkeypatch):
    seen = []
    monkeypatch.setattr(
        "hdr.bracket.align", lambda bracket, **options: seen.append(bracket) or align(bracket, **options)
    )
    response = Response.srgb().with_white_level(0.9)
    bracket = Bracket.from_images(scene(), [1, 4, 16], response=response, check=False)
    assert [one.calibration.white_level for one in seen] == [0.9]
    assert seen[0].reference_index == bracket.reference_index == 1


def test_reading_in_one_thread_lets_another_warn(monkeypatch):
    def warn_beside(*_, **__):
        thread = threading.Thread(target=warnings.warn, args=("of something else", UserWarning))
        thread.start()
        thread.join()
        return align(*_, **__)

    monkeypatch.setattr("hdr.bracket.align", warn_beside)
    with pytest.warns(UserWarning, match="of something else"):
        Bracket.from_images(scene(), [1, 4, 16])


def test_what_is_merged_is_warned_of_once():
    grey = [torch.full((3, 64, 64), 0.1)] * 3
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        Bracket.from_images(grey, [1, 18, 72], check=False)
    words = [str(one.message) for one in told]
    assert sum("times the exposure" in one for one in words) == 1
    assert not any("motion cannot be told" in one for one in words)  # that is told when it is merged


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor])
def test_exposures_may_be_of_any_kind_of_sequence(kind):
    found = Bracket.from_images(scene(), kind([1.0, 4.0, 16.0]))
    assert found.calibration == Bracket.from_images(scene(), (1, 4, 16)).calibration


@pytest.mark.parametrize("reference", [-1, 3])
def test_a_reference_that_is_none_of_the_images_is_refused_before_they_are_read(reference):
    with pytest.raises(ValueError, match=f"reference must be one of the 3 images, 0 to 2, got {reference}"):
        Bracket.from_images(scene(), [1, 4, 16], reference=reference)
    with pytest.raises(ValueError, match=f"reference must be one of the 3 images, 0 to 2, got {reference}"):
        Bracket.from_files(["a.dng", "b.dng", "c.dng"], [1, 4, 16], reference=reference)


def test_16_bit_linear_tiffs_keep_their_depth(tmp_path):
    paths = [write_16_bit(tmp_path / f"{i}.tif", random_pixels(depth=np.uint16, seed=i)) for i in range(3)]
    bracket = Bracket.from_files(paths, [1.0, 4.0, 16.0], response=Response.linear(), check=False)
    light = torch.from_numpy(random_pixels(depth=np.uint16, seed=2).transpose(2, 0, 1) / 65535).float()
    torch.testing.assert_close(bracket.radiance(2), light / 16, rtol=1e-5, atol=1e-7)
    assert bracket.calibration.levels == 65535


def s_curve(light):
    """Light as a developer's own look has it: a straight line mixed with a smooth step, over gamma 2.2."""
    value = light ** (1 / 2.2)
    return 0.4 * value + 0.6 * value**2 * (3 - 2 * value)


def write_encoded(folder, encode, shift=0):
    """Files of 16 bits, 2 EV apart, the last of them moved."""
    pixels = [encode((textured(160, 192) * exposure).clamp(0, 1)) for exposure in (1.0, 4.0, 16.0)]
    pixels[-1] = pixels[-1].roll(shift, -1)
    levels = [one.mul(65535).round().permute(1, 2, 0).numpy().astype(np.uint16) for one in pixels]
    return [write_16_bit(folder / f"{number}.tif", one) for number, one in enumerate(levels)]


@pytest.mark.filterwarnings("ignore:the pictures do not state")
@pytest.mark.parametrize("shift", [0, 5])
@pytest.mark.parametrize("name", ["gamma:2.2", "srgb", "linear"])
def test_the_exposures_tell_how_16_bits_are_encoded(tmp_path, name, shift):
    paths = write_encoded(tmp_path, Response.parse(name).to_ldr, shift)
    with warnings.catch_warnings():
        warnings.filterwarnings("error" if name == "gamma:2.2" else "ignore", message="the exposures agree")
        bracket = Bracket.from_files(paths, [1.0, 4.0, 16.0])
    assert (bracket.calibration.response.name, bracket.calibration.levels) == (name, 65535)
    torch.testing.assert_close(bracket.exposures, torch.tensor([1.0, 4.0, 16.0]), rtol=0.01, atol=0)
    if name != "gamma:2.2":
        with pytest.warns(UserWarning, match=f"agree best if the files are {name}"):
            Bracket.from_files(paths, [1.0, 4.0, 16.0])


@pytest.mark.parametrize("shift", [0, 5])
@pytest.mark.parametrize("name", ["gamma:2.2", "srgb"])
def test_exposures_stated_at_half_their_distance_are_refused_without_a_word_of_other_encodings(tmp_path, name, shift):
    paths = write_encoded(tmp_path, Response.parse(name).to_ldr, shift)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="the exposures agree")
        with pytest.raises(ExposureMismatchError, match=r"stated 1.00 EV apart, but differ by"):
            Bracket.from_files(paths, [1.0, 2.0, 4.0])


def test_16_bits_with_a_look_of_their_own_are_estimated(tmp_path):
    paths = write_encoded(tmp_path, s_curve)
    with pytest.warns(UserWarning, match=r"neither by gamma:2.2 nor by srgb or linear: the response is estimated"):
        bracket = Bracket.from_files(paths, [1.0, 4.0, 16.0])
    assert bracket.calibration.response.name == "estimated"
    assert max(bracket.calibration.disagreement) < 0.1


def test_exposures_that_are_estimated_from_16_bits_are_so_by_a_response_that_is_said(tmp_path):
    paths = write_encoded(tmp_path, Response.linear().to_ldr)
    with pytest.warns(UserWarning, match=r"as if the files were gamma:2.2; if they are srgb or linear, say so"):
        assert float(Bracket.from_files(paths, exposure_values="auto").exposures[1]) > 10
    bracket = Bracket.from_files(paths, exposure_values="auto", response=Response.linear())
    torch.testing.assert_close(bracket.exposures, torch.tensor([1.0, 4.0, 16.0]), rtol=0.05, atol=0)


def write_sensor_values(folder, light, white, suffix=".tif", exposures=(1.0, 4.0, 16.0)):
    """Linear light in 16-bit files that end at ``white``."""
    paths = []
    for number, exposure in enumerate(exposures):
        levels = (light * exposure).clamp(0, 1).mul(white).round().permute(1, 2, 0).numpy().astype(np.uint16)
        paths.append(write_16_bit(folder / f"{number}{suffix}", levels))
    return paths


@pytest.mark.parametrize("suffix", [".tif", ".png"])
@pytest.mark.parametrize("bits", [10, 12, 14])
def test_fewer_bits_in_16_are_recognised_by_where_the_bracket_ends(tmp_path, suffix, bits):
    light = textured(96, 128, brightest=0.9)
    paths = write_sensor_values(tmp_path, light, 2**bits - 1, suffix)
    with pytest.warns(UserWarning, match=rf"{bits} bits in 16: .* of 2{suffix} lie at {2**bits - 1}"):
        bracket = Bracket.from_files(paths, [1.0, 4.0, 16.0], response=Response.linear())
    assert bracket.calibration.levels == 2**bits - 1
    torch.testing.assert_close(bracket.radiance(0), light, rtol=0, atol=0.51 / (2**bits - 1))


@pytest.mark.parametrize(
    "case", ["one value at the end", "noise up to the end", "a grey wall", "one exposure is brighter", "no clip"]
)
def test_dark_16_bit_brackets_are_not_taken_for_fewer_bits(tmp_path, case):
    light = textured(96, 128, brightest=0.9)
    if case == "one value at the end":
        light = light / 17
        light[1, 2, 3] = 1 / 16
        paths = write_sensor_values(tmp_path, light, 4095)
    elif case in ("noise up to the end", "a grey wall"):
        darkest = 4032 if case == "a grey wall" else 0
        noise = np.random.default_rng(0).integers(darkest, 4096, (3, 96, 128, 3)).astype(np.uint16)
        noise[:, 0, 0] = 4095
        paths = [write_16_bit(tmp_path / f"{number}.tif", one) for number, one in enumerate(noise)]
    elif case == "one exposure is brighter":
        paths = write_sensor_values(tmp_path, light, 4095)[:2]
        longest = (light * 16).clamp(0, 1).mul(30000).round().permute(1, 2, 0).numpy().astype(np.uint16)
        paths.append(write_16_bit(tmp_path / "2.tif", longest))
    else:
        paths = write_sensor_values(tmp_path, light / 17, 4095)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*bits in 16")
        bracket = Bracket.from_files(paths, [1.0, 4.0, 16.0], response=Response.linear(), check=False)
    assert bracket.calibration.levels == 65535
    assert float(bracket.ldr.max()) < 0.46


def test_the_white_level_can_be_stated(tmp_path):
    light = textured(96, 128, brightest=0.9)
    settings = {"response": Response.linear(), "check": False}
    paths = write_sensor_values(tmp_path, light, 4095)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*bits in 16")
        whole = Bracket.from_files(paths, [1.0, 4.0, 16.0], white_level=65535, **settings)
        assert float(whole.ldr.max()) == pytest.approx(4095 / 65535)
    paths = write_sensor_values(tmp_path, light, 3800)  # a sensor whose black level was taken away
    bracket = Bracket.from_files(paths, [1.0, 4.0, 16.0], white_level=3800, **settings)
    torch.testing.assert_close(bracket.radiance(0), light, rtol=0, atol=0.51 / 3800)
    with pytest.raises(ValueError, match=r"values up to 3800; white_level .* is from there to 65535, got 3000"):
        Bracket.from_files(paths, [1.0, 4.0, 16.0], white_level=3000, **settings)
    with pytest.raises(ValueError, match=r"white_level \(--white-level\) is for files of 16 bits"):
        Bracket.from_files(write_bracket(tmp_path, [1 / 60, 1 / 15]), white_level=4095, **GIVEN)


@pytest.mark.parametrize(
    ("pictures", "exposures", "said"),
    [
        (photographs([16, 4, 1]), [1, 4, 16], "are the signs reversed"),
        ([photographs([1, 4, 16])[1]] * 3, [1, 4, 16], "are the same picture"),
        ([*photographs([1, 4]), photographs([1, 4], seed=7)[1]], [1, 4, 16], "do not show the same scene|EV"),
        (photographs([1, 2, 4]), [1, 2, 2**12], "too far|take one between"),
    ],
    ids=["reversed", "identical", "other scene", "10 EV apart"],
)
@pytest.mark.filterwarnings("ignore:.*times the exposure of")
def test_exposures_that_contradict_the_pixels_are_refused_unless_someone_knows_better(pictures, exposures, said):
    with pytest.raises(ExposureMismatchError, match=said) as refusal:
        Bracket.from_images(pictures, exposures)
    assert "with check=False (--align off --response srgb) they are merged as stated" in str(refusal.value)
    assert Bracket.from_images(pictures, exposures, response=Response.srgb(), check=False).count == 3


def on_film(exposures):
    """A dark room with two bright windows, on film whose black is 18 of 255, with grain."""
    generator = torch.Generator().manual_seed(5)
    room = textured(192, 256, brightest=0.01)
    room[:, 40:60, 60:80] = room[:, 100:130, 150:170] = 4.0
    grain = torch.randn(len(exposures), *room.shape, generator=generator) * 1.5
    return [
        (18 + grain[index] + 237 * ldr_of(room, exposure)).round().clamp(0, 255) / 255
        for index, exposure in enumerate(exposures)
    ]


@pytest.mark.filterwarnings("ignore:dark parts", "ignore:.*disagree by", "ignore:.*do not lie", "ignore:too little")
@pytest.mark.filterwarnings("ignore:the exposures share too little")
def test_a_reference_that_is_all_black_is_refused_unless_someone_knows_better():
    pictures = on_film([2**-8, 2**-4])
    with pytest.raises(
        ExposureMismatchError, match=r"image 1 and image 2 are stated 4.00 EV .* disagree .* by"
    ) as error:
        Bracket.from_images(pictures, [1, 16])
    assert "Perhaps image 1 is too dark: choose a longer exposure as the reference (--reference, which" in str(
        error.value
    )
    assert Bracket.from_images(pictures, [1, 16], response=Response.srgb(), check=False).count == 2
    # The longer exposure shows the room, and the dark one is merely not believed.
    assert Bracket.from_images(pictures, [1, 16], reference=1).count == 2


def test_exposures_are_estimated_from_the_pixels_when_asked():
    pictures = photographs([1, 4, 16])
    bracket = Bracket.from_images([pictures[2], pictures[0], pictures[1]], "auto", response=Response.gamma(2.2))
    torch.testing.assert_close(bracket.exposures, torch.tensor([1.0, 4.0, 16.0]), rtol=0.05, atol=0)
    assert torch.equal(bracket.ldr, torch.stack(pictures))
    with pytest.raises(ValueError, match=r"must be numbers or .auto., got 'guess'"):
        Bracket.from_images(pictures, "guess")


def test_shutters_are_not_exact_and_the_exposures_are_corrected():
    scene = textured(160, 192, brightest=1.0)
    real = [1.0, 4.0 * 2**0.15, 16.0]
    bracket = Bracket.from_images([ldr_of(scene, t) for t in real], [1, 4, 16])
    exact = torch.tensor(real)
    stated = torch.tensor([1.0, 4.0, 16.0])
    error = (bracket.exposures / exact).log2().abs().max()
    assert error < (stated / exact).log2().abs().max()


def test_short_exposure_saturates_at_radiance_1():
    bracket = Bracket(torch.ones(3, 3, 16, 16), torch.tensor([1.0, 4.0, 16.0]))
    assert [float(bracket.radiance(index).max()) for index in range(3)] == pytest.approx([1.0, 1 / 4, 1 / 16])


@pytest.mark.parametrize(
    ("ldr", "exposures", "said"),
    [
        (torch.zeros(1, 3, 16, 16), [1.0], r"shape \(N, 3, H, W\)"),
        (torch.zeros(3, 1, 16, 16), [1.0, 4.0, 16.0], r"shape \(N, 3, H, W\)"),
        (torch.zeros(2, 3, 16, 16), [1.0, 4.0, 16.0], r"one exposure for each image, got \(3,\) for 2"),
        (torch.zeros(3, 3, 15, 16), [1.0, 4.0, 16.0], "at least 16 pixels"),
        (torch.zeros(3, 3, 16, 16, dtype=torch.uint8), [1.0, 4.0, 16.0], "floating point"),
        (torch.full((3, 3, 16, 16), 255.0), [1.0, 4.0, 16.0], r"lie in \[0, 1\]"),
        (torch.full((3, 3, 16, 16), float("nan")), [1.0, 4.0, 16.0], r"lie in \[0, 1\]"),
        (torch.zeros(3, 3, 16, 16), [1.0, 4.0], "one exposure for each image"),
        (torch.zeros(3, 3, 16, 16), [1.0, 16.0, 4.0], "ascend from 1"),
        (torch.zeros(3, 3, 16, 16), [2.0, 4.0, 16.0], "ascend from 1"),
    ],
)
def test_what_is_no_bracket_is_refused(ldr, exposures, said):
    with pytest.raises(ValueError, match=said):
        Bracket(ldr, torch.tensor(exposures))


def test_the_deepest_file_tells_the_levels_of_a_bracket(tmp_path):
    scene = textured(32, 48, darkest=0.002, brightest=0.06)
    eight = ((4 * scene).clamp(0, 1) ** (1 / 2.2) * 255).round().byte().permute(1, 2, 0).numpy()
    sixteen = ((16 * scene).clamp(0, 1) ** (1 / 2.2) * 65535).round().permute(1, 2, 0).numpy().astype(np.uint16)
    write_photograph(tmp_path / "a.png", eight)
    write_16_bit(tmp_path / "b.png", sixteen)
    bracket = Bracket.from_files([tmp_path / "a.png", tmp_path / "b.png"], [1.0, 4.0])
    assert bracket.calibration.levels == 65535
    assert bracket.calibration.response.name == "gamma:2.2"


@pytest.mark.parametrize("check", [True, False])
def test_by_a_response_that_is_given_shutters_are_corrected_unless_someone_knows_better(check):
    real = [1.0, 4.0 * 2**0.15, 16.0 * 2**0.15]
    pictures = [ldr_of(textured(160, 192, brightest=1.0), t) for t in real]
    bracket = Bracket.from_images(pictures, [1, 4, 16], response=Response.gamma(2.2), check=check)
    expected = torch.tensor(real if check else [1.0, 4.0, 16.0])
    torch.testing.assert_close(bracket.exposures, expected, rtol=0.015, atol=0)


def test_files_keep_their_exposures_whatever_their_order(tmp_path):
    paths = [write_photograph(tmp_path / f"{time}.png", random_pixels(seed=time), time=time) for time in (4, 16, 1)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bracket = Bracket.from_files(paths, **GIVEN)
    assert bracket.names == ("1.png", "4.png", "16.png")
    assert bracket.paths == tuple(tmp_path / name for name in bracket.names)


def test_radiance_in_rec_709_is_the_matrix_times_each_pixel_and_not_below_black():
    source = torch.Generator().manual_seed(0)
    matrix = torch.tensor([[1.7, -0.6, -0.1], [-0.2, 1.4, -0.2], [0.0, -0.5, 1.5]])
    bracket = Bracket(torch.rand(2, 3, 16, 16), torch.tensor([1.0, 4.0]), to_rec709=matrix)
    radiance = torch.rand(3, 600, 7, generator=source)  # more rows than are converted at once
    expected = torch.stack([(matrix[row].view(3, 1, 1) * radiance).sum(0) for row in range(3)]).clamp_min(0)
    assert float((expected == 0).float().mean()) > 0.05
    torch.testing.assert_close(bracket.in_rec709(radiance), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("reference", "refused"), [(0, True), (1, True), (2, True), (3, True), (4, False)])
def test_pictures_of_the_same_light_are_not_what_a_dark_reference_lacks(reference, refused):
    exposures, unknown = torch.tensor([1.0, 16.0, 16.0, 16.0, 256.0]), float("nan")
    for disagreement in ((0.1, unknown, unknown, 3.0), (3.0, unknown, unknown, 3.0)):
        told = Calibration(Response.srgb(), disagreement=disagreement), exposures, reference, list("abcde")
        if refused and disagreement[0] == 3.0:
            with pytest.raises(ExposureMismatchError, match=f"Perhaps {'abcde'[reference]} is too dark"):
                _check_reference(*told)
        else:
            _check_reference(*told)


@pytest.mark.parametrize(
    ("reference", "disagreement", "refused"),
    [
        (0, (3.0, 0.1), True),
        (0, (0.1, 3.0), False),
        (1, (3.0, 3.0), True),
        (1, (0.1, 3.0), False),  # what the shortest exposure shows is shared
        (1, (3.0, 0.1), False),
        (1, (float("nan"), 3.0), True),  # nothing is known of the one before
        (1, (3.0, float("nan")), False),
        (2, (0.1, 3.0), False),  # no longer exposure shows what the reference does not
        (0, (1.8, 0.1), False),  # less than half of a step
        (0, (float("nan"), 3.0), False),
    ],
)
def test_a_reference_is_too_dark_if_neither_neighbour_shares_its_light(reference, disagreement, refused):
    calibration = Calibration(Response.srgb(), disagreement=disagreement)
    told = calibration, torch.tensor([1.0, 16.0, 256.0]), reference, ["a", "b", "c"]
    if not refused:
        return _check_reference(*told)
    with pytest.raises(ExposureMismatchError, match=f"Perhaps {'abc'[reference]} is too dark"):
        _check_reference(*told)
