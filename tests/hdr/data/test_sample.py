"""What a data set gives for a scene is what the merger makes of the same bracket."""

import pytest
import torch
from torch.utils.data import default_collate

from hdr.calibration import Calibration
from hdr.data.sample import calibration_of, make_sample
from hdr.merge import Merger
from hdr.mixing import NO_MIXING, TYPICAL, ColourMixing
from hdr.nn.generator import Generator
from hdr.radiometry import inverse_mu_law
from hdr.response import Response
from tests.hdr.brackets import photographed, textured


def scene(side: int = 64):
    still = textured(side, side)
    return photographed([still.roll(3, dims=-1), still, still], noise=1e-3), still


def test_a_sample_is_merged_as_the_merger_merges_its_bracket() -> None:
    bracket, truth = scene()
    sample = make_sample("a", bracket.ldr, bracket.exposures, truth, bracket.calibration, 1)
    with torch.no_grad():
        merged = Generator.from_preset("tiny").eval()(
            sample["observations"][None], sample["exposures"][None], sample["displacement"][None], 1
        )
    # As good as the same bracket in the merger, which also looks for a motion of the camera.
    direct = Merger("none", "cpu")(bracket)
    errors = [(radiance - truth).abs().mean() for radiance in (inverse_mu_law(merged.radiance[0]), direct)]
    assert errors[0] < 1.3 * errors[1]


def test_a_crop_is_a_part_of_the_whole_with_all_that_is_around_it() -> None:
    bracket, truth = scene()
    every = (bracket.ldr, bracket.exposures, truth, bracket.calibration, 1)
    whole, part = make_sample("a", *every), make_sample("a", *every, crop=(8, 20, 32))
    inside = (..., slice(8, 40), slice(20, 52))
    assert torch.equal(part["observations"], whole["observations"])
    assert torch.equal(part["displacement"], whole["displacement"][inside])
    assert torch.equal(part["target"], truth[inside])
    assert part["corner"].tolist() == [8, 20]
    assert whole["corner"].tolist() == [0, 0]


def test_the_reference_is_not_displaced() -> None:
    bracket, truth = scene()
    for reference in range(3):
        sample = make_sample("a", bracket.ldr, bracket.exposures, truth, bracket.calibration, reference)
        assert float(sample["displacement"][reference].abs().max()) == 0.0
        moved = sample["displacement"][0 if reference else 1]
        assert abs(abs(float(moved[0, 16:48, 16:48].median())) - 3) < 0.1


def test_the_calibration_comes_back() -> None:
    bracket, truth = scene(32)
    calibration = Calibration(
        Response.gamma(1.9),
        white_level=1.0,
        shot=3e-4,
        read=2e-6,
        levels=65535,
        disagreement=(0.1, 0.18),
        mixing=ColourMixing(NO_MIXING, (0.0, 0.1, 0.2)),
    )
    back = calibration_of(make_sample("a", bracket.ldr, bracket.exposures, truth, calibration, 1))
    assert (back.shot, back.read, back.levels, back.white_level) == (3e-4, 2e-6, 65535, 1.0)
    assert back.typical_disagreement == pytest.approx(0.14)
    assert back.mixing == calibration.mixing
    assert not back.channels_mix
    for mixing in (None, TYPICAL):
        alike = Calibration(Response.gamma(1.9), mixing=mixing)
        assert calibration_of(make_sample("a", bracket.ldr, bracket.exposures, truth, alike, 1)).mixing == mixing
    ldr = torch.linspace(0, 1, 256, dtype=torch.float64)
    torch.testing.assert_close(back.response.to_linear(ldr), ldr**1.9, atol=1e-5, rtol=0)


def test_samples_of_different_cameras_are_one_batch() -> None:
    bracket, truth = scene(32)
    samples = [
        make_sample("a", bracket.ldr, bracket.exposures, truth, Calibration(response), 1)
        for response in (Response.linear(), Response.srgb(), Response.table([0.0, 0.3, 1.0]))
    ]
    batch = default_collate(samples)
    assert batch["observations"].shape == (3, 3, 11, 32, 32)
    assert batch["light"].shape[0] == 3
