"""``sailrl filter``: keeps the problems that a model can learn from. It samples responses, or reads scored ones."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from data_filters.evidence import as_problem, gather
from sailrl.config.filtering import FilterConfig, SamplingFilter, ScoredFilter
from sailrl.curate.candidates import Dropped, ProblemPool, load_pool
from sailrl.curate.filter_out import (
    DROPPED,
    EVIDENCE,
    KEPT,
    SCORED,
    Decisions,
    Tried,
    refuse_empty,
    tried,
    whole_files,
)
from sailrl.curate.sample_log import SampleLog, made_by
from sailrl.curate.scored_rows import ScoredRows
from sailrl.curate.steps import build_steps
from sailrl.launch.run_folder import list_left_out
from sailrl.launch.starts import UNTYPED, Start
from sailrl.report.filter_report import FilterReport, print_filter
from sailrl.report.progress import Progress, open_progress
from sailrl.scoring.answers import check_answers, evenly_spread
from sailrl.scoring.spec import ScoringSpec


def start_filter(config: FilterConfig, folder: Path, start: Start = UNTYPED) -> None:
    """Filters in ``folder``; what an earlier run sampled there is not sampled again.

    Raises:
        SailError: a file, a row or the model cannot be used, or no problem is left.
    """
    start.begins(config, folder)
    origin = config.origin
    with open_progress(folder.name, 0, unit="problem") as progress:
        if isinstance(origin, ScoredFilter):
            report = _by_scored(origin, folder, progress)
        else:
            report = _by_sampling(origin, folder, progress)
    report.save(folder)
    print_filter(report, folder)
    refuse_empty(folder, report)


def _by_scored(origin: ScoredFilter, folder: Path, progress: Progress) -> FilterReport:
    """Decides on responses that are scored already, in two passes over their file. Memory holds fingerprints only."""
    config = origin.config
    progress.stage(f"reading {origin.scored}")
    rows = ScoredRows([origin.scored], [config.correct_score])
    found = gather(rows, config.correct_score)
    firsts = {evidence.index: evidence for evidence in found.values()}
    steps = build_steps(config, [], folder)
    with whole_files(folder, (KEPT, DROPPED, EVIDENCE)) as files:
        decisions = Decisions(config, folder, {"scored": origin.scored, "score": config.correct_score}, files)
        for index, row in enumerate(rows):
            if index in firsts:
                evidence, problem = firsts[index], as_problem(row)
                conversion = steps.convert(problem)
                if conversion.row is None:
                    decisions.drop(Dropped.by_step(problem, conversion.verdict))
                else:
                    decisions.decide(Tried(dict(conversion.row), evidence.samples, evidence.responses))
    progress.message(f"{origin.scored}: {rows.story()}")
    decisions.report.steps = {**steps.counts, **decisions.report.steps}
    decisions.report.unusable = dict(rows.refused)
    return decisions.report


def _by_sampling(origin: SamplingFilter, folder: Path, progress: Progress) -> FilterReport:
    """Samples responses to every problem that has none yet, then decides."""
    config = origin.config
    rewrites = config.mcq is not None and config.mcq.rewrite is not None
    progress.stage("reading problems, rewriting multiple choice" if rewrites else "reading problems")
    pool = load_pool(config, origin.data, folder)
    list_left_out(folder, pool.bad_rows, progress.message)
    unusable = check_answers(
        ScoringSpec.from_config(origin.rewards),
        [candidate.problem for candidate in evenly_spread(pool.candidates)],
        "data.problems",
    )
    for note in (*pool.notes, *unusable):
        progress.message(note)
    weights = origin.model.path
    if weights is None:
        from sailrl.launch.model_folder import model_folder

        weights = model_folder(origin.model, folder, progress)
    made = made_by(origin, weights)
    with closing(SampleLog(folder, made)) as log:
        limit = origin.data.max_prompt_tokens
        lack = [(case, log.needs(case.key, config.samples, limit)) for case in pool.candidates]
        unscored = [case for case, what in lack if what == "scores"]
        unsampled = [case for case, what in lack if what == "responses"]
        kept = len(pool.candidates) - len(unsampled)
        if kept:
            again = f"; {len(unscored):,} of them are scored again" if unscored else ""
            progress.message(f"{kept:,} of {len(pool.candidates):,} problems have their samples already{again}")
        progress.expect(len(pool.candidates), done=kept - len(unscored))
        if unscored or unsampled:
            progress.stage("loading torch and Ray")
            from sailrl.curate.sampling import fill_log

            asyncio.run(fill_log(origin, folder, weights, log, progress, unscored=unscored, unsampled=unsampled))
    progress.doing("writing")
    with whole_files(folder, (KEPT, DROPPED, EVIDENCE, SCORED)) as files:
        decisions = Decisions(config, folder, made, files)
        for dropped in pool.dropped:
            decisions.drop(dropped)
        for case in _tried(origin, pool, log):
            if isinstance(case, Dropped):
                pool.steps["prompt"][case.reason] += 1
                decisions.drop(case)
            else:
                decisions.decide(case)
    decisions.report.steps = {**pool.steps, **decisions.report.steps}
    decisions.report.unusable = {"bad_row": len(pool.bad_rows)} if pool.bad_rows else {}
    return decisions.report


def _tried(origin: SamplingFilter, pool: ProblemPool, log: SampleLog) -> Iterator[Tried | Dropped]:
    config = origin.config
    for case in pool.candidates:
        record = log.get(case.key)
        assert record is not None  # every candidate was tried, or the run has stopped
        if "refused" in record:
            yield Dropped(case.row, "prompt", record["refused"], {"detail": record["detail"]})
        elif record["prompt_tokens"] > origin.data.max_prompt_tokens:
            yield Dropped(case.row, "prompt", "too_long", {"prompt_tokens": record["prompt_tokens"]})
        else:
            yield tried(case.row, record["responses"][: config.samples], config.correct_score)
