"""``sailrl check --data``: turns every problem into tokens with every part that does so in a run, and compares them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console

from sailrl import plugins
from sailrl.config.base import Section
from sailrl.config.evaluation import EvaluateConfig
from sailrl.config.needs import Job, config_folder, kind_is_supported, local_model, models
from sailrl.config.schema import EngineConfig, ModelConfig, PromptConfig
from sailrl.config.sft import SftConfig
from sailrl.data.alignment import PromptFault, View, check_placeholders, compare
from sailrl.data.images import ImageStore
from sailrl.data.processor import Processor, load_processor
from sailrl.data.reference import Reference
from sailrl.data.template import Template
from sailrl.errors import ConfigError, DataError
from sailrl.launch.engines import image_options
from sailrl.report.progress import open_progress
from sailrl.report.safe_text import say
from sailrl.types import Problem, Prompt

LISTED = 10
ROWS_PER_STORE = 64
"""After so many rows the stored images are removed, so that a large data set does not fill the disk with copies."""

Viewer = Callable[[str, Prompt, Sequence[Any]], View]
"""What a part of the system makes of ``(rendered text, prompt, images)``."""


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt as the model gets it."""

    problem: Problem
    text: str
    tokens: int
    sizes: list[tuple[int, int]]
    """(height, width) in pixels of each image."""


@dataclass(slots=True)
class DataReport:
    """The counts and faults of one source."""

    rows: int = 0
    prompt_tokens: list[int] = field(default_factory=list)
    image_tokens: list[int] = field(default_factory=list)
    unusable: list[str] = field(default_factory=list)
    """Rows that cannot become a prompt, with their reason."""
    too_long: list[str] = field(default_factory=list)
    misaligned: list[str] = field(default_factory=list)
    """Rows whose ids, counts or positions differ from part to part."""
    first: Example | None = None
    """The first prompt that could be made."""


def check_problems(
    problems: Iterable[Problem],
    processor: Processor,
    data: PromptConfig,
    viewers: Sequence[Viewer],
    *,
    most_images: int | None,
) -> Iterator[DataReport]:
    """Yields the report so far after every row; the last is whole.

    Args:
        viewers: the first is the learner's, with which the others are compared.
    """
    report = DataReport()
    root = Path(tempfile.mkdtemp(prefix="sailrl-check-"))
    try:
        for number, problem in enumerate(problems):
            if number % ROWS_PER_STORE == 0:
                shutil.rmtree(root / "store", ignore_errors=True)
                store = ImageStore(root / "store")
                template = Template(processor, store, data, images_per_prompt=most_images)
            report.rows += 1
            try:
                prompt = template.render(problem)
                text, images = template.text(problem), [store.image(digest) for digest in prompt.images]
            except DataError as error:
                report.unusable.append(str(error))
            else:
                if report.first is None:
                    sizes = [store.size(digest) for digest in prompt.images]
                    report.first = Example(problem, text, len(prompt.token_ids), sizes)
                try:
                    views = [view(text, prompt, images) for view in viewers]
                    fault: object = _check(problem, prompt, processor, views, report)
                except Exception as error:  # code of engine and model; the fault is reported for this row
                    fault = f"refused with {type(error).__name__}: {error}"
                if fault is not None:
                    report.misaligned.append(f"problem {problem.id}: {fault}")
                if len(prompt.token_ids) > data.max_prompt_tokens:
                    report.too_long.append(f"problem {problem.id}: {len(prompt.token_ids):,} tokens")
            yield report
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _check(
    problem: Problem, prompt: Prompt, processor: Processor, views: Sequence[View], report: DataReport
) -> PromptFault | None:
    report.prompt_tokens.append(len(prompt.token_ids))
    if processor.image_id is None:
        return None
    mine = views[0]
    report.image_tokens.extend(mine.counts)
    imitated = problem.meta.get("response")
    response = processor.encode(imitated) if isinstance(imitated, str) else []
    fault = check_placeholders(prompt.token_ids, response, processor.image_id, mine.counts)
    differences = (compare(mine, other) for other in views[1:])
    return fault or next((found for found in differences if found is not None), None)


def open_prompt_check(config: Section, console: Console, opened: ExitStack) -> tuple[PromptCheck | None, str | None]:
    """Returns the check of a job's prompts, and a complaint if it cannot be opened; both None for a job without
    prompts.

    Args:
        opened: closes what this opens.
    """
    if not isinstance(config, Job) or config.data is None:
        say(console, "--data: this job puts no problem to a model, so there is no prompt to render.")
        return None, None
    if any(kind_is_supported(config)):
        return None, None
    model = next(model for _, model in models(config))
    if local_model(model) is not None and config_folder(model) is None:
        return None, None
    engine = None if isinstance(config, SftConfig) else config.rollout.engine
    scratch = opened.enter_context(tempfile.TemporaryDirectory(prefix="sailrl-check-"))
    path = _path(model, Path(scratch))
    try:
        processor = load_processor(model, config.data, path)
        viewers = _viewers(model, config.data, engine, path, processor, console)
    except ConfigError as error:
        return None, str(error)
    except (OSError, ValueError) as error:  # what transformers raises for missing or wrong files
        return None, f"model {path}: its tokenizer and processor cannot be loaded: {error}"
    if processor.note:
        say(console, processor.note)
    instructions = config.instructions if isinstance(config, EvaluateConfig) else {"": config.data.instruction}
    return PromptCheck(config.data, processor, viewers, engine, instructions), None


class PromptCheck:
    """Renders the problems of each source and compares what the parts of the system make of them."""

    def __init__(
        self,
        data: PromptConfig,
        processor: Processor,
        viewers: Sequence[Viewer],
        engine: EngineConfig | None,
        instructions: Mapping[str, str],
    ) -> None:
        self._data, self._processor, self._viewers = data, processor, viewers
        self._most_images = engine.images_per_prompt if engine else None
        self._instructions = instructions
        self._shown = False

    def check(self, name: str, problems: Iterable[Problem], total: int | None) -> tuple[str, list[str]]:
        """Goes through the problems of one source.

        Args:
            total: about how many there are.

        Returns:
            What to print, and complaints.
        """
        (_, instruction), *_ = self._instructions.items()
        data = self._data.model_copy(update={"instruction": instruction})
        report = DataReport()
        rows = check_problems(problems, self._processor, data, self._viewers, most_images=self._most_images)
        with open_progress(name, total or 0, unit="problem") as progress:
            for report in rows:  # noqa: B007
                progress.advance()
        text = summary(name, report, data.max_prompt_tokens)
        if report.first is not None and not self._shown:
            self._shown = True
            text += "\n" + self._example(report.first)
        return text, _complaints(name, report, data)

    def _example(self, example: Example) -> str:
        """One prompt in full, and what each instruction adds to it."""
        sizes = "".join(f", an image of {width} x {height} pixels" for height, width in example.sizes)
        lines = [f"  the prompt of problem {example.problem.id}, {example.tokens:,} tokens{sizes}:"]
        lines += [f"    | {line}" for line in example.text.split("\n")]
        for asked, instruction in self._instructions.items():
            data = self._data.model_copy(update={"instruction": instruction})
            template = Template(self._processor, ImageStore(Path()), data)
            name = f"instructions.{asked}" if asked else "data.instruction"
            lines.append(f"  {template.instruction_note(example.problem, name)}")
        return "\n".join(lines)


def _path(model: ModelConfig, scratch: Path) -> str:
    if model.path is not None:
        return model.path
    assert model.build is not None  # the checks have seen to it that one of the two is given
    plugins.load(model.build.use)(scratch / "model", **model.build.args)
    return str(scratch / "model")


def _viewers(
    model: ModelConfig,
    data: PromptConfig,
    engine: EngineConfig | None,
    path: str,
    processor: Processor,
    console: Console,
) -> list[Viewer]:
    if processor.image_id is None:
        return []
    trust = model.trust_remote_code
    reference = Reference(path, processor, trust_remote_code=trust)
    viewers: list[Viewer] = [
        lambda _, prompt, images: reference.learner(prompt.token_ids, images),
        lambda text, _, images: reference.transformers(text, images),
    ]
    if engine is None:
        return viewers
    if find_spec("vllm") is None:
        say(console, "vLLM is not installed here: only processor and learner are compared.")
        return viewers
    from sailrl.rollout.vllm_prompts import VllmPrompts

    options = {"dtype": model.dtype, "trust_remote_code": trust, **processor.engine_options}
    prompts = VllmPrompts(path, options | image_options(data, engine, processor), processor.crowding)
    viewers.append(lambda _, prompt, images: prompts.view(prompt.engine_ids, images))
    return viewers


def summary(name: str, report: DataReport, max_prompt_tokens: int) -> str:
    """The counts of a source, in a few lines."""
    lines = [
        f"{name}: {report.rows:,} problems checked, {len(report.misaligned):,} misaligned, {len(report.unusable):,} "
        f"unusable, {len(report.too_long):,} longer than data.max_prompt_tokens = {max_prompt_tokens:,}",
        f"  tokens per prompt  {_spread(report.prompt_tokens)}",
    ]
    if report.image_tokens:
        lines.append(f"  tokens per image   {_spread(report.image_tokens)}, {len(report.image_tokens):,} images")
    for title, rows in (("unusable", report.unusable), ("dropped as too long", report.too_long)):
        if rows:
            lines += [f"  {title}:", *(f"    {row}" for row in _first(rows))]
    return "\n".join(lines)


def _complaints(name: str, report: DataReport, data: PromptConfig) -> list[str]:
    complaints = []
    if report.misaligned:
        listed = "".join(f"\n  {row}" for row in _first(report.misaligned))
        complaints.append(f"{name}: parts of the system disagree on {len(report.misaligned):,} rows:{listed}")
    if report.unusable and data.on_bad_row == "error":
        complaints.append(
            f"{name}: {len(report.unusable):,} rows cannot become a prompt. "
            "Repair them, or leave them out with data.on_bad_row=skip."
        )
    if report.too_long and data.on_long_prompt == "error":
        complaints.append(
            f"{name}: {len(report.too_long):,} prompts are longer than data.max_prompt_tokens. "
            "Raise it, or set data.on_long_prompt: drop."
        )
    if report.rows and len(report.unusable) + len(report.too_long) >= report.rows:
        complaints.append(f"{name}: no problem is left.")
    return complaints


def _first(rows: Sequence[str]) -> list[str]:
    more = len(rows) - LISTED
    return [*rows[:LISTED], *([f"... and {more:,} more"] if more > 0 else [])]


def _spread(values: Sequence[int]) -> str:
    if not values:
        return "none"
    return f"min {min(values):,}, median {median(values):,.0f}, max {max(values):,}"
