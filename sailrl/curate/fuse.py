"""``sailrl fuse``: the model's best own responses and many direct answers become one SFT set, with a report."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from data_filters.fusion import Fusion, Mix
from data_filters.rejection import Rejection
from sailrl.config.fusing import FuseConfig
from sailrl.config.schema import SourceConfig
from sailrl.curate.scored_rows import ScoredRows
from sailrl.curate.steps import decontamination
from sailrl.data.atomic import atomic
from sailrl.data.images import FOLDER, ImageStore
from sailrl.data.problems import BadProblem, ProblemReader
from sailrl.data.rows import RowWriter
from sailrl.errors import ConfigError
from sailrl.launch.asked import instruction_of, shown
from sailrl.launch.starts import UNTYPED, Start
from sailrl.report.progress import Progress, open_progress
from sailrl.report.safe_text import safe, say
from sailrl.types import Filter

REPORT = "report.json"
REPORT_EVERY_ROWS = 5000


class DirectRows:
    """The rows of all direct sources, as often as needed; images have their whole paths. Bad rows are counted and left
    out. Images that come as bytes become files of ``store``."""

    def __init__(self, sources: Sequence[SourceConfig], store: ImageStore) -> None:
        self._sources, self._store = sources, store
        self.bad_rows: list[BadProblem] = []
        self.notes: dict[int, list[str]] = {}
        """Lines about unused columns, by number of the source."""

    def all_notes(self) -> list[str]:
        """One line for each column that is not used."""
        return [note for notes in self.notes.values() for note in notes]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        self.bad_rows.clear()
        for number, source in enumerate(self._sources):
            name = Path(source.path).name if source.path else None
            reader = ProblemReader(source, f"direct.{number}", also_read=("response", "source"), store=self._store)
            for row, problem in reader:
                row.setdefault("source", name)
                yield {**row, "id": problem.id} if problem.images else row
            self.bad_rows += reader.bad_rows
            reader.check_columns()
            self.notes[number] = reader.notes()


def start_fuse(config: FuseConfig, folder: Path, start: Start = UNTYPED) -> None:
    """Writes ``fused.jsonl`` (or ``.parquet``) and ``report.json`` into ``folder``.

    Raises:
        SailError: a file cannot be read, no row can be used, or a pool is too small.
    """
    start.begins(config, folder)
    with open_progress(folder.name, 0, unit="row") as progress:
        progress.stage("reading both pools and choosing")
        guards: list[Filter] = []
        if config.decontaminate is not None:
            guards.append(decontamination(config.decontaminate, ImageStore(folder / FOLDER)))
        cot, direct = (
            ScoredRows(config.cot, _needed_scores(config)),
            DirectRows(config.direct, ImageStore(folder / FOLDER)),
        )
        instruction = cot_instruction(config)
        added = shown(instruction) if instruction else "no instruction"
        progress.message(f"the prompts of chains of thought get {added}")
        rejection = Rejection(**config.select.model_dump(), seed=config.run.seed)
        mix = _fusion(config, instruction).plan(cot, direct, rejection=rejection, guards=guards)
        unusable = {"cot": dict(cot.refused), "direct": dict(Counter(bad.field or bad.rule for bad in direct.bad_rows))}
        for note in direct.all_notes():
            progress.message(note)
        progress.expect(len(mix))
        out = folder / f"fused.{config.format}"
        _write(mix, out, progress)
    report = {**mix.report(), "unusable": unusable, "cot_instruction": instruction}
    (folder / REPORT).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print_report(report, out)


def _write(mix: Mix, out: Path, progress: Progress) -> None:
    with atomic(out) as partial, RowWriter(partial) as writer:
        for count, row in enumerate(mix, start=1):
            writer.write(row)
            if count % REPORT_EVERY_ROWS == 0 or count == len(mix):
                progress.update(count, {})


def _needed_scores(config: FuseConfig) -> list[str]:
    select = config.select
    return [name for name in (select.correct, select.well_formed, select.sound) if name is not None]


def cot_instruction(config: FuseConfig) -> str:
    """What is added to the prompts of chains of thought: as configured, or what they were generated with.

    Raises:
        ConfigError: it is not configured, and the files were generated with different ones.
    """
    if config.cot_instruction is not None:
        return config.cot_instruction
    found = {file: instruction_of(Path(file).expanduser().parent) for file in config.cot}
    given = {file: where[1] if where else "" for file, where in found.items()}
    if len(set(given.values())) > 1:
        listed = "; ".join(f"{file}: {instruction!r}" for file, instruction in given.items())
        raise ConfigError(
            f"the files of cot were generated with different instructions ({listed}), and cot_instruction does not say "
            "which one the prompts get. Write cot_instruction, or fuse them one by one."
        )
    return next(iter(given.values()))


def _fusion(config: FuseConfig, instruction: str) -> Fusion:
    same = {"cot_share", "total", "allow_smaller", "direct_instruction", "direct_template"}
    return Fusion(**config.model_dump(include=same), cot_instruction=instruction, seed=config.run.seed)


def print_report(report: dict[str, Any], out: Path, console: Console | None = None) -> None:
    """Prints the ratio, how many rows of each pool were used or dropped and why, and the lengths of responses."""
    console = console or Console(highlight=False)
    rows, share = report["rows"], report["cot_share"]
    ratio = f"{100 * share['got']:.2f}% with a chain of thought, asked {100 * share['asked']:g}%"
    written = f"{rows['cot']:,} chains of thought, {rows['direct']:,} direct answers"
    say(console, f"{rows['total']:,} rows: {written} ({ratio})")
    table = Table()
    for name in ("pool", "what became of it"):
        table.add_column(name)
    table.add_column("rows", justify="right")
    for pool, found in report["pools"].items():
        for reason, count in _row_counts(found, report["unusable"][pool]):
            table.add_row(pool, Text(safe(reason, 40)), f"{count:,}")
    console.print(table)
    for pool, lengths in report["completion_words"].items():
        if lengths["count"]:
            words = f"mean {lengths['mean']:.0f}, median {lengths['p50']}, 95% up to {lengths['p95']}, longest "
            say(console, f"words of a {pool} answer: {words}{lengths['max']}")
    if both := report["questions_in_both_kinds"]:
        say(console, f"{both:,} questions are there with and without a chain of thought")
    say(console, f"written    {out}")


def _row_counts(pool: dict[str, Any], unusable: dict[str, int]) -> Iterable[tuple[str, int]]:
    counts = Counter({f"unusable: {reason}": count for reason, count in unusable.items()})
    counts.update(pool["reasons"])
    chosen = counts.pop("chosen", 0)
    yield "written", chosen - pool["unused"]
    yield from (("not needed", pool["unused"]),) if pool["unused"] else ()
    yield from counts.most_common()
