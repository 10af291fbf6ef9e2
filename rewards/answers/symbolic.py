"""The last step: math-verify and sympy, on the extracted content only. Loaded in child processes that can be killed,
never in the process that scores: importing sympy takes seconds, and a huge integer power blocks the interpreter.

JSON values in and out, so that no sympy object ever leaves the child.
"""

from __future__ import annotations

import logging
from typing import Any, Literal

from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

from sailrl import killable

# It warns at every call that its own deadlines are off; ours is held by the parent.
logging.getLogger("math_verify").setLevel(logging.ERROR)
_LATEX = (LatexExtractionConfig(), ExprExtractionConfig())


def equal(gold: str, answer: str) -> Literal["equal", "different", "unknown"]:
    """What sympy says of two answers; "unknown" when it cannot read one of them."""
    try:
        g, a = _read(gold), _read(answer)
        if not g or not a:
            return "unknown"
        return "equal" if verify(g, a, float_rounding=6, timeout_seconds=None) else "different"
    except (MemoryError, KeyboardInterrupt):
        raise
    except Exception:  # whatever a parser of foreign text may raise: it could not be read
        return "unknown"


def _read(text: str) -> list[Any]:
    """The first reading only: among several, one always matches something. Strings are what could not be read."""
    found = parse(f"${text}$", list(_LATEX), parsing_timeout=None)
    return [item for item in found if not isinstance(item, str)][:1]


if killable.inside():
    # The first comparisons build a parser and load most of sympy, which takes as long as a row's whole deadline.
    equal(r"\frac{n!}{2 (n-2)!}", r"\frac{n(n-1)}{2}")
    equal(r"(-\infty, 1) \cup (2, \infty)", r"(2, \infty) \cup (-\infty, 1)")
