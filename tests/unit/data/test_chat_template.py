"""Chat templates: what a template leaves out is noticed, and what it lacks is one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from transformers import AutoTokenizer

from sailrl.config.schema import DataConfig, ModelConfig
from sailrl.data.chat_template import ChatTemplate, read_template
from sailrl.data.images import ImageStore
from sailrl.data.processor import Processor, load_processor
from sailrl.data.template import Template
from sailrl.errors import ConfigError, DataError
from sailrl.types import Problem

START, END = "<|im_start|>", "<|im_end|>"
OPEN = "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}"
TURN = "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
PLAIN = "{%- for m in messages -%}" + TURN + "{%- endfor -%}" + OPEN
QWEN3 = (  # what is no string becomes nothing
    "{%- for m in messages -%}{%- if m.content is string -%}{%- set c = m.content -%}{%- else -%}{%- set c = '' -%}"
    "{%- endif -%}{{ '<|im_start|>' + m.role + '\n' + c + '<|im_end|>\n' }}{%- endfor -%}" + OPEN
)
NO_SYSTEM = "{%- for m in messages -%}{%- if m.role != 'system' -%}" + TURN + "{%- endif -%}{%- endfor -%}" + OPEN
GEMMA = "{%- if messages[0].role == 'system' -%}{{ raise_exception('System role not supported') }}{%- endif -%}" + PLAIN
LAST_ONLY = "{%- for m in messages[-1:] -%}" + TURN + "{%- endfor -%}" + OPEN
THOUGHTS_CUT = (
    "{%- for m in messages -%}{{ '<|im_start|>' + m.role + '\n' + m.content.split('</think>')[-1] + '<|im_end|>\n' }}"
    "{%- endfor -%}" + OPEN
)
TRIMMED = "{%- for m in messages -%}{{ m.role + ': ' + m.content | trim }}\n{% endfor -%}" + OPEN
MISTRAL = (
    "{%- for m in messages -%}{{ '[INST] ' + m.content + ' [/INST]' if m.role == 'user' else m.content }}{%- endfor -%}"
)
THINKING = PLAIN + "{%- if enable_thinking is defined and not enable_thinking -%}{{ '<think></think>' }}{%- endif -%}"


@pytest.fixture(scope="module")
def tokenizer(tiny_folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_folder)


def chat(tokenizer: Any, template: str | None, **options: Any) -> ChatTemplate:
    tokenizer.chat_template = template
    settings: dict[str, Any] = {"args": {}, "only_text": True} | options
    return ChatTemplate(tokenizer, "a-model", **settings)


def ask(*turns: tuple[str, Any]) -> list[dict[str, Any]]:
    return [{"role": role, "content": content} for role, content in turns]


PARTS = [{"type": "text", "text": "0+0"}, {"type": "text", "text": "=?"}]


def test_parts_of_text_become_one_text_for_a_model_of_text(tokenizer: Any) -> None:
    assert f"user\n0+0=?{END}" in chat(tokenizer, QWEN3).render(ask(("user", PARTS)), "p")
    # Negative control: given the parts themselves, this template leaves the question out.
    with pytest.raises(DataError, match=r"problem p: .* of a-model leaves out the text '0\+0' of the user"):
        chat(tokenizer, QWEN3, only_text=False).render(ask(("user", PARTS)), "p")


@pytest.mark.parametrize(
    ("template", "turns", "lost"),
    [
        (NO_SYSTEM, [("system", "Be brief."), ("user", "1+1?")], "Be brief."),
        (LAST_ONLY, [("user", "My name is Ann."), ("assistant", "Hello."), ("user", "Who am I?")], "My name is Ann."),
        (THOUGHTS_CUT, [("user", "Explain </think> in a template.")], "Explain </think> in a template."),
    ],
)
def test_a_text_that_a_template_leaves_out_is_an_error(
    tokenizer: Any, template: str, turns: list[tuple[str, Any]], lost: str
) -> None:
    with pytest.raises(DataError, match="leaves out the text") as error:
        chat(tokenizer, template).render(ask(*turns), "p")
    assert repr(lost) in str(error.value)


@pytest.mark.parametrize(
    ("template", "turns"),
    [
        (TRIMMED, [("user", "  1 + 1?\n\n")]),
        (THOUGHTS_CUT, [("user", "1+1?"), ("assistant", "<think>1 and 1</think>2"), ("user", "sure?")]),
        (MISTRAL, [("user", "1+1?"), ("assistant", "2"), ("user", "sure?")]),
        (PLAIN, [("user", "tabs\tand\nbreaks  stay")]),
    ],
)
def test_white_space_and_earlier_thoughts_may_be_left_out(
    tokenizer: Any, template: str, turns: list[tuple[str, Any]]
) -> None:
    chat(tokenizer, template).render(ask(*turns), "p")


@pytest.mark.parametrize(
    ("template", "options", "says"),
    [
        (None, {}, "the model a-model has no chat template.*data.chat_template: FILE.jinja, or .*: plain"),
        ("{% for m in messages %}", {}, "the chat template of a-model cannot be rendered"),
        ("{{ raise_exception('no') }}", {}, "the chat template of a-model cannot be rendered: no"),
        (PLAIN.replace(OPEN, ""), {}, r"has no generation prompt: it writes '<\|im_start\|>assistant\\n' in front"),
        (
            GEMMA,
            {"system": True},
            r"data.system_prompt is set, .* no system role \(says: System role not supported\)",
        ),
        (NO_SYSTEM, {"system": True}, r"has no system role \(leaves it out\)"),
        (PLAIN, {"args": {"enable_thinkin": False}}, "does not read 'enable_thinkin', so it would change nothing"),
        (PLAIN, {"args": {"add_generation_prompt": False}}, "add_generation_prompt is set by sailrl itself"),
    ],
)
def test_what_a_template_lacks_is_one_sentence(
    tokenizer: Any, template: str | None, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        chat(tokenizer, template, **options)


@pytest.mark.parametrize("template", [MISTRAL, GEMMA, PLAIN, THINKING])
def test_a_template_that_lacks_nothing_is_taken(tokenizer: Any, template: str) -> None:
    chat(tokenizer, template)


def test_messages_that_a_template_refuses_are_a_bad_row(tokenizer: Any) -> None:
    with pytest.raises(DataError, match="problem p: the chat template refuses its messages: System role not supported"):
        chat(tokenizer, GEMMA).render(ask(("system", "x"), ("user", "y")), "p")


def test_arguments_reach_the_template(tokenizer: Any) -> None:
    question = ask(("user", "1+1?"))
    assert chat(tokenizer, THINKING).render(question, "p").endswith("assistant\n")
    off = chat(tokenizer, THINKING, args={"enable_thinking": False})
    assert off.render(question, "p").endswith("<think></think>")


# --- through the configuration -------------------------------------------------------------------------------------


def prompts(folder: Path, store: Path, **data: Any) -> Template:
    config = DataConfig.model_validate({"train": {"path": "x"}, "instruction": "", **data})
    processor = load_processor(ModelConfig(path=str(folder)), config, str(folder))
    return Template(processor, ImageStore(store), config)


def test_a_template_of_the_configuration_takes_the_place_of_the_models_own(tiny_folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.jinja"
    file.write_text(MISTRAL)
    problem = Problem(prompt="1+1?", id="p")
    template = prompts(tiny_folder, tmp_path, chat_template=str(file))
    assert template.text(problem) == "[INST] 1+1? [/INST]"
    assert prompts(tiny_folder, tmp_path).text(problem) == f"{START}user\n1+1?{END}\n{START}assistant\n"


def test_plain_prompts_are_the_texts_and_nothing_else(tiny_folder: Path, vlm_folder: Path, tmp_path: Path) -> None:
    template = prompts(tiny_folder, tmp_path, chat_template="plain")
    assert template.text(Problem(prompt="The capital of France is", id="p")) == "The capital of France is"
    shots = ask(("user", "1+1="), ("assistant", "2\n"), ("user", "1+2="))
    assert template.text(Problem(prompt=shots, id="p")) == "1+1=2\n1+2="
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    with_image = Problem(prompt="<image>What is it?", images=(str(tmp_path / "a.png"),), id="p")
    with pytest.raises(DataError, match="plain prompts have no images"):
        prompts(vlm_folder, tmp_path, chat_template="plain").text(with_image)


def test_a_plain_response_ends_where_the_models_own_files_end_it(tiny_folder: Path) -> None:
    processor = Processor(tiny_folder, chat_template=read_template("plain"))
    assert processor.end_id == processor.tokenizer.eos_token_id
    assert processor.tokenizer.eos_token_id in processor.stop_ids


def test_a_model_that_is_saved_has_the_template_that_it_was_trained_with(
    tiny_folder: Path, vlm_folder: Path, tmp_path: Path
) -> None:
    for folder in (tiny_folder, vlm_folder):
        out = tmp_path / folder.name
        Processor(folder, chat_template=THINKING).save(out)
        (out / "config.json").write_bytes((folder / "config.json").read_bytes())
        assert (
            Processor(out, template_args={"enable_thinking": False})
            .chat.render(ask(("user", "a")), "p")
            .endswith("<think></think>")
        )


def test_a_template_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data.chat_template: cannot read .*none.jinja"):
        read_template(str(tmp_path / "none.jinja"))


@pytest.mark.parametrize("text", [f"{START}user\n1+1?{END}\n{START}assistant\n", f"Stop at {END}."])
def test_a_text_with_marks_of_turns_is_refused(tiny_folder: Path, tmp_path: Path, text: str) -> None:
    with pytest.raises(DataError, match=r"a text contains `<\|im_(start|end)\|>`, which the chat template writes"):
        prompts(tiny_folder, tmp_path).text(Problem(prompt=text, id="p"))
