"""Merging: tiles do not show, memory is the tile's, the model comes back as it was."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hdr.bracket import Bracket
from hdr.merge import Merger
from hdr.nn.generator import Generator
from hdr.radiometry import exposure_stack, inverse_mu_law, mu_law
from tests.hdr.generators import random_generator

SMALLEST = Generator(4, scales=3)


def bracket(height: int, width: int, seed: int = 0) -> Bracket:
    source = torch.Generator().manual_seed(seed)
    coarse = torch.rand(3, 3, height // 8 + 2, width // 8 + 2, generator=source)
    smooth = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic").clamp(0, 1)
    noise = 0.2 * torch.rand(3, 3, height, width, generator=source)
    # Below saturation, where the result is the network's own.
    return Bracket((smooth + noise).clamp(0, 0.99), torch.tensor([1.0, 4.0, 16.0]))


def untiled(generator: Generator, scene: Bracket) -> torch.Tensor:
    with torch.no_grad():
        return generator(exposure_stack(scene.ldr, scene.exposures)[None])[0].clamp_min(0)


@pytest.mark.parametrize(("height", "width"), [(150, 601), (517, 90)])
def test_tiled_equals_untiled_everywhere_in_the_mu_law_domain(height, width):
    # Every layer has random weights, so that displacements run into their bounds and every pixel matters.
    generator, scene = random_generator(scales=2, max_offset=16), bracket(height, width)
    merger = Merger(generator, device="cpu", tile=64)
    assert len(list(merger._spans(max(height, width)))) > 3
    difference = (mu_law(merger(scene)) - untiled(generator, scene)).abs()
    assert float(untiled(generator, scene).std()) > 0.1
    assert float(difference.max()) < 1e-3


@pytest.mark.parametrize("preset", ["tiny", "small", "base"])
def test_tiled_equals_untiled_for_every_preset(preset):
    generator, scene = random_generator(preset), bracket(48, 1100)
    merger = Merger(generator, device="cpu", tile=256)
    assert len(list(merger._spans(1100))) > 1
    assert float((mu_law(merger(scene)) - untiled(generator, scene)).abs().max()) < 1e-3


def test_pixels_outside_of_the_context_of_a_tile_do_matter():
    # The promise above is not empty: with too little overlap the same network gives another picture.
    generator, scene = random_generator(), bracket(64, 700)
    scanty = Merger(generator, device="cpu", tile=64, overlap=32)
    assert float((mu_law(scanty(scene)) - untiled(generator, scene)).abs().max()) > 1e-3


class _Alternating(Generator):
    """Every other picture that it returns is brighter: tiles that could not be more visible."""

    calls = 0

    def forward(self, exposures):
        self.calls += 1
        return mu_law(exposures[:, 1, 3:]) + 0.1 * (self.calls % 2)


def test_tiles_fade_into_each_other():
    flat = Bracket(torch.full((3, 3, 32, 2000), 0.5), torch.tensor([1.0, 4.0, 16.0]))
    merged = mu_law(Merger(_Alternating(), device="cpu", tile=160, overlap=64)(flat))
    steps = (merged[..., 1:] - merged[..., :-1]).abs().max()
    assert float(merged.max() - merged.min()) > 0.09
    assert float(steps) < 0.1 / 32 + 1e-4


@settings(max_examples=60, deadline=None)
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


def test_context_beside_the_blend_is_the_receptive_field():
    merger = Merger(Generator.from_preset("tiny"), device="cpu")
    fade = merger._fade(512, 512 + merger.tile + merger.overlap, 10**6)
    assert bool((fade[: merger.generator.halo] == 0).all())
    assert bool((fade[-merger.generator.halo :] == 0).all())


def test_network_never_sees_more_than_tile_and_overlap():
    seen = []
    generator = random_generator(scales=1, max_offset=2)
    generator.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[-2:]))
    merger = Merger(generator, device="cpu", tile=64)
    merger(bracket(300, 500))
    assert len(seen) > 4
    assert max(max(shape) for shape in seen) <= merger.tile + merger.overlap


def test_radiance_is_on_the_scale_on_which_the_short_exposure_saturates_at_1():
    # An untrained generator returns the reference's own radiance but for a few per cent.
    scene = Bracket(torch.full((3, 3, 32, 40), 0.8), torch.tensor([1.0, 1.0 / 0.9**2.2 * 2, 16.0]))
    merged = Merger(Generator.from_preset("tiny"), device="cpu")(scene)
    with torch.no_grad():
        direct = inverse_mu_law(untiled(Generator.from_preset("tiny").eval(), scene))
    torch.testing.assert_close(merged, direct, rtol=0.3, atol=0)
    assert float(merged.mean()) == pytest.approx(float(scene.radiance(1).mean()), rel=0.3)


def test_negative_output_becomes_black():
    class Negative(Generator):
        def forward(self, exposures):
            return torch.full_like(exposures[:, 0, :3], -0.5)

    assert torch.equal(Merger(Negative(), device="cpu")(bracket(20, 24)), torch.zeros(3, 20, 24))


def test_saturated_reference_proves_that_there_was_light():
    class Black(Generator):
        def forward(self, exposures):
            return torch.zeros_like(exposures[:, 0, :3])

    ldr = torch.full((3, 3, 600, 20), 0.3)
    ldr[1, 0, 300:] = 1.0  # red of the reference, on both sides of the rows that are finished at once
    merged = Merger(Black(), device="cpu")(Bracket(ldr, torch.tensor([1.0, 4.0, 16.0])))
    torch.testing.assert_close(merged[0, 300:], torch.full((300, 20), 1 / 4))
    assert float(merged[0, :300].abs().max()) == float(merged[1:].abs().max()) == 0.0


def test_undefined_output_is_an_error_that_names_the_place():
    class Undefined(Generator):
        def forward(self, exposures):
            return torch.full_like(exposures[:, 0, :3], float("nan"))

    with pytest.raises(FloatingPointError, match="rows 0 to 20, columns 0 to 24; merge with precision='float32'"):
        Merger(Undefined(), device="cpu")(bracket(20, 24))


def test_generator_comes_back_as_it_was():
    generator = random_generator().to(torch.float64).train()
    generator.refinement.eval()
    modes = [module.training for module in generator.modules()]
    before = {name: tensor.clone() for name, tensor in generator.state_dict().items()}
    Merger(generator, device="cpu")(bracket(40, 40))
    assert [module.training for module in generator.modules()] == modes
    assert all(torch.equal(tensor, before[name]) for name, tensor in generator.state_dict().items())
    assert all(p.grad is None and p.requires_grad and p.dtype == torch.float64 for p in generator.parameters())


def test_bfloat16_is_close_to_float32():
    generator, scene = Generator.from_preset("tiny"), bracket(64, 64)
    precise, half = (mu_law(Merger(generator, "cpu", precision=p)(scene)) for p in ("float32", "bfloat16"))
    assert half.dtype == torch.float32
    difference = (precise - half).abs()
    assert 0 < float(difference.mean()) < 0.01
    # Where the reference saturates, the short exposure is warped in: white noise, moved by a rounded displacement.
    unsaturated = (scene.reference.amax(dim=0) < 0.9).expand_as(difference)
    assert float(difference[unsaturated].max()) < 0.02


def test_progress_is_shown_when_asked(capsys):
    merger = Merger(random_generator(), device="cpu")
    merger(bracket(40, 40))
    assert capsys.readouterr().err == ""
    merger(bracket(40, 40), progress=True)
    assert "Merging" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"precision": "float64"}, "precision must be one of float32, bfloat16, float16"),
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
    generator = Generator.from_preset("tiny")
    on_cpu = mu_law(Merger(generator, device="cpu")(scene))
    on_gpu = Merger(generator, device="cuda", tile=64, precision=precision)(scene)
    assert on_gpu.device.type == "cpu"
    assert float((mu_law(on_gpu) - on_cpu).abs().max()) < tolerance
