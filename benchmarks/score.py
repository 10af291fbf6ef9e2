"""Rows per second of answer rewards, side by side on the same typical rows: math-verify alone, as TRL and verifiers use
it, and ours through the very pool that training and ``sailrl score`` use.

    python benchmarks/score.py [--rows 2000] [--workers 2] [--gsm8k gsm8k_test.jsonl]

Rows are made from a seed: reasoning of 200 to 2,000 tokens, references as in GSM8K and MATH, two thirds of the answers
right, many of them written differently from the reference. Labels are known by construction. The last line is the ratio
of ours to the plain loop; the exit code is 1 below ``--at-least``.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sailrl.scoring import PartSpec, Scorer, ScoreRequest, ScoringSpec
from sailrl.types import Problem

CHUNK = 1000
CHARS_PER_TOKEN = 3.6  # of this text in common tokenizers
PROSE = (
    "we first note that the total number of each group is then given by the sum so let us check this step again "
    "since every term must be counted once and the remaining part follows from the previous equation therefore "
    "wait that does not look right because we forgot to include the last case now compute carefully and simplify"
)


@dataclass(frozen=True)
class LabelledRow:
    response: str
    answer: str
    right: bool


# --- rows ----------------------------------------------------------------------------------------------------------


def make_rows(count: int, seed: int, integers: Sequence[int]) -> list[LabelledRow]:
    rng = random.Random(seed)
    rows = []
    for index in range(count):
        gold, same, other = _integer(rng, integers) if rng.random() < 0.6 else _math(rng)
        right = rng.random() < 2 / 3
        tokens = round(200 * 10 ** rng.random())  # 200 to 2,000, short ones more often
        text = _reasoning(rng, int(tokens * CHARS_PER_TOKEN))
        said = rng.choice(same if right else other)
        end = rng.choice(["The answer is \\boxed{%s}.", "**Final answer:** $\\boxed{%s}$", "Thus\n\\[\\boxed{%s}\\]"])
        thought = f"<think>\n{text}\n</think>\n\n{_reasoning(rng, 200)}\n" if index % 2 else f"{text}\n"
        rows.append(LabelledRow(thought + end % said, gold, right))
    return rows


def _integer(rng: random.Random, integers: Sequence[int]) -> tuple[str, list[str], list[str]]:
    n = rng.choice(integers)
    wrong = rng.choice([n + rng.randint(1, 20), n * 2 + 1, -n - 1, n * 10 + 3])
    same = [f"{n}", f"{n}", f"{n}", f"{n:,}", f"\\${n}", f"{n}.00", f"{n}\\text{{ dollars}}"]
    return f"{n}", same, [f"{wrong}", f"{wrong}", f"{wrong:,}", f"{n}.5"]


def _math(rng: random.Random) -> tuple[str, list[str], list[str]]:
    """Reference, right answers, wrong answers; kinds and shares roughly as in MATH."""
    a, b, c = rng.randint(2, 30), rng.randint(2, 30), rng.randint(2, 9)
    kind = rng.choices(range(11), weights=[36, 17, 10, 9, 8, 5, 4, 3, 3, 3, 2])[0]
    if kind == 0:
        return f"{a * b}", [f"{a * b}", f"x = {a * b}"], [f"{a * b + c}", f"{a + b - 1}"]
    if kind == 1:
        p, q = a * c + 1, c
        same = [f"\\frac{{{p}}}{{{q}}}", f"\\dfrac{{{p}}}{{{q}}}", f"{p}/{q}", f"\\frac{{{2 * p}}}{{{2 * q}}}"]
        return f"\\frac{{{p}}}{{{q}}}", same, [f"\\frac{{{p + 1}}}{{{q}}}", f"\\frac{{{q}}}{{{p}}}", f"{p}"]
    if kind == 2:
        return (
            f"{a}\\sqrt{{{c}}}",
            [f"{a}\\sqrt{{{c}}}", f"{a} \\sqrt {{{c}}}", f"\\sqrt{{{a * a * c}}}"],
            [
                f"{a + 1}\\sqrt{{{c}}}",
                f"{a * c}",
            ],
        )
    if kind == 3:
        gold = f"{a}x^2 + {b}x - {c}"
        return gold, [gold, f"{a}x^{{2}}+{b}x-{c}", f"{b}x - {c} + {a}x^2"], [f"{a}x^2 + {b}x + {c}", f"{b}x - {c}"]
    if kind == 4:
        return f"({a}, -{b})", [f"({a}, -{b})", f"\\left({a},-{b}\\right)"], [f"({a}, {b})", f"(-{b}, {a})"]
    if kind == 5:
        gold = f"[{-a}, {b})"
        return gold, [gold, f"\\left[{-a},{b}\\right)"], [f"[{-a}, {b}]", f"({-a}, {b})"]
    if kind == 6:
        return f"\\frac{{{a}\\pi}}{{{c}}}", [f"\\frac{{{a}\\pi}}{{{c}}}", f"\\frac{{{a}}}{{{c}}}\\pi"], [f"{a}\\pi"]
    if kind == 7:
        gold = f"\\begin{{pmatrix}} {a} & {b} \\\\ 0 & {c} \\end{{pmatrix}}"
        return gold, [gold, gold.replace(" ", "")], [gold.replace(str(c), str(c + 1))]
    if kind == 8:
        gold = f"(-\\infty, -{a}) \\cup ({b}, \\infty)"
        return gold, [gold, f"({b}, \\infty) \\cup (-\\infty, -{a})"], [f"(-\\infty, -{a}] \\cup ({b}, \\infty)"]
    if kind == 9:
        return f"\\frac{{n!}}{{{c} (n-2)!}}", [f"\\frac{{n(n-1)}}{{{c}}}"], [f"\\frac{{n(n+1)}}{{{c}}}"]
    gold = f"\\frac{{x + {a}}}{{x - {b}}}"
    return gold, [gold, f"1 + \\frac{{{a + b}}}{{x - {b}}}"], [f"\\frac{{x - {a}}}{{x + {b}}}"]


def _reasoning(rng: random.Random, chars: int) -> str:
    parts: list[str] = []
    size = 0
    while size < chars:
        a, b = rng.randint(1, 400), rng.randint(1, 400)
        part = rng.choice(
            [
                " ".join(rng.choices(PROSE.split(), k=12)) + ".",
                f"So ${a} + {b} = {a + b}$.",
                f"Then \\[ \\frac{{{a}}}{{{b}}} \\cdot {b} = {a}. \\]",
                f"There are {a} of them, {b} remain.\n",
            ]
        )
        parts.append(part)
        size += len(part) + 1
    return " ".join(parts)


# --- the others ----------------------------------------------------------------------------------------------------


def plain_math_verify() -> Callable[[LabelledRow], bool]:
    from math_verify import parse, verify

    return lambda row: verify(parse(f"${row.answer}$"), parse(row.response))


def trl_style() -> Callable[[LabelledRow], bool]:
    """TRL's ``accuracy_reward``, with the reference in dollar signs as its data sets have it."""
    from latex2sympy2_extended import NormalizationConfig
    from math_verify import LatexExtractionConfig, parse, verify

    config = LatexExtractionConfig(
        normalization_config=NormalizationConfig(units=True), boxed_match_priority=0, try_extract_without_anchor=False
    )

    def score(row: LabelledRow) -> bool:
        gold = parse(f"${row.answer}$", parsing_timeout=10)
        answer = parse(row.response, extraction_config=[config], extraction_mode="first_match", parsing_timeout=10)
        return verify(gold, answer, timeout_seconds=5)

    return score


def verifiers_style() -> Callable[[LabelledRow], bool]:
    """What verifiers' maths environments do: after the thinking, the last box, math-verify on that."""
    from math_verify import parse, verify

    def score(row: LabelledRow) -> bool:
        text = row.response.rpartition("</think>")[2]
        start = text.rfind("\\boxed{")
        if start < 0:
            return False
        depth, end = 0, start + len("\\boxed")
        for end in range(start + len("\\boxed"), len(text)):
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            if depth == 0:
                break
        answer = text[start + len("\\boxed{") : end]
        return verify(
            parse(f"\\boxed{{{row.answer}}}", parsing_timeout=5), parse(f"\\boxed{{{answer}}}", parsing_timeout=5)
        )

    return score


# --- measuring -----------------------------------------------------------------------------------------------------


@dataclass
class Result:
    name: str
    score: Callable[[Sequence[LabelledRow]], list[bool]]
    seconds: float = 0.0
    said: list[bool] = field(default_factory=list)

    def run(self, rows: Sequence[LabelledRow]) -> None:
        began = time.perf_counter()
        said = self.score(rows)
        self.seconds += time.perf_counter() - began
        self.said += said


def loop(name: str, score: Callable[[LabelledRow], bool]) -> Result:
    return Result(name, lambda rows: [bool(score(row)) for row in rows])


def stream(name: str, scorer: Scorer) -> Result:
    """From rows to scores in order, as ``sailrl score`` does it."""

    def score(rows: Sequence[LabelledRow]) -> list[bool]:
        requests = ((None, ScoreRequest(row.response, Problem(answer=row.answer))) for row in rows)
        return [scored.scores["boxed"].value == 1.0 for _, scored in scorer.score_stream(requests)]

    return Result(name, score)


def default_rewards() -> ScoringSpec:
    return ScoringSpec(
        {
            "boxed": PartSpec("rewards.boxed:BoxedAnswer", weight=0.9),
            "think_format": PartSpec("rewards.think_format:ThinkFormat", weight=0.1),
        }
    )


def import_ms(module: str) -> float:
    """Time of the import alone, the best of five fresh interpreters."""
    code = f"import time; t = time.perf_counter(); import {module}; print((time.perf_counter() - t) * 1000)"
    runs = (subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(5))
    return min(float(run.stdout) for run in runs)


def gsm8k_integers(path: Path | None, seed: int) -> list[int]:
    if path is None:
        rng = random.Random(seed)
        return [round(10 ** rng.uniform(0.3, 4)) for _ in range(1000)]
    lines = path.read_text(encoding="utf-8").splitlines()
    answers = (json.loads(line)["answer"].rpartition("####")[2].strip().replace(",", "") for line in lines)
    return [int(answer) for answer in answers if answer.lstrip("-").isdigit()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--gsm8k", type=Path, help="take the integers from this GSM8K file")
    parser.add_argument("--at-least", type=float, default=20.0, help="the ratio to reach")
    options = parser.parse_args()
    logging.disable(logging.WARNING)

    integers = gsm8k_integers(options.gsm8k, options.seed)
    rows = make_rows(options.rows, options.seed, integers)
    warm_up = make_rows(1000, options.seed + 1, integers)
    mean = sum(len(row.response) for row in rows) / len(rows) / CHARS_PER_TOKEN
    right = sum(row.right for row in rows)
    print(f"{len(rows)} rows, {mean:.0f} tokens on average, {right} right by construction\n")

    with Scorer(default_rewards(), workers=options.workers) as scorer:
        plain = loop("math-verify, plain loop", plain_math_verify())
        ours = stream(f"sailrl, {options.workers} workers", scorer)
        results = [plain, loop("as in TRL", trl_style()), loop("as in verifiers", verifiers_style()), ours]
        for result in results:  # imports and first-time set-up are not what is measured; nor are these rows
            result.score(warm_up if result is ours else warm_up[:30])  # ours has a process per worker to warm
        scorer.metrics()
        for start in range(0, len(rows), CHUNK):  # in turns, so that a busy moment of the machine hits all alike
            for result in results:
                result.run(rows[start : start + CHUNK])
        metrics = scorer.metrics()

    print(f"{'scorer':<26}{'rows/s':>9}{'agreement':>11}{'missed':>9}{'let pass':>9}")
    for result in results:
        pairs = list(zip(result.said, (row.right for row in rows), strict=True))
        agree = sum(said == truth for said, truth in pairs) / len(pairs)
        missed = sum(truth and not said for said, truth in pairs) / right
        passed = sum(said and not truth for said, truth in pairs) / (len(pairs) - right)
        rate = len(rows) / result.seconds
        print(f"{result.name:<26}{rate:>9,.0f}{agree:>11.4f}{missed:>9.4f}{passed:>9.4f}")

    print("\nwhich step of ours decided how many rows")
    head = "score/boxed/reason/"
    steps = {key.removeprefix(head): count for key, count in metrics.items() if key.startswith(head)}
    for step, count in sorted(steps.items(), key=lambda item: -item[1]):
        print(f"  {step:<24}{count:>7,.0f}{count / len(rows):>9.2%}")
    inline, worker = metrics.get("score/boxed/inline", 0.0), metrics.get("score/boxed/worker", 0.0)
    print(f"  inline {inline:,.0f}, in a worker {worker:,.0f}")
    print(f"\nimport rewards: {import_ms('rewards'):.0f} ms, import rewards.boxed: {import_ms('rewards.boxed'):.0f} ms")

    ratio = plain.seconds / ours.seconds
    print(f"\nratio to the plain loop: {ratio:.1f}x")
    sys.exit(0 if ratio >= options.at_least else 1)


if __name__ == "__main__":
    main()
