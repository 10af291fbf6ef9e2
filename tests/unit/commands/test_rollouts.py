"""``sailrl rollouts``: the responses asked for, and nothing that a model wrote can act in the terminal."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sailrl.commands.rollouts import Wanted, order_of, print_rollouts
from sailrl.errors import ConfigError, DataError


def line(number: int, reward: float | None, response: str = "", **more: Any) -> dict[str, Any]:
    score = {"value": reward, "status": "unscorable" if reward is None else "scored", "reason": "exact"}
    other = {"value": 1 - (reward or 0), "status": "scored", "reason": "form"}
    return {
        "episode": number // 2,
        "id": f"p{number}",
        "prompt": "How many?",
        "answer": "4",
        "response": response or f"response {number}",
        "response_tokens": 2,
        "finish_reason": "stop",
        "reward": reward,
        "scores": {"boxed": score, "form": other},
        "task": ("math", "ocr")[number % 2],
        **more,
    }


@pytest.fixture
def run(tmp_path: Path) -> Path:
    rewards = (0.5, 1.0, None, 0.0, 1.0)
    write(tmp_path, *(line(number, reward) for number, reward in enumerate(rewards)))
    return tmp_path


def write(folder: Path, *lines: dict[str, Any]) -> None:
    (folder / "rollouts.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))


def shown(run: Path, wanted: Wanted) -> str:
    out = io.StringIO()
    print_rollouts(run, wanted, Console(file=out, width=120, color_system=None))
    return out.getvalue()


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        (Wanted(count=2), [4, 3]),
        (Wanted(order="best", count=3), [1, 4, 0]),  # of equal ones the first; without a reward none
        (Wanted(order="worst", count=2), [3, 0]),
        (Wanted(order="worst", reward="form", count=2), [1, 4]),
        (Wanted(order="worst", count=1, episode=0), [0]),
        (Wanted(task="ocr"), [3, 1]),
        (Wanted(grep="RESPONSE 2"), [2]),
        (Wanted(grep="how many", task="math", episode=1), [2]),
    ],
)
def test_the_responses_asked_for_are_shown_in_their_order(run: Path, wanted: Wanted, numbers: list[int]) -> None:
    text = shown(run, wanted)
    found = [int(one.split()[1]) for one in text.splitlines() if one.startswith("response ")]
    assert found == numbers
    assert "5 in " in text


def test_what_is_not_there_is_said(run: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none of the 5 responses in .* is as asked"):
        shown(run, Wanted(episode=9))
    with pytest.raises(ConfigError, match=r"reward 'boxd'. There are: boxed, form"):
        shown(run, Wanted(reward="boxd", order="worst"))
    with pytest.raises(DataError, match="there is no run folder"):
        shown(run / "gone", Wanted())
    (run / "empty").mkdir()
    with pytest.raises(DataError, match="has no responses"):
        shown(run / "empty", Wanted())
    with pytest.raises(ConfigError, match="exclude each other"):
        order_of(best=True, worst=True, reward=None)
    assert order_of(best=False, worst=False, reward="form") == "worst"


def test_nothing_that_a_model_wrote_acts_in_the_terminal(tmp_path: Path) -> None:
    hostile = "\x1b[2J\x07[red]\u202eevil\ud800 " + "x" * 5000
    write(tmp_path, line(0, 1.0, hostile, id=hostile, answer=hostile, prompt=[{"role": "user", "content": hostile}]))
    text = shown(tmp_path, Wanted())
    assert not {"\x1b", "\x07", "\u202e", "\ud800"} & set(text)
    assert "\\x1b[2J\\x07[red]\\u202eevil" in text  # also no markup
    assert "more characters" in text


def test_responses_of_an_evaluation_are_shown_with_their_model(tmp_path: Path) -> None:
    one = line(0, 1.0) | {"model": "base", "asked": "plain"}
    del one["episode"]
    (tmp_path / "responses.jsonl").write_text(json.dumps(one) + "\n")
    assert "base, plain, p0, 2 tokens, stop" in shown(tmp_path, Wanted())
