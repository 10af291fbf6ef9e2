"""``sailrl check --data``: broken rows are caught before a run, and each is named."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

from sailrl.commands.check import check_job
from sailrl.commands.check_data import DataReport, Viewer, check_problems, summary
from sailrl.config.schema import DataConfig
from sailrl.data.alignment import View
from sailrl.data.processor import Processor
from sailrl.data.reference import Reference
from sailrl.errors import ConfigError
from sailrl.types import Problem, Prompt
from tests.fakes.shapes import write_config

CONFIGS = Path(__file__).parents[3] / "configs"


def _png(side: int = 84) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((side, side), 90).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def processor(vlm_folder: Path) -> Processor:
    return Processor(vlm_folder)


@pytest.fixture(scope="module")
def reference(vlm_folder: Path, processor: Processor) -> Reference:
    return Reference(vlm_folder, processor)


def _learner(reference: Reference) -> Viewer:
    return lambda _, prompt, images: reference.learner(prompt.token_ids, images)


def _transformers(reference: Reference) -> Viewer:
    return lambda text, _, images: reference.transformers(text, images)


def _report(
    processor: Processor, viewers: Sequence[Viewer], *problems: Problem, most_images: int = 8, **data: Any
) -> DataReport:
    settings = DataConfig.model_validate({"train": {"path": "x"}, "instruction": "", "max_prompt_tokens": 200} | data)
    *_, report = check_problems(problems, processor, settings, viewers, most_images=most_images)
    return report


GOOD = Problem(prompt="<image>a<image>b", id="good", images=[_png(), _png(56)], meta={"response": "<think>1</think>"})


def test_whole_rows_pass_and_are_counted(processor: Processor, reference: Reference) -> None:
    """84 x 84 pixels are 9 tokens, 56 x 56 are 4."""
    viewers = [_learner(reference), _transformers(reference)]
    report = _report(processor, viewers, GOOD, Problem(prompt="text", id="t"), Problem(prompt="?", images=[_png(280)]))
    assert (report.rows, report.misaligned, report.unusable, report.too_long) == (3, [], [], [])
    assert report.image_tokens == [9, 4, 100]
    shown = summary("data.train", report, 200)
    assert "data.train: 3 problems checked, 0 misaligned, 0 unusable, 0 longer" in shown
    assert "tokens per image   min 4, median 9, max 100, 3 images" in shown


def test_positions_are_compared_too(processor: Processor, reference: Reference) -> None:
    def shifted(text: str, prompt: Prompt, images: Sequence[Any]) -> View:
        view = reference.transformers(text, images)
        assert view.positions is not None
        rows = [list(row) for row in view.positions]
        rows[1][20] += 1
        return View("another engine", view.ids, view.counts, rows)

    report = _report(processor, [_learner(reference), shifted], GOOD)
    assert len(report.misaligned) == 1
    assert "problem good: positions: position 20 of" in report.misaligned[0]
    assert "on axis 1 (the learner, another engine)" in report.misaligned[0]


def test_every_broken_row_of_the_set_is_caught_and_named(
    processor: Processor, reference: Reference, vlm_folder: Path
) -> None:
    mark = "<|vision_start|><|image_pad|><|vision_end|>"
    broken = {
        "expanded before": Problem(
            prompt="<image>" + mark.replace("<|image_pad|>", "<|image_pad|>" * 9), images=[_png()]
        ),
        "sampled": Problem(prompt="?", images=[_png()], meta={"response": "I see <|image_pad|>"}),
        "cut file": Problem(prompt="?", images=[_png()[:2000]]),
        "too many": Problem(prompt="?", images=[_png()] * 3),
        "long": Problem(prompt="?", images=[_png(420)]),
    }
    rows = [Problem(p.prompt, id=name, images=p.images, meta=p.meta) for name, p in broken.items()]
    viewers = [_learner(reference), _transformers(reference)]
    report = _report(processor, viewers, *rows, GOOD, most_images=2)
    assert [row.split(":")[0] for row in report.unusable] == [
        "problem expanded before",
        "problem cut file",
        report.unusable[2],
    ]
    assert report.unusable[2].startswith("problem too many has 3 images, the engine takes 2 per prompt.")
    assert "a text contains `<|image_pad|>`" in report.unusable[0]
    assert "images[0]: image of 2000 bytes is corrupt or cut short" in report.unusable[1]
    (sampled,) = report.misaligned
    assert sampled.startswith("problem sampled: sampled placeholder: token ")
    (long,) = report.too_long
    assert long.startswith("problem long: 2")  # 15 x 15 = 225 tokens and a few of text, 200 are allowed


def test_an_engine_with_another_pixel_budget_is_caught(
    processor: Processor, reference: Reference, vlm_folder: Path
) -> None:
    other = Reference(vlm_folder, Processor(vlm_folder, pixel_limits={"max_pixels": 4 * 28 * 28}))
    report = _report(processor, [_learner(reference), _transformers(other)], GOOD)
    assert report.misaligned == [
        "problem good: counts: tokens per image are [9, 4] for the learner, [4, 4] for transformers"
    ]


def test_a_prompt_that_was_expanded_twice_or_cut_is_caught(processor: Processor, reference: Reference) -> None:
    def twice(_: str, prompt: Prompt, images: Sequence[Any]) -> View:
        ids = [i for t in prompt.token_ids for i in ([t] * 9 if t == processor.image_id else [t])]
        return View("another engine", ids, [81, 36])

    def cut(_: str, prompt: Prompt, images: Sequence[Any]) -> View:
        return View("another engine", prompt.token_ids[:10], [9, 4])

    for viewer, kind in ((twice, "counts"), (cut, "ids")):
        report = _report(processor, [_learner(reference), viewer], GOOD)
        assert [row.split(": ")[1] for row in report.misaligned] == [kind]


def test_a_row_that_an_engine_refuses_is_a_finding_not_a_crash(processor: Processor, reference: Reference) -> None:
    def refusing(*_: Any) -> View:
        raise ValueError("no such thing")

    report = _report(processor, [_learner(reference), refusing], GOOD, GOOD)
    assert report.misaligned == ["problem good: refused with ValueError: no such thing"] * 2


def test_nothing_of_the_check_stays_on_the_disk(
    processor: Processor, reference: Reference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    _report(processor, [_learner(reference)], *([GOOD] * 3))
    assert list(tmp_path.iterdir()) == []


# --- the command ----------------------------------------------------------------------------------------------------


@pytest.fixture
def config(tmp_path: Path, vlm_folder: Path) -> Path:
    """A configuration whose model has no weights, as for a large one that nobody has downloaded yet."""
    model = tmp_path / "model"
    model.mkdir()
    for file in vlm_folder.iterdir():
        if file.suffix != ".safetensors":
            (model / file.name).write_bytes(file.read_bytes())
    (tmp_path / "a.png").write_bytes(_png())
    (tmp_path / "cut.png").write_bytes(_png()[:2000])
    rows = [{"prompt": "<image>?", "answer": "1", "images": [name]} for name in ("a.png", "cut.png")]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = tmp_path / "c.yaml"
    path.write_text(
        f"kind: rlvr\nmodel: {{path: {model}, dtype: float32}}\n"
        f"data: {{train: {{path: {tmp_path}/rows.jsonl}}, max_pixels: 3136, max_prompt_tokens: 1024}}\n"
        "rewards: {parts: {boxed: {use: 'rewards.boxed:BoxedAnswer', weight: 1.0}}}\n"
    )
    return path


def _checked(config: Path, *overrides: str) -> tuple[str, str]:
    console = Console(width=120, record=True, file=io.StringIO())
    try:
        check_job(config, overrides, console, with_data=True)
    except ConfigError as error:
        return console.export_text(), str(error)
    return console.export_text(), ""


@pytest.mark.slow
def test_the_command_compares_with_vllm_and_needs_no_weights(config: Path) -> None:
    pytest.importorskip("vllm")
    printed, error = _checked(config)
    assert "data.train: 1 rows cannot become a prompt" in error
    assert "rows.jsonl:2: images[0]: image " in printed
    printed, error = _checked(config, "data.on_bad_row=skip")
    assert "cannot become a prompt" not in error
    assert "has no *.safetensors" in error  # a run would need them
    assert "data.train: 2 problems checked, 0 misaligned, 1 unusable, 0 longer" in printed
    assert "tokens per image   min 4, median 4, max 4, 1 images" in printed  # 3136 pixels are 2 x 2 tokens
    assert "  the prompt of problem rows.jsonl:1, " in printed
    assert (
        " tokens, an image of 84 x 84 pixels:\n    | <|im_start|>user\n    | <|vision_start|><|image_pad|>" in printed
    )
    assert "data.instruction adds 181 tokens to each prompt: 'You FIRST think" in printed
    assert "vLLM is not installed" not in printed


@pytest.fixture
def large_model(tmp_path: Path, vlm_folder: Path) -> Path:
    """What is there of an 8B Qwen3-VL before its weights are: its config and pixel limits, and small words."""
    folder = write_config("8b", tmp_path / "8b")
    for file in vlm_folder.iterdir():
        if file.name != "config.json" and file.suffix != ".safetensors":
            (folder / file.name).write_bytes(file.read_bytes())
    small = json.loads((vlm_folder / "config.json").read_text())
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {key: small[key] for key in small if "token_id" in key}))
    processor = json.loads((folder / "processor_config.json").read_text())
    processor["image_processor"] |= {"patch_size": 16, "size": {"shortest_edge": 65536, "longest_edge": 16777216}}
    (folder / "processor_config.json").write_text(json.dumps(processor))
    return folder


@pytest.mark.slow
def test_the_8b_recipe_counts_the_tokens_of_its_images_before_any_weights_are_there(
    tmp_path: Path, large_model: Path
) -> None:
    """A token covers 32 x 32 pixels: 640 x 480 are 20 x 15, 4000 x 3000 become 125 x 94, and 84 x 84 the least, 64."""
    pytest.importorskip("vllm")
    rows = []
    for name, sizes in {
        "photo": [(640, 480)],
        "tiny": [(84, 84)],
        "two large ones": [(4000, 3000)] * 2,
        "a line": [(30, 6001)],
    }.items():
        images = [f"{width}.png" for width, _ in sizes]
        for size, image in zip(sizes, images, strict=True):
            Image.new("RGB", size, "gray").save(tmp_path / image)
        rows.append({"id": name, "prompt": "<image>" * len(sizes) + "What is shown?", "answer": "3", "images": images})
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "eval.jsonl").write_text(json.dumps(rows[0]) + "\n")
    data = [f"data.train.path={tmp_path}/rows.jsonl", f"data.eval.path={tmp_path}/eval.jsonl"]
    printed, error = _checked(CONFIGS / "rlvr_8b.yaml", f"model.path={large_model}", *data)
    assert "data.train: 4 problems checked, 0 misaligned, 1 unusable, 1 longer than data.max_prompt_tokens" in printed
    assert "tokens per image   min 64, median 6,025, max 11,750, 4 images" in printed  # (300 + 11,750) / 2 = 6,025
    assert "problem rows.jsonl:4: images[0]: image " in printed
    assert "problem rows.jsonl:3: 23," in printed  # 2 x 11,750 and some of text; 16,384 are allowed
    assert "data.eval: 1 problems checked, 0 misaligned, 0 unusable, 0 longer" in printed
    assert "data.train: 1 rows cannot become a prompt" in error
    assert "has no *.safetensors" in error


@pytest.mark.parametrize("kind", ["sft", "eval"])
def test_every_kind_of_job_shows_a_prompt(tmp_path: Path, tiny_folder: Path, kind: str) -> None:
    (tmp_path / "rows.jsonl").write_text('{"prompt": "1+1\\u001b[2J?", "answer": "2", "response": "2"}\n')
    source = f"{{path: {tmp_path}/rows.jsonl}}"
    sections = {
        "sft": f"model: {{path: {tiny_folder}}}\ndata: {{train: {source}, instruction: Think.}}\n",
        "eval": f"models: {{a: {{path: {tiny_folder}}}}}\ndata: {{problems: {source}, instruction: Think., "
        "max_prompt_tokens: 100}\nrollout: {max_response_tokens: 10}\n"
        "rewards: {parts: {boxed: {use: 'rewards.boxed:BoxedAnswer', weight: 1.0}}}\n",
    }
    path = tmp_path / "c.yaml"
    path.write_text(f"kind: {kind}\n{sections[kind]}")
    printed, error = _checked(path)
    assert error == ""
    assert (
        "    | <|im_start|>user\n    | 1+1\\x1b[2J?\n    | Think.<|im_end|>\n" in printed
    )  # hostile text is written out
    name = {"sft": "data.instruction", "eval": "instructions.thinking"}[kind]
    assert f"{name} adds " in printed
    assert ("instructions.direct adds 0 tokens" in printed) == (kind == "eval")


def test_a_model_without_a_processor_is_a_complaint(config: Path) -> None:
    (config.parent / "model" / "processor_config.json").unlink()
    _, error = _checked(config)
    assert "its tokenizer and processor cannot be loaded" in error


def _view_of_vllm(folder: Path, images: Sequence[Any], **options: Any) -> View:
    from sailrl.rollout.vllm_prompts import VllmPrompts

    processor = Processor(folder)
    text = processor.chat.render([{"role": "user", "content": [{"type": "image"}] * len(images)}], "p")
    limits = {"dtype": "float32", "limit_mm_per_prompt": {"image": 3}, **options}
    engine = VllmPrompts(str(folder), limits, processor.crowding)
    return engine.view(processor.encode(text), images)


@pytest.mark.slow
def test_vllm_with_other_limits_sees_other_prompts(vlm_folder: Path, processor: Processor) -> None:
    """The negative control of the comparison: it does look at vLLM's own numbers."""
    pytest.importorskip("vllm")
    images = [Image.effect_noise(size, 90).convert("RGB") for size in ((84, 84), (30, 300), (200, 3))]
    plain = _view_of_vllm(vlm_folder, images)
    tokens = processor.expand([processor.image_id or 0] * 3, [(84, 84), (300, 30), (3, 200)], "p")
    assert sum(plain.counts) == len(tokens)
    assert plain.counts[0] == 9
    size = {"shortest_edge": 784, "longest_edge": 3136}
    assert _view_of_vllm(vlm_folder, images, mm_processor_kwargs={"size": size}).counts[0] == 4
    text = _view_of_vllm(vlm_folder, [])
    assert (text.counts, text.positions is None) == ([], False)
