"""One bracket of files to radiance and pictures: the settings, and the work."""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
from cyclopts import Parameter

from hdr._files import check_writable
from hdr.alignment import Mode
from hdr.bracket import Bracket
from hdr.cli._console import Flag
from hdr.delivery import DisplaySettings, check_picture, write_picture
from hdr.exif import carried_exif
from hdr.exposure import parse_numbers, read_camera_settings
from hdr.exposure_map import draw_exposure_map
from hdr.io import PREVIEW_SUFFIXES, RADIANCE_SUFFIXES, write_image, write_radiance
from hdr.merge import MergedBracket, Merger, Precision
from hdr.raw import RawSettings
from hdr.report import REPORT_SUFFIXES, write_report
from hdr.response import Response
from hdr.tonemap import Operator

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
    white_level
        Of 16-bit files, the level that is white; by default 65535, or 1023, 4095 or 16383 where the values end there.
    """

    times: str | None = None
    ev: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None
    exposures: Path | None = None
    response: str = "auto"
    reference: int | None = None
    wb: str = "camera"
    half_size: Flag = False
    white_level: int | None = None

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
            white_level=self.white_level,
        )


@dataclass(frozen=True, kw_only=True)
class OutputSettings:
    """What is made of the exposures, and what is written besides the radiance.

    Parameters
    ----------
    align
        auto follows the camera and what moved; on fails where the camera's motion cannot be told; off takes the images
        as they lie.
    crop
        Cut to what all exposures saw.
    half
        16-bit float in the .exr file: half the size.
    preview
        Picture to look at: tone-mapped .jpg, .png or 16-bit .tif; or HDR as .avif. Of a folder: jpg, png, tif or avif.
    operator
        Tone mapping of the preview; local keeps the contrast of small things and opens shadows.
    gain_map
        Make the preview, a .jpg, one that new displays show as HDR and old ones as it is (Ultra HDR).
    exposure_map
        Picture of which exposure made which pixel: .jpg, .png or .tif.
    report
        Page about the bracket, .html: exposures, the result under an exposure slider, what was estimated, all notes.
    save_response
        File for the camera's response, to be given as --response another time.
    force
        Replace existing files.
    """

    align: Mode = "auto"
    crop: Flag = False
    half: Flag = False
    preview: Path | None = None
    operator: Operator = "reinhard"
    gain_map: Flag = False
    exposure_map: Path | None = None
    report: Path | None = None
    save_response: Path | None = None
    force: Flag = False

    def check(self, images: list[Path], out: Path) -> None:
        """Raise now, before the work, what writing would."""
        if self.gain_map and self.preview is None:
            raise ValueError("--gain-map is of the preview; name a .jpg file with --preview")
        if self.half and out.suffix.lower() == ".hdr":
            raise ValueError(f"{out}: only .exr files hold 16-bit float; leave --half out")
        check_writable(out, overwrite=self.force, suffixes=RADIANCE_SUFFIXES)
        if self.preview is not None:
            check_picture(self.preview, self.gain_map, overwrite=self.force)
        if self.exposure_map is not None:
            check_writable(self.exposure_map, overwrite=self.force, suffixes=PREVIEW_SUFFIXES)
        if self.report is not None:
            check_writable(self.report, overwrite=self.force, suffixes=REPORT_SUFFIXES)
        if self.save_response is not None:
            check_writable(self.save_response, overwrite=self.force, suffixes=(".json",))
        read = {image.resolve() for image in images}
        written = [path.resolve() for path in self.written(out)]
        for path in written:
            if path in read:
                raise ValueError(f"{path} is one of the images to merge; choose another name")
            if written.count(path) > 1:
                raise ValueError(f"{path} is named for two outputs; choose another name")

    def written(self, out: Path) -> list[Path]:
        """All files that are written."""
        named = (out, self.preview, self.exposure_map, self.report, self.save_response)
        return [path for path in named if path is not None]


def read_bracket(images: list[Path], reading: BracketSettings, output: OutputSettings) -> Bracket:
    """Read what is to be merged."""
    # Images of different scenes are merged where alignment and estimation are both left out: someone knows better.
    return reading.bracket(images, check=not (output.align == "off" and reading.response != "auto"))


def merge_bracket(
    bracket: Bracket,
    out: Path,
    merger: Merger,
    output: OutputSettings,
    display: DisplaySettings | None = None,
    *,
    notes: Sequence[str] = (),
    progress: bool = True,
) -> str:
    """Merge one bracket, write all that is asked for, the radiance last, and return what is to be told.

    ``notes`` are what was warned of until the report is written, in which they stand.
    """
    begun = time.monotonic()
    if output.crop or output.exposure_map is not None or output.report is not None:
        radiance, weights, alignment = merger.with_weights(bracket, output.align, progress=progress)
        rows, columns = alignment.seen_by_all() if output.crop else (slice(None), slice(None))
        radiance, weights = radiance[:, rows, columns].contiguous(), weights[:, rows, columns]
    else:  # without weights, which nobody asked for: six bytes a pixel for three exposures
        radiance = merger(bracket, output.align, progress=progress)
    seconds = time.monotonic() - begun
    radiance = bracket.in_rec709(radiance)
    overwrite = output.force
    if output.preview is not None:
        exif = carried_exif(bracket.paths[bracket.reference_index])
        how = {"gain_map": output.gain_map, "settings": display, "exif": exif, "overwrite": overwrite}
        write_picture(output.preview, radiance, output.operator, **how)  # type: ignore[arg-type]
    if output.exposure_map is not None:
        write_image(output.exposure_map, draw_exposure_map(weights), overwrite=overwrite)
    if output.report is not None:
        merged = MergedBracket(radiance, weights, alignment)
        write_report(output.report, bracket, merged, notes=notes, operator=output.operator, overwrite=overwrite)
    if output.save_response is not None:
        bracket.calibration.response.save(output.save_response, overwrite=overwrite)
    # Last: where it lies, all lies.
    write_radiance(out, radiance, half=output.half, attributes=_told_in_the_file(bracket), overwrite=overwrite)
    return _told(bracket, seconds, merger.device, [str(path) for path in output.written(out)])


def keep_memory() -> None:
    """Let the C library keep what a tile has used for the next tile.

    It gives every block of more than 32 MiB back to the system, which then has to clear it again, page by page: a third
    of the processor time of a large merge. The memory is this process's own, and so is the setting.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_M_MMAP_MAX, 0)
            mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def _told_in_the_file(bracket: Bracket) -> dict[str, str | float]:
    """Attributes for an .exr file, by OpenEXR's standard names where there are such."""
    reference = bracket.names[bracket.reference_index]
    told: dict[str, str | float] = {
        "software": "captum-ext",
        "comments": f"merged from {', '.join(bracket.names)} at the instant of {reference}; "
        f"exposures {' : '.join(f'{float(t):.4g}' for t in bracket.exposures)}; 1 is where the shortest saturates",
    }
    settings = read_camera_settings(bracket.paths[bracket.reference_index])
    known = {"expTime": settings.time, "isoSpeed": settings.iso, "aperture": settings.f_number}
    return told | {name: value for name, value in known.items() if value is not None}


def _told(bracket: Bracket, seconds: float, device: torch.device, written: list[str]) -> str:
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
    if bracket.to_rec709 is not None:
        told.append("The colours of the files' profile became Rec. 709.")
    told.append(f"Wrote {' and '.join(written)}")
    return " ".join(told)
