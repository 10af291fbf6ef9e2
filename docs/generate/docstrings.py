"""Docstrings and signatures of Python objects as Markdown."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable
from typing import Any

from docs.generate.markdown import code, one_line, table

LINE = 100
_HEADING = re.compile(r"^(Args|Returns|Raises|Source):[ ]?(.*)$")
_ITEM = re.compile(r"^( *)([\w*`.]+(?:, [\w*`.]+)*): (.*)$")
_ROLE = re.compile(r":\w+:`~?(?:\w+\.)*(\w+)`")


def body(text: str | None) -> str:
    """A docstring in Markdown: its headings (Args, Returns, ...) in bold, arguments and errors as lists."""
    lines: list[str] = []
    section, depth = "", -1
    for line in inspect.cleandoc(text or "").splitlines():
        if heading := _HEADING.match(line):
            section, depth, line = heading[1], -1, heading[2]
            lines += ["", f"**{section}:**", ""]
            if not line:
                continue
        item = _ITEM.match(line) if section in ("Args", "Raises") else None
        if item and depth in (-1, len(item[1])):
            depth = len(item[1])
            names = ", ".join(code(name.strip("`")) for name in item[2].split(", "))
            lines.append(f"- {names}: {item[3]}")
        elif section in ("Args", "Raises") and line.strip():
            lines.append("  " + line.strip())
        elif section and line.startswith("    "):
            lines.append(line.strip())
        else:
            lines.append(line)
    return re.sub(r"\n{3,}", "\n\n", _ROLE.sub(r"`\1`", "\n".join(lines)).replace("``", "`")).strip() + "\n"


def arguments(text: str | None) -> dict[str, str]:
    """What the ``Args:`` section of a docstring says of each argument."""
    found: dict[str, str] = {}
    listed = re.findall(r"^- ((?:`[^`]+`(?:, )?)+): (.*(?:\n  .*)*)", body(text).partition("**Args:**")[2], re.M)
    for names, meaning in listed:
        meaning = one_line(meaning)
        found |= dict.fromkeys(re.findall(r"`\**([^`]+)`", names), meaning[:1].upper() + meaning[1:])
    return found


def signature(of: Callable[..., Any], name: str) -> str:
    """``name(first: int, *, second: str = "x") -> float`` as it is written in the source."""
    parts: list[str] = []
    for p in inspect.signature(of).parameters.values():
        if p.name == "self":
            continue
        if p.kind is p.KEYWORD_ONLY and "*" not in parts:
            parts.append("*")
        star = "**" if p.kind is p.VAR_KEYWORD else "*" if p.kind is p.VAR_POSITIONAL else ""
        default = "" if p.default is p.empty else f" = {_default(p.default)}"
        parts.append(f"{star}{p.name}: {p.annotation}{default}")
    returns = inspect.signature(of).return_annotation
    arrow = f" -> {returns}" if isinstance(returns, str) and returns != "None" else ""
    line = f"{name}({', '.join(parts)}){arrow}"
    return line if len(line) <= LINE else f"{name}(\n    " + ",\n    ".join(parts) + f",\n){arrow}"


def _default(value: Any) -> str:
    return "..." if "object at" in repr(value) or repr(value) == "<factory>" else repr(value)


def fields(cls: type) -> dict[str, tuple[str, str, str]]:
    """``{field: (type, default, meaning)}`` of a dataclass; the meaning is the text under the field."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(definition, ast.ClassDef)
    found: dict[str, tuple[str, str, str]] = {}
    for statement, after in zip(definition.body, [*definition.body[1:], None], strict=True):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            text = after.value.value if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) else ""
            default = "" if statement.value is None else ast.unparse(statement.value)
            default = default.replace("field(default_factory=dict)", "{}")
            found[statement.target.id] = (ast.unparse(statement.annotation), default, one_line(str(text)))
    return found


def field_table(cls: type) -> str:
    """A table of the fields of a dataclass."""
    rows = (
        (code(name), code(kind), code(default) if default else "*required*", meaning)
        for name, (kind, default, meaning) in fields(cls).items()
    )
    return table(("field", "type", "default", "meaning"), rows)
