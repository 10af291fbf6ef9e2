"""Every shipped reward that needs no server keeps the contract, and the contract notices rewards that do not."""

from __future__ import annotations

from pathlib import Path

import pytest

from sailrl.errors import RewardError
from sailrl.scoring.contract import check_reward
from tests.contract.reward_suite import RewardSuite


class TestBoxedAnswer(RewardSuite):
    use = "rewards.boxed:BoxedAnswer"


class TestBenchmarkAnswer(RewardSuite):
    use = "rewards.benchmark:BenchmarkAnswer"


class TestBenchmarkAnswerByEditDistance(RewardSuite):
    use = "rewards.benchmark:BenchmarkAnswer"
    args = {"rule": "anls", "alternatives": True}  # noqa: RUF012


class TestThinkFormat(RewardSuite):
    use = "rewards.think_format:ThinkFormat"


class TestThinkFormatWithJudgment(RewardSuite):
    use = "rewards.think_format:ThinkFormat"
    args = {"judge_form": True}  # noqa: RUF012


class TestSoftOverlong(RewardSuite):
    use = "rewards.overlong:SoftOverlong"
    args = {"max_response_tokens": 10, "buffer_tokens": 3}  # noqa: RUF012


class TestRepetition(RewardSuite):
    use = "rewards.repetition:Repetition"


JUDGES = ["judge:Judge", "thinking:Thinking", "judging:Judging", "answer:RuleOrJudge"]


@pytest.mark.parametrize("use", JUDGES)
def test_judges_out_of_reach_keep_the_rules_too(use: str) -> None:
    """Nobody listens on the discard port. What judges say when somebody does, their own tests ask."""
    check_reward(f"rewards.{use}", {"base_url": "http://127.0.0.1:9", "model": "none", "max_retries": 0})


BROKEN = {
    "raises": ("return Score(1.0 / len(response))", "raised:ZeroDivisionError"),
    "text": ("return '1.0'", "not_a_score:str"),
    "infinite": ("return float('inf')", "not_finite"),
    "random": ("return Score(random.random())", "does not say the same the second time"),
    "changes_the_problem": ("problem.meta['seen'] = True; return Score(1.0)", "changes the problem"),
    "remembers": (
        "self.n = getattr(self, 'n', 0) + 1; return Score(float(self.n))",
        "does not say the same the second time",
    ),
    "slow": ("import time; time.sleep(0.6); return 1.0", "takes longer than 0.5 s"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_reward_that_breaks_a_rule_is_told_which(tmp_path: Path, name: str) -> None:
    body, says = BROKEN[name]
    file = tmp_path / f"{name}.py"
    file.write_text(
        "import random\nfrom sailrl.types import Score\nclass Broken:\n"
        f"    def __call__(self, response, problem):\n        {body}\n"
    )
    with pytest.raises(RewardError, match=says):
        check_reward(f"{file}:Broken", deadline_s=0.5)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("return Score(1.0)", "does not say the same in fast"),
        ("return 1.0", "does not say the same in fast"),
        ("raise ValueError", "fast raises ValueError"),
        ("while len(response) == 150_000 and time.process_time() < START + 2.5: pass", "it must be linear"),
    ],
)
def test_a_fast_that_disagrees_raises_or_dawdles_is_told_so(tmp_path: Path, body: str, says: str) -> None:
    file = tmp_path / "fast.py"
    file.write_text(
        "import time\nfrom sailrl.types import Score\nSTART = time.process_time()\nclass Broken:\n"
        "    def __call__(self, response, problem):\n        return Score(0.0)\n"
        f"    def fast(self, response, problem):\n        {body}\n"
    )
    with pytest.raises(RewardError, match=says):
        check_reward(f"{file}:Broken", deadline_s=0.5)


def test_an_honest_reward_of_a_user_passes(tmp_path: Path) -> None:
    file = tmp_path / "honest.py"
    file.write_text(
        "from sailrl.types import Score\nclass Honest:\n"
        "    def __call__(self, response, problem):\n        return Score(float(str(problem.answer) in response))\n"
        "    async def later(self): pass\n"
    )
    check_reward(f"{file}:Honest")
