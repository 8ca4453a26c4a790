"""The generator: before training the physical merge, after it an explicit one, local and bounded."""

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hdr.fusion import noise_of_blend, physical_merge, prior
from hdr.nn import Generator, Merged
from hdr.nn.generator import PRESETS, _network_input, _none_above_a_shorter
from hdr.observation import Aligned, bring_to_reference, observe
from hdr.radiometry import inverse_mu_law, mu_law
from tests.hdr.brackets import photographed, textured
from tests.hdr.generators import random_generator

Inputs = tuple[Tensor, Tensor, Tensor]


class Told(nn.Module):
    """A denoiser that does nothing but keep what it is told."""

    def forward(self, radiance: Tensor, *known: Tensor) -> Tensor:
        self.noise, self.deviation, _, self.share, self.saturation = known
        return radiance


class Darkest(nn.Module):
    """A denoiser that leaves nothing."""

    def forward(self, radiance: Tensor, *_: Tensor) -> Tensor:
        return torch.zeros_like(radiance)


def inputs_of(
    height: int, width: int, exposures: tuple[float, ...] = (1.0, 4.0, 16.0), batch: int = 1, brightest: float = 0.9
) -> Inputs:
    """Observations of scenes of which a part moved, exposures, and a displacement that is 0 for the reference."""
    reference = (len(exposures) - 1) // 2
    every = []
    for seed in range(batch):
        scene = textured(height, width, seed, brightest=brightest)
        instants = [scene.roll(3 * (index - reference), dims=-1) for index in range(len(exposures))]
        for instant in instants:
            instant[..., : width // 2] = scene[..., : width // 2]
        bracket = photographed(instants, exposures, noise=1e-3)
        every.append(observe(bracket.ldr, bracket.exposures, bracket.calibration))
    coarse = torch.randn(batch * len(exposures), 2, 3, 4, generator=torch.Generator().manual_seed(9))
    smooth = nn.functional.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=False)
    displacement = smooth.unflatten(0, (batch, len(exposures)))
    displacement[:, reference] = 0
    return torch.stack(every), torch.tensor([exposures]).expand(batch, -1), displacement


def merged_by(generator: Generator, inputs: Inputs) -> Merged:
    with torch.no_grad():
        return generator(*inputs, reference=(inputs[0].shape[1] - 1) // 2)


@pytest.mark.parametrize(("count", "reference"), [(2, 0), (3, 1), (4, 1), (5, 2)])
def test_the_reference_is_the_middle_exposure_unless_told(count, reference):
    generator, inputs = random_generator(), inputs_of(32, 32, tuple(2.0**index for index in range(count)))
    with torch.no_grad():
        for merge in (generator, generator.merge_unjudged):
            assert torch.equal(merge(*inputs).radiance, merge(*inputs, reference=reference).radiance)


@pytest.mark.parametrize(("preset", "low", "high"), [("tiny", 0, 0.3e6), ("small", 0.5e6, 1.2e6), ("base", 2e6, 6e6)])
def test_presets_have_the_promised_size(preset: str, low: float, high: float) -> None:
    assert low < sum(p.numel() for p in Generator.from_preset(preset).parameters()) < high


@pytest.mark.parametrize("size", [(16, 16), (17, 31), (40, 23)])
def test_any_size_keeps_its_size(size: tuple[int, int]) -> None:
    merged = merged_by(random_generator(), inputs_of(*size, batch=2))
    assert merged.radiance.shape == (2, 3, *size)
    assert merged.weights.shape == (2, 3, 3, *size)


@pytest.mark.parametrize("count", range(2, 8))
@pytest.mark.parametrize("make", [random_generator, Generator.from_preset])
def test_any_number_of_exposures_is_merged_and_each_has_its_share(count: int, make: type) -> None:
    merged = merged_by(make("tiny").eval(), inputs_of(24, 32, tuple(2.0**k for k in range(count)), brightest=0.1))
    assert merged.radiance.shape == (1, 3, 24, 32)
    assert bool(torch.isfinite(merged.radiance).all())
    torch.testing.assert_close(merged.weights.sum(dim=1), torch.ones(1, 3, 24, 32))
    assert bool((merged.weights.amax(dim=(0, 2, 3, 4)) > 0.003).all())  # ten times the least that is possible


@pytest.mark.parametrize("alignment", ["deformable", "none"])
@pytest.mark.parametrize("exposures", [(1.0, 4.0), (1.0, 3.0, 12.0), (1.0, 2.0, 4.0, 8.0, 16.0)])
def test_untrained_generator_is_the_physical_merge(alignment: str, exposures: tuple[float, ...]) -> None:
    inputs = inputs_of(24, 32, exposures)
    reference = (len(exposures) - 1) // 2
    merged = merged_by(Generator.from_preset("tiny", alignment=alignment).eval(), inputs)
    # tests/hdr/test_fusion.py works the prior out pixel by pixel; here, the weighted mean of linear radiance.
    aligned = bring_to_reference(inputs[0], inputs[2], reference)
    weights = prior(aligned, inputs[1], reference).exp()
    radiance = (5001 ** aligned.tone_mapped.double() - 1) / 5000
    mean = (weights * radiance).sum(dim=1) / weights.sum(dim=1)
    ours = radiance[:, reference]
    # Where a channel of the reference is clipped there was light enough for that.
    clipped = ours >= 0.99 / exposures[reference]
    # What is lost but a little darker is a bound, too: in channels within 3 % of clipping, or else in the brightest.
    brightest = ours.amax(dim=1, keepdim=True).clamp_max(0.97 / exposures[reference])
    clipped |= (aligned.saturation[:, reference] >= 0.999) & (ours >= brightest - 1e-9)
    expected = torch.where(clipped, torch.maximum(mean, ours), mean)
    torch.testing.assert_close(merged.radiance, mu_law(expected).float(), atol=1e-4, rtol=0)
    torch.testing.assert_close(merged.weights, weights / weights.sum(dim=1, keepdim=True), atol=1e-5, rtol=0)


def test_the_reference_is_never_interpolated() -> None:
    inputs = inputs_of(32, 40)
    moved = merged_by(random_generator(), inputs).aligned
    assert torch.equal(moved.tone_mapped[:, 1], inputs[0][:, 1, :3])
    assert torch.equal(moved.saturation[:, 1], inputs[0][:, 1, 3:6].clamp_max(1))
    given = bring_to_reference(inputs[0], inputs[2], 1)
    assert not torch.allclose(moved.tone_mapped[:, 0], given.tone_mapped[:, 0], atol=1e-2)  # the others are, and move


@pytest.mark.parametrize("exposures", [(1.0, 4.0), (1.0, 4.0, 16.0)])
def test_result_is_never_below_the_references_saturation(exposures: tuple[float, ...]) -> None:
    inputs = inputs_of(32, 40, exposures, brightest=1.5)
    reference = (len(exposures) - 1) // 2
    clipping = mu_law(torch.tensor(1 / exposures[reference]))
    ours = inputs[0][:, reference, :3]
    clipped = ours >= clipping - 1e-6
    assert 0.02 < clipped.float().mean() < 0.9
    dark = random_generator()
    dark.denoiser = Darkest()  # type: ignore[assignment]
    merged = merged_by(dark, inputs)
    assert bool((merged.radiance[clipped] >= clipping - 1e-6).all())
    unclipped = (ours < mu_law(torch.tensor(0.9 / exposures[reference]))).all(dim=1, keepdim=True).expand_as(ours)
    assert unclipped.float().mean() > 0.1
    assert bool((merged.radiance[unclipped] == 0).all())


def test_the_merge_is_denoised_by_what_is_left_in_it_of_noise() -> None:
    inputs = inputs_of(32, 40)
    generator = random_generator()
    found = merged_by(generator, inputs)
    aligned, weights = found.aligned, found.weights
    blend = mu_law((weights * inverse_mu_law(aligned.tone_mapped)).sum(dim=1))
    known = (*noise_of_blend(aligned, weights, blend), weights[:, 1], aligned.saturation[:, 1])
    assert generator.denoiser is not None
    with torch.no_grad():
        denoised = generator.denoiser(blend, *known)
    unclipped = (inputs[0][:, 1, :3] < mu_law(torch.tensor(0.9 / 4))).all(dim=1, keepdim=True).expand_as(denoised)
    torch.testing.assert_close(found.radiance[unclipped], denoised[unclipped], atol=1e-4, rtol=0)
    assert float((found.radiance - blend)[unclipped].abs().max()) > 0.005
    generator.denoiser = None
    torch.testing.assert_close(merged_by(generator, inputs).radiance[unclipped], blend[unclipped], atol=1e-6, rtol=0)


def test_what_stands_still_is_denoised_by_what_is_expected_of_noise_without_the_tolerance() -> None:
    bracket = photographed(textured(32, 40), noise=2e-3)
    granted, plain = (
        observe(bracket.ldr, bracket.exposures, bracket.calibration, still=flags)[None]
        for flags in ((True, False, True), ())
    )
    generator = random_generator()
    generator.denoiser = told = Told()  # type: ignore[assignment]
    with torch.no_grad():
        weights = generator.merge_unjudged(
            granted, bracket.exposures[None], torch.zeros(1, 3, 2, 32, 40), 1, still=True
        ).weights
    expected = (weights * plain[:, :, 6:7]).square().sum(dim=1).sqrt()
    torch.testing.assert_close(told.deviation, expected, rtol=1e-3, atol=0)
    torch.testing.assert_close(told.share, weights[:, 1])
    torch.testing.assert_close(told.saturation, plain[:, 1, 3:6].clamp_max(1))
    assert float((granted[:, :, 6] / plain[:, :, 6]).max()) > 2


def test_weights_are_those_of_physics_and_of_the_judge_together() -> None:
    inputs = inputs_of(24, 32)
    generator = Generator.from_preset("tiny", alignment="none").eval()
    physics = merged_by(generator, inputs).weights
    with torch.no_grad():
        last: Any = generator.judges[0].logits
        last.bias += 3.0  # one logit for all exposures changes nothing
        torch.testing.assert_close(merged_by(generator, inputs).weights, physics, atol=1e-5, rtol=0)
        last.weight.normal_(std=10.0)
        judged = merged_by(generator, inputs)
    assert (judged.weights - physics).abs().max() > 0.1
    blend = (judged.weights * inverse_mu_law(judged.aligned.tone_mapped)).sum(dim=1)
    unclipped = (inputs[0][:, 1, :3] < mu_law(torch.tensor(0.9 / 4))).all(dim=1, keepdim=True).expand_as(blend)
    torch.testing.assert_close(judged.radiance[unclipped], mu_law(blend)[unclipped], atol=1e-5, rtol=0)


@pytest.mark.parametrize(("noise", "trusted"), [(0.04, 1.0), (0.048, 1.0), (0.06, 0.5), (0.072, 0.0), (0.2, 0.0)])
def test_in_more_noise_than_it_has_learned_from_the_judge_is_not_asked(
    noise: float, trusted: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = inputs_of(24, 32)
    # One radiance everywhere, so that the slope of the mu-law is known there.
    inputs[0][:, :, :3], inputs[0][:, :, 3:6] = 0.3, 0.0
    inputs[0][:, 1, 7:10] = noise * 5001**0.3 * math.log(5001) / 5000
    generator = Generator.from_preset("tiny", alignment="none").eval()
    with torch.no_grad():
        generator.judges[0].logits.weight.normal_(std=1.0)  # type: ignore[union-attr, operator]
    asked = judged_relative_to_physics(generator, inputs)[1]
    monkeypatch.setattr("hdr.nn.generator._trust", lambda *_: 1.0)
    fully = judged_relative_to_physics(generator, inputs)[1]
    asked, fully = (nats - nats[:, 1:2] for nats in (asked, fully))
    assert float(fully.abs().max()) > 0.1
    torch.testing.assert_close(asked, trusted * fully, atol=1e-3, rtol=0)


def judged_relative_to_physics(generator: Generator, inputs: Inputs, **flags: Tensor) -> tuple[Merged, Tensor]:
    """A merge, and by how many nats its weights (1, N, 3, H, W) are off those of physics for what it has read."""
    reference = (inputs[0].shape[1] - 1) // 2
    with torch.no_grad():
        found = generator(*inputs, reference, **flags)
    return found, found.weights.log() - prior(found.aligned, inputs[1], reference)


@pytest.mark.parametrize("exposures", [(1.0, 4.0), (1.0, 2.0, 4.0, 8.0, 16.0)])
def test_no_clipped_exposure_is_preferred_to_a_shorter_one_that_is_clipped(exposures: tuple[float, ...]) -> None:
    inputs = inputs_of(32, 40, exposures, brightest=8.0)
    found, judged = judged_relative_to_physics(random_generator(), inputs)
    clipped = (found.aligned.saturation == 1).all(dim=2) & (found.aligned.seen[:, :, 0] > 0)
    pairs = 0
    for shorter, longer in itertools.combinations(range(len(exposures)), 2):
        both = (clipped[:, shorter] & clipped[:, longer])[0]
        pairs += int(both.sum())
        assert bool((judged[0, longer, 0, both] - judged[0, shorter, 0, both] < 1e-3).all())
    assert pairs > 20


@pytest.mark.parametrize(
    ("unclipped", "unseen", "expected"),
    [
        ([], [], (-2.0, -2.0, -2.0)),
        ([(1, 0), (1, 1), (1, 2)], [], (-2.0, 1.0, -2.0)),
        ([(0, 2)], [], (-2.0, 1.0, 0.5)),  # one channel still tells what is there
        ([], [0], (-2.0, 1.0, 0.5)),  # beside the frame its edge is repeated
        ([(0, 2)], [1], (-2.0, 1.0, 0.5)),
    ],
)
def test_only_exposures_that_saw_a_place_and_clip_in_all_channels_bound_longer_ones(
    unclipped: list[tuple[int, int]], unseen: list[int], expected: tuple[float, float, float]
) -> None:
    light = torch.ones(1, 3, 3, 1, 1)
    saturation, seen = light.clone(), light[:, :, :1].clone()
    for exposure, channel in unclipped:
        saturation[:, exposure, channel] = 0.9
    seen[:, unseen] = 0
    aligned = Aligned(light, saturation, light[:, :, :1], light, seen, torch.zeros_like(seen))
    bounded = _none_above_a_shorter(torch.tensor([-2.0, 1.0, 0.5]).view(1, 3, 1, 1, 1), aligned)
    torch.testing.assert_close(bounded.flatten(), torch.tensor(expected))


def test_where_nothing_moves_exposures_are_not_moved_nor_preferred_in_what_the_reference_lost() -> None:
    inputs = inputs_of(32, 40, brightest=2.0)
    generator, still = random_generator(), torch.tensor([[True, False, False]])
    free, _ = judged_relative_to_physics(generator, inputs)
    found, judged = judged_relative_to_physics(generator, inputs, still=still)
    given = bring_to_reference(inputs[0], inputs[2], 1)
    assert torch.equal(found.aligned.tone_mapped[:, 0], given.tone_mapped[:, 0])
    assert torch.equal(found.aligned.tone_mapped[:, 2], free.aligned.tone_mapped[:, 2])
    assert not torch.equal(free.aligned.tone_mapped[:, 0], given.tone_mapped[:, 0])
    lost = inputs[0][0, 1, 3:6].amax(dim=0) > 0
    both_clipped = (found.aligned.saturation[0, 0] == 1).all(dim=0)
    told_apart = (judged[0, 0, 0] - judged[0, 1, 0]).abs()
    assert float(told_apart[lost & ~both_clipped].max()) < 1e-3
    assert float(told_apart[~lost].mean()) > 0.01
    assert int((lost & ~both_clipped).sum()) > 20


def test_no_clipped_exposure_is_preferred_to_a_shorter_one_in_which_nothing_moves() -> None:
    # Of several exposures some may be found still and others not; what the former show of lost light is right.
    inputs = inputs_of(32, 40, (1.0, 2.0, 4.0, 8.0, 16.0), brightest=2.0)
    found, judged = judged_relative_to_physics(
        random_generator(), inputs, still=torch.tensor([[True, False, False, False, False]])
    )
    reference_lost = (found.aligned.saturation[0, 2] > 0).any(dim=0)
    shown = (found.aligned.seen[0, 0, 0] > 0) & (found.aligned.saturation[0, 0] == 0).all(dim=0)
    for longer in (1, 2):
        clipped = (found.aligned.saturation[0, longer] == 1).all(dim=0) & (found.aligned.seen[0, longer, 0] > 0)
        places = reference_lost & shown & clipped
        assert int(places.sum()) > 20
        assert float((judged[0, longer, 0] - judged[0, 0, 0])[places].max()) < 1e-3


def test_flags_for_each_example_are_its_own() -> None:
    inputs = inputs_of(24, 32, batch=2)
    still = torch.tensor([[True, False, True], [False, False, False]])
    generator = random_generator()
    with torch.no_grad():
        both = generator(*inputs, still=still).radiance
        alone = [generator(*(part[k : k + 1] for part in inputs), still=still[k : k + 1]).radiance[0] for k in range(2)]
    torch.testing.assert_close(both, torch.stack(alone), atol=1e-5, rtol=0)


def test_hooks_are_called_for_every_convolution_and_what_they_keep_stays() -> None:
    # So that layers can be explained: an output that is changed in place after the hook would be another layer's.
    generator = random_generator()
    assert generator.denoiser is not None
    kept: dict[str, list[tuple[Tensor, Tensor]]] = {}

    def keep(name: str) -> Any:
        return lambda _module, _inputs, output: kept.setdefault(name, []).append((output, output.clone()))

    convolutions = {
        f"{part}.{name}": module
        for part, parent in (("encoder", generator.encoder), ("denoiser", generator.denoiser))
        for name, module in parent.named_modules()
        if isinstance(module, nn.Conv2d)
    }
    assert len(convolutions) > 10
    for name, module in convolutions.items():
        module.register_forward_hook(keep(name))
    merged_by(generator, inputs_of(32, 40))
    assert kept.keys() == convolutions.keys()
    overwritten = [name for name, every in kept.items() if any(not torch.equal(*outputs) for outputs in every)]
    assert overwritten == []


def test_training_mode_gives_the_coarser_scales() -> None:
    inputs = inputs_of(32, 48, batch=2)
    generator = Generator.from_preset("tiny").train()
    output = generator(*inputs)
    assert [tuple(c.shape) for c in output.coarser] == [(2, 3, 8, 12), (2, 3, 4, 6)]
    assert generator.eval()(*inputs).coarser == ()


def test_training_mode_gives_the_physical_merge_beside_the_learned_one() -> None:
    inputs = inputs_of(32, 48, batch=2)
    output = random_generator().train()(*inputs)
    expected = physical_merge(*inputs, reference=1)[0]
    assert (output.radiance - expected).abs().max() > 1e-3
    torch.testing.assert_close(output.physical, expected)
    assert not output.physical.requires_grad
    assert random_generator().eval()(*inputs).physical is None


@pytest.mark.parametrize("alignment", ["deformable", "none"])
@pytest.mark.parametrize("attention", [True, False])
def test_every_parameter_learns(alignment: str, attention: bool) -> None:
    generator = random_generator(alignment=alignment, attention=attention).train()
    output = generator(*inputs_of(32, 32))
    sum(((c**2).mean() for c in output.coarser), (output.radiance**2).mean()).backward()
    without = [name for name, p in generator.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert without == []


def test_an_untrained_generator_learns_from_its_first_update() -> None:
    # Zero-initialised heads learn at once; what lies under them, from the second update on.
    generator = Generator.from_preset("tiny").train()
    inputs = inputs_of(32, 32)
    optimizer = torch.optim.SGD(generator.parameters(), 0.1)
    for _ in range(2):
        optimizer.zero_grad()
        output = generator(*inputs)
        sum(((c**2).mean() for c in output.coarser), (output.radiance**2).mean()).backward()
        optimizer.step()
    without = [name for name, p in generator.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert without == []


def test_switched_off_parts_are_gone() -> None:
    plain = Generator.from_preset("tiny", alignment="none", attention=False, deep_supervision=False, denoising=False)
    names = " ".join(dict(plain.named_parameters()))
    assert "denoiser" not in names
    assert "alignment" not in names
    assert "gates" not in names
    assert "coarse_residuals" not in names
    assert plain.largest_correction == 0
    assert plain.train()(*inputs_of(16, 16)).coarser == ()


def test_exposures_move_no_further_than_the_largest_correction() -> None:
    generator = random_generator()
    with torch.no_grad():
        for stage in generator.alignment:
            stage.get_parameter("correction.bias").fill_(
                100.0
            )  # every scale corrects by all that it may, right and down
    # The position of each pixel as its radiance: what is read tells where it was read.
    ramp = torch.arange(96.0).expand(1, 2, 3, 32, 96) / 96
    rest = torch.zeros(1, 2, 8, 32, 96) + 0.01
    inputs = (torch.cat([ramp, rest], dim=2), torch.tensor([[1.0, 4.0]]), torch.zeros(1, 2, 2, 32, 96))
    read = merged_by(generator, inputs).aligned.tone_mapped[0, 1, 0, :, :64] * 96
    moved = read - torch.arange(64.0)
    assert moved.max() <= generator.largest_correction + 1e-3
    assert moved.max() > 0.9 * generator.largest_correction


def test_a_region_with_its_surroundings_is_merged_as_in_the_whole() -> None:
    # In float64: random logits make differences of rounding visible that belong to no distance.
    generator, (ldr, radiance, displacement) = random_generator().double(), inputs_of(24, 320)
    inputs = ldr.double(), radiance.double(), displacement.double()
    whole = merged_by(generator, inputs).radiance
    with torch.no_grad():
        region = generator(inputs[0], inputs[1], inputs[2][..., 64:], 1, torch.tensor([[0, 64]])).radiance
    torch.testing.assert_close(region[..., 64:], whole[..., 128:], atol=1e-4, rtol=0)
    torch.testing.assert_close(region[..., 160:], whole[..., 224:], atol=1e-9, rtol=0)
    assert (region[..., :8] - whole[..., 64:72]).abs().max() > 1e-3  # surroundings matter


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({0: torch.rand(3, 11, 32, 32)}, "expected observations of shape"),
        ({0: torch.rand(1, 1, 11, 32, 32)}, "N >= 2"),
        ({0: torch.rand(1, 3, 5, 32, 32)}, "expected observations of shape"),
        ({0: torch.zeros(1, 3, 11, 32, 32, dtype=torch.uint8)}, "floating-point"),
        ({1: torch.ones(1, 2)}, r"exposures of shape \(1, 3\), got \(1, 2\)"),
        ({2: torch.zeros(1, 3, 32, 32)}, "displacement of shape"),
        ({2: torch.zeros(1, 2, 2, 32, 32)}, "displacement of shape"),
        ({2: torch.zeros(1, 3, 2, 15, 32)}, "H and W >= 16"),
        ({3: 3}, "one of 3 exposures, got index 3"),
    ],
)
def test_other_inputs_are_refused(change: dict[int, Tensor], said: str) -> None:
    inputs: list[Any] = [
        torch.rand(1, 3, 11, 32, 32),
        torch.tensor([[1.0, 4.0, 16.0]]),
        torch.zeros(1, 3, 2, 32, 32),
        1,
    ]
    for place, value in change.items():
        inputs[place] = value
    generator = Generator.from_preset("tiny")
    for merge in (generator, generator.merge_unjudged):
        with pytest.raises(ValueError, match=said):
            merge(*inputs)


@pytest.mark.parametrize("reference", [-1, 3])
def test_a_reference_that_is_none_of_the_exposures_is_refused(reference: int) -> None:
    with pytest.raises(ValueError, match=f"must be one of 3 exposures, got index {reference}"):
        Generator.from_preset("tiny")(*inputs_of(16, 16), reference=reference)


@pytest.mark.parametrize(
    "still", [torch.tensor([[1, 0, 0]]), torch.tensor([True, False, False]), torch.tensor([[True, False]])]
)
def test_other_flags_are_refused(still: Tensor) -> None:
    with pytest.raises(ValueError, match=r"booleans of shape \(1, 3\), got torch\.(int64|bool) of shape \("):
        random_generator()(*inputs_of(16, 16), still=still)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"base_channels": 6}, "base_channels"),
        ({"scales": 5}, "scales"),
        ({"blocks": 0}, "blocks"),
        ({"alignment": "flow"}, "alignment"),
    ],
)
def test_impossible_architectures_are_refused(arguments: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        Generator(**arguments)


def test_unknown_preset_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'huge'; choose one of tiny, small, base"):
        Generator.from_preset("huge")


def test_stride_is_what_inputs_are_padded_to() -> None:
    assert Generator(base_channels=8, scales=2).stride == 4
    assert all(Generator.from_preset(preset).stride == 8 for preset in PRESETS)


def test_bfloat16_autocast_on_cpu_is_close_to_float32() -> None:
    generator, inputs = random_generator(), inputs_of(32, 32)
    exact = merged_by(generator, inputs).radiance
    with torch.autocast("cpu", torch.bfloat16):
        rounded = merged_by(generator, inputs).radiance
    assert rounded.dtype == torch.float32
    assert (rounded - exact).abs().mean() < 0.05 * exact.abs().mean()


def test_half_precision_leaves_the_physics_exact() -> None:
    inputs = inputs_of(32, 32)
    untrained = Generator.from_preset("tiny").eval()
    exact = merged_by(untrained, inputs).radiance
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(merged_by(untrained, inputs).radiance, exact, atol=1e-5, rtol=0)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_equals_cpu_and_trains_in_bfloat16() -> None:
    generator, inputs = random_generator(), inputs_of(40, 56)
    expected = merged_by(generator, inputs).radiance
    on_gpu = inputs[0].cuda(), inputs[1].cuda(), inputs[2].cuda()
    torch.testing.assert_close(merged_by(generator.cuda(), on_gpu).radiance.cpu(), expected, atol=1e-3, rtol=1e-3)
    with torch.autocast("cuda", torch.bfloat16):
        output = generator.train()(*on_gpu)
    output.radiance.square().mean().backward()
    assert all(torch.isfinite(p.grad).all() for p in generator.parameters() if p.grad is not None)


def test_no_two_presets_are_alike() -> None:
    configurations = [Generator.from_preset(preset).config for preset in PRESETS]
    assert all(one != other for one, other in itertools.combinations(configurations, 2))


def test_the_network_sees_each_exposure_in_eleven_numbers() -> None:
    source = torch.Generator().manual_seed(0)
    shown, saturation, belief = (torch.rand(1, 3, 3, 4, 5, generator=source) for _ in range(3))
    deviation = 0.1 * torch.rand(1, 3, 1, 4, 5, generator=source)  # some of it is more than 2 / 30
    shown[:, 0, :, 0] = 1.0  # far from the reference, if not from what clips it
    exposures = torch.tensor([[1.0, 2.0, 16.0]])
    seen = (torch.rand(1, 3, 1, 4, 5, generator=source) < 0.5).float()
    aligned = Aligned(shown, saturation, deviation, shown, seen, 0 * seen)
    found = _network_input(aligned, -8 * belief, exposures, 1)[0]
    for index, stops in enumerate((-1.0, 0.0, 3.0)):
        limit = math.log1p(5000 / max(float(exposures[0, index]), 2.0)) / math.log(5001)
        difference = shown[0, index].clamp(max=limit) - shown[0, 1].clamp(max=limit)
        parts = [
            shown[0, index],
            (4 * difference).clamp(-2, 2),
            saturation[0, index].amax(dim=0, keepdim=True),
            (30 * deviation[0, index]).clamp(max=2),
            seen[0, index],
            -belief[0, index].amax(dim=0, keepdim=True),
            torch.full((1, 4, 5), stops / 4),
        ]
        torch.testing.assert_close(found[index], torch.cat(parts))
