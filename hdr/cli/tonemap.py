"""``hdr tonemap``: radiance to a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from hdr._errors import RefusedError
from hdr._files import identity
from hdr.cli._console import Flag, say
from hdr.cli._settings import DISPLAY, check_display_options
from hdr.settings import DisplaySettings, Operator


def tonemap(
    radiance: Path,
    /,
    *,
    out: Path,
    operator: Operator = "reinhard",
    gain_map: Flag = False,
    display: Annotated[DisplaySettings | None, Parameter(name="*", group=DISPLAY)] = None,
    force: Flag = False,
) -> int:
    """Make a picture of radiance: tone-mapped, or HDR for displays that show it.

    Parameters
    ----------
    radiance
        A .hdr or .exr file, or TIFF of 32-bit float.
    out
        Picture to write: tone-mapped .jpg, .png or 16-bit .tif; or HDR as .avif or .jxl.
    operator
        How it is tone-mapped, if it is not HDR; local keeps the contrast of small things and opens shadows.
    gain_map
        Make a .jpg one that new displays show as HDR and old ones as it is (Ultra HDR).
    force
        Replace an existing file.
    """
    from hdr.delivery import check_picture, write_picture
    from hdr.io import read_radiance

    check_display_options(out, operator, display, gain_map=gain_map)
    if identity(out) == identity(radiance):
        raise RefusedError(f"{out} is the radiance; choose another name")
    check_picture(out, gain_map, overwrite=force)
    write_picture(out, read_radiance(radiance), operator, gain_map=gain_map, settings=display, overwrite=force)
    say(f"Wrote {out}")
    return 0
