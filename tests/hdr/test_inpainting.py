"""What no exposure shows goes on as what is around it, and nothing else changes."""

import dataclasses
import itertools

import pytest
import torch
from torch import Tensor

from hdr.alignment import Alignment
from hdr.bracket import Bracket
from hdr.calibration import Calibration
from hdr.inpainting import CELL, Hidden, HighlightInpainting, hidden_highlights
from hdr.merge import Merger
from hdr.nn.generator import Generator
from hdr.observation import Aligned
from hdr.radiometry import mu_law
from hdr.response import Response

TIMES = torch.tensor([1.0, 8.0, 32.0])
CLIPPED = 1 / 8  # radiance from which on the reference is white
SKY, GROUND, BIRD = 0.5, 0.02, 0.01


def sky_and_ground(size: tuple[int, int] = (96, 128)) -> Tensor:
    scene = torch.full((3, *size), GROUND)
    scene[:, : size[0] // 2] = SKY
    scene[:, 3 * size[0] // 4 :] = BIRD  # as dark as that, and still
    return scene


def photographed(instants: list[Tensor]) -> Bracket:
    light = (torch.stack(instants) * TIMES.view(-1, 1, 1, 1)).clamp(0, 1)
    return Bracket(light ** (1 / 2.2), TIMES, calibration=Calibration(Response.gamma(2.2)))


def with_bird(scene: Tensor, left: int) -> Tensor:
    scene = scene.clone()
    scene[:, 12:32, left : left + 20] = BIRD
    return scene


def flown(where: tuple[int, int, int] = (20, 50, 80)) -> Bracket:
    """A bird in front of the sky; where it is in the shortest exposure, none shows the sky behind it."""
    return photographed([with_bird(sky_and_ground(), left) for left in where])


def still(bracket: Bracket) -> Alignment:
    return Alignment(torch.zeros(3, 2, *bracket.size), bracket.size)


@pytest.mark.parametrize("weights", ["none", "small"])
def test_sky_goes_on_behind_what_has_moved(weights):
    bracket = flown()
    with pytest.warns(UserWarning, match=r"[2-6]\.\d% of the image: white in exposure 2 and hidden"):  # 400 of 12288
        merged = Merger(weights, "cpu")(bracket, still(bracket))
    behind = merged[:, 16:28, 24:36]
    assert behind.min() > 0.75 * SKY  # the reference says no more than 1 / 8
    assert behind.max() < 1.1 * SKY
    torch.testing.assert_close(merged[:, 16:28, 54:66].mean(), torch.tensor(BIRD), atol=0.003, rtol=0)


@pytest.mark.parametrize("weights", ["none", "small"])
def test_sky_goes_on_in_every_round_of_a_bracket(weights):
    # Of each light there are three: one of the reference's stands before it, and is as white as it is.
    times = TIMES.repeat_interleave(3)
    instants = [with_bird(sky_and_ground(), left) for left in (20, 20, 20, 50, 50, 50, 80, 80, 80)]
    light = (torch.stack(instants) * times.view(-1, 1, 1, 1)).clamp(0, 1)
    bracket = Bracket(light ** (1 / 2.2), times, calibration=Calibration(Response.gamma(2.2)))
    assert bracket.reference_index == 4
    with pytest.warns(UserWarning, match=r"[2-6]\.\d% of the image: white in exposure 5 and hidden"):
        merged = Merger(weights, "cpu")(bracket, Alignment(torch.zeros(9, 2, *bracket.size), bracket.size))
    assert merged[:, 16:28, 24:36].min() > 0.75 * SKY
    assert merged[:, 16:28, 24:36].max() < 1.1 * SKY


def test_sky_goes_on_behind_what_is_black():
    # Of black nothing is certain, so that by its noise it agrees with anything.
    scenes = []
    for left in (20, 50, 80):
        scene = sky_and_ground()
        scene[:, 72:] = 1e-4 * torch.rand(3, 24, 128, generator=torch.Generator().manual_seed(left))
        scene[:, 12:32, left : left + 20] = scene[:, 72:92, :20]
        scenes.append(scene)
    bracket = photographed(scenes)
    merged = Merger("none", "cpu")(bracket, still(bracket))
    assert merged[:, 16:28, 24:36].min() > 0.75 * SKY


def test_no_edge_of_what_was_in_front_is_left():
    bracket = flown()
    above = Merger("none", "cpu")(bracket, still(bracket))[:, :46]
    above = torch.cat([above[..., :40], above[..., 80:]], dim=-1)  # without the bird itself
    assert mu_law(above).min() > mu_law(torch.tensor(SKY)) - 0.05


def test_nothing_else_changes(monkeypatch):
    bracket = flown()
    filled = Merger("none", "cpu")(bracket, still(bracket))
    monkeypatch.setattr(HighlightInpainting, "fill", lambda *_: 0.0)
    left = Merger("none", "cpu")(bracket, still(bracket))
    assert float(left[:, 14:30, 22:38].max()) < 1.05 * CLIPPED  # what is tested here is there
    assert bool((filled >= left).all())
    elsewhere = torch.ones(bracket.size, dtype=torch.bool)
    elsewhere[4:40, 12:48] = False
    assert torch.equal(filled[:, elsewhere], left[:, elsewhere])


def test_what_no_one_knows_keeps_the_clipping_value():
    # A lamp that the shorter exposure does not show anywhere, and nothing else is as bright.
    lit, dark = torch.full((3, 64, 64), GROUND), torch.full((3, 64, 64), GROUND)
    lit[:, 20:30, 20:30] = SKY
    bracket = photographed([dark, lit, lit])
    merged = Merger("none", "cpu")(bracket, still(bracket))
    torch.testing.assert_close(merged[:, 22:28, 22:28], torch.full((3, 6, 6), CLIPPED), atol=1e-3, rtol=0)


@pytest.mark.parametrize("reference", [0, 1])
def test_bracket_of_a_still_sky_hides_nothing(reference):
    scene = sky_and_ground()
    scene[:, :, ::7] *= 0.9
    bracket = photographed([scene] * 3)
    aligned = aligned_of(bracket)
    weights = torch.full((1, 3, 3, *bracket.size), 1 / 3)
    hidden = hidden_highlights(aligned, weights, TIMES[None], reference)
    assert hidden.share is None


def test_what_is_believed_in_part_is_believed_by_its_fourth_power():
    bracket = photographed([sky_and_ground()] * 3)
    weights = torch.tensor([0.5, 0.3, 0.2]).view(1, 3, 1, 1, 1).expand(1, 3, 3, *bracket.size)
    known = hidden_highlights(aligned_of(bracket), weights, TIMES[None], 1).known
    torch.testing.assert_close(known[..., :48, :], torch.full((1, 3, 48, 128), 0.5**4))
    assert float(known[..., 48:, :].max()) == 0  # the ground is nowhere near to white


def test_what_one_channel_of_a_shorter_exposure_shows_is_not_hidden():
    # Before a white sky flew what is blue, and as bright as the sky in blue.
    blue = sky_and_ground()
    blue[:2, 12:32, 20:40] = BIRD
    aligned = aligned_of(photographed([blue, sky_and_ground(), sky_and_ground()]))
    weights = torch.zeros(1, 3, 3, 96, 128)
    weights[:, 1] = 1.0
    assert hidden_highlights(aligned, weights, TIMES[None], 1).share is None


def test_burst_hides_nothing():
    bracket = photographed([with_bird(sky_and_ground(), left) for left in (20, 50, 80)])
    weights = torch.full((1, 3, 3, *bracket.size), 1 / 3)
    aligned = aligned_of(dataclasses.replace(bracket, ldr=bracket.ldr[1:2].expand(3, -1, -1, -1)))
    assert hidden_highlights(aligned, weights, torch.ones(1, 3), 1).share is None


def aligned_of(bracket: Bracket) -> Aligned:
    radiance = mu_law(inverse_gamma(bracket.ldr) / TIMES.view(-1, 1, 1, 1))[None]
    saturation = (bracket.ldr >= 0.98).float()[None]
    one = torch.full_like(radiance[:, :, :1], 1e-3)
    return Aligned(radiance, saturation, one, one.expand_as(radiance), torch.ones_like(one), torch.zeros_like(one))


def inverse_gamma(ldr: Tensor) -> Tensor:
    return ldr**2.2


def test_only_the_channel_that_is_lost_is_hidden():
    sky = sky_and_ground()
    sky[:2] = GROUND  # of a blue that clips alone
    bracket = photographed([with_bird(sky, left) for left in (20, 50, 80)])
    weights = torch.zeros(1, 3, 3, *bracket.size)
    weights[:, 1] = 1.0
    aligned = aligned_of(bracket)
    hidden = hidden_highlights(aligned, weights, TIMES[None], 1)
    assert hidden.share is not None
    assert float(hidden.share[0, :2].max()) == 0
    assert float(hidden.share[0, 2, 16:28, 24:36].min()) == 1
    assert float(hidden.share[0, 2, 48:].max()) == 0  # the ground is not lost


def test_what_a_frame_did_not_see_is_hidden_as_what_is_dark_is():
    bracket = photographed([sky_and_ground()] * 3)
    aligned = aligned_of(bracket)
    aligned.seen[0, 0, :, :, :30] = 0
    weights = torch.zeros(1, 3, 3, *bracket.size)
    weights[:, 1, ..., :30], weights[:, 0, ..., 30:] = 1.0, 1.0
    hidden = hidden_highlights(aligned, weights, TIMES[None], 1)
    assert hidden.share is not None
    assert float(hidden.share[..., :40, :24].min()) == 1
    assert float(hidden.share[..., 40:].max()) == 0


@pytest.mark.parametrize("size", [(203, 330), (330, 203)])
def test_tiles_do_not_show(size):
    scene = sky_and_ground(size)
    ramp = torch.linspace(0.7, 1.0, size[1])
    bracket = photographed([with_bird(scene * ramp, left) for left in (20, 50, 80)])
    generator = Generator.from_preset("tiny").eval()
    whole = Merger(generator, "cpu")(bracket, still(bracket))
    tiled = Merger(generator, "cpu", tile=64)(bracket, still(bracket))
    assert float(mu_law(whole[:, 14:30, 22:38]).min()) > float(mu_law(torch.tensor(0.3)))
    assert float((mu_law(whole) - mu_law(tiled)).abs().max()) < 1e-3


@pytest.mark.parametrize("size", [(16, 16), (37, 50), (611, 18)])
def test_squares_add_up_to_the_image_whatever_its_size(size):
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(3, *size, generator=generator)
    share, known = (torch.rand(1, 3, *size, generator=generator) ** 4 for _ in range(2))
    whole, parts = HighlightInpainting(size), HighlightInpainting(size)
    whole.add(Hidden(share, known), image, torch.ones(size), top=0, left=0)
    corners = itertools.product(range(0, size[0], 4 * CELL), range(0, size[1], 4 * CELL))
    for top, left in corners:
        inside = (..., slice(top, top + 4 * CELL), slice(left, left + 4 * CELL))
        square = image[inside]
        parts.add(Hidden(share[inside], known[inside]), square, torch.ones(square.shape[1:]), top=top, left=left)
    at_once, by_parts = image.clone(), image.clone()
    whole.fill(at_once)
    parts.fill(by_parts)
    torch.testing.assert_close(by_parts, at_once, atol=1e-5, rtol=0)
    assert bool((at_once >= image).all())
    assert bool(torch.isfinite(at_once).all())
    assert float(at_once.max()) <= float(image.max()) + 1e-6  # a mean is no brighter than the brightest


def test_filled_light_is_that_of_its_nearest_surroundings():
    # Two skies side by side, each with a hole; of both as much is known.
    image = torch.full((3, 64, 256), 0.4)
    image[..., 128:] = 0.8
    hidden, known = torch.zeros(1, 3, 64, 256), torch.ones(1, 3, 64, 256)
    for left in (60, 190):
        hole = (..., slice(28, 36), slice(left, left + 8))
        image[hole], hidden[hole], known[hole] = 0.1, 1.0, 0.0
    inpainting = HighlightInpainting((64, 256))
    inpainting.add(Hidden(hidden, known), image, torch.ones(64, 256), top=0, left=0)
    inpainting.fill(image)
    assert float((image[..., 28:36, 60:68] - 0.4).abs().max()) < 0.01
    assert float((image[..., 28:36, 190:198] - 0.8).abs().max()) < 0.01


@pytest.mark.parametrize(("darker", "told"), [(0.01, 0.0), (0.03, 1 / 16)])
def test_what_became_brighter_by_less_than_anybody_sees_is_not_told(darker, told):
    image, known = torch.full((3, 32, 32), 0.8), torch.ones(1, 3, 32, 32)
    hidden = torch.zeros(1, 3, 32, 32)
    hole = (..., slice(8, 16), slice(8, 16))
    image[hole], hidden[hole], known[hole] = 0.8 - darker, 1.0, 0.0
    inpainting = HighlightInpainting((32, 32))
    inpainting.add(Hidden(hidden, known), image, torch.ones(32, 32), top=0, left=0)
    assert inpainting.fill(image) == told
    torch.testing.assert_close(image, torch.full_like(image, 0.8), atol=1e-3, rtol=0)


def test_of_surroundings_that_are_little_known_little_is_filled_in():
    # A tenth of every place is known. Twice that is taken from each of three sizes of surroundings, 4 x 4, 2 x 2 and
    # one cell, and of what is left again: 1 - 0.8 ^ 3.
    size = (4 * CELL, 4 * CELL)
    around, share = torch.full((3, *size), 0.8), torch.ones(1, 3, *size)
    inpainting = HighlightInpainting(size)
    inpainting.add(Hidden(share, 0.1 * share), around, torch.ones(size), top=0, left=0)
    image = torch.full((3, *size), 0.5)
    inpainting.fill(image)
    torch.testing.assert_close(image, torch.full_like(image, 0.5 + 0.3 * (1 - 0.8**3)), atol=1e-3, rtol=0)


def test_squares_that_overlap_count_by_their_weights():
    generator = torch.Generator().manual_seed(0)
    image, size = torch.rand(3, 32, 48, generator=generator), (32, 48)
    share, known = (torch.rand(1, 3, 32, 48, generator=generator) ** 2 for _ in range(2))
    once, twice = HighlightInpainting(size), HighlightInpainting(size)
    once.add(Hidden(share, known), image, torch.ones(size), top=0, left=0)
    rise = torch.linspace(0, 1, 48).expand(size)
    for fade in (rise, 1 - rise):
        twice.add(Hidden(share, known), image, fade, top=0, left=0)
    found, expected = image.clone(), image.clone()
    once.fill(expected)
    twice.fill(found)
    assert float((expected - image).amax()) > 0.1
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)
