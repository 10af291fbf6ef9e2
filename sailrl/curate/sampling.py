"""Samples and scores the problems that a filter has no responses to yet, with the engines that RL uses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from sailrl.config.filtering import SamplingFilter
from sailrl.curate.candidates import Candidate
from sailrl.curate.sample_log import SampleLog
from sailrl.data.images import FOLDER, ImageStore
from sailrl.data.processor import load_processor
from sailrl.data.template import Refused, Template
from sailrl.launch.engines import EngineSpec, open_pool, score_rollout, starting
from sailrl.launch.placement import cluster, nodes, worker_options
from sailrl.report.progress import Progress
from sailrl.report.traces import rollout_fields, score_fields
from sailrl.rollout.collect import ScoreFn, check_unscored, sample_groups
from sailrl.rollout.engine import Pool, Sampling
from sailrl.scoring.scorer import Scorer
from sailrl.scoring.spec import ScoringSpec
from sailrl.scoring.summary import Mean
from sailrl.types import Completion, Group, Problem, Prompt

LANES = 2
"""Shards at a time: while the last responses of one are generated, the next one keeps the engines busy."""
SCORED_AT_ONCE = 64
"""Problems whose kept responses are being scored again at a time."""


async def fill_log(
    origin: SamplingFilter,
    folder: Path,
    weights: str,
    log: SampleLog,
    progress: Progress,
    *,
    unscored: Sequence[Candidate],
    unsampled: Sequence[Candidate],
) -> None:
    """Scores the kept responses to ``unscored`` again, then starts the engines and samples ``unsampled``, into ``log``.

    Raises:
        RolloutError: an engine does not start, or fails; what it had answered is kept.
        RewardError: more responses than allowed could not be scored.
    """
    config, data = origin.config, origin.data
    processor = load_processor(origin.model, data, weights)
    if processor.note:
        progress.message(processor.note)
    engine = config.rollout.engine
    store = folder / FOLDER
    template = Template(processor, ImageStore(store), data, images_per_prompt=engine.images_per_prompt)
    if data.instruction:
        progress.message(template.instruction_note((*unsampled, *unscored)[0].problem))
    accuracy, allowed = origin.rewards.accuracy_part, origin.rewards.max_unscored_rate
    with Scorer(ScoringSpec.from_config(origin.rewards), say=progress.message) as scorer:
        score = partial(score_rollout, scorer)
        if unscored:
            progress.doing("scoring again")
            meter = Meter(progress, accuracy)
            await score_again(unscored, score, template.admit, log, meter, max_unscored_rate=allowed)
        if not unsampled:
            return
        progress.stage(f"starting Ray and {starting(config.rollout)}")
        with cluster(folder):
            spec = EngineSpec(
                origin.model, data, config.rollout, weights=weights, images=str(store), seed=config.run.seed
            )
            pool = open_pool(spec, actor_options=worker_options(config.rollout, nodes()), notify=progress.message)
            try:
                await pool.start()
                progress.doing("sampling")
                await sample_shards(
                    unsampled,
                    pool,
                    score,
                    template.admit,
                    Sampling.of(config.rollout, config.samples, processor),
                    log,
                    Meter(progress, accuracy),
                    shard=max(1, config.rollout.workers * engine.max_concurrent // config.samples),
                    max_unscored_rate=allowed,
                )
            finally:
                await pool.stop()


async def score_again(
    todo: Sequence[Candidate],
    score: ScoreFn,
    render: Callable[[Problem], Prompt | Refused],
    log: SampleLog,
    meter: Meter,
    *,
    max_unscored_rate: float,
) -> None:
    """Puts the responses that ``log`` keeps for each problem under the present rewards; nothing is sampled."""

    async def again(case: Candidate) -> list[Group]:
        known, prompt = log.get(case.key), render(case.problem)
        assert known is not None  # it has responses
        if isinstance(prompt, Refused):  # an image that was there when it was sampled
            _refuse(case, prompt, log, meter)
            return []
        kept = known["responses"]
        rollouts = await asyncio.gather(*(score(prompt, _completion(response)) for response in kept))
        scores = [score_fields(rollout, meter.accuracy) for rollout in rollouts]
        responses = [{**old, **new} for old, new in zip(kept, scores, strict=True)]
        log.add(case.key, {"prompt_tokens": known["prompt_tokens"], "responses": responses})
        group = Group(prompt, rollouts)
        meter.sampled(group)
        return [group]

    for part in _shards(todo, SCORED_AT_ONCE):
        found = await asyncio.gather(*map(again, part))
        check_unscored([group for groups in found for group in groups], max_unscored_rate)


def _completion(kept: Mapping[str, Any]) -> Completion:
    """A response of the log, which has the number of its tokens and not the tokens."""
    return Completion(range(kept["response_tokens"]), (), kept["response"], kept["finish_reason"], kept["version"])


async def sample_shards(
    todo: Sequence[Candidate],
    pool: Pool,
    score: ScoreFn,
    render: Callable[[Problem], Prompt | Refused],
    sampling: Sampling,
    log: SampleLog,
    meter: Meter,
    *,
    shard: int,
    max_unscored_rate: float,
) -> None:
    """Samples ``todo`` in shards of so many problems; each problem is kept the moment its last response is scored."""

    async def lane(shards: Iterator[list[Candidate]]) -> None:
        for part in shards:
            asked: list[tuple[Candidate, Prompt]] = []
            for candidate in part:
                prompt = render(candidate.problem)
                if isinstance(prompt, Prompt):
                    asked.append((candidate, prompt))
                else:
                    _refuse(candidate, prompt, log, meter)

            def keep(index: int, group: Group, asked: list[tuple[Candidate, Prompt]] = asked) -> None:
                responses = [rollout_fields(rollout, meter.accuracy) for rollout in group.rollouts]
                log.add(asked[index][0].key, {"prompt_tokens": len(group.prompt.token_ids), "responses": responses})
                meter.sampled(group)

            groups = await sample_groups(pool, score, [prompt for _, prompt in asked], sampling, finished=keep)
            check_unscored(groups, max_unscored_rate)

    shards = _shards(todo, shard)
    lanes = [asyncio.ensure_future(lane(shards)) for _ in range(LANES)]
    try:
        await asyncio.gather(*lanes)
    finally:
        for task in lanes:
            task.cancel()


def _refuse(case: Candidate, why: Refused, log: SampleLog, meter: Meter) -> None:
    log.add(case.key, {"refused": why.reason, "detail": why.detail, "prompt_tokens": why.prompt_tokens})
    meter.refused()


def _shards(todo: Iterable[Candidate], size: int) -> Iterator[list[Candidate]]:
    """Problems in parts; two that are the same question come once."""
    rest = iter({candidate.key: candidate for candidate in todo}.values())
    while part := list(islice(rest, size)):
        yield part


class Meter:
    """Counts problems on the progress display, with accuracy and mean length so far."""

    def __init__(self, progress: Progress, accuracy: str) -> None:
        self.accuracy = accuracy
        self._progress = progress
        self._right, self._tokens = Mean(), Mean()
        progress.expect(progress.total, done=progress.done)

    def refused(self) -> None:
        """Counts a problem that cannot become a prompt."""
        self._progress.advance()

    def sampled(self, group: Group) -> None:
        """Counts a problem with its responses."""
        for rollout in group.rollouts:
            self._right.add(rollout.right(self.accuracy))
            self._tokens.add(len(rollout.completion.token_ids))
        self._progress.advance({"accuracy": self._right.value, "response_tokens/mean": self._tokens.value})
