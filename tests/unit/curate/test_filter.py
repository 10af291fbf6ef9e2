"""``sailrl filter``: what is kept, why the rest is not, and that nothing is sampled twice."""

from __future__ import annotations

import asyncio
import io
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sailrl.config.filtering import FilterConfig
from sailrl.curate.candidates import Candidate, load_pool
from sailrl.curate.filter import start_filter
from sailrl.curate.filter_out import whole_files
from sailrl.curate.sample_log import SampleLog
from sailrl.curate.sampling import Meter, sample_shards, score_again
from sailrl.data.template import Refused
from sailrl.errors import DataError, RewardError, RolloutError
from sailrl.report.histogram import bars
from sailrl.report.progress import PlainProgress
from sailrl.rollout.engine import Request, Sampling
from sailrl.types import Completion, Problem, Prompt, Rollout, Score
from tests.fakes.scripted import ScriptedPool, score


def scored(problem: str, value: float | None, **fields: Any) -> dict[str, Any]:
    """A row as ``sailrl score`` writes it."""
    status = "failed" if value is None else "scored"
    scores = {"boxed": {"value": value, "status": status, "reason": ""}}
    row = {"id": problem, "prompt": f"{problem}?", "answer": "1", "response": f"{problem} is {value}"}
    return {**row, "reward": value, "scores": scores, **fields}


def write(path: Path, rows: Sequence[dict[str, Any] | str]) -> None:
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def filtered(folder: Path, **config: Any) -> None:
    start_filter(FilterConfig.model_validate({"kind": "filter", **config}), folder)


def solved(problem: str, right: int, **fields: Any) -> list[dict[str, Any]]:
    """Four responses, so many of them right."""
    return [scored(problem, float(number < right), **fields) for number in range(4)]


def test_scored_responses_decide_by_the_rule_of_their_task(tmp_path: Path) -> None:
    rows = [row for right in (0, 1, 4) for row in solved(f"math{right}", right, task="math")]
    rows += [row for right in (0, 1, 4) for row in solved(f"count{right}", right, task="count")]
    write(tmp_path / "scored.jsonl", rows)
    filtered(tmp_path, scored=str(tmp_path / "scored.jsonl"))
    kept, dropped = read(tmp_path / "kept.jsonl"), read(tmp_path / "dropped.jsonl")
    # reasoning keeps 0 < accuracy < 1; perception drops accuracy 1 only
    assert [row["id"] for row in kept] == ["math1", "count0", "count1"]
    assert {row["id"]: row["dropped_reason"] for row in dropped} == {
        "math0": "impossible",
        "math4": "too_easy",
        "count4": "too_easy",
    }
    numbers = kept[0]["meta"]["filters"]["pass_at_k"]
    assert (numbers["n"], numbers["c"], numbers["accuracy"], numbers["pass@4"]) == (4, 1, 0.25, 1.0)
    assert "response" not in kept[0]
    assert {row["id"]: len(row["responses"]) for row in read(tmp_path / "evidence.jsonl")}["math0"] == 4
    assert json.loads((tmp_path / "report.json").read_text())["problems_by_accuracy"] == {
        "kept": {"0": 1, "0.25": 2},
        "dropped": {"0": 1, "1": 2},
    }
    assert (tmp_path / "histogram.png").stat().st_size > 1000


def test_rows_that_cannot_be_used_cost_themselves_only(tmp_path: Path) -> None:
    no_scores = {name: value for name, value in scored("a", 1.0).items() if name != "scores"}
    bad: list[dict[str, Any] | str] = [
        "nonsense",
        no_scores,
        scored("a", 1.0, prompt=""),
        scored("a", 1.0, images=["gone.png"]),
    ]
    write(tmp_path / "scored.jsonl", [*bad, *solved("a", 2), scored("b", None), *solved("b", 1)[:3]])
    filtered(tmp_path, scored=str(tmp_path / "scored.jsonl"))
    assert [row["id"] for row in read(tmp_path / "kept.jsonl")] == ["a"]
    assert [row["dropped_reason"] for row in read(tmp_path / "dropped.jsonl")] == ["too_few_samples"]  # 3 of 4 scored
    unusable = json.loads((tmp_path / "report.json").read_text())["unusable_rows"]
    assert unusable == {"not_json": 1, "no_scores": 1, "no_prompt": 1, "no_image": 1}


def test_a_file_without_the_score_says_which_scores_it_has(tmp_path: Path) -> None:
    write(tmp_path / "scored.jsonl", solved("a", 2))
    with pytest.raises(DataError, match=r"scores \(judge\); the scores found are boxed"):
        filtered(tmp_path, scored=str(tmp_path / "scored.jsonl"), correct="judge")


def test_an_empty_result_is_an_explained_error_and_no_file(tmp_path: Path) -> None:
    (tmp_path / "kept.jsonl").write_text("of an earlier run\n")
    write(tmp_path / "scored.jsonl", [*solved("a", 4), *solved("b", 0)])
    with pytest.raises(
        DataError, match=r"2 problems is left: 1 too_easy \(pass_at_k\), 1 impossible.*Too easy: .*Impossible: "
    ):
        filtered(tmp_path, scored=str(tmp_path / "scored.jsonl"))
    assert not (tmp_path / "kept.jsonl").exists()
    assert len(read(tmp_path / "dropped.jsonl")) == 2
    write(tmp_path / "scored.jsonl", solved("a", 1)[:2])
    with pytest.raises(DataError, match=r"1 too_few_samples \(pass_at_k\)\. Too few samples: .* Every drop") as told:
        filtered(tmp_path, scored=str(tmp_path / "scored.jsonl"))
    assert "Impossible" not in str(told.value)


def test_on_a_full_disk_the_file_of_an_earlier_run_stays(tmp_path: Path) -> None:
    (tmp_path / "kept.jsonl").write_text("of an earlier run\n")
    (tmp_path / ".writing-kept.jsonl").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"), whole_files(tmp_path, ("kept.jsonl",)) as files:
        files["kept.jsonl"].write(b"a row")
    assert (tmp_path / "kept.jsonl").read_text() == "of an earlier run\n"


def test_deciding_on_scored_responses_loads_neither_torch_nor_ray(tmp_path: Path) -> None:
    write(tmp_path / "scored.jsonl", solved("a", 2))
    (tmp_path / "c.yaml").write_text(f"kind: filter\nrun: {{dir: {tmp_path / 'run'}}}\nmodel: {{path: nowhere}}\n")
    code = (
        "import sys\nfrom sailrl.cli import app\n"
        f"sys.argv = ['sailrl', 'filter', {str(tmp_path / 'c.yaml')!r}, '--from', {str(tmp_path / 'scored.jsonl')!r}]\n"
        "app(standalone_mode=False)\n"
        "print('loaded', *sorted({'torch', 'ray', 'vllm', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "loaded"


def test_more_accuracies_than_bars_are_binned() -> None:
    centres, heights, _ = bars({"kept": {number / 100: 1 for number in range(1, 100)}, "dropped": {1.0: 7}})
    assert len(centres) == 21
    assert (sum(heights["kept"]), heights["dropped"][-1]) == (99, 7)


# --- the pool --------------------------------------------------------------------------------------------------------


def pool_of(
    folder: Path, rows: Sequence[dict[str, Any] | str], **config: Any
) -> tuple[list[Candidate], dict[str, Any]]:
    write(folder / "pool.jsonl", rows)
    sections = {
        "kind": "filter",
        "model": {"path": "unused"},
        "data": {"problems": {"path": str(folder / "pool.jsonl")}, "on_bad_row": "skip"},
        "rewards": {"parts": {"boxed": {"use": "unused:unused", "weight": 1.0}}},
    }
    parsed = FilterConfig.model_validate({**sections, **config})
    assert parsed.data is not None
    pool = load_pool(parsed, parsed.data, folder)
    return pool.candidates, {str(row.row.get("id")): (row.step, row.reason) for row in pool.dropped}


def test_rows_without_an_id_are_named_after_their_content(tmp_path: Path) -> None:
    first, _ = pool_of(tmp_path, [{"prompt": "1+1?", "answer": "2"}, {"prompt": "2+2?", "answer": "4"}])
    later, dropped = pool_of(
        tmp_path,
        [{"prompt": "3+3?", "answer": "6"}, {"prompt": "1+1?", "answer": "2"}, {"prompt": " 1+1? ", "answer": 2}],
    )
    assert first[0].row["id"] == later[1].row["id"]  # another line, the same row
    assert first[0].key == later[1].key
    assert list(dropped.values()) == [("id", "duplicate")]


def test_the_key_follows_what_the_model_sees_and_the_rewards_read(tmp_path: Path) -> None:
    rows: list[dict[str, Any] | str] = [{"id": "a", "prompt": "q", "answer": "1"}]
    rows += [{"id": "b", "prompt": "q", "answer": "1", "meta": {}}]
    rows += [{"id": "c", "prompt": "q", "answer": "2"}, {"id": "d", "prompt": "q", "answer": "1", "precision": 2}]
    a, b, c, d = (candidate.key for candidate in pool_of(tmp_path, rows)[0])
    assert a == b
    assert len({a, c, d}) == 3


def test_the_first_steps_drop_with_reasons_and_convert(tmp_path: Path) -> None:
    (tmp_path / "eval.jsonl").write_text('{"prompt": "the evaluation question", "answer": "1"}\n')
    choice = {"prompt": "What is 6 times 7?", "choices": ["41", "42", "43", "44"], "answer": "B", "task": "choice"}
    rows: list[dict[str, Any] | str] = [
        {"id": "choice", **choice},
        {"id": "once", "prompt": "1+1?", "answer": "2"},
        {"id": "twice", "prompt": " 1+1? ", "answer": "2"},
        {"id": "leak", "prompt": "The evaluation question", "answer": "1"},
        {"id": "blind", "prompt": "Count.", "images": ["gone.png"], "answer": "1"},
        "nonsense",
    ]
    decontaminate = {"files": [str(tmp_path / "eval.jsonl")]}
    kept, dropped = pool_of(tmp_path, rows, mcq={}, dedup={}, decontaminate=decontaminate)
    assert [(case.row["id"], case.problem.answer, case.problem.choices) for case in kept] == [
        ("choice", "42", ()),
        ("once", "2", ()),
    ]
    assert dropped == {"twice": ("duplicate", "duplicate"), "leak": ("leak", "leaks_exact")}  # blind: a bad row
    assert kept[0].row["meta"]["filters"]["mcq"]["reason"] == "converted"


def test_the_questions_of_a_benchmark_are_kept_out_as_they_stand_in_its_table(tmp_path: Path) -> None:
    table = "index\tquestion\tA\tB\tanswer\n1\tHow many corners has a square of paper?\t3\t4\tB\n"
    (tmp_path / "MMStar.tsv").write_text(table)
    rows: list[dict[str, Any] | str] = [
        {"id": "leak", "prompt": "How many corners has a square of paper?", "choices": ["3", "4"], "answer": "B"},
        {"id": "other", "prompt": "How many sides has a cube?", "answer": "6"},
    ]
    decontaminate = {"benchmarks": ["mmstar"], "benchmarks_folder": str(tmp_path)}
    kept, dropped = pool_of(tmp_path, rows, decontaminate=decontaminate)
    assert [case.row["id"] for case in kept] == ["other"]
    assert dropped == {"leak": ("leak", "leaks_exact")}


# --- sampling --------------------------------------------------------------------------------------------------------


class Dying(ScriptedPool):
    """Dies after so many groups, as a killed engine would."""

    def __init__(self, groups: int) -> None:
        super().__init__(lambda problem, asked: "++--")
        self._left = groups

    async def generate(
        self, requests: Sequence[Request], sampling: Sampling, *, seed: int | None = None
    ) -> AsyncIterator[tuple[int, list[Completion]]]:
        async for result in super().generate(requests, sampling, seed=seed):
            if not self._left:
                raise RolloutError("the engine died")
            self._left -= 1
            yield result
            await asyncio.sleep(0.01)  # the group is scored meanwhile


def candidates(count: int) -> list[Candidate]:
    return [Candidate({"id": str(i)}, Problem(prompt=str(i), id=str(i)), key=f"key{i}") for i in range(count)]


def render(problem: Problem) -> Prompt | Refused:
    if problem.id == "3":
        return Refused("too_long", "too long", 99)
    return Prompt(problem, token_ids=[int(problem.id)], engine_ids=[int(problem.id)])


def meter() -> Meter:
    return Meter(PlainProgress("test", 0, console=Console(file=io.StringIO())), "boxed")


def sample(folder: Path, pool: ScriptedPool, cases: Sequence[Candidate], limit: int = 50) -> list[str]:
    """Samples what is missing of ``cases``; returns the keys that were."""
    log = SampleLog(folder, {"model": "m", "rewards": "first"})
    todo = [case for case in cases if log.needs(case.key, 4, limit)]
    sampling = Sampling(samples=4, temperature=1.0, max_tokens=8)
    try:
        asyncio.run(sample_shards(todo, pool, score, render, sampling, log, meter(), shard=2, max_unscored_rate=0.5))
    finally:
        log.close()
    return [case.key for case in todo]


def test_what_was_sampled_before_a_crash_is_not_sampled_again(tmp_path: Path) -> None:
    cases = candidates(6)
    with pytest.raises(RolloutError, match="the engine died"):
        sample(tmp_path, Dying(3), cases)
    log = next((tmp_path / "samples").iterdir())
    log.write_bytes(log.read_bytes() + b'{"key": "key5", "respon')  # and SIGKILL in the middle of a line
    kept = {json.loads(line)["key"] for line in log.read_text().splitlines()[:-1]}
    assert 1 <= len(kept - {"key3"}) <= 3  # 3 were answered; each of the two lanes may lose the one being scored
    again = ScriptedPool(lambda problem, asked: "++--")
    missing = sample(tmp_path, again, cases)
    assert set(missing) == {f"key{i}" for i in range(6)} - kept
    assert sorted(again.asked) == sorted(int(key[3:]) for key in missing if key != "key3")
    assert sample(tmp_path, again, cases) == []  # nothing is left, the problem that is too long included
    assert sample(tmp_path, again, candidates(8)) == ["key6", "key7"]  # more data: only what is new


def test_a_problem_that_was_too_long_is_tried_under_a_higher_limit(tmp_path: Path) -> None:
    pool = ScriptedPool(lambda problem, asked: "++--")
    sample(tmp_path, pool, candidates(4))
    assert sample(tmp_path, pool, candidates(4), limit=98) == []
    assert sample(tmp_path, pool, candidates(4), limit=99) == ["key3"]


def test_the_same_question_under_two_ids_is_sampled_once(tmp_path: Path) -> None:
    pool, one = ScriptedPool(lambda problem, asked: "++--"), candidates(1)[0]
    sample(tmp_path, pool, [one, Candidate({"id": "other"}, one.problem, one.key)])
    assert pool.asked == {0: 1}


# --- scoring again ---------------------------------------------------------------------------------------------------


def test_other_rewards_score_the_kept_responses_and_sample_nothing(tmp_path: Path) -> None:
    cases = candidates(5)
    pool = ScriptedPool(lambda problem, asked: "++--")
    sample(tmp_path, pool, cases)
    with closing(SampleLog(tmp_path, {"model": "m", "rewards": "second"})) as log:
        # Problem 3 was too long for a prompt: there is nothing to score.
        assert [log.needs(case.key, 4, 50) for case in cases] == ["scores", "scores", "scores", None, "scores"]
        before = log.get("key0")

        async def stricter(prompt: Prompt, completion: Completion) -> Rollout:
            return Rollout(completion, {"boxed": Score(0.0, reason=f"{len(completion.token_ids)} token")}, 0.0)

        todo = [case for case in cases if case.key != "key3"]
        asyncio.run(score_again(todo, stricter, render, log, meter(), max_unscored_rate=0.5))
        assert [log.needs(case.key, 4, 50) for case in cases] == [None] * 5
        after = log.get("key0")
    assert before is not None
    assert after is not None
    assert [r["response"] for r in after["responses"]] == [r["response"] for r in before["responses"]]
    assert [r["mean_logprob"] for r in after["responses"]] == [-0.5] * 4  # what only sampling knows stays
    assert [r["reward"] for r in before["responses"]] == [1.0, 1.0, 0.0, 0.0]
    assert [r["scores"]["boxed"] for r in after["responses"]] == [
        {"value": 0.0, "status": "scored", "reason": "1 token"}
    ] * 4
    with closing(SampleLog(tmp_path, {"model": "m", "rewards": "second"})) as log:
        assert log.get("key0") == after  # and it is still so for the next run


def test_another_model_is_sampled_anew(tmp_path: Path) -> None:
    sample(tmp_path, ScriptedPool(lambda problem, asked: "++--"), candidates(1))
    with closing(SampleLog(tmp_path, {"model": "other", "rewards": "first"})) as log:
        assert log.needs("key0", 4, 50) == "responses"


def test_a_judge_that_was_out_of_reach_is_asked_again_about_the_same_responses(tmp_path: Path) -> None:
    async def away(prompt: Prompt, completion: Completion) -> Rollout:
        return Rollout(completion, {"boxed": Score(None, "failed", "breaker_open")}, None, "breaker_open")

    sample(tmp_path, ScriptedPool(lambda problem, asked: "++--"), candidates(1))
    with closing(SampleLog(tmp_path, {"model": "m", "rewards": "judge"})) as log:
        with pytest.raises(RewardError, match="4 x breaker_open"):
            asyncio.run(score_again(candidates(1), away, render, log, meter(), max_unscored_rate=0.5))
        assert log.needs("key0", 4, 50) == "scores"
        asyncio.run(score_again(candidates(1), score, render, log, meter(), max_unscored_rate=0.5))
        assert log.needs("key0", 4, 50) is None
