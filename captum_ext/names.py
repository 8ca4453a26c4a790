"""Lists of names as people write them on a command line."""

from __future__ import annotations

from collections.abc import Iterable

from captum_ext.attr.validation import InvalidArgumentError


def split_names(text: str, what: str, known: Iterable[str]) -> list[str]:
    """Split a list of names at its commas; a name that comes twice counts once.

    Parameters
    ----------
    text
        For instance ``"ig, idgi"``.
    what
        What a name stands for, for the message.
    known
        What can be given, for the message; the caller refuses names that are not among it.

    Raises
    ------
    InvalidArgumentError
        There is no name.

    Examples
    --------
    >>> split_names("ig, idgi,ig", "method", ["ig", "idgi"])
    ['ig', 'idgi']
    """
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise InvalidArgumentError(f"no {what} was given: known are {', '.join(known)}.")
    return names
