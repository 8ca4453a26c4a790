"""The commands by name. What a command needs is imported when it runs, so that help is quick."""

from __future__ import annotations

from importlib.metadata import version

from cyclopts import App

from hdr.cli._numbers import refuse_fractions

app = App(
    name="hdr",
    help="Merge exposures of a moving scene into one HDR image without ghosts.",
    version=lambda: version("captum-ext"),
    # As plain text the lines of the docstrings would break off in the middle of the screen.
    help_format="markdown",
    config=refuse_fractions,
    # What a command returns is its exit code; what is refused is told by hdr.cli.main.
    result_action="return_value",
    exit_on_error=False,
    print_error=False,
)
for name, about in {
    "merge": "Merge a bracket into one HDR image at the instant of its middle exposure.",
    "tonemap": "Tone-map radiance to a picture.",
    "evaluate": "Measure weights on scenes with ground truth, beside what is reached without a network.",
    "train": "Train a generator, or go on training one.",
    "export": "Write the merge as one graph of tensors, for programs without this package.",
    "demo": "Merge a simulated bracket of a photographed place, and show the result beside the truth.",
}.items():
    app.command(f"hdr.cli.{name}:{name}", name=name, help=about)
app.register_install_completion_command(help="Let the shell complete commands and options.")
