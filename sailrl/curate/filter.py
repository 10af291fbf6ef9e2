"""``sailrl filter``: which problems a model can learn from, with the evidence. Without a model for scored responses."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from data_filters.evidence import as_problem, gather
from sailrl.config.filtering import FilterConfig
from sailrl.curate.candidates import Dropped, ProblemPool, load_pool
from sailrl.curate.filter_out import (
    DROPPED,
    EVIDENCE,
    KEPT,
    SCORED,
    Outcome,
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
    with open_progress(folder.name, 0, unit="problem") as progress:
        report = _by_scored(config, folder, progress) if config.scored else _by_sampling(config, folder, progress)
    report.save(folder)
    print_filter(report, folder)
    refuse_empty(folder, report)


def _by_scored(config: FilterConfig, folder: Path, progress: Progress) -> FilterReport:
    """Decides on responses that are there. Two passes over the file; memory holds fingerprints and no text."""
    assert config.scored is not None
    progress.stage(f"reading {config.scored}")
    rows = ScoredRows([config.scored], [config.correct_score])
    found = gather(rows, config.correct_score)
    firsts = {evidence.index: evidence for evidence in found.values()}
    steps = build_steps(config, [], folder)
    with whole_files(folder, (KEPT, DROPPED, EVIDENCE)) as files:
        outcome = Outcome(config, folder, {"scored": config.scored, "score": config.correct_score}, files)
        for index, row in enumerate(rows):
            if index in firsts:
                evidence, problem = firsts[index], as_problem(row)
                conversion = steps.convert(problem)
                if conversion.row is None:
                    reason = conversion.verdict
                    outcome.drop(Dropped(problem, reason.evidence["step"], reason.reason, dict(reason.evidence)))
                else:
                    outcome.decide(Tried(dict(conversion.row), evidence.samples, evidence.responses))
    progress.message(f"{config.scored}: {rows.story()}")
    outcome.report.steps = {**steps.counts, **outcome.report.steps}
    outcome.report.unusable = dict(rows.refused)
    return outcome.report


def _by_sampling(config: FilterConfig, folder: Path, progress: Progress) -> FilterReport:
    """Lets the model try every problem that it has not tried before."""
    assert config.data is not None
    assert config.model is not None
    assert config.rewards is not None
    rewrites = config.mcq is not None and config.mcq.rewrite is not None
    progress.stage("reading problems, rewriting multiple choice" if rewrites else "reading problems")
    pool = load_pool(config, config.data, folder)
    list_left_out(folder, pool.bad_rows, progress.message)
    for note in pool.notes:
        progress.message(note)
    check_answers(
        ScoringSpec.from_config(config.rewards),
        [candidate.problem for candidate in evenly_spread(pool.candidates)],
        "data.problems",
    )
    weights = config.model.path
    if weights is None:
        from sailrl.launch.model_folder import model_folder

        weights = model_folder(config.model, folder, progress)
    made = made_by(config, weights)
    with closing(SampleLog(folder, made)) as log:
        limit = config.data.max_prompt_tokens
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

            asyncio.run(fill_log(config, folder, weights, log, progress, unscored=unscored, unsampled=unsampled))
    progress.doing("writing")
    with whole_files(folder, (KEPT, DROPPED, EVIDENCE, SCORED)) as files:
        outcome = Outcome(config, folder, made, files)
        for dropped in pool.dropped:
            outcome.drop(dropped)
        for case in _tried(config, pool, log):
            if isinstance(case, Dropped):
                pool.steps["prompt"][case.reason] += 1
                outcome.drop(case)
            else:
                outcome.decide(case)
    outcome.report.steps = {**pool.steps, **outcome.report.steps}
    outcome.report.unusable = {"bad_row": len(pool.bad_rows)} if pool.bad_rows else {}
    return outcome.report


def _tried(config: FilterConfig, pool: ProblemPool, log: SampleLog) -> Iterator[Tried | Dropped]:
    assert config.data is not None
    for case in pool.candidates:
        record = log.get(case.key)
        assert record is not None  # every candidate was tried, or the run has stopped
        if "refused" in record:
            yield Dropped(case.row, "prompt", record["refused"], {"detail": record["detail"]})
        elif record["prompt_tokens"] > config.data.max_prompt_tokens:
            yield Dropped(case.row, "prompt", "too_long", {"prompt_tokens": record["prompt_tokens"]})
        else:
            yield tried(case.row, record["responses"][: config.samples], config.correct_score)
