"""Links to Python names, by whichever module they are called.

``captum_ext.IDGI``, ``captum_ext.attr.IDGI`` and, within a docstring of the same module, ``IDGI`` are one class, which
is documented once. A name of another package is shown without a link; a name that does not exist, or that the
reference leaves out, stays unresolved, which a strict build reports.
"""

from __future__ import annotations

import importlib
from contextlib import suppress
from functools import cache
from types import ModuleType
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
    module, attributes = _module_and_attributes(name)
    if module is None:
        return None
    owner, found = None, module
    for attribute in attributes:
        if not hasattr(found, attribute):
            # A field of a dataclass without a default is known to its class by annotation only.
            is_field = attribute in getattr(found, "__annotations__", {})
            return f"{_defined_as(found)}.{attribute}" if is_field else None
        owner, found = found, getattr(found, attribute)
    return _defined_as(found) or f"{_defined_as(owner)}.{attributes[-1]}"


def _module_and_attributes(name: str) -> tuple[Any, list[str]]:
    """Import as much of a dotted name as is a module, and return it with the names that are left."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        with suppress(ImportError):
            return importlib.import_module(".".join(parts[:length])), parts[length:]
    return None, []


def _defined_as(thing: Any) -> str | None:
    """Return where a class, function or module was defined; None for other objects, which do not know."""
    if isinstance(thing, ModuleType):
        return thing.__name__
    module, qualified_name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
    return f"{module}.{qualified_name}" if module and qualified_name else None


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
    """Return where a name is looked for: in the class, the module and the packages around it, in Python."""
    module, class_name = node.get("py:module") or "", node.get("py:class")
    parts = module.split(".")
    around = [".".join(parts[:length]) for length in range(len(parts), 0, -1)]
    inside = [f"{module}.{class_name}"] if class_name else []
    # A word alone is not looked for everywhere: importing it might find a module that nobody meant.
    anywhere = [""] if "." in node["reftarget"] else []
    return anywhere + [f"{scope}." for scope in (*inside, *around, "builtins", "typing", "torch") if scope]


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect the resolver."""
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
