"""Directive ``typer-app``: the reference of a command line, from the Typer app itself.

It shows what ``--help`` shows, one section a command, and cannot fall behind.
"""

from __future__ import annotations

import importlib
from typing import Any

import typer
from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList
from sphinx.application import Sphinx

_WIDTH = 100


class TyperApp(Directive):
    """Document the app ``module:attribute`` as a program called by the name that follows."""

    required_arguments = 2

    def run(self) -> list[nodes.Node]:
        """Return a paragraph for the program and a section for each of its commands."""
        module, _, attribute = self.arguments[0].partition(":")
        program = self.arguments[1]
        group: Any = typer.main.get_command(getattr(importlib.import_module(module), attribute))
        root = group.make_context(program, [], resilient_parsing=True)
        sections = [self._section(group.commands[name], root) for name in group.list_commands(root)]
        return [*self._parsed(group.help or ""), *sections]

    def _section(self, command: Any, root: Any) -> nodes.section:
        context = command.make_context(
            command.name, [], parent=root, resilient_parsing=True, max_content_width=_WIDTH, terminal_width=_WIDTH
        )
        title = context.command_path
        section = nodes.section(ids=[nodes.make_id(title)], names=[title])
        section += nodes.title(title, title)
        section += self._parsed(command.help or "")
        usage = command.get_usage(context).removeprefix("Usage: ")
        section += nodes.literal_block(usage, usage, language="text")
        section += self._parameters(command, context)
        self.state.document.note_implicit_target(section)
        return section

    def _parameters(self, command: Any, context: Any) -> nodes.definition_list:
        parameters = nodes.definition_list(classes=["command-line"])
        for parameter in command.get_params(context):
            name, meaning = parameter.get_help_record(context) or (parameter.name, "")
            if name.startswith("--help") or "completion" in name:
                continue
            term, definition = nodes.term("", "", nodes.literal(name, name)), nodes.definition()
            definition += nodes.paragraph(meaning, meaning, support_smartquotes=False)
            parameters += nodes.definition_list_item("", term, definition)
        return parameters

    def _parsed(self, text: str) -> list[nodes.Node]:
        parent = nodes.Element()
        self.state.nested_parse(StringList(text.splitlines(), source=self.arguments[0]), 0, parent)
        for paragraph in parent.findall(nodes.paragraph):
            paragraph["support_smartquotes"] = False  # two hyphens begin an option, and are no dash
        return parent.children


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("typer-app", TyperApp)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
