"""Whole numbers that were written as such."""

from __future__ import annotations

from collections.abc import Iterable
from typing import get_args

from cyclopts import App, Argument

from hdr._errors import RefusedError


def refuse_fractions(_app: App, _commands: tuple[str, ...], arguments: Iterable[Argument]) -> None:
    """Raise RefusedError where a whole number is asked for and a fraction given, as a ``config`` of Cyclopts.

    By itself Cyclopts rounds: 2.5 would be 2, without a word.
    """
    for argument in arguments:
        types = get_args(argument.hint) or (argument.hint,)
        if int not in types or argument.parameter.converter is not None:
            continue
        for token in argument.tokens:
            if _is_fraction(token.value):
                raise RefusedError(f"{argument.name} is a whole number, got {token.value}")


def _is_fraction(text: str) -> bool:
    try:
        return not float(text).is_integer()
    except ValueError:  # no number at all, about which Cyclopts has its own words
        return False
