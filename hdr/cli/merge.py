"""``hdr merge``: a bracket of files to radiance."""

from __future__ import annotations

import ctypes
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
from cyclopts import Parameter

from hdr._files import check_writable
from hdr.alignment import Mode
from hdr.bracket import Bracket
from hdr.cli._console import Flag, Operator, Precision, say
from hdr.exposure import parse_numbers
from hdr.exposure_map import draw_exposure_map
from hdr.io import PREVIEW_SUFFIXES, RADIANCE_SUFFIXES, write_image, write_preview, write_radiance
from hdr.merge import Merger
from hdr.raw import RawSettings
from hdr.response import Response

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h


@dataclass(frozen=True, kw_only=True)
class MergerSettings:
    """What merges, and where.

    Parameters
    ----------
    weights
        Bundled preset, a .safetensors file, or none for the physical merge without a network.
    device
        auto, cpu, cuda, cuda:1, ...
    tile
        Pixels by which tiles advance; larger is faster and takes more memory.
    overlap
        Pixels that tiles share; by default what the network sees. Less is faster.
    precision
        What convolutions compute in.
    """

    weights: str = "small"
    device: str = "auto"
    tile: int = 768
    overlap: int | None = None
    precision: Precision = "float32"

    def merger(self) -> Merger:
        """Make the merger."""
        return Merger(self.weights, self.device, self.tile, self.overlap, self.precision)


@dataclass(frozen=True, kw_only=True)
class BracketSettings:
    """How the exposures are read.

    Parameters
    ----------
    times
        Exposure times in seconds, as 1/60,1/15,1/4. Without times, --ev or --exposures, EXIF tells them.
    ev
        Exposure values in EV, as -2,0,2; or auto, which estimates them from the pixels.
    exposures
        Text file with one EV a line, in the order of the images.
    response
        The camera's: auto (estimated from 8-bit files; 16-bit ones are taken as gamma 2.2, camera raw as linear), srgb,
        linear (raw that was developed elsewhere), gamma:2.2, or a file that --save-response wrote.
    reference
        Which image, counted from 1 as given, shows the instant that is wanted; by default the middle exposure.
    wb
        White balance of camera raw, one for all exposures: camera (as shot by the reference), daylight, auto, or three
        factors R,G,B.
    half_size
        Develop camera raw at half the size, one pixel for four of the sensor.
    """

    times: str | None = None
    ev: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None
    exposures: Path | None = None
    response: str = "auto"
    reference: int | None = None
    wb: str = "camera"
    half_size: Flag = False

    def bracket(self, images: list[Path], *, check: bool) -> Bracket:
        """Read the bracket; ``check`` refuses exposures that contradict the pixels."""
        if self.reference is not None and not 1 <= self.reference <= len(images):
            raise ValueError(f"--reference must be from 1 to {len(images)}, the number of images; got {self.reference}")
        response: Response | Literal["auto"] = "auto" if self.response == "auto" else Response.parse(self.response)
        values = "auto" if self.ev == "auto" else None if self.ev is None else parse_numbers(self.ev)
        return Bracket.from_files(
            images,
            exposure_times=None if self.times is None else parse_numbers(self.times),
            exposure_values=values,  # type: ignore[arg-type]
            exposure_file=self.exposures,
            response=response,
            reference=None if self.reference is None else self.reference - 1,
            check=check,
            raw=RawSettings.parse(self.wb, self.half_size),
        )


def merge(
    images: list[Path],
    /,
    *,
    out: Path,
    bracket: Annotated[BracketSettings | None, Parameter(name="*")] = None,
    merger: Annotated[MergerSettings | None, Parameter(name="*")] = None,
    align: Mode = "auto",
    crop: Flag = False,
    preview: Path | None = None,
    operator: Operator = "reinhard",
    exposure_map: Path | None = None,
    save_response: Path | None = None,
    force: Flag = False,
) -> int:
    """Merge a bracket into one HDR image at the instant of its middle exposure.

    Parameters
    ----------
    images
        Two or more exposures, in any order: TIFF, PNG, JPEG, or camera raw.
    out
        Radiance, .exr or .hdr; the shortest exposure saturates at 1.
    align
        auto follows the camera and what moved; on fails where the camera's motion cannot be told; off takes the images
        as they lie.
    crop
        Cut to what all exposures saw.
    preview
        Tone-mapped picture: .jpg, .png or 16-bit .tif.
    operator
        Tone mapping of the preview.
    exposure_map
        Picture of which exposure made which pixel: .jpg, .png or .tif.
    save_response
        File for the camera's response, to be given as --response another time.
    force
        Replace existing files.
    """
    _keep_memory()
    reading, merging = bracket or BracketSettings(), merger or MergerSettings()
    pictures = [path for path in (preview, exposure_map) if path is not None]
    _check_outputs(images, out, pictures, save_response, force)
    merge_with = merging.merger()
    # Images of different scenes are merged where alignment and estimation are both left out: someone knows better.
    read = reading.bracket(images, check=not (align == "off" and reading.response != "auto"))
    begun = time.monotonic()
    if crop or exposure_map is not None:
        merged = merge_with.with_weights(read, align, progress=True)
        rows, columns = merged.alignment.seen_by_all() if crop else (slice(None), slice(None))
        radiance, weights = merged.radiance[:, rows, columns].contiguous(), merged.weights[:, rows, columns]
    else:  # without weights, which nobody asked for: six bytes a pixel for three exposures
        radiance = merge_with(read, align, progress=True)
    seconds = time.monotonic() - begun
    write_radiance(out, radiance, overwrite=force)
    if preview is not None:
        write_preview(preview, radiance, operator, overwrite=force)
    if exposure_map is not None:
        write_image(exposure_map, draw_exposure_map(weights), overwrite=force)
    if save_response is not None:
        read.calibration.response.save(save_response, overwrite=force)
    written = [str(path) for path in (out, *pictures, save_response) if path is not None]
    _tell(read, seconds, merge_with.device, written)
    return 0


def _keep_memory() -> None:
    """Let the C library keep what a tile has used for the next tile.

    It gives every block of more than 32 MiB back to the system, which then has to clear it again, page by page: a third
    of the processor time of a large merge. The memory is this process's own, and so is the setting.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_M_MMAP_MAX, 0)
            mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def _check_outputs(images: list[Path], out: Path, pictures: list[Path], response: Path | None, force: bool) -> None:
    check_writable(out, overwrite=force, suffixes=RADIANCE_SUFFIXES)
    for picture in pictures:
        check_writable(picture, overwrite=force, suffixes=PREVIEW_SUFFIXES)
    if response is not None:
        check_writable(response, overwrite=force, suffixes=(".json",))
    read = {image.resolve() for image in images}
    written = [path.resolve() for path in (out, *pictures, response) if path is not None]
    for path in written:
        if path in read:
            raise ValueError(f"{path} is one of the images to merge; choose another name")
        if written.count(path) > 1:
            raise ValueError(f"{path} is named for two outputs; choose another name")


def _tell(bracket: Bracket, seconds: float, device: torch.device, written: list[str]) -> None:
    height, width = bracket.size
    ratios = " : ".join(f"{float(exposure):.3g}" for exposure in bracket.exposures)
    told = [
        f"Merged {', '.join(bracket.names)} ({width} x {height}, exposures {ratios}) in {seconds:.1f} s on {device}; "
        f"the reference is {bracket.names[bracket.reference_index]}."
    ]
    apart = [ev for ev in bracket.calibration.disagreement if ev == ev]
    if apart:
        told.append(
            f"Response {bracket.calibration.response.name}: neighbouring exposures agree to "
            f"{', '.join(f'{ev:.2f}' for ev in apart)} EV."
        )
    told.append(f"Wrote {' and '.join(written)}")
    say(" ".join(told))
