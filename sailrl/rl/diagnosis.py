"""The mismatch firewall: when engine and learner disagree past a threshold, the run ends with a diagnosis.

The learner refuses the update (``learner.objective``); here the cause is looked for by testing: first the weights, then
how was sampled, then what was asked. Each test says how the learner would have to differ to compute what the engine
computed; a cause that no test bears out is not named. A search takes a minute at most.
"""

from __future__ import annotations

from asyncio import to_thread
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sailrl.config.schema import RlvrConfig
from sailrl.data.batch import Sample
from sailrl.errors import MismatchError, WeightSyncError
from sailrl.learner.budget import MOST_PASSES, SECONDS
from sailrl.learner.diagnose import Finding
from sailrl.rl.session import Session
from sailrl.sync.probe import Disagreement
from sailrl.types import Group

CASES, TOKENS = 8, 64
"""Responses that the tests look at, and tokens of each: their logits are held whole."""
NAMED = 6
"""Causes that are listed one by one."""


async def diagnosed(
    error: MismatchError, config: RlvrConfig, run: Session, groups: Sequence[Group], run_dir: Path
) -> MismatchError:
    """``error`` with the cause found on ``groups``, once the run is saved where ``mismatch.action`` is to pause."""
    await run.wake_engines()
    try:
        await run.probe.check(run.state.version)
        text = await _explained_responses(run, groups)
    except Disagreement as apart:
        text = await explained(run, apart)
    except WeightSyncError as broken:
        text = str(broken)
    saved = ""
    if config.mismatch.action == "pause":
        saved = f" The run was saved to {await run.checkpoint(run_dir, config.checkpoint.keep)}."
    return MismatchError(f"{error}{saved}\n{text}")


async def explained(run: Session, error: Disagreement) -> str:
    """Why an engine computes something else than the learner, as far as tests tell."""
    _announce(run, f"rollout worker {error.worker} and the learner disagree")
    folders = [None if folder is None else str(folder) for folder in (run.sync.current, run.sync.previous)]
    found = await to_thread(run.learners.explain_weights, error.prompt, error.theirs, *folders)
    if found.causes:
        return _named([f"rollout worker {error.worker} computes with other weights: {_listed(found.causes, run)}"])
    tried = "with older weights, group by group, and with experts in other orders"
    same = "The published folder holds the learner's weights byte for byte. " if found.same_bytes else ""
    if not found.same_bytes:
        same = "Weights went to the engines without a folder to compare: sync.method=disk makes one. "
    if error.close and found.same_bytes:
        return (
            f"{_ruled_out(found, tried)} {same}Rounding, most likely: the engine's kernels round more than was "
            "measured on the learner. In float32 write a larger sync.probe_tolerance; on a CPU, "
            "rollout.engine.enforce_eager: true rounds most alike."
        )
    return (
        f"{_ruled_out(found, tried)} {same}What is left is how the engine computes: its precision, its kernels, its "
        "code for this kind of model; and, with images, pixel limits and processors."
    )


async def _explained_responses(run: Session, groups: Sequence[Group]) -> str:
    """Why responses have other log-probabilities although engines and learner agree on the probe prompts."""
    _announce(run, "the engines agree with the learner on fixed prompts, not on responses")
    cases = [(group.prompt, rollout.completion) for group in groups for rollout in group.rollouts[:2]][:CASES]
    samples = [_beginning(Sample.of(prompt, completion, 0.0)) for prompt, completion in cases]
    asked = [list(prompt.engine_ids) for prompt, _ in cases]
    found = await to_thread(run.learners.explain_responses, samples, asked)
    if found.causes:
        return _named(found.causes)
    return (
        "The engines agree with the learner on fixed prompts, so it is not the weights. "
        f"{_ruled_out(found, 'of another temperature, top-p and top-k, and of prompts with other or fewer ids')} "
        "Left are precision and kernels of generation, and, with images, pixel limits and processors."
    )


def _beginning(sample: Sample) -> Sample:
    return replace(sample, response_ids=sample.response_ids[:TOKENS], engine_logp=sample.engine_logp[:TOKENS])


def _announce(run: Session, what: str) -> None:
    run.say(f"{what}: looking for the cause, with at most {MOST_PASSES} forward passes in {SECONDS:g} s ...")


def _named(causes: Sequence[str]) -> str:
    return f"Likely cause, found by testing for it: {'; '.join(causes)}."


def _ruled_out(found: Finding, tried: str) -> str:
    if found.complete:
        return f"No test names the cause: tests {tried} explain nothing ({found.passes} forward passes)."
    return f"The search ended after {found.passes} forward passes without a cause: tests {tried} were not all done."


def _listed(groups: Sequence[str], run: Session) -> str:
    part = run.processor.family.part
    words = [one if part(one) == "language_model" else f"{one} (the vision tower was not synced)" for one in groups]
    more = len(words) - NAMED
    return ", ".join(words[:NAMED]) + (f", and {more} more" if more > 0 else "")
