"""Every rollout leaves a line: what was asked, what came, what it scored, and whether it was learned from."""

from __future__ import annotations

from pathlib import Path

import pytest

from sailrl.data.jsonl import read
from sailrl.report.traces import RolloutLog, prompt_text
from sailrl.types import Completion, Group, Problem, Prompt, Rollout, Score


def rollout(
    text: str, boxed: Score, *, reward: float | None = 1.0, version: int = 3, switches: tuple[tuple[int, int], ...] = ()
) -> Rollout:
    completion = Completion([5, 6], [-0.5, -1.5], text, "stop", version, switches)
    return Rollout(
        completion, scores={"boxed": boxed}, reward=reward, reason="" if reward is not None else "boxed:no_box"
    )


def group(*rollouts: Rollout, problem: Problem | None = None) -> Group:
    problem = problem or Problem(prompt="1+1?", answer="2", id="sums.jsonl:7", response_prefix="<think>\n")
    prompt = Prompt(problem, token_ids=[1, 2], engine_ids=[1, 2], images=("ab12",))
    return Group(prompt, rollouts)


def lines(run: Path) -> list[dict]:
    return [record for _, record in read(run / "rollouts.jsonl")]


def test_a_rollout_line_tells_the_whole_story(tmp_path: Path) -> None:
    log = RolloutLog(tmp_path, accuracy="boxed")
    right = rollout("\\boxed{2}", Score(1.0, reason="exact"), switches=((1, 4),))
    wrong = rollout("3", Score(0.0), reward=0.1, version=4)
    log.log(group(right, wrong), episode=2, step=6, version=5, index=9, advantages=[1.0, -1.0])
    first, second = lines(tmp_path)
    assert first == {
        "episode": 2,
        "step": 6,
        "group": 9,
        "rollout": 0,
        "kept": True,
        "dropped_reason": None,
        "id": "sums.jsonl:7",
        "prompt": "1+1?",
        "answer": "2",
        "response_prefix": "<think>\n",
        "response": "\\boxed{2}",
        "response_tokens": 2,
        "finish_reason": "stop",
        "version": 3,
        "switches": [[1, 4]],  # the second token is of version 4
        "mean_logprob": -1.0,  # (-0.5 - 1.5) / 2
        "reward": 1.0,
        "reward_reason": "",
        "accuracy": 1.0,
        "scores": {"boxed": {"value": 1.0, "status": "scored", "reason": "exact"}},
        "staleness": 2,  # the learner held version 5, and the oldest token is of version 3
        "advantage": 1.0,
        "image_hashes": ["ab12"],
    }
    assert (second["rollout"], second["staleness"], second["advantage"]) == (1, 1, -1.0)


def test_dropped_groups_are_logged_with_their_reason(tmp_path: Path) -> None:
    log = RolloutLog(tmp_path, accuracy="boxed")
    unscored = rollout("?", Score(None, "unscorable", "no_answer"), reward=None)
    log.log(group(unscored), episode=1, step=0, version=3, index=0, dropped="unscored")
    (line,) = lines(tmp_path)
    assert (line["kept"], line["dropped_reason"], line["advantage"], line["reward"]) == (False, "unscored", None, None)
    assert line["scores"]["boxed"] == {"value": None, "status": "unscorable", "reason": "no_answer"}
    assert line["accuracy"] is None  # not scored is not wrong


def test_partial_credit_is_not_right_in_the_log(tmp_path: Path) -> None:
    log = RolloutLog(tmp_path, accuracy="boxed")
    two = group(rollout("?", Score(0.9), reward=0.9), rollout("!", Score(1.0)))
    log.log(two, episode=1, step=0, version=3, index=0)
    assert [line["accuracy"] for line in lines(tmp_path)] == [0.0, 1.0]


def test_pixels_never_reach_the_log(tmp_path: Path) -> None:
    problem = Problem(
        prompt=[{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "How many?"}]}],
        answer=3,
        images=(b"PIXELS",),
        choices=("2", "3"),
    )
    RolloutLog(tmp_path, accuracy="boxed").log(
        group(rollout("3", Score(1.0)), problem=problem), episode=1, step=0, version=3, index=0
    )
    raw = (tmp_path / "rollouts.jsonl").read_bytes()
    assert b"PIXELS" not in raw
    (line,) = lines(tmp_path)
    assert line["image_hashes"] == ["ab12"]
    assert line["prompt"] == problem.prompt
    assert prompt_text(line["prompt"]) == "user: <image>How many?"
    assert line["choices"] == ["2", "3"]


def test_chat_prompts_are_shown_with_their_roles() -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1+1?"}]
    assert prompt_text(messages) == "system: Be brief.\nuser: 1+1?"


def test_the_wrong_number_of_advantages_is_refused(tmp_path: Path) -> None:
    log = RolloutLog(tmp_path, accuracy="boxed")
    with pytest.raises(ValueError, match="2 advantages for 1 rollouts"):
        log.log(group(rollout("2", Score(1.0))), episode=1, step=0, version=3, index=0, advantages=[1.0, -1.0])


def test_a_resumed_log_loses_what_came_after_the_checkpoint(tmp_path: Path) -> None:
    log = RolloutLog(tmp_path, accuracy="boxed")
    one = group(rollout("one", Score(1.0)))
    log.log(one, episode=1, step=0, version=3, index=0)
    position = log.position()
    before = (tmp_path / "rollouts.jsonl").read_bytes()
    log.log(one, episode=2, step=1, version=4, index=0)
    log.close()
    RolloutLog(tmp_path, accuracy="boxed", resume_at=position)
    assert (tmp_path / "rollouts.jsonl").read_bytes() == before
