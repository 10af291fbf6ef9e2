"""Text that others wrote cannot steer the terminal."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from rich.console import Console

from sailrl.report.safe_text import safe, safe_lines, say


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, 中文, 😀", "plain, 中文, 😀"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("two\nlines\r", "two\\nlines\\r"),
        ("\x9b31m", "\\x9b31m"),  # the one-character form of ESC [
        ("abc\u202edef", "abc\\u202edef"),
        ("half \ud83d", "half \\ud83d"),
        ("a\u2028b", "a\\u2028b"),
    ],
)
def test_control_characters_are_written_out(text: str, shown: str) -> None:
    assert safe(text) == shown
    assert safe(text).encode("utf-8")


def test_long_text_is_cut_to_the_width_with_a_mark() -> None:
    assert safe("abcdef", 4) == "abc…"
    assert safe("abcd", 4) == "abcd"
    assert len(safe("\x1b" * 50, 10)) == 10  # counted as shown, four characters each


def test_line_breaks_stay_where_they_are_wanted() -> None:
    assert safe_lines("a\n\tb\x1b") == "a\n\tb\\x1b"


def test_markup_is_printed_and_not_obeyed() -> None:
    def printed(by: Callable[[Console], None]) -> str:
        console = Console(file=io.StringIO(), width=20)
        by(console)
        return console.file.getvalue()  # type: ignore[attr-defined]

    hostile = "pip install 'sailrl[train]', [bold red]x[/] [link=http://a]y"
    assert printed(lambda console: say(console, f"{hostile}\x1b")) == f"{hostile}\\x1b\n"
    assert hostile not in printed(lambda console: console.print(hostile, soft_wrap=True))
