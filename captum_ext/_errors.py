"""What is refused, and how it is said."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class RefusedError(ValueError):
    """What was asked for cannot be done; the message says what was given, what is allowed and what to do.

    The commands tell it in one line; whatever else is raised is a mistake of ours, and a traceback.
    """


class InvalidArgumentError(RefusedError, AssertionError):
    """An argument was refused.

    Captum raises ``AssertionError`` for refused arguments and Python's own word is ``ValueError``; code that expects
    either catches this.
    """


class TargetOutOfRangeError(IndexError, RuntimeError):
    """A target lies outside the model's output.

    Captum raises ``IndexError`` for an integer and ``RuntimeError`` for a tensor or list; code that expects either
    catches this.
    """


_SAY_ENOUGH = (ValueError, RuntimeError, OSError)


def printable(text: str | Path) -> str:
    r"""Return a text with the bytes of file names that are not UTF-8 as backslash escapes, so that it can be written.

    Examples
    --------
    >>> import os
    >>> printable(os.fsdecode(b"caf\xe9.png"))
    'caf\\udce9.png'
    """
    return str(text).encode("utf-8", "backslashreplace").decode()


def described(error: Exception) -> str:
    """Return an error's message, with its type where that does not speak for itself.

    Examples
    --------
    >>> described(ValueError("target 7 is out of range"))
    'target 7 is out of range'
    >>> described(KeyError("logits"))
    "KeyError: 'logits'"
    """
    message, kind = printable(str(error)), type(error).__name__
    if not message:
        return kind
    return message if isinstance(error, _SAY_ENOUGH) else f"{kind}: {message}"


class MissingExtraError(RefusedError, ImportError):
    """A package is not installed that one of the extras of ``captum-ext`` brings; the message names the extra."""


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Context for imports of packages that an extra brings.

    Raises
    ------
    MissingExtraError
        One of them is missing.

    Examples
    --------
    >>> with extra("cli"):
    ...     import no_such_package
    Traceback (most recent call last):
    captum_ext._errors.MissingExtraError: no_such_package is missing: pip install "captum-ext[cli]" brings it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] == "captum_ext":
            raise  # a mistake of ours, which no installation mends
        raise MissingExtraError(f'{error.name} is missing: pip install "captum-ext[{name}]" brings it.') from error
