"""Answers in labelled parts: ``(a) 7 (b) 2``, ``(i) 7; (ii) 2``, ``A: 7, B: 2``. Pure text."""

from __future__ import annotations

import re

LABEL = r"(?:[A-Ha-h]|[ivx]{1,4}|[1-9])"
_MARK = re.compile(
    rf"(?:^|(?<=[\s,;.}})]))(?:part )?(?:({LABEL})\)|({LABEL}) ?:) ?:? ?|(?:(?<![A-Za-z])part )?\(({LABEL})\) ?:? ?",
    re.IGNORECASE,
)
_MAX_CHARS = 2000
_ROMAN = ["i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x"]


def parts(s: str) -> list[tuple[str, str]] | None:
    """Labels and texts in the order of the labels; None when ``s`` is no such list. The labels must be the first ones
    of their kind (a, b, c or i, ii, iii), each once, so that ``(a)(b+c)`` stays a product."""
    if len(s) > _MAX_CHARS or s.count(")") + s.count(":") < 2:
        return None
    marks = list(_MARK.finditer(s))
    if len(marks) < 2 or marks[0].start() != 0:
        return None
    labels = [next(filter(None, mark.groups())) for mark in marks]
    order = places(labels)
    if order is None:
        return None
    ends = [mark.start() for mark in marks[1:]] + [len(s)]
    texts = [s[mark.end() : end].strip().rstrip(",;.").strip() for mark, end in zip(marks, ends, strict=True)]
    texts = [re.sub(r"[,;]?\s*(?:and|和)$", "", text).strip() for text in texts]
    if not all(texts):
        return None
    return [pair for _, pair in sorted(zip(order, zip(labels, texts, strict=True), strict=True))]


def places(labels: list[str]) -> list[int] | None:
    """Where each label stands in its sequence; None when they are not the first labels of one, each once."""
    for names in (list("abcdefgh"), list("ABCDEFGH"), _ROMAN, [n.upper() for n in _ROMAN], list("123456789")):
        if set(labels) == set(names[: len(labels)]) and len(set(labels)) == len(labels):
            return [names.index(label) for label in labels]
    return None
