"""Brackets of moving scenes with ground truth, made from HDR photographs and panoramas on the fly."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from kornia.geometry.conversions import axis_angle_to_rotation_matrix
from torch import Tensor
from torch.utils.data import Dataset

from hdr._errors import RefusedError
from hdr.bracket import Bracket
from hdr.calibration import Calibration
from hdr.data.camera import Camera, draw_camera, misjudged
from hdr.data.draws import integer, log_uniform, normal, smooth_field, uniform
from hdr.data.motion import compose, moving_layer
from hdr.data.sample import HdrSample, make_sample
from hdr.data.scenery import Panorama, Scenery, read_scenery
from hdr.geometry import pixel_grid
from hdr.io import RADIANCE_SUFFIXES
from hdr.mixing import ColourMixing
from hdr.radiometry import middle

Split = Literal["all", "train", "validation"]

_COLOURS_TIMES = (0.9, 2.6)
_LEAST_OF_COLOUR = 0.02  # of the mean of the channels
_LEAST_STEP = 0.8  # below, the longest focal length of a view of a panorama would be less than the shortest

SAME_COUNT = 64
"""Scenes of one block of this size have equally many exposures, so that they can be in one batch."""


@dataclass(frozen=True)
class SceneSettings:
    """How scenes vary.

    Attributes
    ----------
    largest_motion
        Most pixels that a thing moves from one image to the next; most move by less than a quarter of it.
    hand_shake
        Most pixels that the camera moves the background from one image to the next.
    objects
        Fewest and most things that move.
    ratios
        Smallest and largest ratio between neighbouring exposures.
    saturation
        Smallest and largest share of the reference's pixels with a saturated channel, in four of five scenes; in the
        fifth none is saturated.
    exposures
        Numbers of exposures; each block of scenes takes one of them in turn.
    exposure_error
        By how many EV an exposure got more or less light than stated, a standard deviation: shutters are not exact.
    estimated
        Share of the scenes of whose camera is known what the bracket tells, as of a photographer's own, instead of the
        camera misjudged at random.
    clean
        Share of the scenes whose camera has little noise: where there is hardly any, hardly any must be found.
    colourful
        Share of the scenes whose channels are exchanged, and their colours mostly strengthened: so few pictures have
        all hues, and channels with hardly any light, as those of flowers and clothes.
    largest_step
        Most pixels of a photograph from one pixel of the view to the next, at least 0.8; of a panorama accordingly.
        More than 1 shows detail as fine as pixels, as sharp lenses do: what networks learn on blur, they smooth.

    Raises
    ------
    ValueError
        If ``estimated``, ``clean`` or ``colourful`` is no share, or ``largest_step`` is too small.
    """

    largest_motion: float = 120.0
    hand_shake: float = 20.0
    objects: tuple[int, int] = (0, 4)
    ratios: tuple[float, float] = (1.5, 16.0)
    saturation: tuple[float, float] = (0.005, 0.4)
    exposures: tuple[int, ...] = (3, 3, 3, 3, 2, 3, 5, 3)
    exposure_error: float = 0.0
    estimated: float = 0.0
    clean: float = 0.0
    colourful: float = 0.0
    largest_step: float = 1.4

    def __post_init__(self) -> None:
        for name in ("estimated", "clean", "colourful"):
            if not 0 <= getattr(self, name) <= 1:  # also refuses NaN
                raise RefusedError(f"{name} is a share of the scenes, from 0 to 1; got {getattr(self, name)}")
        if not _LEAST_STEP <= self.largest_step < math.inf:
            raise RefusedError(f"largest_step is in pixels, at least {_LEAST_STEP} and finite; got {self.largest_step}")


class SyntheticBrackets(Dataset[HdrSample]):
    """Dynamic scenes: a view of a photograph or a panorama, shaken, with things that move in front of it.

    Scene i is a function of (seed, i) alone, whatever the worker and the device. The ground truth is the scene at the
    instant of the reference, clipped where the short exposure saturates: what lies above no exposure has seen.

    Parameters
    ----------
    folder
        Holds .hdr or .exr images, at any depth: photographs, and equirectangular panoramas twice as wide as high.
    size
        Height and width of a scene in pixels.
    length
        How many scenes there are.
    seed
        Another seed gives other scenes.
    split
        ``"validation"`` takes every folder's share that is held out, evenly spread over the sorted file names;
        ``"train"`` takes the others; ``"all"`` takes all.
    held_out
        Share of the files of each folder that are kept for validation.
    settings
        How scenes vary.
    crop
        Side of the square that is learned from, anywhere in the scene; None for the whole scene.
    device
        Where scenes are made.

    Raises
    ------
    ValueError
        If there are too few images, or one cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> from hdr.io import write_radiance
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_radiance(f"{folder}/sky.hdr", torch.rand(3, 32, 64))
    ...     scene = SyntheticBrackets(folder, size=(48, 64))[0]
    >>> scene["ldr"].shape, scene["target"].shape
    (torch.Size([3, 3, 48, 64]), torch.Size([3, 48, 64]))
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        size: tuple[int, int] = (256, 256),
        length: int = 1000,
        *,
        seed: int = 0,
        split: Split = "all",
        held_out: float = 0.22,
        settings: SceneSettings | None = None,
        crop: int | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        if crop is not None and crop > min(size):
            raise RefusedError(f"a crop of {crop} pixels does not fit into scenes of {size[0]} x {size[1]}")
        paths = _select(Path(folder), split, held_out)
        self.names = [path.stem for path in paths]
        self.scenery = [read_scenery(path, device) for path in paths]
        self.size, self.length, self.seed, self.crop = size, length, seed, crop
        self.settings = settings or SceneSettings()
        self.device = torch.device(device)

    alike = SAME_COUNT
    """How many neighbouring scenes have equally many exposures."""

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> HdrSample:
        if not 0 <= index < self.length:
            raise IndexError(f"scene {index} of {self.length}")
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + index)
        counts = self.settings.exposures
        count = counts[(index // SAME_COUNT) % len(counts)]
        reference = middle(count)
        which = integer(generator, 0, len(self.scenery) - 1)
        instants = self._scene(generator, self.scenery[which], count, reference)
        # Nothing is drawn for 0, so that scenes without such colours stay what they were.
        if self.settings.colourful > 0 and uniform(generator, 0, 1) < self.settings.colourful:
            order = torch.randperm(3, generator=generator).to(instants.device)
            instants = with_strong_colours(instants[:, order], log_uniform(generator, *_COLOURS_TIMES))
        ratios = [1.0] + [log_uniform(generator, *self.settings.ratios) for _ in range(count - 1)]
        exposures = torch.tensor(ratios, dtype=torch.float32).cumprod(0)
        lost = 0.0 if uniform(generator, 0, 1) < 0.2 else log_uniform(generator, *self.settings.saturation)
        instants = instants * (saturating_scale(instants[reference], lost) / exposures[reference])
        camera = draw_camera(generator, self.settings.clean)
        got = exposures
        if self.settings.exposure_error > 0:
            errors = self.settings.exposure_error * normal(generator, count)
            got = exposures * torch.exp2(errors - errors[0])
        ldr = camera.photograph(generator, instants, got)
        calibration = calibration_of_camera(misjudged(generator, camera))
        if self.settings.estimated > 0 and uniform(generator, 0, 1) < self.settings.estimated:
            exposures, calibration = _estimated(ldr, exposures, camera.levels) or (exposures, calibration)
        return make_sample(
            f"{self.names[which]}-{index:04d}",
            ldr,
            exposures,
            instants[reference].clamp(0, 1),
            calibration,
            reference,
            self._crop(generator),
        )

    def _crop(self, generator: torch.Generator) -> tuple[int, int, int] | None:
        if self.crop is None:
            return None
        top, left = (integer(generator, 0, side - self.crop) for side in self.size)
        return top, left, self.crop

    def _scene(self, generator: torch.Generator, scenery: Scenery, count: int, reference: int) -> Tensor:
        """Radiance of the scene at every instant, (N, 3, H, W), at the picture's scale."""
        height, width = self.size
        moments = [(i - reference) * (uniform(generator, 0.6, 1.0) if i != reference else 0.0) for i in range(count)]
        background = _background(generator, scenery, self.size, moments, self.settings, self.device)
        layers = []
        typical = max(background[reference].median().item(), 1e-6)
        for _ in range(integer(generator, *self.settings.objects)):
            texture = self.scenery[integer(generator, 0, len(self.scenery) - 1)]
            brightness = typical * log_uniform(generator, 0.15, 4.0)
            # Most things move little; a few by more than any window of a network.
            still = self.settings.largest_motion == 0 or uniform(generator, 0, 1) < 0.15
            speed = (
                0.0
                if still
                else log_uniform(generator, min(1.0, self.settings.largest_motion), self.settings.largest_motion)
            )
            layers.append(moving_layer(generator, texture, brightness, height, width, speed, moments))
        scene = compose(background, layers)
        if uniform(generator, 0, 1) < 0.2:  # a cloud, a lamp's flicker: the light changes between the exposures
            change = 0.1 * smooth_field(generator, count, height, width, 2).tanh().to(scene)
            change[reference] = 0.0
            scene = scene * (1 + change.unsqueeze(1))
        return scene


def saturating_scale(radiance: Tensor, share: float) -> float:
    """Exposure at which a share of the pixels of (3, H, W) has a saturated channel."""
    brightest = radiance.amax(dim=0).flatten()
    # A sun of one pixel is no scene "without saturation": the brightest thousandth counts as nothing.
    return 1.0 / max(torch.quantile(brightest, 1.0 - max(share, 1e-3)).item(), 1e-8)


def with_strong_colours(radiance: Tensor, times: float) -> Tensor:
    """Radiance (N, 3, H, W) with the difference of each channel to the mean of the three multiplied.

    No channel gets less than a fiftieth of the mean, for hardly anything has no light at all in one.

    Examples
    --------
    >>> with_strong_colours(torch.tensor([0.4, 0.2, 0.3]).view(1, 3, 1, 1), 2.0).flatten()
    tensor([0.5000, 0.1000, 0.3000])
    """
    mean = radiance.mean(dim=1, keepdim=True)
    return torch.maximum(mean + times * (radiance - mean), _LEAST_OF_COLOUR * mean)


def calibration_of_camera(camera: Camera) -> Calibration:
    """What would be known of a camera whose every property is known."""
    # Colours that differ from the sensor's amplify its noise: by the squares of the matrix, in the mean of the rows.
    amplified = 1.0 if camera.colours is None else sum(x * x for row in camera.colours for x in row) / 3
    return Calibration(
        camera.response,
        white_level=camera.white_level,
        shot=amplified / camera.full_well,
        read=amplified * camera.read_noise**2,
        levels=camera.levels,
        mixing=None if camera.colours is None else ColourMixing(camera.colours),
        chroma_halved=(camera.jpeg_quality is not None,) * 2,
    )


def _estimated(ldr: Tensor, exposures: Tensor, levels: int) -> tuple[Tensor, Calibration] | None:
    """Exposures and camera as a bracket's own pixels tell them; None where they tell that it is no bracket."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            bracket = Bracket.from_images(list(ldr), exposures.tolist(), levels=levels, check=False)
    except RefusedError:
        return None
    return bracket.exposures, bracket.calibration


def _background(
    generator: torch.Generator,
    scenery: Scenery,
    size: tuple[int, int],
    moments: Sequence[float],
    settings: SceneSettings,
    device: torch.device,
) -> Tensor:
    """Views of a picture from a trembling hand, (N, 3, H, W)."""
    height, width = size
    hand_shake = settings.hand_shake
    shaken = hand_shake > 0 and uniform(generator, 0, 1) < 0.7
    shake = log_uniform(generator, 0.02 * hand_shake, hand_shake) if shaken else 0.0
    tremble = torch.tanh(normal(generator, len(moments), 3))
    tremble[[moment == 0 for moment in moments]] = 0.0
    if isinstance(scenery, Panorama):
        # From 0.8 of the panorama's resolution on where steps are 1.4 at most; from half of that where 2.8.
        focal_length = scenery.pixels_per_radian * log_uniform(generator, 1.12 / settings.largest_step, 1.4)
        pitch, yaw = 0.25 * float(normal(generator, 1)), uniform(generator, -math.pi, math.pi)
        level = axis_angle_to_rotation_matrix(tremble.new_tensor([[0.0, yaw, 0.0], [pitch, 0.0, 0.0]]))
        rotations = level[0] @ level[1] @ axis_angle_to_rotation_matrix(shake / focal_length * tremble)
        return scenery.view(rotations.to(device), height, width, focal_length)
    # A photograph is flat: the hand moves and turns the frame.
    step = log_uniform(generator, 0.7, settings.largest_step)
    flip = 1.0 if uniform(generator, 0, 1) < 0.5 else -1.0
    place = tremble.new_tensor([uniform(generator, 0, scenery.width), uniform(generator, 0, scenery.height)])
    centre = tremble.new_tensor([(width - 1) / 2, (height - 1) / 2])
    grid = pixel_grid(height, width, like=tremble.to(device))[0] - centre.to(device).view(2, 1, 1)
    views = []
    for shift_x, shift_y, turn in (shake * tremble).tolist():
        angle = turn / max(height, width)
        x = math.cos(angle) * grid[0] - math.sin(angle) * grid[1] + shift_x
        y = math.sin(angle) * grid[0] + math.cos(angle) * grid[1] + shift_y
        views.append(torch.stack([flip * x, y]) * step + place.to(device).view(2, 1, 1))
    return scenery.read(torch.stack(views))


def _select(folder: Path, split: Split, held_out: float) -> list[Path]:
    if split not in ("all", "train", "validation"):
        raise RefusedError(f"split must be 'all', 'train' or 'validation', got {split!r}")
    if not folder.is_dir():
        raise RefusedError(f"{folder}: no such folder; give one with HDR images ({', '.join(RADIANCE_SUFFIXES)})")
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in RADIANCE_SUFFIXES)
    chosen = []
    for parent in sorted({path.parent for path in found}):
        files = [path for path in found if path.parent == parent]
        count = round(held_out * len(files))
        validation = {int((k + 0.5) * len(files) / count) for k in range(count)}
        chosen += [p for i, p in enumerate(files) if split == "all" or (i in validation) == (split == "validation")]
    if not chosen:
        raise RefusedError(
            f"{folder}: {len(found)} HDR images ({', '.join(RADIANCE_SUFFIXES)}), and none of them for the split "
            f"{split!r} with a share of {held_out:g} of each folder held out"
        )
    return chosen
