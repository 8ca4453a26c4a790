"""A bracket: two or more exposures of one scene and how much light each got. Validated once, here."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from hdr._bracket_files import PathLike, check_one_kind, read_files
from hdr._cells import Located
from hdr._errors import RefusedError
from hdr._images import check_images, check_tensor
from hdr.alignment import LONGEST_SIDE, align
from hdr.calibration import Calibration, agreeing_response, calibrate
from hdr.exposure import exposures_from_ev, exposures_from_exif, read_exposure_file, warn_if_camera_disagrees
from hdr.exposure_check import ExposureMismatchError, check_exposures, estimate_exposures
from hdr.geometry import transformed
from hdr.radiometry import GAMMA, groups_of_light, middle_exposure, relative_exposures
from hdr.raw import RawSettings
from hdr.response import Response

SMALLEST_SIDE = 16
LARGEST_TRAINED_RATIO = 16.0
_COMPARED_PIXELS = 1_500_000  # of an exposure, where a calibration asks what moved
_COARSE_SIDE = 128  # of images at whose half resolution it asks
# What two exposures show alike disagrees by at least so many EV, and by such a share of their step: the longer hardly
# shows more than the shorter does, for that is the black of film or of a scanner.
_NOT_SHARED_EV, _NOT_SHARED_SHARE = 1.5, 0.5
_RATIO_TOLERANCE = 1.1  # a nominal 1/60 s is 1/64 s, and exposures of 4 EV must pass as 16

Exposures = Sequence[float] | Literal["auto"]


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
        Shape (N,): relative to the shortest, which is 1, in ascending order; several may have got the same light.
    names
        What the images are called, in the same order.
    calibration
        Response, white level and noise of the camera; by default gamma 2.2 and the noise of a good one.
    reference_index
        The exposure whose instant the merged image shows; by default the middle one, of two the shorter, where those
        that got the same light count as one.
    paths
        The files that the exposures were read from, if they were.
    to_rec709
        Shape (3, 3): from the linear light of ``ldr`` to Rec. 709, where its colours are others: those of a profile, or
        of a sensor.

    Raises
    ------
    ValueError
        If shapes, values, sizes or exposures are not as above.

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
        _check_one_for_each(self.ldr, names=self.names, paths=self.paths or self.names)
        check_tensor(self.exposures, "exposures")
        _check_exposures(self.exposures, self.names)
        if self.reference_index == -1:
            object.__setattr__(self, "reference_index", middle_exposure(self.exposures.tolist()))
        if self.to_rec709 is not None and self.to_rec709.shape != (3, 3):
            raise RefusedError(f"to_rec709 must be of shape (3, 3), got {tuple(self.to_rec709.shape)}")
        _warn_of_large_ratios(self.exposures, self.names)
        if not 0 <= self.reference_index < self.count:
            raise RefusedError(
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
        levels: int | None = None,
        check: bool = True,
        paths: Sequence[PathLike] = (),
        chroma_halved: tuple[bool, bool] | None = None,
        to_rec709: Tensor | None = None,
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
            Largest level of the files that the images were read from, 255 or 65535; by default what their values tell.
        check
            Whether exposures that contradict the pixels are refused and, by a response that is given, small errors of
            them are corrected. Where the response is estimated, the errors are as well, and corrected in any case.
        paths
            The files that the images were read from.
        chroma_halved
            Whether these keep half as many rows, and half as many columns, of colour as of brightness, as JPEG does;
            by default the pixels of 8-bit files tell.
        to_rec709
            As in :class:`Bracket`.

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
        _check_one_for_each(images, names=names, paths=paths or names)
        for name, image in zip(names, images, strict=True):
            check_tensor(image, name)
        _check_equal_sizes(images, names)
        stacked = torch.stack(list(images))
        check_images(stacked, SMALLEST_SIDE)
        likely = _likely(response)
        first = likely[0] if likely else None
        light = _light(exposures, stacked, first)
        order = light.argsort(stable=True)
        ldr = stacked if bool((order.diff() > 0).all()) else stacked[order]
        # Half precision has not even the range: 16 EV are infinite there.
        relative = relative_exposures(light[order]).to(torch.promote_types(ldr.dtype, torch.float32))
        names = [names[index] for index in order.tolist()]
        _check_exposures(relative, names)
        reference_index = middle_exposure(relative.tolist()) if reference is None else order.tolist().index(reference)

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
            calibration if levels is None else dataclasses.replace(calibration, levels=levels),
            reference_index,
            tuple(Path(paths[index]) for index in order.tolist()) if paths else (),
            to_rec709,
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
            whichever makes their exposures agree, and estimates it where none does; camera raw, floating-point files
            and PNG that say gamma 1 are linear.
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
        check_one_kind(paths, names)
        exposures: Exposures = (
            "auto"
            if isinstance(exposure_values, str)
            else _stated_exposures(paths, exposure_times, exposure_values, exposure_file)
        )
        known = reference if isinstance(exposures, str) else _reference(exposures, reference)
        files = read_files(paths, names, known, raw=raw, white_level=white_level)
        camera: Response | Sequence[Response] | None
        if response == "auto":
            camera = Response.linear() if files.linear else None if files.levels == 255 else _encodings()
        else:
            camera = response
        return cls.from_images(
            files.images,
            exposures,
            response=camera,
            names=names,
            reference=reference,
            levels=files.levels,
            check=check,
            paths=paths,
            chroma_halved=files.chroma_halved,
            to_rec709=files.to_rec709,
        )

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


def _reference(exposures: Sequence[float], stated: int | None) -> int:
    """Index of the reference among exposures in any order."""
    order = sorted(range(len(exposures)), key=lambda index: exposures[index])
    return order[middle_exposure([exposures[index] for index in order])] if stated is None else stated


def _light(exposures: Exposures, images: Tensor, response: Response | None) -> Tensor:
    """Light that each image got, on any scale, float64."""
    if isinstance(exposures, str):
        if exposures != "auto":
            raise RefusedError(f'exposures must be numbers or "auto", got {exposures!r}')
        return estimate_exposures(images, response).double()
    if len(images) != len(exposures):
        raise RefusedError(f"there are {len(images)} images but {len(exposures)} exposures; give one for each")
    return torch.tensor([float(exposure) for exposure in exposures], dtype=torch.float64)


def _likely(response: Response | Sequence[Response] | None) -> list[Response]:
    if isinstance(response, str):
        raise TypeError(
            f"a response must be a Response, such as Response.srgb() or Response.parse('gamma:2.2'), got {response!r}; "
            "without one it is estimated"
        )
    likely = [response] if isinstance(response, Response) else list(response or ())
    for one in likely:
        if not isinstance(one, Response):
            raise TypeError(f"responses must be a Response each, such as Response.srgb(), got {one!r}")
    return likely


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
        raise RefusedError("exposure times, exposure values and an exposure file exclude each other; give one of them")
    if not stated:
        return exposures_from_exif(paths)
    if exposure_file is not None:
        exposures = read_exposure_file(exposure_file)
    elif exposure_values is not None:
        exposures = exposures_from_ev(exposure_values)
    else:
        exposures = [float(time) for time in exposure_times or ()]
    if len(paths) != len(exposures):
        raise RefusedError(f"there are {len(paths)} images but {len(exposures)} exposures; give one for each")
    relative_exposures(torch.tensor(exposures))  # refuses what is not positive before ratios are taken
    warn_if_camera_disagrees(paths, exposures)
    return exposures


def _check_count(images: Sequence[object], names: Sequence[str], reference: int | None) -> None:
    if len(images) < 2:
        told = f" ({names[0]})" if names else ""
        raise RefusedError(f"a bracket needs two or more exposures, got {len(images)}{told}")
    if reference is not None and not 0 <= reference < len(images):
        raise RefusedError(
            f"the reference must be one of the {len(images)} images, 0 to {len(images) - 1}, got {reference}"
        )


def _check_one_for_each(images: Sequence[Tensor] | Tensor, **given: Sequence[object]) -> None:
    for what, every in given.items():
        if len(every) != len(images):
            raise RefusedError(f"there are {len(images)} images but {len(every)} {what}; give one for each")


def _check_exposures(exposures: Tensor, names: Sequence[str]) -> None:
    if exposures.ndim != 1 or len(names) != len(exposures):
        raise RefusedError(f"expected one exposure for each image, got {tuple(exposures.shape)} for {len(names)}")
    values = exposures.detach().tolist()
    if not all(math.isfinite(value) for value in values):
        raise RefusedError(f"exposures must be finite, got {values}")
    if values[0] != 1.0 or values != sorted(values):
        raise RefusedError(f"exposures must ascend from 1, relative to the shortest, got {values}; use from_images")


def _check_reference(calibration: Calibration, exposures: Tensor, reference: int, names: Sequence[str]) -> None:
    """Refuse a reference so dark that it shares no light with its neighbours: nothing of them would be believed."""
    steps, disagreement = exposures.log2().diff().tolist(), calibration.disagreement
    alike = next(group for group in groups_of_light(exposures.tolist()) if reference in group)
    before, after = alike[0] - 1, alike[-1]  # of less and of more light
    apart = [
        (index, disagreement[index], steps[index])
        for index in (before, after)
        if 0 <= index < len(steps) and math.isfinite(disagreement[index])
    ]
    not_shared = [ev > max(_NOT_SHARED_EV, _NOT_SHARED_SHARE * step) for _, ev, step in apart]
    if not apart or not all(not_shared) or apart[-1][0] != after:  # a longer exposure shows what it does not
        return
    told = "; ".join(
        f"{names[index]} and {names[index + 1]} are stated {step:.2f} EV apart, but disagree about that by {ev:.2f} EV"
        for index, ev, step in apart
    )
    raise ExposureMismatchError(
        f"the exposures contradict the pixels, whatever the response: {told}. Perhaps {names[reference]} is too dark: "
        "choose a longer exposure as the reference (--reference, which counts from 1), take steps of 2 or 3 EV, or "
        "correct the exposures that were stated (--times, --ev); with check=False (--align off --response srgb) they "
        "are merged as stated"
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
    sizes = [tuple(image.shape) for image in images]
    if len(set(sizes)) > 1:
        told = ", ".join(
            f"{name} {'x'.join(map(str, reversed(shape[-2:])))}" for name, shape in zip(names, sizes, strict=True)
        )
        raise RefusedError(f"the images of a bracket must have one size (width x height), got {told}")
