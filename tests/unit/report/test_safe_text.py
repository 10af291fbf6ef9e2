"""Text that others wrote cannot steer the terminal."""

from __future__ import annotations

import pytest
from rich.text import Text

from sailrl.report.safe_text import safe, safe_lines, safe_markup


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
    hostile = "[bold red]x[/] \\[link=http://a]y"
    assert Text.from_markup(safe_markup(hostile)).plain == hostile
    assert Text.from_markup(hostile).plain != hostile
