"""What people are told when a model, a method or a metric raises on one picture."""

from __future__ import annotations

from captum_ext.whole_files import printable

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
