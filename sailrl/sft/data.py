"""Rows to imitate: reads a file, applies the filters of the recipe, and makes the token ids and images that RL sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from data_filters.pipeline import Pipeline
from sailrl import plugins
from sailrl.config.sft import SftData
from sailrl.data.alignment import check_placeholders
from sailrl.data.batch import Sample
from sailrl.data.images import ImageStore
from sailrl.data.problems import BadProblem, ProblemReader
from sailrl.data.processor import Processor
from sailrl.data.responses import READS, imitated
from sailrl.data.template import Template
from sailrl.errors import DataError
from sailrl.types import Completion, Problem, Prompt


@dataclass(frozen=True, slots=True)
class Imitation:
    """A problem and the response to imitate."""

    problem: Problem
    response: str


@dataclass(slots=True)
class Imitations:
    """The rows of a source, and the counts of dropped ones."""

    rows: list[Imitation]
    bad_rows: list[BadProblem] = field(default_factory=list)
    dropped: dict[str, dict[str, int]] = field(default_factory=dict)
    """Per filter step, how many rows ended with each reason."""
    notes: list[str] = field(default_factory=list)
    """One line for each column that is not used."""


def load_imitations(data: SftData, *, section: str = "data.train", store: ImageStore | None = None) -> Imitations:
    """Reads, checks and filters all rows.

    Args:
        section, store: see ``ProblemReader``.

    Raises:
        DataError: a row breaks a rule and ``on_bad_row`` is ``error``, or no row is left; with the counted reasons.
    """
    steps = Pipeline({name: plugins.build(step.use, step.args) for name, step in data.steps.items()})
    loaded = _read(data, section, steps, store)
    loaded.dropped = {name: dict(counts) for name, counts in steps.counts.items()}
    if data.balance is not None and loaded.rows:
        balanced = plugins.build(data.balance.use, data.balance.args).select(
            {"response": row.response, "prompt": row.problem.prompt} for row in loaded.rows
        )
        loaded.dropped["balance"] = {"kept": len(balanced.indexes), "cut": len(loaded.rows) - len(balanced.indexes)}
        loaded.rows = [loaded.rows[index] for index in balanced.indexes]
    if not loaded.rows:
        raise DataError(
            f"{data.train.path or 'data.train'}: no row is left to imitate ({len(loaded.bad_rows)} bad rows; "
            f"filters: {loaded.dropped or 'none'}). Loosen the filter that drops most, or use other rows."
        )
    return loaded


def _read(data: SftData, section: str, steps: Pipeline, store: ImageStore | None) -> Imitations:
    def with_response(row: dict[str, Any]) -> None:
        row["response"] = imitated(row)

    reader = ProblemReader(data.train, section, also_read=READS, needs_answer=False, store=store, rule=with_response)
    rows = []
    for row, problem in reader:
        kept = steps.convert({**row, "images": problem.images}).row
        if kept is not None:
            rows.append(Imitation(replace(problem, prompt=kept["prompt"]), str(kept["response"])))
    reader.check(data.on_bad_row)
    return Imitations(rows, reader.bad_rows, notes=reader.notes(write_choices=data.write_choices))


def imitation_sample(row: Imitation, template: Template, processor: Processor) -> Sample:
    """The row as ids: the prompt as RL renders it, then the response and the end of the turn, which carry the loss.

    Raises:
        DataError: an image is unusable, or the response contains a placeholder of the model.
    """
    return prompt_sample(template.render(row.problem), row.response, processor)


def prompt_sample(prompt: Prompt, response: str, processor: Processor) -> Sample:
    """A rendered prompt and the text to imitate after it.

    Raises:
        DataError: the response contains a placeholder of the model, or does not begin as the chat template has it.
    """
    prefix = prompt.problem.response_prefix
    if prefix:  # the template has already written this part
        if not response.startswith(prefix.strip()):
            raise DataError(
                f"problem {prompt.problem.id}: the chat template opens every response with {prefix!r}, and this one "
                f"starts with {response[:20]!r}. Use a template that leaves it to the model whether to think"
            )
        response = response.removeprefix(prefix) if response.startswith(prefix) else response[len(prefix.strip()) :]
    if processor.end_id is None:
        raise DataError(f"problem {prompt.problem.id}: {processor.note}, so none can be imitated to its end")
    answer = [*processor.encode(response), processor.end_id]
    if processor.image_id is not None:
        fault = check_placeholders([], answer, processor.image_id, [])
        if fault is not None:
            raise DataError(f"problem {prompt.problem.id}: its response cannot be imitated: {fault}")
    given = Completion(answer, [0.0] * len(answer), response, finish_reason="stop", version=0)
    return Sample.of(prompt, given, advantage=0.0)


@dataclass(slots=True)
class ImitationSamples:
    """Samples to learn from, and what was left out."""

    samples: list[Sample]
    too_long: int = 0
    unusable: list[str] = field(default_factory=list)


def prepare_samples(
    rows: Sequence[Imitation], template: Template, processor: Processor, data: SftData
) -> ImitationSamples:
    """All rows that fit ``max_tokens``.

    Raises:
        DataError: a row is too long or its image unusable and the configuration says that this is an error, or none
            is left.
    """
    done = ImitationSamples([])
    for row in rows:
        try:
            sample = imitation_sample(row, template, processor)
        except DataError as error:
            if data.on_bad_row == "error":
                raise DataError(f"{error}. Repair it, or leave it out with data.on_bad_row=skip.") from error
            done.unusable.append(str(error))
            continue
        if sample.length <= data.max_tokens and len(sample.prompt_ids) <= data.max_prompt_tokens:
            done.samples.append(sample)
        elif data.on_long_prompt == "drop":
            done.too_long += 1
        else:
            raise DataError(
                f"row {row.problem.id} has {sample.length} tokens, {len(sample.prompt_ids)} of them in its prompt; "
                f"data.max_tokens is {data.max_tokens}, data.max_prompt_tokens {data.max_prompt_tokens}. "
                "Raise them, or set data.on_long_prompt: drop."
            )
    if not done.samples:
        raise DataError(
            f"none of {len(rows)} rows has at most data.max_tokens = {data.max_tokens} tokens "
            f"({done.too_long} too long, {len(done.unusable)} unusable). Raise data.max_tokens, or use other rows."
        )
    return done
