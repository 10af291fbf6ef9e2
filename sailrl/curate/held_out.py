"""A part of the training problems that is evaluated on and not learned from."""

from __future__ import annotations

from collections.abc import Sequence

from data_filters.reading import question_key
from sailrl.errors import DataError
from sailrl.types import Problem


def hold_out(problems: Sequence[Problem], share: float) -> tuple[list[Problem], list[Problem]]:
    """The problems to learn from, and about ``share`` of them to evaluate on.

    Chosen by the hash of the question and its images, so the choice does not depend on the order of the rows, and two
    rows that ask the same stay together.

    Raises:
        DataError: there are fewer than 2 questions.
    """
    keys = [question_key({"prompt": p.prompt, "choices": p.choices, "images": p.images}) for p in problems]
    questions = sorted(set(keys))
    if len(questions) < 2:
        raise DataError(
            f"data.held_out takes a share of the problems in data.train, but they are {len(questions)} question. "
            "Name problems to evaluate on in data.eval."
        )
    held = set(questions[: min(max(1, round(share * len(questions))), len(questions) - 1)])
    learned = [problem for problem, key in zip(problems, keys, strict=True) if key not in held]
    return learned, [problem for problem, key in zip(problems, keys, strict=True) if key in held]
