"""The commands by name. What a command needs is imported when it runs, so that help is quick."""

from __future__ import annotations

from cyclopts import App

import captum_ext
from captum_ext.cli._numbers import refuse_fractions

app = App(
    name="captum-ext",
    help="Attribution methods that Captum lacks.",
    version=captum_ext.__version__,
    # As plain text the lines of the docstrings would break off in the middle of the screen.
    help_format="markdown",
    config=refuse_fractions,
    # What a command returns is its exit code; what is refused is told by captum_ext.cli.main.
    result_action="return_value",
    exit_on_error=False,
    print_error=False,
)
for name, about in {
    "explain": "Explain what a classifier sees in images: figures and raw attributions.",
    "evaluate": "Measure attribution methods on a folder of images: tables, curves and a report.",
    "methods": "List the attribution methods: name, what it is, source.",
    "demo": "Explain photographs by a real ImageNet network, and scanned digits by a small one.",
}.items():
    app.command(f"captum_ext.cli.{name}:{name}", name=name, help=about)
app.register_install_completion_command(help="Let the shell complete commands and options.")
