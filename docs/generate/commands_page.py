"""``docs/commands.md``: every command with its arguments and options, as the command line declares them."""

from __future__ import annotations

from typing import Any

import typer

from docs.generate.markdown import code, one_line, table
from sailrl.cli import app

INTRODUCTION = """\
# Commands

`sailrl COMMAND --help` prints the same. Arguments that name a configuration take `section.key=value` after it, which
overrides the file. Run an interrupted command again and it resumes.

| exit code | when |
| --- | --- |
| 0 | Done, or asked to end by SIGTERM and saved. |
| 1 | The data has nothing left to teach, or an error was unexpected: the text names the file with its traceback. |
| 2 | Something to correct: the configuration, the data, the model, the machine. One message says what. |
| 130 | Ended by Ctrl-C. |
"""


def commands_page() -> str:
    """The page."""
    group: Any = typer.main.get_command(app)
    return "\n".join([INTRODUCTION, *(_command(name, command) for name, command in group.commands.items())])


def _command(name: str, command: Any) -> str:
    parameters = [p for p in command.params if p.name != "help"]
    usage = " ".join(["sailrl", name, *map(_usage, parameters)])
    rows = ((code(_name(p)), one_line(p.help or ""), _default(p)) for p in parameters)
    head = [f"## {name}\n", f"```text\n{usage}\n```\n", one_line(command.help) + "\n"]
    return "\n".join([*head, table(("argument", "meaning", "default"), rows)])


def _is_option(parameter: Any) -> bool:
    return parameter.param_type_name == "option"


def _name(parameter: Any) -> str:
    """``--out``, or the argument's name in capitals."""
    return parameter.opts[0] if _is_option(parameter) else (parameter.metavar or parameter.name.upper())


def _usage(parameter: Any) -> str:
    value = "" if not _is_option(parameter) or parameter.is_flag else f" {parameter.metavar or 'VALUE'}"
    several = " ..." if parameter.nargs == -1 or getattr(parameter, "multiple", False) else ""
    text = f"{_name(parameter)}{value}{several}"
    return text if parameter.required else f"[{text}]"


def _default(parameter: Any) -> str:
    if parameter.required:
        return "*required*"
    return parameter.show_default if isinstance(parameter.show_default, str) else ""
