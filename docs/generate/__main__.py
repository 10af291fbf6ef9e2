"""Writes the generated pages and schemas under ``docs/``: ``python -m docs.generate``."""

from __future__ import annotations

from docs.generate.pages import DOCS, pages

for name, text in pages().items():
    path = DOCS / name
    path.parent.mkdir(exist_ok=True)
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path.relative_to(DOCS.parent)}")
