"""``sailrl check --data``: every problem through every part that turns it into tokens, before any GPU hour is spent."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.progress import track

from sailrl import plugins
from sailrl.config.schema import PromptConfig, RlvrConfig
from sailrl.data.alignment import Fault, View, check_placeholders, compare
from sailrl.data.images import ImageStore
from sailrl.data.processor import Processor, load_processor
from sailrl.data.reference import Reference
from sailrl.data.template import Template
from sailrl.errors import DataError
from sailrl.launch.engines import image_options
from sailrl.report.safe_text import say
from sailrl.types import Problem, Prompt

LISTED = 10
ROWS_PER_STORE = 64
"""Images are kept only this long, so that checking a large data set does not fill the disk with its copies."""

Viewer = Callable[[str, Prompt, Sequence[Any]], View]
"""How a part of the system sees ``(rendered text, prompt, images)``."""


@dataclass(slots=True)
class DataReport:
    """What was found in one source."""

    rows: int = 0
    prompt_tokens: list[int] = field(default_factory=list)
    image_tokens: list[int] = field(default_factory=list)
    unusable: list[str] = field(default_factory=list)
    """Rows that cannot become a prompt, with their reason."""
    too_long: list[str] = field(default_factory=list)
    misaligned: list[str] = field(default_factory=list)
    """Rows whose ids, counts or positions differ from part to part."""


def check_problems(
    problems: Sequence[Problem],
    processor: Processor,
    data: PromptConfig,
    viewers: Sequence[Viewer],
    *,
    most_images: int,
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
                try:
                    views = [view(text, prompt, images) for view in viewers]
                    fault: object = _check(problem, prompt, processor, views, report)
                except Exception as error:  # engine and model are others' code, and this row is what we ask about
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
) -> Fault | None:
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


def check_data(config: RlvrConfig, sources: dict[str, Sequence[Problem]], console: Console) -> list[str]:
    """Checks all problems, prints what they amount to, and returns complaints.

    Args:
        sources: problems by the name of their section.
    """
    complaints = []
    with tempfile.TemporaryDirectory(prefix="sailrl-check-") as scratch:
        model = _model(config, Path(scratch))
        try:
            processor = load_processor(config.model, config.data, model)
            viewers = _viewers(config, model, processor, console)
        except (OSError, ValueError) as error:  # how transformers says that files are missing or not what they should
            return [f"model {model}: its tokenizer and processor cannot be loaded: {error}"]
        if processor.note:
            say(console, processor.note)
        for name, problems in sources.items():
            report = DataReport()
            rows = check_problems(
                problems, processor, config.data, viewers, most_images=config.rollout.engine.images_per_prompt
            )
            for report in track(rows, name, total=len(problems), console=console, transient=True):  # noqa: B007
                pass
            say(console, summary(name, report, config.data.max_prompt_tokens))
            complaints += _complaints(name, report, config.data)
    return complaints


def _model(config: RlvrConfig, scratch: Path) -> str:
    if config.model.path is not None:
        return config.model.path
    build = config.model.build
    assert build is not None  # the checks have seen to it that one of the two is given
    plugins.load(build.use)(scratch / "model", **build.args)
    return str(scratch / "model")


def _viewers(config: RlvrConfig, model: str, processor: Processor, console: Console) -> list[Viewer]:
    if processor.image_id is None:
        return []
    trust = config.model.trust_remote_code
    reference = Reference(model, processor, trust_remote_code=trust)
    viewers: list[Viewer] = [
        lambda _, prompt, images: reference.learner(prompt.token_ids, images),
        lambda text, _, images: reference.transformers(text, images),
    ]
    if find_spec("vllm") is None:
        say(console, "vLLM is not installed here: only processor and learner are compared.")
        return viewers
    from sailrl.rollout.vllm_prompts import VllmPrompts

    options = {
        "dtype": config.model.dtype,
        "trust_remote_code": trust,
        **image_options(config.data, config.rollout.engine, processor),
    }
    engine = VllmPrompts(model, options)
    viewers.append(lambda _, prompt, images: engine.view(prompt.engine_ids, images))
    return viewers


def summary(name: str, report: DataReport, max_prompt_tokens: int) -> str:
    """What a source amounts to, in a few lines."""
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
