"""Names in figures: drawn as they are, whatever is in them."""

from __future__ import annotations


def plain(text: str) -> str:
    r"""Escape the dollar signs, between which Matplotlib expects mathematics, and fails where there is none.

    Examples
    --------
    >>> print(plain("cost in $_$"))
    cost in \$_\$
    """
    return text.replace("$", r"\$")
