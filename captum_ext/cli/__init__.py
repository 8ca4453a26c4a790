"""The command line: ``captum-ext explain``, ``captum-ext evaluate`` and ``captum-ext demo``."""

from __future__ import annotations

import typer

from captum_ext.cli import demo, evaluate, explain

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Attribution methods that Captum lacks.")
for command in (explain.explain, evaluate.evaluate, demo.demo):
    app.command()(command)
