"""LaTeX environments that wrap an answer: ``aligned``, ``gathered``, one-column ``array`` and ``cases``.

Pure text: an environment becomes the statement, the chain or the list that it displays, or the pieces of a function.
"""

from __future__ import annotations

import re

from rewards.answers.separators import environments

_DISPLAY = r"aligned|align\*?|gathered|gather\*?|split|eqnarray\*?|equation\*?|multline\*?|flalign\*?"
_ANY = re.compile(
    rf"(\\\{{|[(\[|])?\s*\\begin\s*\{{({_DISPLAY}|[dr]?cases|array)\}}(?:\s*\{{([^{{}}]*)\}})?(.*)\\end\s*\{{\2\}}"
    r"\s*([)\]|])?",
    re.DOTALL,
)
_MARK = re.compile(r"\\begin\s*\{[A-Za-z]+\*?\}|\\end\s*\{[A-Za-z]+\*?\}|\\\\(?:\s*\[[^\]]{0,20}\])?|&")
_CONTINUES = re.compile(r"\s*(?:[=<>+]|\\(?:le|ge|ne|approx|cdot|times)(?![a-zA-Z]))")
_WHEN = re.compile(r"(?<![A-Za-z\\])(?:if|when|for|where|otherwise|else)(?![A-Za-z])|当|若|其他", re.IGNORECASE)
_LEAD = re.compile(r"\s*(?:,|;)?\s*(?:(?:if|when|for|where|当|若)(?![A-Za-z]))?\s*", re.IGNORECASE)
_OTHERWISE = re.compile(r"(?:otherwise|else|elsewhere|其他|其它|否则).*", re.IGNORECASE | re.DOTALL)
_RELATES = re.compile(r"[<>=]|\\(?:le|ge|ne|in)(?![a-zA-Z])")

Pieces = list[tuple[str, str]]
"""Value and condition of each piece; the condition is empty for "otherwise"."""


def unwrap(s: str) -> str | Pieces | None:
    """What the environment around all of ``s`` displays: one text, or the pieces of a function. None when there is no
    such environment, or it is a matrix."""
    match = _ANY.fullmatch(s)
    if match is None or len(environments(s)) > 1:
        return None
    left, name, columns, body, right = match.groups()
    rows = [row for row in _rows(body) if any(cell.strip() for cell in row)]
    if not rows:
        return None
    if name.endswith("cases") or left == r"\{":
        return _cases(rows)
    if name == "array":
        if left or right:
            return None  # a matrix in its brackets
        statements = any("=" in cell for row in rows for cell in row)
        if len(rows) > 1 and not (statements and len(columns or "") <= 3):
            return None
        return _display(rows) if len(rows) > 1 or len(rows[0]) == 1 else None
    return _display(rows)


def array_in_brackets(s: str) -> tuple[str, str] | None:
    """The array inside round, square or upright brackets, and the environment that means the same: a matrix."""
    match = _ANY.fullmatch(s)
    if match is None or match.group(2) != "array":
        return None
    kind = {"()": "p", "[]": "b", "||": "v"}.get(f"{match.group(1)}{match.group(5)}")
    return (f"{kind}matrix", match.group(4)) if kind else None


def _rows(body: str) -> list[list[str]]:
    """Rows and cells, cut outside of inner environments only."""
    rows, cell, at, depth = [[""]], "", 0, 0
    for match in _MARK.finditer(body):
        word = match.group()
        cell += body[at : match.start()]
        at = match.end()
        if word.startswith("\\begin") or word.startswith("\\end"):
            depth += 1 if word.startswith("\\begin") else -1
            cell += word
        elif depth:
            cell += word
        else:
            rows[-1][-1], cell = cell, ""
            if word == "&":
                rows[-1].append("")
            else:
                rows.append([""])
    rows[-1][-1] = cell + body[at:]
    return rows


def _display(rows: list[list[str]]) -> str:
    """Lines as one text: a line that begins with a relation goes on with the chain before it, others are a list."""
    out = ""
    for row in rows:
        line = " ".join(cell.strip() for cell in row).strip().rstrip(",;").strip()
        out += line if not out or _CONTINUES.match(line) else ", " + line
    return out


def _cases(rows: list[list[str]]) -> str | Pieces:
    pieces: Pieces = []
    for row in rows:
        value, condition = row[0], " ".join(row[1:])
        if not condition.strip() or _CONTINUES.match(condition):
            whole = value + condition
            found = _WHEN.search(whole)
            if found is not None:
                value, condition = whole[: found.start()], whole[found.start() :]
            else:
                value, comma, condition = whole.rpartition(",")
                if not comma or not _RELATES.search(condition) or "=" in value:
                    return _display(rows)  # a system of equations
        condition = _LEAD.sub("", condition, count=1).strip().rstrip(",;.").strip()
        if _OTHERWISE.fullmatch(condition):
            condition = ""
        pieces.append((value.strip().rstrip(",;").strip(), condition))
    return pieces
