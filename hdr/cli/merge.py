"""``hdr merge``: a bracket of files, or a folder of brackets, to radiance."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from hdr._errors import RefusedError
from hdr.cli._console import remembered_warnings, say
from hdr.cli._settings import (
    DISPLAY,
    EXPOSURES,
    FOLDERS,
    MERGING,
    OUTPUT,
    BracketSettings,
    FolderSettings,
    MergerSettings,
    OutputSettings,
)
from hdr.settings import DisplaySettings


def merge(
    images: list[Path],
    /,
    *,
    out: Path,
    reading: Annotated[BracketSettings | None, Parameter(name="*", group=EXPOSURES)] = None,
    merging: Annotated[MergerSettings | None, Parameter(name="*", group=MERGING)] = None,
    output: Annotated[OutputSettings | None, Parameter(name="*", group=OUTPUT)] = None,
    display: Annotated[DisplaySettings | None, Parameter(name="*", group=DISPLAY)] = None,
    grouping: Annotated[FolderSettings | None, Parameter(name="*", group=FOLDERS)] = None,
) -> int:
    """Merge a bracket into one HDR image at the instant of its middle exposure; or all brackets of a folder.

    Parameters
    ----------
    images
        Two or more exposures, in any order: TIFF, PNG, JPEG, or camera raw. Or one folder, whose pictures are grouped
        by camera, time and exposure.
    out
        Radiance, .exr, .tif or .hdr; the shortest exposure saturates at 1. Of a folder: the folder for the results,
        which goes on where it stopped.
    """
    # Here, as everywhere in the commands: help imports nothing that computes, which takes seconds.
    from hdr.cli._bracket import check_output, check_reading, merge_bracket, read_bracket
    from hdr.cli._folder import merge_folder
    from hdr.cli._memory import keep_memory
    from hdr.cli._ranks import Ranks
    from hdr.cli._results import fingerprint_of_files

    reading, merging = reading or BracketSettings(), merging or MergerSettings()
    output, grouping = output or OutputSettings(), grouping or FolderSettings()
    if len(images) == 1 and images[0].is_dir():
        return merge_folder(images[0], out, grouping, reading, merging, output, display)
    for image in images:
        if image.is_dir():
            raise RefusedError(f"{image} is a folder, one of {len(images)} names; give one folder alone, or files")
        image.stat()  # the operating system's own words where there is no such file, before those about the result
    if grouping != FolderSettings():
        raise RefusedError(
            "--group, --gap, --radiance, --dry-run and --jobs are for a folder; give one instead of files"
        )
    if Ranks.of_environment().count > 1:
        raise RefusedError("several processes share the brackets of a folder; give one, or start one process")
    check_output(output, images, out, display)
    check_reading(reading, images)
    keep_memory()
    merger = merging.merger()  # before the pictures: a name that is wrong is told at once
    with remembered_warnings() as notes:
        bracket = read_bracket(images, reading, output)
        photographs = fingerprint_of_files(images)
        told = merge_bracket(bracket, out, merger, output, display, photographs=photographs, notes=notes)
    say(told)
    return 0
