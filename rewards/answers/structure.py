"""Reads a cleaned answer into what it is: a number with its unit, an expression, a list, a tuple, an interval, a
matrix, an equation, a date, or just words. Reading decides nothing about equality; ``compare`` does.
"""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache

from rewards.answers import conditions, environments, latex, logic, parts
from rewards.answers.chains import approximated, chain
from rewards.answers.cost import MAX_CHARS, metered
from rewards.answers.labels import UNKNOWN, is_label
from rewards.answers.normalize import clean, key
from rewards.answers.notation import read_notation
from rewards.answers.phrases import NO, YES, meaning
from rewards.answers.quantity import Parsed, read_expression, read_number, read_quantity
from rewards.answers.sentence import names, stated
from rewards.answers.separators import SEPARATOR, encloses, split_top, splits

_LITERAL = re.compile(
    r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}(?:[ T].*)?|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}|\d{4}-\d{2}"  # dates
    r"|\d{1,2}:\d{2}(?::\d{2})?(?: ?[ap]\.? ?m\.?)?|\d{1,2} ?(?:[ap]\.m\.?|[ap]m)"  # times
    r"|(?:\+\d{1,3}[- ]?)?\(?\d{3}\)?[- ]\d{3}[- ]\d{4}|\d{3}-\d{4}|\+\d[\d -]{6,}|\d{3,4}-\d{7,8}"  # phone numbers
    r"|\d+(?:\.\d+){2,}|\d+(?:-\d+){2,}|0\d+|\d+ ?- ?\d+"  # versions, addresses, codes, ranges and scores
    r"|\d+年\d+月(?:\d+[日号])?|\d+月\d+[日号]|\d+[点时](?:\d+分)?",
    re.IGNORECASE,
)
_RATIO = re.compile(r"(\d+(?:\.\d+)?) ?(?::| to | out of | in ) ?(\d+(?:\.\d+)?)")
_LEAD = re.compile(
    r"(?:so |thus |therefore,? |hence,? )?(?:(?:the |my |our |its? )?(?:(?:final|correct|right) )?"
    r"(?:answer|ans|result|solution|value)(?: (?:is|equals|are|would be|should be)(?: :)?| ?[:=])"
    r"|it(?: is|'s)(?! (?:not|never)(?![a-z]))(?= )|(?:in )?(?:the )?year (?=\d{4}$)|in (?=\d{4}$)|on (?=\w{3,6}day$)"
    r"|(?:正确|最终)?答案(?:是|为|:)|答:|等于|故|结果(?:是|为|:))\s*",
    re.IGNORECASE,
)
_ABOUT = re.compile(
    r"(?:\\approx|≈|~|\\sim|=|approximately|approx\.?|about|around|roughly|exactly|only|just|equals?|is|a total of|"
    r"total of|there (?:are|is|were|was)|大约|约为?|共有?|一共有?|总共有?|有|为|是)\s*(?=[\s\S])",
    re.IGNORECASE,
)
_RELATION = re.compile(
    r"\\le(?![a-zA-Z])|\\ge(?![a-zA-Z])|\\ne(?![a-zA-Z])|<=|>=|(?<![\d)])!=|<|>|=|\\approx(?![a-zA-Z])|\\in(?![a-zA-Z])"
)
_FLIP = {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le"}
_MATRIX = re.compile(r"\\begin\s*\{([pbvBV]?(?:small)?matrix|array)\}(?:\s*\{[lcr| ]*\})?(.*)\\end\s*\{\1\}", re.DOTALL)
_TURNED = re.compile(r"([(\[][^()\[\]]+[)\]]) ?\^ ?\{? ?(?:T|\\top|\\intercal|\\prime) ?\}?")
"""A row written as the transpose of a column: ``(1,2)^T``."""
_ARROW = re.compile(r"(?:=(?![=<>])|:|\\(?:therefore|implies|Rightarrow|to|equiv)(?![a-zA-Z])) ?")
_COMPOSED = re.compile(r"\( ?([A-Za-z]) ?\\circ ?([A-Za-z]) ?\) ?\(([^()]*)\)")
_CHOOSE = re.compile(r"(?<![A-Za-z\d.])(\d+|[a-z]) \\?choose (\d+|[a-z])(?![A-Za-z\d.])")
_UNION = re.compile(r"\\cup(?![a-zA-Z])|(?<=[)\]])\s*U\s*(?=[(\[])")


@lru_cache(maxsize=8192)
def read(raw: str) -> Parsed:
    """What ``raw`` (the content of a box, or a reference answer) is. Linear up to small factors; raises TooLarge."""
    cleaned = clean(raw) if len(raw) <= MAX_CHARS else raw
    if len(cleaned) > MAX_CHARS:  # one character such as the sign of infinity may stand for several
        raise latex.TooLarge
    return read_clean(cleaned)


@metered(len)
def read_clean(s: str) -> Parsed:
    """The answer's kind and parts; an answer of no other kind is ``text``."""
    fast = read_number(s) or read_notation(s)
    if fast is not None:
        return fast
    if _LITERAL.fullmatch(s):
        return Parsed("literal", s)
    word = s.casefold().rstrip(".!")
    if word in YES or word in NO:
        return Parsed("yes_no", s, ends="yes" if word in YES else "no")
    said = meaning(s)
    if said is not None:
        return Parsed("expr" if said[0] in "\\-" else "text", said)
    ratio = _RATIO.fullmatch(s)
    if ratio is not None and float(ratio.group(2)):
        value = Fraction(ratio.group(1)) / Fraction(ratio.group(2))
        return Parsed("number", s, ("num", value), value)
    if s[:1] in "=:\\" and (arrow := _ARROW.match(s)) is not None and arrow.end() < len(s):
        return read_clean(s[arrow.end() :])
    lead = _LEAD.match(s)
    if lead is not None and lead.end() < len(s):
        return read_clean(clean(s[lead.end() :]))
    if (
        s[:1] in "~\\≈=aAeEoOjJrRiItT大约共一总有为是"
        and (about := _ABOUT.match(s)) is not None
        and about.end() < len(s)
    ):
        inner = read_clean(s[about.end() :].strip())
        if inner.kind in {"number", "expr"} and inner.value is not None:
            return inner
    return (
        _composed(s)
        or _relation(s)
        or _matrix(s)
        or _union(s)
        or _bracketed(s)
        or _plus_minus(s)
        or read_quantity(s)
        or _bounded(s)
        or _stated(s)
        or _listed(s)
        or read_expression(s)
        or Parsed("text", s)
    )


def _composed(s: str) -> Parsed | None:
    """What is made of other answers: environments, labelled parts, formulas of logic, sets with exceptions, answers
    with a qualifier."""
    if r"\begin" in s:
        return _environment(s)
    if "choose" in s:
        chosen = _CHOOSE.sub(r"\\binom{\1}{\2}", s)
        return read_clean(chosen) if chosen != s else None
    if r"\circ" in s and (applied := _COMPOSED.sub(r"\1(\2(\3))", s)) != s:
        return read_clean(applied)
    labelled = parts.parts(s)
    if labelled is not None:
        items = tuple(read_clean(clean(text)) for _, text in labelled)
        return Parsed("parts", s, items=items, ends=" ".join(label for label, _ in labelled))
    if logic.is_formula(s):
        return _formula(s)
    if s[:1] == "<" and s[-1:] == ">" and "," in s:
        return _bracketed(f"({s[1:-1]})")
    taken = conditions.excepted(s)
    if taken is not None:
        base, removed = read_clean(taken[0] or r"\mathbb{R}"), read_clean(clean(taken[1]))
        if base.kind in _SETS or base.kind == "tuple" or base.text == r"\mathbb{R}":
            return Parsed("minus", s, items=(base, _without_label(removed)), label=base.label or removed.label)
    if (found := conditions.qualified(s)) is not None:
        head = read_clean(clean(found[0]))
        if head.kind != "text":
            whole = conditions.integers(found[1])
            items = tuple(replace(item, integers=whole) for item in head.items) if whole else head.items
            return replace(head, items=items, condition=found[1], integers=whole)
    return None


_SETS = frozenset(("interval", "union", "meet", "minus", "relation"))


def _without_label(parsed: Parsed) -> Parsed:
    items = tuple(replace(item, label="") for item in parsed.items)
    return replace(parsed, label="", items=items)


def _environment(s: str) -> Parsed | None:
    array = environments.array_in_brackets(s)
    if array is not None:
        return _matrix(rf"\begin{{{array[0]}}}{array[1]}\end{{{array[0]}}}")
    name, equals, rest = s.partition("=")
    if equals and rest.lstrip().startswith(r"\begin") and is_label(name.strip()):
        inner = _environment(rest.lstrip())
        return None if inner is None else _relabel(inner, name.strip())
    found = environments.unwrap(s)
    if isinstance(found, str):
        shown = read_clean(clean(found))
        last = shown.items[-1] if shown.kind == "list" else shown
        solved = last.label and all(item.kind == "relation" for item in shown.items[:-1])
        return last if solved else shown  # "2x = 4, x = 2": the last line is the answer
    if found is None:
        return None
    return Parsed("piecewise", s, items=tuple(read_clean(clean(text)) for piece in found for text in piece))


def _formula(s: str) -> Parsed | None:
    """A formula of logic; conditions on one unknown joined by it are a set or a list of solutions."""
    joined = logic.connected(s, split_top)
    if joined is not None:
        items = tuple(read_clean(clean(piece)) for piece in joined[1])
        if (found := _described(s, items, joined[0])) is not None:
            return found
        names, valued = {item.label for item in items}, all(item.label or item.value is not None for item in items)
        if len(names - {""}) == len(items) if joined[0] == "and" else len(names) == 1 and valued:
            return Parsed("list", s, items=items)
    return Parsed("formula", s)


def _described(s: str, items: tuple[Parsed, ...], joined: str) -> Parsed | None:
    """A set of numbers described by conditions on one unknown, joined by "and", "or" or a comma. A comma between
    conditions that exclude one another stands for "or"."""
    if items[0].ends == r"\ne" and all(item.value is not None and not item.label for item in items[1:]):
        items = (items[0], *(replace(items[0], items=(items[0].items[0], item)) for item in items[1:]))  # "x \ne 0, 1"
    names = {item.label for item in items}
    if len(names) != 1 or not names.copy().pop() or not any(item.kind in _SETS for item in items):
        return None
    if not all(item.kind in _SETS or item.value is not None or item.text == r"\mathbb{R}" for item in items):
        return None
    label = items[0].label
    if joined != "or" and len(items) == 2 and all(item.kind == "interval" for item in items):
        below = [item for item in items if item.items[0].text == r"-\infty"]
        above = [item for item in items if item.items[1].text == r"\infty"]
        if len(below) == len(above) == 1 and below != above and joined == "and":  # "x > 1 and x < 2"
            both = (above[0].items[0], below[0].items[1])
            return Parsed("interval", s, items=both, ends=above[0].ends[0] + below[0].ends[1], label=label)
    return Parsed("union" if joined == "or" else "meet", s, items=items, ends=joined, label=label)


def _stated(s: str) -> Parsed | None:
    """A sentence that states one number: "There are 42 apples in total"."""
    value = stated(s)
    if not value:
        return None
    inner = read_clean(clean(value))
    return inner if inner.kind in {"number", "literal"} else None


def _bounded(s: str) -> Parsed | None:
    """``greater than 3``, ``x is at least -2``, 大于3: every number on one side of a bound."""
    found = conditions.bounded(s)
    if found is None or read_clean(found[2]).kind != "number":
        return None
    return _ray(s, *found)


def _relation(s: str) -> Parsed | None:
    """``x = 5`` as a labelled answer, other equations and inequalities as relations, ``1 < x < 2`` as an interval."""
    if not ("=" in s or "<" in s or ">" in s or "\\" in s):
        return None
    s = approximated(s)
    parts = split_top(s, _RELATION)
    if len(parts) < 3:
        return None
    terms, signs = [p.strip() for p in parts[::2]], [_sign(p) for p in parts[1::2]]
    if not all(terms):
        return None
    if signs[0] == r"\in" and len(terms) == 2:
        return _relabel(read_clean(terms[1]), terms[0])
    if all(sign in {"=", r"\approx"} for sign in signs):
        if len(splits(s)) > 1:  # "x = 1, y = 2" is a list of answers
            return None
        if len(terms) == 2 and is_label(terms[1]) and not is_label(terms[0]):
            terms.reverse()
        label = terms[0] if is_label(terms[0]) and not _about_itself(terms) else ""
        items = [read_clean(term) for term in terms[bool(label) :]]
        counted = chain(s, items, signs[bool(label) :])
        if label:
            counted = counted or items[-1]
            return _relabel(counted, label) if counted.kind != "text" or len(items) == 1 else None
        if counted is None and all(item.node is not None for item in items):
            return Parsed("relation", s, items=tuple(items), ends="=")
        if counted is None and len(items) == 2 and _described_by(items[0]):
            counted = items[1]  # "20% of 50 = 10"
        return None if counted is None or counted.kind == "text" else counted
    if len(splits(s)) > 1:
        return None
    if len(terms) == 2 and signs[0] in _FLIP:
        if UNKNOWN.fullmatch(terms[0]):
            return _ray(s, terms[0], signs[0], terms[1])
        if UNKNOWN.fullmatch(terms[1]):
            return _ray(s, terms[1], _FLIP[signs[0]], terms[0])
    if len(terms) == 3 and UNKNOWN.fullmatch(terms[1]):
        less = all(sign in {"<", r"\le"} for sign in signs)
        if less or all(sign in {">", r"\ge"} for sign in signs):
            low, high = (terms[0], terms[2]) if less else (terms[2], terms[0])
            first, last = (signs[0], signs[1]) if less else (signs[1], signs[0])
            ends = ("(" if first in "<>" else "[") + (")" if last in "<>" else "]")
            return Parsed("interval", s, items=(read_clean(low), read_clean(high)), ends=ends, label=terms[1])
    items = [read_clean(term) for term in terms]
    if len(items) != 2:
        return None
    apart = signs == [r"\ne"] and UNKNOWN.fullmatch(terms[0]) is not None
    return Parsed("relation", s, items=tuple(items), ends=" ".join(signs), label=terms[0] if apart else "")


def _about_itself(terms: list[str]) -> bool:
    """``x = 2x + 3``: an equation in x, which names no value."""
    if len(terms) != 2 or len(terms[0]) > 1 or terms[0] not in terms[1]:
        return False
    right = read_expression(terms[1])
    return right is not None and right.node is not None and terms[0] in latex.symbols(right.node)


def _described_by(left: Parsed) -> bool:
    """Whether the left side of an equation is words that name its right side."""
    return left.kind == "text" and re.search(r"[A-Za-z]{2}|:", left.text) is not None and names(left.text)


def _sign(operator: str) -> str:
    return {"<=": r"\le", ">=": r"\ge", "!=": r"\ne"}.get(operator.strip(), operator.strip())


def _ray(s: str, unknown: str, sign: str, bound: str) -> Parsed:
    infinite, end = read_clean(r"\infty"), read_clean(bound)
    if sign in {">", r"\ge"}:
        return Parsed("interval", s, items=(end, infinite), ends="()" if sign == ">" else "[)", label=unknown)
    return Parsed("interval", s, items=(read_clean(r"-\infty"), end), ends="()" if sign == "<" else "(]", label=unknown)


def _relabel(parsed: Parsed, label: str) -> Parsed:
    return replace(parsed, label=key(label))


def _matrix(s: str) -> Parsed | None:
    match = _MATRIX.fullmatch(s)
    if match is None:
        return None
    rows = [row for row in re.split(r"\\\\(?:\[[^\]]*\])?", match.group(2)) if row.strip()]
    cells = [[read_clean(clean(cell)) for cell in row.split("&")] for row in rows]
    return _grid(s, cells, "det" if match.group(1).startswith("v") else "matrix")


def _grid(s: str, cells: list[list[Parsed]], ends: str) -> Parsed | None:
    if not cells or len({len(row) for row in cells}) != 1:
        return None
    items = tuple(cell for row in cells for cell in row)
    return Parsed("matrix", s, items=items, ends=ends, shape=(len(cells), len(cells[0])))


def _union(s: str) -> Parsed | None:
    pieces = split_top(s, _UNION)
    if len(pieces) < 3:
        return None
    return Parsed("union", s, items=tuple(read_clean(piece.strip()) for piece in pieces[::2]))


def _bracketed(s: str) -> Parsed | None:
    """Tuples, intervals, lists and sets: one pair of brackets around everything, with separators inside."""
    if s.startswith(r"\{") and s.endswith(r"\}"):
        inner = s[2:-2].strip()
        builder = re.fullmatch(r"([A-Za-z])(?:\s*\\in\s*\\mathbb\s*\{?R\}?)?\s*[|:]\s*(.+)", inner)
        if builder is not None:
            return read_clean(builder.group(2).strip())
        items = splits(inner)
        return Parsed("set", s, items=tuple(read_clean(item) for item in items)) if all(items) else None
    if len(s) > 4 and s[0].isupper() and s[-1] == ")" and (point := _POINT.fullmatch(s)) is not None:
        inside = _bracketed(point.group(2))  # "P(1, 2)"
        return _relabel(inside, point.group(1)) if inside is not None and inside.kind == "tuple" else None
    turned = _TURNED.fullmatch(s)
    if turned is not None:
        return _bracketed(turned.group(1))
    if len(s) < 3 or s[0] not in "([]" or s[-1] not in ")][" or not encloses(s):
        return None
    items = splits(s[1:-1].strip(), words_too=False)
    if len(items) < 2 or not all(items):
        if len(items) == 1 and items[0] and s[0] == "(" and not any(c.isdigit() for c in s):
            inside = read_clean(items[0])
            return inside if inside.kind in {"yes_no", "text"} else None
        return None
    parsed = tuple(read_clean(item) for item in items)
    if s[0] == "[" and s[-1] == "]" and all(p.kind == "bracket" or p.kind == "interval" for p in parsed):
        return _grid(s, [list(p.items) for p in parsed], "matrix") or Parsed("bracket", s, items=parsed, ends="[]")
    ends = s[0] + s[-1]
    if ends[0] == "]":  # the French open interval ]a, b[
        ends = "(" + ends[1]
    if ends[1] == "[":
        ends = ends[0] + ")"
    if len(parsed) == 2 and (ends != "()" or any(p.text in {r"\infty", r"-\infty"} for p in parsed)):
        return Parsed("interval", s, items=parsed, ends=ends)
    return Parsed("tuple" if ends == "()" else "bracket", s, items=parsed, ends=ends)


def _plus_minus(s: str) -> Parsed | None:
    if (r"\pm" not in s and r"\mp" not in s) or len(splits(s)) > 1:
        return None
    both = (s.replace(r"\pm", "+").replace(r"\mp", "-"), s.replace(r"\pm", "-").replace(r"\mp", "+"))
    items = tuple(read_clean(side.strip().removeprefix("+").strip()) for side in both)
    return Parsed("list", s, items=items)


def _listed(s: str) -> Parsed | None:
    mixed = _AND_FRACTION.fullmatch(s)
    if mixed is not None:  # "11 and 5/6"
        return read_expression(f"{mixed.group(1)} {mixed.group(2)}/{mixed.group(3)}")
    items = splits(s)
    if len(items) < 2 or _DANGLING.search(s) is not None:
        return None
    parsed = tuple(read_clean(item) for item in items if item)
    if len(parsed) < 2:
        return parsed[0] if parsed else None
    return _described(s, parsed, _joint(s)) or Parsed("list", s, items=parsed)


_DANGLING = re.compile(r"^(?:and|or)(?![A-Za-z])|(?<![A-Za-z])(?:and|or)$", re.IGNORECASE)


def _joint(s: str) -> str:
    """How the conditions of a list are joined: by "and", by "or", or by commas alone."""
    words = {word.strip().lower() for word in split_top(s, SEPARATOR)[1::2]}
    return "or" if words & {"or", "或"} else "and" if words - {",", ";"} else ","


def comma_parts(parsed: Parsed) -> tuple[Parsed, ...]:
    """``100,200`` read as a list, beside its reading as one number."""
    parts = parsed.text.strip("()").split(",")
    return tuple(read_clean(part.strip()) for part in parts) if len(parts) > 1 and all(parts) else ()


_POINT = re.compile(r"([A-Z]'?)\s*(\([^()]*,[^()]*\))")
_AND_FRACTION = re.compile(r"(\d+) and (\d+)/(\d+)")
