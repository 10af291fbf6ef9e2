"""A checkpoint goes on as the experiment that it began as, and as no other: asked before anything starts."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

from sailrl.config.schema import RlvrConfig
from sailrl.demo import tiny_text
from sailrl.errors import CheckpointError
from sailrl.launch.starts import UNTYPED, Start
from sailrl.report.progress import PlainProgress
from sailrl.rl import checkpoints
from sailrl.rl.checkpoints import RunState
from sailrl.rl.identity import same_draws, whole_identity
from sailrl.rl.prepare import prepare
from sailrl.rl.start import start_rlvr

Row = dict[str, Any]
ROWS: list[Row] = [{"prompt": f"{i}+{i}=?", "answer": str(2 * i)} for i in range(6)]
HELD_OUT: list[Row] = [{"prompt": f"{i}+1=?", "answer": str(i + 1)} for i in range(3)]
BOXED = {"use": "rewards.boxed:BoxedAnswer", "weight": 0.9}
FORMAT = {"use": "rewards.think_format:ThinkFormat", "weight": 0.1}


def write_rows(path: Path, rows: list[Row]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


class Run:
    """A run folder with a checkpoint of one episode, and the configuration that it began with."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.folder, self.work = folder / "run", folder
        self.train, self.eval = folder / "train.jsonl", folder / "eval.jsonl"
        write_rows(self.train, ROWS)
        write_rows(self.eval, HELD_OUT)
        self.base: dict[str, Any] = {
            "kind": "rlvr",
            "model": {"path": str(model), "dtype": "float32"},
            "data": {
                "train": {"path": str(self.train)},
                "eval": {"path": str(self.eval)},
                "instruction": "",
                "max_prompt_tokens": 60,
            },
            "rewards": {"parts": {"boxed": BOXED, "format": FORMAT}},
            "batch": {"group_size": 2, "rollouts_per_episode": 4, "episodes": 2},
            "rollout": {"max_response_tokens": 4},
        }

    def config(self, **sections: Any) -> RlvrConfig:
        merged = {key: value | sections.get(key, {}) for key, value in self.base.items() if isinstance(value, dict)}
        return RlvrConfig.model_validate(self.base | sections | merged)

    def identity(self, **sections: Any) -> dict[str, Any]:
        config = self.config(**sections)
        self.folder.mkdir(exist_ok=True)
        progress = PlainProgress("run", 1, console=Console(file=io.StringIO()))
        prepared = prepare(config, self.folder, progress)
        return whole_identity(config, config.model_dump(mode="json"), prepared, self.folder)

    def saved(self, **sections: Any) -> Run:
        """With its checkpoint."""
        state = RunState(episode=1, step=1, identity=self.identity(**sections))
        UNTYPED.begins(self.config(**sections), self.folder)
        checkpoints.save(self.folder, state, lambda folder: (folder / "model").mkdir(), keep=1)
        return self

    def refusal(self, start: Start = UNTYPED, **sections: Any) -> str:
        """What a resume under other settings says. Had it not been refused, it would start Ray."""
        with pytest.raises(CheckpointError) as refused:
            start_rlvr(self.config(**sections), self.folder, start)
        return str(refused.value)


@pytest.fixture
def run(tiny_folder: Path, tmp_path: Path) -> Run:
    return Run(tmp_path, tiny_folder)


# --- settings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"batch": {"group_size": 4}}, "batch.group_size: 2 -> 4"),
        ({"algorithm": {"name": "gspo"}}, "algorithm.name: dapo -> gspo"),
        ({"model": {"dtype": "bfloat16"}}, "model.dtype: float32 -> bfloat16"),
        ({"run": {"seed": 1}}, "run.seed: 0 -> 1"),
        (
            {"rewards": {"parts": {"boxed": BOXED | {"weight": 0.5}, "format": FORMAT | {"weight": 0.5}}}},
            "rewards.parts.boxed.weight: 0.9 -> 0.5",
        ),
        (
            {"rewards": {"parts": {"boxed": BOXED | {"weight": 1.0}, "format": FORMAT | {"penalty": True}}}},
            "rewards.parts.format.penalty: false -> true",
        ),
        ({"rewards": {"parts": {"boxed": BOXED | {"weight": 1.0}}}}, 'rewards.parts.format: {"use": "rewards.think'),
        ({"rewards": {"accuracy": "format"}}, "rewards.accuracy: null -> format"),
        ({"rewards": {"combine": {"use": "rewards.mix:Cascade"}}}, "rewards.combine.use: rewards.mix:Weighted -> rew"),
    ],
)
def test_settings_that_make_it_another_experiment_are_refused_with_both_values(
    run: Run, sections: dict[str, Any], said: str
) -> None:
    message = run.saved().refusal(**sections)
    assert f"\n  {said}" in message
    assert "or go on all the same with --allow-changes." in message


def test_a_reward_whose_code_was_edited_is_refused(run: Run, tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text("def right(response, problem):\n    return 1.0\n")
    parts = {"boxed": BOXED, "mine": {"use": f"{mine}:right", "weight": 0.1}}
    run.saved(rewards={"parts": parts})
    mine.write_text("def right(response, problem):\n    return 0.0\n")
    message = run.refusal(rewards={"parts": parts})
    assert "\n  rewards.code.mine: " in message
    assert "rewards.code.boxed" not in message


def test_a_refused_start_leaves_the_settings_of_the_run_alone(run: Run) -> None:
    run.saved()
    before = (run.folder / "resolved.yaml").read_text()
    message = run.refusal(batch={"group_size": 4}, learner={"learning_rate": 1e-4})
    assert "\n  learner.learning_rate: 1e-06 -> 0.0001" in message
    assert (run.folder / "resolved.yaml").read_text() == before
    assert len((run.folder / "starts.jsonl").read_text().splitlines()) == 1


def test_a_finished_run_is_not_taken_for_one_of_another_model(run: Run, tmp_path: Path) -> None:
    run.saved()
    tiny_text.build(tmp_path / "other", hidden_size=32, layers=1, seed=9)
    message = run.refusal(model={"path": str(tmp_path / "other")}, batch={"episodes": 1})
    assert "model.content cannot change" in message


# --- the model ------------------------------------------------------------------------------------------------------


def test_another_model_is_refused_whatever_is_allowed_with_both_paths(
    run: Run, tiny_folder: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    tiny_text.build(other, hidden_size=32, layers=1, seed=9)
    message = run.saved().refusal(Start(allow_changes=True), model={"path": str(other)})
    assert "\n  model.content: " in message
    assert f"\n  model.path: {tiny_folder} -> {other}"[:75] in message
    assert "model.content cannot change" in message
    assert f"model.path={run.folder / 'checkpoints' / 'episode-000001' / 'model'} is the model" in message


def test_another_architecture_is_refused_before_anything_starts(run: Run, vlm_folder: Path) -> None:
    assert "model.content cannot change" in run.saved().refusal(model={"path": str(vlm_folder)})


def test_a_checkpoint_of_the_whole_model_does_not_go_on_as_an_adapter(run: Run) -> None:
    message = run.saved().refusal(Start(allow_changes=True), model={"lora": {"rank": 4}})
    assert '\n  model.lora: null -> {"rank": 4, ' in message
    assert "model.lora cannot change" in message


@pytest.mark.parametrize(
    "lora", [None, {"rank": 8}, {"rank": 4, "alpha": 8}, {"rank": 4, "target_modules": ["q_proj"]}]
)
def test_an_adapter_goes_on_as_it_was_begun(run: Run, lora: dict[str, Any] | None) -> None:
    message = run.saved(model={"lora": {"rank": 4}}).refusal(Start(allow_changes=True), model={"lora": lora})
    assert "began with, and model.lora" in message


def test_an_adapter_does_not_go_on_upon_another_warm_start(run: Run) -> None:
    one = run.identity(model={"lora": {"rank": 4}})
    assert "model.base" in one
    assert "model.base" not in run.identity()


def test_a_model_under_another_name_is_the_same(run: Run, tiny_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_folder, tmp_path / "renamed")
    (tmp_path / "renamed" / "README.md").write_text("decides nothing")
    assert run.identity(model={"path": str(tmp_path / "renamed")}) == run.identity()


def test_a_chat_template_that_was_edited_in_place_is_another_model(run: Run, tiny_folder: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    shutil.copytree(tiny_folder, mine)
    run.saved(model={"path": str(mine)})
    (mine / "chat_template.jinja").write_text((mine / "chat_template.jinja").read_text() + "\n")
    assert "model.content cannot change" in run.refusal(model={"path": str(mine)})


# --- the data -------------------------------------------------------------------------------------------------------


def replaced(rows: list[Row], index: int, **fields: Any) -> list[Row]:
    return [row | fields if number == index else row for number, row in enumerate(rows)]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (replaced(ROWS, 3, prompt="3*3=?"), "6 problems, "),
        (replaced(ROWS, 3, answer="7"), "6 problems, "),
        (replaced(ROWS, 3, precision=2), "6 problems, "),
        (replaced(ROWS, 3, meta={"level": 2}), "6 problems, "),
        (list(reversed(ROWS)), "6 problems, "),
        ([*ROWS, {"prompt": "9+9=?", "answer": "18"}], "7 problems, "),
        (ROWS[:-1], "5 problems, "),
        (replaced(ROWS, 3, prompt="?" * 61), "5 problems, "),  # too long, and left out
    ],
)
@pytest.mark.parametrize("source", ["train", "eval"])
def test_a_data_file_that_was_edited_in_place_is_refused(run: Run, source: str, rows: list[Row], said: str) -> None:
    write_rows(run.eval, ROWS)
    run.saved()
    write_rows(getattr(run, source), rows)
    message = run.refusal()
    assert f"\n  data.{source}.content: 6 problems, " in message
    assert f"-> {said}" in message
    assert f"Put back data.{source}.content, begin a run of its own" in message


def test_other_data_are_refused_with_both_paths(run: Run, tmp_path: Path) -> None:
    other = write_rows(tmp_path / "b.jsonl", HELD_OUT)
    message = run.saved().refusal(data={"train": {"path": other}})
    assert "\n  data.train.content: 6 problems, " in message
    assert "\n  data.train.path: " in message


def test_more_sources_and_no_held_out_problems_are_differences(run: Run, tmp_path: Path) -> None:
    run.saved()
    more = [{"path": write_rows(tmp_path / "more.jsonl", HELD_OUT)}]
    assert "data.train.content: 6 problems" in run.refusal(data={"more": more})
    assert "data.eval.content: 3 problems" in run.refusal(data={"eval": None})


def test_the_same_problems_under_other_names_are_the_same(run: Run, tmp_path: Path) -> None:
    before = run.identity()
    renamed = write_rows(tmp_path / "renamed.jsonl", ROWS)
    named = write_rows(tmp_path / "named.jsonl", [row | {"id": f"n{i}"} for i, row in enumerate(ROWS)])
    halves = [{"path": write_rows(tmp_path / f"{name}.jsonl", ROWS[part])} for name, part in PARTS.items()]
    assert run.identity(data={"train": {"path": renamed}}) == before
    assert run.identity(data={"train": {"path": named}}) == before
    assert run.identity(data={"train": halves[0], "more": [halves[1]]}) == before


PARTS = {"first": slice(0, 2), "rest": slice(2, None)}


@pytest.mark.parametrize(
    "sections",
    [
        {"learner": {"learning_rate": 1e-4}},
        {"batch": {"episodes": 9}},
        {"data": {"instruction": "Think."}},
        {"rollout": {"temperature": 0.7}},
        {"rewards": {"deadline_s": 9.0, "workers": 1}},
        {"checkpoint": {"every_episodes": 1}},
    ],
)
def test_other_settings_are_the_same_experiment(run: Run, sections: dict[str, Any]) -> None:
    assert run.identity(**sections) == run.identity()


def test_pictures_count_by_what_is_in_their_files(vlm_folder: Path, tmp_path: Path) -> None:
    run = Run(tmp_path, vlm_folder)
    Image.new("RGB", (56, 56), "red").save(tmp_path / "a.png")
    shutil.copy(tmp_path / "a.png", tmp_path / "b.png")
    pictures: Callable[[str], list[Row]] = lambda name: [row | {"images": [name]} for row in ROWS]  # noqa: E731
    size = {"max_prompt_tokens": 200}
    write_rows(run.train, pictures("a.png"))
    before = run.identity(data=size)
    write_rows(run.train, pictures("b.png"))
    assert run.identity(data=size) == before
    Image.new("RGB", (56, 56), "blue").save(tmp_path / "b.png")
    assert run.identity(data=size)["data.train.content"] != before["data.train.content"]


def test_allowed_changes_of_data_and_seed_draw_from_the_beginning_and_others_go_on(run: Run) -> None:
    before = run.identity()
    assert same_draws(before, run.identity(batch={"group_size": 4}, rewards={"accuracy": "format"}))
    assert not same_draws(before, run.identity(run={"seed": 1}))
    write_rows(run.train, ROWS[:-1])
    assert not same_draws(before, run.identity())
