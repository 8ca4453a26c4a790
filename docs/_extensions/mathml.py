"""Formulas as MathML: browsers draw it themselves, so that pages need neither a network nor a script.

Docutils translates; a formula that it cannot read is a warning, and so fails a strict build.
"""

from __future__ import annotations

from typing import Any

from docutils import nodes
from docutils.utils.math import latex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)


def _translated(node: nodes.Element, *, as_block: bool) -> str:
    latex = node.astext()
    try:
        return str(latex2mathml.tex2mathml(latex, as_block=as_block))
    except (SyntaxError, ValueError) as error:
        logger.warning("formula %r cannot be translated to MathML: %s", latex, error, location=node)
        return f"<code>{latex}</code>"


def visit_inline(translator: Any, node: nodes.Element) -> None:
    """Write a formula within a line."""
    translator.body.append(_translated(node, as_block=False))
    raise nodes.SkipNode


def visit_block(translator: Any, node: nodes.Element) -> None:
    """Write a formula that stands alone."""
    translator.body.append(f'<div class="formula">{_translated(node, as_block=True)}</div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the renderer under the name ``mathml``."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
