"""What imagecodecs can write here, which its releases for older Pythons cannot."""

from __future__ import annotations

from pathlib import Path

import pytest

_NEEDED = {".avif": ("AVIF", "COLOR_PRIMARIES"), ".jxl": ("JPEGXL", "PRIMARIES")}


def need_encoder(name: str) -> None:
    """Skip the test where a file of this name cannot be written."""
    codecs = pytest.importorskip("imagecodecs")
    needed = _NEEDED.get(Path(name).suffix)
    if needed and not hasattr(getattr(codecs, needed[0]), needed[1]):
        pytest.skip(f"imagecodecs {codecs.__version__} cannot state the colours of {needed[0]}")
