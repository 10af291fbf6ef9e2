"""Rewards of TRL, verl and verifiers, by name, as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sailrl import plugins
from sailrl.errors import ConfigError
from sailrl.scoring import PartSpec, Scorer, ScoringSpec
from sailrl.types import Problem, Score

CHAT = [{"role": "user", "content": "2 + 2?"}]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def scored(folder: Path, source: str, response: str, problem: Problem) -> Score:
    """What the scorer says, through its workers."""
    (folder / "mine.py").write_text(source)
    with Scorer(ScoringSpec({"mine": PartSpec("mine.py:score", {}, 1.0)}), workers=1) as scorer:
        return scorer.score_now(response, problem).scores["mine"]


CALLED: dict[str, tuple[str, Any, float]] = {
    # By the prompt: text for a text prompt, so that len() counts characters.
    "TRL, text": ("def score(completions, **kwargs): return [len(c) / 10 for c in completions]", "2 + 2?", 0.4),
    "TRL, chat": (
        "def score(completions, **kwargs): return [len(c[0]['content']) / 10 for c in completions]",
        CHAT,
        0.4,
    ),
    # By the annotation, whatever the prompt is.
    "TRL, annotated as chats": (
        "def score(completions: list[list[dict[str, str]]]): return [len(c[0]['content']) / 10 for c in completions]",
        "2 + 2?",
        0.4,
    ),
    "TRL, annotated as texts": (
        "def score(completions: list[str]): return [len(c) / 10 for c in completions]",
        CHAT,
        0.4,
    ),
    "TRL, prompts and the answer": (
        "def score(prompts, completions, solution): return [float(s in c) for s, c in zip(solution, completions)]",
        "2 + 2?",
        1.0,
    ),
    "TRL, a column": ("def score(completions, level, **kwargs): return [x / 4 for x in level]", "2 + 2?", 0.75),
    "TRL, async": ("async def score(completions, **kwargs): return [0.5]", "2 + 2?", 0.5),
    "TRL, a class": (
        "class score:\n def __call__(self, completions, answer, **kwargs): return [float(answer[0] == '4')]",
        "2 + 2?",
        1.0,
    ),
    "TRL, log_extra": ("def score(completions, log_extra=None): return [float(log_extra is None)]", CHAT, 1.0),
    "verl": (
        "def score(data_source, solution_str, ground_truth, extra_info=None):\n"
        "    return {'score': extra_info['level'] / 4 * (ground_truth in solution_str)}",
        "2 + 2?",
        0.75,
    ),
    "verifiers": (
        "def score(prompt, completion, answer): return completion[-1]['content'].count(answer) / 2",
        CHAT,
        0.5,
    ),
}


@pytest.mark.parametrize("kind", CALLED)
def test_a_reward_of_another_library_gets_what_it_gets_there(folder: Path, kind: str) -> None:
    source, prompt, value = CALLED[kind]
    problem = Problem(prompt=prompt, answer="4", meta={"level": 3})
    assert scored(folder, source, "is 4", problem) == Score(value)


def test_a_none_of_trl_is_no_score(folder: Path) -> None:
    said = scored(folder, "def score(completions, **kwargs): return [None]", "x", Problem())
    assert said == Score(None, "unscorable", "returned_none")


@pytest.mark.parametrize("returned", ["1.0", "[1.0, 2.0]", "[]", "None"])
def test_a_reward_of_trl_that_returns_no_list_of_one_fails(folder: Path, returned: str) -> None:
    said = scored(folder, f"def score(completions, **kwargs): return {returned}", "x", Problem())
    assert said == Score(None, "failed", "raised:TypeError")


def test_a_column_that_the_row_lacks_fails_that_row(folder: Path) -> None:
    said = scored(folder, "def score(completions, level): return [1.0]", "x", Problem())
    assert said == Score(None, "failed", "raised:KeyError")


@pytest.mark.parametrize("argument", ["completion_ids", "trainer_state", "log_metric"])
def test_what_has_no_counterpart_is_refused_with_what_to_write(folder: Path, argument: str) -> None:
    (folder / "mine.py").write_text(f"def score(completions, {argument}, **kwargs): return [1.0]")
    with pytest.raises(ConfigError, match=f"sailrl has no {argument} to give. Give {argument} a default"):
        plugins.build_reward("mine.py:score")


def test_a_reward_of_ours_may_call_its_response_a_completion(folder: Path) -> None:
    (folder / "mine.py").write_text("def score(completion, row): return float(row.answer == completion)")
    assert plugins.build_reward("mine.py:score")("4", Problem(answer="4")) == 1.0


def test_trls_own_rewards_plug_in_by_name() -> None:
    reward: Any = plugins.build_reward("trl.rewards:think_format_reward")
    assert reward("<think>2 + 2</think>\n4", Problem(prompt="2 + 2?")) == 1.0
    assert reward("4", Problem(prompt="2 + 2?")) == 0.0
