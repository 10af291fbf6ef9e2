"""Keeps a model's responses to each problem, by everything that decides on them, so that nothing is sampled twice.
Their scores are kept too, and made again when the rewards change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sailrl.config.filtering import SamplingFilter
from sailrl.data import jsonl
from sailrl.data.jsonl import AppendOnlyFile
from sailrl.launch.fingerprint import digest, model_digest, prompt_settings
from sailrl.scoring.resume import identity
from sailrl.scoring.spec import ScoringSpec

FOLDER = "samples"


def made_by(origin: SamplingFilter, weights: str) -> dict[str, Any]:
    """Everything but the problem that decides on responses and scores. ``rewards`` decides on scores only."""
    model, rewards, rollout = origin.model, origin.rewards, origin.config.rollout
    return {
        "model": {"hash": model_digest(weights, model.trust_remote_code), "dtype": model.dtype},
        "prompt": prompt_settings(origin.data),
        "sampling": rollout.model_dump(include={"temperature", "top_p", "top_k", "max_response_tokens"}),
        "rewards": digest([identity(ScoringSpec.from_config(rewards)), rewards.accuracy_part]),
    }


@dataclass(frozen=True, slots=True)
class _Known:
    """A line of the file without its texts."""

    offset: int
    responses: int
    prompt_tokens: int
    refused: str | None
    scored: bool
    """All responses have the scores of the present rewards, and none lacks one because a judge was out of reach."""


class SampleLog:
    """``samples/<key>.jsonl``: one line per problem, either its scored responses or why it got none. The last line of a
    problem counts. The file is named after all of ``made_by`` but the rewards, which stand in the lines.

    A line reaches the operating system before ``add`` returns: SIGKILL loses nothing that was added.
    """

    def __init__(self, run_dir: Path, made: Mapping[str, Any]) -> None:
        sampled_by = {name: value for name, value in made.items() if name != "rewards"}
        self.path = run_dir / FOLDER / f"{digest(sampled_by)[:16]}.jsonl"
        self._rewards = made["rewards"]
        self._file = AppendOnlyFile.going_on(self.path)
        self._known: dict[str, _Known] = {}
        for offset, record in jsonl.read(self.path):
            self._note(offset, record)

    def add(self, key: str, record: Mapping[str, Any]) -> None:
        """Keeps ``{"responses": [...], "prompt_tokens": int}`` or ``{"refused": reason, "detail": str, ...}``."""
        offset, line = self._file.size, {"key": key, "rewards": self._rewards, **record}
        self._file.append(line)
        self._note(offset, line)

    def needs(self, key: str, samples: int, max_prompt_tokens: int) -> Literal["responses", "scores"] | None:
        """What is missing of a problem. Responses: it was never tried, with fewer samples, or under a lower limit on
        prompts. Scores: its responses were scored by other rewards, or a judge was out of reach."""
        known = self._known.get(key)
        if known is None:
            return "responses"
        if known.refused is not None:
            return "responses" if known.refused == "too_long" and known.prompt_tokens <= max_prompt_tokens else None
        if known.prompt_tokens > max_prompt_tokens:
            return None
        if known.responses < samples:
            return "responses"
        return None if known.scored else "scores"

    def get(self, key: str) -> dict[str, Any] | None:
        """The line of a problem, or None."""
        known = self._known.get(key)
        return None if known is None else jsonl.read_run(self.path, known.offset, ("key",))[0]

    def close(self) -> None:
        """Forces everything to the disk."""
        self._file.close()

    def _note(self, offset: int, record: Mapping[str, Any]) -> None:
        responses = record.get("responses") or ()
        self._known[record["key"]] = _Known(
            offset,
            len(responses),
            int(record.get("prompt_tokens") or 0),
            record.get("refused"),
            record.get("rewards") == self._rewards
            and all(score["status"] != "failed" for response in responses for score in response["scores"].values()),
        )
