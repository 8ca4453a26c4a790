"""``hdr tonemap``: radiance to a picture."""

from __future__ import annotations

from pathlib import Path

from hdr._files import check_writable
from hdr.cli._console import Flag, Operator, say
from hdr.io import PREVIEW_SUFFIXES, read_radiance, write_preview


def tonemap(radiance: Path, /, *, out: Path, operator: Operator = "reinhard", force: Flag = False) -> int:
    """Tone-map radiance to a picture.

    Parameters
    ----------
    radiance
        A .hdr or .exr file.
    out
        Picture to write: .jpg, .png or 16-bit .tif.
    operator
        How.
    force
        Replace an existing file.
    """
    check_writable(out, overwrite=force, suffixes=PREVIEW_SUFFIXES)
    write_preview(out, read_radiance(radiance), operator, overwrite=force)
    say(f"Wrote {out}")
    return 0
