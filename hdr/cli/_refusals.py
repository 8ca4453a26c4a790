"""What is told in one line, for a person can mend it; whatever else is raised is a mistake of ours, and a traceback.

Needs nothing but the standard library.
"""

from __future__ import annotations

from hdr._errors import RefusedError

TAKES_LESS_MEMORY = {
    "merge": "not enough memory; give a smaller --tile",
    "evaluate": "not enough memory; give a smaller --tile",
    "demo": "not enough memory; give a smaller --tile",
    "train": "not enough memory; give a smaller --crop or --batch-size",
}
"""By command, what to say where memory does not suffice."""

_LACK_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")


def refusal(error: Exception, command: str) -> str | None:
    """What a command tells of an error: a request that cannot be met, a file, or memory; None if it is our mistake."""
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)
    # FloatingPointError: half precision, which overflows; PyTorch and, as it is set, NumPy never raise it.
    if isinstance(error, (RefusedError, FloatingPointError)):
        return str(error)
    if _is_lack_of_memory(error):
        told = TAKES_LESS_MEMORY.get(
            command, "not enough memory; close other programs, or take a computer that has more"
        )
        return f"{told} ({error})" if str(error) else told
    return None


def _is_lack_of_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    # On the CPU, PyTorch raises a plain RuntimeError, whose words depend on the operating system.
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _LACK_OF_MEMORY)
