"""rollouts.jsonl: every rollout of every episode, dropped ones too, with the reason.

A line is also a row that ``sailrl score`` reads: it carries the problem's fields under their own names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sailrl.data.jsonl import AppendOnlyFile
from sailrl.types import Group, Message, Problem, Rollout, content_text, scored_fields

ROLLOUTS_FILE = "rollouts.jsonl"


class RolloutLog:
    """Appends groups to ``rollouts.jsonl``, and can go back to where a checkpoint was taken.

    ``accuracy`` names the reward that says whether a response is right (``rewards.accuracy`` of the config).
    """

    def __init__(self, run_dir: Path, *, accuracy: str, resume_at: Mapping[str, Any] | None = None) -> None:
        self._accuracy = accuracy
        self._file = AppendOnlyFile(run_dir / ROLLOUTS_FILE, resume_at=int(resume_at["bytes"]) if resume_at else None)

    def log(
        self,
        group: Group,
        *,
        episode: int,
        step: int,
        version: int,
        index: int,
        dropped: str | None = None,
        advantages: Sequence[float] | None = None,
    ) -> None:
        """Writes one line per rollout of the group.

        Args:
            step: updates done when the group was collected.
            version: weights that the learner held then; staleness is counted from it.
            index: number of the group within its episode.
            dropped: why the group is not learned from; None when it is.
            advantages: one per rollout, for groups that are learned from.
        """
        if advantages is not None and len(advantages) != len(group.rollouts):
            raise ValueError(f"{len(advantages)} advantages for {len(group.rollouts)} rollouts")
        problem = problem_fields(group.prompt.problem)
        where = {"episode": episode, "step": step, "group": index}
        outcome = {"kept": dropped is None, "dropped_reason": dropped}
        lines = []
        for number, rollout in enumerate(group.rollouts):
            line = {**where, "rollout": number, **outcome, **problem, **rollout_fields(rollout, self._accuracy)}
            line["staleness"] = version - rollout.completion.version
            line["advantage"] = None if advantages is None else float(advantages[number])
            line["image_hashes"] = list(group.prompt.images)
            lines.append(line)
        self._file.append(*lines)

    def position(self) -> dict[str, int]:
        """Where the log is, for ``resume_at``; everything before it is on the disk."""
        return {"bytes": self._file.position()}

    def close(self) -> None:
        """A second call does nothing."""
        self._file.close()


def rollout_fields(rollout: Rollout, accuracy: str) -> dict[str, Any]:
    """One response with its scores, under the names of a scored file; ``accuracy`` names the score that says whether it
    is right."""
    completion, logprobs = rollout.completion, rollout.completion.logprobs
    return {
        "response": completion.text,
        "response_tokens": len(completion.token_ids),
        "finish_reason": completion.finish_reason,
        "version": completion.version,
        "switches": [list(switch) for switch in completion.switches],
        "mean_logprob": float(sum(logprobs)) / len(logprobs) if len(logprobs) else None,
        **score_fields(rollout, accuracy),
    }


def score_fields(rollout: Rollout, accuracy: str) -> dict[str, Any]:
    """Of ``rollout_fields`` those that the rewards decide. ``accuracy`` is 1.0, 0.0, or None without a score."""
    right = rollout.right(accuracy)
    return {
        **scored_fields(rollout.reward, rollout.scores),
        "reward_reason": rollout.reason,
        "accuracy": None if right is None else float(right),
    }


def problem_fields(problem: Problem) -> dict[str, Any]:
    """The problem as fields of a problem row, without images (they are named by hash) and without empty fields."""
    fields: dict[str, Any] = {
        "id": problem.id,
        "prompt": problem.prompt,
        "answer": problem.answer,
        "response_prefix": problem.response_prefix,
        "choices": list(problem.choices),
        "precision": problem.precision,
        "task": problem.task,
        "meta": dict(problem.meta),
    }
    always = ("id", "prompt", "answer")
    return {key: value for key, value in fields.items() if key in always or value not in ("", None, [], {})}


def prompt_text(prompt: str | Sequence[Message]) -> str:
    """A prompt as plain text; of chat messages, each on its own line behind its role, ``<image>`` where one stands."""
    if isinstance(prompt, str):
        return prompt
    return "\n".join(f"{message.get('role', '')}: {content_text(message.get('content'))}" for message in prompt)
