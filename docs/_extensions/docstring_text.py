"""Docstrings as they are meant to be read in this project.

Two habits of plain text would be misread: bars around a quantity are its absolute value and no substitution, and a
colon in the description of a field ("Shape (N,): the output") does not set a type apart.
"""

from __future__ import annotations

import re
from typing import Any, get_type_hints

from sphinx.application import Sphinx

_FIELDS = ("attribute", "data", "property")
_COLON = "\ue000"  # a character for private use, which no text contains
_LITERAL_OR_BAR = re.compile(r"(``.*?``|:math:`.*?`|\\\|)|\|")
_BEFORE_NAPOLEON, _AFTER_NAPOLEON = 400, 600


def escape(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Escape bars outside of literals, and hide the colons of fields."""
    for index, line in enumerate(lines):
        escaped = _LITERAL_OR_BAR.sub(lambda match: match[1] or r"\|", line)
        lines[index] = escaped.replace(": ", f"{_COLON} ") if what in _FIELDS else escaped


def restore_colons(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Put the colons back."""
    lines[:] = [line.replace(_COLON, ":") for line in lines]


def show_factories(
    app: Sphinx, what: str, name: str, thing: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Write an ellipsis for a default that a dataclass's factory makes, since ``<factory>`` is no Python."""
    return signature and signature.replace("<factory>", "..."), returns


def without_options(app: Sphinx, function: Any, bound: bool) -> None:
    """Take out of the types of settings what only the command line reads in them."""
    if any("Annotated[" in str(kind) for kind in getattr(function, "__annotations__", {}).values()):
        function.__annotations__ = get_type_hints(function)


def setup(app: Sphinx) -> dict[str, Any]:
    """Work around Napoleon, which reads docstrings at the default priority of 500."""
    app.connect("autodoc-process-docstring", escape, priority=_BEFORE_NAPOLEON)
    app.connect("autodoc-process-docstring", restore_colons, priority=_AFTER_NAPOLEON)
    app.connect("autodoc-before-process-signature", without_options)
    app.connect("autodoc-process-signature", show_factories)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
