"""Own code sees nothing but the base install: a plug-in of pytest (``-p tests.base_install``), or imported first.

What a test imports is left alone, since a test may compare with any package; but a test that asks whether a package is
installed is told what our own code is.
"""

from __future__ import annotations

import builtins
import importlib.metadata
import importlib.util
import re
import sys
from typing import Any

from packaging.requirements import Requirement

OWN = ("captum_ext", "hdr")


def distributions_of(name: str) -> set[str]:
    """Return a distribution without its extras, and all that it requires."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        distribution = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if distribution in found:
            continue
        found.add(distribution)
        try:
            required = map(Requirement, importlib.metadata.requires(distribution) or ())
        except importlib.metadata.PackageNotFoundError:
            continue  # required on another system
        waiting += [one.name for one in required if one.marker is None or one.marker.evaluate({"extra": ""})]
    return found


def hide_extras(base: set[str]) -> None:
    """Let modules of our own find no package but the standard library's and those of the given distributions."""
    packages = dict(importlib.metadata.packages_distributions())
    # Python 3.10 knows of those alone that say what they bring (top_level.txt); of the others the files tell.
    for distribution in importlib.metadata.distributions():
        for package in {file.parts[0] for file in distribution.files or () if file.name == "__init__.py"}:
            packages.setdefault(package, [distribution.metadata["Name"]])
    hidden = {
        package
        for package, owners in packages.items()
        if package not in OWN and not any(re.sub(r"[-_.]+", "-", owner).lower() in base for owner in owners)
    }
    original = builtins.__import__

    def guarded(name: str, namespace: Any = None, *rest: Any, **keywords: Any) -> Any:
        package = name.split(".")[0]
        importer = str((namespace or {}).get("__name__", "")).split(".")[0]
        if importer in OWN and package in hidden and package not in sys.stdlib_module_names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=package)
        return original(name, namespace, *rest, **keywords)

    builtins.__import__ = guarded  # type: ignore[assignment]
    find_spec = importlib.util.find_spec

    def told(name: str, package: str | None = None) -> Any:
        asked_by = str(sys._getframe(1).f_globals.get("__name__", "")).split(".")[0]
        return None if asked_by in (*OWN, "tests") and name in hidden else find_spec(name, package)

    importlib.util.find_spec = told


BASE = set.union(*map(distributions_of, ("captum", "torch", "torchvision", "kornia", "numpy", "tqdm")))
hide_extras(BASE)
