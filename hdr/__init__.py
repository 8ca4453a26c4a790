"""One HDR image without ghosts from photographs of different exposure: by physics, and by networks after HDR-GAN.

:class:`Bracket` holds the exposures, :func:`align` finds what moved between them, :class:`Merger` turns them into
radiance, and :mod:`hdr.io` reads and writes the files. The networks are in :mod:`hdr.nn`, the data sets in
:mod:`hdr.data`, the training in :mod:`hdr.training`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from hdr._extras import extras_named

if TYPE_CHECKING:
    from hdr.alignment import align
    from hdr.bracket import Bracket
    from hdr.io import read_ldr, read_radiance, write_preview, write_radiance
    from hdr.merge import Merger
    from hdr.response import Response
    from hdr.weights import load_generator, save_generator

__all__ = [
    "Bracket",
    "Merger",
    "Response",
    "align",
    "load_generator",
    "read_ldr",
    "read_radiance",
    "save_generator",
    "write_preview",
    "write_radiance",
]

_HOMES = {
    "align": "hdr.alignment",
    "Bracket": "hdr.bracket",
    "Merger": "hdr.merge",
    "Response": "hdr.response",
    **dict.fromkeys(("read_ldr", "read_radiance", "write_preview", "write_radiance"), "hdr.io"),
    **dict.fromkeys(("load_generator", "save_generator"), "hdr.weights"),
}


def __getattr__(name: str) -> Any:
    # Imported when asked for: hdr.nn and hdr.radiometry work without the extra that reads files, and help is quick.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with extras_named():
        return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
