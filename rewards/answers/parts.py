"""Answers in labelled parts: ``(a) 7 (b) 2``, ``(i) 7; (ii) 2``, ``A: 7, B: 2``. Pure text."""

from __future__ import annotations

import re

LABEL = r"(?:[A-Ha-h]|[ivx]{1,4}|[1-9])"
_MARKS = [
    re.compile(rf"(?:(?<![A-Za-z])part )?\(({LABEL})\) ?:? ?", re.IGNORECASE),
    re.compile(rf"(?:^|(?<=[\s,;.}}]))({LABEL})\) ?:? ?", re.IGNORECASE),
    re.compile(rf"(?:^|(?<=[\s,;.}})]))(?:part )?({LABEL}) ?: ?", re.IGNORECASE),
]
"""``(a)``, ``a)`` and ``A:``; the first mark says which of them all are."""
_MAX_CHARS = 2000
_ROMAN = ["i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x"]


def parts(s: str) -> list[tuple[str, str]] | None:
    """Labels and texts in the order of the labels; None when ``s`` is no such list. The labels must be the first ones
    of their kind (a, b, c or i, ii, iii), each once, so that ``(a)(b+c)`` stays a product."""
    if len(s) > _MAX_CHARS or s.count(")") + s.count(":") < 2:
        return None
    form = next((form for form in _MARKS if form.match(s)), None)
    marks = list(form.finditer(s)) if form is not None else []
    if len(marks) < 2:
        return None
    labels = [mark.group(1) for mark in marks]
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
