"""One bracket of files to radiance and pictures."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from hdr._errors import RefusedError
from hdr._exif_text import PROGRAM
from hdr._files import check_writable, identity
from hdr.bracket import Bracket
from hdr.cli._memory import return_memory
from hdr.cli._settings import BracketSettings, OutputSettings, check_display_options
from hdr.delivery import check_picture, write_picture
from hdr.exif import carried_exif
from hdr.exposure import parse_numbers, read_camera_settings, white_luminance
from hdr.exposure_map import draw_exposure_map
from hdr.io import PREVIEW_SUFFIXES, RADIANCE_SUFFIXES, TIFF_SUFFIXES, is_raw, write_image, write_radiance
from hdr.merge import MergedBracket, Merger
from hdr.raw import RawSettings
from hdr.report import REPORT_SUFFIXES, write_report
from hdr.response import Response
from hdr.settings import DisplaySettings


def check_output(output: OutputSettings, images: list[Path], out: Path, display: DisplaySettings | None = None) -> None:
    """Raise now, before the work, what writing would, and which options nothing would use."""
    if output.gain_map and output.preview is None:
        raise RefusedError("--gain-map is of the preview; name a .jpg file with --preview")
    check_display_options(
        output.preview, output.operator, display, gain_map=output.gain_map, report=output.report is not None
    )
    if output.half and out.suffix.lower() in (".hdr", *TIFF_SUFFIXES):
        raise RefusedError(f"{out}: only .exr files hold 16-bit float; leave --half out")
    check_writable(out, overwrite=output.force, suffixes=(*RADIANCE_SUFFIXES, *TIFF_SUFFIXES))
    if output.preview is not None:
        check_picture(output.preview, output.gain_map, overwrite=output.force)
    if output.exposure_map is not None:
        check_writable(output.exposure_map, overwrite=output.force, suffixes=PREVIEW_SUFFIXES)
    if output.report is not None:
        check_writable(output.report, overwrite=output.force, suffixes=REPORT_SUFFIXES)
    if output.save_response is not None:
        check_writable(output.save_response, overwrite=output.force, suffixes=(".json",))
    read = {identity(image) for image in images}
    written = [(path.resolve(), identity(path)) for path in output.written(out)]
    for path, file in written:
        if file in read:
            raise RefusedError(f"{path} is one of the images to merge; choose another name")
        if [other for _, other in written].count(file) > 1:
            raise RefusedError(f"{path} is named for two outputs; choose another name")


def check_reading(reading: BracketSettings, images: list[Path]) -> None:
    """Raise now, before the work, a ValueError that names an option of camera raw where no image is that."""
    useless = [name for name, used in (("--wb", reading.wb != "camera"), ("--half-size", reading.half_size)) if used]
    if useless and not any(is_raw(image) for image in images):
        raise RefusedError(f"{useless[0]} is for camera raw, and none of the images is; leave it out")


def parsed(reading: BracketSettings) -> dict[str, Any]:
    """What is said of every bracket, as :meth:`hdr.bracket.Bracket.from_files` takes it; ValueError if it is wrong."""
    return {
        "exposure_times": None if reading.times is None else parse_numbers(reading.times),
        "exposure_values": reading.ev if reading.ev in (None, "auto") else parse_numbers(reading.ev),
        "exposure_file": reading.exposures,
        "response": "auto" if reading.response == "auto" else Response.parse(reading.response),
        "raw": RawSettings.parse(reading.wb, reading.half_size),
        "white_level": reading.white_level,
    }


def read_bracket(images: list[Path], reading: BracketSettings, output: OutputSettings) -> Bracket:
    """Read what is to be merged."""
    if reading.reference is not None and not 1 <= reading.reference <= len(images):
        raise RefusedError(
            f"--reference must be from 1 to {len(images)}, the number of images; got {reading.reference}"
        )
    return Bracket.from_files(
        images,
        reference=None if reading.reference is None else reading.reference - 1,
        # Images of different scenes are merged where alignment and estimation are both left out: someone knows better.
        check=not (output.align == "off" and reading.response != "auto"),
        **parsed(reading),
    )


def merge_bracket(
    bracket: Bracket,
    out: Path,
    merger: Merger,
    output: OutputSettings,
    display: DisplaySettings | None = None,
    *,
    photographs: str = "",
    notes: Sequence[str] = (),
    progress: bool = True,
) -> str:
    """Merge one bracket, write all that is asked for, the radiance last, and return what is to be told.

    ``photographs`` is what the radiance is known by in a folder of results; ``notes`` are what was warned of until the
    report is written, in which they stand.
    """
    if output.save_response is not None and not bracket.calibration.response_known:
        raise RefusedError(
            f"{output.save_response}: these pictures do not tell the camera's response; "
            f"{bracket.calibration.response.name} is a guess, which is not saved for others. Leave --save-response "
            "out, or give it with a bracket whose neighbours, 2 or 3 EV apart, show the same things neither black nor "
            "white"
        )
    begun = time.monotonic()
    return_memory()  # that reading took
    if output.crop or output.exposure_map is not None or output.report is not None:
        radiance, weights, alignment = merger.with_weights(bracket, output.align, progress=progress)
        rows, columns = alignment.seen_by_all() if output.crop else (slice(None), slice(None))
        radiance, weights = radiance[:, rows, columns].contiguous(), weights[:, rows, columns]
    else:  # without weights, which nobody asked for: six bytes a pixel for three exposures
        radiance = merger(bracket, output.align, progress=progress)
    seconds = time.monotonic() - begun
    return_memory()  # that tiles took: pictures of the whole come on top of what is left
    overwrite, exif = output.force, None
    if output.preview is not None or out.suffix.lower() in TIFF_SUFFIXES:  # the others have no place for it
        exif = carried_exif(bracket.paths[bracket.reference_index])
    if output.preview is not None:
        how = {"gain_map": output.gain_map, "settings": display, "exif": exif, "overwrite": overwrite}
        write_picture(output.preview, radiance, output.operator, **how)  # type: ignore[arg-type]
    if output.exposure_map is not None:
        drawn = draw_exposure_map(weights, bracket.exposures)
        write_image(output.exposure_map, drawn, overwrite=overwrite)
    if output.report is not None:
        merged = MergedBracket(radiance, weights, alignment)
        write_report(output.report, bracket, merged, notes=notes, operator=output.operator, overwrite=overwrite)
    if output.save_response is not None:
        bracket.calibration.response.save(output.save_response, overwrite=overwrite)
    # Last: where it lies, all lies.
    attributes = _told_in_the_file(bracket)
    if photographs:
        attributes["photographs"] = photographs
    write_radiance(out, radiance, half=output.half, attributes=attributes, exif=exif, overwrite=overwrite)
    return _told(bracket, seconds, merger.device, [str(path) for path in output.written(out)])


def _told_in_the_file(bracket: Bracket) -> dict[str, str | float]:
    """Attributes for the radiance, by OpenEXR's standard names where there are such."""
    reference = bracket.names[bracket.reference_index]
    told: dict[str, str | float] = {
        "software": PROGRAM,
        "comments": f"merged from {', '.join(bracket.names)} at the instant of {reference}; "
        f"exposures {' : '.join(f'{float(t):.4g}' for t in bracket.exposures)}; 1 is where the shortest saturates",
    }
    settings = read_camera_settings(bracket.paths[bracket.reference_index])
    white = white_luminance(settings)
    if white is not None:  # of the reference; 1 is where the shortest exposure saturates
        white *= float(bracket.exposures[bracket.reference_index] / bracket.exposures.min())
    known = {
        "expTime": settings.time,
        "isoSpeed": settings.iso,
        "aperture": settings.f_number,
        "whiteLuminance": white,
    }
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
        told.append("The colours of the files became Rec. 709.")
    told.append(f"Wrote {' and '.join(written)}")
    return " ".join(told)
