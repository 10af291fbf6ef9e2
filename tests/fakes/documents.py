"""Code blocks of Markdown documents."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path


def blocks(document: Path, language: str) -> Iterator[tuple[str, str]]:
    """``(title, text)`` of every code block in a language; a title names the file that the block is."""
    text = document.read_text(encoding="utf-8")
    for info, block in re.findall(r"^```([^\n]*)\n(.*?)^```$", text, re.M | re.S):
        name, _, title = info.partition(" title=")
        if name == language:
            yield title.strip('"'), block
