"""Text in EXIF data, byte for byte as a camera or a person's program wrote it."""

from __future__ import annotations

from typing import Any

PROGRAM = "captum-ext"
"""By which a file says that it is a result of this program."""


class _Stored(str):
    """Text that Pillow read, and will write as the bytes that it read."""

    def encode(self, encoding: str = "latin-1", errors: str = "strict") -> bytes:
        """The bytes, whatever Pillow asks for."""
        return super().encode("latin-1", "replace")


def as_stored(value: Any) -> Any:
    """A value for Pillow to write; of text all bytes.

    Pillow reads the bytes of a text as Latin-1, of which every byte is a character, and writes ASCII with question
    marks: an owner whose name is not English would have another one afterwards.
    """
    return _Stored(value) if isinstance(value, str) else value
