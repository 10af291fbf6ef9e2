"""Two-digit additions, worked out digit by digit: small enough for a model of a million parameters."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, Literal

HELD_OUT_EVERY = (
    7  # a seventh of all pairs is held out; 7 shares no factor with 10, so every digit stays in both splits
)


def rows(
    count: int, seed: int, split: Literal["train", "eval"] = "train", task: str = "math"
) -> Iterator[dict[str, Any]]:
    """Yields ``count`` problems with a worked response under ``meta.response``.

    The two splits have no pair of summands in common.

    Args:
        task: what kind of problem to call them; an ``open`` one is for a judge.
    """
    draw = random.Random(seed)
    made = 0
    while made < count:
        a, b = draw.randint(10, 99), draw.randint(10, 99)
        if ((90 * (a - 10) + (b - 10)) % HELD_OUT_EVERY == 0) != (split == "eval"):
            continue
        yield {
            "id": f"{split}-{seed}-{made}",
            "prompt": f"{a}+{b}=?",
            "answer": str(a + b),
            "task": task,
            "meta": {"response": _worked(a, b)},
        }
        made += 1


def _worked(a: int, b: int) -> str:
    units = a % 10 + b % 10
    tens = a // 10 + b // 10 + units // 10
    carry = "+1" if units >= 10 else ""
    return f"<think>{a % 10}+{b % 10}={units} {a // 10}+{b // 10}{carry}={tens}</think>\\boxed{{{a + b}}}"
