"""Rewards as people write them: numbers and None as scores, arguments of other libraries, files that do not import.
What cannot work is refused before the first response, with what to write instead."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sailrl import plugins
from sailrl.errors import ConfigError, RewardError
from sailrl.scoring import PartSpec, Scorer, ScoringSpec
from sailrl.scoring.answers import check_answers
from sailrl.scoring.calls import checked
from sailrl.scoring.contract import check_reward
from sailrl.scoring.spec import needs_no_arguments, resolve
from sailrl.types import Problem, Score


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def reward(folder: Path, source: str, name: str = "score") -> str:
    (folder / "mine.py").write_text(source)
    return f"mine.py:{name}"


@pytest.mark.parametrize(
    ("returned", "value"),
    [
        (1.0, 1.0),
        (0, 0.0),
        (True, 1.0),
        (np.float32(0.5), 0.5),
        (np.int64(1), 1.0),
        (np.bool_(False), 0.0),
        (np.array(0.25), 0.25),
        (torch.tensor(0.75), 0.75),
        (Score(np.float64(0.5)), 0.5),
    ],
)
def test_a_number_is_its_score(returned: Any, value: float) -> None:
    score = checked(returned).score
    assert (score.value, score.status, type(score.value)) == (value, "scored", float)


def test_none_says_that_the_response_cannot_be_scored() -> None:
    assert checked(None).score == Score(None, "unscorable", "returned_none")


@pytest.mark.parametrize("returned", ["1.0", b"1", [1.0], {"score": 1.0}, (1.0, "right"), np.array([0.0, 1.0]), 1j])
def test_anything_else_is_no_score_and_the_words_say_what_to_return(returned: Any) -> None:
    outcome = checked(returned)
    assert outcome.score == Score(None, "failed", f"not_a_score:{type(returned).__name__}")
    assert "Return a finite number, Score(value, reason='why'), or None" in outcome.detail


@pytest.mark.parametrize("returned", [float("nan"), float("inf"), np.float32("-inf")])
def test_a_number_that_is_not_finite_is_no_score(returned: Any) -> None:
    assert checked(returned).score == Score(None, "failed", "not_finite")


def test_a_function_and_a_fast_that_return_numbers_are_scored(folder: Path) -> None:
    use = reward(
        folder,
        "def score(response, problem):\n    return len(response) / 10\n"
        "class Fast:\n"
        "    def __call__(self, response, problem): return 0.5\n"
        "    def fast(self, response, problem): return None if response == 'slow' else 1\n",
    )
    parts = {"f": PartSpec(use, {}, 1.0), "c": PartSpec("mine.py:Fast")}
    with Scorer(ScoringSpec(parts), workers=1) as scorer:
        scores = scorer.score_now("abc", Problem()).scores
        assert (scores["f"].value, scores["c"].value) == (0.3, 1.0)
        assert scorer.score_now("slow", Problem()).scores["c"].value == 0.5


REFUSED = {
    "one argument": ("def score(response):\n    return 1.0", "too many positional arguments"),
    "none": ("def score():\n    return 1.0", "too many positional arguments"),
    "a third": ("def score(response, problem, scale):\n    return 1.0", "missing a required argument: 'scale'"),
    "a keyword": ("def score(response, problem, *, scale):\n    return 1.0", "missing a required argument: 'scale'"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_reward_with_other_arguments_is_refused_with_what_to_write(folder: Path, kind: str) -> None:
    source, says = REFUSED[kind]
    use = reward(folder, source)
    with pytest.raises(ConfigError, match=says) as caught:
        Scorer(ScoringSpec({"mine": PartSpec(use, {}, 1.0)}))
    assert f"{use!r} takes (" in str(caught.value)


@pytest.mark.parametrize(
    "source",
    [
        "def score(response, problem): return 1.0",
        "def score(text, row, scale=2): return 1.0",
        "def score(response, problem, *, response_tokens=None): return 1.0",
        "def score(*args): return 1.0",
        "def score(response, problem, extra_info=None): return 1.0",
        "class score:\n    def __call__(self, response, problem): return 1.0",
    ],
)
def test_a_reward_that_can_be_called_is_not_refused(folder: Path, source: str) -> None:
    assert plugins.build_reward(reward(folder, source))("x", Problem()) == 1.0


def test_arguments_of_a_function_are_bound_and_count(folder: Path) -> None:
    use = reward(folder, "def score(response, problem, scale):\n    return scale")
    assert plugins.build_reward(use, {"scale": 3.0})("x", Problem()) == 3.0


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("import sys\nsys.exit(3)", r"mine.py ends the program on import: sys.exit\(3\) \(.*mine.py:2\)"),
        ("\nraise SystemExit", r"ends the program on import: sys.exit\(None\) \(.*mine.py:2\)"),
        ("quit()", r"ends the program on import: sys.exit\(None\)"),
        ("x = 1\ny = x / 0", r"mine.py fails on import: ZeroDivisionError: division by zero \(.*mine.py:2\)"),
        ("import no_such_library", r"fails on import: ModuleNotFoundError: .*\(.*mine.py:1\)"),
        ("def score(:", r"fails on import: SyntaxError"),
        ("class Odd(BaseException): pass\nraise Odd('no')", "fails on import: Odd: no"),
    ],
)
def test_a_file_that_does_not_import_is_named_with_its_line(folder: Path, source: str, says: str) -> None:
    use = reward(folder, source)
    for _ in range(2):  # nothing half-loaded is left behind
        with pytest.raises(ConfigError, match=says):
            plugins.load(use)


@pytest.mark.parametrize("place", ["fast", "__call__", "async __call__", "combine", "__init__"])
def test_a_reward_that_ends_python_ends_its_response_only(folder: Path, place: str) -> None:
    body = {name: "quit()" if name in place else "return 1.0" for name in ("fast", "__call__")}
    use = reward(
        folder,
        "class Quits:\n"
        f"    def __init__(self): {'quit()' if place == '__init__' else 'pass'}\n"
        f"    {'async ' * ('async' in place)}def __call__(self, response, problem): {body['__call__']}\n"
        + (f"    def fast(self, response, problem): {body['fast']}\n" if place == "fast" else "")
        + "def combine(scores, weights):\n"
        "    from sailrl.types import Score\n"
        f"    if scores['mine'].value: {'quit()' if place == 'combine' else 'pass'}\n"
        "    return Score(1.0)\n",
        "Quits",
    )
    spec = ScoringSpec({"mine": PartSpec(use, {}, 1.0)}, PartSpec("mine.py:combine"))
    if place == "__init__":
        with pytest.raises(ConfigError, match=r"could not be built with .*: SystemExit"):
            Scorer(spec)
        return
    with Scorer(spec, workers=1) as scorer:
        for _ in range(2):
            scored = scorer.score_now("x", Problem())
            failed = scored.total if place == "combine" else scored.scores["mine"]
            assert failed == Score(None, "failed", "raised:SystemExit")


@pytest.mark.parametrize(
    "source",
    [
        "import time\ntime.sleep(30)",
        "while True: pass",
        "import threading\nthreading.Event().wait(30)",
        "while True:\n    try:\n        1 / 0\n    except Exception:\n        pass",
    ],
)
def test_a_file_that_hangs_on_import_is_named_with_its_line(folder: Path, source: str) -> None:
    use = reward(folder, source)
    with pytest.raises(ConfigError, match=r"mine.py is still being imported after 0.2 s \(.*:\d+\)"):
        plugins.load(use, limit_s=0.2)
    with pytest.raises(ConfigError, match=r"after 0\.2 s"):
        plugins.load(use)  # not tried again, which would take a minute
    assert plugins.load(reward(folder, "score = 1")) == 1  # the clock is off, and the next import is a fresh one
    time.sleep(0.3)


def test_a_reward_that_raises_in_a_run_is_told_once_with_its_line(folder: Path) -> None:
    use = reward(folder, "def score(response, problem):\n    return 1 / len(response)")
    told: list[str] = []
    with Scorer(ScoringSpec({"mine": PartSpec(use, {}, 1.0)}), workers=1, say=told.append) as scorer:
        for response in ("", "x", "", ""):
            scorer.score_now(response, Problem())
    (line,) = told
    place = re.escape(str(folder / "mine.py"))
    says = (
        rf"reward mine failed, raised:ZeroDivisionError: ZeroDivisionError: division by zero \({place}:2\); said once"
    )
    assert re.fullmatch(says, line)


def test_a_response_that_runs_out_of_time_names_the_setting(folder: Path) -> None:
    use = reward(folder, "import time\ndef score(response, problem):\n    time.sleep(9)")
    told: list[str] = []
    with Scorer(ScoringSpec({"mine": PartSpec(use, {}, 1.0)}, deadline_s=0.2), workers=1, say=told.append) as scorer:
        assert scorer.score_now("x", Problem()).total.status == "timed_out"
    assert told == [
        "reward mine timed out, deadline: the reward did not answer within 0.2 s, which is rewards.deadline_s; make it "
        "faster, or give it more seconds there; said once"
    ]


def test_a_reward_that_fails_on_all_problems_is_found_before_a_run(folder: Path) -> None:
    use = reward(folder, "def score(response, problem):\n    return problem.answer.strip() == response")
    problems = [Problem(answer=n) for n in range(16)]
    spec = ScoringSpec({"boxed": PartSpec("rewards.boxed:BoxedAnswer", {}, 1.0), "mine": PartSpec(use)})
    with pytest.raises(RewardError) as caught:
        check_answers(spec, problems, "data.train")
    message = str(caught.value)
    assert message.startswith("rewards.parts.mine has no score for any of the 3 problems of data.train that were tried")
    assert "AttributeError: 'int' object has no attribute 'strip'" in message
    assert f"{folder / 'mine.py'}:2" in message
    check_answers(spec, [Problem(answer=1), Problem(answer="2")], "data.train")  # some work: it is a matter of rows


def test_check_reward_shows_the_row_and_says_one_fault_once(folder: Path) -> None:
    use = reward(folder, "def score(response, problem):\n    return float(problem.answer)")
    with pytest.raises(RewardError) as caught:
        check_reward(use, deadline_s=5)
    lines = str(caught.value).splitlines()
    assert lines[0] == "mine.py:score breaks 2 rules:"
    assert len(lines) == 3  # float() of a list and of None: TypeError
    (raised,) = (line for line in lines if "raised:ValueError" in line)
    # Of 35 ordinary rows, 5 each have the answers "B" and "yes".
    assert "on 10 rows, first ordinary row 15 (response '<think>" in raised
    assert "answer 'B'): ValueError: could not convert string to float: 'B'" in raised
    assert "mine.py:2" in raised


def test_check_reward_has_a_time_limit(folder: Path) -> None:
    use = reward(
        folder,
        "import time\nclass Slow:\n"
        "    def __call__(self, response, problem): return 1.0\n"
        "    def fast(self, response, problem):\n        time.sleep(60)\n",
        "Slow",
    )
    with pytest.raises(RewardError, match="the check ran out of time; fast on ordinary row 0"):
        check_reward(use, limit_s=3)


def test_a_misspelt_built_in_reward_is_answered_with_rewards_only() -> None:
    with pytest.raises(ConfigError, match=r"there is no built-in reward 'boxd'. Nearest: boxed\."):
        resolve("boxd")
    with pytest.raises(ConfigError) as caught:
        resolve("zzz")
    named = str(caught.value).partition("Nearest: ")[2].partition(". For")[0].split(", ")
    assert named == [
        "answer", "benchmark", "boxed", "judge", "judging", "overlong", "repetition", "think_format", "thinking",
    ]  # fmt: skip
    for wrong in ("answers", "judge_api", "mix"):  # no rewards: helpers, and the combining rules
        with pytest.raises(ConfigError):
            resolve(wrong)


def test_a_reward_that_needs_arguments_is_answered_with_the_lines_to_write(folder: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        needs_no_arguments(resolve("judge"))
    message = str(caught.value)
    assert "needs arguments (base_url, model), which --reward cannot give" in message
    assert 'judge: {use: "rewards.judge:Judge", weight: 1.0, args: {base_url: ..., model: ...}}' in message
    needs_no_arguments(resolve("boxed"))
    needs_no_arguments(reward(folder, "def score(response, problem): return 1.0"))
