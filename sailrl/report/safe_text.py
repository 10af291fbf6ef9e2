"""Makes text of models and data files safe to print: no control characters, no markup."""

from __future__ import annotations

import unicodedata

from rich.console import Console
from rich.text import Text

ELLIPSIS = "…"
# Cc controls (ESC starts terminal commands), Cf formats (bidi overrides reorder what is read), Cs lone surrogates
# (cannot be encoded), Co private use, Zl and Zp line separators.
UNSAFE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})


def safe(text: str, width: int | None = None) -> str:
    """The text on one line with control characters written out (``\\x1b``, ``\\n``), cut to ``width`` characters."""
    if width is not None and width < 1:
        raise ValueError(f"width must be at least 1, got {width}")
    # Only the first width characters are shown, and a response can be long.
    visible = "".join(map(_shown, text if width is None else text[: width + 1]))
    if width is None or len(visible) <= width:
        return visible
    return visible[: width - 1] + ELLIPSIS


def safe_lines(text: str) -> str:
    """Like ``safe``, but line breaks and tabs stay."""
    return "".join(c if c in "\n\t" else _shown(c) for c in text)


def say(console: Console, text: str) -> None:
    """Prints lines as they stand: ``[red]`` in them is no markup, and long lines are not broken."""
    console.print(Text(safe_lines(text)), soft_wrap=True)


def _shown(character: str) -> str:
    if unicodedata.category(character) not in UNSAFE_CATEGORIES:
        return character
    return character.encode("unicode_escape").decode("ascii")
