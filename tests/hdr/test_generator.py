import pytest
import torch

from hdr.nn import Generator, TrainingOutput
from hdr.nn.generator import PRESETS
from hdr.radiometry import exposure_stack, linear_to_ldr, mu_law
from tests.hdr.generators import random_generator


def stack_of(height: int, width: int, batch: int = 1, seed: int = 0) -> torch.Tensor:
    ldr = torch.rand(batch, 3, 3, height, width, generator=torch.Generator().manual_seed(seed))
    return exposure_stack(ldr, torch.tensor([[1.0, 4.0, 16.0]]).expand(batch, 3))


@pytest.mark.parametrize(("preset", "low", "high"), [("tiny", 0, 0.3e6), ("small", 0.8e6, 1.2e6), ("base", 2e6, 6e6)])
def test_presets_have_the_promised_size(preset: str, low: float, high: float) -> None:
    assert low < sum(p.numel() for p in Generator.from_preset(preset).parameters()) < high


@pytest.mark.parametrize("size", [(16, 16), (17, 31), (40, 23)])
def test_any_size_keeps_its_size(size: tuple[int, int]) -> None:
    with torch.no_grad():
        assert Generator.from_preset("tiny").eval()(stack_of(*size, batch=2)).shape == (2, 3, *size)


@pytest.mark.parametrize("alignment", ["deformable", "none"])
def test_untrained_output_is_close_to_the_references_radiance(alignment: str) -> None:
    radiance = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 0.2
    t = torch.tensor([[1.0, 4.0, 16.0]])
    ldr = linear_to_ldr(radiance[:, None], t[..., None, None, None])
    with torch.no_grad():
        output = Generator.from_preset("tiny", alignment=alignment).eval()(exposure_stack(ldr, t))
    assert (output - mu_law(radiance)).abs().mean() < 0.02


def test_untrained_output_takes_the_short_exposure_where_the_reference_is_saturated() -> None:
    radiance = torch.full((1, 3, 32, 32), 0.7)
    t = torch.tensor([[1.0, 4.0, 16.0]])
    ldr = linear_to_ldr(radiance[:, None], t[..., None, None, None])
    with torch.no_grad():
        output = Generator.from_preset("tiny").eval()(exposure_stack(ldr, t))
    assert (output - mu_law(radiance)).abs().max() < 0.01  # the reference alone would be off by 0.12


def test_training_mode_gives_every_scale_and_displacements() -> None:
    output = Generator.from_preset("tiny").train()(stack_of(32, 48, batch=2))
    assert isinstance(output, TrainingOutput)
    assert output.radiance.shape == (2, 3, 32, 48)
    assert [tuple(c.shape) for c in output.coarser] == [(2, 3, 16, 24), (2, 3, 8, 12)]
    assert [tuple(d.shape) for d in output.displacements] == [(2, 2, 2, 16, 24), (2, 2, 2, 8, 12), (2, 2, 2, 4, 6)]


@pytest.mark.parametrize("alignment", ["deformable", "none"])
@pytest.mark.parametrize("attention", [True, False])
def test_every_parameter_learns(alignment: str, attention: bool) -> None:
    torch.manual_seed(0)
    generator = random_generator(alignment=alignment, attention=attention).train()
    output = generator(stack_of(32, 32))
    sum(((c**2).mean() for c in output.coarser), (output.radiance**2).mean()).backward()
    without = [name for name, p in generator.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert without == []


def test_switched_off_parts_are_gone() -> None:
    plain = Generator.from_preset("tiny", alignment="none", attention=False, deep_supervision=False)
    names = " ".join(dict(plain.named_parameters()))
    assert "alignment" not in names
    assert "matching" not in names
    assert "gates" not in names
    assert "coarse_heads" not in names
    assert plain.train()(stack_of(16, 16)).coarser == ()


def changed_columns(generator: Generator, width: int, column: int) -> torch.Tensor:
    stack = stack_of(16, width, seed=4)
    other = stack.clone()
    other[..., column] = 1 - other[..., column]
    with torch.no_grad():
        return (generator(stack) - generator(other)).abs().amax(dim=(0, 1, 2)).nonzero().flatten()


def test_nothing_outside_the_halo_matters() -> None:
    generator = random_generator(max_offset=16)
    column = generator.halo + 40
    changed = changed_columns(generator, 2 * generator.halo + 96, column)
    assert column - generator.halo <= int(changed[0])
    assert int(changed[-1]) <= column + generator.halo
    # The bound is of use: what is changed is not far narrower.
    assert int(changed[-1] - changed[0]) > generator.halo


def test_halo_without_alignment_is_smaller_and_holds() -> None:
    generator = random_generator(alignment="none")
    assert generator.halo < random_generator().halo
    changed = changed_columns(generator, 2 * generator.halo + 64, generator.halo + 16)
    assert int(changed[0]) >= 16
    assert int(changed[-1]) <= 2 * generator.halo + 16


def test_receptive_field_and_stride_are_stated() -> None:
    for preset in PRESETS:
        generator = Generator.from_preset(preset)
        assert generator.halo % generator.stride == 0
        assert generator.receptive_field == 2 * generator.halo + 1
    assert Generator(base_channels=8, scales=2).stride == 4


@pytest.mark.parametrize(
    "shape", [(3, 6, 32, 32), (1, 2, 6, 32, 32), (1, 3, 3, 32, 32), (1, 3, 6, 15, 32), (1, 3, 6, 32, 8)]
)
def test_other_inputs_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected \(B, 3, 6, H, W\)"):
        Generator.from_preset("tiny")(torch.rand(shape))
    with pytest.raises(ValueError, match="floating-point"):
        Generator.from_preset("tiny")(torch.zeros(1, 3, 6, 16, 16, dtype=torch.uint8))


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"base_channels": 6}, "base_channels"),
        ({"scales": 5}, "scales"),
        ({"blocks": 0}, "blocks"),
        ({"alignment": "flow"}, "alignment"),
        ({"max_offset": 7}, "max_offset"),
    ],
)
def test_impossible_architectures_are_refused(arguments: dict[str, object], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        Generator(**arguments)


def test_unknown_preset_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'huge'; choose one of tiny, small, base"):
        Generator.from_preset("huge")


def test_bfloat16_autocast_on_cpu_is_close_to_float32() -> None:
    generator = random_generator()
    stack = stack_of(32, 32)
    with torch.no_grad():
        exact = generator(stack)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = generator(stack)
    assert rounded.dtype == torch.float32
    assert (rounded - exact).abs().mean() < 0.05 * exact.abs().mean()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_equals_cpu_and_trains_in_bfloat16() -> None:
    generator = random_generator()
    stack = stack_of(40, 56)
    with torch.no_grad():
        expected = generator(stack)
        torch.testing.assert_close(generator.cuda()(stack.cuda()).cpu(), expected, atol=1e-3, rtol=1e-3)
    with torch.autocast("cuda", torch.bfloat16):
        output = generator.train()(stack.cuda())
    output.radiance.square().mean().backward()
    assert all(torch.isfinite(p.grad).all() for p in generator.parameters() if p.grad is not None)
