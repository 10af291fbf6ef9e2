"""The mismatch firewall: when engine and learner disagree past a threshold, the run ends with a diagnosis.

The learner refuses the update (``learner.objective``); here the likely cause is found by testing for it: first the
weights, then how was sampled, then what was asked. Each test says how the learner would have to differ to compute what
the engine computed.
"""

from __future__ import annotations

from asyncio import to_thread
from collections.abc import Sequence
from pathlib import Path

from sailrl.config.schema import RlvrConfig
from sailrl.data.batch import Sample
from sailrl.errors import MismatchError
from sailrl.rl.session import Session
from sailrl.types import Group

CASES = 16
"""Responses that the tests look at."""


async def diagnosed(
    error: MismatchError, config: RlvrConfig, run: Session, groups: Sequence[Group], run_dir: Path
) -> MismatchError:
    """``error`` with the cause found on ``groups``, once the run is saved where ``mismatch.action`` is to pause."""
    await run.wake_engines()
    causes = await explain_weights(run) or await explain_responses(run, groups)
    saved = ""
    if config.mismatch.action == "pause":
        saved = f" The run was saved to {await run.checkpoint(run_dir, config.checkpoint.keep)}."
    return MismatchError(f"{error}{saved}\n{diagnosis(causes)}")


def diagnosis(causes: Sequence[str]) -> str:
    """The causes found, or what was ruled out."""
    if causes:
        return "Likely cause, found by testing for it: " + "; ".join(causes) + "."
    return (
        "No test names the cause. Ruled out: weights, temperature, top-p and top-k, the prompt's ids. Left are the "
        "precision of the two sides (model.dtype), their kernels, and, with images, pixel limits and processors."
    )


async def explain_weights(run: Session) -> list[str]:
    """What is wrong with the engines' weights, by the probe prompts; empty when they compute as the learner does."""
    for prompt in run.probe.prompts:
        mine = await to_thread(run.learners.prompt_logprobs, prompt)
        for worker, theirs in enumerate(await run.pool.prompt_logprobs(prompt)):
            if len(theirs) != len(mine):
                return [
                    f"template differs: rollout worker {worker} sees {len(theirs) + 1} tokens of a prompt of "
                    f"{len(mine) + 1}"
                ]
            if max((abs(a - b) for a, b in zip(mine, theirs, strict=True)), default=0.0) <= run.probe.tolerance:
                continue
            folders = map(_text, (run.sync.current, run.sync.previous))
            found = await to_thread(run.learners.explain_weights, prompt, theirs, *folders)
            what = f"rollout worker {worker} computes with other weights"
            return [f"{what}: {', '.join(_with_tower(group, run) for group in found)}" if found else what]
    return []


def _text(folder: Path | None) -> str | None:
    return None if folder is None else str(folder)


def _with_tower(group: str, run: Session) -> str:
    tower = run.processor.family.part(group) != "language_model"
    return f"{group} (the vision tower was not synced)" if tower else group


async def explain_responses(run: Session, groups: Sequence[Group]) -> list[str]:
    """Why responses have other log-probabilities although the weights are the same; empty when no test says so."""
    cases = [(group.prompt, rollout.completion) for group in groups for rollout in group.rollouts[:2]][:CASES]
    samples = [Sample.of(prompt, completion, 0.0) for prompt, completion in cases]
    asked = [list(prompt.engine_ids) for prompt, _ in cases]
    found = await to_thread(run.learners.explain_responses, samples, asked)
    return [found] if found else []
