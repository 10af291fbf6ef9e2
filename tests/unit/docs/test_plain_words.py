"""Docstrings, comments, messages and pages use plain words: none that an engineer with average English must look up."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
RARE = re.compile(
    r"\b(?:anew|afresh|mend(?:s|ed|ing)?|whoever|whatsoever|nobody|somebody|beside it|brings?|says so|lest|riddle|"
    r"henceforth|hitherto|thereby|whereby|wherein|thence|hence|alas|naught|aught|albeit|befalls?|behold)\b",
    re.IGNORECASE,
)
NOT_PROSE = {
    "rewards/answers/sentence.py": {"hence", "nobody"},  # lists of words that an answer may have
    "rewards/answers/structure.py": {"hence"},
    "rewards/answers/phrases.py": {"hence"},
    "sailrl/algos/mismatch.py": {"brings"},  # the title of a paper
}
CODE = sorted(path for room in ("sailrl", "rewards", "data_filters") for path in (ROOT / room).rglob("*.py"))
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def _prose(source: str) -> Iterator[tuple[int, str]]:
    """Every text and comment of a module with its line."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def _rare(texts: Iterator[tuple[int, str]], allowed: set[str]) -> list[str]:
    return [
        f"line {line}: {found.group()}"
        for line, text in texts
        for found in RARE.finditer(text)
        if found.group().lower() not in allowed
    ]


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_has_no_rare_words(path: Path) -> None:
    allowed = NOT_PROSE.get(str(path.relative_to(ROOT)), set())
    assert not _rare(_prose(path.read_text(encoding="utf-8")), allowed)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_a_page_has_no_rare_words(path: Path) -> None:
    assert not _rare(iter(enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)), set())


def test_a_rare_word_is_found_in_a_docstring_a_comment_and_a_message() -> None:
    source = '"""Nobody knows."""\n# mend it\nraise ValueError(f"begin {1} anew")\nnobody = 1\n'
    assert _rare(_prose(source), set()) == ["line 2: mend", "line 1: Nobody", "line 3: anew"]
