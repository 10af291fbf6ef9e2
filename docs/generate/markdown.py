"""Markdown for the generated pages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def one_line(text: str) -> str:
    """A docstring as one line of Markdown: single backticks, no line breaks."""
    return " ".join(text.replace("``", "`").split())


def code(text: str) -> str:
    """``text`` as code."""
    return f"`{text}`"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; a vertical bar in a cell does not end it, and ``<`` outside code starts no HTML."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"
