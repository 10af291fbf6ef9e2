"""The supervised stages: what carries loss, how it is averaged, and that a killed stage goes on as it would have."""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import log_softmax
from transformers import AutoModelForCausalLM

from sailrl.config.checks import validate
from sailrl.config.learner import RanksConfig
from sailrl.config.schema import SourceConfig
from sailrl.config.sft import SftConfig, SftData, SftTraining
from sailrl.data.images import ImageStore
from sailrl.data.processor import Processor
from sailrl.data.template import Template
from sailrl.demo.additions import rows
from sailrl.errors import CheckpointError, ConfigError, DataError, LearnerError
from sailrl.launch.sealed import CHECKPOINTS
from sailrl.learner.build import LearnerSpec
from sailrl.learner.objective import UpdateScope
from sailrl.learner.supervised import SupervisedObjective
from sailrl.sft.data import imitation_sample, load_imitations, prompt_sample
from sailrl.sft.start import MODEL, STEPS, start_sft
from sailrl.types import Problem, Prompt


def _config(folder: Path, rows_file: Path | None = None, **sections: Any) -> SftConfig:
    source: dict[str, Any] = {"generate": {"use": "sailrl.demo.additions:rows", "args": {"count": 24, "seed": 1}}}
    data = {"train": source if rows_file is None else {"path": str(rows_file)}, "instruction": ""}
    training = {"rows_per_step": 4, "epochs": 2, "learning_rate": 1e-2, "warmup_steps": 2}
    checkpoint = {"every_steps": 5, "keep": 2}
    raw: dict[str, Any] = {
        "kind": "sft",
        "model": {"path": str(folder), "dtype": "float32"},
        "data": data | sections.pop("data", {}),
        "training": training | sections.pop("training", {}),
        "checkpoint": checkpoint | sections.pop("checkpoint", {}),
    }
    return SftConfig.model_validate(raw | sections)


def _rows(path: Path, *given: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in given))
    return path


THOUGHT = {"prompt": "1+2=?", "response": "<think>1+2=3</think>\\boxed{3}"}
DIRECT = {
    "prompt": [{"role": "user", "content": "4+4=?"}],
    "completion": [{"role": "assistant", "content": "\\boxed{8}"}],
    "kind": "direct",
}


@pytest.mark.parametrize("budget", [1, 60, 100_000])
@pytest.mark.parametrize("reduction", ["token_mean", "sample_sum"])
def test_loss_and_gradient_are_equation_3_whatever_the_micro_batches(
    tiny_folder: Path, tmp_path: Path, reduction: str, budget: int
) -> None:
    processor, store = Processor(tiny_folder), ImageStore(tmp_path / "images")
    config = _config(tiny_folder, _rows(tmp_path / "rows.jsonl", THOUGHT, DIRECT))
    template = Template(processor, store, config.data)
    samples = [imitation_sample(row, template, processor) for row in load_imitations(config.data).rows]
    training = SftTraining.model_validate({"loss_reduction": reduction, "max_tokens_per_microbatch": budget})
    learner = LearnerSpec(
        config.model,
        config.data,
        training.learner(RanksConfig()),
        SupervisedObjective(training.loss_reduction),
        weights=str(tiny_folder),
        images=str(tmp_path / "images"),
        seed=0,
    ).build()
    policy = learner.policy.double()
    learner.set_episode(samples)
    scope = UpdateScope.of(samples, [0, 1], [0, 1])
    loss = sum(float(learner.forward_backward(micro, scope)["loss"]) for micro, _ in learner._passes([0, 1]))

    # By hand: one row at a time, transformers' own logits, -log P of every token of the response and its end of turn.
    by_hand = AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.float64)
    sums, counts = [], []
    for sample in samples:
        ids = torch.tensor([[*sample.prompt_ids, *sample.response_ids]])
        logits = by_hand(ids).logits[0]
        first = len(sample.prompt_ids)
        logp = log_softmax(logits[first - 1 : -1], dim=-1)
        sums.append(-logp[range(len(sample.response_ids)), sample.response_ids].sum())
        counts.append(len(sample.response_ids))
    # sample_sum: (S1 + S2) / 2 rows; token_mean: (S1 + S2) / (n1 + n2) tokens
    expected = (sums[0] + sums[1]) / (2 if reduction == "sample_sum" else sum(counts))
    expected.backward()
    assert loss == pytest.approx(float(expected.detach()), abs=1e-6)
    for mine, theirs in zip(policy.model.parameters(), by_hand.parameters(), strict=True):
        assert mine.grad is not None
        assert theirs.grad is not None
        assert torch.allclose(mine.grad, theirs.grad, rtol=1e-9, atol=1e-12)
    # A mean of the two rows' means is another number: the direct answer would weigh as much per row as the thought.
    naive = (sums[0] / counts[0] + sums[1] / counts[1]) / 2
    assert abs(naive.item() - expected.item()) > 1e-6


def test_loss_falls_on_thought_answer_and_end_of_turn_and_on_nothing_before(tiny_folder: Path, tmp_path: Path) -> None:
    processor, store = Processor(tiny_folder), ImageStore(tmp_path / "images")
    config = _config(tiny_folder, _rows(tmp_path / "rows.jsonl", THOUGHT, DIRECT))
    template = Template(processor, store, config.data)
    thought, direct = (imitation_sample(row, template, processor) for row in load_imitations(config.data).rows)
    decode = processor.tokenizer.decode
    assert decode(thought.response_ids) == "<think>1+2=3</think>\\boxed{3}<|im_end|>"
    assert decode(direct.response_ids) == "\\boxed{8}<|im_end|>"
    assert decode(direct.prompt_ids) == "<|im_start|>user\n4+4=?<|im_end|>\n<|im_start|>assistant\n"


def test_a_response_is_imitated_up_to_the_end_of_turn_of_the_template(tiny_folder: Path) -> None:
    """Also where the tokenizer ends a text otherwise, as those of base models do."""
    processor = Processor(tiny_folder)
    processor.tokenizer.eos_token = "<|endoftext|>"
    ids = prompt_sample(Prompt(Problem(id="7"), [1, 2], [1, 2]), "\\boxed{8}", processor).response_ids
    assert processor.tokenizer.decode(ids) == "\\boxed{8}<|im_end|>"


def test_what_the_template_has_already_written_is_not_written_again(tiny_folder: Path) -> None:
    processor = Processor(tiny_folder)
    prompt = Prompt(Problem(id="7", response_prefix="<think>\n"), [1, 2], [1, 2])
    for response in ("<think>\nso</think>\\boxed{8}", "<think>so</think>\\boxed{8}"):
        ids = prompt_sample(prompt, response, processor).response_ids
        assert processor.tokenizer.decode(ids) == "so</think>\\boxed{8}<|im_end|>"
    with pytest.raises(DataError, match="problem 7: the chat template opens every response with '<think>"):
        prompt_sample(prompt, "\\boxed{8}", processor)


@pytest.mark.parametrize(
    ("sections", "complaint"),
    [
        (
            {"data": {"max_tokens": 30000}, "training": {"max_tokens_per_microbatch": 20480}},
            "max_tokens_per_microbatch is 20480 and data.max_tokens is 30000",
        ),
        ({"training": {"steps": 5}}, "training.steps is 5 and epochs is 2"),
        (
            {"training": {"lr_search": {"window_steps": 5, "first_share": 0.5}}},
            "training.lr_search.first_share is 0.5 and last_share is 0.4",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(sections: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(complaint)):
        validate(_config(Path("unused"), **sections))


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / MODEL / "model.safetensors")


def _lines(folder: Path, *, timing: bool = False) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; without ``timing`` only what does not depend on the machine."""
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    of_the_machine = ("time/", "tokens/trained_per_s")
    return [{k: v for k, v in line.items() if timing or not k.startswith(of_the_machine)} for line in found]


def test_a_stage_ends_with_its_loss_its_true_time_and_a_page(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start_sft(_config(tiny_folder), tmp_path)
    lines = _lines(tmp_path, timing=True)
    assert all(line["time/step_s"] > 0 and line["tokens/trained_per_s"] > 0 for line in lines)
    # The speed is that of all steps so far, since there are fewer than 16.
    tokens, seconds = (sum(line[key] for line in lines) for key in ("tokens", "time/step_s"))
    assert lines[-1]["tokens/trained_per_s"] == pytest.approx(tokens / seconds)
    printed = capsys.readouterr()
    assert f"loss               {lines[0]['nll']:.3f} → {lines[-1]['nll']:.3f}" in printed.out
    assert str(tmp_path / MODEL) in printed.out
    assert all((tmp_path / name).is_file() for name in ("curve.png", "report.html"))
    stages = [line.partition("] ")[2] for line in printed.err.splitlines() if line.endswith(" ...")]
    rows = "turning 24 rows into tokens ..."
    assert stages == ["reading the rows ...", rows, "loading the model ...", "writing the model ..."]


def test_a_killed_stage_goes_on_bit_for_bit(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for folder in (whole, broken):
        folder.mkdir()
    start_sft(_config(tiny_folder, training={"schedule": "constant", "steps": 12}), whole)
    start_sft(_config(tiny_folder, training={"schedule": "constant", "steps": 8}), broken)
    # As if killed while it wrote the checkpoint of step 8: that one has no name yet, and there is no model.
    shutil.rmtree(broken / MODEL)
    half = broken / CHECKPOINTS / ".writing-checkpoint-8"
    (broken / CHECKPOINTS / "checkpoint-8").rename(half)
    start_sft(_config(tiny_folder, training={"schedule": "constant", "steps": 12}), broken)  # from step 5
    assert not half.exists()
    assert _lines(broken) == _lines(whole)
    assert [line["step"] for line in _lines(whole)] == list(range(1, 13))
    mine, theirs = _weights(broken), _weights(whole)
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    capsys.readouterr()
    start_sft(_config(tiny_folder), broken)
    assert "is finished" in capsys.readouterr().out


def test_a_checkpoint_of_other_rows_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    start_sft(_config(tiny_folder), tmp_path)
    (tmp_path / MODEL).rename(tmp_path / "old")
    fewer = {"train": {"generate": {"use": "sailrl.demo.additions:rows", "args": {"count": 20, "seed": 1}}}}
    with pytest.raises(CheckpointError, match=r"data\.train\.content: 24 rows, \w+ -> 20 rows"):
        start_sft(_config(tiny_folder, data=fewer), tmp_path)
    assert (tmp_path / CHECKPOINTS / "checkpoint-12" / STEPS.seal).is_file()


def test_a_checkpoint_of_the_trainer_before_is_refused_with_the_way_on(tiny_folder: Path, tmp_path: Path) -> None:
    old = tmp_path / CHECKPOINTS / "checkpoint-5"
    old.mkdir(parents=True)
    (old / "model.safetensors").write_bytes(b"weights")
    STEPS.write(old, {"metrics": {}, "identity": {}})
    with pytest.raises(CheckpointError, match=r"checkpoint-5 cannot be resumed: .*another version of sailrl.*run\.dir"):
        start_sft(_config(tiny_folder), tmp_path)


def test_the_rate_rises_and_then_falls_along_a_cosine(tiny_folder: Path, tmp_path: Path) -> None:
    start_sft(_config(tiny_folder), tmp_path)
    rates = [line["learning_rate"] for line in _lines(tmp_path)]
    # 2 of 12 steps rise from 0; then 1e-2 * (1 + cos(pi * i / 10)) / 2
    expected = [0.0, 5e-3, *(1e-2 * (1 + math.cos(math.pi * i / 10)) / 2 for i in range(10))]
    assert rates == pytest.approx(expected)


def test_adapters_are_trained_resumed_and_merged_into_plain_weights(tiny_folder: Path, tmp_path: Path) -> None:
    model = {"path": str(tiny_folder), "dtype": "float32", "lora": {"rank": 4, "alpha": 8}}
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for folder, steps in ((whole, 6), (broken, 5), (broken, 6)):
        training = {"schedule": "constant", "steps": steps}
        shutil.rmtree(folder / MODEL, ignore_errors=True)
        start_sft(_config(tiny_folder, model=model, training=training), folder)
    before, after, resumed = load_file(tiny_folder / "model.safetensors"), _weights(whole), _weights(broken)
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert "model.layers.0.self_attn.q_proj.weight" in changed
    assert not any("embed" in name or "norm" in name or "lm_head" in name for name in changed)
    assert all(torch.equal(after[name], resumed[name]) for name in after)
    assert (whole / "adapter" / "adapter_config.json").is_file()


def test_a_loss_that_is_not_a_number_stops_the_stage(tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(LearnerError, match=r"norm of update 2 is nan; .* not changed\. Lower training\.learning_rate"):
        start_sft(
            _config(tiny_folder, training={"learning_rate": 1e30, "grad_clip": 1e30, "warmup_steps": 0}), tmp_path
        )


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        ({"prompt": "1+1=?"}, "response: is missing"),
        ({"prompt": "1+1=?", "response": 2}, "response: is missing or no text"),
        ({"prompt": "1+1=?", "completion": "2"}, "completion: must be a list of one assistant message"),
        ({"prompt": "1+1=?", "completion": [{"role": "user", "content": "2"}]}, "one assistant message"),
        ({"prompt": "1+1=?", "completion": [{"role": "assistant", "content": [{"type": "image"}]}]}, "text parts"),
        ({"prompt": 3, "response": "2"}, "prompt: must be text"),
    ],
)
def test_a_row_that_cannot_be_imitated_names_line_and_rule(
    tiny_folder: Path, tmp_path: Path, row: dict[str, Any], rule: str
) -> None:
    file = _rows(tmp_path / "rows.jsonl", THOUGHT, row)
    with pytest.raises(DataError, match=f"rows.jsonl:2: .*{rule}"):
        load_imitations(_config(tiny_folder, file).data)
    loaded = load_imitations(_config(tiny_folder, file, data={"on_bad_row": "skip"}).data)
    assert len(loaded.rows) == 1
    assert len(loaded.bad_rows) == 1


def test_long_cot_preparation_normalises_drops_and_balances(tiny_folder: Path, tmp_path: Path) -> None:
    llava = {"prompt": "q. Please answer briefly.", "response": "<reasoning>a b c</reasoning><answer>7</answer>"}
    echo = {"prompt": "r", "response": "<think>the answer is 4</think>the answer is 4 \\boxed{4}"}
    bare = {"prompt": "s", "response": "just 4"}
    long = {"prompt": "t", "response": f"<think>{'so ' * 40}</think>\\boxed{{4}}"}
    file = _rows(tmp_path / "rows.jsonl", llava, echo, bare, long, {**long, "prompt": "u"}, {**long, "prompt": "v"})
    steps = {
        "tags": {"use": "data_filters.tags:NormaliseTags"},
        "redundancy": {"use": "data_filters.redundancy:Redundant", "args": {"threshold": 0.8}},
    }
    config = _config(tiny_folder, file, data={"steps": steps, "balance": {"use": "data_filters.length:BalanceLengths"}})
    loaded = load_imitations(config.data)
    assert loaded.rows[0].response == "<think>\na b c\n</think>\n\n\\boxed{7}"
    assert loaded.rows[0].problem.prompt == "q."
    assert loaded.dropped["tags"] == {"normalised": 5, "no_think": 1}
    assert loaded.dropped["redundancy"] == {"kept": 4, "redundant": 1}
    # 4 rows in 2 bins of length, 1 and 3: no bin keeps more than the mean, 2.
    assert loaded.dropped["balance"] == {"kept": 3, "cut": 1}


def test_nothing_left_is_an_explained_error(tiny_folder: Path, tmp_path: Path) -> None:
    file = _rows(tmp_path / "rows.jsonl", {"prompt": "s", "response": "just 4"})
    steps = {"tags": {"use": "data_filters.tags:NormaliseTags"}}
    with pytest.raises(DataError, match=r"no row is left to imitate .*no_think"):
        load_imitations(_config(tiny_folder, file, data={"steps": steps}).data)


def test_a_long_row_is_left_out_whole_or_refused(tiny_folder: Path, tmp_path: Path) -> None:
    file = _rows(tmp_path / "rows.jsonl", THOUGHT, DIRECT)
    start_sft(_config(tiny_folder, file, data={"max_tokens": 30}, training={"rows_per_step": 2}), tmp_path / "drop")
    assert _lines(tmp_path / "drop")[0]["tokens"] < 30
    with pytest.raises(DataError, match=r"has \d+ tokens.*data.max_tokens is 30"):
        start_sft(_config(tiny_folder, file, data={"max_tokens": 30, "on_long_prompt": "error"}), tmp_path / "error")


def test_images_are_learned_from(vlm_folder: Path, tmp_path: Path) -> None:
    source = {"generate": {"use": "sailrl.demo.pictures:rows", "args": {"count": 8, "seed": 1}}}
    config = _config(vlm_folder, data={"train": source}, training={"epochs": 1})
    start_sft(config, tmp_path)
    before, after = load_file(vlm_folder / "model.safetensors"), _weights(tmp_path)
    assert any(not torch.equal(before[name], after[name]) for name in before if ".visual." in name)
    assert len(_lines(tmp_path)) == 2


def test_the_warm_starts_rows_are_read_like_any_others() -> None:
    made = list(rows(2, seed=5))
    source = {"generate": {"use": "sailrl.demo.additions:rows", "args": {"count": 2, "seed": 5}}}
    config = _config(Path("unused"), data={"train": source})
    assert [row.response for row in load_imitations(config.data).rows] == [row["meta"]["response"] for row in made]


def test_a_response_that_is_a_chat_as_text_is_a_bad_row(tmp_path: Path) -> None:
    chat = json.dumps([{"role": "assistant", "content": "4"}])
    (tmp_path / "rows.jsonl").write_text(json.dumps({"prompt": "2+2?", "response": chat}) + "\n")
    with pytest.raises(DataError, match="response: is a chat that was written as text"):
        load_imitations(SftData(train=SourceConfig(path=str(tmp_path / "rows.jsonl"))))
