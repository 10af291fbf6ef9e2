"""The steps that look at problems before a model does: multiple choice, duplicates, evaluation data."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from data_filters.decontaminate import Decontaminate
from data_filters.dedup import ExactDuplicates, NearDuplicates
from data_filters.images import ImageDuplicates
from data_filters.mcq import McqToFree
from data_filters.mcq_rewrite import UNANSWERED, RewriteMcq
from data_filters.pipeline import Converter, Pipeline
from data_filters.reading import Conversion, Row
from sailrl import plugins
from sailrl.config.filtering import DecontaminateConfig, FilterConfig, McqConfig
from sailrl.config.schema import SourceConfig
from sailrl.curate.rewrite_log import RewriteLog
from sailrl.data.benchmark_rows import benchmark_reader
from sailrl.data.images import FOLDER, ImageStore
from sailrl.data.problems import ProblemReader
from sailrl.errors import DataError, RewardError
from sailrl.types import Filter, Verdict

ROWS_AT_ONCE = 256
"""Rows that are being rewritten at a time; their images are in memory."""


class Careful:
    """A filter that drops a row it cannot read (its image was removed, for one) instead of stopping. Reason:
    ``unreadable``."""

    def __init__(self, inner: Filter) -> None:
        self._inner = inner

    def __call__(self, row: Row) -> Verdict:
        try:
            return self._inner(row)
        except DataError as error:
            return Verdict(False, "unreadable", {"error": str(error)})


class _Decided:
    """Conversions that are made already, by the id of their row."""

    def __init__(self, conversions: Mapping[str, Conversion]) -> None:
        self._conversions = conversions

    def convert(self, row: Row) -> Conversion:
        return self._conversions[row["id"]]


def build_steps(config: FilterConfig, rows: Sequence[Row], run_dir: Path) -> Pipeline:
    """The configured steps in their order, ready for ``rows``, which have ids. What a rewriter says is kept in
    ``run_dir``.

    Raises:
        DataError: an evaluation file cannot be read.
        ConfigError: the rewriter cannot be built.
        RewardError: it answered too few questions.
    """
    steps: dict[str, Filter | Converter] = {}
    if config.mcq is not None:
        steps["mcq"] = _mcq(config.mcq, rows, run_dir)
    if config.dedup is not None:
        steps["duplicate"] = Careful(ExactDuplicates())
        if config.dedup.near is not None:
            steps["near_duplicate"] = Careful(NearDuplicates(config.dedup.near))
        if config.dedup.rows_per_image is not None:
            steps["same_image"] = Careful(ImageDuplicates(config.dedup.rows_per_image))
    if config.decontaminate is not None:
        steps["leak"] = decontamination(config.decontaminate, ImageStore(run_dir / FOLDER))
    return Pipeline(steps)


def decontamination(config: DecontaminateConfig, store: ImageStore) -> Filter:
    """The filter that drops the rows of evaluation files and of benchmarks.

    Args:
        store: takes the pictures of benchmarks.

    Raises:
        DataError: a file cannot be read, or has a row that is no problem.
    """
    return Careful(Decontaminate(_evaluation_rows(config, store), config.near, config.image_distance))


def _evaluation_rows(config: DecontaminateConfig, store: ImageStore) -> Iterator[dict[str, Any]]:
    folder = Path(config.benchmarks_folder).expanduser()
    readers = {name: ProblemReader(SourceConfig(path=name), None, needs_answer=False) for name in config.files}
    readers |= {name: benchmark_reader(name, folder, store, bare=True) for name in config.benchmarks}
    for name, reader in readers.items():
        for row, problem in reader:
            yield {**row, "id": f"{name}:{problem.id}"}
        if reader.bad_rows:
            raise DataError(
                f"decontaminate: {reader.bad_rows[0]}. An evaluation row that cannot be read could leak unseen; "
                "repair the file."
            )
        reader.check("error")


def _mcq(config: McqConfig, rows: Sequence[Row], run_dir: Path) -> Converter:
    rules = McqToFree(config.otherwise)
    if config.rewrite is None:
        return rules
    rewriter = RewriteLog(plugins.build(config.rewrite.use, config.rewrite.args), config.rewrite, run_dir)
    convert = RewriteMcq(rewriter.rewrite, rewriter.solve, rules=rules).convert

    async def all_rows() -> list[Conversion]:
        slots = asyncio.Semaphore(ROWS_AT_ONCE)

        async def one(row: Row) -> Conversion:
            async with slots:
                return await convert(row)

        try:
            return await asyncio.gather(*map(one, rows))
        finally:
            await rewriter.aclose()

    conversions = asyncio.run(all_rows())
    _refuse_silence(config, [made.verdict for made in conversions])
    return _Decided({row["id"]: made for row, made in zip(rows, conversions, strict=True)})


def _refuse_silence(config: McqConfig, verdicts: Sequence[Verdict]) -> None:
    """Raises RewardError when too many questions got no answer: a server that is down must not decide on problems."""
    asked = [verdict for verdict in verdicts if verdict.reason.startswith("rewrit")]
    silent = [verdict for verdict in asked if verdict.reason == UNANSWERED]
    if len(silent) > config.max_unanswered_rate * len(asked):
        raise RewardError(
            f"mcq.rewrite: {len(silent):,} of {len(asked):,} questions got no answer, the first one because "
            f"{silent[0].evidence['error']}; at most {100 * config.max_unanswered_rate:g}% may "
            "(mcq.max_unanswered_rate). See that the server answers, then run the same command again."
        )
