"""Configuration of the documentation site."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
REPOSITORY = DOCS.parent
sys.path[:0] = [str(REPOSITORY), str(DOCS / "_extensions")]

import captum_ext  # noqa: E402

project = "captum-ext"
author = "The captum-ext authors"
project_copyright = author
version = release = captum_ext.__version__

extensions = [
    "cyclopts.ext.sphinx",
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    # Of our own, where no kept extension does it: bars and colons in docstrings, for which Napoleon has no switch;
    # formulas without a script or a network, which MathJax and KaTeX need; links to a class by each of its names, with
    # a warning for a name that is none, where intersphinx would ask the network about other packages.
    "docstring_text",
    "mathml",
    "public_names",
]
exclude_patterns = ["_build", "**/.ipynb_checkpoints"]
default_role = "py:obj"  # what docstrings write in single backticks are Python names
nitpicky = True
nitpick_ignore = [("py:class", "optional")]

# Notebooks lie beside docs, and Sphinx finds only what is inside. Copies keep their times, so that Sphinx reads again
# only those that have changed, and appear whole: another build may be reading them.
notebooks = {notebook.name: notebook for notebook in (REPOSITORY / "tutorials").glob("*.ipynb")}
for copy in (DOCS / "tutorials").glob("*.ipynb"):
    if copy.name not in notebooks:
        copy.unlink(missing_ok=True)
for name, notebook in notebooks.items():
    whole = shutil.copy2(notebook, DOCS / "tutorials" / f"{name}.{os.getpid()}.partial")
    os.replace(whole, DOCS / "tutorials" / name)
# They come with their outputs; the test suite executes them.
nb_execution_mode = "off"
myst_enable_extensions = ["amsmath", "colon_fence", "dollarmath"]
myst_heading_anchors = 3
# Notebooks are written to be read alone, where these are no mistakes.
suppress_warnings = ["myst.header", "mystnb.unknown_mime_type"]

add_module_names = False
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
# Captum's unions, which would fill half a page, are called by their names.
autodoc_type_aliases = {name: name for name in ("BaselineType", "TargetType")}
nitpick_ignore += [("py:class", name) for name in autodoc_type_aliases]
# As the signatures of overloaded methods are written.
nitpick_ignore += [("py:class", name) for name in ("Projection", "Steps", "TensorOrTupleOfTensorsGeneric")]
nitpick_ignore += [("py:class", "captum_ext._captum.TensorOrTupleOfTensorsGeneric")]
python_maximum_signature_line_length = 88
python_use_unqualified_type_names = True
napoleon_google_docstring = False
napoleon_use_rtype = False

html_theme = "furo"
html_title = f"captum-ext {release}"
# ziamath is there for its font, STIX Two Math, which is copied into the site: pages load nothing from elsewhere.
html_static_path = ["_static", str(Path(importlib.util.find_spec("ziamath").origin).parent / "fonts")]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_copy_source = False
pygments_style = "friendly"
pygments_dark_style = "monokai"
copybutton_prompt_text = r">>> |\.\.\. "
copybutton_prompt_is_regexp = True
