"""A bracket: two or more exposures of one scene and how much light each got. Validated once, here."""

from __future__ import annotations

import dataclasses
import math
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from hdr._cells import Located
from hdr._images import check_images, hold_eight_bits
from hdr.alignment import LONGEST_SIDE, align
from hdr.calibration import Calibration, agreeing_response, calibrate
from hdr.exposure import exposures_from_ev, exposures_from_exif, read_exposure_file, warn_if_camera_disagrees
from hdr.exposure_check import ExposureMismatchError, check_exposures, estimate_exposures
from hdr.geometry import transformed
from hdr.io import Photograph, is_raw, read_photograph, shared_chroma
from hdr.radiometry import GAMMA, relative_exposures
from hdr.raw import LEVELS, Colours, RawSettings, read_raw, sensor_to_rec709, white_balance_factors
from hdr.response import Response

SMALLEST_SIDE = 16
SMALLEST_RATIO = 1.1
LARGEST_TRAINED_RATIO = 16.0
_SENSOR_WHITES = (2**10 - 1, 2**12 - 1, 2**14 - 1)
# Of the values of the longest exposure at white, and how often a level of those just below it they have to be there.
_LEAST_CLIPPED, _PILED_UP, _LEVELS_BELOW = 1e-3, 8, 32
_COMPARED_PIXELS = 1_500_000  # of an exposure, where a calibration asks what moved
_COARSE_SIDE = 128  # of images at whose half resolution it asks
# What two exposures show alike disagrees by at least so many EV, and by such a share of their step: the longer hardly
# shows more than the shorter does, for that is the black of film or of a scanner.
_NOT_SHARED_EV, _NOT_SHARED_SHARE = 1.5, 0.5
_RATIO_TOLERANCE = 1.1  # a nominal 1/60 s is 1/64 s, and exposures of 4 EV must pass as 16

PathLike = str | os.PathLike[str]
Exposures = Sequence[float] | Literal["auto"]


def middle(count: int) -> int:
    """Index of the reference among ``count`` ascending exposures: the middle one, of two the shorter, which clips less.

    Examples
    --------
    >>> [middle(count) for count in (2, 3, 4, 5)]
    [0, 1, 1, 2]
    """
    return (count - 1) // 2


def _kalantari() -> Calibration:
    return Calibration(Response.gamma(GAMMA))


@dataclass(frozen=True)
class Bracket:
    """Two or more exposures of one scene, shortest first.

    Attributes
    ----------
    ldr
        Shape (N, 3, H, W): exposure, channel, height, width; floating point in [0, 1], as the files hold them.
    exposures
        Shape (N,): relative to the shortest, which is 1, in ascending order.
    names
        What the images are called, in the same order.
    calibration
        Response, white level and noise of the camera; by default gamma 2.2 and the noise of a good one.
    reference_index
        The exposure whose instant the merged image shows; by default the middle one, of two the shorter.
    paths
        The files that the exposures were read from, if they were.
    to_rec709
        Shape (3, 3): from the linear light of ``ldr`` to Rec. 709, where its colours are others: those of a profile, or
        of a sensor.

    Raises
    ------
    ValueError
        If shapes, values, sizes or exposures are not as above, or two exposures are nearly equal.

    Examples
    --------
    >>> bracket = Bracket(torch.rand(3, 3, 32, 48), torch.tensor([1.0, 4.0, 16.0]))
    >>> bracket.reference.shape, bracket.size, bracket.reference_index
    (torch.Size([3, 32, 48]), (32, 48), 1)
    """

    ldr: Tensor
    exposures: Tensor
    names: tuple[str, ...] = ()
    calibration: Calibration = field(default_factory=_kalantari)
    reference_index: int = -1
    paths: tuple[Path, ...] = ()
    to_rec709: Tensor | None = None

    def __post_init__(self) -> None:
        check_images(self.ldr, SMALLEST_SIDE)
        if not self.names:
            object.__setattr__(self, "names", tuple(f"exposure {index + 1}" for index in range(self.count)))
        if self.reference_index == -1:
            object.__setattr__(self, "reference_index", middle(self.count))
        _check_exposures(self.exposures, self.names)
        _warn_of_large_ratios(self.exposures, self.names)
        if not 0 <= self.reference_index < self.count:
            raise ValueError(
                f"the reference must be one of the {self.count} exposures, 0 to {self.count - 1} from the shortest, "
                f"got {self.reference_index}"
            )

    @classmethod
    def from_images(
        cls,
        images: Sequence[Tensor],
        exposures: Exposures,
        *,
        response: Response | Sequence[Response] | None = None,
        names: Sequence[str] | None = None,
        reference: int | None = None,
        levels: int = 255,
        check: bool = True,
        paths: Sequence[PathLike] = (),
        chroma_halved: tuple[bool, bool] | None = None,
    ) -> Bracket:
        """Make a bracket of two or more images in any order.

        Parameters
        ----------
        images
            Each of shape (3, H, W), floating point in [0, 1].
        exposures
            Exposure times in seconds, or any positive multiple of the light that each image got; ``"auto"`` estimates
            them from the pixels, for a response that is given (sRGB without one).
        response
            The camera's; None estimates it from the images, see :func:`hdr.calibration.calibrate`. Of several, the one
            by which the exposures agree, and an estimate where they do by none; the first where nothing tells.
        names
            What to call the images in messages.
        reference
            Which of ``images`` is the reference; by default the one of middle exposure.
        levels
            Largest level of the files that the images were read from, 255 or 65535.
        check
            Whether exposures that contradict the pixels are refused and, by a response that is given, small errors of
            them are corrected. Where the response is estimated, the errors are as well, and corrected in any case.
        paths
            The files that the images were read from.
        chroma_halved
            Whether these keep half as many rows, and half as many columns, of colour as of brightness, as JPEG does;
            by default the pixels of 8-bit files tell.

        Returns
        -------
        Bracket
            Sorted by exposure.

        Raises
        ------
        ValueError
            If numbers, sizes, values or exposures do not make a bracket, or contradict the pixels.
        """
        names = [f"image {number}" for number in range(1, len(images) + 1)] if names is None else list(names)
        _check_count(images, names, reference)
        _check_equal_sizes(images, names)
        stacked = torch.stack(list(images))
        check_images(stacked, SMALLEST_SIDE)
        likely = [response] if isinstance(response, Response) else list(response or ())
        first = likely[0] if likely else None
        light = _light(exposures, stacked, first)
        order = light.argsort(stable=True)
        ldr = stacked if bool((order.diff() > 0).all()) else stacked[order]
        # Half precision has not even the range: 16 EV are infinite there.
        relative = relative_exposures(light[order]).to(torch.promote_types(ldr.dtype, torch.float32))
        names = [names[index] for index in order.tolist()]
        _check_exposures(relative, names)
        reference_index = middle(len(images)) if reference is None else order.tolist().index(reference)

        def located(first: Response) -> Tensor:
            small, factor = _reduced(ldr)
            calibration = Calibration(first, first.white_level)
            provisional = _Provisional(small, relative, tuple(names), calibration, reference_index)
            # Whoever merges is told of a camera whose motion cannot be told.
            return factor * align(provisional, warn=False).displacement

        estimated = isinstance(exposures, str)
        response = _chosen(likely, ldr, relative, located, estimated)
        if check and not estimated:
            check_exposures(ldr, relative, response or first, names, located=located)
        _warn_of_choice(likely, response, estimated)
        calibration = calibrate(ldr, relative, response=response, located=located, chroma_halved=chroma_halved)
        if check:
            _check_reference(calibration, relative, reference_index, names)
        # Shutters are not exact; but what is merged unchecked by a response that was said is merged as stated.
        if calibration.corrections and (check or response is None):
            relative = relative_exposures(relative * torch.tensor(calibration.corrections).exp2().to(relative))
        for note in calibration.notes:
            warnings.warn(note, stacklevel=2)
        return cls(
            ldr,
            relative,
            tuple(names),
            dataclasses.replace(calibration, levels=levels),
            reference_index,
            tuple(Path(paths[index]) for index in order.tolist()) if paths else (),
        )

    @classmethod
    def from_files(
        cls,
        paths: Sequence[PathLike],
        exposure_times: Sequence[float] | None = None,
        *,
        exposure_values: Exposures | None = None,
        exposure_file: PathLike | None = None,
        response: Response | Literal["auto"] = "auto",
        reference: int | None = None,
        check: bool = True,
        raw: RawSettings | None = None,
        white_level: int | None = None,
    ) -> Bracket:
        """Read a bracket of two or more photographs.

        Exposures come from the one of ``exposure_times``, ``exposure_values`` and ``exposure_file`` that is given, and
        without any from EXIF data, as time * ISO / N^2.

        Parameters
        ----------
        paths
            Files that :func:`hdr.io.read_ldr` reads, or camera raw, in any order.
        exposure_times
            Seconds, one for each file.
        exposure_values
            EV, one for each file; one more is twice the light. ``"auto"`` estimates them from the pixels.
        exposure_file
            Text file with one EV a line, in the order of ``paths`` (the layout of Kalantari and Ramamoorthi).
        response
            The camera's. ``"auto"`` estimates it from 8-bit files; takes 16-bit ones as gamma 2.2, sRGB or linear,
            whichever makes their exposures agree, and estimates it where none does; camera raw and floating-point files
            are linear.
        reference, check
            As in :meth:`from_images`.
        raw
            How raw files are developed: all with one white balance, that of the reference.
        white_level
            Of 16-bit files, the level that is white, such as 4095. By default 65535; or 1023, 4095 or 16383 where
            nothing is above it and much lies at it, as in files that hold the 10, 12 or 14 bits of a sensor: a warning
            says so.

        Returns
        -------
        Bracket
            Sorted by exposure.

        Raises
        ------
        OSError
            If a file cannot be opened.
        ValueError
            If a file, the exposures or their combination is not a bracket; the message names the file.
        """
        names = [Path(path).name for path in paths]
        _check_count(paths, names, reference)
        raw_files = [name for path, name in zip(paths, names, strict=True) if is_raw(path)]
        if raw_files and len(raw_files) < len(paths):
            raise ValueError(
                f"{', '.join(raw_files)}: camera raw beside developed images, which have another response; merge one "
                "kind"
            )
        exposures: Exposures = (
            "auto"
            if isinstance(exposure_values, str)
            else _stated_exposures(paths, exposure_times, exposure_values, exposure_file)
        )
        if raw_files:
            if white_level is not None:
                raise ValueError(f"{raw_files[0]}: camera raw says itself what white is; leave --white-level out")
            images, to_rec709 = _developed(paths, exposures, reference, raw or RawSettings())
            levels, linear, chroma_halved = LEVELS, True, None
        else:
            photographs = [read_photograph(path) for path in paths]
            images, linear = [one.image for one in photographs], photographs[0].linear
            if any(one.linear != linear for one in photographs):
                raise ValueError(f"{', '.join(names)}: linear files beside encoded ones; merge one kind")
            profiles = {one.profile for one in photographs}
            if len(profiles) > 1:
                told = ", ".join(
                    f"{name} {one.profile or 'sRGB'}" for name, one in zip(names, photographs, strict=True)
                )
                raise ValueError(f"the images of a bracket must have one colour profile, got {told}")
            to_rec709, chroma_halved = photographs[0].to_rec709, shared_chroma(photographs)
            white = _white(photographs, names, white_level)
            if white is not None:
                for image in images:  # in place: they are this bracket's own, and large
                    image.mul_(LEVELS / white).clamp_max_(1.0)
            in_eight_bits = white is None and all(hold_eight_bits(image[..., ::7, ::7]) for image in images)
            levels = 255 if in_eight_bits else white or max(one.levels for one in photographs)
        camera: Response | Sequence[Response] | None
        if response == "auto":
            camera = Response.linear() if linear else None if levels == 255 else _encodings()
        else:
            camera = response
        bracket = cls.from_images(
            images,
            exposures,
            response=camera,
            names=names,
            reference=reference,
            levels=levels,
            check=check,
            paths=paths,
            chroma_halved=chroma_halved,
        )
        return dataclasses.replace(bracket, to_rec709=to_rec709)

    @property
    def count(self) -> int:
        """How many exposures there are."""
        return int(self.ldr.shape[0])

    @property
    def reference(self) -> Tensor:
        """The exposure whose instant the merged image shows; shape (3, H, W)."""
        return self.ldr[self.reference_index]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return int(self.ldr.shape[-2]), int(self.ldr.shape[-1])

    def in_rec709(self, radiance: Tensor) -> Tensor:
        """Radiance (3, H, W) in the colours of ``ldr``, in linear Rec. 709; what lies outside is clipped at 0."""
        if self.to_rec709 is None:
            return radiance
        converted = torch.empty_like(radiance)
        for rows, source in zip(converted.split(256, dim=1), radiance.split(256, dim=1), strict=True):
            rows.copy_(transformed(self.to_rec709.to(source), source).clamp_min_(0))
        return converted

    def radiance(self, index: int) -> Tensor:
        """Radiance of one of the exposures, 0 the shortest, in the colours of ``ldr``; shape (3, H, W).

        The short exposure saturates at 1.
        """
        return self.calibration.response.to_linear(self.ldr[index]) / float(self.exposures[index])


class _Provisional(Bracket):
    """A bracket whose camera is not known yet; what it is made of was checked, and is neither again nor warned of."""

    def __post_init__(self) -> None:
        pass


def _developed(
    paths: Sequence[PathLike], exposures: Exposures, reference: int | None, raw: RawSettings
) -> tuple[list[Tensor], Tensor | None]:
    """Linear images of raw files, all with the white balance of the reference, and what turns them into Rec. 709.

    In the sensor's colours, where that is known: what clips in one channel is still seen in the others.
    """
    if reference is None:
        if isinstance(exposures, str):
            raise ValueError("of raw files whose exposures are to be estimated, say which is the reference")
        reference = sorted(range(len(paths)), key=lambda index: exposures[index])[middle(len(paths))]
    balance = white_balance_factors(paths[reference], raw.white_balance)
    to_rec709 = sensor_to_rec709(paths[reference], balance)
    colours: Colours = "rec709" if to_rec709 is None else "sensor"
    return [read_raw(path, balance, raw.half_size, colours) for path in paths], to_rec709


def _light(exposures: Exposures, images: Tensor, response: Response | None) -> Tensor:
    """Light that each image got, on any scale, float64."""
    if isinstance(exposures, str):
        if exposures != "auto":
            raise ValueError(f'exposures must be numbers or "auto", got {exposures!r}')
        return estimate_exposures(images, response).double()
    if len(images) != len(exposures):
        raise ValueError(f"there are {len(images)} images but {len(exposures)} exposures; give one for each")
    return torch.tensor([float(exposure) for exposure in exposures], dtype=torch.float64)


def _encodings() -> tuple[Response, ...]:
    """What developers write into 16-bit files, the likeliest first."""
    return Response.gamma(GAMMA), Response.srgb(), Response.linear()


def _chosen(
    likely: Sequence[Response], ldr: Tensor, exposures: Tensor, located: Located, estimated: bool
) -> Response | None:
    """The response by which exposures agree, of several, where they were stated; None if it is to be estimated."""
    if estimated or len(likely) < 2:
        return likely[0] if likely else None
    return agreeing_response(ldr, exposures, likely, located=located)


def _warn_of_choice(likely: Sequence[Response], chosen: Response | None, estimated: bool) -> None:
    if len(likely) < 2:
        return
    first, others = likely[0], " or ".join(other.name for other in likely[1:])
    if estimated:
        told = (
            f"the exposures are estimated as if the files were {first.name}; if they are {others}, say so "
            "(--response), or state the exposures"
        )
    elif chosen is None:
        told = f"the exposures agree neither by {first.name} nor by {others}: the response is estimated"
    elif chosen is not first:
        told = f"the exposures agree best if the files are {chosen.name}, so they are taken as that"
    else:
        return
    warnings.warn(told, stacklevel=3)


def _reduced(ldr: Tensor) -> tuple[Tensor, int]:
    """Exposures small enough to be aligned quickly, and by which factor: a calibration looks at cells of 4 pixels.

    On the CPU and in float32, where they are aligned.
    """
    height, width = ldr.shape[-2:]
    coarse = 2 if min(height, width) >= _COARSE_SIDE else 1  # cells are moved by whole pixels
    factor = max(
        coarse, math.ceil(max(math.sqrt(height * width / _COMPARED_PIXELS), max(height, width) / LONGEST_SIDE))
    )
    small = F.avg_pool2d(ldr.detach(), factor, ceil_mode=True, count_include_pad=False) if factor > 1 else ldr.detach()
    return small.to("cpu", torch.float32), factor


def _stated_exposures(
    paths: Sequence[PathLike],
    exposure_times: Sequence[float] | None,
    exposure_values: Sequence[float] | None,
    exposure_file: PathLike | None,
) -> list[float]:
    stated = [source for source in (exposure_times, exposure_values, exposure_file) if source is not None]
    if len(stated) > 1:
        raise ValueError("exposure times, exposure values and an exposure file exclude each other; give one of them")
    if not stated:
        return exposures_from_exif(paths)
    if exposure_file is not None:
        exposures = read_exposure_file(exposure_file)
    elif exposure_values is not None:
        exposures = exposures_from_ev(exposure_values)
    else:
        exposures = [float(time) for time in exposure_times or ()]
    if len(paths) != len(exposures):
        raise ValueError(f"there are {len(paths)} images but {len(exposures)} exposures; give one for each")
    relative_exposures(torch.tensor(exposures))  # refuses what is not positive before ratios are taken
    warn_if_camera_disagrees(paths, exposures)
    return exposures


def _white(photographs: Sequence[Photograph], names: Sequence[str], stated: int | None) -> int | None:
    """White level of 16-bit files that hold fewer bits, as stated or as their values tell; None for all others."""
    if any(one.levels != LEVELS for one in photographs):
        if stated is not None:
            raise ValueError(f"{', '.join(names)}: --white-level is for files of 16 bits; leave it out")
        return None
    largest = round(max(float(one.image.max()) for one in photographs) * LEVELS)
    if stated is not None:
        if not max(largest, 1) <= stated <= LEVELS:
            raise ValueError(
                f"the files have values up to {largest}; --white-level is from there to {LEVELS}, got {stated}"
            )
        return None if stated == LEVELS else stated
    if largest not in _SENSOR_WHITES:
        return None
    # A dark picture, too, may have this level as its largest by chance. What tells them apart is that light beyond
    # white piles up there: in the longest exposure, which has most of it.
    shares = [_share_at(one.image, largest, largest) for one in photographs]
    clipped = max(shares)
    longest = shares.index(clipped)
    below = _share_at(photographs[longest].image, largest - _LEVELS_BELOW, largest - 1) / _LEVELS_BELOW
    if clipped < _LEAST_CLIPPED or clipped < _PILED_UP * below:
        return None
    warnings.warn(
        f"the files hold {largest.bit_length()} bits in 16: {clipped:.1%} of {names[longest]} lie at {largest}, and "
        "nothing above it, so that is taken as white (--white-level 65535 if it is not). If they are linear, as a "
        "sensor's values are, give --response linear",
        stacklevel=3,
    )
    return largest


def _share_at(image: Tensor, lowest: int, highest: int) -> float:
    between = (image > (lowest - 0.5) / LEVELS) & (image < (highest + 0.5) / LEVELS)
    return float(between.sum()) / image.numel()


def _check_count(images: Sequence[object], names: Sequence[str], reference: int | None) -> None:
    if len(images) < 2:
        told = f" ({names[0]})" if names else ""
        raise ValueError(f"a bracket needs two or more exposures, got {len(images)}{told}")
    if reference is not None and not 0 <= reference < len(images):
        raise ValueError(
            f"the reference must be one of the {len(images)} images, 0 to {len(images) - 1}, got {reference}"
        )


def _check_exposures(exposures: Tensor, names: Sequence[str]) -> None:
    if exposures.ndim != 1 or len(names) != len(exposures):
        raise ValueError(f"expected one exposure for each image, got {tuple(exposures.shape)} for {len(names)}")
    values = [float(exposure) for exposure in exposures]
    if values[0] != 1.0 or values != sorted(values):
        raise ValueError(f"exposures must ascend from 1, relative to the shortest, got {values}; use from_images")
    for index in range(1, len(values)):
        ratio = values[index] / values[index - 1]
        if not ratio >= SMALLEST_RATIO:
            raise ValueError(
                f"{names[index - 1]} and {names[index]} have nearly equal exposures (ratio {ratio:.3g}, at least "
                f"{SMALLEST_RATIO} is needed); are these different exposures of a bracket? Leave one of them out"
            )


def _check_reference(calibration: Calibration, exposures: Tensor, reference: int, names: Sequence[str]) -> None:
    """Refuse a reference so dark that it shares no light with its neighbours: nothing of them would be believed."""
    steps, disagreement = exposures.log2().diff().tolist(), calibration.disagreement
    apart = [
        (index, disagreement[index], steps[index])
        for index in (reference - 1, reference)  # with the exposure before it, and with the one after
        if 0 <= index < len(steps) and math.isfinite(disagreement[index])
    ]
    not_shared = [ev > max(_NOT_SHARED_EV, _NOT_SHARED_SHARE * step) for _, ev, step in apart]
    if not apart or not all(not_shared) or apart[-1][0] != reference:  # a longer exposure shows what it does not
        return
    told = "; ".join(
        f"{names[index]} and {names[index + 1]} are stated {step:.2f} EV apart, but disagree about that by {ev:.2f} EV"
        for index, ev, step in apart
    )
    raise ExposureMismatchError(
        f"the exposures contradict the pixels, whatever the response: {told}. Perhaps {names[reference]} is too dark: "
        "choose a longer exposure as --reference, take steps of 2 or 3 EV, or correct --times or --ev; "
        "--align off --response srgb merges as stated"
    )


def _warn_of_large_ratios(exposures: Tensor, names: Sequence[str]) -> None:
    for index in range(1, len(exposures)):
        ratio = float(exposures[index]) / float(exposures[index - 1])
        if ratio > LARGEST_TRAINED_RATIO * _RATIO_TOLERANCE:
            warnings.warn(
                f"{names[index]} has {ratio:.3g} times the exposure of {names[index - 1]}; the networks are trained "
                f"on up to {LARGEST_TRAINED_RATIO:g} times, look at the result",
                stacklevel=4,
            )


def _check_equal_sizes(images: Sequence[Tensor], names: Sequence[str]) -> None:
    sizes = {name: tuple(image.shape) for name, image in zip(names, images, strict=True)}
    if len(set(sizes.values())) > 1:
        told = ", ".join(f"{name} {'x'.join(map(str, reversed(shape[-2:])))}" for name, shape in sizes.items())
        raise ValueError(f"the images of a bracket must have one size (width x height), got {told}")
