"""Merging: tiles do not show, memory is the tile's, the model comes back as it was."""

import dataclasses
import itertools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import hdr.alignment
import hdr.merge
from hdr.agreement import unexplained_variance
from hdr.alignment import Alignment, align
from hdr.bracket import Bracket
from hdr.calibration import Calibration
from hdr.fusion import physical_merge, without_tolerance
from hdr.inpainting import HighlightInpainting, hidden_highlights
from hdr.merge import BLEND, CONTEXT, Merger
from hdr.mixing import TYPICAL
from hdr.nn.generator import Generator, Merged
from hdr.observation import bring_to_reference, observe
from hdr.photograph_scene import photograph_scene
from hdr.radiometry import mu_law
from hdr.response import Response
from hdr.weights import load_generator
from tests.hdr.brackets import EXPOSURES, ldr_of, photographed, textured
from tests.hdr.generators import random_generator

SMALLEST = Generator(4, scales=3)


def bracket(height: int, width: int, exposures: tuple[float, ...] = EXPOSURES) -> Bracket:
    """Exposures of which a part moved from one to the next, in noise."""
    scene = textured(height, width, brightest=1.2)
    instants = []
    for index in range(len(exposures)):
        instant = scene.clone()
        instant[..., width // 2 :] = scene[..., width // 2 :].roll(2 * index, dims=-1)
        instants.append(instant)
    return photographed(instants, exposures, noise=2e-3)


def displaced(scene: Bracket) -> Alignment:
    """A displacement that is smooth, several pixels long and no multiple of a pixel."""
    rows, columns = torch.meshgrid(*(torch.arange(float(side)) for side in scene.size), indexing="ij")
    wave = torch.stack([5 * torch.sin(rows / 9), 4 * torch.cos(columns / 11)])
    displacement = torch.stack([(index - scene.reference_index) * wave for index in range(scene.count)])
    return Alignment(displacement, scene.size)


def trained(preset: str = "tiny", **overrides: Any) -> Generator:
    """A generator with random weights whose heads say as much as those of trained ones do: not 0, and no noise."""
    generator = random_generator(preset, **overrides)
    with torch.no_grad():
        assert generator.denoiser is not None
        heads: list[Any] = [*(judge.logits for judge in generator.judges), generator.denoiser.kernels]
        for head in [*heads, *(stage.correction for stage in generator.alignment)]:
            head.weight *= 0.1
            head.bias *= 0.1
    return generator


def untiled(generator: Generator, scene: Bracket, alignment: Alignment) -> Tensor:
    """All at once, in the mu-law domain."""
    everything = (scene.ldr, scene.exposures, scene.calibration)
    unexplained = unexplained_variance(*everything, alignment.displacement, scene.reference_index)
    observations = observe(*everything, unexplained)
    displacement = alignment.window(0, scene.size[0], 0, scene.size[1])
    with torch.no_grad():
        inputs = (observations[None], scene.exposures[None], displacement[None], scene.reference_index)
        merged = generator(*inputs, mixing=scene.calibration.batched_mixing(scene.exposures))
    image, inpainting = merged.radiance[0].clone(), HighlightInpainting(scene.size)
    hidden = hidden_highlights(merged.aligned, merged.weights, scene.exposures[None], scene.reference_index)
    inpainting.add(hidden, merged.radiance[0], torch.ones(scene.size), top=0, left=0)
    inpainting.fill(image)
    return image.clamp_min(0)


@pytest.mark.parametrize(("height", "width"), [(70, 480), (420, 60)])
def test_tiled_equals_untiled_everywhere_in_the_mu_law_domain(height, width):
    generator, scene = trained(), bracket(height, width)
    alignment = displaced(scene)
    merger = Merger(generator, device="cpu", tile=64)
    assert len(list(merger._spans(max(height, width)))) > 3
    whole = untiled(generator, scene, alignment)
    assert float((whole - untiled(Generator.from_preset("tiny").eval(), scene, alignment)).abs().max()) > 0.05
    assert float((mu_law(merger(scene, alignment)) - whole).abs().max()) < 1e-3


@pytest.mark.parametrize("preset", ["small", "base"])
def test_tiled_equals_untiled_for_every_preset(preset):
    generator, scene = trained(preset), bracket(32, 330)
    merger = Merger(generator, device="cpu", tile=128)
    assert len(list(merger._spans(330))) > 1
    alignment = displaced(scene)
    assert float((mu_law(merger(scene, alignment)) - untiled(generator, scene, alignment)).abs().max()) < 1e-3


@pytest.mark.parametrize("exposures", [(1.0, 4.0), (1.0, 2.0, 4.0, 8.0, 16.0)])
def test_tiled_equals_untiled_for_any_number_of_exposures(exposures):
    generator, scene = trained(), bracket(32, 330, exposures)
    alignment = displaced(scene)
    merger = Merger(generator, device="cpu", tile=128)
    assert float((mu_law(merger(scene, alignment)) - untiled(generator, scene, alignment)).abs().max()) < 1e-3


@pytest.mark.parametrize("halved", [(True, True), (False, True), (True, False)])
def test_tiled_equals_untiled_for_files_with_half_the_colours(halved):
    scene = bracket(71, 331)
    colours = torch.rand(1, 3, 71, 331, generator=torch.Generator().manual_seed(2))  # that go with brightness by chance
    ldr = (scene.ldr * (0.7 + 0.3 * colours)).clamp(0, 1)
    calibration = dataclasses.replace(scene.calibration, chroma_halved=halved)
    scene = Bracket(ldr, scene.exposures, calibration=calibration, reference_index=1)
    generator, alignment = trained(), displaced(scene)
    whole = untiled(generator, scene, alignment)
    for tile in (64, 72):
        tiled = mu_law(Merger(generator, device="cpu", tile=tile)(scene, alignment))
        torch.testing.assert_close(tiled, whole, atol=1e-3, rtol=0)


@pytest.mark.parametrize("still", [(), (True, False, True)])
@pytest.mark.parametrize("weights", ["none", "small"])
def test_tiled_equals_untiled_where_channels_clip_one_by_one(weights, still):
    # Nothing is moved, but exposures are interpolated, which rounds in another way in each tile: whether three channels
    # are equally far from clipping must not depend on it.
    ldr = (1.3 * torch.rand(3, 3, 40, 330, generator=torch.Generator().manual_seed(0))).clamp_max(1.0)
    unmixed = Calibration(Response.srgb(), mixing=None)
    scene = Bracket(ldr, torch.tensor(EXPOSURES), calibration=unmixed)
    assert 0.2 < float((ldr == 1).float().mean()) < 0.3
    nowhere = Alignment(torch.zeros(3, 2, *scene.size), scene.size, still)
    tiled, whole = (mu_law(Merger(weights, "cpu", tile=tile)(scene, nowhere)) for tile in (64, 768))
    torch.testing.assert_close(tiled, whole, atol=1e-3, rtol=0)


def test_pixels_outside_of_the_context_of_a_tile_do_matter():
    # The promise above is not empty: with too little overlap the same network gives another image.
    generator, scene = random_generator(), bracket(32, 330)
    alignment = displaced(scene)
    scanty = Merger(generator, device="cpu", tile=64, overlap=32)
    assert float((mu_law(scanty(scene, alignment)) - untiled(generator, scene, alignment)).abs().max()) > 1e-3


def test_tiled_equals_untiled_where_displacements_are_kept_at_half_resolution(monkeypatch):
    monkeypatch.setattr(hdr.alignment, "_LARGEST_AT_FULL_RESOLUTION", 1_000)
    generator, scene = trained(), bracket(50, 331)
    alignment = align(scene)
    assert alignment.displacement.shape[-2:] == (25, 166)
    assert float(alignment.displacement.abs().max()) > 1
    merger = Merger(generator, device="cpu", tile=64)
    assert float((mu_law(merger(scene, alignment)) - untiled(generator, scene, alignment)).abs().max()) < 1e-3


def test_weights_of_all_exposures_sum_to_one_at_every_pixel():
    scene = bracket(40, 330)
    merged = Merger(trained(), device="cpu", tile=64).with_weights(scene, displaced(scene))
    assert merged.weights.shape == (3, 40, 330)
    assert merged.weights.dtype == torch.float16
    total = merged.weights.float().sum(dim=0)
    torch.testing.assert_close(total, torch.ones_like(total), atol=3e-3, rtol=0)
    assert bool((merged.weights >= 0).all())
    assert torch.equal(merged.radiance, Merger(trained(), device="cpu", tile=64)(scene, displaced(scene)))


def test_weights_tell_which_exposure_made_a_pixel():
    light = torch.full((3, 32, 96), 0.02)
    light[..., 32:64] = 0.15  # the longest clips at 1 / 16
    light[..., 64:] = 0.6  # and the reference at 1 / 4
    shot_noise = Calibration(Response.gamma(2.2), shot=1e-2, read=0.0, levels=10**6)
    bracket = dataclasses.replace(photographed(light, levels=None), calibration=shot_noise)
    weights = Merger("none", "cpu").with_weights(bracket, "off").weights[:, 16].float()
    torch.testing.assert_close(weights[:, 16], torch.tensor([1 / 21, 4 / 21, 16 / 21]), atol=2e-3, rtol=0)
    torch.testing.assert_close(weights[:, 48], torch.tensor([1 / 5, 4 / 5, 0.0]), atol=2e-3, rtol=0)
    torch.testing.assert_close(weights[:, 80], torch.tensor([1.0, 0.0, 0.0]), atol=5e-3, rtol=0)


@pytest.mark.parametrize("count", range(2, 8))
def test_any_number_of_exposures_of_a_still_scene_is_better_than_the_reference_alone(count):
    scene = textured(48, 64, darkest=0.01, brightest=0.95)
    bracket = photographed(scene, tuple(2.0**k for k in range(count)), noise=1e-3, levels=None)
    merged = Merger("none", "cpu")(bracket, "off")
    errors = [
        (mu_law(radiance) - mu_law(scene)).square().mean() for radiance in (merged, bracket.radiance((count - 1) // 2))
    ]
    assert errors[0] < 0.8 * errors[1]
    assert float((mu_law(merged) - mu_law(scene)).abs().mean()) < 0.004


def test_pictures_of_the_same_light_have_the_noise_of_their_mean():
    scene = textured(64, 96, darkest=0.02, brightest=0.2)
    noise = 0.004

    def error(count: int) -> float:
        merged = Merger("none", "cpu")(photographed(scene, (1.0,) * count, noise, levels=None), "off")
        return float((merged - scene).square().mean())

    for count in (2, 6):
        assert error(count) == pytest.approx(noise**2 / count, rel=0.1)


@pytest.mark.parametrize("count", [3, 5])
def test_somebody_bright_who_passes_in_the_dark_stays_in_the_picture(count):
    # Noise is half as large as the light of the ground, and blackens some of its pixels.
    ground = textured(96, 96, darkest=0.01, brightest=0.025)
    instants = [ground.clone() for _ in range(count)]
    for number, instant in enumerate(instants):
        instant[:, 30:60, 15 * number : 15 * number + 12] = 0.2
    here = 15 * (count // 2)
    taken = photographed(instants, (1.0,) * count, noise=0.008, reference=count // 2)
    radiance = Merger("none", "cpu")(taken, "off")
    assert float(radiance[:, 33:57, here + 3 : here + 9].mean()) == pytest.approx(0.2, rel=0.1)
    beside = radiance[:, 33:57, here + 18 : here + 24].mean() / ground[:, 33:57, here + 18 : here + 24].mean()
    assert 0.7 < float(beside) < 1.8  # where others have somebody of ten times the light


def test_what_moves_between_pictures_of_the_same_light_leaves_no_ghost():
    scene = textured(96, 128, darkest=0.02, brightest=0.2)
    instants = [scene.clone() for _ in range(4)]
    for instant, column in zip(instants, (8, 40, 72, 100), strict=True):
        instant[:, 30:50, column : column + 20] = 0.9
    taken = photographed(instants, (1.0,) * 4, noise=0.002, reference=1)
    radiance = Merger("none", "cpu")(taken)
    for column in (8, 72, 100):
        assert float((radiance - scene)[:, 32:48, column + 2 : column + 18].abs().mean()) < 0.01
    assert float((radiance[:, 32:48, 42:58] - 0.9).abs().mean()) < 0.01


def test_result_does_not_depend_on_the_order_of_the_images_nor_on_the_unit_of_the_exposures():
    scene = textured(48, 64, brightest=1.2)
    images = [ldr_of(scene, t, 1e-3, seed=int(t)) for t in EXPOSURES]
    merger = Merger(trained(), "cpu")
    given_order = Bracket.from_images(images, EXPOSURES, response=Response.gamma(2.2))
    expected = merger(given_order)
    for order in itertools.permutations(range(3)):
        times = [EXPOSURES[index] / 60 for index in order]
        other = Bracket.from_images([images[index] for index in order], times, response=Response.gamma(2.2))
        torch.testing.assert_close(merger(other), expected, atol=1e-6, rtol=1e-4)


def test_what_a_shifted_exposure_did_not_see_comes_from_the_others():
    scene = textured(64, 128 + 24, darkest=0.02, brightest=0.05)
    here = scene[..., 24:]
    # The longest saw the scene 24 pixels further left; at its right border it saw another thing, much brighter.
    longest = scene[..., :128]
    shifted = photographed([here, here, longest], noise=5e-3, levels=None)
    displacement = torch.zeros(3, 2, 64, 128)
    displacement[2, 0] = 24.0
    merged = Merger("none", "cpu").with_weights(shifted, Alignment(displacement, (64, 128)))
    assert float(merged.weights[2, :, 104:].max()) < 2e-3
    assert float(merged.weights[2, :, :100].float().median()) > 0.7
    error = (merged.radiance - here).abs() / here
    assert float(error[..., 104:].max()) < 0.2


class _Alternating(Generator):
    """Every other tile that it returns is brighter: tiles that could not be more visible."""

    calls = 0

    def forward(self, observations, exposures, displacement, reference=1, corner=None, still=None, mixing=None):
        self.calls += 1
        return of_radiance(bring_to_reference(observations, displacement, reference, corner), 0.1 * (self.calls % 2))


def of_radiance(aligned, more=0.0, radiance=None):
    found = aligned.tone_mapped[:, 1] if radiance is None else torch.full_like(aligned.tone_mapped[:, 1], radiance)
    return Merged(found + more, torch.full_like(aligned.saturation, 1 / aligned.saturation.shape[1]), aligned, ())


class _Asked(Generator):
    """Keeps what it is told of exposures in which nothing moves."""

    def forward(self, observations, exposures, displacement, reference=1, corner=None, still=None, mixing=None):
        self.still, self.observations = still, observations
        return of_radiance(bring_to_reference(observations, displacement, reference, corner))


def test_the_generator_is_told_in_which_exposures_nothing_moves():
    bracket, told = Bracket(torch.rand(3, 3, 64, 64), torch.tensor([1.0, 4.0, 16.0])), _Asked(base_channels=4)
    merger = Merger(told, device="cpu")
    for flags, expected in (((), None), ((False, False, False), None), ((True, False, False), [[True, False, False]])):
        merger(bracket, Alignment(torch.zeros(3, 2, 64, 64), (64, 64), flags))
        still = merger.generator.still
        assert (still if still is None else still.tolist()) == expected


def test_exposures_in_which_nothing_moves_are_observed_as_such():
    scene, told = bracket(64, 64), _Asked(base_channels=4)
    merger, deviations = Merger(told, device="cpu"), []
    for still in ((), (True, False, False)):
        merger(scene, Alignment(torch.zeros(3, 2, 64, 64), (64, 64), still))
        deviations.append(merger.generator.observations[0, :, 6])
    torch.testing.assert_close(deviations[1][0], 2.5 * deviations[0][0])
    assert torch.equal(deviations[1][1:], deviations[0][1:])


class _Constant(Generator):
    """Returns one value everywhere."""

    value = 0.0

    def forward(self, observations, exposures, displacement, reference=1, corner=None, still=None, mixing=None):
        return of_radiance(bring_to_reference(observations, displacement, reference, corner), radiance=self.value)


def test_tiles_fade_into_each_other():
    contradicting = torch.tensor([0.9, 0.5, 0.1]).view(3, 1, 1, 1).expand(3, 3, 32, 2000)  # or it would stand still
    flat = Bracket(contradicting, torch.tensor([1.0, 4.0, 16.0]))
    merged = mu_law(Merger(_Alternating(), device="cpu", tile=160, overlap=64)(flat, "off"))
    steps = (merged[..., 1:] - merged[..., :-1]).abs().max()
    assert float(merged.max() - merged.min()) > 0.09
    assert float(steps) < 0.1 / 32 + 1e-4


@settings(max_examples=60)
@given(st.integers(16, 3000), st.integers(1, 700), st.integers(0, 700))
def test_tiles_cover_every_pixel_with_weights_that_sum_to_one(length, tile, overlap):
    merger = Merger(SMALLEST, device="cpu", tile=tile, overlap=overlap)
    spans = list(merger._spans(length))
    total = torch.zeros(length)
    for begin, end in spans:
        assert begin % merger.generator.stride == 0
        assert end == length or end % merger.generator.stride == 0
        assert 16 <= end - begin <= merger.tile + merger.overlap
        total[begin:end] += merger._fade(begin, end, length)
    assert all(second[0] == first[0] + merger.tile for first, second in itertools.pairwise(spans))
    torch.testing.assert_close(total, torch.ones(length), rtol=0, atol=1e-5)


def test_tiles_have_context_on_both_sides_of_the_blend():
    merger = Merger(Generator.from_preset("tiny"), device="cpu")
    assert merger.overlap == 2 * CONTEXT + BLEND
    fade = merger._fade(768, 768 + merger.tile + merger.overlap, 10**6)
    assert bool((fade[:CONTEXT] == 0).all())
    assert bool((fade[-CONTEXT:] == 0).all())
    assert bool((fade[CONTEXT + BLEND : -CONTEXT - BLEND] == 1).all())


def test_network_never_sees_more_than_tile_and_overlap_and_what_the_displacement_points_to():
    seen = []
    generator = Generator(4, scales=1)
    generator.register_forward_pre_hook(lambda _, inputs: seen.append([i.shape[-2:] for i in (inputs[2], inputs[0])]))
    merger = Merger(generator, device="cpu", tile=64, overlap=32)
    merger(bracket(200, 300), "off")
    assert len(seen) > 4
    assert max(max(shape) for shape, _ in seen) <= merger.tile + merger.overlap
    margin = generator.largest_correction + 3
    assert max(max(around) for _, around in seen) <= merger.tile + merger.overlap + 2 * margin


def test_radiance_is_on_the_scale_on_which_the_short_exposure_saturates_at_1():
    merged = Merger("none", device="cpu")(photographed(torch.full((3, 32, 40), 0.2), levels=None), "off")
    torch.testing.assert_close(merged, torch.full((3, 32, 40), 0.2), rtol=1e-3, atol=0)


def test_negative_output_becomes_black():
    negative = _Constant()
    negative.value = -0.5
    assert torch.equal(Merger(negative, device="cpu")(bracket(20, 24), "off"), torch.zeros(3, 20, 24))


def test_undefined_output_is_an_error_that_names_the_place():
    undefined = _Constant()
    undefined.value = float("nan")
    with pytest.raises(FloatingPointError, match="rows 0 to 20, columns 0 to 24; merge with precision='float32' "):
        Merger(undefined, device="cpu")(bracket(20, 24), "off")


@pytest.mark.parametrize("mixing", [False, True])
@pytest.mark.parametrize("weights", ["none", "random"])
def test_nothing_is_below_what_clipped_the_reference(weights, mixing):
    scene = bracket(40, 200)
    camera = dataclasses.replace(scene.calibration, mixing=TYPICAL if mixing else None)
    scene = dataclasses.replace(scene, calibration=camera)
    merged = Merger("none" if weights == "none" else random_generator(), "cpu")(scene)
    clipped = scene.reference >= 0.9999
    assert 0.02 < float(clipped.float().mean()) < 0.9
    if mixing:  # a channel may be clipped in the file for another one; the brightest was as bright, to a hundredth
        assert float(merged.amax(dim=0)[clipped.any(dim=0)].min()) >= 0.99 / 4 - 1e-5
    else:
        assert float(merged[clipped].min()) >= 1 / 4 - 1e-5


def test_generator_comes_back_as_it_was():
    generator = random_generator().to(torch.float64).train()
    generator.gates.eval()
    modes = [module.training for module in generator.modules()]
    before = {name: tensor.clone() for name, tensor in generator.state_dict().items()}
    Merger(generator, device="cpu")(bracket(40, 40))
    assert [module.training for module in generator.modules()] == modes
    assert all(torch.equal(tensor, before[name]) for name, tensor in generator.state_dict().items())
    assert all(p.grad is None and p.requires_grad and p.dtype == torch.float64 for p in generator.parameters())


@pytest.mark.parametrize("computes", [True, False])
def test_the_precision_is_what_the_processor_computes_in(monkeypatch, computes):
    monkeypatch.setattr(hdr.merge, "_computes_bfloat16", lambda: computes)
    assert Merger("none", "cpu").precision == ("bfloat16" if computes else "float32")
    assert Merger("none", "cpu", precision="float32").precision == "float32"
    assert hdr.merge._chosen_precision("auto", torch.device("cuda")) == "float32"


def test_the_bundled_weights_merge_in_bfloat16_as_in_float32():
    scene = photograph_scene().bracket
    precise, half = (mu_law(Merger("small", "cpu", precision=p)(scene)) for p in ("float32", "bfloat16"))
    difference = (precise - half).abs()
    assert 0 < float(difference.max()) < 2e-3
    assert float((difference > 5e-4).double().mean()) < 1e-4
    tiled = Merger("small", "cpu", tile=128, precision="bfloat16")
    torch.testing.assert_close(mu_law(tiled(scene)), half, rtol=0, atol=1e-3)


def test_bfloat16_is_close_to_float32():
    generator, scene = trained(), bracket(64, 64)
    precise, half = (mu_law(Merger(generator, "cpu", precision=p)(scene, "off")) for p in ("float32", "bfloat16"))
    assert half.dtype == torch.float32
    assert 0 < float((precise - half).abs().mean()) < 0.01


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_images_of_every_floating_type_are_merged_as_those_of_float32(dtype):
    scene = bracket(64, 64)
    in_type, same = (dataclasses.replace(scene, ldr=scene.ldr.to(dtype).to(last)) for last in (dtype, torch.float32))
    merger = Merger("none", "cpu")
    torch.testing.assert_close(merger(in_type, "off"), merger(same, "off"), rtol=1e-4, atol=1e-5)


def test_progress_is_shown_when_asked_and_moves_for_a_single_tile(capsys):
    merger = Merger(Generator(4), device="cpu")
    merger(bracket(40, 40), "off")
    assert capsys.readouterr().err == ""
    merger(bracket(40, 40), "off", progress=True)
    shown = capsys.readouterr().err
    assert "Merging" in shown
    assert "4/4" in shown  # three exposures to align, and a tile


@pytest.mark.parametrize(("count", "size"), [(2, (48, 64)), (3, (48, 60)), (3, (40, 64))])
def test_an_alignment_of_another_bracket_is_refused(count, size):
    other = align(bracket(*size, EXPOSURES[:count]), "off")
    with pytest.raises(ValueError, match=r"the alignment is of . exposures of .*, and the bracket has 3 of \(48, 64\)"):
        Merger(SMALLEST, "cpu")(bracket(48, 64), other)


def test_alignment_is_found_unless_it_is_given(monkeypatch):
    scene = bracket(40, 60)
    merger = Merger("none", "cpu")
    expected = merger(scene, align(scene))
    torch.testing.assert_close(merger(scene), expected)
    monkeypatch.setattr("hdr.merge.align", lambda *_, **__: pytest.fail("aligned in vain"))
    assert merger(scene, Alignment(torch.zeros(3, 2, 40, 60), (40, 60))).shape == expected.shape


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"precision": "float64"}, "precision must be one of auto, float32, bfloat16, float16"),
        ({"tile": 0}, "tile must be at least 1"),
        ({"overlap": -1}, "overlap at least 0"),
        ({"device": "abacus"}, "device must be 'auto' or a device of PyTorch"),
        ({"device": "meta"}, "device 'meta' cannot be used .*; use 'auto' or 'cpu'"),
        ({"device": "vulkan"}, "device 'vulkan' cannot be used .*; use 'auto' or 'cpu'"),
    ],
)
def test_parameters_out_of_range_are_refused(arguments, said):
    with pytest.raises(ValueError, match=said):
        Merger(Generator.from_preset("tiny"), **arguments)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_missing_gpu_is_reported_and_auto_takes_the_cpu():
    assert Merger(Generator.from_preset("tiny")).device.type == "cpu"
    with pytest.raises(ValueError, match="device 'cuda' cannot be used"):
        Merger(Generator.from_preset("tiny"), device="cuda")


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_gpu_merges_like_the_cpu(precision):
    scene, tolerance = bracket(90, 400), 1e-3 if precision == "float32" else 0.1
    generator = trained()
    on_cpu = mu_law(Merger(generator, device="cpu")(scene))
    on_gpu = Merger(generator, device="cuda", tile=64, precision=precision)(scene)
    assert on_gpu.device.type == "cpu"
    assert float((mu_law(on_gpu) - on_cpu).abs().max()) < tolerance


def test_what_stands_still_is_merged_by_the_weights_of_physics_and_denoised():
    scene = photographed(textured(64, 96, darkest=0.01, brightest=0.3), noise=2e-3)
    alignment = align(scene)
    assert alignment.still == (True, False, True)
    generator = trained()
    network, physics = Merger(generator, "cpu"), Merger("none", "cpu")
    torch.testing.assert_close(
        network.with_weights(scene, alignment).weights, physics.with_weights(scene, alignment).weights
    )
    assert (network(scene, alignment) - physics(scene, alignment)).abs().max() > 1e-3
    generator.denoiser = None
    undisturbed = Merger(generator, "cpu")
    torch.testing.assert_close(undisturbed(scene, alignment), physics(scene, alignment), atol=1e-6, rtol=1e-5)
    moving = dataclasses.replace(alignment, still=(False, False, True))
    assert (undisturbed(scene, moving) - physics(scene, moving)).abs().max() > 1e-3


def test_without_denoising_the_noise_stays():
    scene = photographed(textured(64, 96, darkest=0.01, brightest=0.3), noise=2e-3)
    generator = trained()
    kept = Merger(generator, "cpu", denoise=False)
    assert kept.generator.denoiser is None
    assert generator.denoiser is not None  # the user's own stays whole
    torch.testing.assert_close(kept(scene), Merger("none", "cpu")(scene), atol=1e-6, rtol=1e-5)


def test_an_untrained_network_is_not_asked():
    scene = bracket(40, 60)
    alignment, asked = displaced(scene), Merger(Generator.from_preset("small"), "cpu")
    unasked = Merger("none", "cpu")
    assert asked.judge
    assert not unasked.judge
    for one, other in zip(*(merger.with_weights(scene, alignment)[:2] for merger in (asked, unasked)), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("still", [(False, False, False), (True, False, False), (True, False, True)])
def test_without_the_judge_exposures_are_weighed_as_by_a_network_that_has_nothing_to_say(still):
    scene = photographed(textured(64, 96, darkest=0.01, brightest=0.3), noise=2e-3)
    displacement = torch.zeros(3, 2, 64, 96)
    displacement[2, 0] = 1.5
    alignment = Alignment(displacement, scene.size, still)
    generator = trained()
    unjudged = Merger(generator, "cpu", judge=False).with_weights(scene, alignment)
    with torch.no_grad():
        for head in [*(judge.logits for judge in generator.judges), *(one.correction for one in generator.alignment)]:
            head.weight.zero_()
            head.bias.zero_()
    silent = Merger(generator, "cpu").with_weights(scene, alignment)
    torch.testing.assert_close(unjudged.radiance, silent.radiance, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(unjudged.weights, silent.weights)


@pytest.mark.parametrize("still", [(False, False, False), (True, False, False), (True, False, True)])
def test_weights_are_the_mean_of_the_three_channels_and_stillness_is_told(monkeypatch, still):
    scene = photographed(textured(48, 64), noise=2e-3)
    outputs, unjudged = [], Generator.merge_unjudged

    def remember(*given: Any, **told: Any) -> Merged:
        outputs.append((unjudged(*given, **told), told["still"]))
        return outputs[-1][0]

    monkeypatch.setattr(Generator, "merge_unjudged", remember)
    found = Merger("none", "cpu").with_weights(scene, Alignment(torch.zeros(3, 2, 48, 64), scene.size, still))
    ((output, told),) = outputs
    assert told == (still == (True, False, True))
    of_channels = output.weights[0]
    assert float((of_channels[:, 0] - of_channels[:, 1]).abs().max()) > 0.1
    expected = (of_channels[:, 0] + of_channels[:, 1] + of_channels[:, 2]) / 3
    torch.testing.assert_close(found.weights.float(), expected, atol=1e-3, rtol=0)


def test_the_tolerance_of_what_stands_still_is_no_noise_to_remove():
    scene = photographed(textured(48, 64, darkest=0.01, brightest=0.3), noise=2e-3)
    still, moving = (
        observe(scene.ldr, scene.exposures, scene.calibration, still=flags)[None]
        for flags in ((True, False, True), (False, False, False))
    )
    nowhere = torch.zeros(1, 3, 2, 48, 64)
    granted = without_tolerance(bring_to_reference(still, nowhere, 1), 1)
    torch.testing.assert_close(granted.deviation, bring_to_reference(moving, nowhere, 1).deviation)


def test_physical_merge_is_that_of_an_untrained_generator():
    scene = photographed(textured(48, 64), noise=1e-3)
    observations = observe(scene.ldr, scene.exposures, scene.calibration)[None]
    inputs = (observations, scene.exposures[None], 0.7 * torch.ones(1, 3, 2, 48, 64), 1)
    inputs[2][:, 1] = 0
    mixing = scene.calibration.batched_mixing(scene.exposures)
    radiance, weights = physical_merge(*inputs, mixing=mixing)
    merged = load_generator("none")(*inputs, mixing=mixing)
    torch.testing.assert_close(radiance, merged.radiance, atol=1e-6, rtol=0)
    torch.testing.assert_close(weights, merged.weights, atol=1e-6, rtol=0)


@pytest.mark.parametrize("shift", [-60.0, 60.0])
@pytest.mark.parametrize("axis", [0, 1])
def test_squares_hold_all_that_a_long_displacement_points_to(axis, shift):
    """A square reads far outside of itself: as far as the displacement is long."""
    scene = bracket(*((48, 420), (420, 48))[axis])
    displacement = torch.zeros(3, 2, *scene.size)
    displacement[2, axis] = shift
    alignment = Alignment(displacement, scene.size)
    physics = load_generator("none")
    tiled = mu_law(Merger(physics, "cpu", tile=64, overlap=64)(scene, alignment))
    torch.testing.assert_close(tiled, untiled(physics, scene, alignment).clamp_min(0), atol=1e-3, rtol=0)


def test_squares_hold_nothing_on_the_side_that_no_displacement_points_to():
    """A camera that moved to one side does not make tiles larger on the other, nor above and below."""
    held = []
    generator = Generator(4, scales=1)
    generator.register_forward_pre_hook(lambda _, inputs: held.append(inputs[0].shape[-2:]))
    scene = bracket(200, 400)
    displacement = torch.zeros(3, 2, 200, 400)
    displacement[2, 0] = 100.0
    merger = Merger(generator, device="cpu", tile=64, overlap=32)
    merger(scene, Alignment(displacement, scene.size))
    square, margin = merger.tile + merger.overlap, generator.largest_correction + 3
    assert max(height for height, _ in held) <= square + 2 * margin
    assert square + 100 <= max(width for _, width in held) <= square + 100 + 2 * margin


@pytest.mark.parametrize("shift", [-60.5, 60.5])
@pytest.mark.parametrize("axis", [0, 1])
def test_squares_hold_all_that_the_network_may_move_an_exposure_to(axis, shift):
    """Also the edge of a square, which is faded out: the displacement and the largest correction of it stay inside."""
    read = []

    def remember(_, inputs):
        observations, _, displacement, _, corner = inputs[:5]
        side = displacement.shape[-1 - axis]
        places = int(corner[0, 1 - axis]) + shift + torch.tensor([0.0, side - 1.0])
        read.append((float(places[0]), float(places[1]), observations.shape[-1 - axis]))

    generator = Generator(4, scales=3)
    generator.register_forward_pre_hook(remember)
    scene = bracket(*((40, 600), (600, 40))[axis])
    displacement = torch.zeros(3, 2, *scene.size)
    displacement[2, axis] = shift
    Merger(generator, device="cpu", tile=64, overlap=64)(scene, Alignment(displacement, scene.size))
    correction = generator.largest_correction
    assert correction == 14.0
    inner = read[2:-2]  # squares at whose sides the image goes on
    assert len(inner) > 3
    assert min(first for first, _, _ in inner) >= correction
    assert all(last + correction <= held - 1 for _, last, held in inner)
