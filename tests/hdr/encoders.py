"""What imagecodecs can write here, which its releases for older Pythons cannot."""

from __future__ import annotations

from pathlib import Path

import pytest

_NEEDED = {".avif": ("AVIF", "COLOR_PRIMARIES"), ".jxl": ("JPEGXL", "PRIMARIES")}


def can_encode(name: str) -> bool:
    """Whether a file of this name can be written."""
    try:
        import imagecodecs
    except ModuleNotFoundError:
        return False
    codec, constants = _NEEDED.get(Path(name).suffix, ("JPEG", ""))
    return not constants or hasattr(getattr(imagecodecs, codec), constants)


def need_encoder(name: str) -> None:
    """Skip the test where a file of this name cannot be written."""
    if not can_encode(name):
        pytest.skip(f"imagecodecs is missing, or cannot state the colours of {Path(name).suffix}")
