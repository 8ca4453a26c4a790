"""Links to Python names, by whichever module they are called.

``captum_ext.IDGI``, ``captum_ext.attr.IDGI`` and, within a docstring of the same module, ``IDGI`` are one class, which
is documented once. A name of another package is shown without a link; a name that does not exist, or that the
reference leaves out, stays unresolved, which a strict build reports.
"""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode

OWN_PACKAGES = ("captum_ext", "hdr")


@cache
def canonical_name(name: str) -> str | None:
    """Return the module and qualified name of what a dotted name stands for; None if there is nothing."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        module_name = ".".join(parts[:length])
        try:
            found: Any = importlib.import_module(module_name)
        except ImportError:
            continue
        owner, attributes = found, parts[length:]
        for attribute in attributes:
            if not hasattr(found, attribute):
                # A field of a dataclass without a default is known to its class by annotation only.
                is_field = attribute in getattr(found, "__annotations__", {})
                return f"{canonical_name_of(found, module_name)}.{attribute}" if is_field else None
            owner, found = found, getattr(found, attribute)
        own_name = canonical_name_of(found, "")
        return own_name or (f"{canonical_name_of(owner, module_name)}.{parts[-1]}" if attributes else module_name)
    return None


def canonical_name_of(thing: Any, default: str) -> str:
    """Return where a class, function or module was defined; ``default`` for other objects."""
    qualified_name, module = getattr(thing, "__qualname__", None), getattr(thing, "__module__", None)
    return f"{module}.{qualified_name}" if qualified_name and module else getattr(thing, "__name__", default)


def resolve(app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.Element) -> nodes.Element | None:
    """Resolve a Python name that no page defines under the name that was written."""
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"].removesuffix("()")
    name = next((found for scope in _scopes(node) if (found := canonical_name(scope + target))), None)
    if name is None:
        return None
    if name.split(".")[0] not in OWN_PACKAGES:
        return content
    documented = env.domains["py"].objects
    for alias in (name, *(own for own in documented if canonical_name(own) == name)):
        if alias in documented:
            entry = documented[alias]
            return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, content, alias)
    return None


def _scopes(node: pending_xref) -> list[str]:
    """Return where a name is looked for: as it is, in the class, the module and the packages around it, in Python."""
    module, class_name = node.get("py:module") or "", node.get("py:class")
    parts = module.split(".")
    around = [".".join(parts[:length]) for length in range(len(parts), 0, -1)]
    inside = [f"{module}.{class_name}"] if class_name else []
    return ["", *(f"{scope}." for scope in (*inside, *around, "builtins", "typing", "torch") if scope)]


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect the resolver."""
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
