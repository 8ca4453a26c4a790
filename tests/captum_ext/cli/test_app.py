"""The program as a whole: quick help, one way to refuse, a traceback for what is a mistake of ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import captum_ext
from captum_ext.cli.app import app
from tests.command_line import Command

ROOT = Path(__file__).resolve().parents[3]
# The last one by Cyclopts on Python 3.10.
OF_THE_COMMAND_LINE = {"attr", "attrs", "cyclopts", "docstring_parser", "rich", "rich_rst", "typing_extensions"}
MAY_BE_IMPORTED = {"captum_ext", *OF_THE_COMMAND_LINE}
"""Beside the standard library, by any ``--help``: what makes the words, and nothing that computes."""


@pytest.mark.parametrize("command", ["", "evaluate", "explain", "methods", "demo"])
def test_help_imports_nothing_that_computes(command: str):
    code = (
        "import sys; before = set(sys.modules)\n"
        f"from captum_ext.cli import main; main([*'{command}'.split(), '--help'])\n"
        "print({name.split('.')[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names))"
    )
    finished = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    *shown, imported = finished.stdout.splitlines()
    assert any((command or "evaluate") in line for line in shown)
    others = {name for name in eval(imported) if not name.startswith(("_", "markdown_it", "mdurl", "pygments"))}
    assert others <= MAY_BE_IMPORTED


def test_every_command_has_help_of_its_own(command: Command):
    for name in ("explain", "evaluate", "methods", "demo"):
        finished = command(name, "--help")
        assert finished.exit_code == 0
        assert finished.stdout.startswith(f"Usage: captum-ext {name}")


def test_version_is_told(command: Command):
    assert command("--version").stdout.strip() == captum_ext.__version__


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate"], "requires an argument"),
        (["evaluate", "data", "--out", "out", "--n-steps", "0"], '"0" for --n-steps'),
        (["evaluate", "data", "--out", "out", "--n-steps", "some"], '"some"'),
        (["evaluate", "data", "--out", "out", "--min-score", "2"], "--min-score"),
        (["evaluate", "data", "--out", "out", "--seed", "-1"], "--seed"),
        (["evaluate", "data", "--out", "out", "--baseline", "pink"], '"black"'),
        (["evaluate", "data", "--out", "out", "--colour", "pink"], "--colour"),
        (["evaluate", "nowhere", "--out", "out"], "nowhere: is not a folder"),
        (["explain"], "no image was given"),
        (["dream"], '"dream"'),
    ],
)
def test_what_cannot_be_done_is_one_line_on_the_standard_error(command, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    finished = command(*arguments)
    assert finished.exit_code == 1
    assert finished.stdout == ""
    assert finished.stderr.startswith("Error: ")
    assert message in finished.stderr
    assert finished.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [ValueError("shapes differ"), RuntimeError("no"), KeyError("x")])
def test_mistake_of_ours_is_a_traceback(command: Command, monkeypatch, error):
    def broken(*_, **__):
        raise error

    monkeypatch.setattr("captum_ext.evaluation.explain.explain", broken)
    with pytest.raises(type(error)):
        command("explain", "a.png")


def test_command_without_its_extra_names_it():
    code = (
        "import sys; sys.modules['cyclopts'] = None\n"
        "from captum_ext.cli import main; sys.exit(main(['evaluate', 'data', '--out', 'out']))"
    )
    finished = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert finished.returncode == 1
    assert finished.stderr == 'Error: cyclopts is missing: pip install "captum-ext[cli]" brings it.\n'


def test_evaluation_from_python_without_its_extra_names_it():
    code = "import sys; sys.modules['pandas'] = None; from captum_ext.evaluation import evaluate"
    finished = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert 'MissingExtraError: pandas is missing: pip install "captum-ext[cli]" brings it.' in finished.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands_and_options(shell):
    script = app.generate_completion(shell=shell)
    assert "evaluate" in script
    assert "min-score" in script
