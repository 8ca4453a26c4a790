"""The command line: ``captum-ext explain``, ``captum-ext evaluate`` and ``captum-ext demo``."""

from __future__ import annotations

import typer

from captum_ext.cli.demo import demo
from captum_ext.cli.evaluate import evaluate
from captum_ext.cli.explain import explain

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Attribution methods that Captum lacks.")
for command in (explain, evaluate, demo):
    app.command()(command)
