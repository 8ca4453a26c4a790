"""Bring the notebooks, which lie in ``tutorials`` beside ``docs``, into the site."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx


def copy_notebooks(app: Sphinx) -> None:
    """Copy new and changed notebooks into ``docs/tutorials``, and remove those that are gone."""
    copies = Path(app.srcdir, "tutorials")
    originals = {path.name: path for path in (copies.parent.parent / "tutorials").glob("*.ipynb")}
    for copy in copies.glob("*.ipynb"):
        if copy.name not in originals:
            copy.unlink()
    for name, original in originals.items():
        copy = copies / name
        if not copy.is_file() or copy.read_bytes() != original.read_bytes():
            shutil.copyfile(original, copy)


def setup(app: Sphinx) -> dict[str, Any]:
    """Copy before Sphinx looks for pages."""
    app.connect("builder-inited", copy_notebooks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
