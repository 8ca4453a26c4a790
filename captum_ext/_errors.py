"""What is refused, and how it is said."""

from __future__ import annotations

from captum_ext._files import printable


class InvalidArgumentError(ValueError, AssertionError):
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
