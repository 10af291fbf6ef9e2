"""``sailrl score``: gives responses in a file the scores that they would get in training."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sailrl.commands.score_compare import words_beforehand
from sailrl.commands.score_print import print_comparison, print_explanation, print_summary, say
from sailrl.commands.scored import requests, rows_of, score_rows, scoring_spec
from sailrl.data.rows import BadRow, Row, RowWriter, count_rows, file_format, good_rows, read_rows, written_format
from sailrl.errors import ConfigError, DataError
from sailrl.report.progress import open_progress
from sailrl.scoring.answers import task_notes
from sailrl.scoring.compare import Comparison, verdict
from sailrl.scoring.requests import broken_rule, out_row, request_from_row
from sailrl.scoring.resume import Unfinished
from sailrl.scoring.scorer import Scorer
from sailrl.scoring.spec import PartSpec, ScoringSpec, needs_no_arguments, resolve
from sailrl.scoring.summary import Summary
from sailrl.types import Score

_RESULT = ("reward", "scores")
MAX_EXPLAINED = 10
"""Rows of one id that ``--explain`` shows."""


@dataclass(frozen=True, slots=True)
class ScoreOptions:
    """The options of the command line."""

    source: Path
    out: Path | None = None
    config: Path | None = None
    """A YAML file with a ``rewards:`` section, e.g. the config of a training run."""
    rewards: Sequence[str] = ()
    """``NAME=WEIGHT``, when there is no config."""
    workers: int | None = None
    explain: str | None = None
    """The id or the line of one row to explain instead of scoring the file."""
    compare: str | None = None
    """``column:NAME``, a scored file, or another reward."""


def score_job(options: ScoreOptions) -> None:
    """Scores a file and prints a summary, or explains one row.

    Raises:
        SailError: the input cannot be read, the output cannot be written, a reward cannot be loaded, or no row has got
            a score.
    """
    spec, accuracy = _spec(options)
    rows = read_rows(options.source)
    if options.explain is not None:
        _refuse_unused(options)
        with Scorer(spec, workers=1) as scorer:
            _explain(options.source, options.explain, rows, scorer)
        return
    if options.out is None:
        raise ConfigError("score needs a place for its result: --out OUT.jsonl (or .parquet), or --explain ID.")
    if options.out.exists() and options.out.samefile(options.source):
        raise ConfigError(f"--out is the input itself, {options.source}; choose another name.")
    written_format(options.out)
    words = words_beforehand(options.compare, options.source, accuracy) if options.compare is not None else None
    with ExitStack() as ending:
        other = None
        if options.compare is not None and words is None:  # loaded now, so that a misspelt name fails at once
            other = ending.enter_context(_other_scorer(options.compare, spec, options.workers))
        with Scorer(spec, workers=options.workers) as scorer:
            try:
                summary = _score_file(options.source, options.out, scorer)
            except OSError as error:
                raise DataError(f"cannot write {options.out}: {error}.") from error
        print_summary(summary, options.out)
        for note in task_notes(spec, {name: task.rows for name, task in summary.tasks.items()}, options.source.name):
            say(note)
        _check_scored(summary, options)
        if options.compare is not None:
            print_comparison(_compare(options, accuracy, words, other), options.compare, accuracy)


def _refuse_unused(options: ScoreOptions) -> None:
    given = {"--out": options.out, "--compare": options.compare, "--workers": options.workers}
    unused = [name for name, value in given.items() if value is not None]
    if unused:
        raise ConfigError(
            f"--explain shows one row and writes no file, so {', '.join(unused)} would not be used. Leave out "
            f"--explain, or {', '.join(unused)}."
        )


def _check_scored(summary: Summary, options: ScoreOptions) -> None:
    """Raises DataError when no row has a reward, and prints a line when most have none."""
    total = summary.total()
    scored = total.reward.count
    if not total.rows:
        raise DataError(f"{options.source} has no rows.")
    if not scored:
        raise DataError(
            f"none of the {total.rows:,} rows of {options.source} was scored. The first: {summary.first_unscored}. "
            f"All reasons are in {options.out}."
        )
    if 2 * scored < total.rows:
        say(f"only {scored:,} of {total.rows:,} rows were scored; the first that was not: {summary.first_unscored}")


def _score_file(source: Path, out: Path, scorer: Scorer) -> Summary:
    rows, name, folder = rows_of(source)
    unfinished = Unfinished(source, out, scorer.spec)
    resume = unfinished.begin()
    summary = Summary()
    replaced = 0
    copy_types = file_format(source) == file_format(out) == ".parquet"
    with RowWriter(out, resume=resume, finish=_parquet_copy(source, scorer.parts) if copy_types else None) as writer:
        if writer.rows_kept:
            say(f"continuing after row {writer.rows_kept} of an interrupted run with the same input and rewards")
        with open_progress(source.name, count_rows(source), done=writer.rows_kept, unit="row") as progress:
            todo = itertools.islice(rows, writer.rows_kept, None)
            try:
                for (line, row), result, scored in score_rows(todo, name, folder, scorer):
                    _write(writer, result, results_only=copy_types)
                    replaced += isinstance(row, dict) and not row.keys().isdisjoint(_RESULT)
                    if not writer.rows_kept:
                        summary.add(result, line)
                    for part, detail in scored.details.items():
                        if part in scored.scores:
                            summary.explain(part, scored.scores[part].reason, detail)
                    if progress.advance():
                        writer.flush()
            except KeyboardInterrupt:
                say("interrupted; the same command continues where this one stopped")
                raise SystemExit(130) from None
        writer.flush()
        if writer.rows_kept:  # rows of the earlier run count too
            done = good_rows(writer.lines)
            for (line, row), (_, result) in zip(read_rows(source), done, strict=True):
                summary.add(out_row(row, _result_of(result)), line)
    unfinished.finished()
    if replaced:
        say(f"{replaced:,} rows had a `reward` or `scores` of their own; {out.name} has the new ones instead")
    return summary


def _write(writer: RowWriter, row: Row, *, results_only: bool) -> None:
    try:
        writer.write(_result_of(row) if results_only else row)
    except RecursionError:  # nested as deep as Python can read but not write
        writer.write(_result_of(row))


def _result_of(row: Row) -> Row:
    """What scoring added."""
    return {name: row[name] for name in _RESULT}


def _parquet_copy(source: Path, parts: Sequence[str]) -> Any:
    """Parquet to Parquet keeps the types of the input: only the results wait in lines, and become two new columns."""

    def finish(lines: Path, target: Path) -> None:
        import pyarrow as pa

        from sailrl.data.parquet import add_columns

        score = pa.struct([("value", pa.float64()), ("status", pa.string()), ("reason", pa.string())])
        added = pa.schema([("reward", pa.float64()), ("scores", pa.struct([(name, score) for name in parts]))])
        add_columns(source, target, (row for _, row in good_rows(lines)), added)

    return finish


def _explain(source: Path, wanted: str, rows: Iterator[tuple[int, Row | BadRow]], scorer: Scorer) -> None:
    """The rows with the id ``wanted``, which several responses to one problem share, else the line of that number."""
    named: list[tuple[int, Row | BadRow]] = []
    by_line: list[tuple[int, Row | BadRow]] = []
    count = 0
    for line, row in rows:
        if isinstance(row, dict) and "id" in row and str(row["id"]) == wanted:
            count += 1
            named += [(line, row)] if count <= MAX_EXPLAINED else []
        elif str(line) == wanted:
            by_line = [(line, row)]
    if not (named or by_line):
        raise DataError(f"{source} has no row with the id {wanted!r} and no line of that number.")
    if count > 1:
        shown = f", the first {MAX_EXPLAINED} are shown; name one by its line" if count > MAX_EXPLAINED else ""
        say(f"{count:,} rows have the id {wanted!r}{shown}")
    for line, row in named or by_line:
        where, folder = f"{source.name}:{line}", source.parent.absolute()
        request = request_from_row(row, where=where, folder=folder)
        if isinstance(request, Score):
            rule = str(broken_rule(row, where=where, folder=folder))
            print_explanation(line, row, {"row": [rule]}, request)
        else:
            print_explanation(line, row, scorer.explain(*request), scorer.score_now(*request).total)


def _other_scorer(name: str, spec: ScoringSpec, workers: int | None) -> Scorer:
    try:
        part = PartSpec(resolve(name), weight=1.0)
    except ConfigError as error:
        raise ConfigError(
            f"--compare: {error} It also takes a column of labels, as column:NAME, and a scored file, "
            "by its name (.jsonl, .parquet)."
        ) from None
    needs_no_arguments(part.use)
    return Scorer(replace(spec, parts={"other": part}, combine=PartSpec("rewards.mix:Weighted")), workers=workers)


def _compare(options: ScoreOptions, part: str, words: list[bool | None] | None, other: Scorer | None) -> Comparison:
    """Compares our scores with the other verdicts, known already or made by another scorer.

    Raises:
        DataError: no row has both.
    """
    assert options.out is not None
    comparison = Comparison()
    rows = good_rows(options.out)
    if words is not None:
        for (line, row), word in zip(rows, words, strict=True):
            comparison.add(line, row, part, word)
    elif other is not None:
        place = options.source.name, options.source.parent.absolute()
        with open_progress(options.out.name, count_rows(options.out), unit="row") as progress:
            for (line, scored_row), theirs in other.score_stream(requests(rows, *place)):
                assert isinstance(scored_row, dict)
                comparison.add(line, scored_row, part, verdict(theirs.total.value))
                progress.advance()
    if not comparison.rows:
        raise DataError(
            f"--compare: none of the {comparison.not_compared:,} rows has both a score of {part} and a word of "
            f"{options.compare}. The scores are in {options.out}."
        )
    return comparison


# --- rewards from the command line -----------------------------------------------------------------------------------


def _spec(options: ScoreOptions) -> tuple[ScoringSpec, str]:
    """The rewards to score with, and the one that counts as accuracy."""
    if options.workers is not None and options.workers < 1:
        raise ConfigError(f"--workers is {options.workers}; scoring needs at least 1.")
    return scoring_spec(_weights(options.rewards), options.config)


def _weights(texts: Sequence[str]) -> dict[str, float]:
    """``NAME=WEIGHT`` as a mapping."""
    weights: dict[str, float] = {}
    for text in texts:
        name, equals, weight_text = text.rpartition("=")
        try:
            weight = float(weight_text)
        except ValueError:
            weight = math.nan
        if not equals or not math.isfinite(weight):
            raise ConfigError(
                f"--reward {text!r} is not of the form NAME=WEIGHT. Write for example --reward boxed=0.9."
            )
        if name in weights:
            raise ConfigError(f"--reward names {name!r} twice; every reward has a name of its own in the result.")
        weights[name] = weight
    return weights
