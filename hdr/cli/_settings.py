"""What can be set of a merge: the fields are the options, and the docstrings their help.

Nothing that computes is imported before it runs, so that help is quick.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Group, Parameter

from hdr._errors import RefusedError
from hdr.cli._console import Flag
from hdr.settings import LARGEST_GAP, DisplaySettings, Mode, Operator, Precision

if TYPE_CHECKING:
    from hdr.merge import Merger

_TITLES = ("Exposures", "Merging", "Output", "HDR pictures", "Folders", "Learning", "Run")
EXPOSURES, MERGING, OUTPUT, DISPLAY, FOLDERS, LEARNING, RUN = (
    Group(title, sort_key=place) for place, title in enumerate(_TITLES)
)
"""Parts of the help, in this order."""


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
        What convolutions compute in; auto is bfloat16 on a processor that has it, and float32 elsewhere.
    denoise
        Remove noise, where the weights have learned it.
    judge
        Let the network judge what moves; without it, physics alone does, which is quicker and worse mostly where the
        reference is dark and noisy.
    """

    weights: str = "small"
    device: str = "auto"
    tile: int = 776
    overlap: int | None = None
    precision: Precision = "auto"
    denoise: bool = True
    judge: bool = True

    def merger(self) -> Merger:
        """Make the merger."""
        from hdr.merge import Merger

        return Merger(**{field.name: getattr(self, field.name) for field in fields(self)})


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
        The camera's: auto (estimated from 8-bit files; of 16-bit ones the exposures tell whether they are gamma 2.2,
        sRGB or linear; camera raw is linear), srgb, linear, gamma:2.2, or a file that --save-response wrote.
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
        Picture to look at: tone-mapped .jpg, .png or 16-bit .tif; or HDR as .avif or .jxl. Of a folder: jpg, png, tif,
        avif or jxl.
    operator
        Tone mapping of a preview that is not HDR, and of the report; local keeps the contrast of small things and opens
        shadows.
    gain_map
        Make the preview, a .jpg, one that new displays show as HDR and old ones as it is (Ultra HDR).
    exposure_map
        Picture of which exposure made which pixel: .jpg, .png or .tif.
    report
        Page about the bracket, .html: exposures, the result under an exposure slider, what was estimated, all notes.
    save_response
        File, .json, for the camera's response, to be given as --response another time.
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

    def written(self, out: Path) -> list[Path]:
        """All files that are written."""
        named = (out, self.preview, self.exposure_map, self.report, self.save_response)
        return [path for path in named if path is not None]


@dataclass(frozen=True, kw_only=True)
class FolderSettings:
    """How a folder is taken apart into brackets.

    Parameters
    ----------
    group
        Pictures in a bracket, where time and exposures do not tell: they are counted off.
    gap
        Seconds between two pictures with which a new bracket begins, at most a day.
    radiance
        What the radiance of each bracket is written as: exr, tif or hdr.
    dry_run
        Only show the brackets.
    jobs
        Brackets that are merged at once, each with the memory of one. For several GPUs, start several processes with
        torchrun -m hdr.cli merge.
    """

    group: int | None = None
    gap: float = LARGEST_GAP
    radiance: Literal["exr", "tif", "hdr"] = "exr"
    dry_run: Annotated[Flag, Parameter(alias="-n")] = False
    jobs: int = 1


def check_display_options(
    picture: Path | None, operator: Operator, display: DisplaySettings | None, *, gain_map: bool, report: bool = False
) -> None:
    """Raise a ValueError that names the options which the picture, the preview of a merge or None, has no use for.

    A gain map, .avif and .jxl are not tone-mapped by an operator, and nothing but these looks at the display.
    """
    hdr = picture is not None and picture.suffix.lower() in (".avif", ".jxl")
    stated = () if display is None else fields(display)
    useful = {field.name for field in stated} if hdr else {"brightness", "peak", "quality"} if gain_map else set()
    changed = [field.name for field in stated if getattr(display, field.name) != field.default]
    useless = [f"--{name}" for name in changed if picture is None or name not in useful]
    remedy = "leave it out" if hdr or gain_map else "make it .avif, .jxl, or .jpg with --gain-map"
    if operator != OutputSettings().operator and not report and (picture is None or hdr or gain_map):
        useless, remedy = ["--operator", *useless], "leave it out, for nothing is tone-mapped by one"
    if useless and picture is None:
        raise RefusedError(f"without a preview there is no use for {', '.join(useless)}; name one with --preview")
    if useless:
        raise RefusedError(f"{picture} has no use for {', '.join(useless)}; {remedy}")
