"""Names of a package whose modules are imported when a name is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from captum_ext._errors import extra


def lazy_names(
    package: str, homes: Mapping[str, tuple[str, ...]], needs: str | None = None
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return ``__getattr__`` and ``__dir__`` for a package.

    A command that only shows its help imports packages too, and needs nothing of what computes.

    Parameters
    ----------
    package
        Its name.
    homes
        From each module, below it or by its whole name, to the names that come from there.
    needs
        The extra that brings what the modules import; None for the base install.

    Examples
    --------
    >>> look_up, names = lazy_names("captum_ext", {"_files": ("check_absent",)})
    >>> look_up("check_absent").__module__, names()
    ('captum_ext._files', ['check_absent'])
    """
    home_of = {
        name: module if "." in module else f"{package}.{module}" for module, names in homes.items() for name in names
    }
    # Python makes a module that was imported an attribute of its package, which nobody would look up any more.
    assert not home_of.keys() & homes.keys(), "a name is that of a module too"

    def look_up(name: str) -> Any:
        if name not in home_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        if needs is None:
            return getattr(importlib.import_module(home_of[name]), name)
        with extra(needs):
            return getattr(importlib.import_module(home_of[name]), name)

    return look_up, lambda: sorted(home_of)
