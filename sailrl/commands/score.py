"""``sailrl score``: responses in a file get the very scores that training would give them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sailrl.commands.score_print import Progress, print_comparison, print_explanation, print_summary, say
from sailrl.data.rows import BadRow, Row, RowWriter, count_rows, file_format, good_rows, read_rows
from sailrl.errors import ConfigError, DataError
from sailrl.scoring.compare import Comparison
from sailrl.scoring.resume import Unfinished
from sailrl.scoring.rows import broken_rule, out_row, request_from_row, result_row
from sailrl.scoring.scorer import Request, Scorer
from sailrl.scoring.spec import PartSpec, ScoringSpec, needs_no_arguments, resolve
from sailrl.scoring.summary import Summary
from sailrl.types import Score

DEFAULT_REWARDS = ("boxed=0.9", "think_format=0.1")
"""What ``--reward`` says when nobody says anything."""


@dataclass(frozen=True, slots=True)
class ScoreOptions:
    """What stands on the command line."""

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
        SailError: the input cannot be read, the output cannot be written, or a reward cannot be loaded.
    """
    spec, accuracy = _spec(options)
    rows = read_rows(options.source)
    if options.explain is not None:
        with Scorer(spec, workers=1) as scorer:
            _explain(options.source, options.explain, rows, scorer)
        return
    if options.out is None:
        raise ConfigError("score needs a place for its result: --out OUT.jsonl (or .parquet), or --explain ID.")
    if options.out.exists() and options.out.samefile(options.source):
        raise ConfigError(f"--out is the input itself, {options.source}; choose another name.")
    file_format(options.out)
    other = _other_scorer(options, spec)
    try:
        with Scorer(spec, workers=options.workers) as scorer:
            try:
                summary = _score_file(options.source, options.out, rows, scorer)
            except OSError as error:
                raise DataError(f"cannot write {options.out}: {error}.") from error
        print_summary(summary, options.out)
        if options.compare is not None:
            print_comparison(_compare(options, accuracy, other), options.compare, accuracy)
    finally:
        if other is not None:
            other.close()


def _score_file(source: Path, out: Path, rows: Iterator[tuple[int, Row | BadRow]], scorer: Scorer) -> Summary:
    unfinished = Unfinished(source, out, scorer.spec)
    resume = unfinished.begin()
    summary = Summary()
    copy_types = file_format(source) == file_format(out) == ".parquet"
    with RowWriter(out, resume=resume, finish=_parquet_copy(source, scorer.parts) if copy_types else None) as writer:
        if writer.rows_kept:
            say(f"continuing after row {writer.rows_kept} of an interrupted run with the same input and rewards")
        with Progress(count_rows(source), done=writer.rows_kept) as progress:
            todo = itertools.islice(rows, writer.rows_kept, None)
            try:
                for (_, row), scored in scorer.score_stream(_requests(source, todo)):
                    result = result_row(scored)
                    _write(writer, row, result, results_only=copy_types)
                    if not writer.rows_kept:
                        summary.add(out_row(row, result))
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
            for (_, row), (_, result) in zip(read_rows(source), done, strict=True):
                summary.add(out_row(row, {name: result[name] for name in ("reward", "scores")}))
    unfinished.finished()
    return summary


def _requests(
    source: Path, rows: Iterator[tuple[int, Row | BadRow]]
) -> Iterator[tuple[tuple[int, Row | BadRow], Request | Score]]:
    folder, name = source.parent.absolute(), source.name
    for line, row in rows:
        yield (line, row), request_from_row(row, where=f"{name}:{line}", folder=folder)


def _write(writer: RowWriter, row: Row | BadRow, result: Row, *, results_only: bool) -> None:
    try:
        writer.write(result if results_only else out_row(row, result))
    except RecursionError:  # nested as deep as Python can read but not write
        writer.write(result)


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
    """An id comes before a line of that number."""
    by_line: tuple[int, Row | BadRow] | None = None
    for line, row in rows:
        if isinstance(row, dict) and "id" in row and str(row["id"]) == wanted:
            break
        if str(line) == wanted:
            by_line = (line, row)
    else:
        if by_line is None:
            raise DataError(f"{source} has no row with the id {wanted!r} and no line of that number.")
        line, row = by_line
    where, folder = f"{source.name}:{line}", source.parent.absolute()
    request = request_from_row(row, where=where, folder=folder)
    if isinstance(request, Score):
        rule = str(broken_rule(row, where=where, folder=folder))
        print_explanation(line, row, {"row": [rule]}, request)
        return
    total = scorer.score_now(*request).total
    print_explanation(line, row, scorer.explain(*request), total)


def _other_scorer(options: ScoreOptions, spec: ScoringSpec) -> Scorer | None:
    """The scorer to compare with, loaded before the work starts, so that a misspelt name costs no hours."""
    other = options.compare
    if other is None or other.startswith("column:"):
        return None
    if Path(other).suffix in (".jsonl", ".parquet"):
        read_rows(other)
        return None
    part = PartSpec(resolve(other), weight=1.0)
    needs_no_arguments(part.use)
    return Scorer(
        replace(spec, parts={"other": part}, combine=PartSpec("rewards.mix:Weighted")), workers=options.workers
    )


def _compare(options: ScoreOptions, accuracy: str, other: Scorer | None) -> Comparison:
    assert options.out is not None
    assert options.compare is not None
    comparison = Comparison()
    rows = good_rows(options.out)
    if other is not None:
        requests = _requests(options.source, ((line, row) for line, row in rows))
        with Progress(count_rows(options.out)) as progress:
            for (line, row), theirs in other.score_stream(requests):
                assert isinstance(row, dict)
                comparison.add(line, row, accuracy, theirs.total.value)
                progress.advance()
    elif options.compare.startswith("column:"):
        column = options.compare.removeprefix("column:")
        for line, row in rows:
            comparison.add(line, row, accuracy, row.get(column))
        if not comparison.rows:
            raise DataError(
                f"--compare: no row has a label in the column {column!r} (right or wrong, 1 or 0) and a score of "
                f"{accuracy}. The scores are in {options.out}."
            )
    else:
        try:
            for (line, row), (_, theirs_row) in zip(rows, read_rows(options.compare), strict=True):
                comparison.add(line, row, accuracy, _their_word(theirs_row, accuracy))
        except ValueError:
            ours, theirs_count = count_rows(options.out), count_rows(Path(options.compare))
            raise DataError(
                f"--compare: {options.compare} has {theirs_count} rows and {options.out} has {ours}; "
                "files are compared row by row and must have the same rows in the same order."
            ) from None
    return comparison


def _their_word(row: Row | BadRow, part: str) -> Any:
    if isinstance(row, BadRow):
        return None
    scores = row.get("scores")
    score = scores.get(part) if isinstance(scores, dict) else None
    return score.get("value") if isinstance(score, dict) else row.get("reward")


# --- rewards from the command line -----------------------------------------------------------------------------------


def _spec(options: ScoreOptions) -> tuple[ScoringSpec, str]:
    """The rewards to score with, and the one that counts as accuracy."""
    if options.workers is not None and options.workers < 1:
        raise ConfigError(f"--workers is {options.workers}; scoring needs at least 1.")
    if options.config is not None:
        if options.rewards:
            raise ConfigError("--config and --reward both name the rewards; use one of them.")
        return _from_config(options.config)
    parts: dict[str, PartSpec] = {}
    for text in options.rewards or DEFAULT_REWARDS:
        name, equals, weight_text = text.rpartition("=")
        try:
            weight = float(weight_text)
        except ValueError:
            weight = math.nan
        if not equals or not math.isfinite(weight):
            raise ConfigError(
                f"--reward {text!r} is not of the form NAME=WEIGHT. Write for example --reward boxed=0.9."
            )
        use = resolve(name)
        needs_no_arguments(use)
        key = name if ":" not in name else use.rpartition(":")[2]
        if key in parts:
            raise ConfigError(f"--reward names {key!r} twice; every reward has a name of its own in the result.")
        parts[key] = PartSpec(use, {}, weight)
    return ScoringSpec(parts), next(iter(parts))


def _from_config(path: Path) -> tuple[ScoringSpec, str]:
    from pydantic import ValidationError

    from sailrl.config.messages import explain
    from sailrl.config.rewards import RewardsConfig
    from sailrl.config.yaml_text import Where, parse

    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"there is no file {path}. Paths are relative to the folder you run from.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}.") from None
    data, places = parse(text, str(path))
    if not isinstance(data, dict) or "rewards" not in data:
        raise ConfigError(
            f"{path} has no section `rewards:`. Score with a training config, or use --reward NAME=WEIGHT."
        )
    inner = {keys[1:]: place for keys, place in places.items() if keys[:1] == ("rewards",)}
    try:
        config = RewardsConfig.model_validate(data["rewards"])
    except ValidationError as error:
        raise ConfigError("\n\n".join(explain(error, RewardsConfig, Where(str(path), inner)))) from None
    return ScoringSpec.from_config(config), config.accuracy_part
