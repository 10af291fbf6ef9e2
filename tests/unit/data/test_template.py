"""From problem to prompt: one chat-template call, and what it has already written of the response."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sailrl.config.schema import SAIL_INSTRUCTION, DataConfig
from sailrl.data.images import ImageStore
from sailrl.data.processor import Processor
from sailrl.data.template import Template
from sailrl.errors import DataError
from sailrl.types import Problem

OPENS_THINK = "{{ '<think>\n' }}"


@pytest.fixture
def processor(tiny_folder: Path) -> Processor:
    return Processor(tiny_folder)


def _template(processor: Processor, tmp_path: Path, **data: Any) -> Template:
    settings = {"train": {"path": "unused.jsonl"}, "instruction": "", "max_prompt_tokens": 64} | data
    return Template(processor, ImageStore(tmp_path), DataConfig.model_validate(settings))


def _text(processor: Processor, ids: Any) -> str:
    return str(processor.tokenizer.decode(ids))


def test_a_plain_prompt_is_the_users_turn(processor: Processor, tmp_path: Path) -> None:
    prompt = _template(processor, tmp_path).render(Problem(prompt="1+1=?", id="p"))
    assert _text(processor, prompt.token_ids) == "<|im_start|>user\n1+1=?<|im_end|>\n<|im_start|>assistant\n"
    assert (prompt.engine_ids, prompt.images) == (prompt.token_ids, ())
    assert prompt.problem.id == "p"


def test_the_instruction_follows_the_question_after_a_line_break(processor: Processor, tmp_path: Path) -> None:
    prompt = _template(processor, tmp_path, instruction="Box it.").render(Problem(prompt="1+1=?"))
    assert "user\n1+1=?\nBox it.<|im_end|>" in _text(processor, prompt.token_ids)


def test_the_instruction_is_sails_unless_told_otherwise() -> None:
    assert DataConfig.model_validate({"train": {"path": "x"}}).instruction == SAIL_INSTRUCTION


def test_a_system_prompt_comes_first(processor: Processor, tmp_path: Path) -> None:
    prompt = _template(processor, tmp_path, system_prompt="Be brief.").render(Problem(prompt="1+1=?"))
    assert _text(processor, prompt.token_ids).startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user")


def test_chat_messages_stay_as_they_are_and_the_last_gets_the_instruction(processor: Processor, tmp_path: Path) -> None:
    chat: list[dict[str, Any]] = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": [{"type": "text", "text": "1+1=?"}]},
    ]
    prompt = _template(processor, tmp_path, instruction="Box it.").render(Problem(prompt=chat))
    assert _text(processor, prompt.token_ids) == (
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n"
        "<|im_start|>user\n1+1=?\nBox it.<|im_end|>\n<|im_start|>assistant\n"
    )
    assert chat[2]["content"] == [{"type": "text", "text": "1+1=?"}]  # the problem itself is left alone


def test_a_template_that_opens_the_thinking_tells_the_rewards(processor: Processor, tmp_path: Path) -> None:
    """The response then holds </think> only, and a format check that does not know scores every one of them 0."""
    processor.tokenizer.chat_template += "{%- if add_generation_prompt -%}" + OPENS_THINK + "{%- endif -%}"
    prompt = _template(processor, tmp_path).render(Problem(prompt="1+1=?"))
    assert _text(processor, prompt.token_ids).endswith("assistant\n<think>\n")
    assert prompt.problem.response_prefix == "<think>\n"


def test_a_question_about_the_tag_is_no_opened_thinking(processor: Processor, tmp_path: Path) -> None:
    prompt = _template(processor, tmp_path).render(Problem(prompt="What does <think> mean?"))
    assert prompt.problem.response_prefix == ""


def test_a_problems_own_prefix_is_written_once(processor: Processor, tmp_path: Path) -> None:
    problem = Problem(prompt="1+1=?", response_prefix="<think>\n")
    added = _template(processor, tmp_path).render(problem)
    assert _text(processor, added.token_ids).endswith("assistant\n<think>\n")
    processor.tokenizer.chat_template += OPENS_THINK
    there = _template(processor, tmp_path).render(problem)
    assert there.token_ids == added.token_ids
    assert there.problem.response_prefix == added.problem.response_prefix == "<think>\n"


def test_prompts_of_exactly_the_limit_fit_and_longer_ones_are_set_aside(processor: Processor, tmp_path: Path) -> None:
    short, long = Problem(prompt="1+1=?", id="short"), Problem(prompt="1+1+1=?", id="long")
    limit = len(_template(processor, tmp_path).render(short).token_ids)
    rendered = _template(processor, tmp_path, max_prompt_tokens=limit).render_all([long, short, long])
    assert [prompt.problem.id for prompt in rendered.prompts] == ["short"]
    assert [problem.id for problem in rendered.too_long] == ["long", "long"]


def test_a_long_prompt_is_an_error_with_both_numbers_where_configured(processor: Processor, tmp_path: Path) -> None:
    long = Problem(prompt="1+1+1=?", id="f.jsonl:3")
    tokens = len(_template(processor, tmp_path).render(long).token_ids)
    template = _template(processor, tmp_path, max_prompt_tokens=tokens - 1, on_long_prompt="error")
    message = rf"problem f\.jsonl:3 has {tokens} tokens, data\.max_prompt_tokens is {tokens - 1}\b"
    with pytest.raises(DataError, match=message):
        template.render_all([long])


def test_when_no_prompt_fits_the_run_cannot_start(processor: Processor, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none of 2 problems .*max_prompt_tokens = 3 "):
        _template(processor, tmp_path, max_prompt_tokens=3).render_all([Problem(prompt="1"), Problem(prompt="2")])


def test_images_for_a_text_model_are_refused(processor: Processor, tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (28, 28)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"problem p has 1 images, and this model takes none\. .*vision-language model"):
        _template(processor, tmp_path / "store").render(
            Problem(prompt=[{"role": "user", "content": "?"}], id="p", images=[str(tmp_path / "a.png")])
        )


def test_the_length_of_an_instruction_is_said(processor: Processor, tmp_path: Path) -> None:
    problem = Problem(prompt="1+1=?", id="p")
    with_it, without = (_template(processor, tmp_path, instruction=text).render(problem) for text in ("Box it.", ""))
    added = len(with_it.token_ids) - len(without.token_ids)
    assert added > 0
    note = _template(processor, tmp_path, instruction="Box it.").instruction_note(problem)
    assert note == f"data.instruction adds {added} tokens to each prompt: 'Box it.'"
    assert _template(processor, tmp_path, instruction="x" * 99).instruction_note(problem).endswith("xxx...'")
