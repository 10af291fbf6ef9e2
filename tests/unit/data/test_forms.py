"""Data sets in the forms in which they are published load with at most one line of configuration each; the page on data
has a row for each form."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sailrl.config.base import Plugin
from sailrl.config.schema import SourceConfig
from sailrl.data.problems import ProblemReader
from sailrl.data.responses import imitated
from sailrl.errors import DataError

PAGE = Path(__file__).parents[3] / "docs" / "data.md"


def _png(size: int) -> bytes:
    out = io.BytesIO()
    Image.effect_noise((size, size), 50).save(out, "PNG")
    return out.getvalue()


PNG = _png(16)
BASE64 = base64.b64encode(PNG).decode()
URI = f"data:image/png;base64,{BASE64}"
STORED = {"bytes": PNG, "path": None}
HUMAN = {"from": "human", "value": "<image>\nRed?"}
USER = {"role": "user", "content": "<image>\nRed?"}
GPT = {"from": "gpt", "value": "yes"}
ASSISTANT = {"role": "assistant", "content": "yes"}
VERL = {
    "data_source": "geo", "prompt": [USER], "images": [STORED], "ability": "math",
    "reward_model": {"style": "rule", "ground_truth": "yes"}, "extra_info": {"split": "train", "index": 0},
}  # fmt: skip


def chat(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"prompt": [{"role": "user", "content": [*parts, {"type": "text", "text": "Red?"}]}], "answer": "yes"}


FORMS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "`prompt`, `answer`, `images` as paths": ({"prompt": "Red?", "answer": "yes", "images": ["a.png"]}, {}),
    "one picture in `image`": ({"prompt": "Red?", "answer": "yes", "image": "a.png"}, {}),
    "a picture as bytes": ({"prompt": "Red?", "answer": "yes", "image": PNG}, {}),
    "a picture as `{bytes, path}`, how `datasets` stores it": ({"prompt": "?", "answer": "yes", "image": STORED}, {}),
    "a picture in base64": ({"prompt": "Red?", "answer": "yes", "image": BASE64}, {}),
    "a picture as a data URI": ({"prompt": "Red?", "answer": "yes", "images": [URI]}, {}),
    "pictures listed in a text (tables)": ({"prompt": "Red?", "answer": "yes", "image": "['a.png']"}, {}),
    "a picture of PIL (generators)": ({"prompt": "?", "answer": "yes", "images": [Image.new("RGB", (9, 9))]}, {}),
    "parts of transformers and Qwen": (chat({"type": "image", "image": "file://a.png"}), {}),
    "parts with `url`, `path` or `base64`": (chat({"type": "image", "base64": BASE64}), {}),
    "parts of OpenAI": (chat({"type": "image_url", "image_url": {"url": URI, "detail": "high"}}), {}),
    "a chat without marks (TRL, ms-swift)": (
        {"prompt": [{"role": "user", "content": "Red?"}], "answer": "yes", "images": ["a.png"]}, {}),
    "TRL: `prompt` of messages, `solution`": (
        {"prompt": [USER], "images": [STORED], "solution": "yes"}, {"answer_field": "solution"}),
    "TRL: `prompt` and `completion`": ({"prompt": [USER], "completion": [ASSISTANT], "images": [STORED]}, {}),
    "`messages` that end with the response (SFT)": ({"messages": [USER, ASSISTANT], "images": ["a.png"]}, {}),
    "`messages` and `solution` (ms-swift)": (
        {"messages": [USER], "images": ["a.png"], "solution": "yes"}, {"answer_field": "solution"}),
    "ShareGPT: `conversations` (LLaVA)": ({"id": "1", "image": "a.png", "conversations": [HUMAN, GPT]}, {}),
    "ShareGPT whose last word is the answer (RL)": (
        {"image": "a.png", "conversations": [HUMAN, GPT]}, {"answer_field": "response"}),
    "ShareGPT as text, from a table": (
        {"image": "a.png", "conversations": json.dumps([HUMAN, GPT])}, {}),
    "Alpaca: `instruction`, `input`, `output`": (
        {"instruction": "Is this red?", "input": "A rose.", "output": "yes", "images": ["a.png"]}, {}),
    "verl": (VERL, {"answer_field": "reward_model.ground_truth"}),
    "EasyR1 and Geometry3K (hiyouga/geometry3k)": ({"images": [STORED], "problem": "<image>Red?", "answer": "yes"}, {}),
    "MMK12 (FanqingM/MMK12)": (
        {"id": "k12-1", "question": "<image>Red?", "answer": "yes", "subject": "art", "image": STORED}, {}),
    "R1-V (leonardPKU/clevr_cogen_a_train)": (
        {"image": STORED, "problem": "Red?", "solution": "<answer> yes </answer>"}, {"answer_field": "solution"}),
    "MathVista (AI4Math/MathVista)": (
        {"pid": "1", "query": "Red?", "decoded_image": STORED, "answer": "yes"}, {"images_field": "decoded_image"}),
    "ARC: `choices` with texts and labels": (
        {"question": "Red?", "choices": {"text": ["yes", "no"], "label": ["A", "B"]}, "answer": "A", "image": PNG}, {}),
    "options in columns of a table (VLMEvalKit)": (
        {"question": "Red?", "A": "yes", "B": "no", "answer": "A", "image": BASE64}, {"choices_field": ["A", "B"]}),
    "OpenRLHF: `input`, `label`": (
        {"prompt": "Red?", "label": "yes", "images": ["a.png"]}, {"answer_field": "label"}),
    "a column of another meaning": (
        {"prompt": "Red?", "answer": "yes", "images": ["a.png"], "task": 7}, {"ignore": ["task"]}),
}  # fmt: skip


def one_row(row: dict[str, Any]) -> list[dict[str, Any]]:
    return [row]


def read(folder: Path, row: dict[str, Any], **settings: Any) -> ProblemReader:
    Image.new("RGB", (9, 9)).save(folder / "a.png")
    source = SourceConfig(generate=Plugin(use=f"{__file__}:one_row", args={"row": row}), **settings)
    return ProblemReader(source, "data.train", base_dir=folder)


@pytest.mark.parametrize("form", FORMS)
def test_a_published_form_needs_at_most_one_line(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    row, settings = FORMS[form]
    assert len(settings) <= 1
    reader = read(tmp_path, row, **settings)
    ((mapped, problem),) = list(reader)
    reader.check("error")
    assert len(problem.images) == 1
    texts = problem.prompt if isinstance(problem.prompt, str) else json.dumps(problem.prompt)
    assert "?" in texts
    said = problem.answer if problem.answer is not None else imitated(mapped)
    assert said in ("yes", "A", "<answer> yes </answer>")


def test_the_page_on_data_has_a_row_for_each_form() -> None:
    page = PAGE.read_text()
    assert [form for form in FORMS if f"| {form} |" not in page] == []
    assert len(FORMS) >= 20


# --- what is not taken ------------------------------------------------------------------------------------------------


def test_two_questions_are_not_guessed_between(tmp_path: Path) -> None:
    reader = read(tmp_path, {"question": "1+1?", "query": "Please: 1+1?", "answer": "2"})
    assert list(reader) == []
    with pytest.raises(DataError, match=r"Write data\.train\.prompt_field: question"):
        reader.check("error")


def test_a_named_column_comes_before_what_would_be_found(tmp_path: Path) -> None:
    ((_, problem),) = list(read(tmp_path, {"question": "1+1?", "task_text": "2+2?"}, prompt_field="task_text"))
    assert problem.prompt == "2+2?"
    ((_, problem),) = list(read(tmp_path, {"prompt": "1+1?", "question": "2+2?"}))
    assert problem.prompt == "1+1?"


def test_pictures_beside_an_image_column_are_not_guessed_between(tmp_path: Path) -> None:
    reader = read(tmp_path, {"prompt": "?", "answer": "1", "image": "a.png", "decoded_image": STORED})
    list(reader)
    with pytest.raises(DataError, match=r"images_field: decoded_image and data\.train\.ignore: \[image\]"):
        reader.check("error")


def test_a_response_that_a_row_has_is_not_replaced_by_the_end_of_its_chat(tmp_path: Path) -> None:
    ((row, problem),) = list(read(tmp_path, {"messages": [USER, ASSISTANT], "response": "no", "image": "a.png"}))
    assert row["response"] == "no"
    assert len(problem.prompt) == 1


def test_all_turns_before_the_last_stay_in_the_prompt(tmp_path: Path) -> None:
    turns = [("system", "Be brief."), ("human", "1+1?"), ("gpt", "2"), ("human", "2+2?"), ("gpt", "4")]
    chat = [{"from": sender, "value": text} for sender, text in turns]
    ((row, problem),) = list(read(tmp_path, {"conversations": chat}))
    assert not isinstance(problem.prompt, str)
    assert [message["role"] for message in problem.prompt] == ["system", "user", "assistant", "user"]
    assert row["response"] == "4"


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (BASE64[:-3] + "!", "in base64 that is cut or damaged"),
        ("data:image/png,abc", "no data URI of the form"),
        ("data:image/png;base64,@", "no base64 behind its comma"),
        ("x" * 5000, "a text of 5,000 characters, and no picture in base64"),
        ("https://x/a.png", "is an address"),
        ({"bytes": None, "path": None}, "this is null"),
        ("b.png", "there is no file"),
    ],
)
def test_a_picture_in_no_known_form_is_refused(tmp_path: Path, image: Any, says: str) -> None:
    reader = read(tmp_path, {"prompt": "?", "images": [image]})
    list(reader)
    assert says in str(reader.bad_rows[0])
    assert len(str(reader.bad_rows[0])) < 400


def test_a_row_that_is_written_out_has_its_pictures_once(tmp_path: Path) -> None:
    ((row, _),) = list(read(tmp_path, {"question": "?", "image": "a.png"}))
    assert set(row) == {"prompt", "images"}
    ((row, _),) = list(read(tmp_path, {"prompt": "?", "img": "a.png"}, images_field="img"))
    assert set(row) == {"prompt", "images"}


def test_what_was_read_from_which_column_is_said_with_the_rows(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    rows = [{"question": "1?", "gt": "1", "level": 2}, {"prompt": "2?", "gt": "2"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    loaded = ProblemReader(SourceConfig(path=str(path), answer_field="gt"), "data.train")
    assert len(list(loaded)) == 2
    assert loaded.columns.read() == "`answer` is `gt`, `prompt` is `question` in 1 of 2 rows"
    assert loaded.notes() == ["data.train: nothing reads the column `level`."]
